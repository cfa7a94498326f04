"""Inputs of a trained classifier: real ones, fakes, and those without data.

Every kind gives as many images, float32 as the network sees them. Those that
are moved down a loss begin as normal noise, stay within the range of pixels,
and take as many steps of one size, whatever the loss: no kind is tuned more
than another. The asked labels are what an image was made for, where it was.
"""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress import graph, synthesize
from compress.data import ImageDataset, Scaling
from experiments.classification import data_free_fakes
from experiments.classification.data_free_kinds import KINDS
from experiments.classification.data_free_settings import Making
from experiments.classification.data_free_teaching import make_answers
from experiments.classification.networks import Classifier

IMPRESSION_TEMPERATURE = 20.0
BATCH_NORM_WEIGHT = 0.1
TOTAL_VARIATION_WEIGHT = 0.01


class Inputs(NamedTuple):
  """Images of a kind.

  Attributes:
    images: float32 [N, H, W, C].
    asked: int32 [N], the class each was made for; None for images without one.
    figures: what else there is to say of how they were made.
  """

  images: np.ndarray
  asked: np.ndarray | None
  figures: Mapping[str, float] = MappingProxyType({})


class Maker:
  """Makes inputs of any kind; what is compiled serves all teachers."""

  def __init__(
    self,
    network: Classifier,
    dataset: ImageDataset,
    scaling: Scaling,
    making: Making,
    *,
    progress: bool = True,
  ):
    self._network, self._dataset = network, dataset
    self._scaling, self._making = scaling, making
    self._progress = progress
    self._losses: dict[str, Callable[..., jax.Array]] = {}
    shape = (1, 1, 1, network.image_shape[-1])
    ends = [np.full(shape, pixel, np.uint8) for pixel in (0, 255)]
    low, high = (scaling(end) for end in ends)
    self._bounds = float(low.min()), float(high.max())

  def make(self, kind: str, variables: Any, *, seed: int) -> Inputs:
    """Makes the inputs of a teacher.

    Args:
      kind: one of `KINDS`.
      variables: the teacher's collections.
      seed: of everything that is drawn.

    Returns:
      The inputs.
    """
    key = jax.random.fold_in(jax.random.key(seed), KINDS[kind].stream)
    makers: dict[str, Callable[..., Inputs]] = {
      'real': self._real,
      'noise': self._noise,
      'cgan_kd': self._cgan_kd,
      'batch_norm': self._batch_norm,
      'deep_inversion': self._deep_inversion,
      'class_impressions': self._class_impressions,
      'data_impressions': self._data_impressions,
      'soft_targets': self._soft_targets,
      'kegnet': self._kegnet,
    }
    return makers[kind](variables, key)

  def _real(self, variables, key) -> Inputs:
    """Training images, drawn without their labels."""
    del variables
    rows = jax.random.permutation(key, len(self._dataset))
    rows = rows[: self._making.images]
    rows = np.asarray(rows)
    images = self._scaling(self._dataset.images[rows])
    return Inputs(images, self._dataset.labels[rows])

  @functools.cached_property
  def _answers(self):
    return make_answers(data_free_fakes.tap_last(self._network))

  def _cgan_kd(self, variables, key) -> Inputs:
    """Fakes of a GAN that learns from the training images and labels."""
    making = self._making
    return Inputs(
      *data_free_fakes.make_fakes(
        functools.partial(self._answers, variables),
        self._scaling(self._dataset.images),
        self._dataset.labels,
        key,
        classes=self._network.classes,
        count=making.images,
        settings=synthesize.GanSettings(
          code_size=data_free_fakes.CODE_SIZE,
          width=making.gan_width,
          batch=making.generator_batch,
          steps=making.gan_steps,
          learning_rate=data_free_fakes.GAN_RATE,
          discriminator_rate=data_free_fakes.GAN_RATE,
        ),
        ratio_steps=making.ratio_steps,
        burn_in=making.burn_in,
        progress=self._progress,
      )
    )

  def _noise(self, variables, key) -> Inputs:
    """Every pixel normal, of the training images' mean and variance."""
    del variables
    return Inputs(np.asarray(self._draw(key)), None)

  def _draw(self, key) -> jax.Array:
    shape = (self._making.images, *self._network.image_shape)
    return jax.random.normal(key, shape)

  def _batch_norm(self, variables, key) -> Inputs:
    """The statistics of the whole batch, as in ZeroQ's paper."""
    return self._descend('batch_norm', key, variables)

  def _deep_inversion(self, variables, key) -> Inputs:
    """One-hot answers with the statistics of the batch."""
    return self._towards_classes('deep_inversion', variables, key)

  def _class_impressions(self, variables, key) -> Inputs:
    return self._towards_classes('class_impressions', variables, key)

  def _towards_classes(self, kind, variables, key) -> Inputs:
    count, classes = self._making.images, self._network.classes
    targets = synthesize.class_impression_targets(count, classes)
    found = self._descend(kind, key, variables, targets)
    return found._replace(asked=np.asarray(targets.argmax(1), np.int32))

  def _data_impressions(self, variables, key) -> Inputs:
    first, second = jax.random.split(key)
    targets, _ = synthesize.data_impression_targets(
      first, self._last(variables)[0], self._making.images
    )
    found = self._descend('data_impressions', second, variables, targets)
    return found._replace(asked=np.asarray(targets.argmax(1), np.int32))

  def _soft_targets(self, variables, key) -> Inputs:
    """Features of the last BatchNorm's moments, if there is one.

    They are cut off at 0 where the network's are never below. What a residual
    block adds to them is left out of account.
    """
    weights, bias = self._last(variables)
    image = jax.ShapeDtypeStruct((2, *self._network.image_shape), jnp.float32)
    norms = graph.batch_norms(self._network.apply, variables, image)
    mean, std = None, None
    if norms and norms[-1].shape[-1] == len(weights):
      found = variables['params']
      for name in norms[-1].name.split('/'):
        found = found[name]
      mean, std = found['bias'], jnp.abs(found['scale'])
    distribution = synthesize.feature_distribution(weights, mean=mean, std=std)
    first, second = jax.random.split(key)
    start = self._draw(second)
    features = synthesize.sample_features(
      first,
      distribution,
      self._making.images,
      nonnegative=bool((self._answers(variables, start)[1] >= 0).all()),
    )
    targets = synthesize.soft_labels(
      features,
      lambda f: f @ weights + bias.reshape(1, -1),
      temperature=self._making.temperature,
    )
    found = self._descend('soft_targets', second, variables, targets)
    return found._replace(asked=np.asarray(targets.argmax(1), np.int32))

  def _kegnet(self, variables, key) -> Inputs:
    making = self._making
    first, second = jax.random.split(key)
    kegnet = synthesize.train_kegnet(
      self._network.apply,
      variables,
      first,
      image_shape=self._network.image_shape,
      classes=self._network.classes,
      generators=making.generators,
      settings=synthesize.KegNetSettings(
        batch=making.generator_batch,
        steps=making.generator_steps,
        beta=1.0,
      ),
      progress=self._progress,
    )
    return Inputs(
      *synthesize.sample_kegnet(kegnet, second, count=making.images)
    )

  def _last(self, variables):
    """Weights [D, K] and bias [K] of the layer that every network ends in."""
    layer = variables['params']['classifier']
    return layer['kernel'], layer['bias']

  def _descend(self, kind, key, *arrays) -> Inputs:
    found = synthesize.synthesize(
      self._loss(kind),
      self._draw(key),
      *arrays,
      steps=self._making.steps,
      learning_rate=self._making.learning_rate,
      patience=None,
      bounds=self._bounds,
      progress=self._progress,
      description=kind.replace('_', ' '),
    )
    return Inputs(np.asarray(found.images), None)

  def _loss(self, kind):
    """One function a kind, so that it is compiled once."""
    if kind not in self._losses:
      self._losses[kind] = self._make_loss(kind)
    return self._losses[kind]

  def _make_loss(self, kind):
    apply = self._network.apply
    if kind == 'batch_norm':
      return synthesize.batch_norm_loss(apply, statistics='batch')
    if kind == 'deep_inversion':
      return synthesize.answer_loss(
        apply,
        temperature=1.0,
        batch_norm_weight=BATCH_NORM_WEIGHT,
        statistics='batch',
        total_variation_weight=TOTAL_VARIATION_WEIGHT,
      )
    temperature = {
      'class_impressions': 1.0,
      'data_impressions': IMPRESSION_TEMPERATURE,
      'soft_targets': self._making.temperature,
    }[kind]
    return synthesize.answer_loss(apply, temperature=temperature)


def describe_inputs(
  network: Classifier,
  variables: Any,
  inputs: Inputs,
) -> dict[str, float]:
  """What a teacher makes of inputs.

  Args:
    network: the teacher.
    variables: its collections.
    inputs: N images.

  Returns:
    'as_asked', percent taken for the class asked for (where there is one);
    'confidence', mean largest probability in percent; 'classes', how many
    classes the answers amount to, the exponential of the entropy of how often
    each is the answer; 'batch_norm_gap', root mean square over all channels of
    the gap of batch means to those stored, in deviations (where there are any);
    and the inputs' own figures.
  """
  tapped = jax.jit(graph.tap_batch_norms(network.apply))
  logits, norms = tapped(variables, jnp.asarray(inputs.images))
  logits = np.asarray(logits, np.float64)
  q = np.exp(logits - logits.max(1, keepdims=True))
  q /= q.sum(1, keepdims=True)
  answers = q.argmax(1)
  share = np.bincount(answers, minlength=q.shape[1]) / len(q)
  share = share[share > 0]
  found = {
    'confidence': 100 * float(q.max(1).mean()),
    'classes': float(np.exp(-(share * np.log(share)).sum())),
    **inputs.figures,
  }
  if inputs.asked is not None:
    found['as_asked'] = 100 * float((answers == inputs.asked).mean())
  gaps = [
    np.square(np.asarray(x.value.reshape(-1, len(x.mean)).mean(0) - x.mean))
    / np.asarray(x.variance + 1e-5)
    for x in norms.values()
  ]
  if gaps:
    found['batch_norm_gap'] = float(np.sqrt(np.concatenate(gaps).mean()))
  return found
