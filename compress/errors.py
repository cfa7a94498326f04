"""The one exception that means: what the user gave is wrong."""


class InputError(ValueError):
  """Something given from outside is wrong.

  The message is one line: what is wrong (which path, shape or flag) and what
  would be right. Binaries print it and exit with status 2; errors of any other
  class are programming errors and keep their traceback.
  """
