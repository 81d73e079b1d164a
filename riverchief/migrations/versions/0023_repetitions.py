"""deliveries that only repeat, and such as a later one superseded"""

from collections.abc import Iterable

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0018"
branch_labels = None
depends_on = None

BEFORE = ("pending", "delivered", "refused")


def upgrade() -> None:
    _rebuild(
        (*BEFORE, "superseded"),
        sa.Column(
            "repeats",
            sa.Boolean(),
            nullable=False,
            server_default=sa.false(),
            comment="tells nothing that a later event of its incident does not tell",
        ),
    )


def downgrade() -> None:
    op.execute("UPDATE outbox SET status = 'delivered' WHERE status = 'superseded'")
    _rebuild(BEFORE)


def _rebuild(statuses: Iterable[str], added: "sa.Column[bool] | None" = None) -> None:
    """Change the check of the status; SQLite writes the table anew and forgets its checks and AUTOINCREMENT."""
    listed = ", ".join(f"'{one}'" for one in statuses)
    if op.get_bind().dialect.name != "sqlite":
        op.drop_constraint(op.f("ck_outbox_status"), "outbox")
    with op.batch_alter_table("outbox", table_kwargs={"sqlite_autoincrement": True}) as outbox:
        if added is not None:
            outbox.add_column(added)
        else:
            outbox.drop_column("repeats")
        outbox.create_check_constraint(op.f("ck_outbox_status"), f"status IN ({listed})")
