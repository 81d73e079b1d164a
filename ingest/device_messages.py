"""What devices report of themselves: connection state (retained, last will) and events."""

from collections.abc import Sequence

import numpy as np
import sqlalchemy as sa

from governance.incidents.finding import Finding
from ingest.replays import settle_replays, take_replays
from ingest.rules.device_reports import DeviceReport
from ingest.site_state import SiteState
from ingest.stages.acceptance import unknown_station
from ingest.storage import device_events
from ingest.storage import registry as registry_store
from ingest.work import Outcome
from sensors.reading import Message, Reason, Rejected


def handle(site: SiteState, messages: Sequence[Message], now_ms: int) -> Outcome:
    """Store connection states and events, and record what follows from them. Raises StorageUnavailable."""
    rejected: list[Rejected] = []
    findings: list[Finding] = []
    opened = 0
    messages, replayed = take_replays(site, messages)
    due = {held.id for held in replayed} | {None}
    with site.invalidated_on_error(), site.database.write() as connection:
        reports: list[DeviceReport] = []
        for i, message in enumerate(messages):
            if message.replay_of not in due:
                continue  # it was replayed before
            stored = _store(connection, site, i, message)
            if isinstance(stored, Rejected):
                rejected.append(stored)
            else:
                reports += stored
        settle_replays(connection, site, replayed, now_ms)
        site.quarantine(connection, messages, [None] * len(messages), rejected, now_ms)
        if findings := site.device_findings(reports, now_ms):
            opened = site.record_findings(connection, findings, now_ms).opened
    if findings:
        site.on_findings()
    none = np.zeros(len(messages), np.int64)
    return Outcome(len(messages), none, none, tuple(rejected), 0, tuple(findings), opened)


def _store(connection: sa.Connection, site: SiteState, i: int, message: Message) -> list[DeviceReport] | Rejected:
    """Store the ``i``-th message; what it reports that needs attention, or why it is refused."""
    if message.station not in site.history.registry:
        return Rejected(i, *unknown_station(message.station), ())
    if message.kind == "event":
        if not device_events.add(connection, message):
            return []
        return site.device_report(message.station, message.payload, message.received_at_ms)
    online = device_events.online(message.payload)
    if online is None:
        return Rejected(i, Reason.WRONG_SHAPE, 'a status is {"online": true} or {"online": false}', ())
    registry_store.set_online(connection, message.station, online, message.received_at_ms)
    return []
