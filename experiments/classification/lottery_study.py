"""The study of lottery tickets: what is trained, round by round, and kept.

Frankle and Carbin 2019, arXiv:1803.03635. Round 0 trains the dense network,
once a seed. Every later round takes the smallest weights away from what the
ticket of the round before was trained to, winds the others back, and trains the
new ticket beside its controls, all seeds in one program. Every network is
written to a file, read back and judged; a round that is finished is not trained
again.

The paper keeps the learning rate of LeNet-300-100 constant; here it falls along
half a cosine, so that the last accuracy depends less on when a run ends.
"""

import dataclasses
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

from compress import audit, data, encode, graph, prune
from compress import packed as packed_lib
from compress.data import ImageSplits
from compress.errors import InputError
from compress.packed import Dense, Sparse
from compress.prune import lottery_ticket
from experiments import folder as folder_lib
from experiments.classification import (
  evaluation,
  lottery_report,
  lottery_training,
)
from experiments.classification import networks as networks_lib
from experiments.classification.images import load_splits
from experiments.classification.training import Trainer
from experiments.classification.tuning import Tuning

STUDY = 'lottery_ticket'
OUTPUT_LAYER = 'classifier/kernel'


@dataclasses.dataclass(frozen=True)
class Settings:
  """What decides the result.

  Attributes:
    dataset: 'digits', or a name of the tensorflow-datasets catalogue.
    data_dir: where prepared sets are kept; None is the catalogue's default.
    data_path: folder of the set's own files, None to use what is prepared.
    network: a key of `experiments.classification.networks.MAKERS`.
    rounds: rounds of pruning.
    fraction: of the surviving weights, removed in a round.
    output_fraction: the same of the output layer; not used with scope 'global'.
    scope: 'layer' or 'global'.
    rewind_step: weights are wound back to this step.
    controls: some of `lottery_report.CONTROLS`.
    seeds: runs of everything, with other weights and another order of images.
    tuning: of every run.
    early_steps: the step after which accuracies are compared for speed.
    level: the accuracy whose first step is compared for speed, 0..1.
    smoke: a minimal run.
  """

  dataset: str = 'digits'
  data_dir: str | None = None
  data_path: str | None = None
  network: str = 'lenet300'
  rounds: int = 12
  fraction: float = 0.2
  output_fraction: float = 0.1
  scope: str = 'layer'
  rewind_step: int = 0
  controls: tuple[str, ...] = ('reinitialized', 'random_masks')
  seeds: int = 3
  tuning: Tuning = Tuning(batch=60, learning_rate=1.2e-3, weight_decay=0.0)
  early_steps: int = 20
  level: float = 0.9
  smoke: bool = False

  @property
  def rules(self) -> list[tuple[str, float]]:
    """Fractions a round by leaf path, for `lottery_ticket.next_masks`."""
    rules = [('.*kernel', self.fraction)]
    if self.scope == 'layer':
      rules.insert(0, (OUTPUT_LAYER, self.output_fraction))
    return rules


class Row(NamedTuple):
  """One run of a round.

  Attributes:
    method: 'dense', `lottery_report.TICKET` or a control.
    seed: of the weights and of the order of the images.
    variables: the network's collections at the start.
    masks: leaf path to bool.
    held: the weights are those of the step that is wound back to.
  """

  method: str
  seed: int
  variables: Any
  masks: dict[str, jax.Array]
  held: bool


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
    The table as text, and the paths of the report.

  Raises:
    InputError: bad input, before anything is written.
  """
  if settings.smoke:
    settings = dataclasses.replace(
      settings,
      rounds=min(settings.rounds, 2),
      seeds=min(settings.seeds, 2),
      tuning=dataclasses.replace(settings.tuning, epochs=1),
    )
  splits = load_splits(
    settings.dataset, data_dir=settings.data_dir, data_path=settings.data_path
  )
  network = networks_lib.make_classifier(
    settings.network,
    image_shape=splits.train.image_shape,
    classes=len(splits.train.classes),
  )
  steps = _check_steps(settings, splits)
  output = folder_lib.open_folder(
    output_dir, STUDY, dataclasses.asdict(settings), resume=resume
  )
  print(
    f'{STUDY}: {network.name} on {splits.train.name}, {settings.rounds} rounds '
    f'of {settings.seeds} seeds; results in {output}'
  )
  marks = lottery_training.choose_marks(
    steps, early=min(settings.early_steps, steps)
  )
  study = _Study(settings, splits, network, marks, output)
  rounds = [study.round(i) for i in range(settings.rounds + 1)]
  report = lottery_report.make_report(
    settings=settings,
    network=network,
    splits=splits,
    marks=marks,
    rounds=rounds,
    macs=_macs(network),
    command=command,
  )
  paths = audit.write_report(report, {}, output)
  return audit.format_table(report), paths


def _check_steps(settings: Settings, splits: ImageSplits) -> int:
  steps = settings.tuning.steps(len(splits.train))
  if settings.rewind_step >= steps:
    raise InputError(
      f'--rewind_step={settings.rewind_step}: a run has {steps} steps; right '
      f'is 0 to {steps - 1}'
    )
  return steps


def _macs(network) -> dict[str, int]:
  """Leaf path to multiply-adds a weight, for one image."""
  shapes = jax.eval_shape(network.init, jax.random.key(0))
  image = jax.ShapeDtypeStruct((1, *network.image_shape), np.float32)
  return prune.macs_per_weight(graph.trace(network.apply, shapes, image))


class _Study:
  """What the rounds share: the compiled programs and the files."""

  def __init__(self, settings, splits, network, marks, output):
    self.settings, self.splits, self.network = settings, splits, network
    self.marks, self.output = marks, output
    self.scaling = data.pixel_scaling(splits.train)
    self.predict = evaluation.make_predictor(
      network.apply, scaling=self.scaling
    )
    self._trainer: Trainer | None = None

  def round(self, number: int) -> dict[str, Any]:
    """The record of a round, which is trained unless its files are there."""
    folder = self.output / 'rounds' / f'round_{number:02d}'
    record = folder / 'entry.json'
    if not record.is_file():
      folder.mkdir(parents=True, exist_ok=True)
      folder_lib.write_json(record, self._train(number, folder))
    return folder_lib.read_json(record)

  @property
  def trainer(self) -> Trainer:
    if self._trainer is None:
      self._trainer = lottery_training.make_ticket_trainer(
        self.network,
        self.splits.train,
        validation=self.splits.validation,
        scaling=self.scaling,
        tuning=self.settings.tuning,
        marks=self.marks,
        rewind_step=self.settings.rewind_step,
      )
    return self._trainer

  def _train(self, number, folder) -> dict[str, Any]:
    settings = self.settings
    rows = [
      row
      for seed in range(settings.seeds)
      for row in (self._rows(number, seed) if number else [self._dense(seed)])
    ]
    trained = self.trainer.run_many(
      [row.variables for row in rows],
      seeds=[row.seed for row in rows],
      states=[
        lottery_training.start_row(
          row.masks,
          row.variables['params'],
          marks=len(self.marks),
          rewind_step=settings.rewind_step,
          held=row.held,
        )
        for row in rows
      ],
      description=f'round {number} of {settings.rounds}',
    )
    runs = [
      self._keep(row, found, number, folder)
      for row, found in zip(rows, trained, strict=True)
    ]
    left = {path: int(mask.sum()) for path, mask in rows[0].masks.items()}
    return {'round': number, 'left': left, 'runs': runs}

  def _dense(self, seed) -> Row:
    variables = self._init(seed)
    masks = lottery_ticket.full_masks(variables['params'], self.settings.rules)
    return Row('dense', seed, variables, masks, False)

  def _rows(self, number, seed) -> list[Row]:
    """The ticket of a round and its controls, of one seed."""
    settings = self.settings
    variables = self._init(seed)
    before, masks = self._stored(number - 1, seed)
    masks = lottery_ticket.next_masks(
      before['params'], masks, settings.rules, scope=settings.scope
    )
    early = variables['params']
    if settings.rewind_step:
      path = self.output / 'rounds' / 'round_00' / f'early_seed{seed}'
      loaded = encode.load(path.with_suffix('.safetensors'))
      early = packed_lib.unpack_tree(loaded.tree)
    key = jax.random.fold_in(jax.random.key(seed), number)
    held = bool(settings.rewind_step)

    def row(method):
      chosen, params, stays = masks, early, held
      if method == 'reinitialized':
        params, stays = self.network.init(key)['params'], False
      if method == 'random_masks':
        chosen = lottery_ticket.random_masks(masks, key)
      if method == 'shuffled_weights':
        params = lottery_ticket.shuffle_weights(early, masks, key)
      params = prune.apply_masks(params, chosen)
      return Row(method, seed, {**variables, 'params': params}, chosen, stays)

    return [row(m) for m in (lottery_report.TICKET, *settings.controls)]

  def _init(self, seed):
    return self.network.init(jax.random.key(seed))

  def _keep(self, row, trained, number, folder) -> dict[str, Any]:
    """Writes a network, reads it back and judges it."""
    variables = trained.variables
    carried = trained.state.carried
    tree = {
      **jax.tree.map(Dense, variables),
      'params': lottery_training.METHOD.pack(
        variables['params'], trained.state
      ),
    }
    path = self._path(number, row.method, row.seed)
    size = encode.save(
      path,
      tree,
      {
        'study': STUDY,
        'network': self.network.name,
        'method': row.method,
        'round': number,
        'seed': row.seed,
      },
    )
    if not number and self.settings.rewind_step:
      encode.save(
        folder / f'early_seed{row.seed}.safetensors',
        jax.tree.map(Dense, carried['early']),
      )
    restored = packed_lib.unpack_tree(encode.load(path).tree)
    test = self.splits.test
    judged = evaluation.evaluate(self.predict, restored, test)
    before = evaluation.evaluate(self.predict, row.variables, test)
    curve = np.asarray(carried['curve'], np.float64)
    return {
      'method': row.method,
      'seed': row.seed,
      'before': before.top1,
      'test': judged._asdict(),
      'on_disk': size,
      'accuracy': curve[:, 0].round(6).tolist(),
      'cross_entropy': curve[:, 1].round(6).tolist(),
      'loss': [round(record['loss'], 6) for record in trained.history],
    }

  def _path(self, number, method, seed) -> pathlib.Path:
    folder = self.output / 'rounds' / f'round_{number:02d}'
    return folder / f'{method}_seed{seed}.safetensors'

  def _stored(self, number, seed):
    """What a round's ticket was trained to, and its masks."""
    method = lottery_report.TICKET if number else 'dense'
    tree = encode.load(self._path(number, method, seed)).tree
    leaves = jax.tree_util.tree_leaves_with_path(
      tree['params'], is_leaf=packed_lib.is_packed
    )
    masks = {
      graph.path_string(path): leaf.mask
      for path, leaf in leaves
      if isinstance(leaf, Sparse)
    }
    return packed_lib.unpack_tree(tree), masks
