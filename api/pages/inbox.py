"""The inbox ``/incidents``: what needs somebody next, any other view of the incidents, and doing much at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.responses import RedirectResponse

from api import problems
from api.access import needed_right
from api.incident_actions import perform
from api.pages import acting, list_export
from api.pages.forms import Fields
from api.pages.list_export import MOST_ROWS, Cell, Table, instant
from api.pages.menu import INCIDENTS, REPORT
from api.pages.models import action_bar
from api.pages.models import inbox as models
from api.pages.models.action_bar import Given
from api.pages.models.inbox import Choice, Group, Line, Outcome, Places
from api.pages.models.overview import Model
from api.pages.view import PageRoute, View, Viewing
from api.requests import whole_number
from api.routes import saved_views
from api.routes.incidents import check_visible
from api.titles import titles
from governance.incidents import inbox, lifecycle
from governance.incidents import store as incident_store
from governance.incidents.finding import Colour, FindingKind
from governance.incidents.inbox import InboxCounts, InboxRow, InboxView
from governance.incidents.model import Action, Conflict, Incident, Order, State
from governance.notify import oncall
from governance.people import saved_views as view_store
from governance.people.saved_views import SavedView
from infra.errors import Refused, WaterError
from infra.texts import Text, say
from ingest.analysis.present_values import present_values
from sensors.network import Level
from sensors.standards.gb3838 import WaterClass

TOPICS = ("incidents", "counts")
ROWS = 30
"""Rows of a page; a storm is one of them."""
WINDOW = 2000
"""So many of the most urgent incidents are arranged; beyond, the filter must narrow."""
COUNTED = 10_000
"""Beyond, incidents are not counted one by one."""
ANNOUNCED = 200
"""Rows from the top whose changes are announced."""
MOST_AT_ONCE = 200
"""Incidents of one bulk action."""
MOST_HOLDERS = 200
_ACTING = needed_right("POST", "/incidents/-/actions")
BULK = (Action.ACCEPT, Action.MERGE)
VIEW_ACTIONS = ("save", "forget")
_ONCE = {"done": None, "ids": None}
"""What an address says of an action just done; a link does not repeat it."""
_GONE = {**_ONCE, "page": None, "before": None, "group": None}
"""What another filter or view leaves behind, too."""

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@dataclass(frozen=True, slots=True)
class Shown:
    """A row of the list: a storm or one incident, with the lines it opens to."""

    group: Group
    line: Line
    opened: tuple[Line, ...] = ()

    @property
    def refs(self) -> str:
        return ",".join(f"{row.id}:{row.version}" for row in self.group.rows)

    @property
    def streets(self) -> int:
        return len({row.region for row in self.group.rows})


@dataclass(frozen=True, slots=True)
class Listing:
    """The list: its rows, how many incidents there are in all and in how many rows, what stands before and after."""

    rows: tuple[Shown, ...]
    total: int
    groups: int
    arrangement: str
    earlier: str = ""
    later: str = ""
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Side:
    """What stands beside the list: numbers, streets, saved views; who is on call."""

    counts: InboxCounts
    streets: tuple[tuple[str, Text, int], ...]
    saved: tuple[SavedView, ...]
    on_call: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unsaved:
    """A view that was not saved: its name as typed, and why."""

    name: str
    why: Text


@dataclass(frozen=True, slots=True)
class Options:
    """What the filter offers, beside colours, states and kinds."""

    rivers: tuple[tuple[str, Text], ...]
    regions: tuple[tuple[str, Text, int], ...]
    holders: tuple[str, ...]
    colours: tuple[Colour, ...] = tuple(Colour)
    states: tuple[State, ...] = tuple(State)
    kinds: tuple[FindingKind, ...] = tuple(FindingKind)


@router.get(INCIDENTS.path)
async def show(v: Viewing) -> Response:
    """The inbox, or the blocks of it that changed."""
    v.require(INCIDENTS.right)
    picture = await v.live.now()
    return await run_in_threadpool(_page, v, picture)


@router.post(INCIDENTS.path)
async def act(v: Viewing, request: Request) -> Response:
    """Do what the form says with the ticked incidents, or save or forget a view; then the inbox again."""
    async with request.form(max_files=0, max_fields=MOST_AT_ONCE + acting.FIELDS) as form:
        sent = form
    wanted = _text(sent, "action")
    if wanted in VIEW_ACTIONS:
        v.require(INCIDENTS.right)
        name = _text(sent, "name")
        try:
            await run_in_threadpool(_change_views, v, wanted, name)
        except Refused as error:
            picture = await v.live.now()
            return await run_in_threadpool(_page, v, picture, (), Unsaved(name, error.text))
        return RedirectResponse(v.here(**_ONCE), 303)
    v.require(_ACTING)
    outcomes = await run_in_threadpool(_all_done, v, sent)
    await request.app.state.picture.refresh()  # the list that follows shows what was done
    if all(one.refused is None for one in outcomes):
        numbers = ",".join(str(one.number) for one in outcomes)
        done = {"done": "merge" if wanted == "merge" else "accept", "ids": numbers}
        return RedirectResponse(v.here(**{**_ONCE, **done}), 303)
    picture = await v.live.now()
    return await run_in_threadpool(_page, v, picture, outcomes)


@router.post(INCIDENTS.path + "/export")
async def export(v: Viewing, given: Fields) -> Response:
    """The incidents of the list as a file."""
    v.require(INCIDENTS.right)
    picture = await v.live.now()
    return await run_in_threadpool(_export, v, given, picture)


def _export(v: View, given: Mapping[str, str], picture: Model | None) -> Response:
    chosen = models.choice(v.query, v.registries.recent())
    query = models.query(chosen, v.registries.recent(), v.keeper.regions())
    with v.context.database.read() as connection:
        rows = inbox.find(connection, v.actor, query, v.now_ms, limit=MOST_ROWS)
    lines = _lines(v, [row.id for row in rows], _classes(picture))
    head = [v.say(f"inbox.{name}") for name in models.EXPORT_HEAD]
    cells = [_cells(v, lines[row.id]) for row in rows if row.id in lines]
    return list_export.answer(v, given, Table("incidents", head, cells))


def _cells(v: View, line: Line) -> tuple[Cell, ...]:
    """A row of the file."""
    one = line.incident
    sure = v.say(f"inbox.sure_{line.sure}") if line.sure else ""
    return (
        one.id,
        v.say(f"incident.{one.colour}"),
        line.place,
        line.what,
        line.water_class.sign if line.water_class else "",
        " ".join(word for word in (v.say(f"inbox.sign_{line.sign}"), sure) if word),
        v.say(f"state.{one.state}"),
        line.who,
        v.say(f"department.{line.department}") if line.department else "",
        v.of(line.region) if line.region else "",
        v.of(line.street) if line.street else "",
        instant(one.since_ms),
        instant(line.until_ms),
        v.of(line.words),
        instant(one.closed_at_ms),
    )


# -- doing -------------------------------------------------------------------------------------------------------------


def _text(form: FormData, name: str) -> str:
    value = form.get(name)
    return value.strip() if isinstance(value, str) else ""


def _all_done(v: View, form: FormData) -> tuple[Outcome, ...]:
    """What became of each incident that the form names. Raises Refused for none, and for an unknown action."""
    one = _text(form, "accept")
    action = Action.ACCEPT.value if one else _text(form, "action")
    if action not in BULK:
        raise Refused(say("action_bar.unknown", action=action[:40]))
    ticked = [one] if one else [value for value in form.getlist("row") if isinstance(value, str)]
    found = models.refs(ticked, MOST_AT_ONCE)
    if not found:
        return (Outcome(0, None, say("inbox.none_ticked")),)
    if action == Action.ACCEPT:
        given = (Given(action=action, version=version) for _, version in found)
        return tuple(_outcome(v, number, form_) for (number, _), form_ in zip(found, given, strict=True))
    target = whole_number(_text(form, "into").removeprefix("#")) or 0
    return _merged(v, found, target)


def _outcome(v: View, number: int, form: Given, into: int = 0) -> Outcome:
    try:
        if into:
            _merge(v, number, form, into)
        else:
            acting.act(v, number, form)
    except WaterError as error:
        return Outcome(number, None, error.text)
    return Outcome(number, None)


def _merged(v: View, found: Sequence[tuple[int, int]], target: int) -> tuple[Outcome, ...]:
    """Merge the incidents into one: the named one, else the one that began first."""
    with v.context.database.read() as connection:
        known = incident_store.get_many(connection, [number for number, _ in found])
    if not target:
        open_ = [one for one in known.values() if one.is_open] or list(known.values())
        merged_before = {one.case.merged_into for one in known.values()} & set(known)
        first = min(open_, key=lambda one: (one.since_ms, one.id), default=None)
        target = next(iter(merged_before), None) or (first.id if first else 0)
    others = [(number, version) for number, version in found if number != target]
    if not others:
        return (Outcome(target, None, say("inbox.merge_needs_two")),)
    return tuple(_outcome(v, number, Given(action="merge", version=version), target) for number, version in others)


def _merge(v: View, number: int, form: Given, into: int) -> None:
    """Merge one incident into another; one that was merged there by this form already stays so."""
    order = Order(Action.MERGE, into=into)
    for left in reversed(range(acting.MOST_TRIES)):
        with v.context.database.read() as connection:
            incident = incident_store.get(connection, number)
            check_visible(incident, v.actor)
            history = incident_store.history(connection, number)
        if incident.case.merged_into == into and action_bar.done_already(history, form, v.actor.name):
            return
        if entries := action_bar.decisive(history, form):
            raise acting.Meanwhile(say("action_bar.meanwhile"), entries)
        try:
            perform(v.context, number, order, v.actor, v.keeper.regions, incident.version)
        except Conflict:
            if not left:
                raise
            continue  # a finding came in between: look again at what it was
        v.context.wake()
        return


def _change_views(v: View, wanted: str, name: str) -> None:
    """Save what the address shows under a name, or forget a saved view. Raises Refused."""
    if wanted == "forget":
        saved_views.remove(v.context, v.actor, name)
    else:
        saved_views.save(v.context, v.actor, name, models.choice(v.query, v.registries.recent()).query)


# -- showing -----------------------------------------------------------------------------------------------------------


def _page(v: View, picture: Model | None, outcomes: Sequence[Outcome] = (), unsaved: Unsaved | None = None) -> Response:
    registry, regions = v.registries.recent(), v.keeper.regions()
    chosen = models.choice(v.query, registry)
    contradiction = chosen.contradiction
    if contradiction is None and chosen.region and not _sees(v, chosen.region):
        contradiction = say("inbox.not_your_region", region=_region_name(v, chosen.region))
    query = models.query(chosen, registry, regions)
    with v.context.database.read() as connection:
        rows: list[InboxRow] = []
        total = 0
        if contradiction is None:
            limit = WINDOW if chosen.view.by_time_left else ROWS + 1
            rows = inbox.find(connection, v.actor, query, v.now_ms, limit=limit, before_id=chosen.before)
            total = len(rows) if len(rows) < limit else inbox.count(connection, v.actor, query, v.now_ms, most=COUNTED)
        side = Side(
            counts=inbox.counts(connection, v.actor, v.now_ms),
            streets=models.by_street(_counts_by_region(v, connection, chosen.view), regions),
            saved=tuple(view_store.list_views(connection, v.actor.name)),
            on_call=_on_call(v, oncall.on_call(connection, v.now_ms)),
        )
        holders = inbox.holders(connection, v.actor, limit=MOST_HOLDERS)
        last_closed_ms = None if rows else inbox.last_closed_ms(connection, v.actor)
    listing = _listing(v, chosen, rows, total, _classes(picture))
    return v.render(
        "inbox.html",
        status=problems.REFUSED.status if unsaved else _status(outcomes),
        picture=picture,
        topics=TOPICS,
        choice=chosen,
        chips=_chips(v, chosen),
        contradiction=contradiction,
        listing=listing,
        side=side,
        options=Options(
            rivers=tuple((one.key, Text(one.zh, one.en)) for one in registry.reaches),
            regions=_region_choices(v),
            holders=tuple(dict.fromkeys([*holders, *([chosen.handler] if chosen.handler else [])])),
        ),
        counted=COUNTED,
        last_closed_ms=last_closed_ms,
        outcomes=_titled(v, outcomes),
        unsaved=unsaved,
        gone=_GONE,
        done=_done(v),
        may_accept=v.actor.may(lifecycle.right_of(Action.ACCEPT)),
        may_report=v.actor.may(REPORT.right),
    )


def _counts_by_region(v: View, connection: sa.Connection, view: InboxView) -> dict[str, int]:
    """The numbers beside the streets; of what is over, of which there may be very much, the regions alone."""
    if view.by_time_left:
        return inbox.counts_by_region(connection, v.actor, view, v.now_ms)
    mine = v.actor.regions
    return {one.code: 0 for one in v.registries.recent().regions if mine is None or one.code in mine}


def _status(outcomes: Sequence[Outcome]) -> int:
    """That of a refusal where nothing was done of what was asked for."""
    refused = bool(outcomes) and all(one.refused is not None for one in outcomes)
    return problems.REFUSED.status if refused else 200


def _sees(v: View, code: str) -> bool:
    """Whether anything of a region can lie within reach of who looks."""
    below = v.keeper.regions().within(code)
    actor = v.actor
    if actor.regions is None or below is None or actor.waters or below & actor.regions:
        return True
    return bool(actor.helps)


def _on_call(v: View, ranks: Sequence[Sequence[str]]) -> tuple[str, ...]:
    directory = acting.known_contacts(v)
    if directory is None or not ranks:
        return ()
    names = {one.key: one.name for one in directory.contacts}
    return tuple(names.get(key, key) for key in ranks[0])


def _classes(picture: Model | None) -> dict[str, WaterClass | None]:
    """The class that each reach shows now."""
    return {} if picture is None else {reach.key: reach.water_class for reach in picture.reaches}


def _lines(v: View, numbers: Sequence[int], classes: Mapping[str, WaterClass | None]) -> dict[int, Line]:
    """The rows of these incidents, by number."""
    incidents: dict[int, Incident] = {}
    with v.context.database.read() as connection:
        for start in range(0, len(numbers), WINDOW):
            incidents |= incident_store.get_many(connection, numbers[start : start + WINDOW])
    leading = {one.leading for one in incidents.values() if one.leading}
    values = present_values(v.context.store.recent_store, leading)
    places = Places(v.registries.recent(), v.keeper.regions(), classes, values)
    return {number: models.line(one, places, v.actor, v.now_ms, v.language) for number, one in incidents.items()}


def _listing(
    v: View, chosen: Choice, rows: Sequence[InboxRow], total: int, classes: Mapping[str, WaterClass | None]
) -> Listing:
    registry = v.registries.recent()
    by_key = {station.key: station for station in registry.stations}

    def gateway_of(station: str) -> str:
        return (by_key[station].gateway or "") if station in by_key else station

    found: tuple[Group, ...] = ()
    if chosen.view.by_time_left:
        found = models.groups(rows, gateway_of)
        pages = max(1, -(-len(found) // ROWS))
        page = min(chosen.page, pages)
        on_page = found[(page - 1) * ROWS : page * ROWS]
        earlier = v.here(page=page - 1 if page > 2 else None, **_ONCE) if page > 1 else ""
        later = v.here(page=page + 1, **_ONCE) if page < pages else ""
        top = found[:ANNOUNCED]
    else:
        on_page = tuple(Group((row,)) for row in rows[:ROWS])
        earlier = v.here(before=None, **_ONCE) if chosen.before else ""
        later = v.here(before=rows[ROWS - 1].id, **_ONCE) if len(rows) > ROWS else ""
        top = () if chosen.before else on_page
    opened = next((group for group in on_page if group.is_storm and group.key == chosen.opened), None)
    wanted = [group.rows[0].id for group in on_page] + [row.id for row in (opened.rows if opened else ())]
    lines = _lines(v, wanted, classes)
    return Listing(
        rows=tuple(
            Shown(
                group,
                lines[group.rows[0].id],
                tuple(lines[row.id] for row in group.rows if row.id in lines) if group is opened else (),
            )
            for group in on_page
            if group.rows[0].id in lines
        ),
        total=total,
        groups=total - len(rows) + len(found) if chosen.view.by_time_left else total,
        arrangement=models.arrangement(top),
        earlier=earlier,
        later=later,
        cut=chosen.view.by_time_left and total > len(rows),
    )


def _chips(v: View, chosen: Choice) -> tuple[tuple[str, str, str], ...]:
    """The filters that are set: name, words, and the address without it."""
    registry = v.registries.recent()

    def words(name: str, value: str) -> str:
        match name:
            case "colour":
                return v.say(f"incident.{value}")
            case "river":
                reach = registry.reach(value)
                return v.of(Text(reach.zh, reach.en)) if reach else value
            case "region":
                return v.of(_region_name(v, value))
            case "state":
                return v.say(f"state.{value}")
            case "kind":
                return v.say(f"rule_kind.{value}")
            case _:
                return value

    return tuple((name, words(name, value), v.here(**{**_GONE, name: None})) for name, value in chosen.filters)


def _region_name(v: View, code: str) -> Text:
    region = v.keeper.regions()[code]
    return Text(region.zh, region.en)


def _region_choices(v: View) -> tuple[tuple[str, Text, int], ...]:
    """The regions of who looks, with their depth, down to the communities."""
    registry, regions, mine = v.registries.recent(), v.keeper.regions(), v.actor.regions
    return tuple(
        (one.code, Text(one.zh, one.en), len(regions.up(one.code)) - 1)
        for one in sorted(registry.regions, key=lambda one: tuple(reversed(regions.up(one.code))))
        if (mine is None or one.code in mine) and one.level is not Level.GRID
    )


def _titled(v: View, outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """The outcomes with the titles of what may be seen."""
    with v.context.database.read() as connection:
        found = incident_store.get_many(connection, [one.number for one in outcomes])
    seen = [one for one in found.values() if lifecycle.in_jurisdiction(one, v.actor)]
    named = titles(v.context, seen, v.registries.recent())
    return tuple(Outcome(one.number, named.get(one.number), one.refused) for one in outcomes)


def _done(v: View) -> tuple[str, tuple[int, ...]] | None:
    """What the answer to a form names: the action, and the numbers of the incidents."""
    done = v.query.get("done", "")
    if done not in BULK:
        return None
    parts = v.query.get("ids", "").split(",")[:MOST_AT_ONCE]
    return done, tuple(number for part in parts if (number := whole_number(part)) is not None)
