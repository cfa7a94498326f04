"""Quantized activations: a rule for `compress.graph.rewrite`.

Where activations are quantized is a *placement*; with which spec, a plan over
the names that it gives. Ranges are passed in and returned: one observer state,
or one `QParams`, a name.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from compress import graph as graph_lib
from compress.compressor import Plan, Rules, resolve_names
from compress.graph import Emit, Graph, Rule, Site
from compress.quantize import affine, ranges
from compress.quantize.spec import AffineSpec, QParams


class Placement(NamedTuple):
  """Where activations are quantized.

  Attributes:
    name: what reports call it.
    operands: site -> `((name, operand index), ...)`, the operands of a
      convolution or matrix product that are quantized before it.
    outputs: site -> whether a named value is quantized.
  """

  name: str
  operands: Callable[[Site], tuple[tuple[str, int], ...]]
  outputs: Callable[[Site], bool]


def _activation_operands(site: Site) -> tuple[tuple[str, int], ...]:
  if site.weight_operand is not None:
    return ((site.name, 1 - site.weight_operand),)
  return ((f'{site.name}:lhs', 0), (f'{site.name}:rhs', 1))


INPUTS = Placement('inputs', _activation_operands, lambda site: False)
"""The inputs of every convolution and matrix product: integer-executable.

A product of two activations (attention) has both operands quantized, under
the names `<site>:lhs` and `<site>:rhs`.
"""

_QUANTFACE = re.compile(r'(.*/)?(prelu[^/]*|add)(#\d+)?')

QUANTFACE = Placement(
  'quantface',
  lambda site: (),
  lambda site: _QUANTFACE.fullmatch(site.name) is not None,
)
"""After every PReLU and every residual sum, as QuantFace places them.

Boutros et al. 2022, arXiv:2206.10526, by its released code. The network's
input, BatchNorm outputs and the embedding stay float, so no integer engine
could run the network as it is simulated.
"""


def placed_names(graph: Graph, placement: Placement) -> tuple[str, ...]:
  """Names of the activations that a placement quantizes, in order."""
  names = [n for site in graph.sites for n, _ in placement.operands(site)]
  names += [site.name for site in graph.names if placement.outputs(site)]
  return tuple(names)


def activation_plan(graph: Graph, placement: Placement, rules: Rules) -> Plan:
  """Which activation gets which `AffineSpec`; see `compressor.resolve`."""
  return resolve_names(rules, placed_names(graph, placement))


def activation_rule(
  transform: Callable[[str, jax.Array], jax.Array | Emit],
  placement: Placement,
) -> graph_lib.Rule:
  """A rule that passes every placed activation through a function.

  Args:
    transform: `(name, activation) -> activation`, or an `Emit` of it and of
      something to hand out under the name.
    placement: where.

  Returns:
    A rule for `rewrite`.
  """

  def rule(site, op, *operands):
    emitted = {}

    def through(name, value):
      out = transform(name, value)
      if isinstance(out, Emit):
        emitted[name] = out.aux
        return out.value
      return out

    if site.kind == 'name':
      out = op(*operands)
      if placement.outputs(site):
        out = through(site.name, out)
    else:
      operands = list(operands)
      for name, i in placement.operands(site):
        operands[i] = through(name, operands[i])
      out = op(*operands)
    return Emit(out, emitted) if emitted else out

  return rule


def observe(
  apply: Callable[..., Any],
  placement: Placement,
  specs: Mapping[str, AffineSpec],
  observer,
  *,
  rules: Sequence[Rule] = (),
) -> Callable[..., Any]:
  """The same function, which also updates the ranges of its activations.

  Args:
    apply: pure function `apply(variables, *inputs)`.
    placement: where activations are quantized.
    specs: name to spec; other names are not observed.
    observer: one of `compress.quantize.observers`.
    rules: further rules for `rewrite`, which see the sites after this one
      (`graph.cpu_rules()`). A function that they have already rewritten has
      lost the sites that they replaced.

  Returns:
    `(variables, states, *inputs) -> (out, states)`; `states` maps name to
    observer state; `observer.init(())` is the first.

  Raises:
    NotImplementedError: when traced, naming the activation, if one with a
      static spec lies inside `scan`.
  """

  def observed(variables, states, *inputs):
    def transform(name, x):
      if specs[name].dynamic:
        return x
      seen = jax.lax.stop_gradient(x)
      return Emit(x, observer.update(states[name], seen))

    out, updated = _run(
      apply, transform, placement, specs, rules, variables, *inputs
    )
    return out, _moved_on(states, updated)

  return observed


def observe_and_quantize(
  apply: Callable[..., Any],
  placement: Placement,
  specs: Mapping[str, AffineSpec],
  observer,
  *,
  rules: Sequence[Rule] = (),
) -> Callable[..., Any]:
  """The same function, quantized with ranges that it updates as it goes.

  As QuantFace trains: the range of an activation takes in the batch, then the
  batch is quantized with it.

  Args:
    apply: pure function `apply(variables, *inputs)`.
    placement: where activations are quantized.
    specs: name to static spec; other names stay float.
    observer: one of `compress.quantize.observers`.
    rules: as in `observe`.

  Returns:
    `(variables, states, active, *inputs) -> (out, states)`; where the bool []
    `active` is False, the ranges stay as they are.
  """

  def quantized(variables, states, active, *inputs):
    def transform(name, x):
      old, spec = states[name], specs[name]
      new = observer.update(old, jax.lax.stop_gradient(x))
      new = jax.tree.map(lambda n, o: jnp.where(active, n, o), new, old)
      q = ranges.qparams_from_range(*observer.range(new, spec), spec)
      return Emit(affine.fake_quantize(x, q, spec), new)

    out, updated = _run(
      apply, transform, placement, specs, rules, variables, *inputs
    )
    return out, _moved_on(states, updated)

  return quantized


def quantize_activations(
  apply: Callable[..., Any],
  placement: Placement,
  specs: Mapping[str, AffineSpec],
  *,
  quantizer: Callable[..., jax.Array] | None = None,
  rules: Sequence[Rule] = (),
) -> Callable[..., Any]:
  """The same function with its activations fake-quantized.

  Args:
    apply: pure function `apply(variables, *inputs)`.
    placement: where activations are quantized.
    specs: name to spec; other names stay float. Dynamic specs need no
      parameters.
    quantizer: `(x, parameters, spec) -> x_hat`; `affine.fake_quantize` by
      default, `lsq.lsq` to learn the scales.
    rules: as in `observe`.

  Returns:
    `(variables, parameters, *inputs) -> out`; `parameters` maps name to
    `QParams` (or whatever `quantizer` takes).
  """
  quantizer = quantizer or affine.fake_quantize

  def quantized(variables, parameters, *inputs):
    def transform(name, x):
      spec = specs[name]
      given = None if spec.dynamic else parameters[name]
      return quantizer(x, given, spec)

    return _run(apply, transform, placement, specs, rules, variables, *inputs)[
      0
    ]

  return quantized


def _moved_on(states, updated):
  """The states with those that were updated, each of its old shape."""
  for name, new in updated.items():
    if jax.tree.map(jnp.shape, new) != jax.tree.map(jnp.shape, states[name]):
      raise NotImplementedError(
        f'activation {name!r} lies inside `scan`, where one range would have '
        'to serve all iterations; give it a dynamic spec'
      )
  return {**states, **updated}


def _run(apply, transform, placement, specs, rules, variables, *inputs):
  """Runs `transform` where the specs say, and insists that it was run there."""
  met = set()

  def noted(name, x):
    met.add(name)
    return transform(name, x) if name in specs else x

  rule = graph_lib.compose(activation_rule(noted, placement), *rules)
  rewritten = graph_lib.rewrite(apply, rule, has_aux=True)
  out, aux = rewritten(variables, *inputs)
  missing = [name for name in specs if name not in met]
  if missing:
    raise ValueError(
      f'the function has no activation {missing[0]!r}; was it rewritten with '
      'rules that replaced the site? Pass those as `rules`'
    )
  return out, {name: v for site in aux.values() for name, v in site.items()}


def observe_batches(
  apply: Callable[..., Any],
  variables,
  batches: Iterable[Any],
  *,
  placement: Placement,
  specs: Mapping[str, AffineSpec],
  observer,
  rules: Sequence[Rule] = (),
) -> dict[str, Any]:
  """Observer states of the activations that example inputs give rise to.

  Args:
    apply: pure function `apply(variables, inputs)`.
    variables: its variables; observe on the quantized weights where they will
      be quantized.
    batches: inputs, all of one shape if one compilation is wanted.
    placement: where activations are quantized.
    specs: name to spec.
    observer: how a range comes from what was seen.
    rules: as in `observe`.

  Returns:
    Name to observer state.
  """
  step = jax.jit(observe(apply, placement, specs, observer, rules=rules))
  states = {n: observer.init(()) for n, s in specs.items() if not s.dynamic}
  for batch in batches:
    _, states = step(variables, states, batch)
  return states


def finalize(
  states: Mapping[str, Any], specs: Mapping[str, AffineSpec], observer
) -> dict[str, QParams]:
  """Parameters of the static specs, from observer states.

  Args:
    states: name to observer state.
    specs: name to spec.
    observer: that made the states.

  Returns:
    Name to `QParams`.
  """
  found = {}
  for spec in dict.fromkeys(specs[name] for name in states):
    names = [name for name in states if specs[name] == spec]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *(states[n] for n in names))

    def qparams(state, spec=spec):
      return ranges.qparams_from_range(*observer.range(state, spec), spec)

    # Compiled once a spec: a search over ranges would else compile a name.
    every = jax.jit(jax.vmap(qparams))(stacked)
    for i, name in enumerate(names):
      found[name] = jax.tree.map(lambda leaf, i=i: leaf[i], every)
  return {name: found[name] for name in states}


def calibrate(
  apply: Callable[..., Any],
  variables,
  batches: Iterable[Any],
  *,
  placement: Placement,
  specs: Mapping[str, AffineSpec],
  observer,
  rules: Sequence[Rule] = (),
) -> dict[str, QParams]:
  """Static parameters from example inputs: `observe_batches`, `finalize`."""
  states = observe_batches(
    apply,
    variables,
    batches,
    placement=placement,
    specs=specs,
    observer=observer,
    rules=rules,
  )
  return finalize(states, specs, observer)
