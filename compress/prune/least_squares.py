"""Least squares and LASSO from second moments, in float64 on the host."""

from typing import NamedTuple

import numpy as np


class Moments(NamedTuple):
  """Second moments of a layer's inputs X [M, D] and targets Y [M, O].

  Attributes:
    inputs: float64 [D, D], X^T X / M.
    products: float64 [D, O], X^T Y / M.
    targets: ||Y||^2 / M.
  """

  inputs: np.ndarray
  products: np.ndarray
  targets: float


def moments(x: np.ndarray, y: np.ndarray) -> Moments:
  """The second moments of samples.

  Args:
    x: [M, D].
    y: [M, O].

  Returns:
    Their moments.
  """
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  m = len(x)
  return Moments(x.T @ x / m, x.T @ y / m, float(np.square(y).sum() / m))


def lasso(
  gram: np.ndarray,
  products: np.ndarray,
  *,
  penalty: float,
  start: np.ndarray | None = None,
  tolerance: float = 1e-8,
  sweeps: int = 1000,
) -> np.ndarray:
  """Minimises b'Gb / 2 - p'b + penalty ||b||_1 by coordinate descent.

  With orthonormal columns (G = I) it is the soft threshold of p.

  Args:
    gram: [n, n] G = Z'Z / M, of columns Z.
    products: [n] p = Z'y / M.
    penalty: >= 0.
    start: [n] to begin from; zeros by default.
    tolerance: stops when no coefficient moves by more than this times the
      largest.
    sweeps: stops after as many.

  Returns:
    float64 [n]; 0 for columns that are zero.
  """
  gram = np.asarray(gram, np.float64)
  beta = np.zeros(len(gram)) if start is None else np.array(start, np.float64)
  rest = np.asarray(products, np.float64) - gram @ beta
  for _ in range(sweeps):
    moved = 0.0
    for i, own in enumerate(np.diag(gram)):
      if own <= 0:
        beta[i] = 0
        continue
      pull = rest[i] + own * beta[i]
      new = np.sign(pull) * max(abs(pull) - penalty, 0) / own
      if new != beta[i]:
        rest -= gram[:, i] * (new - beta[i])
        moved = max(moved, abs(new - beta[i]))
        beta[i] = new
    if moved <= tolerance * np.abs(beta).max(initial=0):
      break
  return beta


def refit(
  found: Moments,
  kernel: np.ndarray,
  keep: np.ndarray,
  *,
  ridge: float = 1e-6,
) -> np.ndarray:
  """Least squares for the rows of a kernel that stay.

  Args:
    found: moments of the inputs and the targets.
    kernel: [D, O], the present one.
    keep: bool [D].
    ridge: >= 0, times the mean square of the inputs; pulls to `kernel`.

  Returns:
    float64 [D, O]; rows that are not kept are zero.
  """
  inputs = found.inputs[np.ix_(keep, keep)]
  old = np.asarray(kernel, np.float64)[keep]
  rest = found.products[keep] - inputs @ old
  out = np.zeros(np.shape(kernel))
  scale = np.trace(inputs) / max(1, len(inputs))
  if scale > 0:
    damped = inputs + ridge * scale * np.eye(len(inputs))
    old = old + np.linalg.lstsq(damped, rest, rcond=None)[0]
  out[keep] = old
  return out


def relative_error(found: Moments, kernel: np.ndarray) -> float:
  """||Y - X W||^2 / ||Y||^2.

  Args:
    found: moments of X and Y.
    kernel: [D, O], W.

  Returns:
    At least 0; 0 where Y is zero.
  """
  explained = 2 * np.vdot(kernel, found.products)
  explained -= np.vdot(kernel, found.inputs @ kernel)
  if not found.targets:
    return 0.0
  return max(0.0, float(1 - explained / found.targets))
