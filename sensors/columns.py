"""What a table's column holds: from its header to a parameter of the catalogue and the way into its canonical unit.

Pure. Headers as in public sensor tables and as people write them: ``do_mg_L``, ``DO (mg/L)``, ``溶解氧``, ``w01009``.
A header that is not certainly one of our parameters is none: ``do_percent`` is not ``do``.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sensors.errors import ConfigurationError
from sensors.parameters import Catalogue, Parameter
from sensors.units import IDENTITY, Linear, conversion

_UNITS = {
    "degc": "°C",
    "degf": "°F",
    "k": "K",
    "mg_l": "mg/L",
    "ug_l": "µg/L",
    "mg_m3": "mg/m³",
    "g_m3": "g/m³",
    "us_cm": "µS/cm",
    "ms_cm": "mS/cm",
    "s_m": "S/m",
    "ntu": "NTU",
    "fnu": "FNU",
    "mv": "mV",
    "v": "V",
    "m": "m",
    "cm": "cm",
    "mm": "mm",
    "m3_s": "m³/s",
    "m3_h": "m³/h",
    "l_s": "L/s",
    "psu": "psu",
    "qsu": "QSU",
}
"""Unit suffixes, small letters, as the catalogue and :mod:`sensors.units` spell the unit."""

_OTHER_NAMES = {
    "stage": "level",
    "water_level": "level",
    "water_temperature": "water_temp",
    "chlorophyll": "chla",
    "chlorophyll_a": "chla",
    "redox": "orp",
    "cond": "conductivity",
    "nh3_n": "nh3n",
    "cod_mn": "codmn",
    "cod_cr": "codcr",
    "total_phosphorus": "tp",
    "total_nitrogen": "tn",
}
"""Names other tables use; the catalogue's own keys, names and codes are read from the catalogue."""

_BRACKETED = re.compile(r"^(.+?)\s*[(（\[]\s*(.+?)\s*[)）\]]$")
_RESPELLED = str.maketrans({"µ": "u", "μ": "u", "/": "_", "³": "3", "·": "_", "-": "_", " ": "_"})


@dataclass(frozen=True, slots=True)
class Column:
    """A table column that holds a parameter: canonical value = cell * convert.gain + convert.offset."""

    name: str
    parameter: str
    convert: Linear


@dataclass(frozen=True, slots=True)
class Mapped:
    """The columns of a table that hold parameters, in the table's order.

    ``doubled`` are columns whose parameter an earlier column holds already: they are left alone and should be told.
    """

    columns: tuple[Column, ...]
    doubled: tuple[Column, ...]


def column(name: str, catalogue: Catalogue) -> Column | None:
    """What the column called ``name`` holds; None for labels, station, time and everything not in the catalogue."""
    names = _names(catalogue)
    bracketed = _BRACKETED.match(name.strip())
    if bracketed:
        return _made(name, names.get(_spelled(bracketed[1])), _spelled(bracketed[2]))
    spelled = _spelled(name)
    if (parameter := names.get(spelled)) is not None:
        return Column(name, parameter.key, IDENTITY)
    for i in (i for i, letter in enumerate(spelled) if letter == "_"):
        found = _made(name, names.get(spelled[:i]), spelled[i + 1 :])
        if found is not None:
            return found
    return None


def columns(names: Sequence[str], catalogue: Catalogue) -> Mapped:
    """What each of a table's columns holds; of two columns with the same parameter the first one counts."""
    kept: dict[str, Column] = {}
    doubled = []
    for found in (column(name, catalogue) for name in names):
        if found is None:
            continue
        if found.parameter in kept:
            doubled.append(found)
        else:
            kept[found.parameter] = found
    return Mapped(tuple(kept.values()), tuple(doubled))


def _spelled(text: str) -> str:
    return text.strip().replace("℃", "degC").replace("°", "deg").casefold().translate(_RESPELLED)


def _names(catalogue: Catalogue) -> dict[str, Parameter]:
    names = {other: catalogue[key] for other, key in _OTHER_NAMES.items() if key in catalogue}
    names |= {_spelled(code): p for code, p in catalogue.by_code.items()}
    for p in catalogue.parameters:
        names |= {_spelled(p.zh): p, _spelled(p.en): p}
    return names | {p.key: p for p in catalogue.parameters}


def _made(name: str, parameter: Parameter | None, suffix: str) -> Column | None:
    unit = _UNITS.get(suffix)
    if parameter is None or unit is None:
        return None
    try:
        return Column(name, parameter.key, conversion(unit, parameter.unit))
    except ConfigurationError:  # a unit this parameter is not measured in: some other quantity of the same name
        return None
