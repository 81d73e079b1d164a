"""who handled a case and from which level it is supervised; whose an attachment is; contacts of people"""

import json

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

HANDLED = ("started", "finished", "contributed")


def upgrade() -> None:
    handlers = "all who handled it, in any round"
    op.add_column("incident", sa.Column("handlers", sa.JSON(), nullable=False, server_default="[]", comment=handlers))
    level = "of who put it there; NULL: not recorded"
    op.add_column("incident", sa.Column("supervised_level", sa.Integer(), nullable=True, comment=level))
    op.create_table(
        "attachment_incident",
        sa.Column("attachment_id", sa.String(length=64), nullable=False),
        sa.Column("incident_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["incident_id"], ["incident.id"], name=op.f("fk_attachment_incident_incident_id")),
        sa.PrimaryKeyConstraint("attachment_id", "incident_id", name=op.f("pk_attachment_incident")),
        comment="what an attachment is attached to: whoever may see one of the incidents may see it",
    )
    _key_of_attachments("id", "by")
    op.create_table(
        "person_contact",
        sa.Column("person_id", sa.Integer(), nullable=False),
        sa.Column("language", sa.String(length=2), nullable=False),
        sa.Column("least", sa.String(length=16), nullable=False, comment="nothing less urgent is sent"),
        sa.Column("channels", sa.Text(), nullable=False, comment="encrypted; the addresses are secrets"),
        sa.Column("changed_at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_person_contact_person_id")),
        sa.PrimaryKeyConstraint("person_id", name=op.f("pk_person_contact")),
    )
    _fill()


def downgrade() -> None:
    op.drop_table("person_contact")
    op.execute(
        "DELETE FROM attachment WHERE EXISTS (SELECT 1 FROM attachment AS other WHERE other.id = attachment.id "
        'AND (other.at_ms < attachment.at_ms OR (other.at_ms = attachment.at_ms AND other."by" < attachment."by")))'
    )
    _key_of_attachments("id")
    op.drop_table("attachment_incident")
    for name in ("supervised_level", "handlers"):
        op.drop_column("incident", name)


def _key_of_attachments(*columns: str) -> None:
    """Change the primary key; SQLite cannot, so that the table is written anew there."""
    if op.get_bind().dialect.name != "sqlite":
        op.drop_constraint(op.f("pk_attachment"), "attachment")
        op.create_primary_key(op.f("pk_attachment"), "attachment", list(columns))
        return
    op.rename_table("attachment", "attachment_before")
    op.create_table(
        "attachment",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("media_type", sa.String(length=40), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(*columns, name=op.f("pk_attachment")),
    )
    names = 'id, media_type, bytes, width, height, name, "by", at_ms'
    op.execute(f"INSERT INTO attachment ({names}) SELECT {names} FROM attachment_before")
    op.drop_table("attachment_before")


def _fill() -> None:
    """What the entries say of who handled an incident and of what is attached to it."""
    connection = op.get_bind()
    entry = sa.table(
        "incident_entry",
        *(sa.column(name) for name in ("id", "incident_id", "what", "by")),
        sa.column("attachments", sa.JSON()),
    )
    incident = sa.table("incident", sa.column("id"), sa.column("handlers", sa.JSON()))
    uses = sa.table("attachment_incident", sa.column("attachment_id"), sa.column("incident_id"))
    handlers: dict[int, dict[str, None]] = {}
    used: set[tuple[str, int]] = set()
    for row in connection.execute(sa.select(entry).order_by(entry.c.id)):
        if row.what in HANDLED:
            handlers.setdefault(row.incident_id, {})[row.by] = None
        attached = json.loads(row.attachments) if isinstance(row.attachments, str) else row.attachments
        used |= {(one, row.incident_id) for one in attached}
    for number, names in handlers.items():
        connection.execute(sa.update(incident).where(incident.c.id == number).values(handlers=list(names)))
    if used:
        rows = [{"attachment_id": one, "incident_id": number} for one, number in sorted(used)]
        connection.execute(sa.insert(uses), rows)
