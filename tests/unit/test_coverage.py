"""Which stretches of a river a track passed."""

import random
from itertools import pairwise

import pytest

from governance.reports.patrols import PatrolRule, Point, walked_water
from sensors.coverage import stretches, total_km, union
from sensors.network import KM_PER_DEGREE, length_km, point_at_km

RIVER = ((113.10, 23.00), (113.10, 23.01), (113.11, 23.01))
"""One kilometre to the north, then one to the east."""
WHOLE_KM = length_km(RIVER)


def beside(from_km: float, to_km: float, away_km: float = 0.0) -> list[tuple[float, float]]:
    """A way along the northern leg, so far to the east of it."""
    steps = [from_km + i * (to_km - from_km) / 20 for i in range(21)]
    return [(113.10 + away_km / (KM_PER_DEGREE * 0.92), point_at_km(RIVER, km)[1]) for km in steps]


def test_who_walks_a_part_passed_that_part() -> None:
    ((begin, end),) = stretches(RIVER, [beside(0.2, 0.6, 0.03)], 0.1)
    assert begin == pytest.approx(0.1, abs=0.04)
    assert end == pytest.approx(0.7, abs=0.04)


def test_a_path_too_far_from_the_water_passed_nothing() -> None:
    assert stretches(RIVER, [beside(0.2, 0.6, 0.3)], 0.1) == ()


def test_two_ways_leave_the_water_between_them_out() -> None:
    found = stretches(RIVER, [beside(0.0, 0.2), beside(0.7, 0.9)], 0.05)
    assert len(found) == 2
    assert found[0][1] < 0.3
    assert found[1][0] > 0.6


def test_the_whole_river_is_as_long_as_its_line() -> None:
    assert total_km(stretches(RIVER, [RIVER], 0.05)) == pytest.approx(WHOLE_KM, abs=0.002)


def test_a_jump_of_the_receiver_passes_no_water() -> None:
    at = [point_at_km(RIVER, km) for km in (0.0, 0.02, 1.0)]
    jumped = [Point(i * 15_000, *place) for i, place in enumerate(at)]
    assert total_km(walked_water(jumped, {"r": RIVER}, PatrolRule(near_m=50.0))["r"]) < 0.2
    sailed = [Point(i * 120_000, *place) for i, place in enumerate(at)]
    assert total_km(walked_water(sailed, {"r": RIVER}, PatrolRule(near_m=50.0))["r"]) > 1.0


def test_waters_that_were_not_passed_are_not_named() -> None:
    far = ((114.0, 23.0), (114.0, 23.1))
    track = [Point(i * 15_000, *place) for i, place in enumerate(beside(0.0, 0.2))]
    assert set(walked_water(track, {"r": RIVER, "far": far, "point": ((113.1, 23.0),)}, PatrolRule())) == {"r"}
    assert walked_water([], {"r": RIVER}, PatrolRule()) == {}


def test_the_union_covers_what_each_covers_and_no_more() -> None:
    rng = random.Random(7)
    for _ in range(200):
        spans = [(a, a + rng.randint(1, 5)) for a in (rng.randint(0, 30) for _ in range(rng.randint(0, 8)))]
        merged = union(spans)
        inside = {km for a, b in spans for km in range(a, b)}
        assert {km for a, b in merged for km in range(int(a), int(b))} == inside
        assert all(before[1] < after[0] for before, after in pairwise(merged))
