"""Messages to people, wired: the settings' policy and links, and where the registry says that a station stands."""

from collections.abc import Collection, Mapping
from datetime import time

import sqlalchemy as sa

from api.context import Telling
from governance import channels
from governance.contacts import Directory, Place
from governance.database import Database
from governance.finding import Colour
from governance.messenger import Messenger
from governance.notices import Links, Policy
from ingest.storage.tables import region as region_table
from ingest.storage.tables import station as station_table
from riverchief import clock, files
from riverchief.settings import NoticesSection, Settings, secret
from sensors.texts import Text

DEEPEST = 8
"""Regions on the way up; there are five levels."""


def policy(n: NoticesSection) -> Policy:
    """When people are told, as the settings say."""
    begin, end = n.quiet.split("-")
    confirm = {Colour.RED: n.confirm_red_min, Colour.ORANGE: n.confirm_orange_min, Colour.YELLOW: n.confirm_yellow_min}
    return Policy(
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
    """What makes and checks links; None where messages have none."""
    key = secret(n.secret, n.secret_file)
    return Links(n.public_url, key.encode()) if n.public_url and key else None


def directory(settings: Settings) -> Directory | None:
    """The contacts, every channel understood; None where nobody is told. Raises ConfigurationError."""
    if settings.notices.contacts is None:
        return None
    found = files.read_contacts(settings.notices.contacts)
    channels.check(found)
    return found


def telling(settings: Settings, known: Directory | None) -> Telling | None:
    """What the API needs to know of it; None where nobody is told."""
    if known is None:
        return None
    return Telling(lambda: known, policy(settings.notices), links(settings.notices), settings.site.name)


def messenger(settings: Settings, database: Database, known: Directory) -> Messenger:
    """Tells people."""
    return Messenger(
        database,
        lambda: known,
        places=places,
        clock=clock.now_ms,
        policy=policy(settings.notices),
        links=links(settings.notices),
        title=settings.site.name,
    )


def places(connection: sa.Connection, stations: Collection[str]) -> Mapping[str, Place]:
    """Where stations stand, by key; a gateway stands where its first station does. Others are left out."""
    s = station_table.c
    query = sa.select(s.key, s.gateway, s.zh, s.en, s.reach, s.region).order_by(s.id)
    wanted = sorted(stations)
    rows = connection.execute(query.where(s.key.in_(wanted) | s.gateway.in_(wanted))).all()
    if not rows:
        return {}
    r = region_table.c
    regions = {row.code: row for row in connection.execute(sa.select(r.code, r.zh, r.en, r.parent))}
    found: dict[str, Place] = {}
    for row in rows:
        chain: list[str] = []
        code = row.region
        while code in regions and code not in chain and len(chain) < DEEPEST:
            chain.append(code)
            code = regions[code].parent
        nearest = regions.get(row.region)
        named = None if nearest is None else Text(nearest.zh, nearest.en)
        place = Place(Text(row.zh, row.en), tuple(chain), row.reach, named)
        if row.key in stations:
            found[row.key] = place
        if row.gateway in stations and row.gateway not in found:
            found[row.gateway] = place
    return found
