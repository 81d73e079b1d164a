"""where the database ends and the long-term store begins"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "storage_edge",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False, comment="always 1: one row"),
        sa.Column(
            "edge_ms", sa.BigInteger(), nullable=False, comment="readings before this are in the long-term store"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_storage_edge")),
    )


def downgrade() -> None:
    op.drop_table("storage_edge")
