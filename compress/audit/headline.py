"""The report's plain sentences, computed from its numbers.

Everything here reads the report's dictionary and returns text: what was done,
on which data, and what it cost at each bit width. A sentence whose numbers
are missing is left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from compress.audit import entries, numerals
from compress.audit.entries import Version

_MOST_LEVELS = 4


def summary(found: Sequence[Version]) -> list[str]:
  """What compression cost: a sentence per level, and what was won back.

  A level is a bit width and a share of removed channels.

  Args:
    found: `compress.audit.entries.versions(report)`.

  Returns:
    One plain-text paragraph per level, the widest and least pruned first, at
    most four; the best version of a level is the one with the lowest mean EER.
  """
  reference, variants = found[0], found[1:]
  lines = []
  levels = _levels(variants)
  for level in _spread(levels):
    parts = (
      _cost(level, levels[level], reference),
      _won_back(level, levels[level], reference),
    )
    lines.append(' '.join(part for part in parts if part))
  return [unbroken(line) for line in lines if line]


def what_was_done(report: Mapping[str, Any]) -> list[str]:
  """The networks and the question put to them, in one or two sentences."""
  found = entries.versions(report)
  reference, variants = found[0], found[1:]
  noun = 'version' if len(variants) == 1 else 'versions'
  size = entries.mean(reference, 'bytes', 'on_disk')
  disk = f' ({numerals.megabytes(size)} MB on disk)' if size else ''
  lines = [
    f'The trained network {reference.name}{disk} was compressed, and '
    f'{spelled(len(variants))} compressed {noun} of it '
    f'{"was" if len(variants) == 1 else "were"} compared with it.'
  ]
  runs = sum(len(v.runs) for v in variants)
  if runs > len(variants):
    lines.append(
      f'Each was made several times (seeds or folds), {runs} runs in all; '
      'their figures are means over runs, plus or minus the sample standard '
      'deviation.'
    )
  lines.append(
    'All of them answered the same question on the same pairs of '
    'photographs: do both show the same person?'
  )
  return lines


def data(dataset: Mapping[str, Any]) -> list[tuple[str, str]]:
  """The data set as (label, text) facts; what is missing is left out."""
  labels = {
    'name': 'Data set',
    'people': 'People',
    'photos': 'Photographs',
    'genuine_pairs': 'Genuine pairs',
    'impostor_pairs': 'Impostor pairs',
    'images': 'Images',
  }
  facts = []
  for key, value in dataset.items():
    if key == 'split' and isinstance(value, Mapping):
      facts += [(f'Split: {k}', text(v)) for k, v in value.items()]
    elif value is not None and not key.endswith('_note'):
      label = labels.get(key, numerals.sentence_start(key.replace('_', ' ')))
      facts.append((label, text(value)))
  return facts


def text(value: Any) -> str:
  """A value of the report in words: thousands marked, lists with commas."""
  if value is None:
    return numerals.DASH
  if isinstance(value, bool):
    return 'yes' if value else 'no'
  if isinstance(value, int):
    return f'{value:,}'
  if isinstance(value, float):
    return f'{value:g}'
  if isinstance(value, Mapping):
    return ', '.join(f'{k}: {text(v)}' for k, v in value.items())
  if isinstance(value, Sequence) and not isinstance(value, str):
    return ', '.join(text(x) for x in value)
  return str(value)


def _levels(variants: Sequence[Version]) -> dict[tuple, list[Version]]:
  """Versions by (weight bits, activation bits, sparsity), the widest first."""
  levels = {}
  for v in variants:
    bits = v.first.get('weight_bits'), v.first.get('activation_bits')
    sparsity = entries.number(v.first.get('sparsity')) or 0
    levels.setdefault((*bits, sparsity), []).append(v)

  def width(key):
    return [-(entries.number(x) or 0) for x in key[:2]], key[2]

  return {key: levels[key] for key in sorted(levels, key=width)}


def _spread(levels: Mapping[tuple, Any]) -> list[tuple]:
  """At most four of the levels, evenly spread, both ends kept."""
  keys = list(levels)
  if len(keys) <= _MOST_LEVELS:
    return keys
  last = _MOST_LEVELS - 1
  return [keys[i * (len(keys) - 1) // last] for i in range(_MOST_LEVELS)]


def _eer(version: Version) -> float | None:
  return entries.mean(version, 'verification', 'eer')


def _cost(
  level: tuple, variants: Sequence[Version], reference: Version
) -> str | None:
  measured = [v for v in variants if _eer(v) is not None]
  if not measured:
    return None
  best = min(measured, key=_eer)
  parts = []
  smaller = entries.ratio(best, reference)
  if smaller:
    parts.append(f'is {smaller:.1f} times smaller on disk')
  parts.append(f'has an equal error rate of {numerals.fixed(_eer(best))} %')
  change = entries.mean(best, 'difference', 'eer')
  if change is not None:
    parts[-1] += (
      f', {numerals.fixed(change, sign=True)} points from the reference'
    )
    parts[-1] += _certainty(best)
  among = f', the best of {len(measured)}' if len(measured) > 1 else ''
  return f'The {_described(level)} ({best.name}{among}) {" and ".join(parts)}.'


def _certainty(version: Version) -> str:
  sides = [entries.resolved(run, 'eer') for run in version.runs]
  known = [side for side in sides if side is not None]
  if not known:
    return ''
  if len(version.runs) > 1:
    return f' (resolved in {sum(known)} of {len(known)} runs)'
  ends = entries.interval(version.first['difference'], 'eer')
  shown = numerals.bracket(ends, sign=True)
  verdict = 'resolved' if known[0] else 'not resolved'
  return f' (95 % interval {shown}: {verdict})'


def _won_back(
  level: tuple, variants: Sequence[Version], reference: Version
) -> str | None:
  """How much of the baseline's loss in TAR@1e-2 the best version recovers."""
  path = ('verification', 'tar_at_far', '1e-2')
  before = entries.mean(reference, *path)
  known = [v for v in variants if entries.mean(v, *path) is not None]
  plain = [v for v in known if is_baseline(v)]
  tuned = [v for v in known if not is_baseline(v)]
  if before is None or not plain or not tuned:
    return None
  base = max(entries.mean(v, *path) for v in plain)
  best = max(tuned, key=lambda v: entries.mean(v, *path))
  lost = before - base
  if lost < 0.005:
    return None
  share = 100 * (entries.mean(best, *path) - base) / lost
  plainly, untuned = 'plain post-training quantization', 'post-training'
  if level[2]:
    plainly, untuned = 'removing channels alone', 'untuned'
  numbers = (
    f'TAR at FAR 1e-2: {numerals.fixed(before)} % reference, '
    f'{numerals.fixed(base)} % {untuned}, '
    f'{numerals.fixed(entries.mean(best, *path))} % after'
  )
  if share < 0:
    return (
      f'Fine-tuning did not help: {best.name}, the best of it, stays '
      f'below {plainly} ({numbers}).'
    )
  return (
    f'Fine-tuning ({best.name}) wins back {share:.0f} % of what '
    f'{plainly} lost ({numbers}).'
  )


def is_baseline(version: Version) -> bool:
  """Whether a version is the plain baseline: `baseline`, or its method's name.

  A run says so with `baseline: true`; without that field a method that calls
  itself post-training is taken for one.
  """
  stated = version.first.get('baseline')
  if stated is not None:
    return bool(stated)
  return 'post-training' in str(version.first.get('method') or '').lower()


def _described(level: tuple) -> str:
  weight, activation, sparsity = level
  without = f' without {100 * sparsity:g} % of its channels' if sparsity else ''
  if sparsity and (weight, activation) == (32, 32):
    return f'network{without}'
  if weight is None and activation is None:
    return f'network{without}' if sparsity else 'compressed network'
  if weight == activation:
    return f'{weight}-bit network{without}'
  shown = [numerals.DASH if x is None else str(x) for x in level[:2]]
  bits = f'{shown[0]}-bit weight, {shown[1]}-bit activation'
  return f'{bits} network{without}'


def unbroken(line: str) -> str:
  """The line with a no-break space before every per cent sign."""
  return line.replace(' %', '\N{NO-BREAK SPACE}%')


def spelled(n: int) -> str:
  """A count as a word up to ten, then in digits."""
  words = 'no one two three four five six seven eight nine ten'.split()
  return words[n] if n < len(words) else str(n)
