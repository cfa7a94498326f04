r"""Times the entropy coders and measures what they leave.

Each set of codes goes through each codec, tensor by tensor, and back; what
comes back is compared. The sets: `laplace`, 8-bit codes drawn from a Laplace
distribution of scale 15, one tensor; `sface_w8` and `sface_w4`, the weights of
SFace in 8 and 4 bits with a scale for each channel.

  python -m experiments.benchmarks.coding
  python -m experiments.benchmarks.coding --codes=laplace --codec=ans \
      --json=coding.json

Columns: encode and decode, million weights in a second of one core's time, the
best of the rounds; bits, bits a weight with tables and fields; entropy, bits a
weight that no static code goes below, tensor by tensor and without a table;
over, what bits are above it, in percent. A codec that does not admit a tensor
(the sparse one, where few codes are 0) leaves it to `plain`; `left` counts
these tensors. Loops are compiled before they are timed.
"""

import pathlib
import time

from absl import flags

from compress.errors import InputError
from experiments import cli

_SETS = ['laplace', 'sface_w8', 'sface_w4']
_CODES = flags.DEFINE_multi_enum(
  'codes', _SETS, _SETS, 'What to encode; repeat the flag for several.'
)
_NAMES = ['plain', 'huffman', 'ans', 'adaptive_ans', 'sparse', 'context']
_CODECS = flags.DEFINE_multi_enum(
  'codec', _NAMES, _NAMES, 'Codecs; repeat the flag for several.'
)
_COUNT = flags.DEFINE_integer('count', 10_000_000, 'Codes of laplace.', 1)
_REPEATS = flags.DEFINE_integer('repeats', 3, 'Timed rounds.', 1)
_JSON = flags.DEFINE_string('json', None, 'Path to write the figures to.')
_SMOKE = flags.DEFINE_boolean(
  'smoke', False, 'Few codes, no network, one round, to see that it works.'
)


def laplace_codes(count: int, bits: int = 8):
  """One tensor of codes, int8 [rows, columns], as a network's may be drawn.

  Args:
    count: codes.
    bits: the scale is 15 for 8 bits, and half that for each bit less.

  Returns:
    A list of one array; rows of 1000 if that divides the count.
  """
  import numpy as np

  largest = (1 << (bits - 1)) - 1
  drawn = np.random.default_rng(0).laplace(0, 15 / 2 ** (8 - bits), count)
  codes = np.clip(np.rint(drawn), -largest, largest).astype(np.int8)
  return [codes.reshape(-1, 1 if count % 1000 else 1000)]


def sface_codes(bits: int):
  """Codes of SFace's kernels, a scale for each channel.

  Args:
    bits: of a code.

  Returns:
    A list of int8 arrays.
  """
  import jax
  import numpy as np

  from compress import packed, quantize
  from experiments.faces import networks

  params = networks.load_network('sface').variables['params']
  spec = quantize.AffineSpec(bits, symmetric=True, granularity='channel')
  method = quantize.quantize_weights([('(.*/)?kernel', spec)])
  tree = method.pack(params, method.init(params))
  leaves = jax.tree.leaves(tree, is_leaf=packed.is_packed)
  return [
    np.asarray(leaf.codes)
    for leaf in leaves
    if isinstance(leaf, packed.Quantized)
  ]


def measure(name: str, tensors, *, repeats: int) -> dict[str, float]:
  """A codec over tensors, there and back.

  Args:
    name: of the codec.
    tensors: int arrays.
    repeats: timed rounds.

  Returns:
    `encode` and `decode` in million weights a second, `bits` a weight,
    `entropy`, `over` (in percent) and `left`, tensors that went to `plain`.

  Raises:
    RuntimeError: what came back was not what went in.
  """
  import numpy as np

  from compress import encode

  def codec_of(tensor):
    for codec in encode.all_codecs(row_length=tensor.shape[-1]):
      if codec.name == name:
        return codec
    raise AssertionError(name)

  def once():
    start, coded, left = time.process_time(), [], 0
    for tensor in tensors:
      codec, codes = codec_of(tensor), tensor.reshape(-1)
      try:
        coded.append((codec, codec.encode(codes)))
      except InputError:
        left += 1
        coded.append((encode.plain(), encode.plain().encode(codes)))
    middle = time.process_time()
    found = [
      codec.decode(each, tensor.size)
      for (codec, each), tensor in zip(coded, tensors, strict=True)
    ]
    return middle - start, time.process_time() - middle, coded, left, found

  codec = codec_of(tensors[0])
  small = np.array([0] * 200 + [3, -4] * 20, np.int8)
  codec.decode(codec.encode(small), small.size)
  rounds = [once() for _ in range(repeats)]
  _, _, coded, left, found = rounds[-1]
  for tensor, back in zip(tensors, found, strict=True):
    if not np.array_equal(tensor.reshape(-1), back):
      raise RuntimeError(f'{name} gave other codes back')
  count = sum(tensor.size for tensor in tensors)
  entropy = sum(encode.entropy(t) * t.size for t in tensors) / count
  bits = 8 * sum(encode.coded_nbytes(each) for _, each in coded) / count
  return {
    'encode': count / 1e6 / min(each[0] for each in rounds),
    'decode': count / 1e6 / min(each[1] for each in rounds),
    'bits': bits,
    'entropy': entropy,
    'over': 100 * (bits / entropy - 1),
    'left': left,
  }


def _tensors(name: str):
  bits = 4 if name.endswith('w4') else 8
  if _SMOKE.value:
    return laplace_codes(20_000, bits)
  if name == 'laplace':
    return laplace_codes(_COUNT.value)
  return sface_codes(bits)


def main() -> None:
  """Measures each codec on each set, prints the table, writes the JSON."""
  path = pathlib.Path(_JSON.value) if _JSON.value else None
  if path is not None and not path.parent.is_dir():
    raise InputError(f'--json={path}: there is no folder {path.parent}')
  repeats = 1 if _SMOKE.value else _REPEATS.value
  figures = {}
  columns = ('encode', 'decode', 'bits', 'entropy', 'over', 'left')
  for chosen in dict.fromkeys(_CODES.value):
    tensors = _tensors(chosen)
    count = sum(tensor.size for tensor in tensors)
    print(f'{chosen}: {count} weights in {len(tensors)} tensors')
    print(f'  {"codec":14}' + ''.join(f'{name:>9}' for name in columns))
    figures[chosen] = {'weights': count, 'codecs': {}}
    for name in dict.fromkeys(_CODECS.value):
      found = measure(name, tensors, repeats=repeats)
      figures[chosen]['codecs'][name] = found
      print(
        f'  {name:14}{found["encode"]:9.1f}{found["decode"]:9.1f}'
        f'{found["bits"]:9.4f}{found["entropy"]:9.4f}{found["over"]:9.2f}'
        f'{found["left"]:9d}',
        flush=True,
      )
  if path is not None:
    from experiments import folder

    folder.write_json(path, figures)


if __name__ == '__main__':
  cli.run(main)
