"""The inbox: what the address narrows it to, which rows stand for several incidents, how a row reads. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from api.pages.models import board
from api.requests import whole_number
from api.titles import place as place_of
from api.titles import titled
from governance.incidents import lifecycle
from governance.incidents.finding import Colour, FindingKind
from governance.incidents.inbox import InboxQuery, InboxRow, InboxView
from governance.incidents.model import Action, Incident, State
from governance.organisation.regions import Regions
from governance.organisation.roles import Actor
from infra.texts import Text, say
from sensors.network import Level
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Registry

STORM_LEAST = 3
"""So many incidents of one kind are one row (our choice)."""
STORM_GAP_MS = 2 * 3_600_000
"""Incidents of one storm begin no further apart (our choice)."""
WORDS_LIMIT = 60
OLD_SHOW = {"open": InboxView.OPEN, "over": InboxView.CLOSED, "all": InboxView.ALL}
"""What addresses of earlier versions say under ``show``."""
_DEVICES = (FindingKind.DEVICE, FindingKind.NO_DATA)
_SIGNS: Mapping[FindingKind, str] = {
    FindingKind.DEVICE: "fault",
    FindingKind.NO_DATA: "fault",
    FindingKind.FORECAST: "forecast",
    FindingKind.REPORT: "seen",
    FindingKind.TREND: "change",
    FindingKind.DAILY_PATTERN: "change",
}
SURE, LIKELY = 0.8, 0.5
"""From these confidences on a judgement is sure, likely; below, weak (our choice)."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the address says, as far as it is known; "" narrows nothing. ``opened`` is the storm whose rows show."""

    view: InboxView = InboxView.MINE
    colour: str = ""
    river: str = ""
    region: str = ""
    handler: str = ""
    state: str = ""
    kind: str = ""
    words: str = ""
    opened: str = ""
    page: int = 1
    before: int | None = None

    @property
    def narrows(self) -> bool:
        """Whether there is a filter beside the view."""
        return bool(self.filters)

    @property
    def filters(self) -> tuple[tuple[str, str], ...]:
        """The filters that are set, as the address names them."""
        given = (
            ("colour", self.colour),
            ("river", self.river),
            ("region", self.region),
            ("handler", self.handler),
            ("state", self.state),
            ("kind", self.kind),
            ("q", self.words),
        )
        return tuple((name, value) for name, value in given if value)

    @property
    def query(self) -> str:
        """View and filters as the address has them; what is saved under a name."""
        return urlencode([("view", self.view.value), *self.filters])

    @property
    def contradiction(self) -> Text | None:
        """Why nothing can be shown: the view holds no incident of the chosen state."""
        if not self.state or State(self.state) in self.view.states:
            return None
        return say("inbox.contradiction", view=say(f"inbox.view_{self.view}"), state=say(f"state.{self.state}"))


def choice(given: Mapping[str, str], registry: Registry) -> Choice:
    """What an address says; what is unknown narrows nothing."""

    def one(name: str, known: Iterable[str]) -> str:
        value = given.get(name, "").strip()
        return value if value in set(known) else ""

    view = one("view", InboxView)
    old = OLD_SHOW.get(given.get("show", ""), InboxView.MINE)
    return Choice(
        view=InboxView(view) if view else old,
        colour=one("colour", Colour),
        river=one("river", (reach.key for reach in registry.reaches)),
        region=one("region", (region.code for region in registry.regions)),
        handler=_clean(given.get("handler", "")),
        state=one("state", State),
        kind=one("kind", FindingKind),
        words=_clean(given.get("q", "")),
        opened=given.get("group", "")[:20],
        page=max(1, whole_number(given.get("page", "")) or 1),
        before=whole_number(given.get("before", "")),
    )


def _clean(text: str) -> str:
    """Words that every database can look for."""
    return "".join(letter for letter in text if letter.isprintable() and not "\ud800" <= letter <= "\udfff").strip()[
        :WORDS_LIMIT
    ]


def query(choice: Choice, registry: Registry, regions: Regions) -> InboxQuery:
    """The query of a choice: words also find places by name, and an incident by its number."""
    words = choice.words.lower()
    found = InboxQuery(
        view=choice.view,
        colour=Colour(choice.colour) if choice.colour else None,
        reach=choice.river,
        regions=regions.within(choice.region),
        handler=choice.handler,
        state=State(choice.state) if choice.state else None,
        kind=FindingKind(choice.kind) if choice.kind else None,
        words=choice.words,
        number=whole_number(choice.words.removeprefix("#")),
    )
    if not words:
        return found
    reaches = frozenset(one.key for one in registry.reaches if words in one.zh.lower() or words in one.en.lower())
    named = [one.code for one in registry.regions if words in one.zh.lower() or words in one.en.lower()]
    below = frozenset(code for one in named for code in regions.within(one) or (one,))
    return replace(found, words_reaches=reaches, words_regions=below)


# -- storms ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Group:
    """A row of the list: one incident, or several of one storm, the most urgent first."""

    rows: tuple[InboxRow, ...]

    @property
    def key(self) -> str:
        """The storm is named by the incident that began first."""
        return str(min(row.id for row in self.rows))

    @property
    def is_storm(self) -> bool:
        return len(self.rows) > 1


def groups(rows: Sequence[InboxRow], gateway_of: Callable[[str], str]) -> tuple[Group, ...]:
    """The rows of the list, in the order of the most urgent of each.

    A storm is of one kind, parameter and state, behind one gateway or on one river, with beginnings that follow each
    other closely. What people report is never grouped: each is somebody's words.
    """
    alike: dict[tuple[object, ...], list[InboxRow]] = {}
    for row in rows:
        anchor = gateway_of(row.station) if row.kind in _DEVICES else row.reach
        single = row.kind is FindingKind.REPORT or not anchor
        key = (row.id,) if single else (anchor, row.kind, row.parameter, row.state, row.retrospective)
        alike.setdefault(key, []).append(row)
    storm_of: dict[int, tuple[InboxRow, ...]] = {}
    for members in alike.values():
        for storm in _close(members):
            if len(storm) >= STORM_LEAST:
                storm_of |= dict.fromkeys((row.id for row in storm), storm)
    found: list[Group] = []
    shown: set[int] = set()
    for row in rows:
        if row.id not in shown:
            members_ = storm_of.get(row.id, (row,))
            together = {one.id for one in members_}
            found.append(Group(tuple(one for one in rows if one.id in together) if len(members_) > 1 else members_))
            shown |= together
    return tuple(found)


def _close(members: Sequence[InboxRow]) -> list[tuple[InboxRow, ...]]:
    """The members in runs whose beginnings follow each other within the gap."""
    runs: list[list[InboxRow]] = []
    for row in sorted(members, key=lambda one: one.since_ms):
        if not runs or row.since_ms - runs[-1][-1].since_ms > STORM_GAP_MS:
            runs.append([])
        runs[-1].append(row)
    return [tuple(run) for run in runs]


def arrangement(found: Iterable[Group]) -> str:
    """What stands in the list, in order: equal ones need nobody to look anew."""
    return " ".join(f"{row.id}:{row.state}:{row.colour}" for group in found for row in group.rows)


# -- rows --------------------------------------------------------------------------------------------------------------


EXPORT_HEAD = (
    "column_number",
    "column_colour",
    "column_place",
    "column_what",
    "column_class",
    "column_sign",
    "column_state",
    "column_who",
    "column_department",
    "column_where",
    "column_street",
    "column_since",
    "column_until",
    "column_left",
    "column_closed",
)
"""Columns of the list as a file."""


@dataclass(frozen=True, slots=True)
class Line:
    """An incident as a row shows it.

    ``sort``, ``words`` and ``until_ms`` are its limit's; ``sign`` is fault, pollution, forecast, seen, change or late,
    ``sure`` high, middle, low or "" (nobody can say); ``actions`` are open to who looks.
    """

    incident: Incident
    place: str
    what: str
    water_class: WaterClass | None
    sort: str
    words: Text
    sign: str
    sure: str
    who: str
    department: str
    region: Text | None
    street: Text | None
    actions: frozenset[Action]

    @property
    def until_ms(self) -> int | None:
        return self.incident.case.due_ms if self.sort in ("left", "soon", "over") else None

    @property
    def ref(self) -> str:
        """Number and version, as a form carries them."""
        return f"{self.incident.id}:{self.incident.version}"

    @property
    def sends(self) -> bool:
        """Whether who looks may dispatch it as the next step."""
        again = self.incident.state in (State.DISPATCHED, State.TRANSFERRED)
        return Action.DISPATCH in self.actions and not again


@dataclass(frozen=True, slots=True)
class Places:
    """What a row needs to know of places: registry, regions, the class that each reach shows now, newest values."""

    registry: Registry
    regions: Regions
    class_of: Mapping[str, WaterClass | None]
    values: Mapping[tuple[str, str], float]


def line(incident: Incident, places: Places, actor: Actor, now_ms: int, language: str) -> Line:
    """A row of an incident."""
    sort, words, _ = board.time_left(incident, now_ms)
    named = incident.headline.place if incident.headline is not None else place_of(incident, places.registry)
    title = titled(incident, places.values, places.registry)
    place, what = board.parts(_in(title, language), _in(named, language) if named is not None else "")
    sign, sure = evidence(incident)
    code = incident.place.region
    return Line(
        incident=incident,
        place=place,
        what=what,
        water_class=places.class_of.get(incident.place.reach),
        sort=sort,
        words=words,
        sign=sign,
        sure=sure,
        who=board.holder(incident),
        department=str(incident.case.department or ""),
        region=board.place_name(code, places.regions),
        street=board.place_name(street_of(code, places.regions), places.regions),
        actions=frozenset(lifecycle.allowed(incident, actor)),
    )


def evidence(incident: Incident) -> tuple[str, str]:
    """Whether it looks like a fault of a device or pollution, and how sure that is."""
    if incident.retrospective:
        return "late", ""
    sign = _SIGNS.get(incident.kind, "pollution")
    confidence = incident.headline.confidence if incident.headline is not None else None
    if confidence is None:
        return sign, ""
    return sign, "high" if confidence >= SURE else "middle" if confidence >= LIKELY else "low"


def street_of(code: str, regions: Regions) -> str:
    """The street in which a region lies; the region itself where it lies in none."""
    way = [one for one in regions.up(code) if one in regions]
    return next((one for one in way if regions[one].level is Level.STREET), way[0] if way else "")


def by_street(counts: Mapping[str, int], regions: Regions) -> tuple[tuple[str, Text, int], ...]:
    """Code, name and number of the streets that have any, by code."""
    found: dict[str, int] = {}
    for code, number in counts.items():
        street = street_of(code, regions)
        if street:
            found[street] = found.get(street, 0) + number
    return tuple((code, Text(regions[code].zh, regions[code].en), found[code]) for code in sorted(found))


# -- what a form says --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one incident of a bulk action; ``refused`` None: done."""

    number: int
    title: Text | None
    refused: Text | None = None


def refs(values: Iterable[str], most: int) -> tuple[tuple[int, int], ...]:
    """Numbers and versions of the ticked rows, each incident once, at most so many; commas separate a storm's."""
    found: dict[int, int] = {}
    for value in values:
        for part in value.split(","):
            number, _, version = part.strip().partition(":")
            if (one := whole_number(number)) and (seen := whole_number(version)):
                found.setdefault(one, seen)
    return tuple(found.items())[:most]


def _in(text: Text, language: str) -> str:
    return text.en if language == "en" else text.zh
