r"""How much a small student takes over from teachers of growing size.

A large teacher is more accurate, and may be harder to learn from: one student
learns from every teacher of a ladder, directly and through assistants of the
sizes between, whose best path is searched for. Beside that the same student is
born again, learns from invented images (MUNGE) and from an ensemble of
students; soft decision trees and regression trees are taught, with a picture of
each; and a network is distilled defensively, and attacked. By default: dense
networks of two hidden layers, a student of width 12 and teachers of 24 to 384,
which learn from 300 of scikit-learn's digits, so that they are not all
saturated; 5 seeds, some minutes. The output folder gets report.html, report.md,
report.json and every network; the same command goes on after an interruption.

  python -m experiments.teacher_gap
  python -m experiments.teacher_gap --student=8 --teachers=16,32,64,128,256
  python -m experiments.teacher_gap --dataset=fashion_mnist \
      --train_images=3000 --epochs=40 --output_dir=results/teacher_gap_fashion

Methods: Hinton et al. 2015, arXiv:1503.02531; assistants: Mirzadeh et al. 2020,
arXiv:1902.03393; born-again: Furlanello et al. 2018, arXiv:1805.04770; MUNGE:
Bucila et al. 2006; trees: Frosst, Hinton 2017, arXiv:1711.09784, and Liu et al.
2018, arXiv:1812.10924; defence: Papernot et al. 2016, arXiv:1511.04508, and why
it is none: Carlini, Wagner 2016, arXiv:1607.04311.

Exit status: 0 done, 2 bad input (one line says what), 1 a fault of the program.
"""

import math

from absl import flags

from compress.errors import InputError
from experiments import cli
from experiments.classification import flags as classifier_flags

flags.adopt_module_key_flags(classifier_flags)

_TRAIN_IMAGES = flags.DEFINE_integer(
  'train_images', 300, 'Images that are learned from, the first ones.', 20
)
_STUDENT = flags.DEFINE_integer('student', 12, 'Width of the student.', 2)
_TEACHERS = flags.DEFINE_list(
  'teachers',
  ['24', '48', '96', '192', '384'],
  'Widths of the teachers, rising, from above the student; two or more.',
)
_SEEDS = flags.DEFINE_integer(
  'seeds', 5, 'Runs of everything: other weights, another order of images.', 1
)
_EPOCHS = flags.DEFINE_integer(
  'epochs', 150, 'Passes over the training images, of every network.', 1
)
_BATCH = flags.DEFINE_integer('batch', 50, 'Images a step.', 1)
_LEARNING_RATE = flags.DEFINE_float(
  'learning_rate',
  4e-3,
  "Adam's highest learning rate; falls to 0 along half a cosine.",
)
_TEMPERATURE = flags.DEFINE_float(
  'temperature', 4.0, "Of the teachers' answers, but for born-again students."
)
_HARD_WEIGHT = flags.DEFINE_float(
  'hard_weight', 0.1, 'Weight of the labels beside a teacher, 0..1.', 0.0, 1.0
)
_GENERATIONS = flags.DEFINE_integer(
  'generations', 3, 'Of born-again students.', 1
)
_MUNGE_PASSES = flags.DEFINE_integer(
  'munge_passes', 10, 'Invented images for each real one.', 1
)
_MUNGE_SWAP = flags.DEFINE_float(
  'munge_swap', 0.2, "MUNGE's p, of a pixel to be exchanged, 0..1.", 0.0, 1.0
)
_MUNGE_SPREAD = flags.DEFINE_float(
  'munge_spread', 2.0, "MUNGE's s, divisor of the noise; above 0."
)
_DEFENSIVE_TEMPERATURE = flags.DEFINE_float(
  'defensive_temperature', 100.0, 'Of defensive distillation; above 0.'
)
_EPSILON = flags.DEFINE_float(
  'epsilon', 0.1, 'Largest change of a pixel by an attack, 0..1.', 0.0, 1.0
)
_SOFT_DEPTH = flags.DEFINE_integer(
  'soft_depth', 4, 'Depth of soft decision trees.', 1, 10
)
_TREE_DEPTH = flags.DEFINE_integer(
  'tree_depth', 6, 'Depth of regression trees.', 1, 30
)
_OUTPUT_DIR = flags.DEFINE_string(
  'output_dir', 'results/teacher_gap', 'Folder of the results.'
)


def _teachers() -> tuple[int, ...]:
  """The widths of the teachers, checked."""
  found = cli.numbers(
    _TEACHERS,
    above=_STUDENT.value,
    right=f"a width above the student's, {_STUDENT.value}",
  )
  if any(width != int(width) for width in found) or len(found) < 2:
    raise InputError(
      f'--teachers={",".join(_TEACHERS.value)}: right are two whole numbers or '
      'more'
    )
  if sorted(found) != list(found):
    raise InputError(
      f'--teachers={",".join(_TEACHERS.value)}: right are rising widths'
    )
  return tuple(int(width) for width in found)


def _check() -> None:
  """Checks what absl cannot: NaN and open ends."""
  for flag in (
    _LEARNING_RATE,
    _TEMPERATURE,
    _MUNGE_SPREAD,
    _DEFENSIVE_TEMPERATURE,
  ):
    if not (math.isfinite(flag.value) and flag.value > 0):
      raise InputError(
        f'--{flag.name}={flag.value:g}: right is a finite number above 0'
      )
  for flag in (_HARD_WEIGHT, _MUNGE_SWAP, _EPSILON):
    if not math.isfinite(flag.value):
      raise InputError(f'--{flag.name}={flag.value:g}: right is 0 to 1')


def main() -> None:
  """Checks the flags, then runs the study."""
  _check()
  teachers = _teachers()
  # Imported late: `--help` answers at once, and flags are checked first.
  from experiments.classification import teacher_gap_study
  from experiments.classification.teacher_gap_settings import Settings
  from experiments.classification.tuning import Tuning

  settings = Settings(
    **classifier_flags.settings(),
    train_images=_TRAIN_IMAGES.value,
    student=_STUDENT.value,
    teachers=teachers,
    seeds=_SEEDS.value,
    tuning=Tuning(
      epochs=_EPOCHS.value,
      batch=_BATCH.value,
      learning_rate=_LEARNING_RATE.value,
      temperature=_TEMPERATURE.value,
      hard_weight=_HARD_WEIGHT.value,
    ),
    generations=_GENERATIONS.value,
    munge_passes=_MUNGE_PASSES.value,
    munge_swap=_MUNGE_SWAP.value,
    munge_spread=_MUNGE_SPREAD.value,
    defensive_temperature=_DEFENSIVE_TEMPERATURE.value,
    epsilon=_EPSILON.value,
    soft_depth=_SOFT_DEPTH.value,
    tree_depth=_TREE_DEPTH.value,
  )
  classifier_flags.run(
    'teacher_gap', teacher_gap_study, settings, output_dir=_OUTPUT_DIR.value
  )


if __name__ == '__main__':
  cli.run(main)
