"""The stream as a source: the messages of one partition in order, their position noted after the commit."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from infra.errors import StorageUnavailable
from ingest.cluster.leases import FencedDatabase
from ingest.cluster.transport import Entry, Reader, Routed, Transport, pack, unpack
from ingest.intake import Intake, PendingMessage
from ingest.pipeline import Receipt
from sensors.reading import Message

log = structlog.get_logger(__name__)

MAX_FETCHED = 64
FETCH_S = 1.0
PAUSE_S = 0.5
DISCARD_EVERY_S = 10.0


@dataclass(slots=True)
class _Open:
    """An entry whose messages are not all stored."""

    position: int
    left: int


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition as its source sees it; ``home`` gives the partition of a registered station."""

    number: int
    after: int
    home: Callable[[str], int | None]


class StreamSource:
    """Feeds the intake of one partition.

    A message of a station that belongs elsewhere by now is published there: the bridge did not know the plan yet.
    """

    def __init__(
        self,
        transport: Transport,
        partition: Partition,
        intake: Intake,
        database: FencedDatabase,
        clock_ms: Callable[[], int],
    ) -> None:
        self._transport = transport
        self._partition = partition
        self._database = database
        self._clock_ms = clock_ms
        self._reader: Reader = transport.reader(partition.number, partition.after)
        self._room = threading.Event()
        self.lane = intake.lane("stream", self._room.set)
        self._open: deque[_Open] = deque()
        self.position = partition.after
        self._stopping = threading.Event()
        self.caught_up_since_ms: int | None = None
        """Since when nothing waits in the stream; None while something does."""
        self._thread = threading.Thread(target=self._run, name=f"stream-{partition.number}", daemon=True)
        intake.after_batch(self._note_position)

    def start(self) -> None:
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """Read nothing more; what is in the lane can still be finished."""
        self._stopping.set()
        self._room.set()
        self._thread.join(2 * FETCH_S + PAUSE_S)

    # -- the thread of the source ------------------------------------------------------------------------------------

    def _run(self) -> None:
        discarded, discard_at = self._partition.after, time.monotonic() + DISCARD_EVERY_S
        while not self._stopping.is_set():
            if self.lane.full:
                self._room.wait(PAUSE_S)
                self._room.clear()
                continue
            try:
                for entry in self._reader.fetch(MAX_FETCHED, FETCH_S):
                    if not self._hand_over(entry):
                        break
                caught_up = self._reader.caught_up
                if time.monotonic() > discard_at and self.position > discarded:
                    self._transport.discard(self._partition.number, self.position)
                    discarded, discard_at = self.position, time.monotonic() + DISCARD_EVERY_S
            except StorageUnavailable as error:
                caught_up = False
                log.warning("the stream does not answer", partition=self._partition.number, error=str(error))
                self._stopping.wait(PAUSE_S)
            self.caught_up_since_ms = (self.caught_up_since_ms or self._clock_ms()) if caught_up else None
        self._reader.close()

    def _hand_over(self, entry: Entry) -> bool:
        """Give the messages of an entry to the intake; false where that was interrupted: it is read again."""
        try:
            routed = unpack(entry.body)
        except ValueError as error:  # nobody of ours wrote it: the pipeline quarantines its bytes
            log.error("an entry of the stream cannot be read", position=entry.position, error=str(error))
            routed = [Routed("", Message("", entry.body, self._clock_ms(), "stream"))]
        own_messages: list[Message] = []
        elsewhere: dict[int, list[Routed]] = {}
        for one in routed:
            home = self._partition.home(one.route)
            if home is None or home == self._partition.number:
                own_messages.append(one.message)
            else:
                elsewhere.setdefault(home, []).append(one)
        if not self._offer([(to, body) for to, those in elsewhere.items() for body in pack(those)]):
            return False
        waiting = _Open(entry.position, len(own_messages))
        self._open.append(waiting)

        def done(_receipt: Receipt) -> None:
            waiting.left -= 1

        for message in own_messages:
            self.lane.put(PendingMessage(message, done))
        return True

    def _offer(self, bodies: list[tuple[int, bytes]]) -> bool:
        while bodies and not self._stopping.is_set():
            try:
                self._transport.publish(bodies)
                return True
            except StorageUnavailable as error:
                log.warning("messages of another partition wait", error=str(error))
                self._stopping.wait(PAUSE_S)
        return not bodies

    # -- the thread of the intake ------------------------------------------------------------------------------------

    def _note_position(self, _batch: Sequence[PendingMessage]) -> None:
        """Note how far everything is stored. Failing costs a redelivery at the worst."""
        position = self.position
        while self._open and not self._open[0].left:
            position = self._open.popleft().position
        if position == self.position:
            return
        try:
            self._database.save_position(position)
            self.position = position
        except StorageUnavailable as error:
            self.position = position
            log.warning("the position of a partition was not noted", error=str(error))
