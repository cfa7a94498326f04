"""Filters that are alike are one: clusters, each left with its strongest.

Duggal, Xiao, Vuduc, Sun 2019, 'CUP: Cluster Pruning for Compressing Deep
Neural Networks', arXiv:1911.08630. A filter is described by what comes in and
what goes out,

  f_o = [ ||W_in[i, o]||_F ]_i  joined with  [ ||W_out[o, o']||_F ]_o' ,

of units in layers without positions by the weights themselves. The filters of
a layer are clustered (Ward linkage, Euclidean distance, cut at a threshold t),
and the one of greatest ||f_o|| stays of each cluster. One t for all layers
makes widths that differ. CUP-SS raises t linearly while the network is first
trained, t(epoch) = 0.03 epoch + 0.3, and needs no retraining. Reported on
ResNet-50, ImageNet, of 75.86 % top-1: 75.07 % at 2.18 times fewer operations
(t = 0.65), 74.60 % at 2.47 (0.70); CUP-SS 74.40 % at 2.20.

Features are not normalised, so a threshold means something for one network
alone: it depends on widths and weight decay.

Departures: a group of `graph.channels` that several layers make or read joins
the features of all of them, where the code leaves residual connections out.
Representatives are never averages. Clusters that are dropped take what they
gave to the next layer with them, as published: even without one of two equal
filters the output changes. `absorb_clusters` adds it to the representative
instead, which is exact for filters that are equal all the way.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.cluster import hierarchy

from compress.errors import InputError
from compress.graph import ChannelGroup
from compress.prune.paths import by_path


class Clusters(NamedTuple):
  """Clusters of the channels of one group.

  Attributes:
    keep: bool [n], the representatives.
    representative: int [n], the index of that of each channel's cluster.
  """

  keep: np.ndarray
  representative: np.ndarray


def filter_features(
  kernel: jax.Array,
  following: jax.Array | None = None,
  *,
  bias: jax.Array | None = None,
) -> np.ndarray:
  """The features of the filters of one layer.

  Args:
    kernel: [..., I, n], that makes the channels.
    following: [..., n, O], that reads them; or [p n, O] of a Dense layer behind
      p positions that a flattening put first. None: they are not read.
    bias: [n], to be counted among the features, or None.

  Returns:
    float64 [n, F]; of Dense layers without positions the weights themselves,
    else norms over positions.

  Raises:
    InputError: the shapes do not fit.
  """
  kernel = np.asarray(kernel, np.float64)
  n = kernel.shape[-1]
  parts = [_incoming(kernel)]
  norms = kernel.ndim > 2
  if following is not None:
    following = np.asarray(following, np.float64)
    if following.ndim < 2 or following.shape[-2] % n:
      raise InputError(
        f'a kernel of shape {list(following.shape)} follows one of {n} '
        f'filters; right is [..., {n}, O]'
      )
    indices = np.arange(following.shape[-2]).reshape(-1, n).T
    parts.append(_outgoing(following, indices))
    norms |= following.ndim > 2 or indices.shape[1] > 1
  features = np.concatenate(
    [_norms(part) if norms else part[:, :, 0] for part in parts], 1
  )
  return features if bias is None else _with_bias(features, bias)


def group_features(
  variables, groups: Sequence[ChannelGroup], *, with_bias: bool = False
) -> dict[str, np.ndarray]:
  """The features of the channels of every group.

  Args:
    variables: pytree of arrays that the groups' members are paths of; kernels
      [..., I, O], as in Flax.
    groups: of `graph.channels`.
    with_bias: count biases (leaves named `bias`) among the features.

  Returns:
    Group name to float64 [n, F]; groups without a kernel are left out.

  Raises:
    InputError: a member is no leaf of the variables, or a kernel has its
      channels on other axes than the last two.
  """
  leaves = by_path(variables)
  found = {}
  for group in groups:
    parts, norms = [], False
    for member in group.members:
      if member.path not in leaves:
        raise InputError(f'{member.path}: a group has it, the variables do not')
      leaf = np.asarray(leaves[member.path], np.float64)
      if member.role != 'elementwise':
        parts.append(_member_features(leaf, member))
        norms |= leaf.ndim > 2 or member.indices.shape[1] > 1
    if not parts:
      continue
    features = np.concatenate(
      [
        _norms(part) if norms else part.reshape(group.size, -1)
        for part in parts
      ],
      1,
    )
    if with_bias:
      for member in group.members:
        if member.path.rsplit('/', 1)[-1] == 'bias':
          bias = np.asarray(leaves[member.path], np.float64)
          features = _with_bias(features, bias[member.indices])
    found[group.name] = features
  return found


def cluster_filters(features: np.ndarray, *, threshold: float) -> Clusters:
  """Clusters what has features, and chooses a representative of each.

  Args:
    features: float [n, F].
    threshold: >= 0, the greatest Ward distance within a cluster. At 0 only
      equal ones merge.

  Returns:
    The clusters; representatives have the greatest norm, ties by lowest index.

  Raises:
    InputError: features that are not finite [n, F], or a negative threshold.
  """
  features = np.asarray(features, np.float64)
  if features.ndim != 2 or not len(features) or not np.isfinite(features).all():
    raise InputError(
      f'features of shape {list(features.shape)}: right are finite [n, F]'
    )
  if not threshold >= 0:
    raise InputError(f'threshold={threshold:g} of clusters; right is >= 0')
  n = len(features)
  labels = np.ones(n, int)
  if n > 1:
    tree = hierarchy.linkage(features, 'ward')
    labels = hierarchy.fcluster(tree, threshold, 'distance')
  norms = np.linalg.norm(features, axis=1)
  representative = np.empty(n, int)
  for label in np.unique(labels):
    (inside,) = np.nonzero(labels == label)
    representative[inside] = inside[np.argmax(norms[inside])]
  return Clusters(representative == np.arange(n), representative)


def cluster_channels(
  variables,
  groups: Sequence[ChannelGroup],
  *,
  threshold: float,
  with_bias: bool = False,
) -> dict[str, Clusters]:
  """CUP: the clusters of the channels of every group, by one threshold.

  Args:
    variables: as for `group_features`.
    groups: of `graph.channels`, those that may lose channels.
    threshold: of `cluster_filters`.
    with_bias: of `group_features`.

  Returns:
    Group name to its clusters; `{name: c.keep}` is for `graph.shrink`.

  Raises:
    InputError: as `group_features` and `cluster_filters`.
  """
  features = group_features(variables, groups, with_bias=with_bias)
  return {
    name: cluster_filters(values, threshold=threshold)
    for name, values in features.items()
  }


def single_shot_threshold(
  epoch: float, *, slope: float = 0.03, offset: float = 0.3
) -> float:
  """The threshold of CUP-SS at an epoch of the first training.

  After each epoch: cluster at this threshold, shrink, go on.

  Args:
    epoch: 0 at the start.
    slope: rise an epoch.
    offset: threshold at epoch 0.

  Returns:
    slope epoch + offset.
  """
  return slope * epoch + offset


def absorb_clusters(
  variables,
  groups: Sequence[ChannelGroup],
  clusters: Mapping[str, Clusters],
):
  """Adds what dropped channels give to the next layers to who stays for them.

  Args:
    variables: pytree of arrays that the groups' members are paths of.
    groups: of `graph.channels`.
    clusters: group name to its clusters.

  Returns:
    The variables, of the same shapes; then `graph.shrink` with `keep`. Of
    filters that are equal with their biases and norms, the output stays.

  Raises:
    InputError: a cluster's group is unknown, or of another size.
  """
  known = {group.name: group for group in groups}
  changed: dict[str, np.ndarray] = {}
  leaves = by_path(variables)
  for name, (keep, representative) in clusters.items():
    if name not in known or known[name].size != len(keep):
      raise InputError(
        f'clusters of group {name!r}, [{len(keep)}]: there is no such group'
      )
    for member in known[name].members:
      if member.role != 'in':
        continue
      path = member.path
      old = changed.get(path, np.asarray(leaves[path]))
      old = np.moveaxis(old, member.axis, 0)
      new = old.copy()
      new[member.indices] = 0
      # One channel at a time: several may go to the same representative.
      np.add.at(new, member.indices[representative], old[member.indices])
      changed[path] = np.moveaxis(new, 0, member.axis)
  tree = jax.tree.structure(variables)
  return jax.tree.unflatten(
    tree,
    [
      jnp.asarray(changed[path]) if path in changed else leaf
      for path, leaf in leaves.items()
    ],
  )


def _member_features(leaf, member):
  """[n, other side, positions] of one kernel."""
  if leaf.ndim < 2 or member.axis < leaf.ndim - 2:
    raise InputError(
      f'{member.path}: channels on axis {member.axis} of shape '
      f'{list(leaf.shape)}; right is a kernel [..., I, O]'
    )
  if member.axis == leaf.ndim - 2:
    return _outgoing(leaf, member.indices)
  return _outgoing(np.swapaxes(leaf, -1, -2), member.indices)


def _incoming(kernel):
  return _outgoing(
    np.swapaxes(kernel, -1, -2), np.arange(kernel.shape[-1])[:, None]
  )


def _outgoing(kernel, indices):
  """[n, O, positions] of a kernel [..., p n, O]."""
  chosen = np.moveaxis(kernel, -2, 0)[indices]
  n, outputs = len(indices), kernel.shape[-1]
  return np.moveaxis(chosen, -1, 1).reshape(n, outputs, -1)


def _norms(part):
  return np.sqrt(np.square(part).sum(-1))


def _with_bias(features, bias):
  bias = np.asarray(bias, np.float64).reshape(len(features), -1)
  return np.concatenate([features, bias], 1)
