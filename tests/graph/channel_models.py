"""Small models whose channels are known by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def shapes(*sizes):
  """Shape-only float32 leaves."""
  return [jax.ShapeDtypeStruct(size, jnp.float32) for size in sizes]


class ToyViT(nn.Module):
  """Two pre-norm layers of 4 heads x 12 over 48 features."""

  dim: int = 48
  heads: int = 4
  hidden: int = 192

  @nn.compact
  def __call__(self, x):
    x = nn.Conv(self.dim, (4, 4), (4, 4), name='patches')(x)
    x = x.reshape(x.shape[0], -1, self.dim)
    token = self.param('token', nn.initializers.zeros, (1, 1, self.dim))
    token = jnp.broadcast_to(token, (x.shape[0], 1, self.dim))
    x = jnp.concatenate([token, x], 1)
    table = (1, x.shape[1], self.dim)
    x = x + self.param('positions', nn.initializers.zeros, table)
    for i in range(2):
      y = nn.LayerNorm(name=f'norm{i}a')(x)
      x = x + nn.MultiHeadDotProductAttention(self.heads, name=f'attn{i}')(y, y)
      y = nn.LayerNorm(name=f'norm{i}b')(x)
      y = nn.gelu(nn.Dense(self.hidden, name=f'up{i}')(y))
      x = x + nn.Dense(self.dim, name=f'down{i}')(y)
    return nn.Dense(10, name='head')(nn.LayerNorm(name='norm')(x)[:, 0])


def fused_attention(params, x):
  """Attention with one kernel for q, k and v: 4 heads x 6, no residual."""
  qkv = (x @ params['qkv']).reshape(*x.shape[:2], 3, 4, 6)
  q, k, v = (qkv[:, :, i] for i in range(3))
  scores = jax.nn.softmax(jnp.einsum('bthd,bshd->bhts', q, k), -1)
  y = jnp.einsum('bhts,bshd->bthd', scores, v)
  return y.reshape(*x.shape[:2], 24) @ params['out']


def rotate(x):
  """Rotary embedding of [B, T, H, D]: index i turns with i + D/2."""
  half = x.shape[-1] // 2
  steps = np.arange(x.shape[1], dtype=np.float32)
  angle = steps[:, None] / 100 ** (np.arange(half, dtype=np.float32) / half)
  angle = angle[None, :, None]
  a, b = x[..., :half], x[..., half:]
  turned = a * np.cos(angle) - b * np.sin(angle)
  return jnp.concatenate([turned, b * np.cos(angle) + a * np.sin(angle)], -1)


def decoder(params, tokens):
  """RMSNorm, rotary, grouped-query attention (4 over 2), tied embedding."""
  x = jnp.take(params['embedding'], tokens, axis=0)
  y = x * lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)
  y = y * params['scale'][None, None]
  q = rotate(jnp.einsum('btd,dhk->bthk', y, params['q']))
  k = rotate(jnp.einsum('btd,dhk->bthk', y, params['k']))
  v = jnp.einsum('btd,dhk->bthk', y, params['v'])
  k, v = (jnp.repeat(z, 2, axis=2) for z in (k, v))
  scores = jnp.einsum('bthk,bshk->bhts', q, k)
  mask = jnp.arange(5)[:, None] >= jnp.arange(5)[None, :]
  scores = jnp.where(mask[None, None], scores, -jnp.inf)
  y = jnp.einsum('bhts,bshk->bthk', jax.nn.softmax(scores, -1), v)
  x = x + jnp.einsum('bthk,hkd->btd', y, params['o'])
  return x @ params['embedding'].T


def decoder_leaves():
  sizes = {
    'embedding': (50, 24),
    'scale': (24,),
    'q': (24, 4, 6),
    'k': (24, 2, 6),
    'v': (24, 2, 6),
    'o': (4, 6, 24),
  }
  return {name: shapes(size)[0] for name, size in sizes.items()}
