"""What a track proves, and when a patrol counts."""

import pytest

from governance.reports.patrols import PatrolRule, Point, TrackResult, check_upload, judge_patrol, measure_track
from infra.errors import ConfigurationError
from sensors.network import distance_km
from tests.says import says

T0 = 1_790_000_000_000
MINUTE = 60_000


def track(*metres_north: float, step_ms: int = MINUTE) -> list[Point]:
    """A walk along a meridian."""
    return [Point(T0 + i * step_ms, 113.1, 23.0 + m / 111_195.0) for i, m in enumerate(metres_north)]


def test_a_degree_is_as_long_as_it_is_on_the_earth() -> None:
    assert 1000 * distance_km((113.0, 23.0), (113.0, 24.0)) == pytest.approx(111_195, rel=1e-4)
    assert 1000 * distance_km((113.0, 23.0), (114.0, 23.0)) == pytest.approx(102_356, rel=1e-3)


def test_a_walk_is_as_long_as_its_stretches() -> None:
    done = measure_track(track(0, 80, 160, 100), PatrolRule())
    assert (round(done.metres), done.minutes, done.jumps) == (220, 3.0, 0)


def test_a_jump_of_the_receiver_is_no_walk() -> None:
    done = measure_track(track(0, 80, 5000, 160), PatrolRule())
    assert (round(done.metres), done.jumps) == (80, 2)
    assert round(measure_track(track(0, 80, 5000, 160), PatrolRule(fastest_m_s=90.0)).metres) == 80 + 4920 + 4840, (
        "as a site says"
    )


def test_no_track_proves_nothing() -> None:
    assert measure_track([], PatrolRule()) == TrackResult(0.0, 0.0, 0)


@pytest.mark.parametrize(
    ("minutes", "metres", "valid"),
    [(10, 1000, True), (9.9, 1000, False), (10, 999, False), (60, 5000, True)],
)
def test_a_patrol_counts_when_it_was_long_enough_in_both(minutes: float, metres: float, valid: bool) -> None:
    found, why = judge_patrol("walk", TrackResult(metres, minutes, 0), PatrolRule(10, 1000))
    assert found is valid
    assert "1000" in why.zh
    assert "1000" in why.en


def test_a_drone_or_a_meeting_need_not_prove_a_length() -> None:
    assert judge_patrol("drone", TrackResult(0, 0, 0), PatrolRule())[0]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"key": "a b"}, says("patrol.no_key", key="a b")),
        ({"way": "swim"}, says("request.one_of", name="way", text="swim", known="walk, drone, meeting, on_site")),
        ({"ended_ms": T0 - 1}, says("patrol.backwards")),
        ({"ended_ms": T0 + 25 * 60 * MINUTE}, says("patrol.too_long")),
        ({"now_ms": T0}, says("patrol.ahead")),
        ({"track": [Point(T0, 113.0, 95.0)]}, says("patrol.no_place", i=0, lon=113.0, lat=95.0)),
        ({"track": [Point(T0 + 1, 113.0, 23.0), Point(T0 + 1, 113.0, 23.0)]}, says("patrol.not_later", i=1)),
        ({"track": [Point(T0 - 1, 113.0, 23.0)]}, says("patrol.beyond")),
    ],
)
def test_what_cannot_be_is_named(change: dict[str, object], why: str) -> None:
    given = {
        "key": "0f8c1d2e-1111",
        "way": "walk",
        "started_ms": T0,
        "ended_ms": T0 + 20 * MINUTE,
        "track": track(0, 50),
        "now_ms": T0 + 60 * 60 * MINUTE,
    }
    check_upload(**given)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=why):
        check_upload(**given | change)  # type: ignore[arg-type]
