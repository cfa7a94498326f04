"""Layers computed only where a strided convolution will read them."""

import dataclasses

import numpy as np

from compress.deploy.chains import in_order, quantizers_of, users_of
from compress.deploy.nodes import Node


def thin(outputs: list[Node]) -> list[Node]:
  """Moves the strides of 1 x 1 convolutions to the layer before.

  A convolution of one tap and strides s reads every s-th pixel of its input.
  Where that input is a quantizer of its own (the shortcut of a residual block),
  all between it and the convolution before is needed at those pixels alone.

  Args:
    outputs: nodes of a network's outputs.

  Returns:
    The outputs of the same network.
  """
  users = users_of(outputs)
  made: dict[Node, Node] = {}
  for node in in_order(outputs):
    inputs = tuple(made[source] for source in node.inputs)
    changed = any(a is not b for a, b in zip(inputs, node.inputs, strict=True))
    again = dataclasses.replace(node, inputs=inputs) if changed else node
    if _is_strided(node):
      moved = _moved(node, users, made)
      if moved is not None:
        given = {**node.given, 'strides': (1, 1)}
        again = dataclasses.replace(node, inputs=(moved,), given=given)
    made[node] = again
  return [made[node] for node in outputs]


def _is_strided(node: Node) -> bool:
  return (
    node.op == 'conv'
    and node['weight'].codes.shape[:2] == (1, 1)
    and node['strides'] != (1, 1)
    and not any(node['pads'])
    and node.inputs[0].op == 'quantize'
  )


def _moved(node: Node, users, made) -> Node | None:
  """The quantizer before a strided convolution, at the pixels that it reads."""
  quantizer, strides = node.inputs[0], node['strides']
  alike = all(
    user is not None and _is_strided(user) and user['strides'] == strides
    for user in users[quantizer]
  )
  chain, root = [quantizer], quantizer.inputs[0]
  while root.op in ('constant', 'prelu') and _of_channels(root):
    chain.append(root)
    root = root.inputs[0]
  if root.op != 'conv' or root.inputs[0].op != 'quantize' or not alike:
    return None
  if not quantizers_of(root, users):
    return None
  height, width, _ = node.shape
  given = {
    **root.given,
    'strides': tuple(
      a * b for a, b in zip(root['strides'], strides, strict=True)
    ),
  }
  found = dataclasses.replace(
    root,
    inputs=tuple(made[source] for source in root.inputs),
    shape=(height, width, root.shape[-1]),
    given=given,
  )
  for link in reversed(chain):
    shape = (height, width, link.shape[-1])
    found = dataclasses.replace(link, inputs=(found,), shape=shape)
  return found


def _of_channels(node: Node) -> bool:
  value = np.asarray(node['slope' if node.op == 'prelu' else 'value'])
  return value.size in (1, value.shape[-1] if value.ndim else 1)
