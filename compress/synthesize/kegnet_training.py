"""Training of KegNet's generators, and images of all of them.

Yoo, Cho, Kim and Kang 2019, 'Knowledge Extraction with No Observable Data',
NeurIPS; the losses are in `kegnet`. The classifier runs as in use: BatchNorm
with its running statistics. The generator is a smaller one than the paper's.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from compress.errors import InputError
from compress.synthesize.generators import CodeDecoder, ImageGenerator
from compress.synthesize.kegnet import kegnet_generator_loss
from compress.synthesize.steps import run_steps

Tree = Any
Apply = Callable[[Tree, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class KegNetSettings:
  """How generators are trained; the defaults are the paper's for MNIST.

  The paper has (learning rate, alpha, beta) = (1e-3, 1, 0) for MNIST, (1e-2, 1,
  10) for Fashion-MNIST and (1e-2, 1, 1) for SVHN, with decoders of 1, 3 and 3
  layers.

  Attributes:
    code_size: Z.
    width: channels of the generator's last hidden grid.
    decoder_layers: dense layers of the decoder.
    batch: images a step.
    steps: updates.
    learning_rate: of Adam.
    alpha: weight of the code.
    beta: weight of the diversity.

  Raises:
    InputError: a number out of range.
  """

  code_size: int = 10
  width: int = 32
  decoder_layers: int = 1
  batch: int = 256
  steps: int = 20_000
  learning_rate: float = 1e-3
  alpha: float = 1.0
  beta: float = 0.0

  def __post_init__(self):
    counts = (self.code_size, self.width, self.decoder_layers, self.batch)
    if min(counts) < 1 or self.steps < 0 or not self.learning_rate > 0:
      raise InputError(
        f'{self}: sizes are at least 1, steps at least 0, the learning rate is '
        'above 0'
      )


class KegNet(NamedTuple):
  """Trained generators.

  Attributes:
    make: `(variables, labels [B], codes [B, Z]) -> images [B, H, W, C]`.
    variables: one generator's collections each.
    code_size: Z.
    classes: K.
    history: one mapping a generator, metric -> float64 [steps]: 'loss',
      'label', 'code', 'diversity', and 'accuracy', the share of the images that
      the classifier takes for what they should be.
  """

  make: Callable[[Tree, jax.Array, jax.Array], jax.Array]
  variables: tuple[Tree, ...]
  code_size: int
  classes: int
  history: tuple[dict[str, np.ndarray], ...]


def train_kegnet(
  apply: Apply,
  variables: Tree,
  key: jax.Array,
  *,
  image_shape: tuple[int, int, int],
  classes: int,
  generators: int = 5,
  settings: KegNetSettings | None = None,
  progress: bool = True,
  description: str | None = None,
) -> KegNet:
  """Trains an ensemble of generators of a classifier's inputs, one by one.

  Generator and decoder have one optimizer, as in the authors' code. Before use
  `generator_accuracy` should be above .95.

  Args:
    apply: the classifier, `(variables, images [B, H, W, C]) -> logits [B, K]`,
      as in use; its inputs are images of mean 0 and variance 1.
    variables: its collections, which stay as they are.
    key: random key.
    image_shape: H, W and C.
    classes: K.
    generators: how many; 5 in the paper.
    settings: how; `KegNetSettings()` by default.
    progress: show a bar.
    description: stands before the bar.

  Returns:
    The generators.

  Raises:
    InputError: no generator.
    FloatingPointError: the loss is not finite.
  """
  if generators < 1:
    raise InputError(f'generators is {generators}; right is 1 or more')
  settings = settings or KegNetSettings()
  generator = ImageGenerator(tuple(image_shape), width=settings.width)
  decoder = CodeDecoder(settings.code_size, layers=settings.decoder_layers)
  optimizer = optax.adam(settings.learning_rate)

  def one_hot(labels):
    return jax.nn.one_hot(labels, classes, dtype=jnp.float32)

  def make(collections, labels, codes):
    return generator.apply(collections, one_hot(labels), codes)

  def start(key):
    ours, theirs, drawn = jax.random.split(key, 3)
    labels, codes = _draw(drawn, 2, classes, settings.code_size)
    collections = generator.init(ours, one_hot(labels), codes)
    images = generator.apply(collections, one_hot(labels), codes)
    params = {
      'generator': collections['params'],
      'decoder': decoder.init(theirs, images)['params'],
    }
    return params, collections['batch_stats'], optimizer.init(params)

  def loss_fn(params, stats, variables, labels, codes):
    images, moved = generator.apply(
      {'params': params['generator'], 'batch_stats': stats},
      one_hot(labels),
      codes,
      train=True,
      mutable=['batch_stats'],
    )
    logits = apply(variables, images)
    loss = kegnet_generator_loss(
      logits,
      labels,
      decoder.apply({'params': params['decoder']}, images),
      codes,
      images,
      alpha=settings.alpha,
      beta=settings.beta,
      reduction='reference',
    )
    right = logits.argmax(axis=1).astype(labels.dtype) == labels
    metrics = {
      'loss': loss.total,
      **{k: v for k, v in loss._asdict().items() if k != 'total'},
      'accuracy': right.astype(jnp.float32).mean(),
    }
    return loss.total, (moved['batch_stats'], metrics)

  @jax.jit
  def step(variables, state, key):
    params, stats, moments = state
    labels, codes = _draw(key, settings.batch, classes, settings.code_size)
    grads, (stats, metrics) = jax.grad(loss_fn, has_aux=True)(
      params, stats, variables, labels, codes
    )
    with jax.numpy_dtype_promotion('standard'):
      updates, moments = optimizer.update(grads, moments, params)
    return (optax.apply_updates(params, updates), stats, moments), metrics

  start = jax.jit(start)
  trained, histories = [], []
  for number in range(generators):
    first, later = jax.random.split(jax.random.fold_in(key, number))
    (params, stats, _), history = run_steps(
      functools.partial(step, variables),
      start(first),
      later,
      steps=settings.steps,
      progress=progress,
      description=f'{description or "KegNet"} {number + 1}/{generators}',
    )
    trained.append({'params': params['generator'], 'batch_stats': stats})
    histories.append(history)
  return KegNet(
    jax.jit(make),
    tuple(trained),
    settings.code_size,
    classes,
    tuple(histories),
  )


def sample_kegnet(
  kegnet: KegNet, key: jax.Array, *, count: int, batch: int = 256
) -> tuple[np.ndarray, np.ndarray]:
  """Images of all generators, of every class and generator as many.

  Args:
    kegnet: trained generators.
    key: random key.
    count: N, at least 1.
    batch: images at once.

  Returns:
    float32 [N, H, W, C] and int32 [N], the classes asked for: image i is of
    class i mod K, by generator (i div K) mod G. The student is to learn the
    classifier's answers, not these.

  Raises:
    InputError: no image.
  """
  if count < 1:
    raise InputError(f'count is {count}; right is 1 or more')
  every = np.arange(count, dtype=np.int32)
  labels = every % kegnet.classes
  maker = every // kegnet.classes % len(kegnet.variables)
  codes = np.asarray(jax.random.normal(key, (count, kegnet.code_size)))
  images = []
  order = []
  for number, collections in enumerate(kegnet.variables):
    rows = np.flatnonzero(maker == number)
    for first in range(0, len(rows), batch):
      some = rows[first : first + batch]
      # Filled up to one size, so that one program makes all of them.
      padded = np.resize(some, min(batch, count))
      made = kegnet.make(collections, labels[padded], codes[padded])
      images.append(np.asarray(made)[: len(some)])
      order.append(some)
  back = np.argsort(np.concatenate(order))
  return np.concatenate(images)[back], labels


def generator_accuracy(
  apply: Apply,
  variables: Tree,
  images: np.ndarray,
  labels: np.ndarray,
  *,
  batch: int = 256,
) -> float:
  """The share of the images that the classifier takes for their class.

  Args:
    apply: the classifier, `(variables, images) -> logits [B, K]`.
    variables: its collections.
    images: float32 [N, H, W, C].
    labels: int [N], the classes asked for.
    batch: images at once.

  Returns:
    0..1.
  """
  classify = jax.jit(lambda v, x: apply(v, x).argmax(axis=1))
  right = 0
  for first in range(0, len(images), batch):
    part = images[first : first + batch]
    padded = np.resize(part, (min(batch, len(images)), *part.shape[1:]))
    found = np.asarray(classify(variables, padded))[: len(part)]
    right += int((found == labels[first : first + batch]).sum())
  return right / len(images)


def _draw(key, count: int, classes: int, size: int):
  """Classes, all equally likely, and codes."""
  which, rest = jax.random.split(key)
  labels = jax.random.randint(which, (count,), 0, classes)
  return labels, jax.random.normal(rest, (count, size))
