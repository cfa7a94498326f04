"""Post-training quantization of a classifier, calibrated on given inputs.

BatchNorms are folded, kernels have a symmetric scale a channel, the inputs of
all layers an asymmetric range each, which comes from the inputs and is all that
depends on them; the image has 8 bits. What is judged is read from a file.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress import encode, graph, quantize
from compress import packed as packed_lib
from compress.data import ImageDataset, Scaling
from compress.packed import Dense
from compress.quantize import QParams
from experiments.classification import evaluation
from experiments.classification.networks import Classifier
from experiments.faces.recipe import OBSERVERS, Recipe


class Twins:
  """Quantized twins of one network; what is compiled serves all weights."""

  def __init__(
    self,
    network: Classifier,
    variables: Any,
    *,
    bits: Sequence[int],
    observer: str,
    scaling: Scaling,
    batch: int = 64,
  ):
    """Prepares twins of every width.

    Args:
      network: the network.
      variables: its collections; those of `judge` have the same shapes.
      bits: of weights and activations alike.
      observer: a key of `OBSERVERS`.
      scaling: of pixels.
      batch: inputs at once.
    """
    self._network, self._batch = network, batch
    self._observer = OBSERVERS[observer]()
    self._image = jax.ShapeDtypeStruct((1, *network.image_shape), jnp.float32)
    folded = graph.fold(network.apply, variables, self._image)
    self._apply = folded.apply
    traced = graph.trace(folded.apply, folded.variables, self._image)
    first = traced.sites[0].name
    self._specs, self._weights = {}, {}
    self._finalize, self._predict = {}, {}
    for n in bits:
      recipe = Recipe(weight_bits=n, activation_bits=n, observer=observer)
      specs = quantize.activation_plan(
        traced, quantize.INPUTS, recipe.activation_rules(first)
      ).specs
      self._specs[n] = specs
      self._weights[n] = quantize.quantize_weights(recipe.weight_rules())
      self._finalize[n] = jax.jit(
        lambda states, specs=specs: quantize.finalize(
          states, specs, self._observer
        )
      )
      self._predict[n] = evaluation.make_predictor(
        _frozen(folded.apply, specs), scaling=scaling
      )
    some = self._specs[bits[0]]
    self._observe = jax.jit(
      quantize.observe(folded.apply, quantize.INPUTS, some, self._observer)
    )

  def observe(self, variables: Any, inputs: np.ndarray) -> dict[str, Any]:
    """What the inputs of all layers were like.

    Args:
      variables: the network's collections.
      inputs: float32 [N, H, W, C].

    Returns:
      Activation name to observer state, for `judge`.
    """
    folded = graph.fold(self._network.apply, variables, self._image)
    names = next(iter(self._specs.values()))
    states = {name: self._observer.init(()) for name in names}
    for start in range(0, len(inputs), self._batch):
      _, states = self._observe(
        folded.variables, states, inputs[start : start + self._batch]
      )
    return states

  def judge(
    self,
    variables: Any,
    states: dict[str, Any],
    bits: int,
    dataset: ImageDataset,
    path: pathlib.Path,
  ) -> dict[str, Any]:
    """Quantizes, writes a file, reads it back and judges it.

    Args:
      variables: the network's collections.
      states: of `observe`.
      bits: of weights and activations.
      dataset: to judge it on.
      path: of the file.

    Returns:
      'test', the fields of `audit.Classification`; 'on_disk', bytes.
    """
    folded = graph.fold(self._network.apply, variables, self._image)
    params = folded.variables['params']
    weights = self._weights[bits]
    qparams = self._finalize[bits](states)
    tree = {
      'params': weights.pack(params, weights.init(params)),
      **jax.tree.map(
        Dense,
        {
          'others': {
            k: v for k, v in folded.variables.items() if k != 'params'
          },
          'activations': {name: q._asdict() for name, q in qparams.items()},
        },
      ),
    }
    size = encode.save(path, tree, {'bits': bits})
    restored = packed_lib.unpack_tree(encode.load(path).tree)
    found = evaluation.evaluate(self._predict[bits], restored, dataset)
    return {'test': found._asdict(), 'on_disk': size}


def _frozen(apply, specs):
  """The twin on stored numbers: `(unpacked tree, images) -> logits`."""
  run = quantize.quantize_activations(apply, quantize.INPUTS, specs)

  def frozen(tree, images):
    found = dict(
      zip(graph.leaf_paths(tree), jax.tree.leaves(tree), strict=True)
    )
    qparams = {
      name: QParams(
        found[f'activations/{name}/scale'],
        found[f'activations/{name}/zero_point'],
      )
      for name in specs
    }
    variables = {**tree.get('others', {}), 'params': tree['params']}
    return run(variables, qparams, images)

  return frozen
