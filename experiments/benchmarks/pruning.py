r"""Times what pruning should cost, or save: figures with targets.

removal: a network with half its channels against the whole one, the same batch,
  in turns: at least 2.5 times faster. Once with its outputs as long as they
  were (`removal`), and once with half of every width, that of the outputs too
  (`removal_all`); then with at most 0.27 of the bytes. With embeddings of 512
  numbers the bytes cannot follow: over half of IResNet-18's parameters are of
  the layer that makes them.
masks: a training step under masks against the plain step, the same batch, loss
  and optimizer (Adam), in turns, each behind an untimed step of its own: at
  most 1.1 times as long.
analysis: seconds to trace a network and to find its channels: at most 2 s.

  python -m experiments.benchmarks.pruning
  python -m experiments.benchmarks.pruning --part=removal --json=removal.json

Columns: value, the median over rounds of the ratio (seconds for the analysis,
the share that is left for bytes); target; and the median seconds, or the
megabytes, that it comes from. Seconds of a machine that does something else
besides mean nothing.
"""

import pathlib
import time

from absl import flags

from compress.errors import InputError
from experiments import cli

_PARTS = flags.DEFINE_multi_enum(
  'part',
  ['removal', 'masks', 'analysis'],
  ['removal', 'masks', 'analysis'],
  'What to measure; repeat the flag for several.',
)
_NETWORK = flags.DEFINE_enum(
  'network',
  'iresnet18',
  ['iresnet18', 'iresnet34', 'iresnet50', 'resnet18'],
  'Network that loses channels and is trained.',
)
_ANALYSED = flags.DEFINE_enum(
  'analysed',
  'iresnet100',
  ['iresnet18', 'iresnet50', 'iresnet100'],
  'Network whose channels are found.',
)
_BATCH = flags.DEFINE_integer('batch', 16, 'Photographs a batch.', 1)
_SPARSITY = flags.DEFINE_float('sparsity', 0.5, 'Share of channels removed.')
_REPEATS = flags.DEFINE_integer('repeats', 9, 'Timed rounds.', 1)
_FAST_CONV = flags.DEFINE_boolean(
  'fast_convolution', False, 'Rules for convolutions on CPUs.'
)
_JSON = flags.DEFINE_string('json', None, 'Path to write the figures to.')
_SMOKE = flags.DEFINE_boolean(
  'smoke', False, 'A tiny network and one round, to see that it works.'
)


def _module(name: str):
  from compress import models

  if _SMOKE.value:
    return models.IResNet((1, 1), widths=(8, 8), features=16)
  return getattr(models, name)()


def _shape(name: str, count: int) -> tuple[int, ...]:
  size = 224 if name.startswith('resnet') else 112
  return count, size, size, 3


def _image(name: str):
  import jax
  import jax.numpy as jnp

  return jax.ShapeDtypeStruct(_shape(name, 1), jnp.float32)


def _variables(module, name: str):
  import jax
  import numpy as np

  images = np.zeros(_shape(name, 1), np.float32)
  return jax.jit(module.init)(jax.random.key(0), images)


def _rounds(run, names, repeats: int) -> list[dict[str, float]]:
  """Seconds of each function, in turns, each behind an untimed call."""

  def once(name):
    start = time.perf_counter()
    run(name)
    return time.perf_counter() - start

  found = []
  for _ in range(repeats):
    # The call before leaves the allocator as this one needs it.
    found.append({name: (once(name), once(name))[1] for name in names})
  return found


def measure_removal(
  name: str, batch: int, *, repeats: int
) -> dict[str, dict[str, float]]:
  """The whole network against what is left of it, its outputs kept or not.

  Args:
    name: of the network.
    batch: photographs.
    repeats: timed rounds.

  Returns:
    `removal` and `removal_all`, times faster, with seconds; the same with
    `_bytes`, the share that is left, with megabytes.
  """
  import jax
  import jax.numpy as jnp
  import numpy as np

  from compress import graph, packed, prune
  from compress.packed import Dense

  module = _module(name)
  variables = _variables(module, name)
  traced = graph.trace(module.apply, variables, _image(name))
  models = {'whole': (module.apply, variables)}
  for key, outputs in (('removal', 'keep'), ('removal_all', 'free')):
    found = graph.channels(traced, outputs=outputs).groups
    groups = [g for g in found if not g.tags]
    keep = prune.keep_channels(
      prune.group_importance(groups, variables), _SPARSITY.value
    )
    small = graph.shrink(
      module.apply, variables, keep, _image(name), groups=groups, verify=False
    )
    models[key] = small.apply, small.variables
  rules = graph.cpu_rules(enabled=_FAST_CONV.value)
  rng = np.random.default_rng(0)
  images = jnp.asarray(rng.normal(size=_shape(name, batch)), jnp.float32)
  functions = {}
  for key, (apply, tree) in models.items():
    jitted = jax.jit(graph.rewrite(apply, rules) if _FAST_CONV.value else apply)
    functions[key] = jitted.lower(tree, images).compile(), tree

  def run(key):
    function, tree = functions[key]
    jax.block_until_ready(function(tree, images))

  rounds = _rounds(run, functions, repeats)
  seconds = {k: float(np.median([r[k] for r in rounds])) for k in functions}
  megabytes = {
    key: packed.tree_nbytes(jax.tree.map(Dense, tree)) / 1e6
    for key, (_, tree) in models.items()
  }
  figures = {}
  for key in ('removal', 'removal_all'):
    figures[key] = {
      'value': float(np.median([r['whole'] / r[key] for r in rounds])),
      'whole_s': seconds['whole'],
      'shrunk_s': seconds[key],
    }
    figures[f'{key}_bytes'] = {
      'value': megabytes[key] / megabytes['whole'],
      'whole_mb': megabytes['whole'],
      'shrunk_mb': megabytes[key],
    }
  return figures


def measure_masks(
  name: str, batch: int, *, repeats: int
) -> dict[str, dict[str, float]]:
  """A training step under masks against the plain one.

  Args:
    name: of the network.
    batch: photographs.
    repeats: timed rounds.

  Returns:
    `masks`: times as long, with seconds.
  """
  import jax
  import jax.numpy as jnp
  import numpy as np

  from compress import compressor, prune, train

  module = _module(name)
  variables = _variables(module, name)
  params = variables['params']
  others = {k: v for k, v in variables.items() if k != 'params'}
  rng = np.random.default_rng(0)
  features = jax.eval_shape(module.apply, variables, _image(name)).shape[-1]
  data = {
    'images': rng.normal(size=_shape(name, batch)).astype(np.float32),
    'targets': rng.normal(size=(batch, features)).astype(np.float32),
  }
  methods = {
    'plain': compressor.identity(),
    'masked': prune.prune_weights([('.*kernel', _SPARSITY.value)]),
  }
  optimizer, steps, states = train.adam(1e-6), {}, {}
  for key, method in methods.items():

    def loss_fn(params, carried, batch, key, *, axis_name=None, method=method):
      del key, axis_name
      state = compressor.State((), carried['compressor'])
      seen = {'params': method.apply(params, state), **carried['collections']}
      found, moved = module.apply(
        seen, batch['images'], train=True, mutable=[*carried['collections']]
      )
      loss = jnp.square(found - batch['targets']).mean()
      return loss, ({**carried, 'collections': dict(moved)}, {})

    # Each step gives its state away, so each has its own.
    own = jax.tree.map(jnp.array, (params, others))
    carried = {
      'collections': own[1],
      'compressor': method.init(own[0]).carried,
    }
    states[key] = train.init_state(
      own[0], optimizer, carried, jax.random.key(0)
    )
    jitted = jax.jit(train.make_step(loss_fn, optimizer), donate_argnums=0)
    steps[key] = jitted.lower(states[key], data).compile()

  def run(key):
    states[key], _ = jax.block_until_ready(steps[key](states[key], data))

  rounds = _rounds(run, steps, repeats)
  found = {
    'value': float(np.median([r['masked'] / r['plain'] for r in rounds])),
    **{f'{k}_s': float(np.median([r[k] for r in rounds])) for k in steps},
  }
  return {'masks': found}


def measure_analysis(name: str, *, repeats: int) -> dict[str, dict[str, float]]:
  """Seconds from a network's function to its groups of channels.

  Args:
    name: of the network.
    repeats: timed rounds.

  Returns:
    `analysis`: seconds of both, with each and how many groups.
  """
  import jax
  import numpy as np

  from compress import graph

  module = _module(name)
  shapes = jax.eval_shape(module.init, jax.random.key(0), _image(name))
  trace_s, channels_s = [], []
  for _ in range(repeats):
    start = time.perf_counter()
    traced = graph.trace(module.apply, shapes, _image(name))
    middle = time.perf_counter()
    found = graph.channels(traced)
    channels_s.append(time.perf_counter() - middle)
    trace_s.append(middle - start)
  seconds = {
    'value': float(np.median(np.add(trace_s, channels_s))),
    'trace_s': float(np.median(trace_s)),
    'channels_s': float(np.median(channels_s)),
    'groups': len(found.groups),
  }
  return {'analysis': seconds}


_TARGETS = {
  'removal': '>= 2.5',
  'removal_bytes': '-',
  'removal_all': '>= 2.5',
  'removal_all_bytes': '<= 0.27',
  'masks': '<= 1.1',
  'analysis': '<= 2 s',
}


def main() -> None:
  """Measures the parts, prints the table, writes the JSON."""
  if not 0 < _SPARSITY.value < 1:
    raise InputError(
      f'--sparsity={_SPARSITY.value:g}: right is the fraction removed, above 0 '
      'and below 1'
    )
  path = pathlib.Path(_JSON.value) if _JSON.value else None
  if path is not None and not path.parent.is_dir():
    raise InputError(f'--json={path}: there is no folder {path.parent}')
  smoke = _SMOKE.value
  repeats = 1 if smoke else _REPEATS.value
  batch = 2 if smoke else _BATCH.value
  name, analysed = _NETWORK.value, _ANALYSED.value
  if smoke:
    name = analysed = 'tiny'
  figures = {}
  print(f'{"part":18}{"network":16}{"value":>9}{"target":>9}   from')
  for part in dict.fromkeys(_PARTS.value):
    if part == 'analysis':
      network = analysed
      found = measure_analysis(analysed, repeats=min(repeats, 5))
    else:
      network = f'{name} x {batch}'
      measure = measure_removal if part == 'removal' else measure_masks
      found = measure(name, batch, repeats=repeats)
    for row, values in found.items():
      figures[row] = {'network': network, **values}
      rest = [f'{k} {v:.3f}' for k, v in values.items() if k != 'value']
      print(
        f'{row:18}{network:16}{values["value"]:9.3f}{_TARGETS[row]:>9}   '
        f'{", ".join(rest)}',
        flush=True,
      )
  if path is not None:
    from experiments import folder

    folder.write_json(path, figures)


if __name__ == '__main__':
  cli.run(main)
