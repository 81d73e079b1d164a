"""Tables of messages to people, of confirmations waited for, and of on-call shifts.

Every ``*_ms`` column holds whole milliseconds since the epoch, UTC (``infra.times``). A contact is named by its key;
the addresses of the contacts' file are not in the database.
"""

import sqlalchemy as sa

from infra.database import metadata

notice = sa.Table(
    "notice",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("contact", sa.Text, nullable=False),
    sa.Column("bucket", sa.Text, nullable=False, comment="what is gathered into one message: a region, or * for all"),
    sa.Column("urgency", sa.Integer, nullable=False, comment="rank of the most urgent colour in it, 0 is red"),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("created_at_ms", sa.BigInteger, nullable=False),
    sa.Column("due_at_ms", sa.BigInteger, nullable=False),
    sa.Column("expires_at_ms", sa.BigInteger, nullable=False, comment="end of its link"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("body", sa.Text, comment="as sent; NULL while it gathers"),
    sa.Column("sent_at_ms", sa.BigInteger),
    sa.Column("sent_by", sa.Text, comment="the kind of channel that took it"),
    sa.Column("last_error", sa.Text),
    sa.Column("claimed_by", sa.Text),
    sa.Column("claimed_until_ms", sa.BigInteger),
    sa.Column("acknowledged_at_ms", sa.BigInteger, comment="when its link was confirmed"),
    sa.CheckConstraint("status IN ('pending', 'sent', 'dead', 'cancelled')", name="status"),
    sa.Index("ix_notice_due", "status", "due_at_ms"),
    sa.Index("ix_notice_contact", "contact", "bucket", "created_at_ms"),
    sqlite_autoincrement=True,
)

notice_item = sa.Table(
    "notice_item",
    metadata,
    sa.Column("notice_id", sa.Integer, sa.ForeignKey("notice.id"), primary_key=True),
    sa.Column("incident_id", sa.Integer, primary_key=True, comment="0: a test message"),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("colour", sa.Text, nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("place_zh", sa.Text, nullable=False),
    sa.Column("place_en", sa.Text, nullable=False),
    sa.Column("text_zh", sa.Text, nullable=False),
    sa.Column("text_en", sa.Text, nullable=False),
    sa.Column("minutes", sa.Integer, comment="to confirm within, or waited in vain; NULL: nothing is asked"),
    sa.Column("headline", sa.JSON, nullable=False, server_default="{}", comment="place, matter, rows of evidence"),
    sa.Column("since_ms", sa.BigInteger, comment="since when it lasts"),
    sa.Column("due_ms", sa.BigInteger, comment="deadline of the step"),
    sa.Column("step", sa.Text, nullable=False, server_default="", comment="key of the phase that waits"),
    sa.Index("ix_notice_item_incident", "incident_id"),
)

notice_watch = sa.Table(
    "notice_watch",
    metadata,
    sa.Column("incident_id", sa.Integer, sa.ForeignKey("incident.id"), primary_key=True),
    sa.Column("colour", sa.Text, nullable=False),
    sa.Column(
        "step", sa.Integer, nullable=False, comment="0: told those first responsible; then one level up each time"
    ),
    sa.Column("since_ms", sa.BigInteger, nullable=False),
    sa.Column("due_at_ms", sa.BigInteger, comment="when the next step is notified; NULL: no recipient is left"),
    sa.Index("ix_notice_watch_due", "due_at_ms"),
    comment="incidents that somebody has to confirm and nobody has",
)

notice_mark = sa.Table(
    "notice_mark",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("mark", sa.BigInteger, nullable=False, comment="the newest delivery whose messages were made"),
)

oncall_shift = sa.Table(
    "oncall_shift",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("person", sa.Text, nullable=False, comment="the key of a contact"),
    sa.Column("rank", sa.Integer, nullable=False, comment="1 is called first"),
    sa.Column("priority", sa.Integer, nullable=False, comment="0 rotation, 1 holiday, 2 a shift of its own"),
    sa.Column("starts_at_ms", sa.BigInteger, nullable=False),
    sa.Column("ends_at_ms", sa.BigInteger, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.CheckConstraint("starts_at_ms < ends_at_ms", name="forward"),
    sa.Index("ix_oncall_shift_times", "starts_at_ms", "ends_at_ms"),
    sqlite_autoincrement=True,
)
