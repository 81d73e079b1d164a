"""messages of unproven senders that were not kept, counted in the ledger"""

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "ledger",
        sa.Column(
            "messages_left_out",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="of unproven senders, beyond what is kept of them a day",
        ),
    )


def downgrade() -> None:
    with op.batch_alter_table("ledger") as batch:
        batch.drop_column("messages_left_out")
