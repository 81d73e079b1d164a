"""The migrations make exactly the tables that the code declares, and can be run again."""

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from governance.database import Database, metadata
from riverchief import migrations


def test_the_migrated_schema_is_the_declared_one(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'm.db'}")
    migrations.upgrade(database)
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, metadata)
    database.close()
    assert differences == []


def test_starting_again_on_a_migrated_database_changes_nothing(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'm.db'}")
    migrations.upgrade(database)
    with database.write() as connection:
        connection.exec_driver_sql("INSERT INTO registry_change (what, key, body) VALUES ('station', 's', '{}')")
    migrations.upgrade(database)
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM registry_change").scalar_one() == 1
    database.close()
