"""What people who watch cost: live clients over the channel and the fragments it announces, on a server of pages.

The state of every station changes each second. One process serves the pages, another plays the browsers as their
script does (``api/pages/assets/js/live.js``), so that the server's share is its own.
"""

import asyncio
import html
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import uvicorn
from rich.console import Console

from api.app import create_app
from api.context import Context
from infra.database import Database
from infra.texts import join_on_line, say
from ingest.storage.port import Latest
from ingest.storage.sql import SqlReadings
from riverchief.brokers.local import free_port
from riverchief.guard import child_process
from sensors.parameters import catalogue
from sensors.reading import PLAIN, Batch
from tools.bench.rig import BenchFailed, Plan, cpu_s, database, machine, wait_for

CLIENTS = 100
PAGES = ("/", "/incidents", "/board", "/wall")
"""What people leave open; those that the server has are watched."""
PARAMETERS = ("nh3n", "do")
LATE_MS = 120_000
"""A reading so old is late for stations that report each minute."""
SPREAD_S, QUICK_S, SLOW_S = 1.0, 0.3, 8.0
"""As the browser's script: the spread of first fetches, and the pauses between fetches of cases and of water."""
SLOW = frozenset({"stations", "classes", "counts"})
_BLOCK = re.compile(r'id="([^"]+)"[^>]*data-live="([^"]+)"')
_MARKS = re.compile(r'data-marks="([^"]*)"')


def run(plan: Plan, progress: Console) -> dict[str, Any]:
    """Watch the server without clients, then with them."""
    with tempfile.TemporaryDirectory(prefix="riverchief-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        db = database(folder, plan.stations)
        _fill(db, plan.stations)
        db.close()
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        server = psutil.Process(stack.enter_context(_process("serve", name, str(port))).pid)
        wait_for("the server", lambda: answers(url), 60)
        paths = [path for path in PAGES if httpx.get(url + path).status_code == 200]
        progress.print(join_on_line(say("bench.watching", clients=CLIENTS, pages=" ".join(paths))))
        time.sleep(3)
        alone = _measured(server, plan.seconds)
        clients = stack.enter_context(_process("watch", url, str(plan.seconds + 5), *paths))
        assert clients.stdout is not None
        if clients.stdout.readline() != b"ready\n":
            raise BenchFailed(say("bench.load", process=clients.wait()))
        watched = _measured(server, plan.seconds)
        output, _ = clients.communicate(timeout=300)
    if not output:
        raise BenchFailed(say("bench.load", process=clients.returncode))
    return {
        "machine": machine(),
        "clients": CLIENTS,
        "pages": paths,
        "stations": plan.stations,
        "cores_alone": round(alone[0], 3),
        "cores": round(watched[0], 3),
        "memory_more_mb": round(watched[1] - alone[1], 1),
        **json.loads(output),
    }


def _process(*arguments: str) -> AbstractContextManager["subprocess.Popen[bytes]"]:
    code = "from tools.bench.console import main; main()"
    return child_process([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE)


def _measured(server: psutil.Process, seconds: float) -> tuple[float, float]:
    """Cores that the server used, and its memory (MB) afterwards."""
    used, began = cpu_s(server), time.monotonic()
    time.sleep(seconds)
    return (cpu_s(server) - used) / (time.monotonic() - began), server.memory_info().rss / 1e6


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def main() -> None:
    """One of the processes."""
    what, *arguments = sys.argv[1:]
    if what == "serve":
        _serve(*arguments)
    else:
        _watch(*arguments)


def _fill(db: Database, stations: int) -> None:
    """A reading of every station and parameter."""
    known = catalogue()
    names = [f"bench-{i}" for i in range(stations)]
    count = len(names) * len(PARAMETERS)
    batch = Batch.of(
        [i for i in range(len(names)) for _ in PARAMETERS],
        [known.index[key] for key in PARAMETERS] * len(names),
        [time.time_ns() // 1_000_000] * count,
        np.random.default_rng(1).uniform(1.0, 8.0, count).round(3).tolist(),
    )
    store = SqlReadings(db, known)
    with db.write() as connection:
        store.write(connection, names, batch, np.full(count, PLAIN, np.int64))


class _Changing(SqlReadings):
    """Readings of which each station's newest comes in time at one look, and is late at the next."""

    looks = 0

    def latest(self, stations: Sequence[str] | None = None) -> list[Latest]:
        self.looks += 1
        at_ms = time.time_ns() // 1_000_000
        shown = (at_ms, at_ms - LATE_MS)
        found = super().latest(stations)
        newest = {one.station: shown[(i // len(PARAMETERS) + self.looks) % 2] for i, one in enumerate(found)}
        return [replace(one, at_ms=newest[one.station], newest_at_ms=newest[one.station]) for one in found]


def _serve(folder: str, port: str) -> None:
    db = Database(f"sqlite:///{Path(folder) / 'riverchief.db'}")
    context = Context(
        database=db,
        store=_Changing(db, catalogue()),
        catalogue=catalogue(),
        source="/riverchief/bench",
        clock_ms=lambda: time.time_ns() // 1_000_000,
        token=None,
        open=True,
        photos=Path(folder) / "photos",
    )
    uvicorn.run(create_app(context), host="127.0.0.1", port=int(port), log_level="warning")


def _watch(url: str, seconds: str, *paths: str) -> None:
    print(json.dumps(asyncio.run(_clients(url, float(seconds), paths))))


async def _clients(url: str, seconds: float, paths: Sequence[str]) -> dict[str, Any]:
    took: list[float] = []
    sizes: list[int] = []
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    there = asyncio.Barrier(CLIENTS + 1)
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits) as http:
        watched = [paths[i % len(paths)] for i in range(CLIENTS)]
        tasks = [asyncio.create_task(_client(http, path, there, took, sizes)) for path in watched]
        await there.wait()
        print("ready", flush=True)
        _, pending = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        failed = [task.exception() for task in tasks if task.done()]
        for task in pending:
            task.cancel()
    if not took:
        sys.exit("no block was fetched: the marks of the pages did not change")
    p50, p99 = (round(float(value), 1) for value in np.percentile(np.array(took) * 1000, (50, 99)))
    return {
        "fragments": len(took),
        "fragment_ms_p50": p50,
        "fragment_ms_p99": p99,
        "fragment_bytes": round(sum(sizes) / len(sizes)),
        "failed": len(failed),
    }


async def _client(
    http: httpx.AsyncClient, path: str, there: asyncio.Barrier, took: list[float], sizes: list[int]
) -> None:
    """One browser: the page, its channel, and each block when its marks change."""
    await asyncio.sleep(random.uniform(0, 5))
    page = (await http.get(path)).text
    await there.wait()
    blocks = {block: topics.split() for block, topics in _BLOCK.findall(page)}
    held: dict[str, str] = json.loads(html.unescape(_MARKS.findall(page)[0]) or "{}")
    topics = sorted({topic for of in blocks.values() for topic in of})
    due: dict[str, float] = {}
    fetched: dict[str, float] = {}
    wake = asyncio.Event()
    fetcher = asyncio.create_task(_fetch(http, path, due, fetched, wake, took, sizes))
    try:
        async with http.stream("GET", "/live", params={"topics": ",".join(topics)}) as channel:
            name = ""
            async for line in channel.aiter_lines():
                if line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: ") and name == "marks":
                    marks = json.loads(line[6:])
                    changed = {topic for topic, mark in marks.items() if held.get(topic) != mark}
                    held |= marks
                    for block, of in blocks.items():
                        if (new := changed & set(of)) and block not in due:
                            pause = SLOW_S if new <= SLOW else QUICK_S
                            now = time.monotonic()
                            due[block] = max(now + random.uniform(0, SPREAD_S), fetched.get(block, 0.0) + pause)
                    wake.set()
    finally:
        fetcher.cancel()


async def _fetch(
    http: httpx.AsyncClient,
    path: str,
    due: dict[str, float],
    fetched: dict[str, float],
    wake: asyncio.Event,
    took: list[float],
    sizes: list[int],
) -> None:
    while True:
        if not due:
            wake.clear()
            await wake.wait()
            continue
        await asyncio.sleep(max(0.0, min(due.values()) - time.monotonic()))
        names = sorted(block for block, at in due.items() if at <= time.monotonic() + QUICK_S)
        for name in names:
            del due[name]
            fetched[name] = time.monotonic()
        began = time.monotonic()
        answer = await http.get(path, headers={"X-Fragments": ",".join(names)})
        took.append(time.monotonic() - began)
        sizes.append(len(answer.content))
        answer.raise_for_status()
