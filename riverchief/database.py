"""Open the database of a site."""

from infra.database import Database
from riverchief import migrations
from riverchief.settings import Settings


def open_database(settings: Settings) -> Database:
    """The database of the settings, its schema up to date. Raises StorageUnavailable."""
    if not settings.database.url:
        settings.data.mkdir(parents=True, exist_ok=True)
    database = Database(settings.database_url)
    migrations.upgrade(database)
    return database
