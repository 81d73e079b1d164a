"""The staff's report: what stands in the form, which water a place lies beside. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from api.pages.models import public
from governance.incidents.finding import Colour
from governance.incidents.model import Incident, Source
from governance.organisation.roles import Actor, Right, Role
from infra.errors import Refused
from infra.texts import Text, say
from sensors.network import distance_to_line_km
from sensors.stations import Registry

BESIDE_KM = 0.5
"""A place so near a river is taken to be about it, unless somebody says otherwise (our choice)."""
LONGEST = 1900
MOST_STATIONS = 300
"""Stations that the choice of the place names one by one; a larger site's are found on the map."""
ON_PATROL = (Role.CHIEF, Role.DEPUTY, Role.GENERAL_CHIEF, Role.GRID_WORKER)
"""Who mostly reports what they saw on a patrol."""
KINDS = (*public.KINDS, "other")
FIELDS = ("kind", "text", "where", "lon", "lat", "source", "colour", "name", "seen")


@dataclass(frozen=True, slots=True)
class Typed:
    """What stands in the form. ``where`` is ``reach:KEY`` or ``station:KEY``, ``photos`` are ids of kept files,
    ``seen`` the mark of what was shown as open nearby.
    """

    kind: str = ""
    text: str = ""
    where: str = ""
    lon: str = ""
    lat: str = ""
    source: str = ""
    colour: str = ""
    name: str = ""
    seen: str = ""
    photos: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """What goes into the record."""
        return public.worded(self.kind, self.text)

    @property
    def point(self) -> tuple[float, float] | None:
        """The place as degrees, longitude first; None where none is given. Raises Refused for what is no number."""
        if not (self.lon or self.lat):
            return None
        try:
            return float(self.lon), float(self.lat)
        except ValueError:
            raise Refused(say("request.lon_lat")) from None


@dataclass(frozen=True, slots=True)
class Spot:
    """The place of a report: the reach, and degrees where they are known."""

    reach: str = ""
    point: tuple[float, float] | None = None

    def __bool__(self) -> bool:
        return bool(self.reach) or self.point is not None


def typed(given: Mapping[str, str], actor: Actor) -> Typed:
    """What a form or an address says, with what the role usually reports."""
    found: dict[str, Any] = {name: _clean(given.get(name, "")) for name in FIELDS}
    source = found["source"] or str(Source.PATROL if actor.role in ON_PATROL else Source.PERSON)
    colour = found["colour"] if actor.may(Right.ACCEPT) and found["colour"] else str(Colour.YELLOW)
    return Typed(**{**found, "source": source, "colour": colour})


def _clean(text: str) -> str:
    """Text as every database keeps it."""
    kept = (letter for letter in text.replace("\r\n", "\n") if letter != "\0" and not "\ud800" <= letter <= "\udfff")
    return "".join(kept).strip()[:LONGEST]


def spot(given: Typed, registry: Registry) -> Spot:
    """Where it is: the place on the map, and the water that was chosen or lies beside it.

    Raises Refused for a place that is no number; an unknown water is none.
    """
    sort, _, key = given.where.partition(":")
    point = given.point
    reach = ""
    if sort == "station" and key in registry:
        station = registry[key]
        reach, point = station.reach, point or (station.lon, station.lat)
    elif sort == "reach" and registry.reach(key) is not None:
        reach = key
    return Spot(reach or (beside(registry, *point) if point else ""), point)


def beside(registry: Registry, lon: float, lat: float) -> str:
    """The reach that a place lies beside; "" for none."""
    lines = ((one.key, one.line) for one in registry.reaches if one.line)
    km, key = min(((distance_to_line_km(line, lon, lat), key) for key, line in lines), default=(BESIDE_KM, ""))
    return key if km <= BESIDE_KM else ""


@dataclass(frozen=True, slots=True)
class Near:
    """What is open near a place: what who reports may see of it, and how many there are in all."""

    shown: tuple[tuple[Incident, Text], ...] = ()
    count: int = 0

    @property
    def mark(self) -> str:
        """Tells whether somebody was shown this; "" where there is nothing to show."""
        return ".".join([*(str(one.id) for one, _ in self.shown), f"n{self.count}"]) if self.count else ""


def with_photos(given: Typed, photos: tuple[str, ...]) -> Typed:
    """The form with these files, each once."""
    return replace(given, photos=tuple(dict.fromkeys(photos)))
