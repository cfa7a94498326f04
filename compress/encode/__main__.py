"""Lists what is inside a file of a compressed network."""

import argparse
import json
import math
import sys

from compress.encode.file import MAX_BYTES, File
from compress.encode.listing import format_listing, list_file
from compress.errors import InputError


def main(arguments=None) -> int:
  """Prints the table; returns 0, or 2 for bad input."""
  parser = argparse.ArgumentParser(
    prog='python -m compress.encode',
    description='Lists what is inside a file of a compressed network: of each '
    'tensor its shape, how it is stored, bits a weight, zeroth-order entropy, '
    'bytes and share.',
  )
  parser.add_argument('file', help='file that compress.encode.save wrote')
  parser.add_argument(
    '--sort', choices=['file', 'bytes', 'bits'], default='file', help='order'
  )
  parser.add_argument('--json', action='store_true', help='rows as JSON')
  parser.add_argument(
    '--max_bytes',
    type=int,
    default=MAX_BYTES,
    help='refuse files whose tensors take more unpacked (default: %(default)s)',
  )
  flags = parser.parse_args(arguments)
  try:
    with File(flags.file, max_bytes=flags.max_bytes) as file:
      rows = list_file(file)
      if flags.sort != 'file':
        field = {'bytes': 'bytes', 'bits': 'bits_per_weight'}[flags.sort]
        rows.sort(key=lambda row: -getattr(row, field))
      if flags.json:
        print(json.dumps([_plain(row._asdict()) for row in rows]))
      else:
        print(format_listing(file, rows))
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except BrokenPipeError:
    sys.stderr.close()
  return 0


def _plain(row: dict) -> dict:
  """NaN is no JSON."""
  return {
    key: None if isinstance(value, float) and math.isnan(value) else value
    for key, value in row.items()
  }


if __name__ == '__main__':
  sys.exit(main())
