"""A made-up but realistic report, the same every time.

The figures are drawn from a seeded generator; no network was run.
"""

import numpy as np
from scipy import special

FARS = ('1e-1', '1e-2', '1e-3')
GROUPS = ('women', 'men', 'with glasses', 'without glasses')

# name, method, weight bits, activation bits, EER %, TAR at 1e-1, 1e-2, 1e-3 %
VARIANTS = (
  ('post-training w8a8', 'post-training', 8, 8, 0.24, 100, 99.9, 99.2),
  ('post-training w6a6', 'post-training', 6, 6, 1.62, 99.8, 97.9, 91.3),
  ('post-training w4a4', 'post-training', 4, 4, 19.7, 68.4, 31.2, 12.6),
  ('QuantFace w6a6', 'QuantFace loss', 6, 6, 0.41, 100, 99.7, 98.1),
  ('EKD w6a6', 'EKD', 6, 6, 0.36, 100, 99.8, 98.4),
  ('EKD + class head w6a6', 'EKD + class head', 6, 6, 0.39, 100, 99.7, 98.2),
  ('QuantFace w4a4', 'QuantFace loss', 4, 4, 4.15, 98.1, 90.2, 74.9),
  ('EKD w4a4', 'EKD', 4, 4, 3.62, 98.6, 91.7, 77.3),
)
METHODS = {
  'post-training': {
    'summary': 'Weights and activations are rounded to the low-bit grid; '
    'ranges come from calibration photographs, nothing is trained.',
    'paper': 'Jacob et al., 2018, arXiv:1712.05877',
  },
  'QuantFace loss': {
    'summary': 'The quantized network is fine-tuned to give the embeddings of '
    'the original one (mean squared error), without labels.',
    'paper': 'Boutros et al., QuantFace, 2022, arXiv:2206.10526',
  },
  'EKD': {
    'summary': 'Evaluation-oriented distillation: only pairs on which the two '
    'networks decide differently at the thresholds of interest are pulled.',
    'paper': 'Huang et al., 2022',
  },
  'EKD + class head': {
    'summary': 'The same with an ArcFace classifier over the training people.',
    'paper': 'Huang et al., 2022; Deng et al., 2019, arXiv:1801.07698',
  },
}


def _verification(rng, eer, tars):
  half = 0.12 + 0.18 * eer
  accuracy = 100 - 0.9 * eer
  interval = {
    'eer': [max(0.0, eer - half), eer + 1.2 * half],
    'tar_at_far': {
      far: [max(0.0, t - 2.2 * (100 - t) / 10 - 0.1), min(100.0, t + half)]
      for far, t in zip(FARS, tars, strict=True)
    },
    'accuracy': [accuracy - half, min(100.0, accuracy + half)],
  }
  del rng
  return {
    'eer': eer,
    'tar_at_far': dict(zip(FARS, map(float, tars), strict=True)),
    'accuracy': accuracy,
    'interval': interval,
  }


def _groups(rng, eer, *, extra=0.0, rates=False):
  found = {}
  for name in GROUPS:
    error = max(0.02, 0.9 * eer * rng.uniform(0.5, 1.6) + extra)
    half = 0.15 + 0.2 * error
    found[name] = {
      'accuracy': 100 - error,
      'interval': {
        'accuracy': [100 - error - half, min(100.0, 100 - error + half)]
      },
    }
    if rates:
      found[name] |= {'fmr': 0.7 * error, 'fnmr': 1.3 * error}
  accuracies = np.array([found[name]['accuracy'] for name in GROUPS])
  std = float(accuracies.std(ddof=1))
  ser = float((100 - accuracies).max() / (100 - accuracies).min())
  return found | {
    'avg': float(accuracies.mean()),
    'std': std,
    'ser': ser,
    'interval': {
      'avg': [float(accuracies.mean()) - 0.2, float(accuracies.mean()) + 0.2],
      'std': [0.6 * std, 1.7 * std],
      'ser': [1 + 0.4 * (ser - 1), 1 + 2.2 * (ser - 1)],
    },
  }


def _bytes(bits):
  nominal = 38_664_000 * bits / 32
  if bits == 32:
    return {'nominal': 38_664_000, 'packed': 38_700_112, 'on_disk': 38_696_353}
  return {
    'nominal': int(nominal),
    'packed': int(nominal + 240_000),
    'on_disk': int(nominal + 251_400),
  }


def _entry(rng, name, method, weight, activation, eer, *tars, seed=0):
  base = 148.0 if weight == 32 else 203.0
  return {
    'name': name,
    'method': method,
    'weight_bits': weight,
    'activation_bits': activation,
    'seed': seed,
    'verification': _verification(rng, eer, tars),
    'groups': _groups(rng, eer),
    'groups_global': _groups(rng, eer, extra=0.05, rates=True),
    'bytes': _bytes(weight),
    'macs': 594_812_928,
    'bops': 594_812_928 * weight * activation,
    'latency_ms': {
      'batch1': {'median': base / 8, 'spread': [base / 8.3, base / 7.4]},
      'batch32': {'median': 2.8 * base, 'spread': [2.7 * base, 3.1 * base]},
    },
    'execution': 'float' if weight == 32 else 'simulated',
  }


def _with_difference(entry, reference):
  mine, base = entry['verification'], reference['verification']
  change = mine['eer'] - base['eer']
  half = 0.06 + 0.15 * abs(change)
  tars = {k: mine['tar_at_far'][k] - base['tar_at_far'][k] for k in FARS}
  accuracy = mine['accuracy'] - base['accuracy']
  flips = int(round(700 * abs(change))) + 3
  return entry | {
    'difference': {
      'eer': change,
      'tar_at_far': tars,
      'accuracy': accuracy,
      'interval': {
        'eer': [change - half, change + half],
        'tar_at_far': {
          k: [v - 0.2 - 0.2 * abs(v), v + 0.2 + 0.1 * abs(v)]
          for k, v in tars.items()
        },
        'accuracy': [accuracy - half, accuracy + half],
      },
    },
    'flips': {
      'pairs': 79_800,
      'flipped': flips,
      'accept_to_reject': flips // 3,
      'reject_to_accept': flips - flips // 3,
    },
  }


def example_report(*, seeds=1):
  """The report of a reference and eight variants, each with some seeds."""
  rng = np.random.default_rng(7)
  reference = _entry(
    rng, 'SFace', 'float32', 32, 32, 0.22, 100, 99.9, 99.3, seed=None
  )
  variants = []
  for name, method, weight, activation, eer, *tars in VARIANTS:
    for seed in range(seeds):
      shift = 1 + 0.04 * seed
      entry = _entry(
        rng, name, method, weight, activation, eer * shift, *tars, seed=seed
      )
      variants.append(_with_difference(entry, reference))
  return {
    'study': 'face_quantization',
    'title': 'Quantizing a face network to 8, 6 and 4 bits',
    'command': 'python -m experiments.face_quantization',
    'environment': {
      'python': '3.11.9',
      'jax': '0.10.2',
      'device': '2 CPU cores',
      'precision': 'float32',
    },
    'dataset': {
      'name': 'ORL',
      'people': 40,
      'photos': 400,
      'genuine_pairs': 1800,
      'impostor_pairs': 78_000,
      'split': {'train': 'people 1–30', 'test': 'people 31–40'},
    },
    'reference': reference,
    'variants': variants,
    'methods': METHODS,
    'warnings': [
      'Only 10 people are tested: intervals over people are wide, and rates '
      'below 0.1 % rest on a handful of pairs.'
    ],
    'notes': ['The first and the last layer are quantized like all others.'],
    'reproduce': [
      "pip install -e '.[faces]'",
      'python -m experiments.face_quantization --seeds=1',
    ],
  }


def example_curves():
  """Trade-off curves, scores of the reference, and training losses."""
  rng = np.random.default_rng(11)
  thresholds = np.linspace(-0.4, 1.0, 800)
  curves = {}
  named = [('SFace', 0.22), *((v[0], v[4]) for v in VARIANTS)]
  for name, eer in named:
    distance = -2 * special.ndtri(eer / 100)
    spread = 0.14
    middle = 0.05 + distance * spread
    fmr = special.ndtr((0.05 - thresholds) / spread)
    fnmr = special.ndtr((thresholds - middle) / (spread * 1.1))
    curves[name] = {
      'fmr': np.round(fmr * 78_000) / 78_000,
      'fnmr': np.round(fnmr * 1800) / 1800,
    }
  curves['scores'] = {
    'SFace': {
      'genuine': np.clip(rng.normal(0.72, 0.11, 1800), -1, 1),
      'impostor': np.clip(rng.normal(0.06, 0.09, 78_000), -1, 1),
      'threshold': 0.363,
    }
  }
  step = np.arange(1, 601)
  curves['training'] = {
    v[0]: {
      'step': step,
      'loss': (0.02 * v[4] + 0.01)
      * (0.2 + 3 * np.exp(-step / (60 + 20 * i)))
      * np.exp(rng.normal(0, 0.12, step.size)),
    }
    for i, v in enumerate(VARIANTS)
    if v[1] != 'post-training'
  }
  return curves


def example_images(n=10):
  """Smooth grey blobs in place of photographs: uint8 [n, 112, 112, 3]."""
  rng = np.random.default_rng(3)
  y, x = np.mgrid[0:112, 0:112] / 112
  images = []
  for _ in range(n):
    a, b, c = rng.uniform(0.4, 0.6, 3)
    oval = np.exp(-(((x - a) / 0.28) ** 2 + ((y - b) / 0.36) ** 2))
    grey = np.clip(60 + 170 * oval * c * 1.6, 0, 255).astype(np.uint8)
    images.append(np.repeat(grey[..., None], 3, axis=2))
  return np.stack(images)
