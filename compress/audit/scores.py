"""Scores of pairs: the cosine of two embeddings.

A *pair* is two face images. Its score is in [-1, 1]; larger is more alike. It
is computed in float64 on the host.
"""

import numpy as np

from compress.errors import InputError

_CHUNK_PAIRS = 65536


def normalize(embeddings) -> np.ndarray:
  """Scales embeddings to unit length.

  Args:
    embeddings: real [N, D].

  Returns:
    float64 [N, D], rows of Euclidean norm 1.

  Raises:
    InputError: not a matrix, or an embedding that is zero or not finite; the
      message names the first such image index.
  """
  x = np.asarray(embeddings, np.float64)
  if x.ndim != 2:
    raise InputError(f'embeddings must be [N, D], got shape {x.shape}')
  finite = np.isfinite(x).all(axis=1)
  if not finite.all():
    index = int(np.argmin(finite))
    raise InputError(
      f'embedding of image {index} is not finite ({_count(~finite)}); look for '
      'NaN in the image or an overflow in the network'
    )
  norm = np.linalg.norm(x, axis=1)
  if not norm.all():
    index = int(np.argmin(norm))
    raise InputError(
      f'embedding of image {index} is all zero ({_count(norm == 0)}); it has '
      'no direction, so no cosine'
    )
  return x / norm[:, None]


def _count(bad) -> str:
  return f'{int(bad.sum())} of {bad.size} are'


def cosine_scores(embeddings, pairs) -> np.ndarray:
  """Scores pairs by the cosine of their L2-normalised embeddings.

  Args:
    embeddings: real [N, D].
    pairs: int [P, 2], indices of images.

  Returns:
    float64 [P] in [-1, 1].

  Raises:
    InputError: zero or non-finite embedding (see `normalize`), pairs of the
      wrong shape, or an index outside 0..N-1.
  """
  x = normalize(embeddings)
  pairs = np.asarray(pairs)
  if pairs.ndim != 2 or pairs.shape[1] != 2:
    raise InputError(f'pairs must be [P, 2], got shape {pairs.shape}')
  if pairs.size and not (0 <= pairs.min() and pairs.max() < len(x)):
    raise InputError(
      f'pairs name images {pairs.min()}..{pairs.max()}, but there are '
      f'embeddings of images 0..{len(x) - 1}'
    )
  scores = np.empty(len(pairs))
  for start in range(0, len(pairs), _CHUNK_PAIRS):
    a, b = pairs[start : start + _CHUNK_PAIRS].T
    scores[start : start + _CHUNK_PAIRS] = np.einsum('pd,pd->p', x[a], x[b])
  return np.clip(scores, -1.0, 1.0)
