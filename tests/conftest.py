"""Strict JAX for every test: eight CPU devices, no silent promotion.

The fast tests compile much and compute little, so XLA optimizes little for
them, and for the programs that they start. The slow ones, and all of them with
`-m ''`, run on the code that users run.
"""

import os

import jax

jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_numpy_dtype_promotion', 'strict')
jax.config.update('jax_numpy_rank_promotion', 'raise')

_QUICK = [
  '--xla_backend_optimization_level=0',
  '--xla_llvm_disable_expensive_passes=true',
]
# A flag that XLA does not know ends the process; it is not asked for of others.
if jax.__version_info__[:2] == (0, 10):
  _QUICK.append('--xla_cpu_use_fusion_emitters=false')


def pytest_configure(config):
  """Before anything is compiled, in each worker."""
  if config.option.markexpr == 'not slow':
    os.environ['XLA_FLAGS'] = ' '.join(
      [*_QUICK, os.environ.get('XLA_FLAGS', '')]
    ).strip()
