"""Distillation of features, for the benchmark: `Setting -> stages`.

Cross-entropy of the labels plus RepDistiller's weight times the loss, in its
reduction, on the features that it taps. A loss that a pair cannot have raises
InputError.
"""

import functools

import jax
import numpy as np

from compress import distill
from compress.errors import InputError
from experiments.classification.distillation_answers import (
  knowledge,
  labels_alone,
)
from experiments.classification.distillation_stages import (
  MAPS,
  Stage,
  plain,
  with_labels,
)

RATE = 0.5  # factors for each of the teacher's channels
_MOST_NEGATIVES = 256


def _adapter(setting):
  student, teacher = (shapes['map2'] for shapes in setting.shapes)
  return functools.partial(
    distill.init_adapter, student=student, teacher=teacher
  )


def _heads(init, setting):
  """What both networks' last features are mapped by."""
  student, teacher = (shapes['vector'][0] for shapes in setting.shapes)
  return functools.partial(init, student=student, teacher=teacher)


def _hint(student, teacher, extra):
  return distill.hint_loss(
    student.features['map2'],
    teacher.features['map2'],
    extra,
    reduction='reference',
  )


def hints(setting):
  """FitNets, hints along with the labels."""
  loss = with_labels(100.0, _hint)
  return (Stage(loss, ('map2',), extra=_adapter(setting)),)


def hints_first(setting):
  """FitNets, hints first."""

  def term(student, teacher, lesson):
    return _hint(student, teacher, lesson.extra)

  first = Stage(plain(term), ('map2',), extra=_adapter(setting))
  return (first, *knowledge(setting))


def attention(setting):
  """Attention maps of the stages."""
  del setting

  def term(student, teacher, extra):
    del extra
    return distill.attention_loss(
      {name: student.features[name] for name in MAPS},
      {name: teacher.features[name] for name in MAPS},
      reduction='reference',
    )

  return (Stage(with_labels(1000.0, term), MAPS),)


def one(weight, feature, function, **options):
  """A loss of one feature of both networks, without anything learned."""

  def make(setting):
    del setting

    def term(student, teacher, extra):
      del extra
      pair = student.features[feature], teacher.features[feature]
      return function(*pair, **options)

    return (Stage(with_labels(weight, term), (feature,)),)

  return make


def correlation(setting):
  """Correlation congruence."""

  def term(student, teacher, extra):
    return distill.correlation_loss(
      student.features['vector'],
      teacher.features['vector'],
      extra,
      reduction='reference',
    )

  extra = _heads(distill.init_embeds, setting)
  return (Stage(with_labels(0.02, term), ('vector',), extra=extra),)


def variational(setting):
  """A Gaussian guess of the maps of the stages."""

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

  return (Stage(with_labels(1.0, term), MAPS, extra=extra),)


def selectivity(setting):
  """Selectivity of the neurons of the stages."""
  del setting

  def term(student, teacher, extra):
    del extra
    return sum(
      distill.selectivity_loss(student.features[name], teacher.features[name])
      for name in MAPS
    )

  return (Stage(with_labels(50.0, term), MAPS),)


def boundary(setting):
  """Activation boundaries first."""
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

  return (Stage(plain(term), names, extra=extra), *labels_alone(setting))


def flow(setting):
  """Products of consecutive maps first."""
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

  return (Stage(plain(term), names), *labels_alone(setting))


def factor(setting):
  """Factors of the last maps, their autoencoder first."""
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

  def term(student, teacher, lesson):
    factors = distill.factor_loss(
      student.features['map3'],
      teacher.features['map3'],
      lesson.extra['translator'],
      lesson.memory['paraphraser'],
      reduction='reference',
    )
    hard = distill.cross_entropy(student.logits, lesson.labels)
    return hard + 200.0 * factors

  features = ('map3',)
  return (
    Stage(plain(prepare), features, extra=extra, teaches=False),
    Stage(plain(term), features, fixed=('paraphraser',)),
  )


def contrastive(kd):
  """CRD, with soft targets or without."""

  def make(setting):
    labels = np.asarray(setting.labels)
    # A third of the images, the paper's share.
    count = max(1, min(_MOST_NEGATIVES, len(labels) // 3))

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

    extra = _heads(distill.init_crd, setting)
    return (Stage(loss, ('vector',), extra=extra, memory=memory),)

  return make


def in_batch(setting):
  """InfoNCE."""

  def term(student, teacher, extra):
    return distill.info_nce_loss(
      student.features['vector'], teacher.features['vector'], extra
    )

  extra = _heads(distill.init_crd, setting)
  return (Stage(with_labels(0.8, term), ('vector',), extra=extra),)


def direction(setting):
  """Cosine of the last features."""

  def term(student, teacher, extra):
    return distill.cosine_feature_loss(
      student.features['vector'],
      teacher.features['vector'],
      projection=extra,
    )

  extra = _heads(distill.init_projection, setting)
  return (Stage(with_labels(1.0, term), ('vector',), extra=extra),)
