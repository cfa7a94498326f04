"""Channel saliencies as points of a grid of four choices.

Persand, Anderson, Gregg 2021, "Taxonomy of ChannelSaliency Metrics for Channel
Pruning", IEEE Access, arXiv:1906.04675, after the authors' code:

  S_c = scale(mean over images(reduce over points of channel c(f(x, g, h))))

with x the points of the channel, in the output map of the layer that makes it,
the input map of the layer that takes it, or the layer's weights; g their
gradient and h the diagonal of their Hessian, both of one image's loss. Higher
means keep. Two domains, seven point-wise functions, five reductions and six
scalings give 420 metrics, APoZ and a random baseline aside; the paper measures
more than 300 and finds that reduction and scaling matter as much as the
point-wise function.

One pass measures all: one rewritten loss with zero perturbations at the sites
gives x and, under `vmap`, g of every image, and all metrics share them. State
is one sum per channel, layer, domain and (point-wise, reduction) pair.

Departs from the authors' code: h is Hutchinson's estimate `v * (H v)` with
random signs v (Hutchinson 1990), exact where the Hessian is diagonal, not the
recursion of optimal brain damage; an activation's channel has H * W points
(`authors_points` gives their `C_in * H * W`); a layer's norms take absolute
values, and a layer of zeros keeps its zeros.
"""

import itertools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress import graph as graph_lib
from compress.errors import InputError
from compress.graph import Emit
from compress.prune import matrix_form
from compress.prune.channel_points import Layer, find_layers
from compress.prune.paths import by_path
from compress.prune.saliency_metrics import (
  ACTIVATION,
  WEIGHT,
  ChannelSaliency,
  Facts,
  Pointwise,
  Reduction,
  all_saliencies,
)


class Sums(NamedTuple):
  """What has been measured; two measurements of disjoint images add up.

  Attributes:
    sums: float32 `[F, C]` by domain, then by leaf path of the kernel; F the
      (point-wise, reduction) pairs.
    count: images, float32 [].
  """

  sums: dict[str, dict[str, jax.Array]]
  count: jax.Array


class Grid(NamedTuple):
  """Measures all saliencies of a set at once.

  Attributes:
    init: `() -> Sums`.
    update: `(sums, params, batch, *, key) -> Sums`, pure and good under
      `jit`; `key` draws the signs, and is needed only for h.
    score: `(sums, saliency, *, weights_removed=None, active=None,
      authors_points=False) -> {leaf path: float64 [C]}`; see `channel_grid`.
  """

  init: Callable[[], Sums]
  update: Callable[..., Sums]
  score: Callable[..., dict[str, np.ndarray]]


def channel_grid(
  loss_fn: Callable[..., jax.Array],
  params,
  batch,
  *,
  saliencies: Iterable[ChannelSaliency] | None = None,
  side: str = 'output',
  kernels: Iterable[str] | None = None,
  bias: bool = False,
  chunk: int = 8,
  probes: int = 1,
) -> Grid:
  """Makes the three functions that measure saliencies of channels.

  `loss_fn` is taken at one image at a time, so the network must not mix images
  (batch norms use running statistics). Its layers are read from its jaxpr.

  `score` divides the sums by the images and scales. `weights_removed` maps
  kernel paths to the weights that leave with a channel, a number or `[C]`
  (see `weights_removed`); `active` maps them to how many channels are still
  there on the kernel's other side (all by default); `authors_points` counts
  `C_in * H * W` points of an activation.

  Args:
    loss_fn: `(params, batch) -> scalar`, the mean over the batch.
    params: pytree of arrays or of their shapes.
    batch: pytree of arrays with leading axis N, or of their shapes; the sizes
      behind N are those of all batches to come.
    saliencies: what `score` may be asked for; `all_saliencies()` by default.
      Without h among them no Hessian product is computed.
    side: `output`: channels that a layer makes, its output map (before bias,
      norm and activation function) and its filters; `input`: channels that a
      layer takes, its input map and the slices of its kernel.
    kernels: leaf paths of the kernels to measure; all by default.
    bias: whether the leaf `bias` beside a kernel is a point of its channels in
      the weight domain; side `output` only.
    chunk: images whose gradients are held at a time.
    probes: sign vectors a batch and image for h.

  Returns:
    The grid.

  Raises:
    InputError: a kernel is unknown, used twice, or lies in a loop; the side is
      unknown; a bias is asked for on the input side.
  """
  saliencies = tuple(all_saliencies() if saliencies is None else saliencies)
  if side not in ('output', 'input'):
    raise InputError(f'side {side!r}; right is output or input')
  if bias and side == 'input':
    raise InputError('a bias belongs to the channels of side output')
  pairs: dict[str, dict[tuple[Pointwise, Reduction], None]] = {}
  for s in saliencies:
    pairs.setdefault(s.domain, {})[s.pointwise, s.reduction] = None
  order = {domain: tuple(found) for domain, found in pairs.items()}
  one = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), batch
  )
  layers = find_layers(
    loss_fn, params, one, side=side, kernels=kernels, bias=bias
  )
  measure = _measure(loss_fn, layers, order, probes)

  def init():
    sums = {
      domain: {
        layer.path: jnp.zeros((len(found), layer.channels)) for layer in layers
      }
      for domain, found in order.items()
    }
    return Sums(sums, jnp.zeros(()))

  def update(sums, params, batch, *, key=None):
    count = len(jax.tree.leaves(batch)[0])
    if key is None and _reads(order, 'hessian'):
      raise InputError('h is estimated with random signs: pass a key')
    keys = jax.random.split(jax.random.key(0) if key is None else key, count)

    def add(total, part):
      each = jax.vmap(measure, in_axes=(None, 0, 0))(params, *part)
      each = jax.tree.map(lambda x: x.sum(0), each)
      return jax.tree.map(jnp.add, total, each), None

    whole = count // chunk * chunk
    many = jax.tree.map(
      lambda x: x[:whole].reshape(-1, chunk, *x.shape[1:]), (batch, keys)
    )
    rest = jax.tree.map(lambda x: x[whole:], (batch, keys))
    total = sums.sums
    if whole:
      total, _ = jax.lax.scan(add, total, many)
    if whole < count:
      total, _ = add(total, rest)
    return Sums(total, sums.count + count)

  def score(
    sums, saliency, *, weights_removed=None, active=None, authors_points=False
  ):
    found = order.get(saliency.domain, ())
    pair = (saliency.pointwise, saliency.reduction)
    if pair not in found:
      raise InputError(f'{saliency.name} is not among the saliencies measured')
    out = {}
    for layer in layers:
      total = sums.sums[saliency.domain][layer.path][found.index(pair)]
      mean = np.asarray(total, np.float64) / max(float(sums.count), 1.0)
      facts = _facts(
        layer, saliency.domain, weights_removed, active, authors_points
      )
      out[layer.path] = saliency.scaling.function(mean, facts)
    return out

  return Grid(init, update, score)


def _reads(order, what: str) -> bool:
  pairs = itertools.chain.from_iterable(order.values())
  return any(getattr(pointwise, what) for pointwise, _ in pairs)


def _measure(loss_fn, layers: tuple[Layer, ...], order, probes):
  """`(params, example, key) -> sums` of one image, `[F, C]` each."""
  by_name = {layer.site.name: layer for layer in layers}

  def tapped(shifts, params, batch):
    """The loss with shifted points, and the points."""

    def rule(site, op, *operands):
      layer = by_name.get(site.name)
      if layer is None:
        return op(*operands)
      operands, seen = list(operands), {}
      shift = {d: shifts[d][layer.path] for d in order}
      at = site.weight_operand
      if WEIGHT in shift:
        operands[at] = seen[WEIGHT] = operands[at] + shift[WEIGHT]
      if ACTIVATION in shift and layer.side == 'input':
        operands[1 - at] = seen[ACTIVATION] = (
          operands[1 - at] + shift[ACTIVATION]
        )
      out = op(*operands)
      if ACTIVATION in shift and layer.side == 'output':
        out = seen[ACTIVATION] = out + shift[ACTIVATION]
      return Emit(out, seen)

    leaves = by_path(params)
    biases = {
      layer.path: leaves[layer.bias] + shifts['bias'][layer.path]
      for layer in layers
      if 'bias' in shifts and layer.bias
    }
    moved = {
      layer.bias: biases[layer.path] for layer in layers if layer.path in biases
    }
    params = matrix_form.replace_leaves(params, moved)
    rewritten = graph_lib.rewrite(loss_fn, rule, has_aux=True)
    loss, seen = rewritten(params, batch)
    points = {
      domain: {layer.path: seen[layer.site.name][domain] for layer in layers}
      for domain in order
    }
    if 'bias' in shifts:
      points['bias'] = biases
    return loss, points

  def measure(params, example, key):
    batch = jax.tree.map(lambda x: x[None], example)
    zeros = _zeros(layers, order, params)
    if _reads(order, 'gradient') or _reads(order, 'hessian'):
      gradient = jax.grad(tapped, has_aux=True)
      g, x = gradient(zeros, params, batch)
    else:
      x = tapped(zeros, params, batch)[1]
      g = zeros
    h = zeros
    if _reads(order, 'hessian'):

      def probe(h, key):
        for domain in order:
          # A sign in another domain would only add noise to this one's h.
          together = [domain]
          if domain == WEIGHT and 'bias' in zeros:
            together.append('bias')
          signs = _signs(key, zeros, together)
          _, product, _ = jax.jvp(
            lambda s: gradient(s, params, batch),
            (zeros,),
            (signs,),
            has_aux=True,
          )
          estimate = jax.tree.map(lambda v, p: v * p / probes, signs, product)
          h = jax.tree.map(jnp.add, h, estimate)
        return h, None

      h, _ = jax.lax.scan(probe, h, jax.random.split(key, probes))
    return {
      domain: {
        layer.path: _reduce(layer, domain, pairs, x, g, h) for layer in layers
      }
      for domain, pairs in order.items()
    }

  return measure


def _zeros(layers, order, params):
  out = {
    domain: {x.path: jnp.zeros_like(x.structs[domain]) for x in layers}
    for domain in order
  }
  if WEIGHT in order and any(layer.bias for layer in layers):
    leaves = by_path(params)
    out['bias'] = {
      x.path: jnp.zeros_like(leaves[x.bias]) for x in layers if x.bias
    }
  return out


def _signs(key, zeros, domains):
  """Random signs in some domains, zeros in the others; one draw for all."""
  leaves, tree = jax.tree.flatten({domain: zeros[domain] for domain in domains})
  ends = np.cumsum([leaf.size for leaf in leaves])
  flat = jax.random.rademacher(key, (int(ends[-1]),), jnp.float32)
  signs = [
    part.reshape(leaf.shape).astype(leaf.dtype)
    for part, leaf in zip(jnp.split(flat, ends[:-1]), leaves, strict=True)
  ]
  return {**zeros, **jax.tree.unflatten(tree, signs)}


def _reduce(layer, domain, pairs, *values) -> jax.Array:
  """All reductions of the points of one layer in one image, `[F, C]`."""

  def points(tree):
    out = layer.points(domain, tree[domain][layer.path])
    if domain == WEIGHT and layer.bias:
      out = jnp.concatenate([out, tree['bias'][layer.path][None]])
    return out.astype(jnp.float32)

  x, g, h = (points(tree) for tree in values)
  pointwises = list(dict.fromkeys(p for p, _ in pairs))
  reductions = list(dict.fromkeys(r for _, r in pairs))
  made = jnp.stack([p.function(x, g, h) for p in pointwises])
  reduced = {r: jax.vmap(r.function)(made) for r in reductions}
  return jnp.stack([reduced[r][pointwises.index(p)] for p, r in pairs])


def _facts(layer, domain, removed, active, authors_points) -> Facts:
  points = layer.point_count(domain)
  others = layer.others
  there = others if active is None else active.get(layer.path, others)
  if domain == WEIGHT:
    # A bias is attached to no channel of the other side.
    extra = 1 if layer.bias else 0
    adjusted = (points - extra) * there / others + extra
  elif authors_points:
    points, adjusted = points * others, points * there
  else:
    adjusted = points
  sizes = None if removed is None else removed.get(layer.path)
  if sizes is not None:
    sizes = np.asarray(sizes, np.float64)
  return Facts(float(points), max(float(adjusted), 1.0), sizes)
