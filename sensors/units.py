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

_TO: dict[tuple[str, str], Linear] = {
    ("°F", "°C"): Linear(5 / 9, -160 / 9),
    ("K", "°C"): Linear(1.0, -273.15),
    ("mS/cm", "µS/cm"): Linear(1000.0),
    ("S/m", "µS/cm"): Linear(10_000.0),
    ("µg/L", "mg/L"): Linear(0.001),
    ("mg/m³", "mg/L"): Linear(0.001),
    ("g/m³", "mg/L"): Linear(1.0),
    ("mg/m³", "µg/L"): Linear(1.0),
    ("mg/L", "µg/L"): Linear(1000.0),
    ("V", "mV"): Linear(1000.0),
    ("m", "cm"): Linear(100.0),
    ("cm", "m"): Linear(0.01),
    ("mm", "m"): Linear(0.001),
    ("L/s", "m³/s"): Linear(0.001),
    ("m³/h", "m³/s"): Linear(1 / 3600),
    ("cm", "mm"): Linear(10.0),
}

_N, _H, _P, _O = 14.007, 1.008, 30.974, 15.999
"""Atomic masses, g/mol: IUPAC's abridged standard atomic weights."""

_SPECIES: dict[str, dict[str, float]] = {
    "nh3n": {"N": 1.0, "NH4": _N / (_N + 4 * _H), "NH3": _N / (_N + 3 * _H)},
    "tn": {"N": 1.0},
    "tp": {"P": 1.0, "PO4": _P / (_P + 4 * _O), "P2O5": 2 * _P / (2 * _P + 5 * _O)},
}
"""How much of the element (what the standard means) a milligram of each species holds, by parameter."""

SATURATION = "%"
"""A deployment of ``do`` may report % of saturation; mg/L then depends on temperature and salinity of the moment."""

_SPELLINGS = {
    "uS/cm": "µS/cm",
    "μS/cm": "µS/cm",  # the Greek letter looks the same and is not
    "ug/L": "µg/L",
    "μg/L": "µg/L",
    "degC": "°C",
    "℃": "°C",
    "degF": "°F",
    "m3/s": "m³/s",
    "m3/h": "m³/h",
    "mg/m3": "mg/m³",
    "FNU": "NTU",  # the method differs (ISO 7027 against EPA 180.1); numerically compared alike, see the glossary
}


def conversion(unit: str, canonical: str, parameter: str = "") -> Linear:
    """Conversion of values from ``unit`` to ``canonical``.

    ``unit`` may name the species the value counts, after a space: ``mg/L NH4`` for ``nh3n``, ``µg/L PO4`` for ``tp``;
    that means something only for the ``parameter`` it is measured of. ConfigurationError for a pair without a rule.
    """
    mass, _, species = unit.partition(" ")
    share = _SPECIES.get(parameter, {}).get(species.removesuffix("+").removesuffix("3-"))
    if species and share is not None:
        linear = conversion(mass, canonical)
        return Linear(linear.gain * share, linear.offset)
    spelled = _SPELLINGS.get(unit, unit)
    if spelled == canonical:
        return IDENTITY
    try:
        return _TO[spelled, canonical]
    except KeyError:
        values = {"unit": unit, "canonical": canonical, "parameter": parameter}
        raise ConfigurationError(
            say("registry.no_conversion_of" if parameter else "registry.no_conversion", **values)
        ) from None


def needs_temperature(unit: str, parameter: str) -> bool:
    """Whether the conversion of ``unit`` needs the temperature of the water: oxygen in % of saturation."""
    return unit == SATURATION and parameter == "do"
