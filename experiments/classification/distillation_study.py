"""The benchmark of distillation: teachers, students, every method, every seed.

Tian, Krishnan and Isola 2020, arXiv:1910.10699: a teacher is trained once, and
every method teaches the same student, from the same weights, in the same order
of images and with as many updates. The student alone and plain distillation are
rows like any other. Every finished run is a file, which a run of the same
command reads and does not make again.
"""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from compress import audit, data, distill, encode
from compress.errors import InputError
from compress.packed import Dense, unpack_tree
from experiments import folder as folder_lib
from experiments.classification import (
  distillation_networks,
  distillation_report,
  evaluation,
  teaching,
)
from experiments.classification.distillation_methods import (
  ALONE,
  KD,
  METHODS,
)
from experiments.classification.distillation_networks import (
  KNOWN,
  PAIRS,
  SMALLEST_PAIR,
)
from experiments.classification.distillation_stages import (
  Setting,
  Shapes,
  begin,
  share_epochs,
)
from experiments.classification.images import load_splits, pool_images
from experiments.classification.networks import Classifier, student_start
from experiments.classification.teaching import Teacher
from experiments.classification.training import train_classifier
from experiments.classification.tuning import Tuning
from experiments.hybrids.runs import Figures, Store

STUDY = 'distillation_benchmark'


@dataclasses.dataclass(frozen=True)
class Settings:
  """What decides the result.

  Attributes:
    dataset: 'digits', or a name of the tensorflow-datasets catalogue.
    data_dir: where prepared sets are kept; None is the catalogue's default.
    data_path: folder of the set's own files, None to use what is prepared.
    pool: images are averaged over squares of so many pixels a side.
    images: training images, the first ones; None for all.
    pairs: `teacher:student`, of `distillation_networks.KNOWN`.
    methods: of `distillation_methods.METHODS`; the student alone and plain
      distillation are always among them.
    seeds: students of every method.
    tuning: of every student.
    teacher_epochs: of every teacher.
    first_share: epochs of a method's first stage, as a share of all.
    smoke: a minimal run.
  """

  dataset: str = 'digits'
  data_dir: str | None = None
  data_path: str | None = None
  pool: int = 1
  images: int | None = None
  pairs: tuple[str, ...] = PAIRS
  methods: tuple[str, ...] = tuple(METHODS)
  seeds: int = 3
  tuning: Tuning = Tuning(epochs=100, weight_decay=5e-4)
  teacher_epochs: int = 60
  first_share: float = 0.125
  smoke: bool = False

  def __post_init__(self):
    unknown = [name for name in self.methods if name not in METHODS]
    if unknown:
      raise InputError(
        f'--method={unknown[0]}: right is one of {"; ".join(METHODS)}'
      )
    for pair in self.pairs:
      distillation_networks.parse_pair(pair)

  @property
  def first_epochs(self) -> int:
    """Epochs of a method's first stage."""
    return max(1, round(self.first_share * self.tuning.epochs))

  def all_methods(self) -> tuple[str, ...]:
    """The controls, then the rest in the order of `METHODS`."""
    wanted = {ALONE, KD, *self.methods}
    return tuple(name for name in METHODS if name in wanted)

  def smaller(self) -> 'Settings':
    """The same code on next to nothing."""
    pairs = (SMALLEST_PAIR,) if self.pairs == PAIRS else self.pairs[-1:]
    return dataclasses.replace(
      self,
      images=64,
      pairs=pairs,
      seeds=1,
      tuning=dataclasses.replace(self.tuning, epochs=2, batch=16),
      teacher_epochs=1,
    )


def run(
  settings: Settings,
  *,
  output_dir: str,
  resume: bool,
  command: str,
  progress: bool = True,
) -> tuple[str, dict[str, pathlib.Path]]:
  """Runs the study, from where an earlier run in the folder stopped.

  Args:
    settings: what to do.
    output_dir: folder of the results.
    resume: continue what is there.
    command: for the report.
    progress: show a bar.

  Returns:
    The tables as text, and the paths of the report.

  Raises:
    InputError: bad input, before anything is written.
  """
  settings = settings.smaller() if settings.smoke else settings
  splits = load_splits(
    settings.dataset,
    data_dir=settings.data_dir,
    data_path=settings.data_path,
    most=settings.images if settings.smoke else None,
  )
  splits = type(splits)(*(pool_images(x, settings.pool) for x in splits))
  if settings.images is not None and settings.images < len(splits.train):
    rows = np.arange(settings.images)
    splits = splits._replace(train=data.take_images(splits.train, rows))
  folder = folder_lib.open_folder(
    output_dir, STUDY, dataclasses.asdict(settings), resume=resume
  )
  study = Study(settings, splits, folder, progress=progress)
  print(
    f'{STUDY}: {len(settings.pairs)} pairs, {len(settings.all_methods())} '
    f'methods, {settings.seeds} seeds on {settings.dataset}, '
    f'{len(splits.train)} training images; results in {folder}'
  )
  study.run()
  report, figures = distillation_report.make_report(study, command=command)
  paths = audit.write_report(report, {}, folder, figures=figures)
  tables = [audit.format_stated(table) for table in report['tables']]
  return '\n\n'.join(tables), paths


class Study:
  """The runs, which are made once.

  Attributes:
    settings: what to do.
    splits: the images.
  """

  def __init__(self, settings, splits, folder, *, progress: bool):
    self.settings, self.splits = settings, splits
    self._progress = progress
    self._folder = folder
    self._store = Store(folder / 'runs')
    self._scaling = data.pixel_scaling(splits.train)
    self._networks = functools.cache(self._make_network)
    self._predictor = functools.cache(self._make_predictor)
    self._teachers = functools.cache(self._make_teacher)
    self._teacher_answers = functools.cache(self._answer_by_teacher)
    self._views = functools.lru_cache(2)(self._make_views)
    self._own = functools.lru_cache(settings.seeds)(self._make_own)
    # Of a method, and of the student alone; the seeds share a compilation.
    self._teachings = functools.lru_cache(2)(self._make_teachings)

  def run(self) -> None:
    """Makes all runs that are not there yet."""
    names = self.settings.all_methods()
    runs = [
      (pair, method, seed)
      for pair in self.settings.pairs
      for method in names
      for seed in range(self.settings.seeds)
      if self.reason(pair, method) is None
    ]
    with tqdm.tqdm(runs, unit='run', disable=not self._progress) as bar:
      for pair, method, seed in bar:
        bar.set_description(f'{pair}, {method}')
        self.figures(pair, method, seed)

  def reason(self, pair: str, method: str) -> str | None:
    """Why a pair cannot have a method; None if it can."""
    if method == 'self' and self.settings.tuning.augmented:
      return 'self: augmented images differ from those it has seen alone'
    try:
      METHODS[method].make(self._setting(pair))
    except InputError as error:
      return str(error)
    return None

  def network(self, name: str, subclasses: int = 1) -> Classifier:
    """A network of `KNOWN`, with so many logits a class."""
    return self._networks(name, subclasses)

  def teacher(self, name: str, subclasses: int = 1) -> Teacher:
    """A network of `KNOWN`, trained now unless that was done before."""
    return self._teachers(name, subclasses)

  def figures(self, pair: str, method: str, seed: int) -> Figures:
    """What a student reached, trained now unless that was done before.

    Args:
      pair: `teacher:student`.
      method: of `METHODS`.
      seed: of the student.

    Returns:
      'accuracy', 'agreement', 'shared_errors' in percent,
      'divergence' in nats, on the test images.
    """
    key = f'{pair}.{method}'.replace(':', '-').replace(' ', '_')
    return self._store.get(
      key, seed, lambda: self._judge(pair, self._taught(pair, method, seed))
    )

  def teacher_figures(self, name: str, subclasses: int = 1) -> Figures:
    """Accuracy of a teacher, in percent, and its size.

    Args:
      name: of the teacher.
      subclasses: logits a class.

    Returns:
      'accuracy', 'params', 'macs'.
    """
    teacher = self.teacher(name, subclasses)
    judged = audit.classify(
      self._teacher_answers(name, subclasses), self.splits.test.labels
    )
    return {
      'accuracy': 100 * judged.top1,
      'params': distillation_networks.parameters(teacher),
      'macs': teacher.network.cost(teacher.variables).macs,
    }

  def student_cost(self, name: str) -> tuple[int, int]:
    """Parameters, and multiply-adds of an image."""
    network = self.network(name)
    cost = network.cost(jax.eval_shape(network.init, jax.random.key(0)))
    return cost.parameters, cost.macs

  def _make_network(self, name, subclasses):
    train = self.splits.train
    return distillation_networks.make_network(
      name,
      image_shape=train.image_shape,
      classes=len(train.classes),
      subclasses=subclasses,
    )

  def _make_teacher(self, name, subclasses) -> Teacher:
    network = self.network(name, subclasses)
    loss, title = distill.cross_entropy, name
    if subclasses > 1:
      title = f'{name}_of_{subclasses}_subclasses'
      loss = functools.partial(
        distill.subclass_teacher_loss, owners=network.owners
      )
    path = self._folder / 'teachers' / f'{title}.safetensors'
    if path.is_file():
      variables = unpack_tree(encode.load(path).tree)
      return Teacher(network, jax.tree.map(jnp.asarray, variables))
    tuning = dataclasses.replace(
      self.settings.tuning, epochs=self.settings.teacher_epochs
    )
    found = train_classifier(
      network,
      network.init(jax.random.key(0)),
      self.splits.train,
      scaling=self._scaling,
      tuning=tuning,
      seed=0,
      loss=loss,
      progress=self._progress,
      description=f'teacher {title}',
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    encode.save(path, jax.tree.map(Dense, found.variables))
    return Teacher(network, found.variables)

  def _setting(self, pair) -> Setting:
    return _setting(
      self.settings.tuning,
      self.splits.train,
      *(
        (name, self.network(name))
        for name in distillation_networks.parse_pair(pair)
      ),
    )

  def _make_views(self, name, subclasses):
    """Of all features: a pair's methods use them one after the other."""
    return teaching.look_at_all(
      self.teacher(name, subclasses),
      self.splits.train,
      scaling=self._scaling,
      features=KNOWN[name].features,
    )

  def _make_teachings(self, pair, method):
    teacher, student = distillation_networks.parse_pair(pair)
    known = METHODS[method]
    stages = known.make(self._setting(pair))
    keep = known.teacher and not self.settings.tuning.augmented
    found = []
    shares = share_epochs(
      stages,
      self.settings.tuning.epochs,
      first=self.settings.first_epochs,
    )
    for stage, epochs in zip(stages, shares, strict=True):
      tuning = dataclasses.replace(self.settings.tuning, epochs=epochs)
      features = {
        name: (KNOWN[student].features[name], KNOWN[teacher].features[name])
        for name in stage.features
      }
      found.append(
        teaching.make_teaching(
          self.network(student, known.subclasses),
          self.splits.train,
          teacher=self.teacher(teacher, known.subclasses),
          loss=stage.loss,
          scaling=self._scaling,
          tuning=tuning,
          features=features,
          views=self._views(teacher, known.subclasses) if keep else None,
        )
      )
    return list(zip(stages, found, strict=True))

  def _taught(self, pair, method, seed) -> Teacher:
    _, student = distillation_networks.parse_pair(pair)
    network = self.network(student, METHODS[method].subclasses)
    variables, extra = student_start(network, seed), {}
    for i, (stage, one) in enumerate(self._teachings(pair, method)):
      key = jax.random.key(seed * 100 + i)
      extra, memory = begin(stage, extra, key)
      if stage.own:
        memory = {**memory, 'logits': self._own(pair, seed)}
      try:
        learned, extra = one.run(
          variables, seed=seed, extra=extra, memory=memory, progress=False
        )
      except FloatingPointError as error:
        raise InputError(
          f'{pair}, {method}, seed {seed}: the student diverged ({error}); a '
          'lower --learning_rate may help'
        ) from error
      variables = learned if stage.teaches else variables
    return Teacher(network, variables)

  def _make_own(self, pair, seed):
    """Logits of the training images, by a student trained alone."""
    # From another start, or it would be taught its own way.
    alone = self._taught(pair, ALONE, seed + self.settings.seeds)
    views = teaching.look_at_all(
      alone, self.splits.train, scaling=self._scaling
    )
    return jnp.asarray(views.logits)

  def _make_predictor(self, network):
    return evaluation.make_predictor(network.answer, scaling=self._scaling)

  def _answers(self, found: Teacher) -> np.ndarray:
    predict = self._predictor(found.network)
    return predict(found.variables, self.splits.test.images)

  def _judge(self, pair, student: Teacher) -> Figures:
    labels = self.splits.test.labels
    teacher, _ = distillation_networks.parse_pair(pair)
    answers = self._answers(student)
    if not np.isfinite(answers).all():
      raise InputError(
        f'{pair}: a student diverged; a lower --learning_rate may help'
      )
    judged = audit.classify(answers, labels)
    gap = distill.teacher_student_gap(
      answers, self._teacher_answers(teacher, 1), labels
    )
    repeated = gap.shared_errors
    return {
      'accuracy': 100 * judged.top1,
      'agreement': 100 * gap.agreement,
      'shared_errors': None if repeated is None else 100 * repeated,
      'divergence': gap.divergence,
    }

  def _answer_by_teacher(self, name, subclasses):
    return self._answers(self.teacher(name, subclasses))


@functools.cache
def _shapes(name, network):
  return distillation_networks.feature_shapes(name, network)


def _setting(tuning, train, teacher, student) -> Setting:
  return Setting(
    shapes=Shapes(student=_shapes(*student), teacher=_shapes(*teacher)),
    labels=train.labels,
    classes=len(train.classes),
    temperature=tuning.temperature,
    hard_weight=tuning.hard_weight,
  )
