"""What the public is told of a water and of a report: no names but the chiefs', no words of others. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.pages.models.map import region_on_map
from governance.incidents.model import Entry, EntryKind, Incident, State
from governance.reports import public_warnings
from infra.texts import Text, say
from ingest.analysis.live_classes import ShownClass
from sensors.network import length_km, point_at_km
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Reach, Registry

KINDS: Mapping[str, str] = {"smell": "discharge", "litter": "litter", "outfall": "discharge", "shore": "occupation"}
"""What people see, and the process that fits; anything else the office sorts."""
STAGES = ("received", "working", "result")
_STAGE: Mapping[State, int] = {State.REPORTED: 0} | dict.fromkeys(
    (State.HANDLED, State.VERIFIED, State.CLOSED, State.REJECTED, State.FALSE_ALARM), 2
)
_STEPS: Mapping[EntryKind, str] = {
    EntryKind.FIRED: "found",
    EntryKind.PROMOTED: "found",
    EntryKind.REPORTED: "received",
    EntryKind.ACCEPTED: "accepted",
    EntryKind.DISPATCHED: "dispatched",
    EntryKind.STARTED: "started",
    EntryKind.FINISHED: "finished",
    EntryKind.REWORKED: "reworked",
    EntryKind.CLOSED: "closed",
    EntryKind.REJECTED: "refused",
    EntryKind.FALSE_ALARM: "refused",
    EntryKind.REOPENED: "reopened",
}
"""What of a case the public is told, by the name of its sentence."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that was done, and when: ``key`` names its sentence."""

    key: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class WaterRow:
    """A water in the list of all: its names and place, its class, and the colour of `alarm` with its begin."""

    reach: Reach
    name: Text
    place: Text
    live: ShownClass | None
    colour: str
    since_ms: int | None

    @property
    def warns(self) -> bool:
        """Whether the public is warned of it."""
        return is_warning(self.colour)

    @property
    def water_class(self) -> WaterClass | None:
        """Its class, as `shown_class` has it."""
        return shown_class(self.live)

    @property
    def head(self) -> str:
        """The name of the sentence that says how the water is."""
        return head(self.live, self.colour)

    @property
    def measured_ms(self) -> int | None:
        """When it was measured; None where it is not judged."""
        return measured_ms(self.live)


@dataclass(frozen=True, slots=True)
class Known:
    """A problem that somebody reported already, by its kind (a process key, "" for none) and when."""

    number: int
    matter: str
    at_ms: int
    done_ms: int | None
    working: bool


def worded(kind: str, text: str) -> str:
    """What goes into the record: what kind of thing it is, in words, and what was typed."""
    named = say(f"citizen.kind_{kind}").zh if kind in (*KINDS, "other") else ""
    text = text.strip()
    return text if kind == "other" else "：".join(part for part in (named, text) if part)


def matter_of(kind: str, known: Iterable[str]) -> str:
    """The key of the process that fits what was seen; "" where the site has none."""
    matter = KINDS.get(kind, "")
    return matter if matter in set(known) else ""


def stage(state: State) -> int:
    """How far a report has come: an index of ``STAGES``."""
    return _STAGE.get(state, 1)


def steps(history: Iterable[Entry]) -> list[Step]:
    """What was done in a case, newest first; each kind at its first time since it was opened last."""
    found: list[Step] = []
    for entry in history:
        key = _STEPS.get(entry.what)
        if key == "reopened":
            found = [one for one in found if one.key in ("received", "found")]
        if key is not None and all(one.key != key for one in found):
            found.append(Step(key, entry.at_ms))
    return found[::-1]


def known(case: Incident) -> Known:
    """A reported problem as others may read of it."""
    done_ms = case.closed_at_ms if case.state is State.CLOSED else None
    return Known(case.id, case.case.matter, case.opened_at_ms, done_ms, stage(case.state) > 0)


def alarm(live: ShownClass | None, going_on: Sequence[Incident]) -> tuple[str, int | None]:
    """The most urgent colour that goes on at a water and since when; ``calm`` where none does; "" where that is not
    known: no data is no good news."""
    if (found := public_warnings.most_urgent(going_on)) is not None:
        return found[0].value, found[1]
    if shown_class(live) is not None:
        return "calm", None
    return "", None


def shown_class(live: ShownClass | None) -> WaterClass | None:
    """The class of a water; None where it is not judged, or where no station measures any more: then it is the past."""
    return None if live is None or live.silent >= live.stations else live.water_class


def head(live: ShownClass | None, colour: str) -> str:
    """The name of the sentence that says how a water is; under a warning no class invites anybody to the water."""
    if is_warning(colour):
        return "warned"
    water_class = shown_class(live)
    if water_class is None and live is not None and live.water_class is not None:
        return "old"
    return str(int(water_class or 0))


def measured_ms(live: ShownClass | None) -> int | None:
    """When a water was measured; None where it is not judged."""
    if live is None or live.water_class is None:
        return None
    return live.at_ms if live.measured_ms is None else live.measured_ms


def by_reach(going_on: Iterable[Incident], registry: Registry) -> dict[str, list[Incident]]:
    """Incidents by the reach whose sign warns of them: that of their place, and that of their station."""
    found: dict[str, list[Incident]] = {}
    for one in going_on:
        at = {registry[one.station].reach} if one.station in registry else set()
        for key in at | {one.place.reach}:
            found.setdefault(key, []).append(one)
    return found


def rows(registry: Registry, classes: Mapping[str, ShownClass], going_on: Iterable[Incident]) -> list[WaterRow]:
    """All waters, those with a warning first, of these and of the others the worst first, what is not judged last."""
    of = by_reach(going_on, registry)
    named = {one.code: Text(one.zh, one.en) for one in registry.regions}
    places: dict[str, set[str]] = {}
    for station in registry.stations:
        if station.region in named:
            places.setdefault(station.reach, set()).add(station.region)
    found = []
    for one in registry.reaches:
        live = classes.get(one.key)
        colour, since_ms = alarm(live, of.get(one.key, ()))
        place = named[min(places[one.key])] if one.key in places else Text("", "")
        found.append(WaterRow(one, Text(one.zh, one.en), place, live, colour, since_ms))
    ranks = {colour.value: colour.rank for colour in public_warnings.WARNING_COLOURS}
    found.sort(key=lambda one: (ranks.get(one.colour, 9), -int(one.water_class or 0), one.reach.key))
    return found


def named_like(found: Sequence[WaterRow], words: str) -> list[WaterRow]:
    """Those whose name or place has all of these words."""
    parts = words.lower().split()
    texts = ((one, f"{one.name.zh} {one.name.en} {one.place.zh} {one.place.en}".lower()) for one in found)
    return [one for one, text in texts if all(part in text for part in parts)]


def on_the_map(
    found: Sequence[WaterRow], registry: Registry, title: Callable[[WaterRow], str], english: bool
) -> dict[str, Any]:
    """What the island draws of it: reaches with their class, regions, and a pennant in the middle of what is warned of.
    Neither stations nor incidents are in it."""
    pennants = []
    for number, one in enumerate(found, 1):
        if one.warns and len(one.reach.line) > 1:
            lon, lat = point_at_km(one.reach.line, length_km(one.reach.line) / 2)
            row = {"id": number, "colour": one.colour, "title": title(one), "lon": lon, "lat": lat, "stations": []}
            pennants.append({**row, "href": f"/r/{one.reach.key}"})
    reaches = [
        {
            "key": one.reach.key,
            "class": int(one.water_class or 0),
            "silent": one.water_class is None,
            "line": one.reach.line,
            "name": one.name.en if english else one.name.zh,
            "zh": one.name.zh,
            "en": one.name.en,
            "href": f"/r/{one.reach.key}",
        }
        for one in found
    ]
    base = [region_on_map(one, english) for one in registry.regions]
    return {"mark": "", "base": base, "reaches": reaches, "stations": [], "incidents": pennants, "points": []}


def is_warning(colour: str) -> bool:
    """Whether the page begins with a warning: the water is not as usual, and contact may harm."""
    return colour in public_warnings.WARNING_COLOURS
