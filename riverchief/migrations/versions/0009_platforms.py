"""what external platforms told us, and how their list of incidents compares with ours"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "callback",
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False, comment="webhook-id: what was taken once is not done again"),
        sa.Column("proof", sa.Text(), nullable=False, comment="SHA-256 of the body, of time stamp and body"),
        sa.Column("received_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column(
            "incident_id",
            sa.Integer(),
            nullable=True,
            comment="as the platform named it, known here or not; NULL: none",
        ),
        sa.Column("action", sa.Text(), nullable=True),
        sa.Column("allowed", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("platform", "event_id", name=op.f("pk_callback")),
    )
    op.create_index("ix_callback_received", "callback", ["received_at_ms"])
    op.create_table(
        "reconciliation",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False, comment="who gave or asked for their list"),
        sa.Column("closed", sa.Boolean(), nullable=False, comment="whether both sides agree"),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reconciliation")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_reconciliation_platform", "reconciliation", ["platform", "at_ms"])


def downgrade() -> None:
    op.drop_table("reconciliation")
    op.drop_table("callback")
