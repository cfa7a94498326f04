"""Teachers and students of the distillation benchmark, and their features.

Every network has three stages; a feature has the same name in all of them:
`map0` after the first convolution, `map1` to `map3` at the ends of the stages,
`before1` to `before3` the same ahead of the activation, and `vector`, what the
last layer classifies. In wide ResNets the sums of the blocks, which have no
activation of their own, stand for both.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from compress import distill, graph, models
from compress.errors import InputError
from experiments.classification import networks
from experiments.classification.networks import Classifier
from experiments.classification.teaching import Teacher

_NARROW = (4, 8, 16)


class Known(NamedTuple):
  """A network that the benchmark knows.

  Attributes:
    title: what reports call it.
    make: `classes -> module`.
    features: the module's names, by those of the benchmark.
    depthwise: whether it has depthwise convolutions.
  """

  title: str
  make: Any
  features: dict[str, str]
  depthwise: bool = False


def _resnet(depth, widths):
  last = (depth - 2) // 6 - 1
  ends = {i: f'stage{i}/block{last}' for i in (1, 2, 3)}
  return Known(
    f'ResNet-{depth} of {"-".join(map(str, widths))}',
    lambda classes: models.cifar_resnet(depth, widths=widths, classes=classes),
    {
      'map0': 'stem/relu',
      **{f'map{i}': f'{end}/relu2' for i, end in ends.items()},
      **{f'before{i}': f'{end}/add' for i, end in ends.items()},
      'vector': 'pool',
    },
  )


def _wide(depth, widths):
  last = (depth - 4) // 6 - 1
  ends = {i: f'stage{i}/block{last}/add' for i in (1, 2, 3)}
  return Known(
    f'WRN-{depth} of {"-".join(map(str, widths))}',
    lambda classes: models.wide_resnet(
      depth, 1, widths=widths, classes=classes
    ),
    {
      'map0': 'stem',
      'map1': ends[1],
      'map2': ends[2],
      'map3': 'relu',
      **{f'before{i}': end for i, end in ends.items()},
      'vector': 'pool',
    },
  )


def _mobile(stem, widths):
  ends = {1: 'block1', 2: 'block3', 3: 'block5'}
  return Known(
    f'MobileNet of {"-".join(map(str, (widths[0], widths[2], widths[4])))}',
    lambda classes: models.MobileNet(
      stem=stem,
      widths=widths,
      strides=(1, 2, 1, 2, 1),
      classes=classes,
      small=True,
    ),
    {
      'map0': 'relu',
      **{f'map{i}': f'{end}/relu2' for i, end in ends.items()},
      **{f'before{i}': f'{end}/norm2' for i, end in ends.items()},
      'vector': 'pool',
    },
    depthwise=True,
  )


KNOWN = {
  'resnet56': _resnet(56, (16, 32, 64)),
  'resnet32': _resnet(32, (16, 32, 64)),
  'resnet20': _resnet(20, (16, 32, 64)),
  'resnet20_thin': _resnet(20, _NARROW),
  'resnet8': _resnet(8, (16, 32, 64)),
  'resnet8_thin': _resnet(8, _NARROW),
  'wrn40_2': _wide(40, (32, 64, 128)),
  'wrn40_1': _wide(40, (16, 32, 64)),
  'wrn16_2': _wide(16, (32, 64, 128)),
  'wrn10_2': _wide(10, (32, 64, 128)),
  'wrn10_thin': _wide(10, _NARROW),
  'mobilenet': _mobile(16, (16, 32, 32, 64, 64)),
  'mobilenet_thin': _mobile(4, (8, 16, 16, 32, 32)),
}
PAIRS = (
  'resnet20:resnet8_thin',
  'wrn10_2:wrn10_thin',
  'wrn10_2:resnet8_thin',
  'resnet20:mobilenet',
)
SMALLEST_PAIR = 'resnet20_thin:resnet8_thin'


def parse_pair(text: str) -> tuple[str, str]:
  """The teacher's and the student's key of `teacher:student`.

  Args:
    text: two keys of `KNOWN`.

  Returns:
    The keys.

  Raises:
    InputError: not two known networks.
  """
  parts = tuple(text.split(':'))
  if len(parts) != 2 or not set(parts) <= set(KNOWN):
    raise InputError(
      f'pair {text!r}; right is teacher:student, two of {", ".join(KNOWN)}'
    )
  return parts


def title(pair: str) -> str:
  """What reports call a pair."""
  return ' to '.join(KNOWN[name].title for name in parse_pair(pair))


def make_network(
  name: str,
  *,
  image_shape: tuple[int, int, int],
  classes: int,
  subclasses: int = 1,
) -> Classifier:
  """A classifier of `KNOWN`.

  Args:
    name: its key.
    image_shape: rows, columns and channels of an image.
    classes: K.
    subclasses: logits of every class.

  Returns:
    The classifier.
  """
  known = KNOWN[name]
  network = networks.from_module(
    name, known.make(classes * subclasses), image_shape=image_shape
  )
  if subclasses > 1:
    network = dataclasses.replace(
      network,
      classes=classes,
      owners=distill.even_owners(classes=classes, subclasses=subclasses),
    )
  if not known.depthwise:
    return network
  # On a CPU a step of MobileNet takes six times as long without.
  rule = graph.compose(graph.cpu_rules())
  return dataclasses.replace(
    network,
    apply=graph.rewrite(network.apply, rule),
    learn=graph.rewrite(network.learn, rule),
  )


def feature_shapes(name: str, network: Classifier) -> dict[str, tuple]:
  """Name of the benchmark to the shape of one image's feature.

  Args:
    name: key of `KNOWN`.
    network: of `make_network`, as itself or with other outputs.

  Returns:
    (H, W, C) or (D,) by name.
  """
  names: Mapping[str, str] = KNOWN[name].features
  image = jax.ShapeDtypeStruct((1, *network.image_shape), jnp.float32)
  variables = jax.eval_shape(network.init, jax.random.key(0))
  found = {}
  for key, place in names.items():
    tapped = distill.tap_features(network.apply, [place])
    _, features = jax.eval_shape(tapped, variables, image)
    found[key] = features[place].shape[1:]
  return found


def parameters(found: Teacher) -> int:
  """Trained parameters of a network."""
  return sum(
    math.prod(leaf.shape) for leaf in jax.tree.leaves(found.variables['params'])
  )
