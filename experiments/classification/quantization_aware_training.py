"""How quantized students are made: ranges found, trained, stored, judged.

One step is compiled for a scheme and a lesson, and serves all seeds and all
lengths: the length of the learning rate's cosine is state and no constant.
First and last layer have 8 bits, the input image stays float.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from compress import compressor as compressor_lib
from compress import data, distill, encode, graph, quantize, train
from compress import packed as packed_lib
from compress.compressor import KEEP, Compressor, State
from compress.data import ImageSplits
from compress.packed import Dense
from compress.quantize import AffineSpec
from experiments.classification import evaluation, tuning
from experiments.classification.networks import Classifier
from experiments.classification.tuning import Tuning

EDGE_BITS = 8
STYLES = ('float', 'intervals', 'buckets', 'points')
LESSONS = ('labels', 'teacher', 'speq', 'co_study')
# Weights' intervals are short, and QKD's notes have them learn slowly.
_INTERVAL_RATE = 0.1
_CALIBRATION = 512


class Scheme(NamedTuple):
  """How a student is quantized.

  Attributes:
    style: of its weights, one of `STYLES`; 'float' quantizes nothing.
    bits: of weights and activations but those of the first and last layer.
  """

  style: str
  bits: int = 0


FLOAT = Scheme('float')


class Student(NamedTuple):
  """A network and its quantizers.

  Attributes:
    variables: collections; `params` as they are trained.
    state: of the scheme's compressor.
    intervals: activation name to interval, float32 [].
  """

  variables: Any
  state: State
  intervals: dict[str, jax.Array]


class Pace(NamedTuple):
  """The learning rate's place on its cosine: updates done, and of how many."""

  count: jax.Array
  steps: jax.Array


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
    self._drawn_temperature = drawn_temperature
    self.scaling = data.pixel_scaling(splits.train)
    self._images = self.scaling(splits.train.images)
    shapes = jax.eval_shape(student.init, jax.random.key(0))
    image = jax.ShapeDtypeStruct((1, *student.image_shape), jnp.float32)
    traced = graph.trace(student.apply, shapes, image)
    self.activations = quantize.placed_names(traced, quantize.INPUTS)[1:]
    paths = [site.weight for site in traced.sites]
    self._edges = tuple(paths[i].removeprefix('params/') for i in (0, -1))
    for name in ('compressor', 'step', '_finder', '_predictor'):
      setattr(self, name, functools.cache(getattr(self, name)))

  def compressor(self, scheme: Scheme) -> Compressor:
    """The method on weights of a scheme."""
    kernels = '.*kernel'

    def rules(edge, inner):
      return [*((path, edge) for path in self._edges), (kernels, inner)]

    if scheme.style == 'float':
      return compressor_lib.identity()
    if scheme.style == 'intervals':
      specs = AffineSpec(bits=EDGE_BITS), AffineSpec(bits=scheme.bits)
      return quantize.quantize_intervals(
        rules(*specs), range_fn=quantize.mse_range
      )
    even = quantize.BucketSpec
    if scheme.style == 'buckets':
      return quantize.quantize_buckets(
        rules(even(EDGE_BITS), even(scheme.bits))
      )
    points = quantize.PointSpec(2**scheme.bits)
    return compressor_lib.chain(
      quantize.learn_points(rules(KEEP, points)),
      quantize.quantize_buckets(rules(even(EDGE_BITS), KEEP)),
    )

  def specs(self, scheme: Scheme) -> dict[str, AffineSpec]:
    """Activation name to spec; the last layer's input has `EDGE_BITS`."""
    if scheme.style == 'float':
      return {}
    last = self.activations[-1]
    return {
      name: AffineSpec(
        bits=EDGE_BITS if name == last else scheme.bits, bounds='unsigned'
      )
      for name in self.activations
    }

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
    intervals = {n: self._finder(s)(states[n]) for n, s in specs.items()}
    return Student(variables, state, intervals)

  @functools.cached_property
  def _observer(self):
    return quantize.mse()

  @functools.cached_property
  def _observe(self):
    specs = dict.fromkeys(self.activations, AffineSpec(bounds='unsigned'))
    return jax.jit(
      quantize.observe(
        self.student.apply, quantize.INPUTS, specs, self._observer
      )
    )

  def _finder(self, spec):
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
      lesson: one of `LESSONS` but 'co_study'.
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
    optimizer = _optimizer(self.tuning, scheme)
    state = train.init_state(params, optimizer, carried, jax.random.key(seed))
    return state._replace(opt_state=_paced(state.opt_state, steps))

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
      self.step(scheme, lesson),
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
    other = _paced(
      _teacher_optimizer(self.tuning).init(params), until - int(state.step)
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

  def step(self, scheme: Scheme, lesson: str):
    """The compiled step of a scheme and a lesson."""
    method = self.compressor(scheme)
    optimizer = _optimizer(self.tuning, scheme)
    if lesson == 'co_study':
      optimizer = _pair(optimizer, _teacher_optimizer(self.tuning))

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
        self._loss(scheme, lesson), optimizer, after_update=follow
      ),
      train.data_mesh(jax.devices()[:1]),
    )

  def _loss(self, scheme, lesson):
    method, options = self.compressor(scheme), self.tuning
    learn = self.quantized(self.student.learn, scheme)
    again = self.quantized(
      self.student.learn, scheme, quantize.drawn_quantizer(high_bits=EDGE_BITS)
    )

    def see(params, carried):
      state = State(params['learned'], carried['compressor'])
      seen = method.apply(params['params'], state)
      return {'params': seen, **carried['collections']}

    def one(params, carried, batch, key, *, axis_name=None):
      del axis_name
      images, labels = batch['images'], batch['labels']
      variables = see(params, carried)
      logits, moved = learn(variables, params['intervals'], images)
      if lesson == 'labels':
        loss = distill.cross_entropy(logits, labels)
      elif lesson == 'teacher':
        loss = distill.hinton_loss(
          logits,
          self.teacher.apply(carried['teacher'], images),
          labels,
          temperature=options.temperature,
          hard_weight=options.hard_weight,
        )
      else:
        drawn = quantize.draw_precision(key, self.activations)
        parameters = {
          name: quantize.Drawn(params['intervals'][name], high)
          for name, high in drawn.items()
        }
        # Its statistics of the batch are not kept.
        noisy, _ = again(
          *jax.lax.stop_gradient((variables, parameters)), images
        )
        loss = distill.stochastic_precision_loss(
          logits, noisy, labels, temperature=self._drawn_temperature
        )
      return loss, ({**carried, 'collections': moved}, {})

    def both(params, carried, batch, key, *, axis_name=None):
      del key, axis_name
      images, own = batch['images'], params['own']
      variables = see(own, carried)
      logits, moved = learn(variables, own['intervals'], images)
      others, tutor = self.teacher.learn(
        {'params': params['teacher'], **carried['teacher']}, images
      )
      hard = options.hard_weight
      losses = distill.co_study_losses(
        logits,
        others,
        batch['labels'],
        temperature=options.temperature,
        soft_weight=(1 - hard) / hard,
      )
      carried = {**carried, 'collections': moved, 'teacher': tutor}
      return hard * sum(losses), (carried, {})

    return both if lesson == 'co_study' else one

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
    predict = self._predictor(
      scheme if plain else Scheme('intervals', scheme.bits)
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

  def _predictor(self, scheme):
    quantized = self.quantized(self.student.apply, scheme)

    def apply(found, images):
      return quantized(*found, images)

    return evaluation.make_predictor(apply, scaling=self.scaling)


def _parted(variables):
  return variables['params'], {
    k: v for k, v in variables.items() if k != 'params'
  }


def _pace(options: Tuning) -> optax.GradientTransformation:
  """Scales updates along half a cosine whose length is in the state."""

  def init(params):
    del params
    return Pace(jnp.int32(0), jnp.int32(1))

  def update(updates, state, params=None):
    del params
    done = state.count.astype(jnp.float32) / state.steps.astype(jnp.float32)
    share = jnp.minimum(done, 1.0)
    rate = options.learning_rate * (1 + jnp.cos(jnp.pi * share)) / 2
    scaled = jax.tree.map(lambda u: u * rate.astype(u.dtype), updates)
    return scaled, state._replace(count=state.count + 1)

  return optax.GradientTransformation(init, update)


def _paced(opt_state, steps: int):
  """The same optimizer's state, its cosine so many updates long."""
  pace = Pace(jnp.int32(0), jnp.int32(max(1, steps)))
  return (*opt_state[:-1], pace)


def _teacher_optimizer(options: Tuning) -> optax.GradientTransformation:
  return optax.chain(
    train.adam(1.0, weight_decay=options.weight_decay), _pace(options)
  )


def _optimizer(options: Tuning, scheme: Scheme) -> optax.GradientTransformation:
  """Adam; points are learned without the weights, intervals slowly."""
  fixed = scheme.style == 'points'
  rate = _INTERVAL_RATE if scheme.style == 'intervals' else 1.0
  parts = {
    'params': optax.set_to_zero()
    if fixed
    else train.adam(1.0, weight_decay=options.weight_decay),
    'learned': optax.chain(train.adam(1.0), optax.scale(rate)),
    'intervals': train.adam(1.0),
  }

  def label(params):
    return {
      name: jax.tree.map(lambda _, name=name: name, part)
      for name, part in params.items()
    }

  return optax.chain(optax.multi_transform(parts, label), _pace(options))


def _pair(own, teacher) -> optax.GradientTransformation:
  """Two optimizers, of a student and of its teacher."""

  def init(params):
    return own.init(params['own']), teacher.init(params['teacher'])

  def update(updates, state, params=None):
    first, mine = own.update(updates['own'], state[0], params['own'])
    second, other = teacher.update(
      updates['teacher'], state[1], params['teacher']
    )
    return {'own': first, 'teacher': second}, (mine, other)

  return optax.GradientTransformation(init, update)
