"""The loss account closes: for devices that lose, repeat, reorder and reboot, for strangers and for replays."""

import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

import governance.tables  # noqa: F401
import ingest.storage.tables  # noqa: F401
from infra.database import Database
from infra.times import rfc3339
from ingest import ledger, quarantine
from ingest.ledger import Account
from ingest.pipeline import Outcome, Site
from ingest.quarantine import QuarantineEntry
from ingest.rules.model import Rules
from ingest.storage import registry
from ingest.storage.sql import SqlReadings
from sensors.parameters import catalogue
from sensors.reading import Message
from sensors.stations import Registry, Station
from sensors.wire import telemetry
from sensors.wire.telemetry import Sample, Telemetry
from tests.databases import with_tables
from tests.postgres import fresh

pytestmark = pytest.mark.both_databases

T0 = 1_790_000_100_000  # 2026-09-21 22:15 in Beijing
MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
TODAY = "2026-09-21"
CATALOGUE = catalogue()
SHIWAN = Station("shiwan", "石湾", "Shiwan", 113.07, 23.0)


class Books:
    """A site without rules with a database of its own, and its accounts."""

    def __init__(self, folder: Path, *stations: str, dialect: str = "sqlite") -> None:
        self.database = Database(fresh(dialect, folder))
        with_tables(self.database)
        self.register(*(stations or ("shiwan",)))
        self.store = SqlReadings(self.database, CATALOGUE)
        self.site = Site(self.database, self.store, Rules(), CATALOGUE)

    def register(self, *stations: str) -> None:
        with self.database.write() as connection:
            entries = tuple(replace(SHIWAN, key=key) for key in stations)
            registry.save(connection, Registry(entries, catalogue=CATALOGUE))

    def take(self, *messages: Message, now: int | None = None) -> Outcome:
        return self.site.process(messages, max(m.received_at_ms for m in messages) if now is None else now)

    def accounts(self, station: str | None = None) -> list[Account]:
        with self.database.read() as connection:
            return ledger.accounts(connection, station=station)

    def account(self, station: str = "shiwan", day: str = TODAY) -> Account:
        (account,) = (a for a in self.accounts(station) if a.day == day)
        return account

    def held(self) -> list[QuarantineEntry]:
        """Oldest first."""
        with self.database.read() as connection:
            return quarantine.listing(connection)[::-1]

    def replay(self, *entries: QuarantineEntry, now: int = T0 + DAY) -> Outcome:
        return self.site.process([entry.message() for entry in entries], now)

    def balanced(self) -> None:
        """What must hold at any moment, whatever was sent."""
        accounts = self.accounts()
        assert all(a.readings == a.stored + a.duplicate + a.quarantined for a in accounts)
        assert sum(a.stored for a in accounts) == sum(self.store.count().values())
        assert all(n >= 0 for a in accounts for n in (a.stored, a.duplicate, a.quarantined, a.messages_missing))
        named = sum(len(entry.refused or ()) for entry in self.held())
        assert sum(a.quarantined for a in accounts) == named, "every quarantined reading has its entry"


@pytest.fixture
def books(dialect: str, tmp_path: Path) -> Iterator[Books]:
    books = Books(tmp_path, dialect=dialect)
    yield books
    books.balanced()
    books.database.close()


class Device:
    """Numbers its messages as design §4.1 asks: ``seq`` and ``total`` begin anew with every boot."""

    def __init__(self, station: str = "shiwan", *, boot: int | None = 1, totals: bool = True) -> None:
        self.station, self.boot, self.totals = station, boot, totals
        self.seq = self.total = 0
        self.clock = T0

    def reboot(self) -> None:
        self.boot = None if self.boot is None else self.boot + 1
        self.seq = self.total = 0

    def measure(self, n: int = 2, **odd: object) -> Message:
        """A message of ``n`` good readings and what else is asked for."""
        self.clock += 1000
        self.total += n + len(odd)
        keys = ("ph", "do", "nh3n", "tp", "tn", "turbidity", "conductivity")
        values = dict.fromkeys(keys[:n], 5.0) | odd
        head = {"seq": self.seq, "boot": self.boot, "total": self.total if self.totals else None}
        body = {name: value for name, value in head.items() if value is not None}
        body |= {"sent_at": rfc3339(self.clock), "readings": [{"at": rfc3339(self.clock), "values": values}]}
        self.seq += 1
        return Message(self.station, json.dumps(body).encode(), self.clock)

    def series(self, sizes: Sequence[int]) -> list[Message]:
        return [self.measure(n) for n in sizes]


def figures(a: Account) -> dict[str, int | None]:
    return {
        "sent": a.sent,
        "stored": a.stored,
        "duplicate": a.duplicate,
        "quarantined": a.quarantined,
        "missing": a.missing,
    }


def closed(sent: int, stored: int, duplicate: int = 0, quarantined: int = 0, missing: int = 0) -> dict[str, int | None]:
    assert sent == stored + duplicate + quarantined + missing
    return {"sent": sent, "stored": stored, "duplicate": duplicate, "quarantined": quarantined, "missing": missing}


# -- numbering -------------------------------------------------------------------------------------------------------


def test_late_messages_of_a_batch_fill_their_gaps_in_any_order_after_one_look_for_each_device(books: Books) -> None:
    sent = Device().series([2] * 20)
    lost = [15, 3, 11, 7, 12]
    books.take(*(message for n, message in enumerate(sent) if n not in lost))
    assert books.account().messages_missing == len(lost)
    looks: list[str] = []
    sa.event.listen(books.database.engine, "before_cursor_execute", lambda *of: looks.append(of[2]))
    books.take(*(sent[n] for n in [*lost, *range(20)]))
    assert len([sql for sql in looks if "FROM sequence_gap" in sql and sql.startswith("SELECT")]) == 1
    account = books.account()
    assert figures(account) == closed(80, 40, duplicate=40)
    assert (account.messages_missing, account.messages_duplicate) == (0, 20)


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "one by one"])
class TestNumbering:
    """The same whether the messages come in one batch or one by one."""

    @staticmethod
    def deliver(books: Books, messages: Sequence[Message], together: bool) -> None:
        if together:
            books.take(*messages)
        else:
            for message in messages:
                books.take(message)
                books.balanced()

    def test_messages_in_order_leave_nothing_missing(self, books: Books, together: bool):
        self.deliver(books, Device().series([2, 1, 3]), together)
        account = books.account()
        assert figures(account) == closed(6, 6)
        assert (account.messages, account.messages_duplicate, account.messages_unnumbered, account.closed) == (
            3,
            0,
            0,
            True,
        )

    def test_a_hole_in_the_numbers_is_missing_with_the_readings_it_held(self, books: Books, together: bool):
        m = Device().series([2, 1, 3, 4])
        self.deliver(books, [m[0], m[3]], together)
        account = books.account()
        assert figures(account) == closed(10, 6, missing=4)
        assert (account.messages_missing, account.closed) == (2, True)

    @pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 1, 3), (2, 3, 1)])
    def test_a_hole_filled_later_leaves_nothing_missing(self, books: Books, together: bool, order: Sequence[int]):
        m = Device().series([2, 1, 3, 4, 2])
        self.deliver(books, [m[0], m[4], *(m[i] for i in order)], together)
        account = books.account()
        assert figures(account) == closed(12, 12)
        assert (account.messages_missing, account.messages_duplicate) == (0, 0)

    @pytest.mark.parametrize("came", [(1,), (2,), (3,), (1, 2), (2, 3), (1, 3), (3, 1)])
    def test_a_hole_filled_in_part_keeps_the_rest_missing(self, books: Books, together: bool, came: Sequence[int]):
        sizes = [2, 1, 3, 4, 2]
        m = Device().series(sizes)
        self.deliver(books, [m[0], m[4], *(m[i] for i in came)], together)
        gone = sum(sizes) - sizes[0] - sizes[4] - sum(sizes[i] for i in came)
        account = books.account()
        assert figures(account) == closed(12, 12 - gone, missing=gone)
        assert account.messages_missing == 3 - len(came)

    def test_a_redelivery_is_a_duplicate_and_seen_as_one(self, books: Books, together: bool):
        m = Device().series([2, 3])
        self.deliver(books, [m[0], m[0], m[1], m[0], m[1]], together)
        account = books.account()
        assert figures(account) == closed(12, 5, duplicate=7)
        assert (account.messages, account.messages_duplicate, account.messages_missing) == (5, 3, 0)

    def test_a_new_start_numbers_anew_and_what_went_before_its_first_message_is_missing(
        self, books: Books, together: bool
    ):
        device = Device()
        first = device.series([2, 2])
        device.reboot()
        second = device.series([1, 3, 2])
        self.deliver(books, [*first, second[2]], together)
        account = books.account()
        assert figures(account) == closed(10, 6, missing=4)
        self.deliver(books, [second[0], second[1]], together)
        assert figures(books.account()) == closed(10, 10)

    def test_late_messages_of_the_start_before_are_no_new_start(self, books: Books, together: bool):
        device = Device()
        first = device.series([2, 2, 2])
        device.reboot()
        second = device.series([1, 1])
        self.deliver(books, [first[0], second[0], first[2], second[1], first[1]], together)
        assert figures(books.account()) == closed(8, 8)

    def test_a_start_older_than_the_first_contact_accuses_nobody(self, books: Books, together: bool):
        device = Device()
        first = device.series([2] * 10)
        device.reboot()
        second = device.series([1, 1])
        self.deliver(books, [second[0], first[9], second[1]], together)
        account = books.account()
        assert figures(account) == closed(4, 4)
        assert account.messages_missing == 0

    def test_a_device_that_does_not_count_its_starts_may_begin_at_0_again(self, books: Books, together: bool):
        device = Device(boot=None)
        first = device.series([2, 2, 2])
        device.reboot()
        second = device.series([1, 1, 1])
        self.deliver(books, [*first, second[0], second[2]], together)
        account = books.account()
        assert figures(account) == closed(9, 8, missing=1)
        self.deliver(books, [second[1], second[0]], together)
        assert figures(books.account()) == closed(10, 9, duplicate=1)
        self.deliver(books, [device.measure(2)], together)
        assert figures(books.account()) == closed(12, 11, duplicate=1), "a redelivered 0 is no new start"

    def test_first_contact_in_the_middle_accuses_nobody_of_what_went_before(self, books: Books, together: bool):
        m = Device().series([2] * 10)
        self.deliver(books, [m[5], m[6], m[9], m[3]], together)
        account = books.account()
        assert figures(account) == closed(12, 8, missing=4)
        assert account.messages_missing == 2

    def test_without_totals_the_number_of_missing_readings_is_unknown_and_the_account_open(
        self, books: Books, together: bool
    ):
        m = Device(totals=False).series([2, 3, 2])
        self.deliver(books, [m[0], m[2]], together)
        account = books.account()
        assert (account.missing, account.sent, account.closed, account.messages_missing) == (None, None, False, 1)
        self.deliver(books, [m[1]], together)
        assert figures(books.account()) == closed(7, 7)

    def test_totals_that_run_backwards_tell_nothing(self, books: Books, together: bool):
        device = Device()
        first = device.measure(2)
        device.measure(2)
        device.total = 0
        third = device.measure(1)
        self.deliver(books, [first, third], together)
        account = books.account()
        assert (account.missing, account.closed, account.messages_missing) == (None, False, 1)

    def test_messages_without_a_number_are_counted_as_such(self, books: Books, together: bool):
        message = Message("shiwan", telemetry.encode(Telemetry((Sample(T0, {"ph": 7.0}),))), T0)
        self.deliver(books, [message, message], together)
        account = books.account()
        assert figures(account) == closed(2, 1, duplicate=1)
        assert (account.messages, account.messages_unnumbered, account.messages_duplicate) == (2, 2, 0)

    def test_a_message_too_broken_to_be_opened_is_missing_until_it_is_sent_again(self, books: Books, together: bool):
        m = Device().series([2, 3, 2])
        self.deliver(books, [m[0], replace(m[1], payload=m[1].payload[:-1]), m[2]], together)
        account = books.account()
        assert figures(account) == closed(7, 4, missing=3)
        assert (account.messages, account.messages_quarantined, account.messages_missing) == (3, 1, 1)
        self.deliver(books, [m[1]], together)
        assert figures(books.account()) == closed(7, 7)

    def test_refused_readings_are_quarantined_and_no_hole_in_the_numbers(self, books: Books, together: bool):
        device = Device()
        messages = [device.measure(2), device.measure(2, gold=1, tp=float("nan")), device.measure(1)]
        self.deliver(books, messages, together)
        account = books.account()
        assert figures(account) == closed(7, 5, quarantined=2)
        assert (account.messages_quarantined, account.messages_missing) == (1, 0)


def test_a_message_refused_as_a_whole_though_it_names_its_readings_is_not_lost_from_the_account(books: Books):
    """Its number is known, so no hole tells of it; its readings must be somewhere: sent is what the device counted."""
    samples = [{"at": rfc3339(T0 + i), "values": {"ph": 7.0}} for i in range(1001)]
    first = {"seq": 0, "boot": 1, "total": 1, "readings": samples[:1]}
    many = {"seq": 1, "boot": 1, "total": 1002, "readings": samples}
    last = {"seq": 2, "boot": 1, "total": 1003, "readings": [{"at": rfc3339(T0 + HOUR), "values": {"ph": 7.0}}]}
    for body in (first, many, last):
        books.take(Message("shiwan", json.dumps(body).encode(), T0 + HOUR))
    assert figures(books.account()) == closed(1003, 2, missing=1001)
    (entry,) = books.held()
    books.replay(entry)
    assert figures(books.account()) == closed(1003, 2, missing=1001)


# -- days ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "day"),
    [
        (T0, "2026-09-21"),
        (T0 - 23 * HOUR, "2026-09-20"),
        (T0 + 50 * MINUTE, "2026-09-21"),
        (T0 - 7 * DAY, "2026-09-14"),
        (T0 - 7 * DAY - 1000, "2026-09-21"),
        (T0 + HOUR, "2026-09-21"),
        (T0 + HOUR + 1000, "2026-09-21"),
        (None, "2026-09-21"),
    ],
    ids=[
        "now",
        "the day before",
        "a clock a little ahead",
        "queued for a week",
        "longer ago than anything is queued",
        "an hour ahead",
        "further ahead",
        "not said",
    ],
)
def test_a_message_belongs_to_the_beijing_day_it_was_sent_if_the_clock_can_be_believed(
    books: Books, sent: int | None, day: str
):
    payload = telemetry.encode(Telemetry((Sample(T0 - 8 * DAY, {"ph": 7.0}),), sent_at_ms=sent))
    books.take(Message("shiwan", payload, T0))
    assert [a.day for a in books.accounts()] == [day]


def test_the_beijing_day_begins_at_16_utc(books: Books):
    midnight = T0 + 105 * MINUTE  # 16:00 UTC, 00:00 in Beijing
    for at in (midnight - 1, midnight):
        books.take(Message("shiwan", telemetry.encode(Telemetry((Sample(at, {"ph": 7.0}),), sent_at_ms=at)), at))
    assert [(a.day, a.stored) for a in books.accounts()] == [("2026-09-22", 1), ("2026-09-21", 1)]


def test_a_clock_ahead_over_midnight_is_believed_up_to_an_hour(books: Books):
    received = T0 + 100 * MINUTE  # 23:55 in Beijing
    for i, ahead in enumerate((HOUR, HOUR + 1000)):
        payload = telemetry.encode(Telemetry((Sample(T0 + i, {"ph": 7.0}),), sent_at_ms=received + ahead))
        books.take(Message("shiwan", payload, received))
    assert [(a.day, a.stored) for a in books.accounts()] == [("2026-09-22", 1), ("2026-09-21", 1)]


def test_what_is_missing_belongs_to_the_day_of_the_next_message_that_came(books: Books):
    device = Device()
    first = device.measure(2)
    device.measure(3)
    device.clock += DAY
    books.take(first)
    books.take(device.measure(2))
    assert [(a.day, a.missing, a.closed) for a in books.accounts()] == [
        ("2026-09-22", 3, True),
        ("2026-09-21", 0, True),
    ]


def test_accounts_can_be_asked_for_by_day_and_station(tmp_path: Path):
    books = Books(tmp_path, "shiwan", "qicha")
    for station in ("shiwan", "qicha"):
        device = Device(station)
        books.take(device.measure())
        device.measure(4)
        device.clock += DAY
        books.take(device.measure(1))
    with books.database.read() as connection:
        by_day = ledger.accounts(connection, day="2026-09-22")
        by_station = ledger.accounts(connection, station="qicha")
        newest = ledger.accounts(connection, limit=1)
    assert [(a.station, a.missing) for a in by_day] == [("qicha", 4), ("shiwan", 4)]
    assert [(a.day, a.missing) for a in by_station] == [("2026-09-22", 4), ("2026-09-21", 0)]
    assert [(a.day, a.station) for a in newest] == [("2026-09-22", "qicha")]
    books.balanced()
    books.database.close()


# -- strangers and replays -------------------------------------------------------------------------------------------


def test_unknown_stations_share_one_account(books: Books):
    books.take(Device("nobody").measure(2), Device("no-one").measure(3), Message("Odd Name", b"{}", T0))
    account = books.account("?")
    assert figures(account) == closed(5, 0, quarantined=5)
    assert (account.messages, account.messages_quarantined, account.messages_missing) == (3, 3, 0)
    assert [a.station for a in books.accounts()] == ["?"]


def test_a_replay_after_registration_moves_the_readings_to_their_station(books: Books):
    device = Device("new")
    m = device.series([2, 3, 1])
    books.take(m[0], m[1])
    books.register("new")
    books.site.follow_registry()
    books.take(m[2])
    books.replay(*books.held())
    assert figures(books.account("?")) == closed(0, 0)
    account = books.account("new")
    assert (account.stored, account.duplicate, account.quarantined, account.missing) == (6, 0, 0, 0)
    assert books.held() == []


def test_a_replay_of_single_readings_leaves_those_stored_the_first_time_alone(books: Books):
    device = Device()
    books.take(device.measure(3, tp=float("nan"), gold=1.0))
    (nan, gold) = sorted(books.held(), key=lambda held: held.reason)
    assert (nan.reason, gold.reason) == ("not_a_number", "unknown_parameter")
    before = books.account()
    for entry in (gold, nan):
        outcome = books.replay(entry)
        assert (int(outcome.stored.sum()), int(outcome.duplicate.sum())) == (0, 0)
        books.balanced()
    after = books.account()
    assert figures(after) == figures(before)
    assert (after.messages, after.messages_quarantined) == (before.messages, before.messages_quarantined)
    assert sorted(held.reason for held in books.held()) == ["not_a_number", "unknown_parameter"]


def test_a_reading_from_the_future_is_stored_by_a_replay_once_its_time_has_come(books: Books):
    books.take(Message("shiwan", telemetry.encode(Telemetry((Sample(T0 + HOUR, {"ph": 7.0}),), 0, 1, 1)), T0))
    assert figures(books.account()) == closed(1, 0, quarantined=1)
    books.replay(*books.held(), now=T0 + HOUR)
    assert figures(books.account()) == closed(1, 1)
    assert books.held() == []


@pytest.mark.parametrize("restarted", [False, True], ids=["the same process", "after a restart"])
def test_a_reading_from_the_future_that_is_delivered_again_in_time_leaves_quarantine(books: Books, restarted: bool):
    samples = (Sample(T0, {"ph": 7.0}), Sample(T0 + HOUR, {"ph": 7.1}), Sample(T0 + 2 * HOUR, {"ph": 7.2}))
    message = Message("shiwan", telemetry.encode(Telemetry(samples, 0, 1, 3)), T0)
    books.take(message)
    books.take(message)
    assert (books.account().stored, books.account().quarantined, len(books.held())) == (1, 2, 1)
    if restarted:
        books.site = Site(books.database, books.store, Rules(), CATALOGUE)
    for now, stored in ((T0 + HOUR, 2), (T0 + 2 * HOUR, 3), (T0 + 3 * HOUR, 3)):
        books.take(message, message, now=now)
        books.balanced()
        account = books.account()
        assert (account.stored, account.quarantined, account.missing) == (stored, 3 - stored, 0)
        assert len(books.held()) == (stored < 3)


@pytest.mark.parametrize("restarted", [False, True], ids=["the same process", "after a restart"])
def test_a_copy_of_a_stored_reading_is_a_duplicate_after_the_clock_went_back(books: Books, restarted: bool):
    """Only what is not stored yet is held: another time, another parameter, another station."""
    books.register("shiwan", "qicha")
    books.site.follow_registry()
    device, behind = Device(), T0 - 8 * HOUR
    stored = device.series([2, 3])
    books.take(*stored)
    if restarted:
        books.site = Site(books.database, books.store, Rules(), CATALOGUE)
    last = T0 + 2000
    other_parameter = replace(stored[1], payload=stored[1].payload.replace(b'"nh3n"', b'"tp"'))
    other_station = replace(stored[1], station="qicha")
    copies = [*stored, other_parameter, other_station, device.measure(1)]
    books.take(*(replace(copy, received_at_ms=behind) for copy in copies), now=behind)
    assert figures(books.account()) == closed(14, 5, duplicate=7, quarantined=2)
    assert {(held.station, held.refused) for held in books.held()} == {
        ("shiwan", ((last, "tp"),)),
        ("qicha", tuple((last, key) for key in ("ph", "do", "nh3n"))),
        ("shiwan", ((last + 1000, "ph"),)),
    }


def test_a_message_kept_for_a_fault_of_ours_is_stored_by_a_replay_and_is_missing_no_longer(books: Books):
    m = Device().series([2, 3, 1])
    books.take(m[0])
    books.site.set_aside(m[1], ZeroDivisionError("x"), T0)
    books.take(m[2])
    assert figures(books.account()) == closed(6, 3, missing=3)
    books.replay(*books.held())
    account = books.account()
    assert figures(account) == closed(6, 6)
    assert (account.messages, account.messages_quarantined, account.messages_missing) == (3, 1, 0)


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "one after the other"])
@pytest.mark.parametrize("whole", [True, False], ids=["a whole message", "single readings"])
def test_replaying_twice_doubles_nothing(books: Books, whole: bool, together: bool):
    message = Device("new").measure(2)
    if whole:
        books.register("new")
        books.site.follow_registry()
        books.site.set_aside(message, ZeroDivisionError("x"), T0)
    else:
        books.take(message)
        books.register("new")
        books.site.follow_registry()
    (entry,) = books.held()
    books.replay(*[entry] * (2 if together else 1))
    expected = [replace(a) for a in books.accounts()]
    assert figures(books.account("new")) == closed(2, 2)
    books.balanced()
    books.replay(entry)
    assert books.accounts() == expected
    assert books.held() == []


def test_what_is_refused_again_has_a_new_entry_and_is_counted_once(books: Books):
    books.take(Device("nobody").measure(2))
    (first,) = books.held()
    books.replay(first)
    (second,) = books.held()
    assert second.id != first.id
    assert second.refused == first.refused
    assert figures(books.account("?")) == closed(2, 0, quarantined=2)


# -- properties ------------------------------------------------------------------------------------------------------


@dataclass
class Truth:
    """What really happened to the readings of one device, message by message."""

    readings: dict[tuple[int, int], int]
    copies: dict[tuple[int, int], int]


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32), restarts=st.booleans())
def test_the_books_close_whatever_a_device_and_its_network_do(seed: int, restarts: bool):
    rng = random.Random(seed)
    stations = ("shiwan", "qicha")
    wire: list[tuple[float, str, tuple[int, int], Message, bool]] = []
    truth = {station: Truth({}, {}) for station in stations}
    for station in stations:
        device = Device(station, boot=rng.randrange(5))
        device.seq = rng.choice((0, 0, 17))
        device.total = device.seq * 3
        device.clock += rng.randrange(1000)
        for k in range(rng.randrange(1, 40)):
            if k and rng.random() < 0.07:
                device.reboot()
            odd = {"gold": 1.0} if rng.random() < 0.1 else {}
            key = (device.boot or 0, device.seq)
            message = device.measure(rng.randrange(1, 6), **odd)
            truth[station].readings[key] = len(json.loads(message.payload)["readings"][0]["values"])
            truth[station].copies[key] = 0
            if rng.random() < 0.15:
                continue
            for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
                due = k + (rng.expovariate(0.3) if rng.random() < 0.3 else 0)
                broken = rng.random() < 0.08
                wire.append((due, station, key, message, broken))
    wire.sort(key=lambda item: item[0])
    first: dict[str, tuple[int, int]] = {}
    last: dict[tuple[str, int], int] = {}
    with tempfile.TemporaryDirectory() as folder:
        books = Books(Path(folder), *stations)
        while wire:
            batch = [wire.pop(0) for _ in range(min(len(wire), rng.choice((1, 1, 2, 5))))]
            books.take(*(replace(m, payload=m.payload[:-2]) if broken else m for _, _, _, m, broken in batch))
            for _, station, key, _, broken in batch:
                if not broken:
                    first.setdefault(station, key)
                    truth[station].copies[key] += 1
                    last[station, key[0]] = max(last.get((station, key[0]), -1), key[1])
            if restarts and rng.random() < 0.3:
                books.site.refresh()
        books.balanced()
        for station in stations:
            known = truth[station]
            arrived = sum(known.readings[key] * n for key, n in known.copies.items())
            # nobody can know of what went before the first contact, or after the last message of a start
            lost = sum(
                known.readings[key]
                for key, n in known.copies.items()
                if n == 0
                and station in first
                and key >= (first[station] if key[0] == first[station][0] else (first[station][0], -1))
                and key[1] < last.get((station, key[0]), -1)
            )
            accounts = books.accounts(station)
            assert sum(a.missing or 0 for a in accounts) == lost
            assert all(a.closed for a in accounts)
            assert sum(a.sent or 0 for a in accounts) == arrived + lost
            assert sum(a.sent or 0 for a in accounts) == sum(
                a.stored + a.duplicate + a.quarantined + (a.missing or 0) for a in accounts
            )
            good = {key for key, n in known.copies.items() if n}
            assert sum(a.messages for a in accounts) >= len(good)
        books.database.close()
