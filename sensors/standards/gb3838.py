"""GB 3838-2002 地表水环境质量标准: the class of a sample.

The limits stand in ``gb3838.toml`` beside this module. The method is the standard's single factor (单因子评价,
clause 5.1): the worst class among the evaluated parameters is the class of the water, and what is not measured says
nothing. All values are in the catalogue's canonical units. Differences between published classes and the text are
noted where they matter:

- the limit itself belongs to the better class; published real-time classes follow *unrounded* values, so values are
  judged as given, and rounding to the decimals of the standard is an option for reports;
- pH inside 6 to 9 counts as class I, outside as worse than V (98 % of published rows agree);
- dissolved oxygen is judged by mg/L; the 90 % saturation the standard allows for class I is an option;
- total nitrogen has limits for lakes only; published classes of rivers leave it out, and so do we.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from enum import IntEnum, StrEnum
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from infra import toml_text
from infra.errors import ConfigurationError
from infra.texts import say
from sensors.parameters import catalogue
from sensors.reading import Bits, Bools, Floats
from sensors.standards import oxygen

Classes = NDArray[np.int8]
"""Classes 1 to 6 as in :class:`WaterClass`; 0 = cannot be judged."""

_TABLE: Final[dict[str, Any]] = toml_text.shipped("sensors.standards", "gb3838.toml")


class Water(StrEnum):
    """The two kinds of water body of table 1; a creek is judged as a river."""

    RIVER = "river"
    LAKE = "lake"

    @classmethod
    def of(cls, kind: str) -> Self:
        """The column of table 1 for a station's kind of water (river, creek or lake)."""
        return cls("river" if kind == "creek" else kind)


class Direction(StrEnum):
    """On which side of its limit a value is in the class."""

    AT_MOST = "at_most"
    AT_LEAST = "at_least"
    WITHIN = "within"


class Oxygen(StrEnum):
    """How oxygen reaches class I: by 7.5 mg/L alone (published practice), or by 90 % saturation, too."""

    MG_L = "mg_l"
    SATURATION = "saturation"


class Condition(StrEnum):
    """水质状况: what a class is called in reports."""

    EXCELLENT = "excellent"
    GOOD = "good"
    LIGHT = "light"
    MODERATE = "moderate"
    HEAVY = "heavy"

    @property
    def zh(self) -> str:
        return str(_TABLE["conditions"][self.value]["zh"])

    @property
    def en(self) -> str:
        return str(_TABLE["conditions"][self.value]["en"])


class WaterClass(IntEnum):
    """Class of water, better first; WORSE is 劣Ⅴ, worse than class V."""

    I = 1  # noqa: E741 - the standard's own name
    II = 2
    III = 3
    IV = 4
    V = 5
    WORSE = 6

    @classmethod
    def of(cls, text: str | int) -> Self:
        """The class written as a number, "III", "Ⅲ", "Ⅲ类", ">V" or "劣Ⅴ"; raises ConfigurationError for others."""
        spelled = str(text).strip().removesuffix("类").strip()
        for one in cls:
            if spelled.casefold() in {str(one.value), one.roman.casefold(), one.sign.casefold(), one.name.casefold()}:
                return one
        if spelled.casefold() in {"劣v", "worse than v"}:
            return cls(cls.WORSE)
        raise ConfigurationError(say("registry.no_class", text=text))

    @property
    def roman(self) -> str:
        """I, II, III, IV, V or >V."""
        return ">V" if self is WaterClass.WORSE else self.name

    @property
    def sign(self) -> str:
        """Ⅰ, Ⅱ, Ⅲ, Ⅳ, Ⅴ or 劣Ⅴ."""
        return str(_TABLE["classes"][self.name]["sign"])

    @property
    def condition(self) -> Condition:
        return Condition(_TABLE["classes"][self.name]["condition"])

    @property
    def zh(self) -> str:
        """The condition in Chinese: 优, 良好, 轻度污染, 中度污染, 重度污染."""
        return self.condition.zh

    @property
    def en(self) -> str:
        """The condition in English."""
        return self.condition.en

    @property
    def colour(self) -> str:
        """Hex colour of maps and charts: two blues, green, yellow, orange, red."""
        return str(_TABLE["classes"][self.name]["colour"])


@dataclass(frozen=True, slots=True)
class Below:
    """A value below the detection limit (0.05L: not detected at 0.05), in the parameter's canonical unit."""

    limit: float


Value = float | Below
"""A measured value, or what is known when nothing was detected; NaN where missing."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of table 1: limits of I to V for each kind of water, or the closed pair of pH; None where there is none."""

    key: str
    direction: Direction
    river: tuple[float, ...] | None
    lake: tuple[float, ...] | None
    decimals: int | None
    national: bool

    def limits(self, water: Water) -> tuple[float, ...] | None:
        return self.river if water is Water.RIVER else self.lake


def _row(key: str, row: Mapping[str, Any]) -> Row:
    def of(water: str) -> tuple[float, ...] | None:
        numbers = row.get(water, row.get("classes"))
        return None if numbers is None else tuple(float(x) for x in numbers)

    return Row(key, Direction(row["limit"]), of("river"), of("lake"), row.get("decimals"), row.get("national", True))


ROWS: Final[dict[str, Row]] = {key: _row(key, row) for key, row in _TABLE["limits"].items()}

PARAMETERS: Final[tuple[str, ...]] = tuple(ROWS)
"""All parameters with a class, in the order of table 1; the position is the bit in every bit set of this module."""

NATIONAL: Final[tuple[str, ...]] = tuple(key for key, row in ROWS.items() if row.national)
"""The 21 items of the ministry's statistics: table 1 without water temperature, total nitrogen, faecal coliform."""

REAL_TIME: Final[tuple[str, ...]] = ("ph", "do", "codmn", "nh3n", "tp")
"""The set of automatic stations that real-time publications judge by (recomputed from published rows)."""

WITHOUT_MULTIPLE: Final = frozenset({"ph", "do"})
"""No exceedance multiple is computed for these (nor for water temperature, which has no class)."""

SATURATION_OF_CLASS_I: Final = 0.9


def evaluated(water: Water) -> tuple[str, ...]:
    """What is judged when nothing else is asked for: every row that table 1 has limits for in this water.

    The ministry's statistics leave total nitrogen (of lakes) and faecal coliform out of the class: pass
    :data:`NATIONAL` for that.
    """
    return tuple(key for key, row in ROWS.items() if row.limits(water) is not None)


def limits(parameter: str, water: Water) -> tuple[float, ...] | None:
    """Limits of classes I to V; for pH the closed pair of all classes; None where table 1 has none for this water."""
    row = ROWS.get(parameter)
    return None if row is None else row.limits(water)


def direction(parameter: str) -> Direction | None:
    """On which side of its limits the parameter is good; None for a parameter without a class."""
    row = ROWS.get(parameter)
    return None if row is None else row.direction


def limit(parameter: str, water: Water, target: WaterClass) -> float | None:
    """The one number that decides whether ``parameter`` meets ``target`` (I to V); None for pH and where none is."""
    found = limits(parameter, water)
    if found is None or ROWS[parameter].direction is Direction.WITHIN or target is WaterClass.WORSE:
        return None
    return found[target - 1]


def keys(bits: int) -> tuple[str, ...]:
    """The parameters in a bit set, in the order of table 1."""
    return tuple(key for i, key in enumerate(PARAMETERS) if bits >> i & 1)


# -- judging ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """The classes of n samples.

    ``parameters`` are the k parameters that were there to be judged, ``values`` (k, n) what was compared (rounded when
    asked for; the detection limit where nothing was detected; NaN where not evaluated), ``classes`` (k, n) the class by
    each parameter, ``water_class`` (n,) the worst of them. ``deciding`` (n,) are the parameters in that worst class,
    ``judged`` (n,) those that have a class at all, ``undecided`` (n,) those not detected at a limit above that of class
    I, of which no class can be told: bit sets over :data:`PARAMETERS`, to be read by :func:`keys`.
    """

    water: Water
    parameters: tuple[str, ...]
    values: Floats
    classes: Classes
    water_class: Classes
    deciding: Bits
    judged: Bits
    undecided: Bits

    def exceedance(self, target: WaterClass) -> Floats:
        """(k, n) multiples (C - Cs) / Cs over the limit of ``target``; see :func:`exceedance`."""
        rows = [
            np.where(self.classes[i] > 0, exceedance(key, self.values[i], target, self.water), np.nan)
            for i, key in enumerate(self.parameters)
        ]
        return np.array(rows, np.float64).reshape(self.values.shape)

    def __getitem__(self, i: int) -> "Judgement":
        """Sample ``i`` as one judgement."""
        undecided = keys(int(self.undecided[i]))
        values: dict[str, Value] = {
            key: Below(float(self.values[k, i])) if key in undecided else float(self.values[k, i])
            for k, key in enumerate(self.parameters)
            if not np.isnan(self.values[k, i])
        }
        return Judgement(
            water=self.water,
            water_class=WaterClass(int(self.water_class[i])) if self.water_class[i] else None,
            deciding=keys(int(self.deciding[i])),
            classes={
                key: WaterClass(int(self.classes[k, i]))
                for k, key in enumerate(self.parameters)
                if self.classes[k, i] > 0
            },
            undecided=undecided,
            values=values,
        )


@dataclass(frozen=True, slots=True)
class Judgement:
    """The class of one sample and its evidence.

    ``water_class`` is None when nothing could be judged: never a good class by default. ``classes`` holds every
    evaluated parameter, ``deciding`` those in the worst class, ``undecided`` those not detected at a limit too high to
    tell the class, ``values`` what was compared.
    """

    water: Water
    water_class: WaterClass | None
    deciding: tuple[str, ...] = ()
    classes: Mapping[str, WaterClass] = field(default_factory=dict)
    undecided: tuple[str, ...] = ()
    values: Mapping[str, Value] = field(default_factory=dict)

    def meets(self, target: WaterClass) -> bool | None:
        """Whether the target class is met; None when that cannot be told.

        A value not detected meets every limit that is not below its detection limit, whatever its own class may be.
        """
        if self.water_class is None:
            return None
        if self.water_class > target:
            return False
        return None if any(not self._surely_meets(key, target) for key in self.undecided) else True

    def _surely_meets(self, key: str, target: WaterClass) -> bool:
        value, line = self.values[key], limit(key, self.water, target)
        at_most = ROWS[key].direction is Direction.AT_MOST
        return at_most and isinstance(value, Below) and line is not None and value.limit <= line

    def over(self, target: WaterClass) -> dict[str, float | None]:
        """Parameters over the target class with their multiple, largest first; pH and oxygen lead, with None.

        The standard asks for both: which indicators exceed, and by what multiple.
        """
        multiples: dict[str, float | None] = {}
        for key, found in self.classes.items():
            value = self.values[key]
            if found > target and not isinstance(value, Below):
                multiple = float(exceedance(key, np.array([value]), target, self.water)[0])
                multiples[key] = None if np.isnan(multiple) else multiple
        return dict(sorted(multiples.items(), key=lambda item: (item[1] is not None, -(item[1] or 0.0))))


def classes(
    columns: Mapping[str, Floats],
    water: Water,
    *,
    below: Mapping[str, Bools] | None = None,
    items: Sequence[str] | None = None,
    oxygen_by: Oxygen = Oxygen.MG_L,
    rounded: bool = False,
) -> Judged:
    """Judge n samples at once, single factor.

    Parameters
    ----------
    columns : parameter key → (n,) float array
        Canonical units, NaN where missing. Keys without a class (conductivity, turbidity) are passed over. A value no
        working instrument gives (catalogue) is not evaluated where it would look good: a fault code of -999 or an
        oxygen of 999 earns no class I. Slightly negative readings, within the instrument's range, count as zero.
    water : Water
        Which limits: phosphorus differs, and nitrogen has limits in lakes only.
    below : parameter key → (n,) bool array, optional
        True where nothing was detected; the column then holds the detection limit. Class I when that is not above the
        limit of class I, undecided otherwise. Oxygen not detected at 2 mg/L or less is worse than V.
    items : parameter keys, optional
        What to judge by; :func:`evaluated` when left out. Those absent from ``columns`` are not evaluated.
    oxygen_by : Oxygen
        SATURATION: class I is met by 90 % saturation, too, where ``columns`` has ``water_temp`` (and ``salinity``,
        else fresh water) from 0 to 40 °C, by Benson and Krause at one atmosphere. Warm water makes the difference:
        at 30 °C 6.8 mg/L is 90 %.
    rounded : bool
        Round half to even to the standard's decimals first (pH 0, oxygen 1, …, phosphorus 3), as for published means.

    Returns
    -------
    Judged
        With class 0 where nothing could be judged.

    Raises
    ------
    ValueError
        If an item has no row in table 1 or the columns differ in length.
    """
    wanted = tuple(items) if items is not None else evaluated(water)
    if strange := [key for key in wanted if key not in ROWS]:
        raise ValueError(f"{strange[0]} has no class in GB 3838-2002")
    if len({len(column) for column in columns.values()}) > 1:
        raise ValueError("the columns differ in length")
    n = len(next(iter(columns.values()))) if columns else 0
    there = tuple(key for key in PARAMETERS if key in wanted and key in columns and limits(key, water) is not None)
    values = np.full((len(there), n), np.nan)
    found = np.zeros((len(there), n), np.int8)
    bits = np.zeros((3, n), np.uint32)  # deciding, judged, undecided
    for k, key in enumerate(there):
        given = np.asarray(columns[key], np.float64)
        hidden = np.zeros(n, np.bool_) if below is None or key not in below else below[key] & np.isfinite(given)
        values[k] = _usable(key, given)
        if rounded:
            values[k] = np.where(hidden, values[k], round_half_even(values[k], ROWS[key].decimals))
        found[k] = _by_value(key, values[k], water)
        if hidden.any():
            found[k] = np.where(hidden, _by_detection_limit(key, values[k], water), found[k])
            bits[2] |= np.where(hidden & (found[k] == 0), _bit(key), np.uint32(0))
    if oxygen_by is Oxygen.SATURATION and "do" in there and "water_temp" in columns:
        k = there.index("do")
        full = oxygen.saturation(columns["water_temp"], columns.get("salinity", 0.0))
        with np.errstate(invalid="ignore"):
            found[k] = np.where((found[k] > 0) & (values[k] >= SATURATION_OF_CLASS_I * full), np.int8(1), found[k])
    worst = found.max(axis=0, initial=0)
    for k, key in enumerate(there):
        bits[0] |= np.where((found[k] == worst) & (worst > 0), _bit(key), np.uint32(0))
        bits[1] |= np.where(found[k] > 0, _bit(key), np.uint32(0))
    return Judged(water, there, values, found, worst, bits[0], bits[1], bits[2])


def judge(
    values: Mapping[str, float | str | Below],
    water: Water,
    *,
    items: Sequence[str] | None = None,
    oxygen_by: Oxygen = Oxygen.MG_L,
    rounded: bool = False,
) -> Judgement:
    """Judge one sample: ``judge({"do": 4.2, "nh3n": "0.025L"}, Water.RIVER)``; everything else as :func:`classes`.

    Raises ValueError for a text that is neither a number nor a detection limit.
    """
    given = {key: parse(value) if isinstance(value, str) else value for key, value in values.items()}
    columns = {key: np.array([v.limit if isinstance(v, Below) else v], np.float64) for key, v in given.items()}
    below = {key: np.array([True]) for key, v in given.items() if isinstance(v, Below)}
    if not columns:
        return Judgement(water, None)
    return classes(columns, water, below=below, items=items, oxygen_by=oxygen_by, rounded=rounded)[0]


def parse(text: str) -> Value:
    """A cell as laboratories write it: ``0.42``, ``0.05L`` or ``<0.05`` (not detected), empty or ``--`` (missing: NaN).

    Raises ValueError for anything else.
    """
    spelled = text.strip().replace("＜", "<")
    if spelled in ("", "-", "--", "—"):
        return float("nan")
    if spelled[-1] in "Ll":
        return Below(_positive(spelled[:-1], text))
    if spelled[0] == "<":
        return Below(_positive(spelled[1:], text))
    return float(spelled)


def _positive(number: str, text: str) -> float:
    value = float(number)
    if not 0 < value < float("inf"):
        raise ValueError(f"{text!r} is no detection limit")
    return value


def _bit(key: str) -> np.uint32:
    return np.uint32(1 << PARAMETERS.index(key))


def _usable(key: str, values: Floats) -> Floats:
    """Values with NaN where infinite, or outside the instrument on the side that would look good."""
    low, high = catalogue()[key].instrument
    good_side = {
        Direction.AT_MOST: values >= low,
        Direction.AT_LEAST: values <= high,
        Direction.WITHIN: (values >= low) & (values <= high),
    }[ROWS[key].direction]
    return np.where(good_side & np.isfinite(values), values, np.nan)


def _by_value(key: str, values: Floats, water: Water) -> Classes:
    """(n,) the class by one parameter; 0 where NaN. Each step past a limit is one class worse."""
    lines = np.array(limits(key, water), np.float64)
    match ROWS[key].direction:
        case Direction.AT_MOST:
            found = np.searchsorted(lines, values, side="left") + 1
        case Direction.AT_LEAST:
            found = np.searchsorted(-lines, -values, side="left") + 1
        case Direction.WITHIN:
            found = np.where((values >= lines[0]) & (values <= lines[1]), WaterClass.I, WaterClass.WORSE)
    return np.where(np.isnan(values), 0, found).astype(np.int8)


def _by_detection_limit(key: str, detection: Floats, water: Water) -> Classes:
    """(n,) the class of values below ``detection``; 0 where that does not decide."""
    lines = np.array(limits(key, water), np.float64)
    match ROWS[key].direction:
        case Direction.AT_MOST:
            return np.where(detection <= lines[0], WaterClass.I, 0).astype(np.int8)
        case Direction.AT_LEAST:
            return np.where(detection <= lines[-1], WaterClass.WORSE, 0).astype(np.int8)
        case Direction.WITHIN:
            return np.zeros(len(detection), np.int8)


def round_half_even(values: Floats, decimals: int | None) -> Floats:
    """Round half to even (四舍六入五成双) as on paper: 2.675 is a tie although its binary form lies below it.

    ``values`` (n,), NaN stays; ``decimals`` None leaves all as they are. What is a tie is decided on the shortest
    decimal that names the value, which is what was written down.
    """
    if decimals is None:
        return values
    scaled = values * 10.0**decimals
    result = np.rint(scaled) / 10.0**decimals
    with np.errstate(invalid="ignore"):
        near_tie = np.abs(scaled - np.floor(scaled) - 0.5) <= 1e-9 * np.maximum(1.0, np.abs(scaled))
    if near_tie.any():
        quantum = Decimal(1).scaleb(-decimals)
        ties, where = np.unique(values[near_tie], return_inverse=True)
        on_paper = [float(Decimal(repr(float(tie))).quantize(quantum, ROUND_HALF_EVEN)) for tie in ties]
        result[near_tie] = np.array(on_paper)[where]
    return result


# -- over the target -------------------------------------------------------------------------------------------------


def exceedance(parameter: str, values: Floats, target: WaterClass, water: Water) -> Floats:
    """Exceedance multiples (超标倍数) (C - Cs) / Cs over the limit of ``target``.

    ``values`` (n,) → (n,): 0 where not over, NaN where missing, and everywhere for what has no multiple (water
    temperature, pH, oxygen, parameters without a limit, target worse than V).
    """
    line = None if parameter in WITHOUT_MULTIPLE else limit(parameter, water, target)
    if line is None:
        return np.full(len(values), np.nan)
    multiples = np.round((values - line) / line, 9)  # 0.25 and not the digits that binary arithmetic adds
    return np.asarray(np.maximum(0.0, multiples), np.float64)
