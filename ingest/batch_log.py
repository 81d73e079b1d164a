"""Log what became of a batch: messages by their id, from arrival to incident (docs/operations/monitoring.md).

Ordinary messages are logged at level debug. Refused ones make one line for each batch and reason, so that a broken
device cannot flood the log.
"""

import logging
from collections.abc import Sequence

import structlog

from ingest.pipeline import Outcome
from sensors.reading import Message
from sensors.wire.telemetry import Header, message_id

log = structlog.get_logger(__name__)

MAX_LISTED = 5
"""Messages listed in one line."""


def log_batch(messages: Sequence[Message], outcome: Outcome) -> None:
    """Log a batch; a callback of the intake."""
    headers: Sequence[Header | None] = outcome.headers or [None] * len(messages)
    _log_refused(messages, headers, outcome)
    for event in outcome.enqueued:
        finding = event.finding
        if finding is not None:
            log.info(
                "incident",
                incident_id=event.incident_id,
                event_id=event.event_id,
                finding_id=finding.id,
                message_id=finding.message,
                station=finding.station,
                parameter=finding.parameter,
                rule=finding.rule,
                change=finding.change.value,
                colour=finding.colour.value,
                retrospective=finding.retrospective,
            )
    if log.is_enabled_for(logging.DEBUG):
        for i, (message, header) in enumerate(zip(messages, headers, strict=True)):
            log.debug(
                "message",
                message_id=message_id(message, header),
                station=message.station,
                source=message.source,
                kind=message.kind,
                received_at_ms=message.received_at_ms,
                stored=int(outcome.stored[i]),
                duplicate=int(outcome.duplicate[i]),
            )


def _log_refused(messages: Sequence[Message], headers: Sequence[Header | None], outcome: Outcome) -> None:
    by_reason: dict[str, list[int]] = {}
    for rejected in outcome.rejected:
        by_reason.setdefault(rejected.reason.key, []).append(rejected.message)
    for reason, which in by_reason.items():
        log.warning(
            "quarantined",
            reason=reason,
            entries=len(which),
            message_ids=[message_id(messages[i], headers[i]) for i in which[:MAX_LISTED]],
            sources=sorted({messages[i].source for i in which}),
        )
