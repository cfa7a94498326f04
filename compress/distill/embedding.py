"""Distillation of an embedding: its direction on the unit sphere."""

import chex
import jax
import jax.numpy as jnp


def normalize(vectors: jax.Array, *, axis: int = -1) -> jax.Array:
  """Scales vectors to unit Euclidean norm.

  A vector of norm zero stays zero and gets a zero gradient, where the
  mathematics has none.

  Args:
    vectors: `[..., D]` (or with D at `axis`), any float dtype.
    axis: the axis of the vectors' components.

  Returns:
    Float32, the same shape.
  """
  vectors = vectors.astype(jnp.float32)
  square = jnp.sum(vectors * vectors, axis=axis, keepdims=True)
  nonzero = square > 0
  scale = jax.lax.rsqrt(jnp.where(nonzero, square, 1.0))
  return jnp.where(nonzero, vectors * scale, 0.0)


def embedding_loss(student: jax.Array, teacher: jax.Array) -> jax.Array:
  """QuantFace's loss: squared distance of unit embeddings, no labels.

  The mean over all `B * D` elements of the squared difference of the two
  L2-normalised embeddings, which is the mean over the batch of
  `(2 - 2 cos) / D`; Boutros, Damer and Kuijper (2022), "QuantFace: Towards
  Lightweight Face Recognition by Synthetic Data Low-bit Quantization",
  arXiv:2206.10526. The division by D follows the authors' code, and the
  published learning rate goes with it. Scaling either embedding changes
  nothing. The teacher carries no gradient.

  Args:
    student: embeddings `[B, D]`, not necessarily normalised.
    teacher: embeddings `[B, D]` of the same images.

  Returns:
    Float32 scalar in 0..4/D.
  """
  chex.assert_equal_shape([student, teacher])
  chex.assert_rank(student, 2)
  gap = normalize(student) - normalize(jax.lax.stop_gradient(teacher))
  return jnp.mean(gap * gap)
