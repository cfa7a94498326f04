"""The study of the teacher gap: everything trained, judged and reported."""

import dataclasses
import pathlib

from compress import audit
from experiments import folder as folder_lib
from experiments.classification import teacher_gap_report as report_lib
from experiments.classification import teacher_gap_schemes as schemes
from experiments.classification import teacher_gap_settings as settings_lib
from experiments.classification import teacher_gap_trees as trees_lib
from experiments.classification.teacher_gap_lab import STUDY, Lab
from experiments.classification.teacher_gap_settings import Settings
from experiments.hybrids.runs import Store


def run(
  settings: Settings,
  *,
  output_dir: str,
  resume: bool,
  command: str,
  progress: bool = True,
) -> tuple[str, dict[str, pathlib.Path]]:
  """Runs the study, from where an earlier run in the folder stopped.

  Args:
    settings: what to do.
    output_dir: folder of the results.
    resume: continue what is there.
    command: for the report.
    progress: show a bar.

  Returns:
    The table as text, and the paths of the report.

  Raises:
    InputError: bad input, before anything is written.
  """
  settings = settings.smaller() if settings.smoke else settings
  images = settings_lib.load(settings)
  folder = folder_lib.open_folder(
    output_dir, STUDY, dataclasses.asdict(settings), resume=resume
  )
  widths = ', '.join(str(width) for width in settings.ladder)
  print(
    f'{STUDY}: widths {widths} on {len(images.train)} images of '
    f'{images.train.name}, {settings.seeds} seeds; results in {folder}'
  )
  lab = Lab(settings, images, folder / 'networks', progress=progress)
  ladder = schemes.climb(lab)
  others = schemes.try_others(lab, ladder)
  teacher = ladder.teachers[0]
  store = Store(folder / 'figures')
  attacks = store.get('attacks', 0, lambda: schemes.attack(lab, teacher))
  trees = trees_lib.grow(lab, *schemes.transfer(lab, teacher))
  lab.close()
  report, figures = report_lib.make_report(
    lab, ladder, others, attacks, trees, command=command
  )
  paths = audit.write_report(
    report, {}, folder, images=images.test.images[:14], figures=figures
  )
  return audit.format_table(report), paths
