"""The dispatch board ``/board``: where work is stuck among the five levels, and moving it on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse

from api import problems
from api.access import needed_right
from api.pages import acting
from api.pages.live import PRESENCE
from api.pages.menu import BOARD
from api.pages.models import board as models
from api.pages.models import escalation
from api.pages.models.action_bar import KEYS, ActionBar, Given
from api.pages.models.board import Board, Choice
from api.pages.models.escalation import Ahead
from api.pages.models.overview import Model
from api.pages.view import PageRoute, View, Viewing
from api.requests import whole_number
from api.routes.incidents import check_visible
from api.titles import titles
from governance.incidents import store as incident_store
from governance.incidents.deadlines import Phase
from governance.incidents.model import PHASE_OF_STATE, Action, Incident
from governance.incidents.model import Entry as HistoryEntry
from governance.notify import oncall
from governance.notify import store as notice_store
from governance.notify.planning import Circumstances
from governance.organisation.roles import Forbidden
from infra.errors import NotFound, WaterError
from infra.texts import Text, from_both
from infra.times import DAY_MS
from sensors.network import Level

TOPICS = ("incidents", "counts", PRESENCE)
DUTY_AHEAD_MS = 7 * DAY_MS
"""So far ahead it is asked who will be on call."""
_NOTICES = needed_right("GET", "/notices")
_ACTING = needed_right("POST", "/incidents/-/actions")
_LEVELS = (*(level.key for level in Level), models.NO_REGION)

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@dataclass(frozen=True, slots=True)
class Sheet:
    """The selected incident: its facts, what may be done, who is notified next; ``refused``: why it is not shown."""

    number: int
    incident: Incident | None = None
    title: Text | None = None
    region: Text | None = None
    reach: Text | None = None
    sort: str = ""
    words: Text | None = None
    phase: Phase | None = None
    reach_of_chief: str = ""
    bar: ActionBar | None = None
    ahead: tuple[Ahead, ...] = ()
    silent: bool = False
    ask_region: str = ""
    newest: HistoryEntry | None = None
    remark: Text | None = None
    refused: Text | None = None


@router.get(BOARD.path)
async def show(v: Viewing) -> Response:
    """The board, or the blocks of it that changed."""
    v.require(BOARD.right)
    picture = await v.live.now()
    return await run_in_threadpool(_page, v, picture, Given(), None)


@router.post(BOARD.path)
async def act(v: Viewing, request: Request) -> Response:
    """Do with the selected incident what the form says; then the board again."""
    v.require(_ACTING)
    async with request.form(max_files=0, max_fields=acting.FIELDS) as form:
        given = acting.given(form)
    error: WaterError | None = None
    try:
        await run_in_threadpool(acting.act, v, _number(v), given)
    except WaterError as caught:
        error = caught
    await request.app.state.picture.refresh()  # the board that follows shows what was done
    if error is None:
        return RedirectResponse(v.here(done=given.action, act=None, lane=None, to=None), 303)
    picture = await v.live.now()
    return await run_in_threadpool(_page, v, picture, given, error)


def _page(v: View, picture: Model | None, given: Given, error: WaterError | None) -> Response:
    if picture is None:
        return v.render("board.html", status=503, board=None, sheet=None)
    number = _number(v)
    board = _board(v, picture)
    sheet = _sheet(v, number, given, error) if number else None
    topics = (*TOPICS, f"incident-{number}", f"{PRESENCE}-incident-{number}") if number else TOPICS
    return v.render(
        "board.html",
        status=200 if error is None else problems.of(error).sort.status,
        picture=picture,
        topics=topics,
        board=board,
        sheet=sheet,
        choice=_choice(v),
        done=_done(v),
        keys=KEYS,
    )


def _number(v: View) -> int:
    """The number of the selected incident; 0 for none."""
    return whole_number(v.query.get("incident", "")) or 0


def _choice(v: View) -> Choice:
    """What the address narrows the board to; unknown values narrow nothing."""
    known = {reach.key for reach in v.registries.recent().reaches}
    river, level = v.query.get("river", ""), v.query.get("level", "")
    return Choice(
        river if river in known else "",
        level if level in _LEVELS else "",
        v.query.get("overdue") == "1",
        v.query.get("mine") == "1",
    )


def _done(v: View) -> str:
    """The action that the answer to a form names."""
    done = v.query.get("done", "")
    return done if done in set(Action) else ""


def _board(v: View, picture: Model) -> Board:
    registry, regions = v.registries.recent(), v.keeper.regions()
    marks = _marks(v, picture) if v.actor.may(_NOTICES) else {}
    return models.build(picture, registry, regions, v.actor, _choice(v), marks, v.language)


def _marks(v: View, picture: Model) -> Mapping[tuple[int, str], str]:
    """What became of the newest message about each open incident to who has it."""
    directory = acting.known_contacts(v)
    if directory is None:
        return {}
    holders = {row.id: models.holder(row.incident) for row in picture.incidents if row.incident.is_open}
    with v.context.database.read() as connection:
        newest = notice_store.newest_of(connection, list(holders))
    found = {}
    for number, name in holders.items():
        contact = directory.called(name) if name else None
        notice = newest.get((number, contact.key)) if contact else None
        if notice is not None:
            sent = {"sent": "sent", "pending": "waiting", "dead": "failed"}.get(notice.status, "")
            found[number, name] = "read" if notice.acknowledged_at_ms is not None else sent
    return found


def _sheet(v: View, number: int, given: Given, error: WaterError | None) -> Sheet:
    try:
        with v.context.database.read() as connection:
            incident = incident_store.get(connection, number)
            check_visible(incident, v.actor)
            history = incident_store.history(connection, number)
            watch = notice_store.get_watch(connection, number)
            planned = oncall.shifts(connection, v.now_ms, v.now_ms + DUTY_AHEAD_MS)
    except (NotFound, Forbidden) as caught:
        return Sheet(number, refused=caught.text)
    registry, regions = v.registries.recent(), v.keeper.regions()
    names = {one.code: Text(one.zh, one.en) for one in registry.regions}
    rivers = {one.key: Text(one.zh, one.en) for one in registry.reaches}
    ahead: tuple[Ahead, ...] = ()
    settings = v.context.notifications
    if settings is not None:
        now = Circumstances(
            v.now_ms, settings.policy, settings.directory(), (), escalation.places(incident, registry, regions)
        )
        ahead = escalation.ahead(
            incident,
            watch,
            now,
            lambda at_ms: oncall.ranks(planned, at_ms),
            regions.parent,
            v.context.processes.policy,
        )
    ahead = tuple(replace(one, raised_to=v.of(names[one.raised_to]) if one.raised_to in names else "") for one in ahead)
    sort, words, _ = models.time_left(incident, v.now_ms)
    chief = incident.case.responsible
    (title,) = titles(v.context, [incident], registry).values()
    bar = acting.bar(v, incident, v.query.get("act", ""), given if error else None, error)
    lane = v.query.get("lane", "")
    aimed = models.aimed(bar, lane, v.query.get("to", ""), regions, v.actor)
    return Sheet(
        number=number,
        incident=incident,
        title=title,
        region=names.get(incident.place.region),
        reach=rivers.get(models.reach_finder(registry)(incident)),
        sort=sort,
        words=words,
        phase=PHASE_OF_STATE.get(incident.state),
        reach_of_chief=acting.working_channels(v, [chief]).get(chief, "") if chief else "",
        bar=aimed,
        ahead=ahead,
        silent=settings is None,
        ask_region=lane if lane in _LEVELS and aimed.to and not aimed.suggested.region else "",
        newest=history[-1],
        remark=from_both(history[-1].comment or ""),
    )
