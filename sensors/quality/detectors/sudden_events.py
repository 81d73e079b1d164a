"""Did the water itself change? What the sensors of a station say together, instant by instant. Pure.

A broken sensor moves alone or jumps; a plume moves several kinds of sensor and lasts. The rule is that of the detection
notes, section 3.7, on the moves :func:`sensors.quality.check_quality` hands over, with what was learned since
(docs/detection.md): witnesses must be independent, the second instant must confirm the first, and a station is
compared with its own last month.

Like ``assess``, :func:`watch` reads what is remembered and hands back what is to be remembered; a table in one piece
and the same table cut anywhere between two instants give the same alarms. The verdict on an instant uses the next one.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum, StrEnum
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from infra.times import DAY_MS, TIME_BITS
from sensors.parameters import Catalogue
from sensors.quality.detectors.upstream_evidence import (
    PART,
    SLOT_MS,
    SLOTS,
    UpstreamPath,
    add_moves,
    discount_simultaneous,
    move_sizes,
    strongest_moves,
)
from sensors.quality.histograms import BINS, ONE, bins, forget, quantiles
from sensors.quality.moves import CLEAR_MOVE, CLIMB, FAST_STEP_MS, LEAP
from sensors.quality.state_columns import Column, StateColumns
from sensors.reading import Bools, Bytes, Codes, Floats, Ints, Places, QualityTest, distinct

ROLES: Final = (
    "temperature",
    "ph",
    "oxygen",
    "salt",
    "turbidity",
    "redox",
    "organic",
    "humic",
    "ammonia",
    "phosphorus",
    "nitrogen",
    "bloom",
    "disinfectant",
    "second",
)
"""What a kind of sensor tells of the water; the ``event`` entry of the parameter catalogue. The last one is another
instrument of the same kind."""

_AT: Final = {name: i for i, name in enumerate(ROLES)}

CAP: Final = 6.0
"""No sensor counts for more than this many of its own usual moves: one alone, however wild, raises no alarm."""

CAP_PARTICLES: Final = 3.0
"""What floats counts for half as much: rain, wind, boats and fish stir it up in every river several times a month, and
a leaf before the lens does in one sensor. An alarm needs more than cloudy water."""

LEAST: Final = 0.8
"""Smaller moves are nothing."""

SUM: Final = 7.0
SECOND: Final = 1.1
"""An alarm needs this much together, and the second witness this much (detection notes, rule 7)."""

UNUSUAL: Final = 0.98
"""And more than this share of the station's own instants of the last month: some waters are always restless."""

MORE: Final = 2.0
"""Ammonia that rises by more than twice its usual moves is none of the rain's: noise does so once in a few hundred
readings, an overflow brings twice to ten times as much (domain notes, section 7.4)."""

WARM_UP_MS: Final = 3 * DAY_MS
"""No alarm in the first three days."""

LASTING: Final = 0.75
FAST_MS: Final = 900_000
SLOW_MS: Final = 3_600_000
HALF: Final = 0.5 * LASTING
"""A sensor bears witness by no more than what it shows, in the same direction, at the next instant by three quarters:
water takes longer than a step of up to an hour to pass, noise turns round. It mixes on its way and is there for half an
hour at least, so that at steps up to a quarter of an hour the instant before is asked, too. Above an hour an instant
stands alone. A works' inlet with a reading a minute is asked for its total at both: a dosing pump hunts up and down."""

FEW: Final = 3.0
"""Where one sensor went most of its way from one reading to the next and all others together say less than this, half
of what one can say, it is probably the sensor: the alarm is doubtful, and says so."""

_VISIT: Final = int(QualityTest.OUT_OF_WATER | QualityTest.MAINTENANCE)

AFTER_VISIT: Final = 8.5
AFTER_VISIT_MS: Final = 2 * 3_600_000
"""Steps, and two hours, after a visit during which the medians of the last hours still hold what was measured then."""

_SINCE: Final = {"leap": 2, "doubted": 2, "slot": 3, "seen": 3}
_SINCE_SECOND: Final = 3
"""Written forms before are read, too, and lack these, and the role of the second instrument."""

QUIET_MS: Final = 6 * 3_600_000
"""An event is over after so long without an alarm."""

_KEEP_DAY: Final = float(np.exp(-1.0 / 15.0))


ODDS: Final = 0.6
DOUBLED: Final = 0.2
SUREST: Final = 0.95
DOUBTFUL: Final = 0.15
"""How sure an alarm is: the share of such alarms that are right where one discharge passes a station each month. With
the evidence that is needed, or one sensor alone, three are right of eight; each fifth of it more doubles the odds, and
so does what the station above saw. Of doubtful ones one in seven is right. Measured on planted discharges and on the
same records without them (docs/detection.md); never surer than that."""


class DiscountReason(IntEnum):
    """Why an alarm may be none of the water."""

    NONE = 0
    LEAP = 1
    """One sensor went most of its way in one step, and the others hardly moved."""
    PARTICLES = 2
    """What floats carries most of it; rain, wind and boats stir that up, too."""
    LONE = 3
    """Oxygen alone is low for hours, and no other sensor shows that anything consumes it."""


class EventCause(StrEnum):
    """What an alarm looks like."""

    ACID = "acid"
    ALKALI = "alkali"
    SEWAGE = "sewage"
    OVERFLOW = "overflow"
    OXYGEN_SAG = "oxygen_sag"
    SALT = "salt"
    SEDIMENT = "sediment"
    BLOOM = "bloom"
    DISCHARGE = "discharge"
    DOUBTFUL = "doubtful"
    """Perhaps no change of the water at all; whatever it looks like."""


@dataclass
class SuddenEventState(StateColumns):
    """What is remembered of every station: its last two instants, the sketch of its totals, and its last alarm.

    Columns by station. ``at`` (s, 2) instants, 0 where none; ``moves`` (s, 2, roles) signed, 0 where nothing was said;
    ``ramp`` (s, 2) a sensor alone was believed; ``leap`` (s, 2, roles) it went there in one step; ``usual`` (s,) share
    of the past; ``visited``, ``alarmed``, ``doubted`` (s,) the last visit, alarm and doubtful one; ``slot``, ``seen``
    what is kept for the stations below (:mod:`sensors.quality.detectors.upstream_evidence`).
    """

    FORM = 3

    at: Ints = field(default_factory=Column(0, np.int64, 2))
    moves: Floats = field(default_factory=Column(0.0, np.float64, 2, len(ROLES)))
    ramp: Bools = field(default_factory=Column(False, np.bool_, 2))
    visit: Bools = field(default_factory=Column(False, np.bool_, 2))
    first: Ints = field(default_factory=Column(0, np.int64))
    day: Ints = field(default_factory=Column(-1, np.int64))
    counts: Codes = field(default_factory=Column(0, np.int32, BINS))
    usual: Floats = field(default_factory=Column(0.0, np.float64))
    visited: Ints = field(default_factory=Column(0, np.int64))
    alarmed: Ints = field(default_factory=Column(0, np.int64))
    known: Ints = field(default_factory=Column(0, np.int64))
    leap: Bools = field(default_factory=Column(False, np.bool_, 2, len(ROLES)))
    doubted: Ints = field(default_factory=Column(0, np.int64))
    slot: Ints = field(default_factory=Column(0, np.int64, SLOTS))
    seen: Bytes = field(default_factory=Column(0, np.uint8, SLOTS, 2 * len(ROLES) + 1))

    def _cells(self, row: int, form: int) -> list[NDArray[Any]]:
        """Older forms have fewer columns, and fewer roles in some."""
        if not 1 <= form <= self.FORM:
            return []
        names = [one.name for one in fields(self) if _SINCE.get(one.name, 1) <= form]
        cells = {name: getattr(self, name)[row : row + 1] for name in names}
        for name in {"moves", "leap"} & cells.keys() if form < _SINCE_SECOND else ():
            cells[name] = cells[name][..., :-1]
        return list(cells.values())

    def learned(self, stations: Codes) -> "SuddenEventState":
        """These stations alone with what they learned; of what they showed lately nothing is remembered."""
        made = SuddenEventState()
        made.grow(len(stations))
        for name in ("first", "day", "counts", "usual"):
            getattr(made, name)[:] = getattr(self, name)[stations]
        return made


@dataclass(frozen=True, slots=True)
class Alarms:
    """Instants at which the water changed: station, ms, moves by role (a, roles), evidence and what was needed.

    ``supported`` where the alarm rests on one upstream, ``alone`` where one sensor alone was believed, ``doubt`` (a,)
    where it may not be the water: a :class:`Doubt`.
    """

    station: Codes
    at: Ints
    moves: Floats
    total: Floats
    needed: Floats
    supported: Bools
    alone: Bools
    doubt: Bytes

    def take(self, rows: Places) -> Self:
        """These alone."""
        return type(self)(*(getattr(self, one.name)[rows] for one in fields(self)))

    def meaning(self, row: int) -> "EventDiagnosis":
        """What one of them looks like."""
        total, needed = float(self.total[row]), float(self.needed[row])
        told = diagnose(self.moves[row], total, needed, supported=bool(self.supported[row]))
        return told if not self.doubt[row] else replace(told, confidence=DOUBTFUL)

    def kind(self, row: int) -> "EventCause":
        """What rules call one of them."""
        return EventCause.DOUBTFUL if self.doubt[row] else self.meaning(row).cause


@dataclass(frozen=True, slots=True)
class SuddenEventResult:
    """What :func:`watch` found and what is to be remembered: ``memory`` has one row for each of ``stations``."""

    alarms: Alarms
    stations: Codes
    memory: SuddenEventState


def detect_sudden_events(
    station: Codes,
    parameter: Codes,
    at: Ints,
    move: Floats,
    course: Bytes,
    tests: Ints,
    memory: SuddenEventState,
    catalogue: Catalogue,
    upstream: Sequence[UpstreamPath] = (),
) -> SuddenEventResult:
    """Watch new readings of stations; every reading is at or after the last instant remembered of its station.

    Parameters
    ----------
    station, parameter, at, move, course, tests : (n,) arrays
        As handed to and by ``assess``, in any order; ``move`` in usual moves, NaN where it says nothing.
    memory : Watched
        Read, not changed.
    upstream : of :class:`Way`
        What moved above while this water was there speaks for what moves below.
    """
    stations = np.asarray(distinct(station), np.int64)
    new = memory.taken(stations)
    who = np.searchsorted(stations, station)
    said = _instants(who, parameter, at, move, course, tests, new, catalogue)
    _learn(said, new)
    found = _judge(said, new, stations, memory, upstream)
    return SuddenEventResult(found, stations, new)


# -- instants --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Said:
    """Instants sorted by (station row, time), the remembered ones among them."""

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
    usual: Floats = field(default_factory=lambda: np.zeros(0))


def _instants(
    who: Places,
    parameter: Codes,
    at: Ints,
    move: Floats,
    course: Bytes,
    tests: Ints,
    new: SuddenEventState,
    catalogue: Catalogue,
) -> _Said:
    """One row an instant: the strongest move of each role."""
    role = np.array([_AT.get(p.event, -1) for p in catalogue.parameters], np.int64)[parameter]
    key = (who.astype(np.int64) << TIME_BITS) | at
    had_row, had_col = np.nonzero(new.at > 0)
    had_key = (had_row.astype(np.int64) << TIME_BITS) | new.at[had_row, had_col]
    every, place = sorted_unique(np.concatenate([had_key, key]))
    moves = np.zeros((len(every), len(ROLES)))
    moves[place[: len(had_key)]] = new.moves[had_row, had_col]
    mine = place[len(had_key) :]
    rows = np.flatnonzero((role >= 0) & (np.abs(move) >= 0.5 * LEAST))
    if _shared(who, parameter, role, len(catalogue.parameters)):
        rows = rows[np.argsort(np.abs(move[rows]), kind="stable")]  # the strongest of a role is written last
    with np.errstate(invalid="ignore"):
        stronger = np.abs(move[rows]) >= np.abs(moves[mine[rows], role[rows]])
    rows = rows[stronger]
    moves[mine[rows], role[rows]] = move[rows]
    for both in _doubled(catalogue):
        _second(moves, mine, parameter, move, both)
    leap = np.zeros(moves.shape, np.bool_)
    leap[place[: len(had_key)]] = new.leap[had_row, had_col]
    leap[mine[rows], role[rows]] = course[rows] == LEAP
    old = np.zeros(len(every), np.bool_)
    old[place[: len(had_key)]] = True
    alone = np.zeros(len(every), np.bool_)
    alone[place[: len(had_key)]] = new.ramp[had_row, had_col]
    believed = (course == CLIMB) & _believed(role, move)
    alone[mine[believed]] = True
    visit = np.zeros(len(every), np.bool_)
    visit[place[: len(had_key)]] = new.visit[had_row, had_col]
    visit[mine[(tests & _VISIT) != 0]] = True
    told = (every >> TIME_BITS).astype(np.intp), every & ((1 << TIME_BITS) - 1)
    return _Said(*told, moves, leap, alone, visit, old, *_evidence(moves))


_DOUBTED: Final = ("ph", "oxygen", "salt", "redox", "disinfectant")
"""Of these kinds one sensor alone is doubted, and a second instrument settles it. Of particles and loads nobody doubts
the instrument, but the cause; a thermometer is in every probe, and weather moves it."""


_NUMBER: Final = re.compile(r"_\d+(?=_|$)")


def _doubled(catalogue: Catalogue) -> list[Ints]:
    """The parameters of a table that are told apart by a number alone (``ph_1``, ``ph_2``), kind by kind."""
    found: dict[str, list[int]] = {}
    for i, one in enumerate(catalogue.parameters):
        if "@" in one.key and one.event in _DOUBTED:
            found.setdefault(_NUMBER.sub("", one.key), []).append(i)
    return [np.array(group) for group in found.values() if len(group) > 1]


def _second(moves: Floats, mine: Places, parameter: Codes, move: Floats, group: Ints) -> None:
    """In place: what a second instrument says where it goes the way of the first."""
    said = np.zeros((len(moves), len(group)))
    for column, one in enumerate(group.tolist()):
        rows = np.flatnonzero((parameter == one) & ~np.isnan(move))
        said[mine[rows], column] = move[rows]
    order = np.argsort(np.abs(said), axis=1)
    first, next_ = (np.take_along_axis(said, order[:, -k, None], axis=1)[:, 0] for k in (1, 2))
    agreed = np.where(first * next_ > 0, next_, 0.0)
    stronger = np.abs(agreed) > np.abs(moves[:, _AT["second"]])
    moves[stronger, _AT["second"]] = agreed[stronger]


def _shared(who: Places, parameter: Codes, role: Ints, kinds: int) -> bool:
    """Whether a station brings two parameters of one role."""
    pair = who.astype(np.int64) * kinds + parameter
    there = np.flatnonzero(np.bincount(pair)) if len(pair) else pair
    role_of = np.full(kinds, -1)
    role_of[parameter] = role
    one = role_of[there % kinds]
    cell = (there // kinds * len(ROLES) + one)[one >= 0]
    return bool((np.bincount(cell) > 1).any())


def sorted_unique(key: Ints) -> tuple[Ints, Places]:
    """``np.unique`` with its inverse; without sorting what a table brings in order already."""
    if len(key) and (key[1:] >= key[:-1]).all():
        first = np.append(True, key[1:] != key[:-1])
        return key[first], np.cumsum(first) - 1
    every, place = np.unique(key, return_inverse=True)
    return every, place


def _believed(role: Codes, move: Floats) -> Bools:
    """(n,) whether a ramp of this sensor in this direction is believed alone."""
    both = np.isin(role, [_AT["ph"], _AT["oxygen"], _AT["redox"]])
    rising = np.isin(role, [_AT["salt"], _AT["ammonia"]])
    return np.asarray(both | (rising & (move > 0)))


def _evidence(moves: Floats) -> tuple[Floats, Floats, Floats]:
    """(i,) the sum of what independent witnesses say, what the second of them says, and what particles would add if
    they counted in full."""
    heard, floating = _voices(moves)
    return heard.sum(axis=1), heard[:, -2], floating


def _voices(moves: Floats) -> tuple[Floats, Floats]:
    """(i, voices) what each independent witness says, the strongest last; (i,) what particles would add.

    Turbidity, chlorophyll and humic fluorescence see the same particles; the nutrients and the organic load come from
    one sampling line; pH and oxygen rise and fall together with photosynthesis and respiration: each such group has
    one voice, that of its strongest. Temperature counts half: it moves by itself.
    """
    size = np.minimum(np.abs(moves), CAP)
    size[:, _AT["temperature"]] = np.minimum(0.5 * np.abs(moves[:, _AT["temperature"]]), CAP)
    for name in LOADS:
        size[:, _AT[name]] = np.minimum(np.maximum(moves[:, _AT[name]], 0.0), CAP)
    size[size <= LEAST] = 0.0
    voices = [size[:, _AT[name]] for name in ("temperature", "salt", "redox", "disinfectant", "second")]
    floating, nutrients = (size[:, [_AT[name] for name in group]].max(axis=1) for group in _ONE_VOICE)
    counted = np.minimum(floating, CAP_PARTICLES)
    voices += [counted, nutrients]
    ph, oxygen = size[:, _AT["ph"]], size[:, _AT["oxygen"]]
    together = moves[:, _AT["ph"]] * moves[:, _AT["oxygen"]] > 0
    voices.append(np.where(together, np.maximum(ph, oxygen), ph))
    voices.append(np.where(together, 0.0, oxygen))
    return np.sort(np.stack(voices, axis=1), axis=1), floating - counted


LOADS: Final = ("turbidity", "bloom", "humic", "ammonia", "phosphorus", "nitrogen", "organic")
"""Of these only a rise bears witness: nobody's discharge makes water clearer."""

_ONE_VOICE: Final = (("turbidity", "bloom", "humic"), ("ammonia", "phosphorus", "nitrogen", "organic"))

_WEATHER: Final = [_AT[name] for name in ("temperature", *_ONE_VOICE[0])]
_LIGHT: Final = [_AT[name] for name in ("ph", "oxygen")]


def _learn(said: _Said, new: SuddenEventState) -> None:
    """Fill the sketches of the totals and set, for each instant, what is usual for its station that day."""
    said.usual = np.zeros(len(said.at))
    if not len(said.at):
        return
    day = said.at // DAY_MS
    begin = np.flatnonzero(np.append(True, (np.diff(said.who) != 0) | (np.diff(day) != 0)))
    fresh = np.flatnonzero(~said.old)
    cells = said.who[fresh] * BINS + bins(said.total[fresh], 1.0)
    if len(begin) == len(new) and (day[begin] == new.day[said.who[begin]]).all():  # nobody enters a new day
        np.add.at(new.counts.reshape(-1), cells, np.int32(ONE))
        said.usual = new.usual[said.who]
    else:
        block = np.zeros(len(said.at), np.int64)
        block[begin[1:]] = 1
        block = np.cumsum(block)
        size = len(begin) * BINS
        counted = np.bincount(block[fresh] * BINS + bins(said.total[fresh], 1.0), minlength=size).reshape(-1, BINS)
        added = (counted * ONE).astype(np.int32)
        turned, seen = [], []
        for i, (who, today) in enumerate(zip(said.who[begin].tolist(), day[begin].tolist(), strict=True)):
            if today > new.day[who]:
                if new.day[who] >= 0:
                    new.counts[who] = forget(new.counts[who], np.array(_KEEP_DAY ** (today - new.day[who])))
                    turned.append(i)
                    seen.append(new.counts[who].copy())
                new.day[who] = today
            new.counts[who] += added[i]
        drawn = new.usual[said.who[begin]]
        if turned:
            sketches = np.stack(seen)
            found = quantiles(sketches[:, None, :], np.array([[UNUSUAL]]), np.ones((1, 1)))[:, 0, 0]
            drawn[turned] = np.where(sketches.sum(axis=1) >= 40 * ONE, found, 0.0)
        said.usual = drawn[block]
        last = np.flatnonzero(np.append(np.diff(said.who[begin]) != 0, True))
        new.usual[said.who[begin[last]]] = drawn[last]
    first = np.flatnonzero(np.append(True, np.diff(said.who) != 0))
    unseen = new.first == 0
    new.first[said.who[first[unseen[said.who[first]]]]] = said.at[first[unseen[said.who[first]]]]


# -- verdicts --------------------------------------------------------------------------------------------------------


def explained_by_nature(moves: Floats) -> Bools:
    """(a,) whether rain, or light and the plants, explain the moves (a, roles) by themselves.

    Rain thins the salts and brings air, without moving pH or redox far. By day the plants take up carbon dioxide and
    give oxygen: both rise, and nothing else does.
    """
    ph, oxygen, salt = moves[:, _AT["ph"]], moves[:, _AT["oxygen"]], moves[:, _AT["salt"]]
    redox, ammonia = moves[:, _AT["redox"]], moves[:, _AT["ammonia"]]
    rain = (salt < -SECOND) & (np.abs(ph) < 3.0) & (oxygen > -1.5) & (np.abs(redox) < 3.0) & (ammonia < MORE)
    plants = (ph > 0) & (oxygen > 0) & (salt < LEAST) & (moves[:, _AT["turbidity"]] < LEAST)
    return np.asarray(rain | plants)


def _judge(
    said: _Said, new: SuddenEventState, stations: Codes, memory: SuddenEventState, upstream: Sequence[UpstreamPath]
) -> Alarms:
    """Which instants are alarms; in ``new`` the last two instants and the last alarm are remembered."""
    n = len(said.at)
    same_before = np.append(False, np.diff(said.who) == 0) if n else np.zeros(0, np.bool_)
    same_after = np.append(same_before[1:], False) if n else same_before
    step = np.zeros(n, np.int64)
    step[1:] = np.diff(said.at)
    step[~same_before] = 0
    decided = same_after & (said.at > new.known[said.who])
    known = said.at - new.first[said.who] >= WARM_UP_MS
    visited = _visited(said, step, new)
    next_visit = np.append(said.visit[1:], False) & same_after if n else same_after
    settled = decided & known & ~visited & ~next_visit
    needed = np.maximum(SUM, said.usual)
    ready = settled & (step > 0) & ~explained_by_nature(said.moves)
    rows = np.flatnonzero(said.total + said.floating >= HALF * needed)
    lasting = _lasting(said.moves, rows, step, same_after)
    total, second, floating = np.zeros((3, n))
    total[rows], second[rows], floating[rows] = _evidence(lasting[rows])

    def enough(total: Floats, second: Floats) -> Bools:
        most = LASTING * needed
        before, after = np.zeros(n), np.zeros(n)
        before[1:], after[:-1] = total[:-1], total[1:]
        around = (step > FAST_STEP_MS) | ((before >= most) & (after >= most) & same_after)
        return np.asarray(ready & (total >= needed) & (second >= SECOND) & around)

    alone = said.ramp & settled
    hit = enough(total, second) | alone
    doubt = np.zeros(n, np.uint8)
    doubt[enough(total + floating, second) & ~hit] = DiscountReason.PARTICLES
    hit = _sure(said.leap, lasting, total, hit, alone, doubt)
    there = _there(said, step, known & ~visited)
    there[np.flatnonzero(hit) + 1, -1] = 1  # it is known at the next instant
    joint, supported = total, np.zeros(n, np.bool_)
    rows = np.flatnonzero(total >= HALF * needed) if upstream else np.empty(0, np.intp)
    if len(rows):
        more, witness = _from_above(said, lasting, rows, there, stations, memory, upstream)
        joint, second = total.copy(), second.copy()
        joint[rows] += more
        second[rows] = np.maximum(second[rows], witness)
        supported = enough(joint, second) & (joint > total) & ~hit
        supported = _sure(said.leap, lasting, joint, supported, alone, doubt)
        doubt[supported] = DiscountReason.NONE
    told = np.where(supported, joint, total) + np.where(doubt == DiscountReason.PARTICLES, floating, 0.0)
    found = np.flatnonzero(hit | supported | (doubt > 0))
    _remember(said, new, np.flatnonzero(hit | supported), np.flatnonzero(doubt), decided)
    fresh = np.flatnonzero(~said.old)
    add_moves(new.slot, new.seen, said.who[fresh], said.at[fresh], there[fresh])
    return Alarms(
        stations[said.who[found]],
        said.at[found],
        said.moves[found],
        told[found],
        needed[found],
        supported[found],
        (alone & (total < needed))[found],
        doubt[found],
    )


def _lasting(moves: Floats, rows: Places, step: Ints, same_after: Bools) -> Floats:
    """(i, roles) what each sensor says for as long as water lasts; of ``rows`` alone, 0 elsewhere."""
    out = np.zeros_like(moves)
    out[rows] = moves[rows]
    asked = rows[(step[rows] > FAST_STEP_MS) & (step[rows] <= SLOW_MS)]
    out[asked] = _both(out[asked], moves[np.minimum(asked + 1, len(out) - 1)] / LASTING)
    out[asked[~same_after[asked]]] = 0.0
    fast = asked[step[asked] <= FAST_MS]
    out[fast] = _both(out[fast], moves[fast - 1] / LASTING)
    return out


def _both(moves: Floats, others: Floats) -> Floats:
    """(i, roles) the smaller of two moves where they go one way."""
    return np.where(moves * others > 0, np.copysign(np.minimum(np.abs(moves), np.abs(others)), moves), 0.0)


def _sure(leap: Bools, lasting: Floats, total: Floats, hit: Bools, alone: Bools, doubt: Bytes) -> Bools:
    """Those of the alarms that are not one sensor's jump; the others are marked in ``doubt``."""
    rows = np.flatnonzero(hit & ~alone)
    rows = rows[_leaped(leap[rows], lasting[rows], total[rows])]
    doubt[rows] = DiscountReason.LEAP
    sure = hit.copy()
    sure[rows] = False
    return sure


def _leaped(leap: Bools, lasting: Floats, total: Floats) -> Bools:
    """(r,) instants at which one sensor went its way in one step and the others together hardly moved. A disinfectant
    is dosed: it jumps when a works acts."""
    leader = np.abs(lasting).argmax(axis=1)
    row = np.arange(len(leader))
    cap = np.where(np.isin(leader, [_AT[name] for name in _ONE_VOICE[0]]), CAP_PARTICLES, CAP)
    others = total - np.minimum(np.abs(lasting[row, leader]), cap)
    return np.asarray(leap[row, leader] & (others < FEW) & (leader != _AT["disinfectant"]))


def _there(said: _Said, step: Ints, watched: Bools) -> Bytes:
    """(i, sides) what the stations below may be told: moves that last, where nature does not explain them and nobody
    was at the sensors."""
    out = np.zeros((len(said.at), 2 * len(ROLES) + 1), np.uint8)
    rows = np.flatnonzero((said.total > 0) & watched & (step > 0))
    rows = rows[~explained_by_nature(said.moves[rows])]
    before = np.where((step[rows] > SLOW_MS)[:, None], said.moves[rows], said.moves[rows - 1])
    out[rows, :-1] = move_sizes(_both(said.moves[rows], before))
    return out


def _from_above(
    said: _Said,
    lasting: Floats,
    rows: Places,
    there: Bytes,
    stations: Codes,
    memory: SuddenEventState,
    upstream: Sequence[UpstreamPath],
) -> tuple[Floats, Floats]:
    """(r,) what a station above adds at these instants, and the strongest of that: a sensor that moves here as the one
    there did, when this water was there, is heard a second time, with the smaller of both.

    Weather moves the water of all stations: temperature and particles, less salt (rain), pH and oxygen alike (light).
    In half a day of half hours some sensor makes a usual move by chance: only clear ones are heard. Light and clearness
    are not asked after an alarm above: what it has shown need not be shown again.
    """
    more, witness = np.zeros(len(rows)), np.zeros(len(rows))
    wanted = set(stations[np.unique(said.who[rows])].tolist())
    for way in upstream:
        if way.below not in wanted:
            continue
        mine = np.flatnonzero(stations[said.who[rows]] == way.below)
        number, seen = _seen(way.above, said, there, stations, memory)
        seen = discount_simultaneous(number, seen, *_seen(way.below, said, there, stations, memory))
        found = strongest_moves(number, seen, *way.slots(said.at[rows[mine]]))
        up, down = np.split(found[:, :-1] / PART, 2, axis=1)
        alarmed = found[:, -1:] > 0
        moves = lasting[rows[mine]]
        both = _both(moves, np.where(moves > 0, up, -down))
        both[~alarmed & (np.abs(both) < CLEAR_MOVE)] = 0.0
        both[:, _WEATHER] = 0.0
        both[:, _AT["salt"]] = np.maximum(both[:, _AT["salt"]], 0.0)
        light = moves[:, _AT["ph"]] * moves[:, _AT["oxygen"]] > 0
        both[:, _LIGHT] = np.where(light[:, None] & ~alarmed, 0.0, both[:, _LIGHT])
        heard = _voices(both)[0]
        better = heard.sum(axis=1) > more[mine]
        more[mine[better]], witness[mine[better]] = heard[better].sum(axis=1), heard[better, -1]
    return more, witness


def _seen(station: int, said: _Said, there: Bytes, stations: Codes, memory: SuddenEventState) -> tuple[Ints, Bytes]:
    """The half hours of a station and its strongest moves in them, those remembered and the new ones, sorted."""
    rows = np.flatnonzero((stations[said.who] == station) & ~said.old & there.any(axis=1))
    number, seen = said.at[rows] // SLOT_MS, there[rows]
    if station < len(memory):
        number = np.concatenate([memory.slot[station], number])
        seen = np.concatenate([memory.seen[station], seen])
    order = np.argsort(number, kind="stable")
    return number[order], seen[order]


def _visited(said: _Said, step: Ints, new: SuddenEventState) -> Bools:
    """(i,) whether somebody was at the sensors now, or a few steps before."""
    n = len(said.at)
    if not said.visit.any() and not new.visited.any():
        return np.zeros(n, np.bool_)
    last = np.maximum.accumulate(np.where(said.visit, np.arange(n), -1))
    first = np.maximum.accumulate(np.where(np.append(True, np.diff(said.who) != 0), np.arange(n), 0))
    since = np.where(last >= first, said.at[last], new.visited[said.who])
    return np.asarray((since > 0) & (said.at - since <= np.maximum(AFTER_VISIT * step, AFTER_VISIT_MS)))


def _remember(said: _Said, new: SuddenEventState, found: Places, doubted: Places, decided: Bools) -> None:
    """In ``new``: the last two instants of each station, what was decided, and its last alarms and visit."""
    n = len(said.at)
    if not n:
        return
    end = np.flatnonzero(np.append(np.diff(said.who) != 0, True))
    who = said.who[end]
    newer = np.append(True, np.diff(said.who) != 0)
    has_before = ~newer[end]
    for column, rows in ((1, end), (0, np.maximum(end - 1, 0))):
        use = np.ones(len(end), np.bool_) if column == 1 else has_before
        new.at[who[use], column] = said.at[rows[use]]
        new.moves[who[use], column] = said.moves[rows[use]]
        new.leap[who[use], column] = said.leap[rows[use]]
        new.ramp[who[use], column] = said.ramp[rows[use]]
        new.visit[who[use], column] = said.visit[rows[use]]
    np.maximum.at(new.known, said.who[decided], said.at[decided])
    np.maximum.at(new.alarmed, said.who[found], said.at[found])
    np.maximum.at(new.doubted, said.who[doubted], said.at[doubted])
    np.maximum.at(new.visited, said.who[said.visit], said.at[said.visit])


# -- meaning ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EventDiagnosis:
    """What an alarm looks like: its cause, how sure (0 to 1) it is that the water changed at all, and the roles that
    speak for and against that."""

    cause: EventCause
    confidence: float
    evidence: tuple[tuple[str, float], ...]
    against: tuple[tuple[str, float], ...]


def diagnose(moves: Floats, total: float, needed: float, *, supported: bool) -> EventDiagnosis:
    """Name what the moves (roles,) look like, by textbook signatures; confidence grows with the evidence alone."""

    def of(name: str) -> float:
        return float(moves[_AT[name]])

    down = max(0.0, -of("oxygen"))
    load = max(of("ammonia"), of("organic"), of("phosphorus"), of("nitrogen"))
    scores = {
        EventCause.ACID: -of("ph") - max(0.0, -of("oxygen")),
        EventCause.ALKALI: of("ph") - max(0.0, of("oxygen")),
        EventCause.SEWAGE: load + 0.5 * max(0.0, of("salt")) + down if max(load, down) > LEAST else 0.0,
        EventCause.OVERFLOW: (max(load, -of("oxygen")) - of("salt") + of("turbidity")) if of("salt") < 0 else 0.0,
        EventCause.OXYGEN_SAG: -of("oxygen") - abs(of("salt")) - max(load, 0.0),
        EventCause.SALT: of("salt") - abs(of("ph")) - abs(of("oxygen")),
        EventCause.SEDIMENT: of("turbidity") - abs(of("salt")) - abs(of("ph")) - abs(of("oxygen")),
        EventCause.BLOOM: (of("bloom") + of("ph") + of("oxygen")) / 2 if of("bloom") > LEAST and of("ph") > 0 else 0.0,
    }
    capped = {cause: min(score, 3 * CAP) for cause, score in scores.items()}
    cause = max(capped, key=lambda one: capped[one])
    if capped[cause] < 2.0:
        cause = EventCause.DISCHARGE
    odds = ODDS * 2.0 ** ((max(total / needed, 1.0) - 1.0) / DOUBLED + supported)
    ranked = sorted(((name, float(moves[i])) for name, i in _AT.items()), key=lambda one: -abs(one[1]))
    speaking = tuple((name, size) for name, size in ranked if abs(size) > LEAST)
    silent = tuple((name, size) for name, size in ranked if abs(size) <= LEAST and size != 0.0)
    return EventDiagnosis(cause, round(min(SUREST, odds / (1.0 + odds)), 2), speaking, silent)
