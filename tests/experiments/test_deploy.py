"""The deploy study on a small network, and what it refuses."""

import dataclasses
import json
import subprocess
import sys
import types

import numpy as np
import pytest

from compress import audit, encode
from compress.errors import InputError
from compress.packed import Dense
from experiments.deployment import study
from experiments.deployment.report import agreement
from experiments.faces import exported
from experiments.faces.recipe import Recipe
from experiments.faces.student import make_student
from tests.experiments.small_network import photographs, small_network


def test_set():
  """As `data.VerificationSet`, which takes photographs of 112 pixels only."""
  images, identities = photographs()
  pairs = np.stack(np.triu_indices(len(images), 1), axis=1).astype(np.int32)
  first, second = identities[pairs.T]
  return types.SimpleNamespace(
    name='small',
    images=images,
    pairs=pairs,
    genuine=first == second,
    folds=None,
    identities=identities,
    groups=None,
  )


test_set.__test__ = False


def write(path, recipe):
  network = small_network()
  student = make_student(network, recipe, photographs()[0])
  packed = student.pack(student.trained, student.carried)
  metadata = {
    'network': network.name,
    'weights': network.provenance,
    'method': 'post_training',
    'recipe': dataclasses.asdict(recipe),
    'kept': {},
  }
  encode.save(path, packed, metadata)
  return path


@pytest.fixture(scope='module')
def quantized(tmp_path_factory):
  folder = tmp_path_factory.mktemp('quantized')
  return write(folder / 'network.safetensors', Recipe())


@pytest.fixture(scope='module')
def floats(tmp_path_factory):
  folder = tmp_path_factory.mktemp('floats')
  recipe = Recipe(weight_bits=None, activation_bits=None)
  return write(folder / 'network.safetensors', recipe)


def options(file, **changes):
  given = dict(
    file=str(file),
    runtimes=('onnxruntime', 'stablehlo'),
    weights=None,
    weight_only=None,
    group_size=16,
    output_dir=None,
    threads=(1,),
    dataset='orl',
    data_path=None,
    data_dir=None,
    test_people='31-40',
    test_set='people',
    test_path=None,
    test_images=None,
    bootstrap=10,
    fast_convolution=None,
    smoke=True,
  )
  return study.Options(**{**given, **changes})


def run(chosen):
  return study.run(
    chosen, command='a test', network=small_network(), test=test_set()
  )


@pytest.mark.slow
def test_a_quantized_file_in_both_runtimes(quantized, tmp_path):
  table, paths = run(options(quantized, output_dir=str(tmp_path)))
  report = audit.read_report(paths['json'])
  names = [variant['name'] for variant in report['variants']]
  assert names == [f'{way} w8a8' for way in ('jax', 'onnxruntime', 'stablehlo')]
  for variant, runtime in zip(
    report['variants'][1:], ('onnxruntime', 'jax'), strict=True
  ):
    latency = variant['latency_ms'][runtime]
    for kind in ('float32', 'compressed'):
      assert latency[kind]['threads1']['batch1']['median'] > 0
      assert set(variant['memory_bytes'][runtime][kind]['threads1']) == {
        'resident',
        'peak',
      }
    assert variant['against_jax']['least_cosine'] > 0.999999
    assert variant['against_jax']['flipped'] == 0
    size = (tmp_path / variant['file']).stat().st_size
    assert variant['bytes']['on_disk'] == size
    assert variant['bytes']['runtime'][runtime]['compressed'] == size
    assert runtime in table
  assert {v['execution'] for v in report['variants']} == {'integer'}
  assert {path.name for path in tmp_path.iterdir()} == {
    *(f'{stem}.onnx' for stem in ('network', 'float32')),
    *(f'{stem}.stablehlo' for stem in ('network', 'float32')),
    *(f'report.{kind}' for kind in ('json', 'md', 'html')),
  }


@pytest.mark.slow
@pytest.mark.parametrize('bits', [4, 8])
def test_weights_alone(bits, floats, tmp_path):
  chosen = options(floats, weight_only=bits, output_dir=str(tmp_path))
  _, paths = run(chosen)
  report = json.loads(paths['json'].read_text())
  for variant in report['variants']:
    assert (variant['weight_bits'], variant['activation_bits']) == (bits, 32)
  for variant in report['variants'][1:]:
    assert variant['against_jax']['least_cosine'] > 0.99999
    assert variant['against_jax']['flipped'] == 0
  assert (tmp_path / f'network_int{bits}.onnx').is_file()


def test_a_quantized_file_is_not_quantized_again(quantized):
  with pytest.raises(InputError, match='quantized already, w8a8'):
    run(options(quantized, weight_only=4))


def test_agreement_sees_what_differs():
  test = test_set()
  rng = np.random.default_rng(0)
  one = rng.normal(size=(len(test.images), 2, 8))
  assert agreement(one, one, test)['flipped'] == 0
  # A pair lies at the threshold, and moves by a rounding.
  assert agreement(one, one * (1 + 1e-9), test)['flipped'] == 0
  noise = rng.normal(size=one.shape, scale=1e-9)
  assert agreement(one, one + noise, test)['flipped'] == 0
  other = one.copy()
  other[3] *= -1
  found = agreement(one, other, test)
  assert found['least_cosine'] == pytest.approx(-1)
  assert found['flipped'] > 0


def test_other_files_are_refused(quantized, tmp_path):
  with pytest.raises(InputError, match='nowhere'):
    exported.read_metadata(tmp_path / 'nowhere.safetensors')
  plain = tmp_path / 'plain.safetensors'
  encode.save(plain, {'x': Dense(np.ones(3, np.float32))}, {'network': 'x'})
  with pytest.raises(InputError, match="holds no 'recipe'"):
    exported.read_metadata(plain)
  cut = tmp_path / 'cut.safetensors'
  cut.write_bytes(quantized.read_bytes()[:-100])
  with pytest.raises(InputError, match='cut.safetensors'):
    exported.read_stored(cut, small_network())


def test_a_file_of_another_network_is_refused(floats, tmp_path):
  tree, metadata = encode.load(floats)
  params = dict(tree['params'])
  kernel = params['fc']['kernel'].array
  params['fc'] = {**params['fc'], 'kernel': Dense(kernel[:, :-1])}
  path = tmp_path / 'other.safetensors'
  encode.save(path, {**tree, 'params': params}, metadata)
  with pytest.raises(InputError, match='fc/kernel.*check --weights'):
    exported.read_stored(path, small_network())


@pytest.mark.parametrize(
  'flags, message',
  [
    ([], '--file is missing'),
    (['--file=x', '--runtime=tflite'], '--runtime=tflite'),
    (['--file=x', '--threads=1.5'], '--threads'),
    (['--file=x', '--steps=3'], '--steps: has no meaning here'),
    (['--file=x'], 'x: '),
  ],
)
def test_bad_flags_get_one_line(flags, message, tmp_path):
  done = subprocess.run(
    [
      sys.executable,
      '-m',
      'experiments.deploy',
      f'--output_dir={tmp_path / "out"}',
      *flags,
    ],
    capture_output=True,
    text=True,
    timeout=600,
    check=False,
  )
  assert done.returncode == 2, done.stderr
  assert done.stderr.count('\n') == 1
  assert done.stderr.startswith('error: ') and message in done.stderr
  assert not (tmp_path / 'out').exists()
