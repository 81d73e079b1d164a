"""One device sends a thousand messages a second beside fifty that send as registered, through a real broker."""

import threading
import time
from collections.abc import Callable

import httpx
import pytest

from governance.incidents import queries as incident_queries
from infra.clock import now_ms
from ingest import ledger, quarantine, quarantine_limits
from ingest.quarantine_limits import ENTRY_BYTES
from ingest.rules.device_rate import FREE_MESSAGES_PER_MINUTE
from ingest.storage.sql import SqlReadings
from sensors.parameters import catalogue
from sensors.stations import Station
from sensors.wire.telemetry import Sample
from simulator.devices.fleet import Connection, Fleet
from tests.faults.test_kill import subscribed
from tests.long import LONG
from tests.rig import Running, eventually

pytestmark = pytest.mark.broker

HONEST = [f"s{i}" for i in range(50)]
BROKEN = "broken"
PER_S = 1000
ROUNDS = 60 if LONG else 3


class Flood:
    """A device that sends a thousand messages a second, with readings of a ms each."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet, self._at_ms = fleet, now_ms() - 600_000
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self.sent = 0

    def __enter__(self) -> "Flood":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _send(self) -> None:
        began = time.monotonic()
        while not self._ended.is_set():
            if self.sent < (time.monotonic() - began) * PER_S:
                self._fleet[BROKEN].publish(
                    [Sample(self._at_ms + self.sent, {"ph": 7.0 + self.sent % 7 / 100})], now_ms()
                )
                self.sent += 1
            else:
                time.sleep(0.002)


def stored(site: Running) -> int:
    counts = SqlReadings(site.database, catalogue()).count()
    return sum(counts.get(name, 0) for name in HONEST)


def booked(site: Running, station: str, what: str) -> int:
    with site.database.read() as connection:
        return sum(getattr(one, what) for one in ledger.accounts(connection, station=station))


def discarded(site: Running) -> int:
    with site.database.read() as connection:
        return sum(one.readings for one in quarantine_limits.discarded_since(connection) if one.account == BROKEN)


@pytest.mark.timeout(900 if LONG else 200)
def test_one_device_that_floods_is_named_and_nobody_else_waits_for_it(running: Callable[..., Running]) -> None:
    site = running("mosquitto")
    site.register(*(Station(name, name, name, 113.1, 23.0, interval_s=60) for name in (BROKEN, *HONEST)))
    broker, address = site.broker, f"http://127.0.0.1:{site.port}"
    device = Connection(broker.host, broker.port, broker.device.user, broker.device.password)
    site.more = "[ingest]\nquarantine_device_mb = 1\n"
    site.start("serve")
    with Fleet(HONEST, device, boot=1) as fleet, Fleet([BROKEN], device, boot=1) as other:
        eventually("the ingest subscribes", lambda: subscribed(site))
        start, before = now_ms() - ROUNDS * 60_000, stored(site)
        with Flood(other) as flood:
            eventually("the flood is beyond the rate", lambda: site.booked("quarantined") > 0, every_s=0.25)
            for number in range(1, ROUNDS + 1):
                sent_before = flood.sent
                for name in HONEST:
                    fleet[name].publish([Sample(start + number * 60_000, {"ph": 7.1})], now_ms())
                eventually("a round is stored", lambda n=number: stored(site) - before == n * len(HONEST), every_s=0.25)
                assert flood.sent > sent_before, "while the flood goes on"
            eventually("the flood is beyond the limit of the quarantine", lambda: discarded(site) > 0, every_s=0.25)
            parts = {one["name"]: one["detail"] for one in httpx.get(f"{address}/readyz", timeout=60).json()["parts"]}
            assert BROKEN in parts["device_rates"]
            assert BROKEN in parts["quarantine"]
            metrics = httpx.get(f"{address}/metrics", timeout=60).text
            assert "riverchief_flooding_devices 1.0" in metrics
            assert "riverchief_discarding_devices 1.0" in metrics
        assert fleet.flush(60)
        assert other.flush(60)
        eventually(
            "all of the flood is accounted for", lambda: booked(site, BROKEN, "readings") == flood.sent, every_s=0.25
        )
        with site.database.read() as connection:
            incidents = incident_queries.list_incidents(connection, limit=100)
        assert [(one.station, one.cause) for one in incidents] == [(BROKEN, f"device:{BROKEN}")]
        assert booked(site, BROKEN, "quarantined") >= max(1, flood.sent - 3 * FREE_MESSAGES_PER_MINUTE)
        with site.database.read() as connection:
            held = quarantine.listing(connection, station=BROKEN, limit=1_000_000)
        assert sum(ENTRY_BYTES + len(one.payload) for one in held) <= 2**20
        assert booked(site, BROKEN, "quarantined") == sum(len(one.refused or ()) for one in held) + discarded(site)
        assert sum(booked(site, name, "quarantined") for name in HONEST) == 0
        with site.database.read() as connection:
            assert all(one.complete for one in ledger.accounts(connection) if one.station != ledger.UNREGISTERED)
    assert site.stop() == 0, site.log()
