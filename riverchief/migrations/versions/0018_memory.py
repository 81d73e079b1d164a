"""what the quality tests learned of every series"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "memory",
        sa.Column("station", sa.String(length=64), nullable=False),
        sa.Column("parameter", sa.String(length=32), nullable=False),
        sa.Column("upto_ms", sa.BigInteger(), nullable=False, comment="the newest reading it knows"),
        sa.Column(
            "body", sa.LargeBinary(), nullable=False, comment="what the quality tests learned; empty: nothing yet"
        ),
        sa.PrimaryKeyConstraint("station", "parameter", name=op.f("pk_memory")),
    )


def downgrade() -> None:
    op.drop_table("memory")
