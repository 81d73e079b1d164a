"""A site with an SL 651 gateway: database, pipeline, intake and gateway as they run in production; and a bare station.

Run as a program (``python -m tests.sl651_site FOLDER PORT [hold]``) it is a process of its own that can be killed. With
``hold`` it stands still in the middle of the first transaction that stores readings, and makes ``FOLDER/held`` then.
"""

import socket
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from infra.clock import now_ms
from infra.database import Database
from infra.times import beijing
from ingest.intake import Intake
from ingest.pipeline import Site
from ingest.rules.model import Rules
from ingest.sources.sl651 import Gateway, GatewaySettings
from ingest.storage import registry as registry_store
from ingest.storage import sl651_stations
from ingest.storage.sql import SqlReadings
from sensors.parameters import catalogue
from sensors.stations import Registry, Station
from sensors.wire.sl651.frame import End, Frame, FrameReader, Received, build
from sensors.wire.sl651.readings import Gauge
from tests.databases import with_tables

ADDRESS = "0012345678"


class Site651:
    """The parts, in one process."""

    def __init__(self, folder: Path, clock: Callable[[], int] = now_ms, **settings: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.database = Database(f"sqlite:///{folder / 'riverchief.db'}")
        with_tables(self.database)
        self.store = SqlReadings(self.database, catalogue())
        self.site = Site(self.database, self.store, Rules(), catalogue())
        self.intake = Intake(self.site, clock_ms=clock)
        self.gateway = Gateway(GatewaySettings(host="127.0.0.1", **({"port": 0} | settings)), self.intake, clock)

    def register(self, *gauges: Gauge) -> None:
        """Gauges, and the stations they speak for."""
        names = dict.fromkeys(one.station for one in gauges)
        with self.database.write() as connection:
            stations = tuple(Station(name, name, name, 113.1, 23.0, interval_s=300) for name in names)
            registry_store.save(connection, Registry(stations, catalogue=catalogue()))
            for one in gauges:
                sl651_stations.save(connection, one)

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
    """The bare end of a line, TCP or UDP."""

    def __init__(self, port: int, *, udp: bool = False) -> None:
        if udp:
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.socket.connect(("127.0.0.1", port))
            self.socket.settimeout(30)
        else:
            self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._reader = FrameReader()
        self._heard: list[Frame] = []

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> Frame:
        """The next frame; raises ConnectionError when the other side has closed."""
        while not self._heard:
            data = self.socket.recv(65_536)
            if not data:
                raise ConnectionError("closed")
            self._heard += [one.frame for one in self._reader.feed(data) if isinstance(one, Received)]
        return self._heard.pop(0)

    def close(self) -> None:
        self.socket.close()


def body(
    serial: int, at_ms: int, elements: str = "392300028960", address: str = ADDRESS, *, sent_ms: int | None = None
) -> bytes:
    """A body with one block; sent now unless said otherwise."""
    sent = beijing(now_ms() if sent_ms is None else sent_ms, "%y%m%d%H%M%S")
    observed = beijing(at_ms, "%y%m%d%H%M")
    return bytes.fromhex(f"{serial:04X}{sent}F1F1{address}48F0F0{observed}{elements}")


def frame(whole: bytes, function: int = 0x34, address: str = ADDRESS, **other: Any) -> bytes:
    """The bytes of an uplink frame."""
    return build(Frame(address, 1, other.pop("password", "1234"), function, whole, other.pop("end", End.ETX), **other))


def packets(whole: bytes, count: int, function: int = 0x34) -> list[bytes]:
    """A message cut into packets."""
    size = -(-len(whole) // count)
    pieces = [whole[n * size : (n + 1) * size] for n in range(count)]
    return [
        frame(piece, function, end=End.ETX if n == count else End.ETB, packets=count, packet=n)
        for n, piece in enumerate(pieces, 1)
    ]


def _hold(folder: Path) -> None:
    """Stand still inside the transaction, after the readings were written and before they are committed."""

    def stand_still(connection: sa.Connection, newest: Mapping[str, int]) -> None:
        if newest:
            (folder / "held").touch()
            threading.Event().wait()

    sl651_stations.update_newest = stand_still


def main() -> None:
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    if "hold" in sys.argv[3:]:
        _hold(folder)
    site = Site651(folder, port=port)
    site.start()
    (folder / "ready").touch()
    threading.Event().wait()


if __name__ == "__main__":
    main()
