"""``bench ratios``: what the product costs beside the least that could be done with the same rows, in one process.

Processor time, in turns, so that the figures hold on a busy machine. The suite checks them, and fails only when a ratio
is lost grossly and repeatedly (:func:`tools.bench.paired.lost`).
"""

import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ingest.storage.sql import SqlReadings
from riverchief.tables.assess import judge
from tools.bench import assess, paired
from tools.bench.load import BASE
from tools.bench.rig import Plan, database, machine
from tools.bench.store import CATALOGUE, ROWS, write_batches

STATED = {"stored beside a plain insert": 1.2, "assessed beside a rolling z-score": 0.02}
"""Work a second as a share of the baseline's; 2026-12-02, two busy cores: medians of five rounds."""
ROUNDS, BATCHES, STATIONS = 3, 5, 500


def run(plan: Plan, console: Console) -> dict[str, Any]:
    """The ratios with their intervals, and the machine."""
    del plan, console
    found = {name: str(one(5)) for name, one in MEASURES.items()}
    return {"bench": "ratios", "machine": machine(), "ratios": found, "stated": STATED}


def stored(rounds: int = ROUNDS) -> paired.Ratio:
    """The store's batches beside the same rows inserted into a table of the same form, both synced at each commit."""
    with tempfile.TemporaryDirectory(prefix="riverchief-bench-") as name:
        folder = Path(name)
        db = database(folder, STATIONS)
        store = SqlReadings(db, CATALOGUE)
        number = iter(range(rounds))
        plain = sqlite3.connect(folder / "plain.db")
        cells = "".join(f", {key} REAL, {key}_q INTEGER" for key in BASE)
        plain.executescript(
            "PRAGMA journal_mode = wal; PRAGMA synchronous = full; CREATE TABLE reading"
            f" (station INTEGER, at INTEGER{cells}, PRIMARY KEY (station, at)) WITHOUT ROWID"
        )

        def ours() -> float:
            first = next(number) * BATCHES
            return write_batches(db, store, STATIONS, range(first, first + BATCHES), 0, time.process_time)

        runs = paired.alternate({"ours": ours, "plain": lambda: _insert(plain)}, rounds)
        plain.close()
        db.close()
    return paired.ratio(runs["plain"], runs["ours"])


def _insert(plain: sqlite3.Connection) -> float:
    """CPU seconds of as many rows as the store's, which exist as tuples beforehand."""
    (done,) = plain.execute("SELECT count(*) FROM reading").fetchone()
    seconds = 0.0
    for batch in range(BATCHES):
        numbers = np.arange(done + batch * ROWS, done + (batch + 1) * ROWS)
        values = np.outer(1 + np.sin(numbers) / 100, list(BASE.values())).round(3).tolist()
        rows = [
            (number % STATIONS, number // STATIONS * 60_000, *(cell for value in row for cell in (value, None)))
            for number, row in zip(numbers.tolist(), values, strict=True)
        ]
        began = time.process_time()
        with plain:
            plain.executemany(f"INSERT INTO reading VALUES ({','.join('?' * len(rows[0]))})", rows)
        seconds += time.process_time() - began
    return seconds


def assessed(rounds: int = ROUNDS) -> paired.Ratio:
    """All quality tests on a table beside the simplest check on the same columns."""
    table = assess.made_table(1, 60)

    def all_tests() -> float:
        began = time.process_time()
        judge(table)
        return time.process_time() - began

    runs = paired.alternate({"ours": all_tests, "z": lambda: assess.z_score(table)}, rounds)
    return paired.ratio(runs["z"], runs["ours"])


MEASURES: dict[str, Callable[[int], paired.Ratio]] = {
    "stored beside a plain insert": stored,
    "assessed beside a rolling z-score": assessed,
}
