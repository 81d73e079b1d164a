"""Partitions of a cluster have one owner, who alone can commit; on a real PostgreSQL."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from infra.database import Database
from infra.errors import ConfigurationError, StorageUnavailable
from ingest.cluster import leases
from ingest.cluster.leases import FencedDatabase, Lease, Leases
from ingest.storage import registry as registry_store
from ingest.storage.tables import cluster_member
from ingest.storage.tables import station as station_table
from riverchief.single_writer import exclusive_ingest, shared_ingest
from sensors.parameters import catalogue
from sensors.stations import Reach, Registry, Station, Water
from tests import postgres

pytestmark = pytest.mark.postgres

KNOWN = catalogue()
LINE = ((113.0, 23.0), (113.1, 23.0))


def creek(name: str, count: int, downstream: str | None = None) -> Registry:
    stations = tuple(Station(f"{name}-{i}", name, name, 113.05, 23.0, reach=name) for i in range(count))
    return Registry(stations, reaches=(Reach(name, name, name, Water.CREEK, LINE, downstream),), catalogue=KNOWN)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(postgres.fresh("postgresql", tmp_path))
    register(made, creek("a", 3), creek("b", 3), creek("c", 1), creek("d", 1))
    yield made
    made.close()


def register(database: Database, *parts: Registry) -> None:
    with database.write() as connection:
        for one in parts:
            registry_store.save(connection, one)


def worker(database: Database, name: str, version: str = "1", rules: str = "r") -> Leases:
    made = Leases(database, KNOWN, name, version, rules)
    made.join(4)
    return made


def settle(*workers: Leases) -> dict[str, list[int]]:
    """Some rounds in which each gives back what others should have."""
    for _ in range(3):
        for one in workers:
            for lease in one.renew().surplus:
                one.release(lease)
    return {one.name: [lease.partition for lease in one.renew().held] for one in workers}


def lose(database: Database, name: str) -> None:
    """Make a worker look as if it had not been seen for long."""
    with database.write() as connection:
        connection.execute(sa.update(cluster_member).where(cluster_member.c.name == name).values(seen_at_ms=0))


def test_partitions_are_shared_evenly_as_workers_come_leave_and_die(database: Database) -> None:
    a = worker(database, "a")
    assert settle(a) == {"a": [0, 1, 2, 3]}
    b, c = worker(database, "b"), worker(database, "c")
    assert Counter(len(held) for held in settle(a, b, c).values()) == {2: 1, 1: 2}
    b.leave()
    assert [len(held) for held in settle(a, c).values()] == [2, 2]
    lose(database, "a")
    assert settle(c) == {"c": [0, 1, 2, 3]}


def test_a_former_owner_commits_nothing_and_the_new_one_goes_on_where_it_was_stored(database: Database) -> None:
    a, b = worker(database, "a"), worker(database, "b")
    (old, *_) = settle_leases(a)
    before = FencedDatabase(database, "a", old)
    with before.write() as connection:
        connection.execute(sa.update(station_table).values(note="first"))
    before.save_position(17)
    lose(database, "a")
    (new,) = [one for one in settle_leases(b) if one.partition == old.partition]
    assert (new.epoch, new.position) == (old.epoch + 1, 17)
    with pytest.raises(StorageUnavailable), before.write():
        pytest.fail("the former owner may begin a transaction")
    before.save_position(99)
    assert before.lost
    a.release(old)  # what it still believes takes nothing from the new owner
    assert (new.partition, new.epoch, 17) in [(one.partition, one.epoch, one.position) for one in b.renew().held]
    with FencedDatabase(database, "b", new).write() as connection:
        connection.execute(sa.update(station_table).values(note="second"))


def settle_leases(one: Leases) -> tuple[Lease, ...]:
    settle(one)
    return one.renew().held


def test_a_lease_is_not_taken_while_its_owner_is_in_the_middle_of_a_commit(database: Database) -> None:
    a, b = worker(database, "a"), worker(database, "b")
    settle(a, b)
    (held, *_) = a.renew().held
    with FencedDatabase(database, "a", held).write():
        lose(database, "a")
        assert held.partition not in [one.partition for one in b.renew().held]
    assert held.partition in [one.partition for one in b.renew().held]


@pytest.mark.parametrize(("version", "rules"), [("0.9", "r"), ("1", "others")])
def test_a_worker_with_another_program_or_other_rules_is_refused_while_others_work(
    database: Database, version: str, rules: str
) -> None:
    worker(database, "a")
    with pytest.raises(ConfigurationError) as refused:
        worker(database, "b", version, rules)
    assert "a" in refused.value.text.en
    lose(database, "a")
    worker(database, "b", version, rules)


def test_a_new_station_takes_no_lease_away_and_one_that_moves_takes_both(database: Database) -> None:
    a = worker(database, "a")
    settle(a)
    epochs = {one.partition: one.epoch for one in a.renew().held}
    register(database, Registry((Station("new", "n", "n", 113.05, 23.0, reach="a"),), catalogue=KNOWN))
    assert {one.partition: one.epoch for one in a.renew().held} == epochs
    with database.read() as connection:
        before = leases.routes(connection)
        assert before["new"] == before["a-0"]
        mine = leases.part(connection, registry_store.load(connection, KNOWN), before["a-0"])
        assert sorted(one.key for one in mine.stations) == ["a-0", "a-1", "a-2", "new"]
        assert len(mine.reaches) == 4
    register(database, Registry((), reaches=(Reach("d", "d", "d", Water.CREEK, LINE, "c"),), catalogue=KNOWN))
    a.renew()
    with database.read() as connection:
        after = leases.routes(connection)
    assert after["c-0"] == after["d-0"]
    grown = {one.partition for one in a.renew().held if one.epoch > epochs[one.partition]}
    assert grown == {before["c-0"], before["d-0"]}


def test_a_cluster_and_a_single_ingest_keep_each_other_away(database: Database) -> None:
    url = database.url.render_as_string(hide_password=False)
    with shared_ingest(url), shared_ingest(url), pytest.raises(ConfigurationError), exclusive_ingest(url):
        pass
    with exclusive_ingest(url), pytest.raises(ConfigurationError), shared_ingest(url):
        pass


def test_silence_is_not_looked_for_while_a_bridge_is_away(database: Database) -> None:
    a = worker(database, "a")
    assert a.renew().devices_since_ms is None
    leases.bridge_seen(database, "b1", "1", 1000)
    leases.bridge_seen(database, "b2", "1", 2000)
    assert a.renew().devices_since_ms == 2000
    lose(database, "b1")
    with database.write() as connection:
        recent = sa.update(cluster_member).where(cluster_member.c.name == "b1")
        connection.execute(recent.values(seen_at_ms=leases._NOW - sa.literal(60_000)))
    assert a.renew().devices_since_ms is None
    leases.forget_member(database, "b1")
    assert a.renew().devices_since_ms == 2000


def test_sqlite_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        Leases(Database(f"sqlite:///{tmp_path / 'x.db'}"), KNOWN, "a", "1", "r")
