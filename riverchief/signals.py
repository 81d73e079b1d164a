"""Signals of the operating system."""

import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def on_signal(leave: Callable[..., None]) -> Iterator[None]:
    """SIGTERM and SIGINT call ``leave`` while this lasts."""
    with _handled(leave, signal.SIGTERM, signal.SIGINT):
        yield


@contextlib.contextmanager
def on_hangup(reload: Callable[..., None]) -> Iterator[None]:
    """SIGHUP calls ``reload`` while this lasts, where there is such a signal."""
    with _handled(reload, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else ())):
        yield


@contextlib.contextmanager
def _handled(handler: Callable[..., None], *numbers: signal.Signals) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
