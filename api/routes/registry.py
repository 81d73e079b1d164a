"""The rest of the registry: outfalls, travel times, regions, and who changed what."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Query, Response

from api.access import Keeping, Who, author
from api.requests import (
    GEOJSON,
    JSON,
    Accept,
    Cursor,
    Limit,
    RequestContext,
    RequestRegistries,
    cut,
    place_by_number,
    preferred,
)
from api.responses import VARY, answer, feature, features, viewed
from api.routes.router import subject_router
from governance.organisation.roles import Forbidden
from governance.people import store as people_store
from infra.texts import say
from ingest.storage import changes
from ingest.storage import registry as registry_store
from sensors.network import Outfall, Region, Travel, point_at_km
from sensors.region_outline import geojson
from sensors.stations import Registry

router = subject_router("registry")


@dataclass(frozen=True, slots=True)
class OutfallView:
    """A 排口, `km` down its reach; `lon` and `lat` (WGS 84) lie on the reach's line."""

    key: str
    zh: str
    en: str
    reach: str
    km: float
    type: str
    lon: float | None
    lat: float | None
    note: str


@dataclass(frozen=True, slots=True)
class Outfalls:
    """By reach, from its upper end down."""

    items: list[OutfallView]


@dataclass(frozen=True, slots=True)
class Travels:
    """How long water takes from the upper end of a reach to that of another, in seconds."""

    items: list[Travel]


@dataclass(frozen=True, slots=True)
class RegionView:
    """A region of one of the five levels, with the keys of the stations directly in it.

    ``outlined``: it has an outline, which is the geometry of the GeoJSON answer.
    """

    code: str
    zh: str
    en: str
    level: str
    parent: str | None
    stations: list[str]
    note: str
    outlined: bool


@dataclass(frozen=True, slots=True)
class Regions:
    """The tree, highest level first."""

    items: list[RegionView]


@dataclass(frozen=True, slots=True)
class ChangeView:
    """A change of the registry: of `what` kind, called `key`; `before` is null for what was new."""

    number: int
    what: str
    key: str
    by: str
    at: str | None
    before: Mapping[str, Any] | None
    after: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ChangePage:
    """Changes, newest first."""

    items: list[ChangeView]
    next_cursor: str | None


@router.get("/outfalls", response_model=Outfalls, responses={200: {"content": {GEOJSON: {}}}})
def list_outfalls(
    registries: RequestRegistries,
    accept: Accept = JSON,
    reach: Annotated[str | None, Query(description="of this reach only")] = None,
) -> Response:
    """The outfalls; as GeoJSON with `Accept: application/geo+json`."""
    registry = registries.now()
    found = sorted((o for o in registry.outfalls if reach in (None, o.reach)), key=lambda o: (o.reach, o.km, o.key))
    views = [_outfall(o, registry) for o in found]
    if preferred(accept, (JSON, GEOJSON)) == GEOJSON:
        return features([_feature(o) for o in views])
    return answer(Outfalls(views), headers=VARY)


@router.get("/travels", response_model=Travels)
def list_travels(registries: RequestRegistries) -> Response:
    """Travel times between reaches."""
    return answer(Travels(list(registries.now().travels)))


@router.get("/regions", response_model=Regions, responses={200: {"content": {GEOJSON: {}}}})
def list_regions(registries: RequestRegistries, accept: Accept = JSON) -> Response:
    """The tree of regions down to the grid cells; with outlines, as GeoJSON, with `Accept: application/geo+json`."""
    registry = registries.now()
    views = [_region(r, registry) for r in registry.regions]
    if preferred(accept, (JSON, GEOJSON)) == GEOJSON:
        return features([_region_feature(r, v) for r, v in zip(registry.regions, views, strict=True)])
    return answer(Regions(views), headers=VARY)


@router.delete("/regions/{code:path}", status_code=204)
def remove_region(
    context: RequestContext, who: Who, keeper: Keeping, registries: RequestRegistries, code: str
) -> Response:
    """Take a region out of the tree. 409 with the list while incidents are open in it, or something hangs below it."""
    if not who.covers(code):
        raise Forbidden(say("registry.region_elsewhere", region=code[:80], name=who.name))
    with context.database.write() as connection:
        people_store.require_no_open_cases(connection, code, keeper.regions())
        registry_store.remove_region(connection, code, author(who, None, context.clock_ms()))
    registries.changed()
    keeper.forget()
    return Response(status_code=204)


@router.get("/registry/changes", response_model=ChangePage)
def list_changes(
    context: RequestContext,
    what: Annotated[str | None, Query(description="station, deployment, calibration, visit, reach …")] = None,
    key: Annotated[str | None, Query(description="a station's key finds what hangs there, too")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Who changed what, when, from which to which; newest first."""
    before_id = place_by_number("changes", cursor)
    with context.database.read() as connection:
        found = changes.listing(connection, what=what, key=key, before_id=before_id, limit=limit + 1)
    page, following = cut("changes", found, limit, lambda one: one.id)
    return answer(ChangePage([viewed(ChangeView, c, number=c.id) for c in page], following))


def _outfall(o: Outfall, registry: Registry) -> OutfallView:
    line = next((r.line for r in registry.reaches if r.key == o.reach), None)
    lon, lat = (None, None) if line is None else point_at_km(line, o.km)
    return viewed(OutfallView, o, type=o.kind.value, lon=lon, lat=lat)


def _feature(o: OutfallView) -> dict[str, Any]:
    geometry = None if o.lon is None else {"type": "Point", "coordinates": [o.lon, o.lat]}
    return feature(o.key, geometry, {n: getattr(o, n) for n in ("key", "zh", "en", "reach", "km", "type", "note")})


def _region(r: Region, registry: Registry) -> RegionView:
    stations = sorted(s.key for s in registry.stations if s.region == r.code)
    return viewed(RegionView, r, level=r.level.key, stations=stations, outlined=bool(r.outline))


def _region_feature(r: Region, view: RegionView) -> dict[str, Any]:
    properties = {name: getattr(view, name) for name in ("code", "zh", "en", "level", "parent", "note")}
    return feature(r.code, geojson(r.outline) if r.outline else None, properties)
