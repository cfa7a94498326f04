"""Pictures of trees: as many nodes as the tree has, and what is cut."""

import re

import jax
import numpy as np
import pytest

from compress import audit, distill
from compress.errors import InputError

CLASSES = [f'<{i}>' for i in range(4)]


def soft(depth):
  tree, _ = distill.init_soft_tree(
    jax.random.key(0), features=16, classes=4, depth=depth
  )
  return tree


def grown(depth):
  rng = np.random.default_rng(0)
  x = rng.uniform(0, 1, (300, 16))
  y = np.stack([x[:, i] * x[:, i + 4] for i in range(4)], axis=1)
  return distill.fit_regression_tree(x, 9 * y, depth=depth)


def drawn(plot):
  """Groups of inner nodes and of leaves in the SVG."""
  ids = re.findall(rf'<g id="{plot.name}-(inner|leaf)-', plot.svg)
  return ids.count('inner'), ids.count('leaf')


def picture(tree, **options):
  options = {
    'image_shape': (4, 4, 1),
    'classes': CLASSES,
    'caption': 'A tree.',
  } | options
  make = audit.soft_tree_picture
  if isinstance(tree, distill.RegressionTree):
    make = audit.regression_tree_picture
  return make('tree', tree, **options)


@pytest.mark.parametrize('depth', [1, 3, 4])
def test_a_soft_tree_has_its_nodes(depth):
  found = picture(soft(depth))
  assert drawn(found) == (2**depth - 1, 2**depth)
  assert found.svg.count('data:image/png') == 2**depth - 1
  assert found.caption == 'A tree.'
  assert f'{2**depth} leaves' in found.alt
  assert found.svg == picture(soft(depth)).svg


def test_a_deep_soft_tree_is_cut_and_says_so():
  found = picture(soft(5), most_depth=2)
  assert drawn(found) == (7, 0)
  assert 'cut at depth 2: 4 nodes stand for 32 leaves' in found.caption


@pytest.mark.parametrize('shape', [(4, 4, 1), None])
def test_a_regression_tree_has_its_nodes(shape):
  tree = grown(3)
  nodes = len(tree.feature)
  found = picture(tree, image_shape=shape)
  assert drawn(found) == (nodes // 2, nodes // 2 + 1)
  assert f'{nodes // 2 + 1} leaves' in found.alt
  assert found.caption == 'A tree.'


def test_a_deep_regression_tree_is_cut_and_says_so():
  tree = grown(6)
  found = picture(tree, most_depth=2, logits=False)
  assert drawn(found) == (3, 4)
  leaves = len(tree.feature) // 2 + 1
  assert f'stand for {leaves} leaves' in found.caption


def test_a_tree_of_one_leaf():
  found = picture(grown(0))
  assert drawn(found) == (0, 1)


def test_bad_inputs():
  with pytest.raises(InputError, match='of a tree of 16 inputs'):
    picture(soft(2), image_shape=(3, 3, 1))
  with pytest.raises(InputError, match='looks at input'):
    picture(grown(4), image_shape=(1, 1, 1))
  with pytest.raises(InputError, match='3 classes of a tree with 4'):
    picture(soft(2), classes=CLASSES[:3])
  with pytest.raises(InputError, match='most_depth 0'):
    picture(soft(2), most_depth=0)
