import jax.numpy as jnp
import numpy as np
import pytest

from compress import deploy, graph, packed, quantize
from compress.errors import InputError
from compress.packed import Quantized
from tests.deploy import test_onnx_export as example


def test_powers_of_two_leave_nothing_to_round():
  apply, variables = example.chain(convex=True)
  x = example.images(8)
  two = {'power_of_two': True}
  tree, given, simulate = example.quantized(
    apply,
    variables,
    x,
    activation=quantize.AffineSpec(symmetric=False, bounds='unsigned', **two),
    weight=quantize.AffineSpec(granularity='channel', **two),
  )
  out = example.lowered(apply, tree, x, **given)(x)
  np.testing.assert_array_equal(out, simulate(x))


def test_sums_are_exact_beyond_what_float32_holds():
  rows, columns = 4096, 3
  codes = np.full((rows, columns), 127, np.int8)
  codes[::2, 1] = -126
  codes[1, 2] = 126
  tree = {
    'kernel': Quantized(
      jnp.asarray(codes), jnp.ones((1, columns)), None, bits=8
    )
  }

  def apply(variables, x):
    return x @ variables['kernel']

  given = {
    'specs': {'dot_general_0': example.ACTIVATION},
    'activations': {
      'dot_general_0': quantize.QParams(jnp.ones(()), jnp.int32(-128))
    },
  }
  x = np.full((2, rows), 255, np.float32)
  x[1, ::3] = 254
  name = graph.trace(apply, packed.unpack_tree(tree), x).sites[0].name
  given = {k: dict.fromkeys([name], *v.values()) for k, v in given.items()}
  exact = x.astype(np.int64) @ codes.astype(np.int64)
  assert np.abs(exact).max() > 2**24
  out = example.lowered(apply, tree, x, **given)(x)
  np.testing.assert_array_equal(out, exact.astype(np.float32))


def test_a_float_network_is_as_it_was():
  apply, variables = example.chain()
  x = example.images(3)
  out = example.lowered(apply, variables, x)(x)
  np.testing.assert_allclose(out, apply(variables, x), atol=2e-6)


def test_any_batch_can_be_exported():
  apply, variables = example.chain(convex=True)
  x = example.images(8)
  tree, given, _ = example.quantized(apply, variables, x)
  network = deploy.lower(apply, tree, x[:1], **given)
  program = deploy.to_stablehlo(network.apply, network.variables, x[:1])
  kernels = [v for k, v in program.weights.items() if k.endswith('codes')]
  assert len(kernels) == 5
  assert {v.dtype for v in kernels} == {np.dtype(np.int8)}
  run = deploy.compile_program(program)
  out = example.lowered(apply, tree, x, **given)
  for count in (1, 5):
    np.testing.assert_array_equal(run(x[:count]), out(x[:count]))


def test_a_scale_that_is_not_finite_is_named():
  apply, variables = example.chain(convex=True)
  x = example.images(2)
  tree, given, _ = example.quantized(apply, variables, x)
  scale = given['activations']['c1'].scale * np.nan
  bad = {**given['activations'], 'c1': quantize.QParams(scale, 0)}
  with pytest.raises(InputError, match="'c1': its scale"):
    deploy.lower(apply, tree, x, **{**given, 'activations': bad})


def test_networks_may_be_deep():
  rng = np.random.default_rng(0)
  kernels = rng.normal(size=(200, 4, 4), scale=0.05).astype(np.float32)
  variables = {'params': {f'layer{i}': k for i, k in enumerate(kernels)}}

  def apply(variables, x):
    for i in range(len(kernels)):
      x = x + jnp.maximum(x @ variables['params'][f'layer{i}'], 0)
    return x

  x = rng.normal(size=(2, 4)).astype(np.float32)
  want = apply(variables, x)
  out = example.lowered(apply, variables, x)(x)
  np.testing.assert_allclose(out, want, rtol=1e-5)
  session = deploy.open_session(deploy.to_onnx(apply, variables, x))
  np.testing.assert_allclose(example.run(session, x), want, rtol=1e-5)
