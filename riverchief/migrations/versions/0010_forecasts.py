"""forecasts of every series, and what they warned of"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "forecast",
        sa.Column("station", sa.String(length=64), nullable=False),
        sa.Column("parameter", sa.String(length=32), nullable=False),
        sa.Column("issued_ms", sa.BigInteger(), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("step_h", sa.Integer(), nullable=False),
        sa.Column("last_ms", sa.BigInteger(), nullable=True),
        sa.Column("last", sa.Double(), nullable=True),
        sa.Column("ratio", sa.Double(), nullable=True, comment="error to that of persistence on the series' own past"),
        sa.Column("ratio_daily", sa.Double(), nullable=True),
        sa.Column("coverage", sa.Double(), nullable=True),
        sa.Column("days", sa.Integer(), nullable=False),
        sa.Column(
            "points",
            sa.Text(),
            nullable=False,
            comment="JSON, [ms, median, low, high]; empty where it is not shown",
        ),
        sa.Column("crossings", sa.Text(), nullable=False, comment="JSON"),
        sa.Column(
            "warned", sa.Text(), nullable=False, comment="JSON, by rule: rounds in a row, and since when it is said"
        ),
        sa.Column("text_zh", sa.Text(), nullable=False),
        sa.Column("text_en", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("station", "parameter", name=op.f("pk_forecast")),
    )


def downgrade() -> None:
    op.drop_table("forecast")
