"""What the commands ask for alike: which site, in which form, by whom; and how they open it."""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from governance.database import Database
from riverchief import logs
from riverchief import settings as settings_
from riverchief.settings import Settings

SettingsFile = Annotated[
    Path | None,
    typer.Option("--settings", "-c", help="设置文件 · settings file (config/settings.sample.toml explains)"),
]
DataFolder = Annotated[Path | None, typer.Option("--data", help="数据目录 · folder of the embedded store")]
By = Annotated[str | None, typer.Option("--by", help="何人更改，默认登录名 · who changes it; default: the login name")]
AsJson = Annotated[bool, typer.Option("--json", help="机器可读 · machine-readable")]


def load(settings: Path | None, data: Path | None = None, **overrides: Any) -> Settings:
    """The settings of the site, with logging as they say. Raises ConfigurationError."""
    if data is not None:
        overrides["data"] = data
    loaded = settings_.load(settings, **overrides)
    logs.configure(loaded.log)
    return loaded


@contextmanager
def opened(loaded: Settings) -> Iterator[Database]:
    """The site's database, closed afterwards. Raises StorageUnavailable."""
    from riverchief.serve import open_database  # it knows the commands that make the first people

    database = open_database(loaded)
    try:
        yield database
    finally:
        database.close()


def who() -> str:
    """Whoever is logged in; a container's user may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
