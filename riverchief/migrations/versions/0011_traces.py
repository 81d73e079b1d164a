"""where incidents may have come from"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "trace",
        sa.Column("incident_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("station", sa.String(length=64), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("made_ms", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False, comment="JSON: what was seen and where not, candidates, reasons"),
        sa.Column("text_zh", sa.Text(), nullable=False),
        sa.Column("text_en", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["incident_id"], ["incident.id"], name=op.f("fk_trace_incident_id")),
        sa.PrimaryKeyConstraint("incident_id", name=op.f("pk_trace")),
    )


def downgrade() -> None:
    op.drop_table("trace")
