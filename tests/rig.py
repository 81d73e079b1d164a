"""The rig of the system and fault tests: a site as it runs in production, in a folder of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from infra.database import Database
from ingest.storage import registry as registry_store
from ingest.storage.tables import ledger as ledger_table
from riverchief.brokers.local import Broker, free_port
from sensors.parameters import catalogue
from sensors.stations import Registry, Station
from tests import preloaded
from tests.databases import with_tables

KINDS = ("mosquitto", "nats")


def eventually(what: str, condition: Callable[[], Any], timeout_s: float = 120.0, every_s: float = 0.05) -> Any:
    """Wait until the condition gives something true, and return that; fail naming what did not happen.

    A condition that starts a process or reads much is asked less often, ``every_s``: it slows down what it waits for.
    """
    until = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > until:
            pytest.fail(f"{what}: not within {timeout_s:g} s")
        time.sleep(every_s)


def answers(url: str, server: "subprocess.Popen[bytes]") -> None:
    """Wait until the server that was just started says that it is well."""

    def healthy() -> bool:
        assert server.poll() is None, "the server stopped while starting"
        try:
            return httpx.get(f"{url}/healthz", timeout=60).status_code == 200
        except httpx.TransportError:
            return False

    eventually("the server answers", healthy)


class Running:
    """A site as it runs in production: a broker, a database, and ``riverchief`` as a process of its own.

    The database is a file in the folder unless ``url`` names another; ``uplinks`` is a topic of devices of others.
    """

    def __init__(self, folder: Path, kind: str, url: str = "", uplinks: str | None = None) -> None:
        self.folder = folder
        self.broker = Broker(folder / "broker", kind=kind, uplinks=uplinks)
        self.broker.start()
        self.url = url
        self.database = Database(url or f"sqlite:///{folder / 'riverchief.db'}")
        with_tables(self.database)
        self.process: subprocess.Popen[bytes] | None = None
        self.more = ""
        self.open = True
        self.port = free_port()

    def register(self, *stations: Station) -> None:
        with self.database.write() as connection:
            registry_store.save(connection, Registry(stations, catalogue=catalogue()))

    @property
    def settings(self) -> Path:
        path = self.folder / "settings.toml"
        api = "" if "[api]" in self.more else f"[api]\nport = {self.port}\n"
        path.write_text(
            f"data = '{self.folder}'\n[database]\nurl = '{self.url}'\n[log]\nlevel = 'warning'\n"
            f"[access]\nopen = {str(self.open).lower()}\n"
            f"{api}[mqtt]\nport = {self.broker.port}\n"
            f"user = '{self.broker.ingest.user}'\npassword = '{self.broker.ingest.password}'\n{self.more}"
        )
        return path

    def start(self, command: str = "ingest") -> None:
        with (self.folder / "riverchief.log").open("ab") as log:
            self.process = preloaded.Popen(
                [sys.executable, "-m", "riverchief", command, "--settings", str(self.settings)], stdout=log, stderr=log
            )

    def kill(self) -> None:
        """SIGKILL to the process this object started, by its id."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code. Where it does not end, the log says where its threads are."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGUSR1)
            time.sleep(1)
            raise AssertionError(self.log()[-20_000:]) from None

    def log(self) -> str:
        return (self.folder / "riverchief.log").read_text("utf-8", "replace")

    def booked(self, column: str = "stored") -> int:
        """A sum over the whole ledger."""
        with self.database.read() as connection:
            total = sa.func.coalesce(sa.func.sum(ledger_table.c[column]), 0)
            return int(connection.execute(sa.select(total)).scalar_one())

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.broker.stop()
        self.database.close()
