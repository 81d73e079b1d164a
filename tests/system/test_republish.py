"""What others see below rivers/v1/{station}/observed, on a real broker: good values in canonical units, retained."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
import sqlalchemy as sa
from paho.mqtt.enums import CallbackAPIVersion

from infra.database import Database
from infra.times import rfc3339
from ingest.analysis import live_classes
from ingest.intake import Intake
from ingest.pipeline import Site
from ingest.republish import Republisher
from ingest.rules.model import Rules
from ingest.sources.mqtt import MqttSettings
from ingest.storage import registry as registry_store
from ingest.storage.sql import SqlReadings
from ingest.storage.tables import registry_change
from ingest.storage.tables import station as station_table
from riverchief.brokers.local import Broker
from sensors.parameters import catalogue
from sensors.reading import Message
from sensors.stations import Deployment, Registry, Station
from sensors.wire.telemetry import Sample, Telemetry, encode
from tests.databases import with_tables
from tests.rig import KINDS, eventually

pytestmark = pytest.mark.broker

S1 = Station("s1", "站一", "station one", 113.1, 23.0, interval_s=60)
S2 = Station("s2", "站二", "station two", 113.1, 23.0, interval_s=60)
MINUTE = 60_000


def now_ms() -> int:
    return int(time.time() * 1000)


class Reader:
    """Somebody else on the broker: what is retained now, and everything that came since."""

    def __init__(self, broker: Broker) -> None:
        self.heard: list[tuple[str, Any]] = []
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.username_pw_set(broker.ingest.user, broker.ingest.password)
        self._client.on_message = lambda _c, _u, m: self.heard.append(
            (m.topic.split("/")[2], json.loads(m.payload) if m.payload else None)
        )
        self._client.on_connect = lambda c, *_: c.subscribe("rivers/v1/+/observed", 1)
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()

    def last(self, station: str) -> Any:
        """The newest message of a station; False while there is none."""
        return next((said for key, said in reversed(self.heard) if key == station), False)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Rig:
    """An ingest that is fed by hand, a broker, and the republisher between them."""

    def __init__(self, folder: Path, kind: str, deployments: tuple[Deployment, ...] = ()) -> None:
        self.folder = folder
        self.broker = Broker(folder / "broker", kind=kind)
        self.broker.start()
        self.database = Database(f"sqlite:///{folder / 'riverchief.db'}")
        with_tables(self.database)
        self.known = catalogue()
        with self.database.write() as connection:
            registry_store.save(connection, Registry((S1, S2), deployments, catalogue=self.known))
        self.store = SqlReadings(self.database, self.known)
        site = Site(self.database, self.store, Rules((), (), ()), self.known)
        self.intake = Intake(site, clock_ms=now_ms)
        self.intake.start()
        self.readers: list[Reader] = []
        self.republishers: list[Republisher] = []

    def republish(self, clock_ms: Callable[[], int] = now_ms) -> Republisher:
        login = self.broker.ingest
        settings = MqttSettings(port=self.broker.port, user=login.user, password=login.password)
        one = Republisher(
            self.database, self.store, self.known, settings, clock_ms=clock_ms, states_s=0.3, classes_s=0.3
        )
        self.intake.watch(one.on_batch)
        one.start()
        self.republishers.append(one)
        return one

    def send(self, station: str, *samples: tuple[int, dict[str, float]]) -> None:
        body = encode(Telemetry(tuple(Sample(at, values) for at, values in samples)))
        self.intake.submit(Message(station, body, now_ms())).result(30)

    def reader(self) -> Reader:
        self.readers.append(Reader(self.broker))
        return self.readers[-1]

    def close(self) -> None:
        for one in self.republishers:
            one.stop()
        for reader in self.readers:
            reader.close()
        self.intake.stop()
        self.broker.stop()
        self.database.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(kind: str = "mosquitto", **more: Any) -> Rig:
        made.append(Rig(tmp_path / f"rig-{len(made)}", kind, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("kind", KINDS)
def test_who_subscribes_later_sees_the_newest_good_value_of_each_parameter(rig: Callable[..., Rig], kind: str) -> None:
    site = rig(kind)
    republisher = site.republish()
    at = now_ms() // MINUTE * MINUTE - MINUTE
    site.send("s1", (at, {"do": 6.5, "ph": 7.1}))
    site.send("s1", (at + 30_000, {"do": 6.6}))
    eventually("it is published", lambda: republisher.published and not republisher.waiting)
    said = eventually("it is retained", lambda: (r := site.reader()) and eventually("s1", lambda: r.last("s1")))
    eventually("the newest value", lambda: site.reader() and site.readers[0].last("s1")["values"]["do"] == 6.6)
    said = site.readers[0].last("s1")
    assert said["version"] == 1
    assert said["station"] == "s1"
    assert said["state"] in ("ok", "late")  # late where this test takes long
    assert said["values"] == {"do": 6.6, "ph": 7.1}
    assert said["units"] == {"do": "mg/L", "ph": "1"}
    assert set(said["flags"].values()) <= {1, 2}
    assert said["times"] == {"do": rfc3339(at + 30_000), "ph": rfc3339(at)}
    assert said["at"] == said["newest_at"] == rfc3339(at + 30_000)


def test_bad_readings_never_appear_but_show_that_the_station_speaks(rig: Callable[..., Rig]) -> None:
    site = rig()
    site.republish()
    reader = site.reader()
    at = now_ms() // 1000 * 1000 - 5 * MINUTE
    site.send("s1", (at, {"ph": 7.1, "do": 99.0}))
    eventually("the good value", lambda: reader.last("s1") and reader.last("s1")["values"] == {"ph": 7.1})
    site.send("s1", (at + MINUTE, {"ph": 99.0}))
    said = eventually("the bad one is noticed", lambda: _if(reader.last("s1"), newest_at=rfc3339(at + MINUTE)))
    assert (said["values"], said["at"]) == ({"ph": 7.1}, rfc3339(at))
    assert 99.0 not in [value for _, one in reader.heard if one for value in one["values"].values()]


def _if(said: Any, **members: Any) -> Any:
    return said if said and all(said[name] == value for name, value in members.items()) else None


def test_values_are_in_canonical_units(rig: Callable[..., Rig]) -> None:
    site = rig(deployments=(Deployment("s1", "nh3n", 0, "µg/L"),))
    site.republish()
    reader = site.reader()
    site.send("s1", (now_ms() - MINUTE, {"nh3n": 870.0}))
    said = eventually("s1", lambda: (s := reader.last("s1")) and s["values"] and s)
    assert said["values"]["nh3n"] == pytest.approx(0.87)
    assert said["units"]["nh3n"] == "mg/L"


def test_late_data_do_not_overwrite_newer_ones(rig: Callable[..., Rig]) -> None:
    site = rig()
    republisher = site.republish()
    reader = site.reader()
    at = now_ms() // 1000 * 1000
    site.send("s1", (at, {"do": 6.6}))
    eventually("the newest", lambda: _if(reader.last("s1"), values={"do": 6.6}))
    site.send("s1", (at - 60 * MINUTE, {"do": 3.3, "ph": 7.0}))
    said = eventually(
        "the late one fills what was missing",
        lambda: _if(reader.last("s1"), at=rfc3339(at)) and "ph" in reader.last("s1")["values"] and reader.last("s1"),
    )
    assert said["values"] == {"do": 6.6, "ph": 7.0}
    assert said["times"]["ph"] == rfc3339(at - 60 * MINUTE)
    eventually("all is said", lambda: not republisher.waiting)
    assert all(not said or said["values"].get("do") != 3.3 for _, said in reader.heard)


def test_a_storm_of_readings_becomes_few_messages_and_ends_with_the_newest(rig: Callable[..., Rig]) -> None:
    site = rig()
    republisher = site.republish()
    reader = site.reader()
    eventually("connected", lambda: reader.last("s1"))
    before = republisher.published
    at = now_ms() // MINUTE * MINUTE - 3000 * 1000
    futures = [
        site.intake.submit(Message("s1", encode(Telemetry((Sample(at + i * 1000, {"do": 6 + i / 3000}),))), now_ms()))
        for i in range(3000)
    ]
    for future in futures:
        future.result(60)
    eventually("the newest is there", lambda: _if(reader.last("s1"), at=rfc3339(at + 2999 * 1000)))
    assert republisher.published - before < 300


def test_a_station_goes_late_and_offline_by_the_clock_alone(rig: Callable[..., Rig]) -> None:
    site = rig()
    ahead = [0]
    site.republish(lambda: now_ms() + ahead[0])
    reader = site.reader()
    site.send("s1", (now_ms() - 1000, {"do": 6.6}))
    eventually("ok", lambda: _if(reader.last("s1"), state="ok"))
    eventually("never heard", lambda: _if(reader.last("s2"), state="never"))
    ahead[0] = 2 * MINUTE
    eventually("late", lambda: _if(reader.last("s1"), state="late"))
    ahead[0] = 4 * MINUTE
    said = eventually("offline", lambda: _if(reader.last("s1"), state="offline"))
    assert said["values"] == {"do": 6.6}, "its last value stays, with its time"


def test_the_live_class_is_told_and_taken_back_when_nobody_judges_any_more(rig: Callable[..., Rig]) -> None:
    site = rig()
    ahead = [0]
    site.republish(lambda: now_ms() + ahead[0])
    reader = site.reader()
    site.send("s1", (now_ms() - 1000, {"ph": 7.1, "do": 4.0, "codmn": 2.0, "nh3n": 0.1, "tp": 0.05}))
    said = eventually("no class yet", lambda: (s := reader.last("s1")) and s["values"] and s)
    assert (said["class"], said["deciding"]) == (None, [])
    live_classes.update_classes(site.database, site.store, site.known, now_ms())
    said = eventually("judged", lambda: (s := reader.last("s1")) and s["class"] and s)
    assert (said["class"], said["deciding"]) == ("IV", ["do"])
    ahead[0] = 15 * MINUTE
    eventually("taken back", lambda: reader.last("s1")["class"] is None)


def test_a_broker_that_lost_everything_has_it_again_after_it_is_back(rig: Callable[..., Rig]) -> None:
    site = rig()
    republisher = site.republish()
    site.send("s1", (now_ms() - 1000, {"do": 6.6}))
    reader = site.reader()
    eventually("it is there", lambda: _if(reader.last("s1"), values={"do": 6.6}))
    site.broker.kill()
    eventually("noticed", lambda: republisher.connected_since_ms is None)
    site.send("s1", (now_ms() - 500, {"do": 6.7}))  # is answered: the ingest waits for nobody
    shutil.rmtree(site.folder / "broker" / "store")
    (site.folder / "broker" / "store").mkdir()
    site.broker.start()
    fresh = site.reader()
    eventually("all is there again, the newest too", lambda: _if(fresh.last("s1"), values={"do": 6.7}))
    eventually("the quiet one as well", lambda: fresh.last("s2"))


def test_after_a_restart_everything_comes_from_the_store(rig: Callable[..., Rig]) -> None:
    site = rig()
    site.send("s1", (now_ms() - 1000, {"do": 6.6}))
    site.republish()
    reader = site.reader()
    eventually("published though nothing new arrived", lambda: _if(reader.last("s1"), values={"do": 6.6}))


def test_what_is_retained_of_a_station_that_is_gone_is_cleared(rig: Callable[..., Rig]) -> None:
    site = rig()
    first = site.republish()
    reader = site.reader()
    eventually("both stations", lambda: reader.last("s1") and reader.last("s2"))
    with site.database.write() as connection:
        connection.execute(sa.delete(station_table).where(station_table.c.key == "s2"))
        connection.execute(sa.insert(registry_change).values(what="station", key="s2", body={}))
    eventually("removed while we run", lambda: reader.last("s2") is None)
    first.stop()
    with site.database.write() as connection:
        connection.execute(sa.delete(station_table).where(station_table.c.key == "s1"))
        connection.execute(sa.insert(registry_change).values(what="station", key="s1", body={}))
    site.republish()
    eventually("removed while we were away", lambda: reader.last("s1") is None)


def test_a_broker_that_drops_what_we_publish_is_named(rig: Callable[..., Rig]) -> None:
    site = rig()
    rules = site.folder / "broker" / "acl"
    rules.write_text(rules.read_text().replace("topic write rivers/v1/+/observed\n", ""))
    site.broker.stop()
    site.broker.start()
    republisher = site.republish()
    eventually("it is named", lambda: "user ingest needs to write and read rivers/v1/+/obs" in republisher.last_error)
    rules.write_text(rules.read_text() + f"\nuser {site.broker.ingest.user}\ntopic write rivers/v1/+/observed\n")
    site.broker.stop()
    site.broker.start()
    eventually("mended, it works without a restart", lambda: site.reader().last("s1") and not republisher.last_error)


def test_a_broker_that_is_away_holds_nobody_up_and_no_station_waits_twice(rig: Callable[..., Rig]) -> None:
    site = rig()
    site.broker.stop()
    republisher = site.republish()
    for i in range(50):
        site.send("s1", (now_ms() - 60_000 + i, {"do": 6.6}))
    assert republisher.waiting == 1
    assert not any(thread.name == "republisher" and not thread.is_alive() for thread in threading.enumerate())
