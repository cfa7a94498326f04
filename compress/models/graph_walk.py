"""Reading a stored network by following its graph from the input.

A weights file of another tool is first turned into nodes and constants, then
walked from the input in the order in which the network is built here. Whatever
does not fit is an InputError that names the file, the place, and what the file
should hold.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from compress.errors import InputError


@dataclasses.dataclass(frozen=True)
class Node:
  """One operation of a stored graph.

  Attributes:
    op: its type, in the words of the file's format.
    inputs: names of the tensors it reads.
    outputs: names of the tensors it writes.
    attributes: its options, plain Python values.
  """

  op: str
  inputs: tuple[str, ...]
  outputs: tuple[str, ...]
  attributes: Mapping[str, Any]


class Walk:
  """A stored graph that is followed from tensor to tensor.

  Attributes:
    path: the file, for messages.
    right: what the file should be, for messages.
    nodes: the operations that are walked.
    inputs: names of the graph's inputs that are no constants.
    constants: arrays by tensor name.
  """

  def __init__(
    self,
    path: str,
    nodes: Sequence[Node],
    *,
    right: str,
    inputs: Sequence[str],
    constants: Mapping[str, np.ndarray],
  ):
    self.path = path
    self.right = right
    self.nodes = tuple(nodes)
    self.inputs = tuple(inputs)
    self.constants = constants
    self._readers: dict[str, list[Node]] = {}
    for node in nodes:
      for name in dict.fromkeys(node.inputs):
        self._readers.setdefault(name, []).append(node)
      # Both formats ask for this order; it also rules out endless walks.
      for name in node.outputs:
        if name in self._readers:
          self.fail(f'{name!r} is read before it is computed')

  def fail(self, reason: str) -> NoReturn:
    """Raises the InputError of this file: the reason, and what is right."""
    raise InputError(f'{self.path}: {reason}; right is {self.right}')

  def start(self) -> str:
    """Returns the name of the one input of the graph."""
    if len(self.inputs) != 1:
      self.fail(f'the graph has {len(self.inputs)} inputs instead of 1')
    return self.inputs[0]

  def find(self, tensor: str, *ops: str) -> Node | None:
    """Returns the first reader of `tensor` with one of the `ops`, or None."""
    readers = self._readers.get(tensor, ())
    return next((node for node in readers if node.op in ops), None)

  def step(self, tensor: str, *ops: str) -> Node:
    """Returns the reader of `tensor` with one of the `ops`, or fails."""
    node = self.find(tensor, *ops)
    if node is None:
      found = [n.op for n in self._readers.get(tensor, ())]
      self.fail(
        f'expected {" or ".join(ops)} after {tensor!r}, '
        f'found {" and ".join(found) or "the end"}'
      )
    return node

  def skip(self, tensor: str, *ops: str) -> str:
    """Follows `tensor` through nodes of the `ops`, which change no value."""
    while node := self.find(tensor, *ops):
      tensor = node.outputs[0]
    return tensor

  def end(self, tensor: str) -> None:
    """Fails unless nothing reads `tensor`."""
    if readers := self._readers.get(tensor):
      self.fail(f'{readers[0].op} follows {tensor!r}, where it should end')

  def constant(self, node: Node, index: int) -> np.ndarray:
    """Returns constant operand `index` of `node`, or fails."""
    name = node.inputs[index] if index < len(node.inputs) else ''
    if name not in self.constants:
      self.fail(
        f'operand {index} of the {node.op} {node.outputs[0]!r} is no '
        'stored constant'
      )
    return self.constants[name]

  def shaped(
    self, node: Node, index: int, shape: Sequence[int | None]
  ) -> np.ndarray:
    """Returns constant operand `index` as float32, its shape checked.

    Args:
      node: the reader.
      index: the operand's place.
      shape: the right shape; None stands for any length.

    Returns:
      A float32 array of that shape.
    """
    value = self.constant(node, index)
    same = value.ndim == len(shape) and all(
      want in (None, got) for want, got in zip(shape, value.shape, strict=True)
    )
    if not same:
      want = ', '.join('any' if n is None else str(n) for n in shape)
      self.fail(
        f'{node.inputs[index]!r} has shape {list(value.shape)} '
        f'instead of [{want}]'
      )
    return np.asarray(value, np.float32)

  def expect(self, node: Node, **attributes: Any) -> None:
    """Fails unless the node has these attributes."""
    for key, want in attributes.items():
      got = node.attributes.get(key, want)
      if got != want:
        self.fail(
          f'{key} of the {node.op} {node.outputs[0]!r} is {got} '
          f'instead of {want}'
        )
