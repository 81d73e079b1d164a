"""Shared parts of the tools that plant events into recorded water: records, judging, counting.

The public records without event labels (not part of this repository) are real water, and nothing was ever set to find a
discharge in them. The detector looks at the whole record as ``riverchief assess`` does.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from infra.times import DAY_MS
from riverchief.tables.assess import SensorTable, Summary, judge, read
from sensors.parameters import catalogue
from sensors.quality.detectors.sudden_events import Alarms
from sensors.quality.detectors.upstream_evidence import UpstreamPath
from sensors.reading import Bools, Floats, Ints, Places

HOUR_MS: Final = 3_600_000
MONTH_MS: Final = 30.44 * DAY_MS

RECORDS: Final = {
    # name: (file, minutes between readings, stations from above to below)
    "Pringle Creek, 5 min": ("neon_pringle_creek_clean", 5, ("pringle_creek_upstream", "pringle_creek_downstream")),
    "Pringle Creek, 15 min": ("neon_pringle_creek_clean", 15, ("pringle_creek_upstream", "pringle_creek_downstream")),
    "Logan": ("logan_river_labelled", 15, ()),
    "Logan, raw years": ("logan_river_raw_long", 15, ()),
    "Cat Point": ("nerrs_apacpwq_labelled", 15, ()),
    "Herbert": ("herbert_river_labelled", 30, ()),
}

EDGES: Final = (0.2, 0.45, 0.6, 0.8)
BINS: Final = ("doubtful", "20 to 45 % sure", "45 to 60 %", "60 to 80 %", "more")
LITTLE: Final = 0.2
"""A record of which no more of the events are found says nothing of how sure alarms are."""

AlarmShares = Sequence[tuple[float, float]]
"""By how sure alarms were: the share of what was planted that they found, and how many a station-month tell of the
record without it."""


@dataclass(frozen=True, slots=True)
class Planted:
    """One passage at a station: above a tenth of its peak from ``begin`` to ``end`` (ms)."""

    kind: str
    station: int
    begin: int
    end: int


@dataclass(slots=True)
class Trial:
    """What was planted into a record, what of it was found by kind and after how long (ms), how many ``others`` there
    were in how many station-``months``, and how sure alarms were."""

    planted: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    delays: dict[str, list[int]] = field(default_factory=dict)
    others: int = 0
    months: float = 0.0
    alarms_of_passages: AlarmShares = ()

    def cells(self, kinds: Iterable[str]) -> list[str]:
        """Found of planted, by kind."""
        return [f"{self.found[kind]} of {self.planted[kind]}" if self.planted[kind] else "" for kind in kinds]

    def share(self) -> float:
        """Found of all that was planted, in per cent."""
        return 100 * self.found.total() / max(self.planted.total(), 1)

    def delay(self, unit_ms: int, *kinds: str) -> float | None:
        """Median of these kinds, of all where none is named; None where nothing was found."""
        all_ = [one for kind in kinds or self.delays for one in self.delays.get(kind, ())]
        return float(np.median(all_)) / unit_ms if all_ else None


Plant = Callable[[SensorTable, tuple[str, ...], np.random.Generator], tuple[Floats, list[Planted]]]
"""The values of a record with events in them, of stations in a chain, and where these are."""


def records(
    data: Path, names: Iterable[str] = RECORDS
) -> Iterator[tuple[str, SensorTable, tuple[str, ...], tuple[UpstreamPath, ...]]]:
    """Each record with what it is called, its chain and its ways; that of two stations twice, then told which lies
    above."""
    for name in names:
        file, minutes, chain = RECORDS[name]
        table = thinned(read(data / f"{file}.csv.gz", catalogue(), Summary(file)), minutes)
        yield name, table, chain, ()
        if chain:
            way = UpstreamPath(table.names.index(chain[0]), table.names.index(chain[1]))
            yield f"{name}, told which lies above", table, chain, (way,)


def thinned(table: SensorTable, minutes: int) -> SensorTable:
    rows = np.flatnonzero(table.at // 60_000 % minutes == 0)
    return replace(table, station=table.station[rows], at=table.at[rows], values=table.values[rows])


def tried(
    table: SensorTable,
    chain: tuple[str, ...],
    edges: tuple[UpstreamPath, ...],
    seeds: int,
    plant: Plant,
    counted: Callable[[Alarms], Bools] = lambda alarms: np.ones(len(alarms.at), np.bool_),
    *,
    between: bool = False,
) -> Trial:
    """Plant into a record so many times over, at other moments, and count what the ``counted`` alarms find.

    False alarms by how sure they are, are those of the record as it is, or ``between`` the events: what these do to
    what is remembered of a station is in them, then.
    """
    made, first, false = Trial(), np.zeros(len(BINS)), np.zeros(len(BINS))

    def judged(values: Floats) -> Alarms:
        alarms = judge(replace(table, values=values), edges).alarms
        return alarms.take(np.flatnonzero(counted(alarms)))

    plain = judged(table.values)
    for seed in range(seeds):
        values, events = plant(table, chain, np.random.default_rng(seed))
        alarms = judged(values)
        for event in events:
            first += by_sureness(alarms.take(rows_of(alarms, event)[:1]))
        explained = np.zeros(len(alarms.at), np.bool_)
        for event in events:
            mine = rows_of(alarms, event)
            explained[mine] = True
            sure = mine[alarms.discount[mine] == 0]
            made.planted[event.kind] += 1
            if len(sure):
                made.found[event.kind] += 1
                made.delays.setdefault(event.kind, []).append(int(alarms.at[sure[0]]) - event.begin)
        others = alarms.take(np.flatnonzero(~explained))
        made.others += len(one_each(others.take(np.flatnonzero(others.discount == 0))).at)
        false += by_sureness(one_each(others if between else plain))
        made.months += months(table)
    false /= made.months
    made.alarms_of_passages = list(zip((first / max(made.planted.total(), 1)).tolist(), false.tolist(), strict=True))
    return made


def months(table: SensorTable) -> float:
    """Station-months in which the stations of a table spoke: pauses of years are none."""
    each = [np.diff(table.at[table.station == i]) for i in range(len(table.names))]
    return sum((len(steps) + 1) * float(np.median(steps)) for steps in each if len(steps)) / MONTH_MS


def rows_of(alarms: Alarms, event: Planted) -> Places:
    """The alarms that found an event: from its beginning on, and until two hours after it."""
    when = (alarms.at >= event.begin) & (alarms.at <= event.end + 2 * HOUR_MS)
    return np.flatnonzero(when & (alarms.station == event.station))


def one_each(alarms: Alarms) -> Alarms:
    """The first alarm of each that has six hours of calm before it."""
    apart = (np.diff(alarms.at) > 6 * HOUR_MS) | (np.diff(alarms.station) != 0)
    return alarms.take(np.flatnonzero(np.append(len(alarms.at) > 0, apart)[: len(alarms.at)]))


def by_sureness(alarms: Alarms) -> Floats:
    """How many alarms were how sure."""
    confidence = [alarms.meaning(i).confidence for i in range(len(alarms.at))]
    return np.bincount(np.searchsorted(EDGES, confidence, side="right"), minlength=len(BINS)).astype(np.float64)


def sureness(alarms: Mapping[str, AlarmShares]) -> Iterator[str]:
    """The table of how many of the alarms that were so sure were right, where one event passes a station a month."""
    yield f"| record | {' | '.join(BINS)} |"
    yield "|---" * (len(BINS) + 1) + "|"
    known = {name: one for name, one in alarms.items() if sum(hit for hit, _ in one) > LITTLE}
    known["all, each record alike"] = [
        (sum(hit for hit, _ in one), sum(false for _, false in one)) for one in zip(*known.values(), strict=True)
    ]
    for name, one in known.items():
        yield f"| {name} | {' | '.join(f'{100 * a / (a + b):.0f} %' if a + b else '' for a, b in one)} |"


def sensors_of(table: SensorTable) -> dict[str, int]:
    """The column of each parameter."""
    return {table.found.catalogue.parameters[c.parameter].key: i for i, c in enumerate(table.found.sensors)}


def passage(
    table: SensorTable, values: Floats, kind: str, rows: Places, inside: Places, moved: Sequence[int]
) -> list[Planted]:
    """Of an event ``inside`` (places in) the ``rows`` of a station that moves these columns; none where the station
    hardly speaks then, or has no sensor for it."""
    if not len(inside) or not moved:
        return []
    measured = ~np.isnan(values[rows[inside]][:, list(moved)])
    first, last = int(table.at[rows[inside[0]]]), int(table.at[rows[inside[-1]]])
    if measured.mean() < 0.8 or len(measured) * 4 < (last - first) / HOUR_MS:
        return []
    return [Planted(kind, int(table.station[rows[0]]), first, last)]


def moments(at: Ints, every_ms: int, known_ms: int, random: np.random.Generator) -> Iterator[int]:
    """Times of planted events: about so often, on three days out of five, after a warm-up."""
    for day in range(int(at[0]) + known_ms, int(at[-1]) - every_ms, every_ms):
        yield day + int(random.uniform(0, 0.6 * every_ms))
