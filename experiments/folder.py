"""The output folder of a study: whose it is, and what is finished in it."""

import json
import os
import pathlib
import shutil
from typing import Any

import numpy as np

from compress.errors import InputError

_RECORD = 'run.json'
_DAMAGED = 'damaged; remove it and run the same command again'


def open_folder(
  path: str, study: str, config: dict[str, Any], *, resume: bool
) -> pathlib.Path:
  """Opens an output folder for a study.

  Args:
    path: the folder; made if missing.
    study: name of the study.
    config: JSON-able settings that decide the result.
    resume: continue what is there. Otherwise what an earlier run of this study
      left in it is removed first.

  Returns:
    The folder.

  Raises:
    InputError: it belongs to another study, holds other files, or (with
      `resume`) was made with other settings.
  """
  folder = pathlib.Path(path)
  record = {'study': study, 'config': json.loads(json.dumps(config))}
  if folder.exists() and not folder.is_dir():
    raise InputError(f'--output_dir={path}: a file; give a folder')
  found = _read(folder / _RECORD)
  if found is None and folder.is_dir() and any(folder.iterdir()):
    raise InputError(
      f'--output_dir={path}: not empty, and no output of {study}; give a new '
      'folder'
    )
  if found is not None and found.get('study') != study:
    raise InputError(
      f'--output_dir={path}: holds the study {found.get("study")!r}, not '
      f'{study!r}; give another folder'
    )
  if found is not None and resume and found != record:
    key = _first_difference(found['config'], record['config'])
    raise InputError(
      f'--output_dir={path}: was made with another {key}; give another '
      'folder, or --noresume to start anew'
    )
  if found is not None and not resume:
    _clear(folder)
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise InputError(f'--output_dir={path}: {error.strerror}') from error
  write_json(folder / _RECORD, record)
  return folder


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes JSON under a temporary name and renames it."""
  text = json.dumps(value, indent=2, allow_nan=False) + '\n'
  temporary = path.with_name(f'.{path.name}.{os.getpid()}')
  temporary.write_text(text, encoding='utf-8')
  os.replace(temporary, path)


def _clear(folder: pathlib.Path) -> None:
  """Empties a folder but for its record, which says that it may be emptied."""
  for path in folder.iterdir():
    if path.is_dir() and not path.is_symlink():
      shutil.rmtree(path)
    elif path.name != _RECORD:
      path.unlink()


def write_array(path: pathlib.Path, array: np.ndarray) -> None:
  """Writes a .npy file under a temporary name and renames it."""
  temporary = path.with_name(f'.{path.name}.{os.getpid()}')
  with temporary.open('wb') as file:
    np.save(file, array)
  os.replace(temporary, path)


def read_json(path: pathlib.Path) -> Any:
  """What `write_json` wrote.

  Args:
    path: of the file.

  Returns:
    The value.

  Raises:
    InputError: the file is damaged.
  """
  try:
    return json.loads(path.read_text(encoding='utf-8'))
  except ValueError as error:
    raise InputError(f'{path}: {_DAMAGED}') from error


def read_array(path: pathlib.Path) -> np.ndarray:
  """What `write_array` wrote.

  Args:
    path: of the file.

  Returns:
    The array.

  Raises:
    InputError: the file is damaged.
  """
  try:
    return np.load(path)
  except (ValueError, EOFError) as error:
    raise InputError(f'{path}: {_DAMAGED}') from error


def _read(path: pathlib.Path) -> dict[str, Any] | None:
  if not path.is_file():
    return None
  try:
    found = json.loads(path.read_text(encoding='utf-8'))
  except ValueError:
    found = None
  if not isinstance(found, dict) or not isinstance(found.get('config'), dict):
    raise InputError(f'{path}: damaged; remove the folder or give another')
  return found


def _first_difference(old: dict[str, Any], new: dict[str, Any]) -> str:
  missing = object()
  for key in sorted({*old, *new}):
    before, after = (x.get(key, missing) for x in (old, new))
    if before == after:
      continue
    if isinstance(before, dict) and isinstance(after, dict):
      return f'{key}.{_first_difference(before, after)}'
    return f'{key} ({old.get(key)!r}, now {new.get(key)!r})'
  return 'setting'
