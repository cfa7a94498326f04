import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import graph
from compress.errors import InputError
from experiments.faces import calibration, words
from experiments.faces.settings import Variant
from tests.experiments.small_network import SIDE, small_network


def settings(*sources):
  return types.SimpleNamespace(
    variants=[
      Variant('post_training', 6, 6, calibration=source) for source in sources
    ],
    calibration=4,
    synthesis_steps=3,
  )


def make(source, folder, **changes):
  options = {'count': 4, 'steps': 3, 'seed': 0, 'progress': False} | changes
  return calibration.make_inputs(
    small_network(), source, folder=folder, **options
  )


def test_noise_is_around_the_middle_grey(tmp_path):
  made = make('noise', tmp_path)
  assert made.shape == (4, SIDE, SIDE, 3) and made.dtype == np.uint8
  assert abs(made.mean() - 127.5) < 4 and 50 < made.std() < 65
  again = make('noise', tmp_path / 'other')
  np.testing.assert_array_equal(made, again)
  assert (made != make('noise', tmp_path, seed=1)).any()


def test_synthesized_inputs_match_the_statistics_better(tmp_path):
  network = small_network()
  loss = jax.jit(calibration.matching_loss(network))

  def distance(images):
    scaled = jnp.asarray(images / 127.5 - 1, jnp.float32)
    return float(loss(scaled, network.variables))

  made = make('synthesized', tmp_path, steps=30)
  assert distance(made) < 0.8 * distance(make('noise', tmp_path))
  rules = (graph.cpu_rules(enabled=True),)
  fast = make('synthesized', tmp_path / 'fast', steps=30, rules=rules)
  assert np.abs(made.astype(int) - fast).mean() < 1


def test_an_interrupted_run_goes_on_with_the_next_batch(tmp_path):
  whole = make('synthesized', tmp_path / 'whole', batch=2)
  first = make('synthesized', tmp_path, count=2, batch=2)
  path = tmp_path / 'synthesized_seed0.npy'
  assert len(np.load(path)) == 2
  rest = make('synthesized', tmp_path, batch=2)
  np.testing.assert_array_equal(rest, whole)
  np.testing.assert_array_equal(rest[:2], first)
  kept = path.stat().st_mtime_ns
  again = make('synthesized', tmp_path, batch=2)
  np.testing.assert_array_equal(again, whole)
  assert path.stat().st_mtime_ns == kept


def test_pictures_of_what_was_made(tmp_path):
  assert calibration.figures(settings('photographs'), tmp_path) == []
  make('noise', tmp_path)
  (figure,) = calibration.figures(settings('photographs', 'noise'), tmp_path)
  assert figure.svg.count('<image') == 4
  assert 'Noise' in figure.svg and 'Synthesized' not in figure.svg


def _entries(variant, eers, cosines):
  return [
    {
      'name': variant.name,
      'fold': fold,
      'seed': 0,
      'verification': {'eer': eer},
      'agreement': {'embedding_cosine': cosine},
    }
    for fold, (eer, cosine) in enumerate(zip(eers, cosines, strict=True))
  ]


def test_sources_are_compared_run_by_run():
  plain, made = settings('photographs', 'synthesized').variants
  entries = _entries(plain, [1.0, 2.0], [0.9, 0.8])
  assert calibration.tables(settings('photographs'), entries) == []
  # Not in the order of the folds.
  entries += _entries(made, [1.5, 3.5], [0.7, 0.5])[::-1]
  (table,) = calibration.tables(settings('photographs', 'synthesized'), entries)
  ((name, eer, cosine, other, gap, other_cosine),) = table['rows']
  assert name == 'post_training w6a6'
  assert eer == [1.5, '± 0.71'] and other == [2.5, '± 1.41']
  assert gap == pytest.approx(1.0)
  assert (cosine, other_cosine) == (pytest.approx(0.85), pytest.approx(0.6))
  assert len(table['columns']) == 6
  alone = settings('synthesized', 'noise')
  assert calibration.tables(alone, _entries(made, [1.0], [1.0])) == []


def test_a_network_without_batch_norms_is_refused():
  network = small_network()
  calibration.check_sources(settings('synthesized'), network)
  bare = network._replace(apply=lambda variables, images: images.mean((1, 2)))
  calibration.check_sources(settings('photographs', 'noise'), bare)
  with pytest.raises(InputError, match='--calibrate_on=synthesized: small has'):
    calibration.check_sources(settings('synthesized'), bare)


def test_names_and_words_tell_the_source():
  plain, made = settings('photographs', 'synthesized').variants
  assert plain.name == 'post_training w6a6'
  assert made.name == 'post_training synthesized w6a6'
  assert words.method(plain) == words.METHODS['post_training']
  assert 'the network itself' in words.method(made)['summary']
  told = types.SimpleNamespace(
    **vars(settings('noise')),
    smoke=False,
    dataset='lfw',
    placement='inputs',
    granularity='channel',
    study='face_quantization',
  )
  (done, _) = words.describe(told, types.SimpleNamespace(name='sface'))
  assert done.endswith('Nothing was trained after that.')
  assert any('normal noise' in note for note in words.notes(told))
