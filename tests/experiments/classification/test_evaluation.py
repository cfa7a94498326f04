import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import data
from compress.errors import InputError
from experiments.classification import evaluation, networks
from tests.experiments.classification import small


def test_prediction_in_batches_is_that_of_the_whole():
  network, dataset = small.network(), small.dataset(50)
  variables = network.init(jax.random.key(0))
  whole = network.apply(variables, small.scaling()(dataset.images))
  compiled = []

  def apply(variables, images):
    compiled.append(images.shape)
    return network.apply(variables, images)

  predict = evaluation.make_predictor(apply, scaling=small.scaling(), batch=16)
  np.testing.assert_allclose(
    predict(variables, dataset.images), whole, rtol=1e-4, atol=1e-5
  )
  predict(jax.tree.map(lambda x: x + 1, variables), dataset.images)
  assert compiled == [(16, 4, 4, 1)]
  found = evaluation.evaluate(predict, variables, dataset)
  expected = (np.argmax(whole, axis=1) == dataset.labels).mean()
  assert found.top1 == pytest.approx(expected)
  assert (found.top5, found.count) == (1.0, 50)


def test_latency_of_several_networks():
  network = small.network()
  variables = network.init(jax.random.key(0))
  found = evaluation.measure_latency(
    {'a': (network.apply, variables), 'b': (network.apply, variables)},
    np.zeros((3, 4, 4, 1), np.float32),
    batch_sizes=(1, 4),
    warmup=0,
    repeats=2,
  )
  assert set(found) == {'a', 'b'}
  assert found['a']['batch4']['median'] > 0
  entries = {'batch1': {'median': 2.0}}, {'batch1': {'median': 6.0}}
  assert evaluation.measured_speedup(*entries, batch=1) == 3.0


def test_networks_by_name():
  network = networks.make_classifier('lenet5', image_shape=(8, 8, 1), classes=7)
  assert network.classes == 7
  variables = jax.eval_shape(network.init, jax.random.key(0))
  assert network.cost(variables).parameters == 131_080 - 3 * 501
  logits, collections = jax.eval_shape(
    network.learn, variables, jnp.zeros((2, 8, 8, 1))
  )
  assert logits.shape == (2, 7) and collections == {}
  with pytest.raises(InputError, match='lenet300'):
    networks.make_classifier('lenet', image_shape=(8, 8, 1), classes=7)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'least'), [('lenet300', 0.97), ('lenet5', 0.98)]
)
def test_digits_are_learnt(name, least):
  from experiments.classification import training, tuning

  splits = data.load_digits()
  scaling = data.pixel_scaling(splits.train)
  network = networks.make_classifier(
    name, image_shape=splits.train.image_shape, classes=10
  )
  out = training.train_classifier(
    network,
    network.init(jax.random.key(0)),
    splits.train,
    scaling=scaling,
    tuning=tuning.Tuning(shift=1 if name == 'lenet5' else 0),
    seed=0,
    progress=False,
  )
  predict = evaluation.make_predictor(network.apply, scaling=scaling)
  assert evaluation.evaluate(predict, out.compressed, splits.test).top1 >= least
