"""Back up a site: one folder with everything at one instant, verified before it gets its name.

``riverchief-{time}Z/`` with ``manifest.json``, the database (``database.sqlite``, or ``database.pgdump`` from
PostgreSQL), ``archive/`` with the months that have left the database, ``photos/`` with all photos and attachments,
``audit-key.pub`` to verify the trail with, and ``settings/`` without secrets. It is written as ``….partial`` and
renamed last: what has no manifest or still bears that name was never finished, and is never restored.

Nothing waits for it. SQLite is copied from one read transaction, which in write-ahead mode holds up no writer (the log
cannot be cut back meanwhile, that is all); PostgreSQL is dumped from an exported snapshot. In the same snapshot the
rows of every table are counted, and the copy must have as many.
"""

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel, SecretStr

from infra import clock, file_lock, toml_text
from infra.database import Database
from infra.errors import ConfigurationError, Refused, StorageUnavailable
from infra.texts import both, say
from infra.times import from_ms, rfc3339
from ingest.storage.archive import ParquetArchive, fsync
from ingest.storage.photos import Photos
from riverchief import __version__, audit_sealing, files
from riverchief.backup import pg_dump
from riverchief.settings import InfluxSection, Settings
from sensors.parameters import catalogue

FORMAT = 1
MANIFEST = "manifest.json"
PHOTOS = "photos"
PUBLIC_KEY = "audit-key.pub"
PARTIAL = ".partial"
PREFIX = "riverchief-"
DATABASE = {"sqlite": "database.sqlite", "postgresql": "database.pgdump"}
PAGES_PER_STEP = 4096
SPARE_BYTES = 16 << 20
"""Bytes a backup needs beside the database and the archive, at least."""

Progress = Callable[[float], None]
"""Told the share that is done, 0 to 1."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of a backup."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Contents of a backup; ``taken_at`` is the instant that it shows, ``left_out`` what must be looked
    after apart, in both languages."""

    format: int
    riverchief: str
    schema: str
    dialect: str
    taken_at: str
    finished_at: str
    rows: Mapping[str, int]
    archive_files: int
    left_out: Mapping[str, str]
    files: Mapping[str, File]
    photo_files: int = 0


@dataclass(frozen=True, slots=True)
class Backup:
    """A finished backup, and the older ones that were removed for it."""

    folder: Path
    manifest: Manifest
    removed: tuple[Path, ...]

    @property
    def bytes(self) -> int:
        """Its size."""
        return sum(file.bytes for file in self.manifest.files.values())

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` answers."""
        removed = [str(path) for path in self.removed]
        return {"folder": str(self.folder), "bytes": self.bytes, "removed": removed, "manifest": asdict(self.manifest)}


def no_progress(_share: float) -> None:
    """Ignore progress."""


def partial_progress(progress: Progress, start: float, end: float) -> Progress:
    """The progress of a part, as that of the whole."""
    return lambda share: progress(start + share * (end - start))


def back_up(
    settings: Settings,
    target: Path,
    *,
    keep: int | None = None,
    archive: bool = True,
    photos: bool = True,
    progress: Progress = no_progress,
) -> Backup:
    """Back the site up into a new folder below ``target``.

    ``keep`` removes the oldest finished backups there beyond that number; ``archive`` takes the archived months along,
    ``photos`` the photos and attachments. A photo that an older backup there has is not written again: it is linked.
    Raises StorageUnavailable when there is no room or the database does not answer (nothing half is left), Refused
    while another backup writes to the same place, ConfigurationError when there is no database to back up.
    """
    url = Database(settings.database_url).url
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise ConfigurationError(say("backup.no_database", database=url.database))
    months = _archive(settings) if archive else None
    with _exclusive(target), months.alone() if months else nullcontext():
        pictures = Pictures(settings, target) if photos else None
        _require_space(target, url, months, pictures)
        taken_ms = clock.now_ms()
        folder = target / f"{PREFIX}{from_ms(taken_ms):%Y%m%dT%H%M%S}{taken_ms % 1000:03d}Z"
        part = folder.with_name(folder.name + PARTIAL)
        try:
            part.mkdir()
            manifest = _fill(part, settings, url, months, pictures, taken_ms, progress)
            (part / MANIFEST).write_text(
                json.dumps(asdict(manifest), ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
            )
            os.sync()
            part.rename(folder)
            fsync(target)
        except BaseException as error:
            shutil.rmtree(part, ignore_errors=True)
            if isinstance(error, OSError | sqlite3.Error):
                reason = error.strerror if isinstance(error, OSError) else error
                raise StorageUnavailable(say("backup.unwritten", target=target, reason=reason)) from error
            raise
        return Backup(folder, manifest, _remove_oldest(target, keep))


def read_manifest(source: Path) -> Manifest:
    """The manifest of a finished backup; raises Refused for anything else, saying what it is."""
    if not source.is_dir():
        raise Refused(say("backup.no_backup", source=source, manifest=MANIFEST))
    if source.name.endswith(PARTIAL):
        raise Refused(say("backup.unfinished", source=source))
    try:
        found = json.loads((source / MANIFEST).read_text(encoding="utf-8"))
        if found["format"] != FORMAT:
            raise Refused(say("backup.format", source=source, format=found["format"], known=FORMAT))
        files_ = {name: File(**file) for name, file in found["files"].items()}
        return Manifest(**{**found, "files": files_})
    except FileNotFoundError:
        raise Refused(say("backup.no_manifest", source=source, manifest=MANIFEST)) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(say("file.unreadable", file=source / MANIFEST, error=error)) from error


def check_files(source: Path, manifest: Manifest, progress: Progress = no_progress) -> None:
    """Compare every file with the manifest; raises Refused naming the first that is missing or differs."""
    done, total = 0, sum(file.bytes for file in manifest.files.values()) or 1
    for name, file in manifest.files.items():
        if not (source / name).is_file():
            raise Refused(say("backup.missing", file=source / name))
        if hashed(source / name) != file:
            raise Refused(say("backup.altered", file=source / name))
        done += file.bytes
        progress(done / total)


def finished(target: Path) -> list[Path]:
    """The finished backups below a folder, oldest first."""
    return sorted(path for path in target.glob(f"{PREFIX}*Z") if (path / MANIFEST).is_file())


def hashed(path: Path) -> File:
    """Size and SHA-256 of a file."""
    with path.open("rb") as file:
        return File(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


# -- what goes into it -------------------------------------------------------------------------------------------------


def _fill(
    part: Path,
    settings: Settings,
    url: sa.URL,
    months: ParquetArchive | None,
    pictures: "Pictures | None",
    taken_ms: int,
    progress: Progress,
) -> Manifest:
    dialect = url.get_backend_name()
    copy = part / DATABASE[dialect]
    copy.touch(mode=0o600)
    schema, rows = (copy_sqlite if dialect == "sqlite" else _dump)(url, copy, partial_progress(progress, 0, 0.6))
    archived = 0
    if months is not None:
        archived = _copy_archive(months.folder, part / "archive", partial_progress(progress, 0.6, 0.7))
    left_out = _left_out(settings, dialect, archived=months is not None, pictured=pictures is not None)
    photos = 0
    if pictures is not None:  # after the database: a photo is on the disk before anything names it
        photos, damaged = pictures.copy(part / PHOTOS, partial_progress(progress, 0.7, 0.8))
        if damaged:
            left_out["damaged photos"] = both(say("backup.apart_damaged", files=", ".join(damaged)))
    if audit_sealing.public_file(settings).is_file():
        shutil.copyfile(audit_sealing.public_file(settings), part / PUBLIC_KEY)
    _copy_settings(settings, part / "settings")
    found = sorted(path for path in part.rglob("*") if path.is_file())
    listed: dict[str, File] = {}
    for done, path in enumerate(found):
        progress(0.8 + 0.2 * done / len(found))
        listed[path.relative_to(part).as_posix()] = hashed(path)
    return Manifest(
        format=FORMAT,
        riverchief=__version__,
        schema=schema,
        dialect=dialect,
        taken_at=rfc3339(taken_ms),
        finished_at=rfc3339(clock.now_ms()),
        rows=rows,
        archive_files=archived,
        left_out=left_out,
        files=listed,
        photo_files=photos,
    )


def copy_sqlite(url: sa.URL, copy: Path, progress: Progress = no_progress) -> tuple[str, dict[str, int]]:
    """Copy a SQLite database as it is at one instant and verify the copy; answers its revision and rows by table."""

    def copied(_status: int, left: int, pages: int) -> None:
        progress(1 - left / max(pages, 1))

    source = sqlite3.connect(url.database or "", isolation_level=None)
    made = sqlite3.connect(copy, isolation_level=None)
    try:
        source.execute("BEGIN")  # one snapshot for all pages and counts: writers go on, and the copy never starts again
        schema = _schema(source, url)
        made.execute("PRAGMA synchronous=OFF")  # everything is synced before the backup gets its name
        source.backup(made, pages=PAGES_PER_STEP, progress=copied, sleep=0)
        rows = sqlite_rows(source)
        source.execute("ROLLBACK")
        made.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
        verdict = made.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if verdict != "ok":
            raise StorageUnavailable(say("backup.damaged", database=url.database, verdict=verdict))
        if sqlite_rows(made) != rows:
            raise StorageUnavailable(say("backup.copy_differs", database=url.database))
        return schema, rows
    finally:
        made.close()
        source.close()


def sqlite_rows(connection: sqlite3.Connection) -> dict[str, int]:
    """Rows by table."""
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
    names = [name for (name,) in tables if not name.startswith("sqlite_")]
    return {name: int(connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]) for name in names}


def _schema(connection: sqlite3.Connection, url: sa.URL) -> str:
    try:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])
    except (sqlite3.OperationalError, TypeError):
        raise ConfigurationError(say("backup.not_ours", database=url.database)) from None


def _dump(url: sa.URL, copy: Path, progress: Progress) -> tuple[str, dict[str, int]]:
    """Dump a PostgreSQL database as it is at one instant and verify the dump by reading it."""
    database = Database(url)
    try:
        with database.read() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                raise ConfigurationError(say("backup.not_ours", database=url.database))
            schema = str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one())
            for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
                connection.exec_driver_sql(f"SET LOCAL {limit} = 0")  # we wait for pg_dump, however long it takes
            snapshot = str(connection.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one())
            pg_dump.dump(url, snapshot, copy)
            progress(0.5)
            rows = postgres_rows(connection)
        if pg_dump.rows(copy) != rows:
            raise StorageUnavailable(say("backup.dump_differs", database=url.database))
        progress(1.0)
        return schema, rows
    finally:
        database.close()


def postgres_rows(connection: sa.Connection) -> dict[str, int]:
    """Rows by table."""
    names = sorted(sa.inspect(connection).get_table_names())
    return {name: int(connection.exec_driver_sql(f'SELECT count(*) FROM "{name}"').scalar_one()) for name in names}


def _archive(settings: Settings) -> ParquetArchive | None:
    folder = settings.readings.archive
    return ParquetArchive(folder, catalogue()) if folder is not None and folder.is_dir() else None


def _copy_archive(folder: Path, to: Path, progress: Progress) -> int:
    found = sorted(folder.glob("*/*.parquet"))
    for done, path in enumerate(found):
        progress(done / len(found))
        copy = to / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    return len(found)


class Pictures:
    """The photos of a site on their way into a backup; what the newest backup there has already is linked to it."""

    def __init__(self, settings: Settings, target: Path) -> None:
        self._here = Photos(settings.photos)
        self._before = Photos(finished(target)[-1] / PHOTOS) if finished(target) else None

    def new_bytes(self) -> int:
        """The size of what has to be written."""
        new = (name for name in self._here.names() if self._before is None or not self._before.holds(name))
        return sum(self._here.path(name).stat().st_size for name in new)

    def copy(self, to: Path, progress: Progress) -> tuple[int, list[str]]:
        """Copy every photo; how many, and the names of those whose content does not fit them, which are left out."""
        found, damaged = self._here.names(), []
        for done, name in enumerate(found):
            progress(done / len(found))
            copy = to / name[:2] / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            if self._linked(name, copy):
                continue
            shutil.copyfile(self._here.path(name), copy)
            if hashed(copy).sha256 != name:
                copy.unlink()
                damaged.append(name)
        return len(found) - len(damaged), damaged

    def _linked(self, name: str, copy: Path) -> bool:
        """Whether the newest backup has the photo whole, and it could be linked."""
        if self._before is None or not self._before.holds(name):
            return False
        before = self._before.path(name)
        try:
            if hashed(before).sha256 == name:
                copy.hardlink_to(before)
        except OSError:  # a file system without links
            return False
        return copy.exists()


# -- settings without secrets ------------------------------------------------------------------------------------------


def _copy_settings(settings: Settings, to: Path) -> None:
    """The settings as they are in force, secrets left out; the rules and the station file beside them."""
    to.mkdir()
    (to / "settings.toml").write_text(without_secrets(settings), encoding="utf-8")
    shutil.copyfile(settings.site.rules or files.shipped("rules.toml"), to / "rules.toml")
    if settings.site.stations is not None:
        shutil.copyfile(settings.site.stations, to / "stations.toml")


def without_secrets(settings: Settings) -> str:
    """The settings of file and environment as TOML; secrets are named without their values, also within an address."""
    lines = [f"# Settings in force at the backup; {', '.join(secrets(settings)) or 'no secret'} left out.", ""]
    tables: list[str] = []
    for name in sorted(settings.model_fields_set):
        value = getattr(settings, name)
        if not isinstance(value, BaseModel):
            lines += toml_text.assignments({name: _toml_value(value)})
            continue
        entries = {key: getattr(value, key) for key in sorted(value.model_fields_set)}
        assigned = {k: _toml_value(v) for k, v in entries.items() if v is not None and not isinstance(v, SecretStr)}
        tables += ["", f"[{name}]", *toml_text.assignments(assigned)]
    return "\n".join([*lines, *tables]) + "\n"


def secrets(settings: Settings) -> list[str]:
    """The names of the secrets that are set."""
    sections = {name: getattr(settings, name) for name in type(settings).model_fields}
    return sorted(
        f"{name}.{key}"
        for name, section in sections.items()
        if isinstance(section, BaseModel)
        for key in type(section).model_fields
        if isinstance(getattr(section, key), SecretStr)
    )


def _toml_value(value: object) -> Any:
    """The value of a setting as TOML has it, addresses without their secrets."""
    if isinstance(value, list | tuple):
        return [_toml_value(one) for one in value]
    return value if isinstance(value, bool | int | float) else _without_login(str(value))


def _without_login(text: str) -> str:
    """An address without what may be a secret; other text as it is.

    Of a database's address the user stays and the query's harmless parts; of any other neither user nor query does.
    """
    if "://" not in text:
        return text
    scheme, _, rest = text.partition("://")
    database = scheme.partition("+")[0] in _DATABASES
    place, mark, query = rest.partition("?")
    if "@" in query and "@" not in place:  # a password with a question mark in it
        place, query = place.partition(":")[0].partition("/")[0], ""
    login, at, host = place.partition("#")[0].rpartition("@")
    user = f"{login.partition(':')[0]}@" if at and database else ""
    harmless = [part for part in query.split("&") if database and part.partition("=")[0] in _HARMLESS]
    return f"{scheme}://{user}{host}{mark if harmless else ''}{'&'.join(harmless)}"


_DATABASES = {"postgresql", "postgres", "sqlite"}
_HARMLESS = {
    "application_name",
    "connect_timeout",
    "host",
    "passfile",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "target_session_attrs",
}
"""Parts of a database's query that hold no secret; files of secrets among them are not in a backup."""


def _left_out(settings: Settings, dialect: str, *, archived: bool, pictured: bool) -> dict[str, str]:
    """What a restore needs beside the backup, in both languages."""
    found = {}
    if names := secrets(settings):
        found["secrets"] = both(say("backup.apart_secrets", names=", ".join(names)))
    found["secret files"] = both(say("backup.apart_files"))
    if dialect == "postgresql":
        found["rights"] = both(say("backup.apart_rights"))
    if settings.readings.archive is not None and not archived:
        found["archive"] = both(say("backup.apart_archive", folder=settings.readings.archive))
    if settings.photos.is_dir() and not pictured:
        found["photos"] = both(say("backup.apart_photos", folder=settings.photos))
    if settings.influx.url:
        found["time-series server"] = _of_influx(settings.influx)
    found["broker"] = both(say("backup.apart_broker"))
    return found


def _of_influx(influx: InfluxSection) -> str:
    how = {
        "influxdb2": f"influx backup FOLDER --bucket {influx.bucket}",
        "influxdb1": f"influxd backup -portable -database {influx.bucket} FOLDER",
        "influxdb3": say("backup.by_store"),
    }
    return both(say("backup.apart_series", url=_without_login(influx.url or ""), how=how[influx.kind]))


# -- the place it goes to ----------------------------------------------------------------------------------------------


@contextmanager
def _exclusive(target: Path) -> Iterator[None]:
    """One backup at a time below a folder; clears away what a killed one left."""
    try:
        target.mkdir(parents=True, exist_ok=True)
        handle = (target / ".lock").open("a")
    except OSError as error:
        raise StorageUnavailable(say("backup.target", target=target, error=error.strerror)) from error
    with handle:
        if not file_lock.lock(handle):
            raise Refused(say("backup.another", target=target))
        for stale in target.glob(f"{PREFIX}*{PARTIAL}"):
            shutil.rmtree(stale, ignore_errors=True)
        yield


def _require_space(target: Path, url: sa.URL, months: ParquetArchive | None, pictures: "Pictures | None") -> None:
    """Refuse to begin what cannot end; raises StorageUnavailable with both sizes."""
    needed = SPARE_BYTES
    if url.get_backend_name() == "sqlite":
        needed += Path(url.database or "").stat().st_size
    if months is not None:
        needed += sum(path.stat().st_size for path in months.folder.glob("*/*.parquet"))
    if pictures is not None:
        needed += pictures.new_bytes()
    free = shutil.disk_usage(target).free
    if free < needed:
        raise StorageUnavailable(say("backup.no_room", target=target, free=free >> 20, needed=needed >> 20))


def _remove_oldest(target: Path, keep: int | None) -> tuple[Path, ...]:
    """Remove the oldest finished backups beyond a number; one that is half removed no longer has a whole one's name."""
    surplus = finished(target)[:-keep] if keep else []
    for path in surplus:
        doomed = path.rename(path.with_name(path.name + PARTIAL))
        shutil.rmtree(doomed)
    return tuple(surplus)
