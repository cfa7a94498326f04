"""Fakes of a conditional GAN, chosen by the teacher: the inputs of cGAN-KD.

Ding, Wang, Xu, Wang and Welch 2021, arXiv:2104.03164. The GAN learns from the
real training images and their labels, so these inputs are not made without
data: real images are needed once, and then any number of fakes can be drawn.
The paper adds the fakes to the real images; here they stand alone, as every
kind of inputs does.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from compress import graph, synthesize
from compress.graph import Emit
from experiments.classification.networks import Classifier

CODE_SIZE = 16
GAN_RATE = 1e-3
RATIO_RATE = 1e-3
RHO = 0.9
_LAST = 'classifier'


class Fakes(NamedTuple):
  """The fakes that were chosen.

  Attributes:
    images: float32 [N, H, W, C].
    asked: int32 [N], the classes that they were made for, one after the other.
    figures: 'recognised', percent of all fakes, before any is chosen, that the
      teacher takes for the class asked for; 'accepted', percent of them that
      the density ratio lets pass.
  """

  images: np.ndarray
  asked: np.ndarray
  figures: dict[str, float]


def tap_last(network: Classifier) -> Callable[..., Any]:
  """A classifier that also gives what its last layer sees.

  Args:
    network: it ends in a dense layer named 'classifier'.

  Returns:
    `(variables, images) -> (logits [B, K], features [B, D])`.
  """

  def rule(site, op, *operands):
    out = op(*operands)
    return Emit(out, operands[0]) if site.name == _LAST else out

  tapped = graph.rewrite(network.apply, rule, has_aux=True)

  def apply(variables, images):
    logits, found = tapped(variables, images)
    return logits, found[_LAST]

  return apply


def make_fakes(
  answers: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
  images: np.ndarray,
  labels: np.ndarray,
  key: jax.Array,
  *,
  classes: int,
  count: int,
  settings: synthesize.GanSettings,
  ratio_steps: int,
  burn_in: int,
  progress: bool = True,
) -> Fakes:
  """Trains a GAN and chooses among its fakes.

  Args:
    answers: the teacher: `images -> (logits [N, K], features [N, D])`.
    images: real ones, float32 [N, H, W, C].
    labels: theirs, int [N].
    key: random key.
    classes: K.
    count: fakes that are wanted.
    settings: of the GAN.
    ratio_steps: updates of the density ratio, in the teacher's features, with
      mean 0 and deviation 1 over the real images.
    burn_in: fakes of a class that give its bound and its cut-off.
    progress: show bars.

  Returns:
    The fakes, of every class as many as of others, or one more.

  Raises:
    InputError: of a class too few fakes are good enough.
  """
  one_hot = np.eye(classes, dtype=np.float32)
  first, second, third, fourth = jax.random.split(key, 4)
  gan = synthesize.train_conditional_gan(
    images,
    one_hot[labels],
    first,
    settings=settings,
    progress=progress,
    description='cGAN',
  )

  def draw(asked, key):
    return synthesize.sample_gan(gan, one_hot[asked], key)

  # As many fakes as real images, of the same classes.
  logits, fake = answers(draw(labels, second))
  recognised = (logits.argmax(axis=1) == labels).mean()
  _, real = answers(images)
  centre, spread = real.mean(axis=0), real.std(axis=0) + 1e-6
  network = synthesize.train_density_ratio(
    ((real - centre) / spread, one_hot[labels]),
    ((fake - centre) / spread, one_hot[labels]),
    third,
    steps=ratio_steps,
    learning_rate=RATIO_RATE,
    progress=progress,
  )

  def ratio(images, asked):
    return network((answers(images)[1] - centre) / spread, one_hot[asked])

  found = synthesize.subsample_fakes(
    draw,
    ratio,
    lambda images: answers(images)[0],
    fourth,
    classes=classes,
    count=-(-count // classes),
    rho=RHO,
    burn_in=burn_in,
  )
  # A class after the other, so that the first few show them all.
  order = np.arange(len(found.images)).reshape(classes, -1).T.ravel()[:count]
  return Fakes(
    found.images[order],
    found.conditions[order],
    {
      'recognised': 100 * float(recognised),
      'accepted': 100 * float(found.accepted.mean()),
    },
  )
