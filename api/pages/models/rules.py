"""The rules in force, a changed one with its faults, and what a backtest found. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from api.names import rule_title
from infra.errors import ConfigurationError
from infra.texts import Text, say
from infra.times import DAY_MS, to_ms
from ingest.analysis.trial_comparison import at_night
from ingest.rules import explain, rule_file
from ingest.rules.explain import RuleFault
from ingest.rules.model import Rule, Rules, Threshold
from ingest.state.rule_versions import Version
from sensors.parameters import Catalogue
from sensors.stations import Registry

FIELDS = ("limit", "clear", "samples", "pending_s", "keep_firing_s")
"""The numbers of a threshold rule that its form changes."""
DAYS = (7, 30, 90, 365)
USUAL_DAYS = 90
EXAMPLES = 8
"""Incidents of each list that are shown."""
COLOURS = ("red", "orange", "yellow", "blue")
DIFFERENCES = ("new", "gone", "changed")

Counts = Mapping[tuple[str, str], tuple[int, int]]
"""Rule and version → incidents, and how many of them were false alarms."""


@dataclass(frozen=True, slots=True)
class Line:
    """A rule in force: ``title`` is what it watches, ``where`` None where its text can no longer be read; incidents of
    this version and of all.
    """

    version: Version
    title: Text
    where: Text | None
    incidents: int
    false_alarms: int
    all_incidents: int
    all_false_alarms: int


@dataclass(frozen=True, slots=True)
class Edited:
    """A rule as somebody changed it: ``typed`` as in the form, what is ``wrong`` at which field, the rule if right."""

    typed: Mapping[str, str]
    wrong: Mapping[str, Text] = field(default_factory=dict)
    rule: Rule | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """How a tried rule differs from the one in force; None: there is none."""

    id: str
    before: Version | None
    after: Rule | None


@dataclass(frozen=True, slots=True)
class Side:
    """What one set of rules raised; ``night_pages`` are those of the listed incidents."""

    incidents: int
    pages: int
    pages_a_week: float
    night_pages: int
    by_colour: Mapping[str, int]
    by_station: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Example:
    """An incident to look at; ``was`` is its colour by the rules in force where that is another one."""

    station: str
    colour: str
    was: str
    title: Text
    pages: int
    since_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a backtest found: the rules in force beside those tried."""

    readings: int
    before: Side
    after: Side
    counts: Mapping[str, int]
    examples: Mapping[str, Sequence[Example]]
    cut: bool

    @property
    def stations(self) -> tuple[str, ...]:
        """The stations with incidents by either, most first."""
        both = self.before.by_station.keys() | self.after.by_station.keys()
        return tuple(
            sorted(both, key=lambda key: (-self.after.by_station.get(key, 0), -self.before.by_station.get(key, 0), key))
        )


# -- the rules in force ------------------------------------------------------------------------------------------------


def rule_of(body: str, catalogue: Catalogue) -> Rule | None:
    """The rule of a text that holds one; None where it holds none or several. Raises ConfigurationError."""
    rules = list(rule_file.read(body, catalogue))
    return rules[0] if len(rules) == 1 else None


def lines(versions: Sequence[Version], counts: Counts, catalogue: Catalogue, kind: str = "") -> tuple[Line, ...]:
    """The rules in force, those of one kind where it is given, the most urgent first."""
    found = [_line(one, counts, catalogue) for one in versions if kind in ("", one.kind)]
    return tuple(sorted(found, key=lambda line: (COLOURS.index(line.version.colour), line.version.rule)))


def _line(one: Version, counts: Counts, catalogue: Catalogue) -> Line:
    mine = [count for (rule, _), count in counts.items() if rule == one.rule]
    own = counts.get((one.rule, one.version), (0, 0))
    rule = _readable(one, catalogue)
    where = None if rule is None else explain.scope(rule)
    return Line(one, title(one, rule), where, *own, sum(n for n, _ in mine), sum(n for _, n in mine))


def title(one: Version, rule: Rule | None) -> Text:
    """What a rule watches."""
    return rule_title(one.kind, getattr(rule, "parameter", ""))


def _readable(one: Version, catalogue: Catalogue) -> Rule | None:
    try:
        return rule_of(one.body, catalogue)
    except ConfigurationError:
        return None


# -- a changed rule ----------------------------------------------------------------------------------------------------


def numbers_of(rule: Threshold) -> dict[str, str]:
    """The numbers of a threshold rule as its form shows them."""
    return {name: f"{getattr(rule, name):g}" for name in FIELDS}


def read_numbers(before: Threshold, given: Mapping[str, str], catalogue: Catalogue) -> Edited:
    """A threshold rule with other numbers; what the reader of the file refuses stands at its field."""
    typed = numbers_of(before) | {name: given[name].strip()[:40] for name in FIELDS if name in given}
    wrong: dict[str, Text] = {}
    values: dict[str, Any] = {}
    for name, text in typed.items():
        try:
            values[name] = rule_file.check_entry(name, _value(text), catalogue)
        except ConfigurationError as error:
            wrong[name] = error.text
    if wrong:
        return Edited(typed, wrong)
    try:
        return Edited(typed, {}, rule_file.make_rule(Threshold, explain.row(before) | values, catalogue))
    except ConfigurationError as error:  # only the two limits can contradict each other
        return Edited(typed, {"clear": error.text})


def _value(text: str) -> int | float | str:
    """A number as a file would hold it; the text itself where it is none."""
    if re.fullmatch(r"[+-]?\d{1,18}", text):
        return int(text)
    return float(text) if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text) else text


def read_toml(id_: str, text: str, catalogue: Catalogue) -> Edited:
    """A rule changed as text; it keeps its id."""
    typed = {"toml": text}
    try:
        rule = rule_of(text, catalogue)
    except ConfigurationError as error:
        return Edited(typed, {"toml": error.text})
    if rule is None or rule.id != id_:
        return Edited(typed, {"toml": say("rules_page.one_rule", rule=id_)})
    return Edited(typed, {}, rule)


def whole(versions: Sequence[Version], changed: Rule) -> str:
    """All rules in force as one text, with one of them changed."""
    bodies = [explain.toml(changed) if one.rule == changed.id else one.body for one in versions]
    return "\n".join(bodies)


def faults(text: str, id_: str, catalogue: Catalogue, registry: Registry) -> tuple[RuleFault, ...]:
    """What contradicts itself in the rules of a text because of one of them; without stations, by the rules alone."""
    rules = rule_file.read(text, catalogue)
    found = explain.find_rule_faults(rules, catalogue, registry if registry.stations else None)
    return tuple(one for one in found if id_ in one.rules)


def changes(tried: Rules, in_force: Sequence[Version]) -> tuple[Change, ...]:
    """How the rules of a backtest differ from those in force now."""
    now = {one.rule: one for one in in_force}
    after = {rule.id: rule for rule in tried}
    return tuple(
        Change(id_, now.get(id_), after.get(id_))
        for id_ in sorted(now.keys() | after.keys())
        if id_ not in now or id_ not in after or now[id_].version != after[id_].version
    )


# -- what a backtest found ---------------------------------------------------------------------------------------------


def outcome(result: Mapping[str, Any]) -> Outcome:
    """What came of a backtest, from its stored result."""
    difference = result["difference"]
    before, after = result["in_force"], result["tried"]
    return Outcome(
        result["readings"],
        _side(before),
        _side(after),
        difference["counts"],
        {name: tuple(_example(one) for one in difference[name][:EXAMPLES]) for name in DIFFERENCES},
        any(len(one["incidents"]) < one["count"] for one in (before, after)),
    )


def _side(one: Mapping[str, Any]) -> Side:
    by_station: dict[str, int] = {}
    night = 0
    for incident in one["incidents"]:
        by_station[incident["station"]] = by_station.get(incident["station"], 0) + 1
        night += incident["pages"] if at_night(_ms(incident["fired"])) else 0
    return Side(one["count"], one["pages"], one["pages_a_week"], night, one["by_colour"], by_station)


def _example(one: Mapping[str, Any]) -> Example:
    return Example(
        one["station"],
        one["colour"],
        one.get("was", ""),
        Text(one["zh"], one["en"]),
        one["pages"],
        _ms(one["since"]),
        _ms(one["last"]),
    )


def days_of(request: Mapping[str, Any]) -> int:
    """How many days a backtest looks back."""
    return round(float(request["until_ms"] - request["since_ms"]) / DAY_MS)


def _ms(text: str) -> int:
    return to_ms(datetime.fromisoformat(text))
