"""One run's figures: made once, kept in a file, put together over seeds."""

import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from compress import audit
from experiments import folder as folder_lib

Figures = dict[str, Any]


class Version(NamedTuple):
  """What one row of a report stands for.

  Attributes:
    name: of the row.
    method: key of the report's methods.
    sparsity: fraction removed that was asked for; None for the reference.
  """

  name: str
  method: str
  sparsity: float | None = None


def grid(
  first: Version, methods: Sequence[str], sparsities: Sequence[float]
) -> list[Version]:
  """A version, then one of every method at every sparsity, named after both."""
  return [
    first,
    *(
      Version(f'{method} {100 * sparsity:.3g} %', method, sparsity)
      for method in methods
      for sparsity in sparsities
    ),
  ]


class Store:
  """Figures of finished runs in a folder; an interrupted study goes on."""

  def __init__(self, folder: pathlib.Path):
    self._folder = folder
    folder.mkdir(parents=True, exist_ok=True)

  def path(self, name: str, seed: int) -> pathlib.Path:
    """Where a run's figures are."""
    return self._folder / f'{name}.{seed}.json'

  def get(self, name: str, seed: int, make: Callable[[], Figures]) -> Figures:
    """The figures of a run, made now unless they are there.

    Args:
      name: of the run, fit for a file.
      seed: of the run.
      make: makes them, JSON-able.

    Returns:
      The figures.
    """
    path = self.path(name, seed)
    if not path.is_file():
      folder_lib.write_json(path, make())
    return folder_lib.read_json(path)


def entry(version: Version, runs: Iterable[Figures]) -> dict[str, Any]:
  """An entry of a report out of a version's runs.

  Args:
    version: what the row stands for.
    runs: figures of every seed; numbers become means, with deviations.

  Returns:
    The entry: 'accuracy' and others {'mean', 'std', 'n'}, the rest means.
  """
  runs = list(runs)
  found: dict[str, Any] = {'name': version.name, 'method': version.method}
  if version.sparsity is not None:
    found['sparsity'] = version.sparsity
  for key, first in runs[0].items():
    if isinstance(first, Mapping):
      found[key] = {
        name: np.mean([run[key][name] for run in runs], axis=0).tolist()
        for name in first
      }
    elif key in ('params', 'macs'):
      found[key] = round(float(np.mean([run[key] for run in runs])))
    else:
      found[key] = audit.over_runs([run[key] for run in runs])
  return found


def percent(judged: audit.Classification) -> Figures:
  """Accuracy and top-5 of one run, in percent."""
  return {'accuracy': 100 * judged.top1, 'top5': 100 * judged.top5}


def nonzero(params) -> int:
  """How many parameters are not 0."""
  return sum(int(np.count_nonzero(leaf)) for leaf in jax.tree.leaves(params))
