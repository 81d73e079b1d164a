"""The migrations make exactly the tables that the code declares, up and down, on both databases."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from infra.database import Database, metadata
from riverchief import migrations
from tests.postgres import server

pytestmark = pytest.mark.both_databases

READINGS = ("reading", "reading_series")


@pytest.fixture
def database(dialect: str, tmp_path: Path) -> Iterator[Database]:
    """An empty database, without tables."""
    database = Database(f"sqlite:///{tmp_path / 'm.db'}" if dialect == "sqlite" else server().database())
    yield database
    database.close()


def differences(database: Database) -> list[object]:
    """Where the database is not as declared; the tables of readings are their own affair."""
    ours = {"compare_type": True, "include_name": lambda name, kind, _: kind != "table" or name not in READINGS}
    with database.read() as connection:
        return list(compare_metadata(MigrationContext.configure(connection, opts=ours), metadata))


def tables(database: Database) -> set[str]:
    return set(sa.inspect(database.engine).get_table_names()) - {"alembic_version"}


def test_the_migrated_schema_is_the_declared_one(database: Database) -> None:
    migrations.upgrade(database)
    assert differences(database) == []
    with database.read() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == migrations.newest()


def test_starting_again_on_a_migrated_database_changes_nothing(database: Database) -> None:
    migrations.upgrade(database)
    with database.write() as connection:
        connection.exec_driver_sql("INSERT INTO registry_change (what, key, body) VALUES ('station', 's', '{}')")
    migrations.upgrade(database)
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM registry_change").scalar_one() == 1


def test_down_to_nothing_and_up_again_is_the_declared_schema(database: Database) -> None:
    migrations.upgrade(database)
    migrations.downgrade(database, "base")
    assert tables(database) == set()
    migrations.upgrade(database)
    assert differences(database) == []


INCIDENT = """INSERT INTO incident (cause, open_cause, state, colour, kind, retrospective, station, title_zh, title_en,
    rule, rule_version, observed_at_ms, since_ms, last_observed_at_ms, opened_at_ms, version)
    VALUES ('c', 'c', 'opened', 'red', 'threshold', false, 's1', '氨氮', 'ammonia', 'r', '1', 1, 1, 1, 1, 1)"""
DELIVERY = """INSERT INTO outbox (event_id, incident_id, type, body, notify, created_at_ms, pending_since_ms,
    next_attempt_at_ms, attempts, status) VALUES ('e-1', 1, 'opened', '{}', 'page', 1, 1, 1, 0, 'pending')"""
REACH = (
    "INSERT INTO reach (key, zh, en, water, line, note) VALUES ('r', '河', 'river', 'river', '[[1, 2], [3, 4]]', '')"
)


def test_what_a_site_of_the_first_version_has_survives_every_step_up_and_the_way_back(database: Database) -> None:
    migrations.upgrade(database, "0001")
    with database.write() as connection:
        for statement in (INCIDENT, DELIVERY, REACH):
            connection.exec_driver_sql(statement)
    before = {name: kept(database, name) for name in ("incident", "outbox", "reach")}
    migrations.upgrade(database)
    renamed = {"opened": "reported", "acknowledged_at_ms": "accepted_at_ms", "acknowledged_by": "accepted_by"}
    for name, (columns, rows) in before.items():
        called = tuple(renamed.get(column, column) for column in columns)
        told = [tuple(renamed.get(str(value), value) for value in row) for row in rows]
        assert kept(database, name, called) == (called, told if name == "incident" else rows)
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT claimed_by, claimed_until_ms FROM outbox").one() == (None, None)
    migrations.downgrade(database, "0001")
    assert {name: kept(database, name) for name in before} == before
    with database.write() as connection:
        connection.exec_driver_sql("DELETE FROM outbox")
        connection.exec_driver_sql(DELIVERY)
        number = connection.exec_driver_sql("SELECT id FROM outbox").scalar_one()
    assert number == 2, "a number once given is never given again"


def kept(
    database: Database, table: str, columns: tuple[str, ...] = ()
) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """The columns of a table, those given or all, and its rows."""
    found = columns or tuple(column["name"] for column in sa.inspect(database.engine).get_columns(table))
    with database.read() as connection:
        rows = connection.exec_driver_sql(f"SELECT {', '.join(found)} FROM {table} ORDER BY 1")
        return found, [tuple(row) for row in rows]


UPGRADE = """
import sys
from infra.database import Database
from ingest.storage.sql import SqlReadings
from riverchief import migrations
from sensors.parameters import catalogue
sys.stdin.readline()
database = Database(sys.argv[1])
migrations.upgrade(database)
SqlReadings(database, catalogue())
"""


def test_four_processes_that_start_at_once_on_an_empty_database_all_find_it_ready(database: Database) -> None:
    command = [sys.executable, "-c", UPGRADE, database.url.render_as_string(hide_password=False)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    told = [process.communicate(timeout=120)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, "\n".join(told)
    assert differences(database) == []
