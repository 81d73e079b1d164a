"""The queue of requested backtests, with their progress and results."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from infra.errors import NotFound
from infra.records import from_row
from infra.texts import say
from ingest.storage.tables import backtest as table

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
MAX_FINISHED = 200
"""Finished backtests that are kept."""


@dataclass(frozen=True, slots=True)
class BacktestRequest:
    """One backtest: the request, the result once it is done, the error where it failed."""

    id: int
    created_at_ms: int
    by: str
    state: str
    progress: float
    request: Mapping[str, Any]
    result: Mapping[str, Any] | None
    error: str
    finished_at_ms: int | None


def add(connection: sa.Connection, request: Mapping[str, Any], by: str, now_ms: int) -> int:
    """Queue a request; its number."""
    values = {"created_at_ms": now_ms, "by": by, "state": WAITING, "progress": 0.0, "request": request, "error": ""}
    number = int(connection.execute(sa.insert(table).values(values).returning(table.c.id)).scalar_one())
    connection.execute(sa.delete(table).where(table.c.id <= number - MAX_FINISHED, table.c.state.in_((DONE, FAILED))))
    return number


def get(connection: sa.Connection, number: int) -> BacktestRequest:
    """The backtest of this number; raises NotFound."""
    query = sa.select(table).where(table.c.id == number)
    row = connection.execute(query).one_or_none() if 0 < number < 2**31 else None
    if row is None:
        raise NotFound(say("backtest.unknown", number=number))
    return from_row(BacktestRequest, row)


def listing(connection: sa.Connection, limit: int) -> list[BacktestRequest]:
    """The newest requests."""
    rows = connection.execute(sa.select(table).order_by(table.c.id.desc()).limit(limit))
    return [from_row(BacktestRequest, row) for row in rows]


def has_waiting(connection: sa.Connection) -> bool:
    """Whether a request waits; cheap enough to call every second."""
    return connection.execute(sa.select(table.c.id).where(table.c.state == WAITING).limit(1)).first() is not None


def claim_next(connection: sa.Connection) -> BacktestRequest | None:
    """The oldest waiting request, now marked as running."""
    query = sa.select(table).where(table.c.state == WAITING).order_by(table.c.id).limit(1).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    connection.execute(sa.update(table).where(table.c.id == row.id).values(state=RUNNING, progress=0.0))
    return from_row(BacktestRequest, row)


def requeue_running(connection: sa.Connection) -> None:
    """Queue the requests again that were running when their process ended."""
    connection.execute(sa.update(table).where(table.c.state == RUNNING).values(state=WAITING, progress=0.0))


def report_progress(connection: sa.Connection, number: int, progress: float) -> None:
    """Store the progress, 0 to 1."""
    connection.execute(sa.update(table).where(table.c.id == number).values(progress=progress))


def finish(connection: sa.Connection, number: int, result: Mapping[str, Any], now_ms: int) -> None:
    values = {"state": DONE, "progress": 1.0, "result": result, "finished_at_ms": now_ms}
    connection.execute(sa.update(table).where(table.c.id == number).values(values))


def fail(connection: sa.Connection, number: int, error: str, now_ms: int) -> None:
    values = {"state": FAILED, "error": error[:2000], "finished_at_ms": now_ms}
    connection.execute(sa.update(table).where(table.c.id == number, table.c.state == RUNNING).values(values))
