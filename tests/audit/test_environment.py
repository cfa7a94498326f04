import importlib.metadata

import jax
import pytest

from compress import audit


def test_the_environment_is_words_and_numbers():
  found = audit.environment()
  assert found['jax'] == jax.__version__
  assert found['devices'] == len(jax.devices())
  assert all(isinstance(v, str | int) for v in found.values())


def test_more_packages_can_be_named():
  found = audit.environment(more=['scipy'])
  assert found['scipy'] == importlib.metadata.version('scipy')
  with pytest.raises(importlib.metadata.PackageNotFoundError):
    audit.environment(more=['no-such-package-at-all'])
