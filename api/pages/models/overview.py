"""What the start page shows, made from registry, newest readings, incidents and ledger. Pure: no clock, no database.

One model serves every client; a client that has seen the one before is told only the :class:`Delta`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property

from api.titles import titled
from governance.incidents import lifecycle
from governance.incidents.finding import Colour, FindingKind
from governance.incidents.model import Action, Incident, State
from governance.incidents.queries import Counts
from infra.texts import Text, say
from ingest.analysis.live_classes import ShownClass
from ingest.ledger import Account
from ingest.storage.port import Latest
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Registry


class Data(StrEnum):
    """How fresh a station's newest reading is, measured by the interval it promised. Says nothing about the water."""

    NORMAL = "normal"
    LATE = "late"
    OFFLINE = "offline"
    NEVER = "never"
    RETIRED = "retired"
    """Out of service: shown on its own pages, and in no picture or count of the site."""


COLOURS: tuple[Colour | None, ...] = (None, *Colour)
_STATES = tuple(Data)


def data_state(newest_at_ms: int | None, interval_s: int, now_ms: int, *, retired: bool = False) -> Data:
    """正常 up to 1.5 promised intervals, 滞后 up to 3, 离线 beyond; both limits still belong to the better state."""
    if retired:
        return Data.RETIRED
    if newest_at_ms is None:
        return Data.NEVER
    age_ms, interval_ms = now_ms - newest_at_ms, interval_s * 1000
    if 2 * age_ms <= 3 * interval_ms:
        return Data.NORMAL
    return Data.LATE if age_ms <= 3 * interval_ms else Data.OFFLINE


def code_of(state: Data, colour: Colour | None, water_class: WaterClass | None = None) -> int:
    """What a station's mark shows as one number, so that pictures are quickly compared."""
    return (int(water_class or 0) * len(COLOURS) + COLOURS.index(colour)) * len(Data) + _STATES.index(state)


@dataclass(frozen=True, slots=True)
class StationView:
    """A station on the map. ``colour`` is that of its worst open live incident.

    ``newest_at_ms`` is its newest reading of any flag; ``headline`` the newest usable one of each parameter.
    """

    key: str
    name: Text
    interval_s: int
    state: Data
    colour: Colour | None
    newest_at_ms: int | None
    headline: tuple[Latest, ...]
    reach: str = ""
    water_class: WaterClass | None = None
    """The class it shows; None where none can be judged."""

    @property
    def code(self) -> int:
        return code_of(self.state, self.colour, self.water_class)


@dataclass(frozen=True, slots=True)
class IncidentView:
    """A row of the incident list. ``name`` is the station's, or the gateway's that silenced several.

    ``active`` counts the conditions not over yet; ``actions`` are those the lifecycle accepts now.
    """

    id: int
    version: int
    colour: Colour
    kind: FindingKind
    station: str
    parameter: str | None
    name: Text
    sentence: Text
    since_ms: int
    state: State
    retrospective: bool
    active: int
    accepted_by: str | None
    closed_at_ms: int | None
    limit: float | None
    actions: tuple[Action, ...]
    incident: Incident = field(repr=False)
    source: Text | None = None
    """The sentence that names where it may have come from."""
    value: float | None = None
    """What its lead parameter measures now."""


@dataclass(frozen=True, slots=True)
class Book:
    """Today's ledger over all stations; ``missing`` is None where messages are lost whose readings nobody counted."""

    closed: bool
    stored: int
    quarantined: int
    missing: int | None


@dataclass(frozen=True, slots=True)
class ReachView:
    """A reach with the class it shows; ``shown`` None: it was never judged."""

    key: str
    name: Text
    shown: ShownClass | None

    @property
    def water_class(self) -> WaterClass | None:
        return None if self.shown is None else self.shown.water_class


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes that are shown, by key."""

    reaches: Mapping[str, ShownClass] = field(default_factory=dict)
    stations: Mapping[str, WaterClass | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """One picture of everything in service, stations by key. Two pictures are equal if they look the same."""

    at_ms: int = field(compare=False)
    stations: tuple[StationView, ...]
    incidents: tuple[IncidentView, ...]
    by_state: Mapping[Data, int]
    open_by_colour: Mapping[Colour, int]
    open_retrospective: int
    book: Book
    reaches: tuple[ReachView, ...] = ()

    @cached_property
    def index(self) -> dict[str, int]:
        return {s.key: i for i, s in enumerate(self.stations)}

    @cached_property
    def water(self) -> "Model":
        """The same picture for who does not see incidents."""
        stations = tuple(replace(s, colour=None) for s in self.stations)
        return replace(self, stations=stations, incidents=(), open_by_colour={}, open_retrospective=0)

    @cached_property
    def codes(self) -> tuple[int, ...]:
        """(stations,) the code of each station."""
        return tuple(s.code for s in self.stations)

    def station(self, key: str) -> StationView | None:
        i = self.index.get(key)
        return None if i is None else self.stations[i]


@dataclass(frozen=True, slots=True)
class Delta:
    """What a map that shows one model must repaint to show the next: the stations at these positions.

    ``others`` tells that the stations themselves are not the same any more: positions have to be fetched again.
    """

    indices: tuple[int, ...]
    others: bool = False

    def __bool__(self) -> bool:
        return self.others or bool(self.indices)


def delta(before: Model, after: Model) -> Delta:
    """The stations whose mark changed, and only those."""
    if before.index.keys() != after.index.keys():
        return Delta((), others=True)
    return Delta(tuple(i for i, (old, new) in enumerate(zip(before.codes, after.codes, strict=True)) if old != new))


def build(
    registry: Registry,
    latest: Iterable[Latest],
    incidents: Sequence[Incident],
    counts: Counts,
    accounts: Iterable[Account],
    now_ms: int,
    sources: Mapping[int, Text] | None = None,
    classes: Classes | None = None,
) -> Model:
    """The picture of this moment; ``incidents`` holds the open ones and those closed ones that shall be listed.

    ``sources`` names where an incident may have come from, ``classes`` the class that each reach and station shows.
    """
    classes = classes or Classes()
    rows: dict[str, list[Latest]] = {}
    newest_rows = list(latest)
    for row in newest_rows:
        rows.setdefault(row.station, []).append(row)
    worst = worst_colours(registry, incidents)
    stations = []
    for s in sorted(registry.in_service, key=lambda s: s.key):
        mine = rows.get(s.key, ())
        newest = max((row.newest_at_ms for row in mine), default=None)
        stations.append(
            StationView(
                key=s.key,
                name=Text(s.zh, s.en),
                interval_s=s.interval_s,
                state=data_state(newest, s.interval_s, now_ms),
                colour=worst.get(s.key),
                newest_at_ms=newest,
                headline=tuple(mine),
                reach=s.reach,
                water_class=classes.stations.get(s.key),
            )
        )
    by_state: dict[Data, int] = {state: 0 for state in Data if state is not Data.RETIRED}
    for view in stations:
        by_state[view.state] += 1
    order = sorted(incidents, key=_place)
    values = {(row.station, row.parameter): row.value for row in newest_rows if row.value is not None}
    return Model(
        at_ms=now_ms,
        stations=tuple(stations),
        incidents=tuple(_row(registry, incident, (sources or {}).get(incident.id), values) for incident in order),
        by_state=by_state,
        open_by_colour=_by_colour(counts),
        open_retrospective=counts.open_retrospective,
        book=_book(accounts),
        reaches=tuple(
            ReachView(reach.key, Text(reach.zh, reach.en), classes.reaches.get(reach.key))
            for reach in sorted(registry.reaches, key=lambda reach: reach.key)
        ),
    )


def _by_colour(counts: Counts) -> dict[Colour, int]:
    """The open incidents by colour as the list shows them: what late data showed is blue."""
    found = dict(counts.open_by_colour)
    found[Colour.BLUE] = found.get(Colour.BLUE, 0) + counts.open_retrospective
    return found


def _place(incident: Incident) -> tuple[int, int, int, int]:
    """The most urgent first, of these the newest; what late data showed stands below what happens now, and what is
    closed below both."""
    if incident.closed_at_ms is not None:
        return 2, 0, -incident.closed_at_ms, -incident.id
    return int(incident.retrospective), incident.colour.rank, -incident.opened_at_ms, -incident.id


def worst_colours(registry: Registry, incidents: Iterable[Incident]) -> dict[str, Colour]:
    """The most urgent open live incident of each station; a gateway's stands for all its stations."""
    behind: dict[str, list[str]] = {}
    for s in registry.stations:
        if s.gateway is not None:
            behind.setdefault(s.gateway, []).append(s.key)
    worst: dict[str, Colour] = {}
    for incident in incidents:
        if incident.retrospective or not incident.is_open:
            continue
        for subject in {incident.station, *(c.station for c in incident.active)}:
            for key in [subject] if subject in registry else behind.get(subject, ()):
                if key not in worst or incident.colour.rank < worst[key].rank:
                    worst[key] = incident.colour
    return worst


def _row(
    registry: Registry, incident: Incident, source: Text | None, values: Mapping[tuple[str, str], float]
) -> IncidentView:
    if incident.station in registry:
        known = registry[incident.station]
        name = Text(known.zh, known.en)
    else:
        name = say("console.gateway", gateway=incident.station)
    return IncidentView(
        id=incident.id,
        version=incident.version,
        colour=incident.colour,
        kind=incident.kind,
        station=incident.station,
        parameter=incident.parameter,
        name=name,
        sentence=titled(incident, values, registry),
        value=values.get(incident.leading) if incident.leading else None,
        since_ms=incident.since_ms,
        state=incident.state,
        retrospective=incident.retrospective,
        active=len(incident.active),
        accepted_by=incident.accepted_by,
        closed_at_ms=incident.closed_at_ms,
        limit=incident.limit,
        actions=lifecycle.allowed(incident),
        incident=incident,
        source=source,
    )


def _book(accounts: Iterable[Account]) -> Book:
    closed, stored, quarantined = True, 0, 0
    missing: int | None = 0
    for account in accounts:
        closed = closed and account.closed
        stored += account.stored
        quarantined += account.quarantined
        missing = None if missing is None or account.missing is None else missing + account.missing
    return Book(closed, stored, quarantined, missing)
