"""Schema migrations of the relational database (Alembic), and the one call that brings a database up to date."""

from collections.abc import Callable
from importlib.resources import files

from alembic import command
from alembic.config import Config

import governance.notice_tables
import governance.platform_tables
import governance.tables  # noqa: F401  (registers its tables)
import ingest.storage.tables  # noqa: F401  (registers its tables)
from governance.database import Database


def upgrade(database: Database, to: str = "head") -> None:
    """Bring the schema up to date; safe to call at every start and by several processes at once."""
    _run(database, command.upgrade, to)


def downgrade(database: Database, to: str) -> None:
    """Bring the schema back to an earlier revision, for a program of that time; ``base`` leaves no table of ours."""
    _run(database, command.downgrade, to)


def _run(database: Database, step: Callable[[Config, str], None], to: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(files("riverchief").joinpath("migrations")))
    with database.alter() as connection:
        config.attributes["connection"] = connection
        step(config, to)
