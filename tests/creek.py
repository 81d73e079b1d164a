"""Days of a creek, a reading in fifteen minutes, with what may come into it; and sites that are fed with them."""

import shutil
from pathlib import Path

import numpy as np

from governance.incidents.finding import Finding, FindingKind
from ingest.rules.alarm_state import AlarmKey
from tests import waters
from tests.world import T0, World, message

RULES = """
[[event]]
id = "event"
colour = "yellow"

[[event]]
id = "event-sure"
colour = "orange"
confidence = 0.7
"""
STEP = 15 * 60_000
DAY = 96


def creek(n: int = 8 * DAY, seed: int = 1) -> dict[str, np.ndarray]:
    """Quiet days of a creek without an analyser of ammonia."""
    water = waters.creek(n / DAY, seed=seed)
    del water["nh3n"]
    return water


def discharge(water: dict[str, np.ndarray], at: int, hours: int = 4, size: float = 1.0) -> None:
    """Sewage: saltier, turbid, and the oxygen goes."""
    n = len(water["ph"])
    shape = size * np.exp(-np.maximum(np.arange(n) - at, 0) / (hours * 2)) * (np.arange(n) >= at)
    water["conductivity"] += 150 * shape
    water["do"] -= 4 * shape
    water["turbidity"] += 60 * shape


def acid(water: dict[str, np.ndarray], at: int) -> None:
    """For an hour and a half acid comes after it."""
    water["ph"][at : at + 6] -= 3.0
    water["conductivity"][at : at + 6] += 400


def feed(world: World, water: dict[str, np.ndarray], first: int, last: int, at_once: int = 8) -> list[Finding]:
    told: list[Finding] = []
    for start in range(first, last, at_once):
        rows = range(start, min(last, start + at_once))
        values = {T0 + i * STEP: {key: round(float(v[i]), 3) for key, v in water.items()} for i in rows}
        told += world.take(message("shiwan", values), now=max(values) + 1000).findings
    return [f for f in told if f.kind is FindingKind.EVENT]


QUIET = 6 * DAY - 8
"""So long every station here has been quiet when a test begins; what learns has learned, and the alarms are armed."""


def after(before: Path, folder: Path, text: str = RULES) -> World:
    """A site that begins with the quiet days."""
    shutil.copytree(before, folder, dirs_exist_ok=True)
    return World(folder, text=text)


def firing(world: World) -> list[AlarmKey]:
    return [key for key in world.site.history.checks.alarms if key[0].startswith("event")]
