"""browsers that are signed in"""

import sqlalchemy as sa
from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "login_session",
        sa.Column("hash", sa.String(length=64), nullable=False, comment="SHA-256 of the id in the cookie"),
        sa.Column("token_hash", sa.String(length=64), nullable=False, comment="of the token it was opened with"),
        sa.Column("begun_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_login_session")),
    )


def downgrade() -> None:
    op.drop_table("login_session")
