"""all states of an incident, what people made of it, people, appointments and tokens"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

STATES = (("opened", "reported"), ("acknowledged", "accepted"))
INCIDENT: tuple[sa.Column[Any], ...] = (
    sa.Column(
        "region", sa.Text(), nullable=False, server_default="", comment="code of the region, a grid cell if known"
    ),
    sa.Column("reach", sa.Text(), nullable=False, server_default=""),
    sa.Column("lon", sa.Double(), nullable=True),
    sa.Column("lat", sa.Double(), nullable=True),
    sa.Column("source", sa.Text(), nullable=False, server_default="rule"),
    sa.Column("matter", sa.Text(), nullable=False, server_default="", comment="key of the process that fits"),
    sa.Column("responsible", sa.Text(), nullable=False, server_default="", comment="name of the chief"),
    sa.Column("department", sa.Text(), nullable=True, comment="the leading one"),
    sa.Column("joint", sa.JSON(), nullable=False, server_default="[]", comment="departments that take part"),
    sa.Column("contributed", sa.JSON(), nullable=False, server_default="[]", comment="of these, who has done theirs"),
    sa.Column("handler", sa.Text(), nullable=False, server_default=""),
    sa.Column("verifier", sa.Text(), nullable=False, server_default=""),
    sa.Column("step_since_ms", sa.BigInteger(), nullable=False, server_default="0"),
    sa.Column("due_ms", sa.BigInteger(), nullable=True, comment="deadline of the present state"),
    sa.Column("alert_at_ms", sa.BigInteger(), nullable=True, comment="next reminder or escalation"),
    sa.Column("alerts", sa.Integer(), nullable=False, server_default="0", comment="in the present state"),
    sa.Column("escalated_to", sa.Text(), nullable=False, server_default="", comment="code of a region"),
    sa.Column("paused_at_ms", sa.BigInteger(), nullable=True),
    sa.Column("pause_reason", sa.Text(), nullable=False, server_default=""),
    sa.Column("supervised_at_ms", sa.BigInteger(), nullable=True, comment="督办"),
    sa.Column("supervised_by", sa.Text(), nullable=False, server_default=""),
    sa.Column("emergency", sa.Text(), nullable=False, server_default="", comment="grade I to IV"),
    sa.Column("emergency_due_ms", sa.BigInteger(), nullable=True),
    sa.Column("emergency_reported_at_ms", sa.BigInteger(), nullable=True),
    sa.Column("merged_into", sa.Integer(), nullable=True, comment="number of the incident that goes on instead"),
    sa.Column("reason", sa.Text(), nullable=False, server_default="", comment="why it was a false alarm"),
    sa.Column("score", sa.Double(), nullable=True),
)
ENTRY: tuple[sa.Column[Any], ...] = (
    sa.Column("role", sa.Text(), nullable=False, server_default="", comment="of the person"),
    sa.Column("attachments", sa.JSON(), nullable=False, server_default="[]", comment="ids"),
    sa.Column("measurement", sa.JSON(), nullable=False, server_default="{}", comment="values by parameter"),
    sa.Column("details", sa.JSON(), nullable=False, server_default="{}"),
)


def upgrade() -> None:
    _rename("incident", "acknowledged_at_ms", "accepted_at_ms")
    _rename("incident", "acknowledged_by", "accepted_by")
    for column in INCIDENT:
        op.add_column("incident", column._copy())
    for column in ENTRY:
        op.add_column("incident_entry", column._copy())
    op.create_index("ix_incident_alert", "incident", ["alert_at_ms"])
    op.create_index("ix_incident_region", "incident", ["region", "state"])
    op.create_table(
        "incident_cause",
        sa.Column("incident_id", sa.Integer(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["incident_id"], ["incident.id"], name=op.f("fk_incident_cause_incident_id")),
        sa.PrimaryKeyConstraint("incident_id", "cause", name=op.f("pk_incident_cause")),
        comment="causes an incident takes beside its own, since it was merged or split",
    )
    op.create_index("ix_incident_cause_cause", "incident_cause", ["cause"])
    _people()
    for before, after in STATES:
        _restate(before, after)
    op.execute("UPDATE incident_entry SET what = 'accepted' WHERE what = 'acknowledged'")
    op.execute(
        "UPDATE incident SET state = 'false_alarm' WHERE state = 'closed' AND id IN "
        "(SELECT incident_id FROM incident_entry WHERE what = 'false_alarm')"
    )
    op.execute("UPDATE incident_entry SET to_state = 'false_alarm' WHERE what = 'false_alarm'")
    for name in ("region", "reach"):
        of_station = f"SELECT s.{name} FROM station s WHERE s.key = incident.station"
        op.execute(f"UPDATE incident SET {name} = COALESCE(({of_station}), '')")


def _people() -> None:
    op.create_table(
        "person",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("region", sa.Text(), nullable=False, comment="code; empty: everywhere"),
        sa.Column("department", sa.String(length=32), nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("removed_at_ms", sa.BigInteger(), nullable=True, comment="the name stays: the record speaks of it"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_person")),
        sa.UniqueConstraint("name", name=op.f("uq_person_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "appointment",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("person_id", sa.Integer(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("reach", sa.Text(), nullable=False, comment="key of one reach; empty: all water of the region"),
        sa.Column("deputy_of", sa.Text(), nullable=False, server_default="", comment="name of the chief"),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_appointment_person_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_appointment")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_appointment_person_id"), "appointment", ["person_id"])
    op.create_index("ix_appointment_place", "appointment", ["region", "reach"])
    op.create_table(
        "token",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("person_id", sa.Integer(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False, comment="SHA-256 of a random secret"),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_token_person_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token")),
        sa.UniqueConstraint("hash", name=op.f("uq_token_hash")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_token_person_id"), "token", ["person_id"])


def downgrade() -> None:
    """Back to three states: whatever was under way counts as acknowledged, whatever ended as closed."""
    ended = "('closed', 'rejected', 'false_alarm')"
    for table, column in (("incident", "state"), ("incident_entry", "from_state"), ("incident_entry", "to_state")):
        op.execute(f"UPDATE {table} SET {column} = 'opened' WHERE {column} = 'reported'")
        op.execute(f"UPDATE {table} SET {column} = 'closed' WHERE {column} IN {ended}")
        op.execute(f"UPDATE {table} SET {column} = 'acknowledged' WHERE {column} NOT IN ('opened', 'closed')")
    op.execute("UPDATE incident_entry SET what = 'acknowledged' WHERE what = 'accepted'")
    known = "('fired', 'resolved', 'promoted', 'acknowledged', 'commented', 'closed', 'false_alarm')"
    op.execute(f"UPDATE incident_entry SET what = 'commented' WHERE what NOT IN {known}")
    for name in ("token", "appointment", "person", "incident_cause"):
        op.drop_table(name)
    op.drop_index("ix_incident_region", "incident")
    op.drop_index("ix_incident_alert", "incident")
    for name, columns in (("incident_entry", ENTRY), ("incident", INCIDENT)):
        for one in columns:  # not by a copy of the table: others refer to it
            op.execute(f"ALTER TABLE {name} DROP COLUMN {one.name}")
    _rename("incident", "accepted_at_ms", "acknowledged_at_ms")
    _rename("incident", "accepted_by", "acknowledged_by")


def _rename(table: str, before: str, after: str) -> None:
    op.execute(f"ALTER TABLE {table} RENAME COLUMN {before} TO {after}")


def _restate(before: str, after: str) -> None:
    for table, column in (("incident", "state"), ("incident_entry", "from_state"), ("incident_entry", "to_state")):
        op.execute(f"UPDATE {table} SET {column} = '{after}' WHERE {column} = '{before}'")
