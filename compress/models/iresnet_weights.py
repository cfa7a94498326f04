"""IResNet read from InsightFace's `backbone.pth` or from an ONNX export.

Depth, widths and embedding length are read from the weights. The dense layer is
stored for a flatten in C, H, W order and is permuted to H, W, C.
"""

import os
import pathlib
import re
from collections.abc import Mapping

import numpy as np

from compress.errors import InputError
from compress.models.checked import variables_for
from compress.models.graph_walk import Walk
from compress.models.iresnet import IResNet
from compress.models.onnx_graph import read_onnx
from compress.models.onnx_weights import (
  Collector,
  pixel_scale,
  rows_to_hwc,
)
from compress.models.torch_weights import read_state_dict

_GRID = 7
_RIGHT_TORCH = "a state dict of InsightFace's IResNet (backbone.pth)"
_RIGHT_ONNX = "an ONNX export of InsightFace's IResNet for 112 x 112 images"
_NORM = {
  'weight': 'params/{}/scale',
  'bias': 'params/{}/bias',
  'running_mean': 'batch_stats/{}/mean',
  'running_var': 'batch_stats/{}/var',
}
_LAYERS = {
  'conv1': 'stem/conv',
  'bn1': 'stem/bn',
  'prelu': 'stem/prelu',
  'bn2': 'bn',
  'fc': 'fc',
  'features': 'features_bn',
}
_BLOCK_LAYERS = {
  'bn1': 'bn1',
  'conv1': 'conv1',
  'bn2': 'bn2',
  'prelu': 'prelu',
  'conv2': 'conv2',
  'bn3': 'bn3',
  'downsample.0': 'shortcut_conv',
  'downsample.1': 'shortcut_bn',
}


def load_iresnet(path: str | os.PathLike) -> tuple[IResNet, dict]:
  """Loads an IResNet of any depth.

  Args:
    path: a state dict (`backbone.pth`, zip format of PyTorch 1.6 or newer), or
      an ONNX export whose name ends in `.onnx`; there, BatchNorm may be folded
      into the convolutions, and pixels may be normalised inside or outside.

  Returns:
    The module, with the depth and widths found, and its variables.

  Raises:
    InputError: the file is missing, truncated, unsafe, or another network.
  """
  if pathlib.Path(path).suffix.lower() == '.onnx':
    return _from_onnx(path)
  return _from_torch(path)


def _from_torch(path):
  state = read_state_dict(path, right=_RIGHT_TORCH)
  flat = {}
  for name, array in state.items():
    if not name.endswith('.num_batches_tracked'):
      target = _target(name)
      if target is None:
        raise InputError(
          f'{path}: {name!r} is no part of an IResNet; right is {_RIGHT_TORCH}'
        )
      flat[target] = _to_flax(target, array)
  blocks = _count_blocks(flat)
  try:
    widths = [
      flat[f'params/stage{i}/block0/conv1/kernel'].shape[3] for i in range(1, 5)
    ]
    features = flat['params/fc/bias'].size
  except (KeyError, IndexError) as error:
    raise InputError(
      f'{path}: {len(flat)} arrays that are not those of an IResNet with four '
      f'stages; right is {_RIGHT_TORCH}'
    ) from error
  module = IResNet(blocks=blocks, widths=tuple(widths), features=features)
  return module, variables_for(module, flat, path=path, right=_RIGHT_TORCH)


def _target(name: str) -> str | None:
  """Returns the path in the variables of a PyTorch name, None if unknown."""
  match = re.fullmatch(r'layer([1-4])\.(\d+)\.(.+)\.(\w+)', name)
  if match:
    stage, block, layer, leaf = match.groups()
    layer = _BLOCK_LAYERS.get(layer)
    path = f'stage{stage}/block{int(block)}/{layer}'
  else:
    layer, _, leaf = name.rpartition('.')
    layer = path = _LAYERS.get(layer)
  if layer is None:
    return None
  if layer.endswith('prelu'):
    return f'params/{path}/slope' if leaf == 'weight' else None
  if layer.endswith('bn') or re.fullmatch(r'bn\d', layer):
    return _NORM[leaf].format(path) if leaf in _NORM else None
  return {'weight': f'params/{path}/kernel', 'bias': f'params/{path}/bias'}.get(
    leaf
  )


def _to_flax(target: str, array: np.ndarray) -> np.ndarray:
  """Converts one array to float32 and to this package's layout."""
  array = np.asarray(array, np.float32)
  if target == 'params/fc/kernel':
    rows = array.ndim == 2 and array.shape[1] % _GRID**2 == 0
    return rows_to_hwc(array.T, grid=_GRID) if rows else array
  if target.endswith('kernel') and array.ndim == 4:
    return array.transpose(2, 3, 1, 0)
  return array


def _count_blocks(flat: Mapping[str, np.ndarray]) -> tuple[int, ...]:
  counts = [0, 0, 0, 0]
  for name in flat:
    if match := re.match(r'params/stage(\d)/block(\d+)/conv1/', name):
      stage, block = map(int, match.groups())
      counts[stage - 1] = max(counts[stage - 1], block + 1)
  return tuple(counts)


def _from_onnx(path):
  walk = read_onnx(path, right=_RIGHT_ONNX)
  collect, epsilon = Collector(walk), _epsilon(walk)
  tensor, scale = pixel_scale(walk, walk.start())
  tensor = collect.conv_norm(
    tensor, 'stem/conv', 'stem/bn', size=3, epsilon=epsilon
  )
  tensor = collect.prelu(tensor, 'stem/prelu', channels_of='stem/bn')
  blocks = []
  while walk.find(tensor, 'Conv', 'Add'):
    if project := walk.find(tensor, 'Conv') is not None:
      blocks.append(0)
    if not blocks or len(blocks) > 4:
      walk.fail(f'{tensor!r} does not begin one of four stages')
    name = f'stage{len(blocks)}/block{blocks[-1]}'
    tensor = _block(collect, tensor, name, project=project, epsilon=epsilon)
    blocks[-1] += 1
  if len(blocks) != 4:
    walk.fail(f'there are {len(blocks)} stages instead of 4')
  tensor = collect.norm(tensor, 'bn', epsilon=epsilon)
  tensor = collect.dense_norm(
    tensor, 'fc', 'features_bn', grid=_GRID, epsilon=epsilon
  )
  walk.end(tensor)
  flat = collect.flat
  module = IResNet(
    blocks=tuple(blocks),
    widths=tuple(
      flat[f'params/stage{i}/block0/bn2/scale'].size for i in range(1, 5)
    ),
    features=flat['params/fc/bias'].size,
    epsilon=epsilon,
    pixel_scale=127.5 if scale is None else scale,
  )
  return module, variables_for(module, flat, path=path, right=_RIGHT_ONNX)


def _block(collect, tensor, name, *, project, epsilon):
  """Follows one residual block from `tensor`; returns its sum."""
  walk = collect.walk
  y = collect.norm(tensor, f'{name}/bn1', epsilon=epsilon)
  y = collect.conv_norm(
    y, f'{name}/conv1', f'{name}/bn2', size=3, epsilon=epsilon
  )
  y = collect.prelu(y, f'{name}/prelu', channels_of=f'{name}/bn2')
  stride = 2 if project else 1
  y = collect.conv_norm(
    y,
    f'{name}/conv2',
    f'{name}/bn3',
    size=3,
    stride=stride,
    epsilon=epsilon,
  )
  if project:
    tensor = collect.conv_norm(
      tensor,
      f'{name}/shortcut_conv',
      f'{name}/shortcut_bn',
      size=1,
      stride=stride,
      epsilon=epsilon,
    )
  total = walk.step(y, 'Add')
  if set(total.inputs) != {y, tensor}:
    walk.fail(f'{total.outputs[0]!r} does not add the two ends of {name}')
  return total.outputs[0]


def _epsilon(walk: Walk) -> float:
  """Returns the first BatchNorm's epsilon, as a short decimal."""
  for node in walk.nodes:
    if node.op == 'BatchNormalization':
      return float(f'{node.attributes.get("epsilon", 1e-5):.6g}')
  walk.fail('the graph has no BatchNormalization')
