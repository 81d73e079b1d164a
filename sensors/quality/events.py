"""What the detectors of events hand on: alarms, their causes and confidence, and why they may be none. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum, StrEnum
from typing import Final

import numpy as np

from infra.times import HOUR_MS
from sensors.parameters import Catalogue
from sensors.reading import Bools, Bytes, Codes, Floats, Ints, Places

# -- constants -------------------------------------------------------------------------------------------------------

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

ROLE_PLACE: Final = {name: i for i, name in enumerate(ROLES)}

ROLE_OF_PARAMETER: Final[Mapping[str, str]] = {
    "do": "oxygen",
    "ph": "ph",
    "water_temp": "temperature",
    "conductivity": "salt",
    "turbidity": "turbidity",
    "nh3n": "ammonia",
    "orp": "redox",
    "chla": "bloom",
    "level": "level",
}
"""The parameters that are followed, and their role."""

# Evidence of sudden events, in usual moves.
MIN_MOVE: Final = 0.8
"""Smaller moves are nothing."""
MAX_MOVE: Final = 6.0
"""No sensor counts for more: one alone, however wild, raises no alarm."""
EVENT_OVER_AFTER_MS: Final = 6 * HOUR_MS
"""An event is over after so long without an alarm."""

# Confidence: share of such alarms that are right where one discharge passes a station each month.
BASE_ODDS: Final = 0.6
EVIDENCE_PER_DOUBLED_ODDS: Final = 0.2
MAX_CONFIDENCE: Final = 0.95
DOUBTFUL_CONFIDENCE: Final = 0.15
"""With the evidence that is needed, or one sensor alone, three are right of eight; each fifth of it more doubles the
odds, and so does what the station above saw. Of doubtful ones one in seven is right. Measured on planted discharges and
on the same records without them (docs/detection.md); never surer than that."""

# Causes, in usual moves.
MIN_CAUSE_SCORE: Final = 2.0
"""Where no signature reaches this, the cause is a discharge of unknown kind."""
MAX_CAUSE_SCORE: Final = 3 * MAX_MOVE
SALT_OF_SEWAGE: Final = 0.5
"""Share of a rise of salt that counts for sewage."""

# Confidence of slow events
TIDAL_CONFIDENCE: Final = 0.5
"""Of what one sensor shows at equal phase of the tide: of such alarms in a bay, so many were right where one discharge
passes a station a month (docs/detection.md)."""
CONFIRMED_CONFIDENCE: Final = 0.65
"""Of doubtful events that time confirmed (:mod:`sensors.quality.detectors.doubtful_events`); below the 0.7 of an urgent
event, since one sensor carries them."""

SLOW_EVIDENCE_PER_DOUBLED_ODDS: Final = 0.1
MAX_SLOW_CONFIDENCE: Final = 0.9
"""What is just enough is right as often as not; so much more doubles the odds, up to nine of ten (measured on slow
events planted into recorded water, docs/detection.md: the share that is right where one passes a station a month)."""
MIN_WITNESS: Final = 0.5
"""In far departures: from here on a second sensor bears witness."""


@dataclass(frozen=True, slots=True)
class EventReadings:
    """Readings of stations (n,), in any order, as handed to and by :func:`~sensors.quality.engine.check_quality`.

    Slow events do without ``move`` (in usual moves, NaN where nothing can be said) and ``course``.
    """

    catalogue: Catalogue
    station: Codes
    parameter: Codes
    at: Ints
    value: Floats
    tests: Ints
    move: Floats = field(default_factory=lambda: np.empty(0))
    course: Bytes = field(default_factory=lambda: np.empty(0, np.uint8))

    def take(self, rows: Places | Bools) -> "EventReadings":
        """The readings of these rows."""
        columns = [getattr(self, one.name) for one in fields(self)[1:]]
        return EventReadings(self.catalogue, *(one[rows] if len(one) else one for one in columns))

    def is_of(self, event: str) -> Bools:
        """(n,) whether each reading tells ``event`` of the water."""
        return np.array([one.event == event for one in self.catalogue.parameters], np.bool_)[self.parameter]


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


class Outcome(IntEnum):
    """What became of the doubt about an event (:mod:`sensors.quality.detectors.doubtful_events`)."""

    OPEN = 0
    """No doubt, or nothing decided it yet."""
    JOINED = 1
    """The water: a certain event of the station goes with it."""
    CONFIRMED = 2
    """The water: what one sensor shows returned or lasted as no sensor does by itself."""
    DEVICE = 3
    """Nothing confirmed it within a day: a device to be checked."""


@dataclass(frozen=True, slots=True)
class EventDiagnosis:
    """Cause of an alarm, confidence (0 to 1) that the water changed at all, and roles for and against that.

    ``evidence`` and ``against`` are pairs of role and move in usual moves.
    """

    cause: EventCause
    confidence: float
    evidence: tuple[tuple[str, float], ...]
    against: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Alarms:
    """Instants at which the water changed, (a,) each, of sudden and of slow events.

    Attributes
    ----------
    station, at : station, and instant (ms)
    moves : (a, roles) in usual moves; of slow events in far departures: 1 is far out
    total, needed : evidence, and what was needed
    supported : whether the alarm rests on what the station above, of slow events a neighbouring one, saw
    alone : whether one sensor alone was believed; of slow events at equal phase of the tide
    discount : why it may not be the water, a :class:`DiscountReason`
    cause : place in :class:`EventCause` of a slow event, -1 of a sudden one
    now, usual : (a, roles of :data:`ROLE_OF_PARAMETER`) of slow events what the sensors show, and showed at such
        extremes, in their unit
    swing : how far oxygen went up and down since the day before, in swings of a usual day; NaN where not known
    outcome : what became of a doubtful event until then, an :class:`Outcome`
    """

    station: Codes
    at: Ints
    moves: Floats
    total: Floats
    needed: Floats
    supported: Bools
    alone: Bools
    discount: Bytes
    cause: Codes
    now: Floats
    usual: Floats
    swing: Floats
    outcome: Bytes

    @classmethod
    def joined(cls, parts: "Sequence[Alarms]") -> "Alarms":
        """All of these, one after the other."""
        return cls(*(np.concatenate([getattr(part, one.name) for part in (NO_ALARMS, *parts)]) for one in fields(cls)))

    def take(self, rows: Places) -> "Alarms":
        """The alarms of these rows."""
        return Alarms(*(getattr(self, one.name)[rows] for one in fields(self)))

    def slow(self, row: int) -> bool:
        """Whether an alarm is of a slow event."""
        return bool(self.cause[row] >= 0)

    def meaning(self, row: int) -> EventDiagnosis:
        """Name the cause of an alarm, with its confidence and evidence."""
        if self.slow(row):
            return self._slow_meaning(row)
        total, needed = float(self.total[row]), float(self.needed[row])
        diagnosis = diagnose(self.moves[row], total, needed, supported=bool(self.supported[row]))
        return diagnosis if not self.discount[row] else replace(diagnosis, confidence=DOUBTFUL_CONFIDENCE)

    def _slow_meaning(self, row: int) -> EventDiagnosis:
        known = np.flatnonzero(~np.isnan(self.now[row]))
        measured = {list(ROLE_OF_PARAMETER.values())[i] for i in known.tolist()}
        moves = sorted(zip(ROLES, self.moves[row].tolist(), strict=True), key=lambda one: -abs(one[1]))
        supporting = tuple(one for one in moves if abs(one[1]) >= MIN_WITNESS)
        silent = tuple(one for one in moves if one[0] in measured and abs(one[1]) < MIN_WITNESS)
        odds = 2.0 ** (float(self.total[row] - self.needed[row]) / SLOW_EVIDENCE_PER_DOUBLED_ODDS)
        confidence = DOUBTFUL_CONFIDENCE if self.discount[row] else min(MAX_SLOW_CONFIDENCE, odds / (1.0 + odds))
        if self.alone[row]:
            confidence = TIDAL_CONFIDENCE
        if self.outcome[row] == Outcome.CONFIRMED:
            confidence = CONFIRMED_CONFIDENCE
        return EventDiagnosis(tuple(EventCause)[self.cause[row]], round(confidence, 2), supporting, silent)

    def kind(self, row: int) -> EventCause:
        """The cause by which rules know an alarm."""
        return EventCause.DOUBTFUL if self.discount[row] else self.meaning(row).cause


def _no_alarms() -> Alarms:
    whole, size, is_so, small = np.empty(0, np.int64), np.empty(0), np.empty(0, np.bool_), np.empty(0, np.uint8)
    moves, shown = np.empty((0, len(ROLES))), np.empty((0, len(ROLE_OF_PARAMETER)))
    return Alarms(whole, whole, moves, size, size, is_so, is_so, small, whole, shown, shown, size, small)


NO_ALARMS: Final = _no_alarms()


def first_alarms(alarms: Alarms) -> Alarms:
    """Keep of each slow event its first alarm alone, and all alarms of sudden events."""
    keep = np.ones(len(alarms.at), np.bool_)
    slow = np.flatnonzero(alarms.cause >= 0)
    doubtful = alarms.discount[slow] > 0
    order = np.lexsort((alarms.at[slow], doubtful, alarms.station[slow]))
    sorted_ = slow[order]
    same = (np.diff(alarms.station[sorted_]) == 0) & (np.diff(doubtful[order]) == 0)
    keep[sorted_[1:][same & (np.diff(alarms.at[sorted_]) <= EVENT_OVER_AFTER_MS)]] = False
    return alarms.take(np.flatnonzero(keep))


def diagnose(moves: Floats, total: float, needed: float, *, supported: bool) -> EventDiagnosis:
    """Name the cause of moves (roles,) by textbook signatures; confidence grows with the evidence alone."""

    def of(name: str) -> float:
        return float(moves[ROLE_PLACE[name]])

    blooms = of("bloom") > MIN_MOVE and of("ph") > 0
    down = max(0.0, -of("oxygen"))
    load = max(of("ammonia"), of("organic"), of("phosphorus"), of("nitrogen"))
    scores = {
        EventCause.ACID: -of("ph") - max(0.0, -of("oxygen")),
        EventCause.ALKALI: of("ph") - max(0.0, of("oxygen")),
        EventCause.SEWAGE: load + SALT_OF_SEWAGE * max(0.0, of("salt")) + down if max(load, down) > MIN_MOVE else 0.0,
        EventCause.OVERFLOW: (max(load, -of("oxygen")) - of("salt") + of("turbidity")) if of("salt") < 0 else 0.0,
        EventCause.OXYGEN_SAG: -of("oxygen") - abs(of("salt")) - max(load, 0.0),
        EventCause.SALT: of("salt") - abs(of("ph")) - abs(of("oxygen")),
        EventCause.SEDIMENT: of("turbidity") - abs(of("salt")) - abs(of("ph")) - abs(of("oxygen")),
        EventCause.BLOOM: (of("bloom") + of("ph") + of("oxygen")) / 2 if blooms else 0.0,
    }
    capped = {cause: min(score, MAX_CAUSE_SCORE) for cause, score in scores.items()}
    cause = max(capped, key=lambda one: capped[one])
    if capped[cause] < MIN_CAUSE_SCORE:
        cause = EventCause.DISCHARGE
    odds = BASE_ODDS * 2.0 ** ((max(total / needed, 1.0) - 1.0) / EVIDENCE_PER_DOUBLED_ODDS + supported)
    ranked = sorted(((name, float(moves[i])) for name, i in ROLE_PLACE.items()), key=lambda one: -abs(one[1]))
    supporting = tuple((name, size) for name, size in ranked if abs(size) > MIN_MOVE)
    silent = tuple((name, size) for name, size in ranked if abs(size) <= MIN_MOVE and size != 0.0)
    return EventDiagnosis(cause, round(min(MAX_CONFIDENCE, odds / (1.0 + odds)), 2), supporting, silent)
