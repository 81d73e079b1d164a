"""Rules tried on the past: asked for here, done in the background, read when it is done."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Response
from pydantic import Field

from api.access import Who, on_behalf
from api.context import Context
from api.registries import Registries, find
from api.requests import By, Limit, RequestContext, RequestRegistries, Strict, Words, instant
from api.responses import answer, viewed, when
from api.routes.router import subject_router
from governance.organisation.roles import Actor
from infra.errors import ConfigurationError
from infra.texts import say
from infra.times import DAY_MS
from ingest.analysis import backtest_requests
from ingest.rules import rule_file

router = subject_router("rules", "/backtests")

LONGEST_MS = 366 * DAY_MS
LONGEST_TEXT = 200_000
RECENT = 20
"""Backtests among which one of the same form is looked for."""


class NewBacktest(Strict):
    """Rules to try, as a file would hold them, and the past to try them on; they are compared with those in force."""

    rules: Words = Field(min_length=1, max_length=LONGEST_TEXT, description="TOML as in config/rules.toml")
    since: str = Field(description="RFC 3339")
    until: str | None = Field(None, description="RFC 3339; now where not given")
    stations: list[Words] = Field(default_factory=list, description="left out: all")
    by: By = None


@dataclass(frozen=True, slots=True)
class BacktestView:
    """A backtest: `waiting`, `running`, `done` or `failed`; `result` once it is done, `error` where it failed."""

    id: int
    state: str
    progress: float
    created: str | None
    finished: str | None
    by: str
    since: str | None
    until: str | None
    stations: list[str]
    error: str
    result: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class BacktestList:
    """Newest first, without their results."""

    items: list[BacktestView]


@router.post("", status_code=202, response_model=BacktestView)
def request_backtest(context: RequestContext, registries: RequestRegistries, who: Who, new: NewBacktest) -> Response:
    """Ask for a backtest; 202 with its number, to be asked for until it is done. Faults of the rules are all told."""
    made = ask(context, registries, who, new)
    return answer(_view(made), 202, headers={"Location": f"/api/v1/backtests/{made.id}"})


def ask(
    context: Context, registries: Registries, who: Actor, new: NewBacktest, form: str = ""
) -> backtest_requests.BacktestRequest:
    """Queue a backtest; a ``form`` that was sent before gives the backtest it asked for.

    Raises ConfigurationError with the faults of the rules.
    """
    now_ms, by = context.clock_ms(), on_behalf(who, new.by).name
    since_ms = instant("since", new.since)
    until_ms = now_ms if new.until is None else min(instant("until", new.until), now_ms)
    if not 0 < until_ms - since_ms <= LONGEST_MS:
        raise ConfigurationError(say("backtest.span", since=new.since))
    rule_file.read(new.rules, context.catalogue)
    registry = registries.now()
    for key in new.stations:
        find(registry, key)
    request = {"rules": new.rules, "since_ms": since_ms, "until_ms": until_ms, "stations": new.stations}
    if form:
        request["form"] = form
    with context.database.write() as connection:
        if form:
            recent = backtest_requests.listing(connection, RECENT)
            if sent := [one for one in recent if one.request.get("form") == form and one.by == by]:
                return sent[0]
        return backtest_requests.get(connection, backtest_requests.add(connection, request, by, now_ms))


@router.get("", response_model=BacktestList)
def list_backtests(context: RequestContext, limit: Limit = 50) -> Response:
    """The backtests that were asked for, newest first."""
    with context.database.read() as connection:
        found = backtest_requests.listing(connection, limit)
    return answer(BacktestList([_view(one, whole=False) for one in found]))


@router.get("/{number}", response_model=BacktestView)
def get_backtest(context: RequestContext, number: int) -> Response:
    """How far a backtest is, and what came of it."""
    with context.database.read() as connection:
        return answer(_view(backtest_requests.get(connection, number)))


def _view(one: backtest_requests.BacktestRequest, *, whole: bool = True) -> BacktestView:
    return viewed(
        BacktestView,
        one,
        created=when(one.created_at_ms),
        finished=when(one.finished_at_ms),
        since=when(one.request["since_ms"]),
        until=when(one.request["until_ms"]),
        stations=one.request["stations"],
        result=one.result if whole else None,
    )
