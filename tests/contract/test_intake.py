"""The micro-batch loop: acknowledged after storing, in order, and one poison message harms nobody else."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

import governance.tables  # noqa: F401
import ingest.storage.tables  # noqa: F401
from infra.database import Database
from infra.errors import SessionRenewed, StorageUnavailable
from infra.texts import same
from ingest import intake as intake_module
from ingest import ledger, quarantine
from ingest.intake import FIRST_BATCH, Bounds, Intake, IntakeFull, PendingMessage
from ingest.pipeline import Outcome, Receipt, Site
from ingest.rules.model import Rules
from ingest.stages import queue_late as queue_late_stage
from ingest.storage import late_queue, registry
from ingest.storage.sql import SqlReadings
from sensors.parameters import catalogue
from sensors.reading import Message, Reason
from sensors.stations import Registry, Station
from sensors.wire import telemetry
from sensors.wire.telemetry import Sample, Telemetry
from tests.databases import with_tables

T0 = 1_790_000_100_000
CATALOGUE = catalogue()
PATIENCE_S = 20.0


def message(n: int, station: str = "shiwan") -> Message:
    at = T0 + n * 1000
    return Message(station, telemetry.encode(Telemetry((Sample(at, {"ph": 7.0 + n / 1000}),), n, 1, n + 1, at)), at)


def status(n: int, online: bool) -> Message:
    return Message("shiwan", b'{"online": %b}' % str(online).lower().encode(), T0 + n, kind="status")


class Mill:
    """A real site on a real file, the intake before it, and a record of what was acknowledged when."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.database = Database(f"sqlite:///{folder / 'river.db'}")
        with_tables(self.database)
        with self.database.write() as connection:
            stations = tuple(Station(key, key, key, 113.1, 23.0) for key in ("shiwan", "qicha"))
            registry.save(connection, Registry(stations, catalogue=CATALOGUE))
        self.store = SqlReadings(self.database, CATALOGUE)
        self.site = Site(self.database, self.store, Rules(), CATALOGUE)
        self.intake = Intake(self.site, clock_ms=lambda: T0 + 10_000_000, **options)
        self.done: list[tuple[Message, Receipt]] = []
        self.stored_when_done: list[bool] = []

    def put(self, *messages: Message) -> None:
        for one in messages:
            self.intake.put(PendingMessage(one, self._finish(one)))

    def _finish(self, one: Message) -> Callable[[Receipt], None]:
        def done(receipt: Receipt) -> None:
            self.done.append((one, receipt))
            at = one.received_at_ms
            self.stored_when_done.append(len(self.store.window(one.station, at, at)) > 0)

        return done

    def watch(self, before: Callable[[Sequence[Message]], None]) -> list[list[Message]]:
        """Call ``before`` with every batch that reaches the site; returns the batches that were tried."""
        tried: list[list[Message]] = []
        original = self.site.process

        def process(messages: Sequence[Message], now_ms: int) -> Outcome:
            tried.append(list(messages))
            before(messages)
            return original(messages, now_ms)

        self.site.process = process  # type: ignore[method-assign]
        return tried

    def run(self) -> None:
        """All that was put, to the end."""
        self.intake.start()
        assert self.intake.stop(PATIENCE_S)


@pytest.fixture
def mill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mill]:
    monkeypatch.setattr(intake_module, "RETRY_S", (0.001,) * 6)
    mill = Mill(tmp_path)
    with structlog.testing.capture_logs():
        yield mill
        if mill.intake.alive:
            mill.intake.stop(PATIENCE_S)
    mill.database.close()


def test_messages_are_acknowledged_in_the_order_they_came_each_once_and_only_when_stored(mill: Mill):
    messages = [message(n) for n in range(500)]
    mill.put(*messages)
    mill.run()
    assert [one for one, _ in mill.done] == messages
    assert all(mill.stored_when_done)
    assert {receipt for _, receipt in mill.done} == {Receipt(1, 0, ())}
    assert dict(mill.store.count()) == {"shiwan": 500}
    assert mill.intake.counters.stored == mill.intake.counters.messages == 500


def test_a_batch_is_never_larger_than_allowed(tmp_path: Path):
    mill = Mill(tmp_path, most=7)
    tried = mill.watch(lambda batch: None)
    mill.put(*(message(n) for n in range(50)))
    mill.run()
    assert max(map(len, tried)) <= 7
    assert [one for batch in tried for one in batch] == [message(n) for n in range(50)]
    assert len(mill.done) == 50
    mill.database.close()


def test_the_first_batch_is_small_and_none_is_more_than_twice_the_one_before(mill: Mill):
    tried = mill.watch(lambda batch: None)
    mill.put(*(message(n) for n in range(20 * FIRST_BATCH)))
    mill.run()
    sizes = [len(batch) for batch in tried]
    assert sizes[0] <= FIRST_BATCH
    assert all(later <= 2 * max(sizes[: i + 1]) for i, later in enumerate(sizes[1:]))
    assert sum(sizes) == 20 * FIRST_BATCH


def test_a_message_of_one_source_does_not_wait_behind_the_backlog_of_another(mill: Mill):
    tried = mill.watch(lambda batch: None)
    crowd, other = mill.intake.lane("crowd"), mill.intake.lane("other")
    for n in range(10 * FIRST_BATCH):
        crowd.put(PendingMessage(message(n), lambda receipt: None))
    other.put(PendingMessage(message(0, "qicha"), lambda receipt: None))
    mill.run()
    assert message(0, "qicha") in tried[0]
    assert len(tried) > 1


def test_a_source_is_full_at_its_bound_and_open_again_when_half_is_done(tmp_path: Path):
    mill = Mill(tmp_path, most=1, bounds=Bounds(messages=4))
    opened: list[int] = []
    lane = mill.intake.lane("few", lambda: opened.append(lane.messages))
    held: list[tuple[int, bool]] = []
    mill.watch(lambda batch: held.append((lane.messages, lane.full)))
    for n in range(4):
        assert not lane.full
        lane.put(PendingMessage(message(n), lambda receipt: None))
    assert lane.full
    assert lane.behind_since_ms == T0 + 10_000_000
    mill.run()
    assert held == [(4, True), (3, True), (2, False), (1, False)]
    assert opened == [2]
    assert (lane.messages, lane.bytes, lane.behind_since_ms) == (0, 0, None)
    mill.database.close()


def test_a_message_handed_in_beyond_the_bound_is_refused_and_taken_later(tmp_path: Path):
    mill = Mill(tmp_path, bounds=Bounds(messages=2))
    first = [mill.intake.submit(message(n)) for n in range(2)]
    with pytest.raises(IntakeFull) as refused:
        mill.intake.submit(message(2))
    assert refused.value.retryable
    mill.intake.start()
    assert [one.result(PATIENCE_S) for one in first] == [Receipt(1, 0, ())] * 2
    until = time.monotonic() + PATIENCE_S
    while mill.intake.backlog and time.monotonic() < until:
        time.sleep(0.01)
    assert mill.intake.submit(message(2)).result(PATIENCE_S) == Receipt(1, 0, ())
    assert mill.intake.stop(PATIENCE_S)
    mill.database.close()


@pytest.mark.parametrize("step", ["write", "window"])
def test_nothing_is_acknowledged_while_the_store_is_away_and_all_is_once_it_is_back(
    mill: Mill, monkeypatch: pytest.MonkeyPatch, step: str
):
    earlier = message(100)
    mill.site.process([earlier], earlier.received_at_ms)
    mill.site.refresh()  # it must look at the store again
    failures = 4
    original = getattr(mill.store, step)

    def away(*args: Any, **named: Any) -> Any:
        nonlocal failures
        if failures > 0:
            failures -= 1
            assert mill.done == [], "acknowledged before it was stored"
            raise StorageUnavailable(same("the disk is away"))
        return original(*args, **named)

    monkeypatch.setattr(mill.store, step, away)
    messages = [message(n) for n in range(101, 121)]
    mill.put(*messages)
    mill.run()
    assert failures == 0
    assert [one for one, _ in mill.done] == messages
    assert all(mill.stored_when_done)
    assert dict(mill.store.count()) == {"shiwan": 21}
    with mill.database.read() as connection:
        assert all(account.duplicate == 0 for account in ledger.accounts(connection))


def test_a_commit_that_fails_acknowledges_nothing_and_is_tried_again(mill: Mill, monkeypatch: pytest.MonkeyPatch):
    """The very last step of a transaction: everything was written, and yet it is not there."""
    original, failures = ledger.Ledger.count, 3

    def count_then_fail(self: ledger.Ledger, *args: Any, **named: Any) -> None:
        nonlocal failures
        original(self, *args, **named)
        if failures > 0:
            failures -= 1
            raise StorageUnavailable(same("no room on the disk"))

    monkeypatch.setattr(ledger.Ledger, "count", count_then_fail)
    mill.put(*(message(n) for n in range(5)))
    mill.run()
    assert len(mill.done) == 5
    assert all(mill.stored_when_done)
    assert mill.intake.counters.retries == 3
    with mill.database.read() as connection:
        (account,) = ledger.accounts(connection)
    assert (account.messages, account.stored, account.duplicate, account.missing) == (5, 5, 0, 0)


def test_once_the_session_with_the_store_is_begun_anew_the_messages_wait_no_longer(
    mill: Mill, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(intake_module, "RETRY_S", (0.001, 0.001, 2 * PATIENCE_S))
    trouble: list[Exception] = [*(StorageUnavailable(same("away")) for _ in range(2)), SessionRenewed(same("back"))]

    def fail(_batch: Sequence[Message]) -> None:
        if trouble:
            raise trouble.pop(0)

    mill.watch(fail)
    mill.put(message(0))
    mill.run()
    assert all(mill.stored_when_done)
    assert len(mill.done) == 1


def test_a_store_that_stays_away_keeps_the_messages_unacknowledged_when_the_intake_stops(mill: Mill):
    def away(batch: Sequence[Message]) -> None:
        raise StorageUnavailable(same("the disk is away"))

    mill.watch(away)
    mill.put(*(message(n) for n in range(3)))
    mill.run()
    assert mill.done == []
    assert mill.intake.counters.messages == 0
    assert mill.intake.counters.last_error == "the disk is away"


@pytest.mark.parametrize("where", [0, 3, 9])
def test_one_poison_message_is_quarantined_and_the_others_go_through_in_order(mill: Mill, where: int):
    poison = message(where)

    def choke(batch: Sequence[Message]) -> None:
        if poison in batch:
            raise ZeroDivisionError("a fault of ours")

    mill.watch(choke)
    messages = [message(n) for n in range(10)]
    mill.put(*messages)
    mill.run()
    assert [one for one, _ in mill.done] == messages
    (refused,) = [receipt.rejected for one, receipt in mill.done if one == poison]
    assert [r.reason for r in refused] == [Reason.OUR_FAULT]
    assert all(receipt == Receipt(1, 0, ()) for one, receipt in mill.done if one != poison)
    with mill.database.read() as connection:
        (held,) = quarantine.listing(connection)
    assert (held.reason, held.payload, held.station) == ("our_fault", poison.payload, "shiwan")
    assert dict(mill.store.count()) == {"shiwan": 9}


def test_a_poison_message_that_cannot_even_be_kept_stays_with_its_sender_and_the_others_go_on(
    mill: Mill, monkeypatch: pytest.MonkeyPatch
):
    poison = message(1)

    def choke(batch: Sequence[Message]) -> None:
        if poison in batch:
            raise ZeroDivisionError

    def choke_again(*args: Any) -> Outcome:
        raise ZeroDivisionError

    mill.watch(choke)
    monkeypatch.setattr(mill.site, "set_aside", choke_again)
    mill.put(message(0), poison, message(2))
    mill.intake.start()
    assert mill.intake.submit(message(3)).result(PATIENCE_S) == Receipt(1, 0, ())
    assert [one for one, _ in mill.done] == [message(0), message(2)]


def test_a_poison_message_waits_for_a_store_that_is_away(mill: Mill, monkeypatch: pytest.MonkeyPatch):
    original, failures = quarantine.add, 2

    def choke(batch: Sequence[Message]) -> None:
        raise ZeroDivisionError

    def away(*args: Any) -> frozenset[int]:
        nonlocal failures
        if failures > 0:
            failures -= 1
            raise StorageUnavailable(same("the disk is away"))
        return original(*args)

    mill.watch(choke)
    monkeypatch.setattr(quarantine, "add", away)
    mill.put(message(0))
    mill.run()
    assert len(mill.done) == 1
    with mill.database.read() as connection:
        assert [held.reason for held in quarantine.listing(connection)] == ["our_fault"]


def test_stopping_finishes_what_was_handed_over(mill: Mill):
    begun, go = threading.Event(), threading.Event()

    def slow(batch: Sequence[Message]) -> None:
        begun.set()
        go.wait(PATIENCE_S)

    mill.watch(slow)
    mill.intake.start()
    mill.put(message(0))
    assert begun.wait(PATIENCE_S)
    mill.put(*(message(n) for n in range(1, 3000)))
    stopper = threading.Thread(target=mill.intake.stop)
    stopper.start()
    go.set()
    stopper.join(PATIENCE_S)
    assert not mill.intake.alive
    assert len(mill.done) == 3000
    assert mill.intake.backlog == 0


def test_stop_says_when_it_took_too_long(mill: Mill):
    go = threading.Event()
    mill.watch(lambda batch: go.wait(PATIENCE_S) and None)
    mill.put(message(0))
    mill.intake.start()
    assert not mill.intake.stop(0.05)
    go.set()
    assert mill.intake.stop(PATIENCE_S)
    assert len(mill.done) == 1


def test_a_submitted_message_is_answered_with_what_became_of_it_once_it_is_durable(mill: Mill):
    mill.intake.start()
    assert mill.intake.submit(message(0)).result(PATIENCE_S) == Receipt(1, 0, ())
    assert len(mill.store.window("shiwan", T0, T0)) == 1
    assert mill.intake.submit(message(0)).result(PATIENCE_S) == Receipt(0, 1, ())
    refused = mill.intake.submit(Message("nobody", message(1).payload, T0)).result(PATIENCE_S)
    assert [r.reason for r in refused.rejected] == [Reason.UNKNOWN_STATION]


def test_many_senders_at_once_are_each_answered_about_their_own_message(mill: Mill):
    mill.intake.start()
    futures: dict[int, Future[Receipt]] = {}
    lock = threading.Lock()

    def send(first: int) -> None:
        for n in range(first, first + 50):
            future = mill.intake.submit(message(n, "shiwan" if n % 2 else "nobody"))
            with lock:
                futures[n] = future

    threads = [threading.Thread(target=send, args=(first,)) for first in range(0, 400, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait(futures.values(), PATIENCE_S)
    for n, future in futures.items():
        receipt = future.result(0)
        assert (receipt.stored, len(receipt.rejected)) == ((1, 0) if n % 2 else (0, 1))


def test_a_sender_who_no_longer_waits_stops_nobody(mill: Mill):
    gone = mill.intake.submit(message(0))
    assert not gone.cancel(), "it is on its way and cannot be taken back"
    mill.intake.start()
    assert mill.intake.submit(message(1)).result(PATIENCE_S) == Receipt(1, 0, ())
    assert dict(mill.store.count()) == {"shiwan": 2}


def test_an_acknowledgement_that_fails_stops_nobody(mill: Mill):
    def broken(receipt: Receipt) -> None:
        raise ConnectionError("the sender is gone")

    mill.intake.put(PendingMessage(message(0), broken))
    mill.intake.start()
    assert mill.intake.submit(message(1)).result(PATIENCE_S) == Receipt(1, 0, ())


@pytest.mark.parametrize("hours", [6, -6])
def test_once_the_clock_is_set_every_station_has_a_full_interval_before_it_is_called_silent(
    mill: Mill, monkeypatch: pytest.MonkeyPatch, hours: int
):
    """Neither a clock hours ahead nor one set right makes the connection hours old, or begin in the future."""
    now, connected, told = [T0], [T0 - 60_000], list[tuple[int | None, int]]()
    ticks = Intake(mill.site, clock_ms=lambda: now[0], connected_since=lambda: connected[0])
    monkeypatch.setattr(mill.site, "tick", lambda since_ms, at_ms: told.append((since_ms, at_ms)))
    ticks._tick()
    now[0] = set_ms = T0 + hours * 3_600_000
    ticks._tick()
    now[0] += 1000
    ticks._tick()
    connected[0] = new_ms = now[0] + 1
    ticks._tick()
    assert [since for since, _ in told] == [T0 - 60_000, set_ms, set_ms, new_ms]


@pytest.mark.parametrize("error", [StorageUnavailable(same("away")), ZeroDivisionError("a fault of ours")])
@pytest.mark.parametrize("what", ["tick", "follow_registry"])
def test_trouble_between_batches_never_stops_the_readings(
    mill: Mill, monkeypatch: pytest.MonkeyPatch, what: str, error: Exception
):
    ticked = threading.Event()

    def fail(*args: Any) -> None:
        ticked.set()
        raise error

    monkeypatch.setattr(intake_module, "TICK_S", 0.01)
    monkeypatch.setattr(mill.site, what, fail)
    mill.intake.start()
    assert ticked.wait(PATIENCE_S)
    assert mill.intake.submit(message(0)).result(PATIENCE_S) == Receipt(1, 0, ())
    assert mill.intake.alive
    assert str(error) in mill.intake.counters.last_error


def test_what_devices_say_of_themselves_is_acknowledged_once_kept_beside_the_readings(mill: Mill):
    mill.put(status(1, True), message(0), status(2, False), message(1))
    mill.run()
    assert sorted(one.received_at_ms for one, _ in mill.done) == [T0, T0 + 1, T0 + 2, T0 + 1000]
    with mill.database.read() as connection:
        assert registry.online(connection)["shiwan"] == (False, T0 + 2)
    assert dict(mill.store.count()) == {"shiwan": 2}


def test_a_station_registered_while_running_is_followed_without_a_restart(mill: Mill, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(intake_module, "TICK_S", 0.01)
    mill.intake.start()
    assert mill.intake.submit(message(0, "new")).result(PATIENCE_S).rejected
    with mill.database.write() as connection:
        registry.save_stations(connection, [Station("new", "new", "new", 113.1, 23.0)])
    until = time.monotonic() + PATIENCE_S
    while "new" not in mill.site.history.registry and time.monotonic() < until:
        time.sleep(0.01)
    assert mill.intake.submit(message(1, "new")).result(PATIENCE_S) == Receipt(1, 0, ())


# -- late messages ---------------------------------------------------------------------------------------------------

MINUTES = 60


def at_minute(n: int, station: str = "shiwan", source: str = "mqtt") -> Message:
    """A message of the minute ``n``, which is numbered as its minutes are."""
    at = T0 + n * 60_000
    body = telemetry.encode(Telemetry((Sample(at, {"ph": 7.0 + n / 1000}),), n, 1, n + 1, at))
    return Message(station, body, T0 + 10_000_000, source, telemetry.topic(station))


def behind(mill: Mill) -> None:
    """Both stations have newer readings than those that come late; the site queues late messages."""
    for station in ("shiwan", "qicha"):
        mill.site.process([at_minute(0, station), at_minute(MINUTES, station)], T0 + 10_000_000)
    mill.site.queue_late = True


def late_ones(station: str) -> list[Message]:
    return [at_minute(n, station) for n in range(1, MINUTES)]


def waiting(mill: Mill) -> dict[str, int]:
    with mill.database.read() as connection:
        return late_queue.waiting(connection)


def test_late_messages_are_acknowledged_when_durable_and_judged_after_the_live_ones(mill: Mill):
    behind(mill)
    tried = mill.watch(lambda batch: None)
    live = at_minute(MINUTES + 1)
    late = [one for pair in zip(late_ones("shiwan"), late_ones("qicha"), strict=True) for one in pair]
    mill.put(*late, live)
    mill.intake.start()
    until = time.monotonic() + PATIENCE_S
    while dict(mill.store.count()) != {"shiwan": MINUTES + 2, "qicha": MINUTES + 1} and time.monotonic() < until:
        time.sleep(0.01)
    assert mill.intake.stop(PATIENCE_S)
    assert [one for one, _ in mill.done] == [*late, live]
    arrived = [batch for batch in tried if not batch[0].queued]
    judged = [batch for batch in tried if batch[0].queued]
    assert sum(map(len, arrived)) == len(late) + 1
    assert all(len({m.station for m in batch}) == 1 for batch in judged), "one station at a time"
    assert sum(map(len, judged)) == len(late)
    assert (waiting(mill), mill.site.late_waiting) == ({}, 0)
    with mill.database.read() as connection:
        accounts = ledger.accounts(connection)
    assert all(account.complete for account in accounts)
    assert sum(account.stored for account in accounts) == 2 * (MINUTES + 1) + 1
    assert sum(account.duplicate for account in accounts) == 0


def test_late_messages_survive_a_crash_before_they_are_judged_and_a_redelivery_doubles_none(mill: Mill):
    behind(mill)
    late = late_ones("shiwan")
    mill.site.process(late, T0 + 10_000_000)
    assert waiting(mill) == {"shiwan": len(late)}
    assert dict(mill.store.count()) == {"shiwan": 2, "qicha": 2}
    again = Site(mill.database, mill.store, Rules(), CATALOGUE, queue_late=True)  # as after a kill
    assert again.late_waiting == len(late)
    again.process(late, T0 + 10_000_000)
    while batch := again.late_batch():
        again.process(batch, T0 + 10_000_000)
    assert (waiting(mill), again.late_waiting) == ({}, 0)
    assert dict(mill.store.count()) == {"shiwan": MINUTES + 1, "qicha": 2}
    with mill.database.read() as connection:
        (account,) = ledger.accounts(connection, station="shiwan")
    assert (account.stored, account.duplicate, account.complete) == (MINUTES + 1, len(late), True)


def test_a_crash_while_late_messages_are_judged_leaves_them_in_the_queue(mill: Mill, monkeypatch: pytest.MonkeyPatch):
    behind(mill)
    mill.site.process(late_ones("shiwan"), T0 + 10_000_000)
    batch = mill.site.late_batch()

    def fail(*args: Any, **named: Any) -> None:
        raise StorageUnavailable(same("the disk is away"))

    with monkeypatch.context() as patch:
        patch.setattr(mill.store, "write", fail)
        with pytest.raises(StorageUnavailable):
            mill.site.process(batch, T0 + 10_000_000)
    assert waiting(mill) == {"shiwan": len(batch)}
    assert mill.site.late_batch() == batch
    assert mill.site.late_waiting == len(batch)


def test_late_messages_are_judged_at_once_where_the_sender_waits_for_the_outcome_or_the_queue_is_full(
    mill: Mill, monkeypatch: pytest.MonkeyPatch
):
    behind(mill)
    outcome = mill.site.process([at_minute(1, source="http")], T0 + 10_000_000)
    assert (outcome.receipt(0), waiting(mill)) == (Receipt(1, 0, ()), {})
    monkeypatch.setattr(queue_late_stage, "MAX_QUEUED", 0)
    outcome = mill.site.process([at_minute(2)], T0 + 10_000_000)
    assert (outcome.receipt(0), waiting(mill)) == (Receipt(1, 0, ()), {})


def test_a_late_message_that_cannot_be_judged_is_quarantined_and_leaves_the_queue(mill: Mill):
    behind(mill)

    def choke(batch: Sequence[Message]) -> None:
        if any(one.queued and one.payload == at_minute(5).payload for one in batch):
            raise ZeroDivisionError("a fault of ours")

    mill.watch(choke)
    mill.put(*late_ones("shiwan"))
    mill.intake.start()
    until = time.monotonic() + PATIENCE_S
    while (not mill.done or waiting(mill)) and time.monotonic() < until:
        time.sleep(0.01)
    assert mill.intake.stop(PATIENCE_S)
    assert dict(mill.store.count())["shiwan"] == MINUTES
    with mill.database.read() as connection:
        assert [held.payload for held in quarantine.listing(connection)] == [at_minute(5).payload]


@pytest.mark.usefixtures("no_series_is_new")
def test_late_and_live_messages_judged_apart_leave_the_same_verdicts_as_judged_together(tmp_path: Path):
    found = []
    for queue_late in (False, True):
        folder = tmp_path / str(queue_late)
        folder.mkdir()
        mill = Mill(folder)
        behind(mill)
        mill.site.queue_late = queue_late
        odd = Message("shiwan", at_minute(30).payload.replace(b"7.03", b"11.9"), T0, "mqtt", telemetry.topic("shiwan"))
        late = [odd if one == at_minute(30) else one for one in late_ones("shiwan")]
        mill.site.process(late, T0 + 10_000_000)
        while batch := mill.site.late_batch():
            mill.site.process(batch, T0 + 10_000_000)
        window = mill.store.window("shiwan", T0, T0 + 10_000_000)
        found.append((window.at.tolist(), window.value.tolist(), window.packed.tolist()))
        mill.database.close()
    assert found[0] == found[1]
    assert len(set(found[0][2])) > 1, "one of them is flagged"
