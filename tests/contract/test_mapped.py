"""A foreign payload through the whole ingest: stored, or kept with its bytes and replayed once the cause is mended."""

import json
from pathlib import Path

import pytest

from infra.database import Database
from infra.errors import ConfigurationError
from infra.texts import at, say
from ingest import ledger, quarantine
from ingest.pipeline import Site
from ingest.rules.model import Rules
from ingest.storage import registry as registry_store
from ingest.storage.port import series
from ingest.storage.sql import SqlReadings
from riverchief import files
from sensors.parameters import catalogue
from sensors.reading import Message
from sensors.stations import Registry, Station
from sensors.wire import mapping
from sensors.wire.mapping import SOURCE, Mappings
from tests.databases import with_tables

KNOWN = catalogue()
NOW = 1_778_581_900_000
SHIWAN = Station("dph-shiwan-1", "石湾", "Shiwan", 113.05, 23.0)
PRESETS = files.presets()
SHIPPED = Path("config/mappings.toml").read_text(encoding="utf-8")
FLAT = {"DateTime": "2026-05-12 18:20:00", "PH": 7.31, "DO": "n/a", "NH3N": 0.42}


class River:
    """A database that keeps its readings while the ingest is started with other mappings."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(f"sqlite:///{folder / 'r.db'}")
        with_tables(self.database)
        self.store = SqlReadings(self.database, KNOWN)
        self.register(SHIWAN)

    def register(self, station: Station) -> None:
        with self.database.write() as connection:
            registry_store.save(connection, Registry((station,), catalogue=KNOWN))

    def site(self, mappings: Mappings) -> Site:
        return Site(self.database, self.store, Rules(), KNOWN, mappings=mappings)

    def held(self) -> list[quarantine.QuarantineEntry]:
        with self.database.read() as connection:
            return quarantine.listing(connection)

    def values(self, parameter: str) -> list[float]:
        return list(series(self.store, SHIWAN.key, parameter, 0, 2**42, 10).value)

    def closed(self) -> bool:
        with self.database.read() as connection:
            return all(account.closed for account in ledger.accounts(connection))


@pytest.fixture
def river(tmp_path: Path) -> River:
    return River(tmp_path)


def sent(topic: str = "loggers/RTU-0417/data", **changes: object) -> Message:
    return Message("", json.dumps(FLAT | changes).encode(), NOW, SOURCE, topic)


def test_what_can_be_used_is_stored_and_one_bad_value_is_kept_with_the_bytes_of_the_sender(river: River) -> None:
    one = sent()
    river.site(mapping.read(SHIPPED, KNOWN, PRESETS)).process([one], NOW)
    assert (river.values("ph"), river.values("nh3n"), river.values("do")) == ([7.31], [0.42], [])
    (held,) = river.held()
    assert (held.reason, held.station, held.payload) == ("not_a_number", SHIWAN.key, one.payload)
    assert river.closed()


def test_a_mended_mapping_and_a_replay_store_what_an_unreadable_time_kept_back(river: River) -> None:
    one = sent(DateTime="12/05/2026 18:20", DO=6)
    river.site(mapping.read(SHIPPED, KNOWN, PRESETS)).process([one], NOW)
    (held,) = river.held()
    assert held.reason == "bad_time"
    mended = SHIPPED.replace("%Y-%m-%d %H:%M:%S", "%d/%m/%Y %H:%M")
    receipt = river.site(mapping.read(mended, KNOWN, PRESETS)).process([held.message()], NOW).receipt(0)
    assert (receipt.stored, receipt.rejected) == (3, ())
    assert river.held() == []
    assert river.closed()


def test_a_logger_that_is_named_later_is_replayed_into_its_station(river: River) -> None:
    site = river.site(mapping.read(SHIPPED, KNOWN, PRESETS))
    site.process([sent("loggers/RTU-9/data", DO=6)], NOW)
    (held,) = river.held()
    assert (held.reason, held.account) == ("unknown_station", ledger.UNREGISTERED)
    named = SHIPPED.replace("RTU-0417 =", f'RTU-9 = "{SHIWAN.key}"\nRTU-0417 =')
    assert river.site(mapping.read(named, KNOWN, PRESETS)).process([held.message()], NOW).receipt(0).stored == 3


def test_a_station_that_is_registered_later_is_found_by_the_replay(river: River) -> None:
    site = river.site(mapping.read(SHIPPED.replace(SHIWAN.key, "later"), KNOWN, PRESETS))
    site.process([sent(DO=6)], NOW)
    (held,) = river.held()
    assert held.reason == "unknown_station"
    river.register(Station("later", "后来", "Later", 113.05, 23.0))
    assert site.process([held.message()], NOW).receipt(0).stored == 3


def test_a_foreign_topic_that_ends_like_one_of_ours_is_replayed_as_what_it_was(river: River) -> None:
    text = '[[mapping]]\nname = "a"\ntopic = "+/status"\nstation = "sn"\nvalues = { ph = "ph" }'
    mappings = mapping.read(text, KNOWN)
    payload = json.dumps({"sn": "later", "ph": 7}).encode()
    river.site(mappings).process([Message("", payload, NOW, SOURCE, "x/status")], NOW)
    (held,) = river.held()
    assert held.message().kind == "telemetry"


def test_a_site_that_lost_its_mappings_keeps_what_still_arrives(river: River) -> None:
    river.site(mapping.NONE).process([sent()], NOW)
    (held,) = river.held()
    assert (held.reason, held.payload) == ("bad_topic", sent().payload)


def test_a_bad_file_stops_the_start_naming_file_entry_and_reason(tmp_path: Path) -> None:
    file = tmp_path / "mappings.toml"
    file.write_text(SHIPPED.replace("ph = ", "pH = "), encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        files.read_mappings(file, KNOWN)
    assert caught.value.text == at(file, at("mapping logger", say("mapping.no_parameter", key="pH")))
