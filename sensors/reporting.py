"""Whether a station reports as expected: the one rule behind the API, the published states and the metrics."""

from enum import StrEnum

import numpy as np

from sensors.reading import Bools, Ints

LATE_AFTER, OFFLINE_AFTER = 1.5, 3.0
"""In expected intervals without any reading."""


class Reporting(StrEnum):
    """Whether a station reports as expected, judged by its newest reading of any flag."""

    OK = "ok"
    LATE = "late"
    OFFLINE = "offline"
    NEVER = "never"
    RETIRED = "retired"
    """Out of service: nothing is expected."""


def reporting(newest_ms: int | None, interval_s: int, now_ms: int, *, retired: bool = False) -> Reporting:
    """The state of a station by the time of its newest reading (None: it never sent one)."""
    if retired:
        return Reporting.RETIRED
    if newest_ms is None:
        return Reporting.NEVER
    silent_s = (now_ms - newest_ms) / 1000
    if silent_s <= LATE_AFTER * interval_s:
        return Reporting.OK
    return Reporting.LATE if silent_s <= OFFLINE_AFTER * interval_s else Reporting.OFFLINE


def count(newest_ms: Ints, interval_s: Ints, retired: Bools, now_ms: int) -> dict[Reporting, int]:
    """How many stations are in each state, all (n,); ``newest_ms`` is negative for never."""
    newest_ms, interval_s = newest_ms[~retired], interval_s[~retired]
    silent_s = (now_ms - newest_ms) / 1000
    reported = newest_ms >= 0
    ok = reported & (silent_s <= LATE_AFTER * interval_s)
    known = reported & (silent_s <= OFFLINE_AFTER * interval_s)
    return {
        Reporting.OK: int(ok.sum()),
        Reporting.LATE: int((known & ~ok).sum()),
        Reporting.OFFLINE: int((reported & ~known).sum()),
        Reporting.NEVER: int(np.count_nonzero(~reported)),
        Reporting.RETIRED: int(np.count_nonzero(retired)),
    }
