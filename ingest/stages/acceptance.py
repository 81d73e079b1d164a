"""What a reading must fulfil to be judged: known station, known parameter, possible time, canonical unit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from infra.times import FUTURE_MS, YEAR_2000_MS, rfc3339
from sensors.reading import Batch, Bools, Message, Reason, Rejected
from sensors.stations import Registry
from sensors.wire.telemetry import STATION, Decoded


@dataclass(frozen=True, slots=True)
class Accepted:
    """The readings that pass, in canonical units and with station indices, and all that were refused so far."""

    batch: Batch
    rejected: tuple[Rejected, ...]


def accept(
    decoded: Decoded, messages: Sequence[Message], registry: Registry, now_ms: int, is_stored: Callable[[Batch], Bools]
) -> Accepted:
    """Sort out the readings that cannot be used; never raises because of their content.

    ``is_stored`` tells of which readings the store has the time already. Asked only of those that seem to lie in the
    future: a copy that comes while our clock is behind is a duplicate.
    """
    index = registry.index
    station_of = np.array([index.get(m.station, -1) for m in messages], np.int32)
    batch, unknown = replace(decoded.batch, station=station_of[decoded.batch.message]), dict(decoded.unknown)
    with np.errstate(over="ignore", invalid="ignore"):
        # before any is refused: oxygen in % of saturation needs the temperature of the same message
        value = registry.canonical(batch) + 0.0  # -0.0 becomes 0.0: SQLite does not keep the sign, other stores do
    batch = replace(batch, value=value)
    if any(m.only is not None for m in messages):
        batch, unknown = _only(batch, unknown, messages, registry)
    reason = np.zeros(len(batch), np.uint8)
    future = np.flatnonzero((batch.at > now_ms + FUTURE_MS) & (batch.parameter >= 0) & (batch.station >= 0))
    if len(future):
        reason[future[~is_stored(batch.take(future))]] = Reason.TIME_IN_FUTURE
    reason[batch.at < YEAR_2000_MS] = Reason.TIME_BEFORE_2000
    reason[batch.parameter < 0] = Reason.UNKNOWN_PARAMETER
    reason[batch.station < 0] = Reason.UNKNOWN_STATION
    good = reason == 0
    rejected = [] if good.all() else refuse(batch, unknown, reason, messages, registry)
    without_readings = _unknown_without_readings(batch, decoded, messages, station_of)
    if not good.all():
        batch = batch.take(np.flatnonzero(good))
    if not (finite := np.isfinite(batch.value)).all():
        why = np.where(
            np.isnan(batch.value), Reason.NEEDS_TEMPERATURE, Reason.NOT_A_NUMBER
        )  # what is decoded is finite
        rejected += refuse(batch, {}, np.where(finite, 0, why).astype(np.uint8), messages, registry)
        batch = batch.take(np.flatnonzero(finite))
    undecoded = [r for one in decoded.rejected if (r := _still_refused(one, messages[one.message].only)) is not None]
    return Accepted(batch, (*undecoded, *rejected, *without_readings))


def _still_refused(rejected: Rejected, only: frozenset[tuple[int, str]] | None) -> Rejected | None:
    """What of a refusal concerns the readings that a replay is limited to; the rest has its own entry already."""
    if only is None:
        return rejected
    readings = tuple(reading for reading in rejected.readings or () if reading in only)
    return replace(rejected, readings=readings) if readings else None


def _only(
    batch: Batch, unknown: Mapping[int, str], messages: Sequence[Message], registry: Registry
) -> tuple[Batch, dict[int, str]]:
    """Drop the readings of replays that were not refused the first time."""
    keep: Bools = np.ones(len(batch), np.bool_)
    for row in range(len(batch)):
        only = messages[batch.message[row]].only
        if only is not None:
            keep[row] = (int(batch.at[row]), _key(row, batch, unknown, registry)) in only
    selected = np.flatnonzero(keep)
    return batch.take(selected), {new: unknown[int(old)] for new, old in enumerate(selected) if int(old) in unknown}


def refuse(
    batch: Batch,
    unknown: Mapping[int, str],
    reason: np.ndarray[tuple[int], np.dtype[np.uint8]],
    messages: Sequence[Message],
    registry: Registry,
) -> list[Rejected]:
    """One Rejected for each message and reason; its detail names the first reading."""
    groups: dict[tuple[int, int], list[int]] = {}
    for row in map(int, np.flatnonzero(reason)):
        groups.setdefault((int(batch.message[row]), int(reason[row])), []).append(row)
    refused = []
    for (message, code), rows in groups.items():
        names = [_key(row, batch, unknown, registry) for row in rows]
        readings = tuple((int(batch.at[row]), name) for row, name in zip(rows, names, strict=True))
        why = Reason(code)
        if why is Reason.UNKNOWN_STATION:
            why, detail = unknown_station(messages[message].station)
        elif why is Reason.UNKNOWN_PARAMETER:
            detail = f"{', '.join(sorted(set(names)))[:200]}: not in the parameter catalogue"
        elif why is Reason.NEEDS_TEMPERATURE:
            detail = f"{names[0]} comes in % of saturation: its message needs water_temp (0 to 40 °C) for the same time"
        elif why is Reason.NOT_A_NUMBER:
            detail = f"{names[0]} becomes too large for a number when it is converted to its unit"
        elif why is Reason.TOO_FREQUENT:
            detail = "the device sent too many messages with readings of this minute"
        else:
            detail = f"observed at {_when(readings[0][0])}, {_BOUND[why]}"
        refused.append(Rejected(message, why, detail, readings))
    return refused


def _key(row: int, batch: Batch, unknown: Mapping[int, str], registry: Registry) -> str:
    """The parameter key that a reading was sent under, also an unknown one."""
    return unknown[row] if row in unknown else registry.catalogue.parameters[batch.parameter[row]].key


_BOUND = {
    Reason.TIME_IN_FUTURE: f"more than {FUTURE_MS // 60_000} minutes ahead of the clock",
    Reason.TIME_BEFORE_2000: "before the year 2000",
}


def _when(at_ms: int) -> str:
    try:
        return rfc3339(at_ms)
    except OverflowError:
        return f"{at_ms} ms"


def unknown_station(station: str) -> tuple[Reason, str]:
    """The reason and detail for a station that is not registered: its key is invalid, or unknown."""
    if STATION.fullmatch(station):
        return Reason.UNKNOWN_STATION, f"station {station} is not registered"
    return Reason.BAD_TOPIC, f"{station[:80]!r} is no station key: 1 to 64 of a-z, 0-9 and - are allowed"


def _unknown_without_readings(
    batch: Batch, decoded: Decoded, messages: Sequence[Message], station_of: np.ndarray[tuple[int], np.dtype[np.int32]]
) -> list[Rejected]:
    """Refusals of messages of unknown stations without any reading, which are refused by no other test."""
    unknown = np.flatnonzero(station_of < 0).tolist()
    if not unknown:
        return []
    covered = set(map(int, np.unique(batch.message))) | {r.message for r in decoded.rejected}
    return [
        Rejected(i, *unknown_station(messages[i].station), ())
        for i in unknown
        if i not in covered and messages[i].only is None
    ]
