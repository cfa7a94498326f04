"""The schemes of the study of the teacher gap, each as plain figures.

Figures are JSON-able: accuracies in percent, a value a seed.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress import audit, distill
from compress.data import ImageDataset
from experiments.classification.teacher_gap_lab import Lab, Model, accuracy

_ATTACKED = 500
_PGD = 10


class Ladder(NamedTuple):
  """The student by every teacher, with and without assistants.

  Attributes:
    teachers: trained on labels, the largest first.
    alone: the student, trained on labels.
    direct: the student by each teacher.
    chains: by each teacher through every size between.
    searched: by each teacher along the path that the search found.
    found: what the searches found.
    paths: every path from the largest teacher, and its student.
  """

  teachers: list[Model]
  alone: Model
  direct: list[Model]
  chains: list[Model]
  searched: list[Model]
  found: list[distill.Found]
  paths: dict[tuple[int, ...], Model]


def climb(lab: Lab) -> Ladder:
  """Trains the ladder: teachers, students, assistants."""
  widths = lab.settings.ladder
  last = len(widths) - 1

  def along(path):
    return lab.path([widths[place] for place in path])

  def distil(teacher, place):
    path = (*teacher, place)
    return path, float(along(path).validation.mean())

  found = [
    distill.search_path(distil, last + 1, teacher=(first,), first=first)
    for first in range(last)
  ]
  return Ladder(
    teachers=[along((first,)) for first in range(last)],
    alone=along((last,)),
    direct=[along((first, last)) for first in range(last)],
    chains=[along(tuple(range(first, last + 1))) for first in range(last)],
    searched=[along(one.model) for one in found],
    found=found,
    paths={path: along(path) for path in distill.all_paths(0, last)},
  )


class Others(NamedTuple):
  """The student by other schemes, all by the largest teacher or by itself.

  Attributes:
    students: name -> the network.
    ensembles: name -> its members.
  """

  students: dict[str, Model]
  ensembles: dict[str, list[Model]]


def invent(lab: Lab) -> ImageDataset:
  """The training images and those that MUNGE makes of them, in pixel space.

  Labels of invented images are those of the rows they come from, and are not
  used.
  """
  train, settings = lab.images.train, lab.settings
  found = distill.munge(
    jax.random.key(0),
    train.images.reshape(len(train), -1) / 255.0,
    swap=settings.munge_swap,
    spread=settings.munge_spread,
    passes=settings.munge_passes,
  )
  pixels = np.rint(np.clip(np.asarray(found), 0, 1) * 255).astype(np.uint8)
  pixels = pixels.reshape(-1, *train.image_shape)
  return dataclasses.replace(
    train,
    images=np.concatenate([train.images, pixels]),
    labels=np.tile(train.labels, 1 + settings.munge_passes),
  )


def transfer(lab: Lab, teacher: Model) -> tuple[np.ndarray, np.ndarray]:
  """Real and invented images, scaled, and the teacher's logits [R, M, K]."""
  images = lab.images.scaling(invent(lab).images)
  answers = [
    distill.pseudo_label(
      images,
      [lambda x, p=params: lab.ask(teacher.width, p, x)],
      batch=len(images),
    ).logits
    for params in teacher.params
  ]
  return images, np.stack(answers)


def try_others(lab: Lab, ladder: Ladder) -> Others:
  """Trains students by the other schemes."""
  width = lab.settings.student
  teacher, alone = ladder.teachers[0], ladder.alone

  def student(name, loss, answers, **options):
    return lab.model(name, width, loss=loss, teacher=answers, **options)

  def reborn(before, *, generation, key):
    del key  # The lab draws initial weights by generation.
    return student(
      f'born_again_{generation}',
      'born_again',
      before,
      generation=generation,
    )

  generations = distill.generations(
    reborn, count=lab.settings.generations, key=jax.random.key(0), first=alone
  )
  images, answers = transfer(lab, teacher)
  students = {
    'soft targets alone': student('soft', 'soft_targets', teacher),
    'MUNGE': student('munge', 'soft_targets', answers, images=images),
    **{
      f'born-again {i}': one for i, one in enumerate(generations[1:], start=1)
    },
  }
  for name, loss in (
    ('CWTM', 'confidence_weighted'),
    ('DKPP', 'permuted_predictions'),
  ):
    students[name] = student(loss, loss, alone, generation=1)
  # The control of the generations: as many students, without a teacher.
  plain = [
    student(f'alone_{generation}', 'labels', None, generation=generation)
    for generation in range(1, lab.settings.generations + 1)
  ]
  compressed = lab.ensemble(ladder.direct, lab.real)
  students['by the students’ ensemble'] = student(
    'by_ensemble', 'hinton', compressed
  )
  return Others(
    students,
    {
      'generations’ ensemble': list(generations[1:]),
      'labels’ ensemble': plain,
      'students’ ensemble': list(ladder.direct),
    },
  )


def attack(lab: Lab, plain: Model) -> dict[str, Any]:
  """Defensive distillation, and attacks with and without its mask.

  Args:
    lab: of the study.
    plain: the network to be defended, trained on labels.

  Returns:
    'plain' and 'defended' -> figure -> a value a seed: accuracy, success of
    attacks (shares of the images that were classified right), the share of
    pixels whose gradient is exactly 0; in percent.
  """
  width = plain.width
  first = lab.model('defensive_teacher', width, loss='defensive_teacher')
  defended = lab.model(
    'defensive', width, loss='defensive', teacher=first, generation=1
  )
  return {
    name: [_attacked(lab, width, params) for params in model.params]
    for name, model in (('plain', plain), ('defended', defended))
  }


def _attacked(lab, width, params) -> dict[str, float]:
  test, settings = lab.images.test, lab.settings
  images = jnp.asarray(test.images[:_ATTACKED] / np.float32(255))
  labels = jnp.asarray(test.labels[:_ATTACKED])
  scaling, network = lab.images.scaling, lab.network(width)
  scale = jnp.asarray(255 / scaling.deviation, jnp.float32)
  shift = jnp.asarray(scaling.mean / scaling.deviation, jnp.float32)
  hot, epsilon = settings.defensive_temperature, settings.epsilon

  @jax.jit
  def predict(x):
    return network.apply({'params': params}, x * scale - shift)

  def success(attacked):
    found = audit.judge_attack(predict(images), predict(attacked), labels)
    return 100 * (found.success or 0.0)

  def pgd(**options):
    return audit.pgd(
      predict,
      images,
      labels,
      epsilon=epsilon,
      step=epsilon / 4,
      steps=_PGD,
      **options,
    )

  slope = np.asarray(audit.input_gradient(predict, images, labels))
  right = predict(images).argmax(1) == labels
  return {
    'accuracy': 100 * float(right.mean()),
    'zero': 100 * float((slope == 0).mean()),
    'fgsm': success(audit.fgsm(predict, images, labels, epsilon=epsilon)),
    'pgd': success(pgd()),
    'divided': success(pgd(temperature=hot)),
    'margin': success(pgd(loss=audit.margins)),
  }


def percents(model: Model, labels: np.ndarray) -> list[float]:
  """A network's accuracies on the test images, percent, a value a seed."""
  return (100 * model.accuracy(labels)).tolist()


def ensemble_percents(lab: Lab, members: list[Model]) -> list[float]:
  """The same of the mean probability of networks."""
  test = lab.images.test
  logits = lab.ensemble(members, lab.images.scaling(test.images))
  return (100 * accuracy(logits, test.labels)).tolist()
