"""Find the sensors among the columns of a table, and the kind of each. Pure.

A column of the catalogue is that parameter. Tables hold more: a second sensor of a parameter (``flow_2_m3_h``,
``plant_pH``), probes that the catalogue does not have (chlorine, nitrate, oxygen saturation), or anything with a unit.
Each is judged as the kind it is most like; what has neither a known name nor a unit is left out.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from sensors import table_columns
from sensors.parameters import Catalogue, Parameter
from sensors.reading import Floats
from sensors.units import IDENTITY, Linear

_WIDE: Final = (-1e12, 1e12)


def _like(name: str, **differs: object) -> Parameter:
    """A probe that the catalogue does not have: only fault codes are limited, and noise grows with the level."""
    plain = Parameter(
        name, name, name, "1", 3, _WIDE, _WIDE, 0.0, zero_is_dead=False, flat=False, relative=True, spike=0.3
    )
    return replace(plain, **differs)  # type: ignore[arg-type]


_PROBES: Final = {
    # name in the header: its kind. Spike floors: three times the usual accuracy of such probes (engineering choice)
    "chlorine": _like("chlorine", instrument=(-1.0, 100.0), step=0.05, spike=0.1, event="disinfectant"),
    "chlorine_dioxide": _like("chlorine_dioxide", instrument=(-1.0, 100.0), step=0.05, spike=0.1, event="disinfectant"),
    "nitrate": _like("nitrate", instrument=(-1.0, 2000.0), step=0.3, spike=0.25, event="nitrogen"),
    "nitrate_n": _like("nitrate_n", instrument=(-1.0, 500.0), step=0.3, spike=0.25, event="nitrogen"),
    "ammonium": _like("ammonium", instrument=(-0.2, 1000.0), step=0.3, spike=0.25, event="ammonia"),
    "ammonium_n": _like("ammonium_n", instrument=(-0.2, 1000.0), step=0.3, spike=0.25, event="ammonia"),
    "chloride": _like("chloride", instrument=(-1.0, 40000.0), step=2.0, spike=0.1, event="salt"),
    "toc": _like("toc", instrument=(-1.0, 100000.0), step=0.2, spike=0.2, event="organic"),
    "doc": _like("doc", instrument=(-1.0, 100000.0), step=0.2, spike=0.2, event="organic"),
    "uv254": _like("uv254", step=0.01, spike=0.2, event="organic"),
    "phycocyanin": _like("phycocyanin", step=0.2, spike=0.3, optical=True, event="bloom"),
    "do_percent": _like(
        "do_percent", instrument=(-5.0, 500.0), step=5.0, spike=5.0, shift=10.0, relative=False, flat=True,
        zero_is_dead=True, event="oxygen", swing=10.0,
    ),
}  # fmt: skip
_SAME: Final = {"do_saturation": "do_percent", "do_sat": "do_percent", "odo_percent": "do_percent", "no3": "nitrate",
                "no3_n": "nitrate_n", "nh4": "ammonium", "nh4_n": "ammonium_n", "cl": "chloride",
                "clo2": "chlorine_dioxide",
                "free_chlorine": "chlorine", "pc": "phycocyanin"}  # fmt: skip
_UNIT: Final = re.compile(
    r"_(mg_l|ug_l|ppb|ppm|psi|bar|kpa|hpa|m3_h|m3_s|l_s|ms_cm|us_cm|ntu|fnu|mv|v|m|cm|mm|m_s|percent|degc|degf|psu"
    r"|qsu|rfu|1)$"
)
_LABEL: Final = re.compile(
    r"^(anomaly|type|event|natural_event|label|flag|qc|quality|comment|note)(_|$)"
    r"|_(flag|qc|qual|code)s?$"
)
"""Columns with remarks on the readings."""
_NUMBER: Final = re.compile(r"_\d+(?=_|$)")


@dataclass(frozen=True, slots=True)
class TableSensor:
    """One column: its header, its parameter (an index into the catalogue that comes with it) and the kind it is."""

    name: str
    parameter: int
    convert: Linear
    kind_key: str

    def canonical(self, cells: Floats) -> Floats:
        """(n,) cells in the unit of the kind, NaN stays."""
        return np.asarray(cells * self.convert.gain + self.convert.offset)


@dataclass(frozen=True, slots=True)
class TableSensors:
    """The sensors of a table, the catalogue their indices refer to, and the columns that are none."""

    sensors: tuple[TableSensor, ...]
    catalogue: Catalogue
    left: tuple[str, ...]


def find_sensors(names: Sequence[str], catalogue: Catalogue) -> TableSensors:
    """Find the sensors among columns; ``names`` without station and time."""
    parameters = list(catalogue.parameters)
    found, left, used = [], [], set()
    for name in names:
        if _LABEL.match(table_columns.normalise_header(name)):
            left.append(name)
            continue
        column = table_columns.find_column(name, catalogue)
        if column is not None and column.parameter not in used:
            used.add(column.parameter)
            found.append(TableSensor(name, catalogue.index[column.parameter], column.convert, column.parameter))
            continue
        kind, convert = (catalogue[column.parameter], column.convert) if column else _kind(name, catalogue)
        if kind is None:
            left.append(name)
            continue
        found.append(TableSensor(name, len(parameters), convert, kind.key))
        parameters.append(replace(kind, key=f"{kind.key}@{name}", code=None, code_2005=None))
    return TableSensors(tuple(found), Catalogue.of(parameters), tuple(left))


def _kind(name: str, catalogue: Catalogue) -> tuple[Parameter | None, Linear]:
    """The kind a header is most like: a number in it, words before it and the unit may be dropped."""
    spelled = table_columns.normalise_header(name)
    words = _NUMBER.sub("", spelled).split("_")
    for first in range(len(words)):
        rest = "_".join(words[first:])
        if (column := table_columns.find_column(rest, catalogue)) is not None:
            return catalogue[column.parameter], column.convert
        stem = _UNIT.sub("", rest)
        for probe in (rest, stem, _SAME.get(rest, ""), _SAME.get(stem, "")):
            if probe in _PROBES:
                return _PROBES[probe], IDENTITY
    return (_like("generic"), IDENTITY) if _UNIT.search(spelled) else (None, IDENTITY)
