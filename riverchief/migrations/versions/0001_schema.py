"""All tables as the code declares them, with the triggers that guard the audit trail.

Version 0.1.0 is not released, so there is one step and it creates what is declared. Before a second step is added, the
tables are written out here, for a released step must not change with the code; a test holds that.
"""

from alembic import op

import ingest.storage.tables  # noqa: F401  (registers its tables)
from infra.database import metadata

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    metadata.create_all(op.get_bind())


def downgrade() -> None:
    metadata.drop_all(op.get_bind())
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_guard()")
