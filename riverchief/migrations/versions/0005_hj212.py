"""the loggers that speak HJ 212"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "hj212_device",
        sa.Column("mn", sa.String(length=64), nullable=False),
        sa.Column("station", sa.String(length=64), nullable=False),
        sa.Column("password", sa.Text(), nullable=True),
        sa.Column("st", sa.String(length=2), nullable=False),
        sa.Column("edition", sa.Integer(), nullable=False),
        sa.Column("last_at_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["station"], ["station.key"], name=op.f("fk_hj212_device_station")),
        sa.PrimaryKeyConstraint("mn", name=op.f("pk_hj212_device")),
    )
    op.create_index(op.f("ix_hj212_device_station"), "hj212_device", ["station"])


def downgrade() -> None:
    op.drop_table("hj212_device")
