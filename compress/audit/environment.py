"""What the figures of a report may depend on: versions and the machine."""

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from typing import Any

import jax

_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy')


def environment(*, more: Sequence[str] = ()) -> dict[str, Any]:
  """The `environment` field of a report, as `write_report` takes it.

  Args:
    more: installed packages whose versions matter too, as an installer names
      them.

  Returns:
    'python', the version of every package, 'device' (the kind of JAX's first
    device), 'devices' and 'cores' (how many there are), 'system'.

  Raises:
    importlib.metadata.PackageNotFoundError: a package is not installed.
  """
  return {
    'python': platform.python_version(),
    **{name: importlib.metadata.version(name) for name in (*_PACKAGES, *more)},
    'device': jax.devices()[0].device_kind,
    'devices': len(jax.devices()),
    'cores': os.cpu_count(),
    'system': platform.system(),
  }
