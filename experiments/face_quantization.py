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
  python -m experiments.face_quantization --method=post_training \
      --calibrate_on=photographs --calibrate_on=synthesized
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

from absl import flags

from compress.errors import InputError
from experiments import cli
from experiments.faces import flags as face_flags

flags.adopt_module_key_flags(face_flags)

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
_CALIBRATE_ON = flags.DEFINE_multi_enum(
  'calibrate_on',
  ['photographs'],
  ['photographs', 'synthesized', 'noise'],
  'Where activation ranges come from: photographs of the training people; '
  'images made from the network itself, by matching what its BatchNorms '
  'remember (ZeroQ); the noise that those start from, a control. Repeat the '
  'flag for several, each a version of its own. --calibration says how many.',
)
_SYNTHESIS_STEPS = flags.DEFINE_integer(
  'synthesis_steps',
  100,
  'Updates of the images of --calibrate_on=synthesized. A hundred images by a '
  'hundred steps take some four minutes on two cores; ZeroQ has 500 steps.',
  1,
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
_OUTPUT_DIR = flags.DEFINE_string(
  'output_dir', 'results/face_quantization', 'Folder of the results.'
)


def _variants() -> list[tuple[str, int, int, str]]:
  """(method, weight bits, activation bits, calibration) of every variant."""
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
    pair = face_flags.read_bits(bits)
    found += [(method, *pair, source) for source in _CALIBRATE_ON.value]
  if len(set(found)) < len(found):
    raise InputError(
      '--bits, --method, --calibrate_on: a variant is given twice'
    )
  return found


def main() -> None:
  """Checks the flags, then runs the study."""
  variants = _variants()
  face_flags.check()
  if _RANGES.value == 'learned' and _PLACEMENT.value == 'quantface':
    raise InputError(
      '--ranges=learned needs --placement=inputs; with --placement=quantface '
      'give --ranges=running or frozen'
    )
  # Imported late: `--help` answers at once, and flags are checked first.
  from experiments.faces.settings import Settings, Variant

  face_flags.run(
    Settings(
      study='face_quantization',
      variants=tuple(
        Variant(method, weight, activation, calibration=source)
        for method, weight, activation, source in variants
      ),
      synthesis_steps=_SYNTHESIS_STEPS.value,
      granularity=_GRANULARITY.value,
      group_size=_GROUP_SIZE.value if _GRANULARITY.value == 'group' else None,
      placement=_PLACEMENT.value,
      observer=_OBSERVER.value,
      weight_range=_WEIGHT_RANGE.value,
      ranges=_RANGES.value,
      **face_flags.settings(),
    ),
    output_dir=_OUTPUT_DIR.value,
  )


if __name__ == '__main__':
  cli.run(main)
