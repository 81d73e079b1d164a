"""Where all sources meet: messages in, micro-batches to the site, acknowledgements out once a batch is durable.

One thread owns the :class:`~ingest.pipeline.Site`: sources hand messages over and never wait for a store.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import structlog

from ingest.pipeline import Outcome, Receipt, Site
from sensors.errors import LongTermUnavailable, StorageUnavailable
from sensors.reading import Message

log = structlog.get_logger(__name__)

MOST = 2000
"""Messages of one batch at most; brokers of ours allow as many unacknowledged (``max_inflight_messages``)."""
LINGER_S = 0.004
"""A batch waits this long for company; it never waits for a count, since a foreign broker may hold back the rest."""
TICK_S = 1.0
RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message and what to do once it is durable; ``done`` runs on the intake's thread and must not block."""

    message: Message
    done: Callable[[Receipt], None]


@dataclass(slots=True)
class Counters:
    """What the intake did since it started, for metrics and the latency account. Written by one thread."""

    batches: int = 0
    messages: int = 0
    stored: int = 0
    duplicate: int = 0
    quarantined: int = 0
    opened: int = 0
    retries: int = 0
    last_batch_ms: int = 0
    last_tick_ms: int = 0
    last_error: str = ""
    seconds: dict[str, float] = field(default_factory=dict)


class Intake:
    """The micro-batch loop. ``connected_since`` tells since when the live source is connected, None while it is not."""

    def __init__(
        self,
        site: Site,
        *,
        clock_ms: Callable[[], int],
        connected_since: Callable[[], int | None] = lambda: None,
        most: int = MOST,
        linger_s: float = LINGER_S,
    ) -> None:
        self.site = site
        self.counters = Counters()
        self._clock_ms = clock_ms
        self.connected_since = connected_since
        self._most = most
        self._linger_s = linger_s
        self._queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._after: list[Callable[[], None]] = []
        self._watching: list[Callable[[Sequence[Message], Outcome], None]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)

    def after_batch(self, callback: Callable[[], None]) -> None:
        """Call this on the intake's thread when all of a batch has been told that it is durable."""
        self._after.append(callback)

    def watch(self, watcher: Callable[[Sequence[Message], Outcome], None]) -> None:
        """Call this on the intake's thread after each batch, once its acknowledgements are out; it must not block."""
        self._watching.append(watcher)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 30.0) -> bool:
        """Finish what was handed over, then leave; false when that took too long."""
        self._stopping.set()
        self._queue.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def backlog(self) -> int:
        """Messages handed over and not yet in a batch."""
        return self._queue.qsize()

    def put(self, waiting: Waiting) -> None:
        """Hand a message over; returns at once."""
        self._queue.put(waiting)

    def submit(self, message: Message) -> "Future[Receipt]":
        """Hand a message over; the future is done once it is durable."""
        future: Future[Receipt] = Future()
        future.set_running_or_notify_cancel()  # the message is on its way: it can no longer be taken back
        self.put(Waiting(message, future.set_result))
        return future

    # -- the loop ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        next_tick = time.monotonic() + TICK_S
        while True:
            batch = self._gather(max(0.0, next_tick - time.monotonic()))
            signals = [waiting for waiting in batch if waiting.message.kind != "telemetry"]
            if signals:
                self._carry(signals, self.site.hear)
                batch = [waiting for waiting in batch if waiting.message.kind == "telemetry"]
            if batch:
                self._carry(batch, self.site.process)
            elif not signals and self._stopping.is_set():
                return
            if time.monotonic() >= next_tick:
                self._tick()
                next_tick = time.monotonic() + TICK_S

    def _gather(self, patience_s: float) -> list[Waiting]:
        """The next micro-batch: whatever is there, and a moment's worth of what follows."""
        try:
            first = self._queue.get(timeout=patience_s) if patience_s else self._queue.get_nowait()
        except queue.Empty:
            return []
        batch = [] if first is None else [first]
        until = time.monotonic() + self._linger_s
        while len(batch) < self._most:
            try:
                one = self._queue.get_nowait()
            except queue.Empty:
                left = until - time.monotonic()
                if left <= 0 or self._stopping.is_set():
                    break
                time.sleep(min(left, 0.001))
                continue
            if one is not None:
                batch.append(one)
        return batch

    def _carry(self, batch: Sequence[Waiting], process: Callable[[list[Message], int], Outcome]) -> None:
        """Process a batch, as often as it takes; acknowledged only when it is durable."""
        messages = [waiting.message for waiting in batch]
        attempt = 0
        while True:
            try:
                outcome = process(messages, self._clock_ms())
                break
            except LongTermUnavailable as error:  # a reading of long ago must not keep the others from being judged
                apart: Exception | None = error
            except StorageUnavailable as error:
                failure, apart = error, None
            except Exception as error:  # a fault of ours must neither stop the others nor lose the message
                log.exception("a batch could not be processed", messages=len(batch))
                apart = error
            if apart is not None:
                if len(batch) > 1:
                    self._carry(batch[: len(batch) // 2], process)
                    self._carry(batch[len(batch) // 2 :], process)
                    return
                try:
                    outcome = self.site.set_aside(messages[0], apart, self._clock_ms())
                    break
                except StorageUnavailable as unavailable:
                    failure = unavailable
                except Exception:
                    log.exception("a message can neither be processed nor kept; it stays with its sender")
                    return
            self.counters.retries += 1
            self.counters.last_error = str(failure)
            log.warning("store unavailable, messages wait unacknowledged", waiting=len(batch), error=str(failure))
            if self._stopping.is_set() and attempt >= len(RETRY_S):
                return  # never acknowledged: the broker delivers them again
            time.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
            attempt += 1
        self._count(outcome)
        for i, waiting in enumerate(batch):
            try:
                waiting.done(outcome.receipt(i))
            except Exception:  # the receiver of the word is gone; the readings are safe all the same
                log.exception("an acknowledgement failed")
        for callback in self._after:
            callback()
        for watcher in self._watching:
            try:
                watcher(messages, outcome)
            except Exception:  # whoever looks on must not stop the readings
                log.exception("a watcher of the batches failed")

    def _count(self, outcome: Outcome) -> None:
        c = self.counters
        c.batches += 1
        c.messages += outcome.messages
        c.stored += int(outcome.stored.sum())
        c.duplicate += int(outcome.duplicate.sum())
        c.quarantined += len(outcome.rejected)
        c.opened += outcome.opened
        c.last_batch_ms = self._clock_ms()
        for name, seconds in outcome.seconds.items():
            c.seconds[name] = c.seconds.get(name, 0.0) + seconds

    def _tick(self) -> None:
        """Registry changes and silent stations; trouble here never stops the readings."""
        try:
            self.site.follow_registry()
            self.site.tick(self.connected_since(), self._clock_ms())
            self.counters.last_tick_ms = self._clock_ms()
        except StorageUnavailable as error:
            self.counters.last_error = str(error)
            log.warning("store unavailable, the check for silence waits", error=str(error))
        except Exception as error:
            self.counters.last_error = f"{type(error).__name__}: {error}"
            log.exception("the check for silence failed")
