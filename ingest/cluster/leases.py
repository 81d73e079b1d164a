"""Who owns which partition, in PostgreSQL: leases of workers, and the check that refuses the commit of a former owner.

A worker is alive while the row of its name is renewed; times are those of the database's clock. Every new owner raises
the partition's epoch, and each write transaction of a pipeline begins by locking the row of its partition under the
epoch it was given (:class:`FencedDatabase`). A worker that woke from a long sleep, or that another one took for dead,
finds no such row and commits nothing, whatever it believes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from infra.database import Database
from infra.errors import ConfigurationError, NotTheWriter
from infra.texts import say
from ingest.cluster.partitions import plan
from ingest.storage import changes
from ingest.storage import registry as registry_store
from ingest.storage.tables import cluster_member as member
from ingest.storage.tables import cluster_partition as partition
from ingest.storage.tables import cluster_plan, cluster_station
from sensors.parameters import Catalogue
from sensors.stations import Registry

WORKER, BRIDGE = "worker", "bridge"
WORKER_LOST_MS = 5_000
"""A worker not seen for so long is taken for dead; it renews once a second."""
BRIDGE_LOST_MS = 10_000
FORGET_AFTER_MS = 3_600_000
"""A member not seen for so long is forgotten. Until then no station of a dead bridge counts as silent: a broker holds
back the share of a subscriber that it expects to return."""
MAX_IDLE_MS = 5_000
"""The server ends a transaction whose owner does nothing for so long, and with it the lock on the lease."""
PLANNING_LOCK = 0x7269_7665_7203
"""The advisory lock of whoever distributes stations and partitions, for one round."""

_NOW = sa.text("(extract(epoch from clock_timestamp()) * 1000)::bigint")


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write the readings of a partition, and the position up to which its stream is stored."""

    partition: int
    epoch: int
    position: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class PartitionState:
    """Who owns a partition, and up to where its stream is stored."""

    worker: str | None
    epoch: int
    position: int


@dataclass(frozen=True, slots=True)
class Member:
    """A process of the cluster; ``age_ms`` since it was last seen."""

    name: str
    role: str
    version: str
    rules: str
    age_ms: int
    connected_since_ms: int | None

    @property
    def alive(self) -> bool:
        return self.age_ms < (WORKER_LOST_MS if self.role == WORKER else BRIDGE_LOST_MS)


@dataclass(frozen=True, slots=True)
class Round:
    """What a worker holds after a round, and what of it others should have."""

    held: tuple[Lease, ...]
    surplus: tuple[Lease, ...]
    devices_since_ms: int | None
    """Since when all bridges are connected; None while one is not."""


class FencedDatabase(Database):
    """The database of the pipeline of one partition: only the owner of the lease can commit."""

    def __init__(self, whole: Database, worker: str, lease: Lease) -> None:
        self.url, self.is_sqlite, self.engine = whole.url, whole.is_sqlite, whole.engine
        self._whole = whole
        row = (partition.c.partition == lease.partition) & (partition.c.worker == worker)
        self._mine = row & (partition.c.epoch == lease.epoch)
        frozen = sa.func.set_config("idle_in_transaction_session_timeout", str(MAX_IDLE_MS), True)
        self._check = sa.select(frozen).where(self._mine).with_for_update(read=True)
        self.lost = False
        """Another worker owns the partition; for good."""

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction of the owner. Raises StorageUnavailable for a former one; nothing is written then."""
        with self._whole.write() as connection:
            if connection.execute(self._check).first() is None:
                self.lost = True
                raise NotTheWriter(say("cluster.lease_lost"))
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        with self._whole.read() as connection:
            yield connection

    def save_position(self, position: int) -> None:
        """Note up to where the stream is stored. Not synced: what a crash forgets is read again."""
        with brief_write(self._whole) as connection:
            connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
            connection.execute(sa.update(partition).where(self._mine).values(position=position))

    def close(self) -> None:
        """The connections are those of the whole database."""


@contextmanager
def brief_write(database: Database) -> Iterator[sa.Connection]:
    """A transaction of the leases: one whose owner freezes in it must not hold up the others."""
    with database.write() as connection:
        connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = {MAX_IDLE_MS}")
        connection.exec_driver_sql("SET LOCAL lock_timeout = '2s'")
        yield connection


class Leases:
    """The part of one worker in the distribution of the partitions. For one thread."""

    def __init__(self, database: Database, catalogue: Catalogue, name: str, version: str, rules: str) -> None:
        if database.is_sqlite:
            raise ConfigurationError(say("settings.cluster_sqlite"))
        self._database = database
        self._catalogue = catalogue
        self.name = name
        self._version = version
        self.rules = rules

    def join(self, partitions: int) -> None:
        """Become a worker. Raises ConfigurationError while workers with other code or other rules are at work."""
        with brief_write(self._database) as connection:
            _plan_alone(connection)
            for one in members(connection):
                if one.role == WORKER and one.alive and (one.version, one.rules) != (self._version, self.rules):
                    build = {"version": self._version, "rules": self.rules}
                    raise ConfigurationError(
                        say("cluster.other_worker", other=one.name, theirs=one.version, their_rules=one.rules, **build)
                    )
            _add_partitions(connection, partitions)
            follow_registry(connection, self._catalogue)
            _seen(connection, self.name, WORKER, self._version, self.rules)

    def renew(self) -> Round:
        """Show that we live, distribute what is to be distributed, and say what is ours. Raises StorageUnavailable."""
        with brief_write(self._database) as connection:
            _seen(connection, self.name, WORKER, self._version, self.rules)
        with brief_write(self._database) as connection:
            if connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(PLANNING_LOCK))).scalar_one():
                follow_registry(connection, self._catalogue)
                self._take(connection)
            owned = sa.select(partition).where(partition.c.worker == self.name).order_by(partition.c.partition)
            held = tuple(Lease(row.partition, row.epoch, row.position) for row in connection.execute(owned))
            present = members(connection)
            surplus = held[self._target(connection, present) :]
            return Round(held, surplus, _devices_since_ms(present))

    def release(self, lease: Lease) -> None:
        """Give a lease back. Raises StorageUnavailable."""
        where = (partition.c.partition == lease.partition) & (partition.c.epoch == lease.epoch)
        with brief_write(self._database) as connection:
            connection.execute(sa.update(partition).where(where, partition.c.worker == self.name).values(worker=None))

    def leave(self) -> None:
        """Give everything back. Raises StorageUnavailable."""
        with brief_write(self._database) as connection:
            connection.execute(sa.update(partition).where(partition.c.worker == self.name).values(worker=None))
            connection.execute(sa.delete(member).where(member.c.name == self.name))

    def _target(self, connection: sa.Connection, present: list[Member]) -> int:
        """How many partitions are ours when all are distributed evenly, the first by name taking what is left over."""
        count = partition_count(connection)
        names = sorted({one.name for one in present if one.role == WORKER and one.alive} | {self.name})
        whole, rest = divmod(count, len(names))
        return int(whole + (names.index(self.name) < rest))

    def _take(self, connection: sa.Connection) -> None:
        """Take partitions without a live owner, up to our share."""
        present = members(connection)
        connection.execute(
            sa.delete(member).where(member.c.name.in_([one.name for one in present if one.age_ms > FORGET_AFTER_MS]))
        )
        alive = [one.name for one in present if one.role == WORKER and one.alive]
        held = connection.execute(
            sa.select(sa.func.count()).select_from(partition).where(partition.c.worker == self.name)
        ).scalar_one()
        free = sa.or_(partition.c.worker.is_(None), partition.c.worker.not_in([*alive, self.name]))
        query = sa.select(partition.c.partition).where(free).order_by(partition.c.partition)
        # a row is locked while its former owner is in the middle of a commit: it is taken in a later round
        room = max(0, self._target(connection, present) - held)
        found = connection.execute(query.limit(room).with_for_update(skip_locked=True)).scalars().all()
        taken = {"worker": self.name, "epoch": partition.c.epoch + 1}
        connection.execute(sa.update(partition).where(partition.c.partition.in_(found)).values(taken))


def follow_registry(connection: sa.Connection, catalogue: Catalogue) -> None:
    """Make the plan anew where registry or partitions changed.

    Partitions between which a station moves lose their owners: whoever processed it cannot commit any more. New
    stations alone cost nobody anything.
    """
    number = changes.fingerprint(connection)
    count = partition_count(connection)
    stored_plan = connection.execute(sa.select(cluster_plan)).one_or_none()
    if stored_plan is not None and (stored_plan.registry, stored_plan.partitions) == (number, count):
        return
    before = routes(connection)
    after = plan(registry_store.load(connection, catalogue), count, before)
    moved = {key for key in before if before[key] != after.get(key)}
    if moved:
        touched = {before[key] for key in moved} | {after[key] for key in moved if key in after}
        emptied = {"worker": None, "epoch": partition.c.epoch + 1}
        connection.execute(sa.update(partition).where(partition.c.partition.in_(sorted(touched))).values(emptied))
        connection.execute(sa.delete(cluster_station).where(cluster_station.c.station.in_(sorted(moved))))
    new = [{"station": key, "partition": at} for key, at in after.items() if before.get(key) != at]
    if new:
        connection.execute(sa.insert(cluster_station), new)
    connection.execute(sa.delete(cluster_plan))
    version = 1 if stored_plan is None else stored_plan.version + 1
    connection.execute(sa.insert(cluster_plan).values(version=version, registry=number, partitions=count))


def ensure_partitions(connection: sa.Connection, count: int, catalogue: Catalogue) -> None:
    """Create partitions up to a number, never fewer, and the plan."""
    _plan_alone(connection)
    _add_partitions(connection, count)
    follow_registry(connection, catalogue)


def _add_partitions(connection: sa.Connection, count: int) -> None:
    for number in range(partition_count(connection), count):
        connection.execute(sa.insert(partition).values(partition=number, epoch=0, position=0))


def partition_count(connection: sa.Connection) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(partition)).scalar_one())


def states(connection: sa.Connection) -> dict[int, PartitionState]:
    """All partitions."""
    query = sa.select(partition).order_by(partition.c.partition)
    return {row.partition: PartitionState(row.worker, row.epoch, row.position) for row in connection.execute(query)}


def plan_version(connection: sa.Connection) -> int:
    """A number that grows with every change of the plan; 0 before there is one."""
    return int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(cluster_plan.c.version), 0))).scalar_one())


def routes(connection: sa.Connection) -> dict[str, int]:
    """Station → partition."""
    return {row.station: row.partition for row in connection.execute(sa.select(cluster_station))}


def part(connection: sa.Connection, registry: Registry, number: int) -> Registry:
    """The registry of one partition: its stations, the whole network."""
    query = sa.select(cluster_station.c.station).where(cluster_station.c.partition == number)
    return registry.only(frozenset(connection.execute(query).scalars()))


def members(connection: sa.Connection) -> list[Member]:
    """All processes of the cluster, by name."""
    columns = (member.c.name, member.c.role, member.c.version, member.c.rules)
    age: sa.ColumnElement[int] = sa.literal_column(_NOW.text) - member.c.seen_at_ms
    query = sa.select(*columns, age.label("age_ms"), member.c.connected_since_ms).order_by(member.c.name)
    return [Member(*row) for row in connection.execute(query)]


def bridge_seen(database: Database, name: str, version: str, connected_since_ms: int | None) -> None:
    """Note that a bridge lives, and since when devices reach it. Raises StorageUnavailable."""
    with brief_write(database) as connection:
        _seen(connection, name, BRIDGE, version, "", connected_since_ms)


def forget_member(database: Database, name: str) -> None:
    """A member has left in order. Raises StorageUnavailable."""
    with brief_write(database) as connection:
        connection.execute(sa.delete(member).where(member.c.name == name))


def _devices_since_ms(present: list[Member]) -> int | None:
    bridges = [one for one in present if one.role == BRIDGE]
    since = [one.connected_since_ms for one in bridges if one.alive and one.connected_since_ms is not None]
    return max(since) if since and len(since) == len(bridges) else None


def _seen(
    connection: sa.Connection, name: str, role: str, version: str, rules: str, connected_since_ms: int | None = None
) -> None:
    values: Mapping[str, object] = {
        "role": role,
        "version": version,
        "rules": rules,
        "seen_at_ms": _NOW,
        "connected_since_ms": connected_since_ms,
    }
    statement = insert(member).values(name=name, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))


def _plan_alone(connection: sa.Connection) -> None:
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(PLANNING_LOCK)))
