import math

import jax.numpy as jnp
import pytest

from compress import prune
from compress.errors import InputError


def test_shrinkbench_fraction_by_hand():
  assert prune.keep_fraction(1000, 100, 4) == pytest.approx(1 / 6)
  assert prune.keep_fraction(1000, 100, 1) == 1
  for compression in (10, 0.5):
    with pytest.raises(InputError, match='cannot be met'):
      prune.keep_fraction(1000, 100, compression)
  with pytest.raises(InputError, match='nothing is left to prune'):
    prune.keep_fraction(100, 100, 2)


def test_report_by_hand():
  params = {
    'conv': jnp.array([[1.0, 0.0], [0.0, 0.0]]),
    'fc': jnp.array([1.0, 2.0, 3.0, 0.0]),
    'bias': jnp.ones(2),
  }
  report = prune.sparsity_report(params, macs={'conv': 100, 'fc': 1})
  assert (report.size, report.size_nz) == (10, 6)
  assert report.compression == pytest.approx(10 / 6)
  assert (report.flops, report.flops_nz) == (404, 103)
  assert report.speedup == pytest.approx(404 / 103)
  assert report.densities == {'bias': 1, 'conv': 0.25, 'fc': 0.75}


def test_report_without_operations():
  report = prune.sparsity_report({'a': jnp.zeros(3)})
  assert report.compression == math.inf
  assert report.flops is None and report.speedup is None
  with pytest.raises(InputError, match='b: has multiply-adds'):
    prune.sparsity_report({'a': jnp.zeros(3)}, macs={'b': 1})
  with pytest.raises(InputError, match='no parameters'):
    prune.sparsity_report({})
