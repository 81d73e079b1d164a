"""the days whose hourly and daily values are to be computed"""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "downsampling_due",
        sa.Column("station", sa.String(length=64), nullable=False),
        sa.Column("day_ms", sa.BigInteger(), autoincrement=False, nullable=False, comment="a Beijing day's beginning"),
        sa.Column("due_ms", sa.BigInteger(), nullable=False, comment="computed from then on"),
        sa.Column("entry", sa.BigInteger(), nullable=False, comment="the spool entry that touched it last; 0: none"),
        sa.PrimaryKeyConstraint("station", "day_ms", name=op.f("pk_downsampling_due")),
    )
    op.create_index("ix_downsampling_due_due_ms", "downsampling_due", ["due_ms"])


def downgrade() -> None:
    op.drop_index("ix_downsampling_due_due_ms", table_name="downsampling_due")
    op.drop_table("downsampling_due")
