"""Sudden changes of the water in late data (decision 0045): what the detector says of their neighbourhood with and
without them. What it says only with them is an event nobody was told of.

Thresholds are those in force, and nothing is learned (decision 0026).
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import sqlalchemy as sa

from governance.finding import Finding
from governance.tables import incident_condition
from ingest.checks.events import QUIET_MS, Measured
from ingest.history import SHORTEST_S, History
from ingest.storage.port import Window
from sensors.quality import Assessed
from sensors.quality.events import Alarms, watch
from sensors.reading import Bytes, Codes, Floats, Ints

REACH_MS: Final = int(1000 * SHORTEST_S)
"""So far around the late readings instants are looked at: the medians of the last hours, and six hours of calm."""

Span = tuple[int, int]
"""The first and the last alarm of an event, ms."""

Told = Callable[[str], Sequence[Span]]
"""The events at a station that people were told of."""


@dataclass(frozen=True, slots=True)
class Said:
    """What quality tests say of readings of a station: (n,) columns as the detector takes them, and the values."""

    parameter: Codes
    at: Ints
    value: Floats
    move: Floats
    course: Bytes
    tests: Ints

    @classmethod
    def of(cls, verdict: Assessed, rows: slice, window: Window, packed: Ints) -> "Said":
        """Of a window, whose verdict are the ``rows``; ``packed`` are its flags with the marks of people laid over."""
        return cls(window.parameter, window.at, window.value, verdict.move[rows], verdict.course[rows], packed >> 4)

    @classmethod
    def together(cls, parts: Sequence["Said"]) -> "Said":
        return cls(*(np.concatenate([getattr(one, name) for one in parts]) for name in cls.__slots__))


def findings(
    station: int,
    late: Ints,
    with_them: Said,
    without: Callable[[], Said],
    history: History,
    told: Told,
    now_ms: int,
) -> tuple[list[Finding], list[Finding]]:
    """What readings at the instants ``late`` (sorted) show at a station; all findings, and those that change what is
    on now."""
    sudden, one = history.checks.sudden, history.registry.stations[station]
    within = int(late[0]) - REACH_MS, int(late[-1]) + REACH_MS
    found = _alarms(station, with_them, within, history)
    if not len(found.at):
        return [], []
    going = sudden.going(one.key)
    last_ms = max(
        [
            int(history.watched.alarmed[station]),
            int(history.watched.doubted[station]),
            *(alarm.fired_at_ms for alarm in going.values()),
        ]
    )
    known = list(told(one.key))
    if going:
        known.append((min(alarm.fired_at_ms for alarm in going.values()), last_ms))
    new = [span for span in _spans(found.at) if not _meets(span, known)]
    if new:
        new = [span for span in new if not _meets(span, _spans(_alarms(station, without(), within, history).at))]
    instants = np.unique(np.append(with_them.at, max(int(history.heard[station]), int(late[-1]))))
    measured = Measured(with_them.parameter, with_them.at, with_them.value)
    every: list[Finding] = []
    lasting: list[Finding] = []
    for first, last in new:
        rows = np.flatnonzero((found.at >= first) & (found.at <= last)).tolist()
        after = going if last_ms < first else {}  # what was on before ended, as far as anybody knows now
        said, on = sudden.story(
            one, found, rows, after, last_ms if after else first, instants, lambda: measured, now_ms, True
        )
        every += said
        if on or after:
            lasting += said
            going, last_ms = on, last
    return every, lasting


def told(connection: sa.Connection, station: str, rules: Collection[str]) -> list[Span]:
    """The events these rules told of at a station, from the incidents."""
    table = incident_condition
    query = sa.select(table.c.since_ms, table.c.fired_at_ms, table.c.resolved_at_ms)
    rows = connection.execute(query.where(table.c.station == station, table.c.rule.in_(list(rules)))).all()
    return [
        (since_ms, fired_ms if over_ms is None else max(fired_ms, over_ms - QUIET_MS))
        for since_ms, fired_ms, over_ms in rows
    ]


def _alarms(station: int, said: Said, within: Span, history: History) -> Alarms:
    """The detector's alarms around the late readings, as if nothing had been seen of the station for a while."""
    memory = history.watched.taken(np.array([station]))
    for name in ("at", "moves", "ramp", "visit", "visited", "alarmed", "known", "leap", "doubted"):
        getattr(memory, name)[:] = 0
    rows = np.flatnonzero((said.at >= within[0]) & (said.at <= within[1]))
    who, tests = np.zeros(len(rows), np.int64), said.tests[rows]
    columns = who, said.parameter[rows], said.at[rows], said.move[rows], said.course[rows], tests
    return watch(*columns, memory, history.registry.catalogue).alarms


def _spans(at: Ints) -> list[Span]:
    """Alarms without six hours of calm between them are one event."""
    if not len(at):
        return []
    at = np.sort(at)
    cuts = np.flatnonzero(np.diff(at) > QUIET_MS)
    return list(zip(at[np.append(0, cuts + 1)].tolist(), at[np.append(cuts, -1)].tolist(), strict=True))


def _meets(span: Span, others: Sequence[Span]) -> bool:
    return any(span[0] - QUIET_MS <= last and first - QUIET_MS <= span[1] for first, last in others)
