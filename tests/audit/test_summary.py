import json

import numpy as np
import pytest

from compress import audit
from compress.errors import InputError
from tests.audit.test_bootstrap import people

FAST = audit.Protocol(draws=60)


def test_entry_in_percent():
  x, identities, pairs, genuine = people(count=10, photos=5)
  found = audit.summarize(
    x, pairs, genuine, identities=identities, protocol=FAST
  )
  entry = found['verification']
  scores = audit.cosine_scores(x, pairs)
  good, bad = scores[genuine], scores[~genuine]
  assert entry['eer'] == pytest.approx(100 * audit.eer(good, bad))
  for key, far in (('1e-1', 1e-1), ('1e-2', 1e-2), ('1e-3', 1e-3)):
    tar = 100 * audit.tar_at_far(good, bad, far)
    assert entry['tar_at_far'][key] == pytest.approx(tar)
    low, high = entry['interval']['tar_at_far'][key]
    assert 0 <= low <= high <= 100
  low, high = entry['interval']['eer']
  assert low <= entry['eer'] <= high
  assert (entry['genuine_pairs'], entry['impostor_pairs']) == (100, 1125)
  assert '5 folds that share no person' in entry['protocol']
  assert set(found) == {'verification'}
  assert any('fewer than 30' in text for text in entry['cautions'])


def test_undefined_is_none_with_a_note():
  x, identities, pairs, genuine = people(count=6)
  found = audit.summarize(
    x, pairs, genuine, identities=identities, protocol=FAST
  )
  tars = found['verification']['tar_at_far']
  assert tars['1e-3'] is None
  assert 'not measurable' in tars['1e-3_note']
  assert found['verification']['operating_far'] == 1e-2
  json.dumps(found, allow_nan=False)


def test_against_itself_nothing_changes():
  x, identities, pairs, genuine = people(count=10)
  groups = audit.pair_groups(np.where(identities < 5, 'a', 'b'), pairs)
  found = audit.summarize(
    x,
    pairs,
    genuine,
    identities=identities,
    groups=groups,
    reference=x,
    protocol=FAST,
  )
  difference = found['difference']
  assert difference['eer'] == difference['accuracy'] == 0
  assert difference['groups']['std'] == 0
  assert difference['groups']['interval']['std'] == [0, 0]
  assert difference['groups']['a']['interval']['accuracy'] == [0, 0]
  assert 'groups.a.accuracy' in difference['not_resolved']
  assert 'eer' in difference['not_resolved']
  assert 'groups.std' in difference['not_resolved']
  assert found['flips']['flipped'] == 0
  assert found['agreement']['recalibrated_flips']['flipped'] == 0
  assert found['agreement']['embedding_cosine'] == pytest.approx(1)
  json.dumps(found, allow_nan=False)


def test_groups_with_both_thresholds():
  x, identities, pairs, genuine = people(count=10, noise=1.3)
  groups = audit.pair_groups(np.where(identities < 5, 'a', 'b'), pairs)
  found = audit.summarize(
    x,
    pairs,
    genuine,
    identities=identities,
    groups=groups,
    protocol=FAST,
  )
  own, one = found['groups'], found['groups_global']
  accuracies = [own[name]['accuracy'] for name in 'ab']
  spread = audit.spread(np.array(accuracies) / 100)
  assert own['avg'] == pytest.approx(100 * spread.average)
  assert own['std'] == pytest.approx(100 * spread.std)
  assert own['ser'] == pytest.approx(float(spread.ser))
  assert set(own['interval']) == {'avg', 'std', 'ser'}
  assert set(own['a']['interval']) == {'eer', 'tar_at_far', 'accuracy'}
  assert {'accuracy', 'fmr', 'fnmr', 'interval'} <= set(one['a'])
  gap = abs(one['a']['fnmr'] - one['b']['fnmr'])
  assert one['fnmr_gap'] == pytest.approx(gap)


def test_a_clear_loss_is_resolved():
  x, identities, pairs, genuine = people(count=12, noise=0.5)
  rng = np.random.default_rng(1)
  worse = x + 2 * rng.normal(size=x.shape)
  found = audit.summarize(
    worse,
    pairs,
    genuine,
    identities=identities,
    reference=x,
    protocol=FAST,
  )
  difference = found['difference']
  assert difference['eer'] > 0 and difference['interval']['eer'][0] > 0
  assert 'eer' not in difference['not_resolved']
  assert found['flips']['regressions'] > found['flips']['repairs']


def test_without_identities_draws_or_errors():
  x, _, pairs, genuine = people(noise=0.01)
  found = audit.summarize(x, pairs, genuine, protocol=FAST)['verification']
  assert any('pairs as independent' in text for text in found['cautions'])
  assert any('no width' in text for text in found['cautions'])
  assert found['eer'] == 0 and found['accuracy'] == 100
  plain = audit.summarize(x, pairs, genuine, protocol=audit.Protocol(draws=0))
  assert 'interval' not in plain['verification']


def test_same_seed_same_entry():
  x, identities, pairs, genuine = people()
  one, two = (
    audit.summarize(x, pairs, genuine, identities=identities, protocol=FAST)
    for _ in range(2)
  )
  assert one == two


def test_bad_protocol():
  with pytest.raises(InputError, match='far'):
    audit.Protocol(fars=(2.0,))
  with pytest.raises(InputError, match='draws'):
    audit.Protocol(draws=-1)
