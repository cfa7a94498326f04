"""The kinds of inputs that a trained classifier is taught from and judged on.

A new kind is a row here, a method of `data_free_inputs.Maker`, and its words in
`data_free_words`.
"""

from typing import NamedTuple


class Kind(NamedTuple):
  """What the study has to know of a kind.

  Attributes:
    stream: number of its random stream, which stays when kinds come and go.
    photographs: what it needs real images for, in a word or two; empty for
      inputs that are made from the teacher alone.
    control: others are compared with it.
    batch_norm: it needs a teacher with BatchNorms.
    in_range: its images are within the range of pixels.
  """

  stream: int
  photographs: str = ''
  control: bool = False
  batch_norm: bool = False
  in_range: bool = True


KINDS = {
  'real': Kind(0, photographs='as inputs', control=True),
  'cgan_kd': Kind(8, photographs='all, for a GAN'),
  'deep_inversion': Kind(1, batch_norm=True),
  'batch_norm': Kind(2, batch_norm=True),
  'class_impressions': Kind(3),
  'data_impressions': Kind(4),
  'soft_targets': Kind(5),
  'kegnet': Kind(6, in_range=False),
  'noise': Kind(7, control=True, in_range=False),
}
