"""Classifiers as two pure functions, one for use and one for training."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from compress import distill, graph, models
from compress.errors import InputError

MAKERS = {
  'cifar_resnet8': models.cifar_resnet8,
  'cifar_resnet20': models.cifar_resnet20,
  'cifar_resnet32': models.cifar_resnet32,
  'cifar_resnet56': models.cifar_resnet56,
  'lenet300': models.lenet300,
  'lenet5': models.lenet5,
  'resnet18': models.resnet18,
  'resnet34': models.resnet34,
  'resnet50': models.resnet50,
  'vit_b16': models.vit_b16,
}
# Networks whose parameters depend on the size of the images.
_SIZED = ('lenet300', 'lenet5', 'vit_b16')


@dataclasses.dataclass(frozen=True)
class Classifier:
  """A network without its weights.

  Attributes:
    name: what reports call it.
    apply: `(variables, images [B, H, W, C] float32) -> logits [B, K]`, for use.
    learn: `(variables, images) -> (logits, collections)`, as training runs it:
      BatchNorm takes the batch's statistics, and `collections` are all
      collections but `params`, moved on.
    init: `key -> variables`.
    image_shape: rows, columns and channels of an image.
    classes: K.
    owners: the class of every logit where there are more than K; None where
      there are as many.
  """

  name: str
  apply: Callable[[Any, jax.Array], jax.Array]
  learn: Callable[[Any, jax.Array], tuple[jax.Array, Any]]
  init: Callable[[jax.Array], Any]
  image_shape: tuple[int, int, int]
  classes: int
  owners: tuple[int, ...] | None = None

  def class_logits(self, logits: jax.Array) -> jax.Array:
    """Logits of the classes, [B, K], from those that `apply` gives."""
    if self.owners is None:
      return logits
    return distill.fold_subclasses(logits, self.owners)

  def answer(self, variables: Any, images: jax.Array) -> jax.Array:
    """`apply`, with one logit a class."""
    return self.class_logits(self.apply(variables, images))

  def cost(self, variables: Any) -> graph.Cost:
    """Parameters and multiply-adds of one image, counted on shapes."""
    image = jax.ShapeDtypeStruct((1, *self.image_shape), jnp.float32)
    return graph.cost(graph.trace(self.apply, variables, image))


def from_module(
  name: str, module: nn.Module, *, image_shape: tuple[int, int, int]
) -> Classifier:
  """Wraps a Flax module called as `module(images, train=...)`.

  Args:
    name: what reports call it.
    module: maps [B, H, W, C] to logits [B, K].
    image_shape: H, W and C.

  Returns:
    The classifier; its `init` is compiled once.
  """
  image = jnp.zeros((1, *image_shape), jnp.float32)

  def learn(variables, images):
    moving = [name for name in variables if name != 'params']
    logits, moved = module.apply(variables, images, train=True, mutable=moving)
    return logits, dict(moved)

  shapes = jax.eval_shape(module.init, jax.random.key(0), image)
  logits = jax.eval_shape(module.apply, shapes, image)
  return Classifier(
    name=name,
    apply=module.apply,
    learn=learn,
    init=jax.jit(lambda key: module.init(key, image)),
    image_shape=tuple(image_shape),
    classes=logits.shape[-1],
  )


def student_start(network: Classifier, seed: int) -> Any:
  """First weights of a student, from another key than a teacher's of the seed.

  A kernel is drawn by its path: networks begin alike from one key wherever
  names and shapes are the same, and a student that begins as its teacher did
  takes over much of it from inputs that show nothing.

  Args:
    network: the student.
    seed: 0..999.

  Returns:
    Its variables, of `jax.random.key(1000 + seed)`.
  """
  return network.init(jax.random.key(1000 + seed))


def make_classifier(
  name: str, *, image_shape: tuple[int, int, int], classes: int
) -> Classifier:
  """Makes one of the known networks for a data set.

  Args:
    name: a key of `MAKERS`.
    image_shape: rows, columns and channels of an image.
    classes: number of logits.

  Returns:
    The classifier.

  Raises:
    InputError: another name, or images the network cannot take.
  """
  if name not in MAKERS:
    raise InputError(
      f'network {name!r} is not known; right is one of {", ".join(MAKERS)}'
    )
  sized = {'image_shape': tuple(image_shape)} if name in _SIZED else {}
  module = MAKERS[name](classes=classes, **sized)
  return from_module(name, module, image_shape=image_shape)


def shrink(
  network: Classifier,
  variables: Any,
  keep: Mapping[str, np.ndarray],
  *,
  verify: bool = True,
) -> tuple[Classifier, Any, graph.Shrunk]:
  """Removes channels for good; what is left trains and runs as before.

  Args:
    network: the network.
    variables: its collections.
    keep: name of a group of `graph.channels` to bool [n], True stays.
    verify: compare with the masked network on two images.

  Returns:
    The smaller network, its variables, and what was kept.

  Raises:
    InputError: as `graph.shrink`.
  """
  images = np.random.default_rng(0).normal(size=(2, *network.image_shape))
  images = jnp.asarray(images, jnp.float32)
  found = graph.shrink(network.apply, variables, keep, images, verify=verify)
  learn = graph.restore_shrunk(
    network.learn, graph.describe_kept(found.kept, found.shapes)
  )

  def no_init(key):
    raise TypeError(f'{network.name} was shrunk: it has no weights of its own')

  smaller = dataclasses.replace(
    network, apply=found.apply, learn=learn, init=no_init
  )
  return smaller, found.variables, found
