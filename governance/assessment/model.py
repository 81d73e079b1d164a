"""What an assessment is made of: indicators, shares, the formula, incidents, rows."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from governance.organisation.roles import Role
from infra.times import DAY_MS

CLASSES_ACTION = "water.classes"
"""The action of the daily entry with the class of every reach."""


class GroupBy(StrEnum):
    """What a row of an assessment is about."""

    CHIEF = "chief"
    STREET = "street"
    REACH = "reach"


class Indicator(StrEnum):
    """Indicator; each is a share, 1 is best."""

    PATROL = "patrol"
    ACCEPTANCE = "acceptance"
    HANDLING = "handling"
    CLOSING = "closing"
    RECURRENCE = "recurrence"
    WATER = "water"


@dataclass(frozen=True, slots=True)
class Share:
    """``good`` of ``of``; ``available`` is false where nothing of the sort is recorded at all."""

    good: int = 0
    of: int = 0
    available: bool = True

    @property
    def value(self) -> float | None:
        """0 to 1; None where it is unknown."""
        return self.good / self.of if self.of and self.available else None

    def __add__(self, other: "Share") -> "Share":
        return Share(self.good + other.good, self.of + other.of, self.available and other.available)


@dataclass(frozen=True, slots=True)
class Formula:
    """The weights of the indicators, the patrols due and the terms; ``example`` until a site has decided on its own.

    ``patrols_due`` is how many a month each person of a role owes; a role that is not named owes none. Published rules
    differ by place: one day in ten for village chiefs (Guangzhou 2021), once a week for grid workers (Akqi).
    ``deputies_patrol``: a patrol that a deputy walked counts for the chief they help.
    """

    weights: Mapping[Indicator, float]
    closing_grace_days: int = 15
    recurrence_days: int = 30
    appeal_days: int = 10
    retrospective: bool = False
    deputies_patrol: bool = False
    example: bool = True
    patrols_due: Mapping[Role, int] = field(default_factory=lambda: {Role.CHIEF: 3, Role.GRID_WORKER: 4})


@dataclass(frozen=True, slots=True)
class Case:
    """One incident as an assessment sees it; times ms UTC.

    ``acceptance`` and ``handling`` are its steps in time and all its steps so far. ``responsible`` is the chief who had
    it at the end of the month, or who got it first after that; ``handled`` tells the steps of each chief who had it
    meanwhile: a step in time counts for who had it then, a late one for who had it when its limit passed. ``dropped``:
    rejected, a false alarm or merged into another; it counts for the acceptance alone.
    """

    id: int
    opened_at_ms: int
    state: str
    colour: str
    cause: str
    region: str
    reach: str
    responsible: str
    retrospective: bool
    acceptance: Share
    handling: Share
    handled: Mapping[str, Share]
    closed_at_ms: int | None
    dropped: bool
    recurred: bool
    reopened: bool = False


@dataclass(frozen=True, slots=True)
class DayOfWater:
    """What a reach showed on a day (ms UTC): its class as written in the trail, None where it could not be judged, and
    whether that met the target, None where that is unknown."""

    at_ms: int
    water_class: str | None
    met: bool | None


@dataclass(frozen=True, slots=True)
class WaterOfReach:
    """The days of a reach in the month, the month before, and the same month a year before; oldest first."""

    days: Sequence[DayOfWater] = ()
    before: Sequence[DayOfWater] = ()
    year_before: Sequence[DayOfWater] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A chief, street or reach ('' for what belongs to none): its indicators and its score, 0 to 100.

    ``improvement`` is the share of days on target less that of the month before; None where either is unknown.
    ``affected`` counts the days under marked periods by their kind; ``without`` is the row without these days and the
    incidents opened on them, None where there are none. Patrols are due by month and the same in both.
    """

    key: str
    shares: Mapping[Indicator, Share]
    score: float | None
    improvement: float | None
    cases: int
    affected: Mapping[str, int] = field(default_factory=dict)
    without: "Row | None" = None


@dataclass(frozen=True, slots=True)
class Assessment:
    """A month's assessment; ``last_n`` and ``head`` name the entry up to which the trail was read.

    ``trial``: the month, or its days of grace, are not over.
    """

    month: str
    by: GroupBy
    formula: Formula
    start_ms: int
    end_ms: int
    until_ms: int
    trial: bool
    rows: Sequence[Row]
    total: Row
    cases: Sequence[Case]
    last_n: int
    head: str
    water: Mapping[str, WaterOfReach] = field(default_factory=dict)

    @property
    def frozen_ms(self) -> int:
        """When the figures become final: the days of grace are over."""
        return self.end_ms + self.formula.closing_grace_days * DAY_MS

    @property
    def appeals_until_ms(self) -> int:
        """Until when somebody may appeal against a figure."""
        return self.frozen_ms + self.formula.appeal_days * DAY_MS


class Patrols(Protocol):
    """Gives the valid patrols of a month, of those that were due until an instant, by chief, street or reach."""

    def done(self, by: GroupBy, start_ms: int, end_ms: int, until_ms: int) -> Mapping[str, Share]: ...


@dataclass(frozen=True, slots=True)
class Groups:
    """What belongs to what: ``street`` of a region's code, ``reach`` and ``region`` of a station, ``water`` the keys
    (chiefs, streets) of a reach at an instant, ``chief`` to whom somebody's work at an instant is attributed.
    ``affected`` names the kinds of marked periods that an instant lies in, for a reach, a region or both ("": unknown);
    None where there are none."""

    street: Callable[[str], str] = lambda region: region
    reach: Callable[[str], str] = lambda station: ""
    region: Callable[[str], str] = lambda station: ""
    water: Callable[[GroupBy, str, int], Sequence[str]] = lambda by, reach, at_ms: (
        (reach,) if by is GroupBy.REACH else ()
    )
    chief: Callable[[str, int], str] = lambda name, at_ms: name
    affected: Callable[[int, str, str], Collection[str]] | None = None


@dataclass(frozen=True, slots=True)
class Inputs:
    """What an assessment takes beside the trail; ``seen`` tells which rows the caller may see."""

    groups: Groups = field(default_factory=Groups)
    patrols: Patrols | None = None
    seen: Callable[[GroupBy, str], bool] | None = None
