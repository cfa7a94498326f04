"""The tables of Deep Compression: stages of one rung, all rungs, the layers.

`dense` and `rungs` are the entries of `deep_compression_study.Study`; a table
is one of `compress.audit.stated_tables`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import coded_files
from experiments.classification.deep_compression_words import PAPER

Entry = Mapping[str, Any]


def chosen(
  dense: Entry, rungs: Sequence[Entry], ratio: float
) -> tuple[Entry, bool]:
  """The rung that most weights are left of among those that are small enough.

  Bytes alone choose: no accuracy, of whatever images, is looked at.

  Args:
    dense: entry of the dense network.
    rungs: entries of the rungs, at least one.
    ratio: how many times smaller than float32 the Huffman-coded file is to be,
      on average over seeds.

  Returns:
    Its entry, and whether it is as small; if none is, the smallest.
  """
  small = [rung for rung in rungs if times(dense, rung, 'huffman') >= ratio]
  if small:
    return max(small, key=lambda rung: rung['density']), True
  return min(rungs, key=lambda rung: _bytes(rung, 'huffman')), False


def times(dense: Entry, rung: Entry, stage: str) -> float:
  """Bytes of float32 over those of a stage's file, means over seeds."""
  return dense['bytes']['on_disk'] / _bytes(rung, stage)


def lost(dense: Entry, entry: Entry, *, of: str = 'per_seed') -> list[float]:
  """Points that each seed lost.

  Args:
    dense: entry of the dense network.
    entry: of a stage.
    of: `per_seed`, the test images, or `per_seed_validation`.

  Returns:
    One number a seed: accuracy of its dense network less its own.
  """
  pairs = zip(dense[of], entry[of], strict=True)
  return [round(before - after, 9) for before, after in pairs]


def stage_table(network: str, dense: Entry, rung: Entry) -> dict[str, Any]:
  """Bytes after each stage of a rung, beside the paper's ratios.

  Args:
    network: key of `PAPER`.
    dense: entry of the dense network.
    rung: entry of the rung.

  Returns:
    The table; Huffman, where the paper ends, stands out.
  """
  rows = [
    ['float32', 100.0, round(dense['bytes']['on_disk']), 1.0, 1]
    + [dense['accuracy']['mean'], None]
  ]
  for stage, entry in rung['stages'].items():
    rows.append(
      [
        stage,
        100 * rung['density'],
        round(_bytes(rung, stage)),
        times(dense, rung, stage),
        PAPER[network].get(stage),
        entry['accuracy']['mean'],
        _spread(lost(dense, entry)),
      ]
    )
  stages = [row[0] for row in rows]
  return {
    'title': 'Bytes after each stage',
    'note': 'Files as they lie on disk, means over seeds. Paper: of Deep '
    'Compression on MNIST, after pruning, weight sharing and Huffman coding. '
    'Lost: accuracy of the dense network of the same seed, less that of the '
    'file, mean ± sample standard deviation over seeds; below 0 is a gain. '
    'codebook, huffman, ans and context are the same network in four codes.',
    'columns': [
      'Stage',
      {'heading': 'Weights', 'unit': '% kept', 'digits': 1},
      {'heading': 'File', 'unit': 'bytes'},
      {'heading': 'Ratio', 'unit': 'times smaller', 'digits': 1},
      {'heading': 'Paper', 'unit': 'times smaller'},
      {'heading': 'Accuracy', 'unit': 'test, %'},
      {'heading': 'Lost', 'unit': 'test, points'},
    ],
    'rows': rows,
    'marked': [stages.index('huffman')] if 'huffman' in stages else [],
  }


def rung_table(
  dense: Entry, rungs: Sequence[Entry], rung: Entry
) -> dict[str, Any]:
  """All rungs: how small they are in every code, and what they lost.

  Args:
    dense: entry of the dense network.
    rungs: entries of the rungs.
    rung: the one that stands out.

  Returns:
    The table.
  """
  codes = ('huffman', 'ans', 'context', 'deepcabac')
  rows = []
  for one in rungs:
    shared = one['stages']['huffman']
    rows.append(
      [
        f'{100 * one["density"]:g} % kept',
        round(_bytes(one, 'huffman')),
        *(times(dense, one, code) for code in codes),
        _spread(lost(dense, shared, of='per_seed_validation')),
        _spread(lost(dense, shared)),
        _spread(lost(dense, one['stages']['deepcabac'])),
      ]
    )
  return {
    'title': 'Every rung',
    'note': 'Times smaller than float32 in every code; points lost, mean ± '
    'sample standard deviation over seeds, each seed against its own dense '
    'network.',
    'columns': [
      'Rung',
      {'heading': 'Huffman', 'unit': 'bytes'},
      {'heading': 'Huffman', 'unit': 'times', 'digits': 1},
      {'heading': 'ANS', 'unit': 'times', 'digits': 1},
      {'heading': 'Contexts', 'unit': 'times', 'digits': 1},
      {'heading': 'DeepCABAC', 'unit': 'times', 'digits': 1},
      {'heading': 'Lost', 'unit': 'validation, points'},
      {'heading': 'Lost', 'unit': 'test, points'},
      {'heading': 'DeepCABAC lost', 'unit': 'test, points'},
    ],
    'rows': rows,
    'marked': [list(rungs).index(rung)],
  }


def summary(network: str, dense: Entry, rung: Entry) -> list[str]:
  """What a rung reached, in a sentence or two.

  Args:
    network: key of `PAPER`.
    dense: entry of the dense network.
    rung: entry of the rung.

  Returns:
    Paragraphs: of the Huffman-coded file, and of the other codes.
  """
  whole, size = dense['bytes']['on_disk'], _bytes(rung, 'huffman')
  ratio = {stage: times(dense, rung, stage) for stage in rung['stages']}
  return [
    f'Deep Compression with {100 * rung["density"]:g} % of the weights makes '
    f'{size:,.0f} bytes of {whole:,.0f}: a file {ratio["huffman"]:.1f} times '
    f'smaller, which loses {_told(lost(dense, rung["stages"]["huffman"]))} '
    f'points of test accuracy. The paper: {PAPER[network]["huffman"]} times on '
    'MNIST.',
    'The same network is '
    f'{ratio["ans"]:.1f} times smaller if coded by asymmetric numeral systems '
    f'and {ratio["context"]:.1f} times by contexts. On a uniform grid in the '
    f'manner of DeepCABAC it is {ratio["deepcabac"]:.1f} times smaller and '
    f'loses {_told(lost(dense, rung["stages"]["deepcabac"]))} points; nothing '
    'is trained after that.',
  ]


def layer_table(rung: Entry) -> dict[str, Any]:
  """Where the bytes of a rung's Huffman-coded files are.

  Args:
    rung: entry of the rung, with `files` of `coded_files.file_parts`, one a
      seed.

  Returns:
    The table: a row a kernel, then biases, then headers.
  """
  files = rung['files']
  whole = _mean([sum(file.values()) for file in files])
  rows, kernels = [], rung['left'][0]
  for name in files[0]:
    size = _mean([file[name] for file in files])
    row = [name, None, None, round(size), None, 100 * size / whole]
    if name in kernels:
      row[1] = math.prod(kernels[name][1:])
      kept = _mean([left[name][0] for left in rung['left']])
      row[2], row[4] = 100 * kept / row[1], 8 * size / kept if kept else None
    rows.append(row)
  return {
    'title': 'Where the bytes of the Huffman-coded file are',
    'note': 'Means over seeds. Bits of a weight that is left: its code, its '
    'place and its share of the tables. The header has names, shapes and a '
    'checksum a tensor, which the paper does not count.',
    'columns': [
      'Part',
      {'heading': 'Weights', 'unit': 'before'},
      {'heading': 'Weights', 'unit': '% kept', 'digits': 1},
      {'heading': 'Bytes', 'unit': ''},
      {'heading': 'Bits', 'unit': 'a weight left', 'digits': 1},
      {'heading': 'Share', 'unit': '%', 'digits': 1},
    ],
    'rows': rows,
  }


def parts_of(study, rung: Entry) -> Entry:
  """The entry of a rung with the parts of its Huffman-coded files."""
  places = [
    study.place(rung['density']) / f'seed{seed}'
    for seed in range(study.settings.seeds)
  ]
  files = [coded_files.file_parts(place, 'huffman') for place in places]
  return {**rung, 'files': files}


def _bytes(rung: Entry, stage: str) -> float:
  return rung['stages'][stage]['bytes']['on_disk']


def _mean(values: Sequence[float]) -> float:
  return float(np.mean(values))


def _told(values: Sequence[float]) -> str:
  spread = f' ± {np.std(values, ddof=1):.2f}' if values[1:] else ''
  return f'{_mean(values):.2f}{spread}'.replace('-', '−')


def _spread(values: Sequence[float]):
  """A cell: mean, and its deviation below it."""
  mean = _mean(values)
  if len(values) < 2:
    return mean
  return [mean, f'± {np.std(values, ddof=1):.2f}']
