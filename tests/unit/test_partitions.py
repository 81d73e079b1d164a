"""Partitions of the river network: who is processed together, and that few move when something changes."""

import random
from collections import Counter, defaultdict
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.cluster.partitions import partition_of, plan
from sensors.stations import Reach, Registry, Station, Water


def river(name: str, reaches: int, each: int, gateway: str = "") -> tuple[list[Reach], list[Station]]:
    """A binary tree of reaches that flow into the first, each with stations."""
    line = ((113.0, 23.0), (113.1, 23.0))
    found = [
        Reach(f"{name}{i:03}", name, name, Water.RIVER, line, f"{name}{(i - 1) // 2:03}" if i else None)
        for i in range(reaches)
    ]
    stations = [
        Station(f"{one.key}-{j}", "示例", "example", 113.05, 23.0, reach=one.key, gateway=gateway or None)
        for one in found
        for j in range(each)
    ]
    return found, stations


def registry(*rivers: tuple[list[Reach], list[Station]]) -> Registry:
    return Registry(
        tuple(one for _, stations in rivers for one in stations),
        reaches=tuple(one for reaches, _ in rivers for one in reaches),
    )


def test_a_river_that_fits_is_in_one_partition_and_the_plan_does_not_depend_on_the_order_of_the_registry() -> None:
    known = registry(*(river(name, 4, 3) for name in "abcdefgh"))
    found = plan(known, 4)
    by_river = defaultdict(set)
    for key, partition in found.items():
        by_river[key[0]].add(partition)
    assert all(len(partitions) == 1 for partitions in by_river.values())
    assert Counter(found.values()) == dict.fromkeys(range(4), 24)
    mixed = list(known.stations), list(known.reaches)
    for part in mixed:
        random.Random(3).shuffle(part)
    assert plan(replace(known, stations=tuple(mixed[0]), reaches=tuple(mixed[1])), 4) == found


def test_a_large_basin_is_split_between_reaches_and_each_piece_is_connected() -> None:
    known = registry(river("a", 127, 4))
    found = plan(known, 8)
    partition = {s.reach: found[s.key] for s in known.stations}
    assert all(found[s.key] == partition[s.reach] for s in known.stations), "no reach is cut"
    assert max(Counter(found.values()).values()) <= 1.25 * len(known.stations) / 8
    cut = [one for one in known.reaches if one.downstream and partition[one.key] != partition[one.downstream]]
    assert len(cut) <= 24, "most reaches stay with the one below"


def test_the_stations_of_one_gateway_stay_together_even_where_a_basin_is_split() -> None:
    reaches, stations = river("a", 63, 2)
    tied = {3, 40, 90}
    stations = [replace(one, gateway="g1") if i in tied else one for i, one in enumerate(stations)]
    found = plan(registry((reaches, stations)), 6)
    assert len({found[stations[i].key] for i in tied}) == 1


def test_a_new_station_moves_nobody_and_more_partitions_move_only_what_balances() -> None:
    known = registry(*(river(name, 5, 3) for name in "abcdefghij"))
    before = plan(known, 5)
    grown = known.with_stations([Station("new", "示例", "example", 113.0, 23.0, reach="a000")])
    after = plan(grown, 5, before)
    assert {key: after[key] for key in before} == before
    assert after["new"] == before["a000-0"]
    wider = plan(known, 10, before)
    assert Counter(wider.values()) == dict.fromkeys(range(10), 15)
    assert sum(wider[key] != before[key] for key in before) == 75


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_every_station_has_one_partition_whatever_the_network_looks_like(data: st.DataObject) -> None:
    """Also where reaches form a cycle, name a reach that is not there, or stations lie on none."""
    names = [f"r{i}" for i in range(data.draw(st.integers(0, 12)))]
    line = ((113.0, 23.0), (113.1, 23.0))
    flows = data.draw(st.lists(st.sampled_from([*names, "gone", None]), min_size=len(names), max_size=len(names)))
    reaches = [Reach(n, n, n, Water.RIVER, line, d) for n, d in zip(names, flows, strict=True)]
    where = data.draw(
        st.lists(st.tuples(st.sampled_from([*names, ""]), st.sampled_from([None, "g", "h"])), max_size=30)
    )
    stations = [Station(f"s{i}", "", "", 0, 0, reach=r, gateway=g) for i, (r, g) in enumerate(where)]
    count = data.draw(st.integers(1, 6))
    found = plan(Registry(tuple(stations), reaches=tuple(reaches)), count)
    assert found.keys() == {one.key for one in stations}
    assert all(partition_of(found, key, count) == partition < count for key, partition in found.items())
