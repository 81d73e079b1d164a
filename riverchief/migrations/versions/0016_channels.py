"""attachments of cases, citizens' reports, patrols"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "attachment",
        sa.Column("id", sa.String(64), nullable=False, comment="SHA-256 of the bytes; the file is called so"),
        sa.Column("media_type", sa.String(40), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attachment")),
    )
    op.create_table(
        "report",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("ticket", sa.String(20), nullable=False),
        sa.Column("incident_id", sa.Integer(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("contact", sa.Text(), nullable=False, comment="for the office alone"),
        sa.Column("sender", sa.String(32), nullable=False, comment="keyed hash of the network address"),
        sa.Column("unsolved", sa.Integer(), nullable=False, comment="how often the citizen said it is not solved"),
        sa.ForeignKeyConstraint(["incident_id"], ["incident.id"], name=op.f("fk_report_incident_id_incident")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_report")),
        sa.UniqueConstraint("ticket", name=op.f("uq_report_ticket")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_report_sender", "report", ["sender", "at_ms"])
    op.create_index(op.f("ix_report_incident_id"), "report", ["incident_id"])
    op.create_table(
        "patrol",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("key", sa.String(64), nullable=False, comment="made by the device"),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("role", sa.String(32), nullable=False),
        sa.Column("reach", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("started_ms", sa.BigInteger(), nullable=False),
        sa.Column("ended_ms", sa.BigInteger(), nullable=False),
        sa.Column("uploaded_ms", sa.BigInteger(), nullable=False),
        sa.Column("metres", sa.Double(), nullable=False),
        sa.Column("minutes", sa.Double(), nullable=False),
        sa.Column("jumps", sa.Integer(), nullable=False),
        sa.Column("valid", sa.Boolean(), nullable=False),
        sa.Column("why_zh", sa.Text(), nullable=False),
        sa.Column("why_en", sa.Text(), nullable=False),
        sa.Column("way", sa.String(16), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("problems", sa.JSON(), nullable=False, comment="numbers of incidents"),
        sa.Column("track", sa.JSON(), nullable=False, comment="[[ms, lon, lat], …]"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_patrol")),
        sa.UniqueConstraint("key", name=op.f("uq_patrol_key")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_patrol_by"), "patrol", ["by"])
    op.create_index(op.f("ix_patrol_started_ms"), "patrol", ["started_ms"])


def downgrade() -> None:
    op.drop_table("patrol")
    op.drop_table("report")
    op.drop_table("attachment")
