"""What the clock asks between batches: silent stations, and changed maintenance records."""

from collections.abc import Sequence

from governance.incidents.finding import Finding
from infra.database import Database
from ingest.ledger import Ledger
from ingest.rejudge.marks import rejudge_marks
from ingest.rejudge.station_moves import StoredReadings
from ingest.rules.alarm_state import update_alarms
from ingest.rules.engine import RuleEngine
from ingest.rules.no_data import LastSeen
from ingest.site_state import SiteState
from ingest.stages.group_by_cause import event_order
from ingest.storage import maintenance as maintenance_store
from sensors.maintenance import Marks, mark_spans, muted_until

LOADED_PER_TICK = 100
"""Stations whose history is read in one tick after a start: some tenths of a second, so that readings do not wait."""


def tick(site: SiteState, connected_since_ms: int | None, now_ms: int) -> list[Finding]:
    """Apply changed maintenance records, then look for stations that fell silent or report again.

    ``connected_since_ms`` tells since when the live source is connected, None while it is not. Raises
    StorageUnavailable.
    """
    site.end_trials(now_ms)
    _save_rules(site, now_ms)
    save_left_out(site.database, site.ledger)
    with site.invalidated_on_error():
        findings = _apply_maintenance_records(site, now_ms)
        if site.history.load_more(LOADED_PER_TICK, now_ms):
            findings += _check_silence(site, connected_since_ms, now_ms)
    return findings


def _save_rules(site: SiteState, now_ms: int) -> None:
    """Write down, once, which rules are in force from here on."""
    if not site.rules_saved:
        with site.database.write() as connection:
            site.save_rules(connection, now_ms)
        site.rules_saved = True


def save_left_out(database: Database, ledger: Ledger) -> None:
    """Save the counts that the ledger could not take with their batch."""
    left_out = ledger.take_left_out_counts()
    if not left_out:
        return
    try:
        with database.write() as connection:
            ledger.count_left_out(connection, left_out)
    except BaseException:
        for day, count in left_out.items():
            ledger.count_left_out_message(day, count)
        raise


def _check_silence(site: SiteState, connected_since_ms: int | None, now_ms: int) -> list[Finding]:
    """Findings of stations that fell silent or report again, recorded."""
    history = site.history
    excused = muted_until(site.visits, history.registry.index, now_ms)
    if site.clocks.all_seem_old(history.registry, history.last_seen, now_ms):
        connected_since_ms = None
    sensors = LastSeen(history.station, history.parameter, history.newest, history.resumed)

    def found(engine: RuleEngine) -> list[Finding]:
        now = history.last_seen, excused, connected_since_ms, now_ms, sensors
        return engine.withdrawn(history.registry) + engine.silence.tick(history.registry, *now)

    devices = history.registry, history.checks.alarms, now_ms
    findings = found(history.checks) + site.rates.faults.ended(*devices)
    findings += site.discards.begun(*devices) + site.discards.ended(*devices)
    of_trial = [] if history.trial is None else found(history.trial)
    if findings or of_trial:
        with site.database.write() as connection:
            site.record_trial(connection, of_trial, None, now_ms)
            site.record_findings(connection, findings, now_ms)
    if findings:
        site.on_findings()
    return findings


def _apply_maintenance_records(site: SiteState, now_ms: int) -> list[Finding]:
    """Mark and clear stored readings as the checks, visits and reviews now recorded require; findings of that.

    The marks in force move in the transaction that changes the verdicts: a crash at any moment leaves both as they
    were.
    """
    if not site.maintenance_changed and now_ms < site.visits_due_ms:
        return []
    with site.database.read() as connection:
        records = maintenance_store.load(connection)
        mutes = [one for _, one in maintenance_store.mutes(connection)]
    history, before = site.history, site.marks
    for engine in history.engines:
        engine.mute(mutes)
    drifted, site.visits_due_ms = site.visit_drift.spans(
        history.registry, records, before.spans, site.store, site.catalogue, now_ms
    )
    spans = site.own(mark_spans(history.registry, records) | drifted, history.registry)
    wanted = Marks(spans, history.registry.index, site.catalogue)
    findings: Sequence[Finding] = ()
    if wanted.spans != before.spans:
        stored = StoredReadings(history, site.store, wanted)
        moved = rejudge_marks(before, stored, site.past_events(now_ms), records.reviews, now_ms)
        changed = update_alarms(history.checks.alarms, moved.lasting)
        findings = sorted(moved.findings, key=event_order)
        with site.database.write() as connection:
            keys = [s.key for s in history.registry.stations]
            site.store.reflag(connection, keys, moved.reflagged, moved.packed)
            maintenance_store.save_marks(connection, before.spans, wanted.spans)
            site.record_trial(connection, (), moved.tried, now_ms)
            site.record_findings(connection, findings, now_ms, changed)
        site.marks = wanted
        for station in moved.stations:
            history.load(station, now_ms)
        if findings:
            site.on_findings()
    site.set_visits(records.visits, mutes)
    site.maintenance_changed = False
    return list(findings)
