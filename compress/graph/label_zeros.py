"""Whether what a removed channel leaves behind is zero.

Removing channels equals zeroing all their entries in the leaves (running
variances excepted) only where no sum ever runs over what is not zero there. A
sum over two values of which neither vanishes with the channel - feature maps
`elu(q) + 1` and `elu(k) + 1` of linear attention - changes, as LayerNorm does.

`zeroed` follows, for each axis of an array, whether the entries at a removed
index are zero. It errs on the side of False.
"""

from compress.graph.label_rules import blocks, shape_of

_KEEPS_ZERO = frozenset(
  """
  abs asin asinh atan atanh cbrt ceil conj convert_element_type copy copy_p erf
  erf_inv expm1 floor imag integer_pow log1p mesh_cast name neg pbroadcast pcast
  pvary real reduce_precision reshard round sharding_constraint sign sin sinh
  sqrt square stop_gradient tan tanh
  """.split()
)
_ALL_ZERO = frozenset({'add', 'add_any', 'max', 'min', 'or', 'sub', 'xor'})
_ANY_ZERO = frozenset({'and', 'mul'})
_DROPS = frozenset(
  {'reduce_and', 'reduce_max', 'reduce_min', 'reduce_or', 'reduce_prod'}
  | {'reduce_sum', 'reduce_xor'}
)
_SAME_AXES = frozenset(
  {'cumsum', 'dynamic_slice', 'rev', 'slice', 'split', 'tile'}
)


def products_of_values(eqn, values) -> list[tuple[int, int]]:
  """Pairs of axes that a product sums over and that vanish on neither side."""
  if eqn.primitive.name == 'dot_general':
    pairs = zip(*eqn.params['dimension_numbers'][0], strict=True)
  elif eqn.primitive.name == 'conv_general_dilated':
    spec = eqn.params['dimension_numbers']
    pairs = [(spec.lhs_spec[1], spec.rhs_spec[1])]
  else:
    return []
  lhs, rhs = (value.zeroed for value in values)
  return [(i, j) for i, j in pairs if not (lhs[i] or rhs[j])]


def zeroed(eqn, values, axes) -> tuple[bool, ...]:
  """For each axis of a result: are entries at its removed indices zero?

  Args:
    eqn: the equation.
    values: its operands.
    axes: labels of the result.
  """
  name, params = eqn.primitive.name, eqn.params
  rank = len(axes)
  flags = values[0].zeroed if values else ()
  if values and values[0].zero and name in ('broadcast_in_dim', 'reshape'):
    return (True,) * rank
  if name in _KEEPS_ZERO:
    if name == 'integer_pow' and params['y'] <= 0:
      return (False,) * rank
    return flags
  if name in _ALL_ZERO or name in _ANY_ZERO or name in ('div', 'select_n'):
    used = {'div': values[:1], 'select_n': values[1:]}.get(name, values)
    join = any if name in _ANY_ZERO else all
    return tuple(
      join(_at(value, axis, len(axes[axis])) for value in used)
      for axis in range(rank)
    )
  if name == 'dot_general':
    return _dot(params['dimension_numbers'], values)
  if name == 'conv_general_dilated':
    spec = params['dimension_numbers']
    out = [False] * rank
    out[spec.out_spec[0]] = values[0].zeroed[spec.lhs_spec[0]]
    out[spec.out_spec[1]] = values[1].zeroed[spec.rhs_spec[0]]
    return tuple(out)
  if name == 'broadcast_in_dim':
    out = [False] * rank
    for i, to in enumerate(params['broadcast_dimensions']):
      out[to] = flags[i] and len(values[0].axes[i]) == len(axes[to])
    return tuple(out)
  if name == 'reshape':
    return _reshape(eqn, flags)
  if name == 'transpose':
    return tuple(flags[i] for i in params['permutation'])
  if name == 'squeeze' or name in _DROPS:
    gone = params['dimensions' if name == 'squeeze' else 'axes']
    return tuple(flag for i, flag in enumerate(flags) if i not in gone)
  if name in _SAME_AXES or (name == 'pad' and values[1].zero):
    return flags
  if name == 'concatenate':
    return tuple(all(v.zeroed[i] for v in values) for i in range(rank))
  return (False,) * rank


def _at(value, axis, size) -> bool:
  """Whether a value is zero at the removed indices of an axis it meets."""
  if value.zero:
    return True
  whole = value.axes and len(value.axes[axis]) == size
  return bool(whole and value.zeroed[axis])


def _dot(dimension_numbers, values):
  (c_lhs, c_rhs), (b_lhs, b_rhs) = dimension_numbers
  lhs, rhs = (value.zeroed for value in values)
  out = [lhs[i] or rhs[j] for i, j in zip(b_lhs, b_rhs, strict=True)]
  out += [f for i, f in enumerate(lhs) if i not in (*c_lhs, *b_lhs)]
  out += [f for i, f in enumerate(rhs) if i not in (*c_rhs, *b_rhs)]
  return tuple(out)


def _reshape(eqn, flags):
  out = [True] * len(shape_of(eqn.outvars[0]))
  for before, after in blocks(
    shape_of(eqn.invars[0]), shape_of(eqn.outvars[0])
  ):
    for i in after:
      out[i] = all(flags[j] for j in before)
  return tuple(out)
