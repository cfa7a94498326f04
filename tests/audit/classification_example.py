"""A made-up but realistic report on pruned classifiers, always the same."""

import numpy as np

METHODS = {
  'random': 'Weights are removed at random.',
  'layer magnitude': 'The smallest weights of every layer are removed.',
  'global magnitude': 'The smallest weights of the network are removed.',
  'channels': 'Whole channels are removed, all that depend on them too.',
}
RATIOS = (2, 4, 8, 16, 32)
LAYERS = ('conv1', 'conv2', 'fc1')
ORIGINAL = (20, 50, 500)


def _figure(mean, std):
  return {'mean': float(mean), 'std': float(std), 'n': 3}


def example_report():
  """Returns the report; accuracies fall with the ratio, slowest for global."""
  reference = {
    'name': 'LeNet-5',
    'method': 'reference',
    'accuracy': _figure(99.2, 0.12),
    'top5': _figure(100, 0),
    'params': 131_080,
    'macs': 537_000,
    'bytes': {'on_disk': 525_000},
    'latency_ms': {
      'batch1': {'median': 0.21, 'spread': [0.2, 0.25]},
      'batch32': {'median': 3.1, 'spread': [2.9, 3.4]},
    },
  }
  loss = {
    'random': 9,
    'layer magnitude': 2.5,
    'global magnitude': 0.9,
    'channels': 4,
  }
  variants = []
  for method, scale in loss.items():
    for ratio in RATIOS:
      drop = scale * (ratio / 32) ** 1.4
      faster = ratio if method == 'channels' else ratio**0.8
      entry = {
        'name': f'{method} {ratio}×',
        'method': method,
        'baseline': method == 'random',
        'sparsity': 1 - 1 / ratio,
        'accuracy': _figure(99.2 - drop, 0.1 + drop / 9),
        'top5': _figure(100 - drop / 10, 0.02),
        'accuracy_before': _figure(99.2 - min(85, 12 * drop), 1.0),
        'params': round(131_080 / ratio),
        'macs': round(537_000 / faster),
        'speedup': {'theoretical': faster},
        'bytes': {'on_disk': round(525_000 / ratio + 20_000)},
      }
      if method == 'channels':
        entry['speedup']['measured'] = 1 + 0.4 * (faster - 1)
        share = np.sqrt(1 / ratio)
        entry['widths'] = {
          layer: [int(np.ceil(n * share)), n]
          for layer, n in zip(LAYERS, ORIGINAL, strict=True)
        }
      variants.append(entry)
  return {
    'study': 'pruning_benchmark',
    'title': 'What pruning a classifier cost',
    'command': 'python -m experiments.pruning_benchmark',
    'environment': {'jax': '0.10.2', 'device': 'cpu'},
    'dataset': {
      'name': 'digits',
      'images': 1797,
      'classes': 10,
      'split': {'train': '1,168', 'validation': '270', 'test': '359'},
    },
    'reference': reference,
    'variants': variants,
    'methods': {k: {'summary': v} for k, v in METHODS.items()},
  }


def example_images(n=14):
  """Returns uint8 [n, 8, 8, 1]: a bright square that moves."""
  images = np.zeros((n, 8, 8, 1), np.uint8)
  for i in range(n):
    images[i, i % 5 : i % 5 + 3, 2:6] = 200
  return images
