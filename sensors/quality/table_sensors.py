"""Find the sensors among the columns of a table, and the kind of each. Pure.

A column of the catalogue is that parameter. Tables hold more: a second sensor of a parameter (``flow_2_m3_h``,
``plant_pH``), probes that the catalogue does not have (chlorine, nitrate, oxygen saturation), or anything with a unit.
Each is judged as the kind it is most like; what has neither a known name nor a unit is left out, and so are columns
with remarks on the readings.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from sensors import table_columns
from sensors.parameters import Catalogue, Parameter
from sensors.reading import Floats
from sensors.table_columns import ANY_UNIT
from sensors.units import IDENTITY, Linear

_WIDE: Final = (-1e12, 1e12)


def _like(name: str, **differs: object) -> Parameter:
    """A probe that the catalogue does not have: only fault codes are limited, and noise grows with the level."""
    plain = Parameter(
        name, name, name, "1", 3, _WIDE, _WIDE, 0.0, zero_is_dead=False, flat=False, relative=True, spike=0.3
    )
    return replace(plain, **differs)  # type: ignore[arg-type]


_MG: Final = {"unit": "mg/L"}
_PROBES: Final = (
    # spike floors: three times the usual accuracy of such probes (engineering choice)
    _like("chlorine", **_MG, instrument=(-1.0, 100.0), step=0.05, spike=0.1, event="disinfectant"),
    _like("chlorine_dioxide", **_MG, instrument=(-1.0, 100.0), step=0.05, spike=0.1, event="disinfectant"),
    _like("nitrate", **_MG, instrument=(-1.0, 2000.0), step=0.3, spike=0.25, event="nitrogen"),
    _like("nitrate_n", **_MG, instrument=(-1.0, 500.0), step=0.3, spike=0.25, event="nitrogen"),
    _like("ammonium", **_MG, instrument=(-0.2, 1000.0), step=0.3, spike=0.25, event="ammonia"),
    _like("ammonium_n", **_MG, instrument=(-0.2, 1000.0), step=0.3, spike=0.25, event="ammonia"),
    _like("chloride", **_MG, instrument=(-1.0, 40000.0), step=2.0, spike=0.1, event="salt"),
    _like("toc", unit="µg/L", instrument=(-1.0, 100000.0), step=0.2, spike=0.2, event="organic"),
    _like("doc", unit="µg/L", instrument=(-1.0, 100000.0), step=0.2, spike=0.2, event="organic"),
    _like("phosphate", **_MG),
    _like("nitrite", **_MG),
    _like("uv254", unit=ANY_UNIT, step=0.01, spike=0.2, event="organic"),
    _like("phycocyanin", unit=ANY_UNIT, step=0.2, spike=0.3, optical=True, event="bloom"),
    _like("chla_rfu", unit=ANY_UNIT, step=0.2, spike=0.3, optical=True, event="bloom"),
    _like("fdom_rfu", unit=ANY_UNIT, step=0.2, spike=0.2, optical=True, event="organic"),
    _like(
        "do_percent", unit="%", instrument=(-5.0, 500.0), step=5.0, spike=5.0, shift=10.0, relative=False, flat=True,
        zero_is_dead=True, event="oxygen", swing=10.0,
    ),
)  # fmt: skip
_LABEL: Final = re.compile(
    r"^(anomaly|type|event|natural_event|label|flag|qc|quality|comments?|notes?|remarks?|isswmp|historical|provisionalplus|f_record|标记|质控|备注|审核)(_|$)"
    r"|_(flag|qc|qual|code|cd|quality|remark|status|grade)s?$|(标记|标识|状态|备注)$"
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
    """The sensors of a table, the catalogue their indices refer to, and the columns that are none: ``left`` may be
    sensors nobody knows, ``remarks`` are remarks on the readings."""

    sensors: tuple[TableSensor, ...]
    catalogue: Catalogue
    left: tuple[str, ...]
    remarks: tuple[str, ...]


def find_sensors(names: Sequence[str], catalogue: Catalogue) -> TableSensors:
    """Find the sensors among columns; ``names`` without station and time."""
    parameters = list(catalogue.parameters)
    known = Catalogue.of([*parameters, *(probe for probe in _PROBES if probe.key not in catalogue)])
    found: list[TableSensor] = []
    left, remarks = [], []
    used = set()
    plain = {table_columns.normalise_header(name) for name in names}
    nerrs = any(f"f_{one}" in plain for one in plain)
    for name in names:
        spelled = table_columns.normalise_header(name)
        if _LABEL.search(spelled) or (spelled.startswith("f_") and spelled[2:] in plain):
            remarks.append(name)
            continue
        column = table_columns.of_agency(name, "nerrs", spelled, known) if nerrs else None
        column = column or table_columns.find_column(name, known)
        if column is not None and column.parameter in catalogue and column.parameter not in used:
            used.add(column.parameter)
            found.append(TableSensor(name, catalogue.index[column.parameter], column.convert, column.parameter))
            continue
        kind, convert = (known[column.parameter], column.convert) if column else _kind(name, known)
        if kind is None:
            left.append(name)
            continue
        found.append(TableSensor(name, len(parameters), convert, kind.key))
        parameters.append(replace(kind, key=f"{kind.key}@{name}", code=None, code_2005=None))
    return TableSensors(tuple(found), Catalogue.of(parameters), tuple(left), tuple(remarks))


def _kind(name: str, known: Catalogue) -> tuple[Parameter | None, Linear]:
    """The kind a header is most like: a number in it and words before it may be dropped; else its unit makes it one."""
    spelled = table_columns.normalise_header(name)
    words = [word for word in re.split(r"[_()\[\]]+", _NUMBER.sub("", spelled)) if word]
    tails = ["_".join(words[first:]) for first in range(len(words))]
    if not table_columns.is_of_other_medium(spelled):
        for tail in tails:
            if (column := table_columns.find_column(tail, known)) is not None:
                return known[column.parameter], column.convert
    if any(table_columns.unit_of(tail) for tail in tails[1:] if len(tail) > 1 or tail in "vm"):
        return _like("generic", unit=ANY_UNIT), IDENTITY
    return None, IDENTITY
