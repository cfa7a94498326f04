import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import graph
from compress.errors import InputError
from compress.prune import relevance_propagation as lrp
from compress.prune import relevance_rules as lib

Z_PLUS = lib.RelevanceRules(first=None)


def average_pool(x):
  total = jax.lax.reduce_window(
    x, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 1, 1, 1), 'VALID'
  )
  return total / 4.0


class Net(nn.Module):
  """Residual, pools, flatten; with or without biases and norms."""

  bias: bool = False
  norm: bool = False

  @nn.compact
  def __call__(self, x):
    def conv(name, features, stride=1):
      return nn.Conv(
        features,
        (3, 3),
        strides=stride,
        padding=1,
        use_bias=self.bias,
        name=name,
      )

    def norm(name, x):
      if not self.norm:
        return x
      return nn.BatchNorm(use_running_average=True, name=name)(x)

    x = nn.relu(norm('bn1', conv('conv1', 6)(x)))
    y = norm('bn2', conv('conv2', 6)(x))
    x = nn.relu(x + y)
    x = nn.max_pool(x, (2, 2), (2, 2))
    x = nn.leaky_relu(conv('conv3', 8, stride=2)(x))
    x = average_pool(x)
    return nn.Dense(4, use_bias=self.bias, name='head')(x.mean((1, 2)))


@functools.cache
def fixed(bias, norm):
  net = Net(bias, norm)
  x = jax.random.uniform(jax.random.key(9), (3, 6, 6, 2))
  variables = jax.jit(net.init)(jax.random.key(0), x)
  generator = np.random.default_rng(4)
  moved = jax.tree.map(
    lambda a: np.asarray(a) + 0.2 * generator.random(a.shape, np.float32),
    variables,
  )
  return net.apply, moved, x


def build(bias=False, norm=False):
  apply, variables, x = fixed(bias, norm)
  return apply, jax.tree.map(jnp.asarray, variables), x, jnp.array([0, 3, 1])


def dense(variables, x):
  return x @ variables['w']


def back(apply, weights, x, **options):
  options = {'rules': Z_PLUS, **options}
  labels = jnp.zeros(len(x), int)
  return lrp.propagate_relevance(apply, weights, x, labels, **options)


@pytest.mark.parametrize(
  'rules',
  [
    Z_PLUS,
    lib.RelevanceRules(lib.EpsilonRule(), None),
    lib.RelevanceRules(lib.EpsilonRule()),
  ],
)
def test_golden_relevance_of_a_neuron(rules):
  if rules.first is not None:
    rules = lib.RelevanceRules(lib.EpsilonRule(), lib.BoxRule(0.0, 4.0))
  weights = {'w': jnp.ones((2, 1))}
  found = back(dense, weights, jnp.array([[1.0, 2.0]]), rules=rules)
  np.testing.assert_allclose(found.inputs[0], [[1, 2]], rtol=1e-6)


def test_golden_alpha_beta():
  # p = 1*1 + 2*1 = 3, n = -1; R = 2: alpha 2 and beta -1 by hand.
  weights = {'w': jnp.array([[1.0], [1.0], [-1.0]])}
  rules = lib.RelevanceRules(lib.AlphaBetaRule(2.0, -1.0), first=None)
  x = jnp.array([[1.0, 2.0, 1.0]])
  found = back(dense, weights, x, rules=rules)
  np.testing.assert_allclose(found.inputs[0], [[4 / 3, 8 / 3, -2]], rtol=1e-6)


def test_positive_parts_are_those_of_the_products():
  # x w = (3, -2): only the first is positive, though w is negative there.
  weights = {'w': jnp.array([[-3.0], [-2.0]])}
  found = back(dense, weights, jnp.array([[-1.0, 1.0]]))
  np.testing.assert_allclose(found.inputs[0], [[1, 0]], rtol=1e-6)


def test_golden_box():
  # (x w - l w+ - h w-) = (1 + 1, -2 + 2) for l, h = -1, 1 and w = (1, -2).
  weights = {'w': jnp.array([[1.0], [-2.0]])}
  rules = lib.RelevanceRules()
  found = back(
    dense, weights, jnp.array([[1.0, 0.5]]), rules=rules, start='one'
  )
  # x w - l w+ - h w-: 1 + 1 = 2 and -1 + 2 = 1.
  np.testing.assert_allclose(found.inputs[0], [[2 / 3, 1 / 3]], rtol=1e-6)


@pytest.mark.parametrize(
  'rules',
  [
    Z_PLUS,
    lib.RelevanceRules(),
    lib.RelevanceRules(lib.AlphaBetaRule(2.0, -1.0)),
    lib.RelevanceRules(lib.EpsilonRule(), first=None),
  ],
)
def test_every_layer_conserves_relevance(rules):
  apply, variables, x, labels = build(bias=True)

  @jax.jit
  def sums(variables, x):
    found = lrp.propagate_relevance(apply, variables, x, labels, rules=rules)
    layers = {name: jnp.sum(a.value) for name, a in found.sites.items()}
    return found.out, layers, jnp.sum(found.inputs[0])

  out, layers, first = sums(variables, x)
  total = np.sum(np.take_along_axis(out, labels[:, None], 1))
  assert set(layers) == {'conv1', 'conv2', 'conv3', 'head'}
  for name in ('head', 'conv3'):
    np.testing.assert_allclose(layers[name], total, rtol=1e-4)
  np.testing.assert_allclose(first, total, rtol=1e-3)


def test_a_residual_addition_splits_in_proportion():
  def apply(variables, x):
    y = x @ variables['w']
    return jnp.sum(x + y, axis=1, keepdims=True)

  # w doubles and swaps: y = (4, 2) beside x = (1, 2); R is x + y = (5, 4).
  weights = {'w': jnp.array([[0.0, 2.0], [2.0, 0.0]])}
  found = back(apply, weights, jnp.array([[1.0, 2.0]]))
  np.testing.assert_allclose(found.sites['w'].value, [[4, 2]], rtol=1e-6)
  np.testing.assert_allclose(found.inputs[0], [[1 + 2, 2 + 4]], rtol=1e-6)


@pytest.mark.parametrize('bias', [False, True])
def test_lrp_0_is_gradient_times_input(bias):
  apply, variables, x, labels = build(bias=bias)

  @jax.jit
  def both(x):
    def chosen(x):
      logits = apply(variables, x)
      return jnp.sum(jnp.take_along_axis(logits, labels[:, None], 1))

    found = lrp.propagate_relevance(
      apply, variables, x, labels, rules=lib.LRP_0
    )
    return found.inputs[0], x * jax.grad(chosen)(x)

  np.testing.assert_allclose(*both(x), atol=1e-5)


def test_the_scale_of_a_layer_does_not_matter():
  apply, variables, x, labels = build()
  scaled = jax.tree.map(lambda a: a, variables)
  scaled['params']['conv3']['kernel'] *= 7.0

  @jax.jit
  def back(variables):
    options = {'rules': Z_PLUS, 'start': 'one'}
    found = lrp.propagate_relevance(apply, variables, x, labels, **options)
    return found.inputs[0]

  np.testing.assert_allclose(back(variables), back(scaled), atol=1e-5)


def test_saliency_of_filters_adds_up_over_samples():
  apply, variables, x, labels = build(bias=True, norm=True)
  whole = lrp.filter_relevance(apply, variables, x, labels)
  assert {k: v.shape for k, v in whole.items()} == {
    'conv1/kernel': (6,),
    'conv2/kernel': (6,),
    'conv3/kernel': (8,),
    'head/kernel': (4,),
  }
  parts = [
    lrp.filter_relevance(apply, variables, x[part], labels[part])
    for part in (slice(0, 1), slice(1, 3))
  ]
  for path, value in whole.items():
    np.testing.assert_allclose(
      value, sum(part[path] for part in parts), rtol=1e-3, atol=1e-5
    )
  normal = lrp.filter_relevance(apply, variables, x, labels, normalize=True)
  np.testing.assert_allclose(np.sum(normal['conv2/kernel']), 1, rtol=1e-5)


def test_norms_are_folded_first():
  apply, variables, x, labels = build(norm=True)
  folded = graph.fold(apply, variables, x)
  expected = lrp.filter_relevance(
    folded.apply, folded.variables, x, labels, fold=False
  )
  found = lrp.filter_relevance(apply, variables, x, labels)
  for path, value in found.items():
    np.testing.assert_allclose(value, expected[path], rtol=1e-5)


def test_permuted_filters_have_permuted_saliencies():
  apply, variables, x, labels = build()
  order = np.array([3, 1, 0, 5, 4, 2, 7, 6])
  permuted = jax.tree.map(lambda a: a, variables)
  params = permuted['params']
  params['conv3']['kernel'] = params['conv3']['kernel'][..., order]
  params['head']['kernel'] = params['head']['kernel'][order]
  found = lrp.filter_relevance(apply, variables, x, labels)['conv3/kernel']
  moved = lrp.filter_relevance(apply, permuted, x, labels)['conv3/kernel']
  np.testing.assert_allclose(moved, found[order], rtol=1e-4)


@pytest.mark.parametrize(
  ('apply', 'words'),
  [
    (lambda v, x: jax.nn.swish(x @ v['w']), 'mul.*two activations'),
    (lambda v, x: jax.nn.softmax(x @ v['w']), 'logits'),
    (lambda v, x: (x @ v['w']) @ (x.T @ x), 'dot_general at site'),
    (lambda v, x: jax.lax.map(lambda r: r @ v['w'], x), 'scan'),
    (lambda v, x: jnp.sum(x @ v['w']), 'logits'),
  ],
)
def test_what_has_no_rule_is_refused(apply, words):
  with pytest.raises(InputError, match=words):
    back(apply, {'w': jnp.eye(2)}, jnp.ones((2, 2)), rules=lib.RelevanceRules())


def test_parallel_shares_must_add_up():
  with pytest.raises(InputError, match='add up to 1'):
    lib.AlphaBetaRule(2.0, 1.0)
  with pytest.raises(InputError, match='below'):
    lib.BoxRule(1.0, 1.0)
  with pytest.raises(InputError, match='absorb'):
    lib.RelevanceRules(bias='keep')
