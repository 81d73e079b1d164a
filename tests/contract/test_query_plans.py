"""Questions asked all day pass over no row they do not need: what grows with a site's age is not read."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from governance.incidents import queries as incident_queries
from infra.database import Database
from ingest.storage.sql import SqlReadings
from sensors.parameters import catalogue
from tests.databases import stored, with_tables


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = with_tables(Database(f"sqlite:///{tmp_path / 'river.db'}"))
    yield database
    database.close()


@contextmanager
def asked(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """The statements executed meanwhile, with their parameters."""
    found: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        found.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


def plans(database: Database, ask: Callable[[], object], table: str) -> list[str]:
    """How SQLite carries out the statements that name the table; one line a step."""
    with asked(database) as statements:
        ask()
    found = []
    with database.engine.connect() as connection:
        for statement, parameters in statements:
            if table in statement and statement.lstrip().startswith(("SELECT", "WITH")):
                rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                found.append("; ".join(row[3] for row in rows))
    return found


def listed(database: Database, **options: Any) -> Callable[[], object]:
    def ask() -> object:
        with database.read() as connection:
            return incident_queries.list_incidents(connection, limit=100, **options)

    return ask


def test_a_list_of_open_incidents_passes_no_closed_one(database: Database) -> None:
    (plan,) = plans(database, listed(database, open_only=True), "FROM incident ")
    assert "ix_incident_open" in plan
    assert "TEMP B-TREE" not in plan


def test_a_page_of_incidents_is_found_by_its_place_and_sorts_nothing(database: Database) -> None:
    for options in ({"before_id": 500}, {"before_id": 500, "open_only": False}, {"station": "s1"}):
        (plan,) = plans(database, listed(database, **options), "FROM incident ")
        assert "SEARCH incident USING" in plan
        assert "TEMP B-TREE" not in plan


def test_latest_and_a_month_of_a_station_read_by_the_key_whatever_else_is_stored(database: Database) -> None:
    store = SqlReadings(database, catalogue())
    stored(database, store, ["s1", "s2"], {(0, "do"): ([1_000, 2_000], [5.0, 5.1]), (1, "do"): ([1_000], [6.0])})
    for ask in (store.latest, lambda: store.thinned("s1", "do", 0, 5_000, 1_000)):
        for plan in plans(database, ask, "reading "):
            assert "SCAN r" not in plan.replace("SCAN s", "")
            assert "SCAN reading" not in plan.replace("SCAN reading_series", "")
