"""A site's database moved to PostgreSQL and back: every row, every number, all or nothing."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from governance.incidents import store as incident_store
from governance.incidents.finding import Colour, FindingKind
from governance.tables import outbox
from infra.database import Database, metadata
from infra.errors import ConfigurationError
from infra.texts import Text
from infra.times import rfc3339
from ingest.pipeline import Site
from ingest.rules import rule_file
from ingest.storage import registry
from ingest.storage.sql import SqlReadings
from ingest.storage.tables import device_event, reach, registry_change
from riverchief.backup import migrate_database
from riverchief.backup.migrate_database import CopyMismatch, migrate
from riverchief.cli.app import app
from riverchief.single_writer import exclusive_ingest
from sensors.parameters import catalogue
from sensors.reading import Message
from sensors.stations import Deployment, Reach, Registry, Station, Water
from tests.cases import a_finding
from tests.databases import with_tables
from tests.postgres import server
from tests.says import says

pytestmark = pytest.mark.postgres

CATALOGUE = catalogue()
T0 = 1_790_000_000_000
MINUTE = 60_000
RULES = """
[[threshold]]
id = "nh3n-high"
parameter = "nh3n"
side = "above"
limit = 2.0
samples = 3
colour = "orange"
"""


def site(url: str) -> Database:
    """A site with something in every corner: doubled messages, a crossing, quarantine, events, dead letters."""
    database = Database(url)
    with_tables(database)
    stations = tuple(Station(f"s{i}", f"站{i}", "with 'quotes'", 113.1 + i / 7, 23.0, note="a\nb") for i in range(5))
    line = ((113.1, 23.05), (113.123456789012, 23.0))
    with database.write() as connection:
        deployments = (Deployment("s0", "nh3n", T0 - 1, "µg/L"),)
        reaches = (Reach("r", "河", "river", Water.CREEK, line),)
        registry.save(connection, Registry(stations, deployments, reaches, CATALOGUE))
    working = Site(database, SqlReadings(database, CATALOGUE), rule_file.read(RULES, CATALOGUE), CATALOGUE)
    for k in range(40):
        at = T0 + k * 5 * MINUTE
        values = {"ph": 7.1 + k / 3, "do": 1e-300 * k, "nh3n": 2500.0 if 10 <= k < 20 else 900.0 + k}
        body = {"seq": k + k // 30, "boot": 1, "readings": [{"at": rfc3339(at), "values": values}]}
        good = Message("s0", json.dumps(body).encode(), at)
        broken = Message("s1", b"\xff\x00{" + bytes([k]), at)
        odd = Message("s2", json.dumps(body | {"readings": [{"at": rfc3339(at), "values": {"gold": 1}}]}).encode(), at)
        working.process([good, good, broken, odd], at)
    working.handle_device_messages([Message("s3", b'{"online": true}', T0, kind="status")], T0)
    found = a_finding(
        T0,
        rule="r",
        kind=FindingKind.NO_DATA,
        cause="silence:s4",
        station="s4",
        parameter=None,
        value=None,
        limit=None,
        colour=Colour.BLUE,
        retrospective=True,
        text=Text("无数据", "no data"),
    )
    with database.write() as connection:
        incident_store.record_findings(connection, [found], T0, source="/test")
        connection.execute(sa.update(outbox).values(last_error="503", status="refused").where(outbox.c.id == 1))
        connection.execute(sa.insert(device_event).values(station="s3", received_at_ms=T0, body="door"))
        newest = connection.execute(sa.select(sa.func.max(outbox.c.id))).scalar_one()
        connection.execute(sa.delete(outbox).where(outbox.c.id == newest))
    return database


@pytest.fixture(scope="module")
def small_site(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('small') / 'riverchief.db'}"
    site(url).close()
    return url


def everything(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables, in an order of their own."""
    database = Database(url)
    store = SqlReadings(database, CATALOGUE)
    with database.read() as connection:
        found = {
            table.name: sorted((tuple(row) for row in connection.execute(sa.select(table))), key=repr)
            for table in metadata.sorted_tables
        }
    for station in [f"s{i}" for i in range(5)]:
        window = store.window(station, 0, 2**53)
        columns = (window.parameter, window.at, window.value, window.packed)
        found[f"readings of {station}"] = list(zip(*(column.tolist() for column in columns), strict=True))
    database.close()
    return found


def silent(share: float) -> None:
    assert 0 <= share <= 1


def next_number(url: str) -> int:
    database = Database(url)
    with database.write() as connection:
        row = {"event_id": "new", "incident_id": 1, "type": "t", "body": "{}", "notify": "page", "status": "pending"}
        times = dict.fromkeys(("created_at_ms", "pending_since_ms", "next_attempt_at_ms", "attempts"), 0)
        number = connection.execute(sa.insert(outbox).values(row | times).returning(outbox.c.id)).scalar_one()
        connection.execute(sa.insert(registry_change).values(what="station", key="k", body={}))
        connection.rollback()
    database.close()
    return int(number)


def test_a_site_moved_to_postgresql_and_back_has_every_row_and_goes_on_counting(small_site: str, tmp_path: Path):
    before = everything(small_site)
    assert all(
        before[name] for name in ("incident", "outbox", "quarantine", "ledger", "sequence_gap", "device_event", "reach")
    )
    there, back = server().database(), f"sqlite:///{tmp_path / 'back.db'}"
    moved = migrate(small_site, there, CATALOGUE, silent)
    assert everything(there) == before
    assert moved.rows["incident"] == len(before["incident"])
    assert moved.readings == sum(len(rows) for name, rows in before.items() if name.startswith("readings of"))
    assert moved.readings == 120
    migrate(there, back, CATALOGUE, silent)
    assert everything(back) == before
    newest = max(row[0] for row in before["outbox"])
    assert [next_number(url) for url in (small_site, there, back)] == [newest + 2] * 3, "one was given and deleted"


def test_a_database_with_rows_is_no_target(small_site: str):
    there = server().database()
    migrate(small_site, there, CATALOGUE, silent)
    before = everything(there)
    with pytest.raises(ConfigurationError, match=says("migrate.not_empty")):
        migrate(small_site, there, CATALOGUE, silent)
    assert everything(there) == before
    with pytest.raises(ConfigurationError, match=says("migrate.itself")):
        migrate(there, there, CATALOGUE, silent)


def test_a_source_that_is_not_there_is_named_and_not_made(tmp_path: Path):
    with pytest.raises(ConfigurationError, match=says("migrate.none", database=tmp_path / "missing.db")):
        migrate(f"sqlite:///{tmp_path / 'missing.db'}", server().database(), CATALOGUE, silent)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_copied_while_an_ingest_works_on_either_side(small_site: str):
    there = server().database()
    for busy in (small_site, there):
        with (
            exclusive_ingest(busy),
            pytest.raises(ConfigurationError, match=says("ingest.taken") + "|" + says("ingest.taken_stop")),
        ):
            migrate(small_site, there, CATALOGUE, silent)
    assert server().ask("SELECT 1 FROM pg_tables WHERE schemaname = 'public'", name=there.rsplit("/", 1)[1]) == []


@pytest.mark.parametrize("fault", ["a row is lost", "a value is changed"])
def test_a_copy_that_differs_is_found_and_nothing_of_it_kept(
    small_site: str, monkeypatch: pytest.MonkeyPatch, fault: str
):
    original = migrate_database.insert_many

    def faulty(connection: sa.Connection, into: str, rows: list[tuple[Any, ...]], otherwise: str = "") -> None:
        if '"reading"' in into:
            rows = rows[:-1] if fault == "a row is lost" else [*rows[:-1], (*rows[-1][:2], 7.0, *rows[-1][3:])]
        original(connection, into, rows, otherwise)

    there = server().database()
    with monkeypatch.context() as patch:
        patch.setattr(migrate_database, "insert_many", faulty)
        with pytest.raises(CopyMismatch, match=says("migrate.differs", name="reading")):
            migrate(small_site, there, CATALOGUE, silent)
    assert all(rows == [] for rows in everything(there).values())
    migrate(small_site, there, CATALOGUE, silent)


def test_a_text_that_postgresql_cannot_hold_arrives_mended_and_is_told(tmp_path: Path):
    url, there = f"sqlite:///{tmp_path / 'odd.db'}", server().database()
    database = site(url)
    with database.write() as connection:
        connection.execute(sa.insert(device_event).values(station="s3", received_at_ms=T0 + 1, body="a\x00b"))
    database.close()
    assert migrate(url, there, CATALOGUE, silent).mended == 1
    assert [row[3] for row in everything(there)["device_event"]] == ["door", "a\\x00b"]


HALF_WAY = """
import sys
from riverchief.backup.migrate_database import migrate
from sensors.parameters import catalogue

def wait(share):
    if share > 0.4:
        print("half way", flush=True)
        sys.stdin.read()

migrate(*sys.argv[1:], catalogue(), wait)
"""


@pytest.mark.fault
@pytest.mark.parametrize("to", ["postgresql", "sqlite"])
def test_a_copy_killed_half_way_leaves_an_empty_target_and_is_simply_begun_again(
    small_site: str, tmp_path: Path, to: str
):
    target = server().database() if to == "postgresql" else f"sqlite:///{tmp_path / 'copy.db'}"
    command = [sys.executable, "-c", HALF_WAY, small_site, target]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half way\n"
        process.kill()
    assert all(rows == [] for rows in everything(target).values())
    migrate(small_site, target, CATALOGUE, silent)
    assert everything(target) == everything(small_site)


def test_the_command_says_what_it_did_and_no_password(small_site: str):
    there = server().database().replace("riverchief@", "riverchief:hunter2@")
    done = CliRunner().invoke(app, ["migrate", "--from", small_site, "--to", there])
    assert done.exit_code == 0, done.output
    assert "120" in done.output
    assert "hunter2" not in done.output
    assert reach.name in done.output
