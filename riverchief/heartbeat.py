"""The dead-man signal: an external monitor is called while everything works, and alarms when the calls stop.

There is no call for "something is wrong": whatever is wrong with us may also keep that call from being made. Silence is
the only signal a dead machine, a cut line or a hanging process can give.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import httpx
import structlog

from infra import outgoing
from infra.errors import ConfigurationError
from infra.periodic import PeriodicWorker
from infra.texts import say

log = structlog.get_logger(__name__)

TIMEOUT_S = 10.0
RETRY_S = (1.0, 3.0)
"""A call that fails is tried again after so long; then the next one has its turn."""


class Heartbeat(PeriodicWorker):
    """A thread that calls an address every ``every_s`` seconds while nothing is ailing.

    Parameters
    ----------
    url : str
        Where to; a secret, so it is never logged nor shown. ConfigurationError if it cannot be called.
    ailing : callable
        The names of the parts that do not work; empty while everything does.
    again_s : sequence of float
        Waits before a failed call is tried again, within the same beat.
    """

    def __init__(
        self,
        url: str,
        failing_parts: Callable[[], Sequence[str]],
        *,
        every_s: float,
        clock_ms: Callable[[], int],
        timeout_s: float = TIMEOUT_S,
        again_s: Sequence[float] = RETRY_S,
    ) -> None:
        super().__init__("heartbeat")
        try:
            address = httpx.URL(url)
        except httpx.InvalidURL:
            address = httpx.URL()
        if address.scheme not in {"http", "https"} or not address.host:
            raise ConfigurationError(say("settings.heartbeat"))
        self._url = address
        self._failing_parts = failing_parts
        self._every_s = every_s
        self._clock_ms = clock_ms
        self._timeout_s = timeout_s
        self._again_s = again_s
        self._next_at = 0.0
        self.last_ok_ms: int | None = None
        self.last_error = ""
        """Why the last beat was not given; empty while all is well."""

    @property
    def ok(self) -> bool:
        """Whether the last beat got through."""
        return self.last_ok_ms is not None and not self.last_error

    @contextmanager
    def open(self) -> Iterator[None]:
        self._next_at = time.monotonic()
        with httpx.Client(timeout=self._timeout_s, follow_redirects=False) as self._client:
            yield

    def next_round(self) -> float:
        self._next_at = max(self._next_at + self._every_s, time.monotonic())
        try:
            self._set_error(self._beat())
        except Exception as error:  # a part that cannot be asked is not well
            self._set_error(f"the parts cannot be asked: {type(error).__name__}")
        return max(0.0, self._next_at - time.monotonic())

    def _beat(self) -> str:
        """One beat: why it was not given, empty when it was."""
        error = ""
        for wait_s in (0.0, *self._again_s):
            if self._stopping.wait(wait_s):
                return error
            if failing_parts := sorted(self._failing_parts()):
                return f"not well: {', '.join(failing_parts)}"
            error = self._call()
            if not error:
                self.last_ok_ms = self._clock_ms()
                return ""
        return error

    def _call(self) -> str:
        """The names of errors only: their texts quote the address."""
        try:
            with outgoing.guarded(), self._client.stream("GET", self._url) as answer:
                return "" if answer.is_success else f"{self._url.host} answers HTTP {answer.status_code}"
        except httpx.HTTPError as error:
            return f"{self._url.host} cannot be reached: {type(error).__name__}"

    def _set_error(self, error: str) -> None:
        """Set ``last_error`` and log a change of it."""
        if error and error != self.last_error:
            log.error("no heartbeat is given", reason=error)
        elif self.last_error and not error:
            log.info("heartbeats are given again")
        self.last_error = error
