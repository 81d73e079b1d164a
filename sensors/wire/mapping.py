"""Decode payloads of other formats (a LoRaWAN server, a logger of its own kind) by mappings of the site.

A mapping says for the topics of one kind of sender where in its JSON stand the station, the time and the values. It is
data (``config/mappings.toml``), its places are written in JMESPath; ``config/mappings/`` holds mappings of usual
senders to include. Nothing here raises for what a payload holds.
"""

import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import jmespath
import msgspec
from jmespath import functions
from jmespath.exceptions import JMESPathError

from infra import toml_text
from infra.errors import ConfigurationError
from infra.texts import at, joined, say
from infra.times import to_ms
from sensors.parameters import Catalogue
from sensors.reading import Batch, Message, Reason, Rejected
from sensors.units import IDENTITY, Linear, conversion
from sensors.wire.telemetry import KINDS, MAX_BYTES, MAX_SAMPLES, STATION, Decoded, Header, topic, whole

SOURCE: Final = "mapped"
"""``Message.source`` of messages on a mapped topic; their payload is unchanged."""

_ENTRIES = ("name", "topic", "station", "stations", "samples", "columns", "time", "missing", "values", "include")
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)")
_SAMPLE_TIME = datetime(2026, 5, 12, 10, 30, tzinfo=UTC)
_LATEST_MS = 253_402_300_799_000  # the end of the year 9999, beyond which no calendar of ours goes


class _Functions(functions.Functions):  # type: ignore[misc]
    """JMESPath's functions and ``json``, which reads JSON that a payload holds as text."""

    @functions.signature({"types": ["string", "null"]})  # type: ignore[untyped-decorator]
    def _func_json(self, text: str | None) -> Any:
        return json.loads(text, parse_int=whole) if text else None


_OPTIONS: Final = jmespath.Options(custom_functions=_Functions())


class Path:
    """A JMESPath expression for a place in a payload. Raises ConfigurationError for one that cannot be read."""

    __slots__ = ("_compiled", "text")

    def __init__(self, text: object) -> None:
        if not isinstance(text, str) or not text.strip():
            raise ConfigurationError(say("mapping.no_expression", text=text))
        try:
            self._compiled = jmespath.compile(text)
        except JMESPathError as error:
            reason = " ".join(str(error).split())
            raise ConfigurationError(say("mapping.expression", text=text, error=reason)) from None
        self.text = text

    def of(self, body: Any) -> Any:
        """The value at the place, None where there is none; raises ValueError where the expression cannot be
        applied."""
        try:
            return self._compiled.search(body, _OPTIONS)
        except (JMESPathError, ArithmeticError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(" ".join(str(error).split())) from None


@dataclass(frozen=True, slots=True)
class Clock:
    """How a time is written: ``rfc3339``, ``s`` or ``ms`` since 1970, or a pattern of ``strptime`` and its zone."""

    form: str = "rfc3339"
    zone: timezone | None = None

    def read(self, written: Any) -> int:
        """ms since the epoch; raises ValueError saying what is needed."""
        if self.form in ("s", "ms"):
            number = _number(written)
            scaled = None if number is None else number * (1000 if self.form == "s" else 1)
            if scaled is None or not 0 <= scaled <= _LATEST_MS:
                raise ValueError(f"a number of {self.form} since 1970 is needed")
            return round(scaled)
        if not isinstance(written, str):
            raise ValueError("text is needed")
        if self.form == "rfc3339":
            try:
                return to_ms(msgspec.convert(written, datetime))
            except (msgspec.ValidationError, ValueError, OverflowError):
                raise ValueError("an RFC 3339 time with offset is needed") from None
        try:
            moment = datetime.strptime(written, self.form)  # noqa: DTZ007 - the zone is ours to say
        except ValueError:
            raise ValueError(f"a time written as {self.form} is needed") from None
        return to_ms(moment if moment.tzinfo is not None else moment.replace(tzinfo=self.zone))


@dataclass(frozen=True, slots=True)
class Value:
    """Where a parameter is in a payload, and the conversion to the unit that is handed on."""

    parameter: str
    path: Path
    linear: Linear = IDENTITY


@dataclass(frozen=True, slots=True)
class Columns:
    """How a sample becomes an object in which the values are found by their names.

    Either ``names`` (in the whole payload) lists what the values of ``row`` (in the sample) are called, or a sample
    holds a single value: ``name`` and ``value`` say where it stands.
    """

    names: Path | None = None
    row: Path | None = None
    name: Path | None = None
    value: Path | None = None

    def names_of(self, body: Any) -> Sequence[Any]:
        """The names of the columns; raises ValueError where there is no list."""
        if self.names is None:
            return ()
        found = self.names.of(body)
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise ValueError(f"{self.names.text} must be a list of names")
        return found

    def row_of(self, sample: Any, names: Sequence[Any]) -> dict[Any, Any]:
        """The values of a sample by their names; raises ValueError where they do not fit together."""
        if self.name is not None and self.value is not None:
            name = self.name.of(sample)
            return {_text(name): self.value.of(sample)} if _plain(name) else {}
        assert self.row is not None, "columns have either"
        row = self.row.of(sample)
        if not isinstance(row, list) or len(row) != len(names):
            found = f"{len(row)} values" if isinstance(row, list) else _kind(row)
            raise ValueError(f"{self.row.text} is {found}, a list of {len(names)} is needed: one for each name")
        return dict(zip(names, row, strict=True))


@dataclass(frozen=True, slots=True)
class PayloadMapping:
    """How to read what is published on ``topic`` (with ``+`` and ``#`` as in a subscription).

    The station's name comes from the payload (``station``) or from a level of the topic (``level``, from 1);
    ``stations`` translates it where the sender knows other names. Without ``samples`` the payload is one sample;
    several are steps, each from what the one before found. Without ``time`` a sample was taken when it arrived.
    ``missing`` are the words, in lower case, and the numbers that the sender writes where it has no value.
    """

    name: str
    topic: str
    values: tuple[Value, ...]
    station: Path | None = None
    level: int | None = None
    stations: Mapping[str, str] = field(default_factory=dict)
    samples: tuple[Path, ...] = ()
    columns: Columns | None = None
    time: Path | None = None
    clock: Clock = Clock()
    missing: frozenset[str | float] = frozenset()

    def samples_of(self, body: Any) -> list[tuple[Any, Any]]:
        """Each sample after what holds it, if that is not the payload; of an object, each entry as ``key``, ``value``.

        Raises ValueError where neither a list nor an object is found.
        """
        found: list[tuple[Any, Any]] = [(None, body)]
        for step in self.samples:
            deeper: list[tuple[Any, Any]] = []
            for _, outer in found:
                inner = step.of(outer)
                if isinstance(inner, dict):
                    inner = [{"key": key, "value": value} for key, value in inner.items()]
                if not isinstance(inner, list):
                    raise ValueError(f"{step.text} must be a list or an object, this is {_kind(inner)}")
                deeper += [(None if outer is body else outer, one) for one in inner]
            found = deeper
        return found

    def is_missing(self, given: Any) -> bool:
        """Whether the sender says with a value that it has none."""
        if not self.missing:
            return False
        number = _number(given)
        if number is not None:
            return number in self.missing
        return isinstance(given, str | float) and str(given).strip().lower() in self.missing

    def station_of(self, message: Message, body: Any) -> str:
        """The key of the station that measured; raises ValueError where the message does not say."""
        if self.level is not None:
            name: Any = message.topic.split("/")[self.level - 1]
            where = f"level {self.level} of the topic"
        else:
            assert self.station is not None, "a mapping has either"
            name, where = self.station.of(body), self.station.text
        if _plain(name):
            name = _text(name)
        if not isinstance(name, str):
            raise ValueError(f"{where} is {_kind(name)}, the name of the station is needed")
        key = self.stations.get(name, name)
        if not STATION.fullmatch(key):
            raise ValueError(f"{where} is {_shorten(name)}, which is no station's key and not among the stations")
        return key


class Mappings:
    """All mappings of a site; no topic belongs to two."""

    def __init__(self, mappings: Iterable[PayloadMapping] = ()) -> None:
        self._mappings = [(mapping.topic.split("/"), mapping) for mapping in mappings]

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics to subscribe to."""
        return tuple(mapping.topic for _, mapping in self._mappings)

    def of(self, published: str) -> PayloadMapping | None:
        """The mapping of a published topic."""
        levels = published.split("/")
        return next((mapping for pattern, mapping in self._mappings if _overlap(pattern, levels)), None)


NONE: Final = Mappings()


_NO_PRESETS: Final[Mapping[str, str]] = {}


# -- the file ----------------------------------------------------------------------------------------------------------


def read(text: str, catalogue: Catalogue, presets: Mapping[str, str] = _NO_PRESETS) -> Mappings:
    """Read mappings from TOML; raises ConfigurationError listing every fault with its entry, one a line.

    ``presets`` are texts of the same kind by the names under which a mapping may include them.
    """
    try:
        tables = toml_text.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(say("file.no_toml", error=error)) from error
    faults = [say("mapping.unknown_table", name=name) for name in tables if name != "mapping"]
    rows = tables.get("mapping", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConfigurationError(say("mapping.list"))
    found: list[PayloadMapping] = []
    for number, row in enumerate(rows, 1):
        try:
            made = _mapping(_completed(row, presets), catalogue)
            _check_unique_topics(made, found)
            found.append(made)
        except ConfigurationError as error:
            name = row.get("name") or row.get("include") or f"number {number}"
            faults.append(at(f"mapping {name}", error.text))
    if faults:
        raise ConfigurationError(joined(faults))
    return Mappings(found)


def _completed(row: Mapping[str, Any], presets: Mapping[str, str]) -> Mapping[str, Any]:
    """An entry with what it includes: its own entries come first, those of stations and values one by one."""
    if "include" not in row:
        return row
    if (text := presets.get(str(row["include"]))) is None:
        raise ConfigurationError(say("mapping.no_preset", name=row["include"], known=", ".join(sorted(presets))))
    (preset,) = toml_text.loads(text)["mapping"]
    completed = {**preset, **row}
    del completed["include"]
    for table in ("stations", "values"):
        own = row.get(table, {})
        if isinstance(own, dict) and table in preset:
            completed[table] = preset[table] | own
    return completed


def _mapping(row: Mapping[str, Any], catalogue: Catalogue) -> PayloadMapping:
    _only(row, *_ENTRIES)
    name, pattern = row.get("name"), row.get("topic")
    if not isinstance(name, str) or not name.strip():
        raise ConfigurationError(say("mapping.no_name"))
    if not isinstance(pattern, str):
        raise ConfigurationError(say("mapping.no_topic"))
    _check_topic(pattern)
    station, level = _station(row.get("station"), pattern)
    time, clock = _time(row["time"]) if "time" in row else (None, Clock())
    values = row.get("values")
    if not isinstance(values, dict) or not values:
        raise ConfigurationError(say("mapping.no_values"))
    return PayloadMapping(
        name=name,
        topic=pattern,
        values=tuple(_value(key, given, catalogue) for key, given in values.items()),
        station=station,
        level=level,
        stations=_stations(row.get("stations", {})),
        samples=_samples(row.get("samples", [])),
        columns=_columns(row["columns"]) if "columns" in row else None,
        time=time,
        clock=clock,
        missing=_missing(row.get("missing", [])),
    )


def _samples(given: Any) -> tuple[Path, ...]:
    return tuple(_path("samples", one) for one in (given if isinstance(given, list) else [given]))


def _columns(given: Any) -> Columns:
    for pair in ({"names", "row"}, {"name", "value"}):
        if isinstance(given, dict) and set(given) == pair:
            return Columns(**{key: _path(f"columns.{key}", text) for key, text in given.items()})
    raise ConfigurationError(say("mapping.columns"))


def _missing(given: Any) -> frozenset[str | float]:
    if not isinstance(given, list) or not all(_plain(one) or isinstance(one, float) for one in given):
        raise ConfigurationError(say("mapping.missing"))
    return frozenset(one.strip().lower() if isinstance(one, str) else float(one) for one in given)


def _check_topic(pattern: str) -> None:
    levels = pattern.split("/")
    wild = [i for i, level in enumerate(levels) if "#" in level]
    if not pattern or "\x00" in pattern or pattern.startswith("$") or len(pattern.encode()) > 65_535:
        raise ConfigurationError(say("mapping.no_pattern", pattern=pattern))
    if any("+" in level and level != "+" for level in levels) or (wild and (len(wild) > 1 or levels[-1] != "#")):
        raise ConfigurationError(say("mapping.wildcards", pattern=pattern))


def _station(given: Any, pattern: str) -> tuple[Path | None, int | None]:
    if given is None:
        raise ConfigurationError(say("mapping.no_station"))
    if not isinstance(given, dict):
        return _path("station", given), None
    _only(given, "level", within="station.")
    level, levels = given.get("level"), pattern.split("/")
    if (
        isinstance(level, bool)
        or not isinstance(level, int)
        or not 1 <= level <= len(levels)
        or levels[level - 1] != "+"
    ):
        raise ConfigurationError(say("mapping.level", level=level, pattern=pattern))
    return None, level


def _stations(given: Any) -> dict[str, str]:
    if not isinstance(given, dict):
        raise ConfigurationError(say("mapping.stations"))
    for name, key in given.items():
        if not isinstance(key, str) or not STATION.fullmatch(key):
            raise ConfigurationError(say("mapping.no_key", name=name, key=key))
    return dict(given)


def _time(given: Any) -> tuple[Path, Clock]:
    if not isinstance(given, dict):
        return _path("time", given), Clock()
    _only(given, "path", "format", "zone", within="time.")
    form, zone = given.get("format", "rfc3339"), given.get("zone")
    if not isinstance(form, str):
        raise ConfigurationError(say("mapping.format", form=form))
    path = _path("time.path", given.get("path"))
    if form in ("rfc3339", "s", "ms") or "%z" in form:
        if zone is not None:
            raise ConfigurationError(say("mapping.zone_idle", zone=zone, form=form))
    elif zone is None:
        raise ConfigurationError(say("mapping.zone_missing", form=form))
    if form not in ("rfc3339", "s", "ms"):
        _check_pattern(form)
    return path, Clock(form, None if zone is None else _zone(zone))


def _check_pattern(form: str) -> None:
    """Check that a pattern has the day and the minute; without, readings would share one time."""
    try:
        again = datetime.strptime(_SAMPLE_TIME.strftime(form), form)  # noqa: DTZ007 - a pattern may have none
    except (ValueError, re.error):
        again = None
    if again is None or again.replace(tzinfo=UTC) != _SAMPLE_TIME:
        raise ConfigurationError(say("mapping.format_short", form=form))


def _zone(given: Any) -> timezone:
    match = _OFFSET.fullmatch(given) if isinstance(given, str) else None
    if match is None or int(match[2]) > 14 or int(match[3]) > 59:
        raise ConfigurationError(say("mapping.zone", given=given))
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return timezone(offset if match[1] == "+" else -offset)


def _value(key: str, given: Any, catalogue: Catalogue) -> Value:
    if key not in catalogue:
        raise ConfigurationError(say("mapping.no_parameter", key=key))
    if not isinstance(given, dict):
        return Value(key, _path(f"values.{key}", given))
    _only(given, "path", "unit", within=f"values.{key}.")
    path = _path(f"values.{key}.path", given.get("path"))
    if "unit" not in given:
        return Value(key, path)
    try:
        return Value(key, path, conversion(str(given["unit"]), catalogue[key].unit, key))
    except ConfigurationError as error:
        raise ConfigurationError(at(f"values.{key}.unit", error.text)) from None


def _path(where: str, given: Any) -> Path:
    try:
        return Path(given)
    except ConfigurationError as error:
        raise ConfigurationError(at(where, error.text)) from None


def _only(row: Mapping[str, Any], *known: str, within: str = "") -> None:
    if unknown := sorted(set(row) - set(known)):
        raise ConfigurationError(say("mapping.unknown", within=within + unknown[0], known=", ".join(known)))


def _check_unique_topics(mapping: PayloadMapping, others: Iterable[PayloadMapping]) -> None:
    """Check that no topic has two mappings, nor one that is ours."""
    levels = mapping.topic.split("/")
    for kind in KINDS:
        if _overlap(levels, topic("+", kind).split("/")):
            raise ConfigurationError(say("mapping.ours", topic=mapping.topic, ours=topic("+", kind)))
    for other in others:
        if other.name == mapping.name:
            raise ConfigurationError(say("mapping.twice"))
        if _overlap(levels, other.topic.split("/")):
            message = say("mapping.overlap", topic=mapping.topic, topic_=other.topic, name=other.name)
            raise ConfigurationError(message)


def _overlap(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether a topic may match both patterns (a published topic is a pattern without wildcards)."""
    for i in range(max(len(one), len(other))):
        mine, theirs = (levels[i] if i < len(levels) else None for levels in (one, other))
        if "#" in (mine, theirs):  # it stands for its parent level, too
            return True
        if mine is None or theirs is None or (mine != theirs and "+" not in (mine, theirs)):
            return False
    return True


# -- payloads ----------------------------------------------------------------------------------------------------------


def addressed(messages: Sequence[Message], mappings: Mappings) -> Sequence[Message]:
    """The messages with their station, "" where it cannot be told; messages of our own format are unchanged."""
    if all(m.source != SOURCE for m in messages):
        return messages
    return [replace(m, station=_addressee(m, mappings)) if m.source == SOURCE else m for m in messages]


def _addressee(message: Message, mappings: Mappings) -> str:
    mapping = mappings.of(message.topic)
    if mapping is None:
        return ""
    try:
        return mapping.station_of(message, _body(message) if mapping.station is not None else None)
    except ValueError:  # told in full when it is decoded
        return ""


def decode(messages: Sequence[Message], catalogue: Catalogue, mappings: Mappings) -> Decoded:
    """Read payloads by their mappings; never raises for what is in them. What cannot be used comes back as Rejected.

    A payload whose time cannot be read is refused as a whole: once the mapping is mended, a replay reads it anew.
    """
    columns = _Columns(catalogue)
    headers = []
    for i, message in enumerate(messages):
        columns.message = i
        headers.append(_read(message, mappings.of(message.topic), columns))
    return columns.decoded(headers)


class _Columns:
    """Columns of the result, while they grow."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.message = 0
        self._refused: dict[tuple[int, Reason], Rejected] = {}
        self._index = catalogue.index
        self._rows: list[tuple[int, int, float, int]] = []

    def refuse(self, reason: Reason, detail: str, reading: tuple[int, str] | None = None) -> None:
        """One entry for each message and reason, which names the first offender: each keeps the whole payload."""
        first = self._refused.get((self.message, reason))
        if first is None:
            readings = None if reading is None else (reading,)
            self._refused[self.message, reason] = Rejected(self.message, reason, detail[:500], readings)
        elif reading is not None and first.readings is not None:
            self._refused[self.message, reason] = replace(first, readings=(*first.readings, reading))

    def add(self, key: str, at_ms: int, value: float) -> None:
        self._rows.append((self._index[key], at_ms, value, self.message))

    def decoded(self, headers: list[Header | None]) -> Decoded:
        parameter, at, value, message = zip(*self._rows, strict=True) if self._rows else ((),) * 4
        batch = Batch.of([-1] * len(self._rows), parameter, at, value, None, message)
        return Decoded(batch, tuple(headers), {}, tuple(self._refused.values()))


def _read(message: Message, mapping: PayloadMapping | None, columns: _Columns) -> Header | None:
    if mapping is None:
        columns.refuse(Reason.BAD_TOPIC, f"no mapping is for topic {_shorten(message.topic)}")
        return None
    if len(message.payload) > MAX_BYTES:
        columns.refuse(Reason.TOO_LARGE, f"{len(message.payload)} bytes, at most {MAX_BYTES} are allowed")
        return None
    prefix = f"mapping {mapping.name}: "
    try:
        body = _body(message)
    except ValueError as error:
        columns.refuse(Reason.NOT_JSON, str(error))
        return None
    try:
        mapping.station_of(message, body)
    except ValueError as error:
        columns.refuse(Reason.UNKNOWN_STATION, f"{prefix}{error}")
        return Header()
    try:
        samples = mapping.samples_of(body)
        names = () if mapping.columns is None else mapping.columns.names_of(body)
    except ValueError as error:
        columns.refuse(Reason.WRONG_SHAPE, f"{prefix}samples: {error}")
        return Header()
    if len(samples) > MAX_SAMPLES:
        columns.refuse(Reason.TOO_MANY_SAMPLES, f"{len(samples)} samples, at most {MAX_SAMPLES} are allowed")
    else:
        found = [_sample(message, mapping, _whole(outer, one), names, columns) for outer, one in samples]
        if not any(found):
            wanted = ", ".join(value.path.text for value in mapping.values)
            columns.refuse(Reason.WRONG_SHAPE, f"{prefix}nothing stands at {wanted}")
    return Header()


def _whole(outer: Any, sample: Any) -> Any:
    """A sample with the entries of what holds it."""
    return outer | sample if isinstance(outer, dict) and isinstance(sample, dict) else sample


def _sample(message: Message, mapping: PayloadMapping, sample: Any, names: Sequence[Any], columns: _Columns) -> bool:
    """Read a sample; returns whether it had any value, usable or not."""
    try:
        row = sample if mapping.columns is None else mapping.columns.row_of(sample, names)
    except ValueError as error:
        columns.refuse(Reason.WRONG_SHAPE, f"mapping {mapping.name}: {error}")
        return True
    try:
        written = message.received_at_ms if mapping.time is None else mapping.time.of(sample)
        at_ms = message.received_at_ms if mapping.time is None else mapping.clock.read(written)
    except ValueError as error:
        prefix = "" if mapping.time is None else f"{mapping.time.text}: "
        columns.refuse(Reason.BAD_TIME, f"mapping {mapping.name}: {prefix}{error}")
        return True
    found = False
    for value in mapping.values:
        try:
            given = value.path.of(row)
        except ValueError as error:
            columns.refuse(Reason.NOT_A_NUMBER, f"{value.parameter}: {error}", (at_ms, value.parameter))
            found = True
            continue
        if given is None:
            continue  # nothing there, or null: no reading
        found = True
        if mapping.is_missing(given):
            continue
        number = _number(given)
        if number is None:
            detail = f"{value.parameter} is {_shorten(given)}, a finite number is needed"
            columns.refuse(Reason.NOT_A_NUMBER, detail, (at_ms, value.parameter))
        else:
            columns.add(value.parameter, at_ms, number * value.linear.gain + value.linear.offset)
    return found


def _body(message: Message) -> Any:
    try:
        return json.loads(message.payload, parse_int=whole)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def _number(given: Any) -> float | None:
    """A finite number, also one written as text; None for anything else."""
    if isinstance(given, str) and _NUMBER.fullmatch(given) and given.isascii():
        given = float(given)
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    try:
        number = float(given)
    except OverflowError:  # an integer beyond every float
        return None
    return number if math.isfinite(number) else None


def _text(name: str | int) -> str:
    try:
        return str(name)
    except ValueError:  # more digits than Python writes out
        return ""


def _plain(given: Any) -> bool:
    """Whether something is text or a whole number."""
    return isinstance(given, str | int) and not isinstance(given, bool)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return "nothing" if value is None else names.get(type(value), "nothing a payload can hold")


def _shorten(value: Any, most: int = 80) -> str:
    """A value as a reason quotes it, in characters every store can keep."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return _kind(value)
    if isinstance(value, str):
        text = value if value.isprintable() else ascii(value)
    else:
        text = _text(value) if isinstance(value, int) else str(value)
    return text if len(text) <= most else text[: most - 1] + "…"
