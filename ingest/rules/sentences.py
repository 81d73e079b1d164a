"""What a finding says: one sentence in each language, with the numbers it rests on."""

from collections.abc import Mapping
from math import isfinite

from governance.incidents.headline import Headline, Row
from infra.texts import Text, say
from infra.times import beijing
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
    Watched,
)
from sensors.parameters import Catalogue, Parameter
from sensors.quality.detectors.cross_parameter import PARTNERS
from sensors.standards import gb3838
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Station


def name(station: Station) -> Text:
    return Text(station.zh, station.en)


def duration(ms: int) -> Text:
    if ms >= 3_600_000:
        hours = f"{round(ms / 3_600_000, 1):g}"
        return Text(f"{hours}小时", f"{hours} h")
    if ms >= 60_000:
        minutes = f"{round(ms / 60_000, 1):g}"
        return Text(f"{minutes}分钟", f"{minutes} min")
    return Text(f"{ms // 1000}秒", f"{ms // 1000} s")


def parameter(one: Parameter) -> Text:
    return Text(one.zh, one.en)


def reading(
    rule: Watched,
    bound: Bound,
    station: Station,
    turn: Transition,
    shown: Parameter,
    value: float,
    target: WaterClass | None = None,
) -> Text:
    """Of a rule about readings: what fired or ended. ``value`` is what was measured (a trend's last mean, a day's
    swing), ``turn.value`` what was compared."""
    values: dict[str, object] = {
        "station": name(station),
        "parameter": parameter(shown),
        "at": _when(turn, turn.at_ms, turn.since_ms),
    }
    match rule:
        case Trend():
            return _trend(rule, turn, shown, value, values)
        case Rate():
            return _held(turn, _rate(rule, turn, shown, value, values))
        case DailyPattern():
            share = f"{100 * turn.value:.0f} %"
            values |= {"share": share, "swing": shown.show(value)}
            if not turn.fired:
                return say("finding.pattern_back", **values)
            return say("finding.pattern_lost", limit=f"{100 * rule.share:.0f} %", count=turn.count, **values)
    limit = bound.crossed(turn.value)
    named = _standard(shown.key, station, bound, limit) if isinstance(rule, Threshold) and turn.fired else _NOTHING
    said_limit = Text(f"{shown.show(limit)}{named.zh}", f"{shown.show(limit)}{named.en}")
    values |= {"value": shown.show(turn.value), "limit": said_limit}
    if not turn.fired:
        return say("finding.back", held=duration(turn.at_ms - turn.since_ms), **values)
    above = turn.value > limit
    said = say(
        "finding.above" if above else "finding.below",
        samples=turn.count,
        since=_when(turn, turn.since_ms, turn.at_ms),
        **values,
    )
    match rule:
        case ClassExceeded():
            said = say("finding.class_exceeded", said=said, water_class=class_name(rule.worse_than))
        case TargetMissed() if target is not None:
            said = say("finding.target_missed", said=said, water_class=class_name(target))
        case BlackOdorous():
            said = say("finding.black_odorous", said=said, grade=Text(rule.grade.zh, rule.grade.en))
    return _held(turn, said)


_NOTHING = Text("", "")


def headline(
    rule: Watched, bound: Bound, station: Station, turn: Transition, shown: Parameter, value: float, *, doubtful: bool
) -> Headline:
    """What a finding of a rule about readings is about; the values are those of `reading`."""
    compared = value if isinstance(rule, Trend | Rate) else turn.value
    rows: tuple[Row, ...] = (Row(shown.key, compared),)
    match rule:
        case Trend():
            matter = say("headline.rises" if rule.side is Side.ABOVE else "headline.falls")
        case Rate():
            matter = say("headline.jumps" if rule.side is Side.ABOVE else "headline.drops")
        case DailyPattern():
            matter, rows = say("headline.pattern_lost", parameter=parameter(shown)), ()
        case BlackOdorous():
            matter, rows = (
                Text(rule.grade.zh, rule.grade.en),
                (Row(shown.key, compared, limit=bound.crossed(compared)),),
            )
        case _:
            matter, rows = _NOTHING, (Row(shown.key, compared, limit=bound.crossed(compared)),)
    if doubtful:
        matter = say("headline.doubtful", matter=matter) if matter != _NOTHING else say("headline.doubted")
    return Headline(name(station), matter, rows, station.key, station.water)


def _standard(parameter: str, station: Station, bound: Bound, limit: float) -> Text:
    """Whose limit it is, where GB 3838-2002 has that very number for this water on this side."""
    found, direction = gb3838.limits(parameter, gb3838.Water.of(station.water)), gb3838.direction(parameter)
    if found is None or limit not in found:
        return _NOTHING
    if direction is gb3838.Direction.WITHIN:
        return say("finding.standard")
    if (bound.sign > 0) is not (direction is gb3838.Direction.AT_MOST):
        return _NOTHING
    return say("finding.standard_class", water_class=class_name(WaterClass(len(found) - found[::-1].index(limit))))


def doubted(said: Text, one: Parameter, station: Station, catalogue: Catalogue) -> Text:
    """With what the deciding reading contradicts, as far as the station measures it, or what its days do."""
    keys = [key for key in PARTNERS.get(one.key, ()) if not station.parameters or key in station.parameters]
    others = [catalogue[key] for key in keys if key in catalogue]
    names = Text("、".join(o.zh for o in others), " or ".join(o.en for o in others))
    if isfinite(one.swing) or isfinite(one.near):
        key = "finding.doubted_either" if others else "finding.doubted_days"
        return say(key, said=said, others=names)
    return say("finding.doubted", said=said, others=names if others else say("finding.others"))


def _held(turn: Transition, said: Text) -> Text:
    return say("finding.held", said=said, count=turn.held) if turn.fired and turn.held else said


def class_name(one: WaterClass) -> Text:
    return Text(f"{one.sign}类", f"class {one.roman}")


def _rate(rule: Rate, turn: Transition, shown: Parameter, value: float, values: Mapping[str, object]) -> Text:
    if not turn.fired:
        return say("finding.steady", slope=_slope(turn.value, shown), **values)
    key = "finding.jumped" if rule.side is Side.ABOVE else "finding.dropped"
    return say(
        key,
        slope=_slope(turn.value, shown),
        limit=_slope(rule.per_hour, shown),
        value=shown.show(value),
        window=duration(rule.over_s * 1000),
        samples=turn.count,
        **values,
    )


def _trend(rule: Trend, turn: Transition, shown: Parameter, value: float, values: Mapping[str, object]) -> Text:
    slope = _slope(turn.value, shown)
    if not turn.fired:
        return say("finding.steady", slope=slope, **values)
    key = "finding.rising" if rule.side is Side.ABOVE else "finding.falling"
    span, limit = duration(rule.window_s * 1000), _slope(rule.per_hour, shown)
    return say(key, slope=slope, window=span, value=shown.show(value), limit=limit, count=rule.bins, **values)


def _slope(per_hour: float, parameter: Parameter) -> str:
    """One decimal more than the values have: a slope an hour is small beside them."""
    number = f"{abs(per_hour):.{parameter.decimals + 1}f}"
    return number if parameter.unit == "1" else f"{number} {parameter.unit}"


def _when(turn: Transition, at_ms: int, beside_ms: int) -> str:
    """With the year where the past is spoken of, and the seconds where the minute is that of ``beside_ms``."""
    seconds = ":%S" if at_ms != beside_ms and at_ms // 60_000 == beside_ms // 60_000 else ""
    return beijing(at_ms, ("%Y-%m-%d %H:%M" if turn.past else "%m-%d %H:%M") + seconds)
