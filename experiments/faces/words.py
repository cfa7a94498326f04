"""What a report of a face study says in words."""

from experiments.faces import tuning

METHODS = {
  'one_shot': {
    'summary': 'Channels are removed and nothing is trained.',
    'paper': 'Fang et al., 2023, DepGraph, arXiv:2301.12900',
    'url': 'https://arxiv.org/abs/2301.12900',
  },
  'labels': {
    'summary': 'Fine-tuned plainly: an ArcFace classifier over the training '
    'people, no teacher.',
    'paper': 'Deng et al., 2019, ArcFace, arXiv:1801.07698',
    'url': 'https://arxiv.org/abs/1801.07698',
  },
  'embedding': {
    'summary': 'Fine-tuned to give the embeddings of the original: mean '
    'squared error of normalised embeddings, no labels.',
    'paper': 'Boutros et al., 2022, QuantFace, arXiv:2206.10526',
    'url': 'https://arxiv.org/abs/2206.10526',
  },
  'post_training': {
    'summary': 'Weights and activations are rounded to the low-bit grid; '
    'activation ranges come from calibration photographs; nothing is trained.',
    'paper': 'Jacob et al., 2018, Quantization and Training of Neural Networks '
    'for Efficient Integer-Arithmetic-Only Inference, arXiv:1712.05877',
    'url': 'https://arxiv.org/abs/1712.05877',
  },
  'quantface': {
    'summary': 'The quantized network is fine-tuned to give the embeddings of '
    'the original: mean squared error of normalised embeddings, no labels.',
    'paper': 'Boutros et al., 2022, QuantFace, arXiv:2206.10526',
    'url': 'https://arxiv.org/abs/2206.10526',
  },
  'ekd': {
    'summary': 'Fine-tuned so that each pair of photographs ranks among the '
    'decision thresholds as it does for the original; identities tell which '
    'pairs are of one person, there is no classifier.',
    'paper': 'Huang et al., 2022, Evaluation-oriented Knowledge Distillation, '
    'arXiv:2206.02325, as used in Ef-QuantFace, arXiv:2402.18163',
    'url': 'https://arxiv.org/abs/2402.18163',
  },
  'ekd_class': {
    'summary': 'The same, with an ArcFace classifier over the training people '
    'beside it.',
    'paper': 'Huang et al., 2022, arXiv:2206.02325; Deng et al., 2019, '
    'ArcFace, arXiv:1801.07698',
    'url': 'https://arxiv.org/abs/1801.07698',
  },
}

CONVENTIONS = (
  'A face is described by the sum of the embeddings of its photograph and of '
  'the mirror image; two faces are compared by the cosine.',
  'MB are millions of bytes. Nominal: bits times weights, as papers count. '
  'Packed: codes packed to their bits, with scales and all that stays in '
  'floating point. On disk: the size of the file that was written, read back '
  'and judged.',
  'TAR at FAR is the largest share of genuine pairs accepted by a threshold '
  'that accepts no more than that share of impostor pairs.',
  'Intervals hold 95 %: people, not pairs, are drawn again; differences to the '
  'reference are drawn on the same people.',
  'Accuracy is that of thresholds chosen on nine tenths of the pairs and tried '
  'on the last tenth, ten times; genuine and impostor pairs weigh the same. '
  'The tenths of a set without folds of its own share people.',
  'STD over groups is the sample standard deviation; SER is the largest error '
  'divided by the smallest.',
  'What has weights and activations of 8 bits or fewer is judged in the '
  'arithmetic of integer runtimes: integer sums and biases, one float32 '
  'multiplier a channel (timed as integer). What they have no form for '
  '(asymmetric weights, as QuantFace has them) is simulated in floats. JAX '
  'runs both on floating-point units, so its latency shows no speed-up; that '
  'of the exported network stands beside it, by runtime. '
  'Bit-operations are multiply-accumulates times weight bits times activation '
  'bits.',
)

IMPORTANCE = {
  'group': 'A channel is worth the mean of the squared norms of all weights '
  'that leave with it (DepGraph, arXiv:2301.12900).',
  'taylor': 'In versions called “taylor” a channel is worth as much as the '
  'embeddings of training photographs move without it, to first order '
  '(Molchanov et al., 2019, arXiv:1906.10771).',
  'random': 'Versions called “random”, the control, lost channels at random.',
}

TITLES = {
  'face_quantization': 'What quantizing a face network cost',
  'face_pruning': 'What removing channels of a face network cost',
}


SOURCES = {
  'synthesized': 'images made from the network itself',
  'noise': 'random noise, the control',
}


def method(variant) -> dict[str, str]:
  """The entry of a variant's method in the report.

  Args:
    variant: a `settings.Variant`.

  Returns:
    Summary, paper and address.
  """
  entry = METHODS[variant.method]
  if variant.calibration == 'photographs':
    return entry
  source = SOURCES[variant.calibration]
  if variant.method in tuning.UNTUNED:
    summary = f'As {variant.method}, but its ranges come from {source}.'
  else:
    summary = (
      f'As {variant.method}, but its ranges start at those of {source}; it is '
      'then tuned on photographs as the others are.'
    )
  return {
    'summary': summary,
    'paper': 'Cai et al., 2020, ZeroQ, arXiv:2001.00281',
    'url': 'https://arxiv.org/abs/2001.00281',
  }


def describe(settings, network) -> list[str]:
  """Paragraphs that say what was done.

  Args:
    settings: of the study.
    network: the reference.

  Returns:
    Text of the paragraphs.
  """
  where = {
    'inputs': 'at the inputs of every convolution and dense layer, so that an '
    'integer engine can run the network',
    'quantface': 'after every PReLU and residual sum, as QuantFace places them',
  }[settings.placement]
  numbers = (
    f'stored with fewer bits in its weights, one scale per '
    f'{settings.granularity}, and its activations were quantized {where}'
  )
  if settings.study == 'face_pruning':
    share = {
      'local': 'the same share of every group',
      'global': 'by one ranking of all groups',
    }[settings.scope]
    done = (
      f'Channels of the trained network {network.name} were removed for good: '
      f'{share} of channels that must leave together, those of least '
      'importance first. The embedding keeps its size.'
    )
    kinds = {v.importance for v in settings.variants}
    worth = [IMPORTANCE[kind] for kind in IMPORTANCE if kind in kinds]
    done += f' {" ".join(worth)}'
    if any(v.weight_bits for v in settings.variants):
      plural = numbers.replace(' its ', ' their ')
      done += f' Versions that name bits were then {plural}.'
  else:
    done = f'The trained network {network.name} was {numbers}.'
  if any(v.method not in tuning.UNTUNED for v in settings.variants):
    some = any(v.method in tuning.UNTUNED for v in settings.variants)
    done += (
      f' {"Some" if some else "All"} versions were then fine-tuned for '
      f'{settings.steps} steps of {settings.batch} photographs.'
    )
  else:
    done += ' Nothing was trained after that.'
  return [
    done,
    'Every version was written to a file, read back, and judged on photographs '
    'of people that it was neither calibrated nor trained on: two photographs '
    'of one person should be told the same, two of different people different.',
  ]


def warnings(settings) -> list[str]:
  """What the report must not be read without.

  Args:
    settings: of the study.

  Returns:
    One text a warning.
  """
  if not settings.smoke:
    return []
  return ['A smoke run: too little of everything. The figures say nothing.']


def notes(settings) -> list[str]:
  """What a reader of the figures should know.

  Args:
    settings: of the study.

  Returns:
    One text a note.
  """
  found = []
  if settings.dataset == 'orl':
    found.append(
      'ORL: 40 people, ten grey photographs each (AT&T Laboratories '
      'Cambridge; Samaria and Harter, 1994). Few people, so the intervals are '
      'wide; photographed in one laboratory, so the task is easy.'
    )
  sources = {v.calibration for v in settings.variants}
  if sources & set(SOURCES):
    found.append(
      'Activation ranges of versions called “noise” come from '
      f'{settings.calibration} images of normal noise around the middle grey. '
      f'Those called “synthesized” have had {settings.synthesis_steps} steps '
      'of Adam from there: what enters each BatchNorm now has the mean and '
      'deviation over a batch that the network remembers from its training. '
      'No photograph was used for either.'
    )
  if settings.placement == 'inputs' and any(
    v.weight_bits for v in settings.variants
  ):
    found.append(
      'The photograph itself enters the first layer with 8 bits, its own '
      'precision, in every version.'
    )
  return found
