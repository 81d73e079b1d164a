"""The pages of who looks after the stations: which come first, and what a check says before it is kept. Pure."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Final

from api.maintenance import MOST_STOPS, MaintenanceSummary
from api.pages.models.overview import Data, data_state
from governance.incidents.finding import FindingKind
from infra.errors import ConfigurationError
from infra.texts import Text, ended, say
from infra.times import DAY_MS
from sensors import route
from sensors.maintenance import Check
from sensors.network import distance_km
from sensors.parameters import Catalogue
from sensors.standards import hj915
from sensors.standards.hj915 import CheckKind, ErrorKind

"""Checks that compare with the day before."""
REASONS: Final = ("device", "drift", "offline", "battery", "due", "visit")
"""Why somebody should go to a station, the most pressing first."""
BATTERY: Final = "device-battery_low"
PAGE: Final = 30
"""Rows of the list that are shown at first, and that are added at a time."""


@dataclass(frozen=True, slots=True)
class Row:
    """A station of the list: who works there, what was found, which sensors are wrong or to be checked, its silence.

    ``late_ms`` is by how much the check that was due first is late.
    """

    care: MaintenanceSummary
    state: Data
    wrong: tuple[str, ...]
    overdue: tuple[str, ...]
    visit_late: bool
    late_ms: int = 0

    @property
    def key(self) -> str:
        return self.care.station.key

    @property
    def name(self) -> Text:
        return Text(self.care.station.zh, self.care.station.en)

    @property
    def battery(self) -> bool:
        """Whether a device reports that its battery is low."""
        return any(one.rule == BATTERY and one.active for found in self.care.findings for one in found.conditions)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why somebody should go there, of ``REASONS``, the most pressing first."""
        devices = [
            found
            for found in self.care.findings
            if found.kind is FindingKind.DEVICE and any(one.rule != BATTERY for one in found.conditions)
        ]
        silent = any(found.kind is FindingKind.NO_DATA for found in self.care.findings)
        holds = {
            "device": bool(devices),
            "drift": bool(self.wrong or self.care.doubted),
            "offline": silent or self.state is Data.OFFLINE,
            "battery": self.battery,
            "due": bool(self.overdue),
            "visit": self.visit_late,
        }
        return tuple(name for name in REASONS if holds[name])

    @property
    def calls(self) -> bool:
        """Whether somebody should go there."""
        return bool(self.reasons)


def row(care: MaintenanceSummary, now_ms: int, *, retired: bool = False) -> Row:
    """How a station stands at ``now_ms``."""
    overdue = [one for one in care.due if one.overdue(now_ms)]
    return Row(
        care=care,
        state=data_state(care.newest_at_ms, care.station.interval_s, now_ms, retired=retired),
        wrong=tuple(one.parameter for one in overdue if one.wrong),
        overdue=tuple(one.parameter for one in overdue if not one.wrong),
        visit_late=care.visit_due_ms is not None and care.visit_due_ms <= now_ms,
        late_ms=max((now_ms - one.due_ms for one in overdue if one.due_ms), default=0),
    )


def rows(cares: Iterable[MaintenanceSummary], now_ms: int) -> tuple[Row, ...]:
    """Where somebody works first, then by how much calls for somebody, then by how late it is."""
    made = [row(care, now_ms) for care in cares]

    def rank(one: Row) -> tuple[object, ...]:
        reasons = one.reasons
        return (one.care.working is None, *(name not in reasons for name in REASONS), -one.late_ms // DAY_MS)

    return tuple(sorted(made, key=rank))


def stops(every: Sequence[Row], keys: Collection[str], first: str) -> tuple[tuple[Row, float], ...]:
    """The stations of a day in the order of a short way, each with its distance (km) from the one before.

    Those of ``keys``, else the most pressing; it begins at ``first``, else at the most pressing one.
    """
    wanted = [one for one in every if not keys or one.key in keys][:MOST_STOPS]
    places = [(one.care.station.lon, one.care.station.lat) for one in wanted]
    begin = next((i for i, one in enumerate(wanted) if one.key == first), 0)
    way = route.order(places, begin)
    steps = [0.0, *(distance_km(places[a], places[b]) for a, b in pairwise(way))]
    return tuple((wanted[number], km) for number, km in zip(way, steps, strict=bool(way)))


@dataclass(frozen=True, slots=True)
class Choice:
    """What the address narrows the list to; ``every``: also the stations that need nobody."""

    q: str = ""
    reason: str = ""
    river: str = ""
    every: bool = False

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Choice":
        reason = query.get("reason", "")
        return cls(
            query.get("q", "").strip()[:80],
            reason if reason in REASONS else "",
            query.get("river", ""),
            query.get("show") == "all",
        )

    @property
    def narrows(self) -> bool:
        return bool(self.q or self.reason or self.river)


def chosen(found: Iterable[Row], choice: Choice) -> list[Row]:
    """The rows that fit a choice, in the order they come; who is looked for by name is found without a need, too."""
    return [
        one
        for one in found
        if (choice.every or choice.q or one.calls or one.care.working)
        and (not choice.reason or choice.reason in one.reasons)
        and (not choice.river or one.care.station.reach == choice.river)
        and is_called(one, choice.q)
    ]


def is_called(one: Row, wanted: str) -> bool:
    """Whether a station's name or key has these letters in it; without any, all have."""
    station = one.care.station
    return any(wanted.casefold() in text.casefold() for text in (station.zh, station.en, station.key))


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


# -- the form of a check -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CheckForm:
    """A check as its form has it."""

    parameter: str = ""
    kind: str = ""
    standard: str = ""
    reading: str = ""
    after: str = ""
    before: str = ""
    span: str = ""
    limit: str = ""
    lot: str = ""
    note: str = ""

    @classmethod
    def of(cls, given: Mapping[str, str]) -> "CheckForm":
        return cls(**{one.name: given.get(one.name, "").strip()[:1000] for one in fields(cls)})

    @property
    def mark(self) -> str:
        """A digest of what decides the verdict: a form keeps it, so that no other check is kept than was judged."""
        decides = (self.parameter, self.kind, *(getattr(self, name) for name in NUMBERS))
        return hashlib.sha256("\x1f".join(decides).encode()).hexdigest()[:16]


NUMBERS: Final = ("standard", "reading", "after", "before", "span", "limit")
NEEDED: Final = ("standard", "reading")


def read_numbers(form: CheckForm, sensors: Collection[str]) -> tuple[dict[str, float | None], dict[str, Text]]:
    """The numbers of the form of a check, and what is wrong by field."""
    numbers: dict[str, float | None] = {}
    wrong: dict[str, Text] = {}
    for name in NUMBERS:
        text = getattr(form, name).replace("，", ".").replace(",", ".")
        try:
            numbers[name] = float(text) if text else None
        except ValueError:
            wrong[name] = say("care_page.no_number")
        if not text and name in NEEDED:
            wrong[name] = say("care_page.needed")
    if form.parameter not in sensors:
        wrong["parameter"] = say("care_page.needed")
    if form.kind not in set(CheckKind):
        wrong["kind"] = say("care_page.needed")
    return numbers, wrong


def next_check_ms(parameter: str, at_ms: int, left_right: bool) -> int | None:
    """When a sensor is to be checked after this check; None where no interval is defined."""
    days = hj915.check_days(parameter)
    if not left_right:
        return at_ms
    return None if days is None else at_ms + days * DAY_MS


def work_line(done: Sequence[str], more: str, language: str) -> str:
    """What was done at a visit as one line, from what was ticked and what was typed."""
    parts = [*done, *([more.strip()] if more.strip() else [])]
    return ("; " if language == "en" else "；").join(parts)
