"""NATS JetStream: a stream for each partition, on several servers that sync every write (``sync_interval: always``).

nats-py is an event loop, which runs in a thread of its own. A partition is read through a consumer without
acknowledgements that lives only as long as it is used: after anything unusual it is made anew behind the last entry
read. A leader that changes may drop a pull request silently, so that a quiet pull is followed by a question.
"""

import asyncio
import hashlib
import ssl
import threading
from collections import defaultdict
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import nats
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, DiscardPolicy, StorageType, StreamConfig
from nats.js.errors import BadRequestError, ServiceUnavailableError

from infra.errors import StorageUnavailable
from infra.texts import say
from ingest.cluster.engines import EngineSettings
from ingest.cluster.transport import Entry

log = structlog.get_logger(__name__)

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 2.0
PUBLISH_TIMEOUT_S = 10.0
"""So long a body is offered again; electing a leader takes 4 to 6 s."""
RETRY_S = 0.2
DEDUPLICATE_S = 120
FORGET_READER_S = 30
_IN_USE, _FULL = 10058, 10077
"""The server's codes for a stream that is there with another configuration, and for one that holds all it may."""

T = TypeVar("T")


class JetStream:
    """The streams of a cluster on NATS servers."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._client: Client | None = None
        self._connecting: asyncio.Lock | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nats", daemon=True)
        self._thread.start()

    def ensure(self, partitions: int) -> None:
        self.call(self._ensure(partitions), partitions * ANSWER_TIMEOUT_S + CONNECT_TIMEOUT_S)

    def publish(self, bodies: Sequence[tuple[int, bytes]]) -> None:
        self.call(self._publish(bodies), PUBLISH_TIMEOUT_S + CONNECT_TIMEOUT_S + ANSWER_TIMEOUT_S)

    def reader(self, partition: int, after: int) -> "JetStreamReader":
        return JetStreamReader(self, self.stream(partition), after)

    def discard(self, partition: int, through: int) -> None:
        async def purge() -> None:
            await (await self.context()).purge_stream(self.stream(partition), seq=through + 1)

        self.call(purge(), CONNECT_TIMEOUT_S + ANSWER_TIMEOUT_S)

    def close(self) -> None:
        async def leave() -> None:
            if self._client is not None:
                await self._client.close()

        with suppress(StorageUnavailable):
            self.call(leave(), ANSWER_TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ANSWER_TIMEOUT_S)

    def stream(self, partition: int) -> str:
        """The name of a partition's stream."""
        return f"{self._settings.prefix}-{partition}"

    def call(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """Run on the event loop and wait. Raises StorageUnavailable for whatever the server or the network does."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_s)
        except (NatsError, OSError, TimeoutError) as error:
            future.cancel()
            raise StorageUnavailable(say("cluster.engine", error=str(error) or type(error).__name__)) from error

    def now(self) -> float:
        """Seconds on the clock of the event loop."""
        return self._loop.time()

    async def context(self) -> JetStreamContext:
        """The connection, made when first needed; a lost one is restored by the library."""
        if self._connecting is None:
            self._connecting = asyncio.Lock()
        async with self._connecting:
            if self._client is None:
                s = self._settings
                self._client = await nats.connect(
                    servers=list(s.servers),
                    user=s.user,
                    password=s.password,
                    tls=None if s.ca_file is None else ssl.create_default_context(cafile=s.ca_file),
                    name="riverchief",
                    connect_timeout=2,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.5,
                    ping_interval=5,
                    max_outstanding_pings=2,
                    error_cb=_quiet,
                )
        return self._client.jetstream(timeout=ANSWER_TIMEOUT_S)

    async def _ensure(self, partitions: int) -> None:
        context = await self.context()
        for partition in range(partitions):
            name = self.stream(partition)
            config = StreamConfig(
                name=name,
                subjects=[_subject(name)],
                storage=StorageType.FILE,
                num_replicas=self._settings.replicas,
                max_bytes=self._settings.stream_bytes,
                discard=DiscardPolicy.NEW,  # a full stream refuses, so that the sender keeps what nobody has read
                duplicate_window=DEDUPLICATE_S,
            )
            try:
                await context.add_stream(config)
            except BadRequestError as error:
                if error.err_code != _IN_USE:
                    raise
                await context.update_stream(config)

    async def _publish(self, bodies: Sequence[tuple[int, bytes]]) -> None:
        by_stream: dict[str, list[bytes]] = defaultdict(list)
        for partition, body in bodies:
            by_stream[self.stream(partition)].append(body)
        context = await self.context()
        until = self.now() + PUBLISH_TIMEOUT_S
        await asyncio.gather(*(self._append(context, name, mine, until) for name, mine in by_stream.items()))

    async def _append(self, context: JetStreamContext, name: str, bodies: Sequence[bytes], until: float) -> None:
        for body in bodies:
            # the same id when it is sent again: within the window the server keeps one
            headers = {"Nats-Msg-Id": hashlib.blake2b(body, digest_size=16).hexdigest()}
            while True:
                try:
                    await context.publish(_subject(name), body, timeout=ANSWER_TIMEOUT_S, stream=name, headers=headers)
                    break
                except (NatsError, TimeoutError) as error:
                    if self.now() > until or getattr(error, "err_code", None) == _FULL:
                        raise
                    await asyncio.sleep(RETRY_S)


class JetStreamReader:
    """Reads a stream in order behind a position."""

    def __init__(self, engine: JetStream, stream: str, after: int) -> None:
        self._engine = engine
        self._stream = stream
        self._after = after
        self._pulled: JetStreamContext.PullSubscription | None = None
        self._delivered = 0
        self._known_by = 0.0
        self.caught_up = False

    def fetch(self, most: int, timeout_s: float) -> list[Entry]:
        try:
            return self._engine.call(self._fetch(most, timeout_s), timeout_s + CONNECT_TIMEOUT_S + 3 * ANSWER_TIMEOUT_S)
        except StorageUnavailable:
            self.close()
            self.caught_up = False
            raise

    def close(self) -> None:
        pulled, self._pulled = self._pulled, None
        if pulled is not None:
            with suppress(StorageUnavailable):  # the server forgets an unused consumer by itself
                self._engine.call(pulled.unsubscribe(), ANSWER_TIMEOUT_S)

    async def _fetch(self, most: int, timeout_s: float) -> list[Entry]:
        pulled = self._pulled or await self._open()
        try:
            found = await self._pull(pulled, most, timeout_s)
        except TimeoutError:
            info = await pulled.consumer_info()  # fails where the consumer is gone
            self.caught_up = not info.num_pending
            if info.num_pending:
                raise
            return []
        entries: list[Entry] = []
        for message in found:
            at = message.metadata
            if at.sequence.consumer != self._delivered + 1:  # one got lost on its way
                raise TimeoutError(f"delivery {at.sequence.consumer} after {self._delivered}")
            self._delivered += 1
            entries.append(Entry(at.sequence.stream, message.data))
            self.caught_up = not at.num_pending
        if entries:
            self._after = entries[-1].position
        return entries

    async def _pull(self, pulled: JetStreamContext.PullSubscription, most: int, timeout_s: float) -> list[Msg]:
        """The server asked may not know yet of a consumer that another one has just made: nobody responds then."""
        while True:
            try:
                return await pulled.fetch(most, timeout=timeout_s)
            except ServiceUnavailableError:
                if self._delivered or self._engine.now() > self._known_by:
                    raise
                await asyncio.sleep(RETRY_S)

    async def _open(self) -> JetStreamContext.PullSubscription:
        context = await self._engine.context()
        state = (await context.stream_info(self._stream)).state
        if state.last_seq < self._after:
            log.error("a stream was made anew, reading it from its beginning", stream=self._stream, after=self._after)
            self._after = 0
        elif state.first_seq > self._after + 1 and state.messages:
            log.warning("entries are gone", stream=self._stream, after=self._after, first=state.first_seq)
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self._after + 1,
            ack_policy=AckPolicy.NONE,
            inactive_threshold=FORGET_READER_S,
            num_replicas=1,
            mem_storage=True,
        )
        made = await context.add_consumer(self._stream, config)
        self._delivered = 0
        self._known_by = self._engine.now() + ANSWER_TIMEOUT_S
        self._pulled = await context.pull_subscribe_bind(made.name, stream=self._stream)
        return self._pulled


def _subject(stream: str) -> str:
    return f"{stream}.messages"


async def _quiet(_error: Exception) -> None:
    """Ignore the error: the library reconnects, and calls that fail meanwhile raise."""
