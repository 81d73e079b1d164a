"""The dispatch board: open incidents in lanes of the five levels and columns of what each waits for. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from api.duration import duration
from api.pages.models import action_bar
from api.pages.models import incident as incident_models
from api.pages.models.action_bar import ActionBar
from api.pages.models.overview import IncidentView, Model
from api.titles import place as place_of
from governance.incidents import lifecycle
from governance.incidents.deadlines import Phase
from governance.incidents.model import PHASE_OF_STATE, Action, Incident, State
from governance.organisation.regions import Place, Regions
from governance.organisation.roles import Actor
from infra.texts import Text, say
from sensors.network import Level
from sensors.stations import Registry

NO_REGION = "none"
"""The lane of what lies in no region yet."""
LANES: tuple[Level | None, ...] = (*Level, None)
SENT_BACK = frozenset({State.RETURNED, State.REWORK})

Marks = Mapping[tuple[int, str], str]
"""What became of the newest message about an incident to somebody: ``read``, ``sent``, ``waiting`` or ``failed``."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the board is narrowed to; "" and False: everything."""

    river: str = ""
    level: str = ""
    overdue: bool = False
    mine: bool = False

    @property
    def narrows(self) -> bool:
        return bool(self.river or self.level or self.overdue or self.mine)


@dataclass(frozen=True, slots=True)
class Card:
    """An incident on the board. ``share`` of its limit is left (None: no clock runs), ``sort`` as for deadlines.

    ``who`` has it, ``mark`` what became of the newest message to them; ``raised_to`` is the region that it went up to.
    ``to`` are the lanes that it can be dispatched to; ``fixed`` says why it can be dispatched to none.
    """

    row: IncidentView
    phase: Phase
    place: str
    what: str
    sort: str
    words: Text
    share: float | None
    who: str
    department: str
    mark: str
    raised_to: Text | None
    to: tuple[str, ...]
    fixed: Text | None

    @property
    def incident(self) -> Incident:
        return self.row.incident

    @property
    def sent_back(self) -> bool:
        return self.row.state in SENT_BACK


@dataclass(frozen=True, slots=True)
class Lane:
    """A level: its cards by column; ``regions`` of this level are registered."""

    level: Level | None
    columns: tuple[tuple[Card, ...], ...]
    regions: int

    @property
    def key(self) -> str:
        return lane_key(self.level)

    @property
    def cards(self) -> tuple[Card, ...]:
        return tuple(card for column in self.columns for card in column)

    @property
    def overdue(self) -> int:
        return sum(card.sort == "over" for card in self.cards)

    @property
    def sent_back(self) -> int:
        return sum(card.sent_back for card in self.cards)


@dataclass(frozen=True, slots=True)
class Board:
    """The lanes that are shown, the number of cards of each lane whatever level is chosen, and the rivers to choose."""

    lanes: tuple[Lane, ...]
    by_level: Mapping[str, int]
    rivers: tuple[tuple[str, Text], ...]

    @property
    def cards(self) -> tuple[Card, ...]:
        return tuple(card for lane in self.lanes for card in lane.cards)

    @property
    def by_phase(self) -> tuple[tuple[Phase, int], ...]:
        return tuple((phase, sum(card.phase is phase for card in self.cards)) for phase in Phase)

    @property
    def overdue(self) -> int:
        return sum(lane.overdue for lane in self.lanes)

    @property
    def sent_back(self) -> int:
        return sum(lane.sent_back for lane in self.lanes)

    @property
    def first(self) -> str:
        """The lane that a phone shows first: the highest one with something in it."""
        return next((lane.key for lane in self.lanes if lane.cards), self.lanes[0].key if self.lanes else "")

    @property
    def arrangement(self) -> str:
        """Which card stands where: equal ones need no one to look anew."""
        return " ".join(f"{card.row.id}:{lane.key}:{card.phase}" for lane in self.lanes for card in lane.cards)


def build(
    model: Model, registry: Registry, regions: Regions, actor: Actor, choice: Choice, marks: Marks, language: str
) -> Board:
    """The board of what is within somebody's jurisdiction and fits the choice."""
    rivers = {reach.key: Text(reach.zh, reach.en) for reach in registry.reaches}
    reach_of = reach_finder(registry)
    seen = [row for row in model.incidents if row.incident.is_open and lifecycle.in_jurisdiction(row.incident, actor)]
    there = {reach_of(row.incident) for row in seen}
    fitting = [row for row in seen if _fits(row.incident, choice, actor, reach_of, model.at_ms)]
    fitting.sort(key=lambda row: lifecycle.worklist_order(row.incident, model.at_ms))
    cards: dict[Level | None, list[Card]] = {level: [] for level in LANES}
    lanes_of: dict[Place, tuple[str, ...]] = {}
    for row in fitting:
        card = _card(row, registry, regions, marks, model.at_ms, language)
        fixed = why_not_sent(row.incident, actor)
        if fixed is None and row.incident.place not in lanes_of:
            lanes_of[row.incident.place] = lanes_for(row.incident, regions, actor)
        to = () if fixed else lanes_of[row.incident.place]
        cards[level_of(row.incident, regions)].append(replace(card, to=to, fixed=fixed))
    counted = {level: sum(region.level is level for region in registry.regions) for level in Level}
    lanes = tuple(
        Lane(
            level,
            tuple(tuple(card for card in cards[level] if card.phase is phase) for phase in Phase),
            counted[level] if level is not None else 0,
        )
        for level in LANES
        if (level is not None or cards[None]) and choice.level in ("", lane_key(level))
    )
    by_level = {lane_key(level): len(found) for level, found in cards.items() if level is not None or found}
    return Board(lanes, by_level, tuple((key, name) for key, name in rivers.items() if key in there))


def lane_key(level: Level | None) -> str:
    """The key of a lane, as the address has it."""
    return NO_REGION if level is None else level.key


def level_of(incident: Incident, regions: Regions) -> Level | None:
    """The level of the region that has the case now; None where it lies in no registered region."""
    code = incident.place.region
    return regions[code].level if code in regions else None


def regions_at(level: Level, incident: Incident, regions: Regions, actor: Actor) -> tuple[str, ...]:
    """The regions of a level that somebody can send a case to: the one around its own, else those within it."""
    own = incident.place.region
    around = tuple(code for code in regions.up(own) if code in regions and regions[code].level is level)
    return tuple(code for code in around or regions.below(own, level) if actor.covers(code, incident.place.reach))


def why_not_sent(incident: Incident, actor: Actor) -> Text | None:
    """Why somebody cannot dispatch a case; None where they can."""
    order = tuple(Phase)
    if order.index(PHASE_OF_STATE[incident.state]) > order.index(Phase.START):
        return say("board.drag_begun", state=say(f"state.{incident.state}"))
    why = action_bar.why_closed(incident, Action.DISPATCH, actor)
    return say("board.drag_cannot", why=why) if why else None


def lanes_for(incident: Incident, regions: Regions, actor: Actor) -> tuple[str, ...]:
    """The lanes that have a region for a case."""
    return tuple(level.key for level in Level if regions_at(level, incident, regions, actor))


def aimed(bar: ActionBar, lane: str, to: str, regions: Regions, actor: Actor) -> ActionBar:
    """The bar with a dispatch form that begins with the lane or the person that a card was dropped on."""
    if bar.to is None:
        return bar
    given = bar.suggested
    level = next((one for one in Level if one.key == lane), None)
    if level is not None and (found := regions_at(level, bar.incident, regions, actor)):
        region = given.region if given.region in found else found[0] if len(found) == 1 else ""
        near = [one.name for one in bar.to.candidates if one.region == region]
        given = replace(given, region=region, responsible=near[0] if near else "")
    if (one := next((one for one in bar.to.candidates if one.name == to), None)) is not None:
        given = replace(given, region=one.region, responsible=to)
    elif to in bar.to.others:
        given = replace(given, responsible="*", other=to)
    return replace(bar, suggested=given)


def place_name(code: str, regions: Regions) -> Text | None:
    """The name of a region; None for one that is not registered."""
    return Text(regions[code].zh, regions[code].en) if code in regions else None


def reach_finder(registry: Registry) -> Callable[[Incident], str]:
    """Tells the reach of an incident: its own, else that of its station."""
    of_station = {station.key: station.reach for station in registry.stations}
    return lambda incident: incident.place.reach or of_station.get(incident.station, "")


def is_mine(incident: Incident, actor: Actor) -> bool:
    """Whether somebody has the case: responsible for it, handling it, or of the department it went to."""
    case = incident.case
    of_department = actor.department is not None and actor.department in (case.department, *case.joint)
    return actor.answers_for(case.responsible) or actor.name in (case.handler, _accepting(incident)) or of_department


def holder(incident: Incident) -> str:
    """Who has the case now: who handles it, else who answers for it, else who accepted it."""
    return incident.case.handler or incident.case.responsible or _accepting(incident)


def time_left(incident: Incident, now_ms: int) -> tuple[str, Text, float | None]:
    """The sort (``none``, ``paused``, ``left``, ``soon``, ``over``), the words and the share left of the limit."""
    case = incident.case
    sort, left_ms = incident_models.time_left(incident, now_ms)
    if sort == "paused":
        return sort, say("board.paused"), None
    if case.due_ms is None:
        return sort, say("board.no_limit"), None
    if sort == "over":
        return sort, say("board.over", time=duration(-left_ms)), 0.0
    whole_ms = case.due_ms - case.step_since_ms
    share = min(1.0, left_ms / whole_ms) if whole_ms > 0 else 0.0
    return sort, say("board.left", time=duration(left_ms)), share


def _accepting(incident: Incident) -> str:
    """Who accepted it, as long as nobody else has it."""
    waits = PHASE_OF_STATE.get(incident.state) is Phase.DISPATCH
    return (incident.accepted_by or "") if waits else ""


def _fits(incident: Incident, choice: Choice, actor: Actor, reach_of: Callable[[Incident], str], now_ms: int) -> bool:
    return (
        (not choice.river or reach_of(incident) == choice.river)
        and (not choice.overdue or time_left(incident, now_ms)[0] == "over")
        and (not choice.mine or is_mine(incident, actor))
    )


def _in(text: Text, language: str) -> str:
    return text.en if language == "en" else text.zh


def _card(row: IncidentView, registry: Registry, regions: Regions, marks: Marks, now_ms: int, language: str) -> Card:
    incident, case = row.incident, row.incident.case
    sort, words, share = time_left(incident, now_ms)
    named = incident.headline.place if incident.headline is not None else place_of(incident, registry)
    place, what = parts(_in(row.sentence, language), _in(named, language) if named is not None else "")
    raised = place_name(case.escalated_to, regions) if case.escalated_to != incident.place.region else None
    who = holder(incident)
    return Card(
        row=row,
        phase=PHASE_OF_STATE[incident.state],
        place=place,
        what=what,
        sort=sort,
        words=words,
        share=share,
        who=who,
        department=str(case.department) if case.department else "",
        mark=marks.get((incident.id, who), ""),
        raised_to=raised,
        to=(),
        fixed=None,
    )


def parts(sentence: str, place: str) -> tuple[str, str]:
    """The place and the rest of a title; the place is "" where the title does not begin with it."""
    if not place or not sentence.startswith(place) or sentence == place:
        return "", sentence
    return place, sentence.removeprefix(place).lstrip(": ")
