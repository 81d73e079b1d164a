"""the logins of devices, and the secrets by which a device claims itself"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "device_credential",
        sa.Column("user", sa.String(length=80), nullable=False),
        sa.Column("station", sa.String(length=64), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("revoked_by", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["station"], ["station.key"], name=op.f("fk_device_credential_station")),
        sa.PrimaryKeyConstraint("user", name=op.f("pk_device_credential")),
    )
    op.create_index(op.f("ix_device_credential_station"), "device_credential", ["station"])
    op.create_table(
        "device_claim",
        sa.Column("station", sa.String(length=64), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("used_at_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["station"], ["station.key"], name=op.f("fk_device_claim_station")),
        sa.PrimaryKeyConstraint("station", name=op.f("pk_device_claim")),
    )


def downgrade() -> None:
    op.drop_table("device_claim")
    op.drop_table("device_credential")
