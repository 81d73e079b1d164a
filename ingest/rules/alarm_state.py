"""The active alarms: conditions that fired and have not ended."""

from collections.abc import Sequence
from dataclasses import dataclass

from governance.incidents.finding import ConditionChange, Finding


@dataclass(frozen=True, slots=True)
class Alarm:
    """One active condition; ``retrospective`` where it fired on late data, ``flapping`` where it flaps and must stay
    clear for longer."""

    cause: str
    fired_at_ms: int
    since_ms: int
    retrospective: bool
    flapping: bool = False


AlarmKey = tuple[str, str, str]
"""(rule, station, parameter); the parameter is empty for rules about a whole station."""


def update_alarms(alarms: dict[AlarmKey, Alarm], findings: Sequence[Finding]) -> set[AlarmKey]:
    """Update ``alarms`` in place with new findings; returns the keys that changed."""
    changed: set[AlarmKey] = set()
    for f in findings:
        key = (f.rule, f.station, f.parameter or "")
        if f.change is ConditionChange.FIRED:
            alarms[key] = Alarm(f.cause, f.observed_at_ms, f.since_ms, f.retrospective, f.flapping)
            changed.add(key)
        elif alarms.pop(key, None) is not None:
            changed.add(key)
    return changed
