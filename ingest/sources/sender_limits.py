"""Limits for unauthenticated HJ 212 and SL 651 senders: password guesses, and how much of their data is quarantined.

An unknown MN (SL 651: address) and a wrong password are treated alike, so that an answer never reveals which exist.
Pure: the time is an argument, in seconds of a monotonic clock. Every table is bounded and drops its oldest entry.
"""

import hashlib
import ipaddress
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

MAX_GUESSES: Final = 10
"""Different (MN, PW) pairs of one peer, or for one MN, that may fail within :data:`WINDOW_S`. A repeated wrong pair
does not count: a misconfigured logger repeats it for months."""
WINDOW_S: Final = 3600.0
FIRST_LOCK_S: Final = 900.0
"""The first lock-out; each further one lasts twice as long, at most :data:`MAX_LOCK_S`: 70 guesses on the first day,
10 on each following one."""
MAX_LOCK_S: Final = 86_400.0
FORGET_AFTER_S: Final = 2 * MAX_LOCK_S
"""A peer or MN without a new guess for so long starts anew."""
MAX_ENTRIES: Final = 10_000
"""Entries of each table: some megabytes, several times the loggers of a district."""

DAY_S: Final = 86_400.0
QUARANTINE_MESSAGES: Final = 500
QUARANTINE_BYTES: Final = 512 * 1024
"""Limits of one peer within a day of its first message; a new logger that sends every 5 minutes (288 a day) fits."""
QUARANTINE_TOTAL_BYTES: Final = 32 * 1024 * 1024
"""Limit of all peers together within a day."""

V = TypeVar("V")


@dataclass(slots=True)
class _Guesses:
    """Failed pairs since ``since_s``, and the lock-out."""

    since_s: float
    last_s: float
    pairs: set[bytes] = field(default_factory=set)
    locked_until_s: float = 0.0
    lock_s: float = FIRST_LOCK_S


@dataclass(slots=True)
class _Quarantined:
    since_s: float
    messages: int = 0
    bytes: int = 0


class _Table(Generic[V]):
    """A dictionary of at most :data:`MAX_ENTRIES` entries that drops the least recently put."""

    def __init__(self) -> None:
        self._rows: OrderedDict[object, V] = OrderedDict()

    def get(self, key: object) -> V | None:
        return self._rows.get(key)

    def put(self, key: object, row: V) -> None:
        self._rows[key] = row
        self._rows.move_to_end(key)
        if len(self._rows) > MAX_ENTRIES:
            self._rows.popitem(last=False)

    def __len__(self) -> int:
        return len(self._rows)


class SenderLimits:
    """The limits of unauthenticated senders; ``peer`` is the result of :func:`peer_of`."""

    def __init__(self) -> None:
        self._by_peer: _Table[_Guesses] = _Table()
        self._by_mn: _Table[_Guesses] = _Table()
        self._proven: _Table[bool] = _Table()
        self._kept: _Table[_Quarantined] = _Table()
        self._all = _Quarantined(-DAY_S)

    def locked(self, peer: str, mn: str, now_s: float) -> bool:
        """Whether messages of this peer for this MN are refused, whatever the password.

        A lock of the MN does not apply to peers from which its logger signed in before, so that guesses of others do
        not cut it off.
        """
        by_peer, by_mn = self._by_peer.get(peer), self._by_mn.get(mn)
        if by_peer is not None and now_s < by_peer.locked_until_s:
            return True
        return by_mn is not None and now_s < by_mn.locked_until_s and self._proven.get((peer, mn)) is None

    def failed(self, peer: str, mn: str, password: str, now_s: float) -> None:
        """Count a message with an unknown MN or a wrong password."""
        pair = hashlib.blake2b(f"{mn}\0{password}".encode(), digest_size=8).digest()
        for table, key in ((self._by_peer, peer), (self._by_mn, mn)):
            _count_guess(table, key, pair, now_s)

    def proved(self, peer: str, mn: str) -> None:
        """The logger ``mn`` signed in from this peer."""
        self._proven.put((peer, mn), True)

    def may_keep(self, peer: str, size: int, now_s: float) -> bool:
        """Whether a message of this peer may still be quarantined today; counts it if so."""
        of_peer = self._kept.get(peer)
        if of_peer is None or now_s - of_peer.since_s >= DAY_S:
            of_peer = _Quarantined(now_s)
            self._kept.put(peer, of_peer)
        if now_s - self._all.since_s >= DAY_S:
            self._all = _Quarantined(now_s)
        if (
            of_peer.messages >= QUARANTINE_MESSAGES
            or of_peer.bytes + size > QUARANTINE_BYTES
            or self._all.bytes + size > QUARANTINE_TOTAL_BYTES
        ):
            return False
        for total in (of_peer, self._all):
            total.messages += 1
            total.bytes += size
        return True


def peer_of(address: object) -> str:
    """The identity of a peer address: an IPv4 address itself, the /64 of an IPv6 address."""
    text = str(address[0]) if isinstance(address, tuple) and address else ""
    try:
        ip = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ip.ipv4_mapped or ipaddress.IPv6Network((ip, 64), strict=False))
    return str(ip)


def _count_guess(table: _Table[_Guesses], key: str, pair: bytes, now_s: float) -> None:
    row = table.get(key)
    if row is None or now_s - row.last_s > FORGET_AFTER_S:
        row = _Guesses(now_s, now_s)
    if now_s - row.since_s > WINDOW_S:
        row.since_s = now_s
        row.pairs.clear()
    if pair not in row.pairs:
        row.last_s = now_s
        row.pairs.add(pair)
    if len(row.pairs) >= MAX_GUESSES:
        row.locked_until_s = now_s + row.lock_s
        row.lock_s = min(2 * row.lock_s, MAX_LOCK_S)
        row.since_s = now_s
        row.pairs.clear()
    table.put(key, row)
