"""Logins of devices: made, listed and revoked here, stored with their rights by the broker.

The database records who got a login, when and by whom, never the password, whose hash the broker holds. A login is
recorded before it is created on the broker, and deleted there before it is recorded as revoked, so that every working
login is recorded whatever fails in between.
"""

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import sqlalchemy as sa
import structlog

from infra.database import Database
from infra.errors import NotFound, Refused, StorageUnavailable, WaterError
from infra.periodic import PeriodicWorker
from infra.records import from_row
from infra.texts import say
from ingest.storage import changes
from ingest.storage.tables import device_credential as table
from ingest.storage.tables import station

log = structlog.get_logger(__name__)

MAX_LOGINS = 10
"""Active logins of a station: one for each device, and new ones while they are replaced."""
EVERY_S = 30.0
"""Interval of the check for expired logins."""
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # without letters that look alike


class BrokerUnavailable(WaterError):
    """The broker is not reachable, or refuses to administer logins."""

    retryable = True


class BrokerUsers(Protocol):
    """Administration of logins on a broker; idempotent. All methods raise BrokerUnavailable."""

    def create_user(self, user: str, password: str, station: str) -> None:
        """Create a user that may publish below the station and read its commands."""

    def delete_user(self, user: str) -> None:
        """Delete a user and disconnect its clients."""

    def has_minimal_rights(self) -> bool:
        """Whether a login has no other rights; also checks that we may administer."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The broker's address for devices; ``authority`` is its CA certificate (PEM) with TLS."""

    host: str
    port: int
    tls: bool = False
    authority: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class IssuedLogin:
    """A new login; its password is not stored."""

    station: str
    user: str
    password: str = field(repr=False)
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class Credential:
    """The record of a login, valid until ``expires_at_ms`` (None: without limit) unless revoked before."""

    station: str
    user: str
    created_at_ms: int
    created_by: str
    expires_at_ms: int | None
    revoked_at_ms: int | None
    revoked_by: str | None


class Credentials:
    """Make and revoke logins, on the broker and in the database."""

    def __init__(self, database: Database, users: BrokerUsers, clock_ms: Callable[[], int]) -> None:
        self._database = database
        self._users = users
        self._clock_ms = clock_ms

    def issue(self, key: str, by: str, *, others_end_in_s: int | None = None) -> IssuedLogin:
        """Make a login for a station's device; the others stay, or expire after ``others_end_in_s``.

        Raises NotFound, Refused where too many are active, or BrokerUnavailable; then there is no new login.
        """
        now_ms = self._clock_ms()
        user = f"{key}.{''.join(secrets.choice(_LETTERS) for _ in range(6))}"
        issued = IssuedLogin(key, user, secrets.token_urlsafe(18), now_ms)
        with self._database.write() as connection:
            # the station's row is locked, so that two requests at once do not both find a place free
            held = connection.execute(sa.select(station.c.id).where(station.c.key == key).with_for_update())
            if held.first() is None:
                raise NotFound(say("registry.no_station", key=key[:80]))
            if len(_in_force(connection, key)) >= MAX_LOGINS:
                raise Refused(say("device.many_logins", key=key, most=MAX_LOGINS))
            values = {"station": key, "user": user, "created_at_ms": now_ms, "created_by": by}
            connection.execute(sa.insert(table).values(**values))
            _record(connection, key, user, by, now_ms, {"issued": True})
        try:
            self._users.create_user(user, issued.password, key)
        except BaseException:
            self._revoke_record(key, user, by, now_ms)
            raise
        if others_end_in_s is not None:
            self._expire_others(key, user, by, now_ms, now_ms + others_end_in_s * 1000)
            if others_end_in_s == 0:
                with suppress(BrokerUnavailable):  # the new one works; the next round tries again
                    self.retire()
        return issued

    def revoke(self, key: str, user: str, by: str) -> None:
        """Revoke a login and disconnect its device; idempotent.

        A login named by the station's key, as ``riverchief setup device`` makes, can be revoked too. Raises NotFound,
        or BrokerUnavailable; then the login may still work.
        """
        with self._database.read() as connection:
            stored = connection.execute(sa.select(table.c.user).where(_is_login(key, user))).first()
            if stored is None and (user != key or not _registered(connection, key)):
                raise NotFound(say("device.no_login", key=key[:80], user=user[:80]))
        self._users.delete_user(user)
        self._revoke_record(key, user, by, self._clock_ms())

    def retire(self) -> int:
        """Delete expired logins; how many. Raises BrokerUnavailable or StorageUnavailable."""
        now_ms = self._clock_ms()
        over = (table.c.expires_at_ms <= now_ms) & table.c.revoked_at_ms.is_(None)
        with self._database.read() as connection:
            due = connection.execute(sa.select(table.c.station, table.c.user).where(over)).all()
        for key, user in due:
            self._users.delete_user(user)
            self._revoke_record(key, user, "expiry", now_ms)
        return len(due)

    def _expire_others(self, key: str, user: str, by: str, now_ms: int, at_ms: int) -> None:
        """Let all logins of a station but one expire; an earlier expiry stays."""
        with self._database.write() as connection:
            for other in _in_force(connection, key):
                if other.user != user and (other.expires_at_ms is None or other.expires_at_ms > at_ms):
                    connection.execute(sa.update(table).where(_is_login(key, other.user)).values(expires_at_ms=at_ms))
                    _record(connection, key, other.user, by, now_ms, {"expires_at_ms": at_ms})

    def _revoke_record(self, key: str, user: str, by: str, now_ms: int) -> None:
        with self._database.write() as connection:
            revoke = sa.update(table).where(_is_login(key, user) & table.c.revoked_at_ms.is_(None))
            connection.execute(revoke.values(revoked_at_ms=now_ms, revoked_by=by))
            _record(connection, key, user, by, now_ms, {"revoked": True})


def listing(connection: sa.Connection, key: str) -> list[Credential]:
    """All logins that a station ever had, newest first. Raises NotFound for an unknown station."""
    if not _registered(connection, key):
        raise NotFound(say("registry.no_station", key=key[:80]))
    newest_first = table.c.created_at_ms.desc(), table.c.user
    rows = connection.execute(sa.select(table).where(table.c.station == key).order_by(*newest_first))
    return [from_row(Credential, row) for row in rows]


def active_counts(connection: sa.Connection, now_ms: int) -> dict[str, int]:
    """Station → its logins in force; a station without one is left out."""
    in_force = table.c.revoked_at_ms.is_(None) & (table.c.expires_at_ms.is_(None) | (table.c.expires_at_ms > now_ms))
    rows = connection.execute(sa.select(table.c.station, sa.func.count()).where(in_force).group_by(table.c.station))
    return {row[0]: row[1] for row in rows}


class ExpiryWorker(PeriodicWorker):
    """A thread that deletes expired logins; one for each database."""

    def __init__(self, credentials: Credentials, every_s: float = EVERY_S) -> None:
        super().__init__("retirement")
        self._credentials = credentials
        self._every_s = every_s

    def next_round(self) -> float:
        try:
            self._credentials.retire()
        except (BrokerUnavailable, StorageUnavailable) as error:
            log.warning("logins whose time is over cannot be taken away yet", error=str(error))
        except Exception:
            log.exception("the end of logins failed and is tried again")
        return self._every_s


def _in_force(connection: sa.Connection, key: str) -> list[Credential]:
    rows = connection.execute(sa.select(table).where((table.c.station == key) & table.c.revoked_at_ms.is_(None)))
    return [from_row(Credential, row) for row in rows]


def _is_login(key: str, user: str) -> sa.ColumnElement[bool]:
    return (table.c.station == key) & (table.c.user == user)


def _registered(connection: sa.Connection, key: str) -> bool:
    return connection.execute(sa.select(station.c.id).where(station.c.key == key)).first() is not None


def _record(connection: sa.Connection, key: str, user: str, by: str, now_ms: int, body: dict[str, object]) -> None:
    """Record who changed what; never a password."""
    changes.record_change(connection, "credential", f"{key}/{user}", body, author=changes.Author(by, now_ms))
