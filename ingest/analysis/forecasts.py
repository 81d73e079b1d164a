"""Forecast every series once an hour and warn where a limit is expected to be exceeded.

A round reads the last hours; a station's whole history is read once a day and after a start. A finding of kind forecast
needs two rounds in a row; it has the cause of the exceedance that it announces, so that both are one incident, and it
pages nobody.
"""

import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import sqlalchemy as sa
import structlog

from governance.incidents import store as incident_store
from governance.incidents.finding import Colour, ConditionChange, Finding, FindingKind
from governance.incidents.headline import Headline, Row
from infra.database import Database, insert_many
from infra.errors import LongTermUnavailable
from infra.periodic import PeriodicWorker
from infra.records import from_row
from infra.texts import Text, say
from infra.times import HOUR_MS, beijing
from ingest.rules.engine import usable
from ingest.rules.model import Rule, Rules, Side, Threshold
from ingest.rules.places import Places
from ingest.storage import registry as registry_store
from ingest.storage.port import ReadingStore, Window
from ingest.storage.tables import alarm as alarms
from ingest.storage.tables import forecast as table
from sensors import forecast as fc
from sensors.forecast import Crossing, Forecast, Verdict
from sensors.parameters import Catalogue, Parameter
from sensors.reading import Floats, Ints
from sensors.standards import gb3838
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Registry, Station

log = structlog.get_logger(__name__)

DELAY_S = 90.0
"""Delay of a round after the full hour, for the last readings of the hour."""
REREAD_H = 6
"""Hours before the last round that are read again, for late data and changed flags."""
WARNING_LEAD_H = 24.0
"""A limit that is expected to be exceeded within this time is a finding (our choice)."""
YELLOW_LEAD_H = 6.0
"""Within this time the finding is yellow where the rule is red or orange, else blue (our choice)."""
MIN_ROUNDS = 2
"""Rounds in a row that fire or end a finding."""
RULE_PREFIX = "forecast:"
"""Prefix of a finding's rule, before the id of the rule with the limit."""
STATIONS_PER_TRANSACTION = 200


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit whose crossing is forecast; ``rule`` and ``version`` are empty for that of the target class."""

    limit: float
    above: bool
    rule: str = ""
    version: str = ""
    colour: Colour = Colour.BLUE


@dataclass(frozen=True, slots=True)
class StoredForecast:
    """A stored :class:`sensors.forecast.Forecast` with its expected crossings of limits.

    ``points`` are (ms, median, low, high), empty where it is not shown; NaN is None.
    """

    station: str
    parameter: str
    issued_ms: int
    verdict: Verdict
    step_h: int
    last_ms: int | None
    last: float | None
    ratio: float | None
    ratio_daily: float | None
    coverage: float | None
    days: int
    points: tuple[tuple[int, float, float, float], ...]
    crossings: tuple[dict[str, Any], ...]
    text: Text


@dataclass(slots=True)
class _HourlyMeans:
    """Hourly means of a station's series up to ``end_ms``, and the step at which each is forecast."""

    end_ms: int
    hours: dict[str, Floats] = field(default_factory=dict)
    step_h: dict[str, int | None] = field(default_factory=dict)


def stored_forecasts(connection: sa.Connection, station: str, parameter: str | None = None) -> list[StoredForecast]:
    """The newest forecasts of a station, by parameter."""
    query = sa.select(table).where(table.c.station == station).order_by(table.c.parameter)
    if parameter is not None:
        query = query.where(table.c.parameter == parameter)
    return [_stored(row) for row in connection.execute(query).mappings()]


def limits(rules: Sequence[Rule], target: WaterClass | None, station: Station, parameter: str) -> list[Limit]:
    """The limits of a series: of the threshold ``rules`` of its station, and of its reach's target class."""
    found = [
        Limit(rule.limit, rule.side is Side.ABOVE, rule.id, rule.version, rule.colour)
        for rule in rules
        if isinstance(rule, Threshold) and rule.parameter == parameter
    ]
    if target is not None and parameter in gb3838.evaluated(gb3838.Water.of(station.water)):
        limit = gb3838.limit(parameter, gb3838.Water.of(station.water), target)
        side = gb3838.direction(parameter)
        if limit is not None and side is not None and not any(one.limit == limit for one in found):
            found.append(Limit(limit, side is gb3838.Direction.AT_MOST))
    return found


class Forecasts(PeriodicWorker):
    """A thread that forecasts every series once an hour; one for each database."""

    def __init__(
        self,
        database: Database,
        store: ReadingStore,
        catalogue: Catalogue,
        rules: Callable[[], Rules],
        *,
        clock_ms: Callable[[], int],
        source: str,
        on_findings: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__("forecasts")
        self._database = database
        self._store = store
        self._catalogue = catalogue
        self._rules = rules
        self._clock_ms = clock_ms
        self._source = source
        self._on_findings = on_findings
        self._memory: dict[str, _HourlyMeans] = {}
        self.last_round_ms: int | None = None

    def next_round(self) -> float:
        with self.outlive("forecasts"):
            self.round()
        now_ms = self._clock_ms()
        return max(1.0, (HOUR_MS - now_ms % HOUR_MS) / 1000 + DELAY_S)

    def round(self) -> int:
        """Forecast every series as of the last full hour; how many forecasts are shown. Raises StorageUnavailable."""
        now_ms = self._clock_ms()
        with self._database.read() as connection:
            registry = registry_store.load(connection, self._catalogue)
        for removed in self._memory.keys() - registry.index.keys():
            del self._memory[removed]
        shown = 0
        for start in range(0, len(registry.stations), STATIONS_PER_TRANSACTION):
            made: list[tuple[Station, str, Forecast]] = []
            for station in registry.stations[start : start + STATIONS_PER_TRANSACTION]:
                if self._stopping.is_set():
                    return shown
                made += [(station, name, one) for name, one in self._station(station, now_ms)]
            shown += sum(one.skill.shown for _, _, one in made)
            self._keep(registry, made, now_ms)
        self.last_round_ms, self.last_error = now_ms, ""
        return shown

    # -- reading -----------------------------------------------------------------------------------------------------

    def _station(self, station: Station, now_ms: int) -> Iterable[tuple[str, Forecast]]:
        end_ms = now_ms // HOUR_MS * HOUR_MS
        memory = self._hourly_means(station.key, end_ms)
        by_step: dict[int, list[str]] = {}
        for name, step in memory.step_h.items():
            by_step.setdefault(step or 1, []).append(name)
        for step, names in by_step.items():
            last_ms = end_ms // (step * HOUR_MS) * step * HOUR_MS
            values = np.stack([_coarser(memory.hours[name], end_ms, last_ms, step) for name in names])
            lowest = [self._catalogue[name].instrument[0] for name in names]
            for name, one in zip(names, fc.forecasts(values, last_ms, step, lowest), strict=True):
                yield name, _sparse(one) if memory.step_h[name] is None else one

    def _hourly_means(self, station: str, end_ms: int) -> _HourlyMeans:
        """The hourly means of a station up to ``end_ms``: read as a whole, or the cached ones updated by the last
        hours."""
        before = self._memory.get(station)
        whole = before is None or (zlib.crc32(station.encode()) + end_ms // HOUR_MS) % 24 == 0
        passed = 0 if before is None else (end_ms - before.end_ms) // HOUR_MS
        if before is None or whole or not 0 <= passed <= fc.HISTORY_DAYS * 24:
            window = self._read(station, end_ms - fc.HISTORY_DAYS * HOUR_MS * 24, end_ms)
            found = _HourlyMeans(end_ms)
            for name, at, value in self._split(window):
                found.hours[name] = fc.grid(at, value, end_ms, 1)
                found.step_h[name] = fc.spacing_h(at)
        else:
            fresh = int(passed) + REREAD_H
            window = self._read(station, end_ms - fresh * HOUR_MS, end_ms)
            found = _HourlyMeans(end_ms, dict(before.hours), dict(before.step_h))
            moved = {name: np.append(hours[passed:], np.full(passed, np.nan)) for name, hours in before.hours.items()}
            for hours in moved.values():
                hours[-fresh:] = np.nan
            for name, at, value in self._split(window):
                hours = moved.setdefault(name, np.full(fc.HISTORY_DAYS * 24, np.nan))
                hours[-fresh:] = fc.grid(at, value, end_ms, 1, days=-(-fresh // 24))[-fresh:]
                found.step_h.setdefault(name, fc.spacing_h(at))
            found.hours = moved
        self._memory[station] = found
        return found

    def _read(self, station: str, start_ms: int, end_ms: int) -> Window:
        try:
            return self._store.window(station, start_ms, end_ms - 1)
        except LongTermUnavailable:
            return self._store.recent_store.window(station, start_ms, end_ms - 1)

    def _split(self, window: Window) -> Iterable[tuple[str, Ints, Floats]]:
        """(parameter, ms, value) of the usable readings, oldest first."""
        good = window.take(np.flatnonzero(usable(window.packed)))
        for code in np.unique(good.parameter).tolist():
            of_parameter = good.parameter == code
            yield self._catalogue.parameters[code].key, good.at[of_parameter], good.value[of_parameter]

    # -- storing and findings ------------------------------------------------------------------------------------------

    def _keep(self, registry: Registry, made: Sequence[tuple[Station, str, Forecast]], now_ms: int) -> None:
        keys = sorted({station.key for station, _, _ in made})
        with self._database.write() as connection:
            before = {
                (row.station, row.parameter): row
                for row in connection.execute(sa.select(table).where(table.c.station.in_(keys)))
            }
            firing = {
                (row.rule, row.station, row.parameter)
                for row in connection.execute(sa.select(alarms).where(alarms.c.station.in_(keys)))
            }
            places, rules_of = Places(registry), dict[str, tuple[Rule, ...]]()
            in_force = self._rules()
            rows: list[list[object]] = []
            findings: list[Finding] = []
            for station, name, one in made:
                parameter = self._catalogue[name]
                if station.key not in rules_of:
                    rules_of[station.key] = in_force.applicable(station, places)
                near = limits(rules_of[station.key], places.target(station), station, name)
                crossed = [(limit, _shown_crossing(one, limit)) for limit in near]
                stored = before.get((station.key, name))
                warned = {} if stored is None else json.loads(stored.warned)
                warnings = _SeriesWarnings(station, parameter, one, warned, now_ms)
                for limit, crossing in crossed:
                    if limit.rule:
                        beyond = (limit.rule, station.key, name) in firing
                        findings += warnings.update(limit, crossing, beyond)
                findings += warnings.withdraw_except({limit.rule for limit in near})
                rows.append(_row(station.key, name, one, crossed, warnings.warned, verdict_text(one, parameter)))
            insert_many(connection, _INTO, rows, _ON_CONFLICT)
            recorded = incident_store.record_findings(connection, findings, now_ms, source=self._source)
        if recorded.changed:
            self._on_findings()


class _SeriesWarnings:
    """The warnings of one series: counts rounds for each rule and makes findings. ``warned`` is the stored state."""

    def __init__(
        self, station: Station, parameter: Parameter, one: Forecast, warned: dict[str, Any], now_ms: int
    ) -> None:
        self.warned = warned
        self._hour = now_ms // HOUR_MS
        self._station, self._parameter, self._one = station, parameter, one

    def update(self, limit: Limit, crossing: Crossing | None, beyond: bool) -> list[Finding]:
        """Count the rounds with and without an expected crossing; ``beyond``: the rule itself is active."""
        state = self.warned.get(limit.rule, {"yes": 0, "no": 0, "since_ms": None})
        will = (
            crossing is not None
            and crossing.expected_h is not None
            and crossing.expected_h <= WARNING_LEAD_H
            and not beyond
        )
        unusable = self._one.skill.verdict in (Verdict.STALE, Verdict.SPARSE)  # a silent sensor proves nothing
        if not unusable and state.get("hour") != self._hour:  # an hour counts once, also after a restart
            counted = {"yes": state["yes"] + 1 if will else 0, "no": 0 if will else state["no"] + 1}
            state = {**state, **counted, "hour": self._hour}
        found: list[Finding] = []
        if will and state["since_ms"] is None and state["yes"] >= MIN_ROUNDS and crossing is not None:
            state["since_ms"] = self._one.last_ms
            found.append(
                replace(
                    self._finding(
                        limit,
                        ConditionChange.FIRED,
                        self._warning_text(limit, crossing),
                        self._urgency(limit, crossing),
                    ),
                    headline=self._headline(limit, crossing),
                )
            )
        elif state["since_ms"] is not None and not will:
            passed = self._one.skill.shown and crossing is None
            if beyond or passed or state["no"] >= MIN_ROUNDS:
                key = "came_true" if beyond or passed else "passed" if self._one.skill.shown else "ended"
                found.append(
                    self._finding(
                        limit, ConditionChange.RESOLVED, self._text(key, limit), limit.colour, state["since_ms"]
                    )
                )
                state = {**state, "since_ms": None}
        if state["yes"] or state["since_ms"] is not None:
            self.warned[limit.rule] = state
        else:
            self.warned.pop(limit.rule, None)
        return found

    def withdraw_except(self, rules: set[str]) -> list[Finding]:
        """End the warnings of rules that no longer apply to this series."""
        found = []
        for rule in self.warned.keys() - rules:
            state = self.warned.pop(rule)
            if state["since_ms"] is not None:
                text = say("finding.withdrawn", rule=rule, station=self._station.key)
                limit = Limit(float("nan"), True, rule)
                found.append(self._finding(limit, ConditionChange.RESOLVED, text, Colour.BLUE, state["since_ms"]))
        return found

    def _urgency(self, limit: Limit, crossing: Crossing) -> Colour:
        grave = limit.colour in (Colour.RED, Colour.ORANGE)
        soon = crossing.expected_h is not None and crossing.expected_h <= YELLOW_LEAD_H
        return Colour.YELLOW if grave and soon else Colour.BLUE

    def _warning_text(self, limit: Limit, crossing: Crossing) -> Text:
        early, late = crossing.earliest_h, crossing.latest_h
        return self._text(
            "will_above" if limit.above else "will_below",
            limit,
            hours=_hours(crossing.expected_h or 0.0),
            early=say("forecast.hours", hours=_hours(early or 0.0)),
            late=say("forecast.later") if late is None else say("forecast.hours", hours=_hours(late)),
        )

    def _headline(self, limit: Limit, crossing: Crossing) -> Headline:
        matter = say("headline.forecast", hours=_hours(crossing.expected_h or 0.0))
        place = Text(self._station.zh, self._station.en)
        row = Row(self._parameter.key, _number(self._one.last), limit=_number(limit.limit))
        return Headline(place, matter, (row,), self._station.key, self._station.water)

    def _text(self, key: str, limit: Limit, **more: object) -> Text:
        return say(
            f"forecast.{key}",
            station=Text(self._station.zh, self._station.en),
            parameter=Text(self._parameter.zh, self._parameter.en),
            limit=self._parameter.show(limit.limit),
            value=self._parameter.show(self._one.last),
            at=beijing(self._one.last_ms),
            reason=verdict_text(self._one, self._parameter),
            **more,
        )

    def _finding(
        self, limit: Limit, change: ConditionChange, text: Text, colour: Colour, since_ms: int | None = None
    ) -> Finding:
        return Finding(
            rule=f"{RULE_PREFIX}{limit.rule}",
            version=limit.version,
            kind=FindingKind.FORECAST,
            change=change,
            cause=f"water:{self._station.key}",
            station=self._station.key,
            parameter=self._parameter.key,
            observed_at_ms=self._one.issued_ms,
            since_ms=self._one.last_ms if since_ms is None else since_ms,
            value=_number(self._one.last),
            limit=_number(limit.limit),
            colour=colour,
            text=text,
        )


def verdict_text(one: Forecast, parameter: Parameter) -> Text:
    """Whether and why the forecast is shown, with its figures."""
    checked = np.isfinite(one.skill.coverage)
    percent = f"{100 * one.skill.coverage:.0f}" if checked else ""
    values: dict[str, object] = {"days": one.skill.days, "percent": percent}
    ratios = {"ratio": one.skill.ratio, "daily": one.skill.ratio_daily, "theta": one.skill.ratio_theta}
    values |= {name: f"{ratio:.2f}" if np.isfinite(ratio) else "–" for name, ratio in ratios.items()}
    values["held"] = say("forecast.held", percent=percent) if checked else say("forecast.held_unknown")
    if one.skill.shown:
        day = one.at <= one.issued_ms + 24 * HOUR_MS
        values |= {"low": parameter.show(float(one.low[day].min())), "high": parameter.show(float(one.high[day].max()))}
    return say(f"forecast.{one.skill.verdict}", **values)


def _shown_crossing(one: Forecast, limit: Limit) -> Crossing | None:
    return fc.crossing(one, limit.limit, above=limit.above) if one.skill.shown else None


def _sparse(one: Forecast) -> Forecast:
    worth = replace(one.skill, verdict=Verdict.SPARSE)
    none = np.zeros(0)
    return Forecast(one.issued_ms, one.step_h, one.last_ms, one.last, np.zeros(0, np.int64), none, none, none, worth)


def _coarser(hours: Floats, end_ms: int, last_ms: int, step_h: int) -> Floats:
    """The hourly means as means of a coarser step, the last of which ends at ``last_ms``."""
    over = (end_ms - last_ms) // HOUR_MS  # hours of the unfinished step
    known = np.append(np.full(over, np.nan), hours[: len(hours) - over]) if over else hours
    parts = known.reshape(-1, step_h)
    seen = np.isfinite(parts)
    count = seen.sum(axis=1)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(seen, parts, 0.0).sum(axis=1) / np.where(count, count, np.nan)
    return mean


def _hours(hours: float) -> str:
    return f"{hours:.0f}" if hours >= 1 else f"{max(hours, 0.1):.1f}"


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


_COLUMNS = tuple(column.name for column in table.columns)
_NAMES = ", ".join(f'"{name}"' for name in _COLUMNS)
_INTO = f"INSERT INTO forecast ({_NAMES})"
_ON_CONFLICT = "ON CONFLICT (station, parameter) DO UPDATE SET " + ", ".join(
    f'"{name}" = excluded."{name}"' for name in _COLUMNS if name not in ("station", "parameter")
)


def _row(
    station: str,
    parameter: str,
    one: Forecast,
    crossed: Sequence[tuple[Limit, Crossing | None]],
    warned: Mapping[str, Any],
    text: Text,
) -> list[object]:
    points = zip(one.at.tolist(), one.value.tolist(), one.low.tolist(), one.high.tolist(), strict=True)
    shown = [[at, *(float(f"{v:.6g}") for v in rest)] for at, *rest in points] if one.skill.shown else []
    crossings = [asdict(c) | {"rule": limit.rule or None} for limit, c in crossed if c is not None]
    values: dict[str, object] = {
        "station": station,
        "parameter": parameter,
        "issued_ms": one.issued_ms,
        "verdict": str(one.skill.verdict),
        "step_h": one.step_h,
        "last_ms": one.last_ms if np.isfinite(one.last) else None,
        "last": _number(one.last),
        "ratio": _number(one.skill.ratio),
        "ratio_daily": _number(one.skill.ratio_daily),
        "coverage": _number(one.skill.coverage),
        "days": one.skill.days,
        "points": json.dumps(shown),
        "crossings": json.dumps(crossings),
        "warned": json.dumps(warned),
        "text_zh": text.zh,
        "text_en": text.en,
    }
    return [values[name] for name in _COLUMNS]


def _stored(row: sa.RowMapping) -> StoredForecast:
    return from_row(
        StoredForecast,
        row,
        verdict=Verdict(row["verdict"]),
        points=tuple((int(at), value, low, high) for at, value, low, high in json.loads(row["points"])),
        crossings=tuple(json.loads(row["crossings"])),
        text=Text(row["text_zh"], row["text_en"]),
    )
