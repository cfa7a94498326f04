"""How every binary starts and ends: flags, one-line errors, exit statuses.

Status 0: done. 1: a programming error, with its traceback. 2: something given
from outside is wrong, or a training diverged, with one line that says what.
130: interrupted.
"""

import math
import os
import pathlib
import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging

from compress.errors import InputError


def _parse(argv: Sequence[str]) -> list[str]:
  try:
    rest = flags.FLAGS(list(argv))
  except flags.Error as error:
    _stop(' '.join(str(error).split()))
  if len(rest) > 1:
    _stop(f'unknown argument {rest[1]!r}; flags start with --, see --help')
  return rest


def _stop(message: str):
  print(f'error: {message}', file=sys.stderr)
  sys.exit(2)


def run(main: Callable[[], None]) -> None:
  """Parses the flags and runs a binary.

  `--help` prints the binary's own flags and what its module says of it.

  Args:
    main: called without arguments. `InputError` from it ends the program with
      status 2 and its message on one line of standard error.
  """

  def guarded(argv):
    del argv
    # What libraries tell of every file they write would bury the progress.
    logging.set_verbosity(logging.WARNING)
    try:
      main()
    except InputError as error:
      _stop(' '.join(str(error).split()))
    except FloatingPointError as error:
      text = ' '.join(str(error).split())
      _stop(f'training diverged: {text} A lower learning rate may help.')
    except KeyboardInterrupt:
      print(f'interrupted{_how_to_go_on()}', file=sys.stderr)
      sys.exit(130)

  _use_huge_pages()
  app.run(guarded, argv=_with_status_zero(sys.argv), flags_parser=_parse)


def _how_to_go_on() -> str:
  if 'resume' not in flags.FLAGS:
    return ''
  if flags.FLAGS['resume'].value:
    return '; run the same command to resume'
  return '; run the same command without --noresume to go on'


def numbers(
  flag: flags.FlagHolder, *, above: float, below: float = math.inf, right: str
) -> tuple[float, ...]:
  """The numbers of a list flag, in the order given.

  Args:
    flag: of `flags.DEFINE_list`.
    above: every number is greater,
    below: and less.
    right: says which they are, for the message.

  Returns:
    The numbers, at least one, each once.

  Raises:
    InputError: names the flag.
  """
  found = []
  for text in flag.value:
    try:
      value = float(text)
    except ValueError:
      value = math.nan
    if not above < value < below:
      raise InputError(f'--{flag.name}={text}: right is {right}')
    found.append(value)
  if not found:
    raise InputError(f'--{flag.name} is empty; right is {right}')
  if len(set(found)) < len(found):
    raise InputError(f'--{flag.name}: a number is given twice')
  return tuple(found)


def _use_huge_pages() -> None:
  """Starts this process again with huge memory pages, if that can help.

  XLA allocates the arrays of a training step anew at every step on a CPU, and
  a quarter of the step's time may go into page faults. glibc reads the setting
  when a process starts, so it cannot be made later. A `GLIBC_TUNABLES` of the
  user's own, even an empty one, is left alone.
  """
  pages = pathlib.Path('/sys/kernel/mm/transparent_hugepage/enabled')
  asked_help = any(arg.lstrip('-').startswith('help') for arg in sys.argv[1:])
  if 'GLIBC_TUNABLES' in os.environ or asked_help or not pages.is_file():
    return
  os.environ['GLIBC_TUNABLES'] = 'glibc.malloc.hugetlb=1'
  os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _with_status_zero(argv: Sequence[str]) -> list[str]:
  """Prints `--help` at once: absl ends it with status 1, as for an error."""
  asked = {'--help', '-help', '-h', '-?', '--helpfull', '--helpshort'}
  if asked & set(argv[1:]):
    main = sys.modules['__main__']
    print((main.__doc__ or '').strip())
    print(f'\nflags:\n{_flag_help(main)}')
    sys.exit(0)
  return list(argv)


def _flag_help(main) -> str:
  lines = []
  own = flags.FLAGS.get_key_flags_for_module(main)
  for flag in own:
    name = f'--[no]{flag.name}' if flag.boolean else f'--{flag.name}'
    default = flag.default_as_str
    if default is not None:
      name += f' (default: {default.strip(chr(39))})'
    lines.append(f'  {name}')
    lines += [
      f'      {line}'
      for line in flags.text_wrap(flag.help or '', 72).splitlines()
    ]
  return '\n'.join(lines)
