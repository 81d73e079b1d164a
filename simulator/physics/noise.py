"""Stateless random numbers: a function of seed, name and instant alone.

So any cutting of the time axis, any order of stations and any restart give the same values.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from infra.times import HOUR_MS
from sensors.reading import Floats, Ints

Key = int | NDArray[np.uint64]
"""Of a stream of chance; an array of keys broadcasts against the instants: a stream each."""


def key_of(seed: int, *names: str) -> int:
    """The 64-bit key of a random stream."""
    return int.from_bytes(hashlib.blake2b("/".join((str(seed), *names)).encode(), digest_size=8).digest(), "big")


def keys_of(seed: int, *names: str, count: int) -> NDArray[np.uint64]:
    """(count,) keys of as many random streams."""
    return np.array([key_of(seed, *names, str(i)) for i in range(count)], np.uint64)


def uniform(index: Ints, key: Key) -> Floats:
    """Numbers in 0…1 of the shape of ``index``, by SplitMix64 (Steele, Lea and Flood 2014)."""
    x = np.asarray(index, np.int64).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.asarray(key, np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return np.asarray((x >> np.uint64(11)).astype(np.float64) / 2**53)


def normal(index: Ints, key: int) -> Floats:
    """Numbers of mean 0 and standard deviation 1, nearly normal (six uniform ones added), within ±4.3."""
    total = np.zeros(np.shape(index))
    for i in range(6):
        total += uniform(index, key ^ (0x5BF0_3635 * (i + 1)))
    return np.asarray((total - 3.0) * np.sqrt(2.0))


def lattice(at_ms: Ints, spacing_h: float, key: Key) -> Floats:
    """Smooth noise in −1…1, of the shape of both together: chance at points ``spacing_h`` apart, joined smoothly."""
    spacing = round(spacing_h * HOUR_MS)
    left = at_ms // spacing
    share = (at_ms - left * spacing) / spacing
    share = share * share * (3 - 2 * share)
    return np.asarray(2 * ((1 - share) * uniform(left, key) + share * uniform(left + 1, key)) - 1)


def wander(at_ms: Ints, key: Key, *octaves: tuple[float, float]) -> Floats:
    """The sum of lattices, each as (spacing in h, size)."""
    total = np.zeros(np.broadcast_shapes(np.shape(at_ms), np.shape(key)))
    for i, (spacing_h, size) in enumerate(octaves):
        total += size * lattice(at_ms, spacing_h, np.asarray(key, np.uint64) + np.uint64(i * 0x9E37))
    return total
