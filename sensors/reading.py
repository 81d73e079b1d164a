"""Core types: a batch of readings, its flags, and what could not be used."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum, IntFlag
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Ints = NDArray[np.int64]
Codes = NDArray[np.int32] | NDArray[np.int64]
Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]
Bits = NDArray[np.uint32]
Places = NDArray[np.intp]
_Kind = TypeVar("_Kind", bound=np.generic)


class Flag(IntEnum):
    """Quality flag; values of QARTOD."""

    GOOD = 1
    UNKNOWN = 2
    SUSPECT = 3
    BAD = 4
    MISSING = 9


class QualityTest(IntFlag):
    """The tests that raised a flag, as a bit set stored beside it. Bits are never reused for another test.

    Flag and tests share 31 bits; bits 23 and 24 hold the flag that a review replaced (:mod:`sensors.maintenance`).
    """

    SENTINEL = 1 << 0
    INSTRUMENT_RANGE = 1 << 1
    PLAUSIBLE_RANGE = 1 << 2
    SPIKE = 1 << 3
    RATE_OF_CHANGE = 1 << 4
    FLAT_LINE = 1 << 5
    DEVICE_STATUS = 1 << 6
    OVER_RANGE = 1 << 7
    CALIBRATION = 1 << 8
    MAINTENANCE = 1 << 9
    SHIFT = 1 << 10
    NOISE = 1 << 11
    OUT_OF_WATER = 1 << 12
    CROSS_CHECK = 1 << 13
    ATTENUATED = 1 << 14
    NEIGHBOURS = 1 << 15
    DRIFT = 1 << 16
    BURST = 1 << 17
    UNIT_MISTAKE = 1 << 18
    JUMPED_ALONE = 1 << 19
    REVIEWED_SUSPECT = 1 << 22
    REVIEWED_GOOD = 1 << 25
    REVIEWED_BAD = 1 << 26


class Reason(IntEnum):
    """Why something could not be used; the names are those of docs/bad-input.md."""

    NOT_JSON = 1
    WRONG_SHAPE = 2
    TOO_LARGE = 3
    BAD_TOPIC = 4
    UNKNOWN_STATION = 5
    UNKNOWN_PARAMETER = 6
    NOT_A_NUMBER = 7
    BAD_TIME = 8
    TIME_BEFORE_2000 = 9
    TIME_IN_FUTURE = 10
    TOO_MANY_SAMPLES = 11
    BAD_STATUS = 12
    OUR_FAULT = 13
    STORE_REFUSED = 14
    BAD_FRAME = 15
    WRONG_PASSWORD = 16
    ENCRYPTED = 17
    INCOMPLETE = 18
    PAST_UNAVAILABLE = 19
    NEEDS_TEMPERATURE = 20
    TOO_FREQUENT = 21

    @property
    def key(self) -> str:
        return self.name.lower()


@dataclass(slots=True)  # not frozen, though never changed: a frozen one takes three times as long to make
class Message:
    """A message as it arrived, not decoded.

    ``station`` is the topic's station segment or the HTTP body's; ``kind`` the topic's last segment (telemetry, status,
    event), ``by`` the person who sent it, empty for a device. ``only`` limits a replay to the readings (time in ms,
    parameter key) that were refused the first time, None means all. ``packet_id`` is MQTT's packet identifier of an
    event; ``redelivered``: the broker says that it sent the same under the same identifier before. ``queued`` is the
    row of a message that was late and waited in the database, 0 for any other.
    """

    station: str
    payload: bytes
    received_at_ms: int
    source: str = "mqtt"
    topic: str = ""
    only: frozenset[tuple[int, str]] | None = None
    replay_of: int | None = None
    kind: str = "telemetry"
    by: str = ""
    packet_id: int = 0
    redelivered: bool = False
    queued: int = 0


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message, or single readings of it, that could not be used.

    ``readings`` lists (time in ms, parameter key) of the refused readings; None when the whole message was
    refused before its readings could be told apart.
    """

    message: int
    reason: Reason
    detail: str
    readings: tuple[tuple[int, str], ...] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Columns of readings, one row a reading.

    Shapes are all (n,). ``station`` and ``parameter`` are indices (into the registry and the catalogue),
    ``at`` is ms since the epoch UTC, ``value`` the unit of the stage (canonical after ``accept``), ``status``
    the HJ 212 data flag as an ASCII code, ``message`` the index of the message that brought the reading.
    """

    station: Codes
    parameter: Codes
    at: Ints
    value: Floats
    status: Bytes
    message: Codes

    @classmethod
    def empty(cls) -> Self:
        return cls.of([], [], [], [])

    @classmethod
    def of(
        cls,
        station: Sequence[int],
        parameter: Sequence[int],
        at: Sequence[int],
        value: Sequence[float],
        status: Sequence[int] | None = None,
        message: Sequence[int] | None = None,
    ) -> Self:
        n = len(station)
        return cls(
            np.asarray(station, np.int32),
            np.asarray(parameter, np.int32),
            np.asarray(at, np.int64),
            np.asarray(value, np.float64),
            np.full(n, ord("N"), np.uint8) if status is None else np.asarray(status, np.uint8),
            np.zeros(n, np.int32) if message is None else np.asarray(message, np.int32),
        )

    def __len__(self) -> int:
        return len(self.at)

    def take(self, index: Places | Bools) -> Self:
        """Rows chosen by an index or a mask, in the index's order."""
        return replace(
            self,
            station=self.station[index],
            parameter=self.parameter[index],
            at=self.at[index],
            value=self.value[index],
            status=self.status[index],
            message=self.message[index],
        )


def distinct(numbers: Codes) -> Codes:
    """(k,) the distinct numbers of (n,), ascending; thirty times faster than ``np.unique``, which hashes them."""
    ordered = np.sort(numbers)
    return np.asarray(ordered[np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]])


def sorted_unique(key: Ints) -> tuple[Ints, Places]:
    """``np.unique`` with its inverse; without sorting what a table brings in order already."""
    if len(key) and (key[1:] >= key[:-1]).all():
        first = np.append(True, key[1:] != key[:-1])
        return key[first], np.cumsum(first) - 1
    every, place = np.unique(key, return_inverse=True)
    return every, place


def grown(array: NDArray[_Kind], size: int, blank: float = 0) -> NDArray[_Kind]:
    """The array with room for ``size`` rows, and for a quarter more than it had, so that adding rows one by one costs
    little. Rows of zeros take no memory before they are written.
    """
    have = len(array)
    if size <= have:
        return array
    more = np.zeros((max(size, have + have // 4, 64) if have else size, *array.shape[1:]), array.dtype)
    more[:have] = array
    if blank:
        more[have:] = blank
    return more


def pieces(column: NDArray[_Kind], first: Places, size: int) -> NDArray[_Kind]:
    """(m, size) pieces of a flat column that begin at ``first`` (m,); half the time of an index with each place."""
    if not len(first):
        return np.empty((0, size), column.dtype)
    return np.asarray(np.lib.stride_tricks.sliding_window_view(column, size)[first])


def pack(flag: Bytes, tests: Bits) -> Ints:
    """Pack flag and tests into the integer that the stores keep: ``flag | tests << 4``."""
    return flag.astype(np.int64) | (tests.astype(np.int64) << 4)


def unpack(packed: Ints) -> tuple[Bytes, Bits]:
    """The inverse of :func:`pack`."""
    return (packed & 15).astype(np.uint8), (packed >> 4).astype(np.uint32)


PLAIN = int(Flag.GOOD)
"""The packed form of a good reading that failed no test; stores keep it as an absent mark."""
