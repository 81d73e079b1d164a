"""What a finding says: one sentence in each language, with the numbers it rests on."""

from ingest.checks.condition import Turn
from ingest.checks.rules import Side, Threshold, Trend
from sensors.parameters import Catalogue, Parameter
from sensors.stations import Station
from sensors.texts import Text, say
from sensors.times import beijing


def name(station: Station) -> Text:
    return Text(station.zh, station.en)


def duration(ms: int) -> Text:
    if ms >= 3_600_000:
        return Text(f"{ms / 3_600_000:g}小时", f"{ms / 3_600_000:g} h")
    if ms >= 60_000:
        return Text(f"{ms / 60_000:g}分钟", f"{ms / 60_000:g} min")
    return Text(f"{ms // 1000}秒", f"{ms // 1000} s")


def threshold(rule: Threshold, station: Station, turn: Turn, catalogue: Catalogue) -> Text:
    parameter = catalogue[rule.parameter]
    values: dict[str, object] = {
        "station": name(station),
        "parameter": Text(parameter.zh, parameter.en),
        "value": parameter.show(turn.value),
        "limit": parameter.show(rule.limit),
        "at": _when(turn, turn.at_ms),
    }
    if not turn.fired:
        return say("finding.back", held=duration(turn.at_ms - turn.since_ms), **values)
    key = "finding.above" if rule.side is Side.ABOVE else "finding.below"
    return say(key, samples=turn.count, since=_when(turn, turn.since_ms), **values)


def trend(rule: Trend, station: Station, turn: Turn, parameter: Parameter, value: float) -> Text:
    """``turn.value`` is the slope an hour; ``value`` what the parameter stood at."""
    values: dict[str, object] = {
        "station": name(station),
        "parameter": Text(parameter.zh, parameter.en),
        "slope": _slope(turn.value, parameter),
        "at": _when(turn, turn.at_ms),
    }
    if not turn.fired:
        return say("finding.steady", **values)
    key = "finding.rising" if rule.side is Side.ABOVE else "finding.falling"
    span, limit = duration(rule.window_s * 1000), _slope(rule.per_hour, parameter)
    return say(key, window=span, value=parameter.show(value), limit=limit, count=rule.bins, **values)


def _slope(per_hour: float, parameter: Parameter) -> str:
    """One decimal more than the values have: a slope an hour is small beside them."""
    number = f"{abs(per_hour):.{parameter.decimals + 1}f}"
    return number if parameter.unit == "1" else f"{number} {parameter.unit}"


def _when(turn: Turn, at_ms: int) -> str:
    """With the year where the past is spoken of."""
    return beijing(at_ms, "%Y-%m-%d %H:%M" if turn.past else "%m-%d %H:%M")
