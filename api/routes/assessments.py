"""Assessment (考核) of a month: by chief, street or reach; as JSON or as an Excel file."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Response

from api import assessment, export_log
from api.access import Who
from api.assessment import XLSX
from api.context import Context
from api.requests import JSON, Accept, RequestContext, preferred
from api.responses import VARY, answer, when
from governance.assessment import Assessment, GroupBy, Indicator, Row
from governance.organisation.roles import Actor
from sensors.stations import Registry

router = APIRouter(prefix="/assessments", tags=["assessments"])


@dataclass(frozen=True, slots=True)
class ShareView:
    """`good` of `of`; `value` from 0 to 1, null where nothing can be told. Not `available`: nobody records it."""

    good: int
    of: int
    value: float | None
    available: bool


@dataclass(frozen=True, slots=True)
class RowView:
    """A chief, street or reach; `key` is empty for what belongs to none."""

    key: str
    zh: str
    en: str
    cases: int
    indicators: dict[Indicator, ShareView]
    improvement: float | None
    score: float | None


@dataclass(frozen=True, slots=True)
class AssessmentView:
    """The month's rows and its total, the weights, and up to which entry of the trail it was made.

    `example`: the formula is the shipped example and no site's own. `trial`: the month, or its days of grace, are not
    over; what is not due yet counts for nothing, and `score` is null while less than half of the weights are known.
    """

    month: str
    by: GroupBy
    example: bool
    trial: bool
    weights: dict[Indicator, float]
    until: str | None
    last_entry: int
    head: str
    rows: list[RowView]
    total: RowView


@router.get("", response_model=AssessmentView, responses={200: {"content": {XLSX: {}}}})
def get_assessment(
    context: RequestContext,
    who: Who,
    month: Annotated[str, Query(description="2026-10, Beijing time")],
    by: Annotated[GroupBy, Query(description="what a row stands for")] = GroupBy.STREET,
    accept: Accept = JSON,
) -> Response:
    """A month's assessment, made from the trail; as Excel with `Accept` of a spreadsheet. An export is an entry.

    Chiefs and their deputies see what lies in their regions, themselves included, and the total of that.
    """
    if preferred(accept, (JSON, XLSX)) == XLSX:
        named = {"Content-Disposition": f'attachment; filename="assessment-{month}-{by}.xlsx"', **VARY}
        return Response(spreadsheet(context, who, month, by), media_type=XLSX, headers=named)
    now_ms = context.clock_ms()
    made, registry = assessment.make(
        context.database, context.catalogue, month, by, context.formula, now_ms=now_ms, who=who
    )
    return answer(view(made, registry), headers=VARY)


def spreadsheet(context: Context, who: Actor, month: str, by: GroupBy) -> bytes:
    """The assessment as an Excel file, which is an entry of the trail. Raises ConfigurationError for no month."""
    now_ms, database = context.clock_ms(), context.database
    made, registry = assessment.make(database, context.catalogue, month, by, context.formula, now_ms=now_ms, who=who)
    data = assessment.sheet(made, registry)
    body = {"month": month, "by": by, "format": "xlsx"}
    export_log.note(database, "assessment", f"assessment/{month}", data, body, by=who.name, role=who.role, at_ms=now_ms)
    return data


def view(made: Assessment, registry: Registry) -> AssessmentView:
    """An assessment as it is answered."""
    return AssessmentView(
        month=made.month,
        by=made.by,
        example=made.formula.example,
        trial=made.trial,
        weights=dict(made.formula.weights),
        until=when(made.until_ms),
        last_entry=made.last_n,
        head=made.head,
        rows=[_row(row, made.by, registry) for row in made.rows],
        total=_row(made.total, made.by, registry),
    )


def _row(row: Row, by: GroupBy, registry: Registry) -> RowView:
    name = assessment.name_of(by, row.key, registry)
    shares = {name: ShareView(s.good, s.of, s.value, s.available) for name, s in row.shares.items()}
    return RowView(row.key, name.zh, name.en, row.cases, shares, row.improvement, row.score)
