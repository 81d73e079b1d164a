"""Rules in words (:func:`sentence`), as TOML (:func:`toml`), and their contradictions (:func:`faults`). Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from itertools import combinations
from typing import Any

from governance.incidents.headline import format_limit
from infra import toml_text
from infra.texts import Text, say
from ingest.rules.model import (
    BlackOdorous,
    ClassExceeded,
    DailyPattern,
    EventRule,
    LimitRule,
    NoData,
    Rate,
    Rule,
    Rules,
    Season,
    Side,
    TargetMissed,
    Threshold,
    Trend,
)
from ingest.rules.places import Places
from ingest.rules.schedule import ALWAYS
from ingest.rules.sentences import class_name, duration_text
from sensors.parameters import Catalogue
from sensors.quality.events import MAX_CONFIDENCE, EventCause
from sensors.stations import Registry, Station


@dataclass(frozen=True, slots=True)
class RuleFault:
    """A fault of some rules; a ``serious`` one changes what they mean."""

    rules: tuple[str, ...]
    serious: bool
    text: Text


# -- one sentence a rule -----------------------------------------------------------------------------------------------


def sentence(rule: Rule, catalogue: Catalogue) -> Text:  # noqa: PLR0911  (a kind of rule each)
    """A rule in one sentence."""
    values: dict[str, object] = {
        "scope": scope(rule),
        "times": Text("", "") if rule.when.always else say("rule.times", times=rule.when.text),
        "colour": say(f"rule.{rule.colour}"),
    }
    if "parameter" in {f.name for f in fields(rule)}:
        shown = catalogue[getattr(rule, "parameter")]  # noqa: B009 - not all rules have one
        values["parameter"] = Text(shown.zh, shown.en)
    if isinstance(rule, LimitRule):
        pending, keep = _held("lasting", rule.pending_s), _held("kept", rule.keep_firing_s)
        values |= {"samples": rule.samples, "pending": pending, "keep": keep}
    match rule:
        case Threshold():
            limit, clear = (shown.with_unit(format_limit(one)) for one in (rule.limit, rule.clear))
            side = say("rule.above" if rule.side is Side.ABOVE else "rule.below", limit=limit)
            return say("rule.threshold", side=side, clear=clear, **values)
        case Rate():
            move = say("rule.rises" if rule.side is Side.ABOVE else "rule.falls")
            over = duration_text(rule.over_s * 1000)
            return say("rule.rate", move=move, slope=shown.with_unit(f"{rule.per_hour:g}"), over=over, **values)
        case Trend():
            move = say("rule.rises" if rule.side is Side.ABOVE else "rule.falls")
            season = Text("", "") if rule.season is Season.NONE else say(f"rule.season_{rule.season}")
            surely = (
                Text("", "") if rule.significance >= 1 else say("rule.significance", level=f"{rule.significance:g}")
            )
            trend_values = {
                "move": move,
                "slope": shown.with_unit(f"{rule.per_hour:g}"),
                "window": duration_text(rule.window_s * 1000),
            }
            counts = {"bins": rule.bins, "least": rule.min_bins, "samples": rule.samples}
            return say("rule.trend", season=season, surely=surely, **trend_values, **counts, **values)
        case ClassExceeded():
            return say(
                "rule.class",
                water_class=class_name(rule.worse_than),
                judged=_judged(rule.parameters, catalogue),
                **values,
            )
        case TargetMissed():
            return say("rule.target", judged=_judged(rule.parameters, catalogue), **values)
        case BlackOdorous():
            return say("rule.black_odorous", grade=rule.grade.text, **values)
        case DailyPattern():
            share = f"{100 * rule.share:g} %"
            return say("rule.daily_pattern", days=rule.days, share=share, past=rule.past_days, **values)
        case NoData():
            least = duration_text(rule.at_least_s * 1000)
            key = "rule.no_data_sensors" if rule.sensors else "rule.no_data"
            return say(key, intervals=f"{rule.intervals:g}", least=least, **values)
        case EventRule():
            named = [say(f"rule.cause_{one}") for one in rule.kinds]
            kinds = Text("、".join(n.zh for n in named), ", ".join(n.en for n in named))
            sure = say("rule.sure", confidence=f"{100 * rule.confidence:g} %") if rule.confidence else Text("", "")
            return say("rule.event", kinds=kinds if named else say("rule.any_kind"), sure=sure, **values)
    raise TypeError(f"{rule.kind} has no sentence")


def scope(rule: Rule) -> Text:
    """The scope of a rule in words."""
    where, parts = rule.where, []
    for name in ("stations", "reaches", "regions"):
        if keys := getattr(where, name):
            parts.append(say(f"rule.{name}", names=Text("、".join(keys), ", ".join(keys))))
    if where.waters:
        kinds = [say(f"rule.water_{one}") for one in where.waters]
        parts.append(Text("、".join(k.zh for k in kinds), " or ".join(k.en for k in kinds)))
    if not parts:
        return say("rule.everywhere")
    return Text("，".join(p.zh for p in parts), ", ".join(p.en for p in parts))


def _held(key: str, seconds: int) -> Text:
    return say(f"rule.{key}", held=duration_text(seconds * 1000)) if seconds else Text("", "")


def _judged(parameters: Sequence[str], catalogue: Catalogue) -> Text:
    if not parameters:
        return say("rule.all_judged")
    rows = [catalogue[key] for key in parameters]
    return Text("、".join(p.zh for p in rows), ", ".join(p.en for p in rows))


# -- a rule as it stands in a file -------------------------------------------------------------------------------------


def row(rule: Rule) -> dict[str, Any]:
    """The entries of a rule as in a file, with defaults."""
    found: dict[str, Any] = {}
    for one in fields(rule):
        value = getattr(rule, one.name)
        match one.name:
            case "version":
                continue
            case "where":
                found |= {
                    f.name: [str(x) for x in getattr(value, f.name)] for f in fields(value) if getattr(value, f.name)
                }
            case "when":
                found |= _times(rule)
            case "worse_than":
                found[one.name] = value.name
            case "grade":
                found[one.name] = value.name.lower()
            case _:
                found[one.name] = (
                    list(value) if isinstance(value, tuple) else str(value) if isinstance(value, str) else value
                )
    return {name: value for name, value in found.items() if value != []}


def toml(rule: Rule) -> str:
    """The rule as TOML; reading it back gives the same rule and version."""
    return "\n".join([f"[[{rule.kind}]]", *toml_text.assignments(row(rule))]) + "\n"


def _times(rule: Rule) -> dict[str, Any]:
    when, found = rule.when, {}
    if when.hours is not None:
        start, end = when.hours
        found["hours"] = f"{start // 60:02d}:{start % 60:02d}-{end // 60:02d}:{end % 60:02d}"
    if when.days != "every":
        found["on_days"] = str(when.days)
    return found | ({"months": list(when.months)} if when.months else {})


# -- what contradicts itself -------------------------------------------------------------------------------------------


def find_rule_faults(rules: Rules, catalogue: Catalogue, registry: Registry | None = None) -> list[RuleFault]:
    """The faults of the rules together, and against the stations of ``registry`` where one is given.

    A fault of a single rule (an unknown entry, a clear value on the wrong side) is refused when it is read.
    """
    found = [*_inversions(rules, registry), *_out_of_range(rules, catalogue), *_unused_event_rules(rules, registry)]
    found += _duplicates(rules, registry)
    if registry is not None:
        found += [
            *_without_station(rules, registry),
            *_shorter_than_interval(rules, registry),
            *unmatched_stations(rules, registry),
        ]
    return found


def _unused_event_rules(rules: Rules, registry: Registry | None) -> Iterator[RuleFault]:
    """Event rules that never apply."""
    for rule in rules.events:
        if rule.confidence > MAX_CONFIDENCE:
            yield RuleFault((rule.id,), True, say("rule.never_sure", rule=rule.id, most=f"{100 * MAX_CONFIDENCE:g} %"))
    places = Places(registry or Registry())
    free: set[str] = set()
    hidden: dict[str, str] = {}
    for station in registry.stations if registry is not None else [_ANYWHERE]:
        for cause in EventCause:
            steps = rules.event_rules(cause, station, places)
            for n, rule in enumerate(steps):
                before = (
                    one for one in steps[:n] if one.confidence <= rule.confidence and one.when in (ALWAYS, rule.when)
                )
                if one := next(before, None):
                    hidden.setdefault(rule.id, one.id)
                else:
                    free.add(rule.id)
    for mild, urgent in hidden.items():
        if mild not in free:
            yield RuleFault((urgent, mild), True, say("rule.hidden", urgent=urgent, mild=mild))


def unmatched_stations(rules: Rules, registry: Registry) -> Iterator[RuleFault]:
    """Stations to which no event rule applies."""
    places = Places(registry)
    quiet = [s.key for s in registry.stations if not any(rules.event_rules(cause, s, places) for cause in EventCause)]
    if quiet:
        yield RuleFault((), False, say("rule.no_event", station=quiet[0], count=len(quiet)))


_ANYWHERE = Station("anywhere", "", "", 0.0, 0.0)
"""A station that only rules without a scope match."""


def overrides(rules: Rules, registry: Registry) -> list[tuple[str, str, tuple[str, ...]]]:
    """(rule, the more general rule it overrides, stations) where two rules have one subject."""
    places, found = Places(registry), dict[tuple[str, str], list[str]]()
    for station in registry.stations:
        regions = places.regions(station)
        applicable = rules.applicable(station, places)
        for rule in rules:
            if rule in applicable or not rule.where.matches(station, regions):
                continue
            for other in applicable:
                if other.subject == rule.subject or _shares_cause(other, rule):
                    found.setdefault((other.id, rule.id), []).append(station.key)
    return [(one, other, tuple(stations)) for (one, other), stations in found.items()]


def _shares_cause(one: Rule, other: Rule) -> bool:
    """Whether two event rules have a cause in common."""
    if not isinstance(one, EventRule) or not isinstance(other, EventRule):
        return False
    return bool(set(one.kinds or EventCause) & set(other.kinds or EventCause))


def _can_coincide(one: Rule, other: Rule, registry: Registry | None) -> bool:
    """Whether two rules can apply to one station at one time."""
    if not one.when.overlaps(other.when):
        return False
    if registry is None:
        return one.where == other.where or not any(getattr(one.where, f.name) for f in fields(one.where))
    places = Places(registry)
    both = ({one.id, other.id} <= {r.id for r in _in_scope(one, other, s, places)} for s in registry.stations)
    return any(both)


def _in_scope(one: Rule, other: Rule, station: Station, places: Places) -> Iterator[Rule]:
    regions = places.regions(station)
    return (rule for rule in (one, other) if rule.where.matches(station, regions))


def _inversions(rules: Rules, registry: Registry | None) -> Iterator[RuleFault]:
    """A more urgent colour that fires at a milder value than a less urgent one."""
    for one, other in combinations(list(rules), 2):
        if type(one) is not type(other) or one.colour == other.colour or isinstance(one, EventRule):
            continue
        if one.subject[:-1] != other.subject[:-1] or not _can_coincide(one, other, registry):
            continue
        urgent, mild = sorted((one, other), key=lambda rule: rule.colour.rank)
        ours, theirs = _severity(urgent), _severity(mild)
        if ours is None or theirs is None or ours > theirs:
            continue
        texts: dict[str, str | Text] = {"urgent": urgent.id, "mild": mild.id}
        texts |= {"colour": say(f"rule.{urgent.colour}"), "other": say(f"rule.{mild.colour}")}
        if ours < theirs:
            yield RuleFault((urgent.id, mild.id), True, say("rule.inverted", **texts))
        elif isinstance(urgent, LimitRule) and isinstance(mild, LimitRule) and _as_soon(urgent, mild):
            yield RuleFault((urgent.id, mild.id), False, say("rule.no_difference", **texts))


def _as_soon(urgent: LimitRule, mild: LimitRule) -> bool:
    """Whether the urgent rule fires as soon as the mild one, so that the mild one never matters."""
    return urgent.samples <= mild.samples and urgent.pending_s <= mild.pending_s


def _severity(rule: Rule) -> float | None:
    """How extreme the value must be for the rule to fire; larger is worse."""
    match rule:
        case Threshold():
            return rule.side.sign * rule.limit
        case Rate() | Trend():
            return rule.per_hour
        case ClassExceeded():
            return float(rule.worse_than)
        case BlackOdorous():
            return float(rule.grade)
    return None


def _out_of_range(rules: Rules, catalogue: Catalogue) -> Iterator[RuleFault]:
    """Limits outside the range of the instruments."""
    for rule in rules.thresholds:
        shown = catalogue[rule.parameter]
        low, high = shown.instrument
        values = {"rule": rule.id, "parameter": Text(shown.zh, shown.en), "limit": shown.show(rule.limit)}
        span = shown.with_unit(f"{low:g}–{high:g}")
        above = rule.side is Side.ABOVE
        if (above and rule.limit >= high) or (not above and rule.limit <= low):
            yield RuleFault((rule.id,), True, say("rule.never_fires", span=span, **values))
        elif (above and rule.limit < low) or (not above and rule.limit > high):
            yield RuleFault((rule.id,), True, say("rule.always_fires", span=span, **values))
        elif (above and rule.clear < low) or (not above and rule.clear > high):
            yield RuleFault((rule.id,), True, say("rule.never_ends", clear=shown.show(rule.clear), span=span, **values))


def _without_station(rules: Rules, registry: Registry) -> Iterator[RuleFault]:
    """Unknown names in scopes, and rules that apply to no station."""
    places = Places(registry)
    names = {
        "stations": {s.key for s in registry.stations},
        "reaches": {r.key for r in registry.reaches} | {s.reach for s in registry.stations},
        "regions": {r.code for r in registry.regions} | {s.region for s in registry.stations},
    }
    for rule in rules:
        bad = False
        for kind, keys in names.items():
            for name in getattr(rule.where, kind):
                fits = name in keys if kind == "regions" else any(fnmatchcase(key, name) for key in keys)
                if not fits:
                    bad = True
                    yield RuleFault((rule.id,), True, say(f"rule.unknown_{kind}", rule=rule.id, name=name))
        hits = [s for s in registry.stations if rule.where.matches(s, places.regions(s))]
        if not hits and not bad:
            yield RuleFault((rule.id,), True, say("rule.nowhere", rule=rule.id))
        parameter = getattr(rule, "parameter", None)
        if hits and parameter and not any(not s.parameters or parameter in s.parameters for s in hits):
            yield RuleFault((rule.id,), False, say("rule.unmeasured", rule=rule.id, parameter=parameter))
        if hits and isinstance(rule, TargetMissed) and not any(places.target(s) for s in hits):
            yield RuleFault((rule.id,), False, say("rule.no_target", rule=rule.id))


def _duplicates(rules: Rules, registry: Registry | None) -> Iterator[RuleFault]:
    """Two rules on one subject, of one scope, at one time."""
    places = Places(registry or Registry())
    stations_of: dict[tuple[str, str], list[str]] = {}
    for station in registry.stations if registry is not None else [_ANYWHERE]:
        for one, other in combinations(rules.applicable(station, places), 2):
            if one.subject == other.subject and one.when.overlaps(other.when):
                stations_of.setdefault((one.id, other.id), []).append(station.key)
    for (first, second), stations in stations_of.items():
        text = say("rule.twice_anywhere", rule=first, other=second)
        if registry is not None:
            text = say("rule.twice", rule=first, other=second, station=stations[0], count=len(stations))
        yield RuleFault((first, second), False, text)


def _shorter_than_interval(rules: Rules, registry: Registry) -> Iterator[RuleFault]:
    """Durations shorter than the reporting interval."""
    places = Places(registry)
    for rule in rules:
        hits = [s for s in registry.stations if rule.where.matches(s, places.regions(s))]
        if isinstance(rule, LimitRule) and hits:
            slow = max(hits, key=lambda s: s.interval_s)
            if 0 < rule.pending_s < slow.interval_s:
                wait, step = duration_text(1000 * rule.pending_s), duration_text(1000 * slow.interval_s)
                text = say("rule.pending_short", rule=rule.id, pending=wait, station=slow.key, interval=step)
                yield RuleFault((rule.id,), False, text)
            if rule.samples == 1 and rule.pending_s < slow.interval_s:
                yield RuleFault((rule.id,), False, say("rule.single_reading", rule=rule.id))
        if isinstance(rule, Trend) and hits and (wide := max(s.interval_s for s in hits)) * rule.bins > rule.window_s:
            step, width = duration_text(1000 * wide), duration_text(1000 * rule.window_s // rule.bins)
            yield RuleFault((rule.id,), False, say("rule.narrow", rule=rule.id, interval=step, width=width))
