r"""Writes a compressed face network for other runtimes, and measures it there.

Takes a `network.safetensors` that a face study wrote and writes an ONNX model
for onnxruntime and a StableHLO program for JAX runtimes; a network whose bits
are quantized runs in integers in onnxruntime. Each model is read back and run
on people that the network never saw: embeddings and decisions against the
same file in JAX, TAR and EER, latency and memory beside the uncompressed
network in the same runtime, in turn, each in a process of its own. The output
folder (by default that of the file) gets the models, report.html, report.md
and report.json.

  python -m experiments.deploy \
      --file=results/face_quantization/networks/ekd_w8a8/network.safetensors
  python -m experiments.deploy --file=.../network.safetensors \
      --weight_only=int4 --runtime=onnxruntime --output_dir=results/deploy

Exit status: 0 done, 2 bad input (one line says what), 1 a fault of the program.
"""

import shlex
import sys

from absl import flags

from compress.errors import InputError
from experiments import cli
from experiments.faces import flags as face_flags

_SHARED = (
  'weights',
  'dataset',
  'data_path',
  'data_dir',
  'test_people',
  'test_set',
  'test_path',
  'test_images',
  'bootstrap',
  'fast_convolution',
  'smoke',
)
for _name in _SHARED:
  flags.declare_key_flag(_name)

_RUNTIMES = ('onnxruntime', 'stablehlo')

_FILE = flags.DEFINE_string(
  'file', None, 'The network.safetensors that a face study wrote.'
)
_RUNTIME = flags.DEFINE_list(
  'runtime', list(_RUNTIMES), 'Runtimes: onnxruntime, stablehlo.'
)
_WEIGHT_ONLY = flags.DEFINE_enum(
  'weight_only',
  None,
  ['int8', 'int4'],
  'For a file of floats: quantize the weights now, activations stay float.',
)
_GROUP_SIZE = flags.DEFINE_integer(
  'group_size',
  32,
  'With --weight_only: weights of a channel that share a scale; onnxruntime '
  'is fast at powers of two from 16.',
  2,
)
_THREADS = flags.DEFINE_list(
  'threads', ['1', '2'], 'Numbers of threads to measure with.'
)
_OUTPUT_DIR = flags.DEFINE_string(
  'output_dir', None, 'Folder of the results. Default: that of the file.'
)


def main() -> None:
  """Checks the flags, then runs the study."""
  if not _FILE.value:
    raise InputError(
      '--file is missing; right is the path of a network.safetensors that a '
      'face study wrote'
    )
  runtimes = tuple(_RUNTIME.value)
  for name in runtimes:
    if name not in _RUNTIMES:
      raise InputError(f'--runtime={name}: right is one of {_RUNTIMES}')
  if not runtimes or len(set(runtimes)) < len(runtimes):
    raise InputError('--runtime: right is each runtime once, at least one')
  threads = cli.numbers(
    _THREADS, above=0, below=1025, right='a whole number, 1 or more'
  )
  if any(count != int(count) for count in threads):
    raise InputError('--threads: right is a whole number, 1 or more')
  others = flags.FLAGS.get_key_flags_for_module(face_flags)
  for flag in others:
    if flag.present and flag.name not in _SHARED:
      raise InputError(f'--{flag.name}: has no meaning here; see --help')
  # Imported late: `--help` answers at once, and flags are checked first.
  from experiments.deployment import study

  shared = face_flags.settings()
  options = study.Options(
    file=_FILE.value,
    runtimes=runtimes,
    weight_only=int(_WEIGHT_ONLY.value[3:]) if _WEIGHT_ONLY.value else None,
    group_size=_GROUP_SIZE.value,
    output_dir=_OUTPUT_DIR.value,
    threads=tuple(sorted(map(int, threads))),
    **{name: shared[name] for name in _SHARED},
  )
  table, paths = study.run(
    options,
    command=shlex.join(['python', '-m', 'experiments.deploy', *sys.argv[1:]]),
  )
  print(table)
  print(f'\nreport: {paths["html"].resolve()}')


if __name__ == '__main__':
  cli.run(main)
