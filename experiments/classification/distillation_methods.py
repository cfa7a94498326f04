"""What is transferred: every loss of the benchmark, weighted as RepDistiller's.

Tian, Krishnan and Isola 2020, arXiv:1910.10699, and its code. No weight was
changed for any data set or pair. Methods that it does not have are marked so in
`METHODS` and have the shares of KD or the values of their papers.
"""

from compress import distill
from experiments.classification import distillation_answers as answers
from experiments.classification import distillation_features as features
from experiments.classification.distillation_stages import Method

ALONE, KD = 'alone', 'KD'
METHODS = {
  ALONE: Method(
    'The student, by labels alone.', '', answers.labels_alone, False
  ),
  KD: Method(
    'Soft targets of the teacher, .9, and labels, .1.',
    'Hinton, Vinyals and Dean 2015, arXiv:1503.02531',
    answers.knowledge,
  ),
  'logits': Method(
    'Squared distance of logits, .9, and labels, .1; not in the benchmark.',
    'Ba and Caruana 2014, arXiv:1312.6184',
    answers.logits,
  ),
  'noisy teacher': Method(
    'KD of logits that are disturbed by 30 % in half of the images; not in the '
    'benchmark.',
    'Sau and Balasubramanian 2016, arXiv:1610.09650',
    answers.noisy,
  ),
  'professor': Method(
    'KD of the teacher and of its answers as a trained network refines them; '
    'not in the benchmark.',
    'Bang, Lee and Shim 2021 (our reconstruction)',
    answers.professor,
  ),
  'label smoothing': Method(
    'No teacher: labels with .1 spread over all classes; not in the benchmark.',
    'Szegedy et al. 2016, arXiv:1512.00567',
    answers.without_teacher(distill.label_smoothing_loss),
    False,
  ),
  'virtual teacher': Method(
    'No teacher: one made up, right with .99, at temperature 20; not in the '
    'benchmark.',
    'Yuan et al. 2020, arXiv:1909.11723',
    answers.without_teacher(distill.virtual_teacher_loss),
    False,
  ),
  'self': Method(
    'No teacher: KD from the same network, trained alone from another start; '
    'not in the benchmark.',
    'Yuan et al. 2020, arXiv:1909.11723',
    answers.oneself,
    False,
  ),
  'subclasses': Method(
    f'KD over {answers.SUBCLASSES} logits a class, from a teacher trained to '
    'split its classes; not in the benchmark.',
    'Müller, Kornblith and Hinton 2020, arXiv:2002.03936',
    answers.subclasses,
    subclasses=answers.SUBCLASSES,
  ),
  'FitNet': Method(
    'Hints from the second stage, along with the labels.',
    'Romero et al. 2015, arXiv:1412.6550',
    features.hints,
  ),
  'FitNet, two stages': Method(
    'Hints first, then KD: the paper’s stages, the benchmark’s regressor; not '
    'in the benchmark.',
    'Romero et al. 2015, arXiv:1412.6550',
    features.hints_first,
  ),
  'AT': Method(
    'Attention maps of the three stages.',
    'Zagoruyko and Komodakis 2017, arXiv:1612.03928',
    features.attention,
  ),
  'SP': Method(
    'Similarities between the images of a batch.',
    'Tung and Mori 2019, arXiv:1907.09682',
    features.one(3000.0, 'map3', distill.similarity_loss),
  ),
  'CC': Method(
    'Correlation congruence, as simplified in the benchmark.',
    'Peng et al. 2019, arXiv:1904.01802',
    features.correlation,
  ),
  'VID': Method(
    'A Gaussian guess of the teacher’s maps, its variance learned.',
    'Ahn et al. 2019, arXiv:1904.05835',
    features.variational,
  ),
  'RKD': Method(
    'Distances and angles between the images of a batch.',
    'Park et al. 2019, arXiv:1904.05068',
    features.one(
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
    features.one(
      30000.0, 'vector', distill.probabilistic_loss, reduction='reference'
    ),
  ),
  'AB': Method(
    'First which side of zero neurons are on, then labels alone.',
    'Heo et al. 2019, arXiv:1811.03233',
    features.boundary,
  ),
  'FT': Method(
    'Factors of the teacher’s maps, from an autoencoder trained first.',
    'Kim, Park and Kwak 2018, arXiv:1802.04977',
    features.factor,
  ),
  'FSP': Method(
    'First products of the maps of consecutive stages, then labels alone; '
    'where student and teacher are equally wide.',
    'Yim et al. 2017, A Gift from Knowledge Distillation',
    features.flow,
  ),
  'NST': Method(
    'Which places the channels like, as a set.',
    'Huang and Wang 2017, arXiv:1707.01219',
    features.selectivity,
  ),
  'CRD': Method(
    'Contrasts with remembered images of other classes.',
    'Tian, Krishnan and Isola 2020, arXiv:1910.10699',
    features.contrastive(False),
  ),
  'CRD + KD': Method(
    'CRD with weight .8, labels and soft targets with 1.',
    'Tian, Krishnan and Isola 2020, arXiv:1910.10699',
    features.contrastive(True),
  ),
  'InfoNCE': Method(
    'Contrasts within the batch, CRD’s weight; not in the benchmark.',
    'van den Oord, Li and Vinyals 2018, arXiv:1807.03748',
    features.in_batch,
  ),
  'direction': Method(
    'Cosine between the last features, weight 1; not in the benchmark.',
    'Aghli and Ribeiro 2021',
    features.direction,
  ),
}
