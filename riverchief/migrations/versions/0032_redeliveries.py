"""what is delivered again is the same device event and quarantine entry; late messages wait in a queue"""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

HELD = sa.text("status = 'held'")


def upgrade() -> None:
    # not in a batch where it can be helped: that makes the table anew on SQLite and forgets AUTOINCREMENT
    op.add_column(
        "quarantine",
        sa.Column(
            "key", sa.String(length=64), comment="SHA-256 of what was refused and why; NULL: of an earlier version"
        ),
    )
    op.add_column(
        "quarantine",
        sa.Column("times", sa.Integer(), nullable=False, server_default="1", comment="how often the same arrived"),
    )
    op.create_index("ix_quarantine_key", "quarantine", ["key"], unique=True, sqlite_where=HELD, postgresql_where=HELD)
    op.add_column(
        "device_event",
        sa.Column(
            "key", sa.Text(), comment="what makes it the same event when it arrives again; NULL: of an earlier version"
        ),
    )
    op.create_index("ix_device_event_key", "device_event", ["station", "key"], unique=True)
    op.create_table(
        "late_message",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("station", sa.String(length=64), nullable=False),
        sa.Column("received_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_late_message")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_late_message_station"), "late_message", ["station"])


def downgrade() -> None:
    op.drop_table("late_message")
    op.drop_index("ix_device_event_key", table_name="device_event")
    op.drop_column("device_event", "key")
    op.drop_index("ix_quarantine_key", table_name="quarantine")
    op.drop_column("quarantine", "times")
    op.drop_column("quarantine", "key")
