"""Tables of incidents, people, deliveries, the audit trail and reports (SQLAlchemy Core).

Every ``*_ms`` column holds whole milliseconds since the epoch, UTC (``infra.times``).
"""

import sqlalchemy as sa

from infra.database import metadata

_OPEN = sa.text("open_cause IS NOT NULL")
"""A list of open incidents passes no closed one."""

incident = sa.Table(
    "incident",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True, comment="the number people quote (编号)"),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column(
        "open_cause",
        sa.Text,
        unique=True,
        comment="NULL once closed: the database itself forbids two open incidents of one cause",
    ),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("colour", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("retrospective", sa.Boolean, nullable=False),
    sa.Column("station", sa.Text, nullable=False),
    sa.Column("parameter", sa.Text),
    sa.Column("title_zh", sa.Text, nullable=False),
    sa.Column("title_en", sa.Text, nullable=False),
    sa.Column("headline", sa.JSON, nullable=False, server_default="{}", comment="place, matter, rows of evidence"),
    sa.Column("rule", sa.Text, nullable=False),
    sa.Column("rule_version", sa.Text, nullable=False),
    sa.Column("value", sa.Double),
    sa.Column("limit", sa.Double),
    sa.Column("observed_at_ms", sa.BigInteger, nullable=False),
    sa.Column("since_ms", sa.BigInteger, nullable=False),
    sa.Column("last_observed_at_ms", sa.BigInteger, nullable=False),
    sa.Column("opened_at_ms", sa.BigInteger, nullable=False),
    sa.Column("accepted_at_ms", sa.BigInteger),
    sa.Column("accepted_by", sa.Text),
    sa.Column("recovered_at_ms", sa.BigInteger),
    sa.Column("closed_at_ms", sa.BigInteger),
    sa.Column("version", sa.Integer, nullable=False, comment="seq of the newest history entry"),
    sa.Column("region", sa.Text, nullable=False, server_default="", comment="code of the region, a grid cell if known"),
    sa.Column("reach", sa.Text, nullable=False, server_default=""),
    sa.Column("lon", sa.Double),
    sa.Column("lat", sa.Double),
    sa.Column("source", sa.Text, nullable=False, server_default="rule"),
    sa.Column("matter", sa.Text, nullable=False, server_default="", comment="key of the process that fits"),
    sa.Column("responsible", sa.Text, nullable=False, server_default="", comment="name of the chief"),
    sa.Column("department", sa.Text, comment="the leading one"),
    sa.Column("joint", sa.JSON, nullable=False, server_default="[]", comment="departments that take part"),
    sa.Column("contributed", sa.JSON, nullable=False, server_default="[]", comment="of these, who has done theirs"),
    sa.Column("handler", sa.Text, nullable=False, server_default=""),
    sa.Column("handlers", sa.JSON, nullable=False, server_default="[]", comment="all who handled it, in any round"),
    sa.Column("verifier", sa.Text, nullable=False, server_default=""),
    sa.Column("step_since_ms", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("due_ms", sa.BigInteger, comment="deadline of the present state"),
    sa.Column("alert_at_ms", sa.BigInteger, comment="next reminder or escalation"),
    sa.Column("alerts", sa.Integer, nullable=False, server_default="0", comment="in the present state"),
    sa.Column("escalated_to", sa.Text, nullable=False, server_default="", comment="code of a region"),
    sa.Column("paused_at_ms", sa.BigInteger),
    sa.Column("pause_reason", sa.Text, nullable=False, server_default=""),
    sa.Column("supervised_at_ms", sa.BigInteger, comment="督办"),
    sa.Column("supervised_by", sa.Text, nullable=False, server_default=""),
    sa.Column("supervised_level", sa.Integer, comment="of who put it there; NULL: not recorded"),
    sa.Column("emergency", sa.Text, nullable=False, server_default="", comment="grade I to IV"),
    sa.Column("emergency_by", sa.Text, nullable=False, server_default="", comment="who declared it"),
    sa.Column("emergency_due_ms", sa.BigInteger),
    sa.Column("emergency_alert_at_ms", sa.BigInteger, comment="next call while it is not reported"),
    sa.Column("emergency_calls", sa.Integer, nullable=False, server_default="0"),
    sa.Column("emergency_reported_at_ms", sa.BigInteger),
    sa.Column("merged_into", sa.Integer, comment="number of the incident that goes on instead"),
    sa.Column("reason", sa.Text, nullable=False, server_default="", comment="why it was a false alarm"),
    sa.Column("score", sa.Double),
    sa.CheckConstraint("(open_cause IS NULL) = (closed_at_ms IS NOT NULL)", name="open_or_closed"),
    sa.Index("ix_incident_cause", "cause"),
    sa.Index("ix_incident_open", "id", sqlite_where=_OPEN, postgresql_where=_OPEN),
    sa.Index("ix_incident_state", "state", "colour", "retrospective"),
    sa.Index("ix_incident_alert", "alert_at_ms"),
    sa.Index("ix_incident_emergency", "emergency_alert_at_ms"),
    sa.Index("ix_incident_region", "region", "state"),
    sqlite_autoincrement=True,  # a number once given is never given again
)

incident_cause = sa.Table(
    "incident_cause",
    metadata,
    sa.Column("incident_id", sa.Integer, sa.ForeignKey("incident.id"), primary_key=True),
    sa.Column("cause", sa.Text, primary_key=True),
    sa.Index("ix_incident_cause_cause", "cause"),
    comment="causes an incident takes beside its own, since it was merged or split",
)

incident_condition = sa.Table(
    "incident_condition",
    metadata,
    sa.Column("incident_id", sa.Integer, sa.ForeignKey("incident.id"), primary_key=True),
    sa.Column("rule", sa.Text, primary_key=True),
    sa.Column("station", sa.Text, primary_key=True),
    sa.Column("parameter", sa.Text, primary_key=True, comment="'' where the rule has none"),
    sa.Column("since_ms", sa.BigInteger, nullable=False),
    sa.Column("fired_at_ms", sa.BigInteger, nullable=False),
    sa.Column("resolved_at_ms", sa.BigInteger, comment="NULL while active"),
    sa.Index("ix_incident_condition_station", "station", "incident_id"),
)

incident_entry = sa.Table(
    "incident_entry",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("incident_id", sa.Integer, sa.ForeignKey("incident.id"), nullable=False),
    sa.Column("seq", sa.Integer, nullable=False, comment="1, 2, 3 … within the incident"),
    sa.Column("at_ms", sa.BigInteger, nullable=False, comment="wall clock"),
    sa.Column("observed_at_ms", sa.BigInteger, comment="event time; NULL for what people did"),
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("by", sa.Text, nullable=False, comment="a person, or the rule that spoke"),
    sa.Column("from_state", sa.Text),
    sa.Column("to_state", sa.Text, nullable=False),
    sa.Column("finding_id", sa.Text, unique=True),
    sa.Column("comment", sa.Text),
    sa.Column("text_zh", sa.Text, nullable=False),
    sa.Column("text_en", sa.Text, nullable=False),
    sa.Column("value", sa.Double),
    sa.Column("limit", sa.Double),
    sa.Column("role", sa.Text, nullable=False, server_default="", comment="of the person"),
    sa.Column("attachments", sa.JSON, nullable=False, server_default="[]", comment="ids"),
    sa.Column("measurement", sa.JSON, nullable=False, server_default="{}", comment="values by parameter"),
    sa.Column("details", sa.JSON, nullable=False, server_default="{}"),
    sa.UniqueConstraint("incident_id", "seq"),
    comment="append-only",
)

person = sa.Table(
    "person",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("name", sa.String(80), nullable=False, unique=True),
    sa.Column("role", sa.String(32), nullable=False),
    sa.Column("region", sa.Text, nullable=False, comment="code; empty: everywhere"),
    sa.Column("department", sa.String(32)),
    sa.Column("created_at_ms", sa.BigInteger, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("removed_at_ms", sa.BigInteger, comment="the name stays: records refer to it"),
    sqlite_autoincrement=True,
)

appointment = sa.Table(
    "appointment",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("person_id", sa.Integer, sa.ForeignKey("person.id"), nullable=False, index=True),
    sa.Column("region", sa.Text, nullable=False),
    sa.Column("reach", sa.Text, nullable=False, comment="key of one reach; empty: all water of the region"),
    sa.Column("deputy_of", sa.Text, nullable=False, server_default="", comment="name of the chief"),
    sa.Column("since_ms", sa.BigInteger, nullable=False),
    sa.Column("until_ms", sa.BigInteger),
    sa.Index("ix_appointment_place", "region", "reach"),
    sqlite_autoincrement=True,
)

token = sa.Table(
    "token",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("person_id", sa.Integer, sa.ForeignKey("person.id"), nullable=False, index=True),
    sa.Column("hash", sa.String(64), nullable=False, unique=True, comment="SHA-256 of a random secret"),
    sa.Column("label", sa.Text, nullable=False, server_default="", comment="what its owner calls it"),
    sa.Column("scopes", sa.JSON(none_as_null=True), comment="rights it is limited to; NULL: all of its owner's"),
    sa.Column("created_at_ms", sa.BigInteger, nullable=False),
    sa.Column("expires_at_ms", sa.BigInteger),
    sa.Column("revoked_at_ms", sa.BigInteger),
    sa.Column("used_at_ms", sa.BigInteger, comment="to the minute"),
    sqlite_autoincrement=True,
)

person_contact = sa.Table(
    "person_contact",
    metadata,
    sa.Column("person_id", sa.Integer, sa.ForeignKey("person.id"), primary_key=True, autoincrement=False),
    sa.Column("language", sa.String(2), nullable=False),
    sa.Column("least", sa.String(16), nullable=False, comment="nothing less urgent is sent"),
    sa.Column("channels", sa.Text, nullable=False, comment="encrypted; the addresses are secrets"),
    sa.Column("phone", sa.Text, nullable=False, server_default="", comment="encrypted; the number to call"),
    sa.Column("roles", sa.Text, comment="why messages come, joined by commas; NULL: what the role of the person says"),
    sa.Column("quiet", sa.String(11), comment="22:00-07:00; NULL: the quiet hours of the site"),
    sa.Column("changed_at_ms", sa.BigInteger, nullable=False),
)

login_session = sa.Table(
    "login_session",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("hash", sa.String(64), nullable=False, unique=True, comment="SHA-256 of the id in the cookie"),
    sa.Column("person_id", sa.Integer, sa.ForeignKey("person.id"), index=True, comment="NULL: the token of the site"),
    sa.Column("token_hash", sa.String(64), comment="of the token it was opened with, if with one"),
    sa.Column("method", sa.String(16), nullable=False, comment="password, token, oidc, link"),
    sa.Column("agent", sa.Text, nullable=False, server_default="", comment="browser and system in words"),
    sa.Column("network", sa.Text, nullable=False, server_default="", comment="address, of IPv6 the /64"),
    sa.Column("begun_at_ms", sa.BigInteger, nullable=False),
    sa.Column("used_at_ms", sa.BigInteger, nullable=False, comment="to the minute"),
    sa.Column("expires_at_ms", sa.BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

person_account = sa.Table(
    "person_account",
    metadata,
    sa.Column("person_id", sa.Integer, sa.ForeignKey("person.id"), primary_key=True, autoincrement=False),
    sa.Column("login_name", sa.String(80), unique=True, comment="short name to sign in with, folded"),
    sa.Column("password_hash", sa.Text, comment="Argon2id"),
    sa.Column("password_at_ms", sa.BigInteger),
    sa.Column("factor_secret", sa.Text, comment="of TOTP, encrypted; NULL: no second factor"),
    sa.Column("factor_at_ms", sa.BigInteger),
    sa.Column("factor_step", sa.BigInteger, nullable=False, server_default="0", comment="of the newest code accepted"),
)

recovery_code = sa.Table(
    "recovery_code",
    metadata,
    sa.Column("hash", sa.String(64), primary_key=True, comment="SHA-256 of person and code; deleted once used"),
    sa.Column("person_id", sa.Integer, sa.ForeignKey("person.id"), nullable=False, index=True),
)

one_time_code = sa.Table(
    "one_time_code",
    metadata,
    sa.Column("hash", sa.String(64), primary_key=True, comment="SHA-256 of a random secret; deleted once used"),
    sa.Column("purpose", sa.String(16), nullable=False),
    sa.Column("person_id", sa.Integer, sa.ForeignKey("person.id"), index=True, comment="NULL: nobody yet"),
    sa.Column("data", sa.Text, nullable=False, server_default="", comment="encrypted where it is a secret"),
    sa.Column("expires_at_ms", sa.BigInteger, nullable=False),
)

login_attempt = sa.Table(
    "login_attempt",
    metadata,
    sa.Column("subject", sa.String(160), primary_key=True, comment="hash of an account or a network"),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("newest_at_ms", sa.BigInteger, nullable=False),
    sa.Column("closed_until_ms", sa.BigInteger, nullable=False, server_default="0"),
)

draft = sa.Table(
    "draft",
    metadata,
    sa.Column("person", sa.Text, primary_key=True),
    sa.Column("key", sa.String(200), primary_key=True, comment="path of the page and name of the form"),
    sa.Column("body", sa.Text, comment="JSON; NULL once the form was accepted"),
    sa.Column("typed_at_ms", sa.BigInteger, nullable=False, comment="clock of the browser"),
    sa.Column("version", sa.Integer, nullable=False, comment="grows with each change"),
    sa.Column("updated_at_ms", sa.BigInteger, nullable=False),
)

saved_view = sa.Table(
    "saved_view",
    metadata,
    sa.Column("person", sa.String(80), primary_key=True, comment="whose; by name, as in the record"),
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("query", sa.Text, nullable=False, comment="what the address of the inbox says"),
    sa.Column("saved_at_ms", sa.BigInteger, nullable=False),
)

presence = sa.Table(
    "presence",
    metadata,
    sa.Column("process", sa.String(32), primary_key=True, comment="one of the API"),
    sa.Column("incident_id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(80), primary_key=True, comment="who has the incident open"),
    sa.Column("until_ms", sa.BigInteger, nullable=False, comment="it counts for nothing from then on"),
)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("event_id", sa.Text, nullable=False, unique=True),
    sa.Column("incident_id", sa.Integer, sa.ForeignKey("incident.id"), nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False, comment="the JSON exactly as sent"),
    sa.Column("notify", sa.Text, nullable=False, comment="page or inform"),
    sa.Column(
        "repeats",
        sa.Boolean,
        nullable=False,
        server_default=sa.false(),
        comment="tells nothing that a later event of its incident does not tell",
    ),
    sa.Column("created_at_ms", sa.BigInteger, nullable=False),
    sa.Column(
        "pending_since_ms", sa.BigInteger, nullable=False, comment="created or replayed; giving up counts from it"
    ),
    sa.Column("next_attempt_at_ms", sa.BigInteger, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("delivered_at_ms", sa.BigInteger),
    sa.Column("last_status", sa.Integer),
    sa.Column("last_error", sa.Text),
    sa.Column("claimed_by", sa.Text, comment="the worker that is sending it; NULL: nobody"),
    sa.Column("claimed_until_ms", sa.BigInteger, comment="then the claim of a worker that died is void"),
    sa.CheckConstraint("status IN ('pending', 'delivered', 'refused', 'superseded')", name="status"),
    sa.Index("ix_outbox_due", "status", "next_attempt_at_ms"),
    sa.Index("ix_outbox_in_order", "incident_id", "status", "id"),
    sqlite_autoincrement=True,
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("n", sa.BigInteger, primary_key=True, autoincrement=False, comment="1, 2, 3 … without a gap"),
    sa.Column("at_ms", sa.BigInteger, nullable=False, comment="wall clock"),
    sa.Column("by", sa.Text, nullable=False, comment="a person, a rule or a program"),
    sa.Column("role", sa.Text, nullable=False, comment="in which role; '' where none is known"),
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False, comment="what kind of thing it happened to"),
    sa.Column("subject", sa.Text, nullable=False, comment="its id"),
    sa.Column("body", sa.Text, nullable=False, comment="canonical JSON (RFC 8785) exactly as hashed"),
    sa.Column("prev_hash", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False, comment="SHA-256 over prev_hash and the record"),
    sa.Index("ix_audit_subject", "kind", "subject", "n"),
    sa.Index("ix_audit_at_ms", "at_ms"),
    comment="append-only; triggers forbid anything else",
)

audit_root = sa.Table(
    "audit_root",
    metadata,
    sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False, comment="entries it covers"),
    sa.Column("root", sa.String(64), nullable=False, comment="head of the Merkle tree, hexadecimal"),
    sa.Column("head", sa.String(64), nullable=False, comment="hash of entry number size"),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("key", sa.String(16), nullable=False, comment="which key signed it"),
    sa.Column("signature", sa.Text, nullable=False, comment="Ed25519, base64"),
    sa.Column("peaks", sa.Text, nullable=False, comment="what the next root is built on, hexadecimal, by spaces"),
    sa.Column("sent_at_ms", sa.BigInteger, comment="when it was everywhere outside"),
    comment="append-only but for sent_at_ms",
)

public_photo = sa.Table(
    "public_photo",
    metadata,
    sa.Column("name", sa.String(22), primary_key=True, comment="random: its address tells nothing"),
    sa.Column("incident_id", sa.Integer, sa.ForeignKey("incident.id"), nullable=False, index=True),
    sa.Column("attachment_id", sa.String(64), nullable=False, comment="what it was made from"),
    sa.Column("side", sa.String(6), nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False, comment="when the office released it"),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("picture", sa.LargeBinary, nullable=False, comment="a small JPEG without metadata"),
    sa.CheckConstraint("side IN ('before', 'after')", name="side"),
    comment="photos of handled problems that the office released; a row is deleted when it takes one back",
)

subscription = sa.Table(
    "subscription",
    metadata,
    sa.Column("token", sa.String(32), primary_key=True, comment="random; the links of its mails open nothing else"),
    sa.Column("reach", sa.String(64), nullable=False),
    sa.Column("address", sa.Text, nullable=False, comment="encrypted"),
    sa.Column("address_mark", sa.String(64), nullable=False, comment="keyed hash: one address is found again by it"),
    sa.Column("language", sa.String(2), nullable=False),
    sa.Column("asked_at_ms", sa.BigInteger, nullable=False),
    sa.Column("confirmed_at_ms", sa.BigInteger, comment="NULL: nothing but the link to confirm is sent"),
    sa.Column("link_sent", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("warned", sa.Boolean, nullable=False, server_default=sa.false(), comment="what it was told last"),
    sa.Column("photos_at_ms", sa.BigInteger, nullable=False, comment="releases up to here were told"),
    sa.Column("due_at_ms", sa.BigInteger, nullable=False, comment="nothing is sent before"),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0", comment="in a row"),
    sa.UniqueConstraint("address_mark", "reach"),
    sa.Index("ix_subscription_due", "due_at_ms"),
    sa.Index("ix_subscription_reach", "reach"),
    comment="public subscriptions to a river by mail; a row is deleted when somebody unsubscribes",
)

plan = sa.Table(
    "plan",
    metadata,
    sa.Column("reach", sa.String(64), primary_key=True),
    sa.Column("problem", sa.Text, nullable=False),
    sa.Column("goals", sa.JSON, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("changed_at_ms", sa.BigInteger, nullable=False),
    sa.Column("changed_by", sa.Text, nullable=False),
)

_SEALED = "size, root, head, at_ms, origin, key, signature, peaks"
"""The columns of a root that never change; ``sent_at_ms`` does."""


def _sqlite_guards(name: str, key: str, columns: str) -> tuple[str, ...]:
    """REPLACE deletes a row without its trigger: so no row is inserted whose key or rowid is there already."""
    stop = "BEGIN SELECT RAISE(ABORT, 'the trail is never changed'); END"
    there = f"EXISTS (SELECT 1 FROM {name} WHERE {key} = NEW.{key} OR rowid = NEW.rowid)"
    return (
        f"CREATE TRIGGER IF NOT EXISTS {name}_no_update BEFORE UPDATE {columns}ON {name} {stop}",
        f"CREATE TRIGGER IF NOT EXISTS {name}_no_delete BEFORE DELETE ON {name} {stop}",
        f"CREATE TRIGGER IF NOT EXISTS {name}_no_replace BEFORE INSERT ON {name} WHEN {there} {stop}",
    )


def _postgres_guard(name: str, columns: str) -> str:
    return (
        f"CREATE OR REPLACE TRIGGER {name}_no_change BEFORE UPDATE {columns}OR DELETE OR TRUNCATE ON {name} "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_guard()"
    )


GUARD_FUNCTION = (
    "CREATE OR REPLACE FUNCTION audit_guard() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'the trail is never changed'; END $$"
)
GUARDS = {
    ("sqlite", "audit"): _sqlite_guards("audit", "n", ""),
    ("sqlite", "audit_root"): _sqlite_guards("audit_root", "size", f"OF {_SEALED} "),
    ("postgresql", "audit"): (GUARD_FUNCTION, _postgres_guard("audit", "")),
    ("postgresql", "audit_root"): (GUARD_FUNCTION, _postgres_guard("audit_root", f"OF {_SEALED} ")),
}
"""What forbids changing the trail and its roots, by database and table; may be run again.

The owner of the database can take that away; what is done then, verifying shows.
"""


@sa.event.listens_for(audit, "after_create")
@sa.event.listens_for(audit_root, "after_create")
def _guard(table: sa.Table, connection: sa.Connection, **_: object) -> None:
    for statement in GUARDS[connection.dialect.name, table.name]:
        connection.exec_driver_sql(statement)


attachment = sa.Table(
    "attachment",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True, comment="SHA-256 of the bytes; the file is called so"),
    sa.Column("media_type", sa.String(40), nullable=False),
    sa.Column("bytes", sa.Integer, nullable=False),
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("height", sa.Integer, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("by", sa.Text, primary_key=True),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
)

attachment_incident = sa.Table(
    "attachment_incident",
    metadata,
    sa.Column("attachment_id", sa.String(64), primary_key=True),
    sa.Column("incident_id", sa.Integer, sa.ForeignKey("incident.id"), primary_key=True),
    comment="what an attachment is attached to: whoever may see one of the incidents may see it",
)

report = sa.Table(
    "report",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("ticket", sa.String(20), nullable=False, unique=True),
    sa.Column("incident_id", sa.Integer, sa.ForeignKey("incident.id"), nullable=False, index=True),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("contact", sa.Text, nullable=False, comment="for the office alone"),
    sa.Column("sender", sa.String(32), nullable=False, comment="keyed hash of the network address"),
    sa.Column("unsolved", sa.Integer, nullable=False, comment="how often the citizen said it is not solved"),
    sa.Column("follows", sa.Boolean, nullable=False, comment="follows what somebody else reported"),
    sa.Column("solved_at_ms", sa.BigInteger, comment="when the citizen said that it is solved"),
    sa.Index("ix_report_sender", "sender", "at_ms"),
    sqlite_autoincrement=True,
)

patrol = sa.Table(
    "patrol",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("key", sa.String(64), nullable=False, unique=True, comment="made by the device"),
    sa.Column("by", sa.Text, nullable=False, index=True),
    sa.Column("role", sa.String(32), nullable=False),
    sa.Column("chief", sa.Text, nullable=False, comment="in whose place a deputy walked; else empty"),
    sa.Column("reach", sa.Text, nullable=False),
    sa.Column("region", sa.Text, nullable=False),
    sa.Column("started_ms", sa.BigInteger, nullable=False, index=True),
    sa.Column("ended_ms", sa.BigInteger, nullable=False),
    sa.Column("uploaded_ms", sa.BigInteger, nullable=False),
    sa.Column("metres", sa.Double, nullable=False),
    sa.Column("minutes", sa.Double, nullable=False),
    sa.Column("jumps", sa.Integer, nullable=False),
    sa.Column("valid", sa.Boolean, nullable=False),
    sa.Column("reason_zh", sa.Text, nullable=False),
    sa.Column("reason_en", sa.Text, nullable=False),
    sa.Column("way", sa.String(16), nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("problems", sa.JSON, nullable=False, comment="numbers of incidents"),
    sa.Column("covered", sa.JSON, nullable=False, comment="{reach: [[from km, to km], …]}"),
    sa.Column("track", sa.JSON, nullable=False, comment="[[ms, lon, lat], …]"),
    sqlite_autoincrement=True,
)

assessment_appeal = sa.Table(
    "assessment_appeal",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("month", sa.String(7), nullable=False, index=True),
    sa.Column("group_by", sa.String(16), nullable=False),
    sa.Column("key", sa.Text, nullable=False, comment="the row: a chief, a street's code or a reach"),
    sa.Column("figure", sa.String(16), nullable=False, comment="an indicator, or score"),
    sa.Column("good", sa.Integer, nullable=False, comment="the figure as it was frozen"),
    sa.Column("of", sa.Integer, nullable=False),
    sa.Column("value", sa.Double),
    sa.Column("last_n", sa.BigInteger, nullable=False, comment="entry of the trail up to which the figure was read"),
    sa.Column("head", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("link", sa.Text, nullable=False),
    sa.Column("attachment", sa.String(64), nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("level", sa.Integer, nullable=False, comment="place in the hierarchy of who appeals"),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("pending", sa.Text, unique=True, comment="NULL once decided: one appeal waits for a figure at a time"),
    sa.Column("decided_by", sa.Text, nullable=False, server_default=""),
    sa.Column("decided_at_ms", sa.BigInteger),
    sa.Column("remark", sa.Text, nullable=False, server_default="", comment="the correction, or why not"),
    sa.Column(
        "version", sa.Integer, nullable=False, comment="of the figure: 1 as frozen, one more for each correction"
    ),
    sqlite_autoincrement=True,
)

assessment_period = sa.Table(
    "assessment_period",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("first", sa.String(10), nullable=False, comment="day in Beijing"),
    sa.Column("last", sa.String(10), nullable=False, index=True, comment="included"),
    sa.Column("region", sa.Text, nullable=False, comment='code; "" everywhere'),
    sa.Column("reach", sa.Text, nullable=False, comment='"" every water of the region'),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("withdrawn_by", sa.Text, nullable=False, server_default=""),
    sa.Column("withdrawn_at_ms", sa.BigInteger),
    sqlite_autoincrement=True,
)

field_phone = sa.Table(
    "field_phone",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("person_id", sa.Integer, sa.ForeignKey("person.id"), nullable=False, index=True),
    sa.Column("name", sa.Text, nullable=False, comment="browser and system in words"),
    sa.Column("x", sa.String(43), nullable=False, comment="of the public key, P-256, base64url"),
    sa.Column("y", sa.String(43), nullable=False),
    sa.Column("registered_at_ms", sa.BigInteger, nullable=False),
    sa.Column("used_at_ms", sa.BigInteger),
    sa.Column("revoked_at_ms", sa.BigInteger),
    sa.Column("revoked_by", sa.Text),
)

field_nonce = sa.Table(
    "field_nonce",
    metadata,
    sa.Column("phone", sa.String(32), sa.ForeignKey("field_phone.id"), primary_key=True),
    sa.Column("nonce", sa.String(64), primary_key=True, comment="of a signed request; forgotten once it is too old"),
    sa.Column("at_ms", sa.BigInteger, nullable=False, index=True),
)

field_record = sa.Table(
    "field_record",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True, comment="made by the phone"),
    sa.Column("person", sa.Text, nullable=False, index=True),
    sa.Column("role", sa.String(32), nullable=False),
    sa.Column("phone", sa.String(32), comment="NULL: sent with a session"),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False, comment="of the content of the newest version"),
    sa.Column("body", sa.JSON, nullable=False, comment="the newest version as it was sent"),
    sa.Column("applied", sa.JSON(none_as_null=True), comment="the version that is in effect, where it is another one"),
    sa.Column("station", sa.String(64), nullable=False, index=True),
    sa.Column("region", sa.Text, nullable=False),
    sa.Column("reach", sa.Text, nullable=False),
    sa.Column("recorded_at_ms", sa.BigInteger, comment="corrected by what the phone's clock is off; NULL: unreadable"),
    sa.Column("received_at_ms", sa.BigInteger, nullable=False, index=True),
    sa.Column("outcome", sa.String(16), nullable=False, index=True),
    sa.Column("message_zh", sa.Text, nullable=False),
    sa.Column("message_en", sa.Text, nullable=False),
    sa.Column("made", sa.JSON, nullable=False),
    sa.Column("theirs", sa.JSON(none_as_null=True), comment="what stands in the way of a conflict"),
    sa.Column("decision", sa.String(8), nullable=False, server_default="", comment="mine or theirs"),
    sa.Column("decided_by", sa.Text, nullable=False, server_default=""),
    sa.Column("decided_at_ms", sa.BigInteger),
)

field_photo = sa.Table(
    "field_photo",
    metadata,
    sa.Column("record", sa.String(36), sa.ForeignKey("field_record.id"), primary_key=True),
    sa.Column("sha256", sa.String(64), primary_key=True, comment="as the phone has it"),
    sa.Column("stored", sa.String(64), comment="as it is kept, without metadata; NULL: not here yet"),
    sa.Column("taken_at_ms", sa.BigInteger),
    sa.Column("used", sa.Boolean, nullable=False, server_default=sa.false(), comment="belongs to what the record made"),
    sa.Column("original", sa.String(64), comment="as the camera wrote it, with its metadata; NULL: not sent"),
)
