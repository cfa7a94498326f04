"""How quantized students are made: ranges found, trained, stored, judged.

One step is compiled for a scheme and a lesson, and serves all seeds and all
lengths.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from compress import data, encode, graph, quantize, train
from compress import packed as packed_lib
from compress.compressor import Compressor, State
from compress.data import ImageSplits
from compress.packed import Dense
from compress.quantize import AffineSpec
from experiments.classification import evaluation, tuning
from experiments.classification import quantization_aware_lessons as lessons
from experiments.classification import (
  quantization_aware_optimizer as optimizers,
)
from experiments.classification import quantization_aware_schemes as schemes
from experiments.classification.networks import Classifier
from experiments.classification.quantization_aware_schemes import (
  FLOAT,
  Scheme,
  Student,
)
from experiments.classification.tuning import Tuning

_CALIBRATION = 512


class Lab:
  """What the runs of a study share: data, compiled programs.

  Args:
    student: the small network.
    teacher: the large one.
    splits: the images.
    tuning: of every run.
    drawn_temperature: of the cosine to the drawn precision.
    progress: show bars.
  """

  def __init__(
    self,
    student: Classifier,
    teacher: Classifier,
    splits: ImageSplits,
    *,
    tuning: Tuning,
    drawn_temperature: float,
    progress: bool,
  ):
    self.student, self.teacher, self.splits = student, teacher, splits
    self.tuning, self._progress = tuning, progress
    self.drawn_temperature = drawn_temperature
    self.scaling = data.pixel_scaling(splits.train)
    self._images = self.scaling(splits.train.images)
    shapes = jax.eval_shape(student.init, jax.random.key(0))
    image = jax.ShapeDtypeStruct((1, *student.image_shape), jnp.float32)
    traced = graph.trace(student.apply, shapes, image)
    self.activations = quantize.placed_names(traced, quantize.INPUTS)[1:]
    paths = [site.weight for site in traced.sites]
    self._edges = tuple(paths[i].removeprefix('params/') for i in (0, -1))
    # Compiled once each.
    self._step = functools.cache(self._make_step)
    self._find = functools.cache(self._make_finder)
    self._predict = functools.cache(self._make_predictor)
    self._observer = quantize.mse()
    self._observe = jax.jit(
      quantize.observe(
        student.apply,
        quantize.INPUTS,
        dict.fromkeys(self.activations, AffineSpec(bounds='unsigned')),
        self._observer,
      )
    )

  def compressor(self, scheme: Scheme) -> Compressor:
    """The method on weights of a scheme."""
    return schemes.make_compressor(scheme, edges=self._edges)

  def specs(self, scheme: Scheme) -> dict[str, AffineSpec]:
    """Activation name to spec."""
    return schemes.activation_specs(scheme, self.activations)

  def quantized(
    self, function: Callable[..., Any], scheme: Scheme, quantizer=None
  ) -> Callable[..., Any]:
    """`(variables, intervals, images) -> out`, activations quantized."""
    return quantize.quantize_activations(
      function,
      quantize.INPUTS,
      self.specs(scheme),
      quantizer=quantizer or quantize.quantize_interval,
    )

  def quantize(self, variables: Any, scheme: Scheme) -> Student:
    """A trained network with ranges of least error, without training.

    Activations' ranges are those of the network whose weights are quantized
    already, on the first training images.
    """
    method = self.compressor(scheme)
    state = method.init(variables['params'])
    if scheme.style == 'float':
      return Student(variables, state, {})
    seen = {**variables, 'params': method.apply(variables['params'], state)}
    specs = self.specs(scheme)
    empty = {name: self._observer.init(()) for name in specs}
    _, states = self._observe(seen, empty, self._images[:_CALIBRATION])
    intervals = {n: self._find(s)(states[n]) for n, s in specs.items()}
    return Student(variables, state, intervals)

  def _make_finder(self, spec):
    def find(state):
      found = self._observer.range(state, spec)
      return quantize.qparams_from_range(*found, spec).scale * spec.qmax

    return jax.jit(find)

  def train(
    self,
    student: Student,
    scheme: Scheme,
    lesson: str,
    *,
    steps: int,
    seed: int,
    offset: int = 0,
    teacher: Any = None,
  ) -> Student:
    """Trains a student for so many updates, with a cosine of its own.

    Args:
      student: where it starts.
      scheme: how it is quantized.
      lesson: 'labels', 'teacher' or 'speq'.
      steps: updates.
      seed: of the order of the images and of what is drawn.
      offset: place in the order of the images.
      teacher: the teacher's variables, for the lesson 'teacher'.

    Returns:
      The student.
    """
    run = self.begin(student, scheme, steps=steps, seed=seed, teacher=teacher)
    run = self.advance(
      run, scheme, lesson, until=steps, seed=seed, offset=offset
    )
    return self.end(run)

  def begin(self, student, scheme, *, steps, seed, teacher=None):
    """The training state of a run with a cosine of so many updates."""
    variables = student.variables
    params = {
      'params': variables['params'],
      'learned': student.state.learned,
      'intervals': student.intervals,
    }
    carried = {
      'collections': {k: v for k, v in variables.items() if k != 'params'},
      'compressor': student.state.carried,
      'teacher': {} if teacher is None else teacher,
    }
    optimizer = optimizers.student_optimizer(self.tuning, style=scheme.style)
    state = train.init_state(params, optimizer, carried, jax.random.key(seed))
    return state._replace(
      opt_state=optimizers.set_steps(state.opt_state, steps)
    )

  def advance(self, state, scheme, lesson, *, until, seed, offset=0):
    """Trains a state on, until so many updates are done in all."""
    batch_fn = tuning.make_batches(
      self.splits.train,
      self._images,
      scaling=self.scaling,
      tuning=self.tuning,
      seed=seed,
    )
    bits = f' {scheme.bits} bits' if scheme.bits else ''
    state, _ = train.fit(
      self._step(scheme, lesson),
      state,
      lambda step: batch_fn(step + offset),
      steps=until,
      log_every=max(1, until),
      progress=self._progress,
      description=f'{scheme.style}{bits}, {lesson}, seed {seed}',
    )
    return state

  def end(self, state) -> Student:
    """The student of a training state, on the host."""
    params, carried = jax.device_get((state.params, state.carried))
    params, carried = jax.tree.map(jnp.asarray, (params, carried))
    return Student(
      {'params': params['params'], **carried['collections']},
      State(params['learned'], carried['compressor']),
      params['intervals'],
    )

  def study_together(self, state, scheme, *, until, seed):
    """Trains student and teacher together: QKD's co-studying.

    Args:
      state: the student's, whose carried teacher is what the other starts from.
      scheme: how the student is quantized.
      until: updates that are then done in all.
      seed: of the order of the images.

    Returns:
      The student's state, with another teacher.
    """
    params, collections = _parted(state.carried['teacher'])
    other = optimizers.set_steps(
      optimizers.teacher_optimizer(self.tuning).init(params),
      until - int(state.step),
    )
    both = state._replace(
      params={'own': state.params, 'teacher': params},
      opt_state=(state.opt_state, other),
      carried={**state.carried, 'teacher': collections},
    )
    both = self.advance(both, scheme, 'co_study', until=until, seed=seed)
    tutor = {**both.carried['teacher'], 'params': both.params['teacher']}
    return both._replace(
      params=both.params['own'],
      opt_state=both.opt_state[0],
      carried={**both.carried, 'teacher': tutor},
    )

  def _make_step(self, scheme, lesson):
    method = self.compressor(scheme)
    optimizer = optimizers.student_optimizer(self.tuning, style=scheme.style)
    if lesson == 'co_study':
      optimizer = optimizers.pair(
        optimizer, optimizers.teacher_optimizer(self.tuning)
      )

    def follow(state, *, grads, key):
      del key
      own = state.params['own'] if lesson == 'co_study' else state.params
      grads = grads['own'] if lesson == 'co_study' else grads
      inner = State(own['learned'], state.carried['compressor'])
      inner = method.update(
        own['params'], inner, step=state.step, grads=grads['params']
      )
      carried = {**state.carried, 'compressor': inner.carried}
      return state._replace(carried=carried)

    return train.jit_step(
      train.make_step(
        lessons.make_loss(self, scheme, lesson), optimizer, after_update=follow
      ),
      train.data_mesh(jax.devices()[:1]),
    )

  def store(
    self, path: pathlib.Path, student: Student, scheme: Scheme
  ) -> dict[str, int]:
    """Writes a student to a file; bytes in memory form and on disk."""
    method, variables = self.compressor(scheme), student.variables
    tree = {
      **jax.tree.map(Dense, variables),
      'params': method.pack(variables['params'], student.state),
      'intervals': jax.tree.map(Dense, student.intervals),
    }
    metadata = {'network': self.student.name, **scheme._asdict()}
    size = encode.save(path, tree, metadata)
    return {'packed': packed_lib.tree_nbytes(tree), 'on_disk': size}

  def judge(self, path: pathlib.Path, scheme: Scheme) -> dict[str, float]:
    """Accuracies, in percent, of the student that a file holds."""
    tree = packed_lib.unpack_tree(encode.load(path).tree)
    intervals = {
      graph.path_string(place): leaf
      for place, leaf in jax.tree_util.tree_leaves_with_path(
        tree.pop('intervals', {})
      )
    }
    # Weights are unpacked, so that styles share a program.
    plain = scheme.style == 'float'
    predict = self._predict(
      FLOAT if plain else Scheme('intervals', scheme.bits)
    )
    return self._figures(predict, (tree, intervals))

  def judge_teacher(self, variables: Any) -> dict[str, float]:
    """The same of a float teacher's variables."""
    predict = evaluation.make_predictor(
      self.teacher.apply, scaling=self.scaling
    )
    return self._figures(predict, variables)

  def _figures(self, predict, variables):
    judged = evaluation.evaluate(predict, variables, self.splits.test)
    return {
      'accuracy': 100 * judged.top1,
      'cross_entropy': judged.cross_entropy,
    }

  def _make_predictor(self, scheme):
    quantized = self.quantized(self.student.apply, scheme)

    def apply(found, images):
      return quantized(*found, images)

    return evaluation.make_predictor(apply, scaling=self.scaling)


def _parted(variables):
  return variables['params'], {
    k: v for k, v in variables.items() if k != 'params'
  }
