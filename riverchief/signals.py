"""Signals of the operating system."""

import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def on_signal(leave: Callable[..., None]) -> Iterator[None]:
    """SIGTERM and SIGINT call ``leave`` while this lasts."""
    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
