"""The archive: months of readings as Parquet files.

``{folder}/{YYYY-MM}/{station}.parquet``, the month as Beijing counts it, one row an instant, oldest first. Columns:
``station`` (text), ``time`` (timestamp, ms, UTC), and for each parameter ``{key}`` (double, canonical unit, null where
there is no reading) and ``{key}_q`` (int32, ``flag | tests << 4``, :func:`sensors.reading.pack`). The file's metadata
name station, month, units and the version of this layout, and the CRC-32 of all before the footer.

A file is written under another name, synced, read back, compared value by value, and renamed. Measurements of the
layout: docs/operations/backup.md.

Polars is loaded by the first file that is read or written: every process names this module, few use it.
"""

import io
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from infra import file_lock
from infra.errors import ConfigurationError, Refused, StorageUnavailable
from infra.texts import say
from infra.times import BEIJING, from_ms, to_ms
from ingest.storage.port import Series, Window
from sensors.parameters import Catalogue
from sensors.reading import Flag

if TYPE_CHECKING:
    import polars as pl

LAYOUT = 1
ROW_GROUP = 8192
"""Rows in a row group: six days of a reading a minute, so that a short range reads a part of the month only."""

_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")
_STATION = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_CHECKSUM = "riverchief_crc32"
_PART = ".part"
_LOCK = ".lock"


def month_of(at_ms: int) -> str:
    """The Beijing month of an instant, ``YYYY-MM``."""
    return from_ms(at_ms).astimezone(BEIJING).strftime("%Y-%m")


def month_bounds_ms(month: str) -> tuple[int, int]:
    """First instant of a month and of the one after it, ms UTC; raises ConfigurationError for what is no month."""
    if not _MONTH.fullmatch(month):
        raise ConfigurationError(say("archive.month", month=month))
    first = datetime.strptime(month, "%Y-%m").replace(tzinfo=BEIJING)
    following = (first + timedelta(days=31)).replace(day=1)
    return to_ms(first), to_ms(following)


class ParquetArchive:
    """Readings of past months in ``folder``; reads answer as a :class:`~ingest.storage.port.ReadingStore` does.

    There is no ``latest``: the database keeps the newest readings of every series. All methods raise
    StorageUnavailable, naming the file, where one cannot be read or written.
    """

    def __init__(self, folder: Path, catalogue: Catalogue) -> None:
        self._folder = folder
        self._catalogue = catalogue

    @property
    def folder(self) -> Path:
        return self._folder

    # -- writing -----------------------------------------------------------------------------------------------------

    def add(self, station: str, month: str, readings: Window) -> Window:
        """Merge readings into a station's month, replacing those of the same key; returns all that it then holds.

        They are durable, and were read back and compared, on return. Raises ValueError where a reading lies outside the
        month.
        """
        start, end = month_bounds_ms(month)
        if len(readings) and not (start <= readings.at.min() and readings.at.max() < end):
            raise ValueError(f"readings of {station} lie outside {month}")
        held = self.window(station, start, end - 1)
        merged = held.merge(readings)
        if not are_equal(held, merged):
            self._write(station, month, merged)
        return merged

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Exclusive lock for writing; raises Refused where another writer holds it. Removes the files of a killed
        writer."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle = (self._folder / _LOCK).open("a")
        except OSError as error:
            message = say("archive.unwritable", folder=self._folder, error=error.strerror)
            raise StorageUnavailable(message) from error
        with handle:
            if not file_lock.lock(handle):
                raise Refused(say("archive.another", folder=self._folder))
            for stale in self._folder.glob(f"*/*{_PART}"):
                stale.unlink(missing_ok=True)
            yield

    def _write(self, station: str, month: str, readings: Window) -> None:
        """Write under another name, sync, read back, rename, sync the folder: a kill leaves the old file or the new
        one."""
        path = self._folder / month / f"{station}.parquet"
        part = path.with_name(path.name + _PART)
        try:
            if not path.parent.is_dir():
                path.parent.mkdir(parents=True)
                fsync(self._folder)
            frame, about = self._table(station, month, readings)
            checksum = zlib.crc32(_pages(_parquet(frame, about)))
            part.write_bytes(_parquet(frame, about | {_CHECKSUM: str(checksum)}))
            fsync(part)
            if not are_equal(self._read(part, None, None), readings):
                raise StorageUnavailable(say("archive.differs", part=part))
            part.replace(path)
            fsync(path.parent)
        except OSError as error:
            message = say("archive.file_unwritable", path=path, error=error.strerror or error)
            raise StorageUnavailable(message) from error
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def _table(self, station: str, month: str, readings: Window) -> "tuple[pl.DataFrame, dict[str, str]]":
        """The rows of a file and its metadata."""
        import polars as pl

        times, row = np.unique(readings.at, return_inverse=True)
        columns = [
            pl.repeat(station, len(times), dtype=pl.Categorical, eager=True).alias("station"),
            pl.Series("time", times).cast(pl.Datetime("ms", "UTC")),
        ]
        units = {}
        for code in np.unique(readings.parameter):
            parameter = self._catalogue.parameters[code]
            of_parameter = readings.parameter == code
            named = (parameter.key, pl.Float64, readings.value), (f"{parameter.key}_q", pl.Int32, readings.packed)
            for name, dtype, held in named:
                none = pl.repeat(None, len(times), dtype=dtype, eager=True).alias(name)
                columns.append(none.scatter(row[of_parameter], pl.Series(held[of_parameter]).cast(dtype)))
            units[parameter.key] = parameter.unit
        about = {"layout": LAYOUT, "station": station, "month": month, "units": units}
        return pl.DataFrame(columns), {"riverchief": json.dumps(about, ensure_ascii=False)}

    # -- reading -----------------------------------------------------------------------------------------------------

    def months(self) -> list[str]:
        """The months there are, oldest first."""
        try:
            return sorted(name for name in os.listdir(self._folder) if _MONTH.fullmatch(name))
        except FileNotFoundError:
            return []
        except OSError as error:
            message = say("archive.folder_unreadable", folder=self._folder, error=error.strerror)
            raise StorageUnavailable(message) from error

    def window(self, station: str, start_ms: int, end_ms: int, parameters: Sequence[str] | None = None) -> Window:
        """All readings with start <= observed_at <= end, whatever their flag, sorted by (parameter, at)."""
        pieces = [self._read(path, parameters, (start_ms, end_ms)) for path in self._files(station, start_ms, end_ms)]
        return _sorted(pieces)

    def before(self, station: str, parameter: str, at_ms: int, limit: int) -> Window:
        """The newest ``limit`` readings of a series with observed_at < at, oldest first."""
        pieces: list[Window] = []
        found = 0
        for path in reversed(self._files(station, None, at_ms - 1)):
            piece = self._read(path, [parameter], (None, at_ms - 1))
            pieces.append(piece.take(np.arange(max(0, len(piece) - (limit - found)), len(piece))))
            found += len(pieces[-1])
            if found == limit:
                break
        return _sorted(pieces)

    def raw(self, station: str, parameter: str, start_ms: int, end_ms: int, limit: int) -> Series:
        """The oldest ``limit`` readings with start <= observed_at < end, one row a reading (``bucket_ms`` None)."""
        pieces: list[Window] = []
        found = 0
        for path in self._files(station, start_ms, end_ms - 1):
            piece = self._read(path, [parameter], (start_ms, end_ms - 1))
            pieces.append(piece.take(np.arange(min(len(piece), limit - found))))
            found += len(pieces[-1])
            if found == limit:
                break
        all_ = _sorted(pieces)
        ones = np.ones(len(all_), np.int64)
        return Series(all_.at, all_.value, all_.value, all_.value, ones, all_.packed, None)

    def thinned(self, station: str, parameter: str, start_ms: int, end_ms: int, bucket_ms: int) -> Series:
        """Readings with start <= observed_at < end, one row a bucket of ``bucket_ms`` counted from start.

        Buckets without a reading are left out.
        """
        import polars as pl

        window = self.window(station, start_ms, end_ms - 1, [parameter])
        usable = pl.when((pl.col("packed") & 15) < Flag.SUSPECT).then(pl.col("value"))
        buckets = (
            pl.DataFrame({"at": window.at, "value": window.value, "packed": window.packed})
            .group_by(((pl.col("at") - start_ms) // bucket_ms).alias("bucket"))
            .agg(
                usable.mean().alias("mean"),
                usable.min().alias("low"),
                usable.max().alias("high"),
                usable.count().alias("count"),
                (pl.col("packed") & 15).max().alias("flag"),
                (pl.col("packed") // 16).bitwise_or().alias("tests"),
            )
            .sort("bucket")
        )

        def floats(name: str) -> Any:
            return buckets[name].fill_null(np.nan).to_numpy()

        def ints(name: str) -> Any:
            return buckets[name].cast(pl.Int64).to_numpy()

        at = start_ms + ints("bucket") * bucket_ms
        packed = ints("flag") | ints("tests") << 4
        return Series(at, floats("mean"), floats("low"), floats("high"), ints("count"), packed, bucket_ms)

    def count(self, stations: Sequence[str] | None = None, before_ms: int | None = None) -> Mapping[str, int]:
        """Station → number of readings, with observed_at < ``before_ms`` where that is given."""
        wanted = None if stations is None else set(stations)
        counts: dict[str, int] = {}
        for month in self.months():
            start, end = month_bounds_ms(month)
            if before_ms is not None and start >= before_ms:
                break
            whole = before_ms is None or end <= before_ms
            for path in sorted((self._folder / month).glob("*.parquet")):
                station = path.stem
                if wanted is None or station in wanted:
                    found = _readings(path) if whole else len(self._read(path, None, (start, (before_ms or 0) - 1)))
                    counts[station] = counts.get(station, 0) + found
        return {station: n for station, n in counts.items() if n}

    def _files(self, station: str, start_ms: int | None, end_ms: int | None) -> list[Path]:
        """A station's files that may hold readings of the range, oldest first."""
        if not _STATION.fullmatch(station):  # it must not become a path
            return []
        first = "" if start_ms is None else month_of(max(start_ms, 0))
        last = "~" if end_ms is None else month_of(min(max(end_ms, 0), _FAR_MS))
        paths = [self._folder / m / f"{station}.parquet" for m in self.months() if first <= m <= last]
        return [path for path in paths if path.exists()]

    def _read(self, path: Path, parameters: Sequence[str] | None, range_ms: tuple[int | None, int] | None) -> Window:
        """Readings of one file with start <= at <= end, only from the row groups that can have any."""
        import polars as pl

        start, end = range_ms or (None, None)
        with _opened(path) as file:
            present = _parameters(file.collect_schema())
            keys = [key for key in present if (parameters is None or key in parameters) and key in self._catalogue]
            if parameters is None and len(keys) < len(present):
                unknown = sorted(set(present) - set(keys))[0]
                raise StorageUnavailable(say("archive.parameter", path=path, unknown=unknown))
            rows = file.select("time", *(n for key in keys for n in (key, f"{key}_q")))
            if start is not None:
                rows = rows.filter(pl.col("time") >= pl.lit(start, pl.Datetime("ms", "UTC")))
            if end is not None:
                rows = rows.filter(pl.col("time") <= pl.lit(end, pl.Datetime("ms", "UTC")))
            frame = rows.collect()
        pieces = []
        for key in sorted(keys, key=self._catalogue.index.__getitem__):
            held = frame.filter(pl.col(key).is_not_null())
            code = np.full(len(held), self._catalogue.index[key], np.int32)
            packed = held[f"{key}_q"].cast(pl.Int64).fill_null(0)
            pieces.append(Window(code, held["time"].cast(pl.Int64).to_numpy(), held[key].to_numpy(), packed.to_numpy()))
        return _sorted(pieces)


_FAR_MS = month_bounds_ms("9999-11")[0]


def select_matching(held: Window, wanted: Window) -> Window:
    """The held readings with the keys of ``wanted``, both sorted by (parameter, at); some other reading for a missing
    key."""
    if not len(wanted) or not len(held):
        return Window.empty()
    span = int(max(held.at.max(), wanted.at.max())) + 1
    keys = held.parameter.astype(np.int64) * span + held.at
    place = np.searchsorted(keys, wanted.parameter.astype(np.int64) * span + wanted.at)
    return held.take(np.minimum(place, len(held) - 1))


def are_equal(a: Window, b: Window) -> bool:
    """Whether two windows are equal to the last bit."""
    return (
        np.array_equal(a.parameter, b.parameter)
        and np.array_equal(a.at, b.at)
        and np.array_equal(a.value.view(np.int64), b.value.view(np.int64))
        and np.array_equal(a.packed, b.packed)
    )


def fsync(path: Path) -> None:
    """fsync a file or a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _opened(path: Path) -> "Iterator[pl.LazyFrame]":
    """A file to be queried; its row groups that cannot meet a condition on ``time`` are not decoded.

    Polars may end the process over damaged pages, and over a disk's error where it maps the file into memory: the file
    is read and its checksum compared first. Files of earlier versions have none.
    """
    import polars as pl

    try:
        content = path.read_bytes()
        checksum = pl.read_parquet_metadata(content).get(_CHECKSUM)
        if checksum is not None and int(checksum) != zlib.crc32(_pages(content)):
            raise OSError("the checksum differs")
        yield pl.scan_parquet(io.BytesIO(content))
    except (OSError, ValueError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise StorageUnavailable(say("archive.unreadable", path=path, error=str(error).splitlines()[0])) from error


def _parquet(frame: "pl.DataFrame", about: dict[str, str]) -> bytes:
    """A file's content; made in memory, for Polars raises no OSError where a disk is full."""
    content = io.BytesIO()
    frame.write_parquet(content, compression="zstd", row_group_size=ROW_GROUP, metadata=about)
    return content.getvalue()


def _pages(content: bytes) -> memoryview:
    """What stands before the footer, whose length the last eight bytes tell."""
    return memoryview(content)[: -8 - int.from_bytes(content[-8:-4], "little")]


def _parameters(names: Iterable[str]) -> list[str]:
    return [name for name in names if name not in ("station", "time") and not name.endswith("_q")]


def _readings(path: Path) -> int:
    """How many readings a file holds; the flags are as many as the values, and smaller."""
    import polars as pl

    with _opened(path) as file:
        flags = [f"{key}_q" for key in _parameters(file.collect_schema())]
        return sum(file.select(pl.col(flags).count()).collect().row(0))


def _sorted(pieces: Sequence[Window]) -> Window:
    """Pieces that share no key as one window, sorted by (parameter, at)."""
    filled = [piece for piece in pieces if len(piece)]
    if not filled:
        return Window.empty()
    whole = Window(
        np.concatenate([piece.parameter for piece in filled]),
        np.concatenate([piece.at for piece in filled]),
        np.concatenate([piece.value for piece in filled]),
        np.concatenate([piece.packed for piece in filled]),
    )
    return whole if len(filled) == 1 else whole.take(np.lexsort((whole.at, whole.parameter)))
