"""Changes of the water: from the alarms of the detector to findings of the ``[[event]]`` rules.

What an event is stands in :mod:`sensors.quality.detectors.sudden_events` and, of hours and days, in
:mod:`sensors.quality.detectors.slow_events`; here the rules say how urgent it is, and it gets a beginning, an end and a
sentence. One event is on at a station at a time. What goes on tells nothing new unless a more urgent rule speaks of it,
or what was found in the past goes on now. It ends when the station has spoken for six hours without another alarm,
whatever rule would speak of that one: silence ends nothing (design rule 5).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np

from governance.incidents.finding import Change, Finding
from governance.incidents.headline import Headline, Row, worst_first
from infra.texts import Text, say
from infra.times import beijing
from ingest.rules.alarm_state import Alarm, Key
from ingest.rules.model import Event, Rules
from ingest.rules.sentences import name
from ingest.rules.upstream import River
from sensors.parameters import Catalogue
from sensors.quality.detectors.slow_events import FOLLOWED, CombinedAlarms
from sensors.quality.detectors.sudden_events import QUIET_MS, Alarms, EventCause, SuddenEventResult
from sensors.quality.detectors.upstream_evidence import UpstreamPath
from sensors.quality.explanations import event_text as sentence
from sensors.reading import Codes, Floats, Ints
from sensors.stations import Registry, Station

WATER: Final = "water:"
"""One cause is one water (decision 0006)."""

BEFORE: Final = 8
BEFORE_MS: Final = 2 * 3_600_000
"""What was measured is held against the median of so many readings before, not older than this: the detector looks at
departures from such a median, and a series remembers as many."""


def cause_name(finding: Finding) -> EventCause | None:
    """What the headline of a finding says that the event looks like; None of what is no event."""
    matter = finding.headline.matter if finding.headline else None
    return next((one for one in EventCause for doubtful in (False, True) if matter == _matter(one, doubtful)), None)


Choose = Callable[[Station, EventCause, float, int], Event | None]
"""The rule that speaks of an event: station, what it looks like, how sure (0 to 1), when (ms)."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Readings of one station around an alarm, in any order: (n,) parameter, ms, value in canonical units."""

    parameter: Codes
    at: Ints
    value: Floats

    def by_role(self, at_ms: int, catalogue: Catalogue) -> dict[str, Row]:
        """What the sensor of each role showed before and then, where both are known."""
        told: dict[str, Row] = {}
        for p, one in enumerate(catalogue.parameters):
            mine = np.flatnonzero((self.parameter == p) & (self.at <= at_ms) & (self.at >= at_ms - BEFORE_MS))
            mine = mine[np.argsort(self.at[mine])]
            if one.event and one.event not in told and len(mine) > 1 and self.at[mine[-1]] == at_ms:
                *before, now = self.value[mine[-1 - BEFORE :]].tolist()
                told[one.event] = Row(one.key, now, round(float(np.median(before)), one.decimals + 1))
        return told


def headline(station: Station, found: Alarms, row: int, by_role: Mapping[str, Row]) -> Headline:
    """What an alarm is about: what it looks like, and the move of each sensor that speaks for it.

    ``by_role`` has what its sensors showed before and then, of a sudden change.
    """
    what = found.meaning(row)
    if isinstance(found, CombinedAlarms) and found.slow(row):
        keys = list(FOLLOWED)
        i_of = {role: i for i, role in enumerate(FOLLOWED.values())}
        rows = [
            Row(keys[i], _known(found.now[row, i]), _known(found.usual[row, i]))
            for role, _ in what.evidence
            if (i := i_of.get(role)) is not None
        ]
    else:
        rows = [replace(by_role[role], times_usual=round(size, 1)) for role, size in what.evidence if role in by_role]
    return Headline(
        name(station),
        _matter(what.cause, bool(found.doubt[row])),
        worst_first(rows, station.water),
        station.key,
        station.water,
        confidence=round(what.confidence, 2),
        score=round(float(found.total[row]), 2),
        threshold=round(float(found.needed[row]), 2),
    )


def _matter(cause: EventCause, doubtful: bool) -> Text:
    told = say(f"event.{cause}")
    return say("headline.doubtful", matter=told) if doubtful else told


def _known(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def station_edges(registry: Registry, river: River) -> tuple[UpstreamPath, ...]:
    """Which station lies above which, by position, and the travel times between them."""
    index = registry.index
    return tuple(
        UpstreamPath(index[above], i, way.typical_ms, way.least_ms, way.most_ms)
        for i, station in enumerate(registry.stations)
        if river.has_above(station.key)
        for above, way in river.above(station).items()
    )


class EventRules:
    """The event rules. ``alarms`` are those of the engine: it keeps them up to date between two calls."""

    def __init__(
        self, rules: Rules, alarms: Mapping[Key, Alarm], choose: Choose, late_ms: int, catalogue: Catalogue
    ) -> None:
        self._rules = {rule.id: rule for rule in rules.events}
        self._alarms = alarms
        self._choose = choose
        self._late_ms = late_ms
        self._catalogue = catalogue

    def live(
        self,
        seen: SuddenEventResult,
        last_alarm: Callable[[int], int],
        station: Codes,
        at: Ints,
        stations: Sequence[Station],
        measured: Callable[[int], Measured],
        now_ms: int,
    ) -> list[Finding]:
        """What begins and what ends with readings (``station``, ``at``) that continue their series.

        ``last_alarm`` is that of a station before ``seen``, ``measured`` its readings, by position; the cutting of the
        batches changes nothing that is told.
        """
        on = {station for rule, station, _ in self._alarms if rule in self._rules}
        alarmed = set(seen.alarms.station.tolist())
        told: list[Finding] = []
        for i in seen.stations.tolist():
            if i not in alarmed and stations[i].key not in on:
                continue
            going = self.going(stations[i].key)
            last_ms = max([last_alarm(i), *(one.fired_at_ms for one in going.values())])
            instants = np.unique(at[station == i])
            rows = np.flatnonzero(seen.alarms.station == i)
            said, _ = self.event_findings(
                stations[i], seen.alarms, rows, going, last_ms, instants, partial(measured, i), now_ms
            )
            told += said
        return told

    def going(self, station: str) -> dict[str, Alarm]:
        """The event that is on at a station, by the rules that speak of it."""
        return {rule: alarm for rule in self._rules if (alarm := self._alarms.get((rule, station, "")))}

    def event_findings(
        self,
        station: Station,
        found: Alarms,
        rows: Iterable[int],
        going: Mapping[str, Alarm],
        last_ms: int,
        instants: Ints,
        measured: Callable[[], Measured],
        now_ms: int,
        late: bool = False,
    ) -> tuple[list[Finding], dict[str, Alarm]]:
        """What the alarms in ``rows`` tell of a station, and what is on after them.

        ``last_ms`` is the last alarm of what is ``going`` on; ``instants`` are those at which the station spoke. The
        end of what is on is told to whatever incident holds it, that of an event of ``late`` data to past ones only.
        """
        told: list[Finding] = []
        on = dict(going)
        for a in sorted(rows, key=lambda row: int(found.at[row])):
            at_ms = int(found.at[a])
            if on and at_ms - last_ms > QUIET_MS:
                told += self._ended(station, on, last_ms, instants, now_ms, late)
                on = {}
            last_ms = max(last_ms, at_ms)
            what = found.meaning(a)
            rule = self._choose(station, found.kind(a), what.confidence, at_ms)
            past = self._past(station, at_ms, now_ms)
            if rule is None or any(self._says(one, alarm, rule, past) for one, alarm in on.items()):
                continue
            slow = isinstance(found, CombinedAlarms) and found.slow(a)
            text = say(
                "finding.event_slow" if slow else "finding.event",
                station=name(station),
                at=_when(at_ms, past),
                what=sentence(found, a, figures=False),
            )
            begun = rule.found(
                Change.FIRED,
                cause=f"{WATER}{station.key}",
                station=station.key,
                observed_at_ms=at_ms,
                since_ms=at_ms,
                retrospective=past,
                text=text,
                headline=headline(station, found, a, {} if slow else measured().by_role(at_ms, self._catalogue)),
            )
            told.append(begun)
            on[rule.id] = Alarm(begun.cause, at_ms, at_ms, past)
        if on and len(instants) and int(instants[-1]) - last_ms > QUIET_MS:
            told += self._ended(station, on, last_ms, instants, now_ms, late)
            on = {}
        return told, on

    def speaks(self, station: Station, found: Alarms, row: int) -> bool:
        """Whether any rule speaks of an alarm."""
        what = found.meaning(row)
        return self._choose(station, found.kind(row), what.confidence, int(found.at[row])) is not None

    def _says(self, told: str, alarm: Alarm, rule: Event, past: bool) -> bool:
        """Whether what was told already says as much: as urgent, and of the present where this is."""
        return self._rules[told].colour.rank <= rule.colour.rank and (past or not alarm.past)

    def _past(self, station: Station, at_ms: int, now_ms: int) -> bool:
        """Whether it is too late to act on; the verdict on an instant waits for the next one."""
        return at_ms < now_ms - self._late_ms - 2000 * station.interval_s

    def _ended(
        self, station: Station, on: Mapping[str, Alarm], last_ms: int, instants: Ints, now_ms: int, late: bool
    ) -> Iterator[Finding]:
        """The end, at the first instant after six hours without an alarm."""
        calm = int(instants[np.searchsorted(instants, last_ms + QUIET_MS, side="right")])
        news = late and all(alarm.past for alarm in on.values())
        for rule, alarm in on.items():
            yield self._rules[rule].found(
                Change.RESOLVED,
                cause=alarm.cause,
                station=station.key,
                observed_at_ms=calm,
                since_ms=alarm.since_ms,
                retrospective=news,
                text=_over(station, last_ms, calm, self._past(station, calm, now_ms)),
            )


def _over(station: Station, last_ms: int, calm_ms: int, past: bool) -> Text:
    return say("finding.event_over", station=name(station), since=_when(last_ms, past), at=_when(calm_ms, past))


def _when(at_ms: int, past: bool) -> str:
    """With the year where the past is spoken of."""
    return beijing(at_ms, "%Y-%m-%d %H:%M" if past else "%m-%d %H:%M")
