"""What the processor that runs the tests can do."""

import pathlib
import platform

import pytest


def _adds_products_exactly() -> bool:
  """Whether onnxruntime's 8-bit products cannot saturate here."""
  if platform.machine() not in ('x86_64', 'AMD64'):
    return True
  cpuinfo = pathlib.Path('/proc/cpuinfo')
  return not cpuinfo.is_file() or 'vnni' in cpuinfo.read_text(encoding='utf-8')


exact_products = pytest.mark.skipif(
  not _adds_products_exactly(),
  reason='pairs of 8-bit products saturate in 16 bits without AVX-VNNI',
)
