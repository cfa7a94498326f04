"""What a comparison of pruned classifiers still lacks, in words.

The checks that Blalock et al. 2020, arXiv:2003.03033, sections 4 to 6, ask of
whoever reports one: several seeds, several operating points over a wide range,
both ratios, the uncompressed control, and simple baselines.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from compress.audit import accuracies, entries, plot_style

LEAST_RUNS = 3
LEAST_POINTS = 5


def missing_evidence(
  report: Mapping[str, Any], *, baselines: Sequence[str] = ()
) -> list[str]:
  """Lists what the report of a classification study lacks.

  Args:
    report: the dictionary `compress.audit.write_report` takes.
    baselines: methods that have to be among the variants.

  Returns:
    One sentence a gap, for the report's `warnings`; empty if there is none.
  """
  found = entries.versions(report)
  reference, variants = found[0], found[1:]
  gaps = []
  if accuracies.figure(reference, 'accuracy') is None:
    gaps.append('The uncompressed network has no accuracy to compare with.')
  few = [v.name for v in found if 0 < _runs(v) < LEAST_RUNS]
  if few:
    gaps.append(
      f'Fewer than {LEAST_RUNS} runs, so that chance is not told from merit: '
      f'{_some(few)}.'
    )
  methods = plot_style.methods(found)
  points = {m: set() for m in methods}
  for v in variants:
    ratio = accuracies.compression(v, reference)
    if ratio is not None:
      points[plot_style.method(v)].add(round(ratio, 2))
  few = [m for m, ratios in points.items() if len(ratios) < LEAST_POINTS]
  if few:
    gaps.append(f'Fewer than {LEAST_POINTS} compression ratios: {_some(few)}.')
  bare = [v.name for v in variants if accuracies.speedup(v, reference) is None]
  if bare:
    gaps.append(f'No theoretical speed-up beside the ratio: {_some(bare)}.')
  absent = [name for name in baselines if name not in methods]
  if absent:
    gaps.append(f'Baselines that were not run: {_some(absent)}.')
  return gaps


def _runs(version) -> int:
  found = accuracies.figure(version, 'accuracy')
  return found.runs if found else 0


def _some(names) -> str:
  more = len(names) - 4
  return ', '.join(names[:4]) + (f' and {more} more' if more > 0 else '')
