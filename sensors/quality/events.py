"""Did the water itself change? What the sensors of a station say together, instant by instant. Pure.

A broken sensor moves alone or jumps; a plume moves several kinds of sensor and lasts. The rule is that of the detection
notes, section 3.7, on the moves :func:`sensors.quality.assess` hands over, with what was learned since
(docs/detection.md): witnesses must be independent, the second instant must confirm the first, and a station is
compared with its own last month.

Like ``assess``, :func:`watch` reads what is remembered and hands back what is to be remembered; a table in one piece
and the same table cut anywhere between two instants give the same alarms. The verdict on an instant uses the next one.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum, StrEnum
from typing import Final

import numpy as np

from sensors.parameters import Catalogue
from sensors.quality.assess import CLIMB, LEAP
from sensors.quality.sketch import BINS, ONE, bins, forget, quantiles
from sensors.reading import Bools, Bytes, Codes, Floats, Ints, Places, QualityTest
from sensors.times import DAY_MS

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
)
"""What a kind of sensor tells of the water; the ``event`` entry of the parameter catalogue."""

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
BRIEF_MS: Final = 450_000
FAST_MS: Final = 900_000
SLOW_MS: Final = 3_600_000
"""The next instant must still show three quarters as much: water takes longer than a step of up to an hour to pass.
It mixes on its way and is there for half an hour at least, so that at steps up to a quarter of an hour the instant
before must show as much, too. Noise that happened to second a broken sensor does not last: the next instant needs a
second witness as well, but where it is only minutes away and the one before counts. Above an hour an instant stands
alone."""

FEW: Final = 3.0
"""Where one sensor went most of its way from one reading to the next and all others together say less than this, half
of what one can say, it is probably the sensor: the alarm is doubtful, and says so."""

HEARD_MS: Final = 6 * 3_600_000
"""How long an alarm upstream makes the stations below listen harder, where no travel time is known."""

SUPPORTED: Final = 4.5 / 7.0
SUPPORTED_SECOND: Final = 0.8
"""What is enough then, as a share, and of the second witness (detection notes, rule 8)."""

_VISIT: Final = int(QualityTest.OUT_OF_WATER | QualityTest.MAINTENANCE)

AFTER_VISIT: Final = 8.5
AFTER_VISIT_MS: Final = 2 * 3_600_000
"""Steps, and two hours, after a visit during which the medians of the last hours still hold what was measured then."""

FORM: Final = 2
_SINCE_2: Final = ("leap", "doubted")
"""Number of the written form; the one before is read, too, and lacks these."""

_KEEP_DAY: Final = float(np.exp(-1.0 / 15.0))


DOUBTFUL: Final = 0.3
"""No more confidence than this in an alarm that may be none of the water."""


class Doubt(IntEnum):
    """Why an alarm may be none of the water."""

    NONE = 0
    LEAP = 1
    """One sensor went most of its way in one step, and the others hardly moved."""
    PARTICLES = 2
    """What floats carries most of it; rain, wind and boats stir that up, too."""


class Cause(StrEnum):
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
class Watched:
    """What is remembered of every station: its last two instants, the sketch of its totals, and its last alarm.

    Columns by station. ``at`` (s, 2) instants, 0 where none; ``moves`` (s, 2, roles) signed, 0 where nothing was said;
    ``ramp`` (s, 2) a sensor alone was believed; ``leap`` (s, 2, roles) it went there in one step; ``usual`` (s,) share
    of the past; ``visited``, ``alarmed``, ``doubted`` (s,) the last visit, alarm and doubtful one.
    """

    at: Ints = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    moves: Floats = field(default_factory=lambda: np.zeros((0, 2, len(ROLES))))
    ramp: Bools = field(default_factory=lambda: np.zeros((0, 2), np.bool_))
    visit: Bools = field(default_factory=lambda: np.zeros((0, 2), np.bool_))
    first: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    day: Ints = field(default_factory=lambda: np.full(0, -1, np.int64))
    counts: Codes = field(default_factory=lambda: np.zeros((0, BINS), np.int32))
    usual: Floats = field(default_factory=lambda: np.zeros(0))
    visited: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    alarmed: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    known: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    leap: Bools = field(default_factory=lambda: np.zeros((0, 2, len(ROLES)), np.bool_))
    doubted: Ints = field(default_factory=lambda: np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.day)

    def grow(self, size: int) -> None:
        """Make room for ``size`` stations; new ones remember nothing."""
        have = len(self)
        if size <= have:
            return
        for name in self.__dataclass_fields__:
            old = getattr(self, name)
            blank = -1 if name == "day" else 0
            setattr(self, name, np.concatenate([old, np.full((size - have, *old.shape[1:]), blank, old.dtype)]))

    def apply(self, stations: Codes, new: "Watched") -> None:
        """Remember of these stations what ``watch`` handed back."""
        for name in self.__dataclass_fields__:
            getattr(self, name)[stations] = getattr(new, name)

    def frozen(self, row: int) -> bytes:
        """All that is remembered of a station, to be written down."""
        parts = [np.ascontiguousarray(getattr(self, name)[row]).tobytes() for name in self.__dataclass_fields__]
        return zlib.compress(bytes([FORM]) + b"".join(parts), 1)

    def thaw(self, row: int, body: bytes) -> bool:
        """What was written down is remembered again; false where the form is another one."""
        try:
            plain = zlib.decompress(body)
        except zlib.error:
            return False
        form = plain[0] if plain else 0
        names = [name for name in self.__dataclass_fields__ if form == FORM or name not in _SINCE_2]
        columns = [getattr(self, name) for name in names]
        if form not in (1, FORM) or len(plain) != 1 + sum(column[0].nbytes for column in columns):
            return False
        place = 1
        for column in columns:
            size = column[0].nbytes
            column[row] = np.frombuffer(plain[place : place + size], column.dtype).reshape(column.shape[1:])
            place += size
        return True

    def learned(self, stations: Codes) -> "Watched":
        """These stations alone with what they learned; of what they showed lately nothing is remembered."""
        made = Watched()
        made.grow(len(stations))
        for name in ("first", "day", "counts", "usual"):
            getattr(made, name)[:] = getattr(self, name)[stations]
        return made

    def taken(self, stations: Codes) -> "Watched":
        """These stations alone, in this order, as a copy."""
        made = Watched()
        for name in self.__dataclass_fields__:
            setattr(made, name, getattr(self, name)[stations].copy())
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

    def take(self, rows: Places) -> "Alarms":
        """These alone."""
        return Alarms(*(getattr(self, one.name)[rows] for one in fields(self)))

    def meaning(self, row: int) -> "Meaning":
        """What one of them looks like."""
        total, needed = float(self.total[row]), float(self.needed[row])
        told = meaning(self.moves[row], total, needed, supported=bool(self.supported[row]), alone=bool(self.alone[row]))
        return told if not self.doubt[row] else replace(told, confidence=min(told.confidence, DOUBTFUL))

    def kind(self, row: int) -> "Cause":
        """What rules call one of them."""
        return Cause.DOUBTFUL if self.doubt[row] else self.meaning(row).cause


@dataclass(frozen=True, slots=True)
class Seen:
    """What :func:`watch` found and what is to be remembered: ``memory`` has one row for each of ``stations``."""

    alarms: Alarms
    stations: Codes
    memory: Watched


def watch(
    station: Codes,
    parameter: Codes,
    at: Ints,
    move: Floats,
    course: Bytes,
    tests: Ints,
    memory: Watched,
    catalogue: Catalogue,
    upstream: Sequence[tuple[int, int, int]] = (),
) -> Seen:
    """Watch new readings of stations; every reading is at or after the last instant remembered of its station.

    Parameters
    ----------
    station, parameter, at, move, course, tests : (n,) arrays
        As handed to and by ``assess``, in any order; ``move`` in usual moves, NaN where it says nothing.
    memory : Watched
        Read, not changed.
    upstream : (station above, station below, ms from one to the other or 0) each
        An alarm above makes the station below listen harder for six hours, or twice the travel time.
    """
    stations = np.asarray(np.unique(station), np.int64)
    new = memory.taken(stations)
    who = np.searchsorted(stations, station)
    said = _instants(who, parameter, at, move, course, tests, new, catalogue)
    _learn(said, new)
    found = _judge(said, new, stations, memory, upstream)
    return Seen(found, stations, new)


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
    new: Watched,
    catalogue: Catalogue,
) -> _Said:
    """One row an instant: the strongest move of each role."""
    role = np.array([_AT.get(p.event, -1) for p in catalogue.parameters], np.int64)[parameter]
    key = (who.astype(np.int64) << 42) | at
    had_row, had_col = np.nonzero(new.at > 0)
    had_key = (had_row.astype(np.int64) << 42) | new.at[had_row, had_col]
    every, place = _unique(np.concatenate([had_key, key]))
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
    told = (every >> 42).astype(np.intp), every & ((1 << 42) - 1)
    return _Said(*told, moves, leap, alone, visit, old, *_evidence(moves))


def _shared(who: Places, parameter: Codes, role: Ints, kinds: int) -> bool:
    """Whether a station brings two parameters of one role."""
    pair = who.astype(np.int64) * kinds + parameter
    there = np.flatnonzero(np.bincount(pair)) if len(pair) else pair
    role_of = np.full(kinds, -1)
    role_of[parameter] = role
    one = role_of[there % kinds]
    cell = (there // kinds * len(ROLES) + one)[one >= 0]
    return len(np.unique(cell)) < len(cell)


def _unique(key: Ints) -> tuple[Ints, Places]:
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
    they counted in full.

    Turbidity, chlorophyll and humic fluorescence see the same particles; the nutrients and the organic load come from
    one sampling line; pH and oxygen rise and fall together with photosynthesis and respiration: each such group has
    one voice, that of its strongest. Temperature counts half: it moves by itself.
    """
    size = np.minimum(np.abs(moves), CAP)
    size[:, _AT["temperature"]] = np.minimum(0.5 * np.abs(moves[:, _AT["temperature"]]), CAP)
    for name in LOADS:
        size[:, _AT[name]] = np.minimum(np.maximum(moves[:, _AT[name]], 0.0), CAP)
    size[size <= LEAST] = 0.0
    voices = [size[:, _AT[name]] for name in ("temperature", "salt", "redox", "disinfectant")]
    floating, nutrients = (size[:, [_AT[name] for name in group]].max(axis=1) for group in _ONE_VOICE)
    counted = np.minimum(floating, CAP_PARTICLES)
    voices += [counted, nutrients]
    ph, oxygen = size[:, _AT["ph"]], size[:, _AT["oxygen"]]
    together = moves[:, _AT["ph"]] * moves[:, _AT["oxygen"]] > 0
    voices.append(np.where(together, np.maximum(ph, oxygen), ph))
    voices.append(np.where(together, 0.0, oxygen))
    heard = np.sort(np.stack(voices, axis=1), axis=1)
    return heard.sum(axis=1), heard[:, -2], floating - counted


LOADS: Final = ("turbidity", "bloom", "humic", "ammonia", "phosphorus", "nitrogen", "organic")
"""Of these only a rise bears witness: nobody's discharge makes water clearer."""

_ONE_VOICE: Final = (("turbidity", "bloom", "humic"), ("ammonia", "phosphorus", "nitrogen", "organic"))


def _leaped(said: _Said, rows: Places) -> Bools:
    """(r,) instants at which one sensor went its way in one step and the others together hardly moved."""
    leader = np.abs(said.moves[rows]).argmax(axis=1)
    size = np.minimum(np.abs(said.moves[rows, leader]), CAP)
    floats = np.isin(leader, [_AT[name] for name in _ONE_VOICE[0]])
    size = np.where(floats, np.minimum(size, CAP_PARTICLES), size)
    return np.asarray(said.leap[rows, leader] & (said.total[rows] - size < FEW))


def _learn(said: _Said, new: Watched) -> None:
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


def natural(moves: Floats) -> Bools:
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
    said: _Said, new: Watched, stations: Codes, memory: Watched, upstream: Sequence[tuple[int, int, int]]
) -> Alarms:
    """Which instants are alarms; in ``new`` the last two instants and the last alarm are remembered."""
    n = len(said.at)
    same_before = np.append(False, np.diff(said.who) == 0) if n else np.zeros(0, np.bool_)
    same_after = np.append(same_before[1:], False) if n else same_before
    step = np.zeros(n, np.int64)
    step[1:] = np.diff(said.at)
    step[~same_before] = 0
    decided_at = np.where(same_after, np.append(said.at[1:], 0), 0) if n else said.at
    decided = same_after & (said.at > new.known[said.who])
    settled = decided & (said.at - new.first[said.who] >= WARM_UP_MS) & ~_visited(said, step, same_after, new)
    slow = step > SLOW_MS
    brief, fast = (step > 0) & (step <= BRIEF_MS), (step > 0) & (step <= FAST_MS)
    needed = np.maximum(SUM, said.usual)
    ready = settled & (step > 0) & ~natural(said.moves)

    def lasts(total: Floats, needs: Floats) -> Bools:
        before, after, second_after = np.zeros(n), np.zeros(n), np.zeros(n)
        before[1:] = np.where(same_before[1:], total[:-1], 0.0)
        after[:-1] = np.where(same_after[:-1], total[1:], 0.0)
        second_after[:-1] = np.where(same_after[:-1], said.second[1:], 0.0)
        sure = (after >= LASTING * needs) & (brief | (second_after > LEAST)) & (~fast | (before >= LASTING * needs))
        return np.asarray(slow | sure)

    def enough(total: Floats, needs: Floats, second: float) -> Bools:
        return np.asarray(ready & (total >= needs) & (said.second >= second) & lasts(total, needs))

    alone = said.ramp & settled
    hit = enough(said.total, needed, SECOND) | alone
    doubt = np.zeros(n, np.uint8)
    doubt[enough(said.total + said.floating, needed, SECOND) & ~hit] = Doubt.PARTICLES
    hit = _sure(said, hit, alone, doubt)
    supported = np.zeros(n, np.bool_)
    below = SUPPORTED * needed
    nearly = enough(said.total, below, SUPPORTED_SECOND) & ~hit & (doubt != Doubt.LEAP)
    for above, under, travel_ms in upstream:
        row = np.searchsorted(stations, under)
        if row == len(stations) or stations[row] != under:
            continue
        rows = np.flatnonzero(nearly & (said.who == row))
        alarms_at, known_at = _above(above, stations, said, hit | supported, decided_at, memory)
        if not len(rows) or not len(alarms_at):
            continue
        last = np.searchsorted(known_at, decided_at[rows], side="right") - 1
        reach = max(HEARD_MS, 2 * travel_ms)
        supported[rows[(last >= 0) & (said.at[rows] - alarms_at[np.maximum(last, 0)] <= reach)]] = True
        supported = _sure(said, supported, alone, doubt)
    doubt[supported] = Doubt.NONE
    found = np.flatnonzero(hit | supported | (doubt > 0))
    _remember(said, new, np.flatnonzero(hit | supported), np.flatnonzero(doubt), decided)
    return Alarms(
        stations[said.who[found]],
        said.at[found],
        said.moves[found],
        (said.total + np.where(doubt == Doubt.PARTICLES, said.floating, 0.0))[found],
        np.where(supported, below, needed)[found],
        supported[found],
        (alone & ~(said.total >= needed))[found],
        doubt[found],
    )


def _sure(said: _Said, hit: Bools, alone: Bools, doubt: Bytes) -> Bools:
    """Those of the alarms that are not one sensor's jump; the others are marked in ``doubt``."""
    rows = np.flatnonzero(hit & ~alone)
    rows = rows[_leaped(said, rows)]
    doubt[rows] = Doubt.LEAP
    sure = hit.copy()
    sure[rows] = False
    return sure


def _above(
    above: int, stations: Codes, said: _Said, hit: Bools, decided_at: Ints, memory: Watched
) -> tuple[Ints, Ints]:
    """Alarms of the station above: when they were, and when they were known; the last remembered one among them."""
    at, known = np.empty(0, np.int64), np.empty(0, np.int64)
    if above < len(memory) and memory.alarmed[above]:
        at, known = memory.alarmed[above : above + 1], memory.alarmed[above : above + 1]
    row = np.searchsorted(stations, above)
    if row < len(stations) and stations[row] == above:
        rows = np.flatnonzero(hit & (said.who == row))
        at, known = np.concatenate([at, said.at[rows]]), np.concatenate([known, decided_at[rows]])
    return at, known


def _visited(said: _Said, step: Ints, same_after: Bools, new: Watched) -> Bools:
    """(i,) whether somebody was at the sensors now, at the next instant, or a few steps before."""
    n = len(said.at)
    if not said.visit.any() and not new.visited.any():
        return np.zeros(n, np.bool_)
    next_ = np.zeros(n, np.bool_)
    next_[:-1] = said.visit[1:] & same_after[:-1]
    last = np.maximum.accumulate(np.where(said.visit, np.arange(n), -1))
    first = np.maximum.accumulate(np.where(np.append(True, np.diff(said.who) != 0), np.arange(n), 0))
    since = np.where(last >= first, said.at[last], new.visited[said.who])
    return np.asarray(next_ | ((since > 0) & (said.at - since <= np.maximum(AFTER_VISIT * step, AFTER_VISIT_MS))))


def _remember(said: _Said, new: Watched, found: Places, doubted: Places, decided: Bools) -> None:
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
class Meaning:
    """What an alarm looks like: its cause, how sure (0 to 1), and the roles that speak for and against it."""

    cause: Cause
    confidence: float
    evidence: tuple[tuple[str, float], ...]
    against: tuple[tuple[str, float], ...]


def meaning(moves: Floats, total: float, needed: float, *, supported: bool, alone: bool) -> Meaning:
    """Name what the moves (roles,) look like. The signatures are textbook ones; confidence grows with the evidence."""

    def of(name: str) -> float:
        return float(moves[_AT[name]])

    down = max(0.0, -of("oxygen"))
    load = max(of("ammonia"), of("organic"), of("phosphorus"), of("nitrogen"))
    scores = {
        Cause.ACID: -of("ph") - max(0.0, -of("oxygen")),
        Cause.ALKALI: of("ph") - max(0.0, of("oxygen")),
        Cause.SEWAGE: load + 0.5 * max(0.0, of("salt")) + down if max(load, down) > LEAST else 0.0,
        Cause.OVERFLOW: (max(load, -of("oxygen")) - of("salt") + of("turbidity")) if of("salt") < 0 else 0.0,
        Cause.OXYGEN_SAG: -of("oxygen") - abs(of("salt")) - max(load, 0.0),
        Cause.SALT: of("salt") - abs(of("ph")) - abs(of("oxygen")),
        Cause.SEDIMENT: of("turbidity") - abs(of("salt")) - abs(of("ph")) - abs(of("oxygen")),
        Cause.BLOOM: (of("bloom") + of("ph") + of("oxygen")) / 2 if of("bloom") > LEAST and of("ph") > 0 else 0.0,
    }
    capped = {cause: min(score, 3 * CAP) for cause, score in scores.items()}
    cause = max(capped, key=lambda one: capped[one])
    ordered = sorted(capped.values())
    if capped[cause] < 2.0:
        cause = Cause.DISCHARGE
    strength = min(1.0, total / (2.0 * needed)) if needed > 0 else 0.5
    clear = min(1.0, max(0.0, ordered[-1] - ordered[-2]) / CAP)
    confidence = 0.35 + 0.35 * strength + 0.2 * clear + (0.1 if supported else 0.0) - (0.15 if alone else 0.0)
    ranked = sorted(((name, float(moves[i])) for name, i in _AT.items()), key=lambda one: -abs(one[1]))
    speaking = tuple((name, size) for name, size in ranked if abs(size) > LEAST)
    silent = tuple((name, size) for name, size in ranked if abs(size) <= LEAST and size != 0.0)
    return Meaning(cause, round(min(0.95, max(0.2, confidence)), 2), speaking, silent)
