"""The one sentence about the system: never that all works where something was not asked, or no data comes in."""

from dataclasses import replace

import pytest

from api.context import Part
from api.health import PARTS, Probe
from api.pages.models import health as models
from api.pages.models.health import DELAYED_MS, STEPS, State
from api.pages.models.overview import Book, Data, Model, StationView
from infra.texts import Text

NOW = 1_800_000_000_000
HOUR = 3_600_000
WELL = tuple(Part(name, True, "fine") for names in STEPS.values() for name in names)


def _station(key: str, newest_at_ms: int | None, state: Data) -> StationView:
    fields = dict.fromkeys(StationView.__dataclass_fields__)
    fields |= {"key": key, "name": Text(key, key), "newest_at_ms": newest_at_ms, "state": state, "headline": ()}
    return StationView(**fields)  # type: ignore[arg-type]


def _picture(*states: Data) -> Model:
    ages = {Data.NORMAL: NOW - 60_000, Data.LATE: NOW - HOUR, Data.OFFLINE: NOW - 9 * HOUR, Data.NEVER: None}
    stations = tuple(_station(f"s{i}", ages[state], state) for i, state in enumerate(states))
    by_state = {state: states.count(state) for state in Data}
    return Model(NOW, stations, (), by_state, {}, 0, Book(True, 0, 0, 0))


def _verdict(
    parts: tuple[Part, ...], picture: Model | None, since: dict[str, int] | None = None, waiting: int | None = None
) -> models.Verdict:
    probe = Probe(NOW, parts, since or {})
    return models.verdict(probe, models.steps(probe), picture, waiting)


def _failing(name: str, vital: bool) -> tuple[Part, ...]:
    return tuple(replace(part, ok=False, vital=vital) if part.name == name else part for part in WELL)


GOOD = _picture(Data.NORMAL, Data.LATE, Data.OFFLINE, Data.NEVER)


@pytest.mark.parametrize(
    ("parts", "picture", "waiting", "state", "key"),
    [
        (WELL, GOOD, None, State.WORKS, "all_works"),
        (WELL, GOOD, NOW - DELAYED_MS, State.WORKS, "all_works"),
        (WELL, GOOD, NOW - DELAYED_MS - 1, State.LIMITED, "delayed"),
        (WELL, None, None, State.UNKNOWN, "probe_failed"),
        (WELL, _picture(Data.OFFLINE, Data.NEVER), None, State.LIMITED, "no_data"),
        (WELL, _picture(Data.NEVER), None, State.LIMITED, "no_data_ever"),
        (WELL, _picture(Data.NORMAL, Data.OFFLINE, Data.OFFLINE), None, State.LIMITED, "few_data"),
        (WELL, _picture(), None, State.WORKS, "all_works"),
        ((Part("database", True, ""),), GOOD, None, State.UNKNOWN, "known_works"),
        ((), GOOD, None, State.UNKNOWN, "known_works"),
        ((*WELL, Part("something_new", False, "x")), GOOD, None, State.FAILS, "fails"),
        ((Part("database", True, ""), Part(PARTS, False, "x")), GOOD, None, State.UNKNOWN, "probe_failed"),
    ],
)
def test_it_says_that_all_works_only_where_that_is_known(
    parts: tuple[Part, ...], picture: Model | None, waiting: int | None, state: State, key: str
) -> None:
    found = _verdict(parts, picture, waiting=waiting)
    assert (found.state, found.key) == (state, key)


def test_what_does_not_work_is_named_with_its_time() -> None:
    found = _verdict(_failing("outbox", vital=True), GOOD, {"outbox": NOW - HOUR})
    assert (found.state, found.key, found.steps, found.since_ms) == (
        State.FAILS,
        "fails_since",
        ("deliver",),
        NOW - HOUR,
    )
    assert _verdict(_failing("influx", vital=False), GOOD, {"influx": NOW}).key == "limited_since"


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("parts", [WELL, (), _failing("mqtt", True), _failing("influx", False)])
def test_every_verdict_is_a_sentence(parts: tuple[Part, ...], language: str) -> None:
    for picture in (GOOD, None, _picture(Data.OFFLINE), _picture(Data.NEVER)):
        text = getattr(models.sentence(_verdict(parts, picture), "14:05"), language)
        assert text
        assert "{" not in text


def test_the_stations_silent_for_longest_come_first_and_those_that_never_sent_last() -> None:
    found = models.longest_silent(_picture(Data.NEVER, Data.NORMAL, *[Data.OFFLINE] * 3))
    assert [one.key for one in found] == ["s2", "s3", "s4", "s0"]
