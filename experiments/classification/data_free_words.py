"""The study of inputs without data in words: kinds, papers, what came out."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from compress import audit
from experiments.classification.data_free_fakes import RHO
from experiments.classification.data_free_kinds import KINDS

_ZEROQ = 'Cai et al., 2020, ZeroQ, arXiv:2001.00281'
_ZSKD = (
  'Nayak et al., 2019, Zero-Shot Knowledge Distillation in Deep Networks, '
  'arXiv:1905.08114'
)
_HINTON = (
  'Hinton, Vinyals, Dean, 2015, Distilling the Knowledge in a Neural Network, '
  'arXiv:1503.02531'
)

TITLES = {
  'alone': 'student alone',
  'plain': 'plain distillation',
  'real': 'real images',
  'cgan_kd': 'cGAN-KD',
  'deep_inversion': 'BatchNorm and classes',
  'batch_norm': 'BatchNorm-matched',
  'class_impressions': 'class impressions',
  'data_impressions': 'data impressions',
  'soft_targets': 'soft-targeted',
  'kegnet': 'KegNet',
  'noise': 'noise',
}

METHODS: dict[str, dict[str, str]] = {
  'alone': {
    'summary': 'Control: trained on all real training images and their labels, '
    'without the teacher.'
  },
  'plain': {
    'summary': 'Control: on all real training images, by labels and the '
    'teacher’s softened answers.',
    'paper': _HINTON,
  },
  'real': {
    'summary': 'Control: real training images, as many as there are of the '
    'others, without their labels.'
  },
  'cgan_kd': {
    'summary': 'Not data-free: a conditional GAN learns from all real '
    'training images and their labels, once. Of its fakes those are taken '
    'that the density ratio in the teacher’s last features lets pass, and of '
    'these the ones that the teacher errs least on; their labels are the '
    'teacher’s answers.',
    'paper': 'Ding et al., 2021, Distilling and Transferring Knowledge via '
    'cGAN-generated Samples, arXiv:2104.03164',
  },
  'deep_inversion': {
    'summary': 'Images moved until the teacher sees a chosen class in them and '
    'its BatchNorms the statistics that they have stored, with little '
    'variation between neighbouring pixels. The gaps are those of the '
    'BatchNorm-matched, squared and of deviations; nothing is augmented.',
    'paper': 'Yin et al., 2020, Dreaming to Distill, arXiv:1912.08795',
  },
  'batch_norm': {
    'summary': 'Images moved until the batch has the statistics that the '
    'teacher’s BatchNorms have stored.',
    'paper': _ZEROQ,
  },
  'class_impressions': {
    'summary': 'Images moved until the teacher sees a chosen class in them.',
    'paper': _ZSKD,
  },
  'data_impressions': {
    'summary': 'Images moved until the teacher gives an answer drawn from a '
    'Dirichlet distribution, in which similar classes go together; at '
    'temperature 20, but taught at that of all kinds, and not augmented.',
    'paper': _ZSKD,
  },
  'soft_targets': {
    'summary': 'Features drawn from a normal distribution that the teacher’s '
    'parameters give, answers of its last layer to them, and images moved '
    'until the teacher gives these.',
    'paper': 'Wang, 2021, Data-Free Knowledge Distillation with Soft Targeted '
    'Transfer Set Synthesis, arXiv:2104.04868',
  },
  'kegnet': {
    'summary': 'Images of generators trained so that the teacher recovers the '
    'class, a decoder the code, and images of different codes differ; at one '
    'learning rate and weight for every set, which the paper has set by set.',
    'paper': 'Yoo, Cho, Kim, Kang, 2019, Knowledge Extraction with No '
    'Observable Data',
  },
  'noise': {
    'summary': 'Control: normal noise of the training images’ mean and '
    'variance.'
  },
}

CONVENTIONS = (
  'All students of a seed begin with the same weights, not those that their '
  'teacher began with: a student of its teacher’s own start learns from '
  'noise, too. They take as many updates with the same options; without '
  'labels they learn the teacher’s softened answers alone. Differences are '
  'told seed by seed.',
  'A quantized teacher has kernels with a scale a channel and inputs of layers '
  'with a range each, both in the bits of its name; the image has 8. Kernels '
  'are the same whatever it was calibrated on.',
)


def describe(study) -> list[str]:
  """Paragraphs that say what was done.

  Args:
    study: `data_free_study.Study`.

  Returns:
    Text of the paragraphs.
  """
  settings, making = study.settings, study.settings.making
  tuning = settings.tuning
  fakes = 'cgan_kd' in settings.kinds
  made = [TITLES[kind] for kind in settings.kinds if is_data_free(kind)]
  made = f' From it alone came {", ".join(made)}.' if made else ''
  generators = (
    f'; KegNet has {making.generators} generators of {making.generator_steps} '
    'steps'
    if 'kegnet' in settings.kinds
    else ''
  )
  texts = [
    f'The teacher, {study.teacher.name}, was trained on '
    f'{len(study.splits.train):,} images of {settings.dataset}. There are '
    f'{making.images} inputs of every kind.{made} The mean and the deviation '
    'of the training images’ pixels are known to all. Inputs that are '
    f'moved down a loss took {making.steps} steps of Adam at '
    f'{making.learning_rate:g} within the range of pixels, whatever the kind'
    f'{generators}. No kind had a search for its settings.',
    f'On each kind a student, {study.student.name}, learned the teacher’s '
    f'answers at temperature {tuning.temperature:g}, for {study.updates} '
    f'updates of {tuning.batch} inputs. And on '
    f'{min(settings.calibration, making.images)} inputs of each kind the '
    'ranges of the teacher’s activations were calibrated (observer '
    f'{settings.observer}), and it was quantized without training. All '
    'networks were written to files, read back, and judged on '
    f'{len(study.splits.test)} real images.',
  ]
  if fakes:
    texts.insert(
      1,
      f'{TITLES["cgan_kd"]} is not data-free: its GAN took {making.gan_steps} '
      'steps on the training images and their labels. It needs them once, and '
      'could then make any number of fakes; here there are as many as of '
      f'others. {making.burn_in} fakes of a class set the '
      f'bound of its density ratio and the cut-off that {100 * RHO:.0f} % of '
      'the rest pass. Settings that work on the digits are its defaults. The '
      'paper adds fakes to the real images; here a student sees nothing else.',
    )
  return texts


def summary(study, found) -> list[str]:
  """What the figures say, in a few sentences.

  Args:
    study: `data_free_study.Study`.
    found: `data_free_study.Found`.

  Returns:
    One paragraph of the students, one of the quantized teachers.
  """
  made = [k for k in study.settings.kinds if is_data_free(k)]
  alone, plain = (_told(found.students[k]) for k in ('alone', 'plain'))
  text = (
    f'The teacher classifies {_told(found.teacher)} % of the test images '
    f'correctly, the student alone {alone} %, by plain distillation {plain} %.'
  )
  if made:
    top = max(mean(found.students[k]) for k in made)
    best = [k for k in made if mean(found.students[k]) > top - 1e-9]
    text += (
      f' On inputs made from the teacher alone the student reaches '
      f'{_told(found.students[best[0]])} % at best '
      f'({", ".join(TITLES[k] for k in best)})'
    )
    controls = [k for k in study.settings.kinds if KINDS[k].control]
    told = [f'{_told(found.students[k])} % on {TITLES[k]}' for k in controls]
    text += f'; {" and ".join(told)}.' if told else '.'
  if 'cgan_kd' in found.students:
    text += (
      f' On fakes of a GAN that real images were needed for once '
      f'({TITLES["cgan_kd"]}) it reaches {_told(found.students["cgan_kd"])} %.'
    )
  texts = [text]
  low = min(study.settings.bits)
  kinds = {kind: found.twins[kind, low] for kind in study.settings.kinds}
  told = ', '.join(
    f'{TITLES[kind]} {_told(runs)} %'
    for kind, runs in sorted(kinds.items(), key=lambda x: -mean(x[1]))
  )
  texts.append(
    f'The teacher with {low} bits a weight and an activation, by what its '
    f'ranges were calibrated on: {told}.'
  )
  if 'real' in kinds and len(kinds) > 1:
    texts[-1] += ' Less calibration on real images, inputs of the other kinds '
    texts[-1] += f'give {_ranges(study, found)}.'
  return texts


def is_data_free(kind: str) -> bool:
  """Whether inputs are made from the teacher alone; noise is a control."""
  return not (KINDS[kind].photographs or KINDS[kind].control)


def _ranges(study, found) -> str:
  """From which to which gap to real images, a width each."""
  told = []
  for bits in study.settings.bits:
    real = mean(found.twins['real', bits])
    gaps = [
      mean(found.twins[kind, bits]) - real
      for kind in study.settings.kinds
      if kind != 'real'
    ]
    low, high = (f'{x:+.1f}'.replace('-', '−') for x in (min(gaps), max(gaps)))
    told.append(f'{low} to {high} points at {bits} bits')
  return ', '.join(told)


def notes(study, found) -> list[str]:
  """What a reader should know.

  Args:
    study: the study.
    found: its figures.

  Returns:
    One paragraph each.
  """
  texts = []
  if study.settings.smoke:
    texts.append('A smoke run: too little of everything for its figures.')
  texts.append(
    f'An image is {100 / len(study.splits.test):.2f} points of accuracy of the '
    f'{len(study.splits.test)} test images.'
  )
  if mean(found.students['alone']) >= mean(found.teacher):
    texts.append(
      'The student alone is as good as the teacher, or better: the images are '
      'easy enough for it, and plain distillation has little to win. What '
      'there is to see is what is lost without images.'
    )
  texts.append(
    'A student’s BatchNorms store the statistics of the inputs that it was '
    'taught on, which are not those of real images: part of what students '
    'lose without data is that.'
  )
  texts += _chosen(found)
  texts += _unsure(found)
  low = [
    (kind, np.mean([run['as_asked'] for run in runs]))
    for kind, runs in found.inputs.items()
    if 'as_asked' in runs[0] and not KINDS[kind].control
  ]
  low = [f'{TITLES[kind]} {share:.0f} %' for kind, share in low if share < 90]
  if low:
    texts.append(
      'Fewer than 90 % of the inputs are to the teacher what they were made '
      f'for: {", ".join(low)}. Answers that are asked for softly need not '
      'have one class on top.'
    )
  return texts


def _chosen(found) -> list[str]:
  """How the fakes that students see compare with all of them."""
  if 'cgan_kd' not in found.inputs:
    return []
  recognised, accepted = (
    np.mean([run[key] for run in found.inputs['cgan_kd']])
    for key in ('recognised', 'accepted')
  )
  return [
    f'{TITLES["cgan_kd"]} is not data-free. Of the fakes of its GAN, '
    f'before any was chosen, the teacher takes {recognised:.0f} % for the '
    f'class asked for; the density ratio lets {accepted:.0f} % pass, and the '
    f'teacher’s error {100 * RHO:.0f} % of these.'
  ]


def _unsure(found) -> list[str]:
  """Which kinds the teacher answers much less surely than real images."""
  sure = {
    kind: np.mean([run['confidence'] for run in runs])
    for kind, runs in found.inputs.items()
  }
  if 'real' not in sure:
    return []
  less = {k: x for k, x in sure.items() if x < 0.8 * sure['real']}
  if not less:
    return []
  told = ', '.join(
    f'{TITLES[kind]} {share:.0f} %' for kind, share in less.items()
  )
  text = (
    'The teacher’s answers to real images have a mean confidence of '
    f'{sure["real"]:.0f} %, to others less: {told}.'
  )
  if 'soft_targets' in less:
    text += (
      ' Soft targets are those of features drawn without regard to classes, by '
      'the moments of the last BatchNorm alone: in a residual network features '
      'are larger, and answers surer.'
    )
  return [text]


def mean(runs: Sequence[dict[str, Any]]) -> float:
  """Mean accuracy over seeds, in percent."""
  return audit.over_runs([100 * run['test']['top1'] for run in runs])['mean']


def _told(runs) -> str:
  found = audit.over_runs([100 * run['test']['top1'] for run in runs])
  spread = '' if found['std'] is None else f' ± {found["std"]:.1f}'
  return f'{found["mean"]:.1f}{spread}'
