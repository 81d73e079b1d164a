"""messages to people: what waits, what was sent, who has to confirm"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "notice",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("contact", sa.Text(), nullable=False),
        sa.Column(
            "bucket", sa.Text(), nullable=False, comment="what is gathered into one message: a region, or * for all"
        ),
        sa.Column("urgency", sa.Integer(), nullable=False, comment="rank of the most urgent colour in it, 0 is red"),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("due_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False, comment="end of its link"),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("body", sa.Text(), nullable=True, comment="as sent; NULL while it gathers"),
        sa.Column("sent_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("sent_by", sa.Text(), nullable=True, comment="the kind of channel that took it"),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("claimed_by", sa.Text(), nullable=True),
        sa.Column("claimed_until_ms", sa.BigInteger(), nullable=True),
        sa.Column("acknowledged_at_ms", sa.BigInteger(), nullable=True, comment="when its link was confirmed"),
        sa.CheckConstraint("status IN ('pending', 'sent', 'dead', 'cancelled')", name=op.f("ck_notice_status")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notice")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_notice_contact", "notice", ["contact", "bucket", "created_at_ms"])
    op.create_index("ix_notice_due", "notice", ["status", "due_at_ms"])
    op.create_table(
        "notice_item",
        sa.Column("notice_id", sa.Integer(), nullable=False),
        sa.Column("incident_id", sa.Integer(), nullable=False, comment="0: a test, which tells of no incident"),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("colour", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("place_zh", sa.Text(), nullable=False),
        sa.Column("place_en", sa.Text(), nullable=False),
        sa.Column("text_zh", sa.Text(), nullable=False),
        sa.Column("text_en", sa.Text(), nullable=False),
        sa.Column(
            "minutes",
            sa.Integer(),
            nullable=True,
            comment="to confirm within, or waited in vain; NULL: nothing is asked",
        ),
        sa.ForeignKeyConstraint(["notice_id"], ["notice.id"], name=op.f("fk_notice_item_notice_id")),
        sa.PrimaryKeyConstraint("notice_id", "incident_id", name=op.f("pk_notice_item")),
    )
    op.create_index("ix_notice_item_incident", "notice_item", ["incident_id"])
    op.create_table(
        "notice_watch",
        sa.Column("incident_id", sa.Integer(), nullable=False),
        sa.Column("colour", sa.Text(), nullable=False),
        sa.Column(
            "step", sa.Integer(), nullable=False, comment="0: told those first responsible; then one level up each time"
        ),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column(
            "due_at_ms",
            sa.BigInteger(),
            nullable=True,
            comment="when the next step is told; NULL: nobody is left to tell",
        ),
        sa.ForeignKeyConstraint(["incident_id"], ["incident.id"], name=op.f("fk_notice_watch_incident_id")),
        sa.PrimaryKeyConstraint("incident_id", name=op.f("pk_notice_watch")),
        comment="incidents that somebody has to confirm and nobody has",
    )
    op.create_index("ix_notice_watch_due", "notice_watch", ["due_at_ms"])
    op.create_table(
        "notice_mark",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("mark", sa.BigInteger(), nullable=False, comment="the newest delivery whose messages were made"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_notice_mark")),
    )


def downgrade() -> None:
    op.drop_table("notice_mark")
    op.drop_table("notice_watch")
    op.drop_table("notice_item")
    op.drop_table("notice")
