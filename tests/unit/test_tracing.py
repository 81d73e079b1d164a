"""Where it came from, on a network made by hand: a river of 10 km and a creek that joins it in the middle."""

import numpy as np
import pytest

from infra.errors import ConfigurationError, NotFound
from infra.times import HOUR_MS
from sensors import source_attribution
from sensors.network import Outfall, OutfallKind, Travel, along_km
from sensors.parameters import catalogue
from sensors.source_attribution import Current, Detection, NonDetection, PlaceKind, RiverTree
from sensors.stations import Reach, Registry, Station, Water
from tests.says import says, shows

KM = 1 / 111.195
T = 20_700 * 24 * HOUR_MS


def lat(km: float) -> float:
    """The river runs south along the equator's meridian, where a degree is the same both ways."""
    return -km * KM


def registry() -> Registry:
    river = Reach("river", "示例河", "river", Water.RIVER, ((0.0, lat(0)), (0.0, lat(10))))
    creek = Reach("creek", "示例涌", "creek", Water.CREEK, ((3 * KM, lat(5)), (0.0, lat(5))), downstream="river")
    aside = Reach("aside", "旁河", "another river", Water.RIVER, ((1.0, 0.0), (1.0, -0.1)))
    stations = (
        Station("up", "上", "upper", 0.0, lat(2), reach="river"),
        Station("mid", "中", "middle", 0.0, lat(6), reach="river"),
        Station("low", "下", "lower", 0.0, lat(9), reach="river"),
        Station("creek-1", "涌", "creek", 1 * KM, lat(5), reach="creek", water=Water.CREEK),
        Station("off", "别处", "elsewhere", 1.0, -0.05, reach="aside"),
        Station("dry", "无河段", "no reach", 2.0, 0.0),
    )
    outfalls = (
        Outfall("high", "上排口", "upper outfall", "river", 1.0, OutfallKind.SEWAGE),
        Outfall("works", "工厂排口", "works outfall", "river", 3.5, OutfallKind.INDUSTRIAL),
        Outfall("side", "涌排口", "creek outfall", "creek", 1.0, OutfallKind.SEWAGE),
        Outfall("tail", "下排口", "lower outfall", "river", 8.0, OutfallKind.SEWAGE),
    )
    travels = (Travel("creek", "river", 3600, 10_800, 21_600),)
    return Registry(stations, (), (river, creek, aside), catalogue(), outfalls=outfalls, travels=travels)


RIVER = RiverTree(registry())
STEADY = {"river": Current(T - 100 * HOUR_MS, np.ones(1), measured=True)}


def keys(found: list[source_attribution.Candidate], kind: PlaceKind = PlaceKind.OUTFALL) -> list[str]:
    return [c.key for c in found if c.kind is kind]


def test_the_outfall_whose_water_comes_when_it_was_seen_is_named_with_its_release():
    # 0.3 m/s is 1.08 km an hour: from km 3.5 to 6 it takes 2.3 h, to 9 5.1 h; nothing was seen above
    seen = [Detection("mid", T), Detection("low", T + round(2.78 * HOUR_MS))]
    quiet = [NonDetection("up", T + 3 * HOUR_MS), NonDetection("creek-1", T + 3 * HOUR_MS)]
    best = source_attribution.rank_sources(RIVER, seen, quiet, STEADY)[0]
    assert best.key == "works"
    assert best.early_ms <= T - 2.3 * HOUR_MS <= best.late_ms
    assert best.late_ms - best.early_ms < 8 * HOUR_MS
    assert any("顺流2.5公里" in reason.zh for reason in best.reasons)


def test_a_station_on_the_way_that_saw_nothing_speaks_against_what_lies_above_it():
    seen = [Detection("mid", T)]
    without = {c.key: c.probability for c in source_attribution.rank_sources(RIVER, seen, (), STEADY)}
    found = source_attribution.rank_sources(RIVER, seen, [NonDetection("up", T + 2 * HOUR_MS)], STEADY)
    against = {c.key: c for c in found}
    assert against["high"].probability < 0.5 * without["high"] if "high" in against else True
    if "high" in against:
        assert any(shows(reason.zh, "source_attribution.quiet_against") for reason in against["high"].reasons)
    assert keys(found)[0] in ("works", "side")


def test_a_station_that_saw_it_first_upstream_brings_the_source_up_there():
    seen = [Detection("up", T), Detection("mid", T + round(3.7 * HOUR_MS))]
    found = source_attribution.rank_sources(RIVER, seen, [NonDetection("creek-1", T + 4 * HOUR_MS)], STEADY)
    assert found[0].key == "high"


def test_the_flood_carries_water_up_to_a_station_from_an_outfall_below_it():
    at = T - 48 * HOUR_MS + np.arange(0, 60 * 2) * source_attribution.STEP_MS
    hours = (at - T) / HOUR_MS
    flood = {"river": Current(int(at[0]), np.where((hours > -4) & (hours <= 0), -4.0, 1.0), measured=True)}
    seen, quiet = [Detection("mid", T - HOUR_MS)], [NonDetection("up", T), NonDetection("creek-1", T)]
    with_tide = source_attribution.rank_sources(RIVER, seen, quiet, flood)
    tail = next(c for c in with_tide if c.key == "tail")
    assert any(shows(reason.zh, "source_attribution.up") for reason in tail.reasons)
    assert keys(with_tide)[0] == "tail"
    steady = source_attribution.rank_sources(RIVER, seen, quiet, STEADY)
    p = {c.key: c.probability for c in steady}
    assert p.get("tail", 0.0) < 0.05 < tail.probability


def test_a_source_that_mixing_brings_to_the_station_above_stays_first_when_stations_below_see_it_later():
    # "works" lies at km 3.5: mixing carries it up to km 3 in 1.2 h, the flow down to km 6 in 2.3 h and to km 9 in 5.1 h
    above = Station("above", "略上", "just above", 0.0, lat(3), reach="river")
    whole = registry()
    outfalls = tuple(o for o in whole.outfalls if o.key in ("works", "side"))
    stations = (*whole.stations, above)
    river = RiverTree(Registry(stations, (), whole.reaches, catalogue(), outfalls=outfalls, travels=whole.travels))
    first = [Detection("above", T)]
    quiet = [NonDetection("up", T + HOUR_MS), NonDetection("creek-1", T + HOUR_MS)]
    early = source_attribution.rank_sources(river, first, quiet, STEADY)
    below = [Detection("mid", T + round(1.1 * HOUR_MS)), Detection("low", T + round(3.9 * HOUR_MS))]
    quiet = [NonDetection("up", T + 6 * HOUR_MS), NonDetection("creek-1", T + 6 * HOUR_MS)]
    later = source_attribution.rank_sources(river, first + below, quiet, STEADY)
    assert later[0].key == "works"
    assert later[0].probability > {c.key: c.probability for c in early}["works"], "later evidence improves the answer"


def test_a_neighbour_that_changes_for_another_reason_does_not_move_the_source():
    seen = [Detection("mid", T), Detection("low", T - 3 * HOUR_MS)]  # before the water can be there
    quiet = [NonDetection("up", T + 3 * HOUR_MS), NonDetection("creek-1", T + 3 * HOUR_MS)]
    found = source_attribution.rank_sources(RIVER, seen, quiet, STEADY)
    assert found[0].key == "works"


def test_acid_points_to_the_works_and_ammonia_to_sewage():
    seen = [Detection("low", T)]
    acid = {
        c.key: c.probability for c in source_attribution.rank_sources(RIVER, seen, (), STEADY, falls=frozenset({"ph"}))
    }
    sewage = source_attribution.rank_sources(
        RIVER, seen, (), STEADY, rises=frozenset({"nh3n", "tp"}), falls=frozenset({"do"})
    )
    ammonia = {c.key: c.probability for c in sewage}
    assert acid["works"] > ammonia["works"]
    assert any("不太像工业排口" in r.zh for c in sewage if c.key == "works" for r in c.reasons)


def test_another_river_has_no_candidates_here_and_probabilities_are_shares():
    found = source_attribution.rank_sources(RIVER, [Detection("low", T)], [NonDetection("off", T)], STEADY)
    assert all(c.reach != "aside" for c in found)
    assert 0 < sum(c.probability for c in found) <= 1 + 1e-9
    assert [c.probability for c in found] == sorted((c.probability for c in found), reverse=True)
    assert "off" not in RIVER.near("low")


def test_unknown_stations_and_those_on_no_reach_are_refused_by_name():
    with pytest.raises(NotFound, match=says("registry.no_station", key="nowhere")):
        source_attribution.rank_sources(RIVER, [Detection("nowhere", T)])
    with pytest.raises(NotFound, match=says("source_attribution.no_reach", station="dry")):
        source_attribution.rank_sources(RIVER, [Detection("dry", T)])
    with pytest.raises(ValueError, match="no station saw"):
        source_attribution.rank_sources(RIVER, [])


def test_reaches_that_flow_in_a_circle_are_refused():
    line = ((0.0, 0.0), (0.0, 1.0))
    a = Reach("a", "甲", "a", Water.CREEK, line, downstream="b")
    b = Reach("b", "乙", "b", Water.CREEK, line, downstream="a")
    with pytest.raises(ConfigurationError, match=says("source_attribution.circle", circle="a, b")):
        RiverTree(Registry((), (), (a, b), catalogue()))


def test_a_falling_level_is_the_ebb_and_a_still_one_no_tide():
    at = T - 48 * HOUR_MS + np.arange(0, 48 * 6) * 600_000
    level = np.cos(2 * np.pi * (at - T) / HOUR_MS / 12.42)
    found = source_attribution.current_of_levels(at, level, T - 36 * HOUR_MS, T)
    assert found is not None
    place = (
        T - round(9.3 * HOUR_MS) - found.start_ms
    ) // source_attribution.STEP_MS  # a quarter period after high water
    assert found.share[place] > 0.9
    assert source_attribution.current_of_levels(at, 0.01 * level, T - 36 * HOUR_MS, T) is None


def test_the_onset_lies_where_the_rise_began():
    at = T + np.arange(-26 * 6, 12) * 600_000
    value = 1 + 0.02 * np.sin(at / 3e6) + np.clip((at - T) / HOUR_MS, 0, 1) * 4
    began = source_attribution.onset(at, value, int(at[-1]), up=True)
    assert began is not None
    assert abs(began[0] - T) <= 1_200_000
    assert source_attribution.onset(at[:-12], value[:-12], int(at[-13]), up=True) is None


def test_neighbours_that_show_the_same_have_seen_it_and_well_ones_are_quiet():
    at = T + np.arange(-40 * 6, 36) * 600_000
    rng = np.random.default_rng(1)

    def line(start_h: float, size: float) -> tuple[np.ndarray, np.ndarray]:
        return at, 1 + 0.03 * rng.normal(size=len(at)) + size * np.clip((at - T) / HOUR_MS - start_h, 0, 1)

    readings = {
        "mid": {"nh3n": line(0, 3), "do": line(0, -0.9), "turbidity": line(0, 0)},
        "low": {"nh3n": line(3, 2), "do": line(3, -0.6)},
        "up": {"nh3n": line(0, 0), "do": line(0, 0)},
        "creek-1": {"nh3n": (at[:100], np.ones(100))},
        "above": {"nh3n": line(2, 2), "do": line(0, 0)},
    }
    found = source_attribution.evidence(readings, "mid", T + HOUR_MS, T + 6 * HOUR_MS)
    assert found.rises == {"nh3n"}
    assert found.falls == {"do"}
    assert {s.station for s in found.seen} == {"mid", "low"}
    assert abs(next(s for s in found.seen if s.station == "low").onset_ms - (T + 3 * HOUR_MS)) < HOUR_MS
    quiet = {q.station: q.until_ms for q in found.quiet}
    assert quiet.keys() == {"up", "above"}  # the creek's station fell silent: it says nothing
    assert abs(quiet["above"] - (T + 2 * HOUR_MS)) < HOUR_MS, "ammonia without oxygen is no detection"


def test_a_place_beside_the_line_lies_at_its_nearest_point():
    assert along_km(((0.0, 0.0), (0.0, lat(10))), 0.01, lat(4)) == pytest.approx(4.0, abs=0.01)
    assert along_km(((0.0, 0.0), (0.0, lat(10))), 0.0, lat(12)) == pytest.approx(10.0, abs=0.01)
