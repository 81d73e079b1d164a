"""Read table headers: the parameter of a column, and the conversion to its canonical unit.

Pure. Headers as in public sensor tables and as people write them: ``do_mg_L``, ``DO (mg/L)``, ``溶解氧``, ``w01009``,
``总磷（以P计）(mg/L)``, ``溶解氧(DO)``, ``Dissolved oxygen, water, unfiltered, milligrams per liter``, ``69928_00300``.
A header that is not certainly one of our parameters is none: ``do_percent`` is not ``do``.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from infra import toml_text
from infra.errors import ConfigurationError
from sensors.parameters import Catalogue, Parameter
from sensors.reading import Floats
from sensors.units import IDENTITY, Linear, conversion

_TABLE: Mapping[str, Mapping[str, str]] = toml_text.shipped("sensors", "table_columns.toml")

_BRACKETED = re.compile(r"^(.+?)\s*[(\[]\s*([^()\[\]]+?)\s*[)\]]$")
_REMARK = re.compile(r"^(?:以([a-z0-9]+)[_−+]*计|as_([a-z0-9]+))$")
"""As N, P or F-, which is what the catalogue means; as NH4 or PO4 is another number and is converted."""
_RESPELLED = str.maketrans({"µ": "u", "μ": "u", "/": "_", "·": "_", "-": "_", "−": "_", " ": "_"})
_AT_25 = re.compile(r"_*(?:@|at)?_*25_*(?:deg_?c|c|degrees_celsius)$")
_PER = re.compile(r"(?<=[a-z])[_^]*_1(?=_|$)")
"""The exponent of ``mg L-1``."""
_SPECIES = re.compile(r"^(.*?)_+(?:as_+)?\(?(nitrogen|phosphorus|n|p|c|nh3|nh4|no3|po4|o2|cl)[_+]*\)?$")
_UCUM = re.compile(r"^([mun]?g)\{(\w+)\}")
_USGS = re.compile(r"^(?:x_|\d+_)?(\d{5})(?:_\d{5})?$")
"""``00300``, and with the number of the series before it or of the statistic behind it."""
_OTHER_MEDIUM = re.compile(
    r"(?:^|[_,(\[])(air|atmospheric|barometric|battery|board|box|case|dew|ground|groundwater|indoor|internal|logger|panel"
    r"|pump|sediment|soil|wind)(?:$|[_,)\]])"
)
"""Words of a header that say the quantity is not the water's."""

ANY_UNIT = "*"
"""The unit of a kind that is judged by its own past alone."""


@dataclass(frozen=True, slots=True)
class Column:
    """A table column that holds a parameter: canonical value = cell * convert.gain + convert.offset."""

    name: str
    parameter: str
    convert: Linear

    def canonical(self, cells: Floats) -> Floats:
        """(n,) cells in the parameter's canonical unit, NaN stays."""
        return np.asarray(cells * self.convert.gain + self.convert.offset)


@dataclass(frozen=True, slots=True)
class Mapped:
    """The columns of a table that hold parameters, in the table's order.

    ``doubled`` are columns whose parameter an earlier column holds already: they are left alone and should be told.
    """

    columns: tuple[Column, ...]
    doubled: tuple[Column, ...]


def find_column(name: str, catalogue: Catalogue) -> Column | None:
    """The parameter of a column; None for labels, station, time and everything that is not in the catalogue."""
    names = _names(catalogue)
    plain = normalise_header(name)
    if (parameter := names.get(plain) or names.get(_AT_25.sub("", plain))) is not None:
        return Column(name, parameter.key, IDENTITY)
    if (code := _USGS.match(plain)) and code[1] in _TABLE["usgs"]:
        return of_agency(name, "usgs", code[1], catalogue)
    if is_of_other_medium(plain):
        return None
    if bracketed := _BRACKETED.match(unicodedata.normalize("NFKC", name.strip())):
        return _with_bracket(name, bracketed[1], normalise_header(bracketed[2]), catalogue)
    if "," in plain:  # Dissolved oxygen, water, unfiltered, milligrams per liter
        parts = [part.strip("_") for part in plain.split(",")]
        return _made(name, names.get(parts[0]), parts[-1], catalogue)
    for i in (i for i, letter in enumerate(plain) if letter == "_" and plain[i:] != "_in"):  # inflow, not inches
        found = _made(name, names.get(plain[:i]), plain[i + 1 :], catalogue)
        if found is not None:
            return found
    return None


def of_agency(name: str, agency: str, code: str, catalogue: Catalogue) -> Column | None:
    """The column that an agency calls so (a section of the table), which fixes the unit, too."""
    key, _, unit = _TABLE[agency].get(code, "").partition(" ")
    if key not in catalogue:
        return None
    return Column(name, key, _conversion(unit, catalogue[key]))


def is_of_other_medium(plain: str) -> bool:
    """Whether a normalised header speaks of the air, the logger, …"""
    return _OTHER_MEDIUM.search(plain) is not None


def unit_of(text: str) -> str | None:
    """The unit a header's suffix or bracket names, with the species it counts, as :mod:`sensors.units` spells both."""
    plain = _AT_25.sub("", normalise_header(text))
    if ucum := _UCUM.match(plain):
        plain = f"{ucum[1]}{plain[ucum.end() :]}_{ucum[2]}"
    units = _TABLE["units"]
    if (unit := units.get(_squeezed(plain))) is not None:
        return unit
    counted = _SPECIES.match(plain)
    if counted is None or (unit := units.get(_squeezed(counted[1]))) is None:
        return None
    species = {"nitrogen": "N", "phosphorus": "P"}.get(counted[2], counted[2].upper())
    return f"{unit} {species}"


def _squeezed(plain: str) -> str:
    return re.sub(r"[_.^()\s]", "", _PER.sub("", plain))


def _with_bracket(name: str, before: str, inside: str, catalogue: Catalogue) -> Column | None:
    """A header that ends in a bracket: a unit, a remark (以P计), or the same parameter once more (溶解氧(DO))."""
    found = find_column(before, catalogue)
    if found is None:
        return _made(name, _names(catalogue).get(normalise_header(before.partition(",")[0])), inside, catalogue)
    again = find_column(inside, catalogue)
    if again is not None and again.parameter == found.parameter:
        return Column(name, found.parameter, found.convert)
    parameter = catalogue[found.parameter]
    if remark := _REMARK.match(inside):
        return _counted_as(name, found, parameter, remark)
    nested = _BRACKETED.match(before)
    if nested and (remark := _REMARK.match(normalise_header(nested[2]))):
        bare = _made(name, parameter, inside, catalogue)
        return None if bare is None else _counted_as(name, bare, parameter, remark)
    return _made(name, parameter, inside, catalogue) if found.convert == IDENTITY else None


def _counted_as(name: str, found: Column, parameter: Parameter, remark: re.Match[str]) -> Column | None:
    """The column with its numbers counted as the remark says: 以NH4计 holds 0.776 of nitrogen."""
    species = (remark[1] or remark[2]).upper()
    if species == "F" and parameter.key == "f":
        return Column(name, parameter.key, found.convert)
    try:
        share = conversion(f"{parameter.unit} {species}", parameter.unit, parameter.key)
    except ConfigurationError:
        return None
    return Column(name, parameter.key, Linear(found.convert.gain * share.gain, found.convert.offset * share.gain))


def find_columns(names: Sequence[str], catalogue: Catalogue) -> Mapped:
    """The parameter of each column of a table; of two columns with the same parameter the first one counts."""
    kept: dict[str, Column] = {}
    doubled = []
    for found in (find_column(name, catalogue) for name in names):
        if found is None:
            continue
        if found.parameter in kept:
            doubled.append(found)
        else:
            kept[found.parameter] = found
    return Mapped(tuple(kept.values()), tuple(doubled))


def normalise_header(text: str) -> str:
    """Normalise a header: small letters, one form of brackets, degrees, subscripts (NFKC), ``_`` for separators."""
    return unicodedata.normalize("NFKC", text.strip()).replace("°", "deg").casefold().translate(_RESPELLED)


@lru_cache(maxsize=8)
def _names(catalogue: Catalogue) -> dict[str, Parameter]:
    names = {normalise_header(other): catalogue[key] for other, key in _TABLE["names"].items() if key in catalogue}
    names |= {normalise_header(code): p for code, p in catalogue.by_code.items()}
    for p in catalogue.parameters:
        names |= {normalise_header(p.zh): p, normalise_header(p.en): p}
    return names | {p.key: p for p in catalogue.parameters}


def _made(name: str, parameter: Parameter | None, suffix: str, catalogue: Catalogue) -> Column | None:
    unit = unit_of(suffix)
    if parameter is None or unit is None:
        return None
    other = _TABLE["by_unit"].get(f"{parameter.key} {unit}", "")
    if other in catalogue:
        return Column(name, other, IDENTITY)
    try:
        return Column(name, parameter.key, _conversion(unit, parameter))
    except ConfigurationError:  # a unit this parameter is not measured in: some other quantity of the same name
        return None


def _conversion(unit: str, parameter: Parameter) -> Linear:
    return IDENTITY if parameter.unit == ANY_UNIT else conversion(unit, parameter.unit, parameter.key)
