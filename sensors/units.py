"""Units that a deployment may report in, and their conversion to the canonical unit of the parameter.

Factors are exact by definition, those of another species (ammonia as NH4, phosphorus as PO4) follow from atomic masses.
One conversion needs more than the value: oxygen in % of saturation needs the water's temperature (``SATURATION``).
"""

from dataclasses import dataclass

from infra.errors import ConfigurationError
from infra.texts import say


@dataclass(frozen=True, slots=True)
class Linear:
    """canonical = value * gain + offset."""

    gain: float
    offset: float = 0.0


IDENTITY = Linear(1.0)

_FOOT = 0.3048
_CUBIC_FOOT, _US_GALLON = _FOOT**3, 231 * 0.0254**3

_UNITS: dict[str, tuple[str, float, float]] = {
    # unit: what it measures, and the factor and offset to the first unit of that group
    "°C": ("temperature", 1.0, 0.0),
    "°F": ("temperature", 5 / 9, -160 / 9),
    "K": ("temperature", 1.0, -273.15),
    "µS/cm": ("conductivity", 1.0, 0.0),  # µmho/cm of older records is the same unit
    "mS/cm": ("conductivity", 1000.0, 0.0),
    "S/m": ("conductivity", 10_000.0, 0.0),
    "dS/m": ("conductivity", 1000.0, 0.0),
    "mS/m": ("conductivity", 10.0, 0.0),
    "mg/L": ("concentration", 1.0, 0.0),
    "µg/L": ("concentration", 0.001, 0.0),
    "ng/L": ("concentration", 1e-6, 0.0),
    "g/L": ("concentration", 1000.0, 0.0),
    "mg/m³": ("concentration", 0.001, 0.0),
    "g/m³": ("concentration", 1.0, 0.0),
    "ppm": ("concentration", 1.0, 0.0),  # by mass, in water of 1 kg/L
    "ppb": ("concentration", 0.001, 0.0),
    "mV": ("potential", 1.0, 0.0),
    "V": ("potential", 1000.0, 0.0),
    "m": ("length", 1.0, 0.0),
    "cm": ("length", 0.01, 0.0),
    "mm": ("length", 0.001, 0.0),
    "ft": ("length", _FOOT, 0.0),
    "in": ("length", 0.0254, 0.0),
    "m³/s": ("flow", 1.0, 0.0),
    "L/s": ("flow", 0.001, 0.0),
    "m³/h": ("flow", 1 / 3600, 0.0),
    "m³/d": ("flow", 1 / 86_400, 0.0),
    "ML/d": ("flow", 1000 / 86_400, 0.0),
    "ft³/s": ("flow", _CUBIC_FOOT, 0.0),
    "gal/min": ("flow", _US_GALLON / 60, 0.0),
    "Mgal/d": ("flow", 1e6 * _US_GALLON / 86_400, 0.0),
    "NTU": ("turbidity", 1.0, 0.0),
    "psu": ("salinity", 1.0, 0.0),
    "ppt": ("salinity", 1.0, 0.0),  # g/kg; practical salinity differs by less than 0.5 %
    "QSU": ("fdom", 1.0, 0.0),  # the response of 1 µg/L (1 ppb) quinine sulfate
    "count/L": ("count", 1.0, 0.0),
    "count/100mL": ("count", 10.0, 0.0),
    "count/mL": ("count", 1000.0, 0.0),
    "10⁴ cells/L": ("cells", 1.0, 0.0),
    "cells/L": ("cells", 1e-4, 0.0),
    "cells/mL": ("cells", 0.1, 0.0),
}
"""Factors are exact by definition (BIPM SI Brochure; foot, inch and US gallon: NIST SP 811) unless said otherwise."""

_N, _H, _P, _O = 14.007, 1.008, 30.974, 15.999
"""Atomic masses, g/mol: IUPAC's abridged standard atomic weights."""

_MOLAR: dict[str, float] = {
    "nh3n": _N, "ammonium_n": _N, "nitrate_n": _N, "tn": _N, "tp": _P, "do": 2 * _O, "nitrate": _N + 3 * _O,
    "ammonium": _N + 4 * _H, "chloride": 35.45, "chlorine": 70.90, "toc": 12.011, "doc": 12.011, "sulfide": 32.06,
    "f": 18.998, "cu": 63.546, "zn": 65.38, "se": 78.971, "as": 74.922, "hg": 200.592, "cd": 112.414, "cr6": 51.996,
    "pb": 207.2,
}  # fmt: skip
"""Grams a mole of what the parameter counts."""

_MOLES: dict[str, float] = {"µmol/L": 0.001, "mmol/L": 1.0, "nmol/L": 1e-6, "mmol/m³": 0.001, "mol/m³": 1.0}
"""Unit: millimoles a litre."""

_OXYGEN_ML = 1.429
"""Milligrams of oxygen in a millilitre of the gas at 0 °C and 1 atm: 31.998 g/mol in 22.392 L/mol."""

_SPECIES: dict[str, dict[str, float]] = {
    "nh3n": {"N": 1.0, "NH4": _N / (_N + 4 * _H), "NH3": _N / (_N + 3 * _H)},
    "ammonium_n": {"N": 1.0, "NH4": _N / (_N + 4 * _H)},
    "ammonium": {"N": (_N + 4 * _H) / _N, "NH4": 1.0},
    "nitrate_n": {"N": 1.0, "NO3": _N / (_N + 3 * _O)},
    "nitrate": {"N": (_N + 3 * _O) / _N, "NO3": 1.0},
    "tn": {"N": 1.0, "NO3": _N / (_N + 3 * _O)},
    "tp": {"P": 1.0, "PO4": _P / (_P + 4 * _O), "P2O5": 2 * _P / (2 * _P + 5 * _O)},
    "do": {"O2": 1.0},
    "toc": {"C": 1.0},
    "doc": {"C": 1.0},
    "chloride": {"CL": 1.0},
}
"""How much of the element (what the standard means) a milligram of each species holds, by parameter."""

SATURATION = "%"
"""A deployment of ``do`` may report % of saturation; mg/L then depends on temperature and salinity of the moment."""

_SPELLINGS = {
    "uS/cm": "µS/cm",
    "μS/cm": "µS/cm",  # the Greek letter looks the same and is not
    "µmho/cm": "µS/cm",
    "mmho/cm": "mS/cm",
    "ug/L": "µg/L",
    "μg/L": "µg/L",
    "degC": "°C",
    "℃": "°C",
    "degF": "°F",
    "m3/s": "m³/s",
    "m3/h": "m³/h",
    "mg/m3": "mg/m³",
    "QSE": "QSU",
    # the methods differ (ISO 7027, EPA 180.1, ratio, backscatter …; USGS TWRI 9-A6.7); compared alike, see the glossary
    **dict.fromkeys(("FNU", "FNRU", "FNMU", "FTU", "FBU", "FAU", "NTRU", "NTMU", "TU", "BU", "AU"), "NTU"),
}


def conversion(unit: str, canonical: str, parameter: str = "") -> Linear:
    """Conversion of values from ``unit`` to ``canonical``.

    ``unit`` may name the species the value counts, after a space: ``mg/L NH4`` for ``nh3n``, ``µg/L PO4`` for ``tp``;
    that means something only for the ``parameter`` it is measured of. ConfigurationError for a pair without a rule.
    """
    mass, _, species = unit.partition(" ")
    share = _SPECIES.get(parameter, {}).get(species.upper().rstrip("+-").removesuffix("3-"))
    if species and share is not None:
        linear = conversion(mass, canonical)
        return Linear(linear.gain * share, linear.offset)
    spelled = _SPELLINGS.get(unit, unit)
    if spelled == canonical:
        return IDENTITY
    source, target = _unit(spelled, parameter), _UNITS.get(canonical)
    if source is None or target is None or source[0] != target[0]:
        values = {"unit": unit, "canonical": canonical, "parameter": parameter}
        raise ConfigurationError(say("registry.no_conversion_of" if parameter else "registry.no_conversion", **values))
    return Linear(source[1] / target[1], (source[2] - target[2]) / target[1])


def _unit(unit: str, parameter: str) -> tuple[str, float, float] | None:
    """What a unit measures, its factor and its offset; amounts of substance by the parameter's molar mass."""
    if unit in _MOLES and parameter in _MOLAR:
        return "concentration", _MOLES[unit] * _MOLAR[parameter], 0.0
    if unit == "mL/L" and parameter == "do":
        return "concentration", _OXYGEN_ML, 0.0
    return _UNITS.get(unit)


def alternatives(canonical: str, parameter: str) -> dict[tuple[str, str], Linear]:
    """How readings change with the unit, by (old, new): from and to each other unit of what ``canonical`` measures.

    Left out are units less than twice as large or small: water changes by as much.
    """
    found: dict[tuple[str, str], Linear] = {}
    for unit in (*_UNITS, *_MOLES):
        try:
            rule = conversion(unit, canonical, parameter)
        except ConfigurationError:
            continue
        if rule.offset or max(rule.gain, 1 / rule.gain) > 2.0:
            found[unit, canonical] = rule
            found[canonical, unit] = Linear(1 / rule.gain, -rule.offset / rule.gain)
    return found


def needs_temperature(unit: str, parameter: str) -> bool:
    """Whether the conversion of ``unit`` needs the temperature of the water: oxygen in % of saturation."""
    return unit == SATURATION and parameter == "do"
