"""A link in a message is followed: what it is about, and what comes of confirming it.

Looking changes nothing: previews and scanners of messages open links. Who confirms stops every call for these incidents
to everybody; the deadline of handling is not touched.
"""

from dataclasses import dataclass

import sqlalchemy as sa

from governance import incidents, notice_store
from governance.contacts import Contact, Directory
from governance.database import Database
from governance.lifecycle import Action, Order, sentence
from governance.messenger import UNCONFIRMED
from governance.notice_store import Notice
from governance.notice_tables import notice as notices_
from governance.notices import TEST, Item, Links, number_of
from governance.roles import administrator
from sensors.errors import NotFound, Refused
from sensors.texts import say
from sensors.times import beijing

AT_ONCE = 100
COMMENT = 500
"""Characters of the remark on the page."""


class LinkExpired(Refused):
    """The link was good once."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a link is about."""

    notice: Notice
    contact: Contact
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Confirmed:
    """How many incidents this confirmed, and how many somebody had confirmed or closed before."""

    done: int
    before: int
    at_ms: int


def look(database: Database, directory: Directory, links: Links, token: str, now_ms: int) -> Asked:
    """What a link is about. Raises NotFound for one we did not make, and LinkExpired."""
    number = number_of(token)
    if number is None:
        raise NotFound(sentence("notice.page_wrong"))
    with database.read() as connection:
        try:
            notice = notice_store.get(connection, number)
        except NotFound:
            raise NotFound(sentence("notice.page_wrong")) from None
        items = notice_store.items(connection, [number]).get(number, [])
    contact = directory.get(notice.contact)
    if contact is None or not links.proves(token, notice.id, notice.contact, notice.expires_at_ms):
        raise NotFound(sentence("notice.page_wrong"))
    if now_ms >= notice.expires_at_ms:
        raise LinkExpired(sentence("notice.page_expired", at=beijing(notice.expires_at_ms)))
    return Asked(notice, contact, tuple(items))


def confirm(database: Database, asked: Asked, comment: str, now_ms: int, *, source: str) -> Confirmed:
    """Confirm every incident of a message that nobody has confirmed, in the person's name."""
    remark = comment.replace("\x00", "").strip()[:COMMENT] or say("notice.confirmed_by_link").zh
    numbers = sorted(item.incident_id for item in asked.items if item.incident_id != TEST)
    done = 0
    for start in range(0, len(numbers), AT_ONCE):
        with database.write() as connection:
            for number in numbers[start : start + AT_ONCE]:
                done += _confirmed(connection, number, asked.contact.name, remark, now_ms, source)
    with database.write() as connection:
        first = (notices_.c.id == asked.notice.id, notices_.c.acknowledged_at_ms.is_(None))
        connection.execute(sa.update(notices_).where(*first).values(acknowledged_at_ms=now_ms))
    return Confirmed(done, len(numbers) - done, now_ms)


def _confirmed(connection: sa.Connection, number: int, by: str, comment: str, now_ms: int, source: str) -> bool:
    try:
        if incidents.get(connection, number).state not in UNCONFIRMED:
            return False
        with connection.begin_nested():
            order = Order(Action.ACCEPT, comment=comment)
            incidents.act(connection, number, order, administrator(by), now_ms=now_ms, source=source)
    except (Refused, NotFound):  # somebody else was faster
        return False
    return True
