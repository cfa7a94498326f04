"""What every method on weights must keep, checked over all of them.

A new method joins by a line in `CASES`.
"""

import json
import struct
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from compress import compressor as compressor_lib
from compress import encode, graph, packed, prune, train
from compress.compressor import Compressor, State, chain, identity
from compress.quantize import (
  AffineSpec,
  BucketSpec,
  PointSpec,
  ProductSpec,
  ResidualSpec,
  SharedSpec,
  SignSpec,
  binarize_signs,
  learn_points,
  mse_range,
  quantize_buckets,
  quantize_intervals,
  quantize_products,
  quantize_residuals,
  quantize_weights,
  share_weights,
)

KERNELS = '.*kernel'


class Case(NamedTuple):
  """A method, the leaves that it may change, and those that get no gradient.

  Where it is not `exact`, its state holds sums, which another program may round
  otherwise.
  """

  method: Compressor
  touched: tuple[str, ...] = ('conv/kernel', 'fc/kernel')
  frozen: tuple[str, ...] = ()
  exact: bool = True


def weights(pattern=KERNELS, *, learned=False, options=None, **spec):
  rules = [(pattern, AffineSpec(**spec))]
  return quantize_weights(rules, learned=learned, **(options or {}))


def learning_masks():
  """Masks that are learned, or that change while training goes on."""
  half, key = [(KERNELS, 0.5)], jax.random.key(11)
  ramp = prune.movement_schedule(6, warmup=0, cooldown=3, initial=0.3)
  rewiring = prune.Rewiring(every=1, end=3, fraction=0.5)
  popup = prune.edge_popup(half, key=key)
  sampled = prune.edge_popup(half, key=key, sampled=True)
  soft = prune.soft_movement(half)

  def moved(params):
    # As trained: its first scores are all 0, on one side of the threshold.
    state = soft.init(params)
    return state._replace(
      learned=jax.tree.map(
        lambda s: jnp.sin(jnp.arange(1.0, s.size + 1)).reshape(s.shape),
        state.learned,
      )
    )

  kernels = ('conv/kernel', 'fc/kernel')
  return {
    'edge-popup': Case(popup, frozen=kernels),
    'sampled edge-popup': Case(sampled, frozen=kernels),
    'movement': Case(prune.movement(half, schedule=ramp)),
    'movement then quantized': Case(
      chain(prune.movement(half, schedule=ramp), weights(bits=8))
    ),
    'soft movement': Case(soft._replace(init=moved)),
    'sparse evolution': Case(
      prune.sparse_evolution(half, schedule=rewiring, key=key)
    ),
    'rigl': Case(prune.rigl(half, schedule=prune.Rewiring(end=300), key=key)),
  }


def chained():
  """Chains: of both kinds with the identity, and of two methods."""
  eight = weights(bits=8, granularity='channel')
  four = weights(bits=4, learned=True)
  bias = weights('.*bias', bits=8, symmetric=False, bounds='full')
  everything = ('conv/bias', 'conv/kernel', 'fc/bias', 'fc/kernel')
  return {
    'identity then static': Case(chain(identity(), eight)),
    'static then identity': Case(chain(eight, identity())),
    'static then learned': Case(chain(eight, four)),
    'learned then static': Case(chain(four, eight)),
    'kernels then biases': Case(chain(four, bias), everything),
  }


def pruned(sparsity=0.5, pattern=KERNELS, **options):
  return prune.prune_weights([(pattern, sparsity)], **options)


def pruning():
  """Masks: of every kind of allocation and selection, and in chains."""
  cubic = prune.cubic(3, interval=1, initial=0.3)
  eight = weights(bits=8, granularity='channel')
  bytes_ = weights(bits=6, symmetric=False, bounds='full', dynamic=True)
  group = weights(bits=4, learned=True, granularity='group', group_size=8)
  masks = {'fc/kernel': np.arange(21).reshape(7, 3) % 2}
  macs = {'conv/kernel': 70_000, 'fc/kernel': 1}
  both_ways = {
    'pruned then quantized': chain(pruned(), eight),
    'quantized then pruned': chain(eight, pruned()),
    'pruned then asymmetric': chain(pruned(schedule=cubic), bytes_),
    'pruned then learned': chain(pruned(), group),
    'learned then pruned': chain(group, pruned(schedule=cubic)),
    'pruned, quantized, pruned': chain(pruned(0.25), eight, pruned()),
    'pruned twice': chain(pruned(0.25), pruned(0.5)),
    'n:m then quantized': chain(
      pruned(selection=prune.select_n_m(1, 2, pad=True)), eight
    ),
  }
  return {
    'magnitude': Case(pruned()),
    'cubic': Case(pruned(schedule=cubic)),
    'global': Case(
      pruned(
        allocation=prune.global_threshold(min_keep=1),
        schedule=cubic,
        rounding=prune.SYNFLOW,
      )
    ),
    'macs': Case(
      pruned(
        prune.PRUNE,
        allocation=prune.mac_budget(3_000_005, macs=macs),
        schedule=prune.iterative(3, interval=1),
      )
    ),
    'random': Case(
      pruned(saliency=prune.random_saliency, key=jax.random.key(3))
    ),
    'n:m': Case(
      pruned(0.5, 'conv/kernel', selection=prune.select_n_m(1, 2)),
      ('conv/kernel',),
    ),
    'channels': Case(
      pruned(selection=prune.select_channels(), gradient='straight_through')
    ),
    'fixed masks': Case(prune.fixed_masks(masks), ('fc/kernel',)),
    **{name: Case(method) for name, method in both_ways.items()},
  }


def buckets():
  """Buckets: of every rounding and gradient, in chains, and learned points."""

  def even(**options):
    return quantize_buckets([(KERNELS, BucketSpec(**options))])

  short = {'bucket_size': 16}
  drawn = quantize_buckets(
    [(KERNELS, BucketSpec(rounding='stochastic', bucket_size=None))],
    key=jax.random.key(5),
  )
  points = learn_points([(KERNELS, PointSpec(6, **short))])
  kernels = ('conv/kernel', 'fc/kernel')
  return {
    'buckets': Case(even(bits=2, **short)),
    'truncated buckets': Case(even(gradient='truncated', **short)),
    'exact buckets': Case(even(gradient='exact', **short)),
    'stochastic buckets': Case(drawn),
    'intervals': Case(quantize_intervals([(KERNELS, AffineSpec(bits=3))])),
    'points': Case(points, frozen=kernels, exact=False),
    'pruned, then buckets': Case(chain(pruned(), even(bits=3))),
    'buckets, then pruned': Case(chain(even(bits=3, **short), pruned())),
  }


def codebooks():
  """Values that are shared: of every kind, learned or not, and pruned."""
  kernels = ('conv/kernel', 'fc/kernel')
  shared = share_weights([(KERNELS, SharedSpec(centroids=8))])
  products = [
    ('conv/kernel', ProductSpec(centroids=6, length=2)),
    ('fc/kernel', ProductSpec(centroids=2, length=7)),
  ]
  stages = [(KERNELS, ResidualSpec(centroids=2, stages=2))]
  ramp = prune.cubic(3, interval=1, initial=0.3)
  methods = {
    'shared': shared,
    'signs': binarize_signs([(KERNELS, SignSpec())], learned=True),
    'products': quantize_products(products),
    'residuals': quantize_residuals(stages, learned=True),
    'pruned then shared': chain(pruned(), shared),
    'pruned more, shared': chain(pruned(schedule=ramp), shared),
    'shared then pruned': chain(shared, pruned()),
  }
  return {
    name: Case(m, frozen=kernels, exact=False) for name, m in methods.items()
  }


CASES = {
  'identity': Case(identity(), ()),
  'empty chain': Case(chain(), ()),
  'static': Case(weights()),
  'dynamic': Case(weights(dynamic=True, gradient='identity')),
  'learned': Case(weights(learned=True, granularity='channel')),
  'learned group': Case(
    weights(learned=True, bits=3, granularity='group', group_size=8)
  ),
  'mse': Case(
    weights(bits=4, granularity='channel', options={'range_fn': mse_range})
  ),
  'dynamic mse': Case(
    weights(bits=4, dynamic=True, options={'range_fn': mse_range})
  ),
  'group': Case(weights(bits=4, granularity='group', group_size=8)),
  'asymmetric group': Case(
    weights(
      bits=4,
      granularity='group',
      group_size=8,
      symmetric=False,
      bounds='unsigned',
    )
  ),
  'stochastic': Case(
    weights(bits=4, rounding='stochastic', options={'key': jax.random.key(7)})
  ),
  'half away': Case(weights(bits=4, rounding='half_away', bounds='full')),
  'power of two': Case(weights(bits=7, power_of_two=True)),
  'asymmetric': Case(
    weights(bits=6, symmetric=False, bounds='full', granularity='channel')
  ),
  'quantface': Case(
    weights(
      bits=6,
      symmetric=False,
      bounds='full',
      granularity='channel',
      gradient='identity',
      dynamic=True,
    )
  ),
  'two widths': Case(
    quantize_weights(
      [
        ('conv/.*', compressor_lib.KEEP),
        ('fc/kernel', AffineSpec(bits=16)),
        ('fc/bias', AffineSpec(bits=5, symmetric=False, bounds='full')),
      ]
    ),
    ('fc/bias', 'fc/kernel'),
  ),
  **{
    f'{bits} bits': Case(weights(bits=bits, granularity='channel'))
    for bits in (2, 4, 8, 16)
  },
  'asymmetric 16 bits': Case(
    weights(bits=16, symmetric=False, bounds='unsigned')
  ),
  **buckets(),
  **codebooks(),
  **learning_masks(),
  **chained(),
  **pruning(),
}


def make_params(seed=0):
  """Float32 and bfloat16 leaves; the bfloat16 ones are of no tidy size."""
  keys = jax.random.split(jax.random.key(seed), 4)
  return {
    'conv': {
      'kernel': jax.random.normal(keys[0], (3, 3, 2, 5)),
      'bias': jax.random.normal(keys[1], (5,)),
    },
    'bn': {'scale': jnp.array([1.0, -0.0, 1e-30])},
    'fc': {
      'kernel': jax.random.normal(keys[2], (7, 3), jnp.bfloat16),
      'bias': jax.random.normal(keys[3], (3,), jnp.bfloat16),
    },
  }


@pytest.fixture(params=CASES)
def case(request):
  return CASES[request.param]


def by_path(tree, **options):
  leaves = jax.tree_util.tree_leaves_with_path(tree, **options)
  return {graph.path_string(path): leaf for path, leaf in leaves}


def kinds(tree):
  return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


def bits(array):
  return np.asarray(array).tobytes()


def assert_same(tree, expected, *, exact=True):
  """To the bit; where it is not exact, floats may be two roundings apart."""
  assert jax.tree.structure(tree) == jax.tree.structure(expected)
  expected = by_path(expected)
  for path, leaf in by_path(tree).items():
    right = expected[path]
    assert leaf.dtype == right.dtype, path
    if exact or not jnp.issubdtype(leaf.dtype, jnp.floating):
      assert bits(leaf) == bits(right), path
    else:
      few = 2 * float(jnp.finfo(leaf.dtype).eps)
      leaf, right = (np.asarray(x, np.float32) for x in (leaf, right))
      np.testing.assert_allclose(leaf, right, rtol=few, atol=few, err_msg=path)


def test_keeps_structure_shapes_and_types(case):
  method = case.method

  def run(params):
    state = method.init(params)
    return (
      method.apply(params, state),
      state,
      method.update(params, state, step=1),
    )

  params = make_params()
  out, state, updated = jax.eval_shape(run, params)
  assert isinstance(state, State)
  assert kinds(out) == kinds(params)
  assert kinds(updated) == kinds(state)


def test_touches_what_it_says_and_nothing_else(case):
  params = make_params()
  state = case.method.init(params)
  out = by_path(case.method.apply(params, state))
  tree = case.method.pack(params, state)
  found = by_path(tree, is_leaf=packed.is_packed)
  assert tuple(found) == tuple(by_path(params))
  for path, leaf in by_path(params).items():
    plain = isinstance(found[path], packed.Dense)
    assert plain == (path not in case.touched), path
    # Sixteen bits hold what bfloat16 does.
    if plain or leaf.dtype == jnp.float32:
      assert (bits(out[path]) == bits(leaf)) == plain, path


@pytest.mark.slow
def test_compiles_once_over_a_schedule(case):
  params = make_params()
  traces = []

  def step(params, state, step):
    traces.append(step)
    grads = jax.tree.map(jnp.ones_like, params)
    state = case.method.update(params, state, step=step, grads=grads)
    return case.method.apply(params, state), state

  jitted = jax.jit(step)
  state = plain = case.method.init(params)
  for i in range(4):
    out, state = jitted(params, state, i)
    plain = case.method.update(params, plain, step=i)
    assert_same(out, case.method.apply(params, plain))
    params = jax.tree.map(lambda p: p * jnp.asarray(0.75, p.dtype), params)
  assert len(traces) == 1
  assert jitted._cache_size() == 1


def test_vmaps_over_seeds(case):
  method = case.method

  def run(params):
    state = method.update(params, method.init(params), step=2)
    return state, method.apply(params, state)

  seeds = [make_params(seed) for seed in range(3)]
  together = jax.jit(jax.vmap(run))(
    jax.tree.map(lambda *leaves: jnp.stack(leaves), *seeds)
  )
  one = jax.jit(run)
  for i, params in enumerate(seeds):
    found = jax.tree.map(lambda x, i=i: x[i], together)
    assert_same(found, one(params), exact=case.exact)


def test_survives_a_checkpoint(case, tmp_path):
  params = make_params()
  state = case.method.update(params, case.method.init(params), step=3)
  optimizer = optax.sgd(0.1)
  key = jax.random.key(0)

  def train_state(params, state):
    trained = {'params': params, 'learned': state.learned}
    return train.init_state(trained, optimizer, state.carried, key)

  train.save(tmp_path, train_state(params, state))
  other = make_params(1)
  found = train.restore(tmp_path, train_state(other, case.method.init(other)))
  restored = State(found.params['learned'], found.carried)
  assert_same(found.params['params'], params)
  assert_same(restored, state)
  assert_same(
    case.method.apply(found.params['params'], restored),
    case.method.apply(params, state),
  )


def test_unpacked_is_applied(case):
  params = make_params()
  state = case.method.update(params, case.method.init(params), step=2)
  # Trained on: no longer the numbers that the state was made from.
  params = jax.tree.map(lambda p: p * jnp.asarray(1.25, p.dtype), params)
  applied = case.method.apply(params, state)
  tree = case.method.pack(params, state)
  assert_same(packed.unpack_tree(tree), applied)
  jitted = jax.jit(lambda p, s: packed.unpack_tree(case.method.pack(p, s)))
  assert_same(jitted(params, state), applied)
  assert_same(jax.jit(case.method.apply)(params, state), applied)


def test_a_file_takes_no_more_bytes_than_it_reports(case, tmp_path):
  params = make_params()
  state = case.method.init(params)
  tree = case.method.pack(params, state)
  path = tmp_path / 'network.safetensors'
  size = encode.save(path, tree, codecs=encode.plain_codecs)
  data = path.read_bytes()
  header = struct.unpack('<Q', data[:8])[0]
  assert size == len(data)
  # Fewer where no code is as wide as it might be.
  assert len(data) - 8 - header <= packed.tree_nbytes(tree)
  offsets = [
    entry['data_offsets']
    for name, entry in json.loads(data[8 : 8 + header]).items()
    if name != '__metadata__'
  ]
  assert max(end for _, end in offsets) == len(data) - 8 - header
  assert packed.tree_nominal_bytes(tree) <= packed.tree_nbytes(tree)
  loaded = packed.unpack_tree(encode.load(path).tree)
  assert_same(loaded, case.method.apply(params, state))


def test_gradients_reach_what_is_trained(case):
  params = make_params()
  state = case.method.init(params)
  targets = make_params(1)

  def loss(params, learned, carried):
    out = case.method.apply(params, State(learned, carried))
    squares = jax.tree.map(
      lambda a, b: ((a - b - 1).astype(jnp.float32) ** 2).sum(), out, targets
    )
    return sum(jax.tree.leaves(squares))

  grads = jax.grad(loss, (0, 1, 2), allow_int=True)
  to_params, to_learned, to_carried = jax.jit(grads)(
    params, state.learned, state.carried
  )
  for path, grad in by_path((to_params, to_learned)).items():
    assert np.isfinite(grad.astype(jnp.float32)).all(), path
    frozen = path.removeprefix('0/') in case.frozen
    assert np.any(grad.astype(jnp.float32) != 0) != frozen, path
  for path, grad in by_path(to_carried).items():
    assert grad.dtype == jax.dtypes.float0 or not np.any(grad), path


def test_learned_and_carried_are_arrays(case):
  state = case.method.init(make_params())
  for path, leaf in by_path(state).items():
    assert isinstance(leaf, jax.Array), path
  for path, leaf in by_path(state.learned).items():
    assert jnp.issubdtype(leaf.dtype, jnp.floating), path
