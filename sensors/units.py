"""Units a deployment may report in, and how each becomes the parameter's canonical unit.

Exact factors by definition; only conversions that need nothing but the value itself are here.
"""

from dataclasses import dataclass

from sensors.errors import ConfigurationError


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


def conversion(unit: str, canonical: str) -> Linear:
    """How values in ``unit`` become ``canonical``; raises ConfigurationError for a pair without an exact rule."""
    spelled = _SPELLINGS.get(unit, unit)
    if spelled == canonical:
        return IDENTITY
    try:
        return _TO[spelled, canonical]
    except KeyError:
        raise ConfigurationError(f"no conversion from {unit} to {canonical} is known") from None
