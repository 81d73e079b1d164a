"""the trail of every change, and its signed roots"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

GUARDS = {
    "sqlite": (
        "CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit "
        "BEGIN SELECT RAISE(ABORT, 'the trail is never changed'); END",
        "CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit "
        "BEGIN SELECT RAISE(ABORT, 'the trail is never changed'); END",
    ),
    "postgresql": (
        "CREATE OR REPLACE FUNCTION audit_guard() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the trail is never changed'; END $$",
        "CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_guard()",
    ),
}
"""What forbids changing the trail, by database."""


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("n", sa.BigInteger(), autoincrement=False, nullable=False, comment="1, 2, 3 … without a gap"),
        sa.Column("at_ms", sa.BigInteger(), nullable=False, comment="wall clock"),
        sa.Column("by", sa.Text(), nullable=False, comment="a person, a rule or a program"),
        sa.Column("role", sa.Text(), nullable=False, comment="in which role; '' where none is known"),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="what kind of thing it happened to"),
        sa.Column("subject", sa.Text(), nullable=False, comment="its id"),
        sa.Column("body", sa.Text(), nullable=False, comment="canonical JSON (RFC 8785) exactly as hashed"),
        sa.Column("prev_hash", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False, comment="SHA-256 over prev_hash and the record"),
        sa.PrimaryKeyConstraint("n", name=op.f("pk_audit")),
        comment="append-only; triggers forbid anything else",
    )
    op.create_index("ix_audit_subject", "audit", ["kind", "subject", "n"])
    op.create_index("ix_audit_at_ms", "audit", ["at_ms"])
    for statement in GUARDS[op.get_bind().dialect.name]:
        op.get_bind().exec_driver_sql(statement)
    op.create_table(
        "audit_root",
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False, comment="entries it covers"),
        sa.Column("root", sa.String(length=64), nullable=False, comment="head of the Merkle tree, hexadecimal"),
        sa.Column("head", sa.String(length=64), nullable=False, comment="hash of entry number size"),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("key", sa.String(length=16), nullable=False, comment="which key signed it"),
        sa.Column("signature", sa.Text(), nullable=False, comment="Ed25519, base64"),
        sa.Column("peaks", sa.Text(), nullable=False, comment="what the next root is built on, hexadecimal, by spaces"),
        sa.Column(
            "sent_at_ms",
            sa.BigInteger(),
            nullable=True,
            comment="when it was everywhere outside",
        ),
        sa.PrimaryKeyConstraint("size", name=op.f("pk_audit_root")),
        comment="append-only but for sent_at_ms",
    )


def downgrade() -> None:
    op.drop_table("audit_root")
    op.drop_table("audit")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_guard()")
