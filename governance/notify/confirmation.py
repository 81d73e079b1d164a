"""Confirm incidents by the link of a message.

`look` changes nothing, for previews and scanners open links. `confirm` stops all calls for the incidents of the
message; the deadline of handling stays.
"""

from dataclasses import dataclass

import sqlalchemy as sa
import structlog

from governance.incidents import store as incident_store
from governance.incidents.deadlines import DEFAULT_POLICY, DeadlinePolicy
from governance.incidents.model import Action, Order, State
from governance.notify import store as notice_store
from governance.notify.contacts import Contact, ContactRole, Directory
from governance.notify.links import Links, number_of
from governance.notify.message import TEST_INCIDENT, Item
from governance.notify.store import Notice
from governance.notify.tables import notice as notices_
from governance.organisation.roles import Actor, Right, Role
from infra.database import Database
from infra.errors import NotFound, Refused
from infra.texts import say
from infra.times import beijing

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

MAX_INCIDENTS = 100
COMMENT_LIMIT = 500
"""Characters of the remark on the page."""


class LinkExpired(Refused):
    """The link was valid once."""


@dataclass(frozen=True, slots=True)
class ConfirmationRequest:
    """What a valid link is about."""

    notice: Notice
    contact: Contact
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Confirmed:
    """How many incidents were confirmed, and how many somebody had confirmed or closed before."""

    done: int
    before: int
    at_ms: int


def confirmation_request(
    database: Database, directory: Directory, links: Links, token: str, now_ms: int
) -> ConfirmationRequest:
    """What a link is about. Raises NotFound for one that this site did not make, and LinkExpired."""
    number = number_of(token)
    if number is None:
        raise NotFound(say("notice.page_wrong"))
    with database.read() as connection:
        try:
            notice = notice_store.get(connection, number)
        except NotFound:
            raise NotFound(say("notice.page_wrong")) from None
        items = notice_store.items(connection, [number]).get(number, [])
    contact = directory.get(notice.contact)
    if contact is None or not links.proves(token, notice.id, notice.contact, notice.expires_at_ms):
        raise NotFound(say("notice.page_wrong"))
    if now_ms >= notice.expires_at_ms:
        raise LinkExpired(say("notice.page_expired", at=beijing(notice.expires_at_ms)))
    return ConfirmationRequest(notice, contact, tuple(items))


def confirm(
    database: Database,
    request: ConfirmationRequest,
    actor: Actor,
    comment: str,
    now_ms: int,
    *,
    source: str,
    policy: DeadlinePolicy = DEFAULT_POLICY,
) -> Confirmed:
    """Confirm every incident of a message that is still called out, in the person's name.

    Who may accept incidents accepts a reported one; for others a comment is added. Either way the calls end.
    """
    remark = comment.replace("\x00", "").strip()[:COMMENT_LIMIT] or say("notice.confirmed_by_link").zh
    numbers = sorted(item.incident_id for item in request.items if item.incident_id != TEST_INCIDENT)
    done = 0
    for start in range(0, len(numbers), MAX_INCIDENTS):
        with database.write() as connection:
            for number in numbers[start : start + MAX_INCIDENTS]:
                if notice_store.confirm(connection, number):
                    done += 1
                    _record_confirmation(connection, number, actor, remark, now_ms, source, policy)
    with database.write() as connection:
        first = (notices_.c.id == request.notice.id, notices_.c.acknowledged_at_ms.is_(None))
        connection.execute(sa.update(notices_).where(*first).values(acknowledged_at_ms=now_ms))
    return Confirmed(done, len(numbers) - done, now_ms)


def contact_actor(contact: Contact) -> Actor:
    """The actor for a contact who is not among the people, by the roles of the contacts' file."""
    return Actor(contact.name, Role.OFFICE if ContactRole.OFFICE in contact.roles else Role.CHIEF)


def _record_confirmation(
    connection: sa.Connection, number: int, actor: Actor, remark: str, now_ms: int, source: str, policy: DeadlinePolicy
) -> None:
    """Add the confirmation to the history: as an acceptance where that is allowed, else as a comment."""
    state = incident_store.get(connection, number).state
    accepts = [Action.ACCEPT] if state is State.REPORTED and actor.may(Right.ACCEPT) else []
    for action in (*accepts, Action.COMMENT):
        try:
            with connection.begin_nested():
                order = Order(action, comment=remark)
                incident_store.apply_action(
                    connection, number, order, actor, now_ms=now_ms, source=source, policy=policy
                )
        except Refused as error:
            log.info("a confirmation could not be written down as this", action=action.value, error=str(error))
        else:
            return
