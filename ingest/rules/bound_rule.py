"""A rule applied to one series: its limit there and the condition that is evaluated. Pure."""

from dataclasses import dataclass

from infra.times import DAY_MS
from ingest.rules.alarm_state import AlarmKey
from ingest.rules.condition import Condition
from ingest.rules.model import Bound, DailyPattern, DerivedSeriesRule, LimitRule, Rate, SeriesRule, Trend
from ingest.rules.schedule import ActiveTimes, Mutes
from sensors.parameters import Parameter
from sensors.stations import Station

GAP_INTERVALS = 3
GAP_S = 1800
"""A pause of three reporting intervals, and at least half an hour, restarts a pending or recovering count: within half
an hour the water of a tidal river hardly changes, and loggers store fewer records than they send live (our choice)."""


@dataclass(frozen=True, slots=True)
class BoundRule:
    """One rule at one series."""

    rule: SeriesRule
    station: Station
    parameter: Parameter
    bound: Bound
    condition: Condition

    @property
    def key(self) -> AlarmKey:
        return self.rule.id, self.station.key, self.parameter.key

    @property
    def is_derived(self) -> bool:
        """Whether the rule compares a derived value (rate, slope, swing) and not the readings themselves."""
        return isinstance(self.rule, DerivedSeriesRule)

    def reported_limit(self, compared: float) -> float:
        """The limit as the rule states it: a positive rate, a share, otherwise the limit that ``compared`` crossed."""
        match self.rule:
            case DailyPattern():
                return self.rule.share
            case Rate() | Trend():
                return self.rule.per_hour
        return self.bound.crossed(compared)

    @property
    def derived_from_ms(self) -> int:
        """How long before a derived value the readings begin that it rests on."""
        return 1000 * self.rule.lookback_s if self.is_derived else 0


class BoundRules:
    """All rules at all series by number; only what differs is kept, since most conditions never leave idle."""

    def __init__(self, late_ms: int, mutes: Mutes) -> None:
        self._late_ms, self._mutes = late_ms, mutes
        self._parts: list[tuple[SeriesRule, Station, Parameter, Bound]] = []
        self._alike: dict[Bound, Bound] = {}

    def __len__(self) -> int:
        return len(self._parts)

    def add(self, rule: SeriesRule, station: Station, parameter: Parameter, bound: Bound) -> int:
        """Add a rule at a series and return its number; numbers are consecutive."""
        self._parts.append((rule, station, parameter, self._alike.setdefault(bound, bound)))
        return len(self._parts) - 1

    def __getitem__(self, number: int) -> BoundRule:
        rule, station, parameter, bound = self._parts[number]
        active = ActiveTimes(rule.id, station.key, rule.when, self._mutes)
        return BoundRule(rule, station, parameter, bound, condition_of(rule, bound, station, self._late_ms, active))


def derived_bound(rule: DerivedSeriesRule) -> Bound:
    """The limit of a derived value; it is the same at every station."""
    if isinstance(rule, DailyPattern):
        return Bound(-1, rule.share, rule.clear_share)
    return Bound(rule.side.sign, rule.side.sign * rule.per_hour, rule.side.sign * rule.clear_per_hour)


def condition_of(rule: SeriesRule, bound: Bound, station: Station, late_ms: int, active: ActiveTimes) -> Condition:
    """The condition of a rule at a station; ``late_ms`` is the age from which readings are late."""
    late_ms = max(late_ms, 2 * station.interval_s * 1000)  # a bin is complete only when the next reading arrives
    limits = (bound.sign, bound.limit, bound.clear)
    if isinstance(rule, Trend):
        gap_ms = GAP_INTERVALS * (rule.window_s * 1000 // rule.bins)
        return Condition(*limits, 0, rule.samples, 0, gap_ms, late_ms, active=active)
    if isinstance(rule, DailyPattern):
        return Condition(*limits, 0, rule.days, 0, GAP_INTERVALS * DAY_MS, late_ms, active=active)
    assert isinstance(rule, LimitRule)
    return Condition(
        *limits,
        pending_ms=rule.pending_s * 1000,
        samples=rule.samples,
        keep_ms=rule.keep_firing_s * 1000,
        gap_ms=max(GAP_INTERVALS * station.interval_s, GAP_S) * 1000,
        late_ms=late_ms,
        centre=bound.centre,
        active=active,
        flaps=rule.flaps,
        flap_ms=rule.flap_window_s * 1000,
        hold_ms=rule.hold_s * 1000,
    )
