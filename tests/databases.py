"""Databases for the tests: with all tables, at the price of copying a file."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import sqlalchemy as sa

from governance.database import Database
from riverchief import migrations


def with_tables(database: Database) -> Database:
    """The database, with all tables as a site has them.

    A file that is not there yet becomes a copy of one that was migrated once in this process, which is thirty times
    quicker than migrating it; any other database is migrated, unless it has its tables.
    """
    file = Path(database.url.database or "")
    if database.is_sqlite and not file.exists():
        shutil.copyfile(_migrated(), file)
    elif not sa.inspect(database.engine).has_table("station"):
        migrations.upgrade(database)
    return database


@functools.cache
def _migrated() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="riverchief-template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    database = Database(f"sqlite:///{folder / 'river.db'}")
    migrations.upgrade(database)
    database.close()  # the last connection folds the write-ahead log into the file
    return folder / "river.db"
