"""What the commands of HJ 212 and SL 651 share: decoded frames as lines of JSON, and the list of registered devices."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from infra.texts import line, named, say
from infra.times import BEIJING, beijing, from_ms
from riverchief.terminal import out as terminal
from riverchief.terminal import tabulate

READ_BYTES = 65_536


@dataclass(slots=True)
class Tally:
    """Counts of decoding: whole frames, faulty frames by fault, bytes outside frames."""

    good: int = 0
    broken: dict[str, int] = field(default_factory=dict)
    garbage_bytes: int = 0

    def sentence(self) -> str:
        """One line for people."""
        listed = ", ".join(f"{fault} {n}" for fault, n in sorted(self.broken.items()))
        faults = f" ({listed})" if listed else ""
        outside = say("hj212_frames.outside", bytes=self.garbage_bytes) if self.garbage_bytes else ""
        return line("hj212_frames.found", good=self.good, bad=sum(self.broken.values()), faults=faults, outside=outside)


def write_frames(found: Iterable[Any], whole: type, described: Callable[[Any], dict[str, Any]], out: TextIO) -> Tally:
    """Write one JSON object a line for each frame, as soon as it is there; what is not ``whole`` is a broken one."""
    tally = Tally()
    for one in found:
        if isinstance(one, whole):
            tally.good += 1
            body = described(one)
        elif one.fault.name == "GARBAGE":
            tally.garbage_bytes += len(one.raw)
            continue
        else:
            tally.broken[one.fault.value] = tally.broken.get(one.fault.value, 0) + 1
            body = {"ok": False, "reason": one.reason}
        out.write(json.dumps(body, ensure_ascii=False) + "\n")
        out.flush()
    return tally


def beijing_time(at_ms: int) -> str:
    """An instant as RFC 3339 with Beijing's offset."""
    return from_ms(at_ms).astimezone(BEIJING).isoformat(timespec="seconds")


def print_devices(registered: Iterable[Any], names: Sequence[str], as_json: bool, none: str) -> None:
    """Print registered devices without their passwords; ``names`` are the columns, ``none`` is said where none are."""
    if as_json:
        rows = [
            {n: getattr(d, n) for n in (*names, "last_at_ms")} | {"password": d.password is not None}
            for d in registered
        ]
        terminal.print_json(data=rows)
        return
    tabulate((*names, "password", "newest"), (_row(one, names) for one in registered), none)


def _row(one: Any, names: Sequence[str]) -> tuple[str, ...]:
    cells = [getattr(one, name) for name in names]
    checked = named(say("hj212_frames.any_password" if one.password is None else "hj212_frames.checked"))
    newest = "" if one.last_at_ms is None else beijing(one.last_at_ms, "%Y-%m-%d %H:%M")
    shown = ["" if cell is None else f"{cell:g}" if isinstance(cell, float) else str(cell) for cell in cells]
    return *shown, checked, newest
