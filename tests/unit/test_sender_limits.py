"""Limits for unproven senders: guesses per peer and MN, and what of theirs is kept."""

import pytest

from ingest.sources import sender_limits
from ingest.sources.sender_limits import FIRST_LOCK_S, FORGET_AFTER_S, MAX_GUESSES, WINDOW_S, SenderLimits, peer_of

PEER, MN = "192.0.2.1", "A" * 24


def guess(one: SenderLimits, at_s: float, peer: str = PEER, mn: str = MN, start: int = 0) -> None:
    for i in range(start, start + MAX_GUESSES):
        one.failed(peer, mn, str(i), at_s)


def test_the_same_wrong_password_again_and_again_is_no_guess() -> None:
    one = SenderLimits()
    for second in range(1000):
        one.failed(PEER, MN, "wrong", float(second))
    assert not one.locked(PEER, MN, 1000.0)


def test_different_guesses_lock_the_peer_for_every_mn_and_each_lock_lasts_twice_as_long() -> None:
    one = SenderLimits()
    guess(one, 0.0)
    assert one.locked(PEER, "another", FIRST_LOCK_S - 1)
    assert not one.locked(PEER, "another", FIRST_LOCK_S)
    guess(one, FIRST_LOCK_S, start=100)
    assert one.locked(PEER, "another", 3 * FIRST_LOCK_S - 1)
    assert not one.locked(PEER, "another", 3 * FIRST_LOCK_S)
    guess(one, FORGET_AFTER_S * 2, start=200)
    assert not one.locked(PEER, "another", FORGET_AFTER_S * 2 + FIRST_LOCK_S)


def test_guesses_spread_over_more_than_the_window_lock_nothing() -> None:
    one = SenderLimits()
    for i in range(MAX_GUESSES * 3):
        one.failed(PEER, MN, str(i), i * WINDOW_S / (MAX_GUESSES - 2))
    assert not one.locked(PEER, MN, MAX_GUESSES * 3 * WINDOW_S / (MAX_GUESSES - 2))


def test_guesses_of_many_peers_lock_the_mn_but_not_where_its_logger_spoke_before() -> None:
    one = SenderLimits()
    one.proved("198.51.100.7", MN)
    for i in range(MAX_GUESSES):
        one.failed(f"192.0.2.{i}", MN, str(i), 0.0)
    assert one.locked("203.0.113.9", MN, 1.0)
    assert not one.locked("203.0.113.9", "another", 1.0)
    assert not one.locked("198.51.100.7", MN, 1.0)


def test_what_is_kept_is_bounded_by_peer_by_day_and_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_limits, "QUARANTINE_BYTES", 100)
    monkeypatch.setattr(sender_limits, "QUARANTINE_TOTAL_BYTES", 150)
    one = SenderLimits()
    assert [one.may_keep(PEER, 60, 0.0) for _ in range(2)] == [True, False]
    assert [one.may_keep("192.0.2.2", 60, 0.0), one.may_keep("192.0.2.3", 60, 0.0)] == [True, False]
    assert one.may_keep(PEER, 60, sender_limits.DAY_S)


def test_the_tables_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_limits, "MAX_ENTRIES", 10)
    one = SenderLimits()
    for i in range(100):
        one.failed(f"peer-{i}", f"mn-{i}", "x", 0.0)
        one.may_keep(f"peer-{i}", 1, 0.0)
        one.proved(f"peer-{i}", f"mn-{i}")
    assert {len(table) for table in (one._by_peer, one._by_mn, one._proven, one._kept)} == {10}


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        (("192.0.2.1", 5), "192.0.2.1"),
        (("::ffff:192.0.2.1", 5, 0, 0), "192.0.2.1"),
        (("2001:db8:1:2:3:4:5:6", 5, 0, 0), "2001:db8:1:2::/64"),
        (None, ""),
    ],
)
def test_a_peer_is_an_address_or_a_subscriber_network(address: object, peer: str) -> None:
    assert peer_of(address) == peer
