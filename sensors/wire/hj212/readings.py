"""Decode frames to readings: value, time, unit and flag of each factor by command.

Real-time data (2011) carry the sampling instant, the reading is ``Rtd``. Minute, hour and day data (2051, 2061, 2031)
carry the *start* of their period, the reading is ``Avg``. ``Min``, ``Max`` and ``Cou`` are no readings of ours; they
stay in the frame. Values come in the units of Table B.1 and leave in the catalogue's.

Doubts: the edition of 2025 is read like 2017 (one public implementation agrees). SampleTime of an item is not used, for
the standard calls DataTime the time of real-time data and says nothing of analysers that repeat their last result.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any, Final

import numpy as np

from infra.times import rfc3339
from sensors.parameters import Catalogue
from sensors.quality.detectors.point_tests import FAULT_CODES
from sensors.reading import Message, Reason
from sensors.wire import framed
from sensors.wire.framed import Columns, sender_of
from sensors.wire.hj212 import assembly
from sensors.wire.hj212.codes import CHECK_FLAGS, DATA, EVENTS, INFORMATION, NOTICES, PERIOD_MS, Cn, meaning
from sensors.wire.hj212.frame import Broken, FrameReader
from sensors.wire.hj212.packet import Packet, number, parse, plain, qn_time, read_time
from sensors.wire.telemetry import Decoded, Header, status_code

SOURCE: Final = "hj212"
"""``Message.source`` of what came in frames; the payload is the frame (or the frames of a split packet)."""
MN: Final = re.compile(r"[0-9A-Za-z_.-]{1,64}")
"""What an MN may look like here: 24 hexadecimal digits by the standard of 2017, other things in practice."""

_FAULT_CODES: Final = frozenset(map(float, FAULT_CODES))
_NO_TIME: Final = -1


@dataclass(frozen=True, slots=True)
class Logger:
    """A registered logger and its station. Without a password any is accepted.

    ``st`` and ``edition`` are used for requests as long as it has not spoken itself; ``last_at_ms`` is its newest
    reading.
    """

    mn: str
    station: str
    password: str | None
    st: str = "21"
    edition: int = 2017
    last_at_ms: int | None = None

    def __repr__(self) -> str:
        return f"Logger({self.mn} of {self.station})"


def topic(mn: str) -> str:
    """The topic of a frame: its sender."""
    return f"{SOURCE}/{mn}"


def addressed(messages: Sequence[Message], loggers: Mapping[str, Logger], catalogue: Catalogue) -> Sequence[Message]:
    """The messages with the station of each frame; the MN of an unknown logger stands for the station."""
    return framed.addressed(messages, SOURCE, loggers, lambda name: meaning(name, catalogue)[0])


def decode(messages: Sequence[Message], catalogue: Catalogue, loggers: Mapping[str, Logger]) -> Decoded:
    """Read frames; never raises for what is in them. What cannot be used comes back as Rejected."""
    return framed.decode(messages, catalogue, lambda message, columns: _read(message, columns, loggers))


def _read(message: Message, columns: Columns, loggers: Mapping[str, Logger]) -> Header | None:
    reader = FrameReader()
    found = reader.feed(message.payload) + reader.close()
    broken = next((one for one in found if isinstance(one, Broken)), None)
    if broken is not None or not found:
        columns.refuse(Reason.BAD_FRAME, broken.reason if broken else "no frame")
        return None
    packets = [parse(one.segment) for one in found if not isinstance(one, Broken)]
    header = Header(sent_at_ms=qn_time(packets[0].qn))
    for packet in packets:
        refusal = _refusal(packet, sender_of(message), loggers)
        if refusal is not None:
            columns.refuse(*refusal)
            return header
    try:
        joined = assembly.join(packets)
    except ValueError as error:
        columns.refuse(Reason.INCOMPLETE, str(error))
        return header
    for packet in joined:
        if packet.cn in DATA:
            _data(packet, columns)
        elif packet.cn in EVENTS:
            columns.notices[columns.message] = _event(packet, _event_name(packet), packet.items)
        elif packet.cn not in NOTICES:
            columns.refuse(Reason.WRONG_SHAPE, f"command {packet.cn} is not one a logger sends by itself", ())
    return header


def _refusal(packet: Packet, mn: str, loggers: Mapping[str, Logger]) -> tuple[Reason, str] | None:
    """Why a packet is refused as a whole."""
    if packet.cn is None:
        return Reason.WRONG_SHAPE, "the data segment has no CN"
    stranger = unproven(packet, mn, loggers)
    if stranger is Reason.UNKNOWN_STATION:
        return stranger, f"no logger with MN {(packet.mn or mn)[:64]!r} is registered"
    if stranger is not None:
        return stranger, f"PW is not the one registered for MN {(packet.mn or mn)}"
    if packet.encrypted:
        return (
            Reason.ENCRYPTED,
            f"CP of command {packet.cn} is encrypted (HJ 212-2025, SM4), which is not supported; "
            "set the logger to send it in clear, or by the edition of 2017",
        )
    return None


def unproven(packet: Packet, mn: str, loggers: Mapping[str, Logger]) -> Reason | None:
    """Why the sender is not taken for a registered logger, None when it is; ``mn`` where the packet names none."""
    logger = loggers.get(packet.mn or mn)
    if logger is None:
        return Reason.UNKNOWN_STATION
    if logger.password is not None and not _same(packet.pw or "", logger.password):
        return Reason.WRONG_PASSWORD
    return None


def _same(given: str, expected: str) -> bool:
    return compare_digest(given.encode(), expected.encode())


def _data(packet: Packet, columns: Columns) -> None:
    checks = {code: keys for code, keys in packet.items.items() if keys.get("Flag") in CHECK_FLAGS}
    if checks:
        kinds = {CHECK_FLAGS[keys["Flag"]] for keys in checks.values()}
        columns.notices[columns.message] = _event(packet, kinds.pop() if len(kinds) == 1 else "quality_check", checks)
    wanted, other = ("Rtd", "Avg") if packet.cn == Cn.REALTIME else ("Avg", "Rtd")
    values = {code: keys.get(wanted, keys.get(other)) for code, keys in packet.items.items() if code not in checks}
    given = {code: text for code, text in values.items() if text is not None}
    try:
        at = _data_time(packet)
    except ValueError as error:
        names = tuple((_NO_TIME, meaning(code, columns.catalogue)[0]) for code in given)
        columns.refuse(Reason.BAD_TIME, f"DataTime: {error}", names or None)
        return
    if packet.cn in PERIOD_MS:
        columns.periods[columns.message] = PERIOD_MS[packet.cn]
    for code, text in given.items():
        key, linear = meaning(code, columns.catalogue)
        contradiction = next((n for k in (wanted, other) if (n := f"{code}-{k}") in packet.contradictions), None)
        value = number(text)
        if contradiction is not None:
            first, second = packet.contradictions[contradiction]
            detail = f"{contradiction} is given twice: {first[:40]} and {second[:40]}"
            columns.refuse(Reason.WRONG_SHAPE, detail, ((at, key),))
        elif value is None or not np.isfinite(value):
            columns.refuse(Reason.NOT_A_NUMBER, f"{code} is {text[:40]!r}, a finite number is needed", ((at, key),))
        else:
            canonical = value if value in _FAULT_CODES else value * linear.gain + linear.offset
            columns.add(key, at, canonical, status_code(packet.items[code].get("Flag") or "N"))


def _data_time(packet: Packet) -> int:
    text = packet.fields.get("DataTime")
    if text is None:
        raise ValueError("it is missing")
    if "DataTime" in packet.contradictions:
        raise ValueError(f"it is given twice: {' and '.join(packet.contradictions['DataTime'])}")
    return read_time(text)


def _event_name(packet: Packet) -> str:
    """What an upload about the device is; of 3020 by what it tells."""
    if packet.cn == Cn.DEVICE_INFO:
        told = (what for begin, what in INFORMATION.items() if any(code.startswith(begin) for code in packet.items))
        return next(told, EVENTS[Cn.DEVICE_INFO])
    return EVENTS[packet.cn or ""]


def _event(packet: Packet, event: str, items: Mapping[str, Mapping[str, str]]) -> str:
    """An event as the other devices send theirs: a JSON object. QN is in it, so a resend is the same event."""
    body: dict[str, Any] = {"event": event, "source": SOURCE, "mn": packet.mn, "cn": packet.cn}
    body["qn"] = packet.qn
    try:
        body["at"] = rfc3339(_data_time(packet))
    except ValueError:
        body["at"] = None
    body["fields"] = dict(packet.fields)
    body["items"] = {code: {k: plain(k, _unquoted(v)) for k, v in keys.items()} for code, keys in items.items()}
    return json.dumps(body, ensure_ascii=False)


def _unquoted(text: str) -> str:
    """A value without the ``//`` around a text of a log."""
    quoted = len(text) >= 4 and text.startswith("//") and text.endswith("//")
    return text[2:-2] if quoted else text
