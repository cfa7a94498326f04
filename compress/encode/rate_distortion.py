r"""Codes that cost few bits and little error, for the context coder.

DeepCABAC, Wiedemann et al. 2020, arXiv:1907.11900, equation 10 (greedy, one
code after the other, each under the models as those before have left them):
`argmin_k eta_i ((w_i - k step) / step)^2 + rate * bits_i(k)` over the nearest
k, its two neighbours and 0. The error counts in steps, so that one `rate` means
the same for every tensor.
"""

import numpy as np

from compress.encode import context_loops as loops
from compress.encode.context_models import ContextModel, start
from compress.errors import InputError

_INT32 = np.iinfo(np.int32)


def choose_codes(
  weights: np.ndarray,
  *,
  step: float | np.ndarray,
  rate: float,
  importance: np.ndarray | None = None,
  bounds: tuple[int, int] = (-(1 << 30), 1 << 30),
  row_length: int | None = None,
  model: ContextModel | None = None,
) -> np.ndarray:
  """Quantizes weights so that their codes are short.

  Args:
    weights: float array of any shape, read in C order.
    step: what one code stands for, above 0; a number, or an array that
      broadcasts against the weights (a scale for each channel).
    rate: squared steps that a bit may cost, 0 (nearest code) or more.
    importance: what a squared error counts, of the weights' shape, 0 or more;
      None counts all alike (the paper's DC-v2).
    bounds: smallest and largest code.
    row_length: codes in a row, as the coder will have it; None for the last
      axis.
    model: as the coder will have it; None for the default.

  Returns:
    int32 of the weights' shape.

  Raises:
    InputError: a step, rate, importance, weight or bound that is none.
  """
  weights = np.asarray(weights, np.float64)
  step = np.asarray(step, np.float64)
  low, high = bounds
  if not (np.isfinite(step).all() and (step > 0).all()):
    raise InputError('step: right is finite and above 0')
  if not (np.isfinite(rate) and rate >= 0):
    raise InputError(f'rate={rate}: right is 0 or more')
  if not np.isfinite(weights).all():
    raise InputError('weights that are not finite have no code')
  if not _INT32.min // 2 <= low <= high <= _INT32.max // 2 + 1:
    raise InputError(f'bounds={bounds}: right are two codes of 31 bits')
  counts = np.ones(1) if importance is None else np.asarray(importance)
  counts = counts.astype(np.float64).reshape(-1)
  if importance is not None and (
    counts.size != weights.size or not (counts >= 0).all()
  ):
    raise InputError("importance: right is of the weights' shape, 0 or more")
  if not weights.size:
    return np.zeros(weights.shape, np.int32)
  row = row_length or (weights.shape[-1] if weights.ndim else None)
  levels = np.ascontiguousarray((weights / step).reshape(-1))
  arguments = start(model or ContextModel(), weights.size, row)
  codes = loops.choose_codes(levels, counts, rate, low, high, *arguments)
  return codes.reshape(weights.shape)
