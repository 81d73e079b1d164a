"""the trail cannot be replaced, and its roots are guarded like it"""

from alembic import op

from governance.tables import GUARDS

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("audit", "audit_root"):
        for statement in GUARDS[op.get_bind().dialect.name, table]:
            op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER audit_root_no_change ON audit_root")
        return
    for name in ("audit_no_replace", "audit_root_no_update", "audit_root_no_delete", "audit_root_no_replace"):
        op.execute(f"DROP TRIGGER {name}")
