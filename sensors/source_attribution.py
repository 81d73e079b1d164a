"""Attribute an event to sources upstream: outfalls and stretches, ranked, with the time of release. Pure.

From every candidate place water is followed to the stations, at many release times and for an ensemble of speeds
(travel times of the registry, least to most) and strengths of the tide; where the tide runs back, the water does too. A
candidate is likely when its water would have come to the stations that saw the event when they saw it, and would not
have passed those that were working and saw nothing. What an outfall carries and how far it is away count a little.

Speeds without travel times, widths of the errors and weights are engineering choices, not measured; the scores are in
docs/source-attribution.md, the reasons in docs/decisions/0019-a-source-is-attributed-by-an-ensemble.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np

from infra.errors import ConfigurationError, NotFound
from infra.texts import Text, say
from infra.times import DAY_MS, HOUR_MS, beijing
from sensors.network import Outfall, OutfallKind, along_km, length_km, nodes_on_cycles
from sensors.reading import Floats, Ints
from sensors.stations import Reach, Registry, Water

# -- constants -------------------------------------------------------------------------------------------------------
# Engineering choices, where no source is given.

STEP_MS = HOUR_MS // 2
"""Time step of the simulated water."""
NEVER = 10_000
"""Steps that stand for water that does not come."""
BACK_H = 36
"""Hours before the event in which water may have been released: three tides."""
RELEASE_STEPS = 2
"""Steps between two release times that are tried."""
FURTHEST_KM = 20.0
"""Distance along the water from which an event is still attributed."""
STRETCH_KM = 2.0
"""Stretches end at stations, at junctions and after so much water."""
SAMPLE_KM = 0.4
"""Distance of the release points that stand for a stretch."""
SPEED_M_S: Mapping[Water, tuple[float, float, float]] = {
    Water.RIVER: (0.10, 0.30, 0.80),
    Water.CREEK: (0.03, 0.10, 0.30),
    Water.LAKE: (0.01, 0.05, 0.20),
}
"""Least, typical and most where the registry has no travel time, and in lakes, where wind mixes faster than the flow
runs through (unverified)."""
SPEEDS = 5
"""Speeds of the ensemble, from least to most."""
TIDAL_RATIOS = ((0.0, 0.25), (1.5, 0.45), (4.0, 0.3))
"""(largest tidal current as a multiple of the mean one, prior weight); where only levels tell the tide, its strength is
not known."""
TIDAL_RANGE_M = 0.1
"""Range of the level in two days below which there is no tide."""
MIX_KM, MIX_KM_H, MIX_SHARE = 1.5, 0.4, 0.3
"""Mixing carries something against the current, beside it: how far, how fast, and the prior weight of members with it
(0.1 named the true source first as often in simulated discharges at outfalls, and less often with a second source)."""
NEIGHBOURS = 10
"""Stations whose readings are looked at beside the one where the event was found."""
MAX_CANDIDATES = 8
"""Candidates of a result."""

# Weights, in natural logarithms of likelihood.
IMPOSSIBLE_PENALTY = 12.0
"""At most, where the water would not have come when the event was found."""
OUTFALL_PRIOR = 1.1
"""Of an outfall against a stretch of STRETCH_KM."""
FIT_RANGE = 0.7
"""Largest weight, up or down, of what an outfall carries."""
FADES_H = 24.0
"""Hours of travel that cost one unit: water is diluted on its way."""
TRAVEL_ERROR = 0.3
"""Error of the travel time as a share of it."""

# Chances at neighbours, chosen on simulated discharges (seeds 21 and 22).
QUIET_SPREAD_MS = HOUR_MS * 3 // 4
"""Spread of the time until which a station saw nothing."""
DETECTED, DETECTED_H = 0.95, 3.0
"""Chance that a neighbour detects the water that passes it, and the hours of travel beyond the station where the event
was found that lower this to 1/e."""
OTHER_CAUSE_PER_DAY = 0.3
"""How often a neighbour changes for another reason."""

# Readings of stations.
LOOK_H, BEFORE_H = 12, 6
"""Hours after and before the event in which a neighbour's readings may show it."""
FURTHER, AT_NEIGHBOURS = 3.0, 4.0
"""How many times further than the outer values of the day before a value must go to stand out: where the event was
found, and at neighbours, of which there are many to be wrong about."""
TRACED_PARAMETERS = ("nh3n", "do", "ph", "conductivity", "turbidity", "codmn", "tp", "tn", "orp", "codcr")
"""Parameters by which a station is said to have seen something."""
MIN_DAY_READINGS = 6
"""Readings of the day before, at least, to compare with."""
MIN_CURRENT_READINGS = 8
"""Levels or flows, at least, from which a current is computed."""
MAD_TO_SIGMA = 1.4826
"""From the median absolute deviation to the standard deviation of a normal distribution."""
ONSET_SHARE = 0.2
"""A change begins after the last reading within this share of the way to the value at the peak."""


class PlaceKind(StrEnum):
    """What a candidate is."""

    OUTFALL = "outfall"
    STRETCH = "stretch"


@dataclass(frozen=True, slots=True)
class Current:
    """How the water of a reach runs: ``share`` (n,) every ``STEP_MS`` from ``start_ms`` on, downstream positive.

    From levels it is the tidal current as a share of its largest; where ``measured`` it is the flow as a multiple of
    its mean size. Before and after its ends the nearest value counts.
    """

    start_ms: int
    share: Floats
    measured: bool = False


@dataclass(frozen=True, slots=True)
class Detection:
    """A station that saw the event, which began there at ``onset_ms``, give or take ``spread_ms``."""

    station: str
    onset_ms: int
    spread_ms: int = 15 * 60_000


@dataclass(frozen=True, slots=True)
class NonDetection:
    """A station whose good readings until ``until_ms`` show nothing."""

    station: str
    until_ms: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place it may have come from: an outfall, or ``from_km`` to ``to_km`` of a reach.

    ``probability`` is the share of all candidates together. Released between ``early_ms`` and ``late_ms`` (80 %), most
    likely at ``likely_ms``. ``reasons`` are sentences, the weightiest first.
    """

    kind: PlaceKind
    key: str
    name: Text
    reach: str
    from_km: float
    to_km: float
    probability: float
    early_ms: int
    likely_ms: int
    late_ms: int
    reasons: tuple[Text, ...]


@dataclass(frozen=True, slots=True)
class NetworkPoint:
    """A point of the network."""

    reach: str
    km: float


@dataclass(frozen=True, slots=True)
class _Place:
    kind: PlaceKind
    key: str
    name: Text
    reach: str
    from_km: float
    to_km: float
    spots: tuple[NetworkPoint, ...]
    outfall: OutfallKind | None = None


@dataclass(frozen=True, slots=True)
class _Route:
    """Legs from a place to a station: reach, km, and +1 down or −1 up it."""

    legs: tuple[tuple[str, float, int], ...]

    @property
    def km(self) -> float:
        return sum(leg[1] for leg in self.legs)

    @property
    def upstream_km(self) -> float:
        return sum(km for _, km, sign in self.legs if sign < 0)


class RiverTree:
    """The waters of a registry as a tree: places, routes between them, and speeds."""

    def __init__(self, registry: Registry) -> None:
        """Raises ConfigurationError where reaches flow in a circle."""
        self.registry = registry
        self.reaches: dict[str, Reach] = {r.key: r for r in registry.reaches if len(r.line) > 1}
        edges = [(r.key, r.downstream) for r in self.reaches.values() if r.downstream in self.reaches]
        if circle := nodes_on_cycles([(a, b) for a, b in edges if b]):
            raise ConfigurationError(say("source_attribution.circle", circle=", ".join(sorted(circle))))
        self.length = {key: length_km(r.line) for key, r in self.reaches.items()}
        self.mouth: dict[str, NetworkPoint] = {}
        for r in self.reaches.values():
            if r.downstream is not None and r.downstream in self.reaches:
                below = self.reaches[r.downstream]
                self.mouth[r.key] = NetworkPoint(below.key, along_km(below.line, *r.line[-1]))
        travels = {(t.upper, t.lower): t for t in registry.travels}
        self.speed_km_h: dict[str, tuple[float, float, float]] = {}
        for r in self.reaches.values():
            slow, usual, fast = (3.6 * v for v in SPEED_M_S[r.water])
            travel = travels.get((r.key, r.downstream or ""))
            if travel is not None and r.water is not Water.LAKE:
                km = self.length[r.key]
                slow, usual, fast = (3600 * km / s for s in (travel.most_s, travel.typical_s, travel.least_s))
            self.speed_km_h[r.key] = (slow, usual, fast)

    def spot(self, station: str) -> NetworkPoint:
        """Where a station lies; raises NotFound for one that is unknown or on no reach with a line."""
        if station not in self.registry:
            raise NotFound(say("registry.no_station", key=station[:80]))
        s = self.registry[station]
        if s.reach not in self.reaches:
            raise NotFound(say("source_attribution.no_reach", station=station))
        return NetworkPoint(s.reach, along_km(self.reaches[s.reach].line, s.lon, s.lat))

    def down(self, spot: NetworkPoint) -> list[NetworkPoint]:
        """The point, and the points where its water enters each reach below."""
        way = [spot]
        while way[-1].reach in self.mouth:
            way.append(self.mouth[way[-1].reach])
        return way

    def path(self, start: NetworkPoint, end: NetworkPoint) -> _Route | None:
        """The route from a point to another, down and then up; None where none joins them."""
        first, second = self.down(start), self.down(end)
        below = {spot.reach: i for i, spot in enumerate(second)}
        for i, spot in enumerate(first):
            if spot.reach not in below:
                continue
            legs = [(s.reach, self.length[s.reach] - s.km, 1) for s in first[:i]]
            other = second[below[spot.reach]]
            across = other.km - spot.km
            legs.append((spot.reach, abs(across), 1 if across >= 0 else -1))
            legs += [(s.reach, self.length[s.reach] - s.km, -1) for s in reversed(second[: below[spot.reach]])]
            return _Route(tuple(leg for leg in legs if leg[1] > 0))
        return None

    def near(self, station: str, most: int = NEIGHBOURS) -> list[str]:
        """The other stations within FURTHEST_KM along the water, nearest first, ``most`` at most."""
        here = self.spot(station)
        found: list[tuple[float, str]] = []
        for other in self.registry.stations:
            if other.key != station and other.reach in self.reaches:
                ways = [p for p in (self.path(here, self.spot(other.key)),) if p is not None]
                found += [(p.km, other.key) for p in ways if p.km <= FURTHEST_KM]
        return [key for _, key in sorted(found)[:most]]


def current_of_levels(at_ms: Ints, level: Floats, start_ms: int, end_ms: int) -> Current | None:
    """The tidal current from levels (oldest first, m): water runs out while they fall. None without a tide."""
    good = np.isfinite(level)
    if good.sum() < MIN_CURRENT_READINGS or end_ms <= start_ms:
        return None
    grid = np.arange(start_ms, end_ms + STEP_MS, STEP_MS)
    inside = (at_ms[good] >= start_ms - 6 * HOUR_MS) & (at_ms[good] <= end_ms + 6 * HOUR_MS)
    if inside.sum() < MIN_CURRENT_READINGS:
        return None
    known_at, known = at_ms[good][inside], level[good][inside]
    line = np.interp(grid, known_at, known)
    smooth = np.convolve(np.pad(line, 3, mode="edge"), np.ones(7) / 7, mode="valid")  # two hours
    if smooth.max() - smooth.min() < TIDAL_RANGE_M:
        return None
    slope = -np.gradient(smooth)
    slope -= slope.mean()
    most = np.quantile(np.abs(slope), 0.95)
    return None if most <= 0 else Current(int(start_ms), np.clip(slope / most, -1.2, 1.2))


def current_of_flow(at_ms: Ints, flow: Floats, start_ms: int, end_ms: int) -> Current | None:
    """The current from flow readings (m³/s, downstream positive), where there are enough of them."""
    good = np.isfinite(flow) & (at_ms >= start_ms - HOUR_MS) & (at_ms <= end_ms + HOUR_MS)
    if good.sum() < MIN_CURRENT_READINGS or end_ms <= start_ms:
        return None
    size = np.abs(flow[good]).mean()
    if size <= 0:
        return None
    grid = np.arange(start_ms, end_ms + STEP_MS, STEP_MS)
    return Current(int(start_ms), np.interp(grid, at_ms[good], flow[good]) / size, measured=True)


def onset(at_ms: Ints, value: Floats, peak_ms: int, *, up: bool) -> tuple[int, int] | None:
    """When a change that is there at ``peak_ms`` began: (ms, spread in ms); None where nothing stands out.

    It begins after the last reading within a fifth of the way from the level before (median of the day before, the last
    two hours left out) to the value then.
    """
    good = np.isfinite(value) & (at_ms <= peak_ms)
    at, v = at_ms[good], value[good] * (1 if up else -1)
    before = v[(at < peak_ms - 2 * HOUR_MS) & (at >= peak_ms - 26 * HOUR_MS)]
    if len(before) < MIN_DAY_READINGS or not len(v):
        return None
    base = float(np.median(before))
    noise = MAD_TO_SIGMA * float(np.median(np.abs(before - base)))
    top = float(v[-3:].max())
    if top - base <= max(3 * noise, 1e-9):
        return None
    low = np.flatnonzero(v <= base + max(ONSET_SHARE * (top - base), 1.5 * noise))
    if not len(low) or low[-1] == len(v) - 1:
        return int(at[-1]), 30 * 60_000
    i = int(low[-1])
    return int(at[i + 1]), max(10 * 60_000, int(at[i + 1] - at[i]))


Readings = Mapping[str, tuple[Ints, Floats]]
"""Parameter → (ms, good values), oldest first."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What stations saw of an event, and the parameters that rose and fell where it was found."""

    seen: tuple[Detection, ...]
    quiet: tuple[NonDetection, ...]
    rises: frozenset[str]
    falls: frozenset[str]


def evidence(readings: Mapping[str, Readings], station: str, since_ms: int, now_ms: int) -> Evidence:
    """Find which stations saw an event that was found at ``station`` at ``since_ms``.

    A parameter stands out where it leaves the middle of the day before three times as far as that day's outer values
    did. At neighbours the parameters that stood out at the station are compared; one without enough readings is left
    out. A neighbour where only some of them stand out, or the other way, saw nothing until the first did.
    """
    end_ms = min(now_ms, since_ms + LOOK_H * HOUR_MS)
    found = {
        name: _stands_out(*line, since_ms - 3 * HOUR_MS, end_ms, FURTHER) for name, line in readings[station].items()
    }
    changed = {name: way for name, way in found.items() if name in TRACED_PARAMETERS and isinstance(way, tuple)}
    rises = frozenset(name for name, (up, _, _) in changed.items() if up)
    falls = frozenset(changed) - rises
    began = sorted((at, spread) for _, at, spread in changed.values() if at <= since_ms + HOUR_MS)
    first = began[len(began) // 2] if began else (since_ms, HOUR_MS)
    seen, quiet = [Detection(station, *first)], []
    for other, lines in readings.items():
        if other == station:
            continue
        begin_ms = first[0] - BEFORE_H * HOUR_MS
        responses = {
            name: _stands_out(*lines[name], begin_ms, end_ms, AT_NEIGHBOURS) for name in lines if name in changed
        }
        departures = {name: way for name, way in responses.items() if isinstance(way, tuple)}
        same = sorted((at, spread) for name, (up, at, spread) in departures.items() if up == changed[name][0])
        if len(same) >= min(2, len(responses)) > 0 and 2 * len(same) >= len(responses):
            seen.append(Detection(other, *same[len(same) // 2]))
        elif departures:
            quiet.append(NonDetection(other, min(at for _, at, _ in departures.values())))
        elif "quiet" in responses.values():
            quiet.append(NonDetection(other, max(int(lines[name][0][-1]) for name in responses)))
    return Evidence(tuple(seen), tuple(quiet), rises, falls)


def _stands_out(at_ms: Ints, value: Floats, from_ms: int, until_ms: int, further: float) -> tuple[bool, int, int] | str:
    """(up, onset, spread) of the first departure from the day before; "quiet", or "" where there is too little."""
    good = np.isfinite(value)
    at, v = at_ms[good], value[good]
    before = v[(at >= from_ms - 26 * HOUR_MS) & (at < from_ms)]
    inside = (at >= from_ms) & (at <= until_ms)
    if len(before) < MIN_DAY_READINGS or inside.sum() < 3 or at[inside][-1] < until_ms - 3 * HOUR_MS:
        return ""
    middle = float(np.median(before))
    noise = MAD_TO_SIGMA * float(np.median(np.abs(before - middle))) + 1e-9
    high = max(float(np.quantile(before, 0.95)) - middle, noise)
    low = max(middle - float(np.quantile(before, 0.05)), noise)
    over = np.where(v >= middle, (v - middle) / high, (middle - v) / low)
    beyond = np.flatnonzero(inside & (over > further))
    if len(beyond) < 2:
        return "quiet"
    first = int(beyond[0])
    up = bool(v[first] > middle)
    top = first + int(np.argmax((v[first:] if up else -v[first:])[: max(3, len(beyond))]))
    begun = onset(at, v, int(at[top]), up=up)
    return (up, *begun) if begun is not None else "quiet"


def rank_sources(
    river: RiverTree,
    seen: Sequence[Detection],
    quiet: Sequence[NonDetection] = (),
    currents: Mapping[str, Current] | None = None,
    *,
    rises: frozenset[str] = frozenset(),
    falls: frozenset[str] = frozenset(),
    rain: bool | None = None,
) -> list[Candidate]:
    """Rank the places an event may have come from, likeliest first, at most ``MAX_CANDIDATES``.

    Parameters
    ----------
    river : RiverTree
    seen : sequence of Detection
        Stations that saw it, at least one; the first is where it was found.
    quiet : sequence of NonDetection
        Stations that were working and saw nothing.
    currents : mapping of reach to Current
        How the water ran from ``BACK_H`` before the first onset on; a reach without one takes that of the reach below.
    rises, falls : frozenset of parameter keys
        What went up and what went down.
    rain : bool or None
        Whether it rained in the hours before; None where unknown.

    Raises
    ------
    NotFound
        For a station that is unknown or lies on no reach.
    ValueError
        When no station saw anything.
    """
    if not seen:
        raise ValueError("an event that no station saw cannot be traced")
    ends = {station: river.spot(station) for station in [*(s.station for s in seen), *(q.station for q in quiet)]}
    last_ms = max([s.onset_ms for s in seen] + [q.until_ms for q in quiet])
    start_ms = seen[0].onset_ms - BACK_H * HOUR_MS
    steps = int(min(last_ms - start_ms, 3 * BACK_H * HOUR_MS) // STEP_MS) + 2
    releases = np.arange(0, BACK_H * HOUR_MS // STEP_MS + 1, RELEASE_STEPS)
    case = _Case(river, seen, quiet, rises, falls, rain, start_ms, releases)
    places = _places(river, ends[seen[0].station])
    routes = {
        (spot, station): route
        for spot in {spot for place in places for spot in place.spots}
        for station, end in ends.items()
        if (route := river.path(spot, end)) is not None and route.km <= FURTHEST_KM
    }
    came = _arrivals(list(routes.values()), _speeds(river, currents or {}, start_ms, steps), releases, steps)
    arrivals = dict(zip(routes, came, strict=True))
    scored = [_scored(place, case, ends, routes, arrivals) for place in places]
    whole = _log_sum_exp(np.array([one.score for one in scored]))
    scored.sort(key=lambda one: -one.score)
    return [_candidate(one, case, whole) for one in scored[:MAX_CANDIDATES]]


@dataclass(frozen=True, slots=True)
class _Case:
    """What was observed of an event, and the release times (r,) in steps from ``start_ms`` on that are tried."""

    river: RiverTree
    seen: Sequence[Detection]
    quiet: Sequence[NonDetection]
    rises: frozenset[str]
    falls: frozenset[str]
    rain: bool | None
    start_ms: int
    releases: Ints


@dataclass(frozen=True, slots=True)
class _Scored:
    """A place with its score, and the likelihood (r, m), arrivals and routes by station of its best release point."""

    place: _Place
    score: float
    likely: Floats
    arrivals: Mapping[str, Floats]
    routes: Mapping[str, _Route]


def _scored(
    place: _Place,
    case: _Case,
    stations: Iterable[str],
    routes: Mapping[tuple[NetworkPoint, str], _Route],
    arrivals: Mapping[tuple[NetworkPoint, str], Floats],
) -> _Scored:
    """Score a place by all its release points."""
    weights = _ensemble_weights()
    totals, options = [], []
    for spot in place.spots:
        joined = [station for station in stations if (spot, station) in routes]
        came = {station: arrivals[spot, station] for station in joined}
        likely = _likelihood(came, case) + weights[None, :]
        totals.append(_log_sum_exp(likely))
        options.append((likely, came, {station: routes[spot, station] for station in joined}))
    score = _log_sum_exp(np.array(totals)) - np.log(len(totals)) + _prior(place, case)
    return _Scored(place, score, *options[int(np.argmax(totals))])


def _candidate(scored: _Scored, case: _Case, whole: float) -> Candidate:
    """The candidate of a scored place; ``whole`` is the log of the sum of all scores."""
    early, best_ms, late, member = _window(scored.likely, case.releases, case.start_ms)
    place = scored.place
    return Candidate(
        kind=place.kind,
        key=place.key,
        name=place.name,
        reach=place.reach,
        from_km=place.from_km,
        to_km=place.to_km,
        probability=float(np.exp(scored.score - whole)),
        early_ms=early,
        likely_ms=best_ms,
        late_ms=max(best_ms, min(late, case.seen[0].onset_ms)),  # nothing is seen before it is released
        reasons=_reasons(scored, case, member, (best_ms - case.start_ms) // STEP_MS),
    )


# -- places ----------------------------------------------------------------------------------------------------------


def _places(river: RiverTree, here: NetworkPoint) -> list[_Place]:
    """Every outfall and stretch from which water can come to a spot."""
    found = []
    for o in river.registry.outfalls:
        if o.reach in river.reaches:
            spot = NetworkPoint(o.reach, min(max(o.km, 0.0), river.length[o.reach]))
            if _within(river, spot, here):
                found.append(_of_outfall(o, spot))
    for reach in river.reaches.values():
        length = river.length[reach.key]
        cuts = {0.0, length} | {m.km for m in river.mouth.values() if m.reach == reach.key}
        cuts |= {river.spot(s.key).km for s in river.registry.stations if s.reach == reach.key}
        for a, b in pairwise(sorted(cuts)):
            pieces = max(1, int(np.ceil((b - a) / STRETCH_KM)))
            for i in range(pieces):
                begin, end = a + (b - a) * i / pieces, a + (b - a) * (i + 1) / pieces
                if end - begin < 0.02:
                    continue
                number = max(1, round((end - begin) / SAMPLE_KM))
                spots = tuple(
                    NetworkPoint(reach.key, begin + (end - begin) * (j + 0.5) / number) for j in range(number)
                )
                spots = tuple(spot for spot in spots if _within(river, spot, here))
                if spots:
                    name = say(
                        "source_attribution.stretch",
                        reach=Text(reach.zh, reach.en),
                        from_km=f"{begin:.1f}",
                        to_km=f"{end:.1f}",
                    )
                    key = f"{reach.key}/{begin:.2f}-{end:.2f}"
                    found.append(_Place(PlaceKind.STRETCH, key, name, reach.key, begin, end, spots))
    return found


def _of_outfall(o: Outfall, spot: NetworkPoint) -> _Place:
    return _Place(PlaceKind.OUTFALL, o.key, Text(o.zh, o.en), o.reach, spot.km, spot.km, (spot,), o.kind)


def _within(river: RiverTree, spot: NetworkPoint, here: NetworkPoint) -> bool:
    path = river.path(spot, here)
    return path is not None and path.km <= FURTHEST_KM


_CARRIES: Mapping[OutfallKind, frozenset[str]] = {
    OutfallKind.SEWAGE: frozenset({"nh3n", "tn", "tp", "codmn", "codcr", "bod5"}),
    OutfallKind.COMBINED: frozenset({"nh3n", "tn", "tp", "codmn", "codcr", "bod5", "turbidity"}),
    OutfallKind.PLANT: frozenset({"nh3n", "tn", "tp", "conductivity"}),
    OutfallKind.INDUSTRIAL: frozenset({"conductivity", "codcr", "codmn", "orp"}),
    OutfallKind.STORM: frozenset({"turbidity", "ss"}),
}
"""Parameters that change below an outfall of each kind (unverified)."""


def _outfall_fit(kind: OutfallKind | None, rises: frozenset[str], falls: frozenset[str], rain: bool | None) -> float:
    """How well the parameters that changed fit what such an outfall carries, −FIT_RANGE to FIT_RANGE."""
    if kind is None or kind is OutfallKind.OTHER or not rises | falls:
        return 0.0
    typical = _CARRIES[kind]
    known = rises & frozenset().union(*_CARRIES.values())
    share = len(known & typical) / len(known) if known else 0.5
    weight = 1.2 * (share - 0.5)
    if kind is OutfallKind.INDUSTRIAL and "ph" in rises | falls:
        weight += 0.5
    if kind in (OutfallKind.STORM, OutfallKind.COMBINED) and rain is not None:
        weight += 0.4 if rain else -0.4
    return float(np.clip(weight, -FIT_RANGE, FIT_RANGE))


def _prior(place: _Place, case: _Case) -> float:
    """Log prior weight of a place; that of a stretch goes with its length."""
    if place.kind is PlaceKind.OUTFALL:
        return OUTFALL_PRIOR + _outfall_fit(place.outfall, case.rises, case.falls, case.rain)
    return float(np.log(max(place.to_km - place.from_km, 0.05) / STRETCH_KM))


# -- water -----------------------------------------------------------------------------------------------------------


def _ensemble_weights() -> Floats:
    """(m,) log weights: speeds from least to most times strengths of the tide, without mixing and then with it."""
    position = np.linspace(-1, 1, SPEEDS)
    speed = -0.5 * (position * 1.5) ** 2
    ratio = np.log([share for _, share in TIDAL_RATIOS])
    weights = (speed[:, None] + ratio[None, :]).ravel()
    weights = weights - _log_sum_exp(weights)
    return np.append(weights + np.log(1 - MIX_SHARE), weights + np.log(MIX_SHARE))


def _speeds(river: RiverTree, currents: Mapping[str, Current], start_ms: int, steps: int) -> dict[str, Floats]:
    """Reach → (steps, m) speed in km an hour, downstream positive, of every member of the ensemble."""
    at = start_ms + np.arange(steps) * STEP_MS
    position = np.linspace(-1, 1, SPEEDS)
    ratios = np.array([ratio for ratio, _ in TIDAL_RATIOS])
    found: dict[str, Floats] = {}
    for key in river.reaches:
        slow, usual, fast = river.speed_km_h[key]
        speed = np.where(position < 0, usual * (usual / slow) ** position, usual * (fast / usual) ** position)
        current = _current_of(river, currents, key)
        if current is None:
            found[key] = np.broadcast_to(np.repeat(speed, len(ratios)), (steps, len(speed) * len(ratios))).copy()
            continue
        place = np.clip((at - current.start_ms) // STEP_MS, 0, len(current.share) - 1)
        share = current.share[place]
        if current.measured:
            # its size is known but for the cross-section: the ensemble of speeds stands for that
            line = share[:, None, None] * speed[None, :, None] * np.ones(len(ratios))[None, None, :]
        else:
            line = speed[None, :, None] * (1 + ratios[None, None, :] * share[:, None, None])
        found[key] = line.reshape(steps, -1)
    return found


def _current_of(river: RiverTree, currents: Mapping[str, Current], key: str) -> Current | None:
    """The current of a reach, else that of the water it flows into: the tide comes from below."""
    at: str | None = key
    while at is not None:
        if at in currents:
            return currents[at]
        at = river.mouth[at].reach if at in river.mouth else None
    return None


def _arrivals(paths: Sequence[_Route], running: Mapping[str, Floats], releases: Ints, steps: int) -> Floats:
    """(p, r, m) the step at which water of each release first comes to the end of each route; inf for never.

    Mixing acts beside the current: it carries water up to a station above while the current takes it to those below.
    The source goes on while water runs back, so that water is never behind the place of release.
    """
    names = list(running)
    speeds = np.stack([running[name] for name in names])  # (reaches, steps, m)
    members = speeds.shape[2]
    most = max((len(p.legs) for p in paths), default=0)
    ends = np.full((len(paths), max(most, 1)), np.inf)
    which = np.zeros(ends.shape, np.intp)
    sign = np.ones(ends.shape)
    whole = np.zeros(len(paths))
    for i, path in enumerate(paths):
        for j, (reach, km, way) in enumerate(path.legs):
            whole[i] += km
            ends[i, j], which[i, j], sign[i, j] = whole[i], names.index(reach), way
    far = np.full((len(paths), len(releases), members), np.inf)
    far[whole == 0] = releases[None, :, None]
    place = np.zeros(far.shape)
    row, column = np.arange(len(paths))[:, None, None], np.arange(members)[None, None, :]
    hours = STEP_MS / HOUR_MS
    goal = whole[:, None, None]
    for step in range(int(releases[0]), steps):
        leg = np.zeros(far.shape, np.intp)
        for j in range(most - 1):
            leg += place >= ends[:, j][:, None, None]
        moved = sign[row, leg] * speeds[which[row, leg], step, column] * hours
        moving = (step >= releases)[None, :, None] & ~np.isfinite(far)
        after = np.maximum(place + np.where(moving, moved, 0.0), 0.0)
        arrived = moving & (after >= goal)
        far[arrived] = step + ((goal - place)[arrived] / moved[arrived])
        place = np.minimum(after, goal)
    mixed = np.where(whole <= MIX_KM, whole / MIX_KM_H / hours, np.inf)
    with_mixing = np.minimum(far, (releases[None, :] + mixed[:, None])[:, :, None])
    return np.concatenate([far, with_mixing], axis=2)


def _likelihood(arrivals: Mapping[str, Floats], case: _Case) -> Floats:
    """(r, m) log likelihood of what the stations saw, by release and member of the ensemble.

    A neighbour detects the water that comes to it with a chance that falls with the hours of travel beyond the first
    station; or it changes for another reason, at any time.
    """
    came = {station: np.minimum(line, NEVER) for station, line in arrivals.items()}
    begun = case.releases[:, None]
    found, *others = case.seen
    first = came[found.station]

    def lateness(line: Floats, at_ms: int, spread_ms: float) -> tuple[Floats, Floats]:
        spread = np.hypot(spread_ms / STEP_MS, TRAVEL_ERROR * (line - begun))
        return (line - (at_ms - case.start_ms) / STEP_MS) / spread, spread

    def detected(line: Floats) -> Floats:
        return DETECTED * np.exp(-np.maximum(line - first, 0.0) * STEP_MS / HOUR_MS / DETECTED_H)

    late, spread = lateness(first, found.onset_ms, max(found.spread_ms, STEP_MS))
    travelled_h = (first - begun) * STEP_MS / HOUR_MS
    total = -np.minimum(late**2 / 2, IMPOSSIBLE_PENALTY) - np.log(spread) - travelled_h / FADES_H
    for one in others:
        because = np.zeros(1)
        if one.station in came:
            late, spread = lateness(came[one.station], one.onset_ms, max(one.spread_ms, STEP_MS))
            because = detected(came[one.station]) * np.exp(-(late**2) / 2) / (spread * np.sqrt(2 * np.pi))
        total += np.log(because + OTHER_CAUSE_PER_DAY * STEP_MS / DAY_MS)
    for silent in case.quiet:
        if silent.station in came:
            late, _ = lateness(came[silent.station], silent.until_ms, QUIET_SPREAD_MS)
            passed = 1 / (1 + np.exp(np.clip(late + 1, -50, 50)))
            total += np.log(1 - detected(came[silent.station]) * passed)
    return total


def _window(likely: Floats, releases: Ints, start_ms: int) -> tuple[int, int, int, int]:
    """(early, likeliest, late) release in ms, and the likeliest member of the ensemble."""
    share = np.exp(likely - _log_sum_exp(likely))
    by_release = share.sum(axis=1)
    done = np.cumsum(by_release) / by_release.sum()
    early, late = (int(np.searchsorted(done, q)) for q in (0.1, 0.9))
    best = int(np.argmax(by_release))
    member = int(np.argmax(share[best]))
    ms = [start_ms + int(releases[min(i, len(releases) - 1)]) * STEP_MS for i in (early, best, late)]
    half_ms = STEP_MS * int(releases[1] - releases[0])  # a release stands for the time up to its neighbours
    return ms[0] - half_ms, ms[1], ms[2] + half_ms, member


def _log_sum_exp(values: Floats) -> float:
    top = float(np.max(values))
    return top + float(np.log(np.exp(values - top).sum()))


# -- words -----------------------------------------------------------------------------------------------------------


def _reasons(scored: _Scored, case: _Case, member: int, release: int) -> tuple[Text, ...]:
    """Sentences for and against a candidate, at its likeliest release (in steps) and member of the ensemble."""
    arrivals, start_ms = scored.arrivals, case.start_ms
    row = int(np.argmin(np.abs(case.releases - release)))
    reasons = []

    def name(key: str) -> Text:
        station = case.river.registry[key]
        return Text(station.zh, station.en)

    for one in sorted(case.seen, key=lambda s: s.onset_ms):
        if one.station not in arrivals:
            reasons.append(say("source_attribution.no_way", station=name(one.station)))
            continue
        came, route = float(arrivals[one.station][row, member]), scored.routes[one.station]
        if not np.isfinite(came):
            reasons.append(say("source_attribution.never", station=name(one.station)))
            continue
        at_ms = start_ms + int(came * STEP_MS)
        off_h = (at_ms - one.onset_ms) / HOUR_MS
        reasons.append(
            say(
                "source_attribution.up" if route.upstream_km > 0.1 else "source_attribution.down",
                station=name(one.station),
                km=f"{route.km:.1f}",
                up=f"{route.upstream_km:.1f}",
                hours=f"{max((came - float(case.releases[row])) * STEP_MS / HOUR_MS, 0.0):.1f}",
                seen=beijing(one.onset_ms),
                off=f"{round(off_h, 1) + 0.0:+.1f}",  # no minus before nothing
            )
        )
    for silent in case.quiet:
        if silent.station not in arrivals:
            continue
        came = float(arrivals[silent.station][row, member])
        passed = np.isfinite(came) and start_ms + came * STEP_MS < silent.until_ms
        key = "source_attribution.quiet_against" if passed else "source_attribution.quiet_for"
        at = beijing(start_ms + int(came * STEP_MS)) if passed else ""
        reasons.append(say(key, station=name(silent.station), at=at))
    outfall = scored.place.outfall
    if outfall is not None and (fit := _outfall_fit(outfall, case.rises, case.falls, case.rain)):
        kind = say(f"source_attribution.kind_{outfall}")
        reasons.append(
            say(
                "source_attribution.signature_matches" if fit > 0 else "source_attribution.signature_differs", kind=kind
            )
        )
    return tuple(reasons)
