"""Read tables from files: decoded in a child process with limits of memory and time, handed over as Arrow.

The module is both sides: the functions with a leading underscore run in the child (`infra.limited_process`).
"""

import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import polars as pl

from infra.errors import ConfigurationError
from infra.limited_process import LimitedProcess
from infra.texts import say

T = TypeVar("T")
_decoder = LimitedProcess(__name__, error=ConfigurationError, memory_mib=4096, seconds=300)
"""Polars reserves 2 GB of addresses before it reads anything; a full sheet takes 1 GB."""


def read_excel(path: Path, *, keep_empty: bool = False) -> pl.DataFrame:
    """The first sheet of a workbook; ``keep_empty``: with its empty rows and columns. Raises ConfigurationError."""
    return _arrow(_decoder.call("_excel", path=_readable(path), keep_empty=keep_empty))


def parquet_head(path: Path) -> tuple[list[str], int]:
    """Names of the columns and number of rows of a Parquet file. Raises ConfigurationError."""
    names, rows = _decoder.call("_parquet_head", path=_readable(path))
    return names, rows


def read_parquet(path: Path, first: int = 0, count: int | None = None) -> pl.DataFrame:
    """Rows of a Parquet file, all by default. Raises ConfigurationError."""
    return _arrow(_decoder.call("_parquet", path=_readable(path), first=first, count=count))


def read_csv(path: Path) -> pl.DataFrame:
    """The whole of a table in CSV, also gzip. Raises ConfigurationError."""
    return _arrow(_decoder.call("_csv", path=_readable(path)))


def _readable(path: Path) -> str:
    """The path for the child. Raises OSError, as opening it here does."""
    path.open("rb").close()
    return str(path.absolute())


def _arrow(data: bytes) -> pl.DataFrame:
    return pl.read_ipc(io.BytesIO(data))


def _excel(_: bytes, path: str, keep_empty: bool) -> bytes:
    def read() -> pl.DataFrame:
        if keep_empty:
            return pl.read_excel(path, infer_schema_length=None, drop_empty_rows=False, drop_empty_cols=False)
        return pl.read_excel(path)

    return _written(_named(path, read))


def _parquet_head(_: bytes, path: str) -> tuple[list[str], int]:
    def read() -> tuple[list[str], int]:
        table = pl.scan_parquet(path, glob=False)
        return table.collect_schema().names(), int(table.select(pl.len()).collect().item())

    return _named(path, read)


def _parquet(_: bytes, path: str, first: int, count: int | None) -> bytes:
    return _written(_named(path, lambda: pl.scan_parquet(path, glob=False).slice(first, count).collect()))


def _csv(_: bytes, path: str) -> bytes:
    def read() -> pl.DataFrame:
        data = Path(path).read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
        return pl.read_csv(data, infer_schema_length=None, try_parse_dates=False)

    return _written(_named(path, read))


def _named(path: str, read: Callable[[], T]) -> T:
    """Whatever is wrong with a file as one sentence about it; libraries raise errors of many kinds."""
    try:
        return read()
    except MemoryError:
        raise  # ends the child, as an allocation that fails in a library does
    except BaseException as error:
        words = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigurationError(say("file.no_table", path=path, error=words)) from error


def _written(frame: pl.DataFrame) -> bytes:
    into = io.BytesIO()
    frame.write_ipc(into)
    return into.getvalue()
