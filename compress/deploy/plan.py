"""Which operations of a network become one integer operation."""

import collections
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from compress.deploy import requantized
from compress.deploy.chains import (
  channels_of,
  in_order,
  line_of,
  quantizers_of,
  users_of,
)
from compress.deploy.nodes import Node, Quantizer, Weight
from compress.deploy.requantized import IntegerKernel, Line
from compress.errors import InputError


class Requantized(NamedTuple):
  """Codes that come straight from an integer convolution.

  Attributes:
    root: the convolution's node.
    how: `one`, `max`, `min` or `both`, see `requantized.extreme`.
    kernels: one for each of its lines.
  """

  root: Node
  how: str
  kernels: tuple[IntegerKernel, ...]


class Plan:
  """What is known of a graph's nodes from those around them.

  ONNX and JAX get the same arithmetic because both ask here.

  Attributes:
    users: which nodes read each; None stands for the model's output.
    readers: how many they are.
  """

  def __init__(self, outputs: list[Node]):
    self.users = users_of(outputs)
    self.readers = collections.Counter(
      {node: len(users) for node, users in self.users.items()}
    )
    self._needed = [
      node for node in in_order(outputs) if node.op in ('quantize', 'pair')
    ]
    self._requantized: dict[Node, Requantized | None] = {}
    self._inner: dict[Node, Node] = {}

  def evaluate_blocks(
    self, codes: Callable[[Node], Any], value: Callable[[Node], Any]
  ) -> None:
    """Evaluates quantizers and sums in order, which some reader will need.

    What is behind them finds them done, so that recursion stays in a block.

    Args:
      codes: evaluates a quantizer.
      value: evaluates a node as floats.
    """
    for node in self._needed:
      if node.op == 'quantize':
        codes(node)
      else:
        value(node)

  def fused(self, node: Node) -> tuple[Node, Line] | None:
    """The layer before a chain of constants that nothing else reads."""
    chain = [node]
    while chain[-1].inputs[0].op == 'constant':
      chain.append(chain[-1].inputs[0])
    root = chain[-1].inputs[0]
    if root.op not in ('conv', 'dense'):
      return None
    if any(self.readers[n] != 1 for n in [*chain[1:], root]):
      return None
    line = line_of(chain[::-1], width=root.shape[-1])
    return None if line is None else (root, line)

  def chain(self, node: Node) -> tuple[Node, Line] | None:
    """What a long chain of constants begins with, and the line that it is."""
    chain = [node]
    while (
      chain[-1].inputs[0].op == 'constant'
      and self.readers[chain[-1].inputs[0]] == 1
    ):
      chain.append(chain[-1].inputs[0])
    line = None if len(chain) < 3 else line_of(chain[::-1])
    return None if line is None else (chain[-1].inputs[0], line)

  def before_reshape(self, node: Node) -> Node | None:
    """The same quantizer before a reshape: codes are fewer bytes to move."""
    source = node.inputs[0]
    if source.op != 'reshape' or self.readers[source] != 1:
      return None
    if node not in self._inner:
      (value,) = source.inputs
      inner = Node('quantize', (value,), value.shape, node.where, node.given)
      self._inner[node] = inner
    return self._inner[node]

  def requantized(self, node: Node) -> Requantized | None:
    """The integer convolution that gives a quantizer its codes, or None."""
    if node not in self._requantized:
      self._requantized[node] = self._make_requantized(node)
    return self._requantized[node]

  def _make_requantized(self, node: Node) -> Requantized | None:
    found = self.bent(node)
    if found is None:
      return None
    root, lines, above = found
    if len(lines) > 1 and not _cheaper_twice(root):
      return None
    weight = root['weight']
    how, lines, absent = requantized.extreme(lines, above)
    kernels = tuple(
      requantized.integer_kernel(
        weight.codes,
        weight.scale,
        line,
        input_scale=root.inputs[0]['q'].scale,
        output_scale=node['q'].scale,
        absent=absent if how == 'both' and i == 2 else None,
      )
      for i, line in enumerate(lines)
    )
    if any(kernel is None for kernel in kernels):
      return None
    return Requantized(root, how, kernels)

  def bent(self, node: Node):
    """The convolution before a quantizer, and the lines between the two."""
    chain, root = [], node.inputs[0]
    while root.op in ('constant', 'prelu'):
      chain.append(root)
      root = root.inputs[0]
    if not is_integer(root) or root.op != 'conv':
      return None
    if not 1 <= quantizers_of(root, self.users) <= 2:
      return None
    bends = [i for i, n in enumerate(chain) if n.op == 'prelu']
    if len(bends) > 1:
      return None
    width = root.shape[-1]
    if not bends:
      line = line_of(chain[::-1], width=width)
      return None if line is None else (root, (line,), np.ones(width, bool))
    before = line_of(chain[bends[0] + 1 :][::-1], width=width)
    after = line_of(chain[: bends[0]][::-1], width=width)
    slope = channels_of(chain[bends[0]]['slope'], width)
    if before is None or after is None or slope is None:
      return None
    lines = tuple(
      Line(line.gain * after.gain, line.shift * after.gain + after.shift)
      for line in requantized.bend(before, slope.astype(np.float64))
    )
    return root, lines, after.gain * (1 - slope) >= 0


def is_integer(node: Node) -> bool:
  """Whether a layer has codes on both sides."""
  return (
    node.op in ('conv', 'dense')
    and node.inputs[0].op == 'quantize'
    and node['weight'].scale is not None
  )


def is_product(node: Node) -> bool:
  """Whether an integer layer can be a matrix product with a float result."""
  return is_integer(node) and (
    node.op == 'dense' or (node['groups'] == 1 and node['dilations'] == (1, 1))
  )


def float_kernel(
  weight: Weight, line: Line | None, q: Quantizer, stem: str
) -> IntegerKernel:
  """The integer kernel and bias of a layer with a float result.

  Args:
    weight: integer codes.
    line: of the result, None for the result itself.
    q: of the input.
    stem: for the message.

  Returns:
    The kernel.

  Raises:
    InputError: int32 cannot hold the bias.
  """
  width = weight.codes.shape[-1]
  if line is None:
    line = Line(np.ones(width), np.zeros(width))
  kernel = requantized.integer_kernel(
    weight.codes,
    weight.scale,
    line,
    input_scale=q.scale,
    output_scale=np.float32(0),
  )
  if kernel is None:
    raise InputError(
      f'{stem}: its bias is too large for an integer; the network seems not '
      'to be trained'
    )
  return kernel


def _cheaper_twice(root: Node) -> bool:
  """Whether a second integer convolution costs less than floats after one.

  In units of one multiply-accumulate, measured with onnxruntime 1.31 on a core
  with VNNI: bias, PReLU and quantizer in floats take 370 an element, a byte of
  a gathered patch 28.
  """
  kh, kw, channels, out_channels = root['weight'].codes.shape
  taps = kh * kw * channels
  gathered = taps if (kh, kw) != (1, 1) or root['strides'] != (1, 1) else 0
  return root['groups'] > 1 or taps <= 370 + 28 * gathered / out_channels
