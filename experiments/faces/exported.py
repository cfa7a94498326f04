"""A network's file of a face study, ready for other runtimes."""

import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from compress import deploy, encode, graph
from compress import packed as packed_lib
from compress.errors import InputError
from compress.quantize import QParams
from experiments.faces import pruning
from experiments.faces import student as student_lib
from experiments.faces.networks import Network
from experiments.faces.recipe import Recipe

RUNTIMES = {'onnxruntime': '.onnx', 'stablehlo': '.stablehlo'}


class Stored(NamedTuple):
  """What a file holds.

  Attributes:
    network: at the file's size.
    recipe: how it was quantized.
    tree: packed tensors: `params`, `activations`, `others`.
    metadata: of the file.
    weight_only: bits of weights that are quantized here, without activations.
  """

  network: Network
  recipe: Recipe
  tree: dict[str, Any]
  metadata: dict[str, Any]
  weight_only: int | None = None

  @property
  def bits(self) -> tuple[int, int]:
    """Bits of weights and activations; 32 is float."""
    if self.weight_only:
      return self.weight_only, 32
    recipe = self.recipe
    return recipe.weight_bits or 32, recipe.activation_bits or 32


def read_metadata(path: str | pathlib.Path) -> dict[str, Any]:
  """What a file says of itself, before anything else is loaded.

  Args:
    path: of a `network.safetensors`.

  Returns:
    The metadata: `network`, `recipe`, `kept` and more.

  Raises:
    InputError: no such file, damaged, or of no face study.
  """
  with encode.File(path) as file:
    metadata = file.metadata
  missing = [k for k in ('network', 'recipe', 'kept') if k not in metadata]
  if missing:
    raise InputError(
      f'{path}: holds no {missing[0]!r}; give a network.safetensors that a '
      'face study wrote'
    )
  try:
    Recipe(**metadata['recipe'])
  except TypeError as error:
    raise InputError(f'{path}: its recipe is of another version') from error
  return metadata


def read_stored(
  path: str | pathlib.Path,
  network: Network,
  *,
  weight_only: int | None = None,
  group_size: int = 32,
) -> Stored:
  """Reads a network that a face study stored.

  Args:
    path: of a `network.safetensors`.
    network: the trained network that it was made from, at full size.
    weight_only: 4 or 8: quantize the weights now, in groups.
    group_size: weights of a group.

  Returns:
    The network.

  Raises:
    InputError: a bad file, one of another network, or one that is quantized
      already with `weight_only`.
  """
  metadata = read_metadata(path)
  recipe = Recipe(**metadata['recipe'])
  tree = encode.load(path).tree
  try:
    smaller = pruning.restore_network(network, metadata['kept'])
    model = student_lib.prepare(smaller, recipe)
  except (KeyError, IndexError, TypeError) as error:
    raise InputError(
      f'{path}: is not made from this {network.name}; check --weights'
    ) from error
  found = {
    p: x.shape for p, x in _leaves(packed_lib.unpack_tree(tree['params']))
  }
  wanted = {p: x.shape for p, x in _leaves(model.variables['params'])}
  if found != wanted:
    path_of = sorted(set(found.items()) ^ set(wanted.items()))[0][0]
    raise InputError(
      f'{path}: {path_of!r} is not as this {network.name} has it; check '
      '--weights'
    )
  stored = Stored(smaller, recipe, tree, metadata)
  if weight_only is None:
    return stored
  if recipe.weight_bits is not None:
    raise InputError(
      f'--weight_only=int{weight_only}: {path} is quantized already, w'
      f'{recipe.weight_bits}a{recipe.activation_bits}; give a file of floats'
    )
  packed = deploy.quantize_weights_only(
    {'params': packed_lib.unpack_tree(tree['params'])},
    bits=weight_only,
    group_size=group_size,
  )
  return stored._replace(tree={**tree, **packed}, weight_only=weight_only)


def _leaves(tree):
  return zip(graph.leaf_paths(tree), jax.tree.leaves(tree), strict=True)


def evaluate(
  stored: Stored, rules=(), *, compiled: dict[str, Any] | None = None
) -> Callable[..., Any]:
  """The network in JAX, `images [B, H, W, 3] -> embeddings [B, D]`, compiled.

  In the arithmetic of integers where it has one (`lowered`), simulated in
  floats otherwise.

  Args:
    stored: the network.
    rules: rewrite rules that run operations another way.
    compiled: simulations that were compiled before, which those of the same
      recipe and channels share; this one is added.
  """
  integer, compiled = lowered(stored), {} if compiled is None else compiled
  if integer is None:
    tree = stored.tree
    shape = [stored.metadata.get('recipe'), stored.metadata.get('kept')]
    key = json.dumps(shape, sort_keys=True)
    if key not in compiled:
      compiled[key] = jax.jit(
        student_lib.frozen_twin(stored.network, stored.recipe, rules=rules)
      )
    run = compiled[key]
  else:
    run, tree = integer
    for rule in rules:
      run = graph.rewrite(run, rule)
    run = jax.jit(run)
  tree = jax.device_put(packed_lib.unpack_tree(tree))
  return lambda images: run(tree, images)


def lowered(stored: Stored) -> deploy.Lowered | None:
  """The network as integer runtimes compute it, None where they cannot."""
  if not stored.recipe.is_integer or stored.weight_only:
    return None
  apply, variables, given = _given(stored)
  return deploy.lower(apply, variables, _image(stored.network), **given)


def _given(stored: Stored):
  """What `deploy.to_onnx` and `deploy.lower` are given."""
  model = student_lib.prepare(stored.network, stored.recipe)
  tree = stored.tree
  variables = {**tree.get('others', {}), 'params': tree['params']}
  values = dict(_leaves(packed_lib.unpack_tree(tree.get('activations', {}))))
  activations = {
    name: QParams(values[f'{name}/scale'], values[f'{name}/zero_point'])
    for name in model.specs
  }
  given = {
    'activations': activations,
    'specs': model.specs,
    'placement': model.placement,
  }
  return model.apply, variables, given


def to_onnx(stored: Stored):
  """The network as ONNX.

  Args:
    stored: the network.

  Returns:
    The `onnx.ModelProto`, and notes on what is not as asked.

  Raises:
    InputError: it has no such form.
  """
  apply, variables, given = _given(stored)
  image = _image(stored.network)
  if not stored.weight_only:
    return deploy.to_onnx(apply, variables, image, **given), []
  made, floats = deploy.to_onnx_weight_only(apply, variables, image)
  return made, [
    f'{path} stays float in the ONNX model: it is not read as it is stored.'
    for path in floats
  ]


def to_stablehlo(stored: Stored) -> deploy.Program:
  """The network as a program of StableHLO, as `evaluate` runs it."""
  run, tree = lowered(stored) or (
    student_lib.frozen_twin(stored.network, stored.recipe),
    stored.tree,
  )
  metadata = {
    k: v for k, v in stored.metadata.items() if k in ('network', 'method')
  }
  metadata['bits'] = list(stored.bits)
  return deploy.to_stablehlo(
    run, tree, _image(stored.network), metadata=metadata
  )


def uncompressed(network: Network) -> Stored:
  """The trained network itself, in float32, BatchNorm folded."""
  recipe = Recipe(weight_bits=None, activation_bits=None)
  variables = student_lib.prepare(network, recipe).variables
  others = {k: v for k, v in variables.items() if k != 'params'}
  tree = {'params': variables['params'], 'others': others, 'activations': {}}
  tree = jax.tree.map(packed_lib.Dense, tree)
  metadata = {'network': network.name, 'method': 'reference'}
  return Stored(network, recipe, tree, metadata)


def _image(network: Network) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct((1, *network.image_shape), np.float32)
