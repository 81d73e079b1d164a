"""A broker that restarts and an ingest that is asked to end: every published reading is stored once, no incident is
opened twice, nobody is paged twice. Kills at random: `test_random_faults.py`."""

import random
import time
from collections.abc import Callable

import pytest

from governance.incidents import queries as incident_queries
from infra.clock import now_ms
from ingest import ledger
from ingest.storage.sql import SqlReadings
from riverchief.brokers import local
from sensors.parameters import catalogue
from sensors.stations import Station
from sensors.wire.telemetry import Sample
from simulator.devices.fleet import Connection, Fleet
from tests.rig import KINDS, Running, eventually

pytestmark = [pytest.mark.broker, pytest.mark.fault]

ACK_WAIT_S = 10
"""Less than a site's: after a kill the tests wait this long for what NATS had sent to the process before."""
STATIONS = 10
VALUES = {"water_temp": 25.0, "ph": 7.1, "do": 5.0, "nh3n": 0.9}


@pytest.fixture(autouse=True)
def _sent_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "ACK_WAIT_S", ACK_WAIT_S)


def fleet_for(site: Running) -> Fleet:
    names = ["probe", *(f"s{i}" for i in range(STATIONS))]
    site.register(*(Station(name, name, name, 113.1, 23.0, interval_s=60) for name in names))
    connection = Connection(site.broker.host, site.broker.port, site.broker.device.user, site.broker.device.password)
    return Fleet([f"s{i}" for i in range(STATIONS)], connection, boot=1)


def measured(number: int, rng: random.Random) -> dict[str, float]:
    """Ordinary water, but ammonia over the limit from the 30th message on."""
    values = {key: round(base * (1 + rng.gauss(0, 0.005)), 3) for key, base in VALUES.items()}
    return values | ({"nh3n": 6.0} if number >= 30 else {})


def stored(site: Running) -> int:
    return sum(SqlReadings(site.database, catalogue()).count().values())


def books_close(site: Running, fleet: Fleet) -> None:
    """Each reading once in the store and once in the account; one page for each station's pollution."""
    with site.database.read() as connection:
        accounts = ledger.accounts(connection)
        found = incident_queries.list_incidents(connection, limit=1000)
        pages = connection.exec_driver_sql("SELECT count(*) FROM outbox WHERE notify = 'page'").scalar_one()
    assert stored(site) == fleet.readings_sent
    assert sum(a.stored for a in accounts) == fleet.readings_sent
    assert all(a.closed and a.missing == 0 for a in accounts)
    polluted = [i for i in found if i.cause.startswith("water:")]
    assert sorted(i.station for i in polluted) == sorted(f"s{i}" for i in range(STATIONS))
    assert not any(i.retrospective for i in polluted)
    # one page when the incident opens (orange or red first), at most one more when it becomes more urgent
    assert STATIONS <= pages <= 2 * STATIONS


def subscribed(site: Running) -> bool:
    """A message published before the first subscription belongs to nobody: wait for the session to exist."""
    probe = Connection(site.broker.host, site.broker.port, site.broker.device.user, site.broker.device.password)
    with Fleet(["probe"], probe, boot=0) as fleet:
        fleet["probe"].publish([], now_ms())
        fleet.flush(5)
    return site.booked("messages") > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(200)
def test_a_broker_restarted_with_queued_messages_delivers_all_of_them(
    running: Callable[[str], Running], kind: str
) -> None:
    site = running(kind)
    rng = random.Random(7)
    with fleet_for(site) as fleet:
        site.start()
        eventually("the ingest subscribes", lambda: subscribed(site))
        number = 0

        def publish(times: int) -> None:
            nonlocal number
            for _ in range(times):
                for i in range(STATIONS):
                    fleet[f"s{i}"].publish([Sample(now_ms() + number % 2, measured(number, rng))], now_ms())
                number += 1
                time.sleep(0.01)

        publish(20)
        assert fleet.flush(30)
        site.kill()
        publish(20)  # queued at the broker for a session that is away
        assert fleet.flush(30)
        site.broker.stop()
        publish(10)  # kept by the devices
        site.broker.start()
        site.start()
        publish(20)
        assert fleet.flush(60)
        eventually("everything is stored", lambda: site.booked() >= fleet.readings_sent, 60)
        # the ingest lives through a restart under its feet, too, and is not deaf afterwards
        site.broker.stop()
        publish(5)
        site.broker.start()
        publish(5)
        assert fleet.flush(60)
        eventually("everything is stored again", lambda: site.booked() >= fleet.readings_sent, 60)
        assert site.stop() == 0, site.log()
        books_close(site, fleet)


@pytest.mark.parametrize("kind", KINDS)
def test_sigterm_finishes_the_batch_and_leaves_the_rest_with_the_broker(
    running: Callable[[str], Running], kind: str
) -> None:
    site = running(kind)
    rng = random.Random(3)
    with fleet_for(site) as fleet:
        site.start()
        eventually("the ingest subscribes", lambda: subscribed(site))
        for number in range(60):
            for i in range(STATIONS):
                fleet[f"s{i}"].publish([Sample(now_ms() + number % 2, measured(number, rng))], now_ms())
            if number in (20, 40):
                assert site.stop() == 0, site.log()
                before = site.booked()
                assert stored(site) == before
                site.start()
                fleet["s0"].publish([Sample(now_ms() + 2, measured(number, rng))], now_ms())
                eventually("the ingest goes on", lambda before=before: site.booked() > before)
            time.sleep(0.01)
        assert fleet.flush(60)
        eventually("everything is stored", lambda: site.booked() >= fleet.readings_sent)
        assert site.stop() == 0, site.log()
        books_close(site, fleet)
