"""Checks of the database: migrations, stuck deliveries, growing quarantine, silent stations."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from governance.notify import oncall, outbox
from governance.notify import store as notice_store
from infra import clock
from infra.database import Database
from infra.errors import ConfigurationError, StorageUnavailable
from infra.times import DAY_MS, beijing
from ingest import quarantine, quarantine_limits
from ingest.rules import device_rate, explain
from ingest.state import alarm_store
from ingest.storage import downsampling
from ingest.storage import registry as registry_store
from ingest.storage.sql import SqlReadings
from ingest.storage.tables import quarantine as quarantine_table
from riverchief import files, migrations
from riverchief.doctor.findings import Finding, failure, ok, warning
from riverchief.settings import Settings
from riverchief.single_writer import exclusive_ingest
from sensors.parameters import catalogue

MAX_WAL_BYTES = 256 * 2**20
"""The write-ahead log is copied back every 16 MiB; one so large shows a reader that never ends."""
STUCK_AFTER_MS = 600_000
LATE_AFTER_MS = 3_600_000
"""Hours and days are computed an hour after their first new reading; another hour shows that it does not keep up."""
PLANNED_AHEAD_MS = 7 * DAY_MS
"""How far ahead somebody should be planned to be on call."""
CLOCK_TOLERANCE_MS = 300_000
MAX_NAMED_STATIONS = 5
NEARLY_FULL = 0.8
"""Of the limit of the quarantine: a day remains at twelve devices that reach theirs (our choice)."""


def database(settings: Settings) -> Iterator[Finding]:
    """Whether the database answers and has the schema of this program, and the checks of its contents."""
    db = Database(settings.database_url)
    try:
        if db.is_sqlite and not Path(str(db.url.database)).exists():
            yield warning("database", "database_none", file=db.url.database)
            return
        try:
            current, wanted = _revisions(db)
        except StorageUnavailable as error:
            yield failure("database", "database_away", where=db, error=error.text)
            return
        if current != wanted:
            key = "database_new" if current not in _known_revisions() else "database_old"
            yield failure("database", key, current=current or "-", wanted=wanted)
            return
        yield ok("database", "database_ok", where=db, revision=current)
        if db.is_sqlite:
            yield from _log(Path(f"{db.url.database}-wal"))
        yield from _ingest_at_work(settings.database_url)
        yield from _deliveries(db)
        yield from _notices(settings, db)
        yield from _quarantine(db)
        yield from _quarantine_limits(settings, db)
        yield from _downsampling(db)
        yield from _stations(db)
        yield from _device_rates(db)
        yield from _rules(settings, db)
    finally:
        db.close()


def _revisions(db: Database) -> tuple[str | None, str | None]:
    """The revision of the schema, and the one this program needs; nothing is changed."""
    with db.read() as connection:
        return MigrationContext.configure(connection).get_current_revision(), _scripts().get_current_head()


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(Path(migrations.__file__).parent))


def _known_revisions() -> set[str | None]:
    return {None, *(script.revision for script in _scripts().walk_revisions())}


def _log(file: Path) -> Iterator[Finding]:
    size = file.stat().st_size if file.exists() else 0
    if size > MAX_WAL_BYTES:
        yield warning("database", "database_log", size=f"{size / 2**20:.0f} MiB")


def _ingest_at_work(url: str) -> Iterator[Finding]:
    """Whether an ingest works: its lock is taken for a moment and released."""
    try:
        with exclusive_ingest(url):
            pass
    except ConfigurationError:
        yield ok("ingest", "ingest_works")
    else:
        yield warning("ingest", "ingest_none")


def _deliveries(db: Database) -> Iterator[Finding]:
    with db.read() as connection:
        counts = outbox.pending_counts(connection)
    if counts.refused:
        yield warning("outbox", "outbox_dead", count=counts.refused)
    oldest = counts.oldest_pending_at_ms
    if oldest is not None and clock.now_ms() - oldest > STUCK_AFTER_MS:
        yield warning("outbox", "outbox_stuck", count=counts.pending, since=beijing(oldest))


def _notices(settings: Settings, db: Database) -> Iterator[Finding]:
    """Waiting and failed messages, unconfirmed incidents, gaps in the on-call roster."""
    if settings.notices.contacts is None:
        return
    now_ms = clock.now_ms()
    with db.read() as connection:
        notices = notice_store.queue_counts(connection)
        planned = oncall.shifts(connection, now_ms, now_ms + PLANNED_AHEAD_MS)
    if notices.dead:
        yield warning("notices", "notices_dead", count=notices.dead)
    if notices.oldest_due_at_ms is not None and now_ms - notices.oldest_due_at_ms > STUCK_AFTER_MS:
        yield failure("notices", "notices_stuck", since=beijing(notices.oldest_due_at_ms))
    if notices.unconfirmed:
        yield failure("notices", "notices_unconfirmed", count=notices.unconfirmed)
    gap_ms = oncall.uncovered(planned, now_ms, now_ms + PLANNED_AHEAD_MS)
    if gap_ms is not None:
        yield warning("notices", "notices_uncovered", at=beijing(gap_ms))


def _quarantine(db: Database) -> Iterator[Finding]:
    since_ms = clock.now_ms() - DAY_MS
    t = quarantine_table.c
    recent = sa.select(sa.func.count()).where(t.status == quarantine.HELD, t.received_at_ms >= since_ms)
    with db.read() as connection:
        held = quarantine.counts(connection)
        new = int(connection.execute(recent).scalar_one())
    if not held:
        yield ok("quarantine", "quarantine_none")
        return
    worst = sorted(held.items(), key=lambda item: -item[1])[:MAX_NAMED_STATIONS]
    values = {"count": sum(held.values()), "new": new, "reasons": ", ".join(f"{reason} {n}" for reason, n in worst)}
    yield (warning if new else ok)("quarantine", "quarantine_grows" if new else "quarantine_held", **values)


def _quarantine_limits(settings: Settings, db: Database) -> Iterator[Finding]:
    """What was discarded within a day, and a quarantine that is nearly full."""
    with db.read() as connection:
        discarded = quarantine_limits.discarded_since(connection, clock.now_ms() - DAY_MS)
        used_mb = quarantine_limits.total_bytes(connection) >> 20
    if discarded:
        counts = Counter[str]()
        for one in discarded:
            counts[one.account] += one.messages
        named = ", ".join(f"{device} {count:,}" for device, count in counts.most_common(MAX_NAMED_STATIONS))
        yield warning("quarantine", "quarantine_discards", count=f"{counts.total():,}", devices=named)
    if used_mb >= NEARLY_FULL * settings.ingest.quarantine_mb:
        yield warning("quarantine", "quarantine_full", used=used_mb, limit=settings.ingest.quarantine_mb)


def _downsampling(db: Database) -> Iterator[Finding]:
    now_ms = clock.now_ms()
    with db.read() as connection:
        waiting = downsampling.waiting(connection, now_ms)
    if waiting.due_since_ms is not None and now_ms - waiting.due_since_ms > LATE_AFTER_MS:
        yield warning("influx", "downsampling_late", days=waiting.days, since=beijing(waiting.due_since_ms))


def _rules(settings: Settings, db: Database) -> Iterator[Finding]:
    """What contradicts itself in the rules, and stations whose events no rule tells; how they fit otherwise is for
    ``rules check``, and whether they can be read for ``settings``."""
    parameters = catalogue()
    try:
        rules = files.read_rules(settings.site.rules, parameters)
    except ConfigurationError:
        return
    with db.read() as connection:
        registry = registry_store.load(connection, parameters)
    for fault in (*explain.find_rule_faults(rules, parameters), *explain.unmatched_stations(rules, registry)):
        yield warning("rules", "rules_fault", fault=fault.text)


def _device_rates(db: Database) -> Iterator[Finding]:
    """Devices that send too much: their findings are active."""
    with db.read() as connection:
        flooding = [station for rule, station, _ in alarm_store.load(connection) if rule == device_rate.RULE]
    if flooding:
        named = ", ".join(sorted(flooding)[:MAX_NAMED_STATIONS]) + (" …" if len(flooding) > MAX_NAMED_STATIONS else "")
        yield warning("device_rates", "device_rates_beyond", count=len(flooding), stations=named)


def _stations(db: Database) -> Iterator[Finding]:
    parameters = catalogue()
    with db.read() as connection:
        registry = registry_store.load(connection, parameters)
    keys = [s.key for s in registry.in_service]
    if not keys:
        yield warning("stations", "stations_none")
        return
    newest: dict[str, int] = {}
    for row in SqlReadings(db, parameters).latest():
        newest[row.station] = max(row.newest_at_ms, newest.get(row.station, 0))
    if newest:
        last = max(newest.values())
        if last > clock.now_ms() + CLOCK_TOLERANCE_MS:
            yield failure("clock", "clock_behind", newest=beijing(last), now=beijing(clock.now_ms()))
        yield ok("stations", "stations_newest", count=len(newest), all=len(keys), at=beijing(last))
    silent = [key for key in keys if key not in newest]
    if silent:
        named = ", ".join(silent[:MAX_NAMED_STATIONS]) + (" …" if len(silent) > MAX_NAMED_STATIONS else "")
        yield warning("stations", "stations_never", count=len(silent), stations=named)
