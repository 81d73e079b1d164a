"""Subscriptions of the public to the mails of a river: requested, confirmed by a link, and the state mailed last.

Before it is confirmed an address gets nothing but the link. Addresses are encrypted; an ended subscription is deleted.
A mail is due where the present state differs from the one mailed last, so a restart or an unavailable mail server
loses no change.
"""

import re
import secrets
from dataclasses import dataclass

import sqlalchemy as sa

from governance.reports.citizen_reports import RateLimited
from governance.tables import subscription as table
from infra.errors import NotFound, Refused
from infra.texts import say
from infra.times import DAY_MS, HOUR_MS
from infra.vault import Vault

LINK_VALID_MS = 2 * DAY_MS
"""How long a link to confirm is good."""
LINK_WINDOW_MS = DAY_MS
"""A link is sent to one address for one river no more often."""
MAX_LINKS_PER_ADDRESS, MAX_LINKS_PER_HOUR = 3, 120
"""Links to one address a day, and to all addresses an hour: a bound on unwanted mail."""
MIN_MAIL_INTERVAL_MS = HOUR_MS // 2
"""Least time between two mails to one subscription; the mail states the present state."""
RETRY_MS, MAX_RETRY_MS = 60_000, HOUR_MS
MAX_ADDRESS_CHARS = 254
_ADDRESS = re.compile(r"[A-Za-z0-9._%+'-]{1,64}@([A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,63}")


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription: ``address`` is as stored, encrypted; ``warned``: the last mail said that there is a warning.

    ``confirmed_at_ms`` None: not confirmed yet. Photos released up to ``photos_at_ms`` were mailed.
    """

    token: str
    reach: str
    address: str
    language: str
    asked_at_ms: int
    confirmed_at_ms: int | None
    warned: bool
    photos_at_ms: int
    failures: int


@dataclass(frozen=True, slots=True)
class PublicState:
    """How a water is: whether there is a warning, and when photos of a handled problem were released last."""

    warned: bool
    photos_at_ms: int


def request(connection: sa.Connection, vault: Vault, reach: str, address: str, language: str, now_ms: int) -> None:
    """Store a request, so that its link is sent. The caller does not learn whether the address is known already.

    Raises Refused for an invalid address, and RateLimited.
    """
    address = address.strip()
    if len(address) > MAX_ADDRESS_CHARS or not _ADDRESS.fullmatch(address):
        raise Refused(say("subscription.no_address"))
    mark = vault.mark(address.lower())
    c = table.c
    asked = sa.select(sa.func.count()).where(c.confirmed_at_ms.is_(None))
    stored = connection.execute(
        sa.select(c.token, c.confirmed_at_ms, c.asked_at_ms).where(c.address_mark == mark, c.reach == reach)
    ).one_or_none()
    if stored is not None and (stored.confirmed_at_ms is not None or stored.asked_at_ms > now_ms - LINK_WINDOW_MS):
        return
    of_address = asked.where(c.address_mark == mark, c.asked_at_ms > now_ms - DAY_MS)
    if connection.execute(of_address).scalar_one() >= MAX_LINKS_PER_ADDRESS:
        raise RateLimited(DAY_MS // 1000)
    if connection.execute(asked.where(c.asked_at_ms > now_ms - HOUR_MS)).scalar_one() >= MAX_LINKS_PER_HOUR:
        raise RateLimited(HOUR_MS // 1000)
    values = {"asked_at_ms": now_ms, "due_at_ms": now_ms, "link_sent": False, "failures": 0, "language": language}
    if stored is not None:
        connection.execute(sa.update(table).where(c.token == stored.token).values(values))
        return
    first = {"token": secrets.token_urlsafe(24), "reach": reach, "address": vault.lock(address), "address_mark": mark}
    connection.execute(sa.insert(table).values(photos_at_ms=now_ms, **first, **values))


def get(connection: sa.Connection, token: str) -> Subscription:
    """The subscription of a link; raises NotFound."""
    row = connection.execute(sa.select(table).where(table.c.token == token)).mappings().one_or_none()
    if row is None:
        raise NotFound(say("subscription.gone"))
    return _subscription(row)


def confirm(connection: sa.Connection, token: str, now: PublicState, now_ms: int) -> Subscription:
    """Confirm a subscription; mails follow changes from ``now`` on. Idempotent. Raises NotFound."""
    found = get(connection, token)
    if found.confirmed_at_ms is None:
        begun = {"confirmed_at_ms": now_ms, "warned": now.warned, "photos_at_ms": now_ms, "due_at_ms": now_ms}
        connection.execute(sa.update(table).where(table.c.token == token).values(failures=0, **begun))
    return get(connection, token)


def end(connection: sa.Connection, token: str) -> None:
    """Delete a subscription with its address. Idempotent."""
    connection.execute(sa.delete(table).where(table.c.token == token))


def delete_expired(connection: sa.Connection, now_ms: int) -> int:
    """Delete the subscriptions that were not confirmed in time; how many."""
    old = (table.c.confirmed_at_ms.is_(None), table.c.asked_at_ms < now_ms - LINK_VALID_MS)
    return connection.execute(sa.delete(table).where(*old)).rowcount


def subscribed_reaches(connection: sa.Connection) -> list[str]:
    """The reaches with confirmed subscriptions."""
    query = sa.select(table.c.reach).where(table.c.confirmed_at_ms.is_not(None)).distinct()
    return sorted(connection.execute(query).scalars())


def links_due(connection: sa.Connection, now_ms: int, limit: int) -> list[Subscription]:
    """Those that are to be sent their link now, oldest first."""
    c = table.c
    return _due(connection, (c.confirmed_at_ms.is_(None), ~c.link_sent), now_ms, limit)


def mails_due(connection: sa.Connection, reach: str, now: PublicState, now_ms: int, limit: int) -> list[Subscription]:
    """Subscriptions of a reach whose last mail differs from its state ``now``, and that may be sent a mail."""
    c = table.c
    other = c.warned.is_not(sa.true() if now.warned else sa.false()) | (c.photos_at_ms < now.photos_at_ms)
    return _due(connection, (c.reach == reach, c.confirmed_at_ms.is_not(None), other), now_ms, limit)


def record_link_sent(connection: sa.Connection, token: str) -> None:
    """Record that the link to confirm was sent."""
    connection.execute(sa.update(table).where(table.c.token == token).values(link_sent=True, failures=0))


def record_mail_sent(connection: sa.Connection, token: str, now: PublicState, now_ms: int) -> None:
    """Record that the state ``now`` was mailed."""
    values = {
        "warned": now.warned,
        "photos_at_ms": max(now.photos_at_ms, 0),
        "due_at_ms": now_ms + MIN_MAIL_INTERVAL_MS,
    }
    update = sa.update(table).where(table.c.token == token)
    connection.execute(update.values(failures=0, **values))


def record_failure(connection: sa.Connection, one: Subscription, now_ms: int) -> None:
    """Record that the mail server refused a mail; the next attempt waits twice as long."""
    wait_ms = min(MAX_RETRY_MS, RETRY_MS * 2 ** min(one.failures, 10))
    values = {"failures": one.failures + 1, "due_at_ms": now_ms + wait_ms}
    connection.execute(sa.update(table).where(table.c.token == one.token).values(values))


def _due(
    connection: sa.Connection, which: tuple[sa.ColumnElement[bool], ...], now_ms: int, limit: int
) -> list[Subscription]:
    query = sa.select(table).where(*which, table.c.due_at_ms <= now_ms).order_by(table.c.due_at_ms, table.c.token)
    return [_subscription(row) for row in connection.execute(query.limit(limit)).mappings()]


def _subscription(row: sa.RowMapping) -> Subscription:
    return Subscription(**{name: row[name] for name in Subscription.__slots__})
