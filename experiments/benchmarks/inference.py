r"""Times a network in onnxruntime: 8-bit integers against 32-bit floats.

Each network is folded, quantized after training (w8a8) and written as ONNX
twice, in floats and in integers, from one description. Beside the two run
onnxruntime's own quantization of the same float model (`quantize_static`, QDQ,
per channel, the same calibration photographs) and the compiled JAX function.
All are timed in turns, in one process. Random weights where there are no real
ones: speed does not depend on them.

  python -m experiments.benchmarks.inference
  python -m experiments.benchmarks.inference --network=sface --batch=32 \
      --json=inference.json

Columns: float32_ms and int8_ms, medians of a batch; speedup, the median over
rounds of their quotient; static_ms, what quantize_static gave; jax_ms, the
float function under jit, with as many threads as JAX takes; cosine, the least
between embeddings of the integer model and of the same in JAX, and
static_cosine, between quantize_static's and the float network's; float_cosine,
between ours and the float network's. The figures in the JSON also have the
operations that onnxruntime really ran.
"""

import collections
import pathlib
import tempfile
import time

from absl import flags

from compress.errors import InputError
from experiments import cli

_NETWORKS = flags.DEFINE_list(
  'network',
  ['sface', 'iresnet18'],
  'Networks: sface, iresnet18, iresnet34, iresnet50, iresnet100, '
  'mobilefacenet.',
)
_BATCH = flags.DEFINE_integer('batch', 1, 'Photographs a batch.', 1)
_THREADS = flags.DEFINE_integer('threads', 2, 'Threads of onnxruntime.', 1)
_REPEATS = flags.DEFINE_integer('repeats', 50, 'Timed rounds.', 1)
_CALIBRATION = flags.DEFINE_integer(
  'calibration', 32, 'Photographs that the ranges come from.', 1
)
_RIVAL = flags.DEFINE_boolean('rival', True, "Run onnxruntime's own, too.")
_JSON = flags.DEFINE_string('json', None, 'Path to write the figures to.')
_SMOKE = flags.DEFINE_boolean(
  'smoke', False, 'A tiny network and two rounds, to see that it works.'
)

_WARM_UP = 2
"""Calls before the one that is timed."""

COLUMNS = (
  'float32_ms',
  'int8_ms',
  'speedup',
  'static_ms',
  'jax_ms',
  'cosine',
  'float_cosine',
  'static_cosine',
)


def _network(name: str):
  """The network, and photographs: real ones for real weights."""
  import numpy as np

  from compress import models
  from experiments.faces import networks, people

  count = max(_CALIBRATION.value, _BATCH.value)
  if name == 'sface':
    return networks.load_network('sface'), people.load_faces('orl').images
  makers = {
    'iresnet18': models.iresnet18,
    'iresnet34': models.iresnet34,
    'iresnet50': models.iresnet50,
    'iresnet100': models.iresnet100,
    'mobilefacenet': models.mobilefacenet_quantface,
    'tiny': lambda: models.IResNet((1, 1), widths=(8, 8), features=16),
  }
  if name not in makers:
    right = ['sface', *(n for n in makers if n != 'tiny')]
    raise InputError(f'--network={name}: right would be one of {right}')
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (count, 112, 112, 3), dtype=np.uint8)
  return _random_network(name, makers[name](), images[:4]), images


def _random_network(name, module, images):
  """Random weights, with the statistics that BatchNorm would have of them."""
  import jax
  import numpy as np

  from experiments.faces import networks

  images = images.astype(np.float32)
  variables = jax.jit(module.init)(jax.random.key(0), images)
  network = networks.from_module(name, module, variables)
  step = jax.jit(network.train_apply)
  for _ in range(2 if _SMOKE.value else 30):
    variables = {**variables, 'batch_stats': step(variables, images)[1]}
  return network._replace(variables=variables)


def measure(name: str) -> dict[str, float]:
  """Times one network; see the module's docstring for the keys."""
  import jax
  import numpy as np

  from compress import deploy, packed
  from experiments.faces import student as student_lib

  network, images = _network(name)
  recipe = student_lib.Recipe(observer='minmax')
  chosen = images[: _CALIBRATION.value]
  student = student_lib.make_student(network, recipe, chosen, batch=4)
  model = student_lib.prepare(network, recipe)
  tree = student.pack(student.trained, student.carried)
  given = {
    'activations': student.carried['qparams'],
    'specs': model.specs,
  }
  variables = {**tree['others'], 'params': tree['params']}
  image = jax.ShapeDtypeStruct((1, *network.image_shape), np.float32)
  floats = deploy.to_onnx(model.apply, model.variables, image)
  integers = deploy.to_onnx(model.apply, variables, image, **given)
  lowered = deploy.lower(model.apply, variables, image, **given)
  simulate = jax.jit(lowered.apply)
  reference = jax.jit(model.apply)
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    path = folder / 'integers.onnx'
    sessions = {
      'float32': deploy.open_session(floats, threads=_THREADS.value),
      'int8': deploy.open_session(
        integers, threads=_THREADS.value, optimized=path
      ),
    }
    operations = _operations(path)
    if _RIVAL.value:
      sessions['static'] = _static(floats, chosen, folder)
  batch = images[: _BATCH.value].astype(np.float32)
  functions = {
    key: lambda x, s=session: s.run(None, {'images': x})[0]
    for key, session in sessions.items()
  }
  outputs = {key: function(batch) for key, function in functions.items()}
  functions['jax'] = lambda x: jax.block_until_ready(
    reference(model.variables, x)
  )
  exact = np.asarray(reference(model.variables, batch))
  simulated = np.asarray(simulate(packed.unpack_tree(lowered.variables), batch))
  times = _interleaved(functions, batch)
  found = {f'{key}_ms': float(np.median(t)) for key, t in times.items()}
  found |= {
    'batch': _BATCH.value,
    'threads': _THREADS.value,
    'speedup': float(np.median(times['float32'] / times['int8'])),
    'cosine': _cosine(outputs['int8'], simulated),
    'float_cosine': _cosine(outputs['int8'], exact),
    'float32_bytes': floats.ByteSize(),
    'int8_bytes': integers.ByteSize(),
    'operations': operations,
  }
  if _RIVAL.value:
    found['static_cosine'] = _cosine(outputs['static'], exact)
    ratio = np.median(times['static'] / times['int8'])
    found['speedup_over_static'] = float(ratio)
  return found


def _interleaved(functions, batch):
  """Times of every round, ms, by function.

  Each has calls to itself before the one that is timed: another's data is in
  the caches, and another's threads may still be busy.
  """
  import numpy as np

  def timed(function):
    for _ in range(_WARM_UP):
      function(batch)
    start = time.perf_counter()
    function(batch)
    return 1e3 * (time.perf_counter() - start)

  repeats = 2 if _SMOKE.value else _REPEATS.value
  rounds = [
    {key: timed(function) for key, function in functions.items()}
    for _ in range(repeats)
  ]
  return {key: np.asarray([r[key] for r in rounds]) for key in functions}


def _cosine(left, right) -> float:
  import numpy as np

  norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
  return float(((left * right).sum(1) / norms).min())


def _operations(path) -> dict[str, int]:
  import onnx

  nodes = onnx.load(path).graph.node
  return dict(collections.Counter(node.op_type for node in nodes))


def _static(model, images, folder):
  """A session of onnxruntime's own quantization of a float model."""
  import onnx
  from onnxruntime import quantization

  from compress import deploy

  class Reader(quantization.CalibrationDataReader):
    def __init__(self):
      self.rest = iter(images)

    def get_next(self):
      image = next(self.rest, None)
      return None if image is None else {'images': image[None].astype('f4')}

  given, prepared = folder / 'float.onnx', folder / 'prepared.onnx'
  onnx.save(model, given)
  quantization.quant_pre_process(
    str(given), str(prepared), skip_symbolic_shape=True
  )
  out = folder / 'static.onnx'
  quantization.quantize_static(
    str(prepared),
    str(out),
    Reader(),
    quant_format=quantization.QuantFormat.QDQ,
    per_channel=True,
    activation_type=quantization.QuantType.QUInt8,
    weight_type=quantization.QuantType.QInt8,
  )
  return deploy.open_session(out, threads=_THREADS.value)


def main() -> None:
  """Measures the networks, prints the table, writes the JSON."""
  names = ['tiny'] if _SMOKE.value else _NETWORKS.value
  path = pathlib.Path(_JSON.value) if _JSON.value else None
  if path and not path.parent.is_dir():
    raise InputError(f'--json={path}: there is no folder {path.parent}')
  print(f'{"network":14}' + ''.join(f'{c:>14}' for c in COLUMNS))
  figures = {}
  for name in names:
    figures[name] = found = measure(name)
    row = ''.join(
      f'{found[c]:14.5g}' if c in found else f'{"":14}' for c in COLUMNS
    )
    print(f'{name:14}{row}', flush=True)
  if path:
    from experiments import folder

    folder.write_json(path, figures)


if __name__ == '__main__':
  cli.run(main)
