"""Assessment (考核) of a month: by chief, street or reach; as JSON or as an Excel file."""

from dataclasses import dataclass
from typing import Annotated

import sqlalchemy as sa
from fastapi import Query, Response
from pydantic import Field

from api import assessment, export_log
from api.access import Who
from api.assessment import XLSX
from api.context import Context
from api.requests import (
    JSON,
    Accept,
    Number,
    RequestContext,
    RequestRegistries,
    Strict,
    Words,
    one_of,
    preferred,
)
from api.responses import VARY, answer, viewed, when
from api.routes.attachments import file_of
from api.routes.router import subject_router
from governance import assessment_appeals, assessment_periods
from governance.assessment.model import Assessment, GroupBy, Indicator, Row, Share
from governance.assessment.month import month_of
from governance.assessment_appeals import SCORE, Appeal, AppealState, Figure, Grounds
from governance.assessment_periods import NewPeriod, Period, PeriodKind
from governance.incidents import attachments
from governance.organisation.roles import Actor, Forbidden
from governance.people import store as people_store
from infra.errors import ConfigurationError, NotFound, Refused
from infra.texts import say
from infra.times import rfc3339
from ingest.storage import registry as registry_store
from sensors.stations import Registry

router = subject_router("assessments", "/assessments")

Month = Annotated[str, Query(description="2026-10, Beijing time")]


@dataclass(frozen=True, slots=True)
class ShareView:
    """`good` of `of`; `value` from 0 to 1, null where nothing can be told. Not `available`: nobody records it."""

    good: int
    of: int
    value: float | None
    available: bool


@dataclass(frozen=True, slots=True)
class WithoutView:
    """The figures without the days under marked periods and the incidents opened on them."""

    indicators: dict[Indicator, ShareView]
    score: float | None


@dataclass(frozen=True, slots=True)
class RowView:
    """A chief, street or reach; `key` is empty for what belongs to none.

    `affected` counts the days of the month under marked periods by kind; `without` is null where there are none.
    """

    key: str
    zh: str
    en: str
    cases: int
    indicators: dict[Indicator, ShareView]
    improvement: float | None
    score: float | None
    affected: dict[PeriodKind, int]
    without: WithoutView | None


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
    appeals_until: str
    last_entry: int
    head: str
    rows: list[RowView]
    total: RowView


@router.get("", response_model=AssessmentView, responses={200: {"content": {XLSX: {}}}})
def get_assessment(
    context: RequestContext,
    who: Who,
    month: Month,
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
    data = assessment.sheet(made, registry, assessment.noted(database, registry, month, who))
    body = {"month": month, "by": by, "format": "xlsx"}
    export_log.note(database, "assessment", f"assessment/{month}", data, body, by=who.name, role=who.role, at_ms=now_ms)
    return data


def view(made: Assessment, registry: Registry) -> AssessmentView:
    """An assessment as it is answered."""
    return viewed(
        AssessmentView,
        made,
        example=made.formula.example,
        weights=dict(made.formula.weights),
        last_entry=made.last_n,
        appeals_until=rfc3339(made.appeals_until_ms),
        rows=[_row(row, made.by, registry) for row in made.rows],
        total=_row(made.total, made.by, registry),
    )


def _row(row: Row, by: GroupBy, registry: Registry) -> RowView:
    name = assessment.name_of(by, row.key, registry)
    apart = None if row.without is None else WithoutView(_shares(row.without), row.without.score)
    days = {PeriodKind(kind): days for kind, days in row.affected.items()}
    return RowView(row.key, name.zh, name.en, row.cases, _shares(row), row.improvement, row.score, days, apart)


def _shares(row: Row) -> dict[Indicator, ShareView]:
    return {name: ShareView(s.good, s.of, s.value, s.available) for name, s in row.shares.items()}


# -- appeals -----------------------------------------------------------------------------------------------------------


class NewAppeal(Strict):
    """An appeal against a figure of a final month, with a reason and evidence: a link, an attachment, or both."""

    month: Words = Field(max_length=7, examples=["2026-10"])
    group_by: Words = Field(max_length=16, examples=list(GroupBy))
    key: Words = Field(max_length=128)
    figure: Words = Field(max_length=16, examples=[*Indicator, SCORE])
    reason: Words = Field(max_length=1000)
    link: Words = Field("", max_length=500)
    attachment: Words = Field("", max_length=64, description="`id` of an attachment that the caller uploaded")


class Decision(Strict):
    """Accepted with the correction in `remark`, or rejected with the reason."""

    accepted: bool
    remark: Words = Field(max_length=1000)


@dataclass(frozen=True, slots=True)
class AppealView:
    """An appeal; `good`, `of`, `value` are the figure as frozen, which stays. `version` is above 1 once corrected."""

    id: int
    month: str
    group_by: GroupBy
    key: str
    figure: str
    good: int
    of: int
    value: float | None
    last_entry: int
    reason: str
    link: str
    attachment: str
    appellant: str
    at: str
    state: AppealState
    decided_by: str
    decided_at: str | None
    remark: str
    version: int


@dataclass(frozen=True, slots=True)
class Appeals:
    """The appeals of a month, oldest first."""

    items: list[AppealView]


@router.get("/appeals", response_model=Appeals)
def list_appeals(context: RequestContext, who: Who, registries: RequestRegistries, month: Month) -> Response:
    """The appeals against figures that the caller may see."""
    month_of(month)
    said = assessment.noted(context.database, registries.recent(), month, who)
    return answer(Appeals([_appeal(one) for one in said.appeals]))


@router.post("/appeals", status_code=201, response_model=AppealView)
def add_appeal(context: RequestContext, who: Who, new: NewAppeal) -> Response:
    """Appeal against a figure. 403 for who does not answer for the row, 409 before the month is final and too late."""
    return answer(_appeal(appeal(context, who, new)), 201)


@router.get("/appeals/{number}/evidence", responses={200: {"content": {"image/jpeg": {}}}})
def get_evidence(context: RequestContext, who: Who, registries: RequestRegistries, number: Number) -> Response:
    """The attachment of an appeal, for whoever may see the appeal."""
    return evidence(context, who, registries.recent(), number)


@router.post("/appeals/{number}/decision", response_model=AppealView)
def decide_appeal(
    context: RequestContext, who: Who, registries: RequestRegistries, number: Number, new: Decision
) -> Response:
    """Accept or reject an appeal. 403 for who does not stand above who appeals, 409 for one that is decided."""
    return answer(_appeal(decide(context, who, registries.recent(), number, new)))


def appeal(context: Context, who: Actor, new: NewAppeal) -> Appeal:
    """File an appeal; raises ConfigurationError, Forbidden, NotFound, Refused."""
    by, now_ms = one_of(GroupBy, "group_by", new.group_by), context.clock_ms()
    made, registry = assessment.make(
        context.database, context.catalogue, new.month, by, context.formula, now_ms=now_ms, who=who
    )
    row = next((one for one in made.rows if one.key == new.key), None)
    if row is None or new.figure not in (*Indicator, SCORE):
        raise NotFound(say("assessment.appeal_figure"))
    if made.trial:
        raise Refused(say("assessment.appeal_early"))
    share = Share() if new.figure == SCORE else row.shares[Indicator(new.figure)]
    value = row.score if new.figure == SCORE else share.value
    figure = Figure(new.month, by, new.key, new.figure, share.good, share.of, value, made.last_n, made.head)
    with context.database.write() as connection:
        terms = people_store.appointments(connection)
        if not assessment.answers(who, by, new.key, made, registry, terms, now_ms):
            raise Forbidden(say("assessment.not_own", by=say(f"assessment.{by}")), tuple(sorted(who.rights)))
        if new.attachment:
            attachments.get(connection, [new.attachment], who)
        grounds = Grounds(new.reason, new.link, new.attachment)
        return assessment_appeals.file(connection, figure, grounds, who, until_ms=made.appeals_until_ms, now_ms=now_ms)


def decide(context: Context, who: Actor, registry: Registry, number: int, new: Decision) -> Appeal:
    """Decide an appeal; raises ConfigurationError, Forbidden, NotFound, Refused."""
    with context.database.write() as connection:
        _visible(connection, who, registry, number)
        return assessment_appeals.decide(
            connection, number, who, accepted=new.accepted, remark=new.remark, now_ms=context.clock_ms()
        )


def evidence(context: Context, who: Actor, registry: Registry, number: int) -> Response:
    """The attachment of an appeal as a file; raises NotFound."""
    with context.database.read() as connection:
        one = _visible(connection, who, registry, number)
        (found,) = attachments.find(connection, [one.attachment]) or (None,)
    if found is None:
        raise NotFound(say("assessment.no_appeal", number=number))
    return file_of(context, found)


def _visible(connection: sa.Connection, who: Actor, registry: Registry, number: int) -> Appeal:
    """An appeal against a row that somebody may see; raises NotFound for another."""
    one = assessment_appeals.get(connection, number)
    terms = people_store.appointments(connection)
    if not assessment.sees(who, one.month, registry, terms, one.group_by, one.key):
        raise NotFound(say("assessment.no_appeal", number=number))
    return one


def _appeal(one: Appeal) -> AppealView:
    return viewed(
        AppealView,
        one,
        last_entry=one.last_n,
        appellant=one.by,
        at=rfc3339(one.at_ms),
        decided_at=when(one.decided_at_ms),
    )


# -- marked periods ----------------------------------------------------------------------------------------------------


class NewMarkedPeriod(Strict):
    """Days, both included, on which weather, works or no power marked the figures of a region or of one reach."""

    kind: Words = Field(max_length=16, examples=list(PeriodKind))
    first: Words = Field(max_length=10, examples=["2026-10-03"])
    last: Words = Field(max_length=10, examples=["2026-10-05"])
    region: Words = Field("", max_length=64, description="code; everywhere when left out")
    reach: Words = Field("", max_length=128)
    reason: Words = Field(max_length=500)


@dataclass(frozen=True, slots=True)
class PeriodView:
    """A marked period and who entered it."""

    id: int
    kind: PeriodKind
    first: str
    last: str
    region: str
    reach: str
    reason: str
    by: str
    at: str


@dataclass(frozen=True, slots=True)
class MarkedPeriods:
    """The marked periods that touch a month, by their days."""

    items: list[PeriodView]


@router.get("/periods", response_model=MarkedPeriods)
def list_periods(context: RequestContext, month: Month) -> Response:
    """The marked periods of a month."""
    month_of(month)
    with context.database.read() as connection:
        return answer(MarkedPeriods([_period(one) for one in assessment_periods.of_month(connection, month)]))


@router.post("/periods", status_code=201, response_model=PeriodView)
def add_period(context: RequestContext, who: Who, registries: RequestRegistries, new: NewMarkedPeriod) -> Response:
    """Mark days. No figure changes: both numbers, with and without these days, are shown."""
    return answer(_period(mark(context, who, registries.recent(), new)), 201)


@router.delete("/periods/{number}", status_code=204)
def withdraw_period(context: RequestContext, who: Who, number: Number) -> Response:
    """Withdraw a marked period; it stays in the record."""
    withdraw(context, who, number)
    return Response(status_code=204)


def mark(context: Context, who: Actor, registry: Registry, new: NewMarkedPeriod) -> Period:
    """Enter a marked period; raises ConfigurationError, Forbidden beyond the own regions."""
    if new.region and new.region not in {one.code for one in registry.regions}:
        raise ConfigurationError(say("registry.no_region", region=new.region))
    if new.reach and registry.reach(new.reach) is None:
        raise ConfigurationError(say("assessment.no_reach"))
    _within(who, registry, new.region, new.reach)
    wanted = NewPeriod(one_of(PeriodKind, "kind", new.kind), new.first, new.last, new.region, new.reach, new.reason)
    with context.database.write() as connection:
        return assessment_periods.add(connection, wanted, by=who.name, role=who.role, now_ms=context.clock_ms())


def withdraw(context: Context, who: Actor, number: int) -> None:
    """Withdraw a marked period; raises Forbidden, NotFound."""
    with context.database.write() as connection:
        one = assessment_periods.get(connection, number)
        registry = registry_store.load(connection, context.catalogue)
        _within(who, registry, one.region, one.reach)
        assessment_periods.withdraw(connection, number, by=who.name, role=who.role, now_ms=context.clock_ms())


def _period(one: Period) -> PeriodView:
    return viewed(PeriodView, one, at=rfc3339(one.at_ms))


def _within(who: Actor, registry: Registry, region: str, reach: str) -> None:
    """Raises Forbidden for a place that is not wholly within somebody's regions."""
    places = {one.region for one in registry.stations if one.reach == reach} if reach and not region else {region}
    if not all(who.covers(place, reach) for place in places or {""}):
        raise Forbidden(say("person.beyond_reach", name=who.name), tuple(sorted(who.rights)))
