"""the spool of the time-series server, live classes, and the target class of a reach"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "spool",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_spool")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_spool_waiting", "spool", ["bytes", "rows", "created_at_ms"])
    op.create_table(
        "spool_mark",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("mark", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_spool_mark")),
    )
    op.create_table(
        "live_class",
        sa.Column("kind", sa.String(length=8), nullable=False, comment="station or reach"),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("class", sa.Integer(), nullable=True, comment="1 to 6; NULL where nothing can be judged"),
        sa.Column("deciding", sa.Text(), nullable=False, comment="parameter keys joined by a comma"),
        sa.Column("judged", sa.Integer(), nullable=False),
        sa.Column("expected", sa.Integer(), nullable=False),
        sa.Column("target", sa.Integer(), nullable=True),
        sa.Column("text_zh", sa.Text(), nullable=False),
        sa.Column("text_en", sa.Text(), nullable=False),
        sa.Column("carried", sa.Text(), nullable=True, comment="what a station was like, for the next judgement"),
        sa.PrimaryKeyConstraint("kind", "key", name=op.f("pk_live_class")),
    )
    op.add_column("reach", sa.Column("target", sa.Integer(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("reach") as reach:
        reach.drop_column("target")
    op.drop_table("live_class")
    op.drop_table("spool_mark")
    op.drop_index("ix_spool_waiting", table_name="spool")
    op.drop_table("spool")
