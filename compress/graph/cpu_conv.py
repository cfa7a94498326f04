"""Rewrite rules that make convolutional networks train faster on CPUs.

`rewrite(apply, cpu_rules())` runs the same network: on a CPU its convolutions
go through `depthwise_conv` and `dense_conv`, elsewhere nothing changes. Both
loop over the batch a few images at a time; where a compiler partitions the
batch by itself over several devices (`jit` over a mesh), that loop gathers it,
so there the rules cost more than they save: map the step over devices instead
(`shard_map`, `pmap`), or turn them off.
"""

import jax

from compress.graph.dense_conv import dense_conv
from compress.graph.depthwise import depthwise_conv
from compress.graph.layouts import is_image_convolution
from compress.graph.rewrite import compose

# The program grows by a few operations for each tap of a window.
_MOST_TAPS = 64


def shifted_depthwise(site, op, *operands):
  """Rule: depthwise convolutions become shifted multiply-adds.

  Args:
    site: as `rewrite` gives it; read are `kind` and `params`.
    op: what the model did.
    *operands: of op.

  Returns:
    The site's value; `op(*operands)` unless the site is a convolution of
    NHWC images by a HWIO kernel, undilated, with one kernel a channel.
  """
  if not _plain(site, operands):
    return op(*operands)
  x, w = operands
  channels = x.shape[3]
  if site.params['feature_group_count'] != channels or w.shape[2:] != (
    1,
    channels,
  ):
    return op(*operands)
  return depthwise_conv(
    x,
    w,
    strides=site.params['window_strides'],
    padding=site.params['padding'],
  )


def fast_gradients(site, op, *operands):
  """Rule: dense convolutions get gradients that are fast on a CPU.

  Args:
    site: as `rewrite` gives it; read are `kind` and `params`.
    op: what the model did.
    *operands: of op.

  Returns:
    The site's value; `op(*operands)` unless the site is a convolution of
    NHWC images by a HWIO kernel, undilated and ungrouped.
  """
  plain = _plain(site, operands) and site.params['feature_group_count'] == 1
  if not plain:
    return op(*operands)
  return dense_conv(
    *operands,
    strides=site.params['window_strides'],
    padding=site.params['padding'],
  )


def library_only(site, op, *operands):
  """Rule: every site stays as it is."""
  del site
  return op(*operands)


def cpu_rules(enabled: bool | None = None):
  """The rule that suits the platform.

  Args:
    enabled: None takes the rules of this module where JAX's default backend is
      the CPU; True takes them anywhere; False nowhere.

  Returns:
    A rule for `rewrite`.
  """
  if enabled is None:
    enabled = jax.default_backend() == 'cpu'
  return _both if enabled else library_only


_both = compose(shifted_depthwise, fast_gradients)


def _plain(site, operands):
  """Whether a site is an undilated convolution of NHWC by HWIO."""
  if site.kind != 'conv' or operands[0].ndim != 4:
    return False
  x, w = operands
  params = site.params
  return (
    is_image_convolution(params)
    and set(params['rhs_dilation']) == {1}
    and x.dtype == w.dtype
    and params['preferred_element_type'] in (None, x.dtype)
    and w.shape[0] * w.shape[1] <= _MOST_TAPS
  )
