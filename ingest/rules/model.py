"""The rules of ``config/rules.toml``: kinds, scopes, limits and schedules; :mod:`ingest.rules.rule_file` reads them.

A rule's version is a digest of its content, so that an incident names the exact rule that raised it. Of rules with the
same subject the one with the most specific scope applies (:meth:`Rules.applicable`).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from fnmatch import fnmatchcase
from itertools import chain
from typing import ClassVar

import numpy as np

from governance.incidents.finding import Colour, ConditionChange, Finding, FindingKind
from governance.incidents.headline import Headline
from infra.texts import Text
from ingest.rules.places import Places
from ingest.rules.schedule import ALWAYS, Schedule
from sensors.quality.events import EventCause
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
