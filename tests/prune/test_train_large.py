import pytest

from compress.errors import InputError
from compress.prune import train_large
from compress.prune.train_large import Point


def test_budget_accounting():
  # 3 forward passes of 10 MACs for 4 examples: 120 a step.
  assert train_large.step_macs(10, batch=4) == 120
  assert train_large.affordable_steps(1000, 10, batch=4) == 8
  assert train_large.affordable_steps(960, 10, batch=4) == 8
  with pytest.raises(InputError, match='120'):
    train_large.affordable_steps(119, 10, batch=4)


def test_sweep_at_equal_compute():
  trials = train_large.sweep(
    {'small': 10, 'large': 40}, ['none', '90 %'], budget=4800, batch=4
  )
  assert [(t.model, t.compression, t.steps) for t in trials] == [
    ('small', 'none', 40),
    ('small', '90 %', 40),
    ('large', 'none', 10),
    ('large', '90 %', 10),
  ]
  assert {t.training_macs for t in trials} == {4800}


def test_front():
  points = [
    Point('a', 1, 0.5),
    Point('b', 2, 0.7),
    Point('dearer', 3, 0.6),
    Point('equal', 2, 0.7),
    Point('worse', 2, 0.4),
    Point('c', 4, 0.9),
  ]
  assert [p.name for p in train_large.front(points)] == ['a', 'b', 'c']
  assert train_large.best_within(points, 3.5).name == 'b'
  assert train_large.best_within(points, 0.5) is None
  with pytest.raises(InputError, match='broken'):
    train_large.front([Point('broken', 1, float('nan'))])
