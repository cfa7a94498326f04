"""Invented examples, and what teachers say of them: MUNGE.

Bucila, Caruana, Niculescu-Mizil 2006, 'Model Compression', KDD,
doi:10.1145/1150402.1150464. Where labelled examples are few, a small model
learns from many invented ones that a large one labels. MUNGE invents them next
to the real ones: it goes through the table, and for every example e and its
nearest neighbour e' exchanges, attribute by attribute with probability p,

  continuous a:  e_a <- N(e'_a, d),  e'_a <- N(e_a, d),  d = |e_a - e'_a| / s ,
  nominal a:     the two values.

Both rows change at once, and a row that comes later finds what earlier ones
left; k passes, each from the table as it was, give k times the examples.
Neighbours are those of the table as it was, found once; whether the paper's
are found anew among the changed rows could not be checked. Pixels are far from
ideal attributes: images of more than a few pixels are better munged as features
of some network.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from compress.distill.ensemble import ensemble_logits
from compress.errors import InputError


class TransferSet(NamedTuple):
  """Examples with a teacher's answers.

  Attributes:
    inputs: `[M, ...]`.
    logits: float32 `[M, C]` of the teacher, or of the ensemble.
  """

  inputs: np.ndarray
  logits: np.ndarray


def nearest_neighbours(
  table: ArrayLike, *, nominal: ArrayLike | None = None, chunk: int = 1024
) -> np.ndarray:
  """The nearest other row of every row, by comparing all.

  Squared distance: that of the continuous attributes, each scaled to 0..1,
  plus the number of nominal attributes that differ. Of equally near rows, up to
  rounding, it may be any.

  Args:
    table: real `[N, A]`, N at least 2; nominal attributes are codes.
    nominal: bool `[A]`; none by default.
    chunk: rows compared at once with all others; decides memory alone.

  Returns:
    int32 `[N]`, never a row's own number.

  Raises:
    InputError: a table that is none, values that are not finite.
  """
  table, nominal = _checked(table, nominal)
  if chunk < 1:
    raise InputError(f'chunk is {chunk}; right is 1 or more')
  low, high = table.min(0), table.max(0)
  width = np.where(high > low, high - low, 1.0)
  numbers = ((table - low) / width)[:, ~nominal]
  codes = table[:, nominal]
  norms = np.square(numbers).sum(1)
  found = np.empty(len(table), np.int32)
  for start in range(0, len(table), chunk):
    part = slice(start, start + chunk)
    far = norms[part, None] + norms[None] - 2 * numbers[part] @ numbers.T
    far = np.maximum(far, 0.0)
    for column in codes.T:
      far += column[part, None] != column[None]
    rows = np.arange(len(far))
    far[rows, start + rows] = np.inf
    found[part] = far.argmin(1)
  return found


def munge(
  key: jax.Array,
  table: ArrayLike,
  *,
  swap: float,
  spread: float,
  passes: int = 1,
  nominal: ArrayLike | None = None,
  neighbours: ArrayLike | None = None,
) -> jax.Array:
  """Invents examples between the rows of a table and their neighbours.

  The paper chooses p and s for each problem, on validation examples.

  Args:
    key: of what is exchanged, and of the noise.
    table: real `[N, A]`, N at least 2. Scales do not matter.
    swap: p, 0..1.
    spread: s > 0; infinity leaves a continuous exchange without noise.
    passes: k.
    nominal: bool `[A]`, attributes that are codes; none by default.
    neighbours: int `[N]`, of `nearest_neighbours`, which is the default.

  Returns:
    Float32 `[k N, A]`, pass by pass, rows in the table's order.

  Raises:
    InputError: a table that is none, values that are not finite, options out
      of range, neighbours that do not fit.
  """
  table, nominal = _checked(table, nominal)
  if not (0 <= swap <= 1 and spread > 0 and passes >= 1):
    raise InputError(
      f'swap {swap}, spread {spread}, passes {passes}; right is 0..1, above 0, '
      '1 or more'
    )
  if neighbours is None:
    neighbours = nearest_neighbours(table, nominal=nominal)
  other = np.asarray(neighbours)
  own = np.arange(len(table))
  if (
    other.shape != own.shape
    or not np.issubdtype(other.dtype, np.integer)
    or (other == own).any()
    or not np.isin(other, own).all()
  ):
    raise InputError(
      f'neighbours {list(other.shape)} of {len(table)} rows; right is the '
      'number of another row for each'
    )
  each = jax.vmap(_pass, in_axes=(0, None, None, None, None, None))
  found = each(
    jax.random.split(key, passes),
    jnp.asarray(table, jnp.float32),
    jnp.asarray(other, jnp.int32),
    jnp.asarray(nominal),
    jnp.float32(swap),
    jnp.float32(1 / spread),
  )
  return found.reshape(-1, table.shape[1])


@jax.jit
def _pass(key, table, neighbours, nominal, swap, tightness):
  """One pass through the table, row by row, each seeing what came before."""
  attributes = table.shape[1]

  def visit(table, row):
    number, other, key = row
    coin, noise = jax.random.split(key)
    swapped = jax.random.uniform(coin, (attributes,)) < swap
    noise = jax.random.normal(noise, (2, attributes))
    ours, theirs = table[number], table[other]
    deviation = jnp.where(nominal, 0.0, jnp.abs(ours - theirs) * tightness)
    new = jnp.where(swapped, theirs + deviation * noise[0], ours)
    old = jnp.where(swapped, ours + deviation * noise[1], theirs)
    return table.at[number].set(new).at[other].set(old), None

  rows = jnp.arange(len(table), dtype=jnp.int32)
  keys = jax.random.split(key, len(table))
  return jax.lax.scan(visit, table, (rows, neighbours, keys))[0]


def pseudo_label(
  inputs: ArrayLike,
  teachers: Sequence[Callable[[jax.Array], jax.Array]],
  *,
  batch: int = 256,
) -> TransferSet:
  """Has teachers answer examples without labels: Bucila's transfer set.

  The paper fits real-valued answers by squared error, `logit_loss`; logits
  also serve every softened loss.

  Args:
    inputs: `[M, ...]`, such as of `munge`, shaped as the teachers take them.
    teachers: each `inputs -> logits [B, C]`; of several, the logarithm of
      their mean probability.
    batch: examples at once; the last batch is shorter.

  Returns:
    The examples and the answers, on the host.

  Raises:
    InputError: no teacher, no examples, a batch below 1.
  """
  inputs = np.asarray(inputs)
  if not len(inputs) or batch < 1:
    raise InputError(
      f'{len(inputs)} examples in batches of {batch}; right is 1 or more'
    )
  teachers = list(teachers)
  answers = []
  for start in range(0, len(inputs), batch):
    part = jnp.asarray(inputs[start : start + batch])
    # One teacher's own logits, not normalised: a regression on logits sees it.
    found = (
      teachers[0](part)
      if len(teachers) == 1
      else ensemble_logits(teachers, part)
    )
    answers.append(np.asarray(found, np.float32))
  return TransferSet(inputs, np.concatenate(answers))


def _checked(table, nominal) -> tuple[np.ndarray, np.ndarray]:
  """The table as float64 and its nominal attributes as bool."""
  table = np.asarray(table, np.float64)
  if table.ndim != 2 or len(table) < 2 or not np.isfinite(table).all():
    raise InputError(
      f'a table {list(table.shape)}; right is [N, A] of finite numbers, with '
      'at least two rows'
    )
  if nominal is None:
    nominal = np.zeros(table.shape[1], bool)
  nominal = np.asarray(nominal)
  if nominal.shape != table.shape[1:] or nominal.dtype != bool:
    raise InputError(
      f'nominal {nominal.dtype} {list(nominal.shape)}; right is a bool for '
      f'each of the {table.shape[1]} attributes'
    )
  return table, nominal
