"""Corrections: readings that came again with another value; the replaced value is kept beside the new one.

A message that is delivered again does not bring a replaced value back, so that replaying a log changes nothing. Only
one that was sent after the correction does.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from infra.texts import Text, say
from infra.times import beijing
from ingest.storage.tables import correction as table
from sensors.parameters import Catalogue
from sensors.reading import Batch, Bools, Message, Places
from sensors.stations import Registry
from sensors.wire.telemetry import Header

Key = tuple[str, str, int, float]
"""Station, parameter, observed_at (ms), and the value that was replaced."""


@dataclass(frozen=True, slots=True)
class Correction:
    """A reading whose value was ``old_value``, canonical unit.

    ``by`` is the person who sent it, empty for a device; ``sent_at_ms`` is when the message was sent, 0 if unknown.
    """

    station: str
    parameter: str
    at_ms: int
    old_value: float
    new_value: float
    by: str
    sent_at_ms: int

    @property
    def key(self) -> Key:
        """What is replaced."""
        return self.station, self.parameter, self.at_ms, self.old_value


@dataclass(frozen=True, slots=True)
class Senders:
    """Who sent the messages of a batch, and when."""

    messages: Sequence[Message]
    headers: Sequence[Header | None]

    def by(self, message: int) -> str:
        """The person; empty for a device."""
        return self.messages[message].by

    def sent_at_ms(self, message: int) -> int:
        """When it was sent, ms; 0 if unknown."""
        header = self.headers[message]
        return (header.sent_at_ms if header else None) or 0


def corrections_of(
    batch: Batch, rows: Places, was: Sequence[float], senders: Senders, registry: Registry
) -> list[Correction]:
    """The ``rows`` of a batch as corrections of the values that ``was`` holds; equal values are left out."""
    found = []
    for row, before in zip(rows.tolist(), was, strict=True):
        if before != (now := float(batch.value[row])):
            station, parameter, at_ms = _keys(batch, row, registry)
            message = int(batch.message[row])
            by, sent_ms = senders.by(message), senders.sent_at_ms(message)
            found.append(Correction(station, parameter, at_ms, before, now, by, sent_ms))
    return found


def _keys(batch: Batch, row: int, registry: Registry) -> tuple[str, str, int]:
    """Station, parameter and observed_at (ms) of a reading."""
    station = registry.stations[batch.station[row]].key
    return station, registry.catalogue.parameters[batch.parameter[row]].key, int(batch.at[row])


def reason(corrected: Sequence[Correction], catalogue: Catalogue) -> Text | None:
    """Who corrected the first of these, from what to what, and how many more there are; None of none."""
    if not corrected:
        return None
    first = corrected[0]
    one = catalogue[first.parameter]
    text = say(
        "finding.corrected",
        parameter=Text(one.zh, one.en),
        at=beijing(first.at_ms, "%Y-%m-%d %H:%M"),
        was=one.show(first.old_value),
        now=one.show(first.new_value),
        by=Text(first.by, first.by) if first.by else say("finding.resent"),
    )
    more = len(corrected) - 1
    return say("finding.corrected_more", first=text, count=more) if more else text


def replaced(connection: sa.Connection, stations: Iterable[str], first_ms: int, last_ms: int) -> dict[Key, int]:
    """The values replaced in a stretch of time, and when the message that last replaced each was sent; 0 if unknown."""
    c = table.c
    query = sa.select(c.station, c.parameter, c.at_ms, c.old_value, c.sent_at_ms).where(
        c.station.in_(sorted(stations)), c.at_ms >= first_ms, c.at_ms <= last_ms
    )
    return {(row.station, row.parameter, row.at_ms, row.old_value): row.sent_at_ms for row in connection.execute(query)}


def superseded(batch: Batch, rows: Places, senders: Senders, replaced: Mapping[Key, int], registry: Registry) -> Bools:
    """(rows,) true where a reading repeats a value that a later message replaced (``replaced``: when, ms)."""
    found = np.zeros(len(rows), np.bool_)
    for i, row in enumerate(rows.tolist()):
        replaced_ms = replaced.get((*_keys(batch, row, registry), float(batch.value[row])))
        sent_ms = senders.sent_at_ms(int(batch.message[row]))
        found[i] = replaced_ms is not None and (not sent_ms or not replaced_ms or sent_ms <= replaced_ms)
    return found


def keep(connection: sa.Connection, corrected: Sequence[Correction]) -> None:
    """Store corrections; one that is known already and not newer stays as it is."""
    if not corrected:
        return
    newest = {one.key: one for one in sorted(corrected, key=lambda one: one.sent_at_ms)}
    at = [one.at_ms for one in corrected]
    stored = replaced(connection, {one.station for one in corrected}, min(at), max(at))
    fresh = [one for key, one in newest.items() if stored.get(key, -1) < one.sent_at_ms]
    c = table.c
    for one in fresh:
        same = (
            c.station == one.station,
            c.parameter == one.parameter,
            c.at_ms == one.at_ms,
            c.old_value == one.old_value,
        )
        connection.execute(sa.delete(table).where(*same))
    if fresh:
        rows = [{name: getattr(one, name) for name in Correction.__slots__} for one in fresh]
        connection.execute(sa.insert(table), rows)
