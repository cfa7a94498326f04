"""Quantized networks and their simulation, for the tests of integers."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress import graph, quantize
from compress.packed import unpack_tree
from compress.quantize import AffineSpec, integer, integer_program
from compress.quantize.integer_values import make_grid

WEIGHTS = AffineSpec(granularity='channel')
ACTIVATIONS = AffineSpec(symmetric=False, bounds='unsigned')


class Example(NamedTuple):
  """A quantized network: as `convert` takes it, and simulated.

  `twin(images)` are the simulated outputs, `taps(images)` the activations by
  name, before they are quantized.
  """

  apply: Any
  variables: Any
  images: np.ndarray
  activations: dict[str, quantize.QParams]
  specs: dict[str, AffineSpec]
  placement: quantize.Placement
  twin: Any

  def convert(self, **options) -> integer.IntegerNetwork:
    return integer.convert(
      self.apply,
      self.variables,
      self.images[:1],
      activations=self.activations,
      specs=self.specs,
      placement=self.placement,
      **options,
    )


def module_example(module, images, *, seed=0, **options) -> Example:
  """Of a Flax module, BatchNorm statistics drawn, then folded."""
  variables = jax.jit(module.init)(jax.random.key(seed), images)
  rng = np.random.default_rng(seed)

  def drawn(path, leaf):
    kind = path[-1].key
    low, high = {
      'var': (0.5, 2.0),
      'mean': (-0.3, 0.3),
      'bias': (-0.3, 0.3),
      'slope': (0.0, 0.4),
    }.get(kind, (None, None))
    if low is None:
      return leaf
    return jnp.asarray(rng.uniform(low, high, leaf.shape), leaf.dtype)

  variables = jax.tree_util.tree_map_with_path(drawn, variables)
  folded = graph.fold(module.apply, variables, images)
  return example(folded.apply, folded.variables, images, **options)


def example(
  apply,
  variables,
  images,
  *,
  weights=WEIGHTS,
  activations=ACTIVATIONS,
  placement=quantize.INPUTS,
) -> Example:
  """Of a function and its float variables `{'params': ...}`."""
  others = {k: v for k, v in variables.items() if k != 'params'}
  compressor = quantize.quantize_weights([('(.*/)?kernel', weights)])
  params = variables['params']
  packed = jax.jit(lambda p: compressor.pack(p, compressor.init(p)))(params)
  plain = {**others, 'params': unpack_tree(packed)}
  traced = graph.trace(apply, plain, images)
  plan = quantize.activation_plan(traced, placement, [('.*', activations)])
  qparams = quantize.calibrate(
    apply,
    plain,
    [images],
    placement=placement,
    specs=plan.specs,
    observer=quantize.minmax(),
  )
  run = jax.jit(quantize.quantize_activations(apply, placement, plan.specs))

  def twin(x):
    return run(plain, qparams, x)

  return Example(
    apply,
    {**others, 'params': packed},
    np.asarray(images),
    qparams,
    plan.specs,
    placement,
    twin,
  )


def float_operations(function, *args) -> list[str]:
  """Operations of the jaxpr, nested ones too, that see a float."""
  found = []

  def walk(jaxpr):
    jaxpr = getattr(jaxpr, 'jaxpr', jaxpr)
    for eqn in jaxpr.eqns:
      atoms = [*eqn.invars, *eqn.outvars]
      if any(jnp.issubdtype(a.aval.dtype, jnp.inexact) for a in atoms):
        found.append(str(eqn))
      for value in eqn.params.values():
        for inner in value if isinstance(value, tuple | list) else [value]:
          if hasattr(inner, 'eqns') or hasattr(inner, 'jaxpr'):
            walk(inner)

  walk(jax.make_jaxpr(function)(*args))
  return found


def code_differences(example: Example, network, images) -> dict[str, int]:
  """Largest difference of codes of each activation, given the same inputs.

  Every layer gets the codes that the simulation has there, so that what is
  seen is one layer's difference and not the sum of all before it.
  """
  params = unpack_tree(example.variables['params'])
  plain = {**example.variables, 'params': params}

  def tap(name, x):
    q, spec = example.activations[name], example.specs[name]
    codes = quantize.quantize(x, q, spec)
    return graph.Emit(quantize.dequantize(codes, q, spec), codes)

  rule = quantize.activation_rule(tap, example.placement)
  run = jax.jit(graph.rewrite(example.apply, rule, has_aux=True))
  aux = run(plain, images)[1]
  codes = {name: c for site in aux.values() for name, c in site.items()}

  grids = {
    name: make_grid(name, example.activations[name], example.specs[name])
    for name in codes
  }

  @jax.jit
  def step_by_step(variables, codes, x):
    values, found = [x.astype(jnp.int32) - network.inputs.lift], {}
    values = [values[0].astype(network.inputs.stored)]

    def checked(name, value):
      wanted = codes[name].astype(jnp.int32) - grids[name].lift
      found[name] = jnp.abs(wanted - value.astype(jnp.int32)).max()
      return wanted.astype(value.dtype)

    for layer in network.layers:
      operands = [values[i] for i in layer.inputs]
      if layer.op in ('conv', 'dot') and layer.name in codes:
        operands = [checked(layer.name, *operands)]
      given = variables.get(layer.name, {})
      value = integer_program.run_layer(layer, given, *operands)
      name, end, _ = layer.name.partition(':codes')
      outputs = example.placement.name == 'sums' and end
      if outputs and name.endswith(('add', 'embedding', 'logits')):
        value = checked(name, value)
      values.append(value)
    return found

  found = step_by_step(
    network.variables, codes, integer.encode(network, images)
  )
  return {name: int(d) for name, d in found.items()}
