"""What each primitive does to arrays of which some channels are removed.

A rule is called as `rule(eqn, operands, bind)` with operands of class `Kept`,
at least one of them shrunk or able to shrink; `bind(*arrays, **changes)`
evaluates the equation on other arrays with some parameters changed. It gives
the results as `Kept`. Where a rule meets operands that disagree on what is
left, it goes on with what all of them have.
"""

import numpy as np

from compress.graph import _kept_shapes as shapes
from compress.graph._kept import Kept, mask, meet, some
from compress.graph._kept_shapes import agreed_on, changed, refuse, shape_of


def elementwise(eqn, operands, bind):
  """Operands of equal shape, of rank 0, or with axes of size 1."""
  full = shape_of(eqn)
  agreed = [None] * len(full)
  for value in operands:
    for axis, (n, k) in enumerate(zip(value.full, value.kept, strict=True)):
      if n == full[axis]:
        agreed[axis] = meet(agreed[axis], k)

  def at(kept):
    parts = [
      v.only(
        tuple(
          k if n == m else None
          for n, m, k in zip(v.full, full, kept, strict=True)
        )
      )
      if v.full
      else v
      for v in operands
    ]
    return Kept(full, kept, lambda: bind(*(v.array for v in parts))[0], pull)

  free = all(v.pull is not None or not v.full for v in operands)
  pull = at if free else None
  return [at(tuple(agreed))]


def each(eqn, operands, bind):
  """Several operands, each passed on by itself."""
  del eqn
  out = bind(*(v.array for v in operands))
  return [
    Kept(v.full, v.kept, lambda a=a: a)
    for v, a in zip(operands, out, strict=True)
  ]


def along(axes_of):
  """All operands of one shape; the axes that are worked along stay whole."""

  def rule(eqn, operands, bind):
    kept = agreed_on(operands)
    for axis in axes_of(eqn):
      if kept[axis] is not None:
        refuse(eqn, 'works')
    out = bind(*(v.only(kept).array for v in operands))
    return [
      Kept(v.aval.shape, kept, lambda a=a: a)
      for v, a in zip(eqn.outvars, out, strict=True)
    ]

  return rule


def convolution(eqn, operands, bind):
  """Grouped convolutions keep whole groups, alike in each group."""
  numbers = eqn.params['dimension_numbers']
  groups = eqn.params['feature_group_count']
  lhs, rhs = operands
  (batch, feature, *space), (outs, ins, *taps) = numbers[0], numbers[1]
  if any(lhs.kept[a] is not None for a in space) or any(
    rhs.kept[a] is not None for a in taps
  ):
    refuse(eqn, 'moves a window')
  kin, kout = rhs.kept[ins], rhs.kept[outs]
  klhs, changes = lhs.kept[feature], {}
  if eqn.params['batch_group_count'] != 1:
    if any(k is not None for k in (kin, kout, klhs, lhs.kept[batch])):
      refuse(eqn, 'has batch groups')
  if groups == 1:
    kin = klhs = meet(kin, klhs)
  else:
    there = mask(lhs.full[feature], klhs).reshape(groups, -1)
    made = mask(rhs.full[outs], kout).reshape(groups, -1)
    group = there.any(1) & made.any(1)
    inner = there.any(0) & mask(rhs.full[ins], kin)
    outer = made[group].any(0) if group.any() else made.any(0)
    if (
      not made[np.ix_(group, outer)].all()
      or not there[np.ix_(group, inner)].all()
    ):
      refuse(eqn, 'would have uneven groups')
    klhs = some(np.logical_and.outer(group, inner).ravel())
    kout = some(np.logical_and.outer(group, outer).ravel())
    kin = some(inner)
    changes = {'feature_group_count': int(group.sum())}
  lhs = lhs.only(changed(lhs.kept, feature, klhs))
  rhs = rhs.only(changed(changed(rhs.kept, ins, kin), outs, kout))
  kept = [None] * len(lhs.full)
  kept[numbers[2][0]], kept[numbers[2][1]] = lhs.kept[batch], kout
  out = bind(lhs.array, rhs.array, **changes)[0]
  return [Kept(shape_of(eqn), tuple(kept), lambda: out)]


def product(eqn, operands, bind):
  """A matrix product: pairs of contracted and of batch axes agree."""
  lhs, rhs = operands
  contracted, batch = eqn.params['dimension_numbers']
  left_kept, right_kept = list(lhs.kept), list(rhs.kept)
  for pairs in (contracted, batch):
    for a, b in zip(*pairs, strict=True):
      left_kept[a] = right_kept[b] = meet(left_kept[a], right_kept[b])
  lhs, rhs = lhs.only(tuple(left_kept)), rhs.only(tuple(right_kept))
  kept = [left_kept[a] for a in batch[0]]
  for k, side in ((left_kept, 0), (right_kept, 1)):
    used = {*contracted[side], *batch[side]}
    kept += [k[a] for a in range(len(k)) if a not in used]
  out = bind(lhs.array, rhs.array)[0]
  return [Kept(shape_of(eqn), tuple(kept), lambda: out)]


def reduction(eqn, operands, bind):
  """Sums and the like: what is removed takes no part."""
  (value,) = operands
  axes = eqn.params['axes']
  if eqn.primitive.name in ('argmax', 'argmin'):
    if any(value.kept[a] is not None for a in axes):
      refuse(eqn, 'looks for an index')
  kept = tuple(k for a, k in enumerate(value.kept) if a not in axes)
  out = bind(value.array)[0]
  return [Kept(shape_of(eqn), kept, lambda: out)]


def reductions(eqn, operands, bind):
  """`lax.reduce`: arrays of one shape, then one start value each."""
  count, axes = len(operands) // 2, eqn.params['dimensions']
  kept = agreed_on(operands[:count])
  if any(kept[axis] is not None for axis in axes):
    refuse(eqn, 'reduces')
  arrays = [v.only(kept).array for v in operands[:count]]
  out = bind(*arrays, *(v.array for v in operands[count:]))
  left = tuple(k for axis, k in enumerate(kept) if axis not in axes)
  return [
    Kept(v.aval.shape, left, lambda a=a: a)
    for v, a in zip(eqn.outvars, out, strict=True)
  ]


def scatter(eqn, operands, bind):
  """Writes at indices; shortened axes are written whole."""
  value, index, update = operands
  numbers = eqn.params['dimension_numbers']
  gone = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
  windows = iter(numbers.update_window_dims)
  inner, written = list(value.kept), list(update.kept)
  for axis in range(len(inner)):
    if axis in gone:
      if inner[axis] is not None:
        refuse(eqn, 'writes')
      continue
    window = next(windows)
    k = meet(inner[axis], written[window])
    if k is not None and update.full[window] != value.full[axis]:
      refuse(eqn, 'writes')
    inner[axis] = written[window] = k
  rest = set(range(len(written))) - set(numbers.update_window_dims)
  if any(written[a] is not None for a in rest) or any(
    k is not None for k in index.kept
  ):
    refuse(eqn, 'writes')
  out = bind(
    value.only(tuple(inner)).array,
    index.array,
    update.only(tuple(written)).array,
  )[0]
  return [Kept(shape_of(eqn), tuple(inner), lambda: out)]


def windows(eqn, operands, bind):
  """Pooling: axes of window 1 pass."""
  whole = _window_axes(eqn)
  kept = agreed_on([v for v in operands if v.full])
  if any(kept[a] is not None for a in whole):
    refuse(eqn, 'moves a window')
  arrays = [v.only(kept).array if v.full else v.array for v in operands]
  out = bind(*arrays)
  return [
    Kept(v.aval.shape, kept, lambda a=a: a)
    for v, a in zip(eqn.outvars, out, strict=True)
  ]


def _window_axes(eqn):
  params = eqn.params
  count = len(params['window_dimensions'])
  plain = [1] * count
  return [
    axis
    for axis in range(count)
    if (
      params['window_dimensions'][axis],
      params['window_strides'][axis],
      params.get('base_dilation', plain)[axis],
      params.get('window_dilation', plain)[axis],
      tuple(params['padding'][axis]),
    )
    != (1, 1, 1, 1, (0, 0))
  ]


_ELEMENTWISE = (
  'abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp '
  'clz complex conj convert_element_type copy copy_p cos cosh digamma div eq '
  'eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt imag integer_pow '
  'is_finite le lgamma log log1p logistic lt max mesh_cast min mul name ne neg '
  'nextafter not or pbroadcast pcast polygamma population_count pow pvary real '
  'reduce_precision rem round rsqrt select_n shift_left shift_right_arithmetic '
  'shift_right_logical sign sin sinh sharding_constraint sqrt square '
  'stop_gradient sub tan tanh xor'
)

RULES = {
  **dict.fromkeys(_ELEMENTWISE.split(), elementwise),
  **dict.fromkeys(('device_put', 'optimization_barrier'), each),
  **dict.fromkeys(
    ('cumlogsumexp', 'cummax', 'cummin', 'cumprod', 'cumsum'),
    along(lambda eqn: [eqn.params['axis']]),
  ),
  'sort': along(lambda eqn: [eqn.params['dimension']]),
  'conv_general_dilated': convolution,
  'dot_general': product,
  **dict.fromkeys(
    (
      'argmax argmin reduce_and reduce_max reduce_min reduce_or reduce_prod '
      'reduce_sum reduce_xor'
    ).split(),
    reduction,
  ),
  **dict.fromkeys(
    (
      'reduce_window reduce_window_max reduce_window_min reduce_window_sum '
      'select_and_gather_add'
    ).split(),
    windows,
  ),
  'broadcast_in_dim': shapes.broadcast,
  'reduce': reductions,
  'reshape': shapes.reshape,
  'transpose': shapes.transpose,
  'rev': shapes.reverse,
  **dict.fromkeys(
    (
      'scatter scatter_add scatter_max scatter_min scatter_mul scatter_sub '
      'scatter-add scatter-max scatter-min scatter-mul scatter-sub'
    ).split(),
    scatter,
  ),
  'squeeze': shapes.squeeze,
  'concatenate': shapes.concatenate,
  'split': shapes.split,
  'stack': shapes.stack,
  'top_k': along(lambda eqn: [eqn.params['axis']]),
  'unstack': shapes.unstack,
  'slice': shapes.cut,
  'pad': shapes.pad,
  'tile': shapes.tile,
  'dynamic_slice': shapes.dynamic_slice,
  'dynamic_update_slice': shapes.dynamic_update_slice,
  'gather': shapes.gather,
}

# Rules that also carry on what can still be made shorter.
PULLED = frozenset({elementwise, shapes.reshape, shapes.transpose})
