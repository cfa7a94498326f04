"""Ensembles of callables: plain networks and compressed ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import distill, packed
from compress.errors import InputError

INPUTS = jnp.asarray(np.random.default_rng(0).normal(size=(6, 4)), jnp.float32)
WEIGHTS = jnp.asarray(np.random.default_rng(1).normal(size=(3, 4, 5)))
WEIGHTS = WEIGHTS.astype(jnp.float32)
MEMBERS = [lambda x, w=w: x @ w for w in WEIGHTS]


def test_the_mean_of_probabilities():
  each = np.stack([jax.nn.softmax(INPUTS @ w / 2) for w in WEIGHTS])
  found = distill.ensemble_probabilities(MEMBERS, INPUTS, temperature=2.0)
  np.testing.assert_allclose(found, each.mean(0), rtol=1e-5)
  np.testing.assert_allclose(np.asarray(found).sum(1), 1, rtol=1e-6)
  logits = distill.ensemble_logits(MEMBERS, INPUTS, temperature=2.0)
  np.testing.assert_allclose(jax.nn.softmax(logits), each.mean(0), rtol=1e-5)


def test_the_mean_of_logits():
  found = distill.ensemble_logits(MEMBERS, INPUTS, mean='logits')
  expected = np.mean([INPUTS @ w for w in WEIGHTS], axis=0)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_one_member_is_itself_and_order_does_not_matter():
  alone = distill.ensemble_probabilities(MEMBERS[:1], INPUTS)
  np.testing.assert_allclose(alone, jax.nn.softmax(MEMBERS[0](INPUTS)), 1e-5)
  a = distill.ensemble_probabilities(MEMBERS, INPUTS)
  b = distill.ensemble_probabilities(MEMBERS[::-1], INPUTS)
  np.testing.assert_allclose(a, b, rtol=1e-6)


def test_compressed_members_and_low_precision():
  kept = np.abs(np.asarray(WEIGHTS[0])) > 0.5
  weight = np.where(kept, np.asarray(WEIGHTS[0]), 0).astype(np.float32)
  stored = packed.Dense(jnp.asarray(weight))
  members = [
    lambda x: x @ packed.unpack(stored),
    lambda x: (x @ WEIGHTS[1]).astype(jnp.bfloat16),
  ]
  found = distill.ensemble_probabilities(members, INPUTS)
  assert found.dtype == jnp.float32
  expected = jax.nn.softmax(INPUTS @ weight) + jax.nn.softmax(
    INPUTS @ WEIGHTS[1]
  )
  np.testing.assert_allclose(found, expected / 2, atol=0.01)


def test_an_impossible_class_stays_finite():
  sure = jnp.asarray([[0.0, -jnp.inf, -jnp.inf]])
  both = [lambda x: sure, lambda x: jnp.zeros((1, 3))]
  found = distill.ensemble_probabilities(both, INPUTS)
  np.testing.assert_allclose(found, [[2 / 3, 1 / 6, 1 / 6]], rtol=1e-6)


def test_it_teaches():
  teacher = distill.ensemble_logits(MEMBERS, INPUTS)
  loss = distill.soft_target_loss(teacher, teacher, temperature=4.0)
  assert float(loss) == pytest.approx(0, abs=1e-6)


def test_bad_inputs():
  with pytest.raises(InputError, match='no member'):
    distill.ensemble_logits([], INPUTS)
  with pytest.raises(InputError, match='temperature is 0'):
    distill.ensemble_logits(MEMBERS, INPUTS, temperature=0)
  with pytest.raises(InputError, match="mean is 'median'"):
    distill.ensemble_logits(MEMBERS, INPUTS, mean='median')
