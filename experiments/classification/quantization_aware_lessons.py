"""What quantized students learn by: labels, a teacher, themselves, together."""

from typing import Any

import jax

from compress import distill, quantize
from compress.compressor import State
from experiments.classification import quantization_aware_schemes as schemes
from experiments.classification.quantization_aware_schemes import Scheme

LESSONS = ('labels', 'teacher', 'speq', 'co_study')


def make_loss(lab: Any, scheme: Scheme, lesson: str):
  """The loss function of a lesson, for `train.make_step`.

  What is trained is {'params', 'learned', 'intervals'}; with 'co_study' that is
  'own', beside the parameters of 'teacher'. What is carried is {'collections',
  'compressor', 'teacher'}, the last the teacher's variables, or with 'co_study'
  its collections alone.

  Args:
    lab: `quantization_aware_training.Lab`.
    scheme: how the student is quantized.
    lesson: one of `LESSONS`.

  Returns:
    The loss function.
  """
  method, options = lab.compressor(scheme), lab.tuning
  learn = lab.quantized(lab.student.learn, scheme)

  def look(params, carried, images):
    """Variables, logits of the quantized student, and moved collections."""
    state = State(params['learned'], carried['compressor'])
    seen = method.apply(params['params'], state)
    variables = {'params': seen, **carried['collections']}
    return variables, *learn(variables, params['intervals'], images)

  def alone(params, carried, batch, key, *, axis_name=None):
    del key, axis_name
    _, logits, moved = look(params, carried, batch['images'])
    loss = distill.cross_entropy(logits, batch['labels'])
    return loss, ({**carried, 'collections': moved}, {})

  def taught(params, carried, batch, key, *, axis_name=None):
    del key, axis_name
    _, logits, moved = look(params, carried, batch['images'])
    loss = distill.hinton_loss(
      logits,
      lab.teacher.apply(carried['teacher'], batch['images']),
      batch['labels'],
      temperature=options.temperature,
      hard_weight=options.hard_weight,
    )
    return loss, ({**carried, 'collections': moved}, {})

  def drawn(params, carried, batch, key, *, axis_name=None):
    del axis_name
    variables, logits, moved = look(params, carried, batch['images'])
    quantizer = quantize.drawn_quantizer(high_bits=schemes.EDGE_BITS)
    again = lab.quantized(lab.student.learn, scheme, quantizer)
    parameters = {
      name: quantize.Drawn(params['intervals'][name], high)
      for name, high in quantize.draw_precision(key, lab.activations).items()
    }
    # Its statistics of the batch are not kept.
    noisy, _ = again(
      *jax.lax.stop_gradient((variables, parameters)), batch['images']
    )
    loss = distill.stochastic_precision_loss(
      logits, noisy, batch['labels'], temperature=lab.drawn_temperature
    )
    return loss, ({**carried, 'collections': moved}, {})

  def together(params, carried, batch, key, *, axis_name=None):
    del key, axis_name
    _, logits, moved = look(params['own'], carried, batch['images'])
    others, tutor = lab.teacher.learn(
      {'params': params['teacher'], **carried['teacher']}, batch['images']
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
    # Weighted as the other lessons with a teacher are.
    return hard * sum(losses), (carried, {})

  known = dict(zip(LESSONS, (alone, taught, drawn, together), strict=True))
  return known[lesson]
