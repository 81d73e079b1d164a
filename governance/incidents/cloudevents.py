"""Outward events of incidents: CloudEvents 1.0 in structured JSON, signed as Standard Webhooks. Pure.

Sources: CloudEvents 1.0.2 (required attributes, JSON format); Standard Webhooks 1.0 (headers, signed content, secrets).
"""

import base64
import binascii
import hashlib
import hmac
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from governance.incidents.finding import Finding
from governance.incidents.model import Effects, Incident
from infra.errors import ConfigurationError, WaterError
from infra.texts import Text, say
from infra.times import rfc3339

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
REQUIRED = ("specversion", "id", "source", "type")
TOLERANCE_S = 300


class SignatureInvalid(WaterError):
    """A message is not signed by the holder of the secret, or is too old."""


class MalformedEvent(WaterError):
    """A message is not a CloudEvents 1.0 JSON object."""


@dataclass(frozen=True, slots=True)
class Event:
    """An outward event; ``body`` is the JSON text exactly as it will be sent and signed."""

    id: str
    type: str
    body: str


def build(incident: Incident, effects: Effects, *, source: str, finding: Finding | None = None) -> Event:
    """The event of one change of a stored incident.

    ``incident`` is the incident after the change, ``finding`` what changed it, None for what people did: then value,
    limit, rule and ``observed_at`` are the incident's headline. ``source`` is the URI reference of this installation.

    The id is made of stored facts only (source, incident, seq, time of the entry), so that it is the same however
    often it is built. The time is among them because a restored backup gives the same numbers again to other events.
    """
    entry = effects.entry
    event_id = f"{re.sub(r'[^A-Za-z0-9]+', '-', source).strip('-')}-{incident.id}-{entry.seq}-{entry.at_ms:x}"
    headline = finding or incident
    version = finding.version if finding else incident.rule_version
    data = {
        "incident": incident.id,
        "seq": entry.seq,
        "what": entry.what,
        "state": incident.state,
        "colour": incident.colour,
        "notify": effects.notify,
        "retrospective": incident.retrospective,
        "cause": incident.cause,
        "kind": headline.kind,
        "station": headline.station,
        "parameter": headline.parameter,
        "value": _finite(headline.value),
        "limit": _finite(headline.limit),
        "observed_at": rfc3339(headline.observed_at_ms),
        "since": rfc3339(incident.since_ms),
        "opened_at": rfc3339(incident.opened_at_ms),
        "recovered_at": _time(incident.recovered_at_ms),
        "closed_at": _time(incident.closed_at_ms),
        "accepted_at": _time(incident.accepted_at_ms),
        "source": incident.case.source,
        "matter": incident.case.matter,
        "region": incident.place.region,
        "reach": incident.place.reach,
        "responsible": incident.case.responsible,
        "department": incident.case.department,
        "joint": list(incident.case.joint),
        "due_at": _time(incident.case.due_ms),
        "escalated_to": incident.case.escalated_to,
        "supervised": incident.case.supervised_at_ms is not None,
        "emergency": incident.case.emergency,
        "merged_into": incident.case.merged_into,
        "rule": {"id": headline.rule, "version": version},
        "message": finding.message if finding else None,
        "title": _languages(incident.title),
        "headline": incident.headline.as_json() if incident.headline else None,
        "text": _languages(entry.text),
        "by": entry.by,
        "role": entry.role,
        "comment": entry.comment,
        "attachments": list(entry.attachments),
        "measurement": {key: _finite(value) for key, value in entry.measurement.items()},
        "details": dict(entry.details),
    }
    envelope = {
        "specversion": "1.0",
        "id": event_id,
        "source": source,
        "type": effects.event,
        "subject": f"incidents/{incident.id}",
        "time": rfc3339(entry.at_ms),
        "datacontenttype": "application/json",
        "data": data,
    }
    body = json.dumps(envelope, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Event(event_id, effects.event, body)


def schema() -> dict[str, Any]:
    """The JSON schema of our events, as the API publishes it."""
    schema = files("governance.incidents").joinpath("incident_event.schema.json")
    found: dict[str, Any] = json.loads(schema.read_text("utf-8"))
    return found


def parse(body: bytes) -> dict[str, Any]:
    """The event in a request body; raises MalformedEvent naming the first thing that is wrong."""
    try:
        event = json.loads(body)
        json.dumps(
            event, ensure_ascii=False, allow_nan=False
        ).encode()  # no NaN, no lone surrogates: it can be passed on
    except (ValueError, RecursionError) as error:
        raise MalformedEvent(say("platform.event_no_json")) from error
    if not isinstance(event, dict):
        raise MalformedEvent(say("platform.event_no_object"))
    for name in REQUIRED:
        if not isinstance(event.get(name), str) or not event[name]:
            raise MalformedEvent(say("platform.event_attribute", name=name))
    if event["specversion"] != "1.0":
        raise MalformedEvent(say("platform.event_version"))
    return event


def sign(secret: str, event_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The three headers that prove a body. ``timestamp_s`` is the time of this attempt, seconds since the epoch.

    ``secret`` is ``whsec_`` with the key in base64, or any other text, used as its UTF-8 bytes; an empty or broken one
    raises ConfigurationError.
    """
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": _signature(_key(secret), event_id, str(timestamp_s), body),
    }


def verify(secret: str, headers: Mapping[str, str], body: bytes, now_s: int, tolerance_s: int = TOLERANCE_S) -> None:
    """Return when the headers prove the body and are at most ``tolerance_s`` off ``now_s``; else SignatureInvalid.

    Header names in any case. Several signatures may stand in one header, separated by spaces (a secret being changed);
    one that fits is enough.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    try:
        event_id, stamp, signatures = (lower[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
    except KeyError as error:
        raise SignatureInvalid(say("platform.header_missing", name=error.args[0])) from error
    if not re.fullmatch(r"[0-9]{1,12}", stamp):
        raise SignatureInvalid(say("platform.no_stamp"))
    if abs(now_s - int(stamp)) > tolerance_s:
        raise SignatureInvalid(say("platform.stamp_off", seconds=tolerance_s))
    expected = _signature(_key(secret), event_id, stamp, body).encode()
    fits = [hmac.compare_digest(expected, candidate.encode()) for candidate in signatures.split()]
    if not any(fits):
        raise SignatureInvalid(say("platform.no_signature"))


def _key(secret: str) -> bytes:
    prefix, encoded = "whsec_", secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(encoded, validate=True) if secret.startswith(prefix) else secret.encode()
    except (binascii.Error, ValueError):
        raise ConfigurationError(say("platform.secret_base64")) from None
    if not key:
        raise ConfigurationError(say("platform.secret_empty"))
    return key


def _signature(key: bytes, event_id: str, stamp: str, body: bytes) -> str:
    content = f"{event_id}.{stamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


def _finite(value: float | None) -> float | None:
    """The value; None for NaN and infinity, which JSON does not have."""
    return value if value is not None and math.isfinite(value) else None


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else rfc3339(at_ms)


def _languages(text: Text) -> dict[str, str]:
    return {"zh": text.zh, "en": text.en}
