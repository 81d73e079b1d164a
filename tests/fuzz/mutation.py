"""Inputs near good ones: whole seeds with a few things broken in them, from one seeded generator."""

import random
import re
from collections.abc import Iterator, Sequence

NASTY = (
    *(b"NaN", b"Infinity", b"-0", b"1e999", b"9" * 5000, b"-9999", b"0x10", b"true", b"null", b'""', b"{}", b"[]"),
    *(
        b"[" * 3000,
        b'{"a":' * 3000,
        b"\x00",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xe6\xb1",
        b'"\\ud800"',
        b"\\",
        b'"',
        b"'",
    ),
    *(b"\r\n", b"\n", b";", b",", b"=", b"&&", b"##", b"\x7e\x7e", b"\x03", b"../../etc/passwd", b"%00", b"=cmd()"),
    *(b"0001-01-01T00:00:00+14:00", b"9999-12-31T23:59:59-12:00", b"2026-02-30T25:61:61Z", "氨氮\u202e".encode()),
    *(b"<script>", b"' OR 1=1 --", b"{{7*7}}", b"{0.__class__}", b"(a+)+$", b"a" * 70_000),
)
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")


class Mutator:
    """Endless inputs; equal generators and seeds give equal inputs."""

    def __init__(self, rng: random.Random, seeds: Sequence[bytes], most_bytes: int = 300_000) -> None:
        self._rng = rng
        self._seeds = tuple(seeds)
        self._most_bytes = most_bytes
        self._steps = (self._flip, self._cut, self._repeat, self._insert, self._number, self._splice, self._swap)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """A seed as it is, now and then; usually with one to eight changes, rarely nothing but noise."""
        rng = self._rng
        if rng.random() < 0.02:
            return rng.randbytes(rng.choice((0, 1, 7, 300)))
        data = rng.choice(self._seeds)
        for _ in range(rng.choice((0, 1, 1, 1, 2, 3, 8))):
            data = rng.choice(self._steps)(data)
        return data[: self._most_bytes]

    def _span(self, data: bytes, most: int = 40) -> tuple[int, int]:
        begin = self._rng.randint(0, len(data))
        return begin, min(len(data), begin + self._rng.randint(1, most))

    def _flip(self, data: bytes) -> bytes:
        if not data:
            return data
        at = self._rng.randrange(len(data))
        return data[:at] + bytes([data[at] ^ (1 << self._rng.randrange(8))]) + data[at + 1 :]

    def _cut(self, data: bytes) -> bytes:
        begin, end = self._span(data, max(1, len(data) // 2))
        return data[:begin] if self._rng.random() < 0.3 else data[:begin] + data[end:]

    def _repeat(self, data: bytes) -> bytes:
        begin, end = self._span(data)
        return data[:end] + data[begin:end] * self._rng.choice((1, 1, 2, 500)) + data[end:]

    def _insert(self, data: bytes) -> bytes:
        begin, end = self._span(data)
        nasty = self._rng.choice(NASTY)
        return data[:begin] + nasty + data[begin if self._rng.random() < 0.5 else end :]

    def _number(self, data: bytes) -> bytes:
        """Another number in the place of one."""
        found = list(_NUMBER.finditer(data))
        if not found:
            return data
        place = self._rng.choice(found)
        other = self._rng.choice((b"0", b"-1", b"1e308", b"99999999999999999999", b"0.1", b"65536", *NASTY[:6]))
        return data[: place.start()] + other + data[place.end() :]

    def _splice(self, data: bytes) -> bytes:
        other = self._rng.choice(self._seeds)
        return data[: self._rng.randint(0, len(data))] + other[self._rng.randint(0, len(other)) :]

    def _swap(self, data: bytes) -> bytes:
        (a, b), (c, d) = sorted((self._span(data), self._span(data)))
        return data if c < b else data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def pieces(rng: random.Random, stream: bytes) -> list[bytes]:
    """A stream cut anywhere."""
    places = sorted(rng.randint(0, len(stream)) for _ in range(rng.choice((0, 1, 3, 20))))
    return [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True) if a < b]
