"""Judgement of classifiers: answers, accuracy, latency."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from compress import audit
from compress.data import ImageDataset, Scaling


def make_predictor(
  apply: Callable[[Any, jax.Array], jax.Array],
  *,
  scaling: Scaling,
  batch: int = 256,
) -> Callable[[Any, np.ndarray], np.ndarray]:
  """Compiles a network for batches of one size.

  Args:
    apply: `(variables, images) -> logits [B, K]`, or a tree of arrays [B, ...].
    scaling: of pixels.
    batch: images at once; the last batch is filled up with black.

  Returns:
    `(variables, uint8 [N, H, W, C]) -> float32 [N, K]`, on the host; or the
    tree, of arrays [N, ...]. It
    compiles once for all variables of the same shapes.
  """
  compiled = jax.jit(apply)

  def predict(variables, images):
    outputs = []
    for start in range(0, len(images), batch):
      part = images[start : start + batch]
      missing = batch - len(part)
      filled = np.pad(part, ((0, missing), (0, 0), (0, 0), (0, 0)))
      outputs.append(jax.device_get(compiled(variables, scaling(filled))))
    count = len(images)
    return jax.tree.map(lambda *x: np.concatenate(x)[:count], *outputs)

  return predict


def evaluate(
  predict: Callable[[Any, np.ndarray], np.ndarray],
  variables: Any,
  dataset: ImageDataset,
) -> audit.Classification:
  """Top-1 and top-5 accuracy of a network on a data set.

  Args:
    predict: from `make_predictor`.
    variables: the network's collections, `Trained.compressed` of a run.
    dataset: what it is judged on.

  Returns:
    The figures, 0..1.
  """
  logits = predict(variables, dataset.images)
  return audit.classify(logits, dataset.labels)


def measure_latency(
  networks: Mapping[str, tuple[Callable, Any]],
  images: np.ndarray,
  *,
  batch_sizes: tuple[int, ...] = (1, 32),
  warmup: int = 5,
  repeats: int = 30,
) -> dict[str, dict[str, Any]]:
  """Latency of several networks, measured in turns.

  Args:
    networks: name -> (apply, variables).
    images: float32 [N, H, W, C], scaled; repeated if N is too small.
    batch_sizes: images at once.
    warmup: untimed rounds.
    repeats: timed rounds.

  Returns:
    name -> the `latency_ms` entry of a report.
  """

  def bind(apply, variables):
    compiled = jax.jit(apply)
    return lambda batch: compiled(variables, batch)

  functions = {name: bind(*found) for name, found in networks.items()}
  return audit.measure_batches(
    functions,
    lambda size: np.resize(images, (size, *images.shape[1:])),
    batch_sizes=batch_sizes,
    warmup=warmup,
    repeats=repeats,
  )


def measured_speedup(
  latency: Mapping[str, Any], reference: Mapping[str, Any], *, batch: int
) -> float:
  """The reference's median latency over a network's, at one batch size.

  Args:
    latency: a network's entry of `measure_latency`.
    reference: the dense network's, of the same call.
    batch: which of the batch sizes.

  Returns:
    Above 1 where the network is faster.
  """
  key = f'batch{batch}'
  return reference[key]['median'] / latency[key]['median']
