"""Schema migrations of the relational database (Alembic), and the one call that brings a database up to date.

Alembic is loaded only where there is something to do, which is once in a version and not at every start.
"""

from importlib.resources import files
from typing import Literal

import sqlalchemy as sa

import governance.notify.tables
import governance.platforms.tables
import governance.tables  # noqa: F401  (registers its tables)
import ingest.storage.tables  # noqa: F401  (registers its tables)
from infra.database import Database
from infra.errors import ConfigurationError
from infra.texts import say

FOLDER = files("riverchief").joinpath("migrations")
VERSION = sa.table("alembic_version", sa.column("version_num"))


def newest() -> str:
    """The revision that this program's code is written for; each file begins with its number."""
    return max(_revisions())


def upgrade(database: Database, to: str = "head") -> None:
    """Bring the schema up to date; safe to call at every start and by several processes at once.

    Raises ConfigurationError where the database is of a revision that this program does not have.
    """
    current = _revision(database)
    if current is not None and current not in _revisions():
        raise ConfigurationError(say("doctor.database_new", current=current, wanted=newest()))
    if to != "head" or current != newest():
        _run(database, "upgrade", to)


def downgrade(database: Database, to: str) -> None:
    """Bring the schema back to an earlier revision, for a program of that time; ``base`` leaves no table of ours."""
    _run(database, "downgrade", to)


def _revisions() -> set[str]:
    steps = FOLDER.joinpath("versions").iterdir()
    return {step.name[:4] for step in steps if step.name[:4].isdecimal()}


def _revision(database: Database) -> str | None:
    """Where the database stands; None where it is empty."""
    with database.read() as connection:
        if not sa.inspect(connection).has_table(VERSION.name):
            return None
        return connection.execute(sa.select(VERSION.c.version_num)).scalar()


def _run(database: Database, step: Literal["upgrade", "downgrade"], to: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    with database.alter() as connection:
        config.attributes["connection"] = connection
        getattr(command, step)(config, to)
