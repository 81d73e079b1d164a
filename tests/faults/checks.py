"""What must hold once everything that failed is mended: each check returns what is wrong, nothing where all is well."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from governance.audit.trail import Verified
from governance.incidents import queries as incident_queries
from governance.notify.message import CALL_KINDS, NoticeKind
from governance.notify.planning import kind_of
from governance.notify.tables import notice, notice_item
from governance.tables import incident, outbox
from governance.verification import roots
from infra.database import Database
from ingest import ledger, quarantine
from ingest.storage.influx import InfluxReadings
from ingest.storage.port import ReadingStore
from ingest.storage.timeseries import ServerKind, ServerSettings, TimeSeriesServer
from riverchief import audit_sealing, settings
from riverchief.stores import open_stores
from sensors.parameters import catalogue
from tests.faults.parts import Site
from tests.faults.river import River

Reading = tuple[str, str, int]
"""Station, parameter, time (ms)."""
CALLED = [kind.value for kind in (*CALL_KINDS, NoticeKind.ESCALATED)]
PAGES_AN_INCIDENT = 2
"""Orange and red: it may become more urgent once."""


@dataclass
class Readings:
    """What became of readings; only ``named`` may hold any, what a broker lost that acknowledges before it syncs."""

    named: set[Reading] = field(default_factory=set)
    lost: set[Reading] = field(default_factory=set)
    altered: set[Reading] = field(default_factory=set)
    doubled: set[Reading] = field(default_factory=set)
    held: set[Reading] = field(default_factory=set)
    stored: int = 0


def readings(site: Site, river: River) -> Readings:
    """Every reading that was sent is stored as it was sent, or in quarantine, or the ledger names it as missing."""
    known, found = catalogue(), Readings()
    sent = {(s, key, at): (v, one.seq) for (s, at), one in river.sent.items() for key, v in one.values.items()}
    with site.database() as database:
        store = open_stores(settings.load(site.settings), database, known).readings
        stored = _stored(store, sorted({station for station, _, _ in sent}))
        with database.read() as connection:
            accounts = ledger.accounts(connection)
            held = _held(connection)
            gaps = {
                one.station: ledger.gaps(connection, one.station, one.day, limit=10_000)
                for one in accounts
                if one.messages_missing
            }
    for reading, (value, seq) in sent.items():
        if reading in stored:
            if stored[reading] != value:
                found.altered.add(reading)
        elif reading not in held:
            in_gap = any(gap.first_seq <= seq <= gap.last_seq for gap in gaps.get(reading[0], ()))
            (found.named if in_gap else found.lost).add(reading)
    found.doubled = (stored.keys() - sent.keys()) | (stored.keys() & held)
    found.held, found.stored = held, len(stored)
    return found


def _stored(store: ReadingStore, stations: list[str]) -> dict[Reading, float]:
    found: dict[Reading, float] = {}
    for station in stations:
        window = store.window(station, 0, 2**53)
        rows = zip(window.parameter, window.at.tolist(), window.value.tolist(), strict=True)
        found |= {(station, catalogue().parameters[p].key, at): value for p, at, value in rows}
    return found


def _held(connection: sa.Connection) -> set[Reading]:
    entries = quarantine.listing(connection, status=quarantine.HELD, limit=1_000_000)
    return {(one.station, key, at) for one in entries for at, key in one.refused or ()}


def books(site: Site, found: Readings) -> Iterator[str]:
    """The ledger counts what is there, and closes or names what is missing, with an exit code that says so."""
    with site.database() as database, database.read() as connection:
        accounts = ledger.accounts(connection)
    sums = {name: sum(getattr(a, name) for a in accounts) for name in ("stored", "quarantined")}
    if sums != {"stored": found.stored, "quarantined": len(found.held)}:
        yield f"the ledger counts {sums}, there are {found.stored} stored and {len(found.held)} in quarantine"
    if not all(account.closed for account in accounts):
        yield f"accounts do not close: {[a for a in accounts if not a.closed][:3]}"
    missing = sum(account.missing or 0 for account in accounts)
    if missing != len(found.named) + len(found.lost):
        yield f"the ledger misses {missing} readings, {len(found.named) + len(found.lost)} are not there"
    code = site.run("ledger", "--day", "all", "--verify").wait(120)
    if code != (1 if missing else 0):
        yield f"riverchief ledger exits with {code} where {missing} readings are missing"


def incidents(site: Site, river: River) -> Iterator[str]:
    """One incident for each station that was polluted, and one that pages nobody for each flood of late data."""
    with site.database() as database, database.read() as connection:
        everything = incident_queries.list_incidents(connection, limit=10_000)
        paged = Counter(connection.execute(sa.select(outbox.c.incident_id).where(outbox.c.notify == "page")).scalars())
    found = [one for one in everything if one.cause.startswith("water:")]
    live = Counter(one.station for one in found if not one.retrospective)
    if live != Counter(river.polluted):
        more, less = live - Counter(river.polluted), Counter(river.polluted) - live
        yield f"live incidents too many {dict(more)}, too few {dict(less)}"
    past = Counter(one.station for one in found if one.retrospective and one.station in river.late)
    if past != Counter(river.flooded):
        yield f"incidents of late data {dict(past)}, floods {river.flooded}"
    for one in found:
        most = 0 if one.retrospective else PAGES_AN_INCIDENT
        if paged[one.id] > most:
            yield f"incident {one.id} of {one.station} pages {paged[one.id]} times"


def silence(site: Site, river: River) -> Iterator[str]:
    """No station that sent all the time seemed silent, whatever the site's clock said."""
    with site.database() as database, database.read() as connection:
        everything = incident_queries.list_incidents(connection, limit=10_000)
    sending = {*river.steady, *river.turning}
    wrong = sorted({one.station for one in everything if one.cause.startswith("silence:") and one.station in sending})
    if wrong:
        yield f"{len(wrong)} stations that sent all the time seemed silent: {wrong[:3]}"


def deliveries(site: Site, _river: River) -> Iterator[str]:
    """Each change is delivered once by its id and in order, or refused by the receiver itself."""
    events = list(site.receiver.events)
    answers: dict[str, set[int | None]] = {}
    for one in events:
        answers.setdefault(one.event_id, set()).add(one.status)
    with site.database() as database, database.read() as connection:
        rows = connection.execute(sa.select(outbox.c.event_id, outbox.c.status)).all()
    for row in rows:
        expected = {"delivered": 200, "refused": 410}.get(row.status)
        if expected is None and row.status != "superseded":
            yield f"event {row.event_id} is still {row.status}"
        if expected is not None and expected not in answers.get(row.event_id, ()):
            yield f"event {row.event_id} counts as {row.status}, the receiver answered {answers.get(row.event_id)}"
    if unknown := answers.keys() - {row.event_id for row in rows}:
        yield f"events that no change made: {sorted(unknown)[:3]}"
    newest: dict[int, int] = {}
    for one in site.receiver.accepted():
        if one.seq < newest.get(one.incident, 0):
            yield f"incident {one.incident}: change {one.seq} arrives after {newest[one.incident]}"
        newest[one.incident] = max(one.seq, newest.get(one.incident, 0))


def pages(site: Site, _river: River) -> Iterator[str]:
    """Nobody is called twice for polluted water in one colour, nor for anything more often than a change calls.

    What ends and comes back calls again: a station that is silent twice.
    """
    c, n = notice_item.c, notice.c
    query = (
        sa.select(c.incident_id, c.kind, c.colour, n.contact, incident.c.cause, sa.func.count().label("times"))
        .join(notice, n.id == c.notice_id)
        .join(incident, incident.c.id == c.incident_id)
        .where(c.kind.in_(CALLED), n.status == "sent")
        .group_by(c.incident_id, c.kind, c.colour, n.contact, incident.c.cause)
        .having(sa.func.count() > 1)
    )
    with site.database() as database, database.read() as connection:
        events = connection.execute(sa.select(outbox.c.incident_id, outbox.c.body, outbox.c.notify)).all()
        calling = Counter(
            row.incident_id for row in events if kind_of(json.loads(row.body)["data"], row.notify) in CALL_KINDS
        )
        for row in connection.execute(query):
            if row.times > (1 if row.cause.startswith("water:") else calling[row.incident_id]):
                yield f"{row.contact} is called {row.times} times: incident {row.incident_id} {row.kind} {row.colour}"
        sent = connection.execute(sa.select(n.contact, n.body).where(n.status == "sent")).all()
    if unknown := set(site.receiver.texts) - {(row.contact, row.body) for row in sent}:
        yield f"{len(unknown)} texts reached a phone that no message has: {sorted(unknown)[0]}"


def trail(site: Site, _river: River) -> Iterator[str]:
    """The audit trail verifies, with its signed roots and those kept outside."""
    loaded = settings.load(site.settings)
    with site.database() as database, database.read() as connection:
        found: Verified = roots.verify(
            connection, audit_sealing.public_keys(loaded), audit_sealing.outside_roots(loaded)
        )
    for fault in found.faults[:5]:
        yield f"audit trail: {fault.wrong.value} {fault.detail}"


def long_history(site: Site, _river: River) -> Iterator[str]:
    """InfluxDB has what the database has, to the bit."""
    if site.influx is None:
        return
    known = catalogue()
    server = TimeSeriesServer(ServerSettings(site.influx.url, ServerKind.INFLUXDB1, bucket="water"))
    with site.database() as database:
        here_store = open_stores(settings.load(site.settings), database, known).readings
        stations = sorted(here_store.count())
        here, there = _stored(here_store, stations), _stored(InfluxReadings(server, known), stations)
    server.close()
    if here != there:
        lacks, more = here.keys() - there.keys(), there.keys() - here.keys()
        other = {key for key in here.keys() & there.keys() if here[key] != there[key]}
        yield f"InfluxDB lacks {len(lacks)} readings, has {len(more)} more, {len(other)} differ"


CHECKS = (incidents, silence, deliveries, pages, trail, long_history)


def waits(database: Database, now_ms: int) -> Mapping[str, int]:
    """What is still on its way."""
    queries = {
        "spool": "SELECT count(*) FROM spool",
        "late data": "SELECT count(*) FROM late_message",
        "deliveries": "SELECT count(*) FROM outbox WHERE status = 'pending'",
        "messages to people": f"SELECT count(*) FROM notice WHERE status = 'pending' AND due_at_ms <= {now_ms}",
    }
    with database.read() as connection:
        return {name: int(connection.execute(sa.text(query)).scalar_one()) for name, query in queries.items()}
