"""Learning rates and optimizers, as optax has them, with this field's habits.

A schedule is `step -> learning rate`, an optimizer an optax gradient
transformation. Weight decay touches only what a mask lets through: kernels,
never BatchNorm, biases, PReLU slopes or learned scales.
"""

import itertools
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from compress.errors import InputError

UNDECAYED = (
  r'bias',
  r'slope',
  r'scales?',
  r'offset',
  r'spread',
  r'mean',
  r'var',
  r'zero_points?',
  r'learned',
  r'(.*_)?(bn|batch_?norm|layer_?norm|norm)_?\d*',
)

Tree = Any


def constant(rate: float, *, warmup: int = 0) -> optax.Schedule:
  """Return the same rate at every step.

  Args:
    rate: learning rate.
    warmup: steps over which the rate first rises linearly from 0.

  Returns:
    The schedule.

  Raises:
    InputError: a negative number of steps.
  """
  return _warmed(optax.constant_schedule(rate), rate, warmup)


def cosine(
  rate: float, *, steps: int, warmup: int = 0, end: float = 0.0
) -> optax.Schedule:
  """Return half a cosine wave (Loshchilov and Hutter 2017, arXiv 1608.03983).

  Equation 5 of the paper for one cycle, per step instead of per epoch, after a
  linear warm-up (Goyal et al. 2017, arXiv 1706.02677, section 2.2).

  Args:
    rate: the highest learning rate, reached at step `warmup`.
    steps: length of the run, warm-up included.
    warmup: steps over which the rate first rises linearly from 0.
    end: learning rate at `steps` and after.

  Returns:
    The schedule.

  Raises:
    InputError: warm-up not shorter than the run, or a negative number.
  """
  if not 0 <= warmup < steps:
    raise InputError(
      f'A warm-up of {warmup} steps does not fit a run of {steps} steps; it is '
      f'from 0 to steps - 1.'
    )
  decay = optax.cosine_decay_schedule(
    rate, steps - warmup, alpha=end / rate if rate else 0.0
  )
  return _warmed(decay, rate, warmup)


def staircase(
  rate: float,
  *,
  boundaries: Sequence[int],
  factor: float = 0.1,
  warmup: int = 0,
) -> optax.Schedule:
  """Return a rate that is multiplied by a factor at each boundary.

  Args:
    rate: learning rate before the first boundary.
    boundaries: rising step numbers; from each on the rate is `factor` times
      what it was. They count from the start of the run.
    factor: above 0.
    warmup: steps over which the rate first rises linearly from 0.

  Returns:
    The schedule.

  Raises:
    InputError: boundaries do not rise, or the first lies in the warm-up.
  """
  if any(low >= high for low, high in itertools.pairwise(boundaries)):
    raise InputError(f'The boundaries {list(boundaries)} must rise.')
  if boundaries and boundaries[0] < warmup:
    raise InputError(
      f'The first boundary, {boundaries[0]}, lies in the warm-up of {warmup} '
      'steps.'
    )
  decay = optax.piecewise_constant_schedule(
    rate, {edge - warmup: factor for edge in boundaries}
  )
  return _warmed(decay, rate, warmup)


def decayed(params: Tree, *, exclude: Sequence[str] = UNDECAYED) -> Tree:
  """Tell which parameters weight decay applies to.

  Args:
    params: pytree of arrays.
    exclude: patterns of names. A parameter is left out when any part of its
      path (`conv1/bn/scale` has three) matches one of them as a whole, in any
      case of letters.

  Returns:
    Pytree of bools: True where decay applies.
  """
  pattern = re.compile('|'.join(f'(?:{p})' for p in exclude), re.IGNORECASE)

  def keep(path, leaf):
    del leaf
    names = jax.tree_util.keystr(path, simple=True, separator='/').split('/')
    return not any(pattern.fullmatch(name) for name in names)

  return jax.tree_util.tree_map_with_path(keep, params)


def sgd(
  rate: optax.ScalarOrSchedule,
  *,
  momentum: float = 0.9,
  nesterov: bool = True,
  weight_decay: float = 5e-4,
  clip: float | None = 5.0,
  exclude: Sequence[str] = UNDECAYED,
) -> optax.GradientTransformation:
  """Return stochastic gradient descent with momentum.

  The defaults are those of QuantFace (Boutros et al. 2022, arXiv 2206.10526):
  Nesterov momentum 0.9, weight decay 5e-4, gradients clipped to a global norm
  of 5. The order is that of the usual implementations: clip, add the decay to
  the gradient, momentum, times the rate. Departures: QuantFace decays all
  parameters, here only those `decayed` lets through; an exact norm limit, where
  PyTorch adds 1e-6 to the norm.

  Args:
    rate: learning rate or schedule.
    momentum: 0 to below 1; 0 is plain gradient descent.
    nesterov: look-ahead momentum.
    weight_decay: L2 coefficient, added to the gradient.
    clip: highest global norm of the gradient; None does not clip.
    exclude: patterns of the names without decay, as in `decayed`.

  Returns:
    The optimizer.

  Raises:
    InputError: a number out of range.
  """
  _check_optimizer(weight_decay, clip)
  if not 0 <= momentum < 1:
    raise InputError(f'The momentum is {momentum}; it is from 0 to below 1.')
  parts = _clipped(clip)
  if weight_decay:
    parts.append(_decay(weight_decay, exclude))
  parts.append(optax.sgd(rate, momentum=momentum or None, nesterov=nesterov))
  return optax.chain(*parts)


def adam(
  rate: optax.ScalarOrSchedule,
  *,
  b1: float = 0.9,
  b2: float = 0.999,
  epsilon: float = 1e-8,
  weight_decay: float = 0.0,
  clip: float | None = None,
  exclude: Sequence[str] = UNDECAYED,
) -> optax.GradientTransformation:
  """Return Adam, with decoupled weight decay (AdamW) if there is any.

  Adam: Kingma and Ba 2015 (arXiv 1412.6980), algorithm 1. Decoupled decay:
  Loshchilov and Hutter 2019 (arXiv 1711.05101), algorithm 2, with the decay
  multiplied by the learning rate, as is usual.

  Args:
    rate: learning rate or schedule.
    b1: decay of the first moment.
    b2: decay of the second moment.
    epsilon: added to the root of the second moment.
    weight_decay: coefficient of the decoupled decay.
    clip: highest global norm of the gradient; None does not clip.
    exclude: patterns of the names without decay, as in `decayed`.

  Returns:
    The optimizer.

  Raises:
    InputError: a number out of range.
  """
  _check_optimizer(weight_decay, clip)
  parts = _clipped(clip)
  parts.append(_lenient(optax.scale_by_adam(b1=b1, b2=b2, eps=epsilon)))
  if weight_decay:
    parts.append(_decay(weight_decay, exclude))
  return optax.chain(*parts, optax.scale_by_learning_rate(rate))


def _warmed(schedule, rate, warmup):
  if warmup < 0:
    raise InputError(f'The warm-up is {warmup} steps; it is at least 0.')
  if warmup:
    rise = optax.linear_schedule(0.0, rate, warmup)
    schedule = optax.join_schedules([rise, schedule], [warmup])
  # Schedules of optax mix the integer count with floats, which strict dtype
  # promotion refuses. float32 counts exactly up to 2**24 steps.
  return lambda count: schedule(jnp.asarray(count).astype(jnp.float32))


def _lenient(transformation):
  """Let a transformation of optax mix dtypes under strict promotion."""

  def update(updates, state, params=None):
    with jax.numpy_dtype_promotion('standard'):
      return transformation.update(updates, state, params)

  return optax.GradientTransformation(transformation.init, update)


def _decay(coefficient, exclude):
  def mask(params):
    return decayed(params, exclude=exclude)

  return optax.add_decayed_weights(coefficient, mask=mask)


def _clipped(clip):
  return [] if clip is None else [optax.clip_by_global_norm(clip)]


def _check_optimizer(weight_decay, clip):
  if weight_decay < 0:
    raise InputError(f'The weight decay is {weight_decay}; it is at least 0.')
  if clip is not None and clip <= 0:
    raise InputError(f'The clipping norm is {clip}; it is above 0, or None.')
