"""The contract of the streams of a cluster, on the real engine with three servers."""

import threading
from collections.abc import Callable, Iterator

import pytest

from infra.errors import StorageUnavailable
from ingest.cluster.transport import MAX_BODY_BYTES, Entry, Reader, Routed, Transport, pack, unpack
from sensors.reading import Message
from tests.long import LONG
from tests.rig import eventually

pytest.importorskip("nats", reason="no nats-py here")

from ingest.cluster.engines import EngineSettings, connect
from tests import kafka_cluster
from tests.nats_cluster import NatsCluster

MakeStreams = Callable[..., Transport]


@pytest.fixture(scope="module", params=["nats", "kafka"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeStreams]:
    """Makes streams of their own, soon full. Kafka takes a minute of Java: with RIVERCHIEF_LONG."""
    kind, folder = str(request.param), tmp_path_factory.mktemp(str(request.param))
    if kind == "kafka":
        if not LONG:
            pytest.skip("make kafka runs it")
        if why := kafka_cluster.missing():
            pytest.skip(why)
        pytest.importorskip("confluent_kafka")
    servers = NatsCluster(folder) if kind == "nats" else kafka_cluster.KafkaCluster(folder)
    made: list[Transport] = []

    def make(prefix: str, stream_bytes: int = 2**20) -> Transport:
        settings = EngineSettings(servers.urls, kind, prefix=prefix, stream_bytes=stream_bytes)
        transport = connect(settings)
        made.append(transport)
        eventually("the streams are there", lambda: _tried(lambda: transport.ensure(2)), 120)
        return transport

    make.kind, make.servers = kind, servers  # type: ignore[attr-defined]
    try:
        servers.start()
        yield make
    finally:
        for one in made:
            one.close()
        servers.close()


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


def test_each_partition_is_read_in_the_order_it_was_written_and_from_any_position(engine: MakeStreams):
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


def test_a_new_reader_is_answered_though_not_every_server_knows_of_it_yet(engine: MakeStreams) -> None:
    transport = engine("fresh")  # without the wait one of fifty is refused
    for _ in range(50 if engine.kind == "nats" else 1):  # type: ignore[attr-defined]
        reader = transport.reader(1, 0)
        assert reader.fetch(1, 0.03) == []
        reader.close()


def test_what_is_published_again_after_no_answer_is_there_once(engine: MakeStreams) -> None:
    if engine.kind == "kafka":  # type: ignore[attr-defined]
        pytest.skip("Kafka tells a client's own repetitions from ours; the store's key makes ours harmless")
    transport = engine("again")
    for body in (b"one", b"one", b"two"):
        transport.publish([(0, body)])
    assert [one.body for one in taken(transport.reader(0, 0), 2)] == [b"one", b"two"]


def test_a_reader_waits_for_the_next_entry_and_has_it_at_once(engine: MakeStreams) -> None:
    transport = engine("wait")
    reader = transport.reader(0, 0)
    found: list[Entry] = []
    waiting = threading.Thread(target=lambda: found.extend(taken(reader, 1)))
    waiting.start()
    transport.publish([(0, b"now")])
    waiting.join(30)
    assert [one.body for one in found] == [b"now"]


def test_a_full_stream_refuses_and_takes_again_once_what_is_stored_was_discarded(engine: MakeStreams):
    if engine.kind == "kafka":  # type: ignore[attr-defined]
        pytest.skip("Kafka knows no limit at which it refuses")
    transport = engine("full", 200_000)
    bodies = [bytes([i]) * 20_000 for i in range(20)]
    stored = next(i for i, body in enumerate(bodies) if not _tried(lambda body=body: transport.publish([(0, body)])))
    found = taken(transport.reader(0, 0), stored)
    assert [one.body for one in found] == bodies[:stored], "nothing that was acknowledged made room"
    transport.discard(0, found[-1].position)
    transport.publish([(0, bodies[stored])])
    assert [one.body for one in taken(transport.reader(0, found[-1].position), 1)] == [bodies[stored]]


def test_a_killed_server_loses_nothing_that_was_acknowledged_and_reading_goes_on(engine: MakeStreams) -> None:
    transport, servers = engine("killed"), engine.servers  # type: ignore[attr-defined]
    reader = transport.reader(0, 0)
    sent = [b"%d" % i for i in range(40)]
    for i, body in enumerate(sent):
        if i == 15:
            servers.kill(0)
        eventually("it is acknowledged", lambda body=body: _tried(lambda: transport.publish([(0, body)])), 120)
    found = list(dict.fromkeys(one.body for one in taken(reader, len(sent))))
    assert found == sent
    servers.begin(0)
    servers.healthy(0)
    assert list(dict.fromkeys(one.body for one in taken(transport.reader(0, 0), len(sent)))) == sent


def test_what_was_discarded_is_not_read_again_and_the_rest_is(engine: MakeStreams) -> None:
    transport = engine("discard")
    for i in range(6):
        transport.publish([(0, b"%d" % i)])
    found = taken(transport.reader(0, 0), 6)
    transport.discard(0, found[3].position)
    assert taken(transport.reader(0, 0), 2) == found[4:]


def test_messages_come_out_of_a_body_as_they_went_in() -> None:
    only = frozenset({(5, "ph"), (5, "do")})
    messages = [
        Message("s1", b"\xff\x00", 17, topic="rivers/v1/s1/telemetry"),
        Message("", b"{}", 18, "hj212", "hj212/MN", kind="event", packet_id=9, redelivered=True),
        Message("s2", b"x" * MAX_BODY_BYTES, 19, "http", by="示例", only=only, replay_of=4),
        Message("s3", b"", 20),
    ]
    bodies = pack([Routed(f"r{i}", message) for i, message in enumerate(messages)])
    assert len(bodies) == 2
    assert [one for body in bodies for one in unpack(body)] == [Routed(f"r{i}", m) for i, m in enumerate(messages)]
    for foreign in (b"", b"\x02abc", b"\x01", b"\x01\x93\x01"):
        with pytest.raises(ValueError):
            unpack(foreign)
