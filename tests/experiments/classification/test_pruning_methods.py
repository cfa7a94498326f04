"""Every method of the benchmark prunes a small network as far as asked."""

import functools

import jax
import numpy as np
import pytest

from compress import prune
from compress.data import ImageSplits
from compress.errors import InputError
from experiments.classification import pruning_lab
from experiments.classification.pruning_choice import Choice
from experiments.classification.pruning_methods import METHODS
from experiments.classification.pruning_scores import Bench
from experiments.classification.tuning import Tuning
from tests.experiments.classification import small

RATIO = 1.9
OF_WEIGHTS = [m.name for m in METHODS.values() if not m.channels]
OF_CHANNELS = [m.name for m in METHODS.values() if m.channels]


@functools.cache
def choice():
  bench = Bench(small.network(), small.dataset(), small.scaling())
  found = Choice(bench, [RATIO])
  found.initial = [small.network().init(jax.random.key(i)) for i in range(2)]
  found.trained = found.initial
  return found


@pytest.mark.parametrize('name', OF_WEIGHTS)
def test_masks_leave_what_the_ratio_says(name):
  method, sparsity = METHODS[name], choice().sparsities[RATIO]
  params = choice().start(method, 0)['params']
  if method.moving is not None:
    compressor = method.moving(sparsity, 60, 0)
    state = compressor.init(params)
    if not method.rewired:
      # They begin dense, and are at their sparsity when the schedule ends.
      assert set(map(str, state.carried)) >= {'event'}
      return
    masks = prune.masks_of(state)
  else:
    masks = choice().masks(method, 0, RATIO).masks
  sizes = sum(mask.size for mask in masks.values())
  left = sum(int(mask.sum()) for mask in masks.values())
  assert set(masks) == {'conv/kernel', 'classifier/kernel'}
  # Rows and blocks of few entries round.
  rows = 0.12 if name in ('wanda', 'sparsegpt', 'n_m') else 0.02
  assert left / sizes == pytest.approx(1 - sparsity, abs=rows)


@pytest.mark.parametrize('name', OF_CHANNELS)
def test_channels_leave_as_many_parameters_as_the_ratio_says(name):
  keep = choice().keep(METHODS[name], 0, RATIO)
  assert list(keep) == ['conv']
  assert int(keep['conv'].sum()) == 2


def test_a_ratio_that_one_channel_exceeds():
  found = Choice(choice().bench, [4.0])
  found.trained = choice().trained
  with pytest.raises(InputError, match='one channel of each layer'):
    found.keep(METHODS['depgraph'], 0, 40.0)


def test_rewiring_keeps_what_is_not_there_at_zero():
  method = METHODS['rigl']
  network, dataset = small.network(), small.dataset()
  tuning = Tuning(epochs=2, batch=16, learning_rate=0.01)
  lab = pruning_lab.Lab(
    network,
    ImageSplits(dataset, dataset, dataset),
    small.scaling(),
    tuning=tuning,
    scratch=tuning,
  )
  sparsity = choice().sparsities[RATIO]
  compressor = method.moving(sparsity, tuning.steps(len(dataset)), 0)
  starts = choice().initial
  states = [compressor.init(start['params']) for start in starts]
  trainer = lab.moving(method, compressor, sparsity)
  out = pruning_lab.train_masked(trainer, starts, states)
  for one, before in zip(out, states, strict=True):
    masks, old = prune.masks_of(one.state), prune.masks_of(before)
    leaves = prune.by_path(one.variables['params'])
    for path, mask in masks.items():
      assert int(mask.sum()) == int(old[path].sum())
      assert not np.asarray(leaves[path])[~np.asarray(mask)].any()
    assert any((masks[path] != old[path]).any() for path in masks)
