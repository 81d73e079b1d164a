"""Read the formula of an assessment: weights of the indicators, terms, patrols due."""

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from governance.assessment.model import Formula, Indicator
from governance.organisation.roles import Role
from infra import toml_text
from infra.errors import ConfigurationError
from infra.texts import say


def read(text: str) -> Formula:
    """The formula of a file; raises ConfigurationError naming what is wrong."""
    try:
        table = toml_text.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(say("file.no_toml", error=error)) from error
    unknown = sorted(set(table) - {"example", "weights", "terms", "patrols_due"})
    if unknown:
        raise ConfigurationError(say("assessment.unknown", unknown=unknown[0]))
    formula = Formula(_weights(table.get("weights", {})), example=table.get("example", True) is not False)
    if "patrols_due" in table:
        formula = replace(formula, patrols_due=_patrols_due(table["patrols_due"]))
    terms = table.get("terms", {})
    for name, value in terms.items():
        default = getattr(formula, name, None) if name in _TERM_KEYS else None
        if default is None or type(value) is not type(default) or (not isinstance(value, bool) and value < 0):
            raise ConfigurationError(say("assessment.no_term", name=name, value=value, known=", ".join(_TERM_KEYS)))
    return replace(formula, **terms)


def _weights(table: Mapping[str, Any]) -> dict[Indicator, float]:
    weights: dict[Indicator, float] = {}
    for name, weight in table.items():
        if name not in list(Indicator):
            raise ConfigurationError(say("assessment.no_indicator", name=name, known=", ".join(Indicator)))
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < 1e6:
            raise ConfigurationError(say("assessment.no_weight", name=name, weight=weight))
        weights[Indicator(name)] = float(weight)
    if not any(weights.values()):
        raise ConfigurationError(say("assessment.all_zero"))
    return weights


MAX_PATROLS = 100
"""The most patrols a month that a formula may require of one person."""


def _patrols_due(table: Mapping[str, Any]) -> dict[Role, int]:
    """Patrols a month by role; a role that is not named owes none."""
    for name, number in table.items():
        if name not in list(Role):
            raise ConfigurationError(say("assessment.no_role", name=name, known=", ".join(Role)))
        if type(number) is not int or not 0 <= number <= MAX_PATROLS:
            raise ConfigurationError(say("assessment.no_patrols", name=name, number=number, most=MAX_PATROLS))
    return {Role(name): number for name, number in table.items()}


_TERM_KEYS = ("closing_grace_days", "recurrence_days", "appeal_days", "retrospective", "deputies_patrol")
