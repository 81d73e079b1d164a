"""PostgreSQL driver settings: connection options, and adapters for text and numeric columns.

Apart from the database, because a site on SQLite needs no such driver: it is loaded with the first URL that asks.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
import sqlalchemy as sa
from numpy.typing import NDArray
from psycopg.adapt import Dumper
from psycopg.types.string import StrDumperUnknown

from infra.database import BUSY_TIMEOUT_MS
from infra.errors import ConfigurationError
from infra.texts import say

SESSION = {
    # Nothing of ours takes minutes, but a runaway statement would hold its rows, and with them the ingest, for ever.
    "statement_timeout": "300s",
    "lock_timeout": f"{BUSY_TIMEOUT_MS}ms",
    # Release the locks of a process that froze within a transaction.
    "idle_in_transaction_session_timeout": "120s",
    # A machine that vanished gives up its sessions, and the ingest's lock, after a minute and not two hours.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
CONNECTION = {
    "application_name": "riverchief",
    "connect_timeout": "5",
    "options": " ".join(f"-c {name}={value}" for name, value in SESSION.items()),
    # The same from this side: a statement sent to a machine that is gone fails within half a minute.
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
"""Options of libpq; those in the URL (``?connect_timeout=2``) take precedence."""


def options(url: sa.URL) -> dict[str, Any]:
    """Connection options for SQLAlchemy."""
    return {
        "connect_args": {name: value for name, value in CONNECTION.items() if name not in url.query},
        "pool_size": 5,
        "max_overflow": 15,  # ingest, api and a few workers together stay below the server's usual 100
        "pool_timeout": 10,
        "pool_pre_ping": True,  # a connection that died while idle is replaced before it is used
    }


def check_encoding(dbapi: Any, _record: Any) -> None:
    """Raise ConfigurationError for a database whose encoding cannot hold every text."""
    encoding = dbapi.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise ConfigurationError(say("database.encoding", name=dbapi.info.dbname, encoding=encoding))


def on_connect(dbapi: Any, _record: Any) -> None:
    """Set up a new connection."""
    dbapi.adapters.register_dumper(str, _NulEscapedText)
    dbapi.adapters.register_dumper(Doubles, _DoublesDumper)


class _NulEscapedText(StrDumperUnknown):
    """Text as PostgreSQL takes it, whoever sent it: it knows no NUL character, which then stands as ``\\x00``.

    Here and not where text comes in, because it comes in everywhere: in a comment, an event of a device, the filter of
    a list. None of them is worth a failed request, or a batch that can never be stored.
    """

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\x00", "\\x00"))


@dataclass(frozen=True, slots=True)
class Doubles:
    """(n,) doubles, sent to PostgreSQL as an array in its binary form without becoming Python objects on the way."""

    values: NDArray[np.float64]


class _DoublesDumper(Dumper):
    format = psycopg.pq.Format.BINARY
    oid = psycopg.adapters.types["float8"].array_oid

    def dump(self, obj: Doubles) -> bytes:
        cells = np.empty(len(obj.values), [("bytes", ">i4"), ("value", ">f8")])
        cells["bytes"], cells["value"] = 8, obj.values
        dimensions, has_nulls, first = 1, 0, 1
        element = psycopg.adapters.types["float8"].oid
        return struct.pack(">5i", dimensions, has_nulls, element, len(cells), first) + cells.tobytes()
