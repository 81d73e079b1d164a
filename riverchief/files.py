"""Files a site brings: the shipped configuration, registries, rules and recorded tables."""

import gzip
from importlib.resources import files
from pathlib import Path

import numpy as np
import polars as pl

from governance import assessment, contacts, dispatch, oncall, platforms
from governance.assessment import Formula
from governance.contacts import Directory
from governance.dispatch import Processes
from governance.oncall import Shift
from governance.platforms import Platforms
from ingest.checks import rules
from ingest.checks.rules import Rules
from sensors import columns, stationbook, stationfile, stationtable
from sensors.datum import Box
from sensors.errors import ConfigurationError
from sensors.parameters import Catalogue
from sensors.stationbook import Book
from sensors.stations import Registry
from sensors.texts import Text, sentence
from sensors.wire import mapping
from sensors.wire.mapping import Mappings
from simulator.replay import Table


def shipped(name: str) -> Path:
    """A file of ``config/``: from the checkout, or from the installed package."""
    for folder in (Path(__file__).parent.parent / "config", Path(str(files("riverchief"))) / "_config"):
        if (folder / name).is_file():
            return folder / name
    raise ConfigurationError(sentence("file.not_shipped", name=name))


def record() -> Path:
    """The small real record that ships with the simulator (its README names source and licence)."""
    return Path(str(files("simulator"))) / "records" / "apalachicola_cat_point.csv.gz"


def read_rules(path: Path | None, catalogue: Catalogue) -> Rules:
    """The rules of a file, or the shipped ones; raises ConfigurationError naming file and fault."""
    path = path or shipped("rules.toml")
    try:
        return parse_rules(_text(path), catalogue)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def parse_rules(text: str, catalogue: Catalogue) -> Rules:
    """Rules from the text of a file; raises ConfigurationError naming every fault."""
    return rules.read(text, catalogue)


def read_formula(path: Path | None) -> Formula:
    """The formula of the assessment in a file, or the shipped example; raises ConfigurationError naming the fault."""
    path = path or shipped("assessment.toml")
    try:
        return assessment.read(_text(path))
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def read_processes(path: Path | None) -> Processes:
    """The processes of a file, or the shipped ones; raises ConfigurationError naming file and fault."""
    path = path or shipped("processes.toml")
    try:
        return dispatch.read(_text(path))
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def read_stations(path: Path | None, catalogue: Catalogue) -> Registry:
    """The registry of a file, or the shipped example; raises ConfigurationError naming file and fault."""
    path = path or shipped("stations.toml")
    try:
        return stationfile.read(_text(path), catalogue)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def read_book(
    path: Path,
    catalogue: Catalogue,
    *,
    known: Book | None = None,
    box: Box | None = None,
    kind: str | None = None,
) -> Book:
    """Stations and what hangs there from a file (TOML) or a table (.csv); raises ConfigurationError naming every row.

    ``kind`` is what the rows of a table are, where it has no column of that name.
    """
    table = path.suffix.lower() == ".csv"
    if kind is not None and kind not in stationbook.COLUMNS:
        raise ConfigurationError(sentence("file.kind", kind=kind, known=", ".join(stationbook.COLUMNS)))
    try:
        if table:
            return stationtable.read_book(_table_text(path), catalogue, kind=kind, known=known, box=box)
        return stationfile.read_book(_text(path), catalogue, known=known, box=box)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _table_text(path: Path) -> str:
    """The table as UTF-8 or as Chinese spreadsheets save it (GB 18030)."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(sentence("file.unreadable", file=path, error=error)) from error
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise ConfigurationError(sentence("file.no_text", path=path))


def read_mappings(path: Path | None, catalogue: Catalogue) -> Mappings:
    """The payload mappings of a file, none without one; raises ConfigurationError naming file, entry and reason."""
    if path is None:
        return mapping.NONE
    try:
        return mapping.read(_text(path), catalogue)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(sentence("file.unreadable", file=path, error=error)) from error


def read_table(path: Path, catalogue: Catalogue) -> Table:
    """A recorded table (CSV, gzip, Parquet or Excel) as columns; raises ConfigurationError naming file and column.

    ``time`` must be RFC 3339 or carry no offset (then UTC is meant); ``station`` may be missing (the file's name
    stands for it). Columns that name no parameter are left alone.
    """
    frame = _frame(path)
    names = {name.strip().lower(): name for name in frame.columns}
    if "time" not in names:
        raise ConfigurationError(sentence("file.no_time", path=path, found=", ".join(frame.columns[:8])))
    time = _times(path, frame[names["time"]])
    values: dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]] = {}
    for column in columns.columns(frame.columns, catalogue).columns:
        numbers = frame[column.name].cast(pl.Float64, strict=False).to_numpy()
        values[column.parameter] = np.asarray(numbers * column.convert.gain + column.convert.offset)
    if not values:
        raise ConfigurationError(sentence("table.no_parameter", source=path, found=", ".join(frame.columns[:8])))
    station = (
        frame[names["station"]].cast(pl.String).fill_null("").to_numpy().astype(np.str_)
        if "station" in names
        else np.full(len(time), path.name.split(".")[0])
    )
    order = np.argsort(time, kind="stable")
    return Table(station[order], time[order], {key: value[order] for key, value in values.items()}, source=path.name)


def read_events(path: Path) -> dict[str, list[tuple[int, int]]]:
    """Station name → stretches (first, last ms) in which the column ``event`` of a table is 1; empty without one.

    Rows without a value are nobody's statement. Raises ConfigurationError naming file and column.
    """
    frame = _frame(path)
    names = {name.strip().lower(): name for name in frame.columns}
    if "event" not in names:
        return {}
    time = _times(path, frame[names["time"]])
    label = frame[names["event"]].cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
    station = frame[names["station"]].cast(pl.String).fill_null("").to_numpy() if "station" in names else None
    found: dict[str, list[tuple[int, int]]] = {}
    all_names = [path.name.split(".")[0]] if station is None else dict.fromkeys(station.tolist())
    for name in all_names:
        rows = np.arange(len(time)) if station is None else np.flatnonzero(station == name)
        rows = rows[np.argsort(time[rows], kind="stable")]
        rows = rows[~np.isnan(label[rows])]
        on = np.concatenate([[False], label[rows] == 1, [False]])
        first, last = np.flatnonzero(on[1:] & ~on[:-1]), np.flatnonzero(on[:-1] & ~on[1:]) - 1
        spans = zip(time[rows][first].tolist(), time[rows][last].tolist(), strict=True)
        if len(rows):
            found[str(name)] = list(spans)
    return found


def _frame(path: Path) -> pl.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pl.read_parquet(path)
        if path.suffix in (".xlsx", ".xls"):
            return pl.read_excel(path)
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        return pl.read_csv(data, infer_schema_length=None, try_parse_dates=False)
    except FileNotFoundError:
        raise ConfigurationError(sentence("file.missing", path=path)) from None
    except (OSError, EOFError, pl.exceptions.PolarsError, ModuleNotFoundError) as error:
        raise ConfigurationError(sentence("file.no_table", path=path, error=str(error).splitlines()[0])) from error


def _times(path: Path, column: pl.Series) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    try:
        if column.dtype == pl.String:
            column = column.str.to_datetime(time_unit="ms", time_zone="UTC", strict=True)
        elif column.dtype == pl.Datetime:
            column = column.dt.cast_time_unit("ms")
            column = column.dt.replace_time_zone("UTC") if column.dtype.time_zone is None else column  # type: ignore[attr-defined]
        else:
            raise ConfigurationError(sentence("file.time_type", path=path, dtype=column.dtype))
    except pl.exceptions.PolarsError as error:
        said = str(error).splitlines()[0]
        raise ConfigurationError(sentence("file.time_unreadable", path=path, error=said)) from error
    if column.null_count():
        row = int(column.is_null().arg_max() or 0) + 2
        raise ConfigurationError(sentence("file.time_empty", path=path, row=row))
    return np.asarray(column.cast(pl.Int64).to_numpy(), np.int64)


def read_platforms(path: Path | None, usual_secret: str | None) -> Platforms:
    """The external platforms of a file; none without one. Raises ConfigurationError naming file and fault."""
    if path is None:
        return Platforms()
    try:
        return platforms.read(_text(path), lambda file: _secret_in(path.parent / file), usual_secret)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def read_contacts(path: Path) -> Directory:
    """The contacts of a file; raises ConfigurationError naming file and fault, never an address."""
    try:
        return contacts.read(_text(path), lambda file: _secret_in(path.parent / file))
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def read_shifts(path: Path, directory: Directory) -> tuple[list[Shift], list[Text]]:
    """The shifts of a plan, and what a reader should know; raises ConfigurationError naming file and fault."""
    try:
        return oncall.read(_text(path), lambda key: directory.get(key) is not None)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _secret_in(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(sentence("file.secret", file=file, error=type(error).__name__)) from error
