import numpy as np
import pytest

from compress.errors import InputError
from compress.models.graph_walk import Node, Walk


def walk(*nodes, inputs=('x',), **constants):
  return Walk(
    'net.onnx', nodes, right='another', inputs=inputs, constants=constants
  )


CONV = Node('Conv', ('x', 'w'), ('y',), {'group': 1})
RELU = Node('Relu', ('y',), ('z',), {})


def test_follows_a_graph():
  graph = walk(CONV, RELU, w=np.arange(6).reshape(2, 3))
  assert graph.start() == 'x'
  assert graph.step('x', 'Conv') is CONV
  assert graph.find('x', 'Relu') is None
  assert graph.skip('y', 'Relu', 'Identity') == 'z'
  graph.end('z')
  graph.expect(CONV, group=1, pads=[0, 0])
  array = graph.shaped(CONV, 1, [2, None])
  assert array.dtype == np.float32
  np.testing.assert_array_equal(array, [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda g: g.step('y', 'Conv', 'Add'), "Conv or Add after 'y', found Relu"),
    (lambda g: g.step('z', 'Conv'), "after 'z', found the end"),
    (lambda g: g.end('y'), 'Relu follows'),
    (lambda g: g.constant(CONV, 0), 'operand 0 of the Conv'),
    (lambda g: g.constant(CONV, 2), 'operand 2 of the Conv'),
    (lambda g: g.shaped(CONV, 1, [None, 4]), r'\[2, 3\] instead of \[any, 4'),
    (lambda g: g.shaped(CONV, 1, [6]), r'\[2, 3\] instead of \[6\]'),
    (lambda g: g.expect(CONV, group=3), 'group of the Conv .* is 1 instead of'),
  ],
)
def test_what_does_not_fit_is_named(call, message):
  with pytest.raises(InputError, match=message) as caught:
    call(walk(CONV, RELU, w=np.arange(6).reshape(2, 3)))
  assert str(caught.value).startswith('net.onnx: ')
  assert str(caught.value).endswith('right is another')


def test_two_inputs():
  with pytest.raises(InputError, match='2 inputs instead of 1'):
    walk(CONV, inputs=('x', 'v')).start()


@pytest.mark.parametrize(
  'nodes', [(RELU, CONV), (Node('Identity', ('x',), ('x',), {}),)]
)
def test_order_is_checked(nodes):
  with pytest.raises(InputError, match='read before it is computed'):
    walk(*nodes)
