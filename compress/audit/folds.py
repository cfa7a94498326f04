"""Folds of pairs for cross-validated thresholds.

A fold is a number for each pair; -1 leaves the pair out.
"""

import numpy as np

from compress import data
from compress.errors import InputError


def contiguous_folds(pairs: int, n_folds: int = 10) -> np.ndarray:
  """Folds of equal, unshuffled blocks; the first ones take what is left over.

  Args:
    pairs: number of pairs P.
    n_folds: number of blocks, 2..P.

  Returns:
    int [P] in 0..n_folds-1.

  Raises:
    InputError: fewer than two folds, or more folds than pairs.
  """
  if not 2 <= n_folds <= pairs:
    raise InputError(f'n_folds must lie in 2..{pairs} (pairs), got {n_folds}')
  return data.contiguous_folds(pairs, folds=n_folds)


def identity_disjoint_folds(
  identities, pairs, *, n_folds: int = 10, seed: int = 0, strata=None
) -> np.ndarray:
  """Folds that share no person; pairs across folds are left out.

  Folds of pairs share people, which makes thresholds look more transferable
  than they are; here people are dealt to folds of equal size first.

  Args:
    identities: int [N], identity of each image.
    pairs: int [P, 2], indices of images.
    n_folds: number of folds, 2 to half the number of people.
    seed: of the shuffle of people.
    strata: optional [S], e.g. the group of each person that occurs in a pair,
      in the order of their identities: each stratum is dealt evenly.

  Returns:
    int [P]: the fold, or -1 for a pair of people of different folds.

  Raises:
    InputError: n_folds out of range (a fold needs two people for an impostor
      pair), or strata of the wrong shape.
  """
  identities, pairs = np.asarray(identities), np.asarray(pairs)
  people = np.unique(identities[pairs])
  if not 2 <= n_folds <= len(people) // 2:
    raise InputError(
      f'n_folds must lie in 2..{len(people) // 2} for {len(people)} people '
      f'(two per fold make an impostor pair), got {n_folds}'
    )
  order = np.random.default_rng(seed).permutation(len(people))
  if strata is not None:
    strata = np.asarray(strata)
    if strata.shape != people.shape:
      raise InputError(
        f'strata must be [{len(people)}], one per person, got {strata.shape}'
      )
    order = order[np.argsort(strata[order], kind='stable')]
  deal = np.empty(len(people), int)
  deal[order] = np.arange(len(people)) % n_folds
  fold = deal[np.searchsorted(people, identities[pairs])]
  return np.where(fold[:, 0] == fold[:, 1], fold[:, 0], -1)
