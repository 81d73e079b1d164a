"""What the public is told of a water and a report."""

from api.pages.models import public as models
from governance.incidents.finding import Colour, FindingKind
from governance.incidents.model import Entry, EntryKind, Incident, State
from infra.texts import same, say
from ingest.analysis.live_classes import ShownClass
from sensors.standards.gb3838 import WaterClass

T = 1_790_000_000_000


def entry(what: EntryKind, minute: int) -> Entry:
    at_ms, said = T + minute * 60_000, same("")
    return Entry(minute + 1, at_ms, None, what, "示例", None, State.ACCEPTED, said, comment="不公开的话")


def incident(colour: Colour) -> Incident:
    return Incident(
        id=1,
        cause="x",
        open_cause="x",
        state=State.REPORTED,
        colour=colour,
        kind=FindingKind.THRESHOLD,
        title=same("x"),
        observed_at_ms=T,
        since_ms=T - colour.rank,
        last_observed_at_ms=T,
        opened_at_ms=T,
    )


def live(water_class: WaterClass | None, silent: int = 0) -> ShownClass:
    return ShownClass("reach", "r", T, water_class, (), 3, 3, None, None, "", "", silent=silent, stations=2)


def test_what_a_citizen_chose_stands_in_the_record_even_without_a_word() -> None:
    assert models.worded("litter", "") == say("citizen.kind_litter").zh
    assert models.worded("litter", " 桥下 ") == f"{say('citizen.kind_litter').zh}：桥下"
    assert models.worded("other", "桥下") == "桥下"
    assert models.worded("<script>", "") == ""


def test_the_public_follows_a_case_in_three_stages() -> None:
    states = (State.REPORTED, State.REWORK, State.HANDLED, State.CLOSED, State.REJECTED)
    assert [models.stage(one) for one in states] == [0, 1, 2, 2, 2]


def test_steps_name_no_comment_and_begin_anew_when_a_case_is_opened_again() -> None:
    kinds = (EntryKind.REPORTED, EntryKind.ACCEPTED, EntryKind.COMMENTED, EntryKind.CLOSED, EntryKind.REOPENED)
    told = models.steps([entry(what, minute) for minute, what in enumerate((*kinds, EntryKind.ACCEPTED))])
    assert [(one.key, (one.at_ms - T) // 60_000) for one in told] == [("accepted", 5), ("reopened", 4), ("received", 0)]


def test_no_data_is_no_good_news_and_an_alarm_comes_before_a_good_class() -> None:
    red, yellow = (incident(one) for one in (Colour.RED, Colour.YELLOW))
    assert models.alarm(None, ()) == ("", None)
    assert models.alarm(live(WaterClass.II, silent=2), ()) == ("", None)
    assert models.alarm(live(None), ()) == ("", None)
    assert models.alarm(live(WaterClass.II), ()) == ("calm", None)
    assert models.alarm(live(WaterClass.II), (yellow, red)) == ("red", red.since_ms)
    assert [models.is_warning(one) for one in ("red", "yellow", "blue", "calm", "")] == [
        True,
        True,
        False,
        False,
        False,
    ]
