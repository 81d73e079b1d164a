"""who declared an emergency, and when it is called out next; outlines of regions"""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in (
        sa.Column("emergency_by", sa.Text(), nullable=False, server_default="", comment="who declared it"),
        sa.Column("emergency_alert_at_ms", sa.BigInteger(), comment="next call while it is not reported"),
        sa.Column("emergency_calls", sa.Integer(), nullable=False, server_default="0"),
    ):
        op.add_column("incident", column)
    op.create_index("ix_incident_emergency", "incident", ["emergency_alert_at_ms"])
    told = "polygons, rings, [lon, lat] in WGS 84"
    op.add_column("region", sa.Column("outline", sa.JSON(), nullable=False, server_default="[]", comment=told))


def downgrade() -> None:
    op.drop_column("region", "outline")
    op.drop_index("ix_incident_emergency", "incident")
    for name in ("emergency_calls", "emergency_alert_at_ms", "emergency_by"):
        op.drop_column("incident", name)
