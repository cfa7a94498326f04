"""Biases that integers hold, before the network is judged."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress import graph as graph_lib
from compress import packed as packed_lib
from compress import quantize
from compress.deploy.network import read_network
from compress.deploy.nodes import Node
from compress.packed import Dense
from compress.quantize import AffineSpec, QParams


def round_biases(
  apply: Callable[..., Any],
  variables,
  *inputs,
  activations: Mapping[str, QParams],
  specs: Mapping[str, AffineSpec],
  placement: quantize.Placement = quantize.INPUTS,
):
  """The same variables, their biases multiples of input by weight scale.

  An integer engine adds the bias to its accumulator as int32, whose unit is
  the product of the two scales (Jacob et al. 2018, arXiv:1712.05877, section
  2.4). Half a unit is little, yet a depthwise layer has few units in a code:
  unless the simulated network rounds its biases too, one code in some
  thousands differs between the two in each such layer.

  Args:
    apply: pure function `apply(variables, *inputs)`.
    variables: nested dict of arrays or packed tensors.
    *inputs: arrays or `jax.ShapeDtypeStruct`s.
    activations: name to parameters of the quantized activations.
    specs: name to spec of the same.
    placement: that the names come from.

  Returns:
    The variables; other leaves are the same objects.

  Raises:
    InputError: as for `to_onnx`.
  """
  _, outputs = read_network(
    apply,
    variables,
    *inputs,
    activations=activations,
    specs=specs,
    placement=placement,
  )
  units = {}
  for node in _every(outputs):
    if node.op != 'constant' or node['kind'] != 'add' or node['leaf'] is None:
      continue
    (layer,) = node.inputs
    if layer.op not in ('conv', 'dense'):
      continue
    (source,), weight = layer.inputs, layer['weight']
    if source.op == 'quantize' and weight.scale is not None:
      units[node['leaf']] = np.float32(source['q'].scale) * weight.scale
  is_packed = packed_lib.is_packed
  leaves, tree = jax.tree.flatten(variables, is_leaf=is_packed)
  paths = [
    graph_lib.path_string(path)
    for path, _ in jax.tree_util.tree_leaves_with_path(
      variables, is_leaf=is_packed
    )
  ]

  def rounded(path, leaf):
    if path not in units:
      return leaf
    value = packed_lib.unpack(leaf) if is_packed(leaf) else leaf
    unit = units[path].reshape(value.shape)
    value = jnp.asarray(np.round(np.asarray(value) / unit) * unit)
    return Dense(value) if is_packed(leaf) else value

  return jax.tree.unflatten(tree, map(rounded, paths, leaves))


def _every(outputs: list[Node]) -> list[Node]:
  seen = dict.fromkeys(outputs)
  stack = list(outputs)
  while stack:
    for source in stack.pop().inputs:
      if source not in seen:
        seen[source] = None
        stack.append(source)
  return list(seen)
