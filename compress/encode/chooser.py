"""Every codec under its name, for who chooses and for who reads a file."""

from collections.abc import Callable, Sequence

from compress.encode.codec import Codec
from compress.encode.context_models import context_coder
from compress.encode.fixed_width import plain
from compress.encode.numeral_systems import adaptive_ans, ans
from compress.encode.prefix_codes import huffman
from compress.encode.sparse_index import sparse

Codecs = Callable[..., Sequence[Codec]]
"""`(*, row_length) -> codecs` to choose from, as `all_codecs`."""


def all_codecs(*, row_length: int | None = None) -> tuple[Codec, ...]:
  """All codecs, for `smallest`; what is faster to decode stands first.

  Args:
    row_length: codes in a row, as `context_coder` takes it: the last axis of
      a kernel.

  Returns:
    plain, huffman, ans, adaptive_ans, sparse, context.
  """
  simple = plain(), huffman(), ans(), adaptive_ans()
  # Survivors and distances have no rows.
  inner = *simple, context_coder()
  return *simple, sparse(inner), context_coder(row_length=row_length)


def plain_codecs(*, row_length: int | None = None) -> tuple[Codec, ...]:
  """Codes packed to their bits alone, for `save`: what `nbytes` counts."""
  del row_length
  return (plain(),)


def codec_named(name: str) -> Codec:
  """The codec that decodes what a codec of this name encoded.

  Args:
    name: as in `Codec.name`.

  Returns:
    The codec.

  Raises:
    ValueError: there is none.
  """
  for codec in all_codecs():
    if codec.name == name:
      return codec
  raise ValueError(f'codec {name!r} is not known')
