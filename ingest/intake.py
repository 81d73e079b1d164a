"""Collect the messages of all sources into micro-batches, and acknowledge each once its batch is durable.

One thread owns the :class:`~ingest.pipeline.Site`. Each source puts its messages into a :class:`Lane` of its own and
stops reading while that is full, so that memory is bounded and the sender keeps the rest.
"""

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from governance.incidents.finding import Finding
from infra.errors import LongTermUnavailable, SessionRenewed, StorageUnavailable, WaterError
from infra.texts import say
from ingest import pace
from ingest.ledger import Ledger
from ingest.pipeline import Outcome, Receipt
from ingest.rules.model import Rules
from sensors.reading import Message
from sensors.stations import Registry
from sensors.wire.hj212.readings import Logger
from sensors.wire.mapping import Mappings
from sensors.wire.sl651.readings import Gauge
from sensors.wire.telemetry import sending_times

log = structlog.get_logger(__name__)

MAX_BATCH = 4000
"""Most messages of one batch, half of what the brokers we configure allow unacknowledged (``max_inflight_messages``):
one batch arrives while another is stored. In a backlog a message costs a sixth less CPU than with batches of 2,000."""
FIRST_BATCH = 50
"""Most messages of the first batch; each later one may be twice as large. After a start the history of each station is
read with its first message, some ms each: the first commit must not wait for thousands."""
LINGER_S = 0.004
"""A batch waits this long for more messages; never for a number of them, which a foreign broker may hold back."""
LATE_ONE_IN = 5
"""While live messages wait, one part in so many of the time goes to late ones."""
TICK_S = 1.0
CLOCK_JUMP_MS = 10_000
"""A clock that moved so much against the monotonic one since the last tick was set: our choice, far above what NTP does
in steps of its own accord and below the shortest silence that a rule can name."""
RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0, 2.0)
"""Waits for a store that is away; the last is repeated, so that no outage is followed by a long wait."""


Process = Callable[[list[Message], int], Outcome]
"""Processes messages at a time (ms): ``Site.process`` or ``Site.handle_device_messages``."""


class Destination(Protocol):
    """What an intake hands its messages to: a :class:`~ingest.pipeline.Site`, or the bridge of a cluster."""

    late_waiting: int
    ledger: Ledger

    @property
    def registry(self) -> Registry: ...

    @property
    def loggers(self) -> Mapping[str, Logger]: ...

    @property
    def gauges(self) -> Mapping[str, Gauge]: ...

    def process(self, messages: Sequence[Message], now_ms: int) -> Outcome: ...

    def handle_device_messages(self, messages: Sequence[Message], now_ms: int) -> Outcome: ...

    def set_aside(self, message: Message, error: Exception, now_ms: int) -> Outcome: ...

    def late_batch(self) -> list[Message]: ...

    def follow_registry(self) -> bool: ...

    def follow_rules(self) -> bool: ...

    def offer_files(self, rules: Rules, mappings: Mappings) -> None: ...

    def tick(self, connected_since_ms: int | None, now_ms: int) -> list[Finding]: ...


class IntakeFull(WaterError):
    """The lane of this source is full; the same message may be sent again soon."""

    retryable = True


@dataclass(slots=True)
class PendingMessage:
    """A message, and ``done`` to call once it is durable, on the intake's thread; it must not block.

    ``packet`` names a message of the broker, which is acknowledged with its batch; the source chooses the number.
    """

    message: Message
    done: Callable[[Receipt], None] | None = None
    packet: int | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many messages, and bytes of payloads, a lane holds at most.

    A message of 300 bytes takes about 1 kB; 10,000 are a bit more than the broker's window, about half a second's work.
    """

    messages: int = 10_000
    bytes: int = 64 * 2**20


class Lane:
    """The messages of one source, from their arrival until they are acknowledged or given up.

    A source puts messages in while the lane is not ``full``. A lane is full at its bounds, and open again once half of
    that is done. It is behind from the moment it is full until three quarters of that are done.
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
        """Most messages held so far."""
        self.behind_since_ms: int | None = None
        self.caught_up_ms = 0
        """When it last ceased to be behind; 0 if it never was."""
        self._queue: queue.SimpleQueue[PendingMessage] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._clock_ms = clock_ms
        self._wake = wake
        self._on_room = on_room

    def put(self, waiting: PendingMessage) -> None:
        """Add a message; returns at once, also when the lane is full."""
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

    def take(self, most: int) -> list[PendingMessage]:
        """Take the oldest messages into a batch. Only the intake's thread calls it."""
        taken: list[PendingMessage] = []
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
        """Give the room of messages that are done free. Only the intake's thread calls it."""
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
        """Whether at most a ``part``-th of the bounds is in use."""
        return self.messages * part <= self.bounds.messages and self.bytes * part <= self.bounds.bytes


@dataclass(slots=True)
class Counters:
    """What the intake did since it started. Written by its thread only."""

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
    """When the live messages of the last batch were sent, by their devices' clocks; None if unknown."""
    last_error: str = ""
    seconds: dict[str, float] = field(default_factory=dict)


class Intake:
    """The micro-batch loop.

    ``connected_since`` tells since when (ms) the live source is connected, None while it is not.
    """

    def __init__(
        self,
        site: Destination,
        *,
        clock_ms: Callable[[], int],
        connected_since: Callable[[], int | None] = lambda: None,
        most: int = MAX_BATCH,
        linger_s: float = LINGER_S,
        bounds: Bounds = Bounds(),
    ) -> None:
        self.site = site
        self.counters = Counters()
        self._clock_ms = clock_ms
        self.connected_since = connected_since
        self._last_tick = clock_ms(), time.monotonic()
        self._clock_set: tuple[int | None, int] | None = None
        self._most = most
        self._size = min(FIRST_BATCH, most)
        self._linger_s = linger_s
        self._late_at = 0.0
        self._bounds = bounds
        self._wake = threading.Event()
        self.lanes: list[Lane] = []
        self._submitted = self.lane("http")
        self._looks: tuple[pace.Look, ...] = ()
        self._after: list[Callable[[Sequence[PendingMessage]], None]] = []
        self._watching: list[Callable[[Sequence[Message], Outcome], None]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)

    def lane(self, name: str, on_room: Callable[[], None] = lambda: None) -> Lane:
        """Add a lane for a source, before ``start``; ``on_room`` is called when a full lane is open again."""
        lane = Lane(name, self._bounds, self._clock_ms, self._wake, on_room)
        self.lanes.append(lane)
        return lane

    def after_batch(self, callback: Callable[[Sequence[PendingMessage]], None]) -> None:
        """Call this with each batch on the intake's thread, once it is durable."""
        self._after.append(callback)

    def watch(self, watcher: Callable[[Sequence[Message], Outcome], None]) -> None:
        """Call this with each batch on the intake's thread, after its acknowledgements; it must not block."""
        self._watching.append(watcher)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 30.0) -> bool:
        """Finish the messages that are held, then end the thread; false if that took longer than the timeout."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def backlog(self) -> int:
        """Messages held in all lanes."""
        return sum(lane.messages for lane in self.lanes)

    def estimate(self, now_ms: int) -> pace.Estimate:
        """What is to be done, and in what time; nothing while no lane is behind."""
        behind = [lane for lane in self.lanes if lane.behind_since_ms is not None]
        if not behind:
            return pace.Estimate(0, 0.0)
        expected_per_s = sum(1 / station.interval_s for station in self.site.registry.in_service)
        held = sum(lane.messages for lane in behind)
        return pace.estimate(self._looks, self._look(now_ms), held, expected_per_s)

    def _look(self, now_ms: int) -> pace.Look:
        return pace.Look(now_ms, self.counters.messages, self.counters.last_sent_ms)

    def put(self, waiting: PendingMessage) -> None:
        """Add a message of no other source; returns at once."""
        self._submitted.put(waiting)

    def submit(self, message: Message) -> "Future[Receipt]":
        """Add a message; the future is done once it is durable. Raises IntakeFull if the lane is full."""
        if self._submitted.full:
            raise IntakeFull(say("store.ingest_behind", count=self._submitted.messages))
        future: Future[Receipt] = Future()
        future.set_running_or_notify_cancel()  # the message is on its way: it can no longer be taken back
        self.put(PendingMessage(message, future.set_result))
        return future

    # -- the loop ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._loop()
        except Exception as error:  # the service ends when this thread does: the unacknowledged is delivered again
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
        """Process the queued late messages of one station, and choose when the next ones have their turn."""
        try:
            messages = self.site.late_batch()
        except StorageUnavailable as error:
            self.counters.last_error = str(error)
            log.warning("store unavailable, late messages wait", error=str(error))
            self._late_at = time.monotonic() + TICK_S
            return
        began = time.monotonic()
        if messages:
            self._carry([PendingMessage(message) for message in messages], self.site.process)
        busy = any(lane.waiting for lane in self.lanes)
        took_s = time.monotonic() - began
        self._late_at = began + (LATE_ONE_IN * took_s if busy else took_s) + (0 if messages else TICK_S)

    def _gather(self, patience_s: float) -> list[tuple[Lane, PendingMessage]]:
        """The next micro-batch: all that is there, and what arrives within a moment."""
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

    def _take(self, room: int) -> list[tuple[Lane, PendingMessage]]:
        """Up to ``room`` messages, an equal share of each lane: the backlog of one source does not delay others."""
        taken: list[tuple[Lane, PendingMessage]] = []
        while room > len(taken) and (lanes := [lane for lane in self.lanes if lane.waiting]):
            share = max(1, (room - len(taken)) // len(lanes))
            for lane in lanes:
                taken += [(lane, one) for one in lane.take(min(share, room - len(taken)))]
        return taken

    def _release(self, batch: Sequence[tuple[Lane, PendingMessage]]) -> None:
        """Give the room of a batch that is done free."""
        for lane in self.lanes:
            sizes = [len(waiting.message.payload) for owner, waiting in batch if owner is lane]
            if sizes:
                lane.release(len(sizes), sum(sizes))

    def _carry(self, batch: Sequence[PendingMessage], process: Process) -> None:
        """Process a batch, as often as it takes, and acknowledge it once it is durable."""
        messages = [waiting.message for waiting in batch]
        attempt = 0
        while True:
            try:
                outcome = self._process(messages, process)
                break
            except StorageUnavailable as error:
                self._note_unavailable(error, len(batch))
                if self._stopping.is_set() and (attempt >= len(RETRY_S) or not error.retryable):
                    return  # never acknowledged: the broker delivers them again
                if isinstance(error, SessionRenewed):  # the outage is over
                    attempt = 0
                time.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
                attempt += 1
            except Exception:
                log.exception("a message can neither be processed nor kept; it stays with its sender")
                return
        if outcome is None:
            half = len(batch) // 2
            self._carry(batch[:half], process)
            self._carry(batch[half:], process)
        else:
            self._acknowledge(batch, messages, outcome)

    def _process(self, messages: list[Message], process: Process) -> Outcome | None:
        """Process messages, or set a single one aside that cannot be; None if several must be tried apart.

        Raises StorageUnavailable when they can be tried again.
        """
        try:
            return process(messages, self._clock_ms())
        except LongTermUnavailable as error:  # a reading of long ago must not keep the others from being judged
            cause: Exception = error
        except StorageUnavailable:
            raise
        except Exception as error:  # a fault of ours must neither stop the others nor lose the message
            log.exception("a batch could not be processed", messages=len(messages))
            cause = error
        if len(messages) > 1:
            return None
        return self.site.set_aside(messages[0], cause, self._clock_ms())

    def _note_unavailable(self, error: StorageUnavailable, messages: int) -> None:
        self.counters.retries += 1
        self.counters.last_error = str(error)
        log.warning("store unavailable, messages wait unacknowledged", waiting=messages, error=str(error))

    def _acknowledge(self, batch: Sequence[PendingMessage], messages: list[Message], outcome: Outcome) -> None:
        """Count a batch that is durable, acknowledge its messages, and tell those who follow the batches."""
        self._count(outcome, late=bool(messages and messages[0].queued))
        for i, waiting in enumerate(batch):
            if waiting.done is None:
                continue
            try:
                waiting.done(outcome.receipt(i))
            except Exception:  # the receiver is gone; the readings are safe all the same
                log.exception("an acknowledgement failed")
        for callback in self._after:
            callback(batch)
        for watcher in self._watching:
            try:
                watcher(messages, outcome)
            except Exception:  # a watcher must not stop the readings
                log.exception("a watcher of the batches failed")

    def _count(self, outcome: Outcome, *, late: bool) -> None:
        c = self.counters
        c.batches += 1
        c.messages += outcome.messages
        c.stored += int(outcome.stored.sum())
        c.duplicate += int(outcome.duplicate.sum())
        c.quarantined += len(outcome.rejected)
        c.opened += outcome.opened
        c.last_batch_ms = self._clock_ms()
        if outcome.headers and not late:
            sent = sorted(at for at in sending_times(outcome.headers) if at is not None)
            c.last_sent_ms = sent[len(sent) // 2] if sent else None  # the median: clocks of devices differ
        for name, seconds in outcome.seconds.items():
            c.seconds[name] = c.seconds.get(name, 0.0) + seconds

    def _silence_counts_from(self, now_ms: int) -> int | None:
        """Since when stations could be heard, by the clock as it is set now; None while they cannot.

        Once the clock was set the connection is taken as new: every station has a full interval to send.
        """
        since, (before_ms, before_s) = self.connected_since(), self._last_tick
        self._last_tick = now_ms, time.monotonic()
        jump_ms = now_ms - before_ms - (self._last_tick[1] - before_s) * 1000
        if abs(jump_ms) > CLOCK_JUMP_MS:
            log.warning("the clock was set; silence is judged anew from now on", by_s=round(jump_ms / 1000))
            self._clock_set = since, now_ms
        if self._clock_set is not None and self._clock_set[0] == since:
            return None if since is None else self._clock_set[1]
        return since

    def _tick(self) -> None:
        """Follow registry and published rules, look for silent stations; a failure here never stops the readings."""
        now_ms = self._clock_ms()
        self._looks = pace.add(self._looks, self._look(now_ms))
        since_ms = self._silence_counts_from(now_ms)
        try:
            self.site.follow_registry()
            self.site.follow_rules()
            self.site.tick(since_ms, now_ms)
            self.counters.last_tick_ms = self._clock_ms()
        except StorageUnavailable as error:
            self.counters.last_error = str(error)
            log.warning("store unavailable, the check for silence waits", error=str(error))
        except Exception as error:
            self.counters.last_error = f"{type(error).__name__}: {error}"
            log.exception("the check for silence failed")
