"""Apache Kafka: one topic with a partition for each of ours, ``acks=all`` on brokers with ``min.insync.replicas=2``.

A position is Kafka's offset plus one, so that 0 stands before the oldest entry. Readers are assigned their partition
and begin where our database says; no group and no offset is kept in Kafka.
"""

import threading
import time
from collections.abc import Sequence
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from infra.errors import StorageUnavailable
from infra.texts import say
from ingest.cluster.engines import EngineSettings
from ingest.cluster.transport import Entry

log = structlog.get_logger(__name__)

TIMEOUT_S = 10.0
PUBLISH_TIMEOUT_S = 15.0
"""So long the client offers a body again; electing a leader takes some seconds."""


class Kafka:
    """The topic of a cluster on Kafka brokers."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self.topic = settings.prefix
        self.client: dict[str, Any] = {"bootstrap.servers": ",".join(settings.servers), "log_level": 0}
        if settings.user is not None:
            self.client |= {
                "security.protocol": "SASL_SSL",
                "sasl.mechanism": "SCRAM-SHA-512",
                "sasl.username": settings.user,
                "sasl.password": settings.password or "",
            }
        if settings.ca_file is not None:
            self.client |= {
                "security.protocol": "SASL_SSL" if settings.user else "SSL",
                "ssl.ca.location": settings.ca_file,
            }
        self._admin = AdminClient(self.client)
        self._producer = Producer(
            {
                **self.client,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 0,
                "delivery.timeout.ms": int(PUBLISH_TIMEOUT_S * 1000),
                "request.timeout.ms": 5000,
            }
        )

    def ensure(self, partitions: int) -> None:
        replicas = self._settings.replicas
        config = {
            "min.insync.replicas": str(replicas // 2 + 1),
            "unclean.leader.election.enable": "false",
            "flush.messages": "1",  # synced before it counts
            "retention.ms": "-1",  # what nobody has stored is never dropped
            "retention.bytes": "-1",
        }
        try:
            existing = self._admin.list_topics(timeout=TIMEOUT_S).topics.get(self.topic)
            if existing is None:
                new = NewTopic(self.topic, partitions, replicas, config=config)
                self._admin.create_topics([new], operation_timeout=TIMEOUT_S)[self.topic].result(TIMEOUT_S)
            elif len(existing.partitions) < partitions:
                grown = NewPartitions(self.topic, partitions)
                self._admin.create_partitions([grown], operation_timeout=TIMEOUT_S)[self.topic].result(TIMEOUT_S)
        except (KafkaException, TimeoutError) as error:
            raise _unavailable(error) from error

    def publish(self, bodies: Sequence[tuple[int, bytes]]) -> None:
        left, failed = [len(bodies)], []
        done = threading.Event()

        def answered(error: object, _message: Message) -> None:
            if error is not None:
                failed.append(error)
            left[0] -= 1
            if not left[0]:
                done.set()

        try:
            for partition, body in bodies:
                self._producer.produce(self.topic, body, partition=partition, on_delivery=answered)
            until = time.monotonic() + PUBLISH_TIMEOUT_S + TIMEOUT_S
            while bodies and not done.is_set() and time.monotonic() < until:
                self._producer.poll(0.1)
        except (KafkaException, BufferError) as error:
            raise _unavailable(error) from error
        if failed or left[0]:
            raise _unavailable(failed[0] if failed else TimeoutError())

    def reader(self, partition: int, after: int) -> "KafkaReader":
        return KafkaReader(self, partition, after)

    def discard(self, partition: int, through: int) -> None:
        try:
            asked = self._admin.delete_records([TopicPartition(self.topic, partition, through)])
            for one in asked.values():
                one.result(TIMEOUT_S)
        except (KafkaException, TimeoutError) as error:
            raise _unavailable(error) from error

    def close(self) -> None:
        self._producer.flush(1)


class KafkaReader:
    """Reads a partition in order behind a position."""

    def __init__(self, engine: Kafka, partition: int, after: int) -> None:
        self._engine = engine
        self._partition = partition
        self._after = after
        self._consumer: Consumer | None = None
        self.caught_up = False

    def fetch(self, most: int, timeout_s: float) -> list[Entry]:
        try:
            consumer = self._consumer or self._open()
            found = consumer.consume(most, timeout_s) if most == 1 else self._consume(consumer, most, timeout_s)
            entries = []
            for message in found:
                if (error := message.error()) is not None:
                    raise KafkaException(error)
                entries.append(Entry((message.offset() or 0) + 1, message.value() or b""))
            if entries:
                self._after = entries[-1].position
            low, high = consumer.get_watermark_offsets(TopicPartition(self._engine.topic, self._partition), cached=True)
            self.caught_up = low >= 0 and self._after >= high >= 0
            return entries
        except KafkaException as error:
            self.caught_up = False
            self.close()
            raise _unavailable(error) from error

    @staticmethod
    def _consume(consumer: Consumer, most: int, timeout_s: float) -> list[Message]:
        """The first message as soon as it comes, and what came with it; the library would wait for all."""
        first = consumer.poll(timeout_s)
        return [] if first is None else [first, *consumer.consume(most - 1, 0)]

    def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()

    def _open(self) -> Consumer:
        consumer = Consumer(
            {
                **self._engine.client,
                "group.id": f"{self._engine.topic}-unused",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 100,
                "isolation.level": "read_committed",
            }
        )
        where = TopicPartition(self._engine.topic, self._partition, self._after)
        try:
            low, high = consumer.get_watermark_offsets(where, timeout=TIMEOUT_S)
            if high < self._after:
                log.error("a topic was made anew, reading it from its beginning", partition=self._partition)
                where.offset = self._after = low
            elif low > self._after:
                log.warning("entries are gone", partition=self._partition, after=self._after, first=low + 1)
                where.offset = low
            consumer.assign([where])
        except KafkaException:
            consumer.close()
            raise
        self._consumer = consumer
        return consumer


def _unavailable(error: object) -> StorageUnavailable:
    return StorageUnavailable(say("cluster.engine", error=str(error) or type(error).__name__))
