import numpy as np
import pytest

from compress import audit
from compress.errors import InputError

# conv + FC weights, other parameters, BatchNorm statistics, channels with a
# scale, BatchNorm layers, tensors of the state dict.
NETS = {
  'R18': (24_008_384, 17_216, 14_720, 5_376, 31, 187),
  'R34': (34_109_120, 30_208, 25_856, 9_088, 55, 331),
  'R50': (43_546_304, 44_544, 38_144, 13_184, 79, 475),
  'R100': (65_074_880, 81_280, 69_632, 23_680, 154, 925),
}
# MB with float32, 8, 6 (packed), 6 (in bytes), 4, 2 and 1 bits.
HONEST = {
  'R18': (96.161, 24.179, 18.177, 24.179, 12.175, 6.173, 3.172),
  'R34': (136.661, 34.406, 25.879, 34.406, 17.352, 8.824, 4.561),
  'R50': (174.516, 43.983, 33.096, 43.983, 22.209, 11.323, 5.880),
  'R100': (260.903, 65.868, 49.599, 65.868, 33.331, 17.062, 8.927),
}
PARAMETERS = {
  'R18': 24_025_600,
  'R34': 34_139_328,
  'R50': 43_590_848,
  'R100': 65_156_160,
}
MACS = {
  'R18': (2_597_109_760, 167.04, 93.96),
  'R34': (4_446_797_824, 285.42, 160.55),
  'R50': (6_296_485_888, 403.80, 227.14),
  'R100': (12_076_761_088, 773.73, 435.23),
}
FC_MACS = 12_845_056


@pytest.mark.parametrize('net', NETS)
def test_honest_sizes_golden(net):
  weights, other, statistics, channels, _, _ = NETS[net]
  assert weights + other == PARAMETERS[net]
  columns = zip(
    (32, 8, 6, 6, 4, 2, 1), (False,) * 3 + (True,) + (False,) * 3, strict=True
  )
  found = [
    audit.quantized_bytes(
      weights,
      bits,
      other_parameters=other,
      statistics=statistics,
      channels=channels,
      aligned=aligned,
    )
    / 1e6
    for bits, aligned in columns
  ]
  np.testing.assert_allclose(found, HONEST[net], atol=5.1e-4)


@pytest.mark.parametrize('net', NETS)
def test_a_bit_table_gives_the_same(net):
  weights, other, statistics, channels, _, _ = NETS[net]
  table = {
    'params': {'kernel': (weights, 6), 'rest': [(other, 32)]},
    'batch_stats': (statistics, 32),
    'scales': (channels, 32),
    'zero_points': (channels, 32),
  }
  packed = audit.packed_bytes(table)
  assert packed / 1e6 == pytest.approx(HONEST[net][2], abs=5.1e-4)
  assert audit.nominal_bytes(table) == pytest.approx(packed, abs=1)
  aligned = audit.aligned_bytes(table)
  assert aligned / 1e6 == pytest.approx(HONEST[net][3], abs=5.1e-4)


@pytest.mark.parametrize(
  ('net', 'printed'), [('R18', 96.23), ('R50', 174.68), ('R100', 261.22)]
)
def test_checkpoint_size_golden(net, printed):
  assert checkpoint(net) / 1e6 == pytest.approx(printed, abs=0.02)


def test_checkpoint_of_r34_is_printed_in_mib():
  assert checkpoint('R34') / 2**20 == pytest.approx(130.44, abs=0.01)
  assert checkpoint('R34') / 1e6 == pytest.approx(136.76, abs=0.03)


def checkpoint(net):
  weights, other, statistics, _, batch_norms, tensors = NETS[net]
  return audit.checkpoint_bytes(
    weights + other + statistics, batch_norms=batch_norms, tensors=tensors
  )


@pytest.mark.parametrize(
  ('checkpoint_mb', 'bits', 'printed', 'tolerance'),
  [
    (261.22, 8, 65.31, 0.0051),
    (174.68, 8, 43.67, 0.0051),
    (96.22, 8, 24.1, 0.051),
    (4.21, 8, 1.1, 0.051),
    (130.44, 8, 32.61, 0.0051),
    (261.22, 6, 49.01, 0.0051),
    (174.68, 6, 32.77, 0.0051),
    (96.22, 6, 18.1, 0.051),
    (4.21, 6, 0.79, 0.0051),
  ],
)
def test_checkpoint_ratio_golden(checkpoint_mb, bits, printed, tolerance):
  found = audit.checkpoint_ratio_mb(checkpoint_mb, bits)
  assert found == pytest.approx(printed, abs=tolerance)


def test_checkpoint_ratio_is_cut_to_two_decimals():
  assert audit.checkpoint_ratio_mb(96.22, 6) == pytest.approx(96.22 / 5.33)
  assert audit.checkpoint_ratio_mb(96.22, 6) == pytest.approx(18.05, abs=0.05)
  assert audit.checkpoint_ratio_mb(100, 32) == 100


@pytest.mark.parametrize('net', MACS)
def test_bops_golden(net):
  conv, w8a8, w6a6 = MACS[net]
  for bits, giga in ((8, w8a8), (6, w6a6)):
    layers = [(conv, bits, bits), (FC_MACS, bits, bits)]
    assert audit.bops(layers) / 1e9 == pytest.approx(giga, abs=0.0051)


def test_bit_tables_by_hand():
  table = [(3, 6), {'a': (1, 32)}, (2, 1), (5, 9)]
  assert audit.nominal_bytes(table) == (18 + 32 + 2 + 45) / 8
  assert audit.packed_bytes(table) == 3 + 4 + 1 + 6
  assert audit.aligned_bytes(table) == 3 + 4 + 2 + 10


def test_size_report(tmp_path):
  (tmp_path / 'sub').mkdir()
  (tmp_path / 'sub' / 'a').write_bytes(b'x' * 30)
  (tmp_path / 'b').write_bytes(b'x' * 10)
  size = audit.file_bytes(tmp_path)
  assert size == 40 and audit.file_bytes(tmp_path / 'b') == 10
  report = audit.size_report({'w': (100, 8)}, on_disk=size, reference=80)
  assert report['nominal'] == report['packed'] == 100
  assert report['ratio'] == 2
  assert 'MB = 1e6 bytes' in report['convention']
  assert audit.size_report((100, 8), reference=400)['ratio'] == 4


def test_formats_and_ratios():
  assert audit.format_mb(96_161_280) == '96.16 MB'
  assert audit.format_mib(96_161_280) == '91.71 MiB'
  assert audit.compression_ratio(100, 10) == 10
  assert audit.effective_macs([(100, 1, 4), (10, 2, 2)]) == 35


def test_bad_input(tmp_path):
  with pytest.raises(InputError, match='numel, bits'):
    audit.nominal_bytes({'a': 3})
  with pytest.raises(InputError, match='no integer type'):
    audit.aligned_bytes([(3, 65)])
  with pytest.raises(InputError, match='no file or folder'):
    audit.file_bytes(tmp_path / 'none')
  with pytest.raises(InputError, match='bits must lie'):
    audit.checkpoint_ratio_mb(1, 0)
  with pytest.raises(InputError, match='positive'):
    audit.compression_ratio(1, 0)
  with pytest.raises(InputError, match='at least 0'):
    audit.bops([(-1, 8, 8)])
