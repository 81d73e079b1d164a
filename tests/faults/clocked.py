"""Run ``riverchief`` under a clock that a test moves: ``python -m tests.faults.clocked FILE ingest --settings …``.

The file holds by how many milliseconds the process's clock is ahead of the machine's; it is read each time somebody
asks. What waits goes by the monotonic clock, which nobody moves.
"""

import mmap
import struct
import sys
import time
from pathlib import Path

OFFSET = struct.Struct("<q")


class MovedClock:
    """The clock of the machine, moved by what stands in a file; the one who moves it calls ``move``."""

    def __init__(self, file: Path) -> None:
        if not file.exists():
            file.write_bytes(OFFSET.pack(0))
        with file.open("r+b") as handle:
            self._memory = mmap.mmap(handle.fileno(), OFFSET.size)
        self._machine_ns = time.time_ns

    def move(self, ahead_ms: int) -> None:
        self._memory[:] = OFFSET.pack(ahead_ms)

    def time_ns(self) -> int:
        (ahead_ms,) = OFFSET.unpack(self._memory[:])
        return self._machine_ns() + int(ahead_ms) * 1_000_000

    def time(self) -> float:
        return self.time_ns() / 1e9


def main() -> None:
    """Move the clock, then hand over to the command line of the product."""
    moved = MovedClock(Path(sys.argv.pop(1)))
    time.time_ns, time.time = moved.time_ns, moved.time
    from riverchief.__main__ import main as riverchief  # what it imports must find the moved clock

    riverchief()


if __name__ == "__main__":
    main()
