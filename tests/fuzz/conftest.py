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
        self._until = time.monotonic() + (SECONDS if self.wanted == PAYLOADS else SECONDS / 5)
        self._began = time.monotonic()
        self._base: int | None = None
        self._rss = 0

    def inputs(self, at_once: int = 1) -> Iterator[int]:
        """How many inputs to make now, again and again until there were enough."""
        while self.used < self.wanted and (self.used == 0 or time.monotonic() < self._until):
            many = min(at_once, self.wanted - self.used)
            yield many
            self.used += many
            if self.used % max(1, self.wanted // 20) < many:
                self._rss = psutil.Process().memory_info().rss
                if self._base is None and self.used >= self.wanted // 10:
                    self._base = self._rss

    @property
    def grown_mib(self) -> float:
        return 0.0 if self._base is None else max(0, self._rss - self._base) / 2**20

    def row(self) -> str:
        took_s = time.monotonic() - self._began
        return f"| {self.kind} | {self.used:,} | {self.refused:,} | {self.grown_mib:.0f} MiB | {took_s:.0f} s |\n"


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
