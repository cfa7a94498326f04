"""Dynamic layer-wise channel selection: each sample picks its channels.

Wang, Zhang, Hu, Zhang, Su 2020, 'Dynamic network pruning with interpretable
layerwise channel selection', AAAI 34(04), doi 10.1609/aaai.v34i04.6098. A layer
has a *decision unit* of m actions. From what the layer reads, x,

  p = softmax(W GAP(relu(x)))             rows of W [m, Cin] of length 1
  u = softmax((log p + Gumbel) / tau)     relaxed categorical
  a = onehot(argmax u) + u - stop(u)      straight-through
  g = a G                                 gates G [m, Cout] start at 1, in 0..5

and y = relu(g BN(conv(x))). Units are trained by Adam on

  L = cross entropy + gamma (mean |g| - r)^2,

weights in alternation by SGD (momentum 0.9, decay 1e-9) on the cross entropy
alone, both at 0.01; after every step gates are clamped and rows of W get
length 1 again. At inference the action is the argmax of p and channels whose
gate is 0 are not computed. The actions taken in all layers are the sample's
decision path.

Paper: ResNet-56 on CIFAR-10, m = 5, r = 0.4, gamma = 2.2, tau from 5 to 0.5,
92.57 % at about 52 % fewer operations (second hand). `density` is r, the share
of channels *kept*, which the paper's code calls sparsity.

Departures. The mean of |g| runs over all channels of all units together. In a
rewritten model the gate is applied where the gated channels are read next:
gates are never negative, so relu(g y) = g relu(y), and what lies between (a
norm, then ReLU, PReLU or another positively homogeneous activation) may be
left as it is; with another activation, gate a named value before it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress import graph
from compress.errors import InputError

GATE_LIMIT = 5.0


class DecisionUnit(NamedTuple):
  """One layer's decision unit.

  Attributes:
    head: [m, Cin], rows of length 1.
    gates: [m, Cout], 0..5.
  """

  head: jax.Array
  gates: jax.Array


class Decision(NamedTuple):
  """What a unit decided for a batch.

  Attributes:
    probabilities: [B, m].
    action: [B] int32.
    gate: [B, Cout].
  """

  probabilities: jax.Array
  action: jax.Array
  gate: jax.Array


def init_decision_unit(
  key: jax.Array, *, inputs: int, outputs: int, actions: int
) -> DecisionUnit:
  """A unit that gates nothing yet: random head, gates of 1.

  Args:
    key: of the head.
    inputs: Cin of the deciding layer.
    outputs: Cout, the channels that are gated.
    actions: m; the paper has 5 for CIFAR-10 and 40 for ImageNet.

  Returns:
    The unit.
  """
  if min(inputs, outputs, actions) < 1:
    raise InputError(
      f'inputs={inputs}, outputs={outputs}, actions={actions}: right is at '
      'least 1 each'
    )
  head = jax.random.normal(key, (actions, inputs))
  return project_units(DecisionUnit(head, jnp.ones((actions, outputs))))


def project_units(units):
  """Brings units back to where they may be: to be called after every step.

  Args:
    units: a `DecisionUnit` or any tree of them.

  Returns:
    The same with rows of every head at length 1 (a row of zeros stays) and
    gates clamped to 0..5.
  """

  def one(unit):
    length = jnp.linalg.norm(unit.head, axis=1, keepdims=True)
    head = unit.head / jnp.where(length > 0, length, 1)
    return DecisionUnit(head, jnp.clip(unit.gates, 0, GATE_LIMIT))

  return jax.tree.map(
    one, units, is_leaf=lambda node: isinstance(node, DecisionUnit)
  )


def decide_channels(
  unit: DecisionUnit,
  x: jax.Array,
  *,
  key: jax.Array | None = None,
  temperature: jax.typing.ArrayLike = 1.0,
) -> Decision:
  """Picks one gate vector per sample. For use in a module of one's own.

  Args:
    unit: the layer's.
    x: [B, ..., Cin], what the layer reads.
    key: samples the action and lets gradients reach the head; None takes the
      argmax: inference, deterministic.
    temperature: tau; not used without a key.

  Returns:
    The decision; multiply BN(conv(x)) by its gate, spread over positions.

  Raises:
    InputError: x has another number of channels than the head.
  """
  if x.shape[-1] != unit.head.shape[1]:
    raise InputError(
      f'the layer reads {x.shape[-1]} channels, the unit is for '
      f'{unit.head.shape[1]}'
    )
  pooled = jnp.mean(jnp.maximum(x, 0), axis=tuple(range(1, x.ndim - 1)))
  logits = pooled @ unit.head.T
  actions = logits.shape[1]
  if key is None:
    action = jnp.argmax(logits, axis=1)
    choice = jax.nn.one_hot(action, actions, dtype=x.dtype)
  else:
    noise = jax.random.gumbel(key, logits.shape, logits.dtype)
    relaxed = jax.nn.softmax((jax.nn.log_softmax(logits) + noise) / temperature)
    action = jnp.argmax(relaxed, axis=1)
    choice = jax.nn.one_hot(action, actions, dtype=x.dtype)
    choice += relaxed - jax.lax.stop_gradient(relaxed)
  return Decision(jax.nn.softmax(logits), action, choice @ unit.gates)


def attach_units(
  apply: Callable[..., Any], wiring: Mapping[str, str]
) -> Callable[..., tuple[Any, dict[str, Decision]]]:
  """Gives a model decision units at chosen layers.

  Args:
    apply: pure function `apply(variables, *inputs)`, batch first, channels of
      dense layers and named values last.
    wiring: from the name of a deciding layer, whose result is gated, to the
      place where the gate is applied: a later layer, whose left operand is
      multiplied, or a value named with `checkpoint_name`.

  Returns:
    A function `(variables, units, *inputs, key=None, temperature=1.0)` to the
    model's output and the decisions by deciding layer; `units` maps the same
    names to `DecisionUnit`s. It raises InputError if a name is not in the
    model, lies in a loop, or the gate does not fit what it is to multiply.
  """

  def selected(variables, units, *inputs, key=None, temperature=1.0):
    if set(units) != set(wiring):
      raise InputError(
        f'units for {sorted(units)}, wiring for {sorted(wiring)}: right is the '
        'same'
      )
    decisions: dict[str, Decision] = {}
    gated: set[str] = set()
    order = sorted(wiring)

    def rule(site, op, x, *weight):
      deciders = [name for name in order if wiring[name] == site.name]
      if (deciders or site.name in wiring) and site.repeats != 1:
        raise InputError(f'{site.name!r} lies in a loop: no unit can sit there')
      for name in deciders:
        if name not in decisions:
          raise InputError(
            f'{site.name!r} comes before {name!r}, which gates it'
          )
        x = _gated(site, x, decisions[name].gate)
        gated.add(name)
      if site.name in wiring and site.kind != 'name':
        branch = None
        if key is not None:
          branch = jax.random.fold_in(key, order.index(site.name))
        decisions[site.name] = decide_channels(
          units[site.name],
          _channels_last(site, x),
          key=branch,
          temperature=temperature,
        )
      return op(x, *weight)

    out = graph.rewrite(apply, rule)(variables, *inputs)
    for name in order:
      if name not in gated:
        wrong = name if name not in decisions else wiring[name]
        raise InputError(f'no site {wrong!r} in the model; see `graph.trace`')
    return out, {name: decisions[name] for name in order}

  return selected


def decision_paths(decisions: Mapping[str, Decision]) -> np.ndarray:
  """The actions taken, [B, units] int, units in the order of their names."""
  actions = [np.asarray(decisions[name].action) for name in sorted(decisions)]
  return np.stack(actions, axis=1)


def active_density(decisions: Mapping[str, Decision]) -> float:
  """The share of channels with a gate above 0, over samples and units.

  The paper keeps a checkpoint only where this is at most r.
  """
  gates = [np.asarray(one.gate).ravel() > 0 for one in decisions.values()]
  return float(np.mean(np.concatenate(gates)))


def sample_macs(
  traced: graph.Graph,
  wiring: Mapping[str, str],
  decisions: Mapping[str, Decision],
  *,
  readers: Mapping[str, Sequence[str]] | None = None,
) -> np.ndarray:
  """Multiply-accumulates of every sample: active inputs x active outputs.

  Heads are not counted; layers without a unit count whole.

  Args:
    traced: the model without units, traced at batch size 1.
    wiring: as for `attach_units`.
    decisions: what `attach_units`'s function returned.
    readers: from a deciding layer to the layers that read its channels; None
      takes the layers that `wiring` gates at. Needed where a named value is
      gated.

  Returns:
    [B] float64.

  Raises:
    InputError: a reader is no layer of the model, or of another channel count.
  """
  readers = readers or {name: (place,) for name, place in wiring.items()}
  layers = {site.name: site for site in traced.sites}
  share = {
    name: np.mean(np.asarray(one.gate) > 0, axis=1, dtype=np.float64)
    for name, one in decisions.items()
  }
  factors: dict[str, Any] = {name: 1.0 for name in layers}
  for name, part in share.items():
    for place in (name, *readers[name]):
      if place not in layers:
        raise InputError(
          f'{place!r} is no layer; name those that read {name!r} in `readers`'
        )
      factors[place] = factors[place] * part
  batch = len(next(iter(share.values())))
  macs = [site.macs * factors[site.name] for site in traced.sites]
  return np.sum([np.broadcast_to(one, (batch,)) for one in macs], axis=0)


def _channels_last(site, x):
  """What a layer reads, batch first and channels last."""
  if site.kind != 'conv':
    return x
  batch, channel, *positions = site.params['dimension_numbers'].lhs_spec
  return jnp.transpose(x, (batch, *positions, channel))


def _gated(site, x, gate):
  batch, channel = 0, x.ndim - 1
  if site.kind == 'conv':
    batch, channel = site.params['dimension_numbers'].lhs_spec[:2]
  if (x.shape[batch], x.shape[channel]) != gate.shape:
    raise InputError(
      f'a gate of {gate.shape} does not fit what {site.name!r} reads, {x.shape}'
    )
  return x * jnp.expand_dims(
    gate, tuple(i for i in range(x.ndim) if i not in (batch, channel))
  )
