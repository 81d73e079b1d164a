"""what an incident is about in figures, and what a message says of it"""

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None


def upgrade() -> None:
    comment = "place, matter, rows of evidence"
    op.add_column("incident", sa.Column("headline", sa.JSON(), nullable=False, server_default="{}", comment=comment))
    op.add_column("notice_item", sa.Column("headline", sa.JSON(), nullable=False, server_default="{}", comment=comment))
    op.add_column("notice_item", sa.Column("since_ms", sa.BigInteger(), comment="since when it lasts"))
    op.add_column("notice_item", sa.Column("due_ms", sa.BigInteger(), comment="deadline of the step"))
    step = sa.Column("step", sa.Text(), nullable=False, server_default="", comment="key of the phase that waits")
    op.add_column("notice_item", step)


def downgrade() -> None:
    for column in ("step", "due_ms", "since_ms", "headline"):
        op.drop_column("notice_item", column)
    op.drop_column("incident", "headline")
