import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from compress import distill, encode, train
from compress import packed as packed_lib
from compress.compressor import State
from compress.graph import cpu_rules
from compress.quantize import QParams
from experiments.faces.recipe import OBSERVERS, Recipe
from experiments.faces.student import (
  QUANTFACE_STEPS,
  bit_operations,
  frozen_twin,
  make_student,
  stored_bytes,
)
from experiments.faces.tuning import Tuning, initial_head, make_loss
from tests.experiments.small_network import (
  MACS,
  photographs,
  small_network,
  teacher_embeddings,
)

LOW = {'weight_bits': 3, 'activation_bits': 4}
RECIPES = {
  'inputs': {},
  'low': LOW | {'ranges': 'learned'},
  'quantface': {
    'placement': 'quantface',
    'ranges': 'frozen',
    'granularity': 'tensor',
  },
  'quantface paper': LOW
  | {
    'placement': 'quantface',
    'ranges': 'running',
    'batch_norm': 'batch',
    'observer': 'cumulative',
  },
  'frozen': LOW | {'ranges': 'frozen', 'batch_norm': 'batch'},
  'running': LOW
  | {'ranges': 'running', 'weight_range': 'mse', 'observer': 'ema'},
  'group': {
    'granularity': 'group',
    'group_size': 8,
    'ranges': 'learned',
  },
  'sixteen': {'weight_bits': 16, 'activation_bits': 16},
}
# Mean cosine to the float network that is expected right after calibration.
LEAST = {'sixteen': 0.99999} | dict.fromkeys(
  ('low', 'quantface paper', 'frozen', 'running'), 0.5
)


@functools.cache
def images():
  return photographs()[0].astype(np.float32)


@functools.cache
def reference():
  network = small_network()
  return np.asarray(jax.jit(network.apply)(network.variables, images()))


@functools.cache
def student_of(name):
  recipe = Recipe(**RECIPES[name])
  return make_student(small_network(), recipe, photographs()[0], batch=8)


@functools.cache
def compiled(name):
  """The twin in simulation, and as it is stored."""
  student = student_of(name)
  return (
    jax.jit(functools.partial(student.apply, train=False)),
    jax.jit(frozen_twin(small_network(), Recipe(**RECIPES[name]))),
  )


def cosine(a, b):
  a, b = (distill.normalize(jnp.asarray(x)) for x in (a, b))
  return np.asarray((a * b).sum(-1))


def reloaded(student, trained, carried, path):
  encode.save(path, student.pack(trained, carried))
  return packed_lib.unpack_tree(encode.load(path).tree)


def assert_stored_is_simulated(name, trained, carried, path):
  apply, frozen = compiled(name)
  simulated, kept = apply(trained, carried, images())
  stored = reloaded(student_of(name), trained, carried, path)
  out = np.asarray(frozen(stored, images()))
  assert out.tobytes() == np.asarray(simulated).tobytes()
  jax.tree.map(np.testing.assert_array_equal, kept, carried)
  return out


@pytest.mark.parametrize('name', RECIPES)
def test_what_is_stored_is_what_was_simulated(name, tmp_path):
  student = student_of(name)
  path = tmp_path / 'network.safetensors'
  out = assert_stored_is_simulated(name, student.trained, student.carried, path)
  assert out.shape == reference().shape
  assert cosine(out, reference()).mean() > LEAST.get(name, 0.95)
  assert (out != reference()).any()


@pytest.mark.parametrize('observer', OBSERVERS)
def test_observers(observer):
  apply, _ = compiled('frozen')
  plain = student_of('frozen')
  recipe = Recipe(**RECIPES['frozen'] | {'observer': observer})
  student = make_student(small_network(), recipe, photographs()[0], batch=8)
  out, _ = apply(plain.trained, student.carried, images())
  assert cosine(out, reference()).mean() > 0.5
  scales = [q.scale for q in student.carried['qparams'].values()]
  assert all(np.isfinite(scale) and scale > 0 for scale in scales)


def step_of(student, method, rate=0.02):
  tuning = Tuning(steps=8, batch=16, scale=16.0)
  photos, labels = photographs()
  teacher = teacher_embeddings(photos)
  params = {'twin': student.trained}
  carried = {'twin': student.carried}
  if method != 'quantface':
    carried['anchors'] = distill.init_ekd()
  if method == 'ekd_class':
    params['head'] = jnp.asarray(initial_head(teacher, labels))
  optimizer = optax.adam(rate)
  step = train.make_step(make_loss(student, method, tuning), optimizer)
  batch = {
    'images': photos,
    'teacher': teacher[:, 0],
    'labels': labels,
    'general': np.arange(16) < 12,
  }
  state = train.init_state(params, optimizer, carried, jax.random.key(0))
  return jax.jit(step), state, batch


@pytest.mark.parametrize(
  'method, name',
  [
    ('quantface', 'low'),
    ('ekd', 'low'),
    ('ekd_class', 'low'),
    ('quantface', 'quantface paper'),
    ('quantface', 'frozen'),
    ('quantface', 'running'),
  ],
)
def test_training(method, name, tmp_path):
  student = student_of(name)
  step, state, batch = step_of(student, method, rate=3e-3)
  losses = []
  for _ in range(12):
    state, metrics = step(state, batch)
    assert np.isfinite(metrics['loss']) and np.isfinite(metrics['grad_norm'])
    losses.append(float(metrics['loss']))
  assert min(losses[-3:]) < losses[0], losses
  assert step._cache_size() == 1
  trained, carried = state.params['twin'], state.carried['twin']
  moved = jax.tree.map(
    lambda a, b: bool((a != b).any()),
    trained['params'],
    student.trained['params'],
  )
  assert moved['fc']['kernel']
  recipe = Recipe(**RECIPES[name])
  if recipe.ranges == 'learned':
    for learned in ('scales', 'weights'):
      for key, scale in trained[learned].items():
        assert (scale != student.trained[learned][key]).any(), key
    same = carried['zero_points'], student.carried['zero_points']
    jax.tree.map(np.testing.assert_array_equal, *same)
  if recipe.ranges == 'frozen':
    same = carried['qparams'], student.carried['qparams']
    jax.tree.map(np.testing.assert_array_equal, *same)
  if recipe.ranges == 'running':
    assert int(carried['step']) == 12
  stats = [jax.tree.leaves(c['others']) for c in (carried, student.carried)]
  changed = [(a != b).any() for a, b in zip(*stats, strict=True)]
  assert all(changed) if recipe.batch_norm == 'batch' else not any(changed)
  path = tmp_path / 'network.safetensors'
  assert_stored_is_simulated(name, trained, carried, path)


def test_running_ranges_stop_after_299_steps():
  student = student_of('running')
  ranges = lambda carried: jax.tree.leaves(carried['states'])  # noqa: E731
  wide = jax.jit(functools.partial(student.apply, train=True))
  for step, moves in ((QUANTFACE_STEPS - 1, True), (QUANTFACE_STEPS, False)):
    carried = {**student.carried, 'step': jnp.int32(step)}
    _, after = wide(student.trained, carried, 3 * images())
    moved = [
      (a != b).any()
      for a, b in zip(ranges(after), ranges(carried), strict=True)
    ]
    assert any(moved) == moves
    assert int(after['step']) == step + 1
  assert QUANTFACE_STEPS == 299


def test_what_is_quantized():
  student = student_of('inputs')
  assert list(student.activation_specs) == list(MACS)
  kernels = [f'{name}/kernel' for name in MACS]
  assert sorted(student.weight_specs) == sorted(kernels)
  assert all(spec.symmetric for spec in student.weight_specs.values())
  student = student_of('quantface')
  assert list(student.activation_specs) == [
    'stem/prelu',
    'stage1/block0/prelu',
    'stage1/block0/add',
  ]
  slopes = ['stage1/block0/prelu/slope', 'stem/prelu/slope']
  assert sorted(student.weight_specs) == sorted(kernels + slopes)
  for path, spec in student.weight_specs.items():
    assert (spec.dynamic, spec.symmetric) == (True, False), path
    assert spec.bounds == 'full'
    assert spec.gradient == 'identity'
    assert spec.granularity == 'tensor'


@pytest.mark.parametrize('bits, image', [(2, 8), (4, 8), (8, 8), (16, 16)])
def test_the_image_keeps_its_eight_bits(bits, image):
  recipe = Recipe(weight_bits=8, activation_bits=bits)
  rules = dict(recipe.activation_rules('stem/conv'))
  assert [spec.bits for spec in rules.values()] == [image, bits]


def test_bit_operations():
  first, *others = MACS.values()
  total = first + sum(others)
  parameters = sum(
    np.size(x) for x in jax.tree.leaves(small_network().variables['params'])
  )
  low = student_of('low')
  cost = bit_operations(low)
  assert cost.macs == total
  assert cost.bops == 3 * (8 * first + 4 * sum(others))
  assert bit_operations(student_of('sixteen')).bops == 16 * 16 * total
  # Counted as the paper does: everything at the activations' width.
  cost = bit_operations(student_of('quantface paper'))
  assert cost.bops == 3 * 4 * total
  assert (cost.macs, cost.parameters) == (total, parameters)


def test_folding_leaves_fewer_numbers_to_store():
  folded, whole = student_of('low'), student_of('frozen')
  size = [stored_bytes(s.pack(s.trained, s.carried)) for s in (folded, whole)]
  for unit in ('nominal', 'packed'):
    assert size[0][unit] < size[1][unit]
  kernels = sum(
    np.size(x)
    for path, x in jax.tree_util.tree_leaves_with_path(folded.trained['params'])
    if path[-1].key == 'kernel'
  )
  # Three bits a weight; the ends of ranges and biases stay in 32.
  assert kernels * 3 / 8 < size[0]['nominal'] < size[0]['packed'] < kernels


def test_activations_of_the_learned_twin_are_exported():
  student = student_of('low')
  tree = student.pack(student.trained, student.carried)
  stored = tree['activations']
  assert sorted(stored) == sorted(MACS)
  for name, scale in student.trained['scales'].items():
    q = QParams(stored[name]['scale'].array, stored[name]['zero_point'].array)
    assert q.scale == scale
    assert q.zero_point == student.carried['zero_points'][name]
    assert q.zero_point.dtype == jnp.int32
  state = State(student.trained['weights'], student.carried['weights'])
  assert sorted(state.learned) == sorted(student.weight_specs)


def test_rules_change_nothing_but_rounding():
  network, photos = small_network(), photographs()[0]
  fast = make_student(
    network, Recipe(), photos, batch=8, rules=(cpu_rules(enabled=True),)
  )
  slow = student_of('inputs')
  scales = [
    {name: q.scale for name, q in twin.carried['qparams'].items()}
    for twin in (fast, slow)
  ]
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    *scales,
  )
  apply = jax.jit(functools.partial(fast.apply, train=False))
  found, _ = apply(slow.trained, slow.carried, images())
  expected, _ = compiled('inputs')[0](slow.trained, slow.carried, images())
  assert cosine(found, expected).min() > 0.999
