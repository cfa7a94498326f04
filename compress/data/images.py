"""Reading image files that come from outside.

Whatever Pillow can decode is accepted and comes out as 8-bit RGB, turned
upright where the file says how it was held. Anything else is refused with a
message that names the file.
"""

import io
import pathlib
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from compress.data.align import align_face
from compress.data.faces import SIDE
from compress.errors import InputError

MAX_PIXELS = 64_000_000
SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff')


def decode_image(encoded: bytes, *, name: str) -> np.ndarray:
  """Decodes one image.

  Args:
    encoded: the content of an image file.
    name: what messages call it, usually its path.

  Returns:
    uint8 [H, W, 3], RGB.

  Raises:
    InputError: no image, a truncated one, one with no pixels or more than
      `MAX_PIXELS`, 16-bit pixels, or float pixels that are not finite or
      outside 0..255.
  """
  if not encoded:
    raise InputError(f'{name}: the file is empty')
  try:
    with warnings.catch_warnings():
      # Pillow warns about damaged metadata and large images; sizes are checked
      # below, and what cannot be decoded raises.
      warnings.simplefilter('ignore')
      image = Image.open(io.BytesIO(encoded))
      width, height = image.size
      if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise InputError(
          f'{name}: {width} x {height} pixels; 1 to {MAX_PIXELS} are accepted'
        )
      image.load()
      image = ImageOps.exif_transpose(image)
      if image.mode == 'F':
        return _from_float(np.asarray(image), name=name)
      if image.mode.startswith('I'):
        raise InputError(
          f'{name}: its pixels have more than 8 bits; save it with 8 bits'
        )
      return np.asarray(image.convert('RGB'))
  except InputError:
    raise
  except UnidentifiedImageError as error:
    raise InputError(
      f'{name}: not an image, or of a format that is not known'
    ) from error
  except Exception as error:
    # A damaged file can raise nearly anything from inside a decoder.
    reason = ' '.join(str(error).split()) or type(error).__name__
    raise InputError(f'{name}: not an image ({reason})') from error


def _from_float(pixels: np.ndarray, *, name: str) -> np.ndarray:
  if not np.isfinite(pixels).all():
    raise InputError(f'{name}: its pixels contain NaN or infinity')
  if pixels.min() < 0 or pixels.max() > 255:
    raise InputError(
      f'{name}: its pixels are {pixels.min():g}..{pixels.max():g}, not 0..255'
    )
  grey = np.rint(pixels).astype(np.uint8)
  return np.repeat(grey[:, :, None], 3, axis=2)


def read_image(path: str | pathlib.Path) -> np.ndarray:
  """Reads an image file as uint8 [H, W, 3], RGB; see `decode_image`."""
  try:
    encoded = pathlib.Path(path).read_bytes()
  except (OSError, ValueError) as error:  # ValueError: a NUL in the path
    reason = getattr(error, 'strerror', None) or error
    raise InputError(f'{path}: cannot be read ({reason})') from error
  return decode_image(encoded, name=str(path))


def central_square(
  image: np.ndarray, *, crop: int | None = None, name: str = 'photograph'
) -> np.ndarray:
  """Cuts the central square and scales it to 112 x 112, bilinear, antialiased.

  Args:
    image: uint8 [H, W, 3].
    crop: side of the square, pixels; by default the shorter side of the image.
    name: named in messages.

  Returns:
    uint8 [112, 112, 3]; the image itself if it has that shape already and
    nothing is to be cut.

  Raises:
    InputError: a square larger than the image.
  """
  height, width, _ = image.shape
  side = min(height, width) if crop is None else crop
  if not 1 <= side <= min(height, width):
    raise InputError(
      f'{name}: a square of {side} pixels does not fit into {width} x {height}'
    )
  if (height, width, side) == (SIDE, SIDE, SIDE):
    return image
  top, left = (height - side) // 2, (width - side) // 2
  square = Image.fromarray(image[top : top + side, left : left + side])
  return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def read_faces(
  root: str | pathlib.Path,
  paths: Sequence[str],
  *,
  landmarks: Mapping[str, np.ndarray] | None = None,
  crop: int | None = None,
) -> np.ndarray:
  """Reads photographs as 112 x 112 faces.

  Args:
    root: the folder that the paths start from.
    paths: N relative paths.
    landmarks: path to float [5, 2]; faces are then aligned to the template.
      Without, the central square is taken: right for files aligned already.
    crop: side of that square, pixels; by default the shorter side.

  Returns:
    uint8 [N, 112, 112, 3].

  Raises:
    InputError: a file that is missing or no image, a photograph without
      landmarks, a square that does not fit, both `landmarks` and `crop`.
  """
  if landmarks is not None and crop is not None:
    raise InputError('landmarks and crop exclude each other: give one of them')
  root = pathlib.Path(root)
  faces = np.empty((len(paths), SIDE, SIDE, 3), np.uint8)
  for i, path in enumerate(paths):
    file = root / path
    if landmarks is not None and path not in landmarks:
      raise InputError(f'{file}: the landmarks do not list {path}')
    image = read_image(file)
    if landmarks is None:
      faces[i] = central_square(image, crop=crop, name=str(file))
    else:
      faces[i] = align_face(image, landmarks[path], name=str(file))
  return faces
