"""EKD on one device: golden values, invariants, degenerate batches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import distill
from compress.errors import InputError

ROWS, COLUMNS = np.arange(4)[:, None], np.arange(6)[None, :]
STUDENT = jnp.array(np.sin(0.3 * (ROWS + 1) * (COLUMNS + 1)), jnp.float32)
TEACHER = jnp.array(np.cos(0.7 * (ROWS + 1) + COLUMNS**2), jnp.float32)
LABELS = jnp.array([0, 0, 1, 1])
FORMS = ('rank', 'distance')

# Compiled, for speed; one test below compares with eager evaluation.
STATIC = (
  'one_in',
  'momentum',
  'temperature',
  'hardest',
  'form',
  'debias',
)
ekd_loss = jax.jit(distill.ekd_loss, static_argnames=STATIC)
ekd_terms = jax.jit(distill.ekd_terms, static_argnames=STATIC)
ekd_gradient = jax.jit(
  jax.value_and_grad(distill.ekd_loss, has_aux=True), static_argnames=STATIC
)


def batch(seed=0, people=8, photos=4, size=16, noise=1.0):
  """Embeddings that cluster by identity, and a noisy student of them."""
  keys = jax.random.split(jax.random.key(seed), 3)
  centres = jax.random.normal(keys[0], (people, size))
  teacher = jnp.repeat(centres, photos, axis=0)
  teacher += 0.7 * jax.random.normal(keys[1], teacher.shape)
  student = teacher + noise * jax.random.normal(keys[2], teacher.shape)
  labels = jnp.repeat(jnp.arange(people), photos)
  return student, teacher, labels


def warm(student, teacher, labels, **options):
  """State with the batch's own thresholds as anchors."""
  _, state = ekd_loss(
    student, teacher, labels, distill.init_ekd(), momentum=1.0, **options
  )
  return state


def brute_force(student, teacher, labels, state, momentum, hardest, form):
  """EKD with boolean indexing and full sorts, float64."""
  student, teacher = np.float64(student), np.float64(teacher)
  labels = np.asarray(labels)
  upper = np.triu_indices(len(labels), 1)
  unit = [
    x / np.linalg.norm(x, axis=1, keepdims=True) for x in (student, teacher)
  ]
  s, t = ((u @ u.T)[upper] for u in unit)
  same = (labels[:, None] == labels[None, :])[upper]
  places = [(~same).sum() // 10**k for k in range(1, 7)]
  fresh = [np.sort(x[~same])[::-1][places] for x in (s, t)]
  a_s = momentum * fresh[0] + (1 - momentum) * np.float64(state.student)
  a_t = momentum * fresh[1] + (1 - momentum) * np.float64(state.teacher)

  def term(s, t):
    d_s, d_t = s[:, None] - a_s, t[:, None] - a_t
    if form == 'distance':
      return ((d_s - d_t) ** 2).sum(1).mean()
    rank = [1 / (1 + np.exp(-np.clip(d / 0.01, -50, 50))) for d in (d_s, d_t)]
    return ((rank[0].sum(1) - rank[1].sum(1)) ** 2).mean()

  hard = np.argsort(-s[~same], kind='stable')[:hardest]
  return term(s[same], t[same]), term(s[~same][hard], t[~same][hard]), a_s, a_t


def test_golden_positive_term():
  terms, state = ekd_terms(
    STUDENT,
    TEACHER,
    LABELS,
    distill.init_ekd(one_in=(10, 100)),
    one_in=(10, 100),
    momentum=1.0,
  )
  np.testing.assert_allclose(state.student, [0.53363856] * 2, rtol=1e-6)
  np.testing.assert_allclose(state.teacher, [0.59005445] * 2, rtol=1e-6)
  np.testing.assert_allclose(terms.positive, 3.2712115430647373, rtol=1e-5)
  assert (terms.positives, terms.negatives) == (2, 4)


def test_golden_soft_ranks():
  rank_s = distill.soft_rank(jnp.array([0.30, 0.25]), jnp.array([0.2, 0.28]))
  rank_t = distill.soft_rank(jnp.array([0.32, 0.26]), jnp.array([0.2, 0.30]))
  np.testing.assert_allclose(rank_s, [1.880752, 1.040733], atol=1e-5)
  np.testing.assert_allclose(rank_t, [1.880791, 1.015514], atol=1e-5)
  np.testing.assert_allclose(
    jnp.mean((rank_s - rank_t) ** 2), 3.1801e-4, rtol=1e-3
  )


def test_anchors_of_a_batch_of_64_strangers():
  values = jnp.array(np.random.default_rng(0).permutation(2016), jnp.float32)
  anchors = distill.anchors(values, jnp.ones(2016, bool))
  np.testing.assert_array_equal(2015 - anchors, [201, 20, 2, 0, 0, 0])


@pytest.mark.parametrize('negatives', [1, 9, 10, 99, 100, 1000, 1001])
def test_anchor_places_follow_the_number_of_negatives(negatives):
  rng = np.random.default_rng(negatives)
  values = jnp.array(rng.permutation(1200), jnp.float32)
  negative = np.zeros(1200, bool)
  negative[rng.choice(1200, negatives, replace=False)] = True
  falling = np.sort(np.asarray(values)[negative])[::-1]
  expected = falling[[negatives // 10**k for k in range(1, 7)]]
  anchors = distill.anchors(values, jnp.array(negative))
  np.testing.assert_array_equal(anchors, expected)


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('hardest', [30, 2000])
def test_agrees_with_boolean_indexing(form, hardest):
  student, teacher, labels = batch()
  state = warm(student, teacher, labels)
  state = state._replace(student=state.student - 0.2)
  terms, state_2 = ekd_terms(
    student, teacher, labels, state, hardest=hardest, form=form
  )
  positive, negative, anchors_s, anchors_t = brute_force(
    student, teacher, labels, state, 0.01, hardest, form
  )
  np.testing.assert_allclose(state_2.student, anchors_s, rtol=1e-5)
  np.testing.assert_allclose(state_2.teacher, anchors_t, rtol=1e-5)
  np.testing.assert_allclose(terms.positive, positive, rtol=1e-4)
  np.testing.assert_allclose(terms.negative, negative, rtol=1e-4)
  assert (terms.positives, terms.negatives) == (48, 448)


def test_loss_weighs_the_terms():
  arguments = (*batch(), warm(*batch()))
  terms, _ = ekd_terms(*arguments)
  loss, _ = ekd_loss(*arguments)
  other, _ = ekd_loss(*arguments, positive_weight=3.0, negative_weight=5.0)
  positive, negative = terms.positive, terms.negative
  np.testing.assert_allclose(loss, 0.02 * positive + 0.01 * negative, rtol=1e-5)
  np.testing.assert_allclose(other, 3 * positive + 5 * negative, rtol=1e-5)


@pytest.mark.parametrize('form', FORMS)
def test_zero_at_the_teacher_with_equal_anchors(form):
  _, teacher, labels = batch()
  for state in (distill.init_ekd(), warm(teacher, teacher, labels)):
    (loss, _), gradient = ekd_gradient(
      teacher, teacher, labels, state, form=form
    )
    assert loss < 1e-12 and np.all(np.abs(gradient) < 1e-7)


@pytest.mark.parametrize('form', FORMS)
def test_ignores_embedding_norms_and_order(form):
  student, teacher, labels = batch()
  state = warm(student, teacher, labels)
  loss, _ = ekd_loss(student, teacher, labels, state, form=form)
  norms = jnp.linspace(0.1, 9.0, 32)[:, None]
  order = jax.random.permutation(jax.random.key(5), 32)
  same, _ = ekd_loss(
    (student * norms)[order],
    (teacher / norms)[order],
    labels[order] + 7,
    state,
    form=form,
  )
  assert loss > 0
  np.testing.assert_allclose(same, loss, rtol=1e-4)


def test_rank_rises_by_one_past_a_threshold_and_stays_in_range():
  anchors = jnp.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
  ranks = distill.soft_rank(jnp.linspace(-0.95, 1.0, 40), anchors)
  assert np.all(ranks >= 0) and np.all(ranks <= 6)
  assert np.all(np.diff(ranks) >= 0)
  between = distill.soft_rank(jnp.array([0.05, 0.15, 0.25, 0.65]), anchors)
  np.testing.assert_allclose(between, [0, 1, 2, 6], atol=0.02)
  slope = jax.jit(
    jax.vmap(jax.grad(lambda s: distill.soft_rank(s[None], anchors)[0]))
  )
  np.testing.assert_allclose(slope(anchors), [25.0] * 6, rtol=1e-2)
  assert not np.any(slope(jnp.array([-0.9])))


def test_gradient_of_rank_form_by_formula():
  """Anchors are constants to the gradient: only `s` moves."""
  student, teacher, labels = batch(people=3, photos=2, size=4)
  state = warm(student, teacher, labels)

  @jax.jit
  def with_constant_anchors(student):
    unit = student / jnp.linalg.norm(student, axis=1, keepdims=True)
    pairs = jnp.triu_indices(6, 1)
    same = (labels[:, None] == labels[None, :])[pairs]
    s = (unit @ unit.T)[pairs]
    fixed = teacher / jnp.linalg.norm(teacher, axis=1, keepdims=True)
    t = (fixed @ fixed.T)[pairs]
    rank_s = jnp.sum(
      jax.nn.sigmoid(100 * (s[:, None] - new.student[None, :])), axis=1
    )
    rank_t = jnp.sum(
      jax.nn.sigmoid(100 * (t[:, None] - new.teacher[None, :])), axis=1
    )
    square = (rank_s - rank_t) ** 2
    return 0.02 * jnp.mean(square, where=same) + 0.01 * jnp.mean(
      square, where=~same
    )

  (loss, new), gradient = ekd_gradient(student, teacher, labels, state)
  np.testing.assert_allclose(loss, with_constant_anchors(student), rtol=1e-4)
  expected = jax.jit(jax.grad(with_constant_anchors))(student)
  assert np.any(np.abs(gradient) > 1e-4)
  np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-6)


def test_teacher_and_state_get_no_gradient():
  student, teacher, labels = batch()
  state = warm(student, teacher, labels)

  def loss(teacher, student_anchors, teacher_anchors):
    old = state._replace(student=student_anchors, teacher=teacher_anchors)
    return ekd_loss(student, teacher, labels, old)[0]

  gradients = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(
    teacher, state.student, state.teacher
  )
  assert not any(np.any(gradient) for gradient in gradients)


def test_moving_average_from_zero_and_debiased():
  """Constant thresholds: 87.5 % of the way after 207 steps."""
  student, teacher, labels = batch()
  target = warm(student, teacher, labels)

  @jax.jit
  def run(state):
    def step(state, _):
      _, state = ekd_loss(student, teacher, labels, state)
      return state, None

    return jax.lax.scan(step, state, None, length=207)[0]

  state = run(distill.init_ekd())
  assert state.count == 207
  np.testing.assert_allclose(
    state.student, (1 - 0.99**207) * target.student, rtol=1e-4
  )
  np.testing.assert_allclose(1 - 0.99**207, 0.875, atol=1e-3)
  for before in (distill.init_ekd(), state):
    debiased, _ = ekd_loss(student, teacher, labels, before, debias=True)
    exact, _ = ekd_loss(student, teacher, labels, target, momentum=1.0)
    np.testing.assert_allclose(debiased, exact, rtol=2e-3)


def test_state_keeps_its_structure():
  student, teacher, labels = batch()
  state = distill.init_ekd()
  _, after = ekd_loss(student, teacher, labels, state)
  shapes = [(x.shape, x.dtype) for x in state]
  assert [(x.shape, x.dtype) for x in after] == shapes
  assert after.count == 1


@pytest.mark.parametrize(
  'form, debias', [('rank', False), ('rank', True), ('distance', False)]
)
@pytest.mark.parametrize('people', ['strangers', 'one person', 'one image'])
def test_missing_pairs_give_zero_not_nan(people, form, debias):
  student, teacher, labels = batch()
  labels = {
    'strangers': jnp.arange(32),
    'one person': jnp.zeros_like(labels),
    'one image': labels[:1],
  }[people]
  student, teacher = student[: len(labels)], teacher[: len(labels)]
  state = distill.init_ekd()
  arguments = (student, teacher, labels, state)
  terms, new = ekd_terms(*arguments, form=form, debias=debias)
  (loss, _), gradient = ekd_gradient(*arguments, form=form, debias=debias)
  assert np.isfinite(loss) and np.all(np.isfinite(gradient))
  if people != 'one person':
    assert terms.positive == 0 and terms.positives == 0
  if people != 'strangers':
    assert terms.negative == 0 and terms.negatives == 0
    np.testing.assert_array_equal(new.student, state.student)
    assert new.count == 0
  if people == 'one image':
    assert loss == 0 and not np.any(gradient)


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('case', ['zero norm', 'all equal', 'all zero'])
def test_degenerate_embeddings_give_finite_gradients(case, form):
  student, teacher, labels = batch()
  if case == 'zero norm':
    student, teacher = student.at[3].set(0.0), teacher.at[5].set(0.0)
  elif case == 'all equal':
    student = jnp.ones_like(student)
  else:
    student, teacher = jnp.zeros_like(student), jnp.zeros_like(teacher)
  state = warm(student, teacher, labels)
  (loss, _), gradient = ekd_gradient(student, teacher, labels, state, form=form)
  assert np.isfinite(loss) and np.all(np.isfinite(gradient))


def test_bfloat16_inputs_give_finite_float32():
  student, teacher, labels = batch()
  state = warm(student, teacher, labels)
  (loss, new), gradient = ekd_gradient(
    student.astype(jnp.bfloat16), teacher.astype(jnp.bfloat16), labels, state
  )
  assert loss.dtype == new.student.dtype == jnp.float32
  assert np.isfinite(loss) and np.all(np.isfinite(np.float32(gradient)))


def test_jit_and_vmap_over_seeds_agree_with_eager():
  batches = [batch(seed) for seed in range(3)]
  states = [warm(*one) for one in batches]
  eager = [
    distill.ekd_loss(*one, state)
    for one, state in zip(batches, states, strict=True)
  ]
  stack = functools.partial(jax.tree.map, lambda *x: jnp.stack(x))
  mapped = jax.jit(jax.vmap(distill.ekd_loss))(*stack(*batches), stack(*states))
  expected = stack(*eager)
  np.testing.assert_allclose(mapped[0], expected[0], rtol=1e-4)
  np.testing.assert_allclose(mapped[1].student, expected[1].student, rtol=1e-5)


def test_teacher_may_have_another_width():
  student, teacher, labels = batch()
  loss, _ = ekd_loss(student, teacher[:, :5], labels, distill.init_ekd())
  assert np.isfinite(loss)


@pytest.mark.parametrize(
  'option, value',
  [
    ('form', 'ranks'),
    ('momentum', 0.0),
    ('momentum', 1.5),
    ('temperature', 0.0),
    ('hardest', 0),
    ('one_in', (1, 10)),
  ],
)
def test_bad_options(option, value):
  with pytest.raises(InputError, match=option):
    ekd_loss(STUDENT, TEACHER, LABELS, distill.init_ekd(), **{option: value})
