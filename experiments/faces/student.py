"""A network's quantized twin: what is trained, what is carried, what is stored.

The twin is a pure function of two trees. `trained` holds what gradients reach
(weights and learned scales); `carried` what they do not (ranges, zero points,
batch statistics). What is judged is neither: it is the tree of packed tensors
that goes into the file.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress import compressor as compressor_lib
from compress import graph as graph_lib
from compress import packed as packed_lib
from compress import quantize
from compress.compressor import State
from compress.packed import Dense
from compress.quantize import AffineSpec, QParams
from experiments.faces.networks import Network
from experiments.faces.recipe import OBSERVERS, PLACEMENTS, Recipe

QUANTFACE_STEPS = 299
"""Steps during which QuantFace updates its activation ranges."""


class Student(NamedTuple):
  """A quantized twin.

  Attributes:
    apply: `(trained, carried, images, *, train) -> (embeddings, carried)`.
    trained: pytree to train, as initialised.
    carried: pytree to carry, as initialised.
    pack: `(trained, carried) -> tree`, a packed tensor at every leaf.
    graph: the traced network, for one image.
    weight_specs: leaf path to spec.
    activation_specs: activation name to spec.
  """

  apply: Callable[..., Any]
  trained: dict[str, Any]
  carried: dict[str, Any]
  pack: Callable[..., Any]
  graph: graph_lib.Graph
  weight_specs: dict[str, AffineSpec]
  activation_specs: dict[str, AffineSpec]


class Model(NamedTuple):
  """The network as the twin sees it: folded, or with its BatchNorm.

  Attributes:
    apply: `(variables, images) -> embeddings`.
    train_apply: `(variables, images) -> (embeddings, batch_stats)`, the
      second empty where statistics are frozen.
    variables: of both.
    graph: of `apply`, for one image.
    placement: where its activations are quantized.
    specs: name of a quantized activation to spec.
  """

  apply: Callable[..., Any]
  train_apply: Callable[..., Any]
  variables: dict[str, Any]
  graph: graph_lib.Graph
  placement: quantize.Placement
  specs: dict[str, AffineSpec]


def make_student(
  network: Network,
  recipe: Recipe,
  calibration: np.ndarray,
  *,
  rules: Sequence[graph_lib.Rule] = (),
  batch: int = 50,
) -> Student:
  """Quantizes a network after training; the twin may then be fine-tuned.

  Args:
    network: the trained network.
    recipe: what to do.
    calibration: uint8 [N, H, W, 3], photographs that the activation ranges
      are taken from.
    rules: rewrite rules that run operations another way (`graph.cpu_rules`).
    batch: photographs at a time in the calibration.

  Returns:
    The twin.
  """
  model = prepare(network, recipe)
  traced, placement, specs = model.graph, model.placement, model.specs
  params = model.variables['params']
  others = {k: v for k, v in model.variables.items() if k != 'params'}
  learned = recipe.ranges == 'learned' and recipe.placement == 'inputs'
  weights = quantize.quantize_weights(
    recipe.weight_rules(),
    learned=learned,
    range_fn=functools.partial(quantize.mse_range, exponent=2.0)
    if recipe.weight_range == 'mse'
    else quantize.tensor_range,
  )
  state = jax.jit(weights.init)(params)
  observer = OBSERVERS[recipe.observer]()

  starts = range(0, len(calibration), batch)
  states = quantize.observe_batches(
    model.apply,
    model.variables,
    (calibration[i : i + batch].astype(np.float32) for i in starts),
    placement=placement,
    specs=specs,
    observer=observer,
    rules=rules,
  )
  qparams = quantize.finalize(states, specs, observer)
  trained = {'params': params, 'weights': state.learned}
  carried = {'weights': state.carried, 'others': others}
  if learned:
    trained['scales'] = {name: q.scale for name, q in qparams.items()}
    carried['zero_points'] = {n: q.zero_point for n, q in qparams.items()}
  elif recipe.ranges == 'running':
    carried |= {'states': states, 'step': jnp.int32(0)}
  else:
    carried['qparams'] = qparams

  def activation_qparams(trained, carried) -> dict[str, QParams]:
    if learned:
      return {
        name: quantize.lsq.lsq_qparams(
          scale, specs[name], zero_point=carried['zero_points'][name]
        )
        for name, scale in trained['scales'].items()
      }
    if recipe.ranges == 'running':
      return quantize.finalize(carried['states'], specs, observer)
    return carried['qparams']

  def apply(trained, carried, images, *, train):
    state = State(trained['weights'], carried['weights'])
    variables = {
      **carried['others'],
      'params': weights.apply(trained['params'], state),
    }
    function = model.train_apply if train else model.apply
    if train and recipe.ranges == 'running':
      run = quantize.observe_and_quantize(
        function, placement, specs, observer, rules=rules
      )
      active = carried['step'] < QUANTFACE_STEPS
      out, states = run(variables, carried['states'], active, images)
      step = carried['step'] + 1
      carried = {**carried, 'states': states, 'step': step}
    elif learned:
      run = quantize.quantize_activations(
        function, placement, specs, quantizer=_learned, rules=rules
      )
      given = {
        name: QParams(scale, carried['zero_points'][name])
        for name, scale in trained['scales'].items()
      }
      out = run(variables, given, images)
    else:
      run = quantize.quantize_activations(
        function, placement, specs, rules=rules
      )
      out = run(variables, activation_qparams(trained, carried), images)
    if not train:
      return out, carried
    out, stats = out
    others = {**carried['others'], **({'batch_stats': stats} if stats else {})}
    return out, {**carried, 'others': others}

  def pack(trained, carried):
    state = State(trained['weights'], carried['weights'])
    qparams = activation_qparams(trained, carried)
    dense = {
      'others': carried['others'],
      'activations': {name: q._asdict() for name, q in qparams.items()},
    }
    return {
      'params': weights.pack(trained['params'], state),
      **jax.tree.map(Dense, dense),
    }

  weight_specs = compressor_lib.resolve(recipe.weight_rules(), params).specs
  return Student(
    apply, trained, carried, jax.jit(pack), traced, weight_specs, specs
  )


def frozen_twin(
  network: Network, recipe: Recipe, *, rules: Sequence[graph_lib.Rule] = ()
) -> Callable[..., jax.Array]:
  """The twin on stored numbers: `(unpacked tree, images) -> embeddings`."""
  model = prepare(network, recipe)
  run = quantize.quantize_activations(
    model.apply, model.placement, model.specs, rules=rules
  )

  def frozen(tree, images):
    found = dict(
      zip(graph_lib.leaf_paths(tree), jax.tree.leaves(tree), strict=True)
    )
    qparams = {
      name: QParams(
        found[f'activations/{name}/scale'],
        found[f'activations/{name}/zero_point'],
      )
      for name in model.specs
    }
    variables = {**tree.get('others', {}), 'params': tree['params']}
    return run(variables, qparams, images)

  return frozen


def _learned(x, q: QParams, spec: AffineSpec) -> jax.Array:
  """LSQ of an activation; N is the features of one example, as in the paper."""
  features = x.size // x.shape[0]
  return quantize.lsq.lsq(
    x,
    q.scale,
    spec,
    zero_point=q.zero_point,
    count=features,
    compact=True,
  )


def prepare(network: Network, recipe: Recipe) -> Model:
  """The network in the form that a recipe quantizes, and where it does."""
  image = jax.ShapeDtypeStruct((1, *network.image_shape), jnp.float32)
  apply, train_apply = network.apply, network.train_apply
  variables = network.variables
  if recipe.batch_norm == 'frozen':
    apply, variables, _ = graph_lib.fold(apply, variables, image)

    def train_apply(variables, images):
      return apply(variables, images), {}

  traced = graph_lib.trace(apply, variables, image)
  placement = PLACEMENTS[recipe.placement]
  plan = quantize.activation_plan(
    traced, placement, recipe.activation_rules(traced.sites[0].name)
  )
  return Model(apply, train_apply, variables, traced, placement, plan.specs)


def bit_operations(student: Student) -> graph_lib.Cost:
  """MACs and bit-operations of the twin for one image.

  What is not quantized counts as 32 bits, but for the inputs of layers in
  QuantFace's placement: they count as quantized, as its papers have it, though
  those behind a BatchNorm are not.
  """
  nominal = 32
  if student.activation_specs and not set(student.activation_specs) & {
    s.name for s in student.graph.sites
  }:
    nominal = min(spec.bits for spec in student.activation_specs.values())

  def weight_bits(site):
    path = (site.weight or '').removeprefix('params/')
    spec = student.weight_specs.get(path)
    return spec.bits if spec else 32

  def activation_bits(site):
    spec = student.activation_specs.get(site.name)
    return spec.bits if spec else nominal

  return graph_lib.cost(
    student.graph, weight_bits=weight_bits, activation_bits=activation_bits
  )


def stored_bytes(tree) -> dict[str, float]:
  """Nominal and packed bytes of a tree of packed tensors."""
  return {
    'nominal': packed_lib.tree_nominal_bytes(tree),
    'packed': packed_lib.tree_nbytes(tree),
  }
