"""Evaluation-oriented distillation (EKD): where pairs fall among thresholds.

A verification system accepts a pair of faces whose cosine similarity exceeds a
threshold, and the threshold is set by a false positive rate. EKD asks the
student to place every pair of the batch among *its own* thresholds as the
teacher does among the teacher's, and nothing else.

  Huang, Wu, Xu and Ding (2022), "Evaluation-oriented Knowledge Distillation
  for Deep Face Recognition", CVPR, arXiv:2206.02325.
  Gazali, Kho, Santoso and Williem (2024), "Ef-QuantFace: Streamlined Face
  Recognition with Small Data and Low-Bit Precision", arXiv:2402.18163, which
  uses it, without class labels in the loss, to fine-tune quantized networks.

Notation: `s` and `t` are similarities of the student and the teacher, `[N]`;
anchors `[K]` are the thresholds, in order of falling false positive rate. All
shapes are static: positive, negative and padded pairs are told by masks.

The identities are needed to tell genuine from impostor pairs. In a batch of 64
there are at most 2016 pairs, so the thresholds for rates of 1e-4 and below all
fall on the largest negative: a larger global batch makes a different loss.
"""

from collections.abc import Hashable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from compress.distill.embedding import normalize
from compress.distill.gather import gather_batch
from compress.distill.response import check_temperature
from compress.errors import InputError

# False positive rates 1e-1 .. 1e-6, as "one negative in n is accepted".
ONE_IN = (10, 10**2, 10**3, 10**4, 10**5, 10**6)


class EKDState(NamedTuple):
  """Moving averages of both networks' thresholds; carried, not trained.

  Attributes:
    student: float32 `[K]`.
    teacher: float32 `[K]`.
    count: int32 `[]`, batches averaged so far.
  """

  student: jax.Array
  teacher: jax.Array
  count: jax.Array


class EKDTerms(NamedTuple):
  """The two unweighted terms, and how many pairs stand behind each.

  Attributes:
    positive: float32 `[]`, mean over all positive pairs; 0 if there are none.
    negative: float32 `[]`, mean over the hardest negatives; 0 if none.
    positives: int32 `[]`, positive pairs in the batch.
    negatives: int32 `[]`, negative pairs in the batch (not only the hardest).
  """

  positive: jax.Array
  negative: jax.Array
  positives: jax.Array
  negatives: jax.Array


def init_ekd(*, one_in: tuple[int, ...] = ONE_IN) -> EKDState:
  """State before the first batch: anchors at zero, as in the authors' code."""
  zeros = jnp.zeros(len(one_in), jnp.float32)
  return EKDState(zeros, zeros, jnp.zeros((), jnp.int32))


def anchors(
  similarities: jax.Array,
  negative: jax.Array,
  *,
  one_in: tuple[int, ...] = ONE_IN,
) -> jax.Array:
  """Thresholds at which one negative in n is accepted.

  The element at index `floor(negatives / n)` of the negative similarities in
  falling order.

  Args:
    similarities: `[N]`.
    negative: which of them belong to negative pairs, bool `[N]`.
    one_in: n of each threshold, `K` integers above 1.

  Returns:
    `[K]`, without gradient; -inf where there is no negative.
  """
  largest, _ = _largest_negatives(similarities, negative, 1, one_in)
  return _at_rates(largest, jnp.sum(negative, dtype=jnp.int32), one_in)


def soft_rank(
  similarities: jax.Array, anchors: jax.Array, *, temperature: float = 0.01
) -> jax.Array:
  """How many thresholds each similarity exceeds, softly.

  `R(s) = sum_k sigmoid((s - anchor_k) / temperature)`, the exponent clipped to
  +-50 (beyond it the gradient is zero).

  Args:
    similarities: `[N]`.
    anchors: `[K]`.
    temperature: width of the step, in units of similarity.

  Returns:
    `[N]`, in 0..K.
  """
  rank = jnp.zeros_like(similarities)
  # One fused pass; a [N, K] array summed over K takes 30 times as long.
  for k in range(anchors.shape[0]):
    step = (similarities - anchors[k]) / temperature
    rank += jax.nn.sigmoid(jnp.clip(step, -50.0, 50.0))
  return rank


def ekd_terms(
  student: jax.Array,
  teacher: jax.Array,
  labels: jax.Array,
  state: EKDState,
  *,
  one_in: tuple[int, ...] = ONE_IN,
  momentum: float = 0.01,
  temperature: float = 0.01,
  hardest: int = 2000,
  form: str = 'rank',
  debias: bool = False,
  axis_name: Hashable | None = None,
) -> tuple[EKDTerms, EKDState]:
  """The two terms of EKD and the updated anchors.

  The anchors are updated first and used after, as in the authors' code. A
  batch without a negative pair leaves them, and their count, as they were.
  Negatives are hardest where the *student's* similarity is largest. The
  teacher and the anchors carry no gradient.

  With `axis_name` the pairs are those of the global batch. Embeddings and
  labels are gathered over the axis, every device computes the same terms, and
  the mean over devices of the parameter gradients (`lax.pmean`) is the
  gradient of the global loss. Under `shard_map` with `check_vma`, where the
  gradient of replicated parameters arrives already summed, it is that sum.
  Under `jit` over a mesh the arrays are global already: leave it out (and,
  on a mesh of Explicit axes, `jax.reshard` embeddings and labels to `P()`).

  Args:
    student: embeddings `[B, D]`, not necessarily normalised.
    teacher: embeddings `[B, D']` of the same images.
    labels: identities, int `[B]`.
    state: anchors after the previous batch.
    one_in: false positive rates of the anchors, as 1/n; `K` integers.
    momentum: weight of the batch in the moving average, in (0, 1]. 1 means no
      averaging.
    temperature: width of the soft rank's steps, in units of similarity.
    hardest: how many negatives the second term looks at.
    form: 'rank' is the mean squared difference of soft ranks: EKD's paper and
      code. 'distance' is equation 1 of Ef-QuantFace read to the letter: the
      distances of a pair to the K thresholds, teacher's less student's, their
      squared Euclidean norm averaged over pairs. (Squared here, so that the
      gradient exists at zero.)
    debias: divide the moving average by `1 - (1 - momentum)^count`, so that
      the first batch's anchors are its own: better where a run is short.
      Without, as published and so by default, the anchors start at zero and
      have come 87.5 % of the way after the 207 steps of one LFW epoch.
    axis_name: mapped axis to gather the batch over (`pmap`, `shard_map`,
      `vmap`).

  Returns:
    The terms, and the state to pass with the next batch.

  Raises:
    InputError: an option is out of its range.
  """
  _check(one_in, momentum, temperature, hardest, form)
  chex.assert_rank([student, teacher, labels], [2, 2, 1])
  chex.assert_equal_shape_prefix([student, teacher, labels], 1)
  chex.assert_shape([state.student, state.teacher], (len(one_in),))
  teacher = jax.lax.stop_gradient(teacher)
  student, teacher, labels = gather_batch((student, teacher, labels), axis_name)
  s, t = _similarities(student), _similarities(teacher)
  positive, negative = _pair_masks(labels)
  positives = jnp.sum(positive, dtype=jnp.int32)
  negatives = jnp.sum(negative, dtype=jnp.int32)

  largest_s, order = _largest_negatives(s, negative, hardest, one_in)
  largest_t, _ = _largest_negatives(t, negative, 1, one_in)
  fresh = (
    _at_rates(largest_s, negatives, one_in),
    _at_rates(largest_t, negatives, one_in),
  )
  if axis_name is not None:
    # Equal on all devices already; this tells shard_map so.
    fresh, positives, negatives = jax.lax.pmax(
      (fresh, positives, negatives), axis_name
    )
  state = _average(state, fresh, negatives > 0, momentum)
  anchors_s, anchors_t = _read(state, momentum, debias)

  def gaps(s, t):
    if form == 'distance':
      shifts = anchors_s - anchors_t
      return sum((s - t - shifts[k]) ** 2 for k in range(len(one_in)))
    rank_s = soft_rank(s, anchors_s, temperature=temperature)
    return (rank_s - soft_rank(t, anchors_t, temperature=temperature)) ** 2

  hard = order[:hardest]
  losses = (
    _masked_mean(gaps(s, t), positive),
    _masked_mean(gaps(s[hard], t[hard]), negative[hard]),
  )
  if axis_name is not None:
    losses = jax.lax.pmean(losses, axis_name)
  return EKDTerms(*losses, positives, negatives), state


def ekd_loss(
  student: jax.Array,
  teacher: jax.Array,
  labels: jax.Array,
  state: EKDState,
  *,
  positive_weight: float = 0.02,
  negative_weight: float = 0.01,
  **options,
) -> tuple[jax.Array, EKDState]:
  """EKD's loss, class-free: what Ef-QuantFace fine-tunes with.

  `positive_weight * L_pos + negative_weight * L_neg`. The weights are those of
  the authors' code; Ef-QuantFace states none. EKD as first published adds an
  ArcFace cross-entropy (scale 64, margin .4) on the general half of the batch.
  The paper reports, for a MobileFaceNet student of an IR-50, IJB-C TPR 90.48 %
  at FPR 1e-4 (89.13 % alone), CFP-FP 94.33 % (91.66 %); Ef-QuantFace 96.15 %
  for a 6-bit IR-50 (96.97 % in float).

  Args:
    student: embeddings `[B, D]`, not necessarily normalised.
    teacher: embeddings `[B, D']` of the same images.
    labels: identities, int `[B]`.
    state: anchors after the previous batch; `init_ekd()` at first.
    positive_weight: weight of the positive pairs' term.
    negative_weight: weight of the hardest negatives' term.
    **options: see `ekd_terms`.

  Returns:
    Float32 scalar, and the state to pass with the next batch.

  Raises:
    InputError: an option is out of its range.
  """
  terms, state = ekd_terms(student, teacher, labels, state, **options)
  loss = positive_weight * terms.positive + negative_weight * terms.negative
  return loss, state


def _check(one_in, momentum, temperature, hardest, form):
  """Raises InputError for options out of range."""
  if not one_in or min(one_in) < 2:
    raise InputError(f'one_in is {one_in}; it must hold integers above 1.')
  if not 0 < momentum <= 1:
    raise InputError(f'momentum is {momentum}; it must be in (0, 1].')
  check_temperature(temperature)
  if hardest < 1:
    raise InputError(f'hardest is {hardest}; it must be 1 or more.')
  if form not in ('rank', 'distance'):
    raise InputError(f"form is {form!r}; it must be 'rank' or 'distance'.")


def _similarities(embeddings):
  """Cosines of all ordered pairs, `[B * B]`."""
  unit = normalize(embeddings)
  # A rank's step is 0.01 wide: a matrix unit's bfloat16 would blur it.
  return jnp.matmul(unit, unit.T, precision='highest').ravel()


def _pair_masks(labels):
  """Which of the B * B ordered pairs are positive, negative; each pair once."""
  size = labels.shape[0]
  once = jnp.triu(jnp.ones((size, size), bool), 1)
  same = labels[:, None] == labels[None, :]
  return (once & same).ravel(), (once & ~same).ravel()


def _largest_negatives(similarities, negative, least, one_in):
  """Enough of the largest negatives, -inf padded, and where they are."""
  count = similarities.shape[0]
  wanted = max(least, count // min(one_in) + 1)
  similarities = jax.lax.stop_gradient(similarities)
  padded = jnp.where(negative, similarities, -jnp.inf)
  return jax.lax.top_k(padded, min(wanted, count))


def _at_rates(largest, negatives, one_in):
  return largest[negatives // jnp.array(one_in, jnp.int32)]


def _average(state, fresh, valid, momentum):
  """Moving average of the anchors, left alone where the batch has none."""

  def mix(old, new):
    return jnp.where(valid, momentum * new + (1 - momentum) * old, old)

  count = jnp.where(valid, optax.safe_increment(state.count), state.count)
  return EKDState(
    mix(state.student, fresh[0]), mix(state.teacher, fresh[1]), count
  )


def _read(state, momentum, debias):
  """Anchors of student and teacher to compare with."""
  averages = jax.lax.stop_gradient((state.student, state.teacher))
  if not debias:
    return averages
  count = jnp.maximum(state.count, 1).astype(jnp.float32)
  reached = -jnp.expm1(count * jnp.log1p(jnp.float32(-momentum)))
  return averages[0] / reached, averages[1] / reached


def _masked_mean(values, mask):
  """Mean of the values where the mask holds, 0 where it holds nowhere."""
  total = jnp.sum(jnp.where(mask, values, 0.0))
  return total / jnp.maximum(jnp.sum(mask, dtype=jnp.float32), 1.0)
