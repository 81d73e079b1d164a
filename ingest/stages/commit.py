"""Write everything of a batch to the database in one transaction."""

import numpy as np
import sqlalchemy as sa

from ingest import quarantine
from ingest.rejudge import corrections
from ingest.replays import settle_replays
from ingest.rules.alarm_state import update_alarms
from ingest.rules.device_reports import DeviceReport
from ingest.stages.deduplicate import without_messages
from ingest.state import detector_state
from ingest.storage import device_events, late_queue, loggers, maintenance, sl651_stations
from ingest.storage.changes import Author
from ingest.work import NewReadings, Work
from sensors.device_checks import checks_of
from sensors.reading import Batch, Message, Reason
from sensors.wire.framed import sender_of
from sensors.wire.hj212 import readings as hj212
from sensors.wire.sl651 import readings as sl651


class Commit:
    """Reads all of ``Work``; writes ``new``, ``stored``, ``duplicate``, ``resumed`` and ``recorded``, and adds to
    ``findings`` and ``changed_alarms`` those of devices.

    The messages may be acknowledged once it has run. Raises StorageUnavailable.
    """

    name = "store"

    def run(self, work: Work) -> None:
        site = work.site
        _count_readings(work)
        with site.database.write() as connection:
            site.save_rules(connection, work.now_ms)
            _write_readings(connection, work)
            late_queue.add(connection, [work.messages[i] for i in sorted(work.queued)])
            judged = late_queue.remove(connection, work.messages)
            settle_replays(connection, site, [*work.replayed, *_redelivered(connection, work)], work.now_ms)
            held = site.quarantine(connection, work.messages, work.decoded.headers, work.rejected, work.now_ms)
            _add_device_findings(connection, work)
            loggers.update_newest(connection, _newest_by_device(work, hj212.SOURCE))
            sl651_stations.update_newest(connection, _newest_by_device(work, sl651.SOURCE))
            site.ledger.count(
                connection,
                site.history.registry,
                work.messages,
                work.decoded.headers,
                work.stored,
                work.duplicate,
                work.rejected,
                repeated=held,
                later=work.queued,
            )
            site.record_trial(connection, work.trial_findings, work.late.rejudgement.tried, work.now_ms)
            work.recorded = site.record_findings(connection, work.findings, work.now_ms, work.changed_alarms)
        for rejected in work.rejected:
            if rejected.reason == Reason.TIME_IN_FUTURE:
                station = work.messages[rejected.message].station
                quarantine.widen(site.future_spans, station, [at for at, _ in rejected.readings or ()])
        site.late_waiting += len(work.queued) - judged
        site.late_stations |= dict.fromkeys(work.messages[i].station for i in work.queued)


def _count_readings(work: Work) -> None:
    """Count by message the readings that are new, and those that were there already."""
    sorted_, messages = work.sorted, len(work.messages)
    arrived = np.bincount(without_messages(work.accepted, work.queued).message, minlength=messages)
    rows = np.concatenate([sorted_.live, sorted_.late[work.late.new]])
    work.new = NewReadings(work.site.history.registry, sorted_.batch.take(rows), work.packed[rows])
    work.stored = np.bincount(work.new.batch.message, minlength=messages)
    work.duplicate = arrived - work.stored


def _write_readings(connection: sa.Connection, work: Work) -> None:
    """Readings, corrected values, verdicts that changed, and what the detectors learned of them."""
    history, store, sorted_, live = work.site.history, work.site.store, work.sorted, work.live
    keys = [station.key for station in history.registry.stations]
    store.write(connection, keys, sorted_.batch, work.packed)
    corrections.keep(connection, [*work.corrected, *work.late.corrected])
    reflagged = Batch.of(
        history.station[live.reflag_series].tolist(),
        history.parameter[live.reflag_series].tolist(),
        live.reflag_at.tolist(),
        [0.0] * len(live.reflag_at),
    )
    store.reflag(connection, keys, reflagged, live.reflag_packed)
    rows = sorted_.live
    learned = history.learned(sorted_.series[rows], sorted_.batch.at[rows], live.carried, work.detection)
    work.resumed = history.resuming_stations(sorted_.batch.station, sorted_.batch.at)
    detector_state.save(connection, learned + detector_state.resumed_rows(keys, work.resumed))
    store.reflag(connection, keys, work.late.rejudgement.reflagged, work.late.rejudgement.packed)


def _add_device_findings(connection: sa.Connection, work: Work) -> None:
    """Keep what loggers reported of themselves, and add the findings of devices to those of the water."""
    site, alarms = work.site, work.site.history.checks.alarms
    findings = site.device_findings(_store_reports(connection, work), work.now_ms) + work.device_findings
    detector_state.save_clocks(connection, site.clocks.changed(work.now_ms))
    work.findings = [*work.findings, *findings]
    work.changed_alarms |= update_alarms(alarms, findings)


def _store_reports(connection: sa.Connection, work: Work) -> list[DeviceReport]:
    """Keep reports in frames of devices as events of their stations; those that are new and matter."""
    new: list[DeviceReport] = []
    reports = list(work.decoded.notices.items())
    for i, word in sorted(work.decoded.status.items(), key=lambda of: of[1].at_ms):
        changed = sl651_stations.status_changes(connection, sender_of(work.messages[i]), word)
        reports += [(i, body) for body in changed]
    for i, body in reports:
        message = work.messages[i]
        first = message.only is None or message.replay_of is None
        if first and device_events.add_once(connection, message.station, message.received_at_ms, body):
            if message.source == hj212.SOURCE:
                _store_checks(connection, work, message, body)
            new += work.site.device_report(message.station, body.encode(), message.received_at_ms)
    return new


def _store_checks(connection: sa.Connection, work: Work, message: Message, body: str) -> None:
    """Keep the checks that a station made of its analysers as calibration records; marks follow with the next tick."""
    site, at_ms = work.site, message.received_at_ms
    for check in checks_of(message.station, body, at_ms, site.catalogue, spikes=site.hj212_unverified):
        if maintenance.keep_check(connection, check, Author(check.by, at_ms)):
            site.maintenance_changed = True


def _newest_by_device(work: Work, source: str) -> dict[str, int]:
    """The newest reading of each device in the batch that sends frames, by the name in its topic."""
    newest: dict[str, int] = {}
    framed = {
        i: name for i, m in enumerate(work.messages) if m.source == source and (name := m.topic.partition("/")[2])
    }
    if framed:
        for i, at_ms in zip(work.accepted.message.tolist(), work.accepted.at.tolist(), strict=True):
            if i in framed:
                newest[framed[i]] = max(newest.get(framed[i], at_ms), at_ms)
    return newest


def _redelivered(connection: sa.Connection, work: Work) -> list[quarantine.QuarantineEntry]:
    """Entries of readings that seemed to lie in the future, whose message came again and is accepted now.

    Looks into the database only for messages with a reading in the span of those that are held of the station.
    """
    spans = work.site.future_spans
    if not spans:
        return []
    done = {entry.id for entry in work.replayed}
    still = {(r.message, r.readings) for r in work.rejected if r.reason == Reason.TIME_IN_FUTURE}
    found: dict[int, quarantine.QuarantineEntry] = {}
    looked_at: set[int] = set()
    for i, at_ms in zip(work.accepted.message.tolist(), work.accepted.at.tolist(), strict=True):
        message = work.messages[i]
        span = spans.get(message.station)
        outside = span is None or not span[0] <= at_ms <= span[1]
        if outside or i in looked_at or i in work.queued or message.replay_of is not None:
            continue
        looked_at.add(i)
        for entry in quarantine.held_as_future(connection, message):
            if entry.id not in done and (i, entry.refused) not in still:
                found[entry.id] = entry
    return list(found.values())
