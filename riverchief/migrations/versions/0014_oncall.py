"""who of the office is on call"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "oncall_shift",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("person", sa.Text(), nullable=False, comment="the key of a contact"),
        sa.Column("rank", sa.Integer(), nullable=False, comment="1 is called first"),
        sa.Column("priority", sa.Integer(), nullable=False, comment="0 rotation, 1 holiday, 2 a shift of its own"),
        sa.Column("starts_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("ends_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("starts_at_ms < ends_at_ms", name=op.f("ck_oncall_shift_forward")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_oncall_shift")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_oncall_shift_times", "oncall_shift", ["starts_at_ms", "ends_at_ms"])


def downgrade() -> None:
    op.drop_table("oncall_shift")
