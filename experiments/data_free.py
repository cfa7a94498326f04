r"""Distils and quantizes a classifier without data, beside doing it with data.

A teacher is trained on real images. Then inputs are made from it alone: matched
to its BatchNorms, impressions of classes and of answers, soft-targeted, by
KegNet's generators; beside them stand real images, noise, and chosen fakes of a
conditional GAN (cGAN-KD), which needs the real images once. From the inputs of
each kind a student learns the teacher's answers, with the student alone and
plain distillation as controls; and on each the teacher is calibrated for 8, 6
and 4 bits. By default: a ResNet-20 and a ResNet-8 on scikit-learn's digits, 3
seeds, about ten minutes. The output folder gets report.html, report.md,
report.json, the inputs, a file a network, and so what an interrupted run needs
to continue: the same command resumes.

Reached with the defaults, in percent of the test images: teacher 98.3, student
alone 99.6, plain distillation 99.2; from 256 inputs without labels 96.8 (real),
95.4 (cGAN-KD), 67.5 (BatchNorm-matched), 53.8 (with classes), 52.4 and 34.7
(data and class impressions), 56.4 (KegNet), 37.7 (noise), 16.9 (soft-targeted).
Of the GAN's fakes a teacher takes 97 % for the class asked for, before any is
chosen. With 4 bits the teacher keeps 97.7 calibrated on BatchNorm-matched
inputs, 97.4 on real images; with 8 and 6 bits it does not matter what it is
calibrated on.

  python -m experiments.data_free
  python -m experiments.data_free --inputs=real --inputs=kegnet --inputs=noise
  python -m experiments.data_free --dataset=fashion_mnist --images=2048 \
      --output_dir=results/data_free_fashion

Methods: Cai et al. 2020, arXiv:2001.00281; Yin et al. 2020, arXiv:1912.08795;
Nayak et al. 2019, arXiv:1905.08114; Wang 2021, arXiv:2104.04868; Yoo et al.
2019 (KegNet, NeurIPS); Ding et al. 2021 (cGAN-KD), arXiv:2104.03164.

Exit status: 0 done, 2 bad input (one line says what), 1 a fault of the program.
"""

import math

from absl import flags

from compress.errors import InputError
from experiments import cli
from experiments.classification import flags as classifier_flags
from experiments.classification.data_free_kinds import KINDS

flags.adopt_module_key_flags(classifier_flags)

_BITS = (*range(2, 9), 16)

_TEACHER = flags.DEFINE_string(
  'teacher',
  'cifar_resnet20',
  'The network that is trained on real images: a ResNet, or lenet5, lenet300, '
  'vit_b16, which have no BatchNorm to match.',
)
_STUDENT = flags.DEFINE_string(
  'student', 'cifar_resnet8', 'The network that is taught.'
)
_INPUTS = flags.DEFINE_multi_enum(
  'inputs',
  list(KINDS),
  list(KINDS),
  'Kinds of inputs; repeat the flag for several.',
)
_IMAGES = flags.DEFINE_integer('images', 256, 'Inputs of every kind.', 1)
_STEPS = flags.DEFINE_integer(
  'steps', 120, 'Updates of inputs that are moved down a loss.', 1
)
_STEP_SIZE = flags.DEFINE_float(
  'step_size', 0.05, 'Their learning rate, in deviations of the pixels.'
)
_GENERATORS = flags.DEFINE_integer('generators', 2, 'Of KegNet.', 1)
_GENERATOR_STEPS = flags.DEFINE_integer(
  'generator_steps', 250, 'Updates of each generator.', 1
)
_GAN_STEPS = flags.DEFINE_integer(
  'gan_steps', 1200, 'Updates of the conditional GAN of cgan_kd.', 1
)
_GAN_WIDTH = flags.DEFINE_integer(
  'gan_width', 16, 'Channels of its networks; more for larger images.', 1
)
_BITWIDTHS = flags.DEFINE_list(
  'bits',
  ['8', '6', '4'],
  'Widths of weights and activations of the quantized teachers.',
)
_CALIBRATION = flags.DEFINE_integer(
  'calibration', 256, 'Inputs that activation ranges are calibrated on.', 1
)
_OBSERVER = flags.DEFINE_enum(
  'observer',
  'mse',
  [
    'minmax',
    'sample_minmax',
    'ema',
    'mean_std',
    'percentile',
    'mse',
    'kl',
    'aciq',
  ],
  'How a range comes from what was seen.',
)
_SEEDS = flags.DEFINE_integer(
  'seeds', 3, 'Runs of everything: teachers, inputs, students.', 1
)
_EPOCHS = flags.DEFINE_integer(
  'epochs',
  12,
  'Passes of the teacher over the training images; students take as many '
  'updates.',
  1,
)
_BATCH = flags.DEFINE_integer('batch', 64, 'Images a step.', 1)
_LEARNING_RATE = flags.DEFINE_float(
  'learning_rate',
  2e-3,
  'The highest learning rate of teachers and students, of Adam; falls to 0 '
  'along half a cosine.',
)
_TEMPERATURE = flags.DEFINE_float(
  'temperature', 4.0, "Of the teacher's softened answers."
)
_OUTPUT_DIR = flags.DEFINE_string(
  'output_dir', 'results/data_free', 'Folder of the results.'
)


def _check() -> tuple[int, ...]:
  """Checks what absl cannot; returns the widths."""
  for flag in (_STEP_SIZE, _LEARNING_RATE, _TEMPERATURE):
    if not (math.isfinite(flag.value) and flag.value > 0):
      raise InputError(
        f'--{flag.name}={flag.value:g}: right is a finite number above 0'
      )
  if len(set(_INPUTS.value)) < len(_INPUTS.value):
    raise InputError('--inputs: a kind is given twice')
  right = '2 to 8, or 16'
  found = cli.numbers(_BITWIDTHS, above=1, below=17, right=right)
  for number in found:
    if number not in _BITS:
      raise InputError(f'--bits={number:g}: right is {right}')
  return tuple(int(number) for number in found)


def main() -> None:
  """Checks the flags, then runs the study."""
  bits = _check()
  # Imported late: `--help` answers at once, and flags are checked first.
  from experiments.classification import data_free_study
  from experiments.classification.data_free_settings import Making, Settings
  from experiments.classification.tuning import Tuning

  settings = Settings(
    **classifier_flags.settings(),
    teacher=_TEACHER.value,
    student=_STUDENT.value,
    kinds=tuple(kind for kind in KINDS if kind in _INPUTS.value),
    bits=bits,
    seeds=_SEEDS.value,
    making=Making(
      images=_IMAGES.value,
      steps=_STEPS.value,
      learning_rate=_STEP_SIZE.value,
      generators=_GENERATORS.value,
      generator_steps=_GENERATOR_STEPS.value,
      generator_batch=_BATCH.value,
      gan_steps=_GAN_STEPS.value,
      gan_width=_GAN_WIDTH.value,
      temperature=_TEMPERATURE.value,
    ),
    tuning=Tuning(
      epochs=_EPOCHS.value,
      batch=_BATCH.value,
      learning_rate=_LEARNING_RATE.value,
      temperature=_TEMPERATURE.value,
    ),
    calibration=_CALIBRATION.value,
    observer=_OBSERVER.value,
  )
  classifier_flags.run(
    'data_free', data_free_study, settings, output_dir=_OUTPUT_DIR.value
  )


if __name__ == '__main__':
  cli.run(main)
