"""The study of inputs without data: what is made, taught, quantized and kept.

For every seed a teacher is trained on real images. Then inputs of every kind
are made from it; those of cGAN-KD need the real images too. From each a student
learns the teacher's answers, and on each the teacher's activation ranges are
calibrated for quantization after training. Inputs, networks and figures that
are finished are not made again.
"""

import dataclasses
import functools
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress import audit, data, encode, graph
from compress import packed as packed_lib
from compress.data import ImageSplits
from compress.errors import InputError
from compress.packed import Dense
from experiments import folder as folder_lib
from experiments.classification import (
  data_free_inputs,
  data_free_report,
  data_free_teaching,
  evaluation,
)
from experiments.classification import networks as networks_lib
from experiments.classification.data_free_inputs import Inputs
from experiments.classification.data_free_kinds import KINDS
from experiments.classification.data_free_settings import Settings
from experiments.classification.data_free_twins import Twins
from experiments.classification.images import load_splits
from experiments.classification.training import train_classifier
from experiments.hybrids.runs import Store

STUDY = 'data_free'


class Found(NamedTuple):
  """The figures of all seeds, one mapping a seed.

  Attributes:
    teacher: 'test' and 'on_disk'.
    students: who -> the same, and 'agreement'.
    twins: (kind, bits) -> as of the teacher.
    inputs: kind -> of `describe_inputs`.
  """

  teacher: list[dict[str, Any]]
  students: dict[str, list[dict[str, Any]]]
  twins: dict[tuple[str, int], list[dict[str, Any]]]
  inputs: dict[str, list[dict[str, float]]]


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
  splits = load_splits(
    settings.dataset,
    data_dir=settings.data_dir,
    data_path=settings.data_path,
    most=256 if settings.smoke else None,
  )
  study = Study(settings, splits)
  config = dataclasses.asdict(settings)
  config['making'] = settings.making._asdict()
  output = folder_lib.open_folder(output_dir, STUDY, config, resume=resume)
  print(
    f'{STUDY}: {study.teacher.name} teaches {study.student.name} on '
    f'{splits.train.name}, {settings.seeds} seeds; results in {output}'
  )
  found = study.run(output)
  pictures = {
    kind: study.pixels(study.inputs(kind, 0).images[:10], kind)
    for kind in settings.kinds
  }
  report = data_free_report.make_report(study, found, command=command)
  paths = audit.write_report(
    report,
    {},
    output,
    figures=data_free_report.figures(study, found, pictures),
  )
  tables = [audit.format_stated(table) for table in report['tables']]
  return '\n\n'.join(tables), paths


class Study:
  """What the seeds share: networks, compiled programs, files.

  Attributes:
    settings: what to do.
    splits: the images.
    teacher: the network that is trained on them.
    student: the one that is taught.
    updates: of every training.
  """

  def __init__(self, settings: Settings, splits: ImageSplits):
    """Makes the networks.

    Args:
      settings: what to do.
      splits: the images.

    Raises:
      InputError: unknown networks, or inputs that the teacher cannot give.
    """
    self.settings, self.splits = settings, splits
    self.teacher, self.student = (
      networks_lib.make_classifier(
        name,
        image_shape=splits.train.image_shape,
        classes=len(splits.train.classes),
      )
      for name in (settings.teacher, settings.student)
    )
    self._check()
    self.updates = settings.tuning.steps(len(splits.train))
    self._scaling = data.pixel_scaling(splits.train)
    self._maker = data_free_inputs.Maker(
      self.teacher, splits.train, self._scaling, settings.making
    )
    self._answers = data_free_teaching.make_answers(self.teacher.apply)
    self._predict = {
      x.name: evaluation.make_predictor(x.apply, scaling=self._scaling)
      for x in (self.teacher, self.student)
    }
    self._folder = pathlib.Path()
    self._trained = functools.lru_cache(maxsize=1)(self._load_teacher)
    self._states = functools.lru_cache(maxsize=1)(self._observe)

  def run(self, output: pathlib.Path) -> Found:
    """All seeds, one after the other.

    Args:
      output: folder of the results.

    Returns:
      The figures.
    """
    self._folder = output
    for name in ('networks', 'inputs'):
      (output / name).mkdir(exist_ok=True)
    store = Store(output / 'runs')
    found = Found([], {}, {}, {})
    for seed in range(self.settings.seeds):
      found.teacher.append(
        store.get('teacher', seed, lambda s=seed: self._make_teacher(s))
      )
      for kind in self.settings.kinds:
        figures = store.get(
          f'inputs_{kind}', seed, lambda k=kind, s=seed: self._make(k, s)
        )
        found.inputs.setdefault(kind, []).append(figures)
      for who in ('alone', 'plain', *self.settings.kinds):
        figures = store.get(
          f'student_{who}', seed, lambda w=who, s=seed: self._teach(w, s)
        )
        found.students.setdefault(who, []).append(figures)
      for kind in self.settings.kinds:
        for bits in self.settings.bits:
          figures = store.get(
            f'w{bits}a{bits}_{kind}',
            seed,
            lambda k=kind, b=bits, s=seed: self._quantize(k, b, s),
          )
          found.twins.setdefault((kind, bits), []).append(figures)
    return found

  def inputs(self, kind: str, seed: int) -> Inputs:
    """Inputs that were made, from their file."""
    path = self._folder / 'inputs' / f'{kind}.{seed}.npy'
    return Inputs(folder_lib.read_array(path), None)

  def pixels(self, images: np.ndarray, kind: str) -> np.ndarray:
    """Images as they can be shown.

    Args:
      images: float32 [N, H, W, C], scaled.
      kind: of them; what is not within the range of pixels is stretched to
        it, image by image.

    Returns:
      Uint8 [N, H, W, C].
    """
    shown = images * self._scaling.deviation + self._scaling.mean
    if not KINDS[kind].in_range:
      axes = (1, 2, 3)
      low = shown.min(axis=axes, keepdims=True)
      shown = shown - low
      shown *= 255 / np.maximum(shown.max(axis=axes, keepdims=True), 1e-9)
    return np.clip(np.rint(shown), 0, 255).astype(np.uint8)

  def _check(self):
    images, count = self.settings.making.images, len(self.splits.train)
    if 'real' in self.settings.kinds and images > count:
      raise InputError(
        f'--images={images}: {self.splits.train.name} has {count} to train on, '
        'and --inputs=real needs as many as there are of the other kinds'
      )
    image = jax.ShapeDtypeStruct((2, *self.teacher.image_shape), jnp.float32)
    shapes = jax.eval_shape(self.teacher.init, jax.random.key(0))
    if graph.batch_norms(self.teacher.apply, shapes, image):
      return
    for kind in self.settings.kinds:
      if KINDS[kind].batch_norm:
        raise InputError(
          f'--teacher={self.teacher.name} has no BatchNorm, which '
          f'--inputs={kind} needs; name the other inputs, or another teacher'
        )

  def _make_teacher(self, seed):
    trained = train_classifier(
      self.teacher,
      self.teacher.init(jax.random.key(seed)),
      self.splits.train,
      scaling=self._scaling,
      tuning=self.settings.tuning,
      seed=seed,
      description=f'teacher, seed {seed}',
    )
    return self._keep(self.teacher, trained.variables, f'teacher.{seed}')

  def _keep(self, network, variables, name):
    """Writes a network, reads it back and judges it."""
    path = self._folder / 'networks' / f'{name}.safetensors'
    size = encode.save(path, jax.tree.map(Dense, variables))
    restored = self._load(name)
    judged = evaluation.evaluate(
      self._predict[network.name], restored, self.splits.test
    )
    return {'test': judged._asdict(), 'on_disk': size}

  def _load(self, name):
    path = self._folder / 'networks' / f'{name}.safetensors'
    return packed_lib.unpack_tree(encode.load(path).tree)

  def _load_teacher(self, seed):
    return self._load(f'teacher.{seed}')

  def _make(self, kind, seed):
    variables = self._trained(seed)
    made = self._maker.make(kind, variables, seed=seed)
    folder_lib.write_array(
      self._folder / 'inputs' / f'{kind}.{seed}.npy', made.images
    )
    return data_free_inputs.describe_inputs(self.teacher, variables, made)

  @functools.cached_property
  def _pupil(self):
    return data_free_teaching.make_pupil(
      self.student, tuning=self.settings.tuning, steps=self.updates
    )

  def _teach(self, who, seed):
    """One student: alone, by plain distillation, or on inputs of a kind."""
    teacher, train = self._trained(seed), self.splits.train
    hard_weight = {'alone': 1.0, 'plain': self.settings.tuning.hard_weight}
    if who in hard_weight:
      images, labels = self._scaling(train.images), train.labels
    else:
      images = self.inputs(who, seed).images
      labels = np.zeros(len(images), np.int32)
    variables = self._pupil(
      networks_lib.student_start(self.student, seed),
      images,
      self._answers(teacher, images),
      labels,
      hard_weight=hard_weight.get(who, 0.0),
      seed=seed,
      description=f'student, {who.replace("_", " ")}, seed {seed}',
    )
    name = f'student_{who}.{seed}'
    found = self._keep(self.student, variables, name)
    test = self.splits.test.images
    ours = self._predict[self.student.name](variables, test)
    theirs = self._predict[self.teacher.name](teacher, test)
    same = ours.argmax(axis=1) == theirs.argmax(axis=1)
    return {**found, 'agreement': float(same.mean())}

  @functools.cached_property
  def _twins(self):
    return Twins(
      self.teacher,
      self._trained(0),
      bits=self.settings.bits,
      observer=self.settings.observer,
      scaling=self._scaling,
    )

  def _observe(self, kind, seed):
    images = self.inputs(kind, seed).images[: self.settings.calibration]
    return self._twins.observe(self._trained(seed), images)

  def _quantize(self, kind, bits, seed):
    name = f'w{bits}a{bits}_{kind}.{seed}.safetensors'
    return self._twins.judge(
      self._trained(seed),
      self._states(kind, seed),
      bits,
      self.splits.test,
      self._folder / 'networks' / name,
    )
