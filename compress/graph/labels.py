"""Labels: what decides whether an index of an axis can be removed.

Every axis of every array has one label an index, an integer that names a node:

* `FIXED` (0): the index stays.
* an atom: the index leaves exactly when the atom is removed.
* a product of nodes, major to minor: the index leaves when any of them does. It
  comes from merging axes (a fused axis of heads and their dimensions).

Each axis of each leaf starts with atoms of its own. Whatever must leave
together is linked (union-find), an atom that turns out to be a merged index is
expanded into the product, and what must stay is frozen, with the reason.
Freezing is always sound. All operations are on whole axes (`[n]` arrays).
"""

from collections.abc import Sequence

import numpy as np

FIXED = 0
# Bits of what is known of a node.
NORM, CONSTANT, INDEX = 1, 2, 4


class Labels:
  """A growing set of nodes, linked, expanded and frozen.

  Attributes:
    where: called for the place of a freeze, which ends its reason.
  """

  def __init__(self):
    self._count = 1
    self._parent = np.zeros(1024, np.int64)
    self._left = np.full(1024, -1)
    self._right = np.full(1024, -1)
    self._reason = np.zeros(1024, np.int32)
    self._bits = np.zeros(1024, np.uint8)
    self._reason[FIXED] = 1
    self._reasons = {'': 0, 'an axis that nothing produces': 1}
    self._fixed: dict[int, np.ndarray] = {}
    self.where = str

  def fixed(self, size: int) -> np.ndarray:
    """Labels of an axis that stays; the same array for the same size."""
    if size not in self._fixed:
      self._fixed[size] = np.zeros(size, np.int64)
    return self._fixed[size]

  def fresh(self, size: int, bits: int = 0) -> np.ndarray:
    """New atoms for an axis; an axis of size 1 cannot shrink and is fixed."""
    if size <= 1:
      return self.fixed(size)
    return self._new(size, bits)

  def fresh_each(self, size: int) -> np.ndarray:
    """New atoms for some of the indices of an axis, however few."""
    return self._new(size)

  def _new(self, size, bits=0):
    start, stop = self._count, self._count + size
    if stop > len(self._parent):
      more = max(stop, 2 * len(self._parent)) - len(self._parent)
      for name, fill in (
        ('_parent', 0),
        ('_left', -1),
        ('_right', -1),
        ('_reason', 0),
        ('_bits', 0),
      ):
        old = getattr(self, name)
        setattr(self, name, np.append(old, np.full(more, fill, old.dtype)))
    nodes = np.arange(start, stop)
    self._parent[start:stop] = nodes
    self._bits[start:stop] = bits
    self._count = stop
    return nodes

  def find(self, nodes: np.ndarray) -> np.ndarray:
    """Representatives of nodes; that of an expanded atom is its product."""
    parent = self._parent
    roots = parent[nodes]
    while True:
      up = parent[roots]
      if (up == roots).all():
        break
      roots = up
    parent[nodes] = roots
    return roots

  def stays(self, nodes: np.ndarray) -> bool:
    """Whether every index of an axis is known to stay."""
    if nodes is self._fixed.get(len(nodes)):
      return True
    return not self.factors(nodes)[1].any()

  def factors(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The atoms that decide about each index.

    Args:
      nodes: `[n]` labels.

    Returns:
      `[n, r]` representative atoms that are not frozen, major to minor, from
      the left, filled up with `FIXED`; and their number `[n]`.
    """
    table = self.find(nodes)[:, None]
    while True:
      product = self._left[table] >= 0
      if not product.any():
        break
      major = np.where(product, self.find(self._left[table]), table)
      minor = np.where(product, self.find(self._right[table]), FIXED)
      table = np.stack([major, minor], 2).reshape(len(table), -1)
      table = table[:, (table != FIXED).any(0)]
    table = np.where(self._reason[table] > 0, FIXED, table)
    if table.shape[1] > 1:
      order = np.argsort(table == FIXED, axis=1, kind='stable')
      table = np.take_along_axis(table, order, 1)
    count = (table != FIXED).sum(1)
    return table, count

  def outer(self, axes: Sequence[np.ndarray]) -> np.ndarray:
    """Labels of several axes merged into one, in row-major order."""
    out = axes[0]
    for axis in axes[1:]:
      size = len(out) * len(axis)
      if out is self.fixed(len(out)) and axis is self.fixed(len(axis)):
        out = self.fixed(size)
      else:
        out = self._pairs(np.repeat(out, len(axis)), np.tile(axis, len(out)))
    return out

  def _pairs(self, major, minor):
    """Product nodes; a fixed factor contributes nothing."""
    major_stays = self._reason[self.find(major)] > 0
    minor_stays = self._reason[self.find(minor)] > 0
    out = np.where(major_stays, minor, major)
    both = ~major_stays & ~minor_stays
    if both.any():
      nodes = self._new(int(both.sum()))
      self._left[nodes], self._right[nodes] = major[both], minor[both]
      out[both] = nodes
    return out

  def split(self, nodes: np.ndarray, shape: Sequence[int]) -> list[np.ndarray]:
    """Labels of one axis reshaped into several."""
    if nodes is self.fixed(len(nodes)):
      return [self.fixed(size) for size in shape]
    roots = self.find(nodes)
    roots = np.where(self._reason[roots] > 0, FIXED, roots).reshape(shape)
    # An index that does not depend on the position along an axis leaves it be.
    varies = [
      bool((roots != roots.take([0], axis)).any()) for axis in range(len(shape))
    ]
    if sum(varies) == 1:
      axis = varies.index(True)
      line = np.moveaxis(nodes.reshape(shape), axis, -1)
      line = line.reshape(-1, shape[axis])[0]
      return [line if i == axis else self.fixed(n) for i, n in enumerate(shape)]
    if not any(varies):
      self.freeze(nodes, 'one channel fills an axis that is split')
    out = [
      self.fresh(n) if v else self.fixed(n)
      for n, v in zip(shape, varies, strict=True)
    ]
    self.unify(nodes, self.outer(out))
    return out

  def unify(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Makes the indices of two axes leave together; returns their labels."""
    if x is y:
      return x
    for one, other in ((x, y), (y, x)):
      if one is self._fixed.get(len(one)):
        self.freeze(other, 'meets an axis that stays')
        return one
    a, b = self.find(x), self.find(y)
    while True:
      differ = a != b
      if not differ.any():
        return x
      pairs = np.stack([a[differ], b[differ]])
      plain = (self._left[pairs] < 0).all()
      if plain and not self._reason[pairs].any():
        self._link(*pairs)
        return x
      a, b = self._unify_products(*np.unique(pairs, axis=1))

  def _unify_products(self, a, b):
    """One round of unification; returns the pairs that are left."""
    (fa, na), (fb, nb) = self.factors(a), self.factors(b)
    width = max(fa.shape[1], fb.shape[1])
    fa, fb = (np.pad(f, ((0, 0), (0, width - f.shape[1]))) for f in (fa, fb))
    differ = (fa != fb).any(1)
    stays = differ & ((na == 0) | (nb == 0))
    clash = differ & (na != nb) & (na > 1) & (nb > 1)
    match = differ & (na == nb)
    if stays.any():
      self._inherit(a[stays], fb[stays])
      self._inherit(b[stays], fa[stays])
    if clash.any():
      self._freeze_atoms(fa[clash], 'merged in two ways')
      self._freeze_atoms(fb[clash], 'merged in two ways')
    if match.any():
      used = fa[match] != FIXED
      self._link(fa[match][used], fb[match][used])
    left = differ & ~stays & ~clash
    if left.any() and not (stays | clash | match).any():
      swap = na > 1
      atom = np.where(swap, fb[:, 0], fa[:, 0])[differ]
      product = np.where(swap, a, b)[differ]
      inside = np.where(swap[:, None], fa, fb)[differ]
      self._expand(atom, product, inside)
    return self.find(a[left]), self.find(b[left])

  def _inherit(self, nodes, atoms):
    """Freezes atoms for the reasons for which the nodes they meet stay."""
    why = self._why(nodes)
    for number in np.unique(why):
      met = atoms[why == number]
      if number > 1:
        self._reason[met[self._reason[met] == 0]] = number
      else:
        self._freeze_atoms(met, 'meets an axis that stays')

  def _expand(self, atom, product, inside):
    """Expands atoms into products of the factors `inside`, without cycles."""
    own = (inside == atom[:, None]).any(1)
    if own.any():
      self._freeze_atoms(inside[own], 'a factor of itself')
      return
    good = ~np.isin(atom, inside)
    if not good.any():
      good[0] = True
    self._parent[atom[good]] = product[good]

  def _link(self, a, b):
    """Joins atoms; the smaller number represents the class."""
    while True:
      a, b = self.find(a), self.find(b)
      differ = a != b
      if not differ.any():
        return
      low, high = np.minimum(a, b)[differ], np.maximum(a, b)[differ]
      order = np.argsort(-low, kind='stable')  # of several, the lowest wins
      self._parent[high[order]] = low[order]
      a, b = a[differ], b[differ]
      # A class that must stay keeps its reason when it is joined.
      held = np.maximum(self._reason[low], self._reason[high])
      np.maximum.at(self._reason, self.find(low), held)

  def freeze(self, nodes: np.ndarray, reason: str) -> None:
    """Makes the indices of an axis stay."""
    if nodes is not self._fixed.get(len(nodes)):
      self._freeze_atoms(self.factors(nodes)[0], reason)

  def _freeze_atoms(self, atoms, reason):
    atoms = atoms[atoms != FIXED]
    if atoms.size:
      where = self.where()
      reason = f'{reason} ({where})' if where else reason
      number = self._reasons.setdefault(reason, len(self._reasons))
      fresh = atoms[self._reason[atoms] == 0]
      self._reason[fresh] = number

  def held(self, size: int, reason: str) -> np.ndarray:
    """Labels of an axis that stays, for a reason that what it meets takes."""
    nodes = self.fresh(size)
    self.freeze(nodes, reason)
    return nodes

  def mark(self, nodes: np.ndarray, bit: int) -> None:
    """Notes something of the classes of an axis' indices."""
    if nodes is not self._fixed.get(len(nodes)):
      self._bits[nodes] |= bit

  def marked(self, bit: int) -> np.ndarray:
    """Representative atoms of the classes with a mark."""
    nodes = np.flatnonzero(self._bits[: self._count] & bit)
    return np.unique(self.factors(nodes)[0])

  def reasons(self, nodes: np.ndarray) -> dict[str, int]:
    """Why indices of an axis stay, and how many for each reason."""
    stays = self.factors(nodes)[1] == 0
    names = list(self._reasons)
    numbers, counts = np.unique(self._why(nodes[stays]), return_counts=True)
    return {
      names[number]: int(count)
      for number, count in zip(numbers, counts, strict=True)
    }

  def _why(self, nodes):
    """Reasons, by number, of the first factor of each node."""
    first = self.find(nodes)
    while (product := self._left[first] >= 0).any():
      first = np.where(product, self.find(self._left[first]), first)
    return self._reason[first]

  def __len__(self):
    return self._count
