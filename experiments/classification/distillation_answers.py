"""Distillation of answers, for the benchmark: `Setting -> stages`.

Labels have the share `hard_weight`, as in plain distillation.
"""

import jax

from compress import distill
from experiments.classification.distillation_stages import Stage, plain

SUBCLASSES = 2  # logits a class; the paper takes ten for each of two classes


def without_teacher(function):
  """A loss of the student's logits and the labels."""

  def term(student, teacher, lesson):
    del teacher
    return function(student.logits, lesson.labels)

  def make(setting):
    del setting
    return (Stage(plain(term)),)

  return make


labels_alone = without_teacher(distill.cross_entropy)


def hinton(setting, student, teacher, lesson):
  """Soft targets and labels, as the setting weighs them."""
  return distill.hinton_loss(
    student,
    teacher,
    lesson.labels,
    temperature=setting.temperature,
    hard_weight=setting.hard_weight,
  )


def knowledge(setting):
  """Plain distillation."""

  def term(student, teacher, lesson):
    return hinton(setting, student.logits, teacher.logits, lesson)

  return (Stage(plain(term)),)


def logits(setting):
  """Squared distance of logits, and labels."""
  share = setting.hard_weight

  def term(student, teacher, lesson):
    hard = distill.cross_entropy(student.logits, lesson.labels)
    gap = distill.logit_loss(
      student.logits, teacher.logits, reduction='reference'
    )
    return share * hard + (1 - share) * gap

  return (Stage(plain(term)),)


def noisy(setting):
  """Plain distillation of disturbed logits."""

  def term(student, teacher, lesson):
    disturbed = distill.noisy_logits(
      lesson.key, teacher.logits, deviation=0.3, share=0.5
    )
    return hinton(setting, student.logits, disturbed, lesson)

  return (Stage(plain(term)),)


def oneself(setting):
  """Plain distillation from the student as trained alone."""

  def loss(student, teacher, lesson):
    del teacher
    own = lesson.memory['logits'][lesson.indices]
    return hinton(setting, student.logits, own, lesson), lesson.memory

  return (Stage(loss, own=True),)


def professor(setting):
  """Bang et al.: a network that refines the teacher first."""
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
    refined = distill.refine(
      lesson.memory['professor'],
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
    Stage(plain(prepare), features, extra=extra, teaches=False),
    Stage(plain(term), features, fixed=('professor', 'discriminator')),
  )


def subclasses(setting):
  """The distribution over subclasses, of a teacher that has invented them."""
  owners = distill.even_owners(classes=setting.classes, subclasses=SUBCLASSES)

  def term(student, teacher, lesson):
    return distill.subclass_loss(
      student.logits,
      teacher.logits,
      lesson.labels,
      owners,
      temperature=setting.temperature,
      soft_weight=1 - setting.hard_weight,
    )

  return (Stage(plain(term)),)
