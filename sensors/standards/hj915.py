"""Checks of sensors and analysers after HJ 915: their error, and whether it passes.

The limits, and how often a check is due, stand in ``hj915.toml`` with their sources, none of which is the standard's
own text; a site that holds the text gives its own limit with a check. The default is the national network's set.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Final

from infra import toml_text
from infra.errors import ConfigurationError
from infra.texts import say

NATIONAL: Final = "national"


class CheckKind(StrEnum):
    """What was checked."""

    ZERO = "zero"
    """零点核查: the reading of zero solution."""
    SPAN = "span"
    """跨度核查: the reading of a solution near the span."""
    ZERO_DRIFT = "zero_drift"
    """零点漂移: zero solution against the day before."""
    SPAN_DRIFT = "span_drift"
    """跨度漂移: span solution against the day before."""
    STANDARD = "standard"
    """标准溶液核查: a standard solution of known value."""
    SPIKE = "spike"
    """加标回收: what was found of what was added to the sample."""
    FIVE = "five"
    """五参数核查: temperature, pH, oxygen, conductivity or turbidity against a standard or a second instrument."""


DRIFTS: Final = (CheckKind.ZERO_DRIFT, CheckKind.SPAN_DRIFT)


class ErrorKind(StrEnum):
    """How an error is counted."""

    ABSOLUTE = "absolute"
    RELATIVE = "relative"
    OF_SPAN = "of_span"


@dataclass(frozen=True, slots=True)
class Limit:
    """The largest error that passes, in the parameter's unit (absolute) or in % (relative, of the span)."""

    kind: ErrorKind
    most: float


def limit(check: CheckKind, parameter: str, *, own: float | None = None, table: str = NATIONAL) -> Limit:
    """The limit in force for a check of ``parameter``; ``own`` replaces the table's number.

    Raises ConfigurationError where the table has none and none is given.
    """
    rows = _tables().get(table)
    if rows is None:
        raise ConfigurationError(say("maintenance.no_table", table=table, known=", ".join(_tables())))
    kind, most = rows.get((check, parameter), (_COUNTED[check], None))
    most = most if own is None else own
    if most is None:
        raise ConfigurationError(say("maintenance.no_limit", check=check, parameter=parameter))
    if not (math.isfinite(most) and most > 0):
        raise ConfigurationError(say("maintenance.limit_above", limit=most))
    return Limit(kind, most)


def kinds(parameter: str) -> tuple[CheckKind, ...]:
    """The checks that are made of a parameter's sensor, the usual one first."""
    found = []
    for kind in (CheckKind.FIVE, CheckKind.STANDARD, CheckKind.SPAN, CheckKind.ZERO, *DRIFTS):
        try:
            limit(kind, parameter)
        except ConfigurationError:
            continue
        found.append(kind)
    return tuple(found) or (CheckKind.STANDARD,)


def error(
    kind: ErrorKind, reading: float, standard: float, *, span: float | None = None, before: float | None = None
) -> float:
    """The error of a reading: in its unit where absolute, in % elsewhere.

    ``before`` is the reading of the same solution a day earlier, ``span`` the span value (跨度值); drift needs both.
    Raises ConfigurationError naming what is missing or 0.
    """
    if kind is ErrorKind.ABSOLUTE:
        return reading - standard
    if kind is ErrorKind.RELATIVE:
        if standard == 0:
            raise ConfigurationError(say("maintenance.standard_zero"))
        return (reading - standard) / standard * 100
    if before is None or span is None or span <= 0:
        raise ConfigurationError(say("maintenance.drift_needs"))
    return (reading - before) / span * 100


def within(found: float, most: float) -> bool:
    """Whether an error passes; exactly the limit does, in spite of binary fractions."""
    return abs(found) <= most or math.isclose(abs(found), most, rel_tol=1e-9)


def check_days(parameter: str) -> int | None:
    """Days from one check of a parameter's sensor to the next; None where no interval is known."""
    days: int | None = _read()["due"]["check"].get(parameter)
    return days


def visit_days() -> int:
    """Days from one visit of a station to the next."""
    days: int = _read()["due"]["visit"]
    return days


_COUNTED: Final = {
    CheckKind.ZERO: ErrorKind.ABSOLUTE,
    CheckKind.SPAN: ErrorKind.RELATIVE,
    CheckKind.ZERO_DRIFT: ErrorKind.OF_SPAN,
    CheckKind.SPAN_DRIFT: ErrorKind.OF_SPAN,
    CheckKind.STANDARD: ErrorKind.RELATIVE,
    CheckKind.SPIKE: ErrorKind.RELATIVE,
    CheckKind.FIVE: ErrorKind.ABSOLUTE,
}


@cache
def _read() -> Mapping[str, Any]:
    """The file as read."""
    return toml_text.shipped("sensors.standards", "hj915.toml")


@cache
def _tables() -> Mapping[str, Mapping[tuple[CheckKind, str], tuple[ErrorKind, float]]]:
    """Table name → (check, parameter) → how the error is counted, and its limit."""
    return {
        name: {
            (CheckKind(check.removesuffix("_relative")), parameter): (ErrorKind(row["kind"]), most)
            for check, row in checks.items()
            for parameter, most in row["limits"].items()
        }
        for name, checks in _read().items()
        if name != "due"
    }
