"""Everything that may fail, one function each: it lets something fail, holds that for a while, and mends it."""

import contextlib
import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from riverchief.brokers.local import free_port
from sensors.wire.telemetry import Telemetry, encode
from tests.faults.parts import PARTS, Site
from tests.faults.receiver import Answers
from tests.faults.river import HOUR_MS, River
from tests.faults.tcp_proxy import Line, TcpProxy
from tests.proxy import Behaviour, CutAnswer, CutRequest, Forward, HangUp, Silent, Status
from tests.rig import eventually

SIMULATED_STEPS = 20
FILE_SAMPLES = 100
BURST_ROUNDS = 50
SHORT_S, LONG_S = (1.0, 3.0), (25.0, 35.0)
"""How long a line is down: for a moment, and until every wait between two attempts has reached its longest."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a fault works on; ``backlog`` is how many messages wait when an ingest has been away."""

    site: Site
    river: River
    rng: random.Random
    backlog: int

    def hold(self, least_s: float = 0.3, most_s: float = 2.0) -> None:
        time.sleep(self.rng.uniform(least_s, most_s))


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: its name in the table, what it does, and the capabilities of the site that it needs."""

    name: str
    apply: Callable[[Run], None]
    needs: frozenset[str] = frozenset()


# -- processes ---------------------------------------------------------------------------------------------------------


def _kill(part: str) -> Callable[[Run], None]:
    def apply(run: Run) -> None:
        run.site.kill(part)
        run.hold(0.0, 0.5)
        run.site.start(part)

    return apply


def _kill_ingest(run: Run) -> None:
    """In the middle of a burst, and every third time once more while it starts."""
    for _ in range(BURST_ROUNDS):
        run.river.round()
    _kill("ingest")(run)
    if run.rng.random() < 1 / 3:
        run.hold(0.2, 1.5)
        _kill("ingest")(run)


def _freeze(part: str) -> Callable[[Run], None]:
    return lambda run: run.site.freeze(part, lambda: run.hold(1.0, 3.0))


def _kill_broker(run: Run) -> None:
    run.site.broker.kill()
    run.hold()
    run.site.broker.start()


def _kill_store(run: Run) -> None:
    assert run.site.influx is not None
    run.site.influx.kill()
    run.hold()
    run.site.influx.start()


def _kill_database(run: Run) -> None:
    assert run.site.postgres is not None
    run.site.postgres.kill()
    run.hold()
    run.site.postgres.start()


def _power_loss(run: Run) -> None:
    site = run.site
    assert site.volume is not None

    def end() -> None:
        site.kill(*PARTS)
        if site.postgres is not None:
            site.postgres.kill()

    site.volume.lose_power(end)
    if site.postgres is not None:
        site.postgres.start()
    site.start(*PARTS)


def _second_ingest(run: Run) -> None:
    """On SQLite it is refused; on PostgreSQL it stands by and takes over from the first when that is killed."""
    second = run.site.run("ingest")
    if run.site.dialect == "sqlite":
        assert second.wait(60) != 0, "a second ingest works on the same database"
        return
    run.hold(2.0, 4.0)
    assert second.poll() is None, "the ingest that stands by has ended"
    run.site.kill("ingest")
    run.site.processes["ingest"] = second


def _same_client_id(run: Run) -> None:
    """Somebody signs in under the ingest's name and takes messages without acknowledging them."""
    login = run.site.broker.ingest
    thief = paho.Client(CallbackAPIVersion.VERSION2, "riverchief-ingest", clean_session=False, manual_ack=True)
    thief.username_pw_set(login.user, login.password)
    thief.connect("127.0.0.1", run.site.broker.port)
    thief.loop_start()
    run.hold()
    thief.disconnect()
    thief.loop_stop()


def _backlog(run: Run) -> None:
    run.site.kill("ingest")
    before = run.river.fleet.messages_sent
    while run.river.fleet.messages_sent - before < run.backlog:
        run.river.round()
    assert run.river.fleet.flush(60)
    run.site.start("ingest")


# -- disks -------------------------------------------------------------------------------------------------------------


def _fill(folder: Path, hold: Callable[[], None]) -> None:
    """Leave no room while this holds."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    try:
        hold()
    finally:
        ballast.unlink()
        handle = os.open(folder, os.O_RDONLY)
        os.fsync(handle)  # the journal of this disk commits once an hour by itself: its room would be missing as long
        os.close(handle)


def _full_database(run: Run) -> None:
    """The disk of the database, and with it of the spool and of the queue of late data."""
    assert run.site.volume is not None
    _fill(run.site.volume.path, lambda: run.hold(1.0, 3.0))


def _full_broker(run: Run) -> None:
    _fill(run.site.folder / "broker" / "store", lambda: run.hold(1.0, 3.0))


def _full_archive(run: Run) -> None:
    """A move to the archive finds no room, and is finished by the next one."""
    command = ("archive", "--before", run.river.next_old_month())
    _fill(run.site.archive, lambda: _refused(run.site.run(*command).wait(120)))
    assert run.site.run(*command).wait(120) == 0, run.site.log()[-5000:]


def _refused(code: int) -> None:
    assert code != 0, "a move to a full disk is said to have succeeded"


# -- clocks ------------------------------------------------------------------------------------------------------------


def _clock(least_h: float, most_h: float) -> Callable[[Run], None]:
    def apply(run: Run) -> None:
        run.site.clock.set_wrong(round(run.rng.uniform(least_h, most_h) * HOUR_MS))
        run.river.pollute()
        run.hold(1.5, 3.0)
        run.site.clock.set_wrong(0)

    return apply


def _drift(run: Run) -> None:
    """A minute in three seconds, then set right at once."""
    for step in range(30):
        run.site.clock.set_wrong(2000 * step)
        time.sleep(0.1)
    run.site.clock.set_wrong(0)


def _wrong_clock_and_kill(part: str) -> Callable[[Run], None]:
    def apply(run: Run) -> None:
        run.site.clock.set_wrong(run.rng.choice((-6, 6)) * HOUR_MS)
        run.river.pollute()
        run.hold(0.5, 1.5)
        run.site.kill(part)
        run.site.start(part)
        run.hold(1.5, 3.0)
        run.site.clock.set_wrong(0)

    return apply


# -- lines -------------------------------------------------------------------------------------------------------------


def _devices_line(site: Site) -> TcpProxy:
    return site.devices_line


def _line(of: Callable[[Site], TcpProxy | None], line: Line, hold_s: tuple[float, float]) -> Callable[[Run], None]:
    def apply(run: Run) -> None:
        proxy = of(run.site)
        assert proxy is not None
        proxy.fail(line)
        run.hold(*hold_s)
        proxy.mend(answer=proxy is run.site.database_line)

    return apply


# -- store and receiver ------------------------------------------------------------------------------------------------


def _store_refuses(run: Run) -> None:
    """503 for an hour that passes in two seconds, then 429, a lie, and bodies that are cut on their way and back."""

    def always(one: Behaviour) -> Callable[[object], Behaviour]:
        return lambda _: one

    line = run.site.store_line
    line.script = always(Status(503))
    for _ in range(SIMULATED_STEPS):
        run.site.clock.pass_time(HOUR_MS // SIMULATED_STEPS)
        time.sleep(0.1)
    for one in (Status(429, retry_after="1"), Silent(), CutRequest(), CutAnswer(), HangUp()):
        line.script = always(one)
        run.hold(0.5, 1.0)
    line.script = always(Forward())


def _receiver(answers: Answers) -> Callable[[Run], None]:
    def apply(run: Run) -> None:
        run.site.receiver.fail(answers)
        run.river.pollute()
        run.hold(2.0, 4.0)
        run.site.receiver.mend()

    return apply


def _receiver_away(run: Run) -> None:
    run.site.receiver.close()
    run.river.pollute()
    run.hold(1.0, 3.0)
    run.site.receiver.mend()
    run.site.receiver.open()


# -- data --------------------------------------------------------------------------------------------------------------


def _same_file(run: Run) -> None:
    """A file uploaded twice over HTTP, to all parts in one process, which is killed as soon as it has answered."""
    site, river, port = run.site, run.river, free_port()
    station = "file"
    now_ms = site.clock.now_ms()
    samples = river.samples(station, [now_ms - 60_000 + 10 * i for i in range(FILE_SAMPLES)])
    seq = river.next_file()
    total = 4 * FILE_SAMPLES * (seq + 1)
    river.remember(station, samples, seq)
    message = json.loads(encode(Telemetry(tuple(samples), seq, 1, total, now_ms))) | {"station": station}
    site.kill("ingest")
    serve = site.run("serve", "--port", str(port))
    try:
        eventually("all in one process", lambda: site.answers(port), 60)
        for left in range(2):
            answer = httpx.post(
                f"http://127.0.0.1:{port}/api/v1/readings", json=message, trust_env=False, timeout=60
            ).raise_for_status()
            assert answer.json()["stored"] == (0 if left else 4 * FILE_SAMPLES)
    finally:
        serve.kill()
        serve.wait()
        site.start("ingest")


def _flood(run: Run) -> None:
    """Old data with an alarm inside, while a fresh alarm comes up."""
    run.river.flood()
    run.river.pollute()
    run.hold()


VOLUME, STORE = frozenset({"volume"}), frozenset({"store"})
POSTGRES = frozenset({"postgres"})
TIME = frozenset({"time"})
KILL_INGEST = Kind("kill -9 of the ingest", _kill_ingest)
KILL_BROKER = Kind("kill -9 of the broker", _kill_broker)
KINDS = (
    KILL_INGEST,
    Kind("kill -9 of the API", _kill("api")),
    Kind("kill -9 of the worker", _kill("worker")),
    KILL_BROKER,
    Kind("kill -9 of InfluxDB", _kill_store, STORE),
    Kind("kill -9 of PostgreSQL", _kill_database, POSTGRES),
    Kind("ingest frozen", _freeze("ingest")),
    Kind("API frozen", _freeze("api")),
    Kind("worker frozen", _freeze("worker")),
    Kind("broker frozen", _freeze("broker")),
    Kind("InfluxDB frozen", _freeze("store"), STORE),
    Kind("PostgreSQL frozen", _freeze("database"), POSTGRES),
    Kind("InfluxDB answers 503 for an hour, then 429, then lies, then cuts bodies", _store_refuses, STORE),
    Kind("disk of database and spool full", _full_database, VOLUME),
    Kind("disk of the broker full", _full_broker, VOLUME),
    Kind("disk of the archive full", _full_archive, VOLUME),
    Kind("power loss of database and processes", _power_loss, VOLUME),
    Kind("clock hours ahead", _clock(1, 8)),
    Kind("clock hours behind", _clock(-8, -1)),
    Kind("clock drifts by a minute", _drift),
    Kind("clock 6 h off, kill -9 of the ingest", _wrong_clock_and_kill("ingest")),
    Kind("clock 6 h off, kill -9 of the API", _wrong_clock_and_kill("api")),
    Kind("clock 6 h off, kill -9 of the worker", _wrong_clock_and_kill("worker")),
    *(
        Kind(f"{name}: {how}", _line(of, line, hold_s), needs | (TIME if hold_s is LONG_S else frozenset()))
        for name, of, needs in (
            ("devices to broker", _devices_line, frozenset[str]()),
            ("broker to ingest", lambda site: site.broker_line, frozenset[str]()),
            ("processes to PostgreSQL", lambda site: site.database_line, POSTGRES),
        )
        for how, line, hold_s in (
            ("cut", Line.CUT, SHORT_S),
            ("cut for half a minute", Line.CUT, LONG_S),
            ("half-open", Line.HALF_OPEN, SHORT_S),
            ("one-way", Line.ONE_WAY, SHORT_S),
            ("slow", Line.SLOW, SHORT_S),
        )
        if hold_s is SHORT_S or of is not _devices_line  # devices wait as long as their maker chose
    ),
    Kind("same file uploaded twice", _same_file),
    Kind("second ingest on the database", _second_ingest),
    Kind("second client with the ingest's client id", _same_client_id),
    Kind("backlog at the broker while the ingest is dead", _backlog),
    Kind("flood of late data with an alarm inside", _flood),
    Kind("receiver answers 200 twice", _receiver(Answers.TWICE)),
    Kind("receiver answers 410", _receiver(Answers.GONE)),
    Kind("receiver answers slowly", _receiver(Answers.SLOWLY)),
    Kind("receiver never answers", _receiver(Answers.NEVER)),
    Kind("receiver away", _receiver_away),
)
