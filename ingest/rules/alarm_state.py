"""The conditions that are firing, as the engine remembers them."""

from collections.abc import Sequence
from dataclasses import dataclass

from governance.incidents.finding import Change, Finding


@dataclass(frozen=True, slots=True)
class Alarm:
    """One condition that fired and has not ended; ``held`` where it keeps coming back and must be calm for longer."""

    cause: str
    fired_at_ms: int
    since_ms: int
    past: bool
    held: bool = False


Key = tuple[str, str, str]
"""(rule, station, parameter); parameter is empty for rules about the station as a whole."""


def apply(alarms: dict[Key, Alarm], findings: Sequence[Finding]) -> set[Key]:
    """Bring the remembered alarms up to date; returns the keys that changed."""
    changed: set[Key] = set()
    for f in findings:
        key = (f.rule, f.station, f.parameter or "")
        if f.change is Change.FIRED:
            alarms[key] = Alarm(f.cause, f.observed_at_ms, f.since_ms, f.retrospective, f.held)
            changed.add(key)
        elif alarms.pop(key, None) is not None:
            changed.add(key)
    return changed
