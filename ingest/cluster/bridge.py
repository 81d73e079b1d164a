"""The bridge: what an intake receives goes into the stream of the partition of its station.

It stands where a single process has its :class:`~ingest.pipeline.Site`, so that every source works as ever: the sender
is acknowledged once the stream has stored its message on a majority of its replicas, and the database may be away.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from governance.incidents.finding import Finding
from infra.database import Database
from ingest.cluster import leases
from ingest.cluster.partitions import partition_of
from ingest.cluster.transport import Routed, Transport, pack
from ingest.ledger import Ledger
from ingest.rules.model import Rules
from ingest.storage import loggers, sl651_stations
from ingest.storage import registry as registry_store
from ingest.ticks import save_left_out
from ingest.work import Outcome
from sensors.parameters import Catalogue
from sensors.reading import Message
from sensors.stations import Registry
from sensors.wire import mapping
from sensors.wire.hj212 import readings as hj212
from sensors.wire.hj212.readings import Logger
from sensors.wire.mapping import Mappings
from sensors.wire.sl651 import readings as sl651
from sensors.wire.sl651.readings import Gauge


@dataclass(frozen=True, slots=True)
class BridgeName:
    """How a bridge is called in the cluster, the version of its program, and how many partitions it wants at least."""

    name: str
    version: str
    partitions: int


class Bridge:
    """Publishes messages; an :class:`~ingest.intake.Intake` calls it. For one thread."""

    late_waiting = 0

    def __init__(
        self, database: Database, transport: Transport, catalogue: Catalogue, mappings: Mappings, identity: BridgeName
    ) -> None:
        self._database = database
        self._transport = transport
        self._catalogue = catalogue
        self._mappings = mappings
        self._who = identity
        self.ledger = Ledger()
        self.registry = Registry()
        self.loggers: Mapping[str, Logger] = {}
        self.gauges: Mapping[str, Gauge] = {}
        self._routes: Mapping[str, int] = {}
        self._version = -1
        self._partitions = 1

    def process(self, messages: Sequence[Message], _now_ms: int) -> Outcome:
        """Publish messages, those of a station in their order; returns once all are durable.

        Raises StorageUnavailable; the same ones may be handed in again.
        """
        if self._version < 0:
            self.follow_registry()
        by_partition: dict[int, list[Routed]] = defaultdict(list)
        for one in self._routed(messages):
            by_partition[partition_of(self._routes, one.route, self._partitions)].append(one)
        self._transport.publish([(to, body) for to, bodies in by_partition.items() for body in pack(bodies)])
        none = np.zeros(len(messages), np.int64)
        return Outcome(len(messages), none, none, (), 0, (), 0)

    handle_device_messages = process

    def set_aside(self, message: Message, _error: Exception, _now_ms: int) -> Outcome:
        """Publish a message whose station cannot be found; the worker quarantines what it cannot read."""
        if self._version < 0:
            self.follow_registry()
        to = partition_of({}, message.topic, self._partitions)
        self._transport.publish([(to, body) for body in pack([Routed("", message)])])
        none = np.zeros(1, np.int64)
        return Outcome(1, none, none, (), 0, (), 0)

    def late_batch(self) -> list[Message]:
        return []

    def follow_rules(self) -> bool:
        return False

    def offer_files(self, _rules: Rules, mappings: Mappings) -> None:
        """Route by these mappings from now on; called from any thread."""
        self._mappings = mappings

    def follow_registry(self) -> bool:
        """Read the plan where it changed, and create what is missing of it. Raises StorageUnavailable."""
        if self._version < 0:
            with leases.brief_write(self._database) as connection:
                leases.ensure_partitions(connection, self._who.partitions, self._catalogue)
        with self._database.read() as connection:
            version = leases.plan_version(connection)
            if version == self._version:
                return False
            self._routes = leases.routes(connection)
            partitions = leases.partition_count(connection)
            self.registry = registry_store.load(connection, self._catalogue)
            self.loggers = loggers.load(connection)
            self.gauges = sl651_stations.load(connection)
        self._transport.ensure(partitions)
        self._partitions, self._version = partitions, version
        return True

    def tick(self, connected_since_ms: int | None, _now_ms: int) -> list[Finding]:
        """Record that devices reach this bridge. Raises StorageUnavailable."""
        leases.bridge_seen(self._database, self._who.name, self._who.version, connected_since_ms)
        save_left_out(self._database, self.ledger)
        return []

    def stop(self) -> None:
        """Leave the cluster. Raises StorageUnavailable."""
        leases.forget_member(self._database, self._who.name)

    def _routed(self, messages: Sequence[Message]) -> list[Routed]:
        """Messages as they arrived, each with the station or, unknown, the topic that decides where it goes."""
        found = mapping.addressed(messages, self._mappings)
        found = sl651.addressed(hj212.addressed(found, self.loggers, self._catalogue), self.gauges)
        return [Routed(to.station or m.topic, m) for to, m in zip(found, messages, strict=True)]
