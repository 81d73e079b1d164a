"""The system clock; no other module reads it."""

import time


def now_ms() -> int:
    """ms since the epoch, UTC."""
    return time.time_ns() // 1_000_000
