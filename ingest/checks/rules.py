"""The rules of ``config/rules.toml``: what is watched, where, and how urgent it is.

A rule's version is a digest of its content: an incident names the very rule that raised it, without anybody
remembering to count up.
"""

import hashlib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from governance.finding import Colour
from sensors.errors import ConfigurationError
from sensors.parameters import Catalogue
from sensors.stations import Station, Water


class Side(StrEnum):
    """On which side of the limit it is bad."""

    ABOVE = "above"
    BELOW = "below"

    @property
    def sign(self) -> int:
        return 1 if self is Side.ABOVE else -1


@dataclass(frozen=True, slots=True)
class Where:
    """Which stations a rule speaks of; patterns as in file names; empty means all."""

    stations: tuple[str, ...] = ()
    reaches: tuple[str, ...] = ()
    waters: tuple[Water, ...] = ()

    def matches(self, station: Station) -> bool:
        return (
            (not self.stations or any(fnmatchcase(station.key, pattern) for pattern in self.stations))
            and (not self.reaches or any(fnmatchcase(station.reach, pattern) for pattern in self.reaches))
            and (not self.waters or station.water in self.waters)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A value beyond ``limit`` for ``pending_s`` and at least ``samples`` readings.

    It is over once the value has been back beyond ``clear`` for ``keep_firing_s`` and ``samples`` readings; between
    ``limit`` and ``clear`` nothing changes (hysteresis). Canonical units.
    """

    id: str
    parameter: str
    side: Side
    limit: float
    clear: float
    pending_s: int
    samples: int
    keep_firing_s: int
    colour: Colour
    where: Where = field(default_factory=Where)
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """A Theil-Sen slope beyond ``per_hour`` over ``window_s``, cut into ``bins`` whose means are compared.

    Judged when a bin is complete, in event time, if at least ``min_bins`` hold usable readings; ``samples``
    judgements in a row fire it, the same number below ``clear_per_hour`` end it. Both slopes are positive sizes.
    """

    id: str
    parameter: str
    side: Side
    per_hour: float
    clear_per_hour: float
    window_s: int
    bins: int
    min_bins: int
    samples: int
    colour: Colour
    where: Where = field(default_factory=Where)
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoData:
    """No reading for ``intervals`` times the promised spacing, and at least ``at_least_s``."""

    id: str
    intervals: float
    at_least_s: int
    colour: Colour
    where: Where = field(default_factory=Where)
    version: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules in force."""

    thresholds: tuple[Threshold, ...] = ()
    trends: tuple[Trend, ...] = ()
    no_data: tuple[NoData, ...] = ()

    def lookback_s(self, parameter: str) -> int:
        """How far back the rules of a parameter may need to see to know their own state."""
        spans = [2 * max(r.pending_s, r.keep_firing_s) for r in self.thresholds if r.parameter == parameter]
        spans += [r.window_s + 2 * r.samples * r.window_s // r.bins for r in self.trends if r.parameter == parameter]
        return max(spans, default=0)


_KINDS: dict[str, type[Threshold] | type[Trend] | type[NoData]] = {
    "threshold": Threshold,
    "trend": Trend,
    "no_data": NoData,
}


def read(text: str, catalogue: Catalogue) -> Rules:
    """Rules from TOML; raises ConfigurationError listing every fault, one a line."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"rules: {error}") from error
    faults = [f"rules: unknown kind of rule [[{kind}]]" for kind in tables if kind not in _KINDS]
    rules: dict[str, list[Any]] = {kind: [] for kind in _KINDS}
    seen: set[str] = set()
    for kind, cls in _KINDS.items():
        rows = tables.get(kind, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            faults.append(f"rules: {kind} must be a list of tables, each headed [[{kind}]]")
            continue
        for row in rows:
            try:
                rule = _rule(cls, row, catalogue)
                if rule.id in seen:
                    raise ConfigurationError("the id is used twice")
                seen.add(rule.id)
                rules[kind].append(rule)
            except (ConfigurationError, ValueError, TypeError, OverflowError) as error:
                faults.append(f"rule {row.get('id', '(without id)')}: {error}")
    if faults:
        raise ConfigurationError("\n".join(faults))
    return Rules(tuple(rules["threshold"]), tuple(rules["trend"]), tuple(rules["no_data"]))


def _rule(cls: type[Any], row: Mapping[str, Any], catalogue: Catalogue) -> Any:
    names = {f.name for f in fields(cls)} - {"where", "version"}
    where = _where(row)
    given = {name: value for name, value in row.items() if name not in ("stations", "reaches", "waters")}
    if unknown := sorted(set(given) - names):
        raise ConfigurationError(f"unknown entry {unknown[0]!r}")
    if missing := sorted(names - set(given) - set(_DEFAULTS)):
        raise ConfigurationError(f"{missing[0]} is missing")
    if not isinstance(given["id"], str) or not 1 <= len(given["id"]) <= LONGEST_ID:
        raise ConfigurationError(f"id {given['id']!r} must be a name of at most {LONGEST_ID} characters")
    values: dict[str, Any] = {name: given.get(name, _DEFAULTS.get(name)) for name in names}
    if "clear" in names and "clear" not in given:
        values["clear"] = given["limit"]
    if "clear_per_hour" in names and "clear_per_hour" not in given:
        values["clear_per_hour"] = given["per_hour"] / 2
    if "parameter" in values and values["parameter"] not in catalogue:
        raise ConfigurationError(f"unknown parameter {values['parameter']!r}")
    values["colour"] = Colour(values["colour"])
    if "side" in values:
        values["side"] = Side(values["side"])
    for name, value in values.items():
        if name in ("id", "parameter", "colour", "side"):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ConfigurationError(f"{name} {value!r} must be a number")
        if name in _WHOLE and (not isinstance(value, int) or value < _WHOLE[name]):
            raise ConfigurationError(f"{name} {value!r} must be a whole number of at least {_WHOLE[name]}")
        if name not in _WHOLE:
            values[name] = float(value)  # 2 and 2.0 are the same rule and have the same version
    rule = cls(**values, where=where)
    _contradictions(rule)
    digest = hashlib.sha256(repr(rule).encode()).hexdigest()[:8]
    return cls(**values, where=where, version=digest)


_DEFAULTS: dict[str, Any] = {
    "samples": 3,
    "pending_s": 0,
    "keep_firing_s": 0,
    "clear": None,
    "clear_per_hour": None,
    "bins": 12,
    "min_bins": 8,
    "intervals": 3.0,
    "at_least_s": 60,
}
LONGEST_ID = 64
MOST_SAMPLES = 24
"""A count must fit into what a series remembers after a restart."""
_WHOLE = {
    "samples": 1,
    "pending_s": 0,
    "keep_firing_s": 0,
    "window_s": 60,
    "bins": 3,
    "min_bins": 3,
    "at_least_s": 1,
}


def _where(row: Mapping[str, Any]) -> Where:
    lists = {}
    for name in ("stations", "reaches", "waters"):
        value = row.get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ConfigurationError(f"{name} must be a list of names")
        lists[name] = value
    return Where(tuple(lists["stations"]), tuple(lists["reaches"]), tuple(Water(w) for w in lists["waters"]))


def _contradictions(rule: Threshold | Trend | NoData) -> None:
    if isinstance(rule, Threshold) and rule.side.sign * (rule.clear - rule.limit) > 0:
        raise ConfigurationError(f"clear {rule.clear} lies on the bad side of limit {rule.limit}")
    if not isinstance(rule, NoData) and rule.samples > MOST_SAMPLES:
        raise ConfigurationError(f"samples {rule.samples} is more than {MOST_SAMPLES}")
    if isinstance(rule, Trend):
        if rule.min_bins > rule.bins:
            raise ConfigurationError(f"min_bins {rule.min_bins} is more than bins {rule.bins}")
        if not 0 < rule.clear_per_hour <= rule.per_hour:
            raise ConfigurationError(f"clear_per_hour {rule.clear_per_hour} must lie between 0 and per_hour")
    if isinstance(rule, NoData) and rule.intervals < 1.5:
        raise ConfigurationError(f"intervals {rule.intervals} is below 1.5: a reading a little late would be an alarm")
