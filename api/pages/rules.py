"""The rules ``/rules``: those in force in plain words, one rule with its versions, a change of it tried on the past.

The rules begin as a file of the site. A backtest runs what somebody changed through `api.routes.backtests`; once it is
done, the change can be put on trial (`api.routes.rule_trials`), and somebody else can publish it (`api.routes.rules`)
or fetch its text as a file.
"""

from collections.abc import Mapping
from typing import Literal
from urllib.parse import quote

from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.responses import RedirectResponse

from api import problems
from api.access import needed_right
from api.pages.forms import Fields
from api.pages.menu import RULES
from api.pages.models import rules as models
from api.pages.models.rules import Edited
from api.pages.view import HEADERS, PageRoute, View, Viewing, new_id
from api.requests import whole_number
from api.routes import backtests as backtest_routes
from api.routes import rule_trials as trial_routes
from api.routes import rules as rule_routes
from api.routes.backtests import LONGEST_TEXT, NewBacktest
from governance.incidents import queries as incident_queries
from infra.errors import ConfigurationError, NotFound, Refused, WaterError
from infra.texts import Text, say
from infra.times import DAY_MS, rfc3339
from ingest.analysis import backtest_requests, trial_comparison
from ingest.analysis.backtest_requests import BacktestRequest
from ingest.rules import explain, rule_file
from ingest.rules.model import KINDS, Rule, Threshold
from ingest.state import rule_publications, rule_trials, rule_versions
from ingest.state.rule_versions import Version

PATH = RULES.path
TESTS = PATH + "/tests"
TRIALS = PATH + "/trials"
RECENT = 8
"""Backtests in the list, and trials of a rule."""
MOST_STATIONS = 20
"""Stations of a trial that are listed."""

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get(PATH)
def show(v: Viewing) -> Response:
    """The rules in force, and the newest backtests."""
    v.require(needed_right("GET", "/rules"))
    kind = v.query.get("kind", "")
    with v.context.database.read() as connection:
        in_force = rule_versions.in_force(connection)
        counted = incident_queries.counts_by_rule(
            connection, within=incident_queries.jurisdiction_filter(v.actor, theirs=False)
        )
        recent = backtest_requests.listing(connection, RECENT)
        on_trial = {one.rule: one.until_ms for one in rule_trials.running(connection) if v.now_ms < one.until_ms}
    counts = {(rule, version): (n, false) for rule, version, n, false, _ in counted}
    return v.render(
        "rules.html",
        lines=models.lines(in_force, counts, v.context.catalogue, kind),
        kinds=[one for one in KINDS if any(version.kind == one for version in in_force)],
        kind=kind,
        total=len(in_force),
        on_trial=on_trial,
        tests=[(one, [change.id for change in _changes(v, one, in_force)], _outcome(one)) for one in recent],
        days_of=models.days_of,
    )


@router.post(TESTS)
async def request_test(v: Viewing) -> Response:
    """Try a changed rule on the past; the answer leads to the backtest."""
    v.require(needed_right("POST", "/backtests"))
    async with v.request.form(max_files=0, max_fields=20, max_part_size=LONGEST_TEXT) as given:
        return await run_in_threadpool(_requested, v, given)


@router.post(TESTS + "/{number}/publish")
def publish_test(v: Viewing, number: int, given: Fields) -> Response:
    """Put the rules of a backtest in force; what was refused comes back with the reason typed."""
    v.require(needed_right("POST", "/rules"))
    reason = given.get("reason", "")[:1000]
    try:
        rule_routes.publish(v.context, v.actor, number, reason)
    except Refused as error:
        return _shown_test(v, number, 409, reason=reason, error=error.text)
    return RedirectResponse(v.to(f"{TESTS}/{number}") + "#publish", 303)


@router.get(TESTS + "/{number}")
def show_test(v: Viewing, number: int) -> Response:
    """How far a backtest is, and what came of it."""
    return _shown_test(v, number)


@router.post(TESTS + "/{number}/trial")
def try_test(v: Viewing, number: int, given: Fields) -> Response:
    """Put the changed rule on trial; the answer leads to the page of the rule."""
    v.require(needed_right("POST", "/rules/trials"))
    reason, days = given.get("reason", "")[:1000], given.get("days", "")[:20]
    try:
        trial = trial_routes.begin(v.context, v.actor, number, reason, whole_number(days, 3) or 0)
    except (Refused, ConfigurationError) as error:
        status = problems.of(error).sort.status
        return _shown_test(v, number, status, trial_reason=reason, trial_error=error.text, days_typed=days)
    return RedirectResponse(v.to(f"{PATH}/{quote(trial.rule)}", trial=trial.id) + "#trial", 303)


@router.post(TRIALS + "/{number}/{how}")
def end_trial(v: Viewing, number: int, how: Literal["withdraw", "adopt"], given: Fields) -> Response:
    """Withdraw a trial, or put its rule in force; what was refused comes back with the reason typed."""
    v.require(needed_right("POST", f"/rules/trials/{number}/{how}"))
    reason = given.get("reason", "")[:1000]
    act = trial_routes.adopt if how == "adopt" else trial_routes.withdraw
    try:
        trial = act(v.context, v.actor, number, reason)
    except Refused as error:
        with v.context.database.read() as connection:
            rule = rule_trials.get(connection, number).rule
        return _rule(v, rule, {"trial": str(number)}, status=409, trial_error=error.text, trial_reason=reason)
    return RedirectResponse(v.to(f"{PATH}/{quote(trial.rule)}", trial=number) + "#trial", 303)


def _shown_test(v: View, number: int, status: int = 200, **typed: object) -> Response:
    """The page of a backtest, its forms as they were ``typed``, with the error of either."""
    one, in_force = _test(v, number)
    with v.context.database.read() as connection:
        published = rule_publications.latest(connection)
        trial = rule_trials.of_backtest(connection, one.id)
    return v.render(
        "rules_test.html",
        status=status,
        test=one,
        published=published if published and published.backtest == one.id else None,
        own=one.by == v.actor.name,
        changes=_changes(v, one, in_force),
        outcome=_outcome(one),
        days=models.days_of(one.request),
        sentence=lambda rule: v.of(explain.sentence(rule, v.context.catalogue)),
        toml=explain.toml,
        station_names={s.key: Text(s.zh, s.en) for s in v.registries.recent().stations},
        may_publish=v.actor.may(needed_right("POST", "/rules")),
        may_try=v.actor.may(needed_right("POST", "/rules/trials")),
        trial_days=rule_trials.ALLOWED_DAYS,
        differences=models.DIFFERENCES,
        trial=trial,
        **{"reason": "", "error": None, "trial_reason": "", "trial_error": None, "days_typed": rule_trials.DEFAULT_DAYS}
        | typed,
    )


@router.get(TESTS + "/{number}/rules.toml")
def tested_file(v: Viewing, number: int) -> Response:
    """The rules of a backtest that is done, as the file that would put them in force."""
    v.require(needed_right("POST", "/rules"))
    one, _ = _test(v, number)
    if one.state != backtest_requests.DONE:
        raise Refused(say("rules_page.not_tried", number=number))
    headers = HEADERS | {"Content-Disposition": f'attachment; filename="rules-{number}.toml"'}
    return Response(one.request["rules"], media_type="application/toml", headers=headers)


@router.get(PATH + "/{rule:path}")
def show_rule(v: Viewing, rule: str) -> Response:
    """One rule with its versions; the numbers in the address stand in the form and are checked."""
    return _rule(v, rule, v.query)


def _rule(
    v: View,
    id_: str,
    typed: Mapping[str, str],
    error: Text | None = None,
    status: int = 200,
    form: str = "",
    **of_trial: object,
) -> Response:
    """The page of a rule, its form as it was typed; ``of_trial`` is what was typed to end a trial, and its error."""
    v.require(needed_right("GET", "/rules"))
    catalogue = v.context.catalogue
    with v.context.database.read() as connection:
        versions = rule_versions.versions(connection, id_)
        in_force = rule_versions.in_force(connection)
        counted = incident_queries.counts_by_rule(
            connection, within=incident_queries.jurisdiction_filter(v.actor, theirs=False)
        )
    current = next((one for one in versions if one.until_ms is None), None)
    rule = models.rule_of(current.body, catalogue) if current else None
    edited = _edited(v, rule, typed) if rule is not None else None
    changed = edited.rule if edited else None
    found: tuple[explain.RuleFault, ...] = ()
    if changed is not None:
        text = models.whole(in_force, changed)
        found = models.faults(text, id_, catalogue, v.registries.recent())
    return v.render(
        "rules_rule.html",
        status=status,
        id=id_,
        version=current or versions[0],
        title=models.title(current or versions[0], rule),
        current=current,
        versions=versions,
        counts={version: (n, false) for one, version, n, false, _ in counted if one == id_},
        scope=explain.scope(rule) if rule else None,
        threshold=isinstance(rule, Threshold),
        unit=catalogue[rule.parameter].unit if isinstance(rule, Threshold) else "",
        edited=edited,
        given=(models.numbers_of(rule) if isinstance(rule, Threshold) else {}) | dict(edited.typed if edited else {}),
        numbers=models.FIELDS,
        sentence=explain.sentence(changed, catalogue) if changed else None,
        is_changed=bool(changed and rule and changed.version != rule.version),
        faults=found,
        error=error,
        may_test=v.actor.may(needed_right("POST", "/backtests")),
        days=models.DAYS,
        chosen_days=typed.get("days", str(models.USUAL_DAYS)),
        form=form or new_id(),
        as_text="toml" in typed,
        trial=_trial(v, id_, typed.get("trial", ""), of_trial),
        station_names={s.key: Text(s.zh, s.en) for s in v.registries.recent().stations},
        most_examples=models.EXAMPLES,
        most_stations=MOST_STATIONS,
    )


def _trial(v: View, rule: str, wanted: str, typed: Mapping[str, object]) -> dict[str, object] | None:
    """The trial of a rule that is asked for, else the newest, with what both versions found; None without any."""
    with v.context.database.read() as connection:
        trials = rule_trials.of_rule(connection, rule)[:RECENT]
        if not trials:
            return None
        one = next((each for each in trials if str(each.id) == wanted), trials[0])
        found = rule_trials.findings(connection, one)
    try:
        tried = models.rule_of(one.body, v.context.catalogue)
    except ConfigurationError:  # the catalogue changed since
        tried = None
    state = one.state_at(v.now_ms)
    ends = f"/rules/trials/{one.id}"
    return {
        "trial": one,
        "others": trials,
        "state": state,
        "sentence": explain.sentence(tried, v.context.catalogue) if tried else None,
        "found": trial_comparison.compare(one, found, v.now_ms),
        "own": one.proposed_by == v.actor.name,
        "may_withdraw": state == rule_trials.RUNNING and v.actor.may(needed_right("POST", f"{ends}/withdraw")),
        "may_adopt": state in (rule_trials.RUNNING, rule_trials.OVER)
        and v.actor.may(needed_right("POST", f"{ends}/adopt")),
        "error": typed.get("trial_error"),
        "reason": typed.get("trial_reason", ""),
    }


def _edited(v: View, rule: Rule, typed: Mapping[str, str]) -> Edited:
    catalogue = v.context.catalogue
    if "toml" in typed:
        return models.read_toml(rule.id, typed["toml"], catalogue)
    if isinstance(rule, Threshold):
        return models.read_numbers(rule, typed, catalogue)
    return Edited({}, {}, rule)


def _requested(v: View, given: FormData) -> Response:
    typed = {name: value for name, value in given.items() if isinstance(value, str)}
    id_, form, catalogue = typed.get("rule", ""), typed.get("form", "")[:40], v.context.catalogue
    with v.context.database.read() as connection:
        in_force = rule_versions.in_force(connection)
    current = next((one for one in in_force if one.rule == id_), None)
    if current is None:
        raise NotFound(say("rule.never_in_force", rule=id_[:80]))
    rule = models.rule_of(current.body, catalogue)
    edited = _edited(v, rule, typed) if rule is not None else None

    def again(error: Text | None = None, status: int = 422) -> Response:
        return _rule(v, id_, typed, error, status, form)

    if edited is None or edited.rule is None:
        return again()
    if edited.rule.version == current.version:
        return again(say("rules_page.unchanged"))
    days = typed.get("days", "")
    if days not in {str(one) for one in models.DAYS}:
        return again(say("rules_page.no_days"))
    new = NewBacktest(rules=models.whole(in_force, edited.rule), since=rfc3339(v.now_ms - int(days) * DAY_MS))
    try:
        made = backtest_routes.ask(v.context, v.registries, v.actor, new, form)
    except WaterError as error:
        return again(error.text, problems.of(error).sort.status)
    return RedirectResponse(v.to(f"{TESTS}/{made.id}"), 303)


def _test(v: View, number: int) -> tuple[BacktestRequest, list[Version]]:
    v.require(needed_right("GET", "/backtests"))
    with v.context.database.read() as connection:
        return backtest_requests.get(connection, number), rule_versions.in_force(connection)


def _changes(v: View, one: BacktestRequest, in_force: list[Version]) -> tuple[models.Change, ...]:
    """How the rules of a backtest differ from those in force; none where they can no longer be read."""
    try:
        tried = rule_file.read(one.request["rules"], v.context.catalogue)
    except ConfigurationError:
        return ()
    return models.changes(tried, in_force)


def _outcome(one: BacktestRequest) -> models.Outcome | None:
    return models.outcome(one.result) if one.state == backtest_requests.DONE and one.result else None
