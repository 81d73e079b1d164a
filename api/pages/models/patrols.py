"""The water that patrols passed: by reach how much of its line, and where. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from governance.reports.patrols import Patrol
from sensors.coverage import Stretch, total_km
from sensors.network import length_km
from sensors.stations import Reach

DAYS = (7, 30, 90)
"""The times that can be looked back over; 30 at first."""


@dataclass(frozen=True, slots=True)
class WaterRow:
    """A reach with the stretches that patrols passed and when the last patrol of it began; None: none in this time.

    ``reach`` without a line cannot be measured: ``km`` is 0 then.
    """

    reach: Reach
    km: float
    passed: tuple[Stretch, ...]
    last_ms: int | None
    problems: int

    @property
    def passed_km(self) -> float:
        return min(self.km, total_km(self.passed))

    @property
    def share(self) -> float | None:
        """Of the reach's length what was passed, 0 to 1; None where its line is not known."""
        return self.passed_km / self.km if self.km else None


def rows(
    reaches: Iterable[Reach], passed: Mapping[str, tuple[Stretch, ...]], patrols: Sequence[Patrol]
) -> tuple[WaterRow, ...]:
    """The reaches, those that were passed least first."""
    found = []
    for reach in reaches:
        of_it = [one for one in patrols if one.reach == reach.key or reach.key in one.covered]
        found.append(
            WaterRow(
                reach,
                length_km(reach.line) if len(reach.line) > 1 else 0.0,
                tuple(passed.get(reach.key, ())),
                max((one.started_ms for one in of_it), default=None),
                len({number for one in of_it for number in one.problems}),
            )
        )
    return tuple(sorted(found, key=lambda row: (row.share is None, row.share or 0.0, row.last_ms or 0, row.reach.key)))


EXPORT_HEAD = (
    "column_when",
    "column_until",
    "column_by",
    "column_chief",
    "column_river",
    "column_way",
    "column_km",
    "column_minutes",
    "column_counts",
    "column_why",
    "column_problems",
    "column_note",
)
"""Columns of the list as a file."""


def of_reach(patrols: Iterable[Patrol], reach: str) -> list[Patrol]:
    """The patrols that passed a reach, of all where none is named, the newest first."""
    found = (one for one in patrols if not reach or reach == one.reach or reach in one.covered)
    return sorted(found, key=lambda one: -one.started_ms)


def days_back(text: str) -> int:
    """How many days the address asks for."""
    return int(text) if text in map(str, DAYS) else DAYS[1]


def totals(waters: Collection[WaterRow]) -> tuple[float, float]:
    """Kilometres passed, and of how many."""
    return sum(row.passed_km for row in waters), sum(row.km for row in waters)
