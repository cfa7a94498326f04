"""What is transferred: every loss of the benchmark, weighted as RepDistiller's.

Tian, Krishnan and Isola 2020, arXiv:1910.10699, and its code: cross-entropy of
the labels plus a weight times the method's loss, in the reduction of that code,
on the features that it taps. No weight was changed for any data set or pair.
Methods that it does not have are marked so in `METHODS` and got one weight, not
a search. A method that a pair cannot have raises InputError in `make`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress import distill
from compress.errors import InputError

MAPS = ('map1', 'map2', 'map3')
RATE = 0.5  # factors for each of the teacher's channels
_MOST_NEGATIVES = 256


class Shapes(NamedTuple):
  """Shapes of one image's features, by the benchmark's names."""

  student: dict[str, tuple[int, ...]]
  teacher: dict[str, tuple[int, ...]]


class Setting(NamedTuple):
  """What a method is prepared for.

  Attributes:
    shapes: of the features.
    labels: int [N] of the training images.
    classes: K.
    temperature: of the teacher's soft targets.
    hard_weight: share of the labels where the soft targets have the rest.
  """

  shapes: Shapes
  labels: np.ndarray
  classes: int
  temperature: float
  hard_weight: float


def _nothing(key):
  del key
  return {}


class Stage(NamedTuple):
  """One training of a student.

  Attributes:
    loss: `(student, teacher, lesson) -> (scalar, memory)`, of two views.
    features: names that the views have.
    extra: `key ->` what the loss learns along; None for what the stage before
      has learned.
    memory: `key ->` what it carries.
    own: whether the memory gets `logits` [N, K] besides, of the training
      images, by the student as it was trained alone.
    teaches: whether the student trained is kept; else only what was learned
      along.
  """

  loss: Callable[..., Any]
  features: tuple[str, ...] = ()
  extra: Callable[[jax.Array], Any] | None = None
  memory: Callable[[jax.Array], Any] = _nothing
  own: bool = False
  teaches: bool = True


class Method(NamedTuple):
  """A way to teach.

  Attributes:
    summary: one line.
    paper: authors, year, title, identifier; '' for none.
    make: `Setting -> tuple of stages`. What a stage learned along is the extra
      of the next; all but the last are short.
    teacher: whether it needs one.
  """

  summary: str
  paper: str
  make: Callable[[Setting], Sequence[Stage]]
  teacher: bool = True


def _with_labels(weight, term):
  """Labels, and a weight times a term of the two views' features."""

  def loss(student, teacher, lesson):
    hard = distill.cross_entropy(student.logits, lesson.labels)
    value = term(student, teacher, lesson.extra)
    return hard + weight * value, lesson.memory

  return loss


def _plain(term):
  """A loss of logits and labels that remembers nothing."""

  def loss(student, teacher, lesson):
    return term(student, teacher, lesson), lesson.memory

  return loss


def _without_teacher(function):
  """A loss of the student's logits and the labels."""

  def term(student, teacher, lesson):
    del teacher
    return function(student.logits, lesson.labels)

  def make(setting):
    del setting
    return (Stage(_plain(term)),)

  return make


_labels_alone = _without_teacher(distill.cross_entropy)


def _hinton(setting, student, teacher, lesson):
  return distill.hinton_loss(
    student,
    teacher,
    lesson.labels,
    temperature=setting.temperature,
    hard_weight=setting.hard_weight,
  )


def _knowledge(setting):
  def term(student, teacher, lesson):
    return _hinton(setting, student.logits, teacher.logits, lesson)

  return (Stage(_plain(term)),)


def _logits(setting):
  share = setting.hard_weight

  def term(student, teacher, lesson):
    hard = distill.cross_entropy(student.logits, lesson.labels)
    gap = distill.logit_loss(
      student.logits, teacher.logits, reduction='reference'
    )
    return share * hard + (1 - share) * gap

  return (Stage(_plain(term)),)


def _noisy(setting):
  def term(student, teacher, lesson):
    disturbed = distill.noisy_logits(
      lesson.key, teacher.logits, deviation=0.3, share=0.5
    )
    return _hinton(setting, student.logits, disturbed, lesson)

  return (Stage(_plain(term)),)


def _oneself(setting):
  def loss(student, teacher, lesson):
    del teacher
    own = lesson.memory['logits'][lesson.indices]
    return _hinton(setting, student.logits, own, lesson), lesson.memory

  return (Stage(loss, own=True),)


def _professor(setting):
  (width,) = setting.shapes.teacher['vector']

  def extra(key):
    keys = jax.random.split(key)
    return {
      'professor': distill.init_professor(
        keys[0], features=width, classes=setting.classes
      ),
      'discriminator': distill.init_discriminator(
        keys[1], classes=setting.classes
      ),
    }

  def prepare(student, teacher, lesson):
    del student
    vector, extra = teacher.features['vector'], lesson.extra
    loss = distill.professor_loss(
      vector,
      teacher.logits,
      lesson.labels,
      **extra,
      temperature=setting.temperature,
    )
    return loss + distill.discriminator_loss(
      vector, teacher.logits, **extra, temperature=setting.temperature
    )

  def term(student, teacher, lesson):
    professor = jax.lax.stop_gradient(lesson.extra['professor'])
    refined = distill.refine(
      professor,
      teacher.features['vector'],
      teacher.logits,
      temperature=setting.temperature,
    ).logits
    hard = distill.cross_entropy(student.logits, lesson.labels)
    soft = distill.professor_student_loss(
      student.logits,
      teacher.logits,
      refined,
      temperature=setting.temperature,
      form='both',
    )
    share = setting.hard_weight
    return share * hard + (1 - share) * soft

  features = ('vector',)
  return (
    Stage(_plain(prepare), features, extra=extra, teaches=False),
    Stage(_plain(term), features),
  )


def _adapter(setting):
  def extra(key):
    shapes = setting.shapes
    return distill.init_adapter(
      key, student=shapes.student['map2'], teacher=shapes.teacher['map2']
    )

  return extra


def _hint(student, teacher, extra):
  return distill.hint_loss(
    student.features['map2'],
    teacher.features['map2'],
    extra,
    reduction='reference',
  )


def _hints(setting):
  loss = _with_labels(100.0, _hint)
  return (Stage(loss, ('map2',), extra=_adapter(setting)),)


def _hints_first(setting):
  def term(student, teacher, lesson):
    return _hint(student, teacher, lesson.extra)

  first = Stage(_plain(term), ('map2',), extra=_adapter(setting))
  return (first, *_knowledge(setting))


def _attention(setting):
  del setting

  def term(student, teacher, extra):
    del extra
    total = jnp.zeros(())
    for name in MAPS:
      ours, theirs = distill.match_places(
        student.features[name], teacher.features[name]
      )
      places = ours.shape[1] * ours.shape[2]
      gap = distill.attention_loss({name: ours}, {name: theirs})
      total += gap / places
    return total

  return (Stage(_with_labels(1000.0, term), MAPS),)


def _one(weight, feature, function, **options):
  """A loss of one feature of both networks, without anything learned."""

  def make(setting):
    del setting

    def term(student, teacher, extra):
      del extra
      pair = student.features[feature], teacher.features[feature]
      return function(*pair, **options)

    return (Stage(_with_labels(weight, term), (feature,)),)

  return make


def _correlation(setting):
  shapes = setting.shapes

  def extra(key):
    return distill.init_embeds(
      key,
      student=shapes.student['vector'][0],
      teacher=shapes.teacher['vector'][0],
    )

  def term(student, teacher, extra):
    return distill.correlation_loss(
      student.features['vector'],
      teacher.features['vector'],
      extra,
      reduction='reference',
    )

  return (Stage(_with_labels(0.02, term), ('vector',), extra=extra),)


def _variational(setting):
  def extra(key):
    keys = dict(zip(MAPS, jax.random.split(key, len(MAPS)), strict=True))
    return {
      name: distill.init_variational(
        keys[name],
        student=setting.shapes.student[name][-1],
        teacher=setting.shapes.teacher[name][-1],
      )
      for name in MAPS
    }

  def term(student, teacher, extra):
    return sum(
      distill.variational_loss(
        student.features[name],
        teacher.features[name],
        extra[name],
        reduction='reference',
      )
      for name in MAPS
    )

  return (Stage(_with_labels(1.0, term), MAPS, extra=extra),)


def _selectivity(setting):
  del setting

  def term(student, teacher, extra):
    del extra
    return sum(
      distill.selectivity_loss(student.features[name], teacher.features[name])
      for name in MAPS
    )

  return (Stage(_with_labels(50.0, term), MAPS),)


def _boundary(setting):
  names = ('before1', 'before2', 'before3')

  def extra(key):
    return distill.init_connectors(
      key,
      student=[setting.shapes.student[name] for name in names],
      teacher=[setting.shapes.teacher[name] for name in names],
    )

  def term(student, teacher, lesson):
    return distill.boundary_loss(
      [student.features[name] for name in names],
      [teacher.features[name] for name in names],
      lesson.extra,
      reduction='reference',
    )

  return (Stage(_plain(term), names, extra=extra), *_labels_alone(setting))


def _flow(setting):
  names = ('map0', *MAPS)
  widths = [[shapes[name][-1] for name in names] for shapes in setting.shapes]
  if widths[0] != widths[1]:
    raise InputError('FSP needs a student as wide as its teacher')

  def term(student, teacher, lesson):
    del lesson
    return 50.0 * distill.flow_loss(
      [student.features[name] for name in names],
      [teacher.features[name] for name in names],
      reduction='reference',
    )

  return (Stage(_plain(term), names), *_labels_alone(setting))


def _factor(setting):
  ours, theirs = (shapes['map3'][-1] for shapes in setting.shapes)

  def extra(key):
    keys = jax.random.split(key)
    return {
      'paraphraser': distill.init_paraphraser(
        keys[0], channels=theirs, rate=RATE
      ),
      'translator': distill.init_translator(
        keys[1], student=ours, teacher=theirs, rate=RATE
      ),
    }

  def prepare(student, teacher, lesson):
    del student
    return distill.reconstruction_loss(
      teacher.features['map3'], lesson.extra['paraphraser']
    )

  def term(student, teacher, extra):
    return distill.factor_loss(
      student.features['map3'],
      teacher.features['map3'],
      extra['translator'],
      extra['paraphraser'],
      reduction='reference',
    )

  features = ('map3',)
  return (
    Stage(_plain(prepare), features, extra=extra, teaches=False),
    Stage(_with_labels(200.0, term), features),
  )


def _contrastive(kd):
  def make(setting):
    labels, shapes = np.asarray(setting.labels), setting.shapes
    # A third of the images, the paper's share.
    count = max(1, min(_MOST_NEGATIVES, len(labels) // 3))

    def extra(key):
      return distill.init_crd(
        key,
        student=shapes.student['vector'][0],
        teacher=shapes.teacher['vector'][0],
      )

    def memory(key):
      return distill.init_crd_memory(key, examples=len(labels))

    def loss(student, teacher, lesson):
      negatives = distill.sample_negatives(
        lesson.key, lesson.indices, labels, count=count
      )
      value, memory = distill.crd_loss(
        student.features['vector'],
        teacher.features['vector'],
        lesson.extra,
        lesson.memory,
        lesson.indices,
        negatives,
      )
      value = 0.8 * value + distill.cross_entropy(student.logits, lesson.labels)
      if kd:
        value += distill.soft_target_loss(
          student.logits, teacher.logits, temperature=setting.temperature
        )
      return value, memory

    return (Stage(loss, ('vector',), extra=extra, memory=memory),)

  return make


def _in_batch(setting):
  shapes = setting.shapes

  def extra(key):
    return distill.init_crd(
      key,
      student=shapes.student['vector'][0],
      teacher=shapes.teacher['vector'][0],
    )

  def term(student, teacher, extra):
    return distill.info_nce_loss(
      student.features['vector'], teacher.features['vector'], extra
    )

  return (Stage(_with_labels(0.8, term), ('vector',), extra=extra),)


def _direction(setting):
  shapes = setting.shapes

  def extra(key):
    return distill.init_projection(
      key,
      student=shapes.student['vector'][0],
      teacher=shapes.teacher['vector'][0],
    )

  def term(student, teacher, extra):
    return distill.cosine_feature_loss(
      student.features['vector'],
      teacher.features['vector'],
      projection=extra,
    )

  return (Stage(_with_labels(1.0, term), ('vector',), extra=extra),)


ALONE, KD = 'alone', 'KD'
METHODS = {
  ALONE: Method('The student, by labels alone.', '', _labels_alone, False),
  KD: Method(
    'Soft targets of the teacher, .9, and labels, .1.',
    'Hinton, Vinyals and Dean 2015, arXiv:1503.02531',
    _knowledge,
  ),
  'logits': Method(
    'Squared distance of logits, .9, and labels, .1.',
    'Ba and Caruana 2014, arXiv:1312.6184',
    _logits,
  ),
  'noisy teacher': Method(
    'KD of logits that are disturbed by 30 % in half of the images.',
    'Sau and Balasubramanian 2016, arXiv:1610.09650',
    _noisy,
  ),
  'professor': Method(
    'KD of the teacher and of its answers as a trained network refines them.',
    'Bang, Lee and Shim 2021 (our reconstruction)',
    _professor,
  ),
  'label smoothing': Method(
    'No teacher: labels with .1 spread over all classes.',
    'Szegedy et al. 2016, arXiv:1512.00567',
    _without_teacher(distill.label_smoothing_loss),
    False,
  ),
  'virtual teacher': Method(
    'No teacher: one made up, right with .99.',
    'Yuan et al. 2020, arXiv:1909.11723',
    _without_teacher(distill.virtual_teacher_loss),
    False,
  ),
  'self': Method(
    'No teacher: KD from the student as it was trained alone.',
    'Yuan et al. 2020, arXiv:1909.11723',
    _oneself,
    False,
  ),
  'FitNet': Method(
    'Hints from the second stage, along with the labels.',
    'Romero et al. 2015, arXiv:1412.6550',
    _hints,
  ),
  'FitNet, two stages': Method(
    'Hints first, then KD, as published.',
    'Romero et al. 2015, arXiv:1412.6550',
    _hints_first,
  ),
  'AT': Method(
    'Attention maps of the three stages.',
    'Zagoruyko and Komodakis 2017, arXiv:1612.03928',
    _attention,
  ),
  'SP': Method(
    'Similarities between the images of a batch.',
    'Tung and Mori 2019, arXiv:1907.09682',
    _one(3000.0, 'map3', distill.similarity_loss),
  ),
  'CC': Method(
    'Correlation congruence, as simplified in the benchmark.',
    'Peng et al. 2019, arXiv:1904.01802',
    _correlation,
  ),
  'VID': Method(
    'A Gaussian guess of the teacher’s maps, its variance learned.',
    'Ahn et al. 2019, arXiv:1904.05835',
    _variational,
  ),
  'RKD': Method(
    'Distances and angles between the images of a batch.',
    'Park et al. 2019, arXiv:1904.05068',
    _one(
      1.0,
      'vector',
      distill.relational_loss,
      distance_weight=25.0,
      angle_weight=50.0,
      reduction='reference',
    ),
  ),
  'PKT': Method(
    'Probabilities of being neighbours in a batch.',
    'Passalis and Tefas 2018, arXiv:1803.10837',
    _one(30000.0, 'vector', distill.probabilistic_loss, reduction='reference'),
  ),
  'AB': Method(
    'First which side of zero neurons are on, then labels alone.',
    'Heo et al. 2019, arXiv:1811.03233',
    _boundary,
  ),
  'FT': Method(
    'Factors of the teacher’s maps, from an autoencoder trained first.',
    'Kim, Park and Kwak 2018, arXiv:1802.04977',
    _factor,
  ),
  'FSP': Method(
    'First products of the maps of consecutive stages, then labels alone; '
    'where student and teacher are equally wide.',
    'Yim et al. 2017, A Gift from Knowledge Distillation',
    _flow,
  ),
  'NST': Method(
    'Which places the channels like, as a set.',
    'Huang and Wang 2017, arXiv:1707.01219',
    _selectivity,
  ),
  'CRD': Method(
    'Contrasts with remembered images of other classes.',
    'Tian, Krishnan and Isola 2020, arXiv:1910.10699',
    _contrastive(False),
  ),
  'CRD + KD': Method(
    'CRD with weight .8, labels and soft targets with 1.',
    'Tian, Krishnan and Isola 2020, arXiv:1910.10699',
    _contrastive(True),
  ),
  'InfoNCE': Method(
    'Contrasts within the batch; not in the benchmark, CRD’s weight.',
    'van den Oord, Li and Vinyals 2018, arXiv:1807.03748',
    _in_batch,
  ),
  'direction': Method(
    'Cosine between the last features; not in the benchmark, weight 1.',
    'Aghli and Ribeiro 2021',
    _direction,
  ),
}
