"""``riverchief hj212``: frames read without a network, and the loggers that may speak to the gateway."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO, TextIO

from sensors.times import BEIJING, from_ms
from sensors.wire.hj212.frame import Broken, Fault, Frame, FrameReader
from sensors.wire.hj212.packet import Packet, parse, plain, read_time

READ_BYTES = 65_536


@dataclass(slots=True)
class Tally:
    """What was found: frames that are whole, frames that are not by their fault, bytes that belong to none."""

    good: int = 0
    broken: dict[Fault, int] = field(default_factory=dict)
    garbage_bytes: int = 0

    def sentence(self) -> str:
        """One line for people."""
        faults = ", ".join(f"{fault.value} {n}" for fault, n in sorted(self.broken.items(), key=lambda f: f[0].value))
        bad = sum(self.broken.values())
        told = f"{self.good} 帧有效 good · {bad} 帧错误 bad"
        if faults:
            told += f" ({faults})"
        if self.garbage_bytes:
            told += f" · {self.garbage_bytes} 字节不属于任何帧 bytes outside of frames"
        return told


def decode(source: BinaryIO, out: TextIO) -> Tally:
    """Read frames to the end of ``source``; one JSON object a line for each, as soon as it is whole."""
    reader, tally = FrameReader(), Tally()
    for found in _found(source, reader):
        if isinstance(found, Frame):
            tally.good += 1
            body = described(parse(found.segment))
        elif found.fault is Fault.GARBAGE:
            tally.garbage_bytes += len(found.raw)
            continue
        else:
            tally.broken[found.fault] = tally.broken.get(found.fault, 0) + 1
            body = {"ok": False, "reason": found.reason}
        out.write(json.dumps(body, ensure_ascii=False) + "\n")
        out.flush()
    return tally


def _found(source: BinaryIO, reader: FrameReader) -> Iterator[Frame | Broken]:
    read = getattr(source, "read1", source.read)  # what is there now: a pipe from a live logger never ends
    while data := read(READ_BYTES):
        yield from reader.feed(data)
    yield from reader.close()


def described(packet: Packet) -> dict[str, Any]:
    """A packet as design §4.5 shows it; what it has beyond that is added only where it is there. PW is left out."""
    if packet.encrypted:
        return {"ok": False, "reason": f"CP of command {packet.cn} is encrypted (HJ 212-2025, SM4): not supported"}
    if packet.cn is None:
        return {"ok": False, "reason": "the data segment has no CN"}
    problems = list(packet.problems)
    at = packet.fields.get("DataTime")
    body: dict[str, Any] = {
        "ok": True,
        "qn": packet.qn,
        "st": packet.st,
        "cn": packet.cn,
        "mn": packet.mn,
        "flag": packet.flag,
        "time": None if at is None else _time(at, problems),
        "items": {code: {k: plain(k, v) for k, v in keys.items()} for code, keys in packet.items.items()},
    }
    others = {name: value for name, value in packet.fields.items() if name != "DataTime"}
    beside: dict[str, Any] = {"pnum": packet.pnum, "pno": packet.pno, "fields": others}
    beside |= {"missing": list(packet.missing), "problems": problems}
    return body | {name: value for name, value in beside.items() if value not in (None, {}, [])}


def _time(text: str, problems: list[str]) -> str | None:
    try:
        return _beijing(read_time(text))
    except ValueError as error:
        problems.append(f"DataTime: {error}")
        return None


def _beijing(at_ms: int) -> str:
    moment: datetime = from_ms(at_ms).astimezone(BEIJING)
    return moment.isoformat(timespec="seconds")


def run() -> None:
    """``hj212 decode``: stdin to stdout, the summary on standard error."""
    tally = decode(sys.stdin.buffer, sys.stdout)
    sys.stderr.write(tally.sentence() + "\n")
