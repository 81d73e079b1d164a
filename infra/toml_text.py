"""Parse TOML text; every fault in it is one kind of error."""

import tomllib
from importlib.resources import files
from typing import Any

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
