"""Images with one class each, their splits, and light augmentation.

Notation: N images of H x W pixels and C channels, K classes. Hyper-parameters
are chosen on `validation`; `test` is looked at once, for the report.
"""

import dataclasses
import math
import typing

import numpy as np

from compress.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class ImageDataset:
  """Images of one size, each of one class.

  Attributes:
    name: what reports call it.
    images: uint8 [N, H, W, C], raw pixels.
    labels: int32 [N], classes 0..K-1.
    classes: the K names.

  Raises:
    InputError: for a wrong dtype, shape, length or label, and for no image.
  """

  name: str
  images: np.ndarray
  labels: np.ndarray
  classes: tuple[str, ...]

  def __post_init__(self):
    images, labels = self.images, self.labels
    if getattr(images, 'dtype', None) != np.uint8 or images.ndim != 4:
      raise InputError(
        f'{self.name}: images must be a uint8 array [N, H, W, C]'
      )
    if getattr(labels, 'dtype', None) != np.int32 or labels.ndim != 1:
      raise InputError(f'{self.name}: labels must be an int32 array [N]')
    if not len(images) or len(images) != len(labels):
      raise InputError(
        f'{self.name}: {len(images)} images and {len(labels)} labels; right is '
        'one label an image, and at least one image'
      )
    if labels.min() < 0 or labels.max() >= len(self.classes):
      raise InputError(
        f'{self.name}: labels are {labels.min()}..{labels.max()}, but there '
        f'are {len(self.classes)} classes'
      )

  def __len__(self) -> int:
    return len(self.images)

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """Rows, columns and channels of an image."""
    return self.images.shape[1:]


class ImageSplits(typing.NamedTuple):
  """Three data sets that share no image.

  Attributes:
    train: to train on.
    validation: to choose on.
    test: to report.
  """

  train: ImageDataset
  validation: ImageDataset
  test: ImageDataset


def take_images(dataset: ImageDataset, indices: np.ndarray) -> ImageDataset:
  """The images at the given positions, in that order."""
  return dataclasses.replace(
    dataset, images=dataset.images[indices], labels=dataset.labels[indices]
  )


def split_by_share(
  dataset: ImageDataset, shares: typing.Sequence[float], *, seed: int
) -> tuple[ImageDataset, ...]:
  """Deals the images out at random, every class in the same proportion.

  Args:
    dataset: N images.
    shares: of each part, above 0, with the sum 1. Within a class a part ends
      where the sum of the shares so far, times its images, rounds to.
    seed: of the order.

  Returns:
    One data set a share, in the order of `dataset`; together they are it.

  Raises:
    InputError: shares that do not sum to 1, or a part without an image.
  """
  if min(shares) <= 0 or not math.isclose(sum(shares), 1.0):
    raise InputError(
      f'shares {tuple(shares)} of {dataset.name}: they must be above 0 with '
      'the sum 1'
    )
  rng = np.random.default_rng(seed)
  part = np.empty(len(dataset), np.int64)
  ends = np.cumsum(shares)[:-1]
  for label in range(len(dataset.classes)):
    members = rng.permutation(np.flatnonzero(dataset.labels == label))
    cuts = np.rint(ends * len(members)).astype(np.int64)
    for i, piece in enumerate(np.split(members, cuts)):
      part[piece] = i
  chosen = [np.flatnonzero(part == i) for i in range(len(shares))]
  if not all(len(indices) for indices in chosen):
    raise InputError(
      f'{dataset.name}: {len(dataset)} images are too few for shares of '
      f'{tuple(shares)}'
    )
  return tuple(take_images(dataset, indices) for indices in chosen)


def load_digits(
  *, validation: float = 0.15, test: float = 0.2, seed: int = 0
) -> ImageSplits:
  """Loads scikit-learn's digits: 1,797 grey images of 8 x 8 pixels.

  The test set of the UCI set 'Optical Recognition of Handwritten Digits'
  (Alpaydin and Kaynak 1998), which comes with the package, so nothing is
  downloaded. It has no split of its own.

  Args:
    validation: share of the images to choose on.
    test: share of the images to report.
    seed: of the split.

  Returns:
    The splits; the stored 0..16 are spread over 0..255.

  Raises:
    InputError: scikit-learn is missing, or shares that leave nothing.
  """
  try:
    # Imported here: it takes a second, and not everybody has it.
    from sklearn import datasets
  except ImportError as error:
    raise InputError(
      "digits need scikit-learn, which is missing: pip install -e '.[vision]'"
    ) from error
  found = datasets.load_digits()
  digits = ImageDataset(
    name='digits',
    images=np.rint(found.images * (255 / 16)).astype(np.uint8)[..., None],
    labels=found.target.astype(np.int32),
    classes=tuple(str(n) for n in found.target_names),
  )
  shares = (1 - validation - test, validation, test)
  return ImageSplits(*split_by_share(digits, shares, seed=seed))


class Scaling(typing.NamedTuple):
  """How pixels become what a network sees: (pixel - mean) / deviation.

  Attributes:
    mean: float64 [C], of raw pixels.
    deviation: float64 [C], above 0.
  """

  mean: np.ndarray
  deviation: np.ndarray

  def __call__(self, images: np.ndarray) -> np.ndarray:
    """Maps uint8 [..., C] to float32 [..., C]."""
    scale = (1 / self.deviation).astype(np.float32)
    shift = (self.mean / self.deviation).astype(np.float32)
    return images.astype(np.float32) * scale - shift


def pixel_scaling(train: ImageDataset) -> Scaling:
  """The scaling that gives every channel mean 0 and variance 1.

  Args:
    train: the images that are trained on; no others should be given.

  Returns:
    The scaling; a channel that never varies keeps its width.
  """
  pixels = train.images.reshape(-1, train.images.shape[-1])
  mean = pixels.mean(axis=0, dtype=np.float64)
  deviation = pixels.std(axis=0, dtype=np.float64)
  return Scaling(mean, np.where(deviation > 0, deviation, 1.0))


def shift_images(
  images: np.ndarray,
  rng: np.random.Generator,
  *,
  pixels: int,
  mirror: bool = False,
) -> np.ndarray:
  """Moves every image by whole pixels, black coming in, and mirrors some.

  The usual augmentation of CIFAR (He et al. 2015, arXiv:1512.03385, section
  4.2) with `pixels=4, mirror=True`.

  Args:
    images: [B, H, W, C] of any type; 0 is black.
    rng: decides; the same state gives the same images.
    pixels: largest move along each axis.
    mirror: mirror each image left to right by a coin.

  Returns:
    The same shape and type.
  """
  count, height, width, _ = images.shape
  border = ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0))
  padded = np.pad(images, border)
  top = rng.integers(0, 2 * pixels + 1, count)[:, None] + np.arange(height)
  left = rng.integers(0, 2 * pixels + 1, count)[:, None] + np.arange(width)
  if mirror:
    left = np.where(rng.integers(0, 2, (count, 1)) == 1, left[:, ::-1], left)
  rows = np.arange(count)[:, None, None]
  return padded[rows, top[:, :, None], left[:, None, :]]
