"""From a stored network to its models in other runtimes, and their report."""

import dataclasses
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np
import tqdm

from compress import audit, data, deploy, graph
from compress import packed as packed_lib
from compress.errors import InputError
from experiments.deployment import words, workers
from experiments.faces import exported, judge, people
from experiments.faces import networks as networks_lib
from experiments.faces.exported import RUNTIMES, Stored

_LATENCY_NAMES = {'onnxruntime': 'onnxruntime', 'stablehlo': 'jax'}
_ALIKE = 0.9999
"""Cosine of two embeddings, below which a warning is due."""


@dataclasses.dataclass(frozen=True)
class Options:
  """The flags of the study; see its `--help`."""

  file: str
  runtimes: tuple[str, ...]
  weights: str | None
  weight_only: int | None
  group_size: int
  output_dir: str | None
  threads: tuple[int, ...]
  dataset: str
  data_path: str | None
  data_dir: str | None
  test_people: str
  test_set: str
  test_path: str | None
  test_images: str | None
  bootstrap: int
  fast_convolution: bool | None
  smoke: bool


class Made(NamedTuple):
  """A model in one runtime, and the uncompressed network in the same.

  Attributes:
    runtime: its name.
    path: of the compressed model.
    float_path: of the uncompressed one.
    notes: on what is not as asked.
  """

  runtime: str
  path: pathlib.Path
  float_path: pathlib.Path
  notes: list[str]


def run(
  options: Options, *, command: str
) -> tuple[str, dict[str, pathlib.Path]]:
  """Writes the models, checks and measures them, and writes the report.

  Args:
    options: what to do.
    command: for the report.

  Returns:
    The table as text, and the paths of the report.

  Raises:
    InputError: bad input, before anything is written.
  """
  _check_runtimes(options.runtimes)
  metadata = exported.read_metadata(options.file)
  network = networks_lib.load_network(metadata['network'], options.weights)
  stored = exported.read_stored(
    options.file,
    network,
    weight_only=options.weight_only,
    group_size=options.group_size,
  )
  test = _test_set(options)
  output = _output(options)
  rules = (graph.cpu_rules(enabled=options.fast_convolution),)
  rounds = {1: (3, 20), 32: (1, 5)}
  if options.smoke:
    rounds = {1: (0, 1)}
  calls = sum(1 + warmup + timed for warmup, timed in rounds.values())
  total = 2 + 2 * len(options.runtimes) + len(options.threads) * (1 + calls)
  print(f'deploy: {options.file}; results in {output}', flush=True)
  with tqdm.tqdm(total=total, unit='step', desc='deploy') as bar:

    def step(text):
      bar.update()
      bar.set_postfix_str(text)

    made = []
    for runtime in options.runtimes:
      bar.set_postfix_str(f'writing for {runtime}')
      made.append(_write(runtime, stored, network, options, output))
      step(runtime)
    bar.set_postfix_str('float32')
    reference = judge.compile_reference(network, rules)
    embedded = {'float32': networks_lib.embed(reference, test.images)}
    step('simulation')
    simulate = exported.simulation(stored, rules)
    embedded['simulation'] = networks_lib.embed(simulate, test.images)
    for item in made:
      step(f'checking {item.runtime}')
      embedded[item.runtime] = networks_lib.embed(_open(item), test.images)
    timed = _measure(made, network.image_shape, options.threads, rounds, step)
    report, curves = _report(
      options, command, stored, network, test, made, embedded, timed
    )
    bar.set_postfix_str('report')
    paths = audit.write_report(report, curves, output, images=test.images)
    step('done')
  checks = '\n'.join([*report['warnings'], *report['checks']])
  return f'{audit.format_table(report)}\n\n{checks}', paths


def _check_runtimes(runtimes) -> None:
  """Refuses a runtime that is not installed, before any work."""
  if 'onnxruntime' not in runtimes:
    return
  try:
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
  except ImportError as error:
    raise InputError(
      f'--runtime=onnxruntime needs the package {error.name}: '
      "pip install -e '.[deploy]'"
    ) from None


def _test_set(options: Options) -> data.VerificationSet:
  if options.test_set != 'people':
    return people.load_test_set(
      options.test_set, options.test_path, options.test_images
    )
  dataset = people.load_faces(
    options.dataset, options.data_path, data_dir=options.data_dir
  )
  chosen = options.test_people
  if chosen != 'all':
    chosen = '31-33' if options.smoke and chosen == '31-40' else chosen
    dataset = data.select(dataset, chosen)
  test = data.all_pairs(dataset)
  if test.genuine.all() or not test.genuine.any():
    raise InputError(
      f'--test_people={options.test_people}: needs at least two people, one '
      'of them with two photographs'
    )
  return test


def _output(options: Options) -> pathlib.Path:
  folder = pathlib.Path(options.output_dir or pathlib.Path(options.file).parent)
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise InputError(f'--output_dir={folder}: {error.strerror}') from error
  if not os.access(folder, os.W_OK):
    raise InputError(f'--output_dir={folder}: cannot be written')
  return folder


def _write(runtime, stored: Stored, network, options, output) -> Made:
  stem = pathlib.Path(options.file).stem
  if stored.weight_only:
    stem += f'_int{stored.weight_only}'
  path = output / f'{stem}{RUNTIMES[runtime]}'
  float_path = output / f'float32{RUNTIMES[runtime]}'
  whole = exported.uncompressed(network)
  if runtime == 'stablehlo':
    deploy.save_program(path, exported.to_stablehlo(stored))
    deploy.save_program(float_path, exported.to_stablehlo(whole))
    return Made(runtime, path, float_path, [])
  model, notes = exported.to_onnx(stored)
  _write_bytes(path, model.SerializeToString())
  _write_bytes(float_path, exported.to_onnx(whole)[0].SerializeToString())
  return Made(runtime, path, float_path, notes)


def _write_bytes(path: pathlib.Path, content: bytes) -> None:
  temporary = path.with_name(f'.{path.name}.{os.getpid()}')
  try:
    temporary.write_bytes(content)
    os.replace(temporary, path)
  except OSError as error:
    raise InputError(f'{path}: {error.strerror or error}') from error
  finally:
    temporary.unlink(missing_ok=True)


def _open(item: Made):
  """The model in its file, `images -> embeddings`."""
  if item.runtime == 'stablehlo':
    return deploy.compile_program(deploy.load_program(item.path))
  session = deploy.open_session(item.path)
  name = session.get_inputs()[0].name
  return lambda images: session.run(None, {name: images})[0]


def _measure(made, shape, threads, rounds, step) -> dict[str, dict[str, Any]]:
  """The `latency_ms` and `memory_bytes` entries of every runtime."""
  models = {
    (item.runtime, kind): (item.runtime, path)
    for item in made
    for kind, path in (
      ('float32', item.float_path),
      ('compressed', item.path),
    )
  }
  found: dict[str, dict[str, Any]] = {
    item.runtime: {
      key: {'float32': {}, 'compressed': {}} for key in ('latency', 'memory')
    }
    for item in made
  }
  for count in threads:
    measured = workers.measure(
      models, shape=shape, threads=count, rounds=rounds, step=step
    )
    for (runtime, kind), entry in measured.items():
      for key in ('latency', 'memory'):
        found[runtime][key][kind][f'threads{count}'] = entry[key]
  return found


def _report(options, command, stored, network, test, made, embedded, timed):
  protocol = audit.Protocol(
    draws=min(options.bootstrap, 20) if options.smoke else options.bootstrap
  )
  summed = {name: each.sum(axis=1) for name, each in embedded.items()}
  sizes = {
    item.runtime: {
      'float32': item.float_path.stat().st_size,
      'compressed': item.path.stat().st_size,
    }
    for item in made
  }
  nominal = packed_lib.tree_nominal_bytes(stored.tree)
  packed = packed_lib.tree_nbytes(stored.tree)
  bits = dict(zip(('weight_bits', 'activation_bits'), stored.bits, strict=True))
  whole = packed_lib.tree_nbytes(exported.uncompressed(network).tree)
  reference = {
    'name': network.name,
    'method': 'reference',
    'weight_bits': 32,
    'activation_bits': 32,
    'bytes': {'nominal': whole, 'packed': whole, 'on_disk': whole},
    'execution': 'float',
    'weights': network.provenance,
    **judge.judge(summed['float32'], test, protocol),
  }
  first = timed[made[0].runtime]['latency']['float32']
  reference['latency_ms'] = dict(first[list(first)[-1]])
  variants = [
    {
      'name': f'{words.kind(stored)}, simulated',
      'method': 'simulation',
      **bits,
      'bytes': {
        'nominal': nominal,
        'packed': packed,
        'on_disk': pathlib.Path(options.file).stat().st_size,
      },
      'execution': 'simulated' if stored.recipe.weight_bits else 'float',
      **judge.judge(summed['simulation'], test, protocol, summed['float32']),
    }
  ]
  checks, warnings = [], []
  for item in made:
    name = _LATENCY_NAMES[item.runtime]
    found = agreement(embedded['simulation'], embedded[item.runtime], test)
    checks.append(words.check(item.runtime, found))
    if found['least_cosine'] < _ALIKE or found['flipped']:
      warnings.append(words.differs(item.runtime, found))
    integer = stored.recipe.weight_bits and item.runtime == 'onnxruntime'
    simulated = stored.recipe.weight_bits and item.runtime == 'stablehlo'
    variants.append(
      {
        'name': f'{words.kind(stored)}, {item.runtime}',
        'method': item.runtime,
        **bits,
        'bytes': {
          'nominal': nominal,
          'packed': packed,
          'on_disk': sizes[item.runtime]['compressed'],
          'runtime': {name: sizes[item.runtime]},
        },
        'latency_ms': {name: timed[item.runtime]['latency']},
        'memory_bytes': {name: timed[item.runtime]['memory']},
        'execution': 'integer'
        if integer
        else 'simulated'
        if simulated
        else 'float',
        'against_simulation': found,
        'file': item.path.name,
        **judge.judge(summed[item.runtime], test, protocol, summed['float32']),
      }
    )
  more = ['onnx', 'onnxruntime'] if 'onnxruntime' in options.runtimes else []
  report = {
    'study': 'deploy',
    'title': 'What a compressed network does in other runtimes',
    'description': words.describe(stored, options),
    'command': command,
    'environment': audit.environment(more=more),
    'dataset': _dataset(test),
    'reference': reference,
    'variants': variants,
    'methods': {
      name: words.METHODS[name] for name in ('simulation', *options.runtimes)
    },
    'conventions': list(words.CONVENTIONS),
    'warnings': warnings,
    'checks': checks,
    'notes': [
      *checks,
      *(note for item in made for note in item.notes),
      *words.notes(options),
    ],
    'reproduce': [command],
    'settings': dataclasses.asdict(options),
  }
  curves = {
    network.name: judge.curve(summed['float32'], test),
    'scores': {network.name: judge.scores(summed['float32'], test)},
  }
  for variant, key in zip(
    variants, ('simulation', *(item.runtime for item in made)), strict=True
  ):
    curves[variant['name']] = judge.curve(summed[key], test)
  return report, curves


def agreement(simulated, deployed, test) -> dict[str, Any]:
  """How far a runtime agrees with the simulation.

  Args:
    simulated: [N, 2, D], of each photograph and its mirror image.
    deployed: the same in the runtime.
    test: the `VerificationSet`.

  Returns:
    `photographs`, `least_cosine` and `mean_cosine` of the embeddings, mirror
    images included; `pairs` and `flipped`: decisions that differ at the
    simulation's threshold.
  """
  flat = [
    x.reshape(-1, x.shape[-1]).astype(np.float64) for x in (simulated, deployed)
  ]
  cosine = (flat[0] * flat[1]).sum(1)
  cosine /= np.linalg.norm(flat[0], axis=1) * np.linalg.norm(flat[1], axis=1)
  judged = judge.judge(
    deployed.sum(axis=1),
    test,
    audit.Protocol(draws=0),
    simulated.sum(axis=1),
  )
  return {
    'photographs': len(simulated),
    'least_cosine': float(cosine.min()),
    'mean_cosine': float(cosine.mean()),
    'pairs': judged['flips']['pairs'],
    'flipped': judged['flips']['flipped'],
  }


def _dataset(test) -> dict[str, Any]:
  count = None if test.identities is None else len(np.unique(test.identities))
  return {
    'name': test.name,
    'people': count,
    'photos': len(test.images),
    'genuine_pairs': int(test.genuine.sum()),
    'impostor_pairs': int((~test.genuine).sum()),
  }
