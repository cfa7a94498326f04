r"""Where a network looks: attention maps, to restore what pruning took.

Chen, Chen, Xi, Le 2021, 'Knowledge from the original network: restore a better
pruned network with knowledge distillation', Complex & Intelligent Systems,
doi:10.1007/s40747-020-00248-y: a pruned network is taught by the network that
it was pruned from, in place of fine-tuning with labels alone, which helps most
where most was removed. The paper tries several known losses, of responses,
features and relations; this is the library's choice (theirs were not read),
with the attention transfer of Zagoruyko and Komodakis 2017, arXiv:1612.03928,
section 3.1, for the features:

  L = CE(y, q_s) + alpha T^2 KL(q_t(T) || q_s(T))
      + beta sum_l mean_B || A_t,l / ||A_t,l|| - A_s,l / ||A_s,l|| ||^2 ,
  A = sum_c |F_c|^2 .

A map has no channels, so that networks of any widths are compared without
adapters. That form departs from Zagoruyko and Komodakis in the square of the
norm, whose gradient exists at zero, and in beta, which stands for their beta /
2. A map of nothing but zeros has norm 0, is compared as zeros, and gets no
gradient.
"""

from collections.abc import Mapping

import chex
import jax
import jax.numpy as jnp

from compress.distill.embedding import normalize
from compress.distill.maps import match_places
from compress.distill.response import cross_entropy, soft_target_loss
from compress.distill.taps import check_pairs
from compress.errors import InputError

_REDUCTIONS = ('squares', 'paper', 'reference')


def attention_map(features: jax.Array, *, power: float = 2.0) -> jax.Array:
  """The unit attention map of every image, sum over channels of |F|^p.

  Args:
    features: `[B, ..., C]`, rank 3 or more, channels last.
    power: p, 1 or more. Larger: the strongest place counts for more.

  Returns:
    Float32 `[B, places]` of norm 1 (0 where all features are 0).

  Raises:
    InputError: the power is below 1.
  """
  if not power >= 1:
    raise InputError(f'power is {power}; it must be 1 or more.')
  if features.ndim < 3:
    raise InputError(
      f'features of shape {list(features.shape)} have no places to attend to; '
      'right is [B, ..., C] with at least one axis between'
    )
  features = features.astype(jnp.float32)
  # A square has a derivative at zero, where |F|^p by powers has none.
  size = jnp.square(features) if power == 2 else jnp.abs(features) ** power
  return normalize(size.sum(-1).reshape(features.shape[0], -1))


def attention_loss(
  student: Mapping[str, jax.Array],
  teacher: Mapping[str, jax.Array],
  *,
  power: float = 2.0,
  reduction: str = 'squares',
) -> jax.Array:
  """Distance of unit attention maps, summed over layers.

  Args:
    student: name to features `[B, ..., C_s]`, such as of `tap_features`.
    teacher: the same names to `[B, ..., C_t]`, of the same images; without
      gradient. Of maps [B, H, W, C] the larger is averaged to the size of the
      smaller; other places must be the same.
    power: as in `attention_map`.
    reduction: of an image's difference d, then the mean over the batch:
      'squares', ||d||^2, as above; 'paper', ||d||, whose gradient is 0 at 0;
      'reference' (the authors' code, RepDistiller), the mean of d^2 over the
      places, so that the weight of a map depends on its size.

  Returns:
    Float32 scalar; of 'squares' 0 to 2 for each layer.

  Raises:
    InputError: other names, places that do not fit, or another reduction.
  """
  if reduction not in _REDUCTIONS:
    raise InputError(
      f'reduction is {reduction!r}; right is one of {", ".join(_REDUCTIONS)}'
    )
  check_pairs(dict(student), dict(teacher))
  total = jnp.zeros(())
  for name, ours in student.items():
    theirs = jax.lax.stop_gradient(teacher[name])
    if ours.ndim == theirs.ndim == 4:
      ours, theirs = match_places(ours, theirs)
    if ours.shape[:-1] != theirs.shape[:-1]:
      raise InputError(
        f'{name}: features {list(ours.shape)} of the student and '
        f'{list(theirs.shape)} of the teacher; only the channels may differ'
      )
    gap = attention_map(ours, power=power) - attention_map(theirs, power=power)
    square = jnp.square(gap).sum(axis=1)
    if reduction == 'paper':
      apart = square > 0
      square = jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1.0)), 0.0)
    elif reduction == 'reference':
      square = square / gap.shape[1]
    total += square.mean()
  return total


def restoration_loss(
  student: jax.Array,
  teacher: jax.Array,
  labels: jax.Array,
  student_features: Mapping[str, jax.Array],
  teacher_features: Mapping[str, jax.Array],
  *,
  temperature: float = 4.0,
  soft_weight: float = 1.0,
  attention_weight: float = 1.0,
) -> jax.Array:
  """What a pruned network is restored by; the formula above.

  Args:
    student: logits `[B, K]` of the pruned network.
    teacher: logits `[B, K]` of the original; no gradient flows to it.
    labels: int `[B]`.
    student_features: name to `[B, ..., C_s]`.
    teacher_features: the same names to `[B, ..., C_t]`.
    temperature: T > 0.
    soft_weight: alpha, added to the labels' weight of 1; 0 or more, no share.
    attention_weight: beta, 0 or more.

  Returns:
    Float32 scalar. A student equal to its teacher has the cross-entropy alone,
    in value and gradient.

  Raises:
    InputError: a weight below 0, a temperature of 0, features that do not fit.
  """
  chex.assert_equal_shape([student, teacher])
  if not (soft_weight >= 0 and attention_weight >= 0):
    raise InputError(
      f'soft_weight {soft_weight}, attention_weight {attention_weight}: right '
      'is 0 or more'
    )
  soft = soft_target_loss(student, teacher, temperature=temperature)
  maps = attention_loss(student_features, teacher_features)
  hard = cross_entropy(student, labels)
  return hard + soft_weight * soft + attention_weight * maps
