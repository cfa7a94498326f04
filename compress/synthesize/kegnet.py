"""KegNet: a generator of the inputs that a classifier knows, without data.

Yoo, Cho, Kim and Kang 2019, 'Knowledge Extraction with No Observable Data',
NeurIPS. A generator G(y, z) makes an image of class y with the rest z of a
normal distribution; it is trained so that the fixed classifier recovers y, a
decoder D recovers z, and images of different z differ. Several generators,
which cover more than one does, then make the images that a student is taught
on, by the classifier's answers at temperature 1.

Here the losses, float32 scalars; training and sampling in `kegnet_training`.
Notation: B images, K classes, Z numbers of a code.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from compress.errors import InputError


def kegnet_diversity(codes: jax.Array, images: jax.Array) -> jax.Array:
  """How alike images of different codes are, in (0, 1].

  `exp(-mean_ij(mean_k (z_i - z_j)_k^2 * mean_k |G_i - G_j|_k))`, over all B^2
  pairs, those of an image with itself among them; 1 where all images, or all
  codes, are equal. It underflows for images of large values: standardise them.

  Args:
    codes: [B, Z].
    images: [B, ...], made of them.

  Returns:
    Float32 scalar.
  """
  chex.assert_equal_shape_prefix([codes, images], 1)
  codes = codes.reshape(len(codes), -1).astype(jnp.float32)
  images = images.reshape(len(images), -1).astype(jnp.float32)

  # A row at a time, and again for its gradient: all pairs of images at once
  # would be B^2 images.
  @jax.checkpoint
  def apart(row):
    code, image = row
    return jnp.square(code[None] - codes).mean(axis=1) * jnp.abs(
      image[None] - images
    ).mean(axis=1)

  return jnp.exp(-jax.lax.map(apart, (codes, images)).mean())


class GeneratorLoss(NamedTuple):
  """The parts of a generator's loss, float32 scalars, not yet weighted.

  Attributes:
    total: the weighted sum.
    label: divergence of the classifier's answer from the class.
    code: squared error of the decoded code.
    diversity: see `kegnet_diversity`.
  """

  total: jax.Array
  label: jax.Array
  code: jax.Array
  diversity: jax.Array


def kegnet_generator_loss(
  logits: jax.Array,
  labels: jax.Array,
  decoded: jax.Array,
  codes: jax.Array,
  images: jax.Array,
  *,
  alpha: float = 1.0,
  beta: float = 0.0,
  reduction: str = 'paper',
) -> GeneratorLoss:
  """The loss of generator and decoder.

  `KL(onehot(y) || softmax(M(G))) + alpha |D(G) - z|^2 + beta diversity`, the
  first two averaged over the batch. The divergence from a one-hot vector is the
  cross-entropy.

  Args:
    logits: of the classifier for the images, [B, K].
    labels: the classes asked for, int [B]; one that is no class makes the loss
      NaN.
    decoded: of the decoder for the images, [B, Z].
    codes: [B, Z].
    images: [B, ...].
    alpha: weight of the code, 0 or more.
    beta: weight of the diversity, 0 or more; with 0 it is not computed, and
      reported as 0.
    reduction: 'paper', the squared norm of an image's code error, or
      'reference', its mean over the Z numbers, as the authors' code has it. The
      published weights go with the second.

  Returns:
    The loss and its parts.

  Raises:
    InputError: a weight below 0, or another reduction.
  """
  if not (alpha >= 0 and beta >= 0):
    raise InputError(f'alpha {alpha}, beta {beta}; right is 0 or more')
  if reduction not in ('paper', 'reference'):
    raise InputError(
      f"reduction is {reduction!r}; it must be 'paper' or 'reference'."
    )
  chex.assert_equal_shape([decoded, codes])
  log_q = jax.nn.log_softmax(logits.astype(jnp.float32))
  # Otherwise -1 would be the last class.
  asked = jnp.where(labels < 0, logits.shape[1], labels)[:, None]
  label = -jnp.take_along_axis(log_q, asked, axis=1).mean()
  square = jnp.square(decoded.astype(jnp.float32) - codes.astype(jnp.float32))
  code = square.mean() if reduction == 'reference' else square.sum(1).mean()
  total = label + alpha * code
  diversity = jnp.zeros(())
  if beta:
    diversity = kegnet_diversity(codes, images)
    total = total + beta * diversity
  return GeneratorLoss(total, label, code, diversity)
