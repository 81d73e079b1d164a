"""The loss ledger as people read it: a month of station-days, and what is missing on one day. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from itertools import pairwise

import numpy as np

from ingest.ledger import UNREGISTERED, Account, Gap
from ingest.storage.port import Window
from sensors.reading import Flag, unpack
from sensors.stations import Registry

HOLE_INTERVALS = 2.5
"""A station sent nothing for a while where two of its readings are further apart than so many of its intervals."""
MOST_HOLES = 20


class State(StrEnum):
    """What a station-day shows: no account, filling now, everything stored, part of it in quarantine, readings
    missing, number sent unknown, or an account whose sums differ.
    """

    NONE = "none"
    PROGRESS = "progress"
    COMPLETE = "complete"
    QUARANTINED = "quarantined"
    MISSING = "missing"
    UNKNOWN = "unknown"
    UNBALANCED = "unbalanced"


EXPORT_HEAD = ("station", "key", "day", "sent", "stored", "duplicate", "quarantined", "missing", "state")
"""Columns of the list as a file."""
FINE = frozenset({State.NONE, State.PROGRESS, State.COMPLETE})


@dataclass(frozen=True, slots=True)
class Cell:
    """A station-day. ``amount``: readings missing or in quarantine; ``level`` 1 to 3: how large a part is missing."""

    day: str
    state: State
    amount: int = 0
    level: int = 0


@dataclass(frozen=True, slots=True)
class Rate:
    """Stored readings of those that were sent, repeats left out: over ``days``; ``unknown`` days are left out, too.
    ``share`` None where there is no day to judge.
    """

    share: float | None
    days: int
    unknown: int


@dataclass(frozen=True, slots=True)
class Row:
    """A station's month."""

    station: str
    name: str
    cells: tuple[Cell, ...]
    rate: Rate

    @property
    def silent(self) -> bool:
        """Whether the station sent nothing in the month."""
        return all(cell.state is State.NONE for cell in self.cells)

    @property
    def fine(self) -> bool:
        """Whether no day has a gap, an unknown number or refused data."""
        return all(cell.state in FINE for cell in self.cells)


@dataclass(frozen=True, slots=True)
class Month:
    """Days of a month with the rows of all stations; ``before`` and ``after`` are its neighbours, YYYY-MM."""

    name: str
    days: tuple[date, ...]
    before: str
    after: str | None
    rows: tuple[Row, ...]
    rate: Rate
    accounts: int


@dataclass(frozen=True, slots=True)
class Missing:
    """A gap with its likely cause: ``restart`` (the numbers before the first message of a new start) or ``link``."""

    gap: Gap
    cause: str


@dataclass(frozen=True, slots=True)
class Quality:
    """Readings of a day by flag, and stretches (ms UTC) without any."""

    usable: int
    suspect: int
    bad: int
    holes: tuple[tuple[int, int], ...]

    @property
    def total(self) -> int:
        return self.usable + self.suspect + self.bad


def is_sent_known(account: Account) -> bool:
    """Whether what was sent is known: all messages carry numbers, and of each missing one the readings are known.

    A message that was refused as a whole has no number that could be read: as many as were refused may lack one.
    """
    numbered = account.messages - account.messages_unnumbered
    all_numbered = account.messages_unnumbered <= account.messages_quarantined and (
        numbered > 0 or not account.messages
    )
    return account.station != UNREGISTERED and account.sent is not None and all_numbered


def state_of(account: Account, today: str) -> State:
    """What an account shows; the present day is still filling."""
    if account.day >= today:
        return State.PROGRESS
    if account.readings != account.stored + account.duplicate + account.quarantined:
        return State.UNBALANCED
    if not is_sent_known(account):
        return State.UNKNOWN
    if account.missing:
        return State.MISSING
    return State.QUARANTINED if account.quarantined or account.messages_quarantined else State.COMPLETE


def cell(day: str, account: Account | None, today: str) -> Cell:
    """A station-day of the calendar."""
    if account is None:
        return Cell(day, State.NONE)
    state = state_of(account, today)
    if state is State.MISSING:
        share = (account.missing or 0) / (account.sent or 1)
        return Cell(day, state, account.missing or 0, 1 if share < 0.05 else 2 if share < 0.25 else 3)
    return Cell(day, state, account.quarantined if state is State.QUARANTINED else 0)


def rate(accounts: Iterable[Account], today: str) -> Rate:
    """Stored of sent without repeats, over closed days whose number sent is known."""
    stored = due = days = unknown = 0
    for account in accounts:
        if account.day >= today:
            continue
        if not is_sent_known(account):
            unknown += 1
            continue
        days += 1
        stored += account.stored
        due += (account.sent or 0) - account.duplicate
    return Rate(stored / due if due > 0 else None, days, unknown)


def month(name: str, accounts: Sequence[Account], registry: Registry, language: str, today: date) -> Month:
    """A month (YYYY-MM) of all stations in service and of others with an account, those of nobody last."""
    first = date.fromisoformat(f"{name}-01")
    following = (first + timedelta(days=31)).replace(day=1)
    days = tuple(first + timedelta(days=i) for i in range((following - first).days))
    of: dict[str, dict[str, Account]] = {}
    for account in accounts:
        of.setdefault(account.station, {})[account.day] = account
    names = {
        s.key: s.en if language == "en" else s.zh
        for s in registry.stations
        if s.key in of or s.key not in registry.retired
    }
    keys = [*names, *sorted(of.keys() - names.keys(), key=lambda key: (key == UNREGISTERED, key))]
    rows = tuple(_row(key, names.get(key, key), days, of.get(key, {}), today.isoformat()) for key in keys)
    return Month(
        name=name,
        days=days,
        before=(first - timedelta(days=1)).strftime("%Y-%m"),
        after=following.strftime("%Y-%m") if following <= today else None,
        rows=rows,
        rate=rate([a for a in accounts if a.station != UNREGISTERED], today.isoformat()),
        accounts=len(accounts),
    )


def _row(key: str, name: str, days: Iterable[date], of: Mapping[str, Account], today: str) -> Row:
    cells = tuple(cell(day.isoformat(), of.get(day.isoformat()), today) for day in days)
    return Row(key, name, cells, rate(of.values(), today))


def missing(found: Iterable[Gap]) -> tuple[Missing, ...]:
    """Gaps with what probably caused them: messages lost before the first one of a new start, or on the way."""
    return tuple(Missing(gap, "restart" if gap.first_seq == 0 and gap.boot > 0 else "link") for gap in found)


def quality(window: Window, start_ms: int, end_ms: int, interval_s: float) -> Quality:
    """The readings of a day by flag, and when there were none between ``start_ms`` and ``end_ms``."""
    flags, _ = unpack(window.packed)
    times = [start_ms, *np.unique(window.at).tolist(), end_ms]
    longest = HOLE_INTERVALS * 1000 * interval_s
    holes = [(a, b) for a, b in pairwise(times) if b - a > longest]
    return Quality(
        usable=int((flags < Flag.SUSPECT).sum()),
        suspect=int((flags == Flag.SUSPECT).sum()),
        bad=int((flags > Flag.SUSPECT).sum()),
        holes=tuple(holes[:MOST_HOLES]),
    )


def valid_share(arrived: Rate, of_day: Quality) -> float | None:
    """The part of what was sent that is stored and not judged bad; None where what was sent is unknown."""
    if arrived.share is None or not of_day.total:
        return None
    return arrived.share * (of_day.total - of_day.bad) / of_day.total
