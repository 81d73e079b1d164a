"""Tables of callbacks from external platforms, and of reconciliation reports.

Every ``*_ms`` column holds whole milliseconds since the epoch, UTC (``infra.times``).
"""

import sqlalchemy as sa

from infra.database import metadata

callback = sa.Table(
    "callback",
    metadata,
    sa.Column("platform", sa.Text, primary_key=True),
    sa.Column("event_id", sa.Text, primary_key=True, comment="webhook-id: what was taken once is not done again"),
    sa.Column("proof", sa.Text, nullable=False, comment="SHA-256 of the body, of time stamp and body"),
    sa.Column("received_at_ms", sa.BigInteger, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("incident_id", sa.Integer, comment="as the platform named it, known here or not; NULL: none"),
    sa.Column("action", sa.Text),
    sa.Column("allowed", sa.JSON, nullable=False),
    sa.Index("ix_callback_received", "received_at_ms"),
)

reconciliation = sa.Table(
    "reconciliation",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("platform", sa.Text, nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("by", sa.Text, nullable=False, comment="who gave or asked for their list"),
    sa.Column("closed", sa.Boolean, nullable=False, comment="whether both sides agree"),
    sa.Column("report", sa.JSON, nullable=False),
    sa.Index("ix_reconciliation_platform", "platform", "at_ms"),
    sqlite_autoincrement=True,
)
