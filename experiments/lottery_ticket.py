r"""Looks for winning lottery tickets, and compares them with their controls.

Train a network, remove a fifth of its weights, wind the others back to where
they began, train again, and so on: the ticket of a round is a sparse network
with the weights that it happened to start with. Each is trained beside
controls that have as many weights in every layer: the same masks on new random
weights, and masks drawn at random. By default: LeNet-300-100 on scikit-learn's
digits, 12 rounds, 3 seeds, a few minutes. The output folder gets report.html,
report.md, report.json, a folder a round with one file a network, and so what an
interrupted run needs to continue: the same command resumes.

  python -m experiments.lottery_ticket
  python -m experiments.lottery_ticket --rounds=20 --control=reinitialized
  python -m experiments.lottery_ticket --network=cifar_resnet20 \
      --dataset=cifar10 --optimizer=sgd --learning_rate=0.03 --batch=128 \
      --epochs=60 --scope=global --rewind_step=500 --mirror --shift=4 \
      --output_dir=results/lottery_ticket_cifar10

Method: Frankle, Carbin 2019, arXiv:1803.03635. Rewinding to an early step:
Frankle et al. 2019, arXiv:1903.01611. Shuffled weights: Frankle et al. 2020,
arXiv:2009.08576.

Exit status: 0 done, 2 bad input (one line says what), 1 a fault of the program.
"""

import math

from absl import flags

from compress.errors import InputError
from experiments import cli
from experiments.classification import flags as classifier_flags

flags.adopt_module_key_flags(classifier_flags)

CONTROLS = ('reinitialized', 'random_masks', 'shuffled_weights')

_NETWORK = flags.DEFINE_string(
  'network',
  'lenet300',
  'lenet300, lenet5, cifar_resnet8, cifar_resnet20, cifar_resnet32, '
  'cifar_resnet56, resnet18, resnet34, resnet50 or vit_b16.',
)
_ROUNDS = flags.DEFINE_integer('rounds', 12, 'Rounds of pruning.', 1)
_FRACTION = flags.DEFINE_float(
  'fraction', 0.2, 'Share of the surviving weights removed in a round.'
)
_OUTPUT_FRACTION = flags.DEFINE_float(
  'output_fraction',
  None,
  'The same of the output layer. Default: half of --fraction.',
)
_SCOPE = flags.DEFINE_enum(
  'scope',
  'layer',
  ['layer', 'global'],
  'The same share of every layer, or one ranking of all weights, the output '
  "layer's too.",
)
_REWIND_STEP = flags.DEFINE_integer(
  'rewind_step',
  0,
  'Weights are wound back to this step of the dense training, and tickets '
  'continue from it; deep networks need some hundred.',
  0,
)
_CONTROL = flags.DEFINE_multi_enum(
  'control',
  ['reinitialized', 'random_masks'],
  CONTROLS,
  "Controls; repeat the flag for several. shuffled_weights: a ticket's own "
  'weights, dealt out anew within each layer.',
)
_SEEDS = flags.DEFINE_integer(
  'seeds', 3, 'Runs of everything: other weights, another order of images.', 1
)
_EPOCHS = flags.DEFINE_integer(
  'epochs', 30, 'Passes over the training images, in every round.', 1
)
_BATCH = flags.DEFINE_integer('batch', 60, 'Images a step.', 1)
_LEARNING_RATE = flags.DEFINE_float(
  'learning_rate',
  1.2e-3,
  'The highest learning rate; falls to 0 along half a cosine.',
)
_OPTIMIZER = flags.DEFINE_enum(
  'optimizer',
  'adam',
  ['adam', 'sgd'],
  'adam, or sgd with Nesterov momentum 0.9.',
)
_WEIGHT_DECAY = flags.DEFINE_float(
  'weight_decay', 0.0, 'Of kernels; decoupled with adam.', lower_bound=0
)
_WARMUP = flags.DEFINE_float(
  'warmup',
  0.0,
  'Share of the steps over which the learning rate first rises.',
)
_SHIFT = flags.DEFINE_integer(
  'shift', 0, 'Training images are moved by up to so many pixels.', 0
)
_MIRROR = flags.DEFINE_boolean(
  'mirror', False, 'Mirror every other training image, by chance.'
)
_EARLY_STEPS = flags.DEFINE_integer(
  'early_steps',
  20,
  'The speed of learning: accuracies are compared after so many steps.',
  1,
)
_LEVEL = flags.DEFINE_float(
  'level',
  90.0,
  'The speed of learning: the steps that it takes to this accuracy, in '
  'percent of the validation images, are compared.',
)
_OUTPUT_DIR = flags.DEFINE_string(
  'output_dir', 'results/lottery_ticket', 'Folder of the results.'
)


def _check() -> None:
  """Checks what absl cannot: NaN, open ends, flags that exclude each other."""
  for name, value in (
    ('fraction', _FRACTION.value),
    ('output_fraction', _OUTPUT_FRACTION.value),
  ):
    if value is not None and not 0 < value < 1:
      raise InputError(
        f'--{name}={value:g}: right is the share removed, above 0 and below 1'
      )
  if _OUTPUT_FRACTION.value is not None and _SCOPE.value == 'global':
    raise InputError(
      '--output_fraction: --scope=global has one share for all layers'
    )
  if not 0 < _LEVEL.value < 100:
    raise InputError(
      f'--level={_LEVEL.value:g}: right is an accuracy in percent, above 0 and '
      'below 100'
    )
  if not 0 <= _WARMUP.value < 1:
    raise InputError(
      f'--warmup={_WARMUP.value:g}: right is a share of the steps, 0 or more '
      'and below 1'
    )
  rates = (_LEARNING_RATE.value, _WEIGHT_DECAY.value)
  if not all(math.isfinite(rate) for rate in rates) or rates[0] <= 0:
    raise InputError(
      f'--learning_rate={rates[0]:g} --weight_decay={rates[1]:g}: right are '
      'finite numbers, the first above 0'
    )
  if len(set(_CONTROL.value)) < len(_CONTROL.value):
    raise InputError('--control: a control is given twice')


def main() -> None:
  """Checks the flags, then runs the study."""
  _check()
  # Imported late: `--help` answers at once, and flags are checked first.
  from experiments.classification import lottery_study
  from experiments.classification.tuning import Tuning

  output_fraction = _OUTPUT_FRACTION.value
  if output_fraction is None:
    output_fraction = _FRACTION.value / 2
  settings = lottery_study.Settings(
    **classifier_flags.settings(),
    network=_NETWORK.value,
    rounds=_ROUNDS.value,
    fraction=_FRACTION.value,
    output_fraction=output_fraction,
    scope=_SCOPE.value,
    rewind_step=_REWIND_STEP.value,
    controls=tuple(_CONTROL.value),
    seeds=_SEEDS.value,
    tuning=Tuning(
      epochs=_EPOCHS.value,
      batch=_BATCH.value,
      learning_rate=_LEARNING_RATE.value,
      optimizer=_OPTIMIZER.value,
      weight_decay=_WEIGHT_DECAY.value,
      warmup=_WARMUP.value,
      shift=_SHIFT.value,
      mirror=_MIRROR.value,
    ),
    early_steps=_EARLY_STEPS.value,
    level=_LEVEL.value / 100,
  )
  classifier_flags.run(
    'lottery_ticket', lottery_study, settings, output_dir=_OUTPUT_DIR.value
  )


if __name__ == '__main__':
  cli.run(main)
