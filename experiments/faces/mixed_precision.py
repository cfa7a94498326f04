"""Bits for every layer of a face network, beside one number for all.

Cai et al. 2020, 'ZeroQ', arXiv:2001.00281: every kernel is quantized alone, to
every number of bits, and what the embeddings lose by it is written down; a
choice of bits is taken to lose the sum. For the bytes of each uniform network
the best choice is quantized, stored, read back and judged beside it.
"""

import dataclasses
import functools
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

from compress import audit, compressor, encode, graph, quantize, search
from compress import packed as packed_lib
from experiments import folder as folder_lib
from experiments.faces import (
  calibration,
  exported,
  judge,
  mixed_precision_report,
  people,
  student,
)
from experiments.faces import networks as networks_lib
from experiments.faces.networks import Network
from experiments.faces.recipe import Recipe

STUDY = 'mixed_precision'
BATCH = 32


@dataclasses.dataclass(frozen=True)
class Settings:
  """What decides the result.

  Attributes:
    network: one of `networks.NAMES`.
    weights: path of its weights; None is possible for SFace.
    inputs: what sensitivities and activation ranges are taken from, one of
      `calibration.SOURCES`.
    count: inputs.
    steps: updates of synthesized inputs.
    calibration_people: for photographs.
    test_people: to judge on.
    bits: that a kernel may have.
    budgets: bits of the uniform networks whose bytes are to be used better.
    activation_bits: of all networks.
    bootstrap: draws of the intervals.
    smoke: a minimal run.
  """

  network: str = 'sface'
  weights: str | None = None
  inputs: str = 'synthesized'
  count: int = 32
  steps: int = 100
  calibration_people: str = '1-10'
  test_people: str = '11-40'
  bits: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8)
  budgets: tuple[int, ...] = (3, 4, 5)
  activation_bits: int = 8
  bootstrap: int = 1000
  smoke: bool = False

  def smaller(self) -> 'Settings':
    """The same code on next to nothing."""
    return dataclasses.replace(
      self,
      count=4,
      steps=1,
      test_people='31-33',
      bits=(3, 4, 8),
      budgets=(4,),
      bootstrap=20,
    )


class Judged(NamedTuple):
  """A network that was stored and read back.

  Attributes:
    name: of the row.
    recipe: how it was quantized.
    bytes: nominal, packed and on_disk.
    embeddings: float32 [M, D], of the test photographs.
  """

  name: str
  recipe: Recipe
  bytes: dict[str, float]
  embeddings: np.ndarray


class Budget(NamedTuple):
  """A uniform network and the mixed one of its bytes.

  Attributes:
    bits: of the uniform one.
    cost: bytes of its kernels.
    uniform: it.
    mixed: the other.
    loss: predicted: of the uniform one and of the mixed one.
  """

  bits: int
  cost: int
  uniform: Judged
  mixed: Judged
  loss: tuple[float, float]


def run(
  settings: Settings, *, output_dir: str, resume: bool, command: str
) -> tuple[str, dict[str, pathlib.Path]]:
  """Runs the study, from where an earlier run in the folder stopped.

  Args:
    settings: what to do.
    output_dir: folder of the results.
    resume: continue what is there.
    command: for the report.

  Returns:
    The tables as text, and the paths of the report.

  Raises:
    InputError: bad input, before anything is written.
  """
  settings = settings.smaller() if settings.smoke else settings
  network = networks_lib.load_network(settings.network, settings.weights)
  faces = people.make_splits(
    people.load_faces('orl'),
    train_people=settings.calibration_people,
    test_people=settings.test_people,
  )[0]
  output = folder_lib.open_folder(
    output_dir, STUDY, dataclasses.asdict(settings), resume=resume
  )
  print(f'{STUDY}: {network.name}; results in {output}')
  rules = (graph.cpu_rules(),)
  inputs = _inputs(settings, network, faces, output, rules)
  table = Table(settings, network, rules)
  losses = _kept(output / 'sensitivities.json', lambda: table.losses(inputs))
  front = search.pareto_front(table.costs, losses, resolution=table.resolution)
  reference = judge.compile_reference(network, rules)
  original = networks_lib.embed(reference, faces.test.images).sum(axis=1)

  make = functools.partial(
    _judged, network, inputs, faces.test.images, output, rules
  )
  budgets = []
  for bits in settings.budgets:
    costs = {path: options[bits] for path, options in table.costs.items()}
    cost = sum(costs.values())
    choice = front.within(cost)
    uniform = make(f'uniform w{bits}', settings_recipe(settings, bits, {}))
    mixed = make(
      f'mixed, bytes of w{bits}', settings_recipe(settings, bits, choice.picks)
    )
    predicted = sum(losses[path][bits] for path in costs)
    budgets.append(Budget(bits, cost, uniform, mixed, (predicted, choice.loss)))
  report, figures = mixed_precision_report.make_report(
    settings=settings,
    network=network,
    test=faces.test,
    original=original,
    budgets=budgets,
    table=table,
    losses=losses,
    front=front,
    command=command,
  )
  shown = {'inputs': inputs[:10]}
  caption = 'Inputs that sensitivities and activation ranges were taken from.'
  figures.append(audit.image_rows('inputs', shown, caption=caption))
  paths = audit.write_report(
    report, {}, output, images=faces.test.images, figures=figures
  )
  return audit.format_stated(report['tables'][0]), paths


def settings_recipe(settings: Settings, bits: int, picks) -> Recipe:
  """The recipe of a network of so many bits, but for the layers of `picks`."""
  return Recipe(
    weight_bits=bits,
    activation_bits=settings.activation_bits,
    layer_bits=tuple(picks.items()),
  )


class Table:
  """What every kernel costs at every number of bits.

  Attributes:
    costs: leaf path -> bits -> bytes, packed.
    sizes: leaf path -> weights.
    resolution: bytes, of the search.
  """

  def __init__(self, settings: Settings, network: Network, rules):
    self._model = student.prepare(
      network, Recipe(weight_bits=None, activation_bits=None)
    )
    self._run = graph.rewrite(self._model.apply, graph.compose(*rules))
    params = self._model.variables['params']
    self._options, self.costs = {}, {}
    for bits in settings.bits:
      recipe = settings_recipe(settings, bits, {})
      method = quantize.quantize_weights(recipe.weight_rules())
      state = jax.jit(method.init)(params)
      self._options[bits] = jax.jit(method.apply)(params, state)
      packed = jax.device_get(jax.jit(method.pack)(params, state))
      plan = compressor.resolve(recipe.weight_rules(), params).specs
      leaves = jax.tree.leaves(packed, is_leaf=packed_lib.is_packed)
      for path, leaf in zip(graph.leaf_paths(params), leaves, strict=True):
        if path in plan:
          self.costs.setdefault(path, {})[bits] = packed_lib.nbytes(leaf)
    values = dict(
      zip(graph.leaf_paths(params), jax.tree.leaves(params), strict=True)
    )
    self.sizes = {path: values[path].size for path in self.costs}
    largest = sum(max(options.values()) for options in self.costs.values())
    self.resolution = max(1, largest // 20_000)

  def losses(self, inputs: np.ndarray) -> dict[str, dict[int, float]]:
    """Sensitivities: 1 - cos of the embeddings, a kernel at a time.

    Args:
      inputs: uint8 [N, H, W, 3].

    Returns:
      Leaf path -> bits -> mean over inputs.
    """
    others = {k: v for k, v in self._model.variables.items() if k != 'params'}

    def apply(params, images):
      return self._run({**others, 'params': params}, images)

    return search.layer_sensitivities(
      apply,
      self._model.variables['params'],
      self._options,
      [
        inputs[i : i + BATCH].astype(np.float32)
        for i in range(0, len(inputs), BATCH)
      ],
      paths=self.costs,
      divergence=search.cosine_divergence,
    )


def _inputs(settings, network, faces, output, rules) -> np.ndarray:
  if settings.inputs == 'photographs':
    images = faces.train.images
    rows = np.random.default_rng(0).permutation(len(images))[: settings.count]
    return images[np.sort(rows)]
  return calibration.make_inputs(
    network,
    settings.inputs,
    count=settings.count,
    steps=settings.steps,
    seed=0,
    folder=output / 'inputs',
    rules=rules,
  )


def _judged(
  network, inputs, photographs, output, rules, name, recipe
) -> Judged:
  """Quantizes, stores, reads back and embeds, unless that was done before."""
  folder = output / 'networks' / name.replace(',', '').replace(' ', '_')
  record, path = folder / 'entry.json', folder / 'network.safetensors'
  if not record.is_file():
    twin = student.make_student(network, recipe, inputs, rules=rules)
    packed = jax.device_get(twin.pack(twin.trained, twin.carried))
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {
      'network': network.name,
      'recipe': dataclasses.asdict(recipe),
      'kept': {},
    }
    size = encode.save(path, packed, metadata)
    stored = exported.Stored(network, recipe, encode.load(path).tree, metadata)
    embed = exported.evaluate(stored, rules)
    found = networks_lib.embed(embed, photographs).sum(axis=1)
    folder_lib.write_array(folder / 'embeddings.npy', found)
    entry = {**student.stored_bytes(packed), 'on_disk': size}
    folder_lib.write_json(record, entry)
  entry = folder_lib.read_json(record)
  embeddings = folder_lib.read_array(folder / 'embeddings.npy')
  return Judged(name, recipe, entry, embeddings)


def _kept(path: pathlib.Path, make) -> dict[str, dict[int, Any]]:
  """A table of numbers by path and bits, made once."""
  if not path.is_file():
    folder_lib.write_json(path, make())
  found = folder_lib.read_json(path)
  return {
    name: {int(bits): value for bits, value in options.items()}
    for name, options in found.items()
  }
