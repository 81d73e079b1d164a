"""The telemetry message: one module for the device that writes it and the ingest that reads it.

Reading is strict first and forgiving second: a message that keeps the contract is decoded at full speed; one that
does not is read again leniently, so that a NaN beside five good values costs one reading and not six.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Annotated, Any, Final

import msgspec
import numpy as np

from infra.times import rfc3339, to_ms
from sensors.parameters import Catalogue
from sensors.reading import Batch, Message, Reason, Rejected

MAX_BYTES = 256 * 1024
MAX_SAMPLES = 1000
STATION = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
KINDS = ("telemetry", "status", "event")


def topic(station: str, kind: str = "telemetry") -> str:
    """``rivers/v1/{station}/{kind}``."""
    return f"rivers/v1/{station}/{kind}"


@dataclass(frozen=True, slots=True)
class Sample:
    """What one station measured at one instant; values in the deployment's unit, keyed by the catalogue."""

    at_ms: int
    values: Mapping[str, float]
    status: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Telemetry:
    """One message of a device.

    ``seq`` counts the messages since ``boot`` began, from 0. ``total`` counts the readings sent since then, this
    message included: with it the receiver knows how many readings a missing message held.
    """

    samples: tuple[Sample, ...]
    seq: int | None = None
    boot: int | None = None
    total: int | None = None
    sent_at_ms: int | None = None


_Instant = Annotated[datetime, msgspec.Meta(tz=True)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class _WireSample(msgspec.Struct):
    at: _Instant
    values: dict[str, float | None]
    status: dict[str, str] | None = None


class _WireMessage(msgspec.Struct):
    readings: list[_WireSample]
    seq: _Count | None = None
    boot: _Count | None = None
    total: _Count | None = None
    sent_at: _Instant | None = None


_strict = msgspec.json.Decoder(_WireMessage)
_encoder = msgspec.json.Encoder()


def encode(message: Telemetry) -> bytes:
    """The message as JSON, times as RFC 3339 in UTC. Raises ValueError when it would break the contract."""
    if len(message.samples) > MAX_SAMPLES:
        raise ValueError(f"a message carries at most {MAX_SAMPLES} samples, this one has {len(message.samples)}")
    body: dict[str, Any] = {}
    for name, value in (("seq", message.seq), ("boot", message.boot), ("total", message.total)):
        if value is not None:
            body[name] = value
    if message.sent_at_ms is not None:
        body["sent_at"] = rfc3339(message.sent_at_ms)
    readings = []
    for sample in message.samples:
        if not all(map(math.isfinite, sample.values.values())):
            raise ValueError(f"the sample at {rfc3339(sample.at_ms)} holds a value that is not a number")
        entry: dict[str, Any] = {"at": rfc3339(sample.at_ms), "values": dict(sample.values)}
        if sample.status:
            entry["status"] = dict(sample.status)
        readings.append(entry)
    body["readings"] = readings
    data = _encoder.encode(body)
    if len(data) > MAX_BYTES:
        raise ValueError(f"a message has at most {MAX_BYTES} bytes, this one {len(data)}")
    return data


def parse(payload: bytes) -> Telemetry:
    """One strict message; raises ValueError (msgspec's) when it breaks the contract. For devices and tests."""
    wire = _strict.decode(payload)
    samples = tuple(
        Sample(to_ms(s.at), {k: v for k, v in s.values.items() if v is not None}, s.status or {}) for s in wire.readings
    )
    sent = None if wire.sent_at is None else to_ms(wire.sent_at)
    return Telemetry(samples, wire.seq, wire.boot, wire.total, sent)


@dataclass(slots=True)
class Header:
    """What the ledger needs of a message; None where the device did not say."""

    seq: int | None = None
    boot: int | None = None
    total: int | None = None
    sent_at_ms: int | None = None


def sending_times(headers: Sequence[Header | None]) -> list[int | None]:
    """When each message was sent, ms, by its device's clock; None where it did not say."""
    return [None if header is None else header.sent_at_ms for header in headers]


def message_id(message: Message, header: Header | None) -> str:
    """The name of a message in logs, findings and events: ``station/boot/seq``.

    A device that does not count its messages, and a message nobody can read, is named by its bytes:
    ``station/~`` and 12 hexadecimal digits of their SHA-256. A redelivery has the same name.
    """
    if header is not None and header.seq is not None:
        return f"{message.station}/{header.boot or 0}/{header.seq}"
    return f"{message.station}/~{hashlib.sha256(message.payload).hexdigest()[:12]}"


@dataclass(frozen=True, slots=True)
class StatusWord:
    """The status bits of a device at an instant; only what changed since the last ones is an event."""

    at_ms: int
    bits: int


@dataclass(frozen=True, slots=True)
class Decoded:
    """All messages of a micro-batch, read.

    ``batch.station`` is -1 throughout (the registry is not known here); ``batch.parameter`` is -1 where the key is
    not in the catalogue, ``unknown`` then maps the row to the key. ``headers`` has one entry a message; None for a
    message that could not be opened at all. ``periods`` names the messages whose readings are means, and over how many
    ms from ``at`` on; ``notices`` those that are an event of the device, and its JSON body;
    ``status`` those that tell its status bits.
    """

    batch: Batch
    headers: tuple[Header | None, ...]
    unknown: Mapping[int, str]
    rejected: tuple[Rejected, ...]
    periods: Mapping[int, int] = field(default_factory=dict)
    notices: Mapping[int, str] = field(default_factory=dict)
    status: Mapping[int, StatusWord] = field(default_factory=dict)


_STATION_FLAGS: Final = {
    **dict.fromkeys(("lr", "lp", "lw", "ls"), ord("D")),
    **dict.fromkeys(("sc", "cz", "cs", "ra", "pt"), ord("C")),
}
"""Two-letter data flags of national surface-water stations, as the letter of HJ 212-2017 that means the same.

``lr lp lw ls``: lack of reagent, pure water, sample, standard solution: no measurement, a fault. ``sc cz cs``:
standard, zero and span check; ``ra pt``: spike recovery and parallel sample: quality control, never river water.
"""


def status_code(status: str) -> int:
    """One ASCII code for a data flag; a flag that is not known becomes a question mark."""
    if len(status) == 1 and status.isascii():
        return ord(status)
    return _STATION_FLAGS.get(status, ord("?"))


class _Columns:
    """The columns while they grow. Plain lists, extended a sample at a time: the fastest way through Python."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._codes: dict[tuple[str, ...], bytes] = {}  # the parameters of the keys of a sample: few differ
        self.keys: list[tuple[str, ...]] = []  # by sample
        self.parameters: list[bytes] = []
        self.values: list[float | None] = []
        self.sample_at: list[int] = []
        self.sample_size: list[int] = []
        self.sample_message: list[int] = []
        self.status: list[tuple[int, int]] = []

    def add(
        self, message: int, at_ms: int, values: Mapping[str, float | None], status: Mapping[str, str] | None
    ) -> None:
        if status:
            base = len(self.values)
            for offset, key in enumerate(values):
                letter = status.get(key, "N")
                if letter != "N":
                    self.status.append((base + offset, status_code(letter)))
        keys = tuple(values)
        codes = self._codes.get(keys)
        if codes is None:
            index = self._catalogue.index
            codes = self._codes[keys] = np.array([index.get(key, -1) for key in keys], np.int32).tobytes()
        self.keys.append(keys)
        self.parameters.append(codes)
        self.values.extend(values.values())
        self.sample_at.append(at_ms)
        self.sample_size.append(len(keys))
        self.sample_message.append(message)

    def batch(self) -> tuple[Batch, dict[int, str]]:
        n = len(self.values)
        parameter = np.frombuffer(b"".join(self.parameters), np.int32)
        value = np.array(self.values, np.float64) if n else np.empty(0)
        size = np.array(self.sample_size, np.int64)
        at = np.repeat(np.array(self.sample_at, np.int64), size)
        message = np.repeat(np.array(self.sample_message, np.int32), size)
        status = np.full(n, ord("N"), np.uint8)
        for position, letter in self.status:
            status[position] = letter
        batch = Batch(np.full(n, -1, np.int32), parameter, at, value, status, message)
        unknown = np.flatnonzero(parameter < 0)
        keep = ~np.isnan(value)  # null says "no reading", which is not a reading
        if keep.all() and not len(unknown):
            return batch, {}
        names = list(chain.from_iterable(self.keys))
        kept = np.flatnonzero(keep)
        batch = batch.take(kept)
        return batch, {i: names[kept[i]] for i in np.flatnonzero(batch.parameter < 0).tolist()}


def decode(messages: Sequence[Message], catalogue: Catalogue) -> Decoded:
    """Read a micro-batch of messages; never raises for what is in them.

    What breaks the contract comes back as :class:`~sensors.reading.Rejected`, as finely as it can be told apart.
    """
    columns = _Columns(catalogue)
    headers: list[Header | None] = []
    rejected: list[Rejected] = []
    for i, message in enumerate(messages):
        if len(message.payload) > MAX_BYTES:
            headers.append(None)
            rejected.append(
                Rejected(i, Reason.TOO_LARGE, f"{len(message.payload)} bytes, at most {MAX_BYTES} are allowed")
            )
            continue
        try:
            wire = _strict.decode(message.payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # ValidationError is a DecodeError
            headers.append(_salvage(i, message.payload, columns, rejected))
            continue
        if len(wire.readings) > MAX_SAMPLES:
            headers.append(_header(wire))
            rejected.append(_too_many(i, len(wire.readings)))
            continue
        headers.append(_header(wire))
        for sample in wire.readings:
            columns.add(i, to_ms(sample.at), sample.values, sample.status)
    batch, unknown = columns.batch()
    return Decoded(batch, tuple(headers), unknown, tuple(rejected))


def _header(wire: _WireMessage) -> Header:
    return Header(wire.seq, wire.boot, wire.total, None if wire.sent_at is None else to_ms(wire.sent_at))


def _too_many(message: int, samples: int) -> Rejected:
    return Rejected(message, Reason.TOO_MANY_SAMPLES, f"{samples} samples, at most {MAX_SAMPLES} are allowed")


def _not_a_number(message: int, at_ms: int, key: str, what: str) -> Rejected:
    return Rejected(message, Reason.NOT_A_NUMBER, f"{key} is {what}, a finite number is needed", ((at_ms, key),))


def _salvage(i: int, payload: bytes, columns: _Columns, rejected: list[Rejected]) -> Header | None:
    """Read a message that breaks the contract as far as it can be read."""
    try:
        body = json.loads(payload, parse_int=whole)
    except (ValueError, RecursionError) as error:
        rejected.append(Rejected(i, Reason.NOT_JSON, _shorten(str(error))))
        return None
    if not isinstance(body, dict):
        rejected.append(Rejected(i, Reason.WRONG_SHAPE, f"a JSON object is needed, this is {_kind(body)}"))
        return None
    seq, boot, total = (_count(body.get(name)) for name in ("seq", "boot", "total"))
    header = Header(seq, boot, total, _instant(body.get("sent_at")))
    readings = body.get("readings")
    if not isinstance(readings, list):
        rejected.append(Rejected(i, Reason.WRONG_SHAPE, f"readings must be a list, this is {_kind(readings)}"))
    elif len(readings) > MAX_SAMPLES:
        rejected.append(_too_many(i, len(readings)))
    else:
        for number, sample in enumerate(readings):
            rejected.extend(_salvage_sample(i, number, sample, columns))
    return header


def _salvage_sample(i: int, number: int, sample: Any, columns: _Columns) -> Iterator[Rejected]:
    if not isinstance(sample, dict) or not isinstance(sample.get("values"), dict):
        yield Rejected(i, Reason.WRONG_SHAPE, f"readings[{number}] must be an object with at and values", ())
        return
    values: dict[str, Any] = {_storable(key): value for key, value in sample["values"].items() if value is not None}
    at = _instant(sample.get("at"))
    if at is None:
        shown = _shorten(repr(sample["at"])) if isinstance(sample.get("at"), str | int) else _kind(sample.get("at"))
        detail = f"readings[{number}].at is {shown}, an RFC 3339 time with offset is needed"
        # no time to name the readings by: the sample's place in the message stands for it, below zero
        yield Rejected(i, Reason.BAD_TIME, detail, tuple((-1 - number, key) for key in values))
        return
    status = sample.get("status") or {}
    if isinstance(status, dict):
        status = {_storable(key): letter for key, letter in status.items()}
    good: dict[str, float | None] = {}  # null says "no reading" and is left out above
    for key, value in values.items():
        letter = status.get(key, "N") if isinstance(status, dict) else None
        if not isinstance(letter, str):
            detail = f"status of {_shorten(key)} must be an HJ 212 data flag"
            yield Rejected(i, Reason.BAD_STATUS, detail, ((at, key),))
        elif isinstance(value, bool) or not isinstance(value, int | float):
            yield _not_a_number(i, at, key, _kind(value))
        elif not _finite(value):
            yield _not_a_number(i, at, key, _shorten(str(value)))
        else:
            good[key] = float(value)
    if good:
        columns.add(i, at, good, {k: v for k, v in status.items() if isinstance(v, str)} if status else None)


def whole(digits: str) -> float:
    """A whole number as JSON has it; one of more digits than Python converts is beyond all bounds."""
    try:
        return int(digits)
    except ValueError:
        return -math.inf if digits.startswith("-") else math.inf


def _storable(name: str) -> str:
    """The name with lone surrogates spelled out: JSON allows them, no store can keep them."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 2**53 else None


def _instant(value: Any) -> int | None:
    if not isinstance(value, str):
        return None
    try:
        return to_ms(msgspec.convert(value, _Instant))
    except (msgspec.ValidationError, OverflowError):
        return None


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return "nothing" if value is None else names[type(value)]


def _shorten(text: str, most: int = 120) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
