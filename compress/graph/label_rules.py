"""What each primitive says about the labels of its operands and results.

A rule `rule(labels, eqn, values)` links, splits and freezes the labels of the
operands and returns those of the results, a tuple of axes for each. Here are
those that combine arrays and reshape them; `label_index_rules.py` has those
that read parts and reduce.
"""

import math
from typing import NamedTuple

import numpy as np

from compress.graph.labels import INDEX, Labels

Axes = tuple[np.ndarray, ...]


class Value(NamedTuple):
  """An array during the analysis.

  Attributes:
    axes: labels of each axis.
    leaves: numbers of the leaves that it is made of; None if it depends on
      the model's inputs or went through a loop.
    static: whether it depends on neither leaves nor inputs.
    zero: whether all its entries are known to be 0.
    zeroed: for each axis, whether entries at removed indices are 0 once the
      channels are masked; see `label_zeros.py`.
  """

  axes: Axes
  leaves: frozenset[int] | None = frozenset()
  static: bool = False
  zero: bool = False
  zeroed: tuple[bool, ...] = ()


def shape_of(var) -> tuple[int, ...]:
  """The shape of a variable, () for what has none."""
  return tuple(getattr(var.aval, 'shape', ()))


def held(labels: Labels, eqn, values, reason: str) -> list[Axes]:
  """Freezes every operand; the results stay."""
  for value in values:
    for axis in value.axes:
      labels.freeze(axis, reason)
  return [
    tuple(labels.held(size, reason) for size in shape_of(var))
    for var in eqn.outvars
  ]


def unified(labels: Labels, axes_of: list[Axes], shape) -> Axes:
  """Axis by axis the same label; axes of size 1 are spread over the others."""
  out = []
  for axis, size in enumerate(shape):
    meeting = [a[axis] for a in axes_of if a and len(a[axis]) == size]
    label = meeting[0] if meeting else labels.fixed(size)
    for other in meeting[1:]:
      label = labels.unify(label, other)
    out.append(label)
  return tuple(out)


def elementwise(labels, eqn, values):
  """Every operand has the same axes; scalars have none."""
  shape = shape_of(eqn.outvars[0])
  axes = unified(labels, [v.axes for v in values], shape)
  return [axes] * len(eqn.outvars)


def compare(labels, eqn, values):
  """Element-wise; but what is compared with its own index must stay."""
  for value in values:
    if value.static:
      for axis in value.axes:
        atoms = labels.factors(axis)[0]
        if atoms.any() and np.isin(atoms, labels.marked(INDEX)).any():
          labels.freeze(axis, 'compared with its index')
  return elementwise(labels, eqn, values)


def bitcast(labels, eqn, values):
  """Element-wise where no axis comes or goes."""
  if shape_of(eqn.outvars[0]) != shape_of(eqn.invars[0]):
    return held(labels, eqn, values, 'cast to another width')
  return [values[0].axes]


def each(labels, eqn, values):
  """The i-th result is the i-th operand."""
  del labels, eqn
  return [value.axes for value in values]


def conv(labels, eqn, values):
  """Convolution, grouped: features are (group, share), outputs likewise."""
  spec = eqn.params['dimension_numbers']
  groups = eqn.params['feature_group_count']
  lhs, rhs = (v.axes for v in values)
  if eqn.params['batch_group_count'] != 1:
    return held(labels, eqn, values, 'a convolution of batch groups')
  for axis in spec.lhs_spec[2:]:
    labels.freeze(lhs[axis], 'a spatial axis')
  for axis in spec.rhs_spec[2:]:
    labels.freeze(rhs[axis], 'a spatial axis')
  features, (outputs, inputs) = lhs[spec.lhs_spec[1]], spec.rhs_spec[:2]
  if groups == 1:
    labels.unify(features, rhs[inputs])
  else:
    group = labels.fresh(groups)
    share = rhs[inputs]
    labels.unify(features, labels.outer([group, share]))
    each_group = labels.fresh(len(rhs[outputs]) // groups)
    labels.unify(rhs[outputs], labels.outer([group, each_group]))
  out = [labels.fixed(size) for size in shape_of(eqn.outvars[0])]
  out[spec.out_spec[0]] = lhs[spec.lhs_spec[0]]
  out[spec.out_spec[1]] = rhs[outputs]
  return [tuple(out)]


def dot(labels, eqn, values):
  """Contracted axes agree, batch axes agree and lead, free axes follow."""
  (c_lhs, c_rhs), (b_lhs, b_rhs) = eqn.params['dimension_numbers']
  lhs, rhs = (v.axes for v in values)
  for i, j in zip(c_lhs, c_rhs, strict=True):
    labels.unify(lhs[i], rhs[j])
  batch = [
    labels.unify(lhs[i], rhs[j]) for i, j in zip(b_lhs, b_rhs, strict=True)
  ]
  free = [a for i, a in enumerate(lhs) if i not in (*c_lhs, *b_lhs)]
  free += [a for i, a in enumerate(rhs) if i not in (*c_rhs, *b_rhs)]
  return [(*batch, *free)]


def broadcast_in_dim(labels, eqn, values):
  """Axes pass where their size does; new ones have atoms of their own."""
  shape = shape_of(eqn.outvars[0])
  out: list = [None] * len(shape)
  for axis, to in zip(
    values[0].axes, eqn.params['broadcast_dimensions'], strict=True
  ):
    if len(axis) == shape[to]:
      out[to] = axis
  return [
    tuple(
      labels.fresh(size) if axis is None else axis
      for axis, size in zip(out, shape, strict=True)
    )
  ]


def reshape(labels, eqn, values):
  """Splits and merges axes in the smallest blocks of equal size."""
  old, new = values[0].axes, shape_of(eqn.outvars[0])
  if eqn.params.get('dimensions') is not None or 0 in new:
    return held(labels, eqn, values, 'reshaped in another order')
  out = [labels.fixed(size) for size in new]
  for before, after in blocks([len(a) for a in old], new):
    axes = [old[i] for i in before]
    if len(before) == 1 and len(after) == 1:
      out[after[0]] = axes[0]
    elif len(after) == 1:
      out[after[0]] = labels.outer(axes)
    elif len(before) == 1:
      split = labels.split(axes[0], [new[i] for i in after])
      for i, axis in zip(after, split, strict=True):
        out[i] = axis
    else:
      for axis in axes:
        labels.freeze(axis, 'reshaped across its axes')
  return [tuple(out)]


def blocks(old, new) -> list[tuple[list[int], list[int]]]:
  """Pairs of smallest runs of axes with equal products; no axes of size 1."""
  old = [(i, n) for i, n in enumerate(old) if n != 1]
  new = [(i, n) for i, n in enumerate(new) if n != 1]
  found = []
  while old:
    before, after = [old.pop(0)], [new.pop(0)]
    while (gap := _product(before) - _product(after)) != 0:
      if gap < 0:
        before.append(old.pop(0))
      else:
        after.append(new.pop(0))
    found.append(([i for i, _ in before], [i for i, _ in after]))
  return found


def _product(axes):
  return math.prod(n for _, n in axes)


def transpose(labels, eqn, values):
  """Permutes axes."""
  del labels
  return [tuple(values[0].axes[i] for i in eqn.params['permutation'])]


def rev(labels, eqn, values):
  """Reverses axes."""
  del labels
  turned = eqn.params['dimensions']
  axes = enumerate(values[0].axes)
  return [tuple(a[::-1] if i in turned else a for i, a in axes)]


def squeeze(labels, eqn, values):
  """Drops axes of size 1, which are fixed already."""
  del labels
  gone = eqn.params['dimensions']
  return [tuple(a for i, a in enumerate(values[0].axes) if i not in gone)]


def expand_dims(labels, eqn, values):
  """Adds axes of size 1."""
  axes = list(values[0].axes)
  for i in sorted(eqn.params['dimensions']):
    axes.insert(i, labels.fixed(1))
  return [tuple(axes)]


def tile(labels, eqn, values):
  """Repeats axes."""
  out = []
  for axis, reps in zip(values[0].axes, eqn.params['reps'], strict=True):
    if len(axis) == 1:
      out.append(labels.fresh(reps))
    else:
      out.append(axis if reps == 1 else taken(labels, np.tile(axis, reps)))
  return [tuple(out)]


def taken(labels: Labels, axis: np.ndarray) -> np.ndarray:
  """The labels of an axis made of other axes' entries."""
  return axis if axis.any() else labels.fixed(len(axis))


def concatenate(labels, eqn, values):
  """Joins the labels of one axis; the other axes agree."""
  axis = eqn.params['dimension']
  others = [(*v.axes[:axis], *v.axes[axis + 1 :]) for v in values]
  out = list(unified(labels, others, [len(a) for a in others[0]]))
  joined = np.concatenate([v.axes[axis] for v in values])
  out.insert(axis, taken(labels, joined))
  return [tuple(out)]
