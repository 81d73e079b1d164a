"""Restore a backup onto an empty place, or beside existing data, which is moved aside and never deleted.

Everything that can be refused is refused before anything is touched: an unfinished or damaged backup, one of a newer
version or another kind of database, a place that is in use or not empty. The database then appears at once: SQLite by a
rename, PostgreSQL in one transaction.
"""

import os
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from infra import clock
from infra.database import Database
from infra.errors import ConfigurationError, Refused, StorageUnavailable
from infra.texts import say
from infra.times import from_ms
from ingest.storage.archive import fsync
from ingest.storage.photos import Photos
from riverchief import audit_sealing, migrations
from riverchief.backup import pg_dump
from riverchief.backup.backup import (
    DATABASE,
    PHOTOS,
    PUBLIC_KEY,
    Manifest,
    Progress,
    check_files,
    no_progress,
    partial_progress,
    postgres_rows,
    read_manifest,
    sqlite_rows,
)
from riverchief.settings import Settings
from riverchief.single_writer import exclusive_ingest

UNCOUNTED_TABLES = frozenset({"alembic_version", "storage_boundary"})
"""Tables whose rows are no content of a site."""


@dataclass(frozen=True, slots=True)
class Restored:
    """Result of a restore, and where the previous data were moved."""

    manifest: Manifest
    database: str
    aside: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` answers."""
        return {"database": self.database, "put_aside": list(self.aside), "manifest": asdict(self.manifest)}


def restore(settings: Settings, source: Path, *, replace: bool = False, progress: Progress = no_progress) -> Restored:
    """Restore a backup into the places of these settings; nothing of ours may run meanwhile.

    With ``replace`` a database or an archive that is not empty is put aside under another name; photos are added to
    those that are there. Raises Refused when that is needed and not said, when the place is in use, and for a backup
    that is not whole; ConfigurationError where the settings do not fit it; StorageUnavailable when it cannot be
    written.
    """
    manifest = read_manifest(source)
    database = Database(settings.database_url)
    _check_compatible(manifest, settings, database.url)
    check_files(source, manifest, partial_progress(progress, 0, 0.5))
    mark = f"before-restore-{from_ms(clock.now_ms()):%Y%m%dT%H%M%SZ}"
    place = _SqlitePlace(database) if database.is_sqlite else _PostgresPlace(database)
    archive = _ArchivePlace(settings.readings.archive) if manifest.archive_files else None
    aside: list[str] = []
    try:
        with exclusive_ingest(settings.database_url) if database.is_sqlite else nullcontext():
            for one in (place, archive):
                if one is not None and not one.empty() and not replace:
                    raise Refused(say("backup.not_empty", one=one))
            _restore_photos(source, settings.photos)
            _restore_public_key(source, audit_sealing.public_file(settings))
            for one in (archive, place):
                if one is not None:
                    aside += one.fill(source, manifest, mark)
                    progress(0.75 if one is archive else 1.0)
    except OSError as error:
        raise StorageUnavailable(say("backup.not_restored", source=source, error=error.strerror)) from error
    finally:
        database.close()
    return Restored(manifest, str(database), tuple(aside))


def _check_compatible(manifest: Manifest, settings: Settings, url: sa.URL) -> None:
    """Whether these settings and this version can take the backup."""
    dialect = url.get_backend_name()
    if manifest.dialect != dialect:
        raise ConfigurationError(say("backup.other_kind", theirs=manifest.dialect, ours=dialect))
    if not knows(manifest.schema):
        raise ConfigurationError(say("backup.newer", schema=manifest.schema, riverchief=manifest.riverchief))
    if manifest.archive_files and settings.readings.archive is None:
        raise ConfigurationError(say("backup.archive_where", archive_files=manifest.archive_files))


def knows(revision: str) -> bool:
    """Whether this version has a way from that schema to its own."""
    try:
        return ScriptDirectory(str(files("riverchief").joinpath("migrations"))).get_revision(revision) is not None
    except CommandError:
        return False


def _compare(found: Mapping[str, int], manifest: Manifest) -> None:
    if dict(found) != dict(manifest.rows):
        table = next(t for t in sorted({*found, *manifest.rows}) if found.get(t) != manifest.rows.get(t))
        raise StorageUnavailable(
            say("backup.rows_differ", table=table, rows=found.get(table), expected=manifest.rows.get(table))
        )


def _restore_photos(source: Path, folder: Path) -> None:
    """Put the photos of a backup beside those that are here."""
    backed_up, here = Photos(source / PHOTOS), Photos(folder)
    for name in backed_up.names():
        if not here.holds(name):
            here.add(backed_up.path(name).read_bytes())


def _restore_public_key(source: Path, file: Path) -> None:
    """Restore the public key of the audit trail; an existing one stays."""
    if (source / PUBLIC_KEY).is_file() and not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / PUBLIC_KEY, file)


class _SqlitePlace:
    """A database file."""

    def __init__(self, database: Database) -> None:
        self._path = Path(database.url.database or "").resolve()

    def __str__(self) -> str:
        return f"the database {self._path}"

    def empty(self) -> bool:
        """Whether the database is empty; raises Refused while it is open elsewhere."""
        if not self._path.exists():
            return True
        with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            try:
                # only the last one in can do this; it also brings what is in the log into the file
                connection.execute("PRAGMA journal_mode=DELETE")
                return not any(n for table, n in sqlite_rows(connection).items() if table not in UNCOUNTED_TABLES)
            except sqlite3.OperationalError as error:
                raise Refused(say("backup.in_use", database=self, error=error)) from error
            except sqlite3.DatabaseError:
                return False  # foreign content: not empty

    def fill(self, source: Path, manifest: Manifest, mark: str) -> list[str]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        made = self._path.with_name(self._path.name + ".restoring")
        try:
            shutil.copyfile(source / DATABASE["sqlite"], made)
            with closing(sqlite3.connect(made)) as connection:
                _compare(sqlite_rows(connection), manifest)
            raised = Database(f"sqlite:///{made}")
            migrations.upgrade(raised)
            raised.close()
            with closing(sqlite3.connect(made)) as connection:
                connection.execute("PRAGMA journal_mode=DELETE")
            fsync(made)
            aside = _put_aside(self._path, mark)
            made.rename(self._path)
            fsync(self._path.parent)
            return aside
        finally:
            for left in made.parent.glob(f"{made.name}*"):
                left.unlink()


class _PostgresPlace:
    """A database of a PostgreSQL server, in its schema ``public``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __str__(self) -> str:
        return f"the database {self._database}"

    def empty(self) -> bool:
        """Whether there is nothing in it to lose; raises Refused while others are connected."""
        with self._database.read() as connection:
            others = connection.exec_driver_sql(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).scalar_one()
            if others:
                raise Refused(say("backup.connections", database=self, others=others))
            return not any(n for table, n in postgres_rows(connection).items() if table not in UNCOUNTED_TABLES)

    def fill(self, source: Path, manifest: Manifest, mark: str) -> list[str]:
        aside = mark.replace("-", "_").lower()
        with self._database.alter() as connection:
            had_tables = bool(sa.inspect(connection).get_table_names())
            if had_tables:
                connection.exec_driver_sql(f'ALTER SCHEMA public RENAME TO "{aside}"')
                connection.exec_driver_sql("CREATE SCHEMA public")
        pg_dump.restore(self._database.url, source / DATABASE["postgresql"])
        with self._database.read() as connection:
            _compare(postgres_rows(connection), manifest)
        migrations.upgrade(self._database)
        return [f"{self._database}, schema {aside}"] if had_tables else []


class _ArchivePlace:
    """The folder of the archive."""

    def __init__(self, folder: Path | None) -> None:
        assert folder is not None
        self._folder = folder

    def __str__(self) -> str:
        return f"the archive {self._folder}"

    def empty(self) -> bool:
        return not self._folder.exists() or not any(self._folder.glob("*/*.parquet"))

    def fill(self, source: Path, manifest: Manifest, mark: str) -> list[str]:
        made = self._folder.with_name(self._folder.name + ".restoring")
        shutil.rmtree(made, ignore_errors=True)
        try:
            shutil.copytree(source / "archive", made)
            os.sync()
            aside = _put_aside(self._folder, mark)
            made.rename(self._folder)
            fsync(self._folder.parent)
            return aside
        finally:
            shutil.rmtree(made, ignore_errors=True)


def _put_aside(path: Path, mark: str) -> list[str]:
    if not path.exists():
        return []
    aside = path.with_name(f"{path.name}.{mark}")
    path.rename(aside)
    return [str(aside)]
