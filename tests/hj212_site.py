"""A site with an HJ 212 gateway: database, pipeline, intake and gateway as they run in production.

Run as a program (``python -m tests.hj212_site FOLDER PORT [hold]``) it is a process of its own that can be killed. With
``hold`` it stands still in the middle of the first transaction that stores readings, and makes ``FOLDER/held`` then.
"""

import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from infra.clock import now_ms
from infra.database import Database
from ingest.intake import Intake
from ingest.pipeline import Site
from ingest.rules.model import Rules
from ingest.sources.hj212 import Gateway, GatewaySettings
from ingest.storage import loggers as logger_store
from ingest.storage import registry as registry_store
from ingest.storage.sql import SqlReadings
from sensors.parameters import catalogue
from sensors.stations import Registry, Station
from sensors.wire.hj212.frame import Frame, FrameReader
from sensors.wire.hj212.packet import Packet, parse
from sensors.wire.hj212.readings import Logger
from tests.databases import with_tables

PASSWORD = "123456"


class Site212:
    """The parts, in one process."""

    def __init__(self, folder: Path, clock: Callable[[], int] = now_ms, **settings: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.database = Database(f"sqlite:///{folder / 'riverchief.db'}")
        with_tables(self.database)
        self.store = SqlReadings(self.database, catalogue())
        self.site = Site(self.database, self.store, Rules(), catalogue())
        self.intake = Intake(self.site, clock_ms=clock)
        self.gateway = Gateway(GatewaySettings(host="127.0.0.1", **({"port": 0} | settings)), self.intake, clock)

    def register(self, *loggers: Logger) -> None:
        """Loggers, and the stations they speak for."""
        names = dict.fromkeys(one.station for one in loggers)
        with self.database.write() as connection:
            stations = tuple(Station(name, name, name, 113.1, 23.0, interval_s=60) for name in names)
            registry_store.save(connection, Registry(stations, catalogue=catalogue()))
            for one in loggers:
                logger_store.save(connection, one)

    def start(self) -> None:
        self.site.follow_registry()
        self.intake.start()
        self.gateway.start()

    def stop(self) -> None:
        self.gateway.quiesce()
        self.intake.stop()
        self.gateway.stop()
        self.database.close()

    def stored(self, station: str, parameter: str) -> dict[int, float]:
        """All readings of a series: ms → value."""
        found = self.store.window(station, 0, 2**52, [parameter])
        return dict(zip(found.at.tolist(), found.value.tolist(), strict=True))


class Wire:
    """The bare end of a connection, for what no decent logger does."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._reader = FrameReader()
        self._heard: list[Packet] = []

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def handle_device_messages(self) -> Packet:
        """The next packet; raises ConnectionError when the other side has closed."""
        while not self._heard:
            data = self.socket.recv(65_536)
            if not data:
                raise ConnectionError("closed")
            self._heard += [parse(f.segment) for f in self._reader.feed(data) if isinstance(f, Frame)]
        return self._heard.pop(0)

    def answer(self) -> tuple[str | None, str | None, str | None]:
        """CN, QN and QnRtn of the next packet."""
        packet = self.handle_device_messages()
        return packet.cn, packet.qn, packet.fields.get("QnRtn")

    def close(self) -> None:
        self.socket.close()


def _hold(folder: Path) -> None:
    """Stand still inside the transaction, after the readings were written and before they are committed."""

    def stand_still(connection: sa.Connection, newest: dict[str, int]) -> None:
        if newest:
            (folder / "held").touch()
            threading.Event().wait()

    logger_store.update_newest = stand_still  # type: ignore[assignment]


def main() -> None:
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    if "hold" in sys.argv[3:]:
        _hold(folder)
    site = Site212(folder, port=port)
    site.start()
    (folder / "ready").touch()
    threading.Event().wait()


if __name__ == "__main__":
    main()
