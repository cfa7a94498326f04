r"""Removes channels of a face network and reports what that cost.

The channels of a trained face network that must leave together are found from
its jaxpr; those of least importance are removed for good, and the smaller
network is fine-tuned with labels alone, by the embeddings of the original, or
by evaluation-oriented distillation; at last it is quantized too. Every version
is stored in a file, read back and judged on people it never saw. By default:
SFace on the ORL photographs, 10 to 50 % of the channels (Ef-QuantFace's "sp02"
is the 20 % row). The output folder gets report.html, report.md, report.json,
one file a network, and what an interrupted run needs to continue: the same
command resumes.

  python -m experiments.face_pruning
  python -m experiments.face_pruning --sparsity=0.2 --bits=w8a8,w6a6
  python -m experiments.face_pruning --sparsity=0.2 --seeds=3 --folds=4 \
      --output_dir=results/pruned_all_people

Methods: one_shot (no fine-tuning), labels (ArcFace over the training people;
Deng et al. 2019, arXiv:1801.07698), embedding (mean squared error of normalised
embeddings to those of the original; as in QuantFace, arXiv:2206.10526), ekd
(evaluation-oriented distillation, arXiv:2206.02325, as Ef-QuantFace uses it on
pruned networks, arXiv:2402.18163), ekd_class (the same with an ArcFace head).
Groups of channels, and their importance by the size of weights: Fang et al.
2023, DepGraph, arXiv:2301.12900; by the embeddings: Molchanov et al. 2019,
arXiv:1906.10771.

Exit status: 0 done, 2 bad input (one line says what), 1 a fault of the program.
"""

from absl import flags

from compress.errors import InputError
from experiments import cli
from experiments.faces import flags as face_flags

flags.adopt_module_key_flags(face_flags)

METHODS = ('one_shot', 'labels', 'embedding', 'ekd', 'ekd_class')

_SPARSITY = flags.DEFINE_list(
  'sparsity',
  ['0.1', '0.2', '0.3', '0.4', '0.5'],
  'Fractions of the channels removed, each in (0, 1).',
)
_METHOD = flags.DEFINE_multi_enum(
  'method',
  ['one_shot', 'labels', 'embedding', 'ekd'],
  METHODS,
  'Methods; repeat the flag for several.',
)
_BITS = flags.DEFINE_list(
  'bits',
  ['w8a8'],
  'Bits of weights and activations for versions that are pruned and quantized '
  "together, at --quantized_sparsity; '' for none.",
)
_QUANTIZED_SPARSITY = flags.DEFINE_float(
  'quantized_sparsity',
  0.2,
  'Fraction of the channels removed from what --bits quantizes.',
)
_IMPORTANCE = flags.DEFINE_multi_enum(
  'importance',
  ['group', 'taylor'],
  ['group', 'taylor'],
  'What a channel is worth: group, the mean of the squared norms of the '
  'weights that leave with it; taylor, how far the embeddings of training '
  'photographs move without it, to first order. Repeat the flag for both.',
)
_IMPORTANCE_BATCHES = flags.DEFINE_integer(
  'importance_batches',
  64,
  'Batches of 16 training photographs that taylor importance is taken from.',
  1,
)
_RANDOM = flags.DEFINE_boolean(
  'random', True, 'Add the control that removes channels at random.'
)
_SCOPE = flags.DEFINE_enum(
  'scope',
  'local',
  ['local', 'global'],
  'The same share of every group, or one ranking of all channels.',
)
_MOST = flags.DEFINE_float(
  'most',
  1.0,
  'Largest fraction that may leave one group, in (0, 1]; with --scope=global, '
  '0.5 keeps every layer alive.',
)
_ROUND_TO = flags.DEFINE_integer(
  'round_to', 1, 'Survivors of a group are rounded up to a multiple of it.', 1
)
_OUTPUT_DIR = flags.DEFINE_string(
  'output_dir', 'results/face_pruning', 'Folder of the results.'
)


def main() -> None:
  """Checks the flags, then runs the study."""
  sparsities = cli.numbers(
    _SPARSITY,
    above=0,
    below=1,
    right='the fraction removed, above 0 and below 1',
  )
  bits = [face_flags.read_bits(text) for text in _BITS.value if text]
  if not 0 <= _QUANTIZED_SPARSITY.value < 1:
    raise InputError(
      f'--quantized_sparsity={_QUANTIZED_SPARSITY.value:g}: right is the '
      'fraction removed, 0 or more and below 1'
    )
  if len(set(_METHOD.value)) < len(_METHOD.value):
    raise InputError('--method: a method is given twice')
  if len(set(_IMPORTANCE.value)) < len(_IMPORTANCE.value):
    raise InputError('--importance: a measure is given twice')
  if not 0 < _MOST.value <= 1:
    raise InputError(f'--most={_MOST.value:g}: right is above 0 and at most 1')
  face_flags.check()
  # Imported late: `--help` answers at once, and flags are checked first.
  from experiments.faces.settings import Settings, Variant

  variants = [
    Variant(method, sparsity=sparsity, importance=importance)
    for importance in _IMPORTANCE.value
    for method in _METHOD.value
    for sparsity in sparsities
  ]
  if _RANDOM.value:
    variants += [
      Variant(_METHOD.value[-1], sparsity=sparsity, importance='random')
      for sparsity in sparsities
    ]
  variants += [
    Variant(
      method,
      *pair,
      sparsity=_QUANTIZED_SPARSITY.value,
      importance=importance,
    )
    for importance in _IMPORTANCE.value
    for pair in bits
    for method in _METHOD.value
  ]
  face_flags.run(
    Settings(
      study='face_pruning',
      variants=tuple(variants),
      scope=_SCOPE.value,
      most=_MOST.value,
      round_to=_ROUND_TO.value,
      importance_batches=_IMPORTANCE_BATCHES.value,
      **face_flags.settings(),
    ),
    output_dir=_OUTPUT_DIR.value,
  )


if __name__ == '__main__':
  cli.run(main)
