"""The rules of ``config/rules.toml``: their kinds, scopes, limits and schedules, and how they are read.

A rule's version is a digest of its content, so that an incident names the exact rule that raised it. Of rules with the
same subject the one with the most specific scope applies (:meth:`Rules.applicable`).
"""

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from itertools import chain
from typing import Any, ClassVar

import numpy as np

from governance.incidents.finding import Colour, ConditionChange, Finding, FindingKind
from governance.incidents.headline import Headline
from infra import toml_text
from infra.errors import ConfigurationError, text_of
from infra.texts import Text, at, joined, say
from ingest.rules.places import Places
from ingest.rules.schedule import ALWAYS, Schedule, schedule
from sensors.parameters import Catalogue
from sensors.quality.detectors.sudden_events import EventCause
from sensors.standards import black_odorous, gb3838
from sensors.standards.black_odorous import Grade
from sensors.standards.gb3838 import Direction, WaterClass
from sensors.stations import Station, Water

FLAP_COUNT = 3
FLAP_WINDOW_S = 6 * 3600
FLAP_HOLD_S = 2 * 3600
"""A condition that fires for the third time within six hours (half a tide) ends only after two hours of clear values,
as long as the live class takes to improve (our choice)."""

MAX_ID_LENGTH = 64
MAX_SAMPLES = 24
"""The largest count that the readings kept of a series can restore after a restart."""
DAY_S = 86_400
TIDE_PERIOD_S = 44_714
"""Period of the semidiurnal lunar tide M2: 12.4206 h."""


class Side(StrEnum):
    """The side of the limit that is an exceedance."""

    ABOVE = "above"
    BELOW = "below"

    @property
    def sign(self) -> int:
        return 1 if self is Side.ABOVE else -1


class Season(StrEnum):
    """Which bins a trend compares: all, or only those at the same hour of the day or of the tide."""

    NONE = "none"
    DAY = "day"
    TIDE = "tide"


@dataclass(frozen=True, slots=True)
class Scope:
    """The scope of a rule: stations and reaches by pattern (as in file names), regions by code; empty means all.

    ``regions`` includes all regions inside them.
    """

    stations: tuple[str, ...] = ()
    reaches: tuple[str, ...] = ()
    waters: tuple[Water, ...] = ()
    regions: tuple[str, ...] = ()

    def matches(self, station: Station, regions: Sequence[str] | None = None) -> bool:
        """Whether the station is in scope; ``regions`` are those that contain it (default: its own region alone)."""
        around = (station.region,) if regions is None else regions
        return (
            (not self.stations or any(fnmatchcase(station.key, pattern) for pattern in self.stations))
            and (not self.reaches or any(fnmatchcase(station.reach, pattern) for pattern in self.reaches))
            and (not self.waters or station.water in self.waters)
            and (not self.regions or any(region in self.regions for region in around))
        )

    def exactness(self, station: Station, regions: Sequence[str]) -> tuple[int, int, int, int]:
        """How specific the scope is for a station it matches, as a sort key: by name, by pattern, by reach, by region
        (a smaller one is more specific), by kind of water, not at all."""
        named = 0 if not self.stations else 2 if station.key in self.stations else 1
        depth = max((len(regions) - i for i, code in enumerate(regions) if code in self.regions), default=0)
        return named, int(bool(self.reaches)), depth, int(bool(self.waters))


@dataclass(frozen=True, slots=True)
class Bound:
    """One limit at one series: x exceeds it where ``sign * (x - limit) > 0``, is clear where ``sign * (x - clear) <=
    0``.

    With a ``centre``, x is the distance from it (pH must stay within 6 and 9: at most 1.5 from 7.5).
    """

    sign: int
    limit: float
    clear: float
    centre: float = math.nan

    def crossed(self, value: float) -> float:
        """The limit that ``value`` crossed, in the parameter's own unit."""
        if math.isnan(self.centre):
            return self.limit
        return self.centre + math.copysign(self.limit, value - self.centre)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What all rules have: id, urgency, scope, schedule, and a version that is a digest of their content."""

    kind: ClassVar[str] = ""
    id: str
    colour: Colour
    where: Scope = field(default_factory=Scope)
    when: Schedule = ALWAYS
    version: str = ""

    @property
    def subject(self) -> tuple[object, ...]:
        """Of rules with the same subject, only the one with the most specific scope applies."""
        return self.kind, self.colour

    def found(  # noqa: PLR0913  (a key of the rule each)
        self,
        change: ConditionChange,
        *,
        cause: str,
        station: str,
        observed_at_ms: int,
        since_ms: int,
        text: Text,
        parameter: str | None = None,
        value: float | None = None,
        limit: float | None = None,
        retrospective: bool = False,
        flapping: bool = False,
        headline: Headline | None = None,
    ) -> Finding:
        """A finding of this rule, with its id, version and colour."""
        return Finding(
            rule=self.id,
            version=self.version,
            kind=FindingKind(self.kind),
            change=change,
            cause=cause,
            station=station,
            parameter=parameter,
            observed_at_ms=observed_at_ms,
            since_ms=since_ms,
            value=value,
            limit=limit,
            colour=self.colour,
            retrospective=retrospective,
            text=text,
            flapping=flapping,
            headline=headline,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRule(Rule):
    """A rule that compares readings with limits.

    It fires once readings exceeded the limit for ``pending_s`` and ``samples`` readings in a row, and ends once they
    were clear for ``keep_firing_s`` and as many readings; in between nothing changes (hysteresis). One that fires for
    the ``flaps``-th time within ``flap_window_s`` is flapping: it ends only after ``hold_s`` of clear readings. With 0
    ``flaps`` nothing counts as flapping.
    """

    pending_s: int = 0
    samples: int = 3
    keep_firing_s: int = 0
    flaps: int = FLAP_COUNT
    flap_window_s: int = FLAP_WINDOW_S
    hold_s: int = FLAP_HOLD_S

    def bound(self, parameter: str, station: Station, target: WaterClass | None) -> Bound | None:
        """The limit at one series; None where the rule has no limit for it."""
        raise NotImplementedError

    def judges(self, parameter: str) -> bool:
        """Whether the rule has a limit for this parameter at some station."""
        raise NotImplementedError

    @property
    def lookback_s(self) -> int:
        """How far back readings are needed to restore the state."""
        return self._state_s()

    def _state_s(self) -> int:
        return max(2 * max(self.pending_s, self.keep_firing_s), self.flap_window_s if self.flaps else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class OneSided(LimitRule):
    """A limit of one parameter on one side."""

    parameter: str
    side: Side

    @property
    def subject(self) -> tuple[object, ...]:
        return self.kind, self.parameter, self.side, self.colour

    def judges(self, parameter: str) -> bool:
        return parameter == self.parameter


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold(OneSided):
    """A value beyond ``limit``, in canonical units. Evaluated in :mod:`ingest.rules.threshold`."""

    kind: ClassVar[str] = "threshold"
    limit: float
    clear: float

    def bound(self, parameter: str, station: Station, target: WaterClass | None) -> Bound | None:
        return Bound(self.side.sign, self.limit, self.clear) if parameter == self.parameter else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate(OneSided):
    """A change beyond ``per_hour`` against the newest usable reading at least ``over_s`` (at most twice that) ago.

    ``per_hour`` and ``clear_per_hour`` are positive sizes.
    """

    kind: ClassVar[str] = "rate"
    per_hour: float
    clear_per_hour: float
    over_s: int

    def bound(self, parameter: str, station: Station, target: WaterClass | None) -> Bound | None:
        sign = self.side.sign
        return Bound(sign, sign * self.per_hour, sign * self.clear_per_hour) if parameter == self.parameter else None

    @property
    def lookback_s(self) -> int:
        return self._state_s() + 2 * self.over_s


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassExceeded(LimitRule):
    """Water worse than a class of GB 3838-2002: each judged parameter against its limit of that class.

    By single-factor assessment (单因子评价), water is worse than a class exactly when one parameter exceeds its limit.
    Each parameter fires and ends by itself, all within one incident. It is clear ``margin`` (a share of the limit) on
    the good side. ``parameters`` restricts which parameters are judged.
    """

    kind: ClassVar[str] = "class"
    worse_than: WaterClass
    parameters: tuple[str, ...] = ()
    margin: float = 0.05

    def judges(self, parameter: str) -> bool:
        return parameter in (self.parameters or gb3838.NATIONAL)

    def bound(self, parameter: str, station: Station, target: WaterClass | None) -> Bound | None:
        return class_bound(parameter, station, self.worse_than, self.margin) if self.judges(parameter) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetMissed(LimitRule):
    """Water worse than the target class (水质目标) of its reach; otherwise like :class:`ClassExceeded`."""

    kind: ClassVar[str] = "target"
    parameters: tuple[str, ...] = ()
    margin: float = 0.05

    def judges(self, parameter: str) -> bool:
        return parameter in (self.parameters or gb3838.NATIONAL)

    def bound(self, parameter: str, station: Station, target: WaterClass | None) -> Bound | None:
        if target is None or not self.judges(parameter):
            return None
        return class_bound(parameter, station, target, self.margin)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlackOdorous(LimitRule):
    """Black-and-odorous water (黑臭水体) by a single indicator: ``grade`` mild or severe, by the guide of 2015.

    Transparency is compared with 25 and 10 cm whatever the depth.
    """

    kind: ClassVar[str] = "black_odorous"
    grade: Grade
    margin: float = 0.05

    def judges(self, parameter: str) -> bool:
        return parameter in black_odorous.LIMITS

    def bound(self, parameter: str, station: Station, target: WaterClass | None) -> Bound | None:
        if not self.judges(parameter):
            return None
        sign, limits = black_odorous.LIMITS[parameter]
        limit = limits[self.grade]
        if parameter == "orp" and self.grade is Grade.MILD:
            limit = float(np.nextafter(limit, np.inf))  # 50 mV itself is mild
        return Bound(sign, limit, limit - sign * self.margin * abs(limit))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend(Rule):
    """A Theil-Sen slope beyond ``per_hour`` over ``window_s``, cut into ``bins`` whose means are compared.

    Evaluated when a bin is complete, in event time, if at least ``min_bins`` hold usable readings; ``samples`` slopes
    in a row fire it, the same number below ``clear_per_hour`` end it. Both slopes are positive. The Mann-Kendall test
    at the level ``significance`` must confirm it (1: no test); with ``season`` both compare only bins at the same hour
    of the day or of the tide. Evaluated in :mod:`ingest.rules.trend`.
    """

    kind: ClassVar[str] = "trend"
    parameter: str
    side: Side
    per_hour: float
    clear_per_hour: float
    window_s: int
    bins: int
    min_bins: int
    samples: int
    significance: float = 1.0
    season: Season = Season.NONE

    @property
    def subject(self) -> tuple[object, ...]:
        return self.kind, self.parameter, self.side, self.colour

    @property
    def lookback_s(self) -> int:
        return self.window_s + 2 * self.samples * self.window_s // self.bins


@dataclass(frozen=True, slots=True, kw_only=True)
class DailyPattern(Rule):
    """The swing between day and night fell below ``share`` of its usual size for ``days`` days in a row.

    A day counts with at least ``min_hours`` hours of usable readings. Its swing is the mean of its three highest hourly
    means less that of its three lowest; the usual swing is the median of the last ``past_days`` days that had their
    pattern, known from half of them on and only if at least ``least`` (canonical unit). Evaluated in
    :mod:`ingest.rules.daily_pattern`.
    """

    kind: ClassVar[str] = "daily_pattern"
    parameter: str
    share: float
    clear_share: float
    days: int
    past_days: int
    least: float
    min_hours: int = 16

    @property
    def subject(self) -> tuple[object, ...]:
        return self.kind, self.parameter

    @property
    def lookback_s(self) -> int:
        return DAY_S * (self.past_days + 2 * self.days + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoData(Rule):
    """No reading for ``intervals`` reporting intervals, and at least ``at_least_s``.

    Applies to the station as a whole, or with ``sensors`` to each of its sensors while the station itself sends.
    Evaluated in :mod:`ingest.rules.no_data`.
    """

    kind: ClassVar[str] = "no_data"
    intervals: float
    at_least_s: int
    sensors: bool = False

    @property
    def subject(self) -> tuple[object, ...]:
        return self.kind, self.sensors


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRule(Rule):
    """How urgent an event of the water is, by its likely cause (``kinds``, empty: any) from a ``confidence`` (0 to 1)
    on.

    Which of several applies: :meth:`Rules.event_rules`. Evaluated in :mod:`ingest.rules.water_events`.
    """

    kind: ClassVar[str] = "event"
    kinds: tuple[EventCause, ...] = ()
    confidence: float = 0.0

    @property
    def subject(self) -> tuple[object, ...]:
        return self.kind, self.kinds, self.confidence, self.colour


DerivedSeriesRule = Rate | Trend | DailyPattern
"""Rules that compare a value derived from the readings of one series."""

SeriesRule = LimitRule | Trend | DailyPattern
"""Rules about the readings of one series."""


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules in force."""

    thresholds: tuple[Threshold, ...] = ()
    trends: tuple[Trend, ...] = ()
    no_data: tuple[NoData, ...] = ()
    rates: tuple[Rate, ...] = ()
    classes: tuple[ClassExceeded, ...] = ()
    targets: tuple[TargetMissed, ...] = ()
    black_odorous: tuple[BlackOdorous, ...] = ()
    patterns: tuple[DailyPattern, ...] = ()
    events: tuple[EventRule, ...] = ()

    def __iter__(self) -> Iterator[Rule]:
        return chain.from_iterable(getattr(self, f.name) for f in fields(self))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def get(self, id_: str) -> Rule | None:
        """The rule of this id."""
        return next((rule for rule in self if rule.id == id_), None)

    def with_others(self, others: Mapping[str, Rule]) -> "Rules":
        """The rules, those of these ids replaced or added."""
        unchanged = {f.name: [rule for rule in getattr(self, f.name) if rule.id not in others] for f in fields(self)}
        for rule in others.values():
            unchanged[KINDS[rule.kind][0]].append(rule)
        return Rules(**{name: tuple(rules) for name, rules in unchanged.items()})

    def naming(self, station: Station) -> tuple[str, ...]:
        """The names and patterns of stations in the rules' scopes that fit a station."""
        names = {name for rule in self for name in rule.where.stations}
        return tuple(name for name in sorted(names) if fnmatchcase(station.key, name))

    def applicable(self, station: Station, places: Places) -> tuple[Rule, ...]:
        """The rules that apply to a station, in the file's order: of those with one subject only the most specific."""
        regions = places.regions(station)
        of_events = {id(rule) for cause in EventCause for rule in self.event_rules(cause, station, places)}
        matching = [
            rule
            for rule in self
            if rule.where.matches(station, regions) and (not isinstance(rule, EventRule) or id(rule) in of_events)
        ]
        best: dict[tuple[object, ...], tuple[int, ...]] = {}
        exact = [rule.where.exactness(station, regions) for rule in matching]
        for rule, how in zip(matching, exact, strict=True):
            best[rule.subject] = max(best.get(rule.subject, how), how)
        return tuple(rule for rule, how in zip(matching, exact, strict=True) if how == best[rule.subject])

    def event_rules(self, cause: EventCause, station: Station, places: Places) -> tuple[EventRule, ...]:
        """The rules for an event of this likely cause at a station, the most urgent first.

        Rules that name the cause go before those for any cause, and of either the most specific scope counts; several
        of one scope are steps of confidence and colour. Doubtful events need a rule that names them.
        """
        regions = places.regions(station)
        matching = [rule for rule in self.events if rule.where.matches(station, regions)]
        of_cause = [rule for rule in matching if cause in rule.kinds]
        if not of_cause and cause is not EventCause.DOUBTFUL:
            of_cause = [rule for rule in matching if not rule.kinds]
        most = max((rule.where.exactness(station, regions) for rule in of_cause), default=None)
        return tuple(
            sorted(
                (rule for rule in of_cause if rule.where.exactness(station, regions) == most),
                key=lambda rule: (rule.colour.rank, rule.confidence),
            )
        )

    def flapping_ms(self) -> dict[str, int]:
        """Rule id → its flap window (ms), of the rules that hold flapping conditions."""
        return {rule.id: rule.flap_window_s * 1000 for rule in self if isinstance(rule, LimitRule) and rule.flaps}

    def lookback_s(self, parameter: str) -> int:
        """How far back readings of a parameter are needed to restore the state of its rules."""
        spans = [0]
        for rule in self:
            lookbacks = (
                rule.judges(parameter) if isinstance(rule, LimitRule) else getattr(rule, "parameter", "") == parameter
            )
            if lookbacks and isinstance(rule, LimitRule | Trend | DailyPattern):
                spans.append(rule.lookback_s)
        return max(spans)


KINDS: Mapping[str, tuple[str, type[Rule]]] = {
    "threshold": ("thresholds", Threshold),
    "trend": ("trends", Trend),
    "no_data": ("no_data", NoData),
    "rate": ("rates", Rate),
    "class": ("classes", ClassExceeded),
    "target": ("targets", TargetMissed),
    "black_odorous": ("black_odorous", BlackOdorous),
    "daily_pattern": ("patterns", DailyPattern),
    "event": ("events", EventRule),
}
"""Heading in the file → the attribute of :class:`Rules` and the class of the rule."""


def class_bound(parameter: str, station: Station, worst: WaterClass, margin: float) -> Bound | None:
    """The limit of GB 3838-2002 between a class and the next worse one; None where table 1 has none."""
    water = gb3838.Water.of(station.water)
    found, direction = gb3838.limits(parameter, water), gb3838.direction(parameter)
    if found is None or worst is WaterClass.WORSE:
        return None
    if direction is Direction.WITHIN:
        low, high = found
        half = (high - low) / 2
        return Bound(1, half, half * (1 - margin), (low + high) / 2)
    sign, limit = (1 if direction is Direction.AT_MOST else -1), found[worst - 1]
    return Bound(sign, limit, limit - sign * margin * abs(limit))


# -- reading a file ----------------------------------------------------------------------------------------------------


def read(text: str, catalogue: Catalogue) -> Rules:
    """Read rules from TOML; raises ConfigurationError listing every fault, one a line."""
    try:
        tables = toml_text.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(_not_toml(text, str(error))) from error
    faults = [say("rule.unknown_kind", kind=kind) for kind in tables if kind not in KINDS]
    rules: dict[str, list[Any]] = {attribute: [] for attribute, _ in KINDS.values()}
    seen: set[str] = set()
    for kind, (attribute, cls) in KINDS.items():
        rows = tables.get(kind, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            faults.append(say("rule.no_tables", kind=kind))
            continue
        for row in rows:
            try:
                rule = made(cls, row, catalogue)
                if rule.id in seen:
                    raise ConfigurationError(say("rule.twice_id"))
                seen.add(rule.id)
                rules[attribute].append(rule)
            except (ConfigurationError, ValueError, TypeError, OverflowError) as error:
                faults.append(at(f"rule {row.get('id', '(without id)')}", text_of(error)))
    if faults:
        raise ConfigurationError(joined(faults))
    return Rules(**{attribute: tuple(found) for attribute, found in rules.items()})


def _not_toml(text: str, error: str) -> Text:
    """The message for a text that is not TOML: the line, its rule, and a full-width character that may be the cause."""
    lines = text.splitlines() or [""]
    at = re.search(r"at line (\d+)", error)
    number = min(int(at[1]) if at else len(lines), len(lines))
    line = lines[number - 1].strip()
    above = [one for one in lines[:number] if one.lstrip().startswith(("[[", "id "))]
    named = re.fullmatch(r"\s*id\s*=\s*[\"'](.+)[\"']\s*", above[-1]) if above else None
    values = {"line": number, "text": line[:80], "rule": named[1] if named else "?", "error": error}
    wide = next((sign for sign in re.sub(r"\"[^\"]*\"|#.*", "", line) if sign in _FULL_WIDTH), "")
    return say("rule.not_toml_wide", sign=wide, **values) if wide else say("rule.not_toml", **values)


_FULL_WIDTH = frozenset("＝：，。；“”‘’＂＇［］【】｛｝（）＃－　")
"""Characters of a Chinese keyboard that look like those of TOML."""


def made(cls: type[Rule], row: Mapping[str, Any], catalogue: Catalogue) -> Rule:
    """Make a rule of one kind from its row; raises ConfigurationError naming the entry."""
    names = {f.name for f in fields(cls)} - {"where", "when", "version"}
    given = {name: value for name, value in row.items() if name not in _SCOPE}
    if unknown := sorted(set(given) - names):
        raise ConfigurationError(say("rule.unknown_entry", unknown=unknown[0]))
    optional = {f.name for f in fields(cls) if f.default is not MISSING}
    if missing := sorted(names - set(given) - set(_DEFAULTS) - optional):
        raise ConfigurationError(say("rule.missing", missing=missing[0]))
    if not isinstance(given["id"], str) or not 1 <= len(given["id"]) <= MAX_ID_LENGTH:
        raise ConfigurationError(say("rule.no_id", id=given["id"], most=MAX_ID_LENGTH))
    values: dict[str, Any] = {name: given.get(name, _DEFAULTS.get(name)) for name in names}
    values |= {f.name: f.default for f in fields(cls) if f.name in names - set(given) and f.name in optional}
    for name, of, share in (("clear", "limit", 1.0), ("clear_per_hour", "per_hour", 0.5)):
        if name in names and name not in given:
            values[name] = values[of] * share if isinstance(values[of], int | float) else values[of]
    if "clear_share" in names and "clear_share" not in given:
        values["clear_share"] = min(1.0, 1.5 * values["share"]) if isinstance(values["share"], float) else 0.5
    for name in values:
        values[name] = check_entry(name, values[name], catalogue)
    rule = cls(**values, where=_where(row), when=schedule(row))
    _check_consistency(rule)
    return replace(rule, version=_digest(rule))


def check_entry(name: str, value: Any, catalogue: Catalogue) -> Any:
    """The value of one entry as the rule holds it; raises ConfigurationError naming what is wrong."""
    check: _Check = _CHECKED.get(name, _number)
    return check(name, value, catalogue)


def _digest(rule: Rule) -> str:
    """A digest of the entries that differ from the defaults, so that a new entry changes no existing version."""
    content: dict[str, Any] = {"kind": rule.kind}
    for one in fields(rule):
        value = getattr(rule, one.name)
        if one.name == "where":
            content |= {f.name: getattr(value, f.name) for f in fields(value) if getattr(value, f.name)}
        elif one.name == "when":
            content |= {} if value.always else {"when": repr(value)}
        elif one.name != "version" and value != one.default:
            content[one.name] = value
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def _choice(kind: type[StrEnum]) -> "_Check":
    def checked(name: str, value: Any, _: Catalogue) -> Any:
        if value not in set(kind):
            raise ConfigurationError(say("request.one_of", name=name, text=value, known=", ".join(kind)))
        return kind(value)

    return checked


def _parameter(name: str, value: Any, catalogue: Catalogue) -> str:
    if not isinstance(value, str) or value not in catalogue:
        raise ConfigurationError(say("rule.unknown_value", name=name, value=value))
    return value


def _parameters(name: str, value: Any, catalogue: Catalogue) -> tuple[str, ...]:
    for one in _names(name, value):
        _parameter("parameter", one, catalogue)
        if gb3838.direction(one) is None:
            raise ConfigurationError(say("rule.no_class", name=name, one=one))
    return _names(name, value)


def _names(name: str, value: Any, _: Catalogue | None = None) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise ConfigurationError(say("rule.no_names", name=name))
    return tuple(value)


def _causes(name: str, value: Any, _: Catalogue) -> tuple[EventCause, ...]:
    causes = {str(one) for one in EventCause}
    for one in _names(name, value):
        if one not in causes:
            raise ConfigurationError(say("request.one_of", name=name, text=one, known=", ".join(EventCause)))
    return tuple(EventCause(one) for one in dict.fromkeys(value))


def _class(name: str, value: Any, _: Catalogue) -> WaterClass:
    found = WaterClass.of(value) if isinstance(value, str) else None
    if found is None or found is WaterClass.WORSE:
        raise ConfigurationError(say("rule.no_water_class", name=name, value=value))
    return found


def _grade(name: str, value: Any, _: Catalogue) -> Grade:
    if value not in ("mild", "severe"):
        raise ConfigurationError(say("rule.no_grade", name=name, value=value))
    return Grade[value.upper()]


def _number(name: str, value: Any, _: Catalogue) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigurationError(say("rule.no_number", name=name, value=value))
    if name in _WHOLE_NUMBERS:
        least, most = _WHOLE_NUMBERS[name], _MAXIMUM.get(name, MAX_DURATION_S)
        if not isinstance(value, int) or value < least:
            raise ConfigurationError(say("rule.no_whole", name=name, value=value, least=least))
        if value > most:
            raise ConfigurationError(say("rule.too_much", name=name, value=value, most=most))
        return value
    low, high = _RANGE.get(name, (-math.inf, math.inf))
    if not low <= value <= high:
        raise ConfigurationError(say("rule.outside", name=name, value=value, low=low, high=high))
    return float(value)  # 2 and 2.0 are the same rule and have the same version


def _flag(name: str, value: Any, _: Catalogue) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(say("rule.no_flag", name=name, value=value))
    return value


def _text(name: str, value: Any, _: Catalogue) -> Any:
    return value


_Check = Callable[[str, Any, Catalogue], Any]

_CHECKED: Mapping[str, _Check] = {
    "id": _text,
    "colour": _choice(Colour),
    "side": _choice(Side),
    "season": _choice(Season),
    "parameter": _parameter,
    "parameters": _parameters,
    "kinds": _causes,
    "worse_than": _class,
    "grade": _grade,
    "sensors": _flag,
}
_SCOPE = frozenset({"stations", "reaches", "waters", "regions", "hours", "on_days", "months"})
_DEFAULTS: dict[str, Any] = {
    "samples": 3,
    "clear": None,
    "clear_per_hour": None,
    "clear_share": None,
    "bins": 12,
    "min_bins": 8,
    "intervals": 3.0,
    "at_least_s": 60,
    "over_s": 3600,
    "share": 0.3,
    "days": 2,
    "past_days": 7,
    "least": 0.0,
}
MAX_DURATION_S = 366 * DAY_S
_WHOLE_NUMBERS = {
    "samples": 1,
    "pending_s": 0,
    "keep_firing_s": 0,
    "flaps": 0,
    "flap_window_s": 60,
    "hold_s": 0,
    "window_s": 60,
    "over_s": 60,
    "bins": 3,
    "min_bins": 3,
    "at_least_s": 1,
    "days": 1,
    "past_days": 3,
    "min_hours": 6,
}
_MAXIMUM = {"samples": MAX_SAMPLES, "bins": 200, "days": 14, "past_days": 60, "min_hours": 24, "flaps": 100}
_RANGE = {"margin": (0.0, 0.5), "share": (0.01, 0.95), "clear_share": (0.01, 1.0), "significance": (1e-6, 1.0)}
_RANGE |= {"confidence": (0.0, 1.0), "least": (0.0, math.inf)}


def _where(row: Mapping[str, Any]) -> Scope:
    lists = {name: _names(name, row.get(name, [])) for name in ("stations", "reaches", "waters", "regions")}
    return Scope(lists["stations"], lists["reaches"], tuple(Water(w) for w in lists["waters"]), lists["regions"])


def _check_consistency(rule: Rule) -> None:
    if isinstance(rule, Threshold) and rule.side.sign * (rule.clear - rule.limit) > 0:
        raise ConfigurationError(say("rule.clear_wrong", clear=rule.clear, limit=rule.limit))
    if isinstance(rule, Trend) and rule.min_bins > rule.bins:
        raise ConfigurationError(say("rule.bins_wrong", min_bins=rule.min_bins, bins=rule.bins))
    if isinstance(rule, Trend) and rule.season is not Season.NONE:
        period_s = DAY_S if rule.season is Season.DAY else TIDE_PERIOD_S
        if rule.window_s < 3 * period_s or 2 * rule.window_s > period_s * rule.bins:
            values = {"season": rule.season, "window": 3 * period_s, "bin": period_s // 2}
            raise ConfigurationError(say("rule.season_needs", **values))
    if isinstance(rule, Trend | Rate) and not 0 < rule.clear_per_hour <= rule.per_hour:
        raise ConfigurationError(say("rule.clear_slope", clear_per_hour=rule.clear_per_hour))
    if isinstance(rule, LimitRule) and rule.flaps == 1:
        raise ConfigurationError(say("rule.flaps_one"))
    if isinstance(rule, DailyPattern) and rule.clear_share < rule.share:
        raise ConfigurationError(say("rule.clear_share", clear_share=rule.clear_share, share=rule.share))
    if isinstance(rule, NoData) and rule.intervals < 1.5:
        raise ConfigurationError(say("rule.intervals_low", intervals=rule.intervals))
