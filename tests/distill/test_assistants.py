"""Paths through a ladder of sizes, and the search for the best one."""

import pytest

from compress import distill
from compress.errors import InputError


def toy(teacher, place):
  """A student's accuracy falls with the gap to its teacher in the ladder."""
  path, accuracy = teacher
  gap = place - path[-1]
  found = accuracy - 0.02 * gap**2
  return ((*path, place), found), found


TEACHER = ((0,), 0.99)


def test_all_paths():
  assert distill.all_paths(0, 1) == ((0, 1),)
  assert distill.all_paths(0, 3) == (
    (0, 3),
    (0, 1, 3),
    (0, 2, 3),
    (0, 1, 2, 3),
  )
  assert len(distill.all_paths(1, 7)) == 2**5
  assert distill.all_paths(0, 4, most_assistants=1) == (
    (0, 4),
    (0, 1, 4),
    (0, 2, 4),
    (0, 3, 4),
  )


def test_beginnings_are_trained_once():
  found = distill.trainings(distill.all_paths(0, 3))
  assert found == (
    (0, 1),
    (0, 2),
    (0, 3),
    (0, 1, 2),
    (0, 1, 3),
    (0, 2, 3),
    (0, 1, 2, 3),
  )
  for places in range(2, 7):
    paths = distill.all_paths(0, places)
    assert len(distill.trainings(paths)) == 2**places - 1


def test_best_path_and_its_ties():
  accuracies = {(0, 3): 0.9, (0, 1, 3): 0.9, (0, 2, 3): 0.8, (0, 1): 0.99}
  assert distill.best_path(accuracies, last=3) == (0, 3)
  accuracies[0, 2, 3] = 0.91
  assert distill.best_path(accuracies, last=3) == (0, 2, 3)
  assert distill.best_path(accuracies, last=1) == (0, 1)


def test_a_path_is_distilled_hop_by_hop():
  found = distill.run_path(toy, (0, 1, 3), teacher=TEACHER)
  assert found.model[0] == found.path == (0, 1, 3)
  assert [hop.path for hop in found.hops] == [(0, 1), (0, 1, 3)]
  assert found.accuracy == pytest.approx(0.99 - 0.02 - 0.08)
  direct = distill.run_path(toy, (0, 3), teacher=TEACHER)
  assert len(direct.hops) == 1
  assert direct.accuracy == pytest.approx(0.99 - 0.18)


def test_the_search_finds_the_finest_chain_where_gaps_cost():
  found = distill.search_path(toy, 5, teacher=TEACHER)
  assert found.path == found.model[0] == (0, 1, 2, 3, 4)
  assert len(found.hops) == 4 + 3 + 2 + 1
  best = max(
    distill.run_path(toy, path, teacher=TEACHER).accuracy
    for path in distill.all_paths(0, 4)
  )
  assert found.accuracy == pytest.approx(best)


@pytest.mark.parametrize('most', [0, 1, 2, 3])
def test_the_search_within_a_number_of_assistants(most):
  found = distill.search_path(toy, 5, teacher=TEACHER, most_assistants=most)
  best = max(
    distill.run_path(toy, path, teacher=TEACHER).accuracy
    for path in distill.all_paths(0, 4, most_assistants=most)
  )
  assert len(found.path) == most + 2
  trained = [hop.path for hop in found.hops]
  paths = distill.all_paths(0, 4, most_assistants=most)
  assert set(trained) <= set(distill.trainings(paths))
  assert len(set(trained)) == len(trained)
  assert found.accuracy == pytest.approx(best)


def test_the_search_from_another_place_and_where_hops_cost():
  def dear(teacher, place):
    path, accuracy = teacher
    return ((*path, place), accuracy - 0.1), accuracy - 0.1

  found = distill.search_path(dear, 5, teacher=((2,), 0.9), first=2)
  assert found.path == (2, 4)
  assert found.model == ((2, 4), pytest.approx(0.8))


def test_bad_inputs():
  with pytest.raises(InputError, match='from place 3 to 3'):
    distill.all_paths(3, 3)
  with pytest.raises(InputError, match='most_assistants is -1'):
    distill.all_paths(0, 3, most_assistants=-1)
  with pytest.raises(InputError, match='0 paths to place 9'):
    distill.best_path({(0, 3): 0.9}, last=9)
  with pytest.raises(InputError, match='finite'):
    distill.best_path({(0, 3): float('nan')}, last=3)
  with pytest.raises(InputError, match='two rising places'):
    distill.run_path(toy, (0,), teacher=TEACHER)
  with pytest.raises(InputError, match='two rising places'):
    distill.run_path(toy, (2, 1), teacher=TEACHER)
  with pytest.raises(InputError, match='from place 4 of 5'):
    distill.search_path(toy, 5, teacher=TEACHER, first=4)
  with pytest.raises(InputError, match='most_assistants is -1'):
    distill.search_path(toy, 5, teacher=TEACHER, most_assistants=-1)


def test_accuracies_that_are_no_numbers_choose_nothing():
  def diverged(teacher, place):
    return (place, float('nan')) if place == 2 else toy(teacher, place)

  with pytest.raises(InputError, match=r'path \(0, 2\): accuracy nan'):
    distill.search_path(diverged, 3, teacher=TEACHER)
  with pytest.raises(InputError, match=r'path \(0, 1, 2\): accuracy nan'):
    distill.run_path(diverged, (0, 1, 2), teacher=TEACHER)
