import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress import packed, prune
from compress.compressor import KEEP, State, chain
from compress.errors import InputError

KERNELS = '.*kernel'


def make_params(seed=0):
  keys = jax.random.split(jax.random.key(seed), 3)
  return {
    'conv': {
      'kernel': jax.random.normal(keys[0], (3, 3, 4, 8)),
      'bias': jnp.ones(8),
    },
    'norm': {'scale': jnp.ones((1, 8))},
    'fc': {'kernel': jax.random.normal(keys[1], (16, 10))},
    'head': {'kernel': jax.random.normal(keys[2], (10, 3))},
  }


def counts(state):
  return {p: int(m.sum()) for p, m in prune.masks_of(state).items()}


def test_by_hand():
  params = {'kernel': jnp.array([[0.5, -2.0], [1.5, 0.1]])}
  method = prune.prune_weights([(KERNELS, 0.5)])
  out = method.apply(params, method.init(params))
  np.testing.assert_array_equal(out['kernel'], [[0, -2], [1.5, 0]])


def test_kernels_by_default_and_what_rules_keep():
  method = prune.prune_weights([('head/.*', KEEP), ('.*', 0.5)])
  params = make_params()
  assert counts(method.init(params)) == {'conv/kernel': 144, 'fc/kernel': 80}


@given(
  sparsity=st.floats(0, 0.99),
  scope=st.sampled_from(['uniform', 'global', 'erk']),
)
@settings(max_examples=6, deadline=None)
def test_counts_are_those_of_the_allocation(sparsity, scope):
  allocation = {
    'uniform': prune.uniform(),
    'global': prune.global_threshold(),
    'erk': prune.erdos_renyi(),
  }[scope]
  params = make_params()
  rules = [('head/.*', KEEP), ('.*', sparsity)]
  method = prune.prune_weights(rules, allocation=allocation)
  state = method.init(params)
  leaves = {
    'conv/kernel': jnp.abs(params['conv']['kernel']),
    'fc/kernel': jnp.abs(params['fc']['kernel']),
  }
  expected = allocation(leaves, sparsity)
  assert counts(state) == {p: int(n) for p, n in expected.items()}
  out = method.apply(params, state)
  for path in ('conv', 'norm'):
    for name in set(params[path]) - {'kernel'}:
      assert out[path][name] is params[path][name]
  twice = method.apply(out, state)
  assert all(jax.tree.leaves(jax.tree.map(jnp.array_equal, twice, out)))
  if sparsity == 0:
    assert all(jax.tree.leaves(jax.tree.map(jnp.array_equal, out, params)))


@pytest.mark.parametrize(
  ('options', 'kept'),
  [
    ({}, (72, 40)),
    ({'allocation': prune.global_threshold()}, None),
    (
      {'allocation': prune.global_threshold(), 'rounding': prune.SYNFLOW},
      None,
    ),
    ({'allocation': prune.erdos_renyi_kernel()}, None),
    (
      {'saliency': prune.random_saliency, 'key': jax.random.key(4)},
      (72, 40),
    ),
    ({'saliency': prune.gradient_saliency}, (72, 40)),
    ({'selection': prune.select_n_m(1, 4)}, (72, 40)),
    ({'selection': prune.select_channels()}, (72, 32)),
    ({'selection': prune.select_blocks((2, 2))}, (72, 40)),
  ],
  ids='plain global synflow erk random gradient n:m channels blocks'.split(),
)
def test_a_gradual_schedule_nests(options, kept):
  schedule = prune.cubic(3, interval=2, start=1, initial=0.2)
  rules = [('head/.*', KEEP), (KERNELS, 0.75)]
  method = prune.prune_weights(rules, schedule=schedule, **options)
  params = make_params()
  state = method.init(params)
  assert all(mask.all() for mask in prune.masks_of(state).values())
  update = jax.jit(method.update)
  changed = 0
  for step in range(10):
    before, params = prune.masks_of(state), make_params(step)
    state = update(params, state, step=step, grads=make_params(step + 50))
    after = prune.masks_of(state)
    assert all((after[p] <= before[p]).all() for p in after)
    changed += any((after[p] != before[p]).any() for p in after)
  assert update._cache_size() == 1
  # Units are coarse: some events change none of them.
  assert changed >= (2 if 'selection' in options else 4)
  if kept is not None:
    expected = dict(zip(('conv/kernel', 'fc/kernel'), kept, strict=True))
    assert counts(state) == expected


def test_events_that_were_passed_over_are_made_up_for():
  schedule = prune.iterative(4, interval=10, start=10, geometric=False)
  method = prune.prune_weights([('fc/kernel', 0.8)], schedule=schedule)
  params = make_params()
  state = method.update(params, method.init(params), step=35)
  assert counts(state) == {'fc/kernel': 160 - 96}
  assert int(state.carried['event']) == 3


def test_weights_return_only_where_they_may():
  schedule = prune.cubic(2, interval=1, initial=0.5)
  params = make_params()
  for regrow in (False, True):
    method = prune.prune_weights(
      [('fc/kernel', 0.75)], schedule=schedule, regrow=regrow
    )
    before = method.init(params)
    other = make_params(7)
    after = method.update(other, before, step=5)
    back = (
      prune.masks_of(after)['fc/kernel']
      & ~(prune.masks_of(before)['fc/kernel'])
    )
    assert bool(back.any()) == regrow
    assert counts(after) == {'fc/kernel': 40}


def test_saliency_that_is_given():
  params = make_params()
  saliency = {'fc/kernel': -jnp.abs(params['fc']['kernel'])}
  method = prune.prune_weights([('fc/kernel', 0.5)], saliency=saliency)
  mask = prune.masks_of(method.init(params))['fc/kernel']
  np.testing.assert_array_equal(mask, prune.top_k(saliency['fc/kernel'], 80))


def test_the_same_key_gives_the_same_mask():
  params = make_params()
  masks = []
  for seed in (0, 0, 1):
    method = prune.prune_weights(
      [(KERNELS, 0.5)],
      saliency=prune.random_saliency,
      key=jax.random.key(seed),
    )
    masks.append(prune.masks_of(method.init(params))['fc/kernel'])
  assert (masks[0] == masks[1]).all()
  assert (masks[0] != masks[2]).any()


@pytest.mark.parametrize('gradient', ['masked', 'straight_through'])
def test_gradient_of_removed_weights(gradient):
  params = make_params()
  method = prune.prune_weights([(KERNELS, 0.5)], gradient=gradient)
  state = method.init(params)

  def loss(params):
    out = method.apply(params, state)
    return sum((x**2 + 3 * x).sum() for x in jax.tree.leaves(out))

  grad = jax.grad(loss)(params)['fc']['kernel']
  weights, mask = params['fc']['kernel'], prune.masks_of(state)['fc/kernel']
  removed = 3.0 if gradient == 'straight_through' else 0.0
  expected = jnp.where(mask, 2 * weights + 3, removed)
  np.testing.assert_allclose(grad, expected, rtol=1e-6)


@pytest.mark.parametrize(
  'optimizer',
  [
    optax.adamw(1e-2, weight_decay=0.1),
    optax.sgd(1e-2, momentum=0.9, nesterov=True),
    optax.chain(optax.add_decayed_weights(1e-2), optax.adam(1e-2)),
  ],
  ids=['adamw', 'sgd', 'chain'],
)
def test_removed_weights_stay_removed(optimizer):
  params = make_params()
  method = prune.prune_weights(
    [(KERNELS, 0.6)], schedule=prune.one_shot(step=2)
  )
  state, opt_state = method.init(params), optimizer.init(params)

  @jax.jit
  def step(params, state, opt_state, i):
    grads = jax.grad(
      lambda p: sum(
        ((x - 1) ** 2).sum() for x in jax.tree.leaves(method.apply(p, state))
      )
    )(params)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    params = optax.apply_updates(params, updates)
    state = method.update(params, state, step=i, grads=grads)
    params = prune.remask(params, state)
    opt_state = prune.reset_moments(
      opt_state, prune.masks_of(state), optimizer=optimizer, params=params
    )
    return params, state, opt_state

  with jax.numpy_dtype_promotion('standard'):
    for i in range(5):
      params, state, opt_state = step(params, state, opt_state, i)
  masks = prune.masks_of(state)
  assert counts(state)['fc/kernel'] == 64
  for path, mask in masks.items():
    module, name = path.split('/')
    assert not params[module][name][~mask].any()
    assert params[module][name][mask].all()
  moments = [x for x in jax.tree.leaves(opt_state) if jnp.shape(x) == (16, 10)]
  assert moments
  for moment in moments:
    assert not moment[~masks['fc/kernel']].any()
    assert moment[masks['fc/kernel']].all()


def test_rewind():
  early, params = make_params(1), make_params(2)
  method = prune.prune_weights([('fc/kernel', 0.5)])
  state = method.init(params)
  out = prune.rewind(params, early, state)
  mask = prune.masks_of(state)['fc/kernel']
  np.testing.assert_array_equal(
    out['fc']['kernel'], jnp.where(mask, early['fc']['kernel'], 0)
  )
  np.testing.assert_array_equal(out['conv']['bias'], early['conv']['bias'])
  with pytest.raises(InputError, match='another structure'):
    prune.rewind(params, {'fc': early['fc']}, state)
  early['fc']['kernel'] = early['fc']['kernel'][:3]
  with pytest.raises(InputError, match='fc/kernel: early weights of shape'):
    prune.rewind(params, early, state)


def test_masks_of_a_chain():
  masks = {'fc/kernel': np.arange(160).reshape(16, 10) % 2}
  method = chain(
    prune.fixed_masks(masks), prune.prune_weights([(KERNELS, 0.6)])
  )
  params = make_params()
  state = method.init(params)
  out = method.apply(params, state)
  again = prune.remask(params, state)
  assert all(jax.tree.leaves(jax.tree.map(jnp.array_equal, out, again)))
  assert prune.masks_of(State()) == {}


def test_masks_are_sparse_when_packed():
  params = make_params()
  method = prune.prune_weights(
    [('fc/kernel', 0.75)], selection=prune.select_n_m(1, 4)
  )
  tree = method.pack(params, method.init(params))
  assert isinstance(tree['fc']['kernel'], packed.Sparse)
  assert packed.nbytes(tree['fc']['kernel']) == 40 * 2 // 8 + 40 * 4


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: prune.prune_weights([]), 'set of weights to prune is empty'),
    (lambda: prune.prune_weights([('x', 1.0)]), r"rule 'x': sparsity 1 lies"),
    (lambda: prune.prune_weights([('x', 'a')]), r"rule 'x': .*no number"),
    (lambda: prune.prune_weights([('x', 0.5)]), r"rules \['x'\] cover none"),
    (lambda: prune.prune_weights([('.*bias', 0.5)]), 'cover none'),
    (
      lambda: prune.prune_weights([('.*', prune.PRUNE)]),
      'conv/kernel: uniform needs a sparsity',
    ),
    (
      lambda: prune.prune_weights([('.*', 0.5)], saliency={}),
      'conv/kernel: a saliency for this leaf is missing',
    ),
    (
      lambda: prune.prune_weights(
        [('fc/.*', 0.5)], saliency={'fc/kernel': jnp.ones(3)}
      ),
      r'fc/kernel: a saliency of shape \[3\]',
    ),
    (
      lambda: prune.prune_weights(
        [('.*', 0.5)], saliency=prune.gradient_saliency
      ),
      'needs a gradient',
    ),
    (
      lambda: prune.prune_weights(
        [('.*', 0.5)], selection=prune.select_n_m(2, 4)
      ),
      'head/kernel: 10 entries on axis -2 are no multiple of M=4',
    ),
    (
      lambda: prune.prune_weights(
        [('fc/.*', 0.7)], selection=prune.select_n_m(2, 4)
      ),
      'fc/kernel: 2:4 is a sparsity of 0.5, not of 0.7',
    ),
    (
      lambda: prune.prune_weights(
        [('fc/.*', 0.25)], selection=prune.select_n_m(2, 4)
      ),
      'fc/kernel: 2:4 is a sparsity of 0.5, not of 0.25',
    ),
    (
      lambda: prune.prune_weights(
        [('fc/.*', 0.5)],
        selection=prune.select_n_m(2, 4),
        allocation=prune.global_threshold(),
      ),
      'fc/kernel: 2:4 sparsity fixes the number',
    ),
    (
      lambda: prune.prune_weights(
        [('fc/.*', prune.PRUNE)], allocation=prune.byte_budget(3)
      ),
      'fc/kernel: byte_budget of 3 bytes cannot be met',
    ),
    (lambda: prune.fixed_masks({}), 'no masks'),
    (
      lambda: prune.fixed_masks({'a/kernel': jnp.ones(3)}),
      'a/kernel: a mask of another tree',
    ),
    (
      lambda: prune.fixed_masks({'fc/kernel': jnp.ones((3, 1))}),
      r'fc/kernel: a mask of shape \[3, 1\] for weights of shape \[16, 10\]',
    ),
    (
      lambda: prune.fixed_masks({'fc/kernel': jnp.full((16, 10), 0.5)}),
      'fc/kernel: a mask holds',
    ),
    (
      lambda: prune.fixed_masks({'a': jnp.ones(1)}, gradient='none'),
      "gradient='none'",
    ),
  ],
)
def test_bad_input_is_one_line_that_names_the_path(make, message):
  with pytest.raises(InputError, match=message) as error:
    make().init(make_params())
  assert '\n' not in str(error.value)


def test_masks_of_another_tree_in_a_state():
  method = prune.prune_weights([(KERNELS, 0.5)])
  state = method.init(make_params())
  other = {'fc': {'kernel': jnp.ones((16, 10))}}
  for function in (
    functools.partial(method.apply, other),
    functools.partial(method.pack, other),
    functools.partial(prune.remask, other),
  ):
    with pytest.raises(InputError, match='conv/kernel: a mask of another tree'):
      function(state)
