"""What the report of the deploy study says in words."""

import pathlib

METHODS = {
  'jax': {
    'summary': 'The file in JAX, as it was judged when it was made: integer '
    'sums and one multiplier a channel where weights and activations have 8 '
    'bits or fewer, else integers turned to floats before every operation.',
    'paper': 'Integer arithmetic: Jacob et al., 2018, arXiv:1712.05877',
  },
  'onnxruntime': {
    'summary': 'An ONNX model on the CPU; what is quantized runs in integers, '
    'weights alone in integers are turned to floats inside.',
    'paper': 'Integer arithmetic: Jacob et al., 2018, arXiv:1712.05877',
  },
  'stablehlo': {
    'summary': 'A program of StableHLO (jax.export) that holds the packed '
    'integers and computes as JAX does; for any batch.',
  },
}
CONVENTIONS = (
  'Every model was measured in a process of its own, all of them in turn. '
  'Threads: of one process, tied to as many processors.',
  'Memory is that of the process, less what it was before it read the model; '
  'it includes what the runtime makes of the weights, and the largest batch.',
  'On disk is the size of the model file of the runtime; in JAX, '
  'of the entropy-coded file it was made from; of the reference, 4 bytes a '
  'number.',
)


def bits(stored) -> str:
  """The bits of a stored network as tables have them."""
  weights, activations = stored.bits
  if stored.weight_only:
    return f'int{weights} weights'
  return 'float' if weights == 32 else f'w{weights}a{activations}'


def describe(stored, options) -> list[str]:
  """Paragraphs that say what was done.

  Args:
    stored: the network.
    options: of the study.
  """
  weights, activations = stored.bits
  name = pathlib.Path(options.file).name
  what = 'float weights and activations'
  if stored.weight_only:
    what = (
      f'weights of {weights} bits, one scale for {options.group_size} weights '
      'of a channel, quantized now; its activations stay float'
    )
  elif weights < 32:
    what = f'weights of {weights} and activations of {activations} bits'
  method = str(stored.metadata.get('method') or '').replace('_', ' ')
  made = f' ({method})' if method else ''
  return [
    f'The file {name}{made} of the network {stored.network.name}, with '
    f'{what}, was written as a model for '
    f'{" and ".join(options.runtimes)}. Each model was read back, run on the '
    'photographs, and measured beside the '
    'uncompressed network in the same runtime.'
  ]


def check(runtime: str, found) -> str:
  """One sentence on how a runtime agrees with JAX."""
  return (
    f'{runtime} against JAX: least cosine '
    f'{found["least_cosine"]:.6f} of the embeddings of '
    f'{found["photographs"]} photographs and their mirror images; '
    f'{found["flipped"]} of {found["pairs"]} decisions differ.'
  )


def differs(runtime: str, found) -> str:
  """The warning where a runtime does not do what was judged."""
  return (
    f'{runtime} does not give what JAX gives: cosine down to '
    f'{found["least_cosine"]:.6f}, {found["flipped"]} of {found["pairs"]} '
    'decisions differ.'
  )


def notes(options) -> list[str]:
  """What a reader of the figures should know."""
  if options.smoke:
    return ['A smoke run: too little of everything for its figures.']
  return []
