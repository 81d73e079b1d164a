"""Wiring of notifications: policy and links from the settings, contacts and places from the database."""

import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import time
from typing import TYPE_CHECKING

import sqlalchemy as sa

from governance.incidents.finding import Colour
from governance.notify import channels, contacts, person_contacts
from governance.notify.channels import Outcome
from governance.notify.contacts import Channel, Contact, Directory, Place
from governance.notify.links import Links
from governance.notify.messenger import Messenger, Send
from governance.notify.person_contacts import ContactDetails
from governance.notify.planning import REGION_KEY_PREFIX
from governance.notify.policy import NoticePolicy
from governance.notify.web_push import SCHEME, WebPush
from governance.organisation import roles
from governance.organisation.terms import Appointment
from governance.people import store as people_store
from infra import clock
from infra.database import Database
from infra.errors import ConfigurationError, StorageUnavailable
from infra.texts import Text, say
from infra.vault import Vault
from ingest.analysis.present_values import present_values
from ingest.storage.port import ReadingStore
from ingest.storage.tables import region as region_table
from ingest.storage.tables import station as station_table
from riverchief import contact_key, files
from riverchief.settings import NoticesSection, Settings, secret

if TYPE_CHECKING:
    from api.context import NotificationSettings

RECENT_MS = 5000
MAX_REGION_DEPTH = 8
"""Regions on the way up; there are five levels."""


def policy(n: NoticesSection) -> NoticePolicy:
    """The notification policy of the settings."""
    begin, end = n.quiet.split("-")
    confirm = {Colour.RED: n.confirm_red_min, Colour.ORANGE: n.confirm_orange_min, Colour.YELLOW: n.confirm_yellow_min}
    return NoticePolicy(
        confirm=confirm,
        quiet=(time.fromisoformat(begin), time.fromisoformat(end)),
        morning=time.fromisoformat(n.morning),
        digest=time.fromisoformat(n.digest),
        window_s=n.window_s,
        most=n.most,
        per_minute=n.per_minute,
        link_hours=n.link_hours,
    )


def links(n: NoticesSection) -> Links | None:
    """The signer of confirmation links; None where messages have none."""
    key = secret(n.secret, n.secret_file)
    return Links(n.public_url, key.encode()) if n.public_url and key else None


def public_mail(n: NoticesSection) -> str | None:
    """The mail server for subscriptions of the public; None where nobody can subscribe. Raises ConfigurationError."""
    server = secret(n.mail, n.mail_file)
    if not server or not n.public_url:
        return None
    if not channels.is_mail_server(server):
        raise ConfigurationError(say("settings.no_mail_server"))
    return server


def web_push(n: NoticesSection) -> WebPush | None:
    """What sends to browsers; None where it is switched off, or our address or secret is not known."""
    key = secret(n.secret, n.secret_file)
    return WebPush(key.encode(), n.public_url, tuple(n.push_hosts)) if n.web_push and n.public_url and key else None


def sender(n: NoticesSection) -> Send:
    """Sends through a channel: to browsers by ourselves, through all others by apprise."""
    push = web_push(n)

    def send(channel: Channel, title: str, body: str) -> Outcome:
        if push is not None and channel.kind == SCHEME:
            return push.send(channel, title, body)
        return channels.send(channel, title, body)

    return send


def directory(settings: Settings) -> Directory | None:
    """The contacts of the site; None without a file of contacts. Raises ConfigurationError."""
    file = settings.notices.contacts
    return None if file is None else files.read_contacts(file)


def all_contacts(settings: Settings, connection: sa.Connection, at_ms: int) -> Directory:
    """The contacts of the file and of the people at an instant. Raises ConfigurationError, StorageUnavailable."""
    people = contacts_of_people(connection, contact_key.vault(settings, make=False), at_ms)
    return (directory(settings) or Directory()).with_people(people)


class ContactList:
    """The contacts as they are now: the file's and the people's, with the roles and terms of the people.

    Asks the database again after ``RECENT_MS``; while it does not answer, the last answer stands.
    """

    def __init__(
        self, file: Callable[[], Directory], database: Database, vault: Vault, clock_ms: Callable[[], int]
    ) -> None:
        self._file = file
        self._database = database
        self._vault = vault
        self._clock_ms = clock_ms
        self._at_ms: int | None = None
        self._found = file()
        self._lock = threading.Lock()

    def __call__(self) -> Directory:
        now_ms = self._clock_ms()
        with self._lock:
            if self._at_ms is None or not 0 <= now_ms - self._at_ms < RECENT_MS:
                with suppress(StorageUnavailable), self._database.read() as connection:
                    self._found = self._file().with_people(contacts_of_people(connection, self._vault, now_ms))
                self._at_ms = now_ms
            return self._found

    def forget(self) -> None:
        """Ask the database at the next call: contacts were changed."""
        with self._lock:
            self._at_ms = None


_CONTACT_ROLES: Mapping[roles.Role, contacts.ContactRole] = {
    roles.Role.GENERAL_CHIEF: contacts.ContactRole.CHIEF,
    roles.Role.CHIEF: contacts.ContactRole.CHIEF,
    roles.Role.DEPUTY: contacts.ContactRole.CHIEF,
    roles.Role.GRID_WORKER: contacts.ContactRole.CHIEF,
    roles.Role.OFFICE: contacts.ContactRole.OFFICE,
    roles.Role.OPERATOR: contacts.ContactRole.OFFICE,
    roles.Role.REVIEWER: contacts.ContactRole.ENGINEER,
}
"""Reasons of a message by role; handlers and verifiers get their tasks by name."""


def contacts_of_people(connection: sa.Connection, vault: Vault, now_ms: int) -> list[Contact]:
    """The people of the record as contacts, by name: chiefs by their terms, channels where some are kept."""
    ways = person_contacts.read_all(connection, vault)
    terms: dict[str, list[Appointment]] = {}
    for term in people_store.appointments(connection):
        if term.in_force(now_ms):
            terms.setdefault(term.name, []).append(term)
    found = []
    for one in people_store.list_people(connection):
        held = terms.get(one.name, [])
        regions = [term.region for term in held if not term.reach]
        if one.region and one.role not in roles.ROLES_WITH_TERMS:
            regions.append(one.region)
        reaches = tuple(term.reach for term in held if term.reach)
        way = ways.get(one.name, ContactDetails())
        of_role = _CONTACT_ROLES.get(one.role)
        reasons = way.roles if way.roles is not None else (of_role,) if of_role else ()
        if not regions and not reaches:  # whose term is over answers for nothing, and not for everything
            reasons = tuple(reason for reason in reasons if reason is not contacts.ContactRole.CHIEF)
        contact = Contact(one.name, one.name, "zh", reasons, tuple(regions), reaches)
        if one.name in ways:
            contact = replace(
                contact, language=way.language, least=way.least, channels=way.channels, phone=way.phone, quiet=way.quiet
            )
        found.append(contact)
    return found


def notification_settings(settings: Settings, contacts: ContactList) -> "NotificationSettings":
    """Notification settings for the API."""
    from api.context import NotificationSettings  # with all that the API holds

    return NotificationSettings(
        contacts,
        policy(settings.notices),
        links(settings.notices),
        settings.site.name,
        contacts.forget,
        web_push(settings.notices),
    )


def messenger(settings: Settings, database: Database, read: Callable[[], Directory], store: ReadingStore) -> Messenger:
    """The worker that sends notifications."""
    return Messenger(
        database,
        read,
        places=places,
        clock=clock.now_ms,
        policy=policy(settings.notices),
        links=links(settings.notices),
        title=settings.site.name,
        send=sender(settings.notices),
        present=lambda wanted: present_values(store.recent_store, wanted),
    )


def places(connection: sa.Connection, wanted: Collection[str]) -> Mapping[str, Place]:
    """Places by `planning.place_keys`: of stations, regions and gateways (the place of its first station).

    What is not registered is left out.
    """
    r = region_table.c
    regions = {row.code: row for row in connection.execute(sa.select(r.code, r.zh, r.en, r.parent))}

    def up(code: str) -> tuple[str, ...]:
        chain: list[str] = []
        while code in regions and code not in chain and len(chain) < MAX_REGION_DEPTH:
            chain.append(code)
            code = regions[code].parent
        return tuple(chain)

    def named(code: str) -> Text | None:
        return Text(regions[code].zh, regions[code].en) if code in regions else None

    found: dict[str, Place] = {}
    for key in wanted:
        code = key.removeprefix(REGION_KEY_PREFIX)
        name = named(code)
        if key.startswith(REGION_KEY_PREFIX) and name is not None:
            found[key] = Place(name, up(code), "", name)
    keys = sorted(key for key in wanted if not key.startswith(REGION_KEY_PREFIX))
    s = station_table.c
    query = sa.select(s.key, s.gateway, s.zh, s.en, s.reach, s.region).order_by(s.id)
    for row in connection.execute(query.where(s.key.in_(keys) | s.gateway.in_(keys))):
        place = Place(Text(row.zh, row.en), up(row.region), row.reach, named(row.region))
        if row.key in wanted:
            found[row.key] = place
        if row.gateway in wanted and row.gateway not in found:
            found[row.gateway] = place
    return found
