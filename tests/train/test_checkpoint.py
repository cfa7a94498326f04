import json
import shutil
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from compress import train
from compress.errors import InputError
from tests.train import problem


class Ranges(NamedTuple):
  low: jax.Array
  high: jax.Array


def rich(key=None):
  """Make a state with everything a checkpoint may meet."""
  params = {
    'a.b/c [0]': {'kernel': jnp.linspace(0, 1, 6).reshape(3, 2) / 3},
    'half': jnp.asarray([0.1, -2.5, 3e-5], jnp.bfloat16),
    'empty': jnp.zeros((0, 4)),
  }
  carried = {
    'ranges': Ranges(jnp.float32(-jnp.inf), jnp.float32(jnp.nan)),
    'nothing': {},
    'none': None,
    'pair': ((), [jnp.asarray([True, False])]),
    'codes': jnp.asarray([-128, 127], jnp.int8),
    'words': jnp.asarray([2**32 - 1], jnp.uint32),
  }
  tool = optax.chain(
    optax.masked(optax.add_decayed_weights(0.1), train.decayed),
    optax.sgd(0.1, momentum=0.9),
  )
  key = jax.random.key(3) if key is None else key
  return train.init_state(params, tool, carried, key)


@pytest.mark.parametrize(
  'key',
  [
    lambda: jax.random.key(3),
    lambda: jax.random.key(3, impl='rbg'),
    lambda: jax.random.split(jax.random.key(1), 3),
    lambda: jnp.asarray([1, 2], jnp.uint32),
  ],
  ids=['typed', 'rbg', 'several', 'raw'],
)
def test_state_comes_back_bit_equal(tmp_path, key):
  state = rich(key())
  path = train.save(tmp_path / 'new' / 'folder', state)
  assert path == tmp_path / 'new' / 'folder' / '0' and path.is_dir()
  like = jax.tree.map(lambda x: jnp.zeros_like(x), rich(key())._replace(key=0))
  like = like._replace(key=key())
  back = train.restore(tmp_path / 'new' / 'folder', like)
  problem.assert_bit_equal(back, state)
  assert back.key.dtype == state.key.dtype


def test_abstract_states_and_host_values_come_back(tmp_path):
  state = rich()
  train.save(tmp_path, state)
  back = train.restore(tmp_path, jax.eval_shape(rich))
  problem.assert_bit_equal(back, state)

  class Plain(NamedTuple):
    step: int
    rate: float
    table: np.ndarray

  plain = Plain(4, 0.1, np.arange(3.0))
  train.save(tmp_path, plain)
  back = train.restore(tmp_path, Plain(0, 0.0, np.zeros(3)))
  assert (back.step, back.rate) == (4, 0.1)
  assert type(back.step) is int and back.table.dtype == np.float64
  np.testing.assert_array_equal(back.table, plain.table)


def test_restores_to_where_the_state_lives(tmp_path):
  train.save(tmp_path, train.put_state(problem.initial(), train.data_mesh()))
  back = train.restore(tmp_path, problem.initial())
  assert len(back.step.sharding.device_set) == 1
  like = train.put_state(problem.initial(), train.data_mesh())
  back = train.restore(tmp_path, like)
  assert len(back.params['first']['kernel'].sharding.device_set) == 8
  problem.assert_bit_equal(back, problem.initial())


def test_keeps_the_newest(tmp_path):
  state = problem.initial()
  for number in (0, 5, 10, 10, 15):
    train.save(tmp_path, state._replace(step=jnp.int32(number)), keep=2)
  assert train.saved_steps(tmp_path) == (10, 15)
  assert sorted(path.name for path in tmp_path.iterdir()) == ['10', '15']
  assert int(train.restore(tmp_path, state).step) == 15
  assert int(train.restore(tmp_path, state, step=10).step) == 10
  with pytest.raises(InputError, match=r'no checkpoint of step 5.*\[10, 15\]'):
    train.restore(tmp_path, state, step=5)


def test_nothing_there(tmp_path):
  assert train.saved_steps(tmp_path / 'missing') == ()
  assert train.restore(tmp_path / 'missing', problem.initial()) is None
  assert not (tmp_path / 'missing').exists()


@pytest.mark.parametrize('left', ['all', 'some', 'none'])
def test_unfinished_checkpoint_is_ignored_and_cleared(tmp_path, left):
  state = problem.initial()
  done = train.save(tmp_path, state)
  half = tmp_path / '7.orbax-checkpoint-tmp'
  shutil.copytree(done, half)
  files = sorted(path for path in half.rglob('*') if path.is_file())
  for path in {'all': [], 'some': files[::2], 'none': files}[left]:
    path.unlink()
  (tmp_path / 'notes.txt').write_text('not a checkpoint')
  assert train.saved_steps(tmp_path) == (0,)
  problem.assert_bit_equal(train.restore(tmp_path, state), state)
  later = state._replace(step=jnp.int32(7))
  train.save(tmp_path, later)
  assert train.saved_steps(tmp_path) == (0, 7)
  assert not half.exists()
  problem.assert_bit_equal(train.restore(tmp_path, state), later)


def test_half_deleted_old_checkpoint_is_harmless(tmp_path):
  state = problem.initial()
  old = train.save(tmp_path, state)
  new = state._replace(step=jnp.int32(3))
  train.save(tmp_path, new)
  for path in old.rglob('*'):
    if path.is_file():
      path.unlink()
  problem.assert_bit_equal(train.restore(tmp_path, state), new)
  train.save(tmp_path, state._replace(step=jnp.int32(6)), keep=2)
  assert 6 in train.saved_steps(tmp_path) and 3 in train.saved_steps(tmp_path)


@pytest.mark.parametrize('what', ['manifest', 'state', 'bytes', 'everything'])
def test_damaged_checkpoint(tmp_path, what):
  state = problem.initial()
  path = train.save(tmp_path, state)
  if what == 'bytes':
    for file in (path / 'state').rglob('*'):
      if file.is_file():
        file.write_bytes(file.read_bytes()[:20])
  elif what == 'everything':
    shutil.rmtree(path)
    path.mkdir()
  else:
    shutil.rmtree(path / what)
  with pytest.raises(InputError, match='damaged') as caught:
    train.restore(tmp_path, state)
  assert '\n' not in str(caught.value)


def test_another_network_is_named_by_its_first_difference(tmp_path):
  state = problem.initial()
  train.save(tmp_path, state)
  with pytest.raises(InputError) as caught:
    train.restore(tmp_path, problem.initial(9))
  assert str(caught.value).endswith(
    'params/first/kernel is float32[6, 8] there and float32[6, 9] here.'
  )
  more = {**state.params, 'third': jnp.zeros(2)}
  with pytest.raises(InputError, match=r'params/third is absent there and fl'):
    train.restore(tmp_path, state._replace(params=more))
  less = {'first': state.params['first']}
  with pytest.raises(InputError, match='second/kernel is float.* and absent'):
    train.restore(tmp_path, state._replace(params=less))
  half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), state.params)
  with pytest.raises(InputError, match=r'float32\[6, 8\] there and bfloat16'):
    train.restore(tmp_path, state._replace(params=half))
  key = jax.random.key(0, impl='rbg')
  with pytest.raises(InputError, match=r'key is key<fry>\[\] there and key<rb'):
    train.restore(tmp_path, state._replace(key=key))


def test_another_optimizer_is_named(tmp_path):
  state = problem.initial()
  train.save(tmp_path, state)
  other = train.init_state(
    state.params, train.adam(0.1), state.carried, state.key
  )
  with pytest.raises(InputError, match='opt_state/0/count is absent there'):
    train.restore(tmp_path, other)


@pytest.mark.parametrize(
  ('config', 'message'),
  [
    ({'bits': 4, 'net': {'name': 'a', 'sizes': (1, 2)}}, 'bits is 6 there'),
    ({'bits': 6, 'net': {'name': 'b', 'sizes': (1, 2)}}, 'net.name is "a" the'),
    ({'bits': 6, 'net': {'name': 'a', 'sizes': [1]}}, r'net.sizes is \[1, 2\]'),
    ({'bits': 6}, 'net.name is "a" there and absent here'),
    (
      {'bits': 6, 'net': {'name': 'a', 'sizes': (1, 2)}, 'x': None},
      'x is absent there and null here',
    ),
  ],
)
def test_another_configuration_is_named(tmp_path, config, message):
  state = problem.initial()
  right = {'bits': 6, 'net': {'name': 'a', 'sizes': (1, 2)}}
  train.save(tmp_path, state, config=right)
  assert train.restore(tmp_path, state, config=right) is not None
  assert train.restore(tmp_path, state) is not None
  with pytest.raises(InputError, match=message) as caught:
    train.restore(tmp_path, state, config=config)
  assert '\n' not in str(caught.value)


def test_a_checkpoint_without_configuration_does_not_match_one(tmp_path):
  train.save(tmp_path, problem.initial())
  with pytest.raises(InputError, match='bits is absent there and 6 here'):
    train.restore(tmp_path, problem.initial(), config={'bits': 6})


def test_folder_that_cannot_be_written(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(InputError, match='Cannot write'):
    train.save(tmp_path / 'file', problem.initial())
  with pytest.raises(InputError, match='keep is 0'):
    train.save(tmp_path, problem.initial(), keep=0)


def test_two_leaves_with_one_path(tmp_path):
  class Twins(NamedTuple):
    step: int
    tree: dict

  with pytest.raises(ValueError, match='tree/a/b'):
    train.save(tmp_path, Twins(0, {'a/b': 1, 'a': {'b': 2}}))


def test_manifest_is_json(tmp_path):
  path = train.save(tmp_path, problem.initial(), config={'bits': 6})
  (found,) = (path / 'manifest').glob('metadata')
  manifest = json.loads(found.read_text())
  assert manifest['config'] == {'bits': 6}
  assert manifest['leaves']['params/first/kernel'] == [[6, 8], 'float32']
