"""A cluster as it runs in production: broker, three servers of streams (NATS or Kafka), PostgreSQL, bridge and workers,
each a process."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import paho.mqtt.client as paho
import sqlalchemy as sa

from governance.incidents import queries as incident_queries
from infra.clock import now_ms
from infra.database import Database
from infra.errors import StorageUnavailable
from ingest import ledger
from ingest.cluster import leases
from ingest.cluster.engines import EngineSettings, connect
from ingest.cluster.transport import Transport
from ingest.storage.sql import SqlReadings
from ingest.storage.tables import ledger as ledger_table
from ingest.storage.tables import quarantine
from sensors.parameters import catalogue
from sensors.stations import Station
from sensors.wire.telemetry import Sample
from simulator.devices.fleet import Connection, Fleet
from tests import postgres, preloaded
from tests.disk import Disk
from tests.kafka_cluster import KafkaCluster
from tests.nats_cluster import NatsCluster
from tests.rig import Running, eventually

STATIONS = 8
PARTITIONS = 4
POLLUTED_FROM = 30
"""The message from which on ammonia stands above the limit."""


class TcpProxy:
    """Forwards connections to a port until it is ``cut``; then nothing goes through, and nobody is told."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cut = threading.Event()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [near, far]
                for a, b in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(a, b), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                while self.cut.is_set():
                    time.sleep(0.05)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for one in (self._listener, *self._sockets):
            with suppress(OSError):
                one.close()


def _published(transport: Transport, body: bytes) -> bool:
    try:
        transport.publish([(0, body)])
    except StorageUnavailable:
        return False
    return True


class ClusterSite:
    """The processes of a cluster by name: ``bridge``, ``w1`` …; ends whatever it started."""

    def __init__(
        self, folder: Path, volume: Disk | None = None, stations: int = STATIONS, engine: str = "nats"
    ) -> None:
        """``volume``: where the first node keeps its streams."""
        self.folder = folder
        self.volume = volume
        self.servers: NatsCluster | KafkaCluster = NatsCluster(folder) if engine == "nats" else KafkaCluster(folder)
        if volume is not None:
            self.servers.stores[0] = volume.path / "node0"
        self.database_proxy = TcpProxy(postgres.server().port)
        self.url = postgres.server().with_tables()
        self.site = Running(folder / "site", "mosquitto", self.url)
        self.database: Database = self.site.database
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.site.register(*(Station(f"s{i}", f"s{i}", f"s{i}", 113.1, 23.0, interval_s=60) for i in range(stations)))
        self.servers.start()
        self.published = 0
        self.partitions = PARTITIONS
        self.poisons = 0

    @property
    def proxied_url(self) -> str:
        """The database, through a line that can be cut."""
        return self.url.replace(f":{postgres.server().port}/", f":{self.database_proxy.port}/")

    def settings(self, name: str, more: str = "", url: str = "") -> Path:
        broker = self.site.broker
        path = self.folder / f"{name}.toml"
        path.write_text(
            f"data = '{self.folder}'\n[database]\nurl = '{url or self.url}'\n[log]\nlevel = 'info'\n"
            f"[access]\nopen = true\n[api]\nport = 1\n[mqtt]\nport = {broker.port}\nclient_id = 'bridge'\n"
            f"user = '{broker.ingest.user}'\npassword = '{broker.ingest.password}'\n"
            f"[cluster]\nengine = '{self.servers.kind}'\nservers = {list(self.servers.urls)}\n"
            f"partitions = {self.partitions}\nstream_mb = 16\n{more}"
        )
        return path

    def start(self, name: str, more: str = "", url: str = "") -> None:
        """Start the bridge, or a worker."""
        command = "bridge" if name.startswith("bridge") else "ingest"
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = preloaded.Popen(
                [sys.executable, "-m", "riverchief", command, "--settings", str(self.settings(name, more, url))],
                stdout=log,
                stderr=log,
            )

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        """A signal to a process that was started here, by its id."""
        process = self.processes[name]
        os.kill(process.pid, how)
        if how in (signal.SIGKILL, signal.SIGTERM):
            process.wait(60)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text("utf-8", "replace")

    def owners(self) -> dict[int, str | None]:
        """Partition → the name of the process that owns it."""
        with self.database.read() as connection:
            states = leases.states(connection)
        pids = {str(one.pid): name for name, one in self.processes.items()}
        return {i: pids.get(state.worker.split(":")[1]) if state.worker else None for i, state in states.items()}

    def shared_by(self, *names: str) -> bool:
        """Whether all partitions are owned by these, none by more than one above its share."""
        owners = list(self.owners().values())
        counts = [owners.count(name) for name in names]
        return len(owners) == self.partitions == sum(counts) and max(counts) - min(counts) <= 1

    @contextmanager
    def fleet(self) -> Iterator[Fleet]:
        device = self.site.broker.device
        connection = Connection(self.site.broker.host, self.site.broker.port, device.user, device.password)
        with Fleet([f"s{i}" for i in range(STATIONS)], connection, boot=1) as fleet:
            yield fleet

    def publish(self, fleet: Fleet, rounds: int, every_s: float = 0.02) -> None:
        """Ordinary water at every station, and polluted water from one message on."""
        for _ in range(rounds):
            number, self.published = self.published, self.published + 1
            values = {"water_temp": 25.0, "ph": 7.1, "do": 5.0, "nh3n": 6.0 if number >= POLLUTED_FROM else 0.9}
            noisy = {key: round(value * (1 + (number % 7 - 3) / 1000), 3) for key, value in values.items()}
            for i in range(STATIONS):
                fleet[f"s{i}"].publish([Sample(now_ms() + number % 2, noisy)], now_ms())
            time.sleep(every_s)

    def poison(self) -> None:
        """A message nobody can read, over MQTT and in a stream."""
        device = self.site.broker.device
        client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        client.username_pw_set(device.user, device.password)
        client.connect(self.site.broker.host, self.site.broker.port)
        client.loop_start()
        self.poisons += 1
        client.publish("rivers/v1/s0/telemetry", b"\xff\x00 mqtt %d" % self.poisons, qos=1).wait_for_publish(30)
        client.disconnect()
        client.loop_stop()
        transport = connect(EngineSettings(self.servers.urls, self.servers.kind))
        eventually("it is in the stream", lambda: _published(transport, b"\xff\x00 stream %d" % self.poisons))
        transport.close()

    def stored_by_station(self) -> dict[str, int]:
        with self.database.read() as connection:
            sums = sa.select(ledger_table.c.station, sa.func.sum(ledger_table.c.stored)).group_by(
                ledger_table.c.station
            )
            return {station: int(count) for station, count in connection.execute(sums) if count}

    def quarantined(self) -> int:
        with self.database.read() as connection:
            return len({bytes(one) for one in connection.execute(sa.select(quarantine.c.payload)).scalars()})

    def wait_for_growth(self) -> None:
        """Wait until readings of now are stored."""
        before = self.site.booked()
        eventually("readings are stored", lambda: self.site.booked() > before, 90)

    def stored(self, fleet: Fleet, timeout_s: float = 90) -> None:
        """Wait until everything that was sent is stored."""
        assert fleet.flush(timeout_s)
        eventually("everything is stored", lambda: self.site.booked() >= fleet.readings_sent, timeout_s)

    def ledger_closes(self, fleet: Fleet) -> dict[str, int]:
        """Every reading once in the store and once in the account, one incident and one page for each station."""
        with self.database.read() as connection:
            accounts = ledger.accounts(connection)
            found = incident_queries.list_incidents(connection, limit=1000)
            pages = connection.exec_driver_sql("SELECT count(*) FROM outbox WHERE notify = 'page'").scalar_one()
        assert sum(SqlReadings(self.database, catalogue()).count().values()) == fleet.readings_sent
        assert sum(a.stored for a in accounts) == fleet.readings_sent
        assert all(a.closed and a.missing == 0 for a in accounts)
        polluted = [i for i in found if i.cause.startswith("water:")]
        if self.published > POLLUTED_FROM + 10:
            assert sorted(i.station for i in polluted) == sorted(f"s{i}" for i in range(STATIONS))
            # one page when the incident opens, at most one more when it becomes more urgent
            assert STATIONS <= pages <= 2 * STATIONS
        return {
            "sent": fleet.readings_sent,
            "stored": sum(a.stored for a in accounts),
            "again": sum(a.duplicate for a in accounts),
            "incidents": len(polluted),
            "pages": pages,
        }

    def close(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()
        self.database_proxy.close()
        self.servers.close()
        self.site.close()
