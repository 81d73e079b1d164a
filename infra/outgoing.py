"""The gate of outgoing connections to others: none to a private address that the settings do not allow.

Receivers, platforms, push services, channels of people and the identity provider are named by others, or answer with
names of their own. What connects to them does so in `guarded`: there each connection of this thread is checked at the
address that it is made to, whatever library makes it. A name that leads elsewhere once it was checked (DNS rebinding)
leads nowhere.

The servers of the site itself (database, broker, time-series server, Grafana) are not asked through the gate.
"""

import ipaddress
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from infra.texts import both, say

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_PORTS = {"http": 80, "https": 443, "mailto": 25, "mailtos": 587}
MASK = "***"
MIN_SECRET_CHARS = 6
"""Our choice: what is shorter can be guessed, and is too often part of a word."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LOCALHOST = ("127.0.0.1", "::1")


@dataclass(slots=True)
class Policy:
    """Private networks that may be reached, and private addresses with a port that the settings themselves name."""

    networks: set[Network] = field(default_factory=set)
    named: set[tuple[Address, int]] = field(default_factory=set)

    def allows(self, host: str, port: int) -> bool:
        """Whether a connection may be made; never to a name, whose address nobody has checked."""
        try:
            address = _effective(ipaddress.ip_address(host))
        except ValueError:
            return False
        if address.is_global and not address.is_multicast:
            return True
        return (address, port) in self.named or any(address in network for network in self.networks)


@dataclass(slots=True)
class Passage:
    """What happened in `guarded`: the address that was refused, "" for none."""

    refused: str = ""


class AddressRefused(ConnectionRefusedError):
    """A private address that the settings do not allow."""


_policy = Policy()
_passage: ContextVar[Passage | None] = ContextVar("outgoing", default=None)


def allow(networks: Iterable[str] = (), named: Iterable[tuple[str, int]] = ()) -> None:
    """Allow private networks, and addresses (host, port) that the settings name; a host name allows nothing."""
    _policy.networks |= {ipaddress.ip_network(network, strict=False) for network in networks}
    for host, port in named:
        for one in _LOCALHOST if host == "localhost" else (host.strip("[]"),):
            try:
                _policy.named.add((_effective(ipaddress.ip_address(one)), port))
            except ValueError:
                continue


def is_network(text: str) -> bool:
    """Whether a text names a network, or an address."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def endpoint_of(url: str) -> tuple[str, int]:
    """Host and port of an address on the web."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)


def without_secrets(text: str, url: str) -> str:
    """A text, as of an error or an answer, without what of an address may be a secret: login, path and query.

    The whole address becomes its host. Parts of fewer than ``MIN_SECRET_CHARS`` characters stay, as any text has them.
    """
    parts = urlsplit(url)
    found = [parts.password or "", parts.path, parts.query, *parts.path.split("/")]
    found += [value for _, value in parse_qsl(parts.query)]
    written = {form for one in found for form in (one, unquote(one), quote(one, ""))}
    text = text.replace(url, parts.hostname or "")
    for one in sorted(written, key=len, reverse=True):
        if len(one) >= MIN_SECRET_CHARS:
            text = text.replace(one, MASK)
    return text


@contextmanager
def guarded() -> Iterator[Passage]:
    """Connections that this thread makes inside lead to public and allowed addresses alone."""
    passage = Passage()
    before = _passage.set(passage)
    try:
        yield passage
    finally:
        _passage.reset(before)


def _effective(address: Address) -> Address:
    """The IPv4 address inside an IPv6 one that leads to it."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address.sixtofour or address
    return address


def _check(event: str, given: tuple[Any, ...]) -> None:
    """Called by the interpreter before it connects a socket."""
    if event != "socket.connect" or (passage := _passage.get()) is None or not isinstance(given[1], tuple):
        return
    host, port = str(given[1][0]), int(given[1][1])
    if not _policy.allows(host, port):
        passage.refused = host
        raise AddressRefused(both(say("outgoing.refused", address=host)))


sys.addaudithook(_check)
