"""The assessment ``/assessment``: a month by river and by unit, the rows behind each number, and the Excel file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import RedirectResponse

from api import assessment, problems
from api.access import needed_right
from api.assessment import XLSX
from api.pages.menu import ASSESSMENT, INCIDENT, LEDGER
from api.pages.models import assessment as models
from api.pages.models import ledger as ledger_models
from api.pages.models.assessment import Column, Line, Sources, Table
from api.pages.view import HEADERS, PageRoute, View, Viewing
from api.requests import Number, whole_number
from api.routes import assessments as routes
from api.routes.attachments import keep, one_at_a_time
from governance import assessment_appeals, assessment_periods
from governance.assessment.model import Assessment, GroupBy, Share
from governance.assessment_periods import PeriodKind
from governance.incidents.file_content import MAX_BYTES, examine
from governance.organisation.roles import ROLES_WITH_TERMS
from governance.people import store as people_store
from governance.reports import citizen_reports, patrols
from infra.errors import NotFound, Refused, WaterError
from infra.texts import Text, say
from infra.times import beijing_day
from ingest import ledger
from ingest.storage import maintenance
from sensors.coverage import total_km
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Registry

EVALUATE = needed_right("POST", "/assessments/periods")
KEEPING = needed_right("POST", "/attachments")
ROWS = 30
"""Rows of a list before "more"."""

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@dataclass(frozen=True)
class Typed:
    """What somebody typed into which form, and why it was refused."""

    do: str = ""
    given: Mapping[str, str] = field(default_factory=dict)
    wrong: Text | None = None
    status: int = 200


@router.get(ASSESSMENT.path)
def show(v: Viewing) -> Response:
    """A month: both tables, the rows behind the number of the address, appeals and marked periods."""
    v.require(ASSESSMENT.right)
    return _show(v, Typed())


def _show(v: View, typed: Typed) -> Response:
    month = v.query.get("month", "").strip() or models.month_now(v.now_ms)
    context = v.context
    made, registry = assessment.make_each(
        context.database, context.catalogue, month, models.TABLES, context.formula, now_ms=v.now_ms, who=v.actor
    )
    belongs = assessment.groups(registry, ())
    measured = {s.reach for s in registry.in_service if s.reach and v.actor.covers(s.region, s.reach)}
    with context.database.read() as connection:
        more = _sources(connection, made[0], registry, v)
    tables = [
        models.table(
            one,
            models.Naming(
                lambda key, by=one.by: assessment.name_of(by, key, registry),  # type: ignore[misc]
                lambda reach, by=one.by: belongs.water(by, reach, v.now_ms),  # type: ignore[misc]
                belongs.street,
            ),
            say("assessment.total"),
            more,
            measured,
        )
        for one in made
    ]
    known = models.months(v.now_ms)
    behind = _behind(v, made, tables, registry, more)
    weights = context.formula.weights
    said = assessment.noted(context.database, registry, month, v.actor)
    own = _own(v, made, registry)
    return v.render(
        "assessment.html",
        status=typed.status,
        typed=typed,
        said=said,
        appeals={(one.group_by, one.key, one.figure): one for one in said.appeals},
        decides=lambda one: v.actor.may(EVALUATE) and assessment_appeals.may_decide(one, v.actor),
        form=_appeal_form(v, made, registry, own),
        own=own,
        may_mark=v.actor.may(EVALUATE),
        kinds=tuple(PeriodKind),
        frozen=assessment.frozen,
        row_name=lambda one: assessment.name_of(GroupBy(one.group_by), one.key, registry),
        place_of=lambda one: assessment.place_of(one, registry),
        regions=[(r.code, Text(r.zh, r.en)) for r in registry.regions if v.actor.covers(r.code)],
        waters=[(r.key, Text(r.zh, r.en)) for r in registry.reaches if r.key in measured],
        everywhere=v.actor.regions is None,
        made=made[0],
        tables=tables,
        total=tables[1].total,
        pieces={one.by: models.piece(len(one.lines), v.query.get(f"{one.by}_page", ""), ROWS) for one in tables},
        outcome=models.OUTCOME,
        activity=models.ACTIVITY,
        opened=models.OPENED,
        months=known if month in known else [month, *known],
        weights=[(name, weight / sum(weights.values())) for name, weight in weights.items() if weight],
        behind=behind,
        names={reach.key: Text(reach.zh, reach.en) for reach in registry.reaches},
        class_of=lambda text: WaterClass.of(text) if text else None,
        may_open=v.actor.may(INCIDENT.right),
        may_ledger=v.actor.may(LEDGER.right),
    )


@router.post(ASSESSMENT.path + "/sheet")
async def sheet(v: Viewing) -> Response:
    """The month as an Excel file; that it was taken out is an entry of the trail."""
    v.require(ASSESSMENT.right)
    month = v.query.get("month", "").strip() or models.month_now(v.now_ms)
    by = GroupBy(v.query["by"]) if v.query.get("by") in set(GroupBy) else GroupBy.STREET
    data = await run_in_threadpool(routes.spreadsheet, v.context, v.actor, month, by)
    named = {"Content-Disposition": f'attachment; filename="assessment-{month}-{by}.xlsx"'}
    return Response(data, media_type=XLSX, headers=HEADERS | named)


@router.post(ASSESSMENT.path)
async def say_something(v: Viewing) -> Response:
    """Appeal, decide an appeal, mark days or withdraw a mark, as the form says."""
    v.require(ASSESSMENT.right)
    async with v.request.form(max_files=1, max_fields=20) as form:
        given = {
            name: value.replace("\x00", "").strip()[:2000] for name, value in form.items() if isinstance(value, str)
        }
        files = [one for one in form.values() if isinstance(one, UploadFile) and one.filename]
        data = await files[0].read(MAX_BYTES + 1) if files else b""
        name = (files[0].filename or "")[:120] if files else ""
    ways = {"appeal": _appeal, "decide": _decide, "mark": _mark, "withdraw": _withdraw}
    if given.get("do") not in ways:
        raise NotFound(say("page_frame.no_page"))
    try:
        if data:
            v.require(KEEPING)
            if len(data) > MAX_BYTES:
                raise Refused(say("attachment.too_large", size=len(data), most=MAX_BYTES))
            keeping = partial(keep, v.context, data, examine(data), name, v.actor.name)
            given["attachment"] = (await one_at_a_time(v.request, keeping)).id
        await run_in_threadpool(ways[given["do"]], v, given)
    except WaterError as error:
        typed = Typed(given["do"], given, error.text, problems.of(error).sort.status)
        return await run_in_threadpool(_show, v, typed)
    target = v.to(ASSESSMENT.path, month=v.query.get("month") or None, done=given["do"])
    return RedirectResponse(f"{target}#{'periods' if given['do'] in ('mark', 'withdraw') else 'appeals'}", 303)


@router.get(ASSESSMENT.path + "/appeals/{number}/evidence")
def evidence(v: Viewing, number: Number) -> Response:
    """The attachment of an appeal."""
    v.require(ASSESSMENT.right)
    return routes.evidence(v.context, v.actor, v.registries.recent(), number)


def _appeal(v: View, given: Mapping[str, str]) -> None:
    """An appeal; sent twice, it is the one that waits already."""
    names = ("group_by", "key", "figure", "reason", "link", "attachment")
    values: dict[str, Any] = {name: given.get(name, "") for name in names}
    new = routes.NewAppeal.model_construct(month=v.query.get("month", ""), **values)
    with v.context.database.read() as connection:
        mine = [one for one in assessment_appeals.of_month(connection, new.month) if one.by == v.actor.name]
    if not any(
        (one.group_by, one.key, one.figure, one.reason) == (new.group_by, new.key, new.figure, new.reason)
        for one in mine
    ):
        routes.appeal(v.context, v.actor, new)


def _decide(v: View, given: Mapping[str, str]) -> None:
    v.require(EVALUATE)
    decision = routes.Decision.model_construct(accepted=given.get("accepted") == "1", remark=given.get("remark", ""))
    number = whole_number(given.get("number", ""), 9) or 0
    routes.decide(v.context, v.actor, v.registries.recent(), number, decision)


def _mark(v: View, given: Mapping[str, str]) -> None:
    """A marked period; sent twice, it is there once."""
    v.require(EVALUATE)
    names = ("kind", "first", "last", "region", "reach", "reason")
    values: dict[str, Any] = {name: given.get(name, "") for name in names}
    new = routes.NewMarkedPeriod.model_construct(**values)
    with v.context.database.read() as connection:
        there = assessment_periods.of_month(connection, new.first[:7])
    if not any(all(getattr(one, name) == getattr(new, name) for name in names) for one in there):
        routes.mark(v.context, v.actor, v.registries.recent(), new)


def _withdraw(v: View, given: Mapping[str, str]) -> None:
    v.require(EVALUATE)
    routes.withdraw(v.context, v.actor, whole_number(given.get("number", ""), 9) or 0)


def _open(made: Assessment, now_ms: int) -> bool:
    """Whether somebody may appeal now."""
    return not made.trial and now_ms <= made.appeals_until_ms


def _own(v: View, made: Sequence[Assessment], registry: Registry) -> Callable[[str, str], bool]:
    """Whether who looks may appeal now against figures of a row (kind, key); asked of the rows that are shown."""
    if not _open(made[0], v.now_ms) or v.actor.role not in ROLES_WITH_TERMS:
        return lambda by, key: False
    with v.context.database.read() as connection:
        terms = people_store.appointments(connection)
    keys = {one.by.value: {row.key for row in one.rows} for one in made}

    def own(by: str, key: str) -> bool:
        known = key in keys.get(by, ())
        return known and assessment.answers(v.actor, GroupBy(by), key, made[0], registry, terms, v.now_ms)

    return own


def _appeal_form(
    v: View, made: Sequence[Assessment], registry: Registry, own: Callable[[str, str], bool]
) -> dict[str, object] | None:
    """The form against the figures of the row that the address names; None for no row of one's own."""
    by, key = v.query.get("appeal", ""), v.query.get("of", "")
    if not own(by, key):
        return None
    one = made[models.TABLES.index(GroupBy(by))]
    row = next(row for row in one.rows if row.key == key)
    figures = [(str(name), f"{share.good}/{share.of}") for name, share in row.shares.items() if share.value is not None]
    if row.score is not None:
        figures.append((assessment_appeals.SCORE, f"{row.score:.2f}"))
    return {"by": by, "key": key, "name": assessment.name_of(one.by, key, registry), "figures": figures}


def _sources(connection: sa.Connection, made: Assessment, registry: Registry, v: View) -> Sources:
    """What the tables show beside the trail."""
    start_ms, end_ms = made.start_ms, made.end_ms
    stations: dict[str, list[str]] = {}
    reach_of = {station.key: station.reach for station in registry.stations}
    for key, reach in reach_of.items():
        stations.setdefault(reach, []).append(key)
    accounts = ledger.accounts(connection, days=(f"{made.month}-01", f"{made.month}-31"), limit=1_000_000)
    today = beijing_day(v.now_ms).isoformat()
    arrived: dict[str, Share] = {}
    for account in accounts:
        if account.day < today and ledger_models.is_sent_known(account) and account.station in reach_of:
            reach = reach_of[account.station]
            due = (account.sent or 0) - account.duplicate
            arrived[reach] = arrived.get(reach, Share()) + Share(account.stored, due)
    works = {
        reach_of.get(mute.station, "")
        for _, mute in maintenance.mutes(connection)
        if mute.since_ms < end_ms and mute.until_ms > start_ms
    }
    verdicts = {
        number: models.Verdict(*counts)
        for number, counts in citizen_reports.objections(connection, start_ms, end_ms).items()
    }
    passed = patrols.passed_water(connection, start_ms, end_ms) or {}
    km = {reach: total_km(spans) for reach, spans in passed.items()}
    return Sources(verdicts, patrols.walked(connection, start_ms, end_ms), arrived, works - {""}, km)


def _behind(
    v: View, made: Sequence[Assessment], tables: Sequence[Table], registry: Registry, more: Sources
) -> dict[str, object] | None:
    """The rows behind the number that the address names; None where it names none. Raises NotFound."""
    name = v.query.get("rows", "")
    if not name:
        return None
    by, key = v.query.get("by", GroupBy.REACH), v.query.get("of", "")
    if name not in models.OPENED or by not in models.TABLES:
        raise NotFound(say("page_frame.no_page"))
    place = models.TABLES.index(GroupBy(by))
    one, column = made[place], Column(name)
    line = next((line for line in [*tables[place].lines, tables[place].total] if line.key == key), None)
    if line is None:
        raise NotFound(say("page_frame.no_page"))
    found: list[object]
    if column is Column.WATER:
        found = list(models.days_of(one.water, line.reaches))
    elif column is Column.PATROLS:
        found = list(_patrols(v, line, one))
    elif column is Column.DATA:
        found = list(_stations(v, line, one.month, registry))
    else:
        street = assessment.groups(registry, ()).street
        mine = [c for c in one.cases if key == models.ALL or models.key_of(one.by, c, street) == key]
        counted = [(c, models.counts(column, c, more.verdicts.get(c.id, models.Verdict()))) for c in mine]
        found = [(c, share) for c, share in counted if share.of]
    first, end, further = models.piece(len(found), v.query.get("page", ""), ROWS)
    return {"column": column, "line": line, "by": by, "rows": found[first:end], "total": len(found), "more": further}


def _patrols(v: View, line: Line, made: Assessment) -> list[patrols.Patrol]:
    """The patrols of a row's reaches in the month, newest first; persons are not named."""
    found = []
    with v.context.database.read() as connection:
        for reach in line.reaches:
            listed = patrols.listing(connection, reach=reach, start_ms=made.start_ms, end_ms=made.end_ms, limit=200)
            found += [one for _, one in listed]
    return sorted(found, key=lambda one: -one.started_ms)


def _stations(v: View, line: Line, month: str, registry: Registry) -> list[tuple[str, Text, ledger_models.Rate]]:
    """(Key, name, rate) of the stations of a row's reaches."""
    today = beijing_day(v.now_ms).isoformat()
    found = []
    with v.context.database.read() as connection:
        accounts: dict[str, list[ledger.Account]] = {}
        for account in ledger.accounts(connection, days=(f"{month}-01", f"{month}-31"), limit=1_000_000):
            accounts.setdefault(account.station, []).append(account)
    for station in registry.stations:
        if station.reach in line.reaches:
            rate = ledger_models.rate(accounts.get(station.key, ()), today)
            found.append((station.key, Text(station.zh, station.en), rate))
    return found
