"""Why a reading is doubtful and what an event looks like, in one sentence of each language."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from sensors.parameters import catalogue
from sensors.quality.events import Alarms, Cause, Doubt
from sensors.quality.phase import Shift
from sensors.quality.slow import FOLLOWED, AllAlarms
from sensors.reading import QualityTest
from sensors.texts import Text, say
from sensors.times import from_ms


def reasons(bits: int) -> Text:
    """The tests in a bit set, the gravest first."""
    told = [say(f"quality.{str(test.name).lower()}") for test in QualityTest if test & bits]
    return Text("；".join(text.zh for text in told), "; ".join(text.en for text in told))


def clock(shift: Shift, stations: Sequence[str]) -> Text:
    """That the days of these stations shifted, by how much and from when on."""
    return say(
        "quality.clock_later" if shift.hours > 0 else "quality.clock_earlier",
        stations=", ".join(stations),
        day=f"{from_ms(shift.since_ms):%Y-%m-%d}",
        hours=f"{abs(shift.hours):.1f}",
    )


def wants_care(station: str, column: str, since_ms: Sequence[int], *, optical: bool) -> Text:
    """That a sensor crept away from its neighbours, or its lens was overgrown, from these days on."""
    days = ", ".join(f"{from_ms(one):%Y-%m-%d}" for one in since_ms)
    return say("quality.lens" if optical else "quality.creeps", station=station, column=column, days=days)


TOLD: Final = 4
"""So many sensors are told of, those that moved most: the sentence is read on a telephone."""


def event(alarms: Alarms, row: int, measured: Mapping[str, Text] = MappingProxyType({})) -> Text:
    """The sentence of an alarm: what it looks like, how sure, the moves for and against it, and what is doubtful.

    ``measured`` has, by role, what a sensor showed before and then, where that is known.
    """
    if isinstance(alarms, AllAlarms) and alarms.slow(row):
        return _slow(alarms, row)
    meaning, doubt = alarms.meaning(row), Doubt(int(alarms.doubt[row]))
    moves = [_move(role, size, measured.get(role)) for role, size in meaning.evidence[:TOLD]]
    evidence = Text("，".join(m.zh for m in moves), ", ".join(m.en for m in moves))
    if len(meaning.evidence) > TOLD:
        evidence = _and(evidence, say("event.more_moved", rest=len(meaning.evidence) - TOLD))
    told = say(
        "event.told_doubtful" if doubt else "event.told",
        cause=say(f"event.{meaning.cause}"),
        confidence=round(100 * meaning.confidence),
        evidence=evidence,
    )
    if not alarms.alone[row]:
        weighed = say("event.weighed", total=f"{alarms.total[row]:.1f}", needed=f"{alarms.needed[row]:.1f}")
        told = _and(told, weighed)
    if meaning.against:
        quiet = [say(f"sensor_role.{role}") for role, _ in meaning.against]
        told = _and(
            told, say("event.quiet", roles=Text("、".join(q.zh for q in quiet), ", ".join(q.en for q in quiet)))
        )
    if doubt:
        told = _and(told, say(f"event.doubt_{doubt.name.lower()}", role=say(f"sensor_role.{meaning.evidence[0][0]}")))
    if alarms.supported[row]:
        told = _and(told, say("event.upstream"))
    return _and(told, say("event.alone")) if alarms.alone[row] else told


def _slow(alarms: AllAlarms, row: int) -> Text:
    """The same of a change of hours or days: what the sensors show, and how far they usually went."""
    meaning = alarms.meaning(row)
    key_of = {role: key for key, role in FOLLOWED.items()}
    place_of = {role: i for i, role in enumerate(FOLLOWED.values())}
    shown = []
    for role, size in meaning.evidence[:TOLD]:
        one, i = catalogue()[key_of[role]], place_of[role]
        now, usual = one.show(float(alarms.now[row, i])), one.show(float(alarms.usual[row, i]))
        name = Text(one.zh, one.en)
        shown.append(say("event.slow_high" if size > 0 else "event.slow_low", parameter=name, now=now, usual=usual))
    told = say(
        "event.told_doubtful" if alarms.doubt[row] else "event.told",
        cause=say(f"event.{meaning.cause}"),
        confidence=round(100 * meaning.confidence),
        evidence=Text("，".join(one.zh for one in shown), ", ".join(one.en for one in shown)),
    )
    if meaning.against:
        quiet = [say(f"sensor_role.{role}") for role, _ in meaning.against]
        unmoved = Text("、".join(q.zh for q in quiet), ", ".join(q.en for q in quiet))
        told = _and(told, say("event.quiet", roles=unmoved))
    if alarms.doubt[row]:
        told = _and(told, say("event.doubt_lone" if alarms.doubt[row] == Doubt.LONE else "event.doubt_muddy"))
    if meaning.cause is Cause.BLOOM and dict(meaning.evidence).get("oxygen", 0.0) < 0:
        told = _and(told, say("event.bloom_rots"))
    return _and(told, say("event.beside")) if alarms.supported[row] else told


def _move(role: str, size: float, measured: Text | None) -> Text:
    times = f"{abs(size):.1f}"
    if measured is not None:
        return say("event.move_measured", measured=measured, size=times)
    direction = say("event.up" if size > 0 else "event.down")
    return say("event.move", role=say(f"sensor_role.{role}"), direction=direction, size=times)


def _and(first: Text, second: Text) -> Text:
    return Text(first.zh + second.zh, first.en + second.en)
