"""The pages of who looks after the stations: which come first, and what a check says before it is kept. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from api.maintenance import MaintenanceSummary
from api.pages.models.overview import Data, data_state
from infra.errors import ConfigurationError
from infra.texts import Text, ended, say
from sensors.maintenance import Check
from sensors.parameters import Catalogue
from sensors.standards import hj915
from sensors.standards.hj915 import CheckKind, ErrorKind

DRIFTS: Final = (CheckKind.ZERO_DRIFT, CheckKind.SPAN_DRIFT)
"""Checks that compare with the day before."""


@dataclass(frozen=True, slots=True)
class Row:
    """A station of the list: who works there, what was found, which sensors are wrong or to be checked, its silence."""

    care: MaintenanceSummary
    state: Data
    wrong: tuple[str, ...]
    overdue: tuple[str, ...]
    visit_late: bool

    @property
    def calls(self) -> bool:
        """Whether somebody should go there."""
        return bool(self.care.findings or self.wrong or self.overdue or self.visit_late) or self.state is Data.OFFLINE


def row(care: MaintenanceSummary, now_ms: int) -> Row:
    """How a station stands at ``now_ms``."""
    overdue = [one for one in care.due if one.overdue(now_ms)]
    return Row(
        care=care,
        state=data_state(care.newest_at_ms, care.station.interval_s, now_ms),
        wrong=tuple(one.parameter for one in overdue if one.wrong),
        overdue=tuple(one.parameter for one in overdue if not one.wrong),
        visit_late=care.visit_due_ms is not None and care.visit_due_ms <= now_ms,
    )


def rows(cares: Iterable[MaintenanceSummary], now_ms: int) -> tuple[Row, ...]:
    """Where somebody works first, then by how much calls for somebody; the order of the registry among equals."""
    made = [row(care, now_ms) for care in cares]

    def rank(one: Row) -> tuple[bool, ...]:
        called = one.care.findings, one.wrong, one.state is Data.OFFLINE, one.overdue, one.visit_late
        return (one.care.working is None, *(not part for part in called))

    return tuple(sorted(made, key=rank))


def is_called(one: Row, wanted: str) -> bool:
    """Whether a station's name or key has these letters in it."""
    station = one.care.station
    return any(wanted.casefold() in text.casefold() for text in (station.zh, station.en, station.key))


def kinds(parameter: str) -> tuple[CheckKind, ...]:
    """The checks that are made of a parameter's sensor, the usual one first."""
    found = []
    for kind in (CheckKind.FIVE, CheckKind.STANDARD, CheckKind.SPAN, CheckKind.ZERO, *DRIFTS):
        try:
            hj915.limit(kind, parameter)
        except ConfigurationError:
            continue
        found.append(kind)
    return tuple(found) or (CheckKind.STANDARD,)


def error_words(kind: ErrorKind, value: float, parameter: str, catalogue: Catalogue) -> str:
    """An error with its sign and unit, one digit finer than the parameter is shown."""
    if kind is not ErrorKind.ABSOLUTE:
        return f"{value:+.1f} %"
    one = catalogue[parameter]
    return f"{value:+.{one.decimals + 1}f}" + ("" if one.unit == "1" else f" {one.unit}")


def verdict(check: Check, catalogue: Catalogue) -> Text:
    """What a check found and left, with the limit; or what it still lacks."""
    try:
        judged = check.judged()
    except ConfigurationError as error:
        return ended(error.text)
    kind = judged.limit.kind
    found, left, most = (
        error_words(kind, value, check.parameter, catalogue)
        for value in (judged.error, judged.error_left, judged.limit.most)
    )
    most = most.removeprefix("+")
    passed = say("maintenance_page.passed" if judged.passed else "maintenance_page.failed")
    if check.after is None:
        return say("maintenance_page.verdict", error=found, most=most, passed=passed)
    right = say("maintenance_page.left_right" if judged.left_right else "maintenance_page.left_wrong")
    return say("maintenance_page.verdict_after", error=found, most=most, passed=passed, left=left, right=right)
