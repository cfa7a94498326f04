"""From a stored network to its models in other runtimes, and their report."""

import dataclasses
import os
import pathlib
from typing import Any, NamedTuple

import tqdm

from compress import audit, data, deploy, graph
from compress.errors import InputError
from experiments.deployment import report as report_lib
from experiments.deployment import workers
from experiments.faces import exported, judge, people
from experiments.faces import networks as networks_lib
from experiments.faces.exported import RUNTIMES, Stored
from experiments.faces.networks import Network


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
  options: Options,
  *,
  command: str,
  network: Network | None = None,
  test: data.VerificationSet | None = None,
) -> tuple[str, dict[str, pathlib.Path]]:
  """Writes the models, checks and measures them, and writes the report.

  Args:
    options: what to do.
    command: for the report.
    network: that the file was made from; None loads the one it names.
    test: what to check on; None loads what the options name.

  Returns:
    The table as text, and the paths of the report.

  Raises:
    InputError: bad input, before anything is written.
  """
  _check_runtimes(options.runtimes)
  metadata = exported.read_metadata(options.file)
  if network is None:
    network = networks_lib.load_network(metadata['network'], options.weights)
  stored = exported.read_stored(
    options.file,
    network,
    weight_only=options.weight_only,
    group_size=options.group_size,
  )
  if test is None:
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
    step('jax')
    run_file = exported.evaluate(stored, rules)
    embedded['jax'] = networks_lib.embed(run_file, test.images)
    for item in made:
      step(f'checking {item.runtime}')
      embedded[item.runtime] = networks_lib.embed(_open(item), test.images)
    timed = _measure(made, network.image_shape, options.threads, rounds, step)
    report, curves = report_lib.make_report(
      options=options,
      command=command,
      stored=stored,
      network=network,
      test=test,
      made=made,
      embedded=embedded,
      timed=timed,
    )
    bar.set_postfix_str('report')
    paths = audit.write_report(report, curves, output, images=test.images)
    step('done')
  lines = [audit.format_table(report), '', *report['notes']]
  return '\n'.join(lines), paths


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
