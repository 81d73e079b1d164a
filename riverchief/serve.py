"""The running system: which parts run in this process, started in order and ended in the opposite one."""

import contextlib
import random
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from enum import Flag, auto
from pathlib import Path

import structlog
import uvicorn

from api.context import Context, Part
from governance.database import Database
from governance.outbox import Deliverer
from ingest.intake import Intake
from ingest.pipeline import Site
from ingest.sources.mqtt import MqttSettings, MqttSource
from ingest.storage import registry as registry_store
from ingest.storage.sqlite import SqliteReadings
from riverchief import clock, files, metrics, migrations
from riverchief.settings import Settings, secret
from sensors.errors import ConfigurationError
from sensors.parameters import catalogue

log = structlog.get_logger(__name__)

WATCHED_S = 30
"""A part that has not shown a sign of life for so long is not healthy."""


class Role(Flag):
    """What a process does; all of it together is ``serve``."""

    INGEST = auto()
    API = auto()
    WORKER = auto()


ALL = Role.INGEST | Role.API | Role.WORKER


def open_database(settings: Settings) -> Database:
    """The database of the settings, its schema up to date."""
    if not settings.database.url:
        settings.data.mkdir(parents=True, exist_ok=True)
    database = Database(settings.database_url)
    migrations.upgrade(database)
    return database


class System:
    """The parts of one process."""

    def __init__(self, settings: Settings, roles: Role) -> None:
        self.settings = settings
        self.roles = roles
        self.catalogue = catalogue()
        rules = files.read_rules(settings.site.rules, self.catalogue)
        token = secret(settings.api.token, settings.api.token_file)
        mqtt = mqtt_settings(settings)
        outbox_secret = secret(settings.outbox.secret, settings.outbox.secret_file)
        self.database = open_database(settings)
        self._register_stations()
        self.store = SqliteReadings(self.database, self.catalogue)
        self.deliverer: Deliverer | None = None
        if Role.WORKER in roles and settings.outbox.url and outbox_secret:
            self.deliverer = Deliverer(
                self.database,
                settings.outbox.url,
                outbox_secret,
                clock=clock.now_ms,
                rng=random.Random(),
                give_up_after_s=settings.outbox.give_up_after_days * 86_400,
            )
        wake = self.deliverer.wake if self.deliverer else lambda: None
        self.intake: Intake | None = None
        self.source: MqttSource | None = None
        if Role.INGEST in roles:
            site = Site(
                self.database,
                self.store,
                rules,
                self.catalogue,
                source=settings.site.source,
                late_s=settings.ingest.late_after_s,
                on_findings=wake,
            )
            self.intake = Intake(
                site,
                clock_ms=clock.now_ms,
                connected_since=lambda: self.source.connected_since_ms if self.source else None,
                most=settings.ingest.batch_messages,
                linger_s=settings.ingest.linger_ms / 1000,
            )
            if settings.mqtt.enabled:
                self.source = MqttSource(mqtt, self.intake, clock.now_ms)
        self.context = Context(
            database=self.database,
            store=self.store,
            catalogue=self.catalogue,
            source=settings.site.source,
            clock_ms=clock.now_ms,
            submit=self.intake.submit if self.intake else None,
            token=token,
            parts=self.parts,
            metrics=metrics.exposition(self.database, self.intake, self.source),
            wake=wake,
        )

    def _register_stations(self) -> None:
        """A new site begins with the stations of its file; later the database is what counts."""
        if self.settings.site.stations is None:
            return
        registry = files.read_stations(self.settings.site.stations, self.catalogue)
        with self.database.write() as connection:
            if not registry_store.load(connection, self.catalogue).stations:
                registry_store.save(connection, registry)

    def start(self) -> None:
        if self.deliverer:
            self.deliverer.start()
        if self.intake:
            self.intake.start()
        if self.source:
            self.source.start()

    def stop(self) -> None:
        """Finish the batch, acknowledge, leave; what is not finished is delivered again."""
        if self.source:
            self.source.quiesce()
        if self.intake and not self.intake.stop():
            log.warning("the last batch did not finish in time; its messages will be delivered again")
        if self.source:
            self.source.stop()
        if self.deliverer:
            self.deliverer.stop(10)
        self.database.close()

    def parts(self) -> list[Part]:
        """How the parts of this process are."""
        now = clock.now_ms()
        found = []
        if self.intake:
            c = self.intake.counters
            quiet_s = (now - c.last_tick_ms) / 1000 if c.last_tick_ms else 0.0
            ok = self.intake.alive and quiet_s < WATCHED_S
            found.append(
                Part("ingest", ok, f"{c.messages} messages, backlog {self.intake.backlog}, {c.last_error or 'fine'}")
            )
        if self.source:
            since = self.source.connected_since_ms
            found.append(Part("mqtt", since is not None, self.source.last_error or "connected"))
        if self.deliverer:
            seen = self.deliverer.last_round_at_ms
            ok = seen is not None and now - seen < WATCHED_S * 1000
            found.append(Part("outbox", ok, "delivering" if ok else "the deliverer shows no sign of life"))
        return found


def run(settings: Settings, roles: Role = ALL) -> None:
    """Run until SIGTERM or SIGINT; raises ConfigurationError before anything is started."""
    with alone(settings) if Role.INGEST in roles else contextlib.nullcontext():
        door = _listen(settings) if Role.API in roles else None
        system = System(settings, roles)
        system.start()
        try:
            if door is not None:
                _serve_http(system, door)
            else:
                _wait_for_signal()
        finally:
            system.stop()


def _listen(settings: Settings) -> socket.socket:
    """The API's socket, taken before anything is started: an address in use is a mistake in the settings."""
    host, port = settings.api.host, settings.api.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigurationError(f"api.host {host}, port {port} cannot be used: {error.strerror}") from error


def _serve_http(system: System, door: socket.socket) -> None:
    from api.app import create_app  # an ingest alone does not load the console
    from api.console.mount import mount

    app = create_app(system.context)
    mount(app, system.context)
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
    log.info("listening", address=f"http://{system.settings.api.host}:{system.settings.api.port}/")
    _Server(config).run(sockets=[door])


class _Server(uvicorn.Server):
    """Uvicorn raises the signal again once it has stopped, which would end us before the last batch is stored."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        def leave(*_: object) -> None:
            self.should_exit = True

        with on_signal(leave):
            yield


def _wait_for_signal() -> None:
    asked = threading.Event()
    with on_signal(lambda *_: asked.set()):
        asked.wait()


@contextlib.contextmanager
def on_signal(leave: Callable[..., None]) -> Iterator[None]:
    """SIGTERM and SIGINT call ``leave`` while this lasts."""
    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """One ingest for a data folder: two would each believe they know every series' last reading."""
    if settings.database.url:
        yield
        return
    settings.data.mkdir(parents=True, exist_ok=True)
    lock = settings.data / "ingest.lock"
    with lock.open("a") as handle:
        _lock(handle.fileno(), lock)
        yield


def _lock(handle: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not on Windows; there the database's own locking has to do
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ConfigurationError(f"another ingest already works on {path.parent}") from None


def mqtt_settings(settings: Settings) -> MqttSettings:
    """The broker's address and login for the source."""
    m = settings.mqtt
    return MqttSettings(
        host=m.host,
        port=m.port,
        user=m.user,
        password=secret(m.password, m.password_file),
        client_id=m.client_id,
        version=5 if m.version == "5" else 4,
        tls=m.tls,
        ca_file=str(m.ca_file) if m.ca_file else None,
        cert_file=str(m.cert_file) if m.cert_file else None,
        key_file=str(m.key_file) if m.key_file else None,
        keepalive_s=m.keepalive_s,
    )
