"""Where all sources meet: messages in, micro-batches to the site, acknowledgements out once a batch is durable.

One thread owns the :class:`~ingest.pipeline.Site`. Each source hands its messages to a :class:`Lane` of its own and
stops reading while that is full: what the intake holds is bounded whatever arrives, and the sender keeps the rest.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import structlog

from infra.errors import LongTermUnavailable, StorageUnavailable, WaterError
from infra.texts import sentence
from ingest.pipeline import Outcome, Receipt, Site
from sensors.reading import Message

log = structlog.get_logger(__name__)

MOST = 2000
"""Messages of one batch at most; brokers of ours allow as many unacknowledged (``max_inflight_messages``)."""
FIRST = 50
"""Messages of the first batch; each batch may be twice as large as the one before. Right after a start the past of
every station is read when it is first heard of, some ms each: the first commit must not wait for thousands."""
LINGER_S = 0.004
"""A batch waits this long for company; it never waits for a count, since a foreign broker may hold back the rest."""
LATE_EVERY = 5
"""While live messages wait, late ones have one part in so many of the time."""
TICK_S = 1.0
RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Busy(WaterError):
    """The intake holds as many messages of this source as it may; the same message may be sent again soon."""

    retryable = True


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message and what to do once it is durable; ``done`` runs on the intake's thread and must not block."""

    message: Message
    done: Callable[[Receipt], None]


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of one source the intake holds at most. A message of 300 bytes takes about 1 kB: 10,000 are five
    batches, about a second's work, which keeps the intake busy; the bytes are those of payloads, for large ones."""

    messages: int = 10_000
    bytes: int = 64 * 2**20


class Lane:
    """The messages of one source that the intake holds: from their arrival until they are acknowledged or given up.

    A source puts in one message after the other while the lane is not ``full``. A lane is full at its bounds, and again
    open once half of that is done. It is ``behind`` from the moment it was full until three quarters of it are done.
    """

    def __init__(
        self,
        name: str,
        bounds: Bounds,
        clock_ms: Callable[[], int],
        wake: threading.Event,
        on_room: Callable[[], None],
    ) -> None:
        self.name = name
        self.bounds = bounds
        self.full = False
        self.messages = 0
        self.bytes = 0
        self.most_messages = 0
        """The most messages ever held."""
        self.behind_since_ms: int | None = None
        self.caught_up_ms = 0
        """When it was last no longer behind; 0 where it never was."""
        self._queue: queue.SimpleQueue[Waiting] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._clock_ms = clock_ms
        self._wake = wake
        self._on_room = on_room

    def put(self, waiting: Waiting) -> None:
        """Hand a message over; returns at once, also when the lane is full."""
        with self._lock:
            self.messages += 1
            self.bytes += len(waiting.message.payload)
            self.most_messages = max(self.most_messages, self.messages)
            if self.messages >= self.bounds.messages or self.bytes >= self.bounds.bytes:
                self.full = True
                if self.behind_since_ms is None:
                    self.behind_since_ms = self._clock_ms()
        self._queue.put(waiting)
        if not self._wake.is_set():
            self._wake.set()

    def take(self, most: int) -> list[Waiting]:
        """The oldest messages that are not in a batch yet. For the intake's thread."""
        taken: list[Waiting] = []
        while len(taken) < most:
            try:
                taken.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return taken

    @property
    def waiting(self) -> int:
        """Messages that are not in a batch yet."""
        return self._queue.qsize()

    def release(self, messages: int, size: int) -> None:
        """So many messages and bytes are done. For the intake's thread."""
        with self._lock:
            self.messages -= messages
            self.bytes -= size
            opened = self.full and self._filled(2)
            self.full = self.full and not opened
            if self.behind_since_ms is not None and self._filled(4):
                self.behind_since_ms, self.caught_up_ms = None, self._clock_ms()
        if opened:
            self._on_room()

    def _filled(self, part: int) -> bool:
        """Whether at most this part (a half, a quarter) of the lane is in use."""
        return self.messages * part <= self.bounds.messages and self.bytes * part <= self.bounds.bytes


def _nothing(_receipt: Receipt) -> None:
    """The sender was answered when the message was stored."""


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
    last_sent_ms: int | None = None
    """When the last message of the last batch was sent, by its device's clock; None where it does not say."""
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
        bounds: Bounds = Bounds(),
    ) -> None:
        self.site = site
        self.counters = Counters()
        self._clock_ms = clock_ms
        self.connected_since = connected_since
        self._most = most
        self._size = min(FIRST, most)
        self._linger_s = linger_s
        self._late_at = 0.0
        self._bounds = bounds
        self._wake = threading.Event()
        self.lanes: list[Lane] = []
        self._submitted = self.lane("http")
        self._after: list[Callable[[], None]] = []
        self._watching: list[Callable[[Sequence[Message], Outcome], None]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)

    def lane(self, name: str, on_room: Callable[[], None] = lambda: None) -> Lane:
        """A lane for one more source, before ``start``; ``on_room`` is called when it was full and is open again."""
        lane = Lane(name, self._bounds, self._clock_ms, self._wake, on_room)
        self.lanes.append(lane)
        return lane

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
        self._wake.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def backlog(self) -> int:
        """Messages handed over and not done yet."""
        return sum(lane.messages for lane in self.lanes)

    def put(self, waiting: Waiting) -> None:
        """Hand a message over that belongs to no other source; returns at once."""
        self._submitted.put(waiting)

    def submit(self, message: Message) -> "Future[Receipt]":
        """Hand a message over; the future is done once it is durable. Raises Busy when too many wait already."""
        if self._submitted.full:
            raise Busy(sentence("store.ingest_behind", count=self._submitted.messages))
        future: Future[Receipt] = Future()
        future.set_running_or_notify_cancel()  # the message is on its way: it can no longer be taken back
        self.put(Waiting(message, future.set_result))
        return future

    # -- the loop ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._loop()
        except Exception as error:  # whoever watches this thread ends the process: what is unacknowledged comes again
            self.counters.last_error = f"{type(error).__name__}: {error}"
            log.exception("the intake has failed")

    def _loop(self) -> None:
        next_tick = time.monotonic() + TICK_S
        while True:
            late_turn = self.site.late_waiting > 0 and time.monotonic() >= self._late_at
            batch = self._gather(0.0 if late_turn else max(0.0, next_tick - time.monotonic()))
            if not batch and self._stopping.is_set():
                return
            signals = [waiting for _, waiting in batch if waiting.message.kind != "telemetry"]
            readings = [waiting for _, waiting in batch if waiting.message.kind == "telemetry"]
            if signals:
                self._carry(signals, self.site.handle_device_messages)
            if readings:
                self._carry(readings, self.site.process)
            if batch:
                self._size = min(2 * self._size, self._most)
                self._release(batch)
            if late_turn and not self._stopping.is_set():
                self._judge_late()
            if time.monotonic() >= next_tick:
                self._tick()
                next_tick = time.monotonic() + TICK_S

    def _judge_late(self) -> None:
        """The late messages of one station; while live ones keep coming, a fifth of the time is for late ones."""
        try:
            messages = self.site.late_batch()
        except StorageUnavailable as error:
            self.counters.last_error = str(error)
            log.warning("store unavailable, late messages wait", error=str(error))
            self._late_at = time.monotonic() + TICK_S
            return
        began = time.monotonic()
        if messages:
            self._carry([Waiting(message, _nothing) for message in messages], self.site.process)
        busy = any(lane.waiting for lane in self.lanes)
        took_s = time.monotonic() - began
        self._late_at = began + (LATE_EVERY * took_s if busy else took_s) + (0 if messages else TICK_S)

    def _gather(self, patience_s: float) -> list[tuple[Lane, Waiting]]:
        """The next micro-batch: whatever is there, and a moment's worth of what follows."""
        if not self._stopping.is_set():
            self._wake.wait(patience_s)
        self._wake.clear()
        batch = self._take(self._size)
        if not batch:
            return batch
        until = time.monotonic() + self._linger_s
        while len(batch) < self._size and not self._stopping.is_set():
            more = self._take(self._size - len(batch))
            batch += more
            if not more:
                left = until - time.monotonic()
                if left <= 0:
                    break
                time.sleep(min(left, 0.001))
        if any(lane.waiting for lane in self.lanes):
            self._wake.set()  # the next batch need not wait for the next message
        return batch

    def _take(self, room: int) -> list[tuple[Lane, Waiting]]:
        """Up to ``room`` messages, an equal share of each source: the backlog of one does not hold up the others."""
        taken: list[tuple[Lane, Waiting]] = []
        while room > len(taken) and (lanes := [lane for lane in self.lanes if lane.waiting]):
            share = max(1, (room - len(taken)) // len(lanes))
            for lane in lanes:
                taken += [(lane, one) for one in lane.take(min(share, room - len(taken)))]
        return taken

    def _release(self, batch: Sequence[tuple[Lane, Waiting]]) -> None:
        """These messages are done: their sources may hand over others."""
        for lane in self.lanes:
            sizes = [len(waiting.message.payload) for owner, waiting in batch if owner is lane]
            if sizes:
                lane.release(len(sizes), sum(sizes))

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
        header = outcome.headers[-1] if outcome.headers else None
        c.last_sent_ms = None if header is None else header.sent_at_ms
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
