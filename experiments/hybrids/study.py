"""The study of hybrids: every part run, kept in files, and reported."""

import pathlib
from typing import Any

from compress import audit
from experiments import folder as folder_lib
from experiments.hybrids import fairness, restoration, students
from experiments.hybrids import runs as runs_lib
from experiments.hybrids import settings as settings_lib
from experiments.hybrids.settings import Settings

_PARTS = {
  'fairness': (fairness, fairness.Fairness),
  'restoration': (restoration, restoration.Restoration),
  'students': (students, students.Students),
}


def run(
  settings: Settings,
  *,
  output_dir: str,
  resume: bool,
  command: str,
  progress: bool = True,
) -> dict[str, tuple[str, dict[str, pathlib.Path]]]:
  """Runs the parts, from where an earlier run in the folder stopped.

  Args:
    settings: what to do.
    output_dir: folder of the results; each part has one of its own in it.
    resume: continue what is there.
    command: for the reports.
    progress: show bars.

  Returns:
    Part to its table as text and the paths of its report.

  Raises:
    InputError: bad input, before anything is written.
  """
  settings = settings.smaller() if settings.smoke else settings
  digits = settings_lib.load(settings)
  folder = folder_lib.open_folder(
    output_dir, 'pruning_hybrids', _config(settings), resume=resume
  )
  found = {}
  for name in settings.parts:
    module, make = _PARTS[name]
    part = make(settings, digits, progress)
    store = runs_lib.Store(folder / name / 'runs')
    figures: dict[str, list] = {}
    versions = part.versions()
    # Seed by seed, so that what a seed's versions share is made once.
    for seed in range(settings.seeds):
      for version in versions:
        key = version.name.replace(' ', '_').replace('%', 'percent')
        made = store.get(
          key, seed, lambda v=version, s=seed, p=part: p.run(v, s)
        )
        figures.setdefault(version.name, []).append(made)
    entries = [runs_lib.entry(v, figures[v.name]) for v in versions]
    report = _report(module, part, entries, digits, settings, command)
    paths = audit.write_report(
      report, {}, folder / name, images=digits.test.images[:14]
    )
    found[name] = audit.format_table(report), paths
  return found


def _report(module, part, entries, digits, settings, command) -> dict[str, Any]:
  words = part.words(entries)
  report = {
    'study': f'pruning_hybrids, {module.__name__.rpartition(".")[-1]}',
    'title': module.TITLE,
    'description': _paragraphs(module.__doc__),
    'command': command,
    'environment': audit.environment(more=['scikit-learn']),
    'dataset': {
      'name': digits.train.name,
      'images': len(digits.train) + len(digits.test),
      'classes': len(digits.train.classes),
      'split': {
        'train': f'{len(digits.train):,}',
        'test': f'{len(digits.test):,}',
      },
    },
    'reference': entries[0],
    'variants': entries[1:],
    'methods': module.METHODS,
  }
  if words:
    report['notes'] = words
  if settings.smoke:
    report['warnings'] = [
      'A smoke run: one epoch on 128 images. The figures say nothing.'
    ]
  elif settings.seeds < 3:
    report['warnings'] = [
      f'{settings.seeds} seed(s): too few to tell methods apart.'
    ]
  return report


def _paragraphs(text: str) -> list[str]:
  return [' '.join(part.split()) for part in text.strip().split('\n\n')]


def _config(settings: Settings) -> dict[str, Any]:
  """What decides the results; which parts are run does not."""
  found = {k: v for k, v in vars(settings).items() if k != 'parts'}
  return {k: list(v) if isinstance(v, tuple) else v for k, v in found.items()}
