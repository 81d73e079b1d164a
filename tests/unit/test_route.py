"""The order in which to go to several places."""

import random
from itertools import permutations

from sensors.route import length, order


def test_the_way_visits_each_place_once_and_begins_where_it_should() -> None:
    rng = random.Random(3)
    for count in (1, 2, 5, 12):
        places = [(113.0 + rng.random() / 10, 23.0 + rng.random() / 10) for _ in range(count)]
        way = order(places, count - 1)
        assert sorted(way) == list(range(count))
        assert way[0] == count - 1
    assert order([]) == []


def test_the_way_is_nearly_as_short_as_the_shortest() -> None:
    rng = random.Random(5)
    ratios = []
    for _ in range(40):
        places = [(113.0 + rng.random() / 10, 23.0 + rng.random() / 10) for _ in range(6)]
        best = min(length(places, (0, *rest)) for rest in permutations(range(1, 6)))
        ratios.append(length(places, order(places)) / best)
    assert max(ratios) < 1.3
    assert sum(ratios) / len(ratios) < 1.04
