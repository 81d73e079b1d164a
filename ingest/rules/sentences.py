"""The texts of findings: one sentence in each language with the numbers it rests on, and the headline."""

from collections.abc import Mapping
from math import isfinite

from governance.incidents.headline import Headline, Row
from infra.texts import Text, say
from infra.times import beijing
from ingest.rules.bound_rule import BoundRule
from ingest.rules.condition import Transition
from ingest.rules.model import (
    BlackOdorous,
    Bound,
    ClassExceeded,
    DailyPattern,
    Rate,
    Side,
    TargetMissed,
    Threshold,
    Trend,
)
from sensors.parameters import Catalogue, Parameter
from sensors.quality.detectors.cross_parameter import CONTRADICTING_PARAMETERS
from sensors.standards import gb3838
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Station

_EMPTY = Text("", "")


# -- names and numbers -------------------------------------------------------------------------------------------------


def station_name(station: Station) -> Text:
    return Text(station.zh, station.en)


def parameter_name(one: Parameter) -> Text:
    return Text(one.zh, one.en)


def class_name(one: WaterClass) -> Text:
    return Text(f"{one.sign}类", f"class {one.roman}")


def duration_text(ms: int) -> Text:
    """Hours, minutes or seconds, with one decimal at most."""
    if ms >= 3_600_000:
        hours = f"{round(ms / 3_600_000, 1):g}"
        return Text(f"{hours}小时", f"{hours} h")
    if ms >= 60_000:
        minutes = f"{round(ms / 60_000, 1):g}"
        return Text(f"{minutes}分钟", f"{minutes} min")
    return Text(f"{ms // 1000}秒", f"{ms // 1000} s")


def _rate_per_hour(per_hour: float, parameter: Parameter) -> str:
    """A rate with one decimal more than the values have, since it is small beside them."""
    number = f"{abs(per_hour):.{parameter.decimals + 1}f}"
    return number if parameter.unit == "1" else f"{number} {parameter.unit}"


def _instant(transition: Transition, at_ms: int, other_ms: int) -> str:
    """With the year for late data, and with seconds where ``other_ms`` lies in the same minute."""
    seconds = ":%S" if at_ms != other_ms and at_ms // 60_000 == other_ms // 60_000 else ""
    return beijing(at_ms, ("%Y-%m-%d %H:%M" if transition.retrospective else "%m-%d %H:%M") + seconds)


# -- findings of rules about one series --------------------------------------------------------------------------------


def series_text(one: BoundRule, transition: Transition, measured: float, target: WaterClass | None = None) -> Text:
    """The sentence of a condition that fired or ended.

    ``measured`` is the reading, the last mean of a trend, or the swing of a day; ``transition.value`` is what was
    compared with the limit. ``target`` is the target class of the station's reach.
    """
    values: dict[str, object] = {
        "station": station_name(one.station),
        "parameter": parameter_name(one.parameter),
        "at": _instant(transition, transition.at_ms, transition.since_ms),
    }
    match one.rule:
        case Trend():
            return _slope_text(one.rule, transition, one.parameter, measured, values)
        case Rate():
            return _with_flapping(transition, _slope_text(one.rule, transition, one.parameter, measured, values))
        case DailyPattern():
            return _pattern_text(one.rule, transition, one.parameter, measured, values)
    return _with_flapping(transition, _limit_text(one, transition, target, values))


def _limit_text(
    one: BoundRule, transition: Transition, target: WaterClass | None, values: Mapping[str, object]
) -> Text:
    limit = one.bound.crossed(transition.value)
    shown_limit = one.parameter.show(limit)
    source = (
        _limit_source(one.parameter.key, one.station, one.bound, limit)
        if isinstance(one.rule, Threshold) and transition.fired
        else _EMPTY
    )
    values = {
        **values,
        "value": one.parameter.show(transition.value),
        "limit": Text(f"{shown_limit}{source.zh}", f"{shown_limit}{source.en}"),
    }
    if not transition.fired:
        return say("finding.back", held=duration_text(transition.at_ms - transition.since_ms), **values)
    text = say(
        "finding.above" if transition.value > limit else "finding.below",
        samples=transition.count,
        since=_instant(transition, transition.since_ms, transition.at_ms),
        **values,
    )
    match one.rule:
        case ClassExceeded():
            return say("finding.class_exceeded", text=text, water_class=class_name(one.rule.worse_than))
        case TargetMissed() if target is not None:
            return say("finding.target_missed", text=text, water_class=class_name(target))
        case BlackOdorous():
            return say("finding.black_odorous", text=text, grade=one.rule.grade.text)
    return text


def _limit_source(parameter: str, station: Station, bound: Bound, limit: float) -> Text:
    """The class of GB 3838-2002 that has this very limit for this water on this side; empty where none has."""
    limits, direction = gb3838.limits(parameter, gb3838.Water.of(station.water)), gb3838.direction(parameter)
    if limits is None or limit not in limits:
        return _EMPTY
    if direction is gb3838.Direction.WITHIN:
        return say("finding.standard")
    if (bound.sign > 0) is not (direction is gb3838.Direction.AT_MOST):
        return _EMPTY
    return say("finding.standard_class", water_class=class_name(WaterClass(len(limits) - limits[::-1].index(limit))))


def _slope_text(
    rule: Rate | Trend, transition: Transition, shown: Parameter, measured: float, values: Mapping[str, object]
) -> Text:
    slope = _rate_per_hour(transition.value, shown)
    if not transition.fired:
        return say("finding.steady", slope=slope, **values)
    above = rule.side is Side.ABOVE
    if isinstance(rule, Rate):
        key, window_s, over = (
            "finding.jumped" if above else "finding.dropped",
            rule.over_s,
            {"samples": transition.count},
        )
    else:
        key, window_s, over = "finding.rising" if above else "finding.falling", rule.window_s, {"count": rule.bins}
    return say(
        key,
        slope=slope,
        limit=_rate_per_hour(rule.per_hour, shown),
        value=shown.show(measured),
        window=duration_text(window_s * 1000),
        **over,
        **values,
    )


def _pattern_text(
    rule: DailyPattern, transition: Transition, shown: Parameter, measured: float, values: Mapping[str, object]
) -> Text:
    values = {**values, "share": f"{100 * transition.value:.0f} %", "swing": shown.show(measured)}
    if not transition.fired:
        return say("finding.pattern_back", **values)
    return say("finding.pattern_lost", limit=f"{100 * rule.share:.0f} %", count=transition.count, **values)


def _with_flapping(transition: Transition, text: Text) -> Text:
    return (
        say("finding.flapping", text=text, count=transition.flap_count)
        if transition.fired and transition.flap_count
        else text
    )


def series_headline(one: BoundRule, transition: Transition, measured: float, *, doubtful: bool) -> Headline:
    """The headline of a condition that fired; arguments as for :func:`series_text`."""
    compared = measured if isinstance(one.rule, Trend | Rate) else transition.value
    rows: tuple[Row, ...] = (Row(one.parameter.key, compared),)
    matter = _EMPTY
    match one.rule:
        case Trend():
            matter = say("headline.rises" if one.rule.side is Side.ABOVE else "headline.falls")
        case Rate():
            matter = say("headline.jumps" if one.rule.side is Side.ABOVE else "headline.drops")
        case DailyPattern():
            matter, rows = say("headline.pattern_lost", parameter=parameter_name(one.parameter)), ()
        case _:
            rows = (Row(one.parameter.key, compared, limit=one.bound.crossed(compared)),)
            if isinstance(one.rule, BlackOdorous):
                matter = one.rule.grade.text
    if doubtful:
        matter = say("headline.doubtful", matter=matter) if matter != _EMPTY else say("headline.doubtful_reading")
    return Headline(station_name(one.station), matter, rows, one.station.key, one.station.water, doubtful=doubtful)


def with_contradiction(text: Text, one: Parameter, station: Station, catalogue: Catalogue) -> Text:
    """The sentence with what contradicts the deciding reading: other parameters of the station, or other days."""
    keys = [
        key for key in CONTRADICTING_PARAMETERS.get(one.key, ()) if not station.parameters or key in station.parameters
    ]
    others = [catalogue[key] for key in keys if key in catalogue]
    names = Text("、".join(o.zh for o in others), " or ".join(o.en for o in others))
    if isfinite(one.swing) or isfinite(one.near):
        key = "finding.contradicted_or_departing" if others else "finding.departing"
        return say(key, text=text, others=names)
    return say("finding.contradicted", text=text, others=names if others else say("finding.other_parameters"))


def disproved_text(one: BoundRule, transition: Transition, reason: Text) -> Text:
    """The sentence of an exceedance that its corrected readings no longer show; ``reason`` says who changed them."""
    shown = one.parameter.show(transition.value)
    return say(
        "finding.disproved",
        station=station_name(one.station),
        parameter=parameter_name(one.parameter),
        since=beijing(transition.since_ms, "%Y-%m-%d %H:%M"),
        value=_EMPTY if one.is_derived else Text(f"（{shown}）", f" ({shown})"),
        reason=reason,
    )
