"""The migrations make exactly the tables that the code declares, up and down, on both databases."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from governance import tables
from infra.database import Database, metadata
from infra.errors import ConfigurationError
from riverchief import migrations
from tests import preloaded
from tests.postgres import server
from tests.says import says

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


def table_names(database: Database) -> set[str]:
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
    assert table_names(database) == set()
    migrations.upgrade(database)
    assert differences(database) == []


def test_a_database_of_a_later_version_is_refused_by_name_and_left_as_it_is(database: Database) -> None:
    migrations.upgrade(database)
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigurationError, match=says("doctor.database_new", current="9999")):
        migrations.upgrade(database)
    assert differences(database) == []


def test_a_step_that_was_released_does_not_change_with_the_code() -> None:
    steps = sorted(Path(migrations.__file__).parent.joinpath("versions").glob("0*.py"))
    assert len(steps) == 1 or not any("create_all" in step.read_text(encoding="utf-8") for step in steps)


def takes_away(step: str) -> list[str]:
    """What a step does, going up, that the version before cannot live with beside it."""
    upward = step.partition("def downgrade")[0].partition("def upgrade")[2]
    changes = re.findall(r"op\.(?:drop_\w+|alter_column|rename_table|execute)\([^\n]*", upward)
    needed = [one for one in re.findall(r"op\.add_column\([^\n]*", upward) if "server_default" not in one]
    return changes + [one for one in needed if "nullable=True" not in one]


def test_a_step_only_adds_so_that_the_version_before_goes_on_beside_the_next() -> None:
    for step in sorted(Path(migrations.__file__).parent.joinpath("versions").glob("0*.py"))[1:]:
        assert takes_away(step.read_text(encoding="utf-8")) == [], step
    assert takes_away('def upgrade():\n    op.drop_column("station", "note")\n    op.add_column("a", sa.Column("b"))\n')
    assert not takes_away('def upgrade():\n    op.add_column("a", sa.Column("b", nullable=True))\n')


NUMBERS = {c.name: "0" if isinstance(c.type, sa.String) else 0 for c in tables.patrol.c if c.name != "id"}
PATROL = sa.insert(tables.patrol).values(NUMBERS | {"valid": False, "problems": [], "track": []})


def test_a_number_once_given_is_never_given_again(database: Database) -> None:
    migrations.upgrade(database)
    with database.write() as connection:
        connection.execute(PATROL)
        connection.execute(sa.delete(tables.patrol))
        connection.execute(PATROL)
        assert connection.execute(sa.select(tables.patrol.c.id)).scalar_one() == 2


UPGRADE = """
import sys
from governance import tables
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
    processes = [preloaded.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    told = [process.communicate(timeout=120)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, "\n".join(told)
    assert differences(database) == []
