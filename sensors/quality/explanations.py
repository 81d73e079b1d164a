"""Sentences, in both languages, on why a reading is doubtful and what an event looks like."""

from collections.abc import Iterator, Sequence
from typing import Final

from infra.texts import Text, say
from infra.times import HOUR_MS, from_ms
from sensors.parameters import catalogue
from sensors.quality.detectors.clock_shift import ClockShift
from sensors.quality.detectors.doubtful_events import CONFIRMING_HOURS, Settled
from sensors.quality.detectors.tide import TIDAL_ROLES
from sensors.quality.events import ROLE_OF_PARAMETER, Alarms, DiscountReason, EventCause, EventDiagnosis, Outcome
from sensors.reading import QualityTest


def test_names(bits: int) -> Text:
    """The names of the tests in a bit set, in the order of their bits."""
    names = [say(f"quality.{str(test.name).lower()}") for test in QualityTest if test & bits]
    return Text("；".join(text.zh for text in names), "; ".join(text.en for text in names))


def clock_shift_text(shift: ClockShift, stations: Sequence[str]) -> Text:
    """That the clocks of these stations shifted, by how much and from when on."""
    return say(
        "quality.clock_later" if shift.hours > 0 else "quality.clock_earlier",
        stations=", ".join(stations),
        day=f"{from_ms(shift.since_ms):%Y-%m-%d}",
        hours=f"{abs(shift.hours):.1f}",
    )


def maintenance_due_text(station: str, column: str, since_ms: Sequence[int], *, optical: bool) -> Text:
    """That a sensor crept away from its neighbours, or its lens seems overgrown, from these days on."""
    return say(
        "quality.maintenance_due_lens" if optical else "quality.maintenance_due_drift",
        station=station,
        column=column,
        days=_days(since_ms),
    )


def below_zero_text(station: str, column: str, offset: str, since_ms: Sequence[int]) -> Text:
    """That a sensor reads so much below zero from these days on."""
    return say("quality.below_zero", station=station, column=column, offset=offset, days=_days(since_ms))


def _days(since_ms: Sequence[int]) -> str:
    return ", ".join(f"{from_ms(one):%Y-%m-%d}" for one in since_ms)


LASTS_H: Final = 12
"""Hours from which on a doubtful event is said to last; it has no other effect."""

MAX_NAMED_SENSORS: Final = 4
"""Sensors that a sentence names, those that moved most: it is read on a telephone."""


def event_text(alarms: Alarms, row: int, *, figures: bool = True) -> Text:
    """The sentence of an alarm: cause, confidence, moves for and against it, and what is doubtful.

    Without ``figures`` the moves are named without their size, for callers that show a table beside it.
    """
    meaning, slow = alarms.meaning(row), alarms.slow(row)
    show = _departure if slow and figures else _move
    moves = [show(alarms, row, role, size, figures) for role, size in meaning.evidence[:MAX_NAMED_SENSORS]]
    explanation = say(
        "event.summary_doubtful" if alarms.discount[row] else "event.summary",
        cause=say(f"event.{meaning.cause}"),
        confidence=round(100 * meaning.confidence),
        evidence=_listed(moves, len(meaning.evidence)),
    )
    if figures and not slow and not alarms.alone[row]:
        weighed = say("event.score", total=f"{alarms.total[row]:.1f}", needed=f"{alarms.needed[row]:.1f}")
        explanation = _and(explanation, weighed)
    if meaning.against:
        quiet = [say(f"sensor_role.{role}") for role, _ in meaning.against]
        unmoved = Text("、".join(q.zh for q in quiet), ", ".join(q.en for q in quiet))
        explanation = _and(explanation, say("event.unchanged", roles=unmoved))
    for remark in (_slow_remarks if slow else _sudden_remarks)(alarms, row, meaning):
        explanation = _and(explanation, remark)
    return explanation


def _sudden_remarks(alarms: Alarms, row: int, meaning: EventDiagnosis) -> Iterator[Text]:
    """What else is to be said of a sudden event."""
    if discount := DiscountReason(int(alarms.discount[row])):
        role = say(f"sensor_role.{meaning.evidence[0][0]}")
        yield say(f"event.discount_{discount.name.lower()}", role=role)
    if alarms.supported[row]:
        yield say("event.upstream")
    if alarms.alone[row]:
        yield say("event.single_sensor")


def _slow_remarks(alarms: Alarms, row: int, meaning: EventDiagnosis) -> Iterator[Text]:
    """What else is to be said of a slow event."""
    if alarms.outcome[row] == Outcome.CONFIRMED:
        yield say("event.doubt_confirmed", hours=CONFIRMING_HOURS, swing=f"{alarms.swing[row]:.1f}")
    if alarms.discount[row]:
        yield say("event.discount_lone" if alarms.discount[row] == DiscountReason.LONE else "event.discount_muddy")
    if alarms.alone[row]:
        yield say("event.tidal")
    if meaning.cause is EventCause.BLOOM and dict(meaning.evidence).get("oxygen", 0.0) < 0:
        yield say("event.after_bloom")
    if alarms.supported[row]:
        yield say("event.neighbour_agrees")


def _departure(alarms: Alarms, row: int, role: str, size: float, _: bool) -> Text:
    """What a sensor shows in a slow event, and how far it usually went."""
    place = list(ROLE_OF_PARAMETER.values()).index(role)
    one = catalogue()[list(ROLE_OF_PARAMETER)[place]]
    tidal = alarms.alone[row] and role in TIDAL_ROLES
    return say(
        f"event.{'tidal' if tidal else 'slow'}_{'high' if size > 0 else 'low'}",
        parameter=Text(one.zh, one.en),
        now=one.show(float(alarms.now[row, place])),
        usual=one.show(float(alarms.usual[row, place])),
    )


def device_outcome_text(one: Settled) -> Text:
    """Why a doubtful event is a device to be checked."""
    if one.leapt:
        return say("event.doubt_leapt")
    hours = round((one.last_ms - one.since_ms) / HOUR_MS)
    return say("event.doubt_lasts", hours=hours) if hours >= LASTS_H else say("event.doubt_alone")


def outcome_text(one: Settled) -> Text:
    """What became of a doubtful event, and why."""
    if one.outcome is Outcome.DEVICE:
        return say("event.doubt_to_device", reason=device_outcome_text(one))
    joined = one.outcome is Outcome.JOINED
    return say("event.doubt_to_event", reason=say("event.doubt_joined" if joined else "event.doubt_swung"))


def _move(_: Alarms, row: int, role: str, size: float, figures: bool) -> Text:
    direction = say("event.up" if size > 0 else "event.down")
    key = "event.move" if figures else "event.move_alone"
    return say(key, role=say(f"sensor_role.{role}"), direction=direction, size=f"{abs(size):.1f}")


def _listed(moves: Sequence[Text], count: int) -> Text:
    """The moves that are named, and how many more there are."""
    listed = Text("，".join(m.zh for m in moves), ", ".join(m.en for m in moves))
    return _and(listed, say("event.more_moved", rest=count - len(moves))) if count > len(moves) else listed


def _and(first: Text, second: Text) -> Text:
    return Text(first.zh + second.zh, first.en + second.en)
