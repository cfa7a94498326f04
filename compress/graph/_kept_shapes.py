"""Rules of `_kept_rules` for primitives that only move or pick entries."""

import numpy as np

from compress.graph._kept import (
  Kept,
  left,
  mask,
  meet,
  part,
  regrouped,
  some,
)


def shape_of(eqn, i=0):
  return tuple(eqn.outvars[i].aval.shape)


def refuse(eqn, why):
  raise NotImplementedError(
    f'{eqn.primitive.name!r} {why}, along an axis with removed channels'
  )


def agreed_on(operands):
  kept = operands[0].kept
  for value in operands[1:]:
    kept = tuple(map(meet, kept, value.kept))
  return kept


def changed(kept, axis, new):
  return (*kept[:axis], new, *kept[axis + 1 :])


def broadcast(eqn, operands, bind):
  """New axes come out as short as whoever reads them wants."""
  (value, *others) = operands
  if others:
    refuse(eqn, 'has a dynamic shape')
  full, moved = shape_of(eqn), eqn.params['broadcast_dimensions']

  def at(kept):
    inner = tuple(
      kept[axis] if n == full[axis] else None
      for n, axis in zip(value.full, moved, strict=True)
    )
    part_ = value.only(inner)
    changes = {'shape': left(full, kept)}
    return Kept(full, kept, lambda: bind(part_.array, **changes)[0], at)

  kept = [None] * len(full)
  for axis, k in zip(moved, value.kept, strict=True):
    kept[axis] = k
  return [at(tuple(kept))]


def reshape(eqn, operands, bind):
  """Merged and split axes, where what is left is a box."""
  (value, *others) = operands
  if others or eqn.params['dimensions'] is not None:
    refuse(eqn, 'reorders')
  full = shape_of(eqn)

  def at(kept):
    changes = {'new_sizes': left(full, kept)}
    inner = value.only(tuple(regrouped(full, kept, value.full)))
    return Kept(full, kept, lambda: bind(inner.array, **changes)[0], pull)

  pull = at if value.pull is not None else None
  return [at(tuple(regrouped(value.full, value.kept, full)))]


def transpose(eqn, operands, bind):
  """Moves the axes."""
  (value,) = operands
  order = eqn.params['permutation']

  def at(kept):
    inner = [None] * len(kept)
    for axis, k in zip(order, kept, strict=True):
      inner[axis] = k
    moved = value.only(tuple(inner))
    return Kept(shape_of(eqn), kept, lambda: bind(moved.array)[0], pull)

  pull = at if value.pull is not None else None
  return [at(tuple(value.kept[axis] for axis in order))]


def reverse(eqn, operands, bind):
  """Indices run backwards."""
  (value,) = operands
  kept = tuple(
    part(n, k, np.arange(n)[::-1]) if a in eqn.params['dimensions'] else k
    for a, (n, k) in enumerate(zip(value.full, value.kept, strict=True))
  )
  out = bind(value.array)[0]
  return [Kept(value.full, kept, lambda: out)]


def squeeze(eqn, operands, bind):
  """Drops axes of size 1."""
  (value,) = operands
  axes = eqn.params['dimensions']
  kept = tuple(k for a, k in enumerate(value.kept) if a not in axes)
  out = bind(value.array)[0]
  return [Kept(shape_of(eqn), kept, lambda: out)]


def concatenate(eqn, operands, bind):
  """Puts what is left together; a shorter result is made of shorter parts."""
  axis, full = eqn.params['dimension'], shape_of(eqn)
  starts = np.cumsum([0, *(v.full[axis] for v in operands)])

  def at(kept):
    there = mask(full[axis], kept[axis])
    parts = []
    for value, start in zip(operands, starts, strict=False):
      k = some(there[start : start + value.full[axis]])
      parts.append(value.only(changed(kept, axis, k)))
    return Kept(full, kept, lambda: bind(*(v.array for v in parts))[0], at)

  there = [mask(v.full[axis], v.kept[axis]) for v in operands]
  kept = agreed_on(
    [Kept(v.full, changed(v.kept, axis, None), lambda: None) for v in operands]
  )
  return [at(changed(kept, axis, some(np.concatenate(there))))]


def stack(eqn, operands, bind):
  """Puts arrays along a new axis."""
  kept, axis = agreed_on(operands), eqn.params['axis']
  out = bind(*(v.only(kept).array for v in operands))[0]
  return [Kept(shape_of(eqn), (*kept[:axis], None, *kept[axis:]), lambda: out)]


def unstack(eqn, operands, bind):
  """Takes an axis apart that is whole."""
  (value,), axis = operands, eqn.params['axis']
  if value.kept[axis] is not None:
    refuse(eqn, 'takes indices')
  kept = (*value.kept[:axis], *value.kept[axis + 1 :])
  out = bind(value.array)
  return [
    Kept(v.aval.shape, kept, lambda a=a: a)
    for v, a in zip(eqn.outvars, out, strict=True)
  ]


def split(eqn, operands, bind):
  """Parts of an axis."""
  (value,) = operands
  axis, sizes = eqn.params['axis'], eqn.params['sizes']
  there = mask(value.full[axis], value.kept[axis])
  pieces = np.split(there, np.cumsum(sizes)[:-1])
  out = bind(value.array, sizes=tuple(int(p.sum()) for p in pieces))
  return [
    Kept(v.aval.shape, changed(value.kept, axis, some(p)), lambda a=a: a)
    for v, p, a in zip(eqn.outvars, pieces, out, strict=True)
  ]


def cut(eqn, operands, bind):
  """A slice: what is left of its range."""
  (value,) = operands
  starts = eqn.params['start_indices']
  limits = eqn.params['limit_indices']
  strides = eqn.params['strides'] or (1,) * len(starts)
  inner, kept = list(value.kept), list(value.kept)
  begin, end, step = list(starts), list(limits), list(strides)
  for axis, k in enumerate(value.kept):
    if k is None:
      continue
    chosen = np.arange(starts[axis], limits[axis], strides[axis])
    kept[axis] = part(value.full[axis], k, chosen)
    inner[axis] = chosen if kept[axis] is None else chosen[kept[axis]]
    begin[axis], end[axis], step[axis] = 0, len(inner[axis]), 1
  out = bind(
    value.only(tuple(inner)).array,
    start_indices=tuple(begin),
    limit_indices=tuple(end),
    strides=None if set(step) == {1} else tuple(step),
  )[0]
  return [Kept(shape_of(eqn), tuple(kept), lambda: out)]


def pad(eqn, operands, bind):
  """Padding stays, but for entries that its reader has not."""
  value, filler = operands
  config, full = eqn.params['padding_config'], shape_of(eqn)

  def at(kept):
    inner, changed = list(value.kept), list(config)
    for axis, k in enumerate(kept):
      if k is None and value.kept[axis] is None:
        continue
      if config[axis][2]:
        refuse(eqn, 'pads between entries')
      k = np.arange(full[axis]) if k is None else k
      low, n = config[axis][0], value.full[axis]
      there = np.zeros(n, bool)
      there[k[(k >= low) & (k < low + n)] - low] = True
      inner[axis] = some(there)
      changed[axis] = (int((k < low).sum()), int((k >= low + n).sum()), 0)
    part_ = value.only(tuple(inner))
    changes = {'padding_config': tuple(changed)}
    return Kept(
      full, kept, lambda: bind(part_.array, filler.array, **changes)[0], at
    )

  kept = []
  for n, k, (low, _, between), size in zip(
    value.full, value.kept, config, full, strict=True
  ):
    if k is None:
      kept.append(None)
      continue
    if between:
      refuse(eqn, 'pads between entries')
    there = np.ones(size, bool)
    places = np.arange(n) + low
    inside = (places >= 0) & (places < size)
    there[places[inside]] = mask(n, k)[inside]
    kept.append(some(there))
  return [at(tuple(kept))]


def tile(eqn, operands, bind):
  """Repeats what is left."""
  (value,) = operands
  kept = tuple(
    None if k is None else some(np.tile(mask(n, k), times))
    for n, k, times in zip(
      value.full, value.kept, eqn.params['reps'], strict=True
    )
  )
  out = bind(value.array)[0]
  return [Kept(shape_of(eqn), kept, lambda: out)]


def dynamic_slice(eqn, operands, bind):
  """A slice of unknown place; shortened axes are taken whole."""
  value, *starts = operands
  sizes = list(eqn.params['slice_sizes'])
  for axis, k in enumerate(value.kept):
    if k is not None:
      if sizes[axis] != value.full[axis]:
        refuse(eqn, 'starts anywhere')
      sizes[axis] = len(k)
  arrays = (value.array, *(s.array for s in starts))
  out = bind(*arrays, slice_sizes=tuple(sizes))[0]
  return [Kept(shape_of(eqn), value.kept, lambda: out)]


def dynamic_update_slice(eqn, operands, bind):
  """Writes at an unknown place; shortened axes are written whole."""
  value, update, *starts = operands
  kept = tuple(map(meet, value.kept, update.kept))
  for axis, k in enumerate(kept):
    if k is not None and update.full[axis] != value.full[axis]:
      refuse(eqn, 'starts anywhere')
  arrays = (value.only(kept).array, update.only(kept).array)
  out = bind(*arrays, *(s.array for s in starts))[0]
  return [Kept(value.full, kept, lambda: out)]


def gather(eqn, operands, bind):
  """A look-up; shortened axes are taken whole at every index."""
  value, index = operands
  numbers = eqn.params['dimension_numbers']
  sizes = list(eqn.params['slice_sizes'])
  pairs = zip(
    numbers.operand_batching_dims,
    numbers.start_indices_batching_dims,
    strict=True,
  )
  inner, rows = list(value.kept), list(index.kept)
  for a, b in pairs:
    inner[a] = rows[b] = meet(inner[a], rows[b])
  gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
  for axis, k in enumerate(inner):
    if k is None or axis in numbers.operand_batching_dims:
      continue
    if axis in gone or sizes[axis] != value.full[axis]:
      refuse(eqn, 'looks up')
    sizes[axis] = len(k)
  offsets = iter(k for axis, k in enumerate(inner) if axis not in gone)
  batch = iter(rows[:-1])
  full = shape_of(eqn)
  kept = tuple(
    next(offsets) if axis in numbers.offset_dims else next(batch)
    for axis in range(len(full))
  )
  out = bind(
    value.only(tuple(inner)).array,
    index.only(tuple(rows)).array,
    slice_sizes=tuple(sizes),
  )[0]
  return [Kept(full, kept, lambda: out)]
