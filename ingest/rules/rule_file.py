"""Read rules from TOML, check every entry and make the rules of :mod:`ingest.rules.model`. Pure."""

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, replace
from enum import StrEnum
from typing import Any

from governance.incidents.finding import Colour
from infra import toml_text
from infra.errors import ConfigurationError, text_of
from infra.texts import Text, at, joined, say
from ingest.rules.model import (
    DAY_S,
    KINDS,
    MAX_ID_LENGTH,
    MAX_SAMPLES,
    TIDE_PERIOD_S,
    DailyPattern,
    LimitRule,
    NoData,
    Rate,
    Rule,
    Rules,
    Scope,
    Season,
    Side,
    Threshold,
    Trend,
)
from ingest.rules.schedule import schedule
from sensors.parameters import Catalogue
from sensors.quality.events import EventCause
from sensors.standards import gb3838
from sensors.standards.black_odorous import Grade
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Water


def read(text: str, catalogue: Catalogue) -> Rules:
    """Read rules from TOML; raises ConfigurationError listing every fault, one a line."""
    try:
        tables = toml_text.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(_not_toml(text, str(error))) from error
    faults = [say("rule.unknown_kind", kind=kind) for kind in tables if kind not in KINDS]
    rules: dict[str, list[Any]] = {attribute: [] for attribute, _ in KINDS.values()}
    seen: set[str] = set()
    for kind, (attribute, cls) in KINDS.items():
        rows = tables.get(kind, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            faults.append(say("rule.no_tables", kind=kind))
            continue
        for row in rows:
            try:
                rule = make_rule(cls, row, catalogue)
                if rule.id in seen:
                    raise ConfigurationError(say("rule.twice_id"))
                seen.add(rule.id)
                rules[attribute].append(rule)
            except (ConfigurationError, ValueError, TypeError, OverflowError) as error:
                faults.append(at(f"rule {row.get('id', '(without id)')}", text_of(error)))
    if faults:
        raise ConfigurationError(joined(faults))
    return Rules(**{attribute: tuple(found) for attribute, found in rules.items()})


def _not_toml(text: str, error: str) -> Text:
    """The message for a text that is not TOML: the line, its rule, and a full-width character that may be the cause."""
    lines = text.splitlines() or [""]
    at = re.search(r"at line (\d+)", error)
    number = min(int(at[1]) if at else len(lines), len(lines))
    line = lines[number - 1].strip()
    above = [one for one in lines[:number] if one.lstrip().startswith(("[[", "id "))]
    named = re.fullmatch(r"\s*id\s*=\s*[\"'](.+)[\"']\s*", above[-1]) if above else None
    values = {"line": number, "text": line[:80], "rule": named[1] if named else "?", "error": error}
    wide = next((sign for sign in re.sub(r"\"[^\"]*\"|#.*", "", line) if sign in _FULL_WIDTH), "")
    return say("rule.not_toml_wide", sign=wide, **values) if wide else say("rule.not_toml", **values)


_FULL_WIDTH = frozenset("＝：，。；“”‘’＂＇［］【】｛｝（）＃－　")
"""Characters of a Chinese keyboard that look like those of TOML."""


def make_rule(cls: type[Rule], row: Mapping[str, Any], catalogue: Catalogue) -> Rule:
    """Make a rule of one kind from its row; raises ConfigurationError naming the entry."""
    names = {f.name for f in fields(cls)} - {"where", "when", "version"}
    given = {name: value for name, value in row.items() if name not in _SCOPE}
    if unknown := sorted(set(given) - names):
        raise ConfigurationError(say("rule.unknown_entry", unknown=unknown[0]))
    optional = {f.name for f in fields(cls) if f.default is not MISSING}
    if missing := sorted(names - set(given) - set(_DEFAULTS) - optional):
        raise ConfigurationError(say("rule.missing", missing=missing[0]))
    if not isinstance(given["id"], str) or not 1 <= len(given["id"]) <= MAX_ID_LENGTH:
        raise ConfigurationError(say("rule.no_id", id=given["id"], most=MAX_ID_LENGTH))
    values: dict[str, Any] = {name: given.get(name, _DEFAULTS.get(name)) for name in names}
    values |= {f.name: f.default for f in fields(cls) if f.name in names - set(given) and f.name in optional}
    for name, of, share in (("clear", "limit", 1.0), ("clear_per_hour", "per_hour", 0.5)):
        if name in names and name not in given:
            values[name] = values[of] * share if isinstance(values[of], int | float) else values[of]
    if "clear_share" in names and "clear_share" not in given:
        values["clear_share"] = min(1.0, 1.5 * values["share"]) if isinstance(values["share"], float) else 0.5
    for name in values:
        values[name] = check_entry(name, values[name], catalogue)
    rule = cls(**values, where=_where(row), when=schedule(row))
    _check_consistency(rule)
    return replace(rule, version=_digest(rule))


def check_entry(name: str, value: Any, catalogue: Catalogue) -> Any:
    """The value of one entry as the rule holds it; raises ConfigurationError naming what is wrong."""
    check: _Check = _CHECKED.get(name, _number)
    return check(name, value, catalogue)


def _digest(rule: Rule) -> str:
    """A digest of the entries that differ from the defaults, so that a new entry changes no existing version."""
    content: dict[str, Any] = {"kind": rule.kind}
    for one in fields(rule):
        value = getattr(rule, one.name)
        if one.name == "where":
            content |= {f.name: getattr(value, f.name) for f in fields(value) if getattr(value, f.name)}
        elif one.name == "when":
            content |= {} if value.always else {"when": repr(value)}
        elif one.name != "version" and value != one.default:
            content[one.name] = value
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def _choice(kind: type[StrEnum]) -> "_Check":
    def checked(name: str, value: Any, _: Catalogue) -> Any:
        if value not in set(kind):
            raise ConfigurationError(say("request.one_of", name=name, text=value, known=", ".join(kind)))
        return kind(value)

    return checked


def _parameter(name: str, value: Any, catalogue: Catalogue) -> str:
    if not isinstance(value, str) or value not in catalogue:
        raise ConfigurationError(say("rule.unknown_value", name=name, value=value))
    return value


def _parameters(name: str, value: Any, catalogue: Catalogue) -> tuple[str, ...]:
    for one in _names(name, value):
        _parameter("parameter", one, catalogue)
        if gb3838.direction(one) is None:
            raise ConfigurationError(say("rule.no_class", name=name, one=one))
    return _names(name, value)


def _names(name: str, value: Any, _: Catalogue | None = None) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise ConfigurationError(say("rule.no_names", name=name))
    return tuple(value)


def _causes(name: str, value: Any, _: Catalogue) -> tuple[EventCause, ...]:
    causes = {str(one) for one in EventCause}
    for one in _names(name, value):
        if one not in causes:
            raise ConfigurationError(say("request.one_of", name=name, text=one, known=", ".join(EventCause)))
    return tuple(EventCause(one) for one in dict.fromkeys(value))


def _class(name: str, value: Any, _: Catalogue) -> WaterClass:
    found = WaterClass.of(value) if isinstance(value, str) else None
    if found is None or found is WaterClass.WORSE:
        raise ConfigurationError(say("rule.no_water_class", name=name, value=value))
    return found


def _grade(name: str, value: Any, _: Catalogue) -> Grade:
    if value not in ("mild", "severe"):
        raise ConfigurationError(say("rule.no_grade", name=name, value=value))
    return Grade[value.upper()]


def _number(name: str, value: Any, _: Catalogue) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigurationError(say("rule.no_number", name=name, value=value))
    if name in _WHOLE_NUMBERS:
        least, most = _WHOLE_NUMBERS[name], _MAXIMUM.get(name, MAX_DURATION_S)
        if not isinstance(value, int) or value < least:
            raise ConfigurationError(say("rule.no_whole", name=name, value=value, least=least))
        if value > most:
            raise ConfigurationError(say("rule.too_much", name=name, value=value, most=most))
        return value
    low, high = _RANGE.get(name, (-math.inf, math.inf))
    if not low <= value <= high:
        raise ConfigurationError(say("rule.outside", name=name, value=value, low=low, high=high))
    return float(value)  # 2 and 2.0 are the same rule and have the same version


def _flag(name: str, value: Any, _: Catalogue) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(say("rule.no_flag", name=name, value=value))
    return value


def _text(name: str, value: Any, _: Catalogue) -> Any:
    return value


_Check = Callable[[str, Any, Catalogue], Any]

_CHECKED: Mapping[str, _Check] = {
    "id": _text,
    "colour": _choice(Colour),
    "side": _choice(Side),
    "season": _choice(Season),
    "parameter": _parameter,
    "parameters": _parameters,
    "kinds": _causes,
    "worse_than": _class,
    "grade": _grade,
    "sensors": _flag,
}
_SCOPE = frozenset({"stations", "reaches", "waters", "regions", "hours", "on_days", "months"})
_DEFAULTS: dict[str, Any] = {
    "samples": 3,
    "clear": None,
    "clear_per_hour": None,
    "clear_share": None,
    "bins": 12,
    "min_bins": 8,
    "intervals": 3.0,
    "at_least_s": 60,
    "over_s": 3600,
    "share": 0.3,
    "days": 2,
    "past_days": 7,
    "least": 0.0,
}
MAX_DURATION_S = 366 * DAY_S
_WHOLE_NUMBERS = {
    "samples": 1,
    "pending_s": 0,
    "keep_firing_s": 0,
    "flaps": 0,
    "flap_window_s": 60,
    "hold_s": 0,
    "window_s": 60,
    "over_s": 60,
    "bins": 3,
    "min_bins": 3,
    "at_least_s": 1,
    "days": 1,
    "past_days": 3,
    "min_hours": 6,
}
_MAXIMUM = {"samples": MAX_SAMPLES, "bins": 200, "days": 14, "past_days": 60, "min_hours": 24, "flaps": 100}
_RANGE = {"margin": (0.0, 0.5), "share": (0.01, 0.95), "clear_share": (0.01, 1.0), "significance": (1e-6, 1.0)}
_RANGE |= {"confidence": (0.0, 1.0), "least": (0.0, math.inf)}


def _where(row: Mapping[str, Any]) -> Scope:
    lists = {name: _names(name, row.get(name, [])) for name in ("stations", "reaches", "waters", "regions")}
    return Scope(lists["stations"], lists["reaches"], tuple(Water(w) for w in lists["waters"]), lists["regions"])


def _check_consistency(rule: Rule) -> None:
    if isinstance(rule, Threshold) and rule.side.sign * (rule.clear - rule.limit) > 0:
        raise ConfigurationError(say("rule.clear_wrong", clear=rule.clear, limit=rule.limit))
    if isinstance(rule, Trend) and rule.min_bins > rule.bins:
        raise ConfigurationError(say("rule.bins_wrong", min_bins=rule.min_bins, bins=rule.bins))
    if isinstance(rule, Trend) and rule.season is not Season.NONE:
        period_s = DAY_S if rule.season is Season.DAY else TIDE_PERIOD_S
        if rule.window_s < 3 * period_s or 2 * rule.window_s > period_s * rule.bins:
            values = {"season": rule.season, "window": 3 * period_s, "bin": period_s // 2}
            raise ConfigurationError(say("rule.season_needs", **values))
    if isinstance(rule, Trend | Rate) and not 0 < rule.clear_per_hour <= rule.per_hour:
        raise ConfigurationError(say("rule.clear_slope", clear_per_hour=rule.clear_per_hour))
    if isinstance(rule, LimitRule) and rule.flaps == 1:
        raise ConfigurationError(say("rule.flaps_one"))
    if isinstance(rule, DailyPattern) and rule.clear_share < rule.share:
        raise ConfigurationError(say("rule.clear_share", clear_share=rule.clear_share, share=rule.share))
    if isinstance(rule, NoData) and rule.intervals < 1.5:
        raise ConfigurationError(say("rule.intervals_low", intervals=rule.intervals))
