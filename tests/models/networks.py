"""Small networks with weights from a formula, shared by the loader tests."""

import functools

import numpy as np

BLOCKS, WIDTHS, FEATURES = (1, 2, 1, 1), (4, 6, 8, 10), 7


def images(count=2):
  """Returns a pattern of pixels 0..255, [count, 112, 112, 3] float32."""
  n, row, column, channel = np.indices((count, 112, 112, 3))
  pattern = (row * row + 3 * column + 40 * channel + 17 * n * column) % 256
  return pattern.astype(np.float32)


def iresnet_shapes():
  """Returns the state dict's names and shapes of the small IResNet."""
  shapes = {}

  def norm(name, n):
    for leaf in ('weight', 'bias', 'running_mean', 'running_var'):
      shapes[f'{name}.{leaf}'] = (n,)
    shapes[f'{name}.num_batches_tracked'] = ()

  shapes['conv1.weight'] = (WIDTHS[0], 3, 3, 3)
  norm('bn1', WIDTHS[0])
  shapes['prelu.weight'] = (WIDTHS[0],)
  channels = WIDTHS[0]
  for i, (width, blocks) in enumerate(zip(WIDTHS, BLOCKS, strict=True), 1):
    for j in range(blocks):
      name = f'layer{i}.{j}'
      norm(f'{name}.bn1', channels)
      shapes[f'{name}.conv1.weight'] = (width, channels, 3, 3)
      norm(f'{name}.bn2', width)
      shapes[f'{name}.prelu.weight'] = (width,)
      shapes[f'{name}.conv2.weight'] = (width, width, 3, 3)
      norm(f'{name}.bn3', width)
      if j == 0:
        shapes[f'{name}.downsample.0.weight'] = (width, channels, 1, 1)
        norm(f'{name}.downsample.1', width)
      channels = width
  norm('bn2', channels)
  shapes['fc.weight'] = (FEATURES, channels * 49)
  shapes['fc.bias'] = (FEATURES,)
  norm('features', FEATURES)
  return shapes


@functools.cache
def iresnet_state():
  """Returns the small IResNet's state dict; every array is a formula."""
  state = {}
  for i, (name, shape) in enumerate(iresnet_shapes().items()):
    if name.endswith('num_batches_tracked'):
      state[name] = np.int64(3)
      continue
    wave = np.sin(np.sqrt(2) * np.arange(np.prod(shape)) ** 1.1 + i)
    wave = wave.reshape(shape)
    if len(shape) > 1:
      array = wave * np.sqrt(4 / np.prod(shape[1:]))
    elif 'prelu' in name:
      array = 0.25 + 0.2 * wave
    elif name == 'features.weight':
      array = np.ones(shape)
    elif name.endswith(('running_var', 'weight')):
      array = 1 + 0.5 * wave
    else:
      array = 0.2 * wave
    state[name] = array.astype(np.float32)
  return state


# What PyTorch 2.13 computes with these weights for `images()`.
IRESNET_EMBEDDINGS = (
  (-482.76355, -281.17023, -81.98738, 429.96152, -565.29443, 224.72885)
  + (675.00073,),
  (-2159.4177, 2434.8022, 1258.909, -3857.6492, 4404.896, -1246.4899)
  + (91.32735,),
)
