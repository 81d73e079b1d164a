"""Parse TOML text, where every fault is one kind of error, and write values as TOML."""

import json
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from infra.times import rfc3339, to_ms

_LARGEST = 2**63
"""TOML's integers have 64 bits; Python's have no end, and cannot even be written out beyond 4,300 digits."""


def shipped(package: str, name: str) -> dict[str, Any]:
    """The tables of a file that lies in a package."""
    return tomllib.loads(files(package).joinpath(name).read_text(encoding="utf-8"))


def loads(text: str) -> dict[str, Any]:
    """The tables of a text. Raises tomllib.TOMLDecodeError for all that is no TOML: also for numbers that are too long
    and tables that are nested too deeply, for which tomllib has other errors or none."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:  # more digits than Python converts
        raise tomllib.TOMLDecodeError("a number has more than 64 bits") from None
    except RecursionError:
        raise tomllib.TOMLDecodeError("it is nested too deeply") from None
    waiting: list[Any] = [tables]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict | list):
            waiting += one.values() if isinstance(one, dict) else one
        elif isinstance(one, int) and not -_LARGEST <= one < _LARGEST:
            raise tomllib.TOMLDecodeError("a number has more than 64 bits")
    return tables


def assignments(table: Mapping[str, Any]) -> list[str]:
    """The entries of a table, one line each; :func:`loads` reads them back as the same.

    Values are texts, booleans, numbers, datetimes with an offset, and arrays of these.
    """
    return [f"{name} = {_written(value)}" for name, value in table.items()]


def _written(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, datetime):
        return rfc3339(to_ms(value.astimezone(UTC)))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    return f"[{', '.join(map(_written, value))}]"
