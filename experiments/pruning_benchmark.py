r"""Compares pruning methods as ShrinkBench asks: same weights, same budget.

A classifier is trained from several seeds; from the same weights every method
removes what a compression ratio asks for, and what is left is fine-tuned alike.
The report has accuracy before and after fine-tuning with sample standard
deviations, parameters and operations left, bytes, and for networks whose
channels are gone the measured speed-up too. Random and magnitude pruning and
the dense network with the same treatment are always there. By default: LeNet-5
on scikit-learn's digits, all methods. The output folder gets report.html,
report.md, report.json and one file a network; the same command resumes.

  python -m experiments.pruning_benchmark
  python -m experiments.pruning_benchmark --method=snip --method=synflow
  python -m experiments.pruning_benchmark --dataset=fashion_mnist \
      --network=resnet20 --pretraining_epochs=10 --tuning_epochs=5

Contract: Blalock et al. 2020, 'What is the State of Neural Network Pruning?',
arXiv:2003.03033; unlike there, the classifier is pruned too, without which
LeNet-5 on digits cannot be compressed 32 times.

Exit status: 0 done, 2 bad input (one line says what), 1 a fault of the program.
"""

import math
import shlex
import sys

from absl import flags

from compress.errors import InputError
from experiments import cli

_DATASET = flags.DEFINE_string(
  'dataset',
  'digits',
  "Images: digits (scikit-learn's), or a tensorflow-datasets set such as "
  'fashion_mnist.',
)
_DATA_DIR = flags.DEFINE_string(
  'data_dir', None, 'Folder of prepared tensorflow-datasets sets.'
)
_NETWORK = flags.DEFINE_enum(
  'network', 'lenet_5', ['lenet_300_100', 'lenet_5', 'resnet20'], 'Network.'
)
_METHOD = flags.DEFINE_multi_string(
  'method',
  None,
  'Methods beside the controls; repeat the flag for several. Default: all. '
  'Weights: random, layer_magnitude, global_magnitude, erk_magnitude, '
  'layer_gradient, global_gradient, brain_damage, wanda, sparsegpt, n_m, '
  'gradual, iterative, movement, random_initial, snip, grasp, synflow, set, '
  'rigl. Channels: random_channels, depgraph, depgraph_global, l1_filters, '
  'taylor_2017, taylor_2019, fisher, apoz, channel_brain_damage, relevance, '
  'nisp.',
)
_COMPRESSION = flags.DEFINE_list(
  'compression',
  ['2', '4', '10', '16', '32'],
  'Compression ratios: parameters before over parameters left, above 1.',
)
_SEEDS = flags.DEFINE_integer(
  'seeds', 3, 'Networks a method and ratio, each from initial weights.', 1
)
_PRETRAINING_EPOCHS = flags.DEFINE_integer(
  'pretraining_epochs', 16, 'Epochs before anything is removed.', 1
)
_TUNING_EPOCHS = flags.DEFINE_integer(
  'tuning_epochs', 24, 'Epochs of fine-tuning.', 1
)
_PRETRAINING_RATE = flags.DEFINE_float(
  'pretraining_rate', 2e-3, 'Learning rate before anything is removed.'
)
_LEARNING_RATES = flags.DEFINE_list(
  'learning_rates',
  ['0.01', '0.003'],
  'Learning rates of fine-tuning; one is chosen on validation images.',
)
_BATCH = flags.DEFINE_integer('batch', 64, 'Images a step.', 1)
_RESUME = flags.DEFINE_boolean(
  'resume', True, 'Continue what is in the output folder; otherwise empty it.'
)
_SMOKE = flags.DEFINE_boolean(
  'smoke', False, 'Few images, methods and ratios, to see that it works.'
)
_OUTPUT_DIR = flags.DEFINE_string(
  'output_dir', 'results/pruning_benchmark', 'Folder of the results.'
)


def _methods() -> tuple[str, ...]:
  # Imported late: `--help` answers at once.
  from experiments.classification.pruning_methods import (
    CHANNEL_CONTROLS,
    CONTROLS,
    METHODS,
  )

  asked = list(METHODS) if _METHOD.value is None else _METHOD.value
  if _SMOKE.value and _METHOD.value is None:
    asked = ['snip', 'depgraph']
  for name in asked:
    if name not in METHODS:
      raise InputError(
        f'--method={name}: right would be one of {", ".join(METHODS)}'
      )
  if len(set(asked)) < len(asked):
    raise InputError('--method: a method is given twice')
  controls = set(CONTROLS)
  if any(METHODS[name].channels for name in asked):
    controls |= set(CHANNEL_CONTROLS)
  return tuple(name for name in METHODS if name in controls | set(asked))


def main() -> None:
  """Checks the flags, runs the study, writes the report."""
  ratios = cli.numbers(_COMPRESSION, above=1, right='a number above 1')
  rates = cli.numbers(_LEARNING_RATES, above=0, right='a number above 0')
  if not 0 < _PRETRAINING_RATE.value < math.inf:
    raise InputError(
      f'--pretraining_rate={_PRETRAINING_RATE.value:g}: right is a number '
      'above 0'
    )
  methods = _methods()
  from compress import audit
  from experiments.classification import pruning_report, pruning_study
  from experiments.classification.pruning_settings import Settings

  smoke = _SMOKE.value
  settings = Settings(
    dataset=_DATASET.value,
    data_dir=_DATA_DIR.value,
    network=_NETWORK.value,
    methods=methods,
    ratios=tuple(sorted(ratios))[: 2 if smoke else None],
    seeds=min(_SEEDS.value, 2) if smoke else _SEEDS.value,
    pretraining_epochs=1 if smoke else _PRETRAINING_EPOCHS.value,
    tuning_epochs=1 if smoke else _TUNING_EPOCHS.value,
    pretraining_rate=_PRETRAINING_RATE.value,
    learning_rates=(_PRETRAINING_RATE.value,) if smoke else rates,
    batch=_BATCH.value,
    smoke=smoke,
  )
  study = pruning_study.Study(settings, _OUTPUT_DIR.value, resume=_RESUME.value)
  print(
    f'pruning_benchmark: {study.network.name} on {settings.dataset}, '
    f'{len(methods)} methods at {len(settings.ratios)} ratios; results in '
    f'{study.output}'
  )
  study.run()
  command = shlex.join(
    ['python', '-m', 'experiments.pruning_benchmark', *sys.argv[1:]]
  )
  report = pruning_report.make_report(study, command=command)
  paths = audit.write_report(
    report, {}, study.output, images=study.splits.test.images[:14]
  )
  print(audit.format_table(report))
  print(f'\nreport: {paths["html"].resolve()}')


if __name__ == '__main__':
  cli.run(main)
