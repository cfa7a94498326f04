"""The networks of the study of the teacher gap: trained once, kept, asked.

Every network is trained from all seeds side by side, written to files, read
back and judged. Students of one seed begin with the same weights and see the
images in the same order, whoever teaches them, so that differences are told
seed by seed.
"""

import hashlib
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from compress import distill, encode
from compress import packed as packed_lib
from compress.errors import InputError
from compress.packed import Dense
from experiments.classification import teacher_gap_settings as settings_lib
from experiments.classification import teacher_gap_training as training
from experiments.classification.teacher_gap_settings import Images, Settings
from experiments.classification.teacher_gap_training import Examples

STUDY = 'teacher_gap'


class Model(NamedTuple):
  """A network trained from every seed.

  Attributes:
    name: of its files.
    width: of its hidden layers.
    params: a pytree a seed.
    train: float32 [R, M, K], its logits of the training images.
    validation: float64 [R], its accuracies on the validation images, 0..1.
    test: float32 [R, N, K], its logits of the test images.
    nbytes: of one file, mean over seeds.
  """

  name: str
  width: int
  params: list[Any]
  train: np.ndarray
  validation: np.ndarray
  test: np.ndarray
  nbytes: float

  def accuracy(self, labels: np.ndarray) -> np.ndarray:
    """Accuracy on the test images of every seed, float64 [R] in 0..1."""
    return accuracy(self.test, labels)


class Lab:
  """What trains and keeps."""

  def __init__(
    self,
    settings: Settings,
    images: Images,
    folder: pathlib.Path,
    *,
    progress: bool = True,
  ):
    self.settings, self.images, self.folder = settings, images, folder
    folder.mkdir(parents=True, exist_ok=True)
    self.real = images.scaling(images.train.images)
    self.steps = settings.tuning.steps(len(images.train))
    self._losses = training.network_losses(settings)
    self._networks: dict[int, Any] = {}
    self._programs: dict[Any, Any] = {}
    self._models: dict[str, Model] = {}
    self._askers: dict[int, Any] = {}
    self._bar = tqdm(unit=' networks', disable=None if progress else True)

  @property
  def seeds(self) -> range:
    """Of the runs."""
    return range(self.settings.seeds)

  def network(self, width: int):
    """The classifier of a width."""
    if width not in self._networks:
      self._networks[width] = settings_lib.make_network(width, self.images)
    return self._networks[width]

  def ask(self, width: int, params: Any, images: np.ndarray) -> np.ndarray:
    """Logits [N, K] of one seed's network for scaled images."""
    if width not in self._askers:
      self._askers[width] = jax.jit(self.network(width).apply)
    return np.asarray(self._askers[width]({'params': params}, images))

  def model(
    self,
    name: str,
    width: int,
    *,
    loss: str,
    teacher: Model | np.ndarray | None = None,
    images: np.ndarray | None = None,
    generation: int = 0,
  ) -> Model:
    """A network, trained now unless its files are there.

    Args:
      name: of its files.
      width: of the network.
      loss: a key of `network_losses`.
      teacher: what the loss learns from: a network, whose files those of the
        student name; logits [R, M, K]; or None where it looks at none.
      images: float32 [M, H, W, C], scaled, where it does not learn from the
        real images.
      generation: other initial weights and another order of images.

    Returns:
      The network.

    Raises:
      InputError: the training diverged.
    """
    if name not in self._models:
      by = teacher if isinstance(teacher, Model) else None
      answers = teacher if by is None else by.train
      network = self.network(width)

      def make():
        program = self._program(
          (width, loss),
          lambda params, batch: self._losses[loss](
            network.apply({'params': params}, batch.images), batch
          ),
        )
        start = [
          network.init(self._key(seed, width, generation))['params']
          for seed in self.seeds
        ]
        order = [seed + 1000 * generation for seed in self.seeds]
        return program(start, self.examples(answers, images), seeds=order)

      params, nbytes = self.kept(name, make, by=by)
      self._models[name] = self._asked(name, width, params, nbytes)
    return self._models[name]

  def path(self, ladder: Sequence[int]) -> Model:
    """The network at the end of a path of widths, taught along it.

    Args:
      ladder: widths; the first learns from labels, the others by Hinton's loss
        from the one before.

    Returns:
      The network.
    """
    name = 'path_' + '-'.join(str(width) for width in ladder)
    if len(ladder) == 1:
      return self.model(name, ladder[0], loss='labels')
    teacher = self.path(ladder[:-1])
    return self.model(name, ladder[-1], loss='hinton', teacher=teacher)

  def examples(
    self, teacher: np.ndarray | None, images: np.ndarray | None = None
  ) -> Examples:
    """Images, labels and a teacher's answers, as a program takes them."""
    labels = self.images.train.labels
    images = self.real if images is None else images
    if len(images) > len(labels):
      labels = np.pad(labels, (0, len(images) - len(labels)))
    if teacher is None:
      shape = len(self.seeds), len(images), len(self.images.train.classes)
      teacher = np.zeros(shape, np.float32)
    return Examples(images, labels, teacher)

  def train(self, key, loss, start, examples: Examples) -> list[Any]:
    """Trains other models than networks; `key` names what is compiled."""
    program = self._program(key, loss)
    return program(start, examples, seeds=list(self.seeds))

  def kept(
    self, name: str, make, *, by: Model | None = None
  ) -> tuple[list[Any], float]:
    """Pytrees of all seeds from their files, which are made if missing.

    Args:
      name: of the files.
      make: gives a pytree a seed.
      by: the network that taught it; the files tell the SHA-256 of its own.

    Returns:
      The pytrees as read back, and the mean bytes of a file.
    """
    paths = [self._path(name, seed) for seed in self.seeds]
    if not all(path.is_file() for path in paths):
      self._bar.set_description(name)
      for seed, (path, tree) in enumerate(zip(paths, make(), strict=True)):
        about = {'study': STUDY, 'model': name, 'seed': seed}
        if by is not None:
          about |= {'teacher': by.name, 'teacher_sha256': self._hash(by, seed)}
        encode.save(path, jax.tree.map(Dense, tree), about)
      self._bar.update()
    found = [packed_lib.unpack_tree(encode.load(path).tree) for path in paths]
    return found, float(np.mean([path.stat().st_size for path in paths]))

  def ensemble(
    self, members: Sequence[Model], images: np.ndarray
  ) -> np.ndarray:
    """Logits [R, N, K] of the mean probability of networks, seed by seed."""
    return np.stack(
      [
        np.asarray(
          distill.ensemble_logits(
            [
              lambda x, m=member, s=seed: jnp.asarray(
                self.ask(m.width, m.params[s], x)
              )
              for member in members
            ],
            images,
          )
        )
        for seed in self.seeds
      ]
    )

  def close(self) -> None:
    """Ends the bar."""
    self._bar.close()

  def _path(self, name, seed) -> pathlib.Path:
    return self.folder / f'{name}.{seed}.safetensors'

  def _hash(self, model, seed) -> str:
    with self._path(model.name, seed).open('rb') as file:
      return hashlib.file_digest(file, 'sha256').hexdigest()

  def _asked(self, name, width, params, nbytes) -> Model:
    scaling = self.images.scaling
    parts = (
      self.real,
      scaling(self.images.validation.images),
      scaling(self.images.test.images),
    )
    train, validation, test = (
      np.stack([self.ask(width, one, part) for one in params]) for part in parts
    )
    if not all(np.isfinite(x).all() for x in (train, validation, test)):
      raise InputError(
        f'{name}: the training diverged; a lower --learning_rate may help'
      )
    right = accuracy(validation, self.images.validation.labels)
    return Model(name, width, params, train, right, test, nbytes)

  def _program(self, key, loss):
    if key not in self._programs:
      self._programs[key] = training.make_program(
        loss, tuning=self.settings.tuning, steps=self.steps
      )
    return self._programs[key]

  def _key(self, seed, width, generation):
    key = jax.random.fold_in(jax.random.key(seed), width)
    return jax.random.fold_in(key, generation)


def accuracy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Accuracy of every seed, float64 [R] in 0..1, of logits [R, N, K]."""
  return (logits.argmax(2) == labels[None]).mean(1, dtype=np.float64)
