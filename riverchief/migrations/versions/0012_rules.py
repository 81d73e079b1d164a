"""versions of rules, reviews of readings, mutes, backtests"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    held: sa.Column[bool] = sa.Column(
        "held", sa.Boolean(), nullable=False, server_default=sa.false(), comment="flapping: calm for longer"
    )
    op.add_column("alarm", held)
    op.create_table(
        "review",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("station", sa.String(length=64), nullable=False),
        sa.Column("parameter", sa.String(length=32), nullable=False, comment="empty: all of the station"),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.Column("verdict", sa.String(length=8), nullable=False, comment="good or bad"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False, comment="when it was given"),
        sa.Column("void", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["station"], ["station.key"], name=op.f("fk_review_station")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review")),
        sa.UniqueConstraint("station", "parameter", "since_ms", "at_ms", name=op.f("uq_review_station")),
    )
    op.create_index(op.f("ix_review_station"), "review", ["station"])
    op.create_table(
        "mute",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("station", sa.String(length=64), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.Column("rules", sa.JSON(), nullable=False, comment="ids; an empty list: all rules"),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["station"], ["station.key"], name=op.f("fk_mute_station")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mute")),
        sa.UniqueConstraint("station", "since_ms", name=op.f("uq_mute_station")),
    )
    op.create_index(op.f("ix_mute_station"), "mute", ["station"])
    op.create_table(
        "rule_version",
        sa.Column("rule", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=8), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("colour", sa.String(length=16), nullable=False),
        sa.Column("body", sa.Text(), nullable=False, comment="the rule as TOML"),
        sa.Column("text_zh", sa.Text(), nullable=False),
        sa.Column("text_en", sa.Text(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False, comment="when it came into force, the last time"),
        sa.Column(
            "until_ms", sa.BigInteger(), nullable=True, comment="when it was replaced or taken out; NULL while in force"
        ),
        sa.PrimaryKeyConstraint("rule", "version", name=op.f("pk_rule_version")),
    )
    op.create_table(
        "backtest",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False, comment="waiting, running, done or failed"),
        sa.Column("progress", sa.Float(), nullable=False, comment="0 to 1"),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("result", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("finished_at_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_backtest")),
    )
    op.create_index(op.f("ix_backtest_state"), "backtest", ["state"])


def downgrade() -> None:
    for table in ("backtest", "rule_version", "mute", "review"):
        op.drop_table(table)
    op.drop_column("alarm", "held")
