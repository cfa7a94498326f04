"""Pictures of trees that were taught: what they look at, what they answer.

A soft decision tree shows at every inner node the weights of its gate, as an
image: the more the input is like the blue, and unlike the orange, the surer it
goes right. A regression tree shows which pixel it compares with what. A leaf
shows the class that it answers and its distribution over the classes. Deep
trees are cut, and the figure says so.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from scipy import special

from compress.audit import numerals, plot_style
from compress.audit.plot_parts import Plot
from compress.distill import RegressionTree, SoftTree
from compress.errors import InputError

_DIVERGING = LinearSegmentedColormap.from_list(
  'left-right', ['#d55e00', '#f7f7f5', '#0072b2']
)
_PLAIN = LinearSegmentedColormap.from_list('pixel', ['#e9ebee', '#0072b2'])
_COLUMN, _ROW = 0.54, 0.98  # inches a leaf, and a level
_FILTER, _LEAF = 0.46, 0.42  # inches across
_WIDE = 6.0  # inches, above which half of a page is too little


class _Node(NamedTuple):
  """A node as it is drawn.

  Attributes:
    number: in the tree.
    depth: the root's is 0.
    x: leaves from the left; an inner node is between its children.
    children: numbers, left and right; none for what is drawn as an end.
    hidden: leaves below that are not drawn.
  """

  number: int
  depth: int
  x: float
  children: tuple[int, ...]
  hidden: int


def soft_tree_picture(
  name: str,
  tree: SoftTree,
  *,
  image_shape: tuple[int, int, int],
  classes: Sequence[str],
  caption: str,
  most_depth: int = 4,
) -> Plot:
  """A soft decision tree with the filters of its gates.

  Args:
    name: id of the figure on the page, letters and hyphens.
    tree: the tree.
    image_shape: H, W and C of its inputs; channels are added up.
    classes: K names.
    caption: below the figure; what is cut is added.
    most_depth: levels of inner nodes that are drawn, 1 or more.

  Returns:
    The figure. Every filter has its own scale, symmetric around 0.

  Raises:
    InputError: a shape or classes that do not fit, a depth below 1.
  """
  weight = np.asarray(tree.weight, np.float64)
  weight = weight * np.asarray(tree.steepness, np.float64)[:, None]
  if int(np.prod(image_shape)) != weight.shape[1] or len(image_shape) != 3:
    raise InputError(
      f'image_shape {image_shape} of a tree of {weight.shape[1]} inputs; right '
      'is H, W and C whose product that is'
    )
  q = special.softmax(np.asarray(tree.leaves, np.float64), axis=1)
  _check(q, classes, most_depth)
  inner = len(weight)

  def children(node):
    return (2 * node + 1, 2 * node + 2) if node < inner else ()

  nodes = _layout(children, most_depth)
  filters = weight.reshape(-1, *image_shape).sum(axis=-1)

  def draw(figure, node, place):
    if node.number >= inner:
      _bars(figure, place, q[node.number - inner], classes, f'leaf-{node.x:g}')
      return
    image = filters[node.number]
    largest = max(np.abs(image).max(), 1e-12)
    _image(
      figure,
      place,
      image / largest,
      gid=f'inner-{node.number}',
      cmap=_DIVERGING,
      limits=(-1, 1),
    )

  return _tree(
    name,
    nodes,
    draw,
    caption,
    words=f'Soft decision tree of {len(q)} leaves. Best classes of the leaves '
    f'from the left: {_classes(q, classes)}.',
    headed=lambda node: node.number >= inner,
  )


def regression_tree_picture(
  name: str,
  tree: RegressionTree,
  *,
  image_shape: tuple[int, int, int] | None,
  classes: Sequence[str],
  caption: str,
  most_depth: int = 4,
  logits: bool = True,
) -> Plot:
  """A regression tree: the pixel and the bound of every split.

  Args:
    name: id of the figure on the page, letters and hyphens.
    tree: the tree.
    image_shape: H, W and C of its inputs, for a picture of the pixel; None
      writes the number of the input alone.
    classes: K names.
    caption: below the figure; what is cut is added.
    most_depth: levels of splits that are drawn, 1 or more.
    logits: the tree's values are logits, drawn as probabilities; otherwise
      they are probabilities.

  Returns:
    The figure. To the left goes what is at most the bound.

  Raises:
    InputError: a shape or classes that do not fit, a depth below 1.
  """
  value = np.asarray(tree.value, np.float64)
  q = special.softmax(value, axis=1) if logits else value
  _check(q, classes, most_depth)
  feature, threshold = np.asarray(tree.feature), np.asarray(tree.threshold)
  left, right = np.asarray(tree.left), np.asarray(tree.right)
  if image_shape is not None and (
    len(image_shape) != 3 or feature.max() >= np.prod(image_shape)
  ):
    raise InputError(
      f'image_shape {image_shape} of a tree that looks at input '
      f'{feature.max()}; right is H, W and C of all inputs'
    )

  def children(node):
    if left[node] == node:
      return ()
    return int(left[node]), int(right[node])

  nodes = _layout(children, most_depth)
  ends = [n.number for n in nodes.values() if not n.children]

  def draw(figure, node, place):
    if not node.children:
      _bars(figure, place, q[node.number], classes, f'leaf-{node.number}')
      return
    split = int(feature[node.number])
    bound = f'≤ {threshold[node.number]:.3g}'
    gid = f'inner-{node.number}'
    if image_shape is None:
      _words(figure, place, f'input {split}\n{bound}', gid)
      return
    row, column, _ = np.unravel_index(split, image_shape)
    image = np.zeros(image_shape[:2])
    image[row, column] = 1
    axes = _image(figure, place, image, gid=gid, cmap=_PLAIN, limits=(0, 1))
    axes.set_title(f'({row + 1}, {column + 1}) {bound}', fontsize=6.5, pad=2)

  more = len(_layout(children, 10**6)) // 2 + 1
  return _tree(
    name,
    nodes,
    draw,
    caption,
    words=f'Regression tree of {more} leaves. Classes of the ends drawn, from '
    f'the left: {_classes(q[ends], classes)}.',
    headed=lambda node: image_shape is not None or not node.children,
  )


def _check(q, classes, most_depth):
  if q.shape[1] != len(classes) or most_depth < 1:
    raise InputError(
      f'{len(classes)} classes of a tree with {q.shape[1]}, most_depth '
      f'{most_depth}; right is a name each, and 1 or more'
    )


def _layout(children, most_depth: int) -> dict[int, _Node]:
  """Nodes to draw, in the order left, right, own; ends one column each."""
  nodes: dict[int, _Node] = {}
  column = 0.0

  def leaves(node):
    below = children(node)
    return sum(leaves(child) for child in below) if below else 1

  def visit(node, depth):
    nonlocal column
    below = children(node)
    if not below or depth == most_depth:
      nodes[node] = _Node(node, depth, column, (), leaves(node) if below else 0)
      column += 1
      return nodes[node].x
    x = sum(visit(child, depth + 1) for child in below) / 2
    nodes[node] = _Node(node, depth, x, below, 0)
    return x

  visit(0, 0)
  return nodes


def _tree(
  name, nodes: Mapping[int, _Node], draw, caption, *, words, headed
) -> Plot:
  """Draws a layout.

  `draw(figure, node, place)` draws a node, and `headed(node)` says whether
  something is written above it.
  """
  columns = 1 + max(node.x for node in nodes.values())
  depth = max(node.depth for node in nodes.values())
  width = max(_COLUMN * columns + 0.1, 2.2)
  height = _ROW * (depth + 1) + 0.05
  offset = (width - _COLUMN * columns) / 2
  with matplotlib.rc_context(plot_style.RC | {'axes.grid': False}):
    figure = Figure(figsize=(width, height))
    FigureCanvasSVG(figure)
    figure.patch.set_alpha(0)
    whole = figure.add_axes((0, 0, 1, 1))
    whole.set_axis_off()
    whole.set_xlim(0, width)
    whole.set_ylim(0, height)

    def centre(node):
      x = offset + _COLUMN * (node.x + 0.5)
      return x, height - _ROW * (node.depth + 0.5)

    for node in nodes.values():
      x, y = centre(node)
      for child in node.children:
        to, down = centre(nodes[child])
        top = (_FILTER if nodes[child].children else _LEAF) / 2
        whole.plot(
          [x, to],
          [y - _FILTER / 2, down + top + (0.17 if headed(nodes[child]) else 0)],
          color=plot_style.MUTED,
          linewidth=0.9,
        )
      size = _FILTER if node.children else _LEAF
      box = (
        (x - size / 2) / width,
        (y - size / 2) / height,
        size / width,
        size / height,
      )
      draw(figure, node, box)
      if node.hidden:
        whole.text(
          x,
          y - size / 2 - 0.1,
          f'⋯ {node.hidden} leaves',
          ha='center',
          va='center',
          fontsize=6.5,
        )
    svg = plot_style.to_svg(figure, prefix=name)
  if width > _WIDE:
    # The page gives it a row of its own.
    svg = svg.replace('<svg ', '<svg class="wide" ', 1)
  hidden = sum(node.hidden for node in nodes.values())
  if hidden:
    ends = sum(node.hidden > 0 for node in nodes.values())
    caption += (
      f' The tree is cut at depth {depth}: {ends} nodes stand for {hidden} '
      'leaves below them.'
    )
  return Plot(name, svg, caption, words)


def _image(figure, place, image, *, gid, cmap, limits):
  axes = figure.add_axes(place)
  axes.set_gid(gid)
  axes.imshow(image, cmap=cmap, vmin=limits[0], vmax=limits[1])
  axes.set_xticks([])
  axes.set_yticks([])
  axes.spines[:].set_visible(True)
  axes.spines[:].set_color(plot_style.MUTED)
  return axes


def _words(figure, place, text, gid):
  axes = figure.add_axes(place)
  axes.set_gid(gid)
  axes.set_axis_off()
  axes.text(0.5, 0.5, text, ha='center', va='center', fontsize=7)


def _bars(figure, place, q, classes, gid):
  """A leaf: its class above, probabilities of all classes as bars."""
  axes = figure.add_axes(place)
  axes.set_gid(gid)
  axes.patch.set_alpha(0)
  top = int(q.argmax())
  colours = [plot_style.MUTED] * len(q)
  colours[top] = plot_style.PALETTE[0]
  axes.bar(np.arange(len(q)), q, 0.9, color=colours)
  axes.set_ylim(0, 1)
  axes.set_xlim(-0.6, len(q) - 0.4)
  axes.set_xticks([])
  axes.set_yticks([])
  axes.spines['left'].set_visible(False)
  label = f'{numerals.shorten(str(classes[top]), 10)} · {100 * q[top]:.0f} %'
  axes.set_title(label, fontsize=7, pad=2)


def _classes(q, classes) -> str:
  return ', '.join(str(classes[i]) for i in q.argmax(1)[:64])
