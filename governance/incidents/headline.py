"""Headline of an incident: place, matter and rows of evidence, and the titles and tables made of them. Pure.

A title is made when it is read, in the reader's language and with the present value. What does not fit into a title is
in the rows of evidence.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor, isfinite, log10
from typing import Any, Final

from infra.texts import Text, say
from sensors.parameters import Parameter, catalogue
from sensors.standards import gb3838
from sensors.standards.gb3838 import Direction, Water, WaterClass

TITLE_MAX_CHARS: Final[Mapping[str, int]] = {"zh": 40, "en": 80}
"""Characters of a title. A Chinese character is as wide as two Latin letters: both fill the same line."""
WALL_MAX_CHARS: Final[Mapping[str, int]] = {"zh": 40, "en": 40}
"""Characters of a title on the large screen, where two lines of large letters must hold it in either language."""
MIN_PART_CHARS: Final[Mapping[str, Mapping[str, int]]] = {
    "zh": {"place": 5, "matter": 6, "water_class": 0, "between": 0},
    "en": {"place": 16, "matter": 24, "water_class": 0, "between": 0},
}
"""Characters of a part that are kept while another part can still be cut."""
MIN_CUT_CHARS: Final = 3
"""A part cut to fewer characters is left out."""
MAX_DIGITS: Final = 3
"""Significant digits of a value in a title, unless the catalogue shows fewer decimals."""
NO_TEXT: Final = Text("", "")


@dataclass(frozen=True, slots=True)
class Row:
    """One parameter of the evidence, in canonical units; None where it is not known or does not apply.

    ``value`` decided, ``before`` is the median before it, ``times_usual`` how many times its usual move it made
    (negative: downwards), ``limit`` what it was compared with.
    """

    parameter: str
    value: float | None = None
    before: float | None = None
    times_usual: float | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Headline:
    """Place, matter and evidence of a finding.

    ``matter`` is what happened, empty where parameter and value say it. The first of ``rows`` is the one that a title
    shows, measured at ``station``. ``water`` is the station's kind of water, by which a value has a class.
    ``confidence`` (0 to 1), ``score`` and ``threshold`` are the event detector's, ``event`` is the key of the likely
    cause it names. ``doubtful``: the rule or the detector was not sure that it is the water.
    """

    place: Text
    matter: Text = NO_TEXT
    rows: tuple[Row, ...] = ()
    station: str = ""
    water: str = Water.RIVER
    confidence: float | None = None
    score: float | None = None
    threshold: float | None = None
    event: str = ""
    doubtful: bool = False

    @property
    def lead(self) -> Row | None:
        """The row that a title shows."""
        return self.rows[0] if self.rows else None

    @property
    def leading(self) -> tuple[str, str] | None:
        """Station and parameter of the value that a title shows."""
        return None if self.lead is None else (self.station, self.lead.parameter)

    def at(self, present: float | None) -> "Headline":
        """The headline with this value of the lead parameter instead of the deciding one."""
        if self.lead is None or present is None or not isfinite(present):
            return self
        return replace(
            self, rows=(replace(self.lead, value=present, limit=_limit(self.lead, self.water)), *self.rows[1:])
        )

    def as_json(self) -> dict[str, Any]:
        """The headline as JSON; unknown values are left out."""
        found: dict[str, Any] = {"place": _languages(self.place)}
        if self.matter != NO_TEXT:
            found["matter"] = _languages(self.matter)
        if self.rows:
            found |= {"station": self.station, "water": str(self.water)}
            found["rows"] = [
                _fields_of(row, ("parameter", "value", "before", "times_usual", "limit")) for row in self.rows
            ]
        if self.event:
            found["event"] = self.event
        if self.doubtful:
            found["doubtful"] = True
        return found | _fields_of(self, ("confidence", "score", "threshold"))


def headline_from_json(found: Mapping[str, Any] | None) -> Headline | None:
    """The headline that `Headline.as_json` wrote; None for none."""
    if not found:
        return None
    return Headline(
        place=Text(**found["place"]),
        matter=Text(**found["matter"]) if "matter" in found else NO_TEXT,
        rows=tuple(Row(**row) for row in found.get("rows", ())),
        station=found.get("station", ""),
        water=found.get("water", Water.RIVER),
        confidence=found.get("confidence"),
        score=found.get("score"),
        threshold=found.get("threshold"),
        event=found.get("event", ""),
        doubtful=found.get("doubtful", False),
    )


def worst_first(rows: Iterable[Row], water: str) -> tuple[Row, ...]:
    """The rows with the one of the worst class first, the order of the others kept."""
    ordered = list(rows)
    if ordered:
        worst = max(ordered, key=lambda row: class_of(row, water) or 0)  # the first of equals
        ordered.remove(worst)
        ordered.insert(0, worst)
    return tuple(ordered)


def class_of(row: Row, water: str) -> WaterClass | None:
    """The class of a row's value by GB 3838-2002; None where the standard has none."""
    kind = Water.of(water)
    if row.value is None or gb3838.limits(row.parameter, kind) is None:
        return None
    return gb3838.judge({row.parameter: row.value}, kind).water_class


def format_value(value: float, parameter: Parameter) -> str:
    """A value as text: ``MAX_DIGITS`` significant digits, and no more decimals than the catalogue shows."""
    if not isfinite(value) or abs(value) >= 1e12:
        return f"{value:g}"
    order = floor(log10(abs(value))) if value else 0
    decimals = MAX_DIGITS - 1 - order
    return f"{round(value, decimals):.{max(0, min(decimals, parameter.decimals))}f}"


def format_limit(value: float) -> str:
    """A limit as standards print it: 2.0, 0.05, 15."""
    return f"{value:.1f}" if value == round(value) and abs(value) < 10 else f"{value:g}"


# -- in words ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TitleParts:
    """The parts of a title in one language; what is "" is left out. ``between`` stands before the value, which is
    never cut."""

    place: str
    matter: str
    value: str
    water_class: str
    limit: str
    between: str = " · "


def title_parts(headline: Headline, language: str) -> TitleParts:
    """The parts of a title in one language."""

    def of(text: Text) -> str:
        return text.en if language == "en" else text.zh

    lead = headline.lead
    shown = _parameter(lead.parameter) if lead is not None else None
    if lead is None or lead.value is None or shown is None:
        return TitleParts(of(headline.place), of(headline.matter), "", "", "")
    judged = class_of(lead, headline.water)
    limit = _limit(lead, headline.water)
    unit = "" if judged is not None or shown.unit == "1" else f" {shown.unit}"
    value = say("headline.value", parameter=Text(shown.zh, shown.en), value=format_value(lead.value, shown) + unit)
    return TitleParts(
        of(headline.place),
        of(headline.matter),
        of(value),
        "" if judged is None else of(say(f"headline.class_{judged.value}")),
        "" if limit is None else of(say("headline.limit", limit=format_limit(limit))),
    )


LIST_ORDER: Final = (("limit", False), ("water_class", False), ("place", True), ("matter", False), ("place", False))
"""Order of cutting in a list, where rows are distinguished by their places."""
MESSAGE_ORDER: Final = (
    ("limit", False),
    ("between", True),
    ("water_class", True),
    ("place", True),
    ("matter", True),
    ("water_class", False),
    ("matter", False),
    ("place", False),
)
"""Order of cutting in a message, where the class says how bad it is."""
_SHORTENED_PARTS: Final = frozenset({"place", "matter"})
"""Parts of which a beginning can be kept."""


def joined_parts(parts: TitleParts, language: str) -> str:
    """The parts as one line."""
    comma, left, right, colon = (", ", " (", ")", ": ") if language == "en" else ("，", "（", "）", " ")
    bracket = comma.join(one for one in (parts.water_class, parts.limit) if one)
    value = f"{parts.value}{left}{bracket}{right}" if parts.value and bracket else parts.value
    what = parts.between.join(one for one in (parts.matter, value) if one)
    return colon.join(one for one in (parts.place, what) if one)


def fitted(parts: TitleParts, language: str, room: int, *, order: Sequence[tuple[str, bool]] = LIST_ORDER) -> str:
    """One line of at most ``room`` characters. What does not fit is cut by ``order``: (part, whether some of it stays
    for now); the value is never cut."""
    for part, some in order:
        whole, over = getattr(parts, part), len(joined_parts(parts, language)) - room
        if over <= 0:
            break
        left = max(MIN_PART_CHARS[language][part] if some else 0, len(whole) - over)
        if part in _SHORTENED_PARTS:
            parts = replace(parts, **{part: truncated(whole, left) if left >= MIN_CUT_CHARS else ""})
        else:
            parts = replace(parts, **{part: whole.strip().removesuffix("类") if some else ""})
    return joined_parts(parts, language)


def truncated(text: str, room: int) -> str:
    """The text, its end replaced by … where it is longer than ``room``."""
    return text if len(text) <= room else text[: max(0, room - 1)].rstrip() + "…"[: max(0, room)]


def title(headline: Headline, present: float | None = None, most_chars: Mapping[str, int] = TITLE_MAX_CHARS) -> Text:
    """The title of at most ``most_chars`` in each language; ``present`` is the lead parameter's value now."""
    now = headline.at(present)
    return Text(*(fitted(title_parts(now, language), language, most_chars[language]) for language in ("zh", "en")))


def summary(headline: Headline) -> tuple[Text, ...]:
    """The parts of a second line: how many parameters changed, and the confidence."""
    found = []
    if headline.confidence is not None:
        if len(headline.rows) > 1:
            found.append(say("headline.changed", count=len(headline.rows)))
        found.append(say("headline.confidence", confidence=round(100 * headline.confidence)))
    return tuple(found)


def table(headline: Headline) -> list[tuple[Text, Text, Text, Text, Text]]:
    """The rows of evidence as text: parameter, before, value, multiple of the usual move, limit; — where unknown."""
    rows = []
    for row in headline.rows:
        shown = _parameter(row.parameter)
        name = Text(shown.zh, shown.en) if shown else Text(row.parameter, row.parameter)
        judged = class_of(row, headline.water)
        value = _formatted_value(row.value, shown)
        if judged is not None:
            value = Text(
                f"{value.zh}（{say(f'headline.class_{judged.value}').zh}）",
                f"{value.en} ({say(f'headline.class_{judged.value}').en})",
            )
        times = UNKNOWN_VALUE if row.times_usual is None else say("headline.times", times=f"{abs(row.times_usual):.1f}")
        rows.append((name, _formatted_value(row.before, shown), value, times, _formatted_value(row.limit, shown)))
    return rows


UNKNOWN_VALUE: Final = Text("—", "—")
COLUMNS: Final = ("parameter", "before", "value", "times", "limit")
"""Columns of `table`."""


def _parameter(key: str) -> Parameter | None:
    parameters = catalogue()
    return parameters[key] if key in parameters.index else None


def _formatted_value(value: float | None, parameter: Parameter | None) -> Text:
    if value is None:
        return UNKNOWN_VALUE
    text = f"{value:g}" if parameter is None else format_value(value, parameter)
    unit = "" if parameter is None or parameter.unit == "1" else f" {parameter.unit}"
    return Text(text + unit, text + unit)


def _limit(row: Row, water: str) -> float | None:
    """The limit in a title: that of the standard which the deciding value crossed, else that of the rule."""
    found = gb3838.limits(row.parameter, Water.of(water))
    if found is None or row.value is None or row.limit in found:
        return row.limit
    if gb3838.direction(row.parameter) is Direction.WITHIN:
        low, high = found
        return low if row.value < low else high if row.value > high else row.limit
    judged = class_of(row, water)
    return row.limit if judged is None or judged is WaterClass.I else found[judged - 2]


def _languages(text: Text) -> dict[str, str]:
    return {"zh": text.zh, "en": text.en}


def _fields_of(one: object, names: Sequence[str]) -> dict[str, Any]:
    values = {name: getattr(one, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}
