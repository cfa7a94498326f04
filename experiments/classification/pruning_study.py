"""The pruning benchmark: methods side by side at the same compression ratios.

ShrinkBench's contract (Blalock et al. 2020, arXiv:2003.03033): the same
pretrained weights per seed, the same fine-tuning, controls, several ratios and
seeds, accuracy before and after fine-tuning apart, both ratios. Every pair of
method and ratio is kept in a folder of its own and made once.
"""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import numpy as np
import tqdm

from compress import audit, data, graph
from compress.compressor import State
from compress.errors import InputError
from experiments import folder as folder_lib
from experiments.classification import evaluation, networks, pruning_lab
from experiments.classification.images import load_splits
from experiments.classification.pruning_choice import Choice
from experiments.classification.pruning_lab import MASKS, Lab, train_masked
from experiments.classification.pruning_methods import METHODS, Method
from experiments.classification.pruning_scores import Bench
from experiments.classification.pruning_settings import NETWORKS, Settings
from experiments.classification.tuning import Tuning


class Study:
  """One run of the benchmark.

  Attributes:
    settings: what to do.
    output: folder of the results.
    splits: images.
    network: the classifier.
    skipped: what could not be done, and why.
  """

  def __init__(self, settings: Settings, output_dir: str, *, resume: bool):
    self.settings = settings
    self.splits = load_splits(
      settings.dataset,
      data_dir=settings.data_dir,
      most=96 if settings.smoke else None,
    )
    self.network = networks.make_classifier(
      NETWORKS[settings.network],
      image_shape=self.splits.train.image_shape,
      classes=len(self.splits.train.classes),
    )
    self.scaling = data.pixel_scaling(self.splits.train)
    bench = Bench(self.network, self.splits.train, self.scaling)
    self.choice = Choice(bench, settings.ratios)
    self.output = folder_lib.open_folder(
      output_dir,
      'pruning_benchmark',
      dataclasses.asdict(settings),
      resume=resume,
    )
    self.skipped: list[str] = []

  def run(self) -> None:
    """Makes whatever is not there yet."""
    settings = self.settings
    jobs = [(m, r) for m in settings.methods for r in settings.ratios]
    waiting = [job for job in jobs if not self._entry(*job).is_file()]
    with tqdm.tqdm(total=len(jobs) + 1, unit='run', desc='benchmark') as bar:
      bar.update(len(jobs) - len(waiting))
      bar.set_postfix_str('pretraining')
      self._begin()
      bar.update()
      for name, ratio in waiting:
        bar.set_postfix_str(f'{name} {ratio:g}x')
        self._run_one(METHODS[name], ratio)
        bar.update()
      bar.set_postfix_str('latency')
      self.latency = self._latency()

  def entries(self) -> list[dict[str, Any]]:
    """Finished runs in the order of methods and ratios."""
    paths = [
      self._entry(method, ratio)
      for method in self.settings.methods
      for ratio in self.settings.ratios
    ]
    found = [folder_lib.read_json(path) for path in paths if path.is_file()]
    self.skipped = [entry['skipped'] for entry in found if 'skipped' in entry]
    return [entry for entry in found if 'skipped' not in entry]

  def dense(self) -> dict[str, Any]:
    """The entry of the network that nothing was removed from."""
    return folder_lib.read_json(
      self.output / 'networks' / 'dense' / 'entry.json'
    )

  def rates(self) -> dict[str, Any]:
    """The learning rate, and what the others gave on validation images."""
    return folder_lib.read_json(self.output / 'learning_rate.json')

  def _entry(self, method: str, ratio: float) -> pathlib.Path:
    return self._place(method, ratio) / 'entry.json'

  def _place(self, method: str, ratio: float) -> pathlib.Path:
    return self.output / 'networks' / f'{method}_{ratio:g}x'

  def _begin(self) -> None:
    """Pretrained networks, the learning rate, and the dense control."""
    settings = self.settings
    scratch = Tuning(
      epochs=settings.pretraining_epochs + settings.tuning_epochs,
      learning_rate=settings.pretraining_rate,
      batch=settings.batch,
    )
    first = dataclasses.replace(scratch, epochs=settings.pretraining_epochs)
    seeds = range(settings.seeds)
    self.choice.initial = [
      self.network.init(jax.random.key(seed)) for seed in seeds
    ]
    files = [
      self.output / 'pretrained' / f'seed{seed}.safetensors' for seed in seeds
    ]

    # Labs of one rate share their programs.
    @functools.cache
    def make_lab(rate):
      tuning = Tuning(
        epochs=settings.tuning_epochs, learning_rate=rate, batch=settings.batch
      )
      return Lab(
        self.network, self.splits, self.scaling, tuning=tuning, scratch=scratch
      )

    if not all(path.is_file() for path in files):
      lab = make_lab(settings.learning_rates[0])
      states = [MASKS.init(start['params']) for start in self.choice.initial]
      made = train_masked(lab.masked(first), self.choice.initial, states)
      for path, one in zip(files, made, strict=True):
        tree = pruning_lab.dense_tree(one.variables)
        pruning_lab.store(path, tree, {'network': settings.network})
    self.choice.trained = [pruning_lab.read(path) for path in files]
    if not (self.output / 'learning_rate.json').is_file():
      self._choose_rate(make_lab)
    self.lab = make_lab(self.rates()['chosen'])
    if not (self.output / 'networks' / 'dense' / 'entry.json').is_file():
      self._run_dense()

  def _choose_rate(self, make_lab) -> None:
    """The rate at which layer-wise magnitude does best on validation."""
    rates, found = self.settings.learning_rates, {}
    ratio = self.settings.ratios[len(self.settings.ratios) // 2]
    method = METHODS['layer_magnitude']
    states = [
      State((), {'masks': self.choice.masks(method, seed, ratio).masks})
      for seed in range(self.settings.seeds)
    ]
    for rate in rates if len(rates) > 1 else ():
      lab = make_lab(rate)
      made = train_masked(lab.masked(lab.tuning), self.choice.trained, states)
      judged = [lab.judge(lab.predict, one.compressed) for one in made]
      found[f'{rate:g}'] = 100 * float(
        np.mean([j.validation.top1 for j in judged])
      )
    best = max(rates, key=lambda rate: found.get(f'{rate:g}', 0.0))
    folder_lib.write_json(
      self.output / 'learning_rate.json',
      {'chosen': best, 'validation_accuracy': found, 'ratio': ratio},
    )

  def _run_dense(self) -> None:
    """The dense network, trained on as the pruned ones are."""
    lab = self.lab
    before = [lab.judge(lab.predict, one) for one in self.choice.trained]
    states = [MASKS.init(start['params']) for start in self.choice.trained]
    made = train_masked(lab.masked(lab.tuning), self.choice.trained, states)
    rows = []
    for seed, one in enumerate(made):
      path = self.output / 'networks' / 'dense' / f'seed{seed}.safetensors'
      tree = pruning_lab.dense_tree(one.compressed)
      size = pruning_lab.store(path, tree, {'network': self.settings.network})
      rows.append(self.choice.count(pruning_lab.read(path)) | {'bytes': size})
    self._write('dense', 'dense', None, lab.predict, rows, before, {})

  def _run_one(self, method: Method, ratio: float) -> None:
    """Prunes, trains, stores, reads back and judges a network a seed."""
    place = self._place(method.name, ratio)
    try:
      run = self._run_channels if method.channels else self._run_weights
      run(method, ratio)
    except InputError as error:
      place.mkdir(parents=True, exist_ok=True)
      text = f'{method.name} at {ratio:g}×: {error}'
      folder_lib.write_json(place / 'entry.json', {'skipped': text})

  def _run_weights(self, method: Method, ratio: float) -> None:
    lab, steps = self.lab, self.lab.budget(method)
    steps = steps.steps(len(self.splits.train))
    starts, states, compressor = [], [], MASKS
    for seed in range(self.settings.seeds):
      if method.moving is not None:
        variables = self.choice.start(method, seed)
        own = method.moving(self.choice.sparsities[ratio], steps, seed)
        compressor = own if seed == 0 else compressor
        states.append(own.init(variables['params']))
      else:
        chosen = self.choice.masks(method, seed, ratio)
        variables = chosen.variables
        states.append(State((), {'masks': chosen.masks}))
      starts.append(variables)
    before = None
    if method.moving is None or method.rewired:
      seen = [
        {**start, 'params': compressor.apply(start['params'], state)}
        for start, state in zip(starts, states, strict=True)
      ]
      before = [lab.judge(lab.predict, one) for one in seen]
    if method.moving is None:
      trainer = lab.masked(lab.budget(method))
    else:
      trainer = lab.moving(method, compressor, self.choice.sparsities[ratio])
    together = method.moving is None or method.one_program
    made = train_masked(trainer, starts, states, together=together)
    rows = []
    for seed, one in enumerate(made):
      tree = pruning_lab.dense_tree(one.variables)
      params = one.variables['params']
      tree = {**tree, 'params': compressor.pack(params, one.state)}
      path = self._place(method.name, ratio) / f'seed{seed}.safetensors'
      size = pruning_lab.store(path, tree, self._metadata(method, ratio))
      rows.append(self.choice.count(pruning_lab.read(path)) | {'bytes': size})
    self._write(method.name, None, ratio, lab.predict, rows, before, {})

  def _run_channels(self, method: Method, ratio: float) -> None:
    lab, place = self.lab, self._place(method.name, ratio)
    smaller, kept, widths = [], [], []
    for seed in range(self.settings.seeds):
      keep = self.choice.keep(method, seed, ratio)
      network, variables, shrunk = networks.shrink(
        self.network, self.choice.trained[seed], keep, verify=seed == 0
      )
      smaller.append((network, variables))
      kept.append(graph.describe_kept(shrunk.kept, shrunk.shapes))
      widths.append({k: [int(v.sum()), len(v)] for k, v in keep.items()})
    programs = [lab.program(*one) for one in smaller]
    starts = [variables for _, variables in smaller]
    before = [
      lab.judge(program.predict, start)
      for program, start in zip(programs, starts, strict=True)
    ]
    if len({program.key for program in programs}) == 1:
      made = programs[0].trainer.run_many(
        starts, seeds=list(range(len(starts))), progress=False
      )
    else:
      made = [
        program.trainer.run(start, seed=seed, progress=False)
        for seed, (program, start) in enumerate(
          zip(programs, starts, strict=True)
        )
      ]
    rows = []
    for seed, one in enumerate(made):
      path = place / f'seed{seed}.safetensors'
      metadata = self._metadata(method, ratio) | {'kept': kept[seed]}
      tree = pruning_lab.dense_tree(one.variables)
      size = pruning_lab.store(path, tree, metadata)
      cost = smaller[seed][0].cost(one.variables)
      counted = {'params': cost.parameters, 'macs': cost.macs}
      rows.append({**counted, 'bytes': size})
    extra = {
      'widths': {
        name: [float(np.mean([w[name][0] for w in widths])), pair[1]]
        for name, pair in widths[0].items()
      },
      'program': programs[0].key,
    }
    predict = [program.predict for program in programs]
    self._write(method.name, None, ratio, predict, rows, before, extra)

  def _metadata(self, method: Method, ratio: float) -> dict[str, Any]:
    return {
      'study': 'pruning_benchmark',
      'network': self.settings.network,
      'dataset': self.settings.dataset,
      'method': method.name,
      'ratio': ratio,
    }

  def _write(self, name, label, ratio, predict, rows, before, extra) -> None:
    """Judges what is in the files, and writes the entry."""
    place = self.output / 'networks' / label if label else None
    place = place or self._place(name, ratio)
    predicts = predict if isinstance(predict, list) else [predict] * len(rows)
    after = [
      self.lab.judge(one, pruning_lab.read(place / f'seed{seed}.safetensors'))
      for seed, one in enumerate(predicts)
    ]
    entry = {
      'method': name,
      'requested': ratio,
      **audit.accuracy_entry([found.test for found in after]),
      'validation_accuracy': _over([f.validation.top1 for f in after]),
      'params': float(np.mean([row['params'] for row in rows])),
      'macs': float(np.mean([row['macs'] for row in rows])),
      'bytes': {
        key: float(np.mean([row['bytes'][key] for row in rows]))
        for key in rows[0]['bytes']
      },
      'per_seed': [
        {**row, 'accuracy': 100 * found.test.top1}
        for row, found in zip(rows, after, strict=True)
      ],
      **extra,
    }
    if before is not None:
      entry['accuracy_before'] = _over([found.test.top1 for found in before])
    folder_lib.write_json(place / 'entry.json', entry)

  def _latency(self) -> dict[str, Any]:
    """Milliseconds of the dense network and of every shrunk one, in turns."""
    path = self.output / 'latency.json'
    places = {}
    for method in self.settings.methods:
      for ratio in self.settings.ratios:
        place = self._place(method, ratio)
        key = folder_lib.read_json(place / 'entry.json').get('program')
        if key:
          places.setdefault(key, place)
    found = folder_lib.read_json(path) if path.is_file() else {}
    if set(places) <= set(found):
      return found
    functions = {'dense': (self.network.apply, self.choice.trained[0])}
    for key, place in places.items():
      file = place / 'seed0.safetensors'
      functions[key] = pruning_lab.restore(self.network, file)
    options = {'warmup': 1, 'repeats': 2} if self.settings.smoke else {}
    images = self.scaling(self.splits.test.images[:256])
    found = evaluation.measure_latency(functions, images, **options)
    folder_lib.write_json(path, found)
    return found


def _over(values):
  return audit.over_runs([100 * value for value in values])
