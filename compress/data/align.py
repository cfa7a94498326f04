"""Alignment of a face to the five-point template of ArcFace.

Points are (x, y) in pixels, the centre of the top left pixel being (0, 0). The
five of them are, as seen in the picture: left eye, right eye, nose tip, left
and right corner of the mouth. Alignment is worth more than any compression
method: on photographs that are not aligned, error rates grow ten-fold.
"""

import csv
import pathlib

import numpy as np
from PIL import Image, ImageOps

from compress.data.faces import SIDE
from compress.errors import InputError

# The template for 112 x 112 (InsightFace; Deng et al. 2019, arXiv 1801.07698).
TEMPLATE = np.array(
  [
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
  ]
)

_COLUMNS = tuple(
  point + axis for point in ('le', 're', 'n', 'lm', 'rm') for axis in 'xy'
)


def similarity_transform(
  source: np.ndarray, target: np.ndarray = TEMPLATE
) -> np.ndarray:
  """The rotation, uniform scale and shift that fit one point set to another.

  Umeyama 1991 (IEEE TPAMI 13(4), "Least-squares estimation of transformation
  parameters between two point patterns", equations 40 to 42): least squares
  over similarities, reflections excluded.

  Args:
    source: float [K, 2], K >= 2 points.
    target: float [K, 2], where they should come to lie.

  Returns:
    float64 [2, 3], M with target ~ M[:, :2] @ source + M[:, 2].

  Raises:
    InputError: wrong shapes, coordinates that are not finite, or points that
      all lie on one spot.
  """
  source = np.asarray(source, np.float64)
  target = np.asarray(target, np.float64)
  if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2:
    raise InputError(
      f'landmarks must be {list(target.shape)}, not {list(source.shape)}'
    )
  if not (np.isfinite(source).all() and np.isfinite(target).all()):
    raise InputError('landmarks must be finite numbers')
  source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
  source, target = source - source_mean, target - target_mean
  variance = np.square(source).sum() / len(source)
  u, d, vt = np.linalg.svd(target.T @ source / len(source))
  if variance < 1e-12 or d[0] < 1e-12:
    raise InputError('landmarks all lie on one spot')
  sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
  rotation = u @ (sign[:, None] * vt)
  linear = rotation * ((d * sign).sum() / variance)
  shift = target_mean - linear @ source_mean
  return np.concatenate([linear, shift[:, None]], axis=1)


def warp(
  image: np.ndarray, matrix: np.ndarray, *, side: int = SIDE
) -> np.ndarray:
  """Moves a photograph by an affine map, bilinear, black outside it.

  Pixel values are interpolated at pixel centres and fade into a black border,
  which is what OpenCV's warpAffine does with its defaults.

  Args:
    image: uint8 [H, W, 3] or, grey, [H, W].
    matrix: float [2, 3], from photograph to result.
    side: height and width of the result, pixels.

  Returns:
    uint8 [side, side, 3] or [side, side].
  """
  inverse = np.linalg.inv(np.vstack([matrix, (0.0, 0.0, 1.0)]))[:2]
  # Pillow counts from the corner of a pixel, landmarks from its centre, and
  # the border of one black pixel shifts the photograph by one.
  inverse[:, 2] += 1.5 - 0.5 * inverse[:, :2].sum(axis=1)
  channels = image[..., None] if image.ndim == 2 else image
  # One channel at a time as float, because Pillow cuts 8-bit results off.
  moved = [
    ImageOps.expand(
      Image.fromarray(channels[..., i].astype(np.float32)), border=1
    ).transform(
      (side, side),
      Image.Transform.AFFINE,
      inverse.ravel().tolist(),
      resample=Image.Resampling.BILINEAR,
    )
    for i in range(channels.shape[-1])
  ]
  warped = np.rint(np.stack([np.asarray(m) for m in moved], axis=-1))
  return warped.astype(np.uint8).reshape(side, side, *image.shape[2:])


def align_face(
  image: np.ndarray, landmarks: np.ndarray, *, name: str = 'photograph'
) -> np.ndarray:
  """Brings a face to the template.

  Args:
    image: uint8 [H, W, 3] RGB or [H, W] grey.
    landmarks: float [5, 2], in pixels of `image`.
    name: named in messages.

  Returns:
    uint8 [112, 112, 3] or [112, 112].

  Raises:
    InputError: landmarks of another shape, not finite, or on one spot.
  """
  landmarks = np.asarray(landmarks, np.float64)
  if landmarks.shape != TEMPLATE.shape:
    raise InputError(
      f'{name}: landmarks must be [5, 2], not {list(landmarks.shape)}'
    )
  try:
    matrix = similarity_transform(landmarks)
  except InputError as error:
    raise InputError(f'{name}: {error}') from error
  return warp(image, matrix)


def read_landmarks(
  path: str | pathlib.Path, *, keys: tuple[str, ...] = ('path',)
) -> dict[str, np.ndarray]:
  """Reads a table of landmarks.

  Args:
    path: a CSV file whose header is the key columns followed by
      lex,ley,rex,rey,nx,ny,lmx,lmy,rmx,rmy (left eye, right eye, nose, left
      and right corner of the mouth; pixels).
    keys: the columns that name a photograph; their texts, joined with '/', are
      the keys of the result. The default is one column, `path`, relative to
      the image folder.

  Returns:
    Name of the photograph to float64 [5, 2].

  Raises:
    InputError: a missing file, a wrong header, a row with a missing value or
      with something that is no finite number, a photograph listed twice.
  """
  path = pathlib.Path(path)
  expected = [*keys, *_COLUMNS]
  table: dict[str, np.ndarray] = {}
  try:
    with path.open(newline='', encoding='utf-8-sig') as file:
      rows = csv.reader(file)
      if next(rows, None) != expected:
        raise InputError(f'{path}: the header must be {",".join(expected)}')
      for row in rows:
        if row:
          key = '/'.join(row[: len(keys)])
          where = f'{path}, line {rows.line_num}'
          if key in table:
            raise InputError(f'{where}: {key} is listed twice')
          table[key] = parse_points(row[len(keys) :], where=where)
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise InputError(f'{path}: cannot read the landmarks: {error}') from error
  if not table:
    raise InputError(f'{path}: no landmarks in it')
  return table


def parse_points(fields: list[str], *, where: str) -> np.ndarray:
  """Ten texts to five points.

  Args:
    fields: x, y of each point in turn.
    where: named in the message.

  Returns:
    float64 [5, 2].

  Raises:
    InputError: another count, or something that is no finite number.
  """
  try:
    points = np.array([float(field) for field in fields])
  except ValueError:
    points = np.array([np.nan])
  if points.shape != (10,) or not np.isfinite(points).all():
    raise InputError(f'{where}: ten finite numbers wanted, not {fields}')
  return points.reshape(5, 2)
