"""what readings were before they came again with another value"""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "correction",
        sa.Column("station", sa.String(length=64), nullable=False),
        sa.Column("parameter", sa.String(length=32), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("was", sa.Float(), autoincrement=False, nullable=False),
        sa.Column("now", sa.Float(), nullable=False, comment="what replaced it"),
        sa.Column("by", sa.Text(), nullable=False, comment="the person who sent it; empty: a device"),
        sa.Column("sent_at_ms", sa.BigInteger(), nullable=False, comment="of its message; 0 where it does not say"),
        sa.PrimaryKeyConstraint("station", "parameter", "at_ms", "was", name=op.f("pk_correction")),
    )


def downgrade() -> None:
    op.drop_table("correction")
