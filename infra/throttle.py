"""Rate limit for requests without an account: counted in memory, by network."""

import hashlib
import ipaddress
import secrets
import threading
import time
from collections.abc import Callable


class Throttle:
    """Lets ``burst`` attempts for each name pass at once, then one each ``every_s``.

    Names share a fixed number of buckets, told apart by a key nobody outside knows: whoever invents names can neither
    fill the memory nor push another name's count out of it. ``clock`` tells seconds that only grow.
    """

    BUCKETS = 65_536

    def __init__(self, burst: int, every_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._every_s = every_s
        self._clock = clock
        self._key = secrets.token_bytes(16)
        self._lock = threading.Lock()
        self._free_at: dict[int, float] = {}
        """When a bucket is back to where nothing was taken from it."""

    def take(self, name: str) -> float:
        """0 for an attempt that may pass, else the seconds to wait; a refused attempt is not counted."""
        digest = hashlib.blake2b(name.encode("utf-8", "replace"), key=self._key, digest_size=8).digest()
        bucket = int.from_bytes(digest) % self.BUCKETS
        with self._lock:
            now = self._clock()
            free_at = max(self._free_at.get(bucket, now), now)
            wait_s = free_at - now - (self._burst - 1) * self._every_s
            if wait_s > 0:
                return wait_s
            self._free_at[bucket] = free_at + self._every_s
            return 0.0


def network_of(address: str) -> str:
    """Whose address it is: an IPv4 address, of IPv6 the /64 that one customer is given; other text as it stands."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is None:
            return str(ipaddress.ip_network((found, 64), strict=False))
        found = found.ipv4_mapped
    return str(found)
