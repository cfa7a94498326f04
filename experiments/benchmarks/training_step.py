r"""Times a quantization-aware training step against the plain step.

Both steps train the same network on the same batch with the same loss (the
embedding loss of QuantFace) and optimizer (Adam), compiled by the same rules;
they are timed in turns, in one process, each behind an untimed step of its
own, as in training. The plain step is what the
quantization costs are measured against; it is not a library's own step:
--nofast_convolution shows what the rules for convolutions are worth.

  python -m experiments.benchmarks.training_step
  python -m experiments.benchmarks.training_step --network=sface:32 \
      --json=step.json

Columns: plain_s and quantized_s, median seconds of a step; ratio, the median
over rounds of their quotient; images_per_s of the quantized step; compile_s of
the quantized step, tracing included.
"""

import pathlib
import time

from absl import flags

from compress.errors import InputError
from experiments import cli

_NETWORKS = flags.DEFINE_list(
  'network',
  ['iresnet18:16', 'sface:32'],
  'Networks and photographs a step, such as iresnet18:16,sface:32. Possible '
  'are iresnet18, iresnet34, iresnet50, iresnet100, mobilefacenet (random '
  'weights) and sface.',
)
_BITS = flags.DEFINE_integer('bits', 6, 'Bits of weights and activations.', 2)
_RANGES = flags.DEFINE_enum(
  'ranges', 'frozen', ['frozen', 'running', 'learned'], 'Ranges in training.'
)
_PLACEMENT = flags.DEFINE_enum(
  'placement', 'inputs', ['inputs', 'quantface'], 'Quantized activations.'
)
_BATCH_NORM = flags.DEFINE_enum(
  'batch_norm',
  'frozen',
  ['frozen', 'batch'],
  'BatchNorm of both steps: frozen and folded, or with batch statistics.',
)
_REPEATS = flags.DEFINE_integer('repeats', 7, 'Timed rounds.', 1)
_FAST_CONV = flags.DEFINE_boolean(
  'fast_convolution', None, 'Rules for convolutions; default: on a CPU.'
)
_JSON = flags.DEFINE_string('json', None, 'Path to write the figures to.')
_SMOKE = flags.DEFINE_boolean(
  'smoke', False, 'A tiny network and one round, to see that it works.'
)


def _network(name: str):
  import jax
  import numpy as np

  from compress import models
  from experiments.faces import networks

  if name == 'sface':
    return networks.load_network('sface')
  makers = {
    'iresnet18': models.iresnet18,
    'iresnet34': models.iresnet34,
    'iresnet50': models.iresnet50,
    'iresnet100': models.iresnet100,
    'mobilefacenet': models.mobilefacenet_quantface,
    'tiny': lambda: models.IResNet((1, 1), widths=(8, 8), features=16),
  }
  if name not in makers:
    raise InputError(f'--network={name}: right would be one of {[*makers]}')
  module = makers[name]()
  images = np.zeros((1, 112, 112, 3), np.float32)
  variables = jax.jit(module.init)(jax.random.key(0), images)
  return networks.from_module(name, module, variables)


def measure(name: str, batch: int, *, repeats: int) -> dict[str, float]:
  """Times one network; see the module's docstring for the keys."""
  import jax
  import jax.numpy as jnp
  import numpy as np

  from compress import distill, graph, train
  from experiments.faces import student as student_lib
  from experiments.faces import tuning

  network = _network(name)
  rules = (graph.cpu_rules(enabled=_FAST_CONV.value),)
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (batch, 112, 112, 3), dtype=np.uint8)
  recipe = student_lib.Recipe(
    weight_bits=_BITS.value,
    activation_bits=_BITS.value,
    placement=_PLACEMENT.value,
    observer='minmax',
    ranges=_RANGES.value,
    batch_norm=_BATCH_NORM.value,
  )
  student = student_lib.make_student(network, recipe, images[:2], rules=rules)
  model = student_lib.prepare(network, recipe)
  plain_apply = graph.rewrite(model.train_apply, graph.compose(*rules))

  def plain_loss(params, carried, batch, key, *, axis_name=None):
    del key, axis_name
    variables = {**carried, 'params': params}
    images = batch['images'].astype(jnp.float32)
    embeddings, stats = plain_apply(variables, images)
    loss = distill.embedding_loss(embeddings, batch['teacher'])
    return loss, ({**carried, **({'batch_stats': stats} if stats else {})}, {})

  features = jax.eval_shape(
    network.apply, network.variables, images[:1].astype(np.float32)
  ).shape[-1]
  data = {
    'images': images,
    'teacher': rng.normal(size=(batch, features)).astype(np.float32),
    'labels': np.zeros(batch, np.int32),
    'general': np.ones(batch, bool),
  }
  optimizer = train.adam(1e-6)
  others = {k: v for k, v in model.variables.items() if k != 'params'}
  key = jax.random.key(0)
  states = {
    'plain': train.init_state(
      model.variables['params'], optimizer, others, key
    ),
    'quantized': train.init_state(
      {'twin': student.trained}, optimizer, {'twin': student.carried}, key
    ),
  }
  losses = {
    'plain': plain_loss,
    'quantized': tuning.make_loss(student, 'quantface', tuning.Tuning()),
  }
  steps, compile_s = {}, {}
  for kind, loss in losses.items():
    start = time.perf_counter()
    jitted = jax.jit(train.make_step(loss, optimizer), donate_argnums=0)
    steps[kind] = jitted.lower(states[kind], data).compile()
    compile_s[kind] = time.perf_counter() - start

  def once(kind):
    start = time.perf_counter()
    states[kind], _ = jax.block_until_ready(steps[kind](states[kind], data))
    return time.perf_counter() - start

  def steady(kind):
    # The step before leaves the allocator as this one needs it: a step after
    # one of another program pays up to its own time again in page faults.
    once(kind)
    return once(kind)

  rounds = [{kind: steady(kind) for kind in steps} for _ in range(repeats)]
  plain, quantized = (
    float(np.median([r[kind] for r in rounds])) for kind in steps
  )
  return {
    'batch': batch,
    'plain_s': plain,
    'quantized_s': quantized,
    'ratio': float(np.median([r['quantized'] / r['plain'] for r in rounds])),
    'images_per_s': batch / quantized,
    'plain_images_per_s': batch / plain,
    'compile_s': compile_s['quantized'],
    'plain_compile_s': compile_s['plain'],
  }


def main() -> None:
  """Measures the networks, prints the table, writes the JSON."""
  wanted = ['tiny:2'] if _SMOKE.value else _NETWORKS.value
  repeats = 1 if _SMOKE.value else _REPEATS.value
  jobs = []
  for text in wanted:
    name, _, batch = text.partition(':')
    if not batch.isdecimal() or not int(batch):
      raise InputError(f'--network={text}: right would be such as sface:32')
    jobs.append((name, int(batch)))
  columns = ('plain_s', 'quantized_s', 'ratio', 'images_per_s', 'compile_s')
  print(f'{"network":16}' + ''.join(f'{c:>14}' for c in columns))
  figures = {}
  for name, batch in jobs:
    figures[name] = measure(name, batch, repeats=repeats)
    row = ''.join(f'{figures[name][c]:14.3f}' for c in columns)
    print(f'{f"{name} x {batch}":16}{row}', flush=True)
  if _JSON.value:
    path = pathlib.Path(_JSON.value)
    if not path.parent.is_dir():
      raise InputError(f'--json={path}: there is no folder {path.parent}')
    from experiments import folder

    folder.write_json(path, figures)


if __name__ == '__main__':
  cli.run(main)
