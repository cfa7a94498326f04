import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from compress import deploy, graph, quantize
from compress.deploy.stored import nibbles, pack_nibbles, store
from compress.errors import InputError
from compress.packed import Codebook, Dense, Quantized, Sparse, unpack_tree
from tests.experiments.small_network import photographs, small_network


@pytest.fixture(scope='module')
def model():
  network = small_network()
  x = photographs()[0].astype(np.float32)
  folded = graph.fold(network.apply, network.variables, x[:1])
  return folded.apply, folded.variables, x


@pytest.fixture(scope='module')
def program(model):
  apply, variables, x = model
  packed = deploy.quantize_weights_only(variables, bits=4, group_size=8)
  return deploy.to_stablehlo(apply, packed, x, metadata={'of': 'a test'})


def test_nibbles_round_trip():
  for low, high, signed in ((-8, 8, True), (0, 16, False)):
    codes = np.random.default_rng(0).integers(low, high, (3, 5))
    packed = pack_nibbles(codes)
    assert packed.shape == (8,) and packed.dtype == np.uint8
    again = nibbles(jnp.asarray(packed), codes.shape, signed=signed)
    np.testing.assert_array_equal(again, codes)


@pytest.mark.parametrize(
  'leaf',
  [
    jnp.arange(3.0),
    Dense(jnp.arange(6.0).reshape(2, 3)),
    Quantized(
      jnp.asarray([[-7, 3], [7, 0], [1, -1]], jnp.int8),
      jnp.asarray([[0.5, 0.25]]),
      None,
      bits=4,
    ),
    Quantized(
      jnp.asarray([[0, 3], [15, 0]], jnp.int16),
      jnp.asarray(0.5),
      jnp.asarray(3, jnp.int16),
      bits=4,
    ),
    Quantized(
      jnp.asarray([[0, 255]], jnp.int16),
      jnp.asarray(0.5),
      jnp.asarray(128, jnp.int16),
      bits=8,
    ),
    Sparse(jnp.asarray([True, False]), Dense(jnp.asarray([2.0, 1.0]))),
    Codebook(
      jnp.asarray([[[0], [1], [1]]], jnp.uint8),
      jnp.asarray([[[[0.5], [2.0]]]]),
      (3, 1),
    ),
  ],
)
def test_every_kind_of_tensor_is_rebuilt(leaf):
  tree = {'params': {'layer': leaf}}
  arrays, rebuild = store(tree)
  again = jax.jit(rebuild)(arrays)
  wanted = unpack_tree(tree) if not isinstance(leaf, jax.Array) else tree
  jax.tree.map(np.testing.assert_array_equal, again, wanted)


def test_few_bits_take_half_a_byte(program, model):
  codes = program.weights['params/fc/kernel/codes']
  assert codes.dtype == np.uint8
  assert codes.size == model[1]['params']['fc']['kernel'].size / 2


@pytest.mark.parametrize('count', [1, 3])
def test_any_batch_gives_what_was_simulated(count, program, model):
  apply, variables, x = model
  packed = deploy.quantize_weights_only(variables, bits=4, group_size=8)
  out = deploy.compile_program(program)(x[:count])
  np.testing.assert_allclose(
    out, apply(unpack_tree(packed), x[:count]), rtol=1e-4, atol=1e-4
  )


def test_depthwise_convolutions_of_any_batch():
  def apply(variables, x):
    return jax.lax.conv_general_dilated(
      x,
      variables['kernel'],
      (2, 2),
      'SAME',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      feature_group_count=4,
    )

  rng = np.random.default_rng(0)
  variables = {'kernel': rng.normal(size=(3, 3, 1, 4)).astype(np.float32)}
  x = rng.normal(size=(5, 8, 8, 4)).astype(np.float32)
  run = deploy.compile_program(deploy.to_stablehlo(apply, variables, x[:1]))
  np.testing.assert_allclose(run(x), apply(variables, x), atol=1e-5)


def test_activations_are_quantized_in_the_program(model):
  apply, variables, x = model
  spec = quantize.AffineSpec(symmetric=False, bounds='unsigned')
  specs = {'fc': spec}
  run = quantize.quantize_activations(apply, quantize.INPUTS, specs)
  ranges = {'fc': quantize.QParams(jnp.float32(0.1), jnp.int32(9))}
  given = {'net': variables, 'ranges': {'fc': ranges['fc']._asdict()}}

  def whole(tree, x):
    q = quantize.QParams(**tree['ranges']['fc'])
    return run(tree['net'], {'fc': q}, x)

  out = deploy.compile_program(deploy.to_stablehlo(whole, given, x))(x)
  np.testing.assert_allclose(out, run(variables, ranges, x), atol=1e-4)


def test_a_file_is_read_as_written(program, model, tmp_path):
  path = tmp_path / 'net.stablehlo'
  size = deploy.save_program(path, program)
  assert path.stat().st_size == size
  again = deploy.load_program(path)
  assert again.metadata == {'of': 'a test'}
  assert again.stablehlo == program.stablehlo
  x = model[2]
  np.testing.assert_array_equal(
    deploy.compile_program(again)(x), deploy.compile_program(program)(x)
  )
  assert [p.name for p in tmp_path.iterdir()] == ['net.stablehlo']


@pytest.mark.parametrize('keep', [0, 7, 100, -1])
def test_a_truncated_file_is_refused(keep, program, tmp_path):
  path = tmp_path / 'net.stablehlo'
  deploy.save_program(path, program)
  data = path.read_bytes()
  path.write_bytes(data[:keep])
  with pytest.raises(InputError, match='net.stablehlo'):
    deploy.load_program(path)


def test_an_altered_file_is_refused(program, tmp_path):
  path = tmp_path / 'net.stablehlo'
  deploy.save_program(path, program)
  data = bytearray(path.read_bytes())
  data[-9] ^= 1
  path.write_bytes(data)
  with pytest.raises(InputError, match='altered'):
    deploy.load_program(path)


def test_other_files_are_refused(tmp_path):
  with pytest.raises(InputError, match='no such file'):
    deploy.load_program(tmp_path / 'nothing')
  path = tmp_path / 'other.safetensors'
  path.write_bytes(safetensors.numpy.save({'x': np.zeros(2)}))
  with pytest.raises(InputError, match='no program'):
    deploy.load_program(path)


def test_what_depends_on_the_batch_is_refused_in_one_line():
  def apply(variables, x):
    return variables['w'] * x[: max(1, len(range(x.shape[0])) // 2)]

  x = np.ones((4, 2), np.float32)
  with pytest.raises(InputError, match='batch=N'):
    deploy.to_stablehlo(apply, {'w': np.float32(2)}, x)
  program = deploy.to_stablehlo(apply, {'w': np.float32(2)}, x, batch=4)
  assert deploy.compile_program(program)(x).shape == (2, 2)


def test_examples_one_at_a_time():
  def apply(variables, x):
    return x.sum(1) * variables['w'] * jnp.float32(len(range(x.shape[0])))

  x = np.arange(8, dtype=np.float32).reshape(4, 2)
  variables = {'w': np.float32(2)}
  program = deploy.to_stablehlo(apply, variables, x, each=True)
  np.testing.assert_allclose(
    deploy.compile_program(program)(x), 2 * x.sum(1), rtol=1e-6
  )


def test_a_fault_of_the_model_stays_what_it_is():
  def apply(variables, x):
    return variables['w'] + undefined(x)  # noqa: F821

  with pytest.raises(NameError):
    deploy.to_stablehlo(apply, {'w': np.float32(2)}, np.ones((1, 2)))
