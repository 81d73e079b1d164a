"""How much is tried, with which seed, and what is written down of it.

``RIVERCHIEF_FUZZ`` is the number of MQTT payloads (`make fuzz`: a million), other inputs in proportion, and
``RIVERCHIEF_FUZZ_SECONDS`` the most seconds for them, a fifth of it for each other kind; ``RIVERCHIEF_FUZZ_SEED``
repeats a run. With ``RIVERCHIEF_FUZZ_WRITE`` the table of docs/bad-input.md is written.
"""

import os
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.conftest import ON_CI

SMALL = 1500
PAYLOADS = int(os.environ.get("RIVERCHIEF_FUZZ") or SMALL)
SECONDS = float(os.environ.get("RIVERCHIEF_FUZZ_SECONDS", "60"))
SEED = int(os.environ.get("RIVERCHIEF_FUZZ_SEED") or (1 if ON_CI else time.time_ns() % 1_000_000))
MOST_GROWTH_MIB = 150
"""Most growth of this process after the first tenth of a run: caches fill, a leak goes on."""
PAGE = Path("docs/bad-input.md")
_MARKS = re.compile(r"(?<=<!-- fuzz -->\n).*?(?=<!-- /fuzz -->)", re.DOTALL)


@dataclass
class Trial:
    """Inputs of one kind: how many were used, how many were refused as documented, and how the process grew."""

    kind: str
    wanted: int
    rng: random.Random
    used: int = 0
    refused: int = 0
    last: object = None
    """The last input, shown if the test fails."""

    def __post_init__(self) -> None:
        self._patience_s = SECONDS if self.wanted == PAYLOADS else SECONDS / 5
        self._began = time.monotonic()
        self._took_s = 0.0
        self._rss: list[int] = []
        """Memory of this process: after the first tenth of the inputs or of the time, and at last."""

    def inputs(self, at_once: int = 1) -> Iterator[int]:
        """How many inputs to make now, again and again until there were enough."""
        while self.used < self.wanted and (self.used == 0 or self._took_s < self._patience_s):
            many = min(at_once, self.wanted - self.used)
            yield many
            self.used += many
            self._took_s = time.monotonic() - self._began
            if max(self.used / self.wanted, self._took_s / self._patience_s) > 0.1:
                self._rss[1:] = [psutil.Process().memory_info().rss]

    @property
    def grown_mib(self) -> float:
        return max(0, self._rss[-1] - self._rss[0]) / 2**20

    def row(self) -> str:
        return f"| {self.kind} | {self.used:,} | {self.refused:,} | {self.grown_mib:.0f} MiB | {self._took_s:.0f} s |\n"


_trials: list[Trial] = []


@pytest.fixture
def trial(request: pytest.FixtureRequest) -> Iterator[Trial]:
    """The trial of a test marked ``fuzz(kind, share)``: ``share``: inputs for each MQTT payload."""
    kind, share = request.node.get_closest_marker("fuzz").args
    one = Trial(kind, max(1, round(PAYLOADS * share)), random.Random(f"{SEED} {kind}"))
    print(f"{kind}: seed {SEED}; RIVERCHIEF_FUZZ_SEED={SEED} repeats it")
    failed = request.session.testsfailed
    yield one
    if request.session.testsfailed > failed or not one.used:
        print(f"input {one.used} of {kind}, seed {SEED}: {one.last!r:.4000}")
    else:
        assert one.grown_mib < MOST_GROWTH_MIB
        _trials.append(one)


def pytest_sessionfinish(exitstatus: int) -> None:
    """Write the figures of a run that found nothing into the document."""
    if exitstatus == 0 and _trials and os.environ.get("RIVERCHIEF_FUZZ_WRITE"):
        head = "| inputs | tried | refused | growth | time |\n|---|---|---|---|---|\n"
        rows = f"Seed {SEED}:\n\n{head}{''.join(one.row() for one in _trials)}"
        PAGE.write_text(_MARKS.sub(rows, PAGE.read_text(encoding="utf-8")), encoding="utf-8")
