"""What primitives that read parts of arrays, or reduce them, say of labels.

See `label_rules.py`. `RULES` maps the names of all known primitives to their
rules; what it lacks freezes all that it touches.
"""

import numpy as np

from compress.graph import label_rules as rules
from compress.graph.label_rules import held, shape_of, taken
from compress.graph.labels import CONSTANT, INDEX, NORM


def part(labels, axis, indices):
  """Labels of some indices of an axis; a single one picked must stay."""
  out = axis[indices]
  if len(out) == 1 < len(axis):
    labels.freeze(out, 'picked by a constant index')
    return labels.fixed(1)
  return taken(labels, out)


def stay(labels, axis, size, reason):
  """Freezes an axis; labels of what comes of it, which stays too."""
  if axis is labels.fixed(len(axis)):
    return labels.fixed(size)
  labels.freeze(axis, reason)
  return axis if size == len(axis) else labels.held(size, reason)


def slice_(labels, eqn, values):
  """A part of each axis, also strided."""
  starts, limits = eqn.params['start_indices'], eqn.params['limit_indices']
  strides = eqn.params['strides'] or (1,) * len(starts)
  return [
    tuple(
      axis
      if (start, stop, step) == (0, len(axis), 1)
      else part(labels, axis, slice(start, stop, step))
      for axis, start, stop, step in zip(
        values[0].axes, starts, limits, strides, strict=True
      )
    )
  ]


def split(labels, eqn, values):
  """Parts of one axis, one after the other."""
  axes, along = values[0].axes, eqn.params['axis']
  ends = np.cumsum(eqn.params['sizes'])
  out = []
  for stop, size in zip(ends, eqn.params['sizes'], strict=True):
    mine = list(axes)
    mine[along] = part(labels, axes[along], slice(stop - size, stop))
    out.append(tuple(mine))
  return out


def stack(labels, eqn, values):
  """The same axes and a new one, which stays."""
  axis = eqn.params['axis']
  shape = [len(a) for a in values[0].axes]
  out = list(rules.unified(labels, [v.axes for v in values], shape))
  out.insert(axis, labels.fixed(len(values)))
  return [tuple(out)]


def unstack(labels, eqn, values):
  """One array for each index of an axis, which stays."""
  axis = eqn.params['axis']
  labels.freeze(values[0].axes[axis], 'picked by a constant index')
  rest = tuple(a for i, a in enumerate(values[0].axes) if i != axis)
  return [rest] * len(eqn.outvars)


def pad(labels, eqn, values):
  """Zeros beside live indices get atoms: they leave with what meets them."""
  out = []
  shape = shape_of(eqn.outvars[0])
  config = eqn.params['padding_config']
  for axis, size, (low, high, inner) in zip(
    values[0].axes, shape, config, strict=True
  ):
    if (low, high, inner) == (0, 0, 0):
      out.append(axis)
    elif labels.stays(axis) or inner or not values[1].zero:
      labels.freeze(axis, 'padded')
      out.append(labels.fixed(size))
    else:
      cropped = slice(max(-low, 0), len(axis) - max(-high, 0))
      core = part(labels, axis, cropped)
      ends = [labels.fresh_each(max(n, 0)) for n in (low, high)]
      out.append(np.concatenate([ends[0], core, ends[1]]))
  return [tuple(out)]


def reduce(labels, eqn, values):
  """Dropped axes couple their channels: all see what all are."""
  axes = eqn.params['axes' if 'axes' in eqn.params else 'dimensions']
  ends = len(eqn.outvars) if eqn.primitive.name == 'reduce' else 1
  shape = [len(a) for a in values[0].axes]
  both = rules.unified(labels, [v.axes for v in values[:ends]], shape)
  for axis in axes:
    labels.mark(both[axis], NORM)
  out = tuple(a for i, a in enumerate(both) if i not in axes)
  return [out] * len(eqn.outvars)


def ordered_away(labels, eqn, values):
  """The result says which index it was (argmax): the axis must stay."""
  axes = eqn.params['axes']
  for axis in axes:
    labels.freeze(values[0].axes[axis], 'ordered')
  out = tuple(a for i, a in enumerate(values[0].axes) if i not in axes)
  return [out] * len(eqn.outvars)


def ordered(labels, eqn, values):
  """Sums up, or sorts, along an axis, which must stay; the others pass."""
  params = eqn.params
  key = next(k for k in ('dimension', 'axis', 'reduction_axes') if k in params)
  shape = [len(a) for a in values[0].axes]
  axes = list(rules.unified(labels, [v.axes for v in values], shape))
  size = shape_of(eqn.outvars[0])[params[key]]
  axes[params[key]] = stay(labels, axes[params[key]], size, 'ordered')
  return [tuple(axes)] * len(eqn.outvars)


def top_k(labels, eqn, values):
  """The largest along an axis, which must stay."""
  along = eqn.params.get('axis', -1)
  axes = list(values[0].axes)
  size = shape_of(eqn.outvars[0])[along]
  axes[along] = stay(labels, axes[along], size, 'ordered')
  return [tuple(axes)] * len(eqn.outvars)


def window(labels, eqn, values):
  """Axes that the window does not move along pass, the others stay."""
  params = eqn.params
  shape = shape_of(eqn.outvars[0])
  rank = len(shape)
  arrays = [v.axes for v in values if len(v.axes) == rank]
  out = []
  for i, size in enumerate(shape):
    still = params['window_dimensions'][i] == 1 == params['window_strides'][i]
    still = still and tuple(params['padding'][i]) == (0, 0)
    for key in ('base_dilation', 'window_dilation'):
      still = still and params.get(key, (1,) * rank)[i] == 1
    if still:
      axis = arrays[0][i]
      for other in arrays[1:]:
        axis = labels.unify(axis, other[i])
      out.append(axis)
      continue
    for axes in arrays:
      axis = stay(labels, axes[i], size, 'a window moves along it')
    out.append(axis)
  return [tuple(out)] * len(eqn.outvars)


def gather(labels, eqn, values):
  """Axes read whole pass, as do those of the indices; others stay."""
  dims = eqn.params['dimension_numbers']
  array, indices = (v.axes for v in values)
  gone = (*dims.collapsed_slice_dims, *dims.operand_batching_dims)
  batches = iter(indices[:-1])
  windows = iter(i for i in range(len(array)) if i not in gone)
  for i in gone:
    labels.freeze(array[i], 'indexed')
  for i in dims.start_indices_batching_dims:
    labels.freeze(indices[i], 'indexed')
  if indices:
    labels.freeze(indices[-1], 'indexed')
  out = []
  for position, size in enumerate(shape_of(eqn.outvars[0])):
    if position not in dims.offset_dims:
      out.append(next(batches))
      continue
    axis = next(windows)
    whole = size == len(array[axis])
    if whole:
      out.append(array[axis])
    else:
      out.append(stay(labels, array[axis], size, 'read in part'))
  return [tuple(out)]


def dynamic_slice(labels, eqn, values):
  """Axes read whole pass, others stay."""
  sizes = eqn.params['slice_sizes']
  out = []
  for axis, size in zip(values[0].axes, sizes, strict=True):
    whole = size == len(axis)
    out.append(axis if whole else stay(labels, axis, size, 'read in part'))
  return [tuple(out)]


def dynamic_update_slice(labels, eqn, values):
  """Axes written whole agree, others stay."""
  del eqn
  out = []
  for axis, update in zip(values[0].axes, values[1].axes, strict=True):
    if len(axis) == len(update):
      out.append(labels.unify(axis, update))
      continue
    labels.freeze(update, 'written in part')
    out.append(stay(labels, axis, len(axis), 'written in part'))
  return [tuple(out)]


def scatter(labels, eqn, values):
  """Axes written whole agree with the updates, others stay."""
  dims = eqn.params['dimension_numbers']
  array, indices, updates = (v.axes for v in values)
  gone = (*dims.inserted_window_dims, *dims.operand_batching_dims)
  windows = iter(dims.update_window_dims)
  out = []
  for i, axis in enumerate(array):
    update = None if i in gone else updates[next(windows)]
    if update is not None and len(update) == len(axis):
      out.append(labels.unify(axis, update))
      continue
    if update is not None:
      labels.freeze(update, 'written in part')
    out.append(stay(labels, axis, len(axis), 'written in part'))
  rest = set(range(len(updates))) - set(dims.update_window_dims)
  for axis in (*indices, *(updates[i] for i in rest)):
    labels.freeze(axis, 'indexed')
  return [tuple(out)]


def iota(labels, eqn, values):
  """Values that are their own index along one axis."""
  del values
  along = eqn.params['dimension']
  return [
    tuple(
      labels.fresh(size, CONSTANT | INDEX if i == along else 0)
      for i, size in enumerate(shape_of(eqn.outvars[0]))
    )
  ]


def random(labels, eqn, values):
  """Fresh random numbers, as many as there are indices."""
  held(labels, eqn, values, 'a random key')
  return [tuple(map(labels.fresh, shape_of(var))) for var in eqn.outvars]


def random_key(labels, eqn, values):
  """Keys have no channels."""
  return held(labels, eqn, values, 'a random key')


_ELEMENTWISE = """
abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e
cbrt ceil clamp clz complex conj convert_element_type copy copy_p cos cosh
digamma div erf erf_inv erfc exp exp2 expm1 floor igamma igamma_grad_a igammac
imag integer_pow is_finite lgamma log log1p logistic max min mul mulhi name neg
nextafter not or pbroadcast pcast polygamma population_count pow pvary real
reduce_precision regularized_incomplete_beta rem reshard mesh_cast round rsqrt
select_n sharding_constraint shift_left shift_right_arithmetic
shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh xor
zeta
""".split()
_REDUCE = 'reduce reduce_and reduce_max reduce_min reduce_or reduce_prod'
_REDUCE += ' reduce_sum reduce_xor'
_WINDOW = 'reduce_window reduce_window_max reduce_window_min reduce_window_sum'
_WINDOW += ' select_and_gather_add select_and_scatter_add'
_KEYS = 'random_seed random_wrap random_unwrap random_fold_in random_split'
_KEYS += ' random_clone threefry2x32'

RULES = {
  **dict.fromkeys(_ELEMENTWISE, rules.elementwise),
  **dict.fromkeys('eq ne ge gt le lt eq_to le_to lt_to'.split(), rules.compare),
  **dict.fromkeys(_REDUCE.split(), reduce),
  **dict.fromkeys(_WINDOW.split(), window),
  **dict.fromkeys(('argmax', 'argmin'), ordered_away),
  **dict.fromkeys(
    'cumlogsumexp cummax cummin cumprod cumsum sort'.split(), ordered
  ),
  **dict.fromkeys(
    'scatter scatter_add scatter_max scatter_min scatter_mul scatter_sub'
    ' scatter-add scatter-max scatter-min scatter-mul scatter-sub'.split(),
    scatter,
  ),
  **dict.fromkeys(('random_bits', 'rng_uniform'), random),
  **dict.fromkeys(_KEYS.split(), random_key),
  'bitcast_convert_type': rules.bitcast,
  'broadcast_in_dim': rules.broadcast_in_dim,
  'concatenate': rules.concatenate,
  'conv_general_dilated': rules.conv,
  'device_put': rules.each,
  'dot_general': rules.dot,
  'dynamic_slice': dynamic_slice,
  'dynamic_update_slice': dynamic_update_slice,
  'expand_dims': rules.expand_dims,
  'gather': gather,
  'iota': iota,
  'optimization_barrier': rules.each,
  'pad': pad,
  'reshape': rules.reshape,
  'rev': rules.rev,
  'rng_bit_generator': random,
  'slice': slice_,
  'split': split,
  'squeeze': rules.squeeze,
  'stack': stack,
  'tile': rules.tile,
  'top_k': top_k,
  'transpose': rules.transpose,
  'unstack': unstack,
}
