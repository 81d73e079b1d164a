"""The relational tables of ingest: registry, quarantine, ledger and the state of firing alarms.

All times are ms since the epoch UTC; ``day`` is the Beijing day as ``YYYY-MM-DD``.
"""

import sqlalchemy as sa

from infra.database import metadata

LONG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""Ids of rows that unauthenticated senders can create at a high rate; SQLite integers have 64 bits under either
name."""

station = sa.Table(
    "station",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("key", sa.String(64), nullable=False, unique=True),
    sa.Column("zh", sa.Text, nullable=False),
    sa.Column("en", sa.Text, nullable=False),
    sa.Column("lon", sa.Float, nullable=False),
    sa.Column("lat", sa.Float, nullable=False),
    sa.Column("reach", sa.Text, nullable=False),
    sa.Column("water", sa.String(16), nullable=False),
    sa.Column("region", sa.Text, nullable=False),
    sa.Column("interval_s", sa.Integer, nullable=False),
    sa.Column("gateway", sa.Text),
    sa.Column("parameters", sa.JSON, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("online", sa.Boolean),
    sa.Column("online_at_ms", sa.BigInteger),
)

deployment = sa.Table(
    "deployment",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("station", sa.String(64), sa.ForeignKey("station.key"), nullable=False, index=True),
    sa.Column("parameter", sa.String(32), nullable=False),
    sa.Column("since_ms", sa.BigInteger, nullable=False),
    sa.Column("unit", sa.String(32), nullable=False),
    sa.Column("gain", sa.Float, nullable=False),
    sa.Column("offset", sa.Float, nullable=False),
    sa.Column("until_ms", sa.BigInteger),
    sa.Column("device", sa.String(64), nullable=False, server_default=""),
    sa.Column("depth_m", sa.Float),
    sa.Column("cycle_s", sa.Integer),
    sa.Column("method", sa.String(8), nullable=False, server_default=""),
    sa.UniqueConstraint("station", "parameter", "since_ms"),
)

device = sa.Table(
    "device",
    metadata,
    sa.Column("serial", sa.String(64), primary_key=True),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("manufacturer", sa.Text, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
)

calibration = sa.Table(
    "calibration",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("station", sa.String(64), sa.ForeignKey("station.key"), nullable=False, index=True),
    sa.Column("parameter", sa.String(32), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("standard", sa.Float, nullable=False),
    sa.Column("reading", sa.Float, nullable=False),
    sa.Column("after", sa.Float),
    sa.Column("before", sa.Float),
    sa.Column("span", sa.Float),
    sa.Column("limit", sa.Float),
    sa.Column("device", sa.String(64), nullable=False),
    sa.Column("lot", sa.Text, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("void", sa.Boolean, nullable=False),
    sa.UniqueConstraint("station", "parameter", "kind", "at_ms"),
)

visit = sa.Table(
    "visit",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("station", sa.String(64), sa.ForeignKey("station.key"), nullable=False, index=True),
    sa.Column("since_ms", sa.BigInteger, nullable=False),
    sa.Column("until_ms", sa.BigInteger),
    sa.Column("parameters", sa.JSON, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.UniqueConstraint("station", "since_ms"),
)

photo = sa.Table(
    "photo",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("station", sa.String(64), sa.ForeignKey("station.key"), nullable=False, index=True),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("media_type", sa.String(16), nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("taken_ms", sa.BigInteger, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.UniqueConstraint("station", "sha256"),
)

correction = sa.Table(
    "correction",
    metadata,
    sa.Column("station", sa.String(64), primary_key=True),
    sa.Column("parameter", sa.String(32), primary_key=True),
    sa.Column("at_ms", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("old_value", sa.Float, primary_key=True, autoincrement=False),
    sa.Column("new_value", sa.Float, nullable=False, comment="what replaced it"),
    sa.Column("by", sa.Text, nullable=False, comment="the person who sent it; empty: a device"),
    sa.Column("sent_at_ms", sa.BigInteger, nullable=False, comment="of its message; 0 where it does not say"),
)

mark = sa.Table(
    "mark",
    metadata,
    sa.Column("station", sa.String(64), primary_key=True),
    sa.Column("parameter", sa.String(32), primary_key=True, comment="empty: all of the station"),
    sa.Column("test", sa.Integer, primary_key=True, autoincrement=False, comment="bit of QualityTest"),
    sa.Column("start_ms", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("end_ms", sa.BigInteger, primary_key=True, autoincrement=False),
)

reach = sa.Table(
    "reach",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("zh", sa.Text, nullable=False),
    sa.Column("en", sa.Text, nullable=False),
    sa.Column("water", sa.String(16), nullable=False),
    sa.Column("line", sa.JSON, nullable=False),
    sa.Column("downstream", sa.String(64)),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("target", sa.Integer),
)

travel = sa.Table(
    "travel",
    metadata,
    sa.Column("upper", sa.String(64), primary_key=True),
    sa.Column("lower", sa.String(64), primary_key=True),
    sa.Column("least_s", sa.Integer, nullable=False),
    sa.Column("typical_s", sa.Integer, nullable=False),
    sa.Column("most_s", sa.Integer, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
)

outfall = sa.Table(
    "outfall",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("zh", sa.Text, nullable=False),
    sa.Column("en", sa.Text, nullable=False),
    sa.Column("reach", sa.String(64), nullable=False),
    sa.Column("km", sa.Float, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("note", sa.Text, nullable=False),
)

region = sa.Table(
    "region",
    metadata,
    sa.Column("code", sa.String(64), primary_key=True),
    sa.Column("zh", sa.Text, nullable=False),
    sa.Column("en", sa.Text, nullable=False),
    sa.Column("level", sa.Integer, nullable=False),
    sa.Column("parent", sa.String(64)),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("outline", sa.JSON, nullable=False, server_default="[]", comment="polygons, rings, [lon, lat] in WGS 84"),
)

registry_change = sa.Table(
    "registry_change",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("what", sa.String(16), nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
    sa.Column("before", sa.JSON(none_as_null=True)),
    sa.Column("by", sa.Text, nullable=False, server_default=""),
    sa.Column("at_ms", sa.BigInteger),
)

_HELD = sa.text("status = 'held'")

quarantine = sa.Table(
    "quarantine",
    metadata,
    sa.Column("id", LONG, primary_key=True, autoincrement=True),
    sa.Column("status", sa.String(16), nullable=False, index=True),
    sa.Column("reason", sa.String(32), nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("source", sa.String(16), nullable=False),
    sa.Column("station", sa.Text, nullable=False, index=True),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("received_at_ms", sa.BigInteger, nullable=False),
    sa.Column("account", sa.String(64), nullable=False),
    sa.Column("day", sa.String(10), nullable=False),
    sa.Column("refused", sa.JSON(none_as_null=True)),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("payload_bytes", sa.BigInteger, nullable=False),
    sa.Column("settled_at_ms", sa.BigInteger),
    sa.Column("note", sa.Text, nullable=False, server_default=""),
    sa.Column("key", sa.String(64), comment="SHA-256 of what was refused and why; NULL: of an earlier version"),
    sa.Column("times", sa.Integer, nullable=False, server_default="1", comment="how often the same arrived"),
    sa.Index("ix_quarantine_key", "key", unique=True, sqlite_where=_HELD, postgresql_where=_HELD),
    sa.Index("ix_quarantine_account", "account", "id"),
)

quarantine_usage = sa.Table(
    "quarantine_usage",
    metadata,
    sa.Column("account", sa.String(64), primary_key=True),
    sa.Column("bytes", sa.BigInteger, nullable=False, comment="of all its entries, estimated"),
    sa.Column("day", sa.String(10), nullable=False, comment="of receipt"),
    sa.Column("day_bytes", sa.BigInteger, nullable=False, comment="of the entries of that day"),
)

quarantine_discard = sa.Table(
    "quarantine_discard",
    metadata,
    sa.Column("account", sa.String(64), primary_key=True),
    sa.Column("day", sa.String(10), primary_key=True, comment="of the ledger"),
    sa.Column("reason", sa.String(32), primary_key=True),
    sa.Column("hour_ms", sa.BigInteger, primary_key=True, autoincrement=False, comment="of receipt, its beginning"),
    sa.Column("messages", sa.BigInteger, nullable=False, comment="whose content is not kept"),
    sa.Column("readings", sa.BigInteger, nullable=False, comment="refused in them"),
    sa.Column("samples", sa.Integer, nullable=False, comment="messages of the hour that are kept all the same"),
)

ledger = sa.Table(
    "ledger",
    metadata,
    sa.Column("station", sa.String(64), primary_key=True),
    sa.Column("day", sa.String(10), primary_key=True),
    sa.Column("messages", sa.BigInteger, nullable=False),
    sa.Column("messages_duplicate", sa.BigInteger, nullable=False),
    sa.Column("messages_unnumbered", sa.BigInteger, nullable=False),
    sa.Column("messages_quarantined", sa.BigInteger, nullable=False),
    sa.Column("readings", sa.BigInteger, nullable=False),
    sa.Column("stored", sa.BigInteger, nullable=False),
    sa.Column("duplicate", sa.BigInteger, nullable=False),
    sa.Column("quarantined", sa.BigInteger, nullable=False),
    sa.Column(
        "messages_dropped",
        sa.BigInteger,
        nullable=False,
        server_default="0",
        comment="of unproven senders, beyond what is kept of them a day",
    ),
)

message_sequence = sa.Table(
    "message_sequence",
    metadata,
    sa.Column("station", sa.String(64), primary_key=True),
    sa.Column("boot", sa.BigInteger, primary_key=True),
    sa.Column("next_seq", sa.BigInteger, nullable=False),
    sa.Column("total", sa.BigInteger),
)

sequence_gap = sa.Table(
    "sequence_gap",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("station", sa.String(64), nullable=False),
    sa.Column("boot", sa.BigInteger, nullable=False),
    sa.Column("first_seq", sa.BigInteger, nullable=False),
    sa.Column("last_seq", sa.BigInteger, nullable=False),
    sa.Column("total_before", sa.BigInteger),
    sa.Column("total_after", sa.BigInteger),
    sa.Column("day", sa.String(10), nullable=False),
    sa.Index("ix_sequence_gap_device", "station", "boot", "last_seq"),
)

alarm = sa.Table(
    "alarm",
    metadata,
    sa.Column("rule", sa.String(64), primary_key=True),
    sa.Column("station", sa.String(64), primary_key=True),
    sa.Column("parameter", sa.String(32), primary_key=True),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("fired_at_ms", sa.BigInteger, nullable=False),
    sa.Column("since_ms", sa.BigInteger, nullable=False),
    sa.Column("retrospective", sa.Boolean, nullable=False),
    sa.Column("flapping", sa.Boolean, nullable=False, server_default=sa.false(), comment="flapping: calm for longer"),
)

device_event = sa.Table(
    "device_event",
    metadata,
    sa.Column("id", LONG, primary_key=True, autoincrement=True),
    sa.Column("station", sa.String(64), nullable=False, index=True),
    sa.Column("received_at_ms", sa.BigInteger, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column(
        "key", sa.Text, comment="what makes it the same event when it arrives again; NULL: of an earlier version"
    ),
    sa.Index("ix_device_event_key", "station", "key", unique=True),
)

late_message = sa.Table(
    "late_message",
    metadata,
    sa.Column("id", LONG, primary_key=True, autoincrement=True),
    sa.Column("station", sa.String(64), nullable=False, index=True),
    sa.Column("received_at_ms", sa.BigInteger, nullable=False),
    sa.Column("source", sa.String(16), nullable=False),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)

spool = sa.Table(
    "spool",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("created_at_ms", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Index("ix_spool_waiting", "bytes", "rows", "created_at_ms"),  # counting what waits reads no body
    sqlite_autoincrement=True,  # an id is never used twice: deleting one entry cannot take a later one
)

spool_progress = sa.Table(
    "spool_progress",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
)

downsampling_due = sa.Table(
    "downsampling_due",
    metadata,
    sa.Column("station", sa.String(64), primary_key=True),
    sa.Column("day_ms", sa.BigInteger, primary_key=True, autoincrement=False, comment="a Beijing day's beginning"),
    sa.Column("due_ms", sa.BigInteger, nullable=False, index=True, comment="computed from then on"),
    sa.Column("entry", sa.BigInteger, nullable=False, comment="the spool entry that touched it last; 0: none"),
)

storage_boundary = sa.Table(
    "storage_boundary",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False, comment="always 1: one row"),
    sa.Column("boundary_ms", sa.BigInteger, nullable=False, comment="readings before this are in the long-term store"),
)

live_class = sa.Table(
    "live_class",
    metadata,
    sa.Column("kind", sa.String(8), primary_key=True, comment="station or reach"),
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("class", sa.Integer, comment="1 to 6; NULL where nothing can be judged"),
    sa.Column("deciding", sa.Text, nullable=False, comment="parameter keys joined by a comma"),
    sa.Column("judged", sa.Integer, nullable=False),
    sa.Column("expected", sa.Integer, nullable=False),
    sa.Column("target", sa.Integer),
    sa.Column("text_zh", sa.Text, nullable=False),
    sa.Column("text_en", sa.Text, nullable=False),
    sa.Column("carried", sa.Text, comment="what a station was like, for the next judgement"),
    sa.Column("measured_ms", sa.BigInteger, comment="the newest reading that decides the class"),
    sa.Column("silent", sa.Integer, nullable=False, server_default="0", comment="stations that fell silent"),
    sa.Column("stations", sa.Integer, nullable=False, server_default="0", comment="stations there are"),
)

detector_state = sa.Table(
    "detector_state",
    metadata,
    sa.Column("station", sa.String(64), primary_key=True),
    sa.Column("parameter", sa.String(32), primary_key=True),
    sa.Column("last_at_ms", sa.BigInteger, nullable=False, comment="the newest reading it knows"),
    sa.Column("body", sa.LargeBinary, nullable=False, comment="what the quality tests learned; empty: nothing yet"),
)

forecast = sa.Table(
    "forecast",
    metadata,
    sa.Column("station", sa.String(64), primary_key=True),
    sa.Column("parameter", sa.String(32), primary_key=True),
    sa.Column("issued_ms", sa.BigInteger, nullable=False),
    sa.Column("verdict", sa.String(16), nullable=False),
    sa.Column("step_h", sa.Integer, nullable=False),
    sa.Column("last_ms", sa.BigInteger),
    sa.Column("last", sa.Double),
    sa.Column("ratio", sa.Double, comment="error to that of persistence on the series' own past"),
    sa.Column("ratio_daily", sa.Double),
    sa.Column("coverage", sa.Double),
    sa.Column("days", sa.Integer, nullable=False),
    sa.Column("points", sa.Text, nullable=False, comment="JSON, [ms, median, low, high]; empty where it is not shown"),
    sa.Column("crossings", sa.Text, nullable=False, comment="JSON"),
    sa.Column("warned", sa.Text, nullable=False, comment="JSON, by rule: rounds in a row, and since when it is said"),
    sa.Column("text_zh", sa.Text, nullable=False),
    sa.Column("text_en", sa.Text, nullable=False),
)

source_attribution = sa.Table(
    "source_attribution",
    metadata,
    sa.Column("incident_id", sa.Integer, sa.ForeignKey("incident.id"), primary_key=True, autoincrement=False),
    sa.Column("station", sa.String(64), nullable=False),
    sa.Column("since_ms", sa.BigInteger, nullable=False),
    sa.Column("computed_at_ms", sa.BigInteger, nullable=False),
    sa.Column("body", sa.Text, nullable=False, comment="JSON: what was seen and where not, candidates, reasons"),
    sa.Column("text_zh", sa.Text, nullable=False),
    sa.Column("text_en", sa.Text, nullable=False),
)

hj212_device = sa.Table(
    "hj212_device",
    metadata,
    sa.Column("mn", sa.String(64), primary_key=True),
    sa.Column("station", sa.String(64), sa.ForeignKey("station.key"), nullable=False, index=True),
    sa.Column("password", sa.Text),
    sa.Column("st", sa.String(2), nullable=False),
    sa.Column("edition", sa.Integer, nullable=False),
    sa.Column("last_at_ms", sa.BigInteger),
)

sl651_station = sa.Table(
    "sl651_station",
    metadata,
    sa.Column("address", sa.String(10), primary_key=True),
    sa.Column("station", sa.String(64), sa.ForeignKey("station.key"), nullable=False, index=True),
    sa.Column("password", sa.Text),
    sa.Column("base_m", sa.Float),
    sa.Column("array_order", sa.String(5), nullable=False),
    sa.Column("last_at_ms", sa.BigInteger),
    sa.Column("status_bits", sa.BigInteger, comment="the newest status word (element 45)"),
    sa.Column("status_at_ms", sa.BigInteger),
)

device_credential = sa.Table(
    "device_credential",
    metadata,
    sa.Column("user", sa.String(80), primary_key=True),
    sa.Column("station", sa.String(64), sa.ForeignKey("station.key"), nullable=False, index=True),
    sa.Column("created_at_ms", sa.BigInteger, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("expires_at_ms", sa.BigInteger),
    sa.Column("revoked_at_ms", sa.BigInteger),
    sa.Column("revoked_by", sa.Text),
)

device_claim = sa.Table(
    "device_claim",
    metadata,
    sa.Column("station", sa.String(64), sa.ForeignKey("station.key"), primary_key=True),
    sa.Column("salt", sa.LargeBinary, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sa.Column("created_at_ms", sa.BigInteger, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("expires_at_ms", sa.BigInteger, nullable=False),
    sa.Column("used_at_ms", sa.BigInteger),
)

review = sa.Table(
    "review",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("station", sa.String(64), sa.ForeignKey("station.key"), nullable=False, index=True),
    sa.Column("parameter", sa.String(32), nullable=False, comment="empty: all of the station"),
    sa.Column("since_ms", sa.BigInteger, nullable=False),
    sa.Column("until_ms", sa.BigInteger, nullable=False),
    sa.Column("verdict", sa.String(8), nullable=False, comment="good, suspect or bad"),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False, comment="when it was given"),
    sa.Column("void", sa.Boolean, nullable=False),
    sa.Column("pending", sa.Boolean, nullable=False, server_default=sa.false(), comment="waits for a second person"),
    sa.Column("second", sa.Text, nullable=False, server_default="", comment="who agreed"),
    sa.UniqueConstraint("station", "parameter", "since_ms", "at_ms"),
)

mute = sa.Table(
    "mute",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("station", sa.String(64), sa.ForeignKey("station.key"), nullable=False, index=True),
    sa.Column("since_ms", sa.BigInteger, nullable=False),
    sa.Column("until_ms", sa.BigInteger, nullable=False),
    sa.Column("rules", sa.JSON, nullable=False, comment="ids; an empty list: all rules"),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.UniqueConstraint("station", "since_ms"),
)

rule_version = sa.Table(
    "rule_version",
    metadata,
    sa.Column("rule", sa.String(64), primary_key=True),
    sa.Column("version", sa.String(8), primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("colour", sa.String(16), nullable=False),
    sa.Column("body", sa.Text, nullable=False, comment="the rule as TOML"),
    sa.Column("text_zh", sa.Text, nullable=False),
    sa.Column("text_en", sa.Text, nullable=False),
    sa.Column("since_ms", sa.BigInteger, nullable=False, comment="when it came into force, the last time"),
    sa.Column("until_ms", sa.BigInteger, comment="when it was replaced or taken out; NULL while in force"),
)

rule_publication = sa.Table(
    "rule_publication",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("proposed_by", sa.Text, nullable=False, comment="who asked for the backtest"),
    sa.Column("backtest", sa.Integer, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("rules", sa.Text, nullable=False, comment="all rules as TOML"),
    sa.Column("file", sa.String(16), nullable=False, comment="of the rules file it goes before; '' until it was taken"),
)

rule_trial = sa.Table(
    "rule_trial",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("rule", sa.Text, nullable=False, index=True),
    sa.Column("version", sa.String(16), nullable=False, comment="on trial"),
    sa.Column("base", sa.String(16), nullable=False, comment="the version in force beside it"),
    sa.Column("body", sa.Text, nullable=False, comment="the version on trial as TOML"),
    sa.Column("backtest", sa.Integer, nullable=False),
    sa.Column("proposed_by", sa.Text, nullable=False, comment="who asked for the backtest"),
    sa.Column("begun_by", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("begun_at_ms", sa.BigInteger, nullable=False),
    sa.Column("until_ms", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String(16), nullable=False, comment="running, over, withdrawn, adopted or superseded"),
    sa.Column("ended_at_ms", sa.BigInteger),
    sa.Column("ended_by", sa.Text, nullable=False, comment="who withdrew or adopted it"),
    sa.Column("end_reason", sa.Text, nullable=False),
)

rule_trial_finding = sa.Table(
    "rule_trial_finding",
    metadata,
    sa.Column("trial", sa.Integer, primary_key=True),
    sa.Column("candidate", sa.Boolean, primary_key=True, comment="of the version on trial, not of the one in force"),
    sa.Column("station", sa.Text, primary_key=True, comment="a gateway for its silence"),
    sa.Column("parameter", sa.Text, primary_key=True, comment="empty for a whole station"),
    sa.Column("first_ms", sa.BigInteger, primary_key=True, comment="observed_at at which it fired first"),
    sa.Column("rule", sa.Text, nullable=False),
    sa.Column("since_ms", sa.BigInteger, nullable=False),
    sa.Column("fired_ms", sa.BigInteger, nullable=False, comment="observed_at at which it fired last"),
    sa.Column("ended_ms", sa.BigInteger, comment="NULL while it lasts"),
    sa.Column("retrospective", sa.Boolean, nullable=False),
    sa.Column("flapping", sa.Boolean, nullable=False),
    sa.Column("active", sa.Boolean, nullable=False, comment="firing now"),
    sa.Column("withdrawn", sa.Boolean, nullable=False, comment="its readings turned out to be wrong"),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("colour", sa.String(16), nullable=False),
    sa.Column("value", sa.Float),
    sa.Column("text_zh", sa.Text, nullable=False),
    sa.Column("text_en", sa.Text, nullable=False),
)

backtest = sa.Table(
    "backtest",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("created_at_ms", sa.BigInteger, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True, comment="waiting, running, done or failed"),
    sa.Column("progress", sa.Float, nullable=False, comment="0 to 1"),
    sa.Column("request", sa.JSON, nullable=False),
    sa.Column("result", sa.JSON(none_as_null=True)),
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("finished_at_ms", sa.BigInteger),
)

cluster_member = sa.Table(
    "cluster_member",
    metadata,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("role", sa.String(16), nullable=False, comment="worker or bridge"),
    sa.Column("version", sa.Text, nullable=False, comment="of the program"),
    sa.Column("rules", sa.Text, nullable=False, comment="fingerprint of the rules of its file"),
    sa.Column("seen_at_ms", sa.BigInteger, nullable=False, comment="by the clock of the database"),
    sa.Column("connected_since_ms", sa.BigInteger, comment="of a bridge: NULL while devices cannot reach it"),
)

cluster_partition = sa.Table(
    "cluster_partition",
    metadata,
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("epoch", sa.BigInteger, nullable=False, comment="grows with every owner; an older one cannot commit"),
    sa.Column("worker", sa.String(128), comment="who owns it; NULL for nobody"),
    sa.Column("position", sa.BigInteger, nullable=False, comment="of the last entry of the stream that is stored"),
)

cluster_station = sa.Table(
    "cluster_station",
    metadata,
    sa.Column("station", sa.String(64), primary_key=True),
    sa.Column("partition", sa.Integer, nullable=False, index=True),
)

cluster_plan = sa.Table(
    "cluster_plan",
    metadata,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("registry", sa.BigInteger, nullable=False, comment="the registry change it was made for"),
    sa.Column("partitions", sa.Integer, nullable=False),
)
