"""Personal data (个人信息): showing a contact with a reason, and what is kept of one person: given out, or erased.

A citizen is found by ticket or by the contact that they left, somebody of the staff by name. The trail says whose data
was shown, given out or erased, by whom and why, and holds none of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from governance.audit import trail as audit_trail
from governance.incidents.model import Incident
from governance.notify import person_contacts
from governance.organisation.roles import Actor
from governance.people import accounts, phones, sessions
from governance.people import store as people_store
from governance.reports import citizen_reports
from governance.reports.citizen_reports import Report
from governance.tables import field_record, incident_entry, patrol, report, subscription
from infra.errors import NotFound, Refused
from infra.texts import say
from infra.times import rfc3339
from infra.vault import Vault


def show_contacts(
    connection: sa.Connection, vault: Vault, incident: Incident, reason: str, actor: Actor, now_ms: int
) -> dict[str, str]:
    """The contacts that citizens left about an incident, by ticket. Raises Refused without a reason."""
    if not reason.strip():
        raise Refused(say("privacy.no_reason"))
    found = [one for one in citizen_reports.of_incident(connection, incident.id) if one.contact]
    body = {"reason": reason.strip(), "tickets": [one.ticket for one in found]}
    audit_trail.append(
        connection, "contact.shown", kind="incident", id=incident.id, body=body, by=actor.name, role=actor.role,
        at_ms=now_ms,
    )  # fmt: skip
    return {one.ticket: vault.open(one.contact) for one in found}


def of_citizen(connection: sa.Connection, vault: Vault, asked: str) -> dict[str, Any]:
    """What is kept of a citizen, by ticket or contact. Raises NotFound where that is nothing."""
    reports, mails = _found(connection, vault, asked)
    told = []
    for one in reports:
        sent = citizen_reports.original_report(connection, one.incident_id)
        own = {} if one.follows else {"words": sent.text, "photos": list(sent.photos)}
        state = citizen_reports.deciding_incident(connection, one.incident_id).state
        told.append(
            {"ticket": one.ticket, "at": rfc3339(one.at_ms), "contact": vault.open(one.contact), "state": state, **own}
        )
    kept = [
        {"reach": row.reach, "address": vault.open(row.address), "asked_at": rfc3339(row.asked_at_ms)} for row in mails
    ]
    return {"reports": told, "subscriptions": kept}


def erase_citizen(connection: sa.Connection, vault: Vault, asked: str, reason: str, by: str, now_ms: int) -> list[str]:
    """Erase what leads from reports to their sender, and the addresses of their mails; the tickets concerned.

    Words and photos of a report stay with its case, which others handled. Raises NotFound, Refused without a reason.
    """
    if not reason.strip():
        raise Refused(say("privacy.no_reason"))
    reports, mails = _found(connection, vault, asked)
    tickets = [one.ticket for one in reports]
    connection.execute(sa.update(report).where(report.c.ticket.in_(tickets)).values(contact="", sender=""))
    connection.execute(sa.delete(subscription).where(subscription.c.token.in_([row.token for row in mails])))
    body = {"reason": reason.strip(), "subscriptions": len(mails)}
    concerned = tickets or [""]
    audit_trail.append_many(
        connection, [audit_trail.NewEntry("personal.erased", "report", one, body, by, now_ms) for one in concerned]
    )
    return tickets


def of_staff(connection: sa.Connection, vault: Vault, name: str, now_ms: int) -> dict[str, Any]:
    """What is kept of somebody of the staff. Raises NotFound."""
    one = people_store.get(connection, name)
    contact = person_contacts.read_all(connection, vault, (one.name,)).get(one.name)
    channels = [] if contact is None else [f"{channel.kind} …{channel.ending}" for channel in contact.channels]
    entry = incident_entry.c
    done = sa.select(entry.incident_id, entry.at_ms, entry.what, entry.comment).where(entry.by == one.name)
    walked = patrol.c
    return {
        "person": asdict(one),
        "account": {"login_name": accounts.get(connection, one).login_name},
        "terms": [asdict(term) for term in people_store.appointments(connection, one.name)],
        "contact": {"phone": contact.phone if contact else "", "channels": channels},
        "sessions": [
            {"agent": s.agent, "network": s.network, "begun_at_ms": s.begun_at_ms, "used_at_ms": s.used_at_ms}
            for s in sessions.list_sessions(connection, one.id, now_ms)
        ],
        "phones": [asdict(phone) for phone in phones.of_person(connection, one)],
        "field_records": _rows(connection, sa.select(field_record.c.body).where(field_record.c.person == one.name)),
        "patrols": _rows(
            connection,
            sa.select(walked.key, walked.started_ms, walked.reach, walked.note, walked.track).where(
                walked.by == one.name
            ),
        ),
        "actions": _rows(connection, done.order_by(entry.at_ms)),
    }


def record_export(connection: sa.Connection, kind: str, subject: str, by: str, now_ms: int) -> None:
    """Keep in the trail that somebody's data was given out; ``kind``: person or report."""
    audit_trail.append(connection, "personal.exported", kind=kind, id=subject, body={}, by=by, at_ms=now_ms)


def _found(connection: sa.Connection, vault: Vault, asked: str) -> tuple[list[Report], Sequence[sa.Row[Any]]]:
    """The reports and mails of a citizen. Only who has the key can look for a contact."""
    asked = asked.strip()
    try:
        return [citizen_reports.get(connection, asked)], []
    except NotFound:
        pass
    with_contact = sa.select(report.c.ticket, report.c.contact).where(report.c.contact != "").order_by(report.c.at_ms)
    tickets = [row.ticket for row in connection.execute(with_contact) if asked and vault.open(row.contact) == asked]
    reports = [citizen_reports.get(connection, ticket) for ticket in tickets]
    subscribed = sa.select(subscription).where(subscription.c.address_mark == vault.mark(asked.lower()))
    mails = connection.execute(subscribed).all()
    if not reports and not mails:
        raise NotFound(say("privacy.nothing", asked=asked[:40]))
    return reports, mails


def _rows(connection: sa.Connection, query: sa.Select[Any]) -> list[Mapping[str, Any]]:
    return [dict(row) for row in connection.execute(query).mappings()]
