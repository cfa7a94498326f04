r"""Teaches students by every loss there is, and says which beat plain KD.

Four pairs of teacher and student, of the same and of different families; 24
ways to teach beside the student alone; 3 seeds; about an hour. The weights of
all losses are those of the RepDistiller benchmark, for all pairs the same: none
is tuned more than another. The report has a table a pair, one over all, and a
heat map. The output folder gets report.html, report.md, report.json, the
teachers, and a file a run: the same command resumes. By default on
scikit-learn's digits.

  python -m experiments.distillation_benchmark
  python -m experiments.distillation_benchmark --pair=resnet20:resnet8_thin \
      --method=AT --method=CRD --seeds=5
  python -m experiments.distillation_benchmark --dataset=cifar10 --epochs=240 \
      --teacher_epochs=240 --shift=4 --mirror --pair=resnet56:resnet20 \
      --pair=wrn40_2:wrn16_2 --pair=wrn40_2:wrn40_1
  python -m experiments.distillation_benchmark --dataset=fashion_mnist \
      --pool=2 --images=1000 --epochs=100 --teacher_epochs=100 \
      --output_dir=results/distillation_fashion_mnist

Method: Tian, Krishnan, Isola 2020, arXiv:1910.10699.

Exit status: 0 done, 2 bad input (one line says what), 1 a fault of the program.
"""

import math

from absl import flags

from compress.errors import InputError
from experiments import cli
from experiments.classification import flags as classifier_flags

flags.adopt_module_key_flags(classifier_flags)

_POOL = flags.DEFINE_integer(
  'pool', 1, 'Average images over squares of so many pixels a side.', 1
)
_IMAGES = flags.DEFINE_integer(
  'images', None, 'Training images, the first ones. Default: all.', 1
)
_PAIR = flags.DEFINE_multi_string(
  'pair',
  None,
  'teacher:student; repeat the flag for several. Networks: resnet56, resnet32, '
  'resnet20, resnet20_thin, resnet8, resnet8_thin, wrn40_2, wrn40_1, wrn16_2, '
  'wrn10_2, wrn10_thin, mobilenet, mobilenet_thin. Default: four pairs.',
)
_METHOD = flags.DEFINE_multi_string(
  'method',
  None,
  'Way to teach, as the report names it, such as AT or "CRD + KD"; repeat the '
  'flag for several. The student alone and KD are always there. Default: all.',
)
_SEEDS = flags.DEFINE_integer('seeds', 3, 'Students of every method.', 1)
_EPOCHS = flags.DEFINE_integer(
  'epochs',
  100,
  'Of every student. With few, students gain little from teachers.',
  2,
)
_TEACHER_EPOCHS = flags.DEFINE_integer(
  'teacher_epochs', 60, 'Of every teacher.', 1
)
_BATCH = flags.DEFINE_integer('batch', 64, 'Images a step.', 2)
_LEARNING_RATE = flags.DEFINE_float(
  'learning_rate',
  2e-3,
  'The highest learning rate, of Adam; falls to 0 along half a cosine.',
)
_TEMPERATURE = flags.DEFINE_float(
  'temperature', 4.0, 'Of teachers’ soft targets.'
)
_SHIFT = flags.DEFINE_integer(
  'shift',
  0,
  'Training images are moved by up to so many pixels. The teacher then looks '
  'at every batch, which takes longer.',
  0,
)
_MIRROR = flags.DEFINE_boolean(
  'mirror', False, 'Mirror every other training image, by chance.'
)
_OUTPUT_DIR = flags.DEFINE_string(
  'output_dir', 'results/distillation_benchmark', 'Folder of the results.'
)


def _check() -> None:
  """Checks what absl cannot: numbers that are none, flags given twice."""
  for name, value in (
    ('learning_rate', _LEARNING_RATE.value),
    ('temperature', _TEMPERATURE.value),
  ):
    if not math.isfinite(value) or value <= 0:
      raise InputError(f'--{name}={value:g}: right is a number above 0')
  for name, values in (('pair', _PAIR.value), ('method', _METHOD.value)):
    if values and len(set(values)) < len(values):
      raise InputError(f'--{name}: one is given twice')


def main() -> None:
  """Checks the flags, then runs the study."""
  _check()
  # Imported late: `--help` answers at once, and flags are checked first.
  from experiments.classification import distillation_study
  from experiments.classification.tuning import Tuning

  chosen = {}
  if _PAIR.value:
    chosen['pairs'] = tuple(_PAIR.value)
  if _METHOD.value:
    chosen['methods'] = tuple(_METHOD.value)
  settings = distillation_study.Settings(
    **classifier_flags.settings(),
    pool=_POOL.value,
    images=_IMAGES.value,
    seeds=_SEEDS.value,
    tuning=Tuning(
      epochs=_EPOCHS.value,
      batch=_BATCH.value,
      learning_rate=_LEARNING_RATE.value,
      weight_decay=5e-4,
      shift=_SHIFT.value,
      mirror=_MIRROR.value,
      temperature=_TEMPERATURE.value,
    ),
    teacher_epochs=_TEACHER_EPOCHS.value,
    **chosen,
  )
  classifier_flags.run(
    'distillation_benchmark',
    distillation_study,
    settings,
    output_dir=_OUTPUT_DIR.value,
  )


if __name__ == '__main__':
  cli.run(main)
