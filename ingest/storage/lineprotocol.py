r"""Encode and decode InfluxDB line protocol. Pure.

``measurement,tag=value,… field=value,… time``. Rules, as published with the protocol's grammar and test corpus:

- In a measurement a comma and a space are escaped with a backslash, in keys and tag values the equals sign too. Any
  other backslash stands for itself, so that one at the end could not be told from an escape: it cannot be written.
- Names are UTF-8, not empty and without control characters. A tag without a value is left out; in a tag's value, which
  may be somebody's free text, ``_`` stands for what cannot be written.
- An integer carries ``i`` and fits 64 bits; text is quoted, ``"`` and the backslash in it are escaped, a line break is
  allowed; a boolean is ``true`` or ``false``; NaN and the infinities cannot be written.
- Floats are written in the shortest form that reads back to the same 64 bits.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from ingest.storage import schema
from sensors.parameters import Catalogue
from sensors.reading import Batch, Codes, Flag, Ints

FieldValue = float | int | str | bool

FIRST_MS: Final = -9_223_372_036_854
LAST_MS: Final = 9_223_372_036_854
"""The times (ms) that a server holds as 64 bits of nanoseconds, the years 1677 to 2262."""

_INT64: Final = range(-(2**63), 2**63)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Point:
    """A parsed line; ``at`` in the precision of its writer, None where it has no time."""

    measurement: str
    tags: Mapping[str, str]
    fields: Mapping[str, FieldValue]
    at: int | None


# -- readings --------------------------------------------------------------------------------------------------------


def encode(
    stations: Sequence[str], reaches: Sequence[str], batch: Batch, packed: Ints, catalogue: Catalogue
) -> list[bytes]:
    """Readings as points of measurement ``water``: one line for each (station, time), sorted by both.

    Parameters
    ----------
    stations, reaches : (stations,) keys
        Indexed by ``batch.station``; a reach of "" is left out.
    batch : (n,) readings
        Canonical units. Values that are not finite cannot be written and are left out.
    packed : (n,) flag and tests (:func:`sensors.reading.pack`)
    catalogue : names of the parameters

    Returns
    -------
    Lines without a line break; :mod:`ingest.storage.schema` says which fields they hold.
    """
    keep = np.flatnonzero(np.isfinite(batch.value))
    encoded, marks = (batch, packed) if len(keep) == len(batch) else (batch.take(keep), packed[keep])
    return _lines(stations, reaches, encoded, marks, catalogue, with_value=True)


def encode_reflag(
    stations: Sequence[str], reaches: Sequence[str], batch: Batch, packed: Ints, catalogue: Catalogue
) -> list[bytes]:
    """Changed flags of stored readings: as :func:`encode`, but flags and tests only."""
    return _lines(stations, reaches, batch, packed, catalogue, with_value=False)


def _lines(
    stations: Sequence[str],
    reaches: Sequence[str],
    batch: Batch,
    packed: Ints,
    catalogue: Catalogue,
    *,
    with_value: bool,
) -> list[bytes]:
    if not len(batch):
        return []
    order = np.lexsort((batch.parameter, batch.at, batch.station))
    station, at = batch.station[order], batch.at[order]
    fields = _fields(batch.parameter[order], packed[order], catalogue, with_value=with_value)
    if with_value:
        numbers = msgspec.json.encode(batch.value[order].tolist())[1:-1].split(b",")
        texts = [before + number + after for (before, after), number in zip(fields, numbers, strict=True)]
    else:
        texts = [after for _, after in fields]
    first = np.flatnonzero(np.r_[True, (station[1:] != station[:-1]) | (at[1:] != at[:-1])])
    ends = [*first[1:].tolist(), len(texts)]
    heads = {i: _head(stations[i], reaches[i]) for i in np.unique(station).tolist()}
    return [
        b"%b %b %d" % (heads[i], b",".join(texts[begin:end]), ms)
        for i, ms, begin, end in zip(station[first].tolist(), at[first].tolist(), first.tolist(), ends, strict=True)
    ]


def _fields(parameter: Codes, packed: Ints, catalogue: Catalogue, *, with_value: bool) -> list[tuple[bytes, bytes]]:
    """The text before and after each value; built once for each (parameter, flags) that occurs."""
    kinds, kind = np.unique(packed * len(catalogue) + parameter, return_inverse=True)
    made = []
    for mark, code in (divmod(number, len(catalogue)) for number in kinds.tolist()):
        made.append(_around(catalogue.parameters[code].key, mark, with_value))
    return [made[i] for i in kind.tolist()]


def _around(key: str, packed: int, with_value: bool) -> tuple[bytes, bytes]:
    flag = packed & 15
    after = f"{_key(schema.flag(key))}={flag}i"
    if flag != Flag.GOOD:
        after += f",{_key(schema.tests(key))}={packed >> 4}i"
    return f"{_key(key)}=".encode(), f"{',' if with_value else ''}{after}".encode()


def _head(station: str, reach: str) -> bytes:
    return _series(schema.WATER, {schema.STATION: station, schema.REACH: reach}).encode()


# -- any point -------------------------------------------------------------------------------------------------------


def point(measurement: str, tags: Mapping[str, str], fields: Mapping[str, FieldValue], at_ms: int) -> bytes:
    """One point as a line. Empty tags and fields that are NaN or infinite are left out.

    Raises ValueError when a name cannot be written, an integer does not fit 64 bits, the time is outside the years
    1677 to 2262, or no field is left.
    """
    if not FIRST_MS <= at_ms <= LAST_MS:
        raise ValueError(f"time {at_ms} ms is outside what a time-series server can hold (1677 to 2262)")
    written = [f"{_key(key)}={_value(key, value)}" for key, value in fields.items() if _writable(value)]
    if not written:
        raise ValueError(f"a point of {measurement!r} needs at least one field with a finite value")
    return f"{_series(measurement, tags)} {','.join(written)} {at_ms}".encode()


def _series(measurement: str, tags: Mapping[str, str]) -> str:
    """Measurement and tags; servers like the tags sorted by key."""
    parts = [f"{_key(key)}={_key(_tag_value(value))}" for key, value in sorted(tags.items()) if value]
    name = _checked(measurement).replace(",", r"\,").replace(" ", r"\ ")
    if name.startswith("#"):
        raise ValueError(f"measurement {measurement!r} begins with #, which begins a comment")
    return ",".join([name, *parts])


def _key(text: str) -> str:
    return _checked(text).replace(",", r"\,").replace("=", r"\=").replace(" ", r"\ ")


def _tag_value(text: str) -> str:
    """The value with ``_`` for control characters and for a backslash at the end."""
    text = _CONTROL.sub("_", text)
    return f"{text[:-1]}_" if text.endswith("\\") else text


def _checked(text: str) -> str:
    if not text or text.endswith("\\") or _CONTROL.search(text):
        raise ValueError(f"{text!r} cannot be a name: it is empty, ends in a backslash or has a control character")
    return text


def _writable(value: FieldValue) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _value(key: str, value: FieldValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if value not in _INT64:
            raise ValueError(f"field {key!r}: {value} does not fit a 64-bit integer")
        return f"{value}i"
    if isinstance(value, float):
        return repr(float(value))
    return '"' + value.replace("\\", r"\\").replace('"', r"\"") + '"'


# -- reading lines ---------------------------------------------------------------------------------------------------

_SPACES: Final = re.compile(r" *")
_SEPARATOR: Final = re.compile(r" +")
_MEASUREMENT: Final = re.compile(r"(?!#)(?:[^\x00-\x1f\x7f \\,]|\\+[^\\\x00-\x1f\x7f])+")
_NAME: Final = re.compile(r"(?:[^\x00-\x1f\x7f \\,=]|\\+[^\\\x00-\x1f\x7f])+")
_TEXT: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BARE: Final = re.compile(r"[^ ,\r\n]+")
_TIME: Final = re.compile(r"-?[0-9]+")
_END: Final = re.compile(r" *\r?\n?")
_FLOAT: Final = re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_INTEGER: Final = re.compile(r"(-?[0-9]+)i")
_UNSIGNED: Final = re.compile(r"([0-9]+)u")
_BOOLEANS: Final = {
    **dict.fromkeys(("t", "T", "true", "True", "TRUE"), True),
    **dict.fromkeys(("f", "F", "false", "False", "FALSE"), False),
}
_TEXT_ESCAPES: Final = {'"': '"', "\\": "\\", "n": "\n", "r": "\r", "t": "\t"}


def parse(line: bytes) -> Point:
    """Parse one line, with all that the grammar allows. Raises ValueError naming the fault and its place."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} of the line is not UTF-8") from None
    reader = _Reader(text)
    reader.take(_SPACES, "")
    measurement = _unescaped(reader.take(_MEASUREMENT, "a measurement"), ", ")
    tags: dict[str, str] = {}
    while reader.skip(","):
        key = _unescaped(reader.take(_NAME, "a tag key"), ",= ")
        reader.need("=", f"= after tag key {key!r}")
        value = _unescaped(reader.take(_NAME, f"the value of tag {key!r}"), ",= ")
        if key in tags:
            raise ValueError(f"tag {key!r} occurs twice")
        tags[key] = value
    reader.take(_SEPARATOR, "a space before the fields")
    fields: dict[str, FieldValue] = {}
    while True:
        key = _unescaped(reader.take(_NAME, "a field key"), ",= ")
        reader.need("=", f"= after field key {key!r}")
        fields[key] = _field(reader, key)
        if not reader.skip(","):
            break
    at = None
    if reader.peek(_SEPARATOR) and not reader.ends():
        reader.take(_SEPARATOR, "")
        at = _whole(reader.take(_TIME, "a time"))
        if at not in _INT64:
            raise ValueError("the time does not fit a 64-bit integer")
    if not reader.ends():
        raise ValueError(f"{reader.rest()!r} follows the point")
    return Point(measurement, tags, fields, at)


def by_parameter(line: bytes) -> list[bytes]:
    """Split a line of readings into one line for each parameter; any other line stays. Raises ValueError."""
    point_ = parse(line)
    if point_.measurement != schema.WATER or point_.at is None:
        return [line]
    parts: dict[str, dict[str, FieldValue]] = {}
    for name, value in point_.fields.items():
        parts.setdefault(schema.parameter_of(name), {})[name] = value
    return [point(point_.measurement, point_.tags, fields, point_.at) for fields in parts.values()]


def _field(reader: "_Reader", key: str) -> FieldValue:
    if reader.peek(_TEXT):
        return re.sub(r"\\(.)", _text_escape, reader.take(_TEXT, "")[1:-1], flags=re.DOTALL)
    bare = reader.take(_BARE, f"the value of field {key!r}")
    if bare in _BOOLEANS:
        return _BOOLEANS[bare]
    if _FLOAT.fullmatch(bare):
        number = float(bare)
        if math.isinf(number):
            raise ValueError(f"field {key!r}: {bare[:40]} is too large for a 64-bit float")
        return number
    for pattern, allowed in ((_INTEGER, _INT64), (_UNSIGNED, range(2**64))):
        if found := pattern.fullmatch(bare):
            whole = _whole(found[1])
            if whole not in allowed:
                raise ValueError(f"field {key!r}: {bare[:40]} does not fit 64 bits")
            return whole
    raise ValueError(f"field {key!r}: {bare[:40]!r} is neither a number, nor quoted text, nor true or false")


def _whole(digits: str) -> int:
    """The integer; 2**64 for one of more than 63 digits."""
    return int(digits) if len(digits) < 64 else 2**64


def _text_escape(found: re.Match[str]) -> str:
    return _TEXT_ESCAPES.get(found[1], found[0])


def _unescaped(text: str, escapes: str) -> str:
    return re.sub(rf"\\([{escapes}])", r"\1", text)


class _Reader:
    """A cursor in a text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def take(self, pattern: re.Pattern[str], what: str) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise ValueError(f"{what} is missing at {self.rest()!r}")
        self._at = found.end()
        return found[0]

    def peek(self, pattern: re.Pattern[str]) -> bool:
        return pattern.match(self._text, self._at) is not None

    def skip(self, text: str) -> bool:
        if not self._text.startswith(text, self._at):
            return False
        self._at += len(text)
        return True

    def need(self, text: str, what: str) -> None:
        if not self.skip(text):
            raise ValueError(f"{what} is missing at {self.rest()!r}")

    def ends(self) -> bool:
        return _END.fullmatch(self._text, self._at) is not None

    def rest(self) -> str:
        """The beginning of what is not read yet, for messages."""
        return self._text[self._at : self._at + 40]
