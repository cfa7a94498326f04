import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress.compressor import Compressor, State, pack_covered
from compress.errors import InputError
from experiments.classification import networks, training
from experiments.classification.training import make_trainer
from experiments.classification.tuning import Tuning, make_batches
from tests.experiments.classification import small

TUNING = Tuning(epochs=2, batch=16, learning_rate=0.01, optimizer='sgd')


def masks():
  """Zeroes half of the dense kernel; counts its updates and grads."""

  def init(params):
    keep = np.arange(params['classifier']['kernel'].size) % 2 == 0
    shape = params['classifier']['kernel'].shape
    carried = {
      'keep': jnp.asarray(keep.reshape(shape)),
      'updates': jnp.zeros((), jnp.int32),
    }
    return State({'scale': jnp.ones(())}, carried)

  def apply(params, state):
    kernel = params['classifier']['kernel'] * state.learned['scale']
    kernel = jnp.where(state.carried['keep'], kernel, 0.0)
    return {**params, 'classifier': {**params['classifier'], 'kernel': kernel}}

  def update(params, state, *, step, grads=None):
    assert jax.tree.structure(grads) == jax.tree.structure(params)
    right = (state.carried['updates'] == step).astype(jnp.int32)
    updates = state.carried['updates'] + right
    return State(state.learned, {**state.carried, 'updates': updates})

  return Compressor(
    init, apply, update, lambda p, s: pack_covered(None, apply(p, s), {})
  )


@functools.cache
def trainer(compressed=False, **options):
  return make_trainer(
    small.network(),
    small.dataset(),
    scaling=small.scaling(),
    tuning=TUNING,
    compressor=masks() if compressed else None,
    **options,
  )


def start(seed=0):
  return small.network().init(jax.random.key(seed))


def assert_trees_close(a, b, **tolerance):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def test_a_run_learns_and_moves_everything():
  variables = start()
  out = trainer().run(variables, seed=0, progress=False)
  assert len(out.history) == trainer().steps == 12
  assert out.history[-1]['loss'] < 0.5 * out.history[0]['loss']
  assert 0 <= out.history[-1]['accuracy'] <= 1
  before, after = jax.tree.leaves(variables), jax.tree.leaves(out.variables)
  assert all(np.any(a != b) for a, b in zip(after, before, strict=True))
  assert_trees_close(out.compressed, out.variables, rtol=0)


def test_the_compressor_is_applied_and_updated():
  out = trainer(True).run(start(), seed=0, progress=False)
  assert int(out.state.carried['updates']) == 12
  assert float(out.state.learned['scale']) != 1
  kernel = out.compressed['params']['classifier']['kernel'].ravel()
  assert (kernel[1::2] == 0).all() and (kernel[::2] != 0).all()
  # Masked entries see neither a gradient nor, at this size, much decay.
  dense = out.variables['params']['classifier']['kernel'].ravel()
  np.testing.assert_allclose(
    dense[1::2],
    start()['params']['classifier']['kernel'].ravel()[1::2],
    rtol=1e-3,
  )


def test_a_state_of_the_same_shapes_needs_no_new_trainer():
  everything = masks().init(start()['params'])
  carried = {
    **everything.carried,
    'keep': jnp.ones_like(everything.carried['keep']),
  }
  out = trainer(True).run(
    start(), seed=0, state=everything._replace(carried=carried), progress=False
  )
  assert (out.compressed['params']['classifier']['kernel'] != 0).all()


@pytest.mark.parametrize('compressed', [False, True])
def test_runs_side_by_side_are_the_runs_alone(compressed):
  seeds = [3, 4]
  many = trainer(compressed).run_many(
    [start(0), start(1)], seeds=seeds, progress=False
  )
  for i, seed in enumerate(seeds):
    alone = trainer(compressed).run(start(i), seed=seed, progress=False)
    assert_trees_close(
      many[i].compressed, alone.compressed, rtol=2e-3, atol=2e-5
    )
    assert_trees_close(many[i].state, alone.state, rtol=1e-3)
    for a, b in zip(many[i].history, alone.history, strict=True):
      np.testing.assert_allclose(a['loss'], b['loss'], rtol=1e-3)
      assert a['step'] == b['step']


def test_a_finished_run_is_taken_from_its_folder(tmp_path):
  options = {'folder': tmp_path / 'run', 'progress': False, 'config': {'a': 1}}
  whole = trainer().run(start(), seed=1, **options)
  # Neither the start nor the seed matters any more.
  again = trainer().run(start(5), seed=2, **options)
  assert_trees_close(again.variables, whole.variables, rtol=0)
  assert again.history == whole.history
  with pytest.raises(InputError):
    trainer().run(start(), seed=1, **options | {'config': {'a': 2}})


def test_a_teacher_and_a_penalty_enter_the_loss():
  shift = 3.0

  def run(**options):
    out = make_trainer(
      small.network(),
      small.dataset(),
      scaling=small.scaling(),
      tuning=Tuning(epochs=1, batch=96, hard_weight=0.0),
      **options,
    ).run(start(), seed=0, progress=False)
    return out.history[0]

  network, variables = small.network(), start()
  # Its own logits, as training computes them, leave nothing to learn.
  itself = run(teacher=lambda images: network.learn(variables, images)[0])
  assert itself['loss'] < 1e-5
  paid = run(
    teacher=lambda images: network.learn(variables, images)[0],
    penalty=lambda params: shift + 0 * params['classifier']['bias'].sum(),
  )
  np.testing.assert_allclose(paid['penalty'], shift)
  np.testing.assert_allclose(paid['loss'], shift, rtol=1e-4)


def test_after_update_sees_the_state_after_the_compressor():
  def clear(state, *, grads, key):
    del grads, key
    bias = jnp.zeros_like(state.params['params']['classifier']['bias'])
    head = {**state.params['params']['classifier'], 'bias': bias}
    params = {**state.params['params'], 'classifier': head}
    return state._replace(params={**state.params, 'params': params})

  out = trainer(True, after_update=clear).run(start(), seed=0, progress=False)
  assert (out.variables['params']['classifier']['bias'] == 0).all()
  assert int(out.state.carried['updates']) == 12


def test_batches_depend_on_seed_and_step_alone():
  dataset, scaling = small.dataset(), small.scaling()
  for tuning in (TUNING, Tuning(batch=16, shift=1, mirror=True)):

    def make(seed, tuning=tuning):
      return make_batches(
        dataset,
        scaling(dataset.images),
        scaling=scaling,
        tuning=tuning,
        seed=seed,
      )

    first, again, other = make(0), make(0), make(1)
    later = first(5)
    assert later['images'].shape == (16, 4, 4, 1)
    assert later['images'].dtype == np.float32
    jax.tree.map(np.testing.assert_array_equal, later, again(5))
    assert (other(5)['images'] != later['images']).any()
    assert (first(4)['images'] != later['images']).any()


@pytest.mark.parametrize(
  'options', [{'optimizer': 'x'}, {'epochs': -1}, {'learning_rate': 0.0}]
)
def test_wrong_options_are_refused(options):
  with pytest.raises(InputError):
    Tuning(**options)


def test_a_shrunk_network_trains_and_serves():
  network, variables = small.network(), start()
  keep = {'conv': np.array([True, False, True, True])}
  smaller, left, found = networks.shrink(network, variables, keep)
  assert left['params']['conv']['kernel'].shape == (3, 3, 1, 3)
  assert smaller.cost(left).parameters < network.cost(variables).parameters
  out = training.train_classifier(
    smaller,
    left,
    small.dataset(),
    scaling=small.scaling(),
    tuning=TUNING,
    seed=0,
    progress=False,
  )
  assert out.history[-1]['loss'] < out.history[0]['loss']
  assert out.variables['batch_stats']['bn']['mean'].shape == (3,)
  logits = smaller.apply(out.compressed, jnp.zeros((2, *small.SHAPE)))
  assert logits.shape == (2, 3)
  assert found.kept['params/conv/kernel'][3].tolist() == [0, 2, 3]
  with pytest.raises(TypeError, match='shrunk'):
    smaller.init(jax.random.key(0))
