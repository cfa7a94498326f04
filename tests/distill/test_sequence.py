"""Sequence distillation by hand, and beam search by brute force."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import distill
from compress.errors import InputError

ROWS, CLASSES = np.arange(4)[:, None], np.arange(5)[None, :]
STUDENT = jnp.array(np.sin(1 + 3 * ROWS + CLASSES), jnp.float32)
TEACHER = jnp.array(2 * np.cos(0.5 + ROWS * CLASSES), jnp.float32)
LABELS = jnp.array([0, 2, 4, 1])
# The four rows as two sequences of two tokens, and one of padding each.
PAD = jnp.full((2, 1, 5), jnp.nan)
PADDED = [
  jnp.concatenate([z.reshape(2, 2, 5), PAD], axis=1) for z in (STUDENT, TEACHER)
]
TOKENS = jnp.concatenate([LABELS.reshape(2, 2), -jnp.ones((2, 1), int)], 1)
WHERE = jnp.array([[True, True, False]] * 2)

nll = jax.jit(distill.sequence_nll, static_argnames='reduction')
word = jax.jit(distill.word_loss, static_argnames='reduction')
mixed = jax.jit(distill.sequence_loss, static_argnames='word_weight')


def test_tokens_count_until_the_end():
  tokens = jnp.array([[3, 0, 5, 0], [1, 2, 3, 4], [0, 0, 0, 0]])
  expected = [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
  np.testing.assert_array_equal(distill.until_end(tokens, end=0), expected)


@pytest.mark.parametrize('reduction, times', [('token', 1), ('sequence', 2)])
def test_goldens_and_padding(reduction, times):
  found = nll(PADDED[0], TOKENS, where=WHERE, reduction=reduction)
  np.testing.assert_allclose(found, times * 2.222600637200089, rtol=1e-6)
  found = word(*PADDED, where=WHERE, reduction=reduction)
  np.testing.assert_allclose(found, times * 0.8355250814040285, rtol=1e-6)


def test_mix_and_gradients():
  found = mixed(*PADDED, TOKENS, where=WHERE, word_weight=0.25)
  expected = 2 * (0.75 * 2.222600637200089 + 0.25 * 0.8355250814040285)
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  by_student, by_teacher = jax.grad(mixed, (0, 1))(*PADDED, TOKENS, where=WHERE)
  assert np.all(np.isfinite(by_student)) and np.any(by_student)
  assert not np.any(by_student[:, 2]) and not np.any(by_teacher)


def test_a_one_hot_teacher_is_the_label():
  teacher = jnp.where(jax.nn.one_hot(LABELS, 5) > 0, 0.0, -jnp.inf)
  found = word(STUDENT.reshape(2, 2, 5), teacher.reshape(2, 2, 5))
  np.testing.assert_allclose(found, 2 * 2.222600637200089, rtol=1e-6)
  assert word(TEACHER[None], TEACHER[None]) == 0
  nothing = jnp.zeros((2, 3), bool)
  assert nll(PADDED[0], TOKENS, where=nothing, reduction='token') == 0


def test_half_precision_gives_float32():
  half = [z.astype(jnp.bfloat16) for z in PADDED]
  found = mixed(*half, TOKENS, where=WHERE)
  assert found.dtype == jnp.float32
  full = mixed(*PADDED, TOKENS, where=WHERE)
  np.testing.assert_allclose(found, full, rtol=2e-2)


@pytest.mark.parametrize('beyond', [-1, PADDED[0].shape[2]])
def test_a_token_that_is_none_counts_only_as_padding(beyond):
  expected = nll(PADDED[0], TOKENS, where=WHERE)
  padded = jnp.where(WHERE, TOKENS, beyond)
  np.testing.assert_array_equal(nll(PADDED[0], padded, where=WHERE), expected)
  assert np.isnan(nll(PADDED[0], TOKENS.at[0, 0].set(beyond), where=WHERE))


def test_bleu_by_hand():
  bleu = distill.smoothed_bleu
  assert bleu('abcdef', 'abcdef') == pytest.approx(1)
  assert bleu('a', 'a') == pytest.approx(1)
  assert bleu('xyz', 'abc') == bleu('', 'abc') == 0
  # 3 of 4 tokens, (1 + 1) of (3 + 1) pairs, (0 + 1) of (2 + 1), 1 of (1 + 1).
  expected = (3 / 4 * 2 / 4 * 1 / 3 * 1 / 2) ** 0.25
  assert bleu('abxd', 'abcd') == pytest.approx(expected)
  # Two tokens for four: e^-1, all n-grams found; 'aa' counts one a only.
  assert bleu('ab', 'abcd') == pytest.approx(np.exp(-1))
  assert bleu('aa', 'ab', order=1) == pytest.approx(0.5)


def test_the_reference_itself_is_nearest():
  candidates = [[1, 2, 3, 9], [4, 4], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5]]
  assert distill.nearest_hypothesis(candidates, [1, 2, 3, 4, 5]) == 2
  assert distill.nearest_hypothesis(candidates[:2], [1, 2, 3, 4, 5]) == 0


def markov(state, tokens):
  """Next-token logits `[N, V]` by token, source and place: a table."""
  tables, place = state
  step = jax.vmap(lambda table, i, t: table[i, t])
  return step(tables, place, tokens), (tables, place + 1)


@functools.partial(jax.jit, static_argnames=('beams', 'power', 'length'))
def search(tables, beams, power=0.0, length=3):
  start = jnp.full(len(tables), 1)
  state = tables, jnp.zeros(len(tables), jnp.int32)
  return distill.beam_search(
    markov,
    state,
    start,
    beams=beams,
    length=length,
    end=0,
    length_power=power,
  )


TABLES = 1.5 * jax.random.normal(jax.random.key(3), (2, 3, 3, 3))


def every_sequence(table, power):
  """All sequences of up to 3 tokens, (rank, log p, tokens), best first."""
  log_q = np.asarray(jax.nn.log_softmax(table), np.float64)
  found = {}
  for tokens in itertools.product(range(3), repeat=3):
    size = tokens.index(0) + 1 if 0 in tokens else 3
    path = (1, *tokens[:size])
    total = sum(log_q[i, path[i], path[i + 1]] for i in range(size))
    key = tokens[:size] + (0,) * (3 - size)
    found[key] = (total / size**power, total, key)
  return sorted(found.values(), reverse=True)


@pytest.mark.parametrize('power', [0.0, 1.0])
def test_a_wide_beam_finds_every_sequence_in_order(power):
  tokens, scores = search(TABLES, 27, power)
  for b in range(2):
    ranked = every_sequence(TABLES[b], power)
    assert len(ranked) == 15
    np.testing.assert_allclose(
      scores[b, :15], [one[1] for one in ranked], rtol=1e-5
    )
    np.testing.assert_array_equal(tokens[b, :15], [one[2] for one in ranked])
    assert np.all(scores[b, 15:] == -np.inf)


def test_one_beam_is_greedy():
  tokens, scores = search(TABLES, 1)
  for b in range(2):
    last, path, total = 1, [], 0.0
    log_q = np.asarray(jax.nn.log_softmax(TABLES[b]))
    for i in range(3):
      best = int(log_q[i, last].argmax()) if last or not i else 0
      total += log_q[i, last, best] if last or not i else 0.0
      path.append(best)
      last = best
    np.testing.assert_array_equal(tokens[b, 0], path)
    np.testing.assert_allclose(scores[b, 0], total, rtol=1e-5)


def test_bad_options():
  with pytest.raises(InputError, match="reduction is 'mean'"):
    distill.sequence_nll(PADDED[0], TOKENS, reduction='mean')
  with pytest.raises(InputError, match='word_weight is 2'):
    distill.sequence_loss(*PADDED, TOKENS, word_weight=2)
  with pytest.raises(InputError, match='0 reference tokens'):
    distill.smoothed_bleu('a', '')
  with pytest.raises(InputError, match='no hypothesis'):
    distill.nearest_hypothesis([], 'a')
  with pytest.raises(InputError, match='beams 0'):
    distill.beam_search(markov, (), jnp.ones(1, int), beams=0, length=1, end=0)
