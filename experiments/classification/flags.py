"""The flags that every study of a classifier has."""

import shlex
import sys
from typing import Any

from absl import flags

_DATASET = flags.DEFINE_string(
  'dataset',
  'digits',
  'Images to learn: digits (in scikit-learn), or an image classification set '
  'of the tensorflow-datasets catalogue, such as fashion_mnist or cifar10.',
)
_DATA_DIR = flags.DEFINE_string(
  'data_dir',
  None,
  'Where prepared data sets are kept. Default: that of tensorflow-datasets.',
)
_DATA_PATH = flags.DEFINE_string(
  'data_path',
  None,
  "Folder of a set's own files (those of MNIST's kind, cifar10), which are "
  'prepared instead of a download.',
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


def settings() -> dict[str, Any]:
  """The flags by the names that the studies' `Settings` have."""
  return {
    'dataset': _DATASET.value,
    'data_dir': _DATA_DIR.value,
    'data_path': _DATA_PATH.value,
    'smoke': _SMOKE.value,
  }


def run(binary: str, study, chosen, *, output_dir: str) -> None:
  """Runs a study and prints its tables and where the report is.

  Args:
    binary: name of the program.
    study: module with `run`.
    chosen: its `Settings`.
    output_dir: folder of the results.
  """
  command = ['python', '-m', f'experiments.{binary}', *sys.argv[1:]]
  table, paths = study.run(
    chosen,
    output_dir=output_dir,
    resume=_RESUME.value,
    command=shlex.join(command),
  )
  print(table)
  print(f'\nreport: {paths["html"].resolve()}')
