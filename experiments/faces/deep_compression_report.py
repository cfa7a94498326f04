"""The report of Deep Compression of SFace, from the entries of its rungs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compress import audit, data
from experiments import coded_files
from experiments.classification.deep_compression_words import METHODS
from experiments.faces import judge


def make_report(
  setup,
  network,
  whole: int,
  entries: Sequence[tuple[float, int, Any, Mapping[str, Any]]],
  *,
  config: Mapping[str, Any],
  command: str,
) -> dict[str, Any]:
  """The report of a finished study, for `audit.write_report`.

  Args:
    setup: `deep_compression.Setup`.
    network: the original, of `networks.load_network`.
    whole: bytes of its float32 file.
    entries: density, seed, folder with the embeddings of every stage, and
      stage to bytes, one a rung.
    config: the settings that decide the result.
    command: the command line.

  Returns:
    The dictionary; the first of its `tables` has the bytes of every stage.
  """
  test: data.VerificationSet = setup.faces.test
  protocol = audit.Protocol(draws=20 if config['smoke'] else 1000)
  folds = judge.pair_folds(test)

  def judged(embeddings, reference=None):
    return audit.summarize(
      embeddings,
      test.pairs,
      test.genuine,
      identities=test.identities,
      folds=folds,
      reference=reference,
      protocol=protocol,
    )

  variants = [
    {
      'name': f'{stage} {100 * density:g} %',
      'method': stage,
      'baseline': stage == 'pruned',
      'seed': seed,
      'kept': density,
      'bytes': entry[stage],
      'compression': whole / entry[stage]['on_disk'],
      'execution': 'masked',
      **judged(np.load(place / f'{stage}.npy'), setup.original),
    }
    for stage in coded_files.STAGES[1:]
    for density, seed, place, entry in entries
  ]
  reference = {
    'name': network.name,
    'method': 'float32',
    'weights': network.provenance,
    'bytes': {'on_disk': whole},
    'execution': 'float',
    **judged(setup.original),
  }
  return {
    'study': 'deep_compression',
    'title': 'Deep Compression of SFace',
    'summary': summary(reference, variants),
    'description': [
      'The smallest weights of the large kernels of SFace were removed, the '
      f'rest fine-tuned for {config["steps"]} updates to give the embeddings '
      'of the original, then clustered into '
      f'{1 << setup.bits[0]} (convolutions) or {1 << setup.bits[1]} (dense '
      'layers) shared values, which were fine-tuned as long. Every stage is a '
      'file that was written, read back and judged; every rung goes on from '
      'the pruned network of the one before.',
    ],
    'command': command,
    'environment': audit.environment(),
    'dataset': {
      'name': test.name,
      'people': len(np.unique(test.identities)),
      'photos': len(test.images),
      'genuine_pairs': int(test.genuine.sum()),
      'impostor_pairs': int((~test.genuine).sum()),
      'split': setup.faces.split,
    },
    'reference': reference,
    'variants': variants,
    'methods': METHODS,
    'tables': [stage_table(reference, variants)],
    'notes': _notes(config),
    'reproduce': [command],
    'settings': config,
  }


def stage_table(
  reference: Mapping[str, Any], variants: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
  """Bytes after each stage of every rung, for `compress.audit.stated_tables`.

  Args:
    reference: entry of the original.
    variants: entries with `method`, `kept`, `bytes` and `verification`; those
      of several seeds are averaged.

  Returns:
    The table; the rows of Huffman stand out.
  """
  whole = reference['bytes']['on_disk']
  rows = [['float32', 100.0, whole, 1.0, *_figures([reference])]]
  marked = []
  for kept in dict.fromkeys(one['kept'] for one in variants):
    for stage in coded_files.STAGES[1:]:
      runs = [
        one
        for one in variants
        if one['kept'] == kept and one['method'] == stage
      ]
      size = float(np.mean([one['bytes']['on_disk'] for one in runs]))
      if stage == 'huffman':
        marked.append(len(rows))
      rows.append(
        [stage, 100 * kept, round(size), whole / size, *_figures(runs)]
      )
  return {
    'title': 'Bytes after each stage',
    'note': 'Files as they lie on disk. Weights: of the large kernels. '
    'codebook, huffman, ans and context are the same network in four codes. '
    'Deep Compression has no figures of its own for face networks.',
    'columns': [
      'Stage',
      {'heading': 'Weights', 'unit': '% kept', 'digits': 1},
      {'heading': 'File', 'unit': 'bytes'},
      {'heading': 'Ratio', 'unit': 'times smaller', 'digits': 1},
      {'heading': 'EER', 'unit': '%'},
      {'heading': 'TAR at FAR 1e-2', 'unit': '%'},
      {'heading': 'Cosine', 'unit': 'to the original', 'digits': 4},
      {'heading': 'Flipped', 'unit': '% of decisions'},
    ],
    'rows': rows,
    'marked': marked,
  }


def summary(
  reference: Mapping[str, Any], variants: Sequence[Mapping[str, Any]]
) -> list[str]:
  """What the Huffman-coded files reached: a paragraph a rung.

  Args:
    reference: as for `stage_table`.
    variants: as for `stage_table`.

  Returns:
    The paragraphs.
  """
  whole, found = reference['bytes']['on_disk'], []
  for kept in dict.fromkeys(one['kept'] for one in variants):
    runs = [
      one
      for one in variants
      if one['kept'] == kept and one['method'] == 'huffman'
    ]
    size = float(np.mean([one['bytes']['on_disk'] for one in runs]))
    eer, _, cosine, flipped = _figures(runs)
    text = (
      f'With {100 * kept:g} % of the weights of its large kernels SFace takes '
      f'{size / 1e6:.2f} MB of {whole / 1e6:.2f}: a file {whole / size:.1f} '
      f'times smaller, with an equal error rate of {eer:.2f} %'
    )
    if cosine is not None and flipped is not None:
      text += (
        f', embeddings at a cosine of {cosine:.4f} to the original’s, and '
        f'{flipped:.2f} % of decisions that differ'
      )
    found.append(text + '.')
  return found


def _figures(runs) -> list[float | None]:
  return [
    _mean(runs, 'verification', 'eer'),
    _mean(runs, 'verification', 'tar_at_far', '1e-2'),
    _mean(runs, 'agreement', 'embedding_cosine'),
    _flipped(runs),
  ]


def _mean(runs, *path) -> float | None:
  found = []
  for one in runs:
    for key in path:
      one = (one or {}).get(key)
    found.append(one)
  return None if None in found else float(np.mean(found))


def _flipped(runs) -> float | None:
  flips = [one.get('flips') for one in runs]
  if None in flips:
    return None
  return float(np.mean([100 * x['flipped'] / x['pairs'] for x in flips]))


def _notes(config) -> list[str]:
  found = []
  if config['smoke']:
    found.append('A smoke run: too little of everything for its figures.')
  found.append(
    'The paper retrains on the images that the network was made with, for '
    'epochs; here are '
    f'{config["steps"]} updates on a few hundred photographs, without labels.'
  )
  return found
