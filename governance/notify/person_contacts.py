"""Store of people's contacts: channels, the number to call, why and when messages come.

Every function takes an open connection and never commits. Addresses are secrets: encrypted in the database, and in no
answer, log or entry of the audit trail, where a channel is named by its kind.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import time
from typing import Literal, cast

import sqlalchemy as sa

from governance.audit import trail as audit_trail
from governance.incidents.finding import Colour
from governance.notify import channels
from governance.notify.contacts import Channel, Contact, ContactRole, Directory
from governance.people import store as people_store
from governance.tables import person as people_
from governance.tables import person_contact as table
from infra.errors import ConfigurationError, NotFound
from infra.texts import say
from infra.vault import Vault

MAX_CHANNELS = 5
"""The most channels of one person, which are tried in turn. Our choice."""
DUTY_MIN_COLOUR = {
    ContactRole.OFFICE: Colour.ORANGE,
    ContactRole.CHIEF: Colour.ORANGE,
    ContactRole.ENGINEER: Colour.BLUE,
}
"""What a person may not choose away: messages of this colour and more urgent ones reach who has the role. Orange and
red ask for an answer within the hour; an engineer's work is announced in blue. Our choice."""
_PHONE = re.compile(r"\+?[0-9][0-9 ()-]{2,30}")


@dataclass(frozen=True, slots=True)
class ContactDetails:
    """How a person is reached; ``least``: nothing less urgent is sent.

    ``roles`` say why messages come; None: what the person's role and terms say. ``quiet``: their own quiet hours; None:
    those of the site. ``phone``: the number that others call.
    """

    language: Literal["zh", "en"] = "zh"
    least: Colour = Colour.BLUE
    channels: tuple[Channel, ...] = ()
    phone: str = field(default="", repr=False)
    roles: tuple[ContactRole, ...] | None = None
    quiet: tuple[time, time] | None = None


def check_own_choice(roles: Sequence[ContactRole], choice: ContactDetails) -> None:
    """Raises ConfigurationError where somebody chose away what the duty of their roles asks them to receive."""
    floors = [DUTY_MIN_COLOUR[role] for role in roles]
    if floors and not choice.channels:
        raise ConfigurationError(say("notice.duty_channel"))
    asked = max(floors, key=lambda colour: colour.rank, default=choice.least)
    if choice.least.rank < asked.rank:
        raise ConfigurationError(say("notice.duty_least", least=say(f"incident.{asked}")))


def put(connection: sa.Connection, name: str, reach: ContactDetails, vault: Vault, *, by: str, now_ms: int) -> None:
    """Store how a person is reached, replacing what was stored before.

    Raises NotFound, and ConfigurationError, which names no address, for channels or a number that cannot be used.
    """
    one = people_store.get(connection, name)
    if reach.phone and not _PHONE.fullmatch(reach.phone):
        raise ConfigurationError(say("notice.no_phone"))
    if len(reach.channels) > MAX_CHANNELS:
        raise ConfigurationError(say("notices.channels", name=one.name, most=MAX_CHANNELS))
    if any("://" not in channel.url for channel in reach.channels):
        raise ConfigurationError(say("notices.no_scheme", key=one.name))
    channels.check(Directory((Contact(one.name, one.name, channels=reach.channels),)))
    row = {
        "language": reach.language,
        "least": reach.least.value,
        "channels": vault.lock(json.dumps([[channel.url, channel.short] for channel in reach.channels])),
        "phone": vault.lock(reach.phone),
        "roles": None if reach.roles is None else ",".join(reach.roles),
        "quiet": None if reach.quiet is None else _hours(reach.quiet),
        "changed_at_ms": now_ms,
    }
    _delete(connection, one.id)
    connection.execute(sa.insert(table).values(person_id=one.id, **row))
    body = {
        **{name: row[name] for name in ("language", "least", "roles", "quiet")},
        "channels": [channel.kind for channel in reach.channels],
        "phone": bool(reach.phone),
    }
    audit_trail.append_many(
        connection, [audit_trail.NewEntry("person.contact_changed", "person", one.name, body, by, now_ms)]
    )


def remove(connection: sa.Connection, name: str, *, by: str, now_ms: int) -> None:
    """Delete how a person is reached. Raises NotFound, also where nothing is stored."""
    one = people_store.get(connection, name)
    if not _delete(connection, one.id):
        raise NotFound(say("notices.no_contact_of", name=one.name))
    entry = audit_trail.NewEntry("person.contact_changed", "person", one.name, {"channels": []}, by, now_ms)
    audit_trail.append_many(connection, [entry])


def get(connection: sa.Connection, name: str, vault: Vault) -> ContactDetails:
    """How a person is reached. Raises NotFound, also where nothing is stored."""
    one = people_store.get(connection, name)
    found = read_all(connection, vault, (one.name,)).get(one.name)
    if found is None:
        raise NotFound(say("notices.no_contact_of", name=one.name))
    return found


def read_all(connection: sa.Connection, vault: Vault, names: Sequence[str] = ()) -> dict[str, ContactDetails]:
    """How people are reached, by name, all or those named; entries encrypted with another key are left out."""
    query = sa.select(people_.c.name, table).join(people_, people_.c.id == table.c.person_id)
    if names:
        query = query.where(people_.c.name.in_(names))
    found = {}
    for row in connection.execute(query.where(people_.c.removed_at_ms.is_(None))):
        if text := vault.open(row.channels):
            channels = tuple(Channel(url, short) for url, short in json.loads(text))
            found[row.name] = ContactDetails(
                cast(Literal["zh", "en"], row.language),
                Colour(row.least),
                channels,
                vault.open(row.phone),
                None if row.roles is None else tuple(ContactRole(one) for one in row.roles.split(",") if one),
                None if row.quiet is None else hours(row.quiet),
            )
    return found


def hours(text: str) -> tuple[time, time]:
    """Quiet hours as they are written: ``22:00-07:00``. Raises ValueError."""
    begin, _, end = text.partition("-")
    return time.fromisoformat(begin), time.fromisoformat(end)


def _hours(quiet: tuple[time, time]) -> str:
    return "-".join(f"{one:%H:%M}" for one in quiet)


def _delete(connection: sa.Connection, person_id: int) -> int:
    return connection.execute(sa.delete(table).where(table.c.person_id == person_id)).rowcount
