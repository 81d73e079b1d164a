"""Rules on trial: a changed rule judges live readings beside the one in force for some days, and informs nobody."""

from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import Response
from pydantic import Field

from api.access import Who
from api.context import Context
from api.requests import Limit, RequestContext, Strict, Words
from api.responses import answer, viewed, when
from api.routes.router import subject_router
from governance.organisation.roles import Actor
from ingest.analysis import backtest_requests, trial_comparison
from ingest.analysis.trial_comparison import Comparison, VersionFindings
from ingest.state import rule_trials
from ingest.state.rule_publications import Publisher, Tried
from ingest.state.rule_trials import Trial, TrialFinding

router = subject_router("rules", "/rules/trials")

EXAMPLES = 50
"""Findings of each list in an answer."""


class NewTrial(Strict):
    """The rule that a backtest changed, to be judged beside the one in force."""

    backtest: int
    days: int = Field(rule_trials.DEFAULT_DAYS, description="1 to 30")
    reason: Words = Field(min_length=1, max_length=1000)


class TrialEnd(Strict):
    """Why a trial is withdrawn, or its rule put in force."""

    reason: Words = Field(min_length=1, max_length=1000)


@dataclass(frozen=True, slots=True)
class TrialFindingView:
    """What a version found; `ended` is null while it lasts, `parameter` empty for a whole station."""

    station: str
    parameter: str
    colour: str
    since: str | None
    ended: str | None
    value: float | None
    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class ComparisonView:
    """Both versions; `counts` of what both found and of what only one did, with the newest of the latter."""

    in_force: VersionFindings
    candidate: VersionFindings
    counts: Mapping[str, int]
    only_candidate: list[TrialFindingView]
    only_in_force: list[TrialFindingView]


@dataclass(frozen=True, slots=True)
class TrialView:
    """A trial: `running`, `over`, `withdrawn`, `adopted` or `superseded`; `findings` only for a single trial."""

    id: int
    rule: str
    version: str
    base: str
    body: str
    backtest: int
    proposed_by: str
    begun_by: str
    reason: str
    begun: str | None
    until: str | None
    state: str
    ended: str | None
    ended_by: str
    end_reason: str
    found: ComparisonView | None


@dataclass(frozen=True, slots=True)
class TrialList:
    """Newest first, without what they found."""

    items: list[TrialView]


@router.get("", response_model=TrialList)
def list_trials(context: RequestContext, limit: Limit = 50) -> Response:
    """The rules on trial, and those that were."""
    with context.database.read() as connection:
        return answer(TrialList([_view(context, one) for one in rule_trials.listing(connection, limit)]))


@router.post("", status_code=201, response_model=TrialView)
def begin_trial(context: RequestContext, who: Who, new: NewTrial) -> Response:
    """Judge the rule that a backtest changed beside the one in force; what it finds is recorded and informs nobody.

    409 without a backtest that is done and changed one rule, and while a trial of that rule runs.
    """
    return answer(_view(context, begin(context, who, new.backtest, new.reason, new.days)), 201)


def begin(context: Context, who: Actor, number: int, reason: str, days: int) -> Trial:
    """Begin a trial. Raises NotFound, ConfigurationError and Refused."""
    with context.database.write() as connection:
        one = backtest_requests.get(connection, number)
        is_done = one.state == backtest_requests.DONE
        tried = Tried(one.id, one.by, one.created_at_ms, is_done, one.request["rules"])
        by = Publisher(who.name, who.role, reason)
        return rule_trials.begin(connection, tried, by, context.catalogue, context.clock_ms(), days)


@router.get("/{number}", response_model=TrialView)
def get_trial(context: RequestContext, number: int) -> Response:
    """A trial, and what the rule found beside the version in force."""
    with context.database.read() as connection:
        one = rule_trials.get(connection, number)
        found = rule_trials.findings(connection, one)
    compared = trial_comparison.compare(one, found, context.clock_ms())
    return answer(_view(context, one, compared))


@router.post("/{number}/withdraw", response_model=TrialView)
def withdraw_trial(context: RequestContext, who: Who, number: int, end: TrialEnd) -> Response:
    """End a running trial; what it found stays. 409 where it has ended."""
    return answer(_view(context, withdraw(context, who, number, end.reason)))


def withdraw(context: Context, who: Actor, number: int, reason: str) -> Trial:
    """Withdraw a trial. Raises NotFound and Refused."""
    with context.database.write() as connection:
        return rule_trials.withdraw(connection, number, Publisher(who.name, who.role, reason), context.clock_ms())


@router.post("/{number}/adopt", response_model=TrialView)
def adopt_trial(context: RequestContext, who: Who, number: int, end: TrialEnd) -> Response:
    """Put the rule on trial in force; the ingest takes it within seconds.

    409 for whoever asked for the backtest (four eyes), after a withdrawal, and where the rule changed since.
    """
    return answer(_view(context, adopt(context, who, number, end.reason)))


def adopt(context: Context, who: Actor, number: int, reason: str) -> Trial:
    """Put the rule on trial in force. Raises NotFound and Refused."""
    by = Publisher(who.name, who.role, reason)
    with context.database.write() as connection:
        return rule_trials.adopt(connection, number, by, context.catalogue, context.clock_ms())


def _view(context: Context, one: Trial, compared: Comparison | None = None) -> TrialView:
    now_ms = context.clock_ms()
    return viewed(
        TrialView,
        one,
        state=one.state_at(now_ms),
        begun=when(one.begun_at_ms),
        ended=when(one.ended_at_ms if one.state_at(now_ms) == one.state else one.until_ms),
        found=None if compared is None else _compared(compared),
    )


def _compared(one: Comparison) -> ComparisonView:
    counts = {name: len(getattr(one, name)) for name in ("both", "only_candidate", "only_in_force")}
    return ComparisonView(
        one.in_force,
        one.candidate,
        counts,
        [_finding(f) for f in one.only_candidate[:EXAMPLES]],
        [_finding(f) for f in one.only_in_force[:EXAMPLES]],
    )


def _finding(one: TrialFinding) -> TrialFindingView:
    return viewed(TrialFindingView, one, zh=one.text_zh, en=one.text_en)
