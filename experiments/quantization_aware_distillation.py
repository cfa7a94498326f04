r"""Quantizes a small network with a teacher's help, and without.

A float student is trained, and a larger teacher. From there every row makes the
same number of updates: the student in float, by labels or from the teacher;
quantized at the end, or trained quantized without a teacher; quantized
distillation and differentiable quantization (Polino et al. 2018), SPEQ, which
teaches itself, and QKD in its three phases; and quantize-then-distil iterated
from 8 bits down, against quantizing once and distilling, and against distilling
and then quantizing. By default: a quarter of a ResNet-8 on scikit-learn's
digits, with 4 and 2 bits in weights and activations, 3 seeds. The output folder
gets report.html, report.md, report.json, every network as a file and the
figures of every run; the same command goes on after an interruption.

  python -m experiments.quantization_aware_distillation
  python -m experiments.quantization_aware_distillation --bits=3,2 --epochs=40
  python -m experiments.quantization_aware_distillation \
      --dataset=fashion_mnist --student_width=1 \
      --output_dir=results/quantization_aware_fashion

Methods: Polino, Pascanu, Alistarh 2018, arXiv:1802.05668. Boo et al. 2021,
arXiv:2009.14502. Kim et al. 2019, arXiv:1911.12491. Esser et al. 2019,
arXiv:1902.08153.

Exit status: 0 done, 2 bad input (one line says what), 1 a fault of the program.
"""

import math

from absl import flags

from compress.errors import InputError
from experiments import cli
from experiments.classification import flags as classifier_flags

flags.adopt_module_key_flags(classifier_flags)

_STUDENT = flags.DEFINE_enum(
  'student',
  'cifar_resnet8',
  ['cifar_resnet8', 'cifar_resnet20', 'lenet300'],
  'The network that is quantized; its activations are never negative.',
)
_STUDENT_WIDTH = flags.DEFINE_float(
  'student_width', 0.25, "The student's channels, as a share of the usual ones."
)
_TEACHER = flags.DEFINE_string(
  'teacher',
  'cifar_resnet20',
  'lenet300, lenet5, cifar_resnet8, cifar_resnet20, cifar_resnet32, '
  'cifar_resnet56, resnet18, resnet34, resnet50 or vit_b16.',
)
_BITS = flags.DEFINE_list(
  'bits', ['4', '2'], 'Bits of weights and activations, each from 2 to 6.'
)
_SEEDS = flags.DEFINE_integer(
  'seeds', 3, 'Runs of everything: initial weights and order of images.', 1
)
_START_EPOCHS = flags.DEFINE_integer(
  'start_epochs', 12, 'Of the float student that all rows begin with.', 1
)
_EPOCHS = flags.DEFINE_integer('epochs', 12, 'Of every row from there.', 1)
_TEACHER_EPOCHS = flags.DEFINE_integer(
  'teacher_epochs', 20, 'Of the teacher.', 1
)
_BATCH = flags.DEFINE_integer('batch', 64, 'Images a step.', 1)
_LEARNING_RATE = flags.DEFINE_float(
  'learning_rate', 2e-3, "Adam's highest; falls to 0 along half a cosine."
)
_TEMPERATURE = flags.DEFINE_float(
  'temperature', 4.0, "Of the teacher's soft targets."
)
_HARD_WEIGHT = flags.DEFINE_float(
  'hard_weight', 0.5, 'Share of the labels where there is a teacher.'
)
_DRAWN_TEMPERATURE = flags.DEFINE_float(
  'drawn_temperature', 2.0, "Of SPEQ's cosine."
)
_SHIFT = flags.DEFINE_integer(
  'shift', 0, 'Training images are moved by up to so many pixels.', 0
)
_MIRROR = flags.DEFINE_boolean(
  'mirror', False, 'Mirror every other training image, by chance.'
)
_OUTPUT_DIR = flags.DEFINE_string(
  'output_dir',
  'results/quantization_aware_distillation',
  'Folder of the results.',
)


def _check() -> tuple[int, ...]:
  """Checks what absl cannot; the bits."""
  right = 'a whole number from 2 to 6'
  bits = cli.numbers(_BITS, above=1, below=7, right=right)
  if any(value != int(value) for value in bits):
    raise InputError(f'--bits={",".join(_BITS.value)}: right is {right}')
  for flag in (
    _STUDENT_WIDTH,
    _LEARNING_RATE,
    _TEMPERATURE,
    _DRAWN_TEMPERATURE,
  ):
    if not 0 < flag.value < math.inf:
      raise InputError(
        f'--{flag.name}={flag.value:g}: right is a finite number above 0'
      )
  if not 0 < _HARD_WEIGHT.value < 1:
    raise InputError(
      f'--hard_weight={_HARD_WEIGHT.value:g}: right is a share, above 0 and '
      'below 1'
    )
  return tuple(int(value) for value in bits)


def main() -> None:
  """Checks the flags, then runs the study."""
  bits = _check()
  # Imported late: `--help` answers at once, and flags are checked first.
  from experiments.classification import quantization_aware_study as study
  from experiments.classification.quantization_aware_settings import Settings
  from experiments.classification.tuning import Tuning

  settings = Settings(
    **classifier_flags.settings(),
    student=_STUDENT.value,
    student_width=_STUDENT_WIDTH.value,
    teacher=_TEACHER.value,
    bits=bits,
    seeds=_SEEDS.value,
    start_epochs=_START_EPOCHS.value,
    epochs=_EPOCHS.value,
    teacher_epochs=_TEACHER_EPOCHS.value,
    tuning=Tuning(
      batch=_BATCH.value,
      learning_rate=_LEARNING_RATE.value,
      temperature=_TEMPERATURE.value,
      hard_weight=_HARD_WEIGHT.value,
      shift=_SHIFT.value,
      mirror=_MIRROR.value,
    ),
    drawn_temperature=_DRAWN_TEMPERATURE.value,
  )
  classifier_flags.run(
    'quantization_aware_distillation',
    study,
    settings,
    output_dir=_OUTPUT_DIR.value,
  )


if __name__ == '__main__':
  cli.run(main)
