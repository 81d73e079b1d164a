"""The contract of the streams of a cluster, on the real engine with three servers."""

import threading
from collections.abc import Callable, Iterator

import pytest

from infra.errors import StorageUnavailable
from ingest.cluster.transport import PACK_BYTES, Entry, Reader, Routed, Transport, pack, unpack
from sensors.reading import Message
from tests.rig import eventually

pytest.importorskip("nats", reason="no nats-py here")

from ingest.cluster.engines import EngineSettings, connect
from tests.nats_cluster import NatsCluster


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsCluster]:
    made = NatsCluster(tmp_path_factory.mktemp("nats"))
    made.start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def engine(servers: NatsCluster) -> Iterator[Callable[[str, int], Transport]]:
    """Makes streams of their own, with a size that is reached soon."""
    made: list[Transport] = []

    def make(prefix: str, stream_bytes: int = 2**20) -> Transport:
        transport = connect(EngineSettings(servers.urls, prefix=prefix, stream_bytes=stream_bytes))
        made.append(transport)
        eventually("the streams are there", lambda: _tried(lambda: transport.ensure(2)), 60)
        return transport

    yield make
    for one in made:
        one.close()


def _tried(what: Callable[[], object]) -> bool:
    try:
        what()
    except StorageUnavailable:
        return False
    return True


def taken(reader: Reader, count: int) -> list[Entry]:
    """So many entries, however they are dealt out."""
    found: list[Entry] = []

    def enough() -> bool:
        try:
            found.extend(reader.fetch(7, 1.0))
        except StorageUnavailable:
            return False
        return len(found) >= count

    eventually(f"{count} entries", enough, 60)
    return found


def test_each_partition_is_read_in_the_order_it_was_written_and_from_any_position(engine: Callable[..., Transport]):
    transport = engine("order")
    for i in range(10):
        transport.publish([(0, b"a%d" % i), (1, b"b%d" % i), (0, b"A%d" % i)])
    transport.ensure(3)  # what is there stays
    found = taken(transport.reader(0, 0), 20)
    assert [one.body for one in found] == [part for i in range(10) for part in (b"a%d" % i, b"A%d" % i)]
    assert [one.position for one in found] == sorted({one.position for one in found})
    again = transport.reader(0, found[12].position)
    assert taken(again, 7) == found[13:]
    assert again.caught_up
    assert again.fetch(1, 0.1) == []
    assert len(taken(transport.reader(1, 0), 10)) == 10
    assert transport.reader(2, 0).fetch(1, 0.1) == []


def test_what_is_published_again_after_no_answer_is_there_once(engine: Callable[..., Transport]) -> None:
    transport = engine("again")
    for body in (b"one", b"one", b"two"):
        transport.publish([(0, body)])
    assert [one.body for one in taken(transport.reader(0, 0), 2)] == [b"one", b"two"]


def test_a_reader_waits_for_the_next_entry_and_has_it_at_once(engine: Callable[..., Transport]) -> None:
    transport = engine("wait")
    reader = transport.reader(0, 0)
    found: list[Entry] = []
    waiting = threading.Thread(target=lambda: found.extend(taken(reader, 1)))
    waiting.start()
    transport.publish([(0, b"now")])
    waiting.join(30)
    assert [one.body for one in found] == [b"now"]


def test_a_full_stream_refuses_and_takes_again_once_what_is_stored_was_discarded(engine: Callable[..., Transport]):
    transport = engine("full", 200_000)
    bodies = [bytes([i]) * 20_000 for i in range(20)]
    stored = next(i for i, body in enumerate(bodies) if not _tried(lambda body=body: transport.publish([(0, body)])))
    found = taken(transport.reader(0, 0), stored)
    assert [one.body for one in found] == bodies[:stored], "nothing that was acknowledged made room"
    transport.discard(0, found[-1].position)
    transport.publish([(0, bodies[stored])])
    assert [one.body for one in taken(transport.reader(0, found[-1].position), 1)] == [bodies[stored]]


def test_messages_come_out_of_a_body_as_they_went_in() -> None:
    only = frozenset({(5, "ph"), (5, "do")})
    messages = [
        Message("s1", b"\xff\x00", 17, topic="rivers/v1/s1/telemetry"),
        Message("", b"{}", 18, "hj212", "hj212/MN", kind="event", packet_id=9, redelivered=True),
        Message("s2", b"x" * PACK_BYTES, 19, "http", by="示例", only=only, replay_of=4),
        Message("s3", b"", 20),
    ]
    bodies = pack([Routed(f"r{i}", message) for i, message in enumerate(messages)])
    assert len(bodies) == 2
    assert [one for body in bodies for one in unpack(body)] == [Routed(f"r{i}", m) for i, m in enumerate(messages)]
    for foreign in (b"", b"\x02abc", b"\x01", b"\x01\x93\x01"):
        with pytest.raises(ValueError):
            unpack(foreign)
