"""How alike small images are in colour and texture, and which of them to drop.

The measures that interpretability-based filter pruning (Yao et al. 2021, doi
10.1016/j.patcog.2021.108056) compares filters' visualisations by: the paper
names colour and texture, not the formulas. Here: intersections of colour
histograms (Swain, Ballard 1991), cosines of local binary patterns (Ojala,
Pietikainen, Maenpaa 2002) or of Gram matrices.

Notation: N images, H rows, W columns, D colours (1 or 3), values 0..1.
"""

from typing import Literal

import numpy as np

from compress.errors import InputError


def color_similarity(images: np.ndarray, *, bins: int = 8) -> np.ndarray:
  """Intersections of the images' joint colour histograms.

  Args:
    images: [N, H, W, D], 0..1; D colours (1 or 3).
    bins: of each colour.

  Returns:
    [N, N] float64, 0..1; symmetric, 1 on the diagonal.
  """
  count, depth = len(images), images.shape[-1]
  level = np.clip((np.asarray(images) * bins).astype(int), 0, bins - 1)
  code = (level * bins ** np.arange(depth)).sum(-1).reshape(count, -1)
  histograms = _histograms(code, bins**depth)
  return np.stack([np.minimum(row, histograms).sum(1) for row in histograms])


def texture_similarity(
  images: np.ndarray, *, method: Literal['lbp', 'gram'] = 'lbp'
) -> np.ndarray:
  """Cosines of the images' textures, from their brightness.

  Args:
    images: [N, H, W, D], 0..1, H and W at least 3.
    method: 'lbp', histograms of the 8-neighbour local binary patterns of
      Ojala et al.; 'gram', Gram matrices of the centred 3 x 3 neighbourhoods.

  Returns:
    [N, N] float64, 0..1 (-1..1 for 'gram'); symmetric, 1 on the diagonal.

  Raises:
    InputError: another method, or images below 3 x 3.
  """
  if method not in ('lbp', 'gram') or min(images.shape[1:3]) < 3:
    raise InputError(
      f"method={method!r} on images {images.shape}: right is 'lbp' or 'gram', "
      'at least 3 x 3'
    )
  grey = np.asarray(images, np.float64).mean(-1)
  height, width = grey.shape[1] - 2, grey.shape[2] - 2
  around = np.stack(
    [
      grey[:, i : i + height, j : j + width].reshape(len(grey), -1)
      for i in range(3)
      for j in range(3)
    ],
    axis=1,
  )
  if method == 'lbp':
    near = np.delete(around, 4, axis=1) >= around[:, 4:5]
    code = (near * 2 ** np.arange(8)[None, :, None]).sum(1)
    features = _histograms(code, 256)
  else:
    around = around - around.mean((1, 2), keepdims=True)
    features = np.einsum('nik,njk->nij', around, around)
    features = features.reshape(len(grey), -1)
  norm = np.linalg.norm(features, axis=1, keepdims=True)
  unit = features / np.where(norm > 0, norm, 1)
  flat = norm[:, 0] == 0
  return np.where(flat[:, None] & flat, 1.0, np.clip(unit @ unit.T, -1, 1))


def similarity(
  images: np.ndarray,
  *,
  color_weight: float = 0.5,
  bins: int = 8,
  texture: Literal['lbp', 'gram'] = 'lbp',
) -> np.ndarray:
  """The weighted mean of colour and texture similarity.

  Args:
    images: [N, H, W, D], 0..1.
    color_weight: of the colour, 0..1; the texture has the rest.
    bins: of each colour.
    texture: see `texture_similarity`.

  Returns:
    [N, N] float64; symmetric, 1 on the diagonal.
  """
  if not 0 <= color_weight <= 1:
    raise InputError(f'color_weight={color_weight} is not in 0..1')
  colour = color_similarity(images, bins=bins)
  rest = texture_similarity(images, method=texture)
  return color_weight * colour + (1 - color_weight) * rest


def removal_similarity(similar: np.ndarray, norms: np.ndarray) -> np.ndarray:
  """The similarity at which greedy removal takes each filter.

  From the most similar pair downwards, the filter of smaller norm goes (of
  equal ones the later), unless one of the pair is gone already.

  Args:
    similar: [N, N] symmetric.
    norms: [N].

  Returns:
    [N] float64; -inf for the one that is never removed. The filters that a
    threshold t removes are those of at least t.
  """
  count = len(norms)
  rows, columns = np.triu_indices(count, 1)
  order = np.argsort(-similar[rows, columns], kind='stable')
  out = np.full(count, -np.inf)
  for i, j in zip(rows[order], columns[order], strict=True):
    if np.isinf(out[i]) and np.isinf(out[j]):
      out[i if norms[i] < norms[j] else j] = similar[i, j]
  return out


def _histograms(codes, size):
  """Normalised histograms [N, size] of codes [N, P]."""
  counts = [np.bincount(code.ravel(), minlength=size) for code in codes]
  return np.stack(counts) / codes[0].size if len(counts) else np.zeros((0, 1))
