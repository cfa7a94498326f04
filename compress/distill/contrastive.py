r"""Contrasts: the student's view of an image finds the teacher's, among many.

Tian, Krishnan and Isola (2020), "Contrastive Representation Distillation",
ICLR, arXiv:1910.10699. Both networks' last features are embedded on the unit
sphere of one space. An image's own pair is told from pairs of different images
by noise-contrastive estimation (its section 3.3, of Wu et al. 2018,
arXiv:1805.01978), the others' embeddings being remembered from earlier steps:

  h = exp(cos / tau) / Z ,
  L = -mean_B [ log h / (h + K / M) + sum_K log (K / M) / (h_k + K / M) ] ,

over M images and K negatives, once with the student as anchor among the
teacher's memories and once the other way round; the two are added. Z is set
once, from the first batch. `I(T; S) >= log K - L` for each way.

`info_nce_loss` needs no memory: the negatives are the batch's other images.
It is a different estimator, for large batches.
"""

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from compress.distill.embedding import normalize
from compress.distill.response import check_temperature
from compress.errors import InputError

Params = dict[str, dict[str, jax.Array]]


class CRDMemory(NamedTuple):
  """What earlier steps embedded; carried, not trained, not decayed.

  Attributes:
    student: float32 `[M, D]`, unit rows.
    teacher: float32 `[M, D]`, unit rows.
    student_scale: float32 `[]`, Z where the student is the anchor; 0 before
      the first batch.
    teacher_scale: float32 `[]`, Z where the teacher is.
    count: int32 `[]`, batches seen.
  """

  student: jax.Array
  teacher: jax.Array
  student_scale: jax.Array
  teacher_scale: jax.Array
  count: jax.Array


def init_crd(
  key: jax.Array, *, student: int, teacher: int, width: int = 128
) -> Params:
  """Linear embeddings of both networks' features, to be trained.

  They are thrown away with the teacher.

  Args:
    key: a PRNG key.
    student: features of the student, `D_s`.
    teacher: features of the teacher, `D_t`.
    width: D of the common space; the paper's 128.

  Returns:
    {'student', 'teacher'}, each {'kernel': `[D_in, D]`, 'bias': `[D]`}, both
    uniform in +-1 / sqrt(D_in).
  """

  def dense(key, size):
    bound = 1 / math.sqrt(size)
    bounds = {'minval': -bound, 'maxval': bound}
    keys = jax.random.split(key)
    return {
      'kernel': jax.random.uniform(keys[0], (size, width), **bounds),
      'bias': jax.random.uniform(keys[1], (width,), **bounds),
    }

  ours, theirs = jax.random.split(key)
  return {'student': dense(ours, student), 'teacher': dense(theirs, teacher)}


def init_crd_memory(
  key: jax.Array, *, examples: int, width: int = 128
) -> CRDMemory:
  """Random unit memories of every image of the training set.

  Drawn uniform in a cube as in the authors' code, then set to norm 1, which
  theirs have only on average.

  Args:
    key: a PRNG key.
    examples: M, images of the training set.
    width: D of the common space.

  Returns:
    The memory before the first batch: `8 M D` bytes.
  """
  student, teacher = jax.random.uniform(
    key, (2, examples, width), minval=-1.0, maxval=1.0
  )
  zero, count = jnp.float32(0), jnp.int32(0)
  return CRDMemory(normalize(student), normalize(teacher), zero, zero, count)


def crd_embed(features: jax.Array, params: dict[str, jax.Array]) -> jax.Array:
  """Unit embeddings float32 `[B, D]` of features `[B, D_in]`."""
  features = features.astype(jnp.float32)
  bias = params['bias'].astype(jnp.float32)
  kernel = params['kernel'].astype(jnp.float32)
  return normalize(_matmul(features, kernel) + bias[None])


def sample_negatives(
  key: jax.Array,
  indices: jax.Array,
  labels: np.ndarray,
  *,
  count: int,
) -> jax.Array:
  """For every image of a batch, others to tell it from: of other classes.

  Without replacement where every class leaves `count` others, else with, as in
  the authors' code. Takes `B * M` floats on the way.

  Args:
    key: a PRNG key.
    indices: int `[B]`, of the batch's images in the training set.
    labels: int `[M]` of the training set, a host array, as it settles which
      way is taken; `np.arange(M)` where there are no classes.
    count: K; the paper's 16384 for M = 50000.

  Returns:
    Int32 `[B, K]`, indices in the training set.

  Raises:
    InputError: a count below 1, or one class alone.
  """
  labels = np.asarray(labels)
  chex.assert_rank([indices, labels], [1, 1])
  _, sizes = np.unique(labels, return_counts=True)
  if count < 1 or len(sizes) < 2:
    raise InputError(
      f'{count} negatives of {len(sizes)} classes; right are at least 1 of 2'
    )
  own = jnp.asarray(labels)
  others = own[indices][:, None] != own[None, :]
  if count <= len(labels) - sizes.max():
    # The largest of independent draws are a sample without replacement.
    draws = jax.random.uniform(key, others.shape)
    _, rows = jax.lax.top_k(jnp.where(others, draws, -1.0), count)
    return rows
  ranks = jnp.cumsum(others, axis=1, dtype=jnp.int32)
  wanted = jax.random.randint(
    key, (len(indices), count), 1, ranks[:, -1:] + 1, jnp.int32
  )
  return jax.vmap(jnp.searchsorted)(ranks, wanted).astype(jnp.int32)


def nce_loss(
  positive: jax.Array,
  negative: jax.Array,
  *,
  scale: jax.Array,
  examples: int,
  temperature: float = 0.07,
  where: jax.Array | None = None,
) -> jax.Array:
  """Noise-contrastive estimation of one anchor; the formula above.

  With all h at 1 / M, where training starts, it is `log(1 + K) + K log(1 + 1 /
  K)`, about `log(1 + K) + 1`.

  Args:
    positive: cosines `[B]` of the pairs of one image.
    negative: cosines `[B, K]` of the pairs of two.
    scale: Z `[]`, above 0; without gradient.
    examples: M, the training set's size; the noise draws each with 1 / M.
    temperature: tau; .07 in the authors' code, .1 in their paper.
    where: bool `[B, K]`, the negatives that count; all by default.

  Returns:
    Float32 scalar > 0, in nats.
  """
  chex.assert_rank([positive, negative], [1, 2])
  scale = jax.lax.stop_gradient(scale.astype(jnp.float32))
  # log h / (h + K / M) is log_sigmoid of the difference of logarithms. The
  # authors' 1e-7 beside both is left out: nothing can divide by zero here.
  level = jnp.log(scale) + math.log(negative.shape[1] / examples)
  found = jax.nn.log_sigmoid(positive.astype(jnp.float32) / temperature - level)
  told = jax.nn.log_sigmoid(level - negative.astype(jnp.float32) / temperature)
  if where is not None:
    told = jnp.where(where, told, 0.0)
  return -jnp.mean(found + told.sum(axis=1))


def crd_loss(
  student: jax.Array,
  teacher: jax.Array,
  params: Params,
  memory: CRDMemory,
  indices: jax.Array,
  negatives: jax.Array,
  *,
  temperature: float = 0.07,
  momentum: float = 0.5,
) -> tuple[jax.Array, CRDMemory]:
  """Contrastive representation distillation, and the memory after it.

  The batch's rows of both memories move, after the loss, to the unit vector
  along `momentum * old + (1 - momentum) * new`; an image twice in a batch
  counts with its last place. Gradients reach the student and both embeddings,
  not the teacher, the memories or Z. RepDistiller adds .8 of this to the
  cross-entropy; resnet32x4 to resnet8x4 on CIFAR-100: 75.51 % (plain
  distillation 73.33 %, alone 72.50 %).

  Args:
    student: features `[B, D_s]`.
    teacher: features `[B, D_t]` of the same images.
    params: of `init_crd`.
    memory: after the previous batch; `init_crd_memory` at first.
    indices: int `[B]`, of the images in the training set.
    negatives: int, in the training set. `[B, K]`, of `sample_negatives`: the
      paper's, which gathers `8 B K D` bytes. `[K]`, shared by the batch: one
      matrix product, a different estimator; an image's own row is left out.
    temperature: tau.
    momentum: share of the old memory, 0..1.

  Returns:
    Float32 scalar > 0, the sum of both ways, and the new memory.

  Raises:
    InputError: a temperature not above 0 or a momentum not in 0..1.
  """
  check_temperature(temperature)
  if not 0 <= momentum <= 1:
    raise InputError(f'momentum is {momentum}; it must be in 0..1.')
  chex.assert_rank([student, teacher, indices], [2, 2, 1])
  chex.assert_equal_shape_prefix([student, teacher, indices], 1)
  negatives = negatives.astype(indices.dtype)
  where = jnp.ones((len(indices), negatives.shape[-1]), bool)
  if negatives.ndim == 1:
    where = negatives[None, :] != indices[:, None]
  own = ((0, 0), (1, 0))
  ours = crd_embed(student, params['student'])
  theirs = crd_embed(jax.lax.stop_gradient(teacher), params['teacher'])
  memory = jax.lax.stop_gradient(memory)
  first = memory.count == 0

  def way(anchors, bank, scale):
    rows = bank[negatives]
    if negatives.ndim == 1:
      negative = _matmul(anchors, rows.T)
    else:
      negative = jnp.einsum('bd,bkd->bk', anchors, rows, precision='highest')
    positive = jnp.sum(anchors * bank[indices], axis=1)
    seen = jnp.concatenate([positive[:, None], negative], axis=1)
    fresh = jnp.exp(jax.lax.stop_gradient(seen) / temperature)
    fresh = fresh.mean(where=jnp.pad(where, own, constant_values=True))
    scale = jnp.where(first, fresh * bank.shape[0], scale)
    loss = nce_loss(
      positive,
      negative,
      scale=scale,
      examples=bank.shape[0],
      temperature=temperature,
      where=where,
    )
    return loss, scale

  by_student, student_scale = way(ours, memory.teacher, memory.student_scale)
  by_teacher, teacher_scale = way(theirs, memory.student, memory.teacher_scale)
  memory = CRDMemory(
    _remember(memory.student, indices, ours, momentum),
    _remember(memory.teacher, indices, theirs, momentum),
    student_scale,
    teacher_scale,
    memory.count + 1,
  )
  return by_student + by_teacher, memory


def info_nce_loss(
  student: jax.Array,
  teacher: jax.Array,
  params: Params | None = None,
  *,
  temperature: float = 0.1,
  labels: jax.Array | None = None,
) -> jax.Array:
  """Contrast within the batch, without memory.

  Van den Oord, Li and Vinyals (2018), "Representation Learning with
  Contrastive Predictive Coding", arXiv:1807.03748, equation 4, of the pairs of
  contrastive distillation: the cross-entropy of finding an image's own pair
  among the B of the batch, the mean of the ways from the student and from the
  teacher. `I(T; S) >= log B - L`.

  Args:
    student: features `[B, D_s]`.
    teacher: features `[B, D_t]` of the same images.
    params: of `init_crd`; None compares features as they are (`D_s = D_t`).
    temperature: tau > 0.
    labels: int `[B]`; images of the same class are then no negatives.

  Returns:
    Float32 scalar >= 0, in nats; log B where all pairs are alike, and so 0
    for a single image.

  Raises:
    InputError: a temperature not above 0; widths that differ without params.
  """
  check_temperature(temperature)
  chex.assert_rank([student, teacher], 2)
  teacher = jax.lax.stop_gradient(teacher)
  if params is None:
    if student.shape != teacher.shape:
      raise InputError(
        f'features {list(student.shape)} and {list(teacher.shape)} are '
        'compared through the embeddings of init_crd; there are none'
      )
    ours, theirs = normalize(student), normalize(teacher)
  else:
    ours = crd_embed(student, params['student'])
    theirs = crd_embed(teacher, params['teacher'])
  logits = _matmul(ours, theirs.T) / temperature
  if labels is not None:
    own = jnp.eye(len(labels), dtype=bool)
    same = labels[:, None] == labels[None, :]
    logits = jnp.where(same & ~own, -jnp.inf, logits)
  among_teachers = jnp.diagonal(jax.nn.log_softmax(logits, axis=1))
  among_students = jnp.diagonal(jax.nn.log_softmax(logits, axis=0))
  return -(among_teachers.mean() + among_students.mean()) / 2


def _matmul(a, b):
  # A cosine is divided by .07: a matrix unit's bfloat16 would blur it.
  return jnp.matmul(a, b, precision='highest')


def _remember(bank, indices, fresh, momentum):
  """The bank with the batch's rows moved; no gradient, no order of writes."""
  new = normalize(momentum * bank[indices] + (1 - momentum) * fresh)
  # Of an image twice in the batch, all but the last are written nowhere.
  again = jnp.triu(indices[:, None] == indices[None, :], 1).any(axis=1)
  rows = jnp.where(again, jnp.asarray(len(bank), indices.dtype), indices)
  return bank.at[rows].set(jax.lax.stop_gradient(new), mode='drop')
