"""Schema migrations of the relational database (Alembic), and the one call that brings a database up to date."""

from importlib.resources import files

from alembic import command
from alembic.config import Config

import governance.tables  # noqa: F401  (registers its tables)
import ingest.storage.tables  # noqa: F401  (registers its tables)
from governance.database import Database


def upgrade(database: Database, to: str = "head") -> None:
    """Bring the schema up to date; safe to call at every start and by several processes at once."""
    config = Config()
    config.set_main_option("script_location", str(files("riverchief").joinpath("migrations")))
    with database.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, to)
