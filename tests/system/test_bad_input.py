"""Bad input over a real broker: each kind gets its documented outcome, and the next good message goes through."""

import json
import sys
from collections.abc import Callable

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from infra.clock import now_ms
from infra.times import DAY_MS, rfc3339
from ingest import ledger, quarantine
from ingest.storage.port import series
from ingest.storage.sql import SqlReadings
from sensors.parameters import catalogue
from sensors.reading import Flag
from sensors.stations import Station
from sensors.wire.telemetry import Sample, Telemetry, encode, topic
from tests import preloaded
from tests.rig import Running, eventually

pytestmark = pytest.mark.broker


class Raw:
    """A device that publishes whatever it is given."""

    def __init__(self, site: Running, name: str = "raw") -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name)
        self._client.username_pw_set(site.broker.device.user, site.broker.device.password)
        self._client.connect(site.broker.host, site.broker.port)
        self._client.loop_start()

    def publish(self, station: str, payload: bytes) -> None:
        self._client.publish(topic(station), payload, qos=1).wait_for_publish(10)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def site(running: Callable[[str], Running]) -> Running:
    one = running("mosquitto")
    one.register(Station("s1", "站一", "station one", 113.1, 23.0, interval_s=60))
    one.start()
    raw = Raw(one, "first")
    eventually("the ingest subscribes", lambda: (raw.publish("s1", b'{"readings": []}'), one.booked("messages"))[1])
    raw.close()
    return one


def good(at_ms: int, **values: float) -> bytes:
    return encode(Telemetry((Sample(at_ms, values or {"ph": 7.0}),)))


def body(at: str, values: str) -> bytes:
    return f'{{"readings": [{{"at": "{at}", "values": {values}}}]}}'.encode()


def reasons(site: Running) -> dict[str, int]:
    with site.database.read() as connection:
        return quarantine.counts(connection)


def test_every_kind_of_bad_message_is_kept_with_its_reason_and_the_next_good_one_goes_through(site: Running) -> None:
    now = rfc3339(now_ms())
    raw = Raw(site)
    bad: list[tuple[str, bytes, str]] = [
        ("s1", b"\x00\xff not json", "not_json"),
        ("s1", b'{"readings": "none"}', "wrong_shape"),
        ("s1", body(now, '{"ph": "seven"}'), "not_a_number"),
        ("s1", body(now, '{"ph": NaN}'), "not_a_number"),
        ("s1", body(now, '{"ph": Infinity}'), "not_a_number"),
        ("s1", body("2026-05-12T10:30:00", '{"ph": 7}'), "bad_time"),
        ("s1", body(rfc3339(now_ms() + DAY_MS), '{"ph": 7}'), "time_in_future"),
        ("s1", body("1999-12-31T23:59:59Z", '{"ph": 7}'), "time_before_2000"),
        ("s1", body(now, '{"unobtainium": 7}'), "unknown_parameter"),
        ("nobody", good(now_ms()), "unknown_station"),
        ("Bad Station", good(now_ms()), "bad_topic"),
        ("站点", good(now_ms()), "bad_topic"),
        ("s1", json.dumps({"readings": [{"at": now, "values": {"ph": 7}}] * 1001}).encode(), "too_many_samples"),
        ("s1", b" " * (260 * 1024), "too_large"),
    ]
    expected: dict[str, int] = {}
    start_ms = now_ms() - 1000
    for number, (station, payload, reason) in enumerate(bad):
        raw.publish(station, payload)
        raw.publish("s1", good(start_ms + number, ph=6.5 + number / 100))
        expected[reason] = expected.get(reason, 0) + 1
    eventually("the good ones are stored", lambda: site.booked() == len(bad))
    assert reasons(site) == expected
    with site.database.read() as connection:
        accounts = ledger.accounts(connection)
    assert all(a.readings == a.stored + a.duplicate + a.quarantined for a in accounts)
    raw.close()


def test_a_hundred_megabytes_are_refused_and_the_others_go_on(site: Running) -> None:
    raw = Raw(site)
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="flood")
    client.username_pw_set(site.broker.device.user, site.broker.device.password)
    lost: list[object] = []
    client.on_disconnect = lambda *_: lost.append(True)
    client.connect(site.broker.host, site.broker.port)
    client.loop_start()
    client.publish(topic("s1"), b"x" * 100_000_000, qos=1)
    eventually("the broker closes the connection", lambda: lost)
    client.loop_stop()
    raw.publish("s1", good(now_ms()))
    eventually("the good one is stored", lambda: site.booked() == 1)
    assert reasons(site) == {}
    raw.close()


def test_a_fault_code_is_stored_as_bad_and_is_nobodys_latest(site: Running) -> None:
    raw = Raw(site)
    at = now_ms() - 60_000
    raw.publish("s1", good(at, do=5.0))
    raw.publish("s1", good(at + 1000, do=-9999.0))
    eventually("both are stored", lambda: site.booked() == 2)
    store = SqlReadings(site.database, catalogue())
    latest = store.latest(["s1"])[0]
    assert (latest.value, latest.at_ms, latest.newest_at_ms) == (5.0, at, at + 1000)
    found = series(store, "s1", "do", at - 1, at + 2000, 10)
    assert found.value.tolist() == [5.0, -9999.0], "raw stays raw"
    assert (found.packed & 15).tolist() == [Flag.GOOD, Flag.BAD]
    raw.close()


def test_the_same_message_twice_is_one_reading(site: Running) -> None:
    raw = Raw(site)
    payload = good(now_ms(), ph=7.1, do=5.0)
    raw.publish("s1", payload)
    raw.publish("s1", payload)
    eventually("both are counted", lambda: site.booked("readings") == 4)
    assert (site.booked("stored"), site.booked("duplicate")) == (2, 2)
    assert SqlReadings(site.database, catalogue()).count() == {"s1": 2}
    raw.close()


def test_what_an_unknown_station_sent_is_replayed_once_it_is_registered(site: Running) -> None:
    raw = Raw(site)
    raw.publish("later", good(now_ms(), ph=7.1, do=5.0))
    eventually("it is held", lambda: reasons(site) == {"unknown_station": 1})
    assert site.stop() == 0, site.log()
    site.register(Station("later", "后来", "later", 113.1, 23.0))
    command = [sys.executable, "-m", "riverchief", "quarantine", "replay", "--settings", str(site.settings), "--json"]
    for stored in (2, None):  # the second time there is nothing left to replay
        done = preloaded.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        assert [entry["stored"] for entry in found] == ([] if stored is None else [stored])
    assert reasons(site) == {}
    assert SqlReadings(site.database, catalogue()).count() == {"later": 2}
    with site.database.read() as connection:
        accounts = {a.station: a for a in ledger.accounts(connection)}
    assert accounts["later"].stored == 2
    assert (accounts["?"].readings, accounts["?"].quarantined) == (0, 0)
    raw.close()
