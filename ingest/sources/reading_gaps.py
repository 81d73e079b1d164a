"""Gaps in the readings of each device, kept until they were fetched from it."""

from collections import deque
from collections.abc import Mapping
from typing import Final

from infra.times import DAY_MS, MINUTE_MS

MIN_GAP_MS: Final = 10 * MINUTE_MS
"""A shorter pause is no gap."""
MAX_GAP_MS: Final = 31 * DAY_MS
MAX_GAPS: Final = 8

Gap = tuple[int, int]
"""Begin and end, ms UTC: the reading before and the reading after."""


class ReadingGaps:
    """The newest reading of each device, and its gaps that are still to be fetched."""

    def __init__(self) -> None:
        self._last_at: dict[str, int] = {}
        self._gaps: dict[str, deque[Gap]] = {}

    def start(self, last_at: Mapping[str, int | None]) -> None:
        """Begin with the newest readings that are stored."""
        self._last_at = {device: at for device, at in last_at.items() if at is not None}

    def notice(self, device: str, at_ms: int, now_ms: int, pause_ms: float) -> Gap | None:
        """Take the time of a reading; the new gap before it, where no reading came for more than ``pause_ms``."""
        if at_ms > now_ms + MIN_GAP_MS:
            return None  # the device's clock is wrong
        last = self._last_at.get(device)
        self._last_at[device] = at_ms if last is None else max(last, at_ms)
        if last is None or at_ms - last <= max(MIN_GAP_MS, pause_ms):
            return None
        gap = (max(last, at_ms - MAX_GAP_MS), at_ms)
        self._gaps.setdefault(device, deque(maxlen=MAX_GAPS)).append(gap)
        return gap

    def of(self, device: str) -> list[Gap]:
        """The gaps of a device, the oldest first."""
        return list(self._gaps.get(device, ()))

    def close(self, device: str, gap: Gap) -> None:
        """A gap was fetched."""
        if gap in self._gaps.get(device, ()):
            self._gaps[device].remove(gap)
