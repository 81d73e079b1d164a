"""Detect sudden events (minutes to hours): changes of the water that several sensors of a station show together.

A broken sensor moves alone or jumps; a plume moves several kinds of sensor and lasts. The moves are those of
:func:`sensors.quality.check_quality`. Witnesses must be independent, and the next instant must confirm the first.

:func:`detect_sudden_events` reads a :class:`SuddenEventState` and hands back what is to be remembered; a table in one
piece and the same table cut anywhere between two instants give the same alarms. The verdict on an instant uses the next
one. Pure.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from infra.times import DAY_MS, HOUR_MS, TIME_BITS
from sensors.parameters import Catalogue
from sensors.quality.constants import MOVE_WINDOW_MS, VISIT_TESTS
from sensors.quality.detectors.upstream_evidence import (
    PARTS_OF_MOVE,
    REMEMBERED_SLOTS,
    SLOT_MS,
    UpstreamPath,
    add_moves,
    discount_simultaneous,
    move_sizes,
    strongest_moves,
)
from sensors.quality.events import (
    MAX_MOVE,
    MIN_MOVE,
    ROLE_OF_PARAMETER,
    ROLE_PLACE,
    ROLES,
    Alarms,
    DiscountReason,
    EventReadings,
)
from sensors.quality.moves import CLEAR_MOVE, CLIMB, FAST_STEP_MS, LEAP, SMALL_MOVE
from sensors.quality.state_columns import Column, StateColumns
from sensors.reading import Bools, Bytes, Codes, Floats, Ints, Places, distinct, sorted_unique

# -- constants -------------------------------------------------------------------------------------------------------


PARTICLES: Final = ("turbidity", "bloom", "humic")
NUTRIENTS: Final = ("ammonia", "phosphorus", "nitrogen", "organic")
"""Kinds of sensor that see the same: particles, and what comes from one sampling line. Each group is one witness."""
RISING_ROLES: Final = (*PARTICLES, *NUTRIENTS)
"""Of these only a rise bears witness: no discharge makes water clearer."""
DOUBTED_ROLES: Final = ("ph", "oxygen", "salt", "redox", "disinfectant")
"""Of these one sensor alone is doubted, and a second instrument of the kind settles it. Of particles and loads not the
instrument is doubted, but the cause; a thermometer is in every probe, and weather moves it."""

_WEATHER: Final = [ROLE_PLACE[name] for name in ("temperature", *PARTICLES)]
_LIGHT: Final = [ROLE_PLACE[name] for name in ("ph", "oxygen")]

# Evidence, in usual moves.
MAX_PARTICLE_MOVE: Final = 0.5 * MAX_MOVE
"""Particles count for half as much: rain, wind, boats and fish stir them up in every river several times a month, and a
leaf before the lens does in one sensor. An alarm needs more than cloudy water."""
MIN_EVIDENCE: Final = 7.0
"""Sum of the moves of independent witnesses that an alarm needs. Temperature is none of them: weather moves it."""
MIN_OTHERS: Final = 0.5 * MAX_MOVE
"""Where one sensor went most of its way in one step, and all others together say less than this (half of what one can
say), it is probably the sensor: the alarm is doubtful."""

# How long a move lasts.
LASTING_SHARE: Final = 0.75
LONGEST_FAST_STEP_MS: Final = 900_000
LONGEST_STEP_MS: Final = HOUR_MS
"""A sensor bears witness by no more than what it shows, in the same direction, at the next instant by three quarters:
water takes longer than a step of up to an hour to pass, noise turns round. It mixes on its way and is there for half an
hour at least, so that at steps up to a quarter of an hour the instant before is asked, too. Above an hour an instant
stands alone. The inlet of a works with a reading a minute is asked for its total at both: a dosing pump hunts up and
down."""
MIN_CANDIDATE_EVIDENCE: Final = 0.5 * LASTING_SHARE * MIN_EVIDENCE
"""Instants with less are not looked at further."""

# Rain.
MAX_RAIN_MOVE: Final = 3.0
"""Rain moves pH and redox by less."""
MIN_RAIN_OXYGEN: Final = -1.5
"""Rain brings air: oxygen does not fall by more."""
MAX_RAIN_AMMONIA: Final = 2.0
"""Ammonia that rises by more than twice its usual moves is none of the rain's: noise does so once in a few hundred
readings, an overflow brings twice to ten times as much."""

# Times.
WARM_UP_MS: Final = 3 * DAY_MS
"""No alarm in the first three days."""
VISIT_STEPS: Final = 8.5
"""Steps, and at least the window of moves, after a visit during which medians still hold what was measured then."""

_NUMBER: Final = re.compile(r"_\d+(?=_|$)")


@dataclass
class SuddenEventState(StateColumns):
    """State of every station: its last two instants, and its last alarms.

    Attributes
    ----------
    at : (s, 2) instants (ms), 0 where none
    moves : (s, 2, roles) signed, 0 where there was none
    ramp : (s, 2) whether a single sensor sufficed
    visit : (s, 2) whether somebody was at the sensors
    first : (s,) first instant (ms)
    visited, alarmed, doubted : (s,) last visit, alarm and doubtful alarm (ms)
    known : (s,) last instant that was decided (ms)
    leap : (s, 2, roles) whether a sensor went there in one step
    slot, seen : kept for the stations below (:mod:`sensors.quality.detectors.upstream_evidence`)
    """

    FORM = 4

    at: Ints = field(default_factory=Column(0, np.int64, 2))
    moves: Floats = field(default_factory=Column(0.0, np.float64, 2, len(ROLES)))
    ramp: Bools = field(default_factory=Column(False, np.bool_, 2))
    visit: Bools = field(default_factory=Column(False, np.bool_, 2))
    first: Ints = field(default_factory=Column(0, np.int64))
    visited: Ints = field(default_factory=Column(0, np.int64))
    alarmed: Ints = field(default_factory=Column(0, np.int64))
    known: Ints = field(default_factory=Column(0, np.int64))
    leap: Bools = field(default_factory=Column(False, np.bool_, 2, len(ROLES)))
    doubted: Ints = field(default_factory=Column(0, np.int64))
    slot: Ints = field(default_factory=Column(0, np.int64, REMEMBERED_SLOTS))
    seen: Bytes = field(default_factory=Column(0, np.uint8, REMEMBERED_SLOTS, 2 * len(ROLES) + 1))

    def learned(self, stations: Codes) -> "SuddenEventState":
        """These stations alone with since when they are known, and nothing of their last instants."""
        made = SuddenEventState()
        made.grow(len(stations))
        made.first[:] = self.first[stations]
        return made


@dataclass(frozen=True, slots=True)
class SuddenEventResult:
    """Alarms, and what is to be remembered: ``memory`` has one row for each of ``stations``."""

    alarms: Alarms
    stations: Codes
    memory: SuddenEventState


def detect_sudden_events(
    readings: EventReadings, memory: SuddenEventState, upstream: Sequence[UpstreamPath] = ()
) -> SuddenEventResult:
    """Judge new readings of stations; every reading is at or after the last instant remembered of its station.

    ``memory`` is read, not changed. What moved at a station ``upstream`` while this water was there is evidence for
    what moves below.
    """
    stations = np.asarray(distinct(readings.station), np.int64)
    new = memory.taken(stations)
    instants = _gather(np.searchsorted(stations, readings.station), readings, new)
    begins = np.flatnonzero(np.append(True, np.diff(instants.who) != 0)[: len(instants.at)])
    begins = begins[new.first[instants.who[begins]] == 0]
    new.first[instants.who[begins]] = instants.at[begins]
    return SuddenEventResult(_judge(instants, new, stations, memory, upstream), stations, new)


# -- instants --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Instants:
    """Instants (i,) sorted by station row and time, the remembered ones among them.

    Attributes
    ----------
    who, at : station row, and instant (ms)
    moves, leap : (i, roles) strongest move of each role, and whether the sensor went there in one step
    ramp, visit, old : whether a single sensor suffices, somebody was there, the instant is a remembered one
    total, second, floating : evidence of the moves, see :func:`_evidence`
    """

    who: Places
    at: Ints
    moves: Floats
    leap: Bools
    ramp: Bools
    visit: Bools
    old: Bools
    total: Floats
    second: Floats
    floating: Floats


def _gather(who: Places, readings: EventReadings, new: SuddenEventState) -> _Instants:
    """Gather readings (station rows ``who``) to instants, with the strongest move of each role."""
    parameter, move, kinds = readings.parameter, readings.move, readings.catalogue.parameters
    role_of = np.array([ROLE_PLACE.get(p.event, -1) for p in kinds], np.int64)
    role = role_of[parameter]
    had_row, had_col = np.nonzero(new.at > 0)
    had_key = (had_row.astype(np.int64) << TIME_BITS) | new.at[had_row, had_col]
    key, place = sorted_unique(np.concatenate([had_key, (who.astype(np.int64) << TIME_BITS) | readings.at]))
    had, mine = place[: len(had_key)], place[len(had_key) :]

    def remembered(cells: Any) -> Any:
        out = np.zeros((len(key), *cells.shape[2:]), cells.dtype)
        out[had] = cells[had_row, had_col]
        return out

    moves, leap, ramp, visit = (remembered(cells) for cells in (new.moves, new.leap, new.ramp, new.visit))
    rows = np.flatnonzero((role >= 0) & (np.abs(move) >= SMALL_MOVE))
    roles = role_of[np.flatnonzero(np.bincount(parameter))]
    if len(np.unique(roles[roles >= 0])) < (roles >= 0).sum():
        rows = rows[np.argsort(np.abs(move[rows]), kind="stable")]  # the strongest of a role is written last
    rows = rows[np.abs(move[rows]) >= np.abs(moves[mine[rows], role[rows]])]
    moves[mine[rows], role[rows]] = move[rows]
    for both in _second_instruments(readings.catalogue):
        _add_second(moves, mine, parameter, move, both)
    leap[mine[rows], role[rows]] = readings.course[rows] == LEAP
    ramp[mine[(readings.course == CLIMB) & _ramp_counts(role, move)]] = True
    visit[mine[(readings.tests & VISIT_TESTS) != 0]] = True
    old = np.isin(np.arange(len(key)), had)
    at = key & ((1 << TIME_BITS) - 1)
    return _Instants((key >> TIME_BITS).astype(np.intp), at, moves, leap, ramp, visit, old, *_evidence(moves))


def _second_instruments(catalogue: Catalogue) -> list[Ints]:
    """Groups of parameters of a table that differ by a number alone (``ph_1``, ``ph_2``)."""
    found: dict[str, list[int]] = {}
    for i, one in enumerate(catalogue.parameters):
        if "@" in one.key and one.event in DOUBTED_ROLES:
            found.setdefault(_NUMBER.sub("", one.key), []).append(i)
    return [np.array(group) for group in found.values() if len(group) > 1]


def _add_second(moves: Floats, mine: Places, parameter: Codes, move: Floats, group: Ints) -> None:
    """Add what a second instrument says where it goes the way of the first, in place."""
    size = np.zeros((len(moves), len(group)))
    for column, one in enumerate(group.tolist()):
        rows = np.flatnonzero((parameter == one) & ~np.isnan(move))
        size[mine[rows], column] = move[rows]
    order = np.argsort(np.abs(size), axis=1)
    first, next_ = (np.take_along_axis(size, order[:, -k, None], axis=1)[:, 0] for k in (1, 2))
    agreed = np.where(first * next_ > 0, next_, 0.0)
    stronger = np.abs(agreed) > np.abs(moves[:, ROLE_PLACE["second"]])
    moves[stronger, ROLE_PLACE["second"]] = agreed[stronger]


def _ramp_counts(role: Codes, move: Floats) -> Bools:
    """(n,) whether a climb of this sensor in this direction suffices alone."""
    both = np.isin(role, [ROLE_PLACE["ph"], ROLE_PLACE["oxygen"], ROLE_PLACE["redox"]])
    rising = np.isin(role, [ROLE_PLACE["salt"], ROLE_PLACE["ammonia"]])
    return np.asarray(both | (rising & (move > 0)))


def _evidence(moves: Floats) -> tuple[Floats, Floats, Floats]:
    """(i,) sum of what independent witnesses say, what the second of them says, and what particles would add in
    full."""
    witnesses, floating = _witnesses(moves)
    return witnesses.sum(axis=1), witnesses[:, -2], floating


def _witnesses(moves: Floats) -> tuple[Floats, Floats]:
    """(i, witnesses) what each independent witness says, the strongest last; (i,) what particles would add in full.

    Turbidity, chlorophyll and humic fluorescence see the same particles; nutrients and organic load come from one
    sampling line; pH and oxygen rise and fall together with photosynthesis and respiration. Each such group is one
    witness, that of its strongest.
    """
    size = np.minimum(np.abs(moves), MAX_MOVE)
    for name in RISING_ROLES:
        size[:, ROLE_PLACE[name]] = np.minimum(np.maximum(moves[:, ROLE_PLACE[name]], 0.0), MAX_MOVE)
    size[size <= MIN_MOVE] = 0.0
    particles, nutrients = (
        size[:, [ROLE_PLACE[name] for name in group]].max(axis=1) for group in (PARTICLES, NUTRIENTS)
    )
    counted = np.minimum(particles, MAX_PARTICLE_MOVE)
    ph, oxygen = size[:, ROLE_PLACE["ph"]], size[:, ROLE_PLACE["oxygen"]]
    together = moves[:, ROLE_PLACE["ph"]] * moves[:, ROLE_PLACE["oxygen"]] > 0
    witnesses = [size[:, ROLE_PLACE[name]] for name in ("salt", "redox", "disinfectant", "second")]
    witnesses += [counted, nutrients, np.where(together, np.maximum(ph, oxygen), ph), np.where(together, 0.0, oxygen)]
    return np.sort(np.stack(witnesses, axis=1), axis=1), particles - counted


# -- verdicts --------------------------------------------------------------------------------------------------------


def explained_by_nature(moves: Floats) -> Bools:
    """(a,) whether rain, or light and the plants, explain the moves (a, roles) by themselves.

    Rain thins the salts and brings air, without moving pH or redox far. By day the plants take up carbon dioxide and
    give oxygen: both rise, and nothing else does.
    """
    ph, oxygen, salt = moves[:, ROLE_PLACE["ph"]], moves[:, ROLE_PLACE["oxygen"]], moves[:, ROLE_PLACE["salt"]]
    redox, ammonia = moves[:, ROLE_PLACE["redox"]], moves[:, ROLE_PLACE["ammonia"]]
    rain = (salt < -MIN_MOVE) & (np.abs(ph) < MAX_RAIN_MOVE) & (oxygen > MIN_RAIN_OXYGEN)
    rain &= (np.abs(redox) < MAX_RAIN_MOVE) & (ammonia < MAX_RAIN_AMMONIA)
    plants = (ph > 0) & (oxygen > 0) & (salt < MIN_MOVE) & (moves[:, ROLE_PLACE["turbidity"]] < MIN_MOVE)
    return np.asarray(rain | plants)


def _judge(
    instants: _Instants,
    new: SuddenEventState,
    stations: Codes,
    memory: SuddenEventState,
    upstream: Sequence[UpstreamPath],
) -> Alarms:
    """Decide which instants are alarms; remember the last two instants and the last alarms in ``new``."""
    case = _Case.of(instants, new)
    n = len(instants.at)
    rows = np.flatnonzero(instants.total + instants.floating >= MIN_CANDIDATE_EVIDENCE)
    lasting = _lasting(instants.moves, rows, case.step, case.same_after)
    total, second, floating = np.zeros((3, n))
    total[rows], second[rows], floating[rows] = _evidence(lasting[rows])

    alone = instants.ramp & case.ready
    hit = case.enough(total, second) | alone
    discount = np.zeros(n, np.uint8)
    discount[case.enough(total + floating, second) & ~hit] = DiscountReason.PARTICLES
    hit = _without_leaps(instants.leap, lasting, total, hit, alone, discount)
    shown = _shown_downstream(instants, case.step, case.known & ~case.visited)
    shown[np.flatnonzero(hit) + 1, -1] = 1  # it is known at the next instant
    joint, supported = total, np.zeros(n, np.bool_)
    rows = np.flatnonzero(total >= MIN_CANDIDATE_EVIDENCE) if upstream else np.empty(0, np.intp)
    if len(rows):
        more, witness = _from_upstream(_Shown(instants, shown, stations, memory), lasting, rows, upstream)
        joint, second = total.copy(), second.copy()
        joint[rows] += more
        second[rows] = np.maximum(second[rows], witness)
        supported = case.enough(joint, second) & (joint > total) & ~hit
        supported = _without_leaps(instants.leap, lasting, joint, supported, alone, discount)
        discount[supported] = DiscountReason.NONE
    evidence = np.where(supported, joint, total) + np.where(discount == DiscountReason.PARTICLES, floating, 0.0)
    found = np.flatnonzero(hit | supported | (discount > 0))
    _remember(instants, new, np.flatnonzero(hit | supported), np.flatnonzero(discount), case.decided)
    fresh = np.flatnonzero(~instants.old)
    add_moves(new.slot, new.seen, instants.who[fresh], instants.at[fresh], shown[fresh])
    unknown = np.full((len(found), len(ROLE_OF_PARAMETER)), np.nan)
    return Alarms(
        station=stations[instants.who[found]],
        at=instants.at[found],
        moves=instants.moves[found],
        total=evidence[found],
        needed=np.full(len(found), MIN_EVIDENCE),
        supported=supported[found],
        alone=(alone & (total < MIN_EVIDENCE))[found],
        discount=discount[found],
        cause=np.full(len(found), -1),
        now=unknown,
        usual=unknown,
        swing=unknown[:, 0],
        outcome=np.zeros(len(found), np.uint8),
    )


@dataclass(frozen=True, slots=True)
class _Case:
    """What decides on instants (i,) beside their evidence.

    Attributes
    ----------
    step : ms from the instant before of the station, 0 for its first
    same_after : whether a next instant of the station is there
    decided : whether the instant is decided now
    known : whether the station has been known for long enough
    visited : whether somebody was at the sensors, now or shortly before
    ready : whether the instant may be an alarm: nobody was there, and nature does not explain it
    """

    step: Ints
    same_after: Bools
    decided: Bools
    known: Bools
    visited: Bools
    ready: Bools

    @classmethod
    def of(cls, instants: _Instants, new: SuddenEventState) -> "_Case":
        n = len(instants.at)
        same_before = np.append(False, np.diff(instants.who) == 0) if n else np.zeros(0, np.bool_)
        same_after = np.append(same_before[1:], False) if n else same_before
        step = np.zeros(n, np.int64)
        step[1:] = np.diff(instants.at)
        step[~same_before] = 0
        decided = same_after & (instants.at > new.known[instants.who])
        known = instants.at - new.first[instants.who] >= WARM_UP_MS
        visited = _after_visit(instants, step, new)
        next_visit = np.append(instants.visit[1:], False) & same_after if n else same_after
        ready = decided & known & (step > 0) & ~visited & ~next_visit & ~explained_by_nature(instants.moves)
        return cls(step, same_after, decided, known, visited, ready)

    def enough(self, total: Floats, second: Floats) -> Bools:
        """(i,) whether evidence and second witness make an alarm; fast readings are asked for the total around, too."""
        around = self.step > FAST_STEP_MS
        lasts = total >= LASTING_SHARE * MIN_EVIDENCE
        around[1:-1] |= lasts[:-2] & lasts[2:] & self.same_after[1:-1]
        return np.asarray(self.ready & (total >= MIN_EVIDENCE) & (second > 0) & around)


def _lasting(moves: Floats, rows: Places, step: Ints, same_after: Bools) -> Floats:
    """(i, roles) the part of each move that lasts as long as water does; of ``rows`` alone, 0 elsewhere."""
    out = np.zeros_like(moves)
    out[rows] = moves[rows]
    slow_rows = rows[(step[rows] > FAST_STEP_MS) & (step[rows] <= LONGEST_STEP_MS)]
    out[slow_rows] = _common(out[slow_rows], moves[np.minimum(slow_rows + 1, len(out) - 1)] / LASTING_SHARE)
    out[slow_rows[~same_after[slow_rows]]] = 0.0
    fast = slow_rows[step[slow_rows] <= LONGEST_FAST_STEP_MS]
    out[fast] = _common(out[fast], moves[fast - 1] / LASTING_SHARE)
    return out


def _common(moves: Floats, others: Floats) -> Floats:
    """(i, roles) the smaller of two moves where they go one way, else 0."""
    return np.where(moves * others > 0, np.copysign(np.minimum(np.abs(moves), np.abs(others)), moves), 0.0)


def _without_leaps(leap: Bools, lasting: Floats, total: Floats, hit: Bools, alone: Bools, discount: Bytes) -> Bools:
    """(i,) the alarms that are not one sensor's jump; the others are marked in ``discount``, in place."""
    rows = np.flatnonzero(hit & ~alone)
    rows = rows[_is_leap(leap[rows], lasting[rows], total[rows])]
    discount[rows] = DiscountReason.LEAP
    sure = hit.copy()
    sure[rows] = False
    return sure


def _is_leap(leap: Bools, lasting: Floats, total: Floats) -> Bools:
    """(r,) instants at which one sensor went its way in one step and the others together hardly moved.

    A disinfectant is dosed: it jumps when a works acts.
    """
    leader = np.abs(lasting).argmax(axis=1)
    row = np.arange(len(leader))
    cap = np.where(np.isin(leader, [ROLE_PLACE[name] for name in PARTICLES]), MAX_PARTICLE_MOVE, MAX_MOVE)
    others = total - np.minimum(np.abs(lasting[row, leader]), cap)
    return np.asarray(leap[row, leader] & (others < MIN_OTHERS) & (leader != ROLE_PLACE["disinfectant"]))


def _shown_downstream(instants: _Instants, step: Ints, watched: Bools) -> Bytes:
    """(i, sides) what stations below may use: moves that last, that nature does not explain, and without a visit."""
    out = np.zeros((len(instants.at), 2 * len(ROLES) + 1), np.uint8)
    rows = np.flatnonzero((instants.total > 0) & watched & (step > 0))
    rows = rows[~explained_by_nature(instants.moves[rows])]
    before = np.where((step[rows] > LONGEST_STEP_MS)[:, None], instants.moves[rows], instants.moves[rows - 1])
    out[rows, :-1] = move_sizes(_common(instants.moves[rows], before))
    return out


@dataclass(frozen=True, slots=True)
class _Shown:
    """What stations show to those below: new instants with what they ``shown`` (i, sides), and what is remembered."""

    instants: _Instants
    shown: Bytes
    stations: Codes
    memory: SuddenEventState

    def half_hours(self, station: int) -> tuple[Ints, Bytes]:
        """The half hours of a station and its strongest moves in them, remembered and new ones, sorted."""
        instants, memory = self.instants, self.memory
        mine = self.stations[instants.who] == station
        rows = np.flatnonzero(mine & ~instants.old & self.shown.any(axis=1))
        number, seen = instants.at[rows] // SLOT_MS, self.shown[rows]
        if station < len(memory):
            number = np.concatenate([memory.slot[station], number])
            seen = np.concatenate([memory.seen[station], seen])
        order = np.argsort(number, kind="stable")
        return number[order], seen[order]


def _from_upstream(
    shown: _Shown, lasting: Floats, rows: Places, upstream: Sequence[UpstreamPath]
) -> tuple[Floats, Floats]:
    """(r,) evidence that a station above adds at these instants, and the strongest of that.

    A sensor that moves here as the one above did when this water was there counts a second time, with the smaller of
    both moves. Weather moves the water of all stations: temperature and particles, less salt (rain), pH and oxygen
    alike (light). In half a day of half hours some sensor makes a usual move by chance: only clear ones count. Light
    and size are not asked after an alarm above: what it has shown need not be shown again.
    """
    more, witness = np.zeros(len(rows)), np.zeros(len(rows))
    station, at = shown.stations[shown.instants.who[rows]], shown.instants.at[rows]
    wanted = set(station.tolist())
    for way in upstream:
        if way.below not in wanted:
            continue
        mine = np.flatnonzero(station == way.below)
        number, seen = shown.half_hours(way.above)
        seen = discount_simultaneous(number, seen, *shown.half_hours(way.below))
        found = strongest_moves(number, seen, *way.slots(at[mine]))
        up, down = np.split(found[:, :-1] / PARTS_OF_MOVE, 2, axis=1)
        alarmed = found[:, -1:] > 0
        moves = lasting[rows[mine]]
        both = _common(moves, np.where(moves > 0, up, -down))
        both[~alarmed & (np.abs(both) < CLEAR_MOVE)] = 0.0
        both[:, _WEATHER] = 0.0
        both[:, ROLE_PLACE["salt"]] = np.maximum(both[:, ROLE_PLACE["salt"]], 0.0)
        light = moves[:, ROLE_PLACE["ph"]] * moves[:, ROLE_PLACE["oxygen"]] > 0
        both[:, _LIGHT] = np.where(light[:, None] & ~alarmed, 0.0, both[:, _LIGHT])
        added = _witnesses(both)[0]
        better = added.sum(axis=1) > more[mine]
        more[mine[better]], witness[mine[better]] = added[better].sum(axis=1), added[better, -1]
    return more, witness


def _after_visit(instants: _Instants, step: Ints, new: SuddenEventState) -> Bools:
    """(i,) whether somebody was at the sensors, now or a few steps before."""
    n = len(instants.at)
    if not instants.visit.any() and not new.visited.any():
        return np.zeros(n, np.bool_)
    last = np.maximum.accumulate(np.where(instants.visit, np.arange(n), -1))
    first = np.maximum.accumulate(np.where(np.append(True, np.diff(instants.who) != 0), np.arange(n), 0))
    since = np.where(last >= first, instants.at[last], new.visited[instants.who])
    return np.asarray((since > 0) & (instants.at - since <= np.maximum(VISIT_STEPS * step, MOVE_WINDOW_MS)))


def _remember(instants: _Instants, new: SuddenEventState, found: Places, doubted: Places, decided: Bools) -> None:
    """Set in ``new`` the last two instants of each station, what was decided, and its last alarms and visit."""
    n = len(instants.at)
    if not n:
        return
    end = np.flatnonzero(np.append(np.diff(instants.who) != 0, True))
    who = instants.who[end]
    newer = np.append(True, np.diff(instants.who) != 0)
    has_before = ~newer[end]
    for column, rows in ((1, end), (0, np.maximum(end - 1, 0))):
        use = np.ones(len(end), np.bool_) if column == 1 else has_before
        for name in ("at", "moves", "leap", "ramp", "visit"):
            getattr(new, name)[who[use], column] = getattr(instants, name)[rows[use]]
    np.maximum.at(new.known, instants.who[decided], instants.at[decided])
    np.maximum.at(new.alarmed, instants.who[found], instants.at[found])
    np.maximum.at(new.doubted, instants.who[doubted], instants.at[doubted])
    np.maximum.at(new.visited, instants.who[instants.visit], instants.at[instants.visit])
