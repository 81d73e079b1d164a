"""What devices send, broken in every way: nothing fails, each message is in the books, the next good one is stored."""

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from infra.clock import now_ms
from ingest import ledger
from ingest.intake import Intake
from ingest.pipeline import Receipt, Site
from ingest.rules.model import Rules
from ingest.sources.mqtt_topics import message_of
from ingest.storage.sql import SqlReadings
from ingest.storage.tables import quarantine
from riverchief.files import read_mappings, shipped
from sensors.parameters import catalogue
from sensors.reading import Reason
from sensors.wire.hj212.frame import build as build_212
from sensors.wire.hj212.readings import Logger
from sensors.wire.sl651.readings import Gauge
from sensors.wire.telemetry import Sample, Telemetry, encode
from tests import hj212_frames, hj212_site, sl651_site
from tests.fuzz.conftest import Trial
from tests.fuzz.mutation import Mutator, pieces
from tests.hj212_site import Site212
from tests.sl651_site import ADDRESS, Site651
from tests.world import World

TOPICS = (
    *(b"rivers/v1/shiwan/telemetry", b"rivers/v1/shiwan/status", b"rivers/v1/shiwan/event", b"rivers/v1/nobody/status"),
    *(b"application/a/device/0102030405060708/event/up", b"loggers/RTU-0417/data", b"rivers/v1//telemetry"),
)
A_RIVER = 20_000
"""Messages to one database; another one follows, so that its size tells nothing about the process."""


class River:
    """A database and its ingest."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._world = World(folder)
        mappings = read_mappings(shipped("mappings.toml"), catalogue())
        self._site = Site(self._world.database, self._world.store, Rules(), catalogue(), mappings=mappings)
        self._intake = Intake(self._site, clock_ms=now_ms)
        self._intake.start()

    def take(self, sent: Iterable[tuple[bytes, bytes]]) -> list[Receipt]:
        """What became of each message, (topic, payload)."""
        messages = (message_of(topic.decode("utf-8", "replace"), payload, now_ms()) for topic, payload in sent)
        return [one.result(60) for one in [self._intake.submit(message) for message in messages]]

    def close(self) -> None:
        """A good message is still stored, the ingest ends, the books close."""
        good = encode(Telemetry((Sample(now_ms(), {"ph": 7.77}),)))
        assert self.take([(TOPICS[0], good)])[0].stored == 1
        assert self._intake.stop()
        _books_close(self._site, self._world.store)
        self._world.database.close()


def seeds(now: int) -> list[bytes]:
    sample = Sample(now - 60_000, {"ph": 7.1, "do": 5.0, "nh3n": 0.4}, {"do": "M"})
    later = Sample(now - 30_000, {"do_sat": 80.0, "water_temp": 21.0})
    return [
        encode(Telemetry((sample, later), seq=7, boot=1, total=12, sent_at_ms=now)),
        encode(Telemetry((sample,))),
        b'{"online": true, "battery": 12.1, "at": "2026-05-12T10:00:00Z"}',
        b'{"event": "door_open", "at": "2026-05-12T10:00:00Z"}',
        b'{"deviceInfo":{"devEui":"0102030405060708"},"time":"2026-05-12T10:00:00Z","object":{"ph":7.1,"do":5}}',
        b'{"DateTime": "2026-05-12 10:00:00", "PH": 7.1, "DO": "5.0", "NH3N": 0.3, "TURB": 12, "TEMP": 21.5}',
    ]


@pytest.mark.fuzz("MQTT payloads with topics", 1)
def test_whatever_payload_and_topic_arrive_each_message_is_in_the_books(trial: Trial, tmp_path: Path) -> None:
    payloads, topics = Mutator(trial.rng, seeds(now_ms())), Mutator(trial.rng, TOPICS, 1000)
    done, river = 0, River(tmp_path / "0")
    for many in trial.inputs(500):
        if trial.used - done >= A_RIVER:
            river.close()
            done, river = trial.used, River(tmp_path / str(trial.used))
        trial.last = [(_topic(trial.rng, topics), next(payloads)) for _ in range(many)]
        receipts = river.take(trial.last)
        trial.refused += sum(bool(receipt.rejected) for receipt in receipts)
        assert not any(one.reason is Reason.OUR_FAULT for receipt in receipts for one in receipt.rejected)
    river.close()


def _topic(rng: random.Random, mutated: Mutator) -> bytes:
    """Telemetry of a station, mostly."""
    share = rng.random()
    return TOPICS[0] if share < 0.5 else rng.choice(TOPICS) if share < 0.85 else next(mutated)


def _books_close(site: Site, store: SqlReadings) -> None:
    with site.database.read() as connection:
        accounts = ledger.accounts(connection)
        held = connection.execute(sa.select(sa.func.sum(quarantine.c.times))).scalar() or 0
    assert all(a.readings == a.stored + a.duplicate + a.quarantined for a in accounts)
    assert sum(a.stored for a in accounts) == sum(store.count().values())
    assert held or not any(a.quarantined for a in accounts)


# -- streams -----------------------------------------------------------------------------------------------------------


def packed(segments: Mutator, rng: random.Random) -> Iterator[bytes]:
    """Frames of HJ 212 whose check value is right whatever stands in them, and mutated frames."""
    while True:
        yield build_212(next(segments)[:1024]) + b"\r\n" if rng.random() < 0.6 else next(segments)


@pytest.mark.fuzz("HJ 212 connections", 0.04)
def test_whatever_comes_over_hj_212_the_gateway_goes_on_and_the_books_close(
    trial: Trial, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site212(tmp_path / "site")
    site.register(Logger(hj212_frames.MN, "shiwan", hj212_site.PASSWORD))
    raw = [*hj212_frames.GOOD, *hj212_frames.NEW]
    frames = iter(packed(Mutator(trial.rng, [one[6:-4] for one in raw] + raw), trial.rng))
    with _running(site):
        for _ in trial.inputs():
            stream = b"".join(next(frames) for _ in range(trial.rng.randint(1, 6)))
            trial.last = _sent(hj212_site.Wire, site.gateway.port, pieces(trial.rng, stream))
        trial.refused = site.gateway.counters.broken
    assert [one.getMessage() for one in caplog.records if one.levelname == "ERROR"] == []


@pytest.mark.fuzz("SL 651 connections", 0.04)
def test_whatever_comes_over_sl_651_the_gateway_goes_on_and_the_books_close(
    trial: Trial, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site651(tmp_path / "site")
    site.register(Gauge(ADDRESS, "shiwan"))
    bodies = Mutator(trial.rng, [sl651_site.body(7, now_ms()), sl651_site.body(8, now_ms(), "20190000253921000102")])
    frames = Mutator(trial.rng, [sl651_site.frame(sl651_site.body(9, now_ms()))])
    with _running(site):
        for _ in trial.inputs():
            made = (
                sl651_site.frame(next(bodies)[:1500], trial.rng.choice((0x2F, 0x30, 0x31, 0x32, 0x33, 0x34, 0x38)))
                if trial.rng.random() < 0.6
                else next(frames)
                for _ in range(trial.rng.randint(1, 6))
            )
            trial.last = _sent(sl651_site.Wire, site.gateway.port, pieces(trial.rng, b"".join(made)))
        trial.refused = site.gateway.counters.broken
    assert [one.getMessage() for one in caplog.records if one.levelname == "ERROR"] == []


@contextlib.contextmanager
def _running(site: Site212 | Site651) -> Iterator[None]:
    site.start()
    try:
        yield
        assert site.gateway.alive
        assert site.intake.alive
    finally:
        site.gateway.quiesce()
        stopped = site.intake.stop()
        site.gateway.stop()
    assert stopped
    _books_close(site.site, site.store)
    site.database.close()


def _sent(connect: Callable[[int], hj212_site.Wire | sl651_site.Wire], port: int, parts: list[bytes]) -> list[bytes]:
    """Send the parts, and wait until the gateway has read all of them and closed.

    It may hang up on what it is sent, or wait a minute for the rest of a message in several packets.
    """
    wire = connect(port)
    wire.socket.settimeout(1)
    with contextlib.suppress(OSError):
        for part in parts:
            wire.send(part)
        wire.socket.shutdown(1)
        while wire.socket.recv(65_536):
            pass
    wire.close()
    return parts
