r"""Prunes fairly, and prunes together with distillation, on digits.

Three parts, each with a report of its own on scikit-learn's 1,797 digits:

  fairness     FairGRAPE (Lin, Kim, Joo 2022, arXiv:2207.10888) against
               magnitude, and against its own importance without the balance,
               where a tenth of the training digits are turned by 90 degrees.
  restoration  channels removed from a ResNet-8: tuned by labels, by the
               original's logits, restored with its attention maps (Chen et al.
               2021), or in two stages (Aghli and Ribeiro 2021).
  students     small students of a LeNet-5: taught by labels, by the dense
               teacher, by the pruned one (Park and No 2022, arXiv:2109.14960).

The output folder gets a folder a part with report.html, report.md, report.json
and the figures of every run; the same command goes on after an interruption.

  python -m experiments.pruning_hybrids
  python -m experiments.pruning_hybrids --part=fairness --seeds=10
  python -m experiments.pruning_hybrids --smoke --output_dir=/tmp/smoke

Exit status: 0 done, 2 bad input (one line says what), 1 a fault of the program.
"""

import shlex
import sys

from absl import flags

from compress.errors import InputError
from experiments import cli

PARTS = ('fairness', 'restoration', 'students')

_PART = flags.DEFINE_multi_enum(
  'part', list(PARTS), PARTS, 'Parts; repeat the flag for several.'
)
_FAIR_SPARSITY = flags.DEFINE_list(
  'fair_sparsity',
  ['0.8', '0.9', '0.95'],
  'Fractions of the weights removed for fairness, each in (0, 1).',
)
_CHANNEL_SPARSITY = flags.DEFINE_list(
  'channel_sparsity',
  ['0.25', '0.5', '0.75'],
  'Fractions of the channels removed for restoration, each in (0, 1).',
)
_TEACHER_SPARSITY = flags.DEFINE_list(
  'teacher_sparsity',
  ['0.36', '0.59', '0.79'],
  'Fractions of the weights removed from teachers of students, each in (0, 1); '
  'rounded to rounds of a fifth.',
)
_SEEDS = flags.DEFINE_integer(
  'seeds', 3, 'Runs of everything: initial weights and order of images.', 1
)
_EPOCHS = flags.DEFINE_integer(
  'epochs', 30, 'Of every network that is trained or tuned.', 2
)
_ROUND_EPOCHS = flags.DEFINE_integer(
  'round_epochs', 3, 'After each round of FairGRAPE and its controls.', 1
)
_KEEP = flags.DEFINE_float(
  'keep', 0.8, 'Fraction of the retained weights that stays in such a round.'
)
_MINORITY = flags.DEFINE_float(
  'minority', 0.1, 'Share of the training digits that are turned.'
)
_OUTPUT_DIR = flags.DEFINE_string(
  'output_dir', 'results/pruning_hybrids', 'Folder of the results.'
)
_RESUME = flags.DEFINE_boolean(
  'resume',
  True,
  'Continue an interrupted run in the output folder; --noresume removes what '
  'is there.',
)
_SMOKE = flags.DEFINE_boolean(
  'smoke', False, 'A minimal run of the same code, to see that it works.'
)


def _fractions(flag) -> tuple[float, ...]:
  right = 'the fraction removed, above 0 and below 1'
  return cli.numbers(flag, above=0, below=1, right=right)


def main() -> None:
  """Checks the flags, then runs the study."""
  chosen = {
    'fair_sparsities': _fractions(_FAIR_SPARSITY),
    'channel_sparsities': _fractions(_CHANNEL_SPARSITY),
    'teacher_sparsities': _fractions(_TEACHER_SPARSITY),
  }
  for flag in (_KEEP, _MINORITY):
    if not 0 < flag.value < 1:
      raise InputError(f'--{flag.name}={flag.value:g}: right is in (0, 1)')
  # Imported late: `--help` answers at once, and flags are checked first.
  from experiments.hybrids import settings, study

  found = study.run(
    settings.Settings(
      parts=tuple(part for part in PARTS if part in _PART.value),
      seeds=_SEEDS.value,
      epochs=_EPOCHS.value,
      round_epochs=_ROUND_EPOCHS.value,
      keep=_KEEP.value,
      minority=_MINORITY.value,
      smoke=_SMOKE.value,
      **chosen,
    ),
    output_dir=_OUTPUT_DIR.value,
    resume=_RESUME.value,
    command=shlex.join(
      ['python', '-m', 'experiments.pruning_hybrids', *sys.argv[1:]]
    ),
  )
  for table, paths in found.values():
    print(table)
    print(f'\nreport: {paths["html"].resolve()}\n')


if __name__ == '__main__':
  cli.run(main)
