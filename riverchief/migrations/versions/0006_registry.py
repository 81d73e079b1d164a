"""the registry in full: devices, calibrations, visits, photos, outfalls, travel times, regions, and who changed what"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("deployment", sa.Column("until_ms", sa.BigInteger(), nullable=True))
    op.add_column("deployment", sa.Column("device", sa.String(length=64), nullable=False, server_default=""))
    op.add_column("deployment", sa.Column("depth_m", sa.Float(), nullable=True))
    op.add_column("deployment", sa.Column("cycle_s", sa.Integer(), nullable=True))
    op.add_column("deployment", sa.Column("method", sa.String(length=8), nullable=False, server_default=""))
    op.add_column("registry_change", sa.Column("before", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("registry_change", sa.Column("by", sa.Text(), nullable=False, server_default=""))
    op.add_column("registry_change", sa.Column("at_ms", sa.BigInteger(), nullable=True))
    _network()
    _upkeep()


def _network() -> None:
    op.create_table(
        "device",
        sa.Column("serial", sa.String(length=64), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("manufacturer", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_device")),
    )
    op.create_table(
        "travel",
        sa.Column("upper", sa.String(length=64), nullable=False),
        sa.Column("lower", sa.String(length=64), nullable=False),
        sa.Column("least_s", sa.Integer(), nullable=False),
        sa.Column("typical_s", sa.Integer(), nullable=False),
        sa.Column("most_s", sa.Integer(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("upper", "lower", name=op.f("pk_travel")),
    )
    op.create_table(
        "outfall",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("zh", sa.Text(), nullable=False),
        sa.Column("en", sa.Text(), nullable=False),
        sa.Column("reach", sa.String(length=64), nullable=False),
        sa.Column("km", sa.Float(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_outfall")),
    )
    op.create_table(
        "region",
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("zh", sa.Text(), nullable=False),
        sa.Column("en", sa.Text(), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("parent", sa.String(length=64), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_region")),
    )


def _upkeep() -> None:
    op.create_table(
        "calibration",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("station", sa.String(length=64), nullable=False),
        sa.Column("parameter", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("standard", sa.Float(), nullable=False),
        sa.Column("reading", sa.Float(), nullable=False),
        sa.Column("after", sa.Float(), nullable=True),
        sa.Column("before", sa.Float(), nullable=True),
        sa.Column("span", sa.Float(), nullable=True),
        sa.Column("limit", sa.Float(), nullable=True),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("lot", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("void", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["station"], ["station.key"], name=op.f("fk_calibration_station")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calibration")),
        sa.UniqueConstraint("station", "parameter", "kind", "at_ms", name=op.f("uq_calibration_station")),
    )
    op.create_index(op.f("ix_calibration_station"), "calibration", ["station"])
    op.create_table(
        "visit",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("station", sa.String(length=64), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=True),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["station"], ["station.key"], name=op.f("fk_visit_station")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_visit")),
        sa.UniqueConstraint("station", "since_ms", name=op.f("uq_visit_station")),
    )
    op.create_index(op.f("ix_visit_station"), "visit", ["station"])
    op.create_table(
        "photo",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("station", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("media_type", sa.String(length=16), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("taken_ms", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["station"], ["station.key"], name=op.f("fk_photo_station")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_photo")),
        sa.UniqueConstraint("station", "sha256", name=op.f("uq_photo_station")),
    )
    op.create_index(op.f("ix_photo_station"), "photo", ["station"])
    op.create_table(
        "mark",
        sa.Column("station", sa.String(length=64), nullable=False),
        sa.Column("parameter", sa.String(length=32), nullable=False, comment="empty: all of the station"),
        sa.Column("test", sa.Integer(), autoincrement=False, nullable=False, comment="bit of QualityTest"),
        sa.Column("start_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("end_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("station", "parameter", "test", "start_ms", "end_ms", name=op.f("pk_mark")),
    )


def downgrade() -> None:
    for name in ("mark", "photo", "visit", "calibration", "region", "outfall", "travel", "device"):
        op.drop_table(name)
    with op.batch_alter_table("registry_change") as change:
        for column in ("at_ms", "by", "before"):
            change.drop_column(column)
    with op.batch_alter_table("deployment") as deployment:
        for column in ("method", "cycle_s", "depth_m", "device", "until_ms"):
            deployment.drop_column(column)
