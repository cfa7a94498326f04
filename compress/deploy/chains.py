"""Chains of arithmetic with constants in a network's graph."""

import numpy as np

from compress.deploy.nodes import Node
from compress.deploy.requantized import Line


def users_of(outputs: list[Node]) -> dict[Node, list[Node | None]]:
  """Which nodes read each node; None stands for the model's output."""
  users: dict[Node, list[Node | None]] = {node: [None] for node in outputs}
  stack = list(users)
  while stack:
    node = stack.pop()
    for source in node.inputs:
      if source not in users:
        users[source] = []
        stack.append(source)
      users[source].append(node)
  return users


def in_order(outputs: list[Node]) -> list[Node]:
  """All nodes, each behind its inputs."""
  order: dict[Node, None] = {}
  stack = [(node, False) for node in reversed(outputs)]
  while stack:
    node, ready = stack.pop()
    if node in order:
      continue
    if ready:
      order[node] = None
      continue
    stack.append((node, True))
    stack.extend((source, False) for source in node.inputs)
  return list(order)


def quantizers_of(node: Node, users: dict[Node, list[Node | None]]) -> int:
  """How many quantizers a value goes to; 0 if it goes anywhere else."""
  count = 0
  for user in users[node]:
    if user is not None and user.op in ('constant', 'prelu', 'reshape'):
      found = quantizers_of(user, users)
    else:
      found = int(user is not None and user.op == 'quantize')
    if not found:
      return 0
    count += found
  return count


def line_of(chain: list[Node], *, width: int | None = None) -> Line | None:
  """The line that a chain of constants is.

  Args:
    chain: `constant` nodes, in order of evaluation.
    width: channels; None leaves the constants as they are.

  Returns:
    The line, None if it is none, or not one of channels.
  """
  gain, shift = np.float64(1), np.float64(0)
  for node in chain:
    kind, swapped = node['kind'], node['swapped']
    value = node['value'].astype(np.float64)
    if width is not None:
      value = channels_of(value, width)
    if value is None or kind in ('max', 'min') or (kind == 'div' and swapped):
      return None
    if kind == 'add':
      shift = shift + value
    elif kind == 'sub' and swapped:
      gain, shift = -gain, value - shift
    elif kind == 'sub':
      shift = shift - value
    elif kind == 'mul':
      gain, shift = gain * value, shift * value
    else:
      gain, shift = gain / value, shift / value
  if width is not None:
    gain, shift = (np.broadcast_to(x, (width,)) for x in (gain, shift))
  return Line(gain, shift)


def channels_of(value: np.ndarray, width: int) -> np.ndarray | None:
  """A constant as one number a channel, None if it varies otherwise."""
  if value.size == 1:
    return np.broadcast_to(value.reshape(()), (width,))
  if value.size == value.shape[-1] == width:
    return value.reshape(-1)
  return None


def stem_of(node: Node) -> str:
  """What names of a node begin with: its site, or what it does."""
  _, _, name = node.where.partition("'")
  return name.rstrip("'") or node.op
