"""How inner loops are compiled: numba, kept on disk where that is possible."""

import functools

import numba


def compiled(function=None, *, inlined: bool = False):
  """A loop as machine code, compiled at its first call and then kept on disk.

  The kept code is found by the time stamp of the loop's own file alone:
  compiled functions that call each other stand in one file.

  Args:
    function: of numbers and arrays; numba checks no bounds, so each index
      taken from outside must be guarded by the function itself.
    inlined: whether it becomes part of the compiled functions that call it.

  Returns:
    The compiled function. Where no folder can be written to, nothing is kept,
    and each process compiles anew.
  """
  if function is None:
    return functools.partial(compiled, inlined=inlined)
  compile_ = functools.partial(
    numba.njit,
    nogil=True,
    boundscheck=False,
    error_model='numpy',
    forceinline=inlined,
  )
  try:
    return compile_(cache=True)(function)
  except RuntimeError:
    return compile_()(function)
