"""Rejection, filter and adjustment of fakes, each by its property."""

import jax
import numpy as np
import pytest

from compress.errors import InputError
from compress.synthesize import subsampling


def test_the_share_accepted_is_the_mean_ratio_over_the_bound():
  rng = np.random.default_rng(0)
  ratios = rng.uniform(0, 2, 40_000)
  accepted, bound = subsampling.accept_by_ratio(
    ratios, rng.uniform(size=len(ratios)), bound=4.0
  )
  assert bound == 4
  # Four standard errors.
  assert accepted.mean() == pytest.approx(ratios.mean() / 4, abs=0.009)


def test_the_bound_runs_with_the_largest_ratio():
  accepted, bound = subsampling.accept_by_ratio(
    [1.0, 4.0, 1.0, 0.0], [0.4, 0.99, 0.4, 0.0], bound=2.0
  )
  np.testing.assert_array_equal(accepted, [True, True, False, False])
  assert bound == 4


def test_errors_by_hand():
  logits = np.array([[0.0, 0.0], [1000.0, 0.0]])
  found = subsampling.class_errors(logits, np.array([0, 1]))
  np.testing.assert_allclose(found, [np.log(2), 1000])
  found = subsampling.regression_errors([1.0, 5.0], [2.0, 2.0])
  np.testing.assert_array_equal(found, [1, 3])
  for label in (-1, 2):
    with pytest.raises(InputError, match='for 2 classes'):
      subsampling.class_errors(logits, np.array([0, label]))


@pytest.mark.parametrize('rho, kept', [(1, 10), (0.9, 9), (0.85, 9), (0.05, 1)])
def test_the_filter_keeps_at_least_its_share(rho, kept):
  errors = np.random.default_rng(0).permutation(10) + 1.0
  cutoff = subsampling.error_cutoff(errors, rho=rho)
  assert (errors <= cutoff).sum() == kept
  assert (1e9 <= cutoff) == (rho == 1)


@pytest.mark.parametrize('rho', [0, 1.1, float('nan')])
def test_another_share_is_refused(rho):
  with pytest.raises(InputError, match='rho is'):
    subsampling.error_cutoff([1.0], rho=rho)


def draw(classes, key):
  """Fakes of 1 pixel: the class, and noise that sometimes crosses over."""
  noise = 0.4 * jax.random.normal(key, (len(classes),))
  pixels = np.asarray(classes, np.float32) + np.asarray(noise)
  return pixels[:, None, None, None]


def teacher(images):
  pixels = images[:, 0, 0, 0]
  return -10 * np.square(pixels[:, None] - np.arange(3)[None])


def ratio(images, classes):
  return np.exp(-np.abs(images[:, 0, 0, 0] - classes))


@pytest.fixture(scope='module')
def strict():
  return subsampling.subsample_fakes(
    draw,
    ratio,
    teacher,
    jax.random.key(0),
    classes=3,
    count=40,
    rho=0.6,
    burn_in=300,
    batch=64,
  )


def test_as_many_fakes_of_each_class_with_the_labels_of_the_teacher(strict):
  assert strict.images.shape == (120, 1, 1, 1)
  np.testing.assert_array_equal(np.bincount(strict.conditions), [40, 40, 40])
  logits = teacher(strict.images)
  np.testing.assert_array_equal(strict.labels, logits.argmax(axis=1))
  assert strict.labels.dtype == np.int32


def test_every_fake_is_within_its_cutoff(strict):
  errors = subsampling.class_errors(teacher(strict.images), strict.conditions)
  assert (errors <= strict.cutoffs[strict.conditions]).all()
  assert (strict.bounds <= 1).all() and (strict.bounds > 0.9).all()


def test_everything_stays_without_rejection_and_filter():
  found = subsampling.subsample_fakes(
    draw,
    lambda images, classes: np.ones(len(images)),
    teacher,
    jax.random.key(0),
    classes=3,
    count=30,
    rho=1.0,
    burn_in=10,
    batch=30,
  )
  np.testing.assert_array_equal(found.accepted, [1, 1, 1])
  # Those that crossed over stay, with the teacher's label.
  assert (found.labels != found.conditions).any()


@pytest.mark.parametrize(
  'given, message',
  [
    ({'count': 0}, 'right is 1 or more of each'),
    ({'burn_in': 0}, 'right is 1 or more of each'),
    ({'most': 0}, 'right is 1 or more of each'),
    ({'ratio': lambda x, y: np.zeros(len(x))}, 'class 0: the density ratio of'),
    ({'ratio': lambda x, y: np.full(len(x), np.nan)}, 'ratios are not finite'),
    ({'teacher': lambda x: np.full((len(x), 3), np.nan)}, 'answers are not'),
  ],
)
def test_bad_input_is_refused(given, message):
  given = {'ratio': ratio, 'teacher': teacher, 'count': 5, **given}
  with pytest.raises(InputError, match=message):
    subsampling.subsample_fakes(
      draw,
      given.pop('ratio'),
      given.pop('teacher'),
      jax.random.key(0),
      classes=3,
      batch=8,
      **{'burn_in': 8, **given},
    )


def test_a_class_without_enough_fakes_is_named():
  def narrow(images, classes):
    ratios = np.zeros(len(images))
    ratios[0] = 1
    return ratios

  with pytest.raises(InputError, match='class 0: '):
    subsampling.subsample_fakes(
      draw,
      narrow,
      teacher,
      jax.random.key(0),
      classes=3,
      count=50,
      burn_in=100,
      batch=50,
      most=4,
    )


def draw_numbers(numbers, key):
  """Fakes of 1 pixel: the number, and noise that grows with it."""
  noise = np.asarray(jax.random.normal(key, (len(numbers),)))
  return (numbers + 0.2 * numbers * noise)[:, None, None, None]


def read_pixel(images):
  return images[:, 0, 0, 0]


@pytest.fixture(scope='module')
def numbered():
  return subsampling.subsample_number_fakes(
    draw_numbers,
    lambda images, numbers: np.exp(-np.abs(read_pixel(images) - numbers)),
    read_pixel,
    jax.random.key(0),
    edges=(0.0, 1.0, 2.0, 4.0),
    count=40,
    rho=0.6,
    burn_in=300,
    batch=64,
  )


def test_as_many_fakes_of_each_interval_with_the_numbers_of_the_teacher(
  numbered,
):
  assert numbered.images.shape == (120, 1, 1, 1)
  asked = numbered.conditions.reshape(3, 40)
  assert asked.dtype == numbered.labels.dtype == np.float32
  for part, low, high in zip(asked, (0, 1, 2), (1, 2, 4), strict=True):
    assert low <= part.min() and part.max() <= high
    assert part.max() - part.min() > 0.8 * (high - low)
  np.testing.assert_array_equal(numbered.labels, read_pixel(numbered.images))


def test_every_interval_has_a_cutoff_of_its_own(numbered):
  errors = np.abs(numbered.labels - numbered.conditions).reshape(3, 40)
  assert (errors <= numbered.cutoffs[:, None]).all()
  assert (np.diff(numbered.cutoffs) > 0).all()
  assert numbered.cutoffs[2] > 3 * numbered.cutoffs[0]


def test_an_interval_without_enough_fakes_and_edges_that_fall_are_named():
  def subsample(edges):
    return subsampling.subsample_number_fakes(
      draw_numbers,
      lambda images, numbers: np.arange(len(images)) == 0,
      read_pixel,
      jax.random.key(0),
      edges=edges,
      count=50,
      burn_in=100,
      batch=50,
      most=4,
    )

  with pytest.raises(InputError, match='^0 to 0.5: '):
    subsample((0, 0.5, 1))
  for edges in ((0,), (1, 0), (0, 0)):
    with pytest.raises(InputError, match='that rise'):
      subsample(edges)
