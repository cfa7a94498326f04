r"""Distillation of sequences: word by word, whole, and in between.

Kim and Rush (2016), "Sequence-Level Knowledge Distillation", EMNLP,
arXiv:1606.07947. A teacher gives the probabilities of the next token after each
prefix (word level), or its most likely whole sequence, found by beam search,
which the student is trained on in place of the reference (sequence level), or,
among its K best, the one most like the reference (interpolation):

  L_word = - sum_j sum_k q_t(k | x, y_<j) log q_s(k | x, y_<j) ,
  L = (1 - a) NLL(y) + a L_word ,

y being the reference or what replaces it. Their order: sequence level first (K
= 5 beams), then interpolation with the word level beside it.

Logits are `[B, L, V]`, tokens int `[B, L]`; `where` `[B, L]` tells tokens from
padding. Similarities of sequences are float64 on the host.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp

from compress.distill.response import pick, soft_target_loss
from compress.errors import InputError


def until_end(tokens: jax.Array, *, end: int) -> jax.Array:
  """Which tokens count: all up to the first end token, and that one.

  Args:
    tokens: int `[B, L]`.
    end: the token that ends a sequence.

  Returns:
    Bool `[B, L]`.
  """
  ended = jnp.cumsum(tokens == end, axis=-1, dtype=jnp.int32)
  return ended - (tokens == end).astype(jnp.int32) == 0


def sequence_nll(
  logits: jax.Array,
  tokens: jax.Array,
  *,
  where: jax.Array | None = None,
  reduction: str = 'sequence',
) -> jax.Array:
  """Negative log-likelihood of sequences: a reference, or a teacher's mode.

  Args:
    logits: `[B, L, V]`, of each token after those before it.
    tokens: 0..V-1, int `[B, L]`; another that counts makes the loss NaN.
    where: bool `[B, L]`, the tokens that count; all by default. What stands
      elsewhere, in tokens or logits, does not matter.
    reduction: 'sequence', summed over tokens, mean over the batch, as in the
      paper; or 'token', the mean over all tokens that count.

  Returns:
    Float32 scalar >= 0, in nats; 0 where no token counts.

  Raises:
    InputError: an unknown reduction.
  """
  chex.assert_rank([logits, tokens], [3, 2])
  where = _counted(where, tokens.shape)
  logits = jnp.where(where[..., None], logits.astype(jnp.float32), 0.0)
  tokens = jnp.where(where, tokens, 0)
  each = -pick(jax.nn.log_softmax(logits), tokens)
  return _reduce(each, where, reduction)


def word_loss(
  student: jax.Array,
  teacher: jax.Array,
  *,
  where: jax.Array | None = None,
  temperature: float = 1.0,
  reduction: str = 'sequence',
) -> jax.Array:
  """Word-level distillation, at each token that counts.

  `T^2 KL(q_t(T) || q_s(T))`; the paper has T = 1, and the cross-entropy, whose
  gradient is the same. With a one-hot teacher it is `sequence_nll`.

  Args:
    student: logits `[B, L, V]`.
    teacher: logits `[B, L, V]` after the same prefixes; without gradient.
    where: bool `[B, L]`, the tokens that count; all by default.
    temperature: T > 0.
    reduction: as in `sequence_nll`.

  Returns:
    Float32 scalar >= 0.

  Raises:
    InputError: the temperature is not finite and above 0, an unknown reduction.
  """
  chex.assert_equal_shape([student, teacher])
  chex.assert_rank(student, 3)
  where = _counted(where, student.shape[:2])
  student, teacher = (
    jnp.where(where[..., None], z.astype(jnp.float32), 0.0)
    for z in (student, teacher)
  )

  def one(student, teacher):
    return soft_target_loss(
      student[None], teacher[None], temperature=temperature
    )

  each = jax.vmap(jax.vmap(one))(student, teacher)
  return _reduce(each, where, reduction)


def sequence_loss(
  student: jax.Array,
  teacher: jax.Array,
  tokens: jax.Array,
  *,
  where: jax.Array | None = None,
  word_weight: float = 0.5,
  temperature: float = 1.0,
  reduction: str = 'sequence',
) -> jax.Array:
  """Likelihood of a sequence mixed with the teacher's word by word.

  Args:
    student: logits `[B, L, V]`.
    teacher: logits `[B, L, V]` after the same prefixes; without gradient.
    tokens: int `[B, L]`: the reference, the teacher's mode, or its hypothesis
      nearest to the reference.
    where: bool `[B, L]`, the tokens that count; all by default.
    word_weight: a, 0..1.
    temperature: T > 0 of the word level.
    reduction: as in `sequence_nll`.

  Returns:
    Float32 scalar >= 0.

  Raises:
    InputError: an option out of its range.
  """
  if not 0 <= word_weight <= 1:
    raise InputError(f'word_weight is {word_weight}; it must be in 0..1.')
  hard = sequence_nll(student, tokens, where=where, reduction=reduction)
  soft = word_loss(
    student,
    teacher,
    where=where,
    temperature=temperature,
    reduction=reduction,
  )
  return (1 - word_weight) * hard + word_weight * soft


def smoothed_bleu(
  candidate: Sequence[Hashable],
  reference: Sequence[Hashable],
  *,
  order: int = 4,
) -> float:
  """How alike two sequences are: BLEU of a sentence, smoothed.

  Geometric mean of the precisions of n-grams, times the brevity penalty
  `exp(1 - reference / candidate)` of a shorter candidate; Papineni et al.
  (2002), ACL. One is added to matches and counts for n of 2 and more (Lin and
  Och 2004, COLING, "ORANGE"), so that one sentence is not 0 for want of a
  4-gram.

  Args:
    candidate: tokens, without padding.
    reference: tokens, without padding.
    order: the longest n-grams, 1 or more.

  Returns:
    0..1; 1 where both are equal, 0 where no token is shared.

  Raises:
    InputError: an empty reference, an order below 1.
  """
  if order < 1 or not len(reference):
    raise InputError(
      f'order {order} and {len(reference)} reference tokens; both are 1 or more'
    )
  if not len(candidate):
    return 0.0
  total = 0.0
  for n in range(1, order + 1):
    ours, theirs = _grams(candidate, n), _grams(reference, n)
    extra = int(n > 1)
    matches = sum((ours & theirs).values()) + extra
    if not matches:
      return 0.0
    total += math.log(matches / (sum(ours.values()) + extra))
  brevity = min(0.0, 1 - len(reference) / len(candidate))
  return math.exp(brevity + total / order)


def nearest_hypothesis(
  candidates: Sequence[Sequence[Hashable]],
  reference: Sequence[Hashable],
  *,
  order: int = 4,
) -> int:
  """Which of a teacher's K best to train on: the most like the reference.

  Args:
    candidates: tokens of each, without padding, the most likely first.
    reference: tokens, without padding.
    order: as in `smoothed_bleu`.

  Returns:
    Its index; of equally similar ones the first, and so most likely, one.

  Raises:
    InputError: no candidate.
  """
  if not len(candidates):
    raise InputError('there is no hypothesis to choose from')
  scores = [smoothed_bleu(one, reference, order=order) for one in candidates]
  return scores.index(max(scores))


def beam_search(
  step: Callable[[Any, jax.Array], tuple[jax.Array, Any]],
  state: Any,
  start: jax.Array,
  *,
  beams: int,
  length: int,
  end: int,
  length_power: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
  """The likeliest sequences of a model; for a teacher, its mode.

  Hypotheses are compared by `log p / tokens^length_power`, during the search
  and at the end; an end token counts, what follows it does not. With one beam
  it is greedy. Jittable; `step` is traced once.

  Args:
    step: `(state, tokens int [B * beams]) -> (logits [B * beams, V], state)`,
      the next token's logits after one more token.
    state: tree of arrays `[B, ...]` before the first token, such as an
      encoded source; repeated for each beam, image b's at b * beams onwards.
    start: int32 `[B]`, the first token of each.
    beams: K; the paper's teachers have 5.
    length: tokens to decode at most.
    end: the token that ends a sequence.
    length_power: 0 for the likeliest; 1 for the mean over tokens.

  Returns:
    Tokens int32 `[B, K, length]` without the start, `end` repeated after the
    end; and log-probabilities float32 `[B, K]`, not normalised. Best first;
    -inf where there are fewer than K sequences.

  Raises:
    InputError: beams or length below 1, a negative power.
  """
  if beams < 1 or length < 1 or not length_power >= 0:
    raise InputError(
      f'beams {beams}, length {length}, length_power {length_power}: right are '
      '1 or more, 1 or more, 0 or more'
    )
  chex.assert_rank(start, 1)
  batch = start.shape[0]
  state = jax.tree.map(lambda x: jnp.repeat(x, beams, axis=0), state)
  tokens = jnp.full((batch, beams, length), end, jnp.int32)
  # One hypothesis at first: equal ones would fill the beam with copies.
  scores = jnp.where(jnp.arange(beams) == 0, 0.0, -jnp.inf)
  scores = jnp.tile(scores[None].astype(jnp.float32), (batch, 1))
  counts = jnp.zeros((batch, beams), jnp.float32)
  done = jnp.zeros((batch, beams), bool)
  last = jnp.repeat(start.astype(jnp.int32), beams)

  def advance(carry, place):
    state, tokens, scores, counts, done, last = carry
    logits, state = step(state, last)
    log_q = jax.nn.log_softmax(logits.astype(jnp.float32))
    log_q = log_q.reshape(batch, beams, -1)
    size = log_q.shape[2]
    # What has ended goes on in one way, for nothing.
    stay = jnp.where(jnp.arange(size) == end, 0.0, -jnp.inf)
    log_q = jnp.where(done[..., None], stay[None, None], log_q)
    counts = counts + (~done).astype(jnp.float32)
    total = scores[..., None] + log_q
    rank = (total / counts[..., None] ** length_power).reshape(batch, -1)
    _, chosen = jax.lax.top_k(rank, beams)
    parent, token = chosen // size, (chosen % size).astype(jnp.int32)
    rows = (jnp.arange(batch)[:, None] * beams + parent).ravel()

    def follow(x):
      return jnp.take_along_axis(x, parent, axis=1)

    state = jax.tree.map(lambda x: x[rows], state)
    tokens = jnp.take_along_axis(tokens, parent[..., None], axis=1)
    tokens = tokens.at[:, :, place].set(token)
    scores = jnp.take_along_axis(total.reshape(batch, -1), chosen, axis=1)
    done = follow(done) | (token == end)
    carry = state, tokens, scores, follow(counts), done, token.ravel()
    return carry, None

  carry = state, tokens, scores, counts, done, last
  carry, _ = jax.lax.scan(advance, carry, jnp.arange(length))
  return carry[1], carry[2]


def _counted(where, shape):
  if where is None:
    return jnp.ones(shape, bool)
  chex.assert_shape(where, shape)
  return where


def _reduce(each, where, reduction):
  """Scalar of losses `[B, L]`, of those that count."""
  if reduction not in ('sequence', 'token'):
    raise InputError(
      f"reduction is {reduction!r}; it must be 'sequence' or 'token'."
    )
  total = jnp.sum(jnp.where(where, each, 0.0))
  if reduction == 'sequence':
    return total / each.shape[0]
  return total / jnp.maximum(where.sum(dtype=jnp.float32), 1.0)


def _grams(tokens, n):
  return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
