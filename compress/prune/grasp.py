"""GraSP: keep what the flow of gradients needs.

Wang, Zhang, Grosse 2020, 'Picking Winning Tickets Before Training by Preserving
Gradient Flow', arXiv:2002.07376. With gradient g and Hessian H of the loss at
initialization, taking weight q away changes the squared gradient norm, to
first order, by twice S_q = -w_q (H g)_q (equation 8). Weights whose removal
lowers it most are needed; those of the highest S go. Repositories differ in
the sign: here, as for every saliency, higher = keep, so what is returned is

  -S = w * (H g)

H g is one Jacobian-vector product of the gradient: no graph of the gradient is
kept. g and H are over the prunable leaves alone, as in the authors' code.

The paper takes 10 images a class (`balanced_indices`) and divides the logits by
a temperature of 200; both are the caller's, in `batch` and in `loss_fn`. The
authors divide S by |sum S|, which changes no order and is left out.
"""

import jax
import jax.numpy as jnp
import numpy as np

from compress.errors import InputError
from compress.prune.paths import KERNELS, matching, put
from compress.prune.snip import LossFn

TEMPERATURE = 200.0
"""What the paper divides the logits by, inside the loss."""


def grasp_saliency(
  loss_fn: LossFn, params, batch, *, prunable: str = KERNELS
) -> dict[str, jax.Array]:
  """How much gradient flow each weight's removal costs, `w * (H g)`.

  Args:
    loss_fn: `(params, batch) -> scalar`, the mean over the batch, twice
      differentiable.
    params: pytree of arrays, as initialized.
    batch: what the loss takes.
    prunable: regular expression over whole leaf paths.

  Returns:
    Leaf path to float32 array of the leaf's shape, of either sign. Higher =
    keep.

  Raises:
    InputError: nothing matches `prunable`.
  """
  leaves = matching(params, prunable)
  grad_fn = jax.grad(lambda some: loss_fn(put(params, some), batch))
  _, products = jax.jvp(grad_fn, (leaves,), (grad_fn(leaves),))
  return {
    path: leaf.astype(jnp.float32) * products[path].astype(jnp.float32)
    for path, leaf in leaves.items()
  }


def balanced_indices(labels, *, per_class: int, seed: int) -> np.ndarray:
  """Draws the same number of examples of every class.

  Args:
    labels: class numbers [N].
    per_class: how many of each class, without repetition.
    seed: of the draw.

  Returns:
    int64 [classes * per_class], indices into `labels` in random order.

  Raises:
    InputError: a class has fewer examples.
  """
  labels = np.asarray(labels)
  rng = np.random.default_rng(seed)
  chosen = []
  for label in np.unique(labels):
    of_class = np.flatnonzero(labels == label)
    if len(of_class) < per_class:
      raise InputError(
        f'class {label} has {len(of_class)} examples; {per_class} are asked for'
      )
    chosen.append(rng.choice(of_class, per_class, replace=False))
  return rng.permutation(np.concatenate(chosen))
