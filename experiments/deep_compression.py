r"""Deep Compression: prune, retrain, share values, code; every size is a file.

The smallest weights of a network are removed and the rest retrained; those that
are left share few values, which are trained; codes and places are entropy
coded. By default: LeNet-300-100 and LeNet-5 on scikit-learn's digits, enlarged
to 28 x 28 pixels, from 3 seeds. Beside the Huffman-coded file of the paper
stand the same codes coded by asymmetric numeral systems and by contexts, and a
file in the manner of DeepCABAC. The output folder gets a folder a network with
report.html, report.md, report.json and the files; the same command resumes.

  python -m experiments.deep_compression
  python -m experiments.deep_compression --network=lenet_5 --noenlarge
  python -m experiments.deep_compression --dataset=fashion_mnist \
      --training_epochs=12 --retraining_epochs=4 --sharing_epochs=2
  python -m experiments.deep_compression --network=sface

Han, Mao, Dally 2016, arXiv:1510.00149: LeNet-300-100 40 times and LeNet-5 39
times smaller on MNIST. DeepCABAC: Wiedemann et al. 2020, arXiv:1907.11900.
SFace is fine-tuned on the ORL photographs by the embeddings of the original.

Exit status: 0 done, 2 bad input (one line says what), 1 a fault of the program.
"""

import math
import os
import shlex
import sys

from absl import flags

from compress.errors import InputError
from experiments import cli

_NETWORK = flags.DEFINE_multi_enum(
  'network',
  ['lenet_300_100', 'lenet_5'],
  ['lenet_300_100', 'lenet_5', 'sface'],
  'Networks; repeat the flag for several.',
)
_DATASET = flags.DEFINE_string(
  'dataset',
  'digits',
  "Images: digits (scikit-learn's), or a tensorflow-datasets set such as mnist "
  'or fashion_mnist. SFace has ORL.',
)
_DATA_DIR = flags.DEFINE_string(
  'data_dir', None, 'Folder of prepared tensorflow-datasets sets.'
)
_DATA_PATH = flags.DEFINE_string(
  'data_path', None, "Folder of the set's own files, to be prepared from."
)
_ENLARGE = flags.DEFINE_boolean(
  'enlarge', True, 'Enlarge small images to 28 x 28 pixels.'
)
_KEEP = flags.DEFINE_list(
  'keep',
  None,
  'Fractions of the weights that are kept, each in (0, 1). Default: '
  '0.2,0.1,0.08,0.05,0.03,0.02; sface: 0.5,0.3,0.2.',
)
_RATIO = flags.DEFINE_float(
  'ratio',
  40.0,
  'How many times smaller the Huffman-coded file is to be (the paper: 40, and '
  '39 for LeNet-5): the table of stages is of the rung that most weights are '
  'left of among those that are.',
)
_CONV_BITS = flags.DEFINE_integer(
  'conv_bits', 8, 'Bits of a code of convolutions.', 1, 12
)
_DENSE_BITS = flags.DEFINE_integer(
  'dense_bits', 5, 'Bits of a code of dense layers.', 1, 12
)
_SEEDS = flags.DEFINE_integer(
  'seeds', None, 'Networks, each trained anew. Default: 3; sface: 1.', 1
)
_TRAINING_EPOCHS = flags.DEFINE_integer(
  'training_epochs', 30, 'Epochs before anything is removed.', 1
)
_RETRAINING_EPOCHS = flags.DEFINE_integer(
  'retraining_epochs', 15, 'Epochs after each removal.', 1
)
_SHARING_EPOCHS = flags.DEFINE_integer(
  'sharing_epochs', 6, 'Epochs of the shared values.', 1
)
_LEARNING_RATE = flags.DEFINE_float(
  'learning_rate', 2e-3, 'Highest learning rate of weights (Adam).'
)
_SHARING_RATE = flags.DEFINE_float(
  'sharing_rate', 1e-3, 'Highest learning rate of shared values (Adam).'
)
_SHIFT = flags.DEFINE_integer(
  'shift', 2, 'Pixels that training images are moved by, at most.', 0
)
_BATCH = flags.DEFINE_integer('batch', 64, 'Images a step.', 1)
_STEPS = flags.DEFINE_integer(
  'steps', 30, 'Updates of each fine-tuning of sface.', 1
)
_RESUME = flags.DEFINE_boolean(
  'resume', True, 'Continue what is in the output folder; otherwise empty it.'
)
_SMOKE = flags.DEFINE_boolean(
  'smoke', False, 'As little as possible, to see that it works.'
)
_OUTPUT_DIR = flags.DEFINE_string(
  'output_dir', 'results/deep_compression', 'Folder of the results.'
)


def _kept(default: tuple[float, ...]) -> tuple[float, ...]:
  found = default
  if _KEEP.value is not None:
    found = cli.numbers(_KEEP, above=0, below=1, right='in (0, 1)')
  found = tuple(sorted(found, reverse=True))
  return found[:1] if _SMOKE.value and _KEEP.value is None else found


def _command() -> str:
  return shlex.join(
    ['python', '-m', 'experiments.deep_compression', *sys.argv[1:]]
  )


def _classify(network: str) -> None:
  from compress import audit
  from experiments.classification import deep_compression_report as report_lib
  from experiments.classification import deep_compression_study as study_lib

  smoke, seeds = _SMOKE.value, _SEEDS.value or 3
  settings = study_lib.Settings(
    dataset=_DATASET.value,
    data_dir=_DATA_DIR.value,
    data_path=_DATA_PATH.value,
    enlarge=_ENLARGE.value,
    network=network,
    keep=_kept((0.2, 0.1, 0.08, 0.05, 0.03, 0.02)),
    conv_bits=_CONV_BITS.value,
    dense_bits=_DENSE_BITS.value,
    seeds=min(2, seeds) if smoke else seeds,
    training_epochs=2 if smoke else _TRAINING_EPOCHS.value,
    retraining_epochs=1 if smoke else _RETRAINING_EPOCHS.value,
    sharing_epochs=1 if smoke else _SHARING_EPOCHS.value,
    learning_rate=_LEARNING_RATE.value,
    sharing_rate=_SHARING_RATE.value,
    shift=_SHIFT.value,
    batch=_BATCH.value,
    smoke=smoke,
  )
  study = study_lib.Study(
    settings,
    os.path.join(_OUTPUT_DIR.value, network),
    resume=_RESUME.value,
  )
  print(
    f'deep_compression: {study.network.name} on {settings.dataset}; results '
    f'in {study.output}'
  )
  study.run()
  report = report_lib.make_report(study, command=_command(), ratio=_RATIO.value)
  paths = audit.write_report(
    report, {}, study.output, images=study.splits.test.images[:14]
  )
  for table in report['tables'][:2]:
    print(f'\n{audit.format_stated(table)}')
  print(f'\nreport: {paths["html"].resolve()}')


def main() -> None:
  """Checks the flags, runs a study a network, writes the reports."""
  for flag in (_LEARNING_RATE, _SHARING_RATE):
    if not 0 < flag.value < math.inf:
      raise InputError(f'--{flag.name}={flag.value:g}: right is above 0')
  if not 1 < _RATIO.value < math.inf:
    raise InputError(f'--ratio={_RATIO.value:g}: right is above 1')
  names = _NETWORK.value
  if len(set(names)) < len(names):
    raise InputError('--network: a network is given twice')
  _kept((0.5,))
  smoke = _SMOKE.value
  for name in names:
    if name == 'sface':
      from experiments.faces import deep_compression

      deep_compression.run(
        keep=_kept((0.5, 0.3, 0.2)),
        steps=1 if smoke else _STEPS.value,
        conv_bits=_CONV_BITS.value,
        dense_bits=_DENSE_BITS.value,
        seeds=1 if smoke else _SEEDS.value or 1,
        smoke=smoke,
        output_dir=os.path.join(_OUTPUT_DIR.value, name),
        resume=_RESUME.value,
        command=_command(),
      )
    else:
      _classify(name)


if __name__ == '__main__':
  cli.run(main)
