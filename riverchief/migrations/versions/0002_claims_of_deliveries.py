"""which worker has taken a delivery, and until when; numbers that do not run out"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "outbox",
        sa.Column("claimed_by", sa.Text(), nullable=True, comment="the worker that is sending it; NULL: nobody"),
    )
    op.add_column(
        "outbox",
        sa.Column(
            "claimed_until_ms", sa.BigInteger(), nullable=True, comment="then the claim of a worker that died is void"
        ),
    )
    if op.get_bind().dialect.name == "postgresql":
        for table in ("quarantine", "device_event"):
            op.alter_column(table, "id", type_=sa.BigInteger(), existing_type=sa.Integer(), existing_nullable=False)
            op.execute(f"ALTER SEQUENCE {table}_id_seq AS bigint")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table in ("quarantine", "device_event"):
            op.execute(f"ALTER SEQUENCE {table}_id_seq AS integer")
            op.alter_column(table, "id", type_=sa.Integer(), existing_type=sa.BigInteger(), existing_nullable=False)
    # not in a batch: that makes the table anew on SQLite and forgets AUTOINCREMENT
    op.drop_column("outbox", "claimed_until_ms")
    op.drop_column("outbox", "claimed_by")
