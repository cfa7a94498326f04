"""The study of quantization with a teacher: which networks, for how long.

Every student of a seed begins with the same float weights and is then updated
the same number of times, by whatever method, on the same images in the same
order; a method of several stages shares the updates out among them. Every
network is written to a file, read back, and judged with quantized activations.
"""

import dataclasses
import functools
import pathlib
from typing import Any

import jax

from compress import audit, distill, encode
from compress import packed as packed_lib
from compress.packed import Dense
from experiments import folder as folder_lib
from experiments.classification import networks as networks_lib
from experiments.classification import quantization_aware_report as report_lib
from experiments.classification import training
from experiments.classification.images import load_splits
from experiments.classification.quantization_aware_schemes import (
  FLOAT,
  Scheme,
  Student,
)
from experiments.classification.quantization_aware_settings import (
  Row,
  Settings,
  make_student,
)
from experiments.classification.quantization_aware_training import Lab
from experiments.classification.quantization_aware_words import METHODS, STUDY
from experiments.classification.tuning import Tuning
from experiments.hybrids.runs import Figures, Store

LADDER = (8, 6, 4, 2)
_FLOAT_METHODS = ('labels', 'distilled')


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
    progress: show bars.

  Returns:
    The table as text, and the paths of the report.

  Raises:
    InputError: bad input, before anything is written.
  """
  settings = settings.smaller() if settings.smoke else settings
  splits = load_splits(
    settings.dataset,
    data_dir=settings.data_dir,
    data_path=settings.data_path,
    most=settings.images,
  )
  student = make_student(settings, splits)
  teacher = networks_lib.make_classifier(
    settings.teacher,
    image_shape=splits.train.image_shape,
    classes=len(splits.train.classes),
  )
  output = folder_lib.open_folder(
    output_dir, STUDY, dataclasses.asdict(settings), resume=resume
  )
  study = Study(settings, splits, student, teacher, output, progress)
  print(
    f'{STUDY}: {student.name} taught by {teacher.name} on {splits.train.name}, '
    f'{len(study.rows)} rows of {settings.seeds} seeds; results in {output}'
  )
  report = report_lib.make_report(study, study.run(), command=command)
  paths = audit.write_report(report, {}, output)
  return audit.format_table(report), paths


class Study:
  """The rows, made one by one, each kept in a file.

  Attributes:
    settings: of the study.
    splits: its images.
    student: the small network.
    teacher: the large one.
    rows: in the report's order.
    steps: updates of every student after the common start.
  """

  def __init__(self, settings, splits, student, teacher, output, progress):
    self.settings, self.splits = settings, splits
    self.student, self.teacher = student, teacher
    self.rows = [
      *map(Row, _FLOAT_METHODS),
      *(
        Row(method, bits)
        for bits in settings.bits
        for method in METHODS
        if method not in ('teacher', *_FLOAT_METHODS)
      ),
    ]
    self.steps = self._tuning(settings.epochs).steps(len(splits.train))
    self._lab = Lab(
      student,
      teacher,
      splits,
      tuning=self._tuning(settings.epochs),
      drawn_temperature=settings.drawn_temperature,
      progress=progress,
    )
    self._progress = progress
    self._store = Store(output / 'runs')
    self._folder = output / 'networks'
    self._folder.mkdir(exist_ok=True)
    self._trainer = functools.cache(self._make_trainer)
    # Rows of one seed share what they start from.
    self._dense = functools.lru_cache(maxsize=4)(self._find_dense)

  def run(self) -> dict[str, list[Figures]]:
    """Figures of every row, of every seed; `teacher` among them."""
    found: dict[str, list[Figures]] = {}
    for seed in range(self.settings.seeds):
      for row in (Row('teacher'), *self.rows):
        made = self._store.get(
          row.name, seed, lambda r=row, s=seed: self._make(r, s)
        )
        found.setdefault(row.name, []).append(made)
    return found

  def phases(self) -> tuple[distill.Phase, ...]:
    """QKD's phases."""
    return distill.study_phases(self.steps)

  def ladder(self, bits: int) -> tuple[tuple[int, int], ...]:
    """Bits and updates of each stage of iterated quantization."""
    rungs = [*(b for b in LADDER if b > bits), bits]
    marks = [round(self.steps * i / len(rungs)) for i in range(len(rungs) + 1)]
    return tuple(
      (b, end - begin)
      for b, begin, end in zip(rungs, marks, marks[1:], strict=False)
    )

  def _tuning(self, epochs) -> Tuning:
    return dataclasses.replace(self.settings.tuning, epochs=epochs)

  def _make(self, row: Row, seed: int) -> Figures:
    if row.method == 'teacher':
      return self._judge_teacher(seed)
    if row.method in _FLOAT_METHODS:
      student, scheme = self._float(row.method, seed), FLOAT
    else:
      student, scheme = self._quantized(row, seed)
    path = self._path(row.name, seed)
    size = self._lab.store(path, student, scheme)
    return {**self._lab.judge(path, scheme), 'bytes': size}

  def _quantized(self, row: Row, seed: int) -> tuple[Student, Scheme]:
    lab, method = self._lab, row.method
    scheme = Scheme('intervals', row.bits)
    styles = {'buckets': 'buckets', 'points': 'points'}
    if method in styles:
      scheme = Scheme(styles[method], row.bits)
    lessons = {'qat': 'labels', 'speq': 'speq'}
    start, teacher = self._dense('start', seed), self._dense('teacher', seed)
    train = functools.partial(lab.train, seed=seed)
    if method in ('post_training', 'distil_then_post_training'):
      which = 'labels' if method == 'post_training' else 'distilled'
      return lab.quantize(self._dense(which, seed), scheme), scheme
    if method == 'distil_then_qat':
      half = self.steps // 2
      taught = train(
        lab.quantize(start, FLOAT),
        FLOAT,
        'teacher',
        steps=half,
        teacher=teacher,
      )
      student = lab.quantize(taught.variables, scheme)
      rest = self.steps - half
      return train(student, scheme, 'labels', steps=rest, offset=half), scheme
    if method == 'iterated':
      variables, done = start, 0
      for bits, steps in self.ladder(row.bits):
        rung = Scheme('intervals', bits)
        student = train(
          lab.quantize(variables, rung),
          rung,
          'teacher',
          steps=steps,
          offset=done,
          teacher=teacher,
        )
        variables, done = student.variables, done + steps
      return student, scheme
    student = lab.quantize(start, scheme)
    if method == 'qkd':
      return self._studied(student, scheme, teacher, seed), scheme
    lesson = lessons.get(method, 'teacher')
    taught = train(
      student,
      scheme,
      lesson,
      steps=self.steps,
      teacher=teacher if lesson == 'teacher' else None,
    )
    return taught, scheme

  def _studied(self, student, scheme, teacher, seed) -> Student:
    lab = self._lab
    state = lab.begin(
      student, scheme, steps=self.steps, seed=seed, teacher=teacher
    )
    alone, together, tutored = self.phases()
    state = lab.advance(state, scheme, 'labels', until=alone.end, seed=seed)
    state = lab.study_together(state, scheme, until=together.end, seed=seed)
    state = lab.advance(state, scheme, 'teacher', until=tutored.end, seed=seed)
    return lab.end(state)

  def _float(self, method: str, seed: int) -> Student:
    lesson = 'labels' if method == 'labels' else 'teacher'
    return self._lab.train(
      self._lab.quantize(self._dense('start', seed), FLOAT),
      FLOAT,
      lesson,
      steps=self.steps,
      seed=seed,
      teacher=self._dense('teacher', seed) if lesson == 'teacher' else None,
    )

  def _find_dense(self, name: str, seed: int) -> Any:
    """Variables of a float network, from its file if there is one."""
    path = self._path(name, seed)
    if not path.is_file():
      if name in _FLOAT_METHODS:
        found = self._float(name, seed)
        self._lab.store(path, found, FLOAT)
      else:
        trainer, network = self._trainer(name)
        if name == 'teacher':
          start = network.init(jax.random.key(seed))
        else:
          start = networks_lib.student_start(network, seed)
        found = trainer.run(
          start,
          seed=seed + 1000 * (name == 'teacher'),
          progress=self._progress,
          description=f'{name}, seed {seed}',
        )
        encode.save(
          path, jax.tree.map(Dense, found.variables), {'network': network.name}
        )
    tree = packed_lib.unpack_tree(encode.load(path).tree)
    tree.pop('intervals', None)
    return tree

  def _make_trainer(self, name):
    teacher = name == 'teacher'
    settings = self.settings
    network = self.teacher if teacher else self.student
    epochs = settings.teacher_epochs if teacher else settings.start_epochs
    trainer = training.make_trainer(
      network,
      self.splits.train,
      scaling=self._lab.scaling,
      tuning=self._tuning(epochs),
    )
    return trainer, network

  def _judge_teacher(self, seed) -> Figures:
    return self._lab.judge_teacher(self._dense('teacher', seed))

  def _path(self, name, seed) -> pathlib.Path:
    return self._folder / f'{name}.{seed}.safetensors'
