"""The site under test: every part a real process that can be killed, frozen, cut off or started again."""

import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import sqlalchemy as sa

from infra import clock
from infra.database import Database
from infra.errors import StorageUnavailable
from ingest.storage import registry as registry_store
from ingest.storage.timeseries import ServerKind
from riverchief.brokers.local import Broker, free_port
from sensors.parameters import catalogue
from sensors.stations import Registry, Station
from simulator.devices.fleet import Connection
from tests import disk, preloaded
from tests.databases import with_tables
from tests.faults.clocked import MovedClock
from tests.faults.receiver import SECRET, Receiver
from tests.faults.tcp_proxy import TcpProxy
from tests.influx import RealServer
from tests.postgres import Postgres
from tests.proxy import Proxy
from tests.rig import eventually

PARTS = ("ingest", "api", "worker")
"""The processes of the product, each with a role of its own."""
CONTACTS = {"duty": "office", "chief": "chief"}
KEEPALIVE_S = 5
"""How soon a connection to the broker that died without a word is noticed; 30 s by default."""
BROKER_DISK_MB, ARCHIVE_DISK_MB = 64, 4
DAY_MS, TEN_O_CLOCK_MS = 86_400_000, 2 * 3_600_000
"""A run begins at ten in the morning, Beijing time: at night some messages to people would wait."""


class SiteClock:
    """The time of the devices, and how wrong the clock of the site is; both far from the machine's."""

    def __init__(self, file: Path) -> None:
        self._file = MovedClock(file)
        now_ms = clock.now_ms()
        self._moved_ms = (TEN_O_CLOCK_MS - now_ms) % DAY_MS
        self.set_wrong(0)

    def now_ms(self) -> int:
        """What devices and the platform take for the time."""
        return clock.now_ms() + self._moved_ms

    def set_wrong(self, ahead_ms: int) -> None:
        """Set the clock of the site; the devices keep theirs."""
        self._ahead_ms = ahead_ms
        self._file.move(self._moved_ms + ahead_ms)

    def pass_time(self, ms: int) -> None:
        """Let time pass for everybody."""
        self._moved_ms += ms
        self.set_wrong(self._ahead_ms)


class Site:
    """A site with everything that belongs to it; ``close`` ends what it started."""

    def __init__(self, dialect: str, *, cold: bool = True) -> None:
        """Processes load the product when they start, as on a machine; unless ``cold`` they have it already."""
        self.dialect = dialect
        self._popen = subprocess.Popen if cold else preloaded.Popen
        self.capabilities = _capabilities(dialect)
        self._started: list[subprocess.Popen[bytes]] = []
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.peak_mb: dict[str, float] = {}
        self.ended_by_itself: list[str] = []
        self.api_port = free_port()
        self._closing = contextlib.ExitStack()
        try:
            self._open()
        except BaseException:
            self._closing.close()
            raise

    def _open(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="riverchief-faults-"))
        self._closing.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.volume = disk.Disk() if "volume" in self.capabilities else None
        if self.volume is not None:
            self._closing.callback(self.volume.close)
        self.data = (self.volume.path if self.volume else self.folder) / "data"
        self.data.mkdir()
        self.clock = SiteClock(self.folder / "clock")
        self.receiver = Receiver(self.clock.now_ms)
        self._closing.callback(self.receiver.close)
        self._start_servers()
        self.settings = self._write_settings()

    def _start_servers(self) -> None:
        broker_disk = self.folder / "broker" / "store"
        self.archive = self.folder / "archive"
        for folder, size_mb in ((broker_disk, BROKER_DISK_MB), (self.archive, ARCHIVE_DISK_MB)):
            folder.mkdir(parents=True)
            if self.volume is not None:
                self._mount(folder, size_mb)
        self.broker = Broker(self.folder / "broker", kind="mosquitto")
        self.broker.start()
        self._closing.callback(self.broker.stop)
        self.devices_line = self._proxied(self.broker.port)
        self.broker_line = self._proxied(self.broker.port)
        self.postgres = self._start_postgres() if self.dialect == "postgres" else None
        self.database_line = self._proxied(self.postgres.port) if self.postgres else None
        self.influx: RealServer | None = None
        if "store" in self.capabilities:
            self.influx = RealServer(ServerKind.INFLUXDB1)
            self._closing.callback(self.influx.stop)
            self.influx.start()
            self.influx.query('CREATE DATABASE "water"')
            self.store_line = self._closing.enter_context(Proxy(self.influx.url))

    def _mount(self, folder: Path, size_mb: int) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)], check=True)
        self._closing.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=True)

    def _proxied(self, port: int) -> TcpProxy:
        line = TcpProxy(port)
        self._closing.callback(line.close)
        return line

    def _start_postgres(self) -> Postgres:
        folder = None
        if self.volume is not None:
            folder = self.volume.path / "postgres"
            folder.mkdir()
        made = Postgres(folder=folder)
        self._closing.callback(made.close)
        made.start()
        return made

    def _write_settings(self) -> Path:
        url = f"sqlite:///{self.data / 'riverchief.db'}"
        if self.postgres is not None and self.database_line is not None:
            self._url = self.postgres.database()
            url = self._url.replace(f":{self.postgres.port}/", f":{self.database_line.port}/")
        else:
            self._url = url
        contacts = "\n".join(
            f'[[contact]]\nkey = "{key}"\nname = "示例 {key}"\nroles = ["{role}"]\n'
            f'channels = [{{ url = "json://127.0.0.1:{self.receiver.port}/phone/{key}" }}]'
            for key, role in CONTACTS.items()
        )
        (self.folder / "contacts.toml").write_text(contacts)
        influx = f'[influx]\nurl = "{self.store_line.url}"\nkind = "influxdb1"\ntimeout_s = 3\n' if self.influx else ""
        file = self.folder / "settings.toml"
        file.write_text(
            f"data = '{self.data}'\n[database]\nurl = '{url}'\n[log]\nlevel = 'warning'\n[access]\nopen = true\n"
            f"[api]\nport = {self.api_port}\n[readings]\narchive = '{self.archive}'\n{influx}"
            f"[mqtt]\nport = {self.broker_line.port}\nuser = '{self.broker.ingest.user}'\n"
            f"password = '{self.broker.ingest.password}'\nkeepalive_s = {KEEPALIVE_S}\n"
            f"[outbox]\nurl = 'http://127.0.0.1:{self.receiver.port}/events'\nsecret = '{SECRET}'\ngather_s = 1\n"
            f"[notices]\ncontacts = '{self.folder / 'contacts.toml'}'\nwindow_s = 2\nmost = 50\nper_minute = 600\n"
        )
        return file

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.wait()
        self._closing.close()

    # -- the database ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def database(self) -> Iterator[Database]:
        """The database, past the line; nothing of this process may hold its file when the power fails."""
        opened = Database(self._url)
        try:
            yield opened
        finally:
            opened.close()

    def ask(self, sql: str, default: int = 0) -> int:
        """A number; the default where it is NULL."""
        with self.database() as database, database.read() as connection:
            return int(connection.execute(sa.text(sql)).scalar() or default)

    def register(self, *names: str) -> None:
        stations = tuple(Station(name, name, name, 113.1, 23.0, interval_s=60) for name in names)
        with self.database() as database:
            with_tables(database)
            with database.write() as connection:
                registry_store.save(connection, Registry(stations, catalogue=catalogue()))
                connection.exec_driver_sql("INSERT INTO notice_mark (name, mark) VALUES ('outbox', 0)")

    # -- the processes ---------------------------------------------------------------------------------------------

    @property
    def device(self) -> Connection:
        """How devices reach the broker."""
        user = self.broker.device
        return Connection("127.0.0.1", self.devices_line.port, user.user, user.password, keep_alive_s=KEEPALIVE_S)

    def run(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """A command of the product under the moved clock, its modules compiled as those of an installed one."""
        environment = {name: one for name, one in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        with (self.folder / "riverchief.log").open("ab") as log:
            command = [sys.executable, "-m", "tests.faults.clocked", str(self.folder / "clock"), *arguments]
            command += ["--settings", str(self.settings)]
            process = self._popen(command, stdout=log, stderr=log, env=environment)
        self._started.append(process)
        return process

    def start(self, *parts: str) -> None:
        for part in parts:
            self.processes[part] = self.run(part)

    def kill(self, *parts: str) -> None:
        """SIGKILL by id; they are gone afterwards."""
        for part in parts:
            self._measure(part)
            self.processes[part].kill()
        for part in parts:
            self.processes[part].wait()

    def pids(self, part: str) -> list[int]:
        """The processes of any part."""
        if part == "broker":
            return [self.broker.pid or 0]
        if part == "database":
            assert self.postgres is not None
            return self.postgres.pids
        if part == "store":
            assert self.influx is not None
            return [self.influx.pid]
        return [self.processes[part].pid]

    def freeze(self, part: str, hold: Callable[[], None]) -> None:
        """SIGSTOP while this holds, then SIGCONT."""
        pids = self.pids(part)
        for how in (signal.SIGSTOP, signal.SIGCONT):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, how)
            if how is signal.SIGSTOP:
                hold()

    def revive(self) -> None:
        """Start again what ended without being killed, as a service manager would.

        PostgreSQL ends where its log finds no room, which is its way and not counted.
        """
        if self.postgres is not None and not self.postgres.runs:
            self.postgres.start()
        for part in PARTS:
            if self.processes[part].poll() is not None:
                self.ended_by_itself.append(part)
                self.start(part)

    def _measure(self, part: str) -> None:
        file = Path(f"/proc/{self.processes[part].pid}/status")
        with contextlib.suppress(OSError):
            for line in file.read_text(encoding="ascii").splitlines():
                if line.startswith("VmHWM:"):
                    self.peak_mb[part] = max(self.peak_mb.get(part, 0), int(line.split()[1]) / 1024)

    def stop(self) -> dict[str, int]:
        """SIGTERM to all; the exit codes."""
        for part in PARTS:
            self._measure(part)
            self.processes[part].terminate()
        return {part: self.processes[part].wait(60) for part in PARTS}

    # -- what shows that it works ----------------------------------------------------------------------------------

    def answers(self, port: int | None = None) -> bool:
        """Whether the API answers."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.api_port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stored_up_to_ms(self, station: str) -> int:
        """The time of the newest stored reading of a station."""
        return self.ask(f"SELECT max(at) FROM reading WHERE station = (SELECT id FROM station WHERE key = '{station}')")

    def recovers(self, station: str, within_s: float) -> float:
        """Seconds until a reading that is taken from now on is stored and the API answers."""
        begun, since_ms = time.monotonic(), self.clock.now_ms()

        def works() -> bool:
            self.revive()
            with contextlib.suppress(StorageUnavailable):  # PostgreSQL may still be reading its log
                return self.stored_up_to_ms(station) >= since_ms and self.answers()
            return False

        eventually("the site goes on", works, within_s, every_s=0.1)
        return time.monotonic() - begun

    def log(self) -> str:
        return (self.folder / "riverchief.log").read_text("utf-8", "replace")


def _capabilities(dialect: str) -> frozenset[str]:
    """What this machine and this database allow to fail."""
    found = {dialect}
    if not (disk.impossible() or disk.not_installed()):
        found.add("volume")
    if shutil.which("influxd"):
        found.add("store")
    return frozenset(found)
