"""The one place that asks what time it is."""

import time


def now_ms() -> int:
    """ms since the epoch, UTC."""
    return time.time_ns() // 1_000_000
