"""From finished runs to the report: judgement, latency, words."""

from typing import Any

import jax
import numpy as np

from compress import audit, data, graph
from experiments.faces import calibration, runtimes, tuning, words
from experiments.faces import networks as networks_lib


def compile_reference(network, rules):
  """The reference, `images -> embeddings`, compiled."""
  apply = network.apply
  if rules:
    apply = graph.rewrite(apply, graph.compose(*rules))
  function = jax.jit(apply)
  return lambda images: function(network.variables, images)


def make_report(
  *,
  settings,
  network,
  splits,
  everyone,
  teachers,
  reference,
  reference_bytes,
  runs,
  finished,
  stored,
  command,
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Judges every finished run and words the report.

  Args:
    settings: of the study.
    network: the reference.
    splits: one `Faces` a fold.
    everyone: all photographs, for the reference's own figure, or None.
    teachers: the reference's embeddings, one `Teacher` a fold.
    reference: compiled, `images -> embeddings`.
    reference_bytes: its `bytes` entry.
    runs: the runs, in order.
    finished: the `(embeddings, entry)` of each.
    stored: run -> the network in its file, compiled.
    command: the command line.

  Returns:
    The report and the curves, for `audit.write_report`.
  """
  protocol = audit.Protocol(draws=settings.bootstrap)
  traced = graph.trace(
    network.apply,
    network.variables,
    jax.ShapeDtypeStruct((1, *network.image_shape), np.float32),
  )
  cost = graph.cost(traced)
  latency = _latency(settings, network.image_shape, reference, runs, stored)
  latency, runtime_notes = runtimes.with_runtimes(
    latency, settings, network, runs
  )
  base = {
    'name': network.name,
    'method': 'reference',
    'weight_bits': 32,
    'activation_bits': 32,
    'seed': None,
    'params': cost.parameters,
    'macs': cost.macs,
    'bops': cost.bops,
    'bytes': reference_bytes,
    'latency_ms': latency['reference'],
    'execution': 'float',
    'weights': network.provenance,
  }
  judged = [
    judge(teacher.test, split.test, protocol)
    for split, teacher in zip(splits, teachers, strict=True)
  ]
  base |= judged[0]
  if len(judged) > 1:
    base['runs'] = [{**j, 'fold': i} for i, j in enumerate(judged)]
  if everyone is not None:
    base['all_people'] = _all_people(everyone, reference, protocol)
  curves = {
    network.name: curve(teachers[0].test, splits[0].test),
    'scores': {network.name: scores(teachers[0].test, splits[0].test)},
    'training': {},
  }
  variants = []
  for run, (embeddings, entry) in zip(runs, finished, strict=True):
    split, teacher = splits[run.fold], teachers[run.fold]
    training = entry.pop('training')
    name = run.variant.name
    if training['step'] and name not in curves['training']:
      curves['training'][name] = training
    curves.setdefault(name, curve(embeddings, split.test))
    variant = run.variant
    variants.append(
      {
        'name': variant.name,
        'method': variant.kind,
        'baseline': variant.method in tuning.UNTUNED,
        'weight_bits': variant.weight_bits or 32,
        'activation_bits': variant.activation_bits or 32,
        'seed': run.seed,
        'fold': run.fold,
        **entry,
        'latency_ms': latency[variant.shape],
        'speedup': {
          'theoretical': cost.macs / entry['macs'],
          'measured': base['latency_ms']['batch32']['median']
          / latency[variant.shape]['batch32']['median'],
        },
        **judge(embeddings, split.test, protocol, teacher.test),
      }
    )
  used = {run.variant.kind: run.variant for run in runs}
  report = {
    'study': settings.study,
    'title': words.TITLES[settings.study],
    'description': words.describe(settings, network),
    'command': command,
    'environment': audit.environment(),
    'dataset': _dataset(splits, settings),
    'reference': base,
    'variants': variants,
    'methods': {kind: words.method(one) for kind, one in used.items()},
    'tables': calibration.tables(settings, variants),
    'conventions': list(words.CONVENTIONS),
    'warnings': words.warnings(settings),
    'notes': [*words.notes(settings), *runtime_notes],
    'reproduce': [command],
    'settings': {
      k: v for k, v in vars(settings).items() if k not in ('variants',)
    },
  }
  return report, curves


def pair_folds(test: data.VerificationSet, *, count: int = 10) -> np.ndarray:
  """Folds for the accuracy of a set that comes without.

  The genuine pairs of each group, its impostor pairs, and those across groups
  are each dealt out evenly, in a fixed random order. As in the lists of LFW a
  person may be in several folds: groups of two people have no folds that do
  not share one.

  Args:
    test: the set.
    count: how many folds.

  Returns:
    int32 [P].
  """
  groups = np.zeros(len(test.pairs)) if test.groups is None else test.groups
  kinds = np.unique(groups, return_inverse=True)[1] * 2 + test.genuine
  folds = np.zeros(len(kinds), np.int32)
  rng = np.random.default_rng(0)
  for kind in np.unique(kinds):
    members = rng.permutation(np.flatnonzero(kinds == kind))
    folds[members] = np.arange(len(members)) % count
  return folds


def judge(embeddings, test, protocol, reference=None) -> dict[str, Any]:
  """Judges embeddings on a set, as a report's entry has it.

  Args:
    embeddings: real [N, D].
    test: the `VerificationSet`.
    protocol: `audit.Protocol`.
    reference: real [N, E], the reference's; None for the reference itself.

  Returns:
    What `audit.summarize` gives.
  """
  folds = pair_folds(test) if test.folds is None else test.folds
  return audit.summarize(
    embeddings,
    test.pairs,
    test.genuine,
    identities=test.identities,
    groups=test.groups,
    folds=folds,
    reference=reference,
    protocol=protocol,
  )


def _all_people(dataset, reference, protocol) -> dict[str, Any]:
  """The reference on every photograph, those to train on included."""
  pairs = data.all_pairs(dataset)
  embeddings = networks_lib.embed(reference, dataset.images).sum(axis=1)
  found = judge(embeddings, pairs, protocol)
  return {'people': len(dataset.people), **found}


def scores(embeddings, test) -> dict[str, Any]:
  """Cosine similarities of genuine and of impostor pairs, for the figures."""
  found = audit.cosine_scores(embeddings, test.pairs)
  return {
    'genuine': found[test.genuine],
    'impostor': found[~test.genuine],
  }


def curve(embeddings, test) -> dict[str, Any]:
  """The trade-off of errors, for the figures."""
  found = audit.cosine_scores(embeddings, test.pairs)
  return audit.det_curve(found, test.genuine)


def _latency(settings, image_shape, reference, runs, stored) -> dict[Any, Any]:
  """Milliseconds of the reference and of one twin a bit width, interleaved."""
  functions, keys = (
    {'reference': jax.jit(reference)},
    {'reference': 'reference'},
  )
  for run in runs:
    key = run.variant.shape
    if key not in keys:
      keys[key] = str(key)
      functions[keys[key]] = stored(run)
  found = runtimes.measure_in_turn(
    functions, image_shape=image_shape, smoke=settings.smoke
  )
  return {k: found[name] for k, name in keys.items()}


def _dataset(splits, settings) -> dict[str, Any]:
  test = splits[0].test
  count = None if test.identities is None else len(np.unique(test.identities))
  entry = {
    'name': test.name,
    'people': count,
    'photos': len(test.images),
    'genuine_pairs': int(test.genuine.sum()),
    'impostor_pairs': int((~test.genuine).sum()),
    'training_people': len(splits[0].train.people),
    'training_photos': len(splits[0].train.images),
    'split': splits[0].split,
  }
  if settings.folds > 1:
    entry['split'] = (
      f'{settings.folds} folds over all people; each is trained on the others. '
      f'The first: {splits[0].split}'
    )
  return entry
