"""Checks that surface-water stations make of their analysers (2062, 2063, 2065, 2066), as calibration records.

``-Check`` is what the analyser showed, ``-StandardValue`` what it should show, ``-SpanValue`` its span; HJ 212-2025 has
``-SampleRd`` in place of ``-Check``. Two makers' programs agree on these. A spike recovery names the spike only in one
of them (``-Chroma`` times ``-Volume`` by ``-DVolume``, in one unit of volume): it is read where the site says so.
"""

import json
from datetime import datetime
from typing import Any, Final

from infra.errors import ConfigurationError
from infra.times import to_ms
from sensors.maintenance import Check
from sensors.parameters import Catalogue
from sensors.standards.hj915 import CheckKind
from sensors.wire.hj212.codes import CHECK_FLAGS, meaning

KINDS: Final = {
    "standard_check": CheckKind.STANDARD,
    "zero_check": CheckKind.ZERO,
    "span_check": CheckKind.SPAN,
    "spike_recovery": CheckKind.SPIKE,
}
VALID_FLAGS: Final = frozenset({"", "N", *CHECK_FLAGS})
"""Data flags of a check that was carried out."""
MAX_AHEAD_MS: Final = 300_000


def checks_of(station: str, event: str, received_at_ms: int, catalogue: Catalogue, *, spikes: bool) -> list[Check]:
    """The checks in an event of a logger, those for which there is a limit; ``spikes``: of recoveries as well."""
    body = json.loads(event)
    kind = KINDS.get(body["event"])
    if kind is None or body["at"] is None or (kind is CheckKind.SPIKE and not spikes):
        return []
    at_ms = to_ms(datetime.fromisoformat(body["at"]))
    if at_ms > received_at_ms + MAX_AHEAD_MS:
        return []
    found = []
    for code, keys in body["items"].items():
        parameter, linear = meaning(code, catalogue)
        values = _of_spike(keys) if kind is CheckKind.SPIKE else _of_solution(keys)
        if parameter not in catalogue or values is None or keys.get("Flag", "") not in VALID_FLAGS:
            continue
        reading, standard, span = (None if one is None else one * linear.gain for one in values)
        assert reading is not None
        assert standard is not None
        check = Check(station, parameter, kind, at_ms, standard, reading, span=span, by=f"HJ 212 {body['mn']}")
        try:
            check.judged()
        except ConfigurationError:  # no limit is known: it stays an event
            continue
        found.append(check)
    return found


_Values = tuple[float, float, float | None]
"""Reading, standard and span."""


def _of_solution(keys: dict[str, Any]) -> _Values | None:
    reading, standard, span = keys.get("Check", keys.get("SampleRd")), keys.get("StandardValue"), keys.get("SpanValue")
    if not isinstance(reading, float) or not isinstance(standard, float):
        return None
    return reading, standard, span if isinstance(span, float) else None


def _of_spike(keys: dict[str, Any]) -> _Values | None:
    """What was found of the spike, and what was added."""
    names = ("Check", "Water", "Chroma", "Volume", "DVolume")
    values = [one for name in names if isinstance(one := keys.get(name), float)]
    if len(values) < len(names) or values[4] <= 0:
        return None
    after, before, strength, added, cup = values
    return after - before, strength * added / cup, None
