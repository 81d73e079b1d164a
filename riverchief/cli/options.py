"""Options that commands share, and opening the site that they name.

What settings and a database need is loaded with the first of them: a command about a file has neither.
"""

import getpass
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from infra import clock
from infra.errors import ConfigurationError, NotFound
from infra.texts import say
from infra.times import beijing_day, to_ms
from sensors.parameters import catalogue

if TYPE_CHECKING:
    import sqlalchemy as sa

    from infra.database import Database
    from ingest.storage.changes import Author
    from riverchief.settings import Settings

T = TypeVar("T")

SettingsFile = Annotated[
    Path | None,
    typer.Option("--settings", "-c", help="设置文件 · settings file (config/settings.sample.toml explains)"),
]
DataFolder = Annotated[Path | None, typer.Option("--data", help="数据目录 · folder of the embedded store")]
By = Annotated[str | None, typer.Option("--by", help="何人更改，默认登录名 · who changes it; default: the login name")]
AsJson = Annotated[bool, typer.Option("--json", help="机器可读 · machine-readable")]


def load(settings: Path | None, data: Path | None = None, **overrides: Any) -> "Settings":
    """The settings of the site, with logging as they say. Raises ConfigurationError."""
    from infra import outgoing
    from riverchief import logs
    from riverchief import settings as settings_

    if data is not None:
        overrides["data"] = data
    loaded = settings_.load(settings, **overrides)
    logs.configure(loaded.log)
    outgoing.allow(loaded.outgoing.private, loaded.receivers)
    return loaded


def newest_of(
    settings: Path | None,
    data: Path | None,
    station: str | None,
    read: Callable[["sa.Connection", str | None], list[T]],
) -> list[T]:
    """Stored entries of a station, or of all, newest first. Raises NotFound for one that is not registered."""
    with site_database(settings, data) as database, database.read() as connection:
        if station is not None:
            registered(connection, station)
        return read(connection, station)[::-1]


@contextmanager
def open_site(loaded: "Settings") -> Iterator["Database"]:
    """The site's database, closed afterwards. Raises StorageUnavailable."""
    from riverchief.database import open_database

    database = open_database(loaded)
    try:
        yield database
    finally:
        database.close()


def login() -> str:
    """The login name; empty for a container's user without one."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


@contextmanager
def site_database(settings: Path | None, data: Path | None) -> Iterator["Database"]:
    """The database of the site these settings are of. Raises ConfigurationError and StorageUnavailable."""
    with open_site(load(settings, data)) as database:
        yield database


def author(by: str | None) -> "Author":
    """The author of a change made now: the given name, else the login name."""
    from ingest.storage.changes import Author

    return Author(by or login(), clock.now_ms())


def registered(connection: "sa.Connection", station: str) -> None:
    """Raise NotFound for a station that is not registered."""
    from ingest.storage import registry as registry_store

    if station not in registry_store.load(connection, catalogue()):
        raise NotFound(say("registry.no_station", key=station[:80]))


def day_of(day: str | None) -> str:
    """A Beijing day as it was given; today where none was. Raises ConfigurationError."""
    if day is None:
        return beijing_day(clock.now_ms()).isoformat()
    try:
        return date.fromisoformat(day).isoformat()
    except ValueError:
        raise ConfigurationError(say("command.day", day=day)) from None


def instant(name: str, text: str) -> int:
    """A time with an offset, or the beginning of a Beijing day, ms UTC; raises ConfigurationError naming the option."""
    try:
        if len(text) == len("2026-05-12"):
            return to_ms(datetime.fromisoformat(f"{text}T00:00:00+08:00"))
        return to_ms(datetime.fromisoformat(text))
    except ValueError:
        raise ConfigurationError(say("request.day_or_time", name=name, text=text[:40])) from None
