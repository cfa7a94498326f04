"""Which fakes of a conditional GAN a student learns from, and their labels.

Ding, Wang, Xu, Wang and Welch 2021 (cGAN-KD), arXiv:2104.03164, after the GAN
is trained. For every class, or every interval of numbers:

1. rejection by density ratio (cDR-RS; Ding et al. 2021, arXiv:2103.11166): a
   fake x of class y stays with probability r(x|y) / M, where r is the ratio of
   real to fake density in a network's features (`density_ratio`) and M the
   largest seen;
2. the filter: of those, the share rho that the teacher errs least on;
3. the adjustment: the label becomes what the teacher says.

In regression the error is absolute in place of the cross-entropy, and the label
the teacher's number. The reference code has one cut-off for all numbers, which
is one interval here; with several no part of the range is filtered out because
the teacher errs more there. Figures on the host are float64 NumPy.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from compress.errors import InputError


def accept_by_ratio(
  ratios: np.ndarray, draws: np.ndarray, *, bound: float
) -> tuple[np.ndarray, float]:
  """Rejection sampling by density ratio, with a running maximum.

  A fake is accepted where `draw < r / M`; M is the largest of `bound` and the
  ratios so far, its own among them. As long as `bound` holds, the share of the
  accepted is E[r] / M.

  Args:
    ratios: [N], 0 or more, in the order in which they were drawn.
    draws: [N], uniform in [0, 1).
    bound: M so far, from the fakes of a burn-in.

  Returns:
    Bool [N], the accepted ones, and the new bound.
  """
  ratios = np.asarray(ratios, np.float64)
  running = np.maximum.accumulate(np.append(bound, ratios))
  accepted = np.asarray(draws, np.float64) * running[1:] < ratios
  return accepted, float(running[-1])


def class_errors(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """A teacher's cross-entropy for every fake.

  Args:
    logits: [N, K].
    labels: int [N], the classes the fakes were made for.

  Returns:
    Float64 [N], nats.

  Raises:
    InputError: a label that is no class.
  """
  logits = np.asarray(logits, np.float64)
  if not np.isin(labels, np.arange(logits.shape[1])).all():
    raise InputError(
      f'labels from {np.min(labels)} to {np.max(labels)} for '
      f'{logits.shape[1]} classes'
    )
  shifted = logits - logits.max(axis=1, keepdims=True)
  own = np.take_along_axis(shifted, np.asarray(labels)[:, None], axis=1)
  return np.log(np.exp(shifted).sum(axis=1)) - own.squeeze(1)


def regression_errors(outputs: np.ndarray, numbers: np.ndarray) -> np.ndarray:
  """A teacher's absolute error for every fake.

  Args:
    outputs: of the teacher, [N].
    numbers: [N], what the fakes were made for.

  Returns:
    Float64 [N].
  """
  gap = np.asarray(outputs, np.float64) - np.asarray(numbers, np.float64)
  return np.abs(gap)


def error_cutoff(errors: np.ndarray, *, rho: float) -> float:
  """The largest error that the filter lets pass.

  Args:
    errors: of a burn-in, [N] of one class (or of one interval of numbers).
    rho: share that passes, above 0 and at most 1; 0.9 in cGAN-KD for classes,
      0.7 for numbers.

  Returns:
    The smallest error that at least the share rho does not exceed; infinite
    for rho = 1, so that everything passes.

  Raises:
    InputError: rho out of range, or no error.
  """
  if not 0 < rho <= 1:
    raise InputError(f'rho is {rho}; right is above 0 and at most 1')
  if not len(errors):
    raise InputError('there is no error to take the quantile of')
  if rho == 1:
    return float('inf')
  return float(np.quantile(errors, rho, method='inverted_cdf'))


def adjust_labels(logits: np.ndarray) -> np.ndarray:
  """What the teacher takes the fakes for.

  Args:
    logits: [N, K].

  Returns:
    Int32 [N].
  """
  return np.asarray(logits).argmax(axis=1).astype(np.int32)


class Subsampled(NamedTuple):
  """The fakes that a student learns from; a group is a class or an interval.

  Attributes:
    images: float32 [N, H, W, C].
    labels: [N], the teacher's: int32 classes or float32 numbers.
    conditions: [N], what they were made for, in the type of the labels: as
      many of each group, one group after the other.
    bounds: float64 [G], M of each group.
    cutoffs: float64 [G], the largest error of each group.
    accepted: float64 [G], share of the candidates that the ratio let pass.
  """

  images: np.ndarray
  labels: np.ndarray
  conditions: np.ndarray
  bounds: np.ndarray
  cutoffs: np.ndarray
  accepted: np.ndarray


def subsample_fakes(
  draw: Callable[[np.ndarray, jax.Array], np.ndarray],
  ratio: Callable[[np.ndarray, np.ndarray], np.ndarray],
  teacher: Callable[[np.ndarray], np.ndarray],
  key: jax.Array,
  *,
  classes: int,
  count: int,
  rho: float = 0.9,
  burn_in: int = 5000,
  batch: int = 256,
  most: int = 100,
) -> Subsampled:
  """Draws, rejects, filters and labels fakes, class by class.

  The burn-in of a class gives M, and, of those of its fakes that the ratio lets
  pass, the cut-off; its fakes are not used again.

  Args:
    draw: `(classes int [B], key) -> images float32 [B, H, W, C]`.
    ratio: `(images, classes int [B]) -> [B]`, the density ratio.
    teacher: `images -> logits [B, K]`.
    key: random key.
    classes: K.
    count: fakes of a class that are wanted.
    rho: see `error_cutoff`.
    burn_in: fakes of a class that are drawn for M and the cut-off.
    batch: fakes at once.
    most: candidates of a class, in multiples of `count`, after which it is
      given up.

  Returns:
    The fakes, `count` of each class.

  Raises:
    InputError: of a class too few are left.
  """

  def ask(label, size, key):
    del key
    return np.full(size, label, np.int32)

  return _subsample(
    [f'class {label}' for label in range(classes)],
    ask,
    draw,
    ratio,
    teacher,
    key,
    errors_of=class_errors,
    labels_of=adjust_labels,
    count=count,
    rho=rho,
    burn_in=burn_in,
    batch=batch,
    most=most,
  )


def subsample_number_fakes(
  draw: Callable[[np.ndarray, jax.Array], np.ndarray],
  ratio: Callable[[np.ndarray, np.ndarray], np.ndarray],
  teacher: Callable[[np.ndarray], np.ndarray],
  key: jax.Array,
  *,
  edges: Sequence[float],
  count: int,
  rho: float = 0.7,
  burn_in: int = 5000,
  batch: int = 256,
  most: int = 100,
) -> Subsampled:
  """Draws, rejects, filters and labels fakes, interval by interval.

  As `subsample_fakes` with an interval for a class: its fakes are made for
  numbers uniform in it, and it has an M and a cut-off of its own.

  Args:
    draw: `(numbers float32 [B], key) -> images float32 [B, H, W, C]`.
    ratio: `(images, numbers float32 [B]) -> [B]`, the density ratio.
    teacher: `images -> numbers [B]` in the unit of the edges.
    key: random key.
    edges: ends of the intervals, rising; G + 1 for G intervals.
    count: fakes of an interval that are wanted.
    rho: see `error_cutoff`; the errors are absolute.
    burn_in: fakes of an interval that are drawn for M and the cut-off.
    batch: fakes at once.
    most: candidates of an interval, in multiples of `count`, after which it is
      given up.

  Returns:
    The fakes, `count` of each interval.

  Raises:
    InputError: edges that do not rise, or of an interval too few are left.
  """
  edges = np.asarray(edges, np.float64)
  if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
    raise InputError(
      f'edges {edges.tolist()}; right are two numbers or more that rise'
    )

  def ask(interval, size, key):
    low, high = edges[interval : interval + 2]
    uniform = np.asarray(jax.random.uniform(key, (size,)), np.float64)
    return (low + (high - low) * uniform).astype(np.float32)

  return _subsample(
    [
      f'{low:g} to {high:g}'
      for low, high in zip(edges, edges[1:], strict=False)
    ],
    ask,
    draw,
    ratio,
    teacher,
    key,
    errors_of=regression_errors,
    labels_of=lambda outputs: np.asarray(outputs, np.float32),
    count=count,
    rho=rho,
    burn_in=burn_in,
    batch=batch,
    most=most,
  )


def _subsample(
  groups,
  ask,
  draw,
  ratio,
  teacher,
  key,
  *,
  errors_of,
  labels_of,
  count,
  rho,
  burn_in,
  batch,
  most,
) -> Subsampled:
  """Group by group; `ask(group, size, key)` gives the conditions of fakes."""
  if min(count, burn_in, batch, most) < 1:
    raise InputError(
      f'count {count}, burn_in {burn_in}, batch {batch}, most {most}; right is '
      '1 or more of each'
    )
  kept = []
  bounds, cutoffs, shares = np.zeros((3, len(groups)))
  for group, name in enumerate(groups):
    of_group = jax.random.fold_in(key, group)

    def candidates(number, size, group=group, of_group=of_group):
      first, second = jax.random.split(jax.random.fold_in(of_group, number))
      conditions = ask(group, size, jax.random.fold_in(second, 0))
      images = np.asarray(draw(conditions, first))
      draws = np.asarray(jax.random.uniform(second, (size,)))
      ratios = _finite(ratio(images, conditions), 'density ratios')
      return images, conditions, ratios, draws

    def errors_at(images, conditions):
      outputs = _finite(teacher(images), 'the teacher’s answers')
      return errors_of(outputs, conditions)

    tried = [candidates(i, batch) for i in range(-(-burn_in // batch))]
    images, conditions, ratios, draws = (
      np.concatenate(x)[:burn_in] for x in zip(*tried, strict=True)
    )
    bound = float(ratios.max())
    if not bound > 0:
      raise InputError(f'{name}: the density ratio of every fake is 0')
    passed, _ = accept_by_ratio(ratios, draws, bound=bound)
    errors = errors_at(images[passed], conditions[passed])
    cutoffs[group] = error_cutoff(errors, rho=rho)
    found, drawn, accepted = [], 0, 0
    while sum(len(x[0]) for x in found) < count and drawn < most * count:
      images, conditions, ratios, draws = candidates(
        len(tried) + drawn // batch, batch
      )
      passed, bound = accept_by_ratio(ratios, draws, bound=bound)
      drawn, accepted = drawn + batch, accepted + int(passed.sum())
      errors = errors_at(images, conditions)
      good = passed & (errors <= cutoffs[group])
      found.append((images[good], conditions[good]))
    bounds[group], shares[group] = bound, accepted / max(drawn, 1)
    images, conditions = (
      np.concatenate(x)[:count] for x in zip(*found, strict=True)
    )
    if len(images) < count:
      raise InputError(
        f'{name}: {len(images)} of {drawn} fakes are left, {count} are wanted; '
        'train the GAN longer, or ask for fewer'
      )
    kept.append((images, conditions))
  images, conditions = (np.concatenate(x) for x in zip(*kept, strict=True))
  parts = range(0, len(images), batch)
  outputs = np.concatenate([teacher(images[i : i + batch]) for i in parts])
  return Subsampled(
    images, labels_of(outputs), conditions, bounds, cutoffs, shares
  )


def _finite(values, name) -> np.ndarray:
  values = np.asarray(values)
  if not np.isfinite(values).all():
    raise InputError(f'{name} are not finite')
  return values
