"""The four devices on the demo's river 东平河, each with another protocol: SL 651, HJ 212, LoRaWAN and MQTT.

The days of history travel over MQTT for all stations, as from loggers that were away; what is measured from then on
leaves by each device's own protocol.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from infra import clock
from ingest.storage import loggers, sl651_stations
from ingest.storage.changes import Author
from riverchief.brokers.local import free_port
from sensors.wire.hj212.readings import Logger as KnownLogger
from sensors.wire.sl651.readings import Gauge
from simulator.devices import sl651_station
from simulator.devices.fleet import Connection
from simulator.devices.hj212_logger import Line as Platform
from simulator.devices.hj212_logger import Logger
from simulator.devices.transport import Transmission
from simulator.network_server import NetworkServer
from simulator.play import FramedLine, Line, LineState

SL651_STATION, HJ212_STATION, LORAWAN_STATION = "dph-shiwan-1", "dph-shiwan-2", "dph-shiwan-3"
ADDRESS: Final = "0044060001"
MN: Final = "440604000000000000000001"
DEVICE: Final = "lanshi-3"
MAPPING: Final = Path(__file__).with_name("demo_lorawan.toml")
UPLINKS: Final = "v3/+/devices/+/up"
"""Topic of the network server, as the mapping has it."""
EVERY_S: Final[Mapping[str, int]] = {SL651_STATION: 60, HJ212_STATION: 30, LORAWAN_STATION: 30}
"""Seconds between two messages: SL 651 tells the minute of an observation, HJ 212 sends every 30 s at most."""


@dataclass(frozen=True, slots=True)
class DemoDevices:
    """Ports and passwords of the gateways."""

    hj212_port: int = field(default_factory=free_port)
    sl651_port: int = field(default_factory=free_port)
    hj212_password: str = field(default_factory=lambda: f"{secrets.randbelow(10**6):06d}", repr=False)
    sl651_password: str = field(default_factory=lambda: f"{secrets.randbelow(10**4):04d}", repr=False)

    def register(self, connection: sa.Connection, author: Author) -> None:
        loggers.save(connection, KnownLogger(MN, HJ212_STATION, self.hj212_password), author)
        sl651_stations.save(connection, Gauge(ADDRESS, SL651_STATION, self.sl651_password), author)

    def settings(self) -> str:
        """Their sections of the settings."""
        return f"""
[hj212]
enabled = true
host = "127.0.0.1"
port = {self.hj212_port}
[sl651]
enabled = true
host = "127.0.0.1"
port = {self.sl651_port}
[ingest]
mappings = '{MAPPING}'
"""

    def lines(self, about: Connection) -> dict[str, Line]:
        """The ways of what they measure now."""
        platform = Platform("127.0.0.1", self.hj212_port)
        centre = sl651_station.Line("127.0.0.1", self.sl651_port)
        logger = Logger(platform, MN, self.hj212_password, clock.now_ms)
        gauge = sl651_station.Station(centre, ADDRESS, clock.now_ms, password=self.sl651_password)
        return {
            HJ212_STATION: FramedLine({HJ212_STATION: logger}, name=f"HJ 212 127.0.0.1:{self.hj212_port}"),
            SL651_STATION: FramedLine({SL651_STATION: gauge}, name=f"SL 651 127.0.0.1:{self.sl651_port}"),
            LORAWAN_STATION: NetworkServer({LORAWAN_STATION: DEVICE}, about),
        }


class AfterHistory:
    """A line that carries what was measured from ``live_ms`` on; the history before it goes by ``history``."""

    def __init__(self, live: Line, history: Line, live_ms: int) -> None:
        self._live, self._history, self._live_ms = live, history, live_ms

    def reachable(self, station: str) -> bool:
        return self._live.reachable(station) and self._history.reachable(station)

    def put(self, put: Transmission) -> None:
        late = put.message is not None and put.message.samples[0].at_ms < self._live_ms
        (self._history if late else self._live).put(put)

    def state(self) -> LineState:
        return self._live.state()

    def flush(self, timeout_s: float) -> bool:
        return self._live.flush(timeout_s)

    def close(self, timeout_s: float) -> bool:
        return self._live.close(timeout_s)
