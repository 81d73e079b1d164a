"""messages of unproven senders that were not kept; when a live class was measured, and how many stations are silent"""

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "ledger",
        sa.Column(
            "messages_left_out",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="of unproven senders, beyond what is kept of them a day",
        ),
    )
    op.add_column(
        "live_class",
        sa.Column("measured_ms", sa.BigInteger(), comment="the newest reading that decides the class"),
    )
    for name, what in (("silent", "stations that fell silent"), ("stations", "stations there are")):
        op.add_column("live_class", sa.Column(name, sa.Integer(), server_default="0", nullable=False, comment=what))


def downgrade() -> None:
    with op.batch_alter_table("live_class") as batch:
        for name in ("measured_ms", "silent", "stations"):
            batch.drop_column(name)
    with op.batch_alter_table("ledger") as batch:
        batch.drop_column("messages_left_out")
