"""The assessment ``/assessment``: a month by river and by unit, the rows behind each number, and the Excel file."""

from collections.abc import Sequence

import sqlalchemy as sa
from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool

from api import assessment
from api.access import foreign
from api.assessment import XLSX
from api.pages.menu import ASSESSMENT, INCIDENT, LEDGER
from api.pages.models import assessment as models
from api.pages.models import ledger as ledger_models
from api.pages.models.assessment import Column, Line, Sources, Table
from api.pages.view import HEADERS, PageRoute, View, Viewing
from api.routes.assessments import spreadsheet
from governance.assessment import Assessment, GroupBy, Share
from governance.reports import citizen_reports, patrols
from infra.errors import NotFound
from infra.texts import Text, say
from infra.times import beijing_day
from ingest import ledger
from ingest.storage import maintenance
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Registry

ROWS = 30
"""Rows of a list before "more"."""

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get(ASSESSMENT.path)
def show(v: Viewing) -> Response:
    """A month: both tables, and the rows behind the number of the address."""
    v.require(ASSESSMENT.right)
    month = v.query.get("month", "").strip() or models.month_now(v.now_ms)
    context = v.context
    made, registry = assessment.make_each(
        context.database, context.catalogue, month, models.TABLES, context.formula, now_ms=v.now_ms, who=v.actor
    )
    belongs = assessment.groups(registry, ())
    measured = {s.reach for s in registry.stations if s.reach and v.actor.covers(s.region, s.reach)}
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
    return v.render(
        "assessment.html",
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
    if (refused := foreign(v.request.headers)) is not None:
        return refused.response()
    v.require(ASSESSMENT.right)
    month = v.query.get("month", "").strip() or models.month_now(v.now_ms)
    by = GroupBy(v.query["by"]) if v.query.get("by") in set(GroupBy) else GroupBy.STREET
    data = await run_in_threadpool(spreadsheet, v.context, v.actor, month, by)
    named = {"Content-Disposition": f'attachment; filename="assessment-{month}-{by}.xlsx"'}
    return Response(data, media_type=XLSX, headers=HEADERS | named)


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
    return Sources(verdicts, patrols.walked(connection, start_ms, end_ms), arrived, works - {""})


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
