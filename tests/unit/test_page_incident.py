"""The verdict of an incident: facts that each point one way, and what follows from them."""

from dataclasses import replace

import pytest

from api.pages.incident_evidence import span_of
from api.pages.models import action_bar
from api.pages.models.action_bar import Given
from api.pages.models.gauges import Hydrology, Level
from api.pages.models.verdict import Checked, Measured, Observed, Points, Sort, has_moved, judge, steps_to
from governance.incidents import lifecycle
from governance.incidents.finding import Colour, FindingKind
from governance.incidents.headline import Headline, Row
from governance.incidents.model import Action, Condition, Incident, Order, Source, State
from governance.organisation.regions import Place
from governance.organisation.roles import Actor, Role
from infra.texts import Text, say
from infra.times import HOUR_MS
from sensors.parameters import catalogue

T = 1_796_000_000_000
OFFICE = Actor("李（示例）", Role.OFFICE)
SENSORS = catalogue()
AMMONIA = Row("nh3n", 6.9, limit=4.0)


def _incident(kind: FindingKind = FindingKind.THRESHOLD, headline: Headline | None = None) -> Incident:
    reported, _ = lifecycle.open_reported(
        Order(Action.ACCEPT, comment="x"),
        OFFICE,
        T,
        cause="c",
        colour=Colour.RED,
        source=Source.RULE,
        place=Place("r", ""),
    )
    return replace(reported, kind=kind, headline=headline, state=State.REPORTED)


def _event(confidence: float = 0.95) -> Incident:
    rows = (Row("nh3n", 3.7, 0.7, 22.0), Row("do", 3.4, 5.9, -4.0))
    return _incident(
        FindingKind.EVENT, Headline(Text("甲", "A"), say("event.sewage"), rows, "s", confidence=confidence)
    )


def test_one_value_beyond_its_limit_alone_tells_neither() -> None:
    found = judge(_incident(), Observed(rows=(AMMONIA,)), SENSORS)
    assert (found.sort, found.confidence) == (Sort.UNDECIDED, "")
    assert [fact.points for fact in found.facts] == [Points.NEITHER]


def test_several_that_moved_together_and_a_sensor_that_passed_its_check_point_to_pollution() -> None:
    seen = Observed(rows=(AMMONIA,), moved=("do", "conductivity"), checked=Checked(T, True), steps=4)
    found = judge(_incident(), seen, SENSORS)
    assert (found.sort, found.confidence, found.count(Points.POLLUTION)) == (Sort.POLLUTION, "high", 3)
    assert found.place == 1.0


def test_a_leap_of_one_sensor_whose_neighbours_stand_still_points_to_a_fault() -> None:
    seen = Observed(rows=(AMMONIA,), unmoved=("do", "conductivity"), checked=Checked(T, False), steps=1)
    found = judge(_incident(), seen, SENSORS)
    assert (found.sort, found.confidence, found.place) == (Sort.FAULT, "high", 0.0)


@pytest.mark.parametrize(("share", "confidence"), [(0.95, "high"), (0.6, "medium"), (0.3, "low")])
def test_the_detector_says_how_sure_it_is(share: float, confidence: str) -> None:
    event = _event(share)
    assert event.headline is not None
    found = judge(event, Observed(rows=event.headline.rows), SENSORS)
    assert (found.sort, found.confidence, found.percent) == (Sort.POLLUTION, confidence, round(100 * share))


def test_a_doubtful_finding_during_a_visit_is_no_pollution() -> None:
    doubted = _incident(headline=Headline(Text("甲", "A"), rows=(AMMONIA,), doubtful=True))
    found = judge(doubted, Observed(rows=(AMMONIA,), visiting=True), SENSORS)
    assert found.sort is Sort.FAULT


@pytest.mark.parametrize(
    ("kind", "sort"),
    [
        (FindingKind.NO_DATA, Sort.FAULT),
        (FindingKind.DEVICE, Sort.FAULT),
        (FindingKind.FORECAST, Sort.EXPECTED),
        (FindingKind.REPORT, Sort.REPORTED),
    ],
)
def test_what_is_no_measured_water_is_called_what_it_is(kind: FindingKind, sort: Sort) -> None:
    assert judge(_incident(kind), Observed(), SENSORS).sort is sort


def test_what_people_measured_decides_a_report() -> None:
    by_hand = (Measured(T, "黄（示例）", Row("nh3n", 8.1), True),)
    assert judge(_incident(FindingKind.REPORT), Observed(by_hand=by_hand), SENSORS).sort is Sort.POLLUTION


def test_at_most_ten_facts_are_shown_those_that_point_first() -> None:
    rows = tuple(Row(key, 3.0, 1.0, 5.0) for key in ("nh3n", "codmn", "tp", "do"))
    seen = Observed(
        rows=rows,
        seen=((Text("乙", "B"), T),),
        visiting=True,
        steps=4,
        flagged=1,
        readings=20,
        checked=Checked(T, True),
        faults=(Text("断线", "offline"),),
        hydrology=Hydrology(Text("雨", "Rain"), 2.0, Level(Text("闸", "Gate"), 0.4, 0.4)),
    )
    facts = judge(_event(), seen, SENSORS).facts
    assert len(facts) == 10
    assert [fact.points for fact in facts][-1] is Points.NEITHER


def test_a_leap_is_one_step_and_a_climb_is_several() -> None:
    calm = [0.6, 0.62, 0.61, 0.6, 0.63, 0.61, 0.6, 0.62]
    assert steps_to([*calm, 8.0, 8.1, 8.0]) == 1
    assert steps_to([*calm, 1.5, 3.0, 5.0, 8.0]) > 2
    assert steps_to(calm) == 0
    assert steps_to([1.0, 8.0]) == 0


def test_a_parameter_has_moved_when_it_left_its_range() -> None:
    calm = [6.2, 6.21, 6.24, 6.22, 6.2, 6.23]
    assert has_moved(calm, [6.21, 6.23], 0.01) is False
    assert has_moved(calm, [4.2, 4.0, 3.9], 0.01) is True
    assert has_moved(calm[:3], [4.0, 4.0], 0.01) is None


def test_a_form_names_what_it_lacks_by_field() -> None:
    offers = {one.action: one for one in action_bar.offers(_incident(), OFFICE)}
    alarm = action_bar.missing(offers[Action.FALSE_ALARM], Given(action="false_alarm"))
    assert set(alarm) == {"comment", "reason"}
    comment = action_bar.missing(offers[Action.COMMENT], Given(action="comment", comment="x", value="1,5x"))
    assert set(comment) == {"value"}
    assert action_bar.number("0,8") == 0.8
    assert action_bar.number("nan") is None


def test_how_a_doubt_ended_stands_first_and_points_to_water_or_device() -> None:
    said = Text("结论", "the end of it")
    for kind, points in ((FindingKind.EVENT, Points.POLLUTION), (FindingKind.DEVICE, Points.FAULT)):
        facts = judge(_incident(kind), Observed(), SENSORS, settled=said).facts
        assert (facts[0].measured, facts[0].points) == (said, points)
    assert all(fact.measured != said for fact in judge(_incident(), Observed(), SENSORS).facts)


def test_the_chart_s_span_fits_the_length_of_the_event() -> None:
    since, minute = T - 10 * HOUR_MS, HOUR_MS // 60

    def span(minutes: int, *, on: bool = False, interval_s: int = 60, now_ms: int = T) -> tuple[float, float]:
        condition = Condition("rule", "s", "nh3n", since, since, None if on else since + minutes * minute)
        decided = replace(_incident(), since_ms=since, observed_at_ms=since + minutes * minute, conditions=(condition,))
        start_ms, end_ms = span_of(decided, interval_s, now_ms)
        return (start_ms - since) / HOUR_MS, (end_ms - since) / HOUR_MS

    assert span(6) == (-1, 1.1), "of minutes: an hour around it"
    assert span(60) == (-3, 4), "of an hour: three hours"
    assert span(300) == (-6, 10), "never more than six hours before, and no time to come"
    assert span(6, on=True, now_ms=since + 30 * minute) == (-1.5, 0.5), "what still holds lasts until now"
    assert span(6, interval_s=3600) == (-12, 10), "twelve readings of a slow station"
