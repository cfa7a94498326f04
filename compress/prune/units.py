"""The outputs of a model's units: gates on them, and taps that hand them out.

No model is edited: both rewrite it (`compress.graph.rewrite`). Where the units
are is a *place*:

* `<name>`: the value named so with `checkpoint_name`;
* `<site>`: the result of a convolution or matrix product, before its bias;
* `<site>:input`: the activation that goes into it.

The output of a unit is what comes after its non-linearity, so the first and
the last kind are usually meant. Units lie along the channel axis: that of a
convolution by its dimension numbers, the contracted one of a product's input,
else the last.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from compress import graph as graph_lib
from compress.errors import InputError
from compress.graph import Emit, Graph, Site

INPUT = ':input'


def init_gates(graph: Graph, places: Mapping[str, str]) -> dict[str, jax.Array]:
  """Gates that change nothing.

  Args:
    graph: the model's, from `graph.trace`.
    places: key of the units (say, the path of the kernel that makes them) to
      place.

  Returns:
    Key to float32 ones [C].

  Raises:
    InputError: a place is not in the model.
  """
  sites = {site.name: site for site in (*graph.sites, *graph.names)}
  gates = {}
  for key, place in places.items():
    site = sites.get(place.removesuffix(INPUT))
    if site is None:
      raise InputError(_unknown([place]))
    if place.endswith(INPUT):
      shapes, operand = (site.lhs_shape, site.rhs_shape), _activation(site)
      size = shapes[operand][_input_axis(site, operand)]
    else:
      shape = site.lhs_shape if site.kind == 'name' else site.out_shape
      size = shape[_output_axis(site)]
    gates[key] = jnp.ones(size)
  return gates


def gate_units(
  apply: Callable[..., Any], places: Mapping[str, str]
) -> Callable[..., Any]:
  """The same function with a gate on every unit.

  A gate of 1 leaves its unit, one of 0 removes it. Inside a `scan` all
  iterations share a gate, and its derivative is the sum over them.

  Args:
    apply: pure function `apply(variables, *inputs)`.
    places: key to place.

  Returns:
    `(variables, gates, *inputs) -> out`; `gates` maps key to [C].

  Raises:
    InputError: when traced, if a place is not in the model.
  """
  keys = _by_place(places)

  def gated(variables, gates, *inputs):
    seen = set()

    def transform(place, value, axis):
      if place not in keys:
        return value
      seen.add(place)
      shape = [1] * value.ndim
      shape[axis] = -1
      return value * gates[keys[place]].reshape(shape).astype(value.dtype)

    def rule(site, op, *operands):
      operands = list(operands)
      if site.name + INPUT in keys:
        i = _activation(site)
        axis = _input_axis(site, i)
        operands[i] = transform(site.name + INPUT, operands[i], axis)
      return transform(site.name, op(*operands), _output_axis(site))

    out = graph_lib.rewrite(apply, rule)(variables, *inputs)
    _check_seen(keys, seen)
    return out

  return gated


def tap_units(
  apply: Callable[..., Any], places: Mapping[str, str]
) -> Callable[..., Any]:
  """The same function, which also hands out the outputs of units.

  Args:
    apply: pure function `apply(variables, *inputs)`.
    places: key to place.

  Returns:
    `(variables, *inputs) -> (out, outputs)`; `outputs` maps key to [..., C],
    the units last. Differentiable.

  Raises:
    InputError: when traced, if a place is not in the model.
  """
  keys = _by_place(places)

  def tapped(variables, *inputs):
    def rule(site, op, *operands):
      out, found = op(*operands), {}
      if site.name + INPUT in keys:
        i = _activation(site)
        found[keys[site.name + INPUT]] = jnp.moveaxis(
          operands[i], _input_axis(site, i), -1
        )
      if site.name in keys:
        found[keys[site.name]] = jnp.moveaxis(out, _output_axis(site), -1)
      return Emit(out, found) if found else out

    out, aux = graph_lib.rewrite(apply, rule, has_aux=True)(variables, *inputs)
    found = {k: v for part in aux.values() for k, v in part.items()}
    _check_seen(keys, {places[key] for key in found})
    return out, {key: found[key] for key in places}

  return tapped


def _by_place(places):
  keys = {place: key for key, place in places.items()}
  if len(keys) < len(places):
    raise InputError(
      f'places {list(places.values())} repeat; right is one key a place'
    )
  return keys


def _check_seen(keys, seen):
  missing = sorted(set(keys) - seen)
  if missing:
    raise InputError(_unknown(missing))


def _unknown(places):
  return (
    f'no place {", ".join(map(repr, places))} in the model; right is the name '
    f'of a site or named value of graph.trace, with {INPUT!r} for its input'
  )


def _activation(site: Site) -> int:
  """The operand that is no weight."""
  if site.kind == 'name' or site.weight_operand is None:
    raise InputError(
      f'{site.name!r} has no single activation as input; right is a '
      'convolution or matrix product with a weight'
    )
  return 1 - site.weight_operand


def _input_axis(site: Site, operand: int) -> int:
  numbers = site.params['dimension_numbers']
  if site.kind == 'conv':
    return (numbers.lhs_spec, numbers.rhs_spec)[operand][1]
  contracted = numbers[0][operand]
  if len(contracted) != 1:
    raise InputError(
      f'{site.name!r} contracts {len(contracted)} axes; right is one'
    )
  return contracted[0]


def _output_axis(site: Site) -> int:
  if site.kind == 'conv':
    return site.params['dimension_numbers'].out_spec[1]
  if site.kind == 'dot' and site.weight_operand == 0:
    return len(site.params['dimension_numbers'][1][0])
  return -1
