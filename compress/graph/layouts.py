"""The layouts of operations that other forms of a network know."""

from collections.abc import Mapping
from typing import Any


def is_image_convolution(params: Mapping[str, Any]) -> bool:
  """Whether a convolution is one of images, channels last.

  Args:
    params: of a `conv_general_dilated`.

  Returns:
    True if it takes `[B, H, W, C]` and a kernel `[KH, KW, C / groups, O]` to
    `[B, H, W, O]`, its input is not dilated (as a transposed convolution's is),
    and its batch is not grouped.
  """
  numbers = params['dimension_numbers']
  return (
    tuple(numbers.lhs_spec) == tuple(numbers.out_spec) == (0, 3, 1, 2)
    and tuple(numbers.rhs_spec) == (3, 2, 0, 1)
    and set(params['lhs_dilation']) == {1}
    and params['batch_group_count'] == 1
  )


def is_dense_product(params: Mapping[str, Any], ranks: tuple[int, int]) -> bool:
  """Whether a product is that of a dense layer.

  Args:
    params: of a `dot_general`.
    ranks: of its two operands.

  Returns:
    True if it takes `[..., I]` and `[I, O]` to `[..., O]`.
  """
  (lhs, rhs), (batch, _) = params['dimension_numbers']
  return (
    ranks[1] == 2
    and tuple(lhs) == (ranks[0] - 1,)
    and tuple(rhs) == (0,)
    and not batch
  )
