"""Programs as users start them, and how they refuse bad input."""

import json
import subprocess
import sys


def start(program, *flags, output=None):
  """Runs `python -m experiments.PROGRAM`; an output folder is its last flag."""
  if output is not None:
    flags = *flags, f'--output_dir={output}'
  return subprocess.run(
    [sys.executable, '-m', f'experiments.{program}', *flags],
    capture_output=True,
    text=True,
    timeout=1800,
    check=False,
  )


def contents(folder):
  """Bytes of all files in a folder, by path."""
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }


def assert_refused(done, message):
  """One line said what is wrong, and nothing else was said."""
  assert done.returncode == 2, done.stderr
  assert done.stdout == ''
  assert done.stderr.count('\n') == 1
  assert done.stderr.startswith('error: ')
  assert message in done.stderr


def assert_refused_untouched(start, flags, message, tmp_path):
  """A program refused its flags, and made no output folder."""
  output = tmp_path / 'out'
  assert_refused(start(*flags, output=output), message)
  assert not output.exists()


def finished(done):
  """A program that ended well, as it was given."""
  assert done.returncode == 0, done.stderr[-2000:]
  return done


def read_report(output):
  """The report of an output folder."""
  return json.loads((output / 'report.json').read_text())


def run_to_report(start, tmp_path_factory, *flags):
  """Folder of a finished study, and what it printed; its report comes last."""
  output = tmp_path_factory.mktemp('study') / 'out'
  printed = finished(start(*flags, output=output)).stdout
  last = printed.strip().splitlines()[-1]
  assert last == f'report: {output.resolve()}/report.html'
  return output, printed
