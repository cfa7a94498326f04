"""The plain sentences of a classification report, computed from its numbers."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from compress.audit import accuracies, accuracy_tables, entries, numerals
from compress.audit.entries import Version
from compress.audit.headline import spelled, unbroken

_MOST_LEVELS = 4

_OF_PARAMETERS = (
  'The compression ratio is the number of parameters of the reference divided '
  'by the number that is left, zeros not counted. Bytes are another matter: a '
  'sparse file also says where its values belong.'
)
_OF_BYTES = (
  'The compression ratio is the bytes of the reference’s file divided by those '
  'of the file, both as they lie on disk: headers, code tables, codebooks, '
  'shapes, checksums and biases are in them.'
)
_CONVENTIONS = (
  'Accuracy (top-1) is the share of the test images whose class has the '
  'largest logit; top-5 counts the five largest. No hyper-parameter is chosen '
  'on these images.',
  'A ± is the sample standard deviation over runs: other seeds, and where the '
  'report says so other initial weights.',
  'The theoretical speed-up is the reference’s multiply-accumulates (MACs) of '
  'convolutions and dense layers divided by those that are left, where a '
  'weight of zero counts as removed. It is computed; the measured speed-up is '
  'the ratio of latencies. Neither stands in for the other: scattered zeros do '
  'not make dense arithmetic faster.',
)


def conventions(found: Sequence[Version]) -> tuple[str, ...]:
  """What the figures mean.

  Args:
    found: the report's versions, the reference first.

  Returns:
    One paragraph each: accuracy, deviations, the compression ratio (of bytes
    where the reference says `compression_of: bytes`), the speed-up.
  """
  ratio = _OF_BYTES if accuracies.of_bytes(found) else _OF_PARAMETERS
  return *_CONVENTIONS[:2], ratio, *_CONVENTIONS[2:]


def summary(found: Sequence[Version]) -> list[str]:
  """What compression cost, at up to four levels of compression.

  Args:
    found: the report's versions, the reference first.

  Returns:
    One paragraph a level. Compression ratios (speed-ups where no parameters
    are counted) of one level round to the same power of two.
  """
  base = found[0]
  ratio, words = accuracies.compression, 'times fewer parameters'
  if accuracies.of_bytes(found):
    words = 'times fewer bytes'
  if not any(_known(v, ratio, base) for v in found[1:]):
    ratio, words = accuracies.speedup, 'times fewer multiply-accumulates'
  levels: dict[int, list[Version]] = {}
  for v in found[1:]:
    value = _known(v, ratio, base)
    if value:
      levels.setdefault(round(math.log2(value)), []).append(v)
  keys = sorted(levels)
  if len(keys) > _MOST_LEVELS:
    last = _MOST_LEVELS - 1
    keys = [keys[i * (len(keys) - 1) // last] for i in range(_MOST_LEVELS)]
  return [
    unbroken(_level(levels[key], base, ratio if key > 0 else None, words))
    for key in keys
    if key or len(keys) == 1
  ]


def what_was_done(report: Mapping[str, Any]) -> list[str]:
  """The networks and the question put to them, in one or two sentences."""
  found = entries.versions(report)
  reference, variants = found[0], found[1:]
  left = accuracies.figure(reference, 'params')
  size = f' ({numerals.count(left.mean)} parameters)' if left else ''
  one = len(variants) == 1
  noun, verb = ('version', 'was') if one else ('versions', 'were')
  lines = [
    f'The trained network {reference.name}{size} was compressed, and '
    f'{spelled(len(variants))} compressed {noun} of it {verb} compared with '
    'it.'
  ]
  methods = list(
    dict.fromkeys(
      str(v.first['method']) for v in variants if v.first.get('method')
    )
  )
  if len(methods) > 1:
    lines[0] += (
      f' {numerals.sentence_start(spelled(len(methods)))} methods were tried.'
    )
  counts = [f.runs for v in variants if (f := accuracies.figure(v, 'accuracy'))]
  if counts and max(counts) > 1:
    low, high = min(counts), max(counts)
    times = f'{low}' if low == high else f'{low} to {high}'
    lines.append(
      f'Each was made {times} times from different seeds; figures are means, '
      'plus or minus the sample standard deviation.'
    )
  lines.append('All of them sorted the same test images into classes.')
  return lines


def _known(version, ratio, base):
  if accuracies.figure(version, 'accuracy') is None:
    return None
  return ratio(version, base)


def _level(versions, base, ratio, words) -> str:
  best = max(versions, key=lambda v: accuracies.figure(v, 'accuracy').mean)
  figure = accuracies.figure(best, 'accuracy')
  among = f', the best of {len(versions)},' if len(versions) > 1 else ''
  level = 'Uncompressed'
  if ratio is not None:
    middle = statistics.median(ratio(v, base) for v in versions)
    level = f'At about {float(f"{middle:.2g}"):g} {words}'
  text = (
    f'{level}, {best.name}{among} classifies {accuracy_tables.percent(figure)} '
    '% of the test images correctly'
  )
  change = accuracies.change(best, base)
  if change is not None:
    text += f', {numerals.fixed(change, sign=True)} points from the reference'
  speed, measured = (
    accuracies.speedup(best, base),
    accuracies.measured_speedup(best),
  )
  if speed and not words.endswith('accumulates'):
    text += f'; theoretical speed-up {speed:.1f}×'
    text += f', measured {measured:.1f}×' if measured else ''
  return text + '.'
