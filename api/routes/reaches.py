"""The river network: reaches, what flows into what, and the stations on each."""

from dataclasses import asdict, dataclass
from typing import Any

from fastapi import Response

from api.classes import LiveClassView, view
from api.context import Context
from api.requests import (
    GEOJSON,
    JSON,
    Accept,
    Cursor,
    MapLimit,
    RequestContext,
    RequestRegistries,
    cut,
    place,
    preferred,
)
from api.responses import VARY, answer, feature, features, viewed
from api.routes.router import subject_router
from infra.errors import NotFound
from infra.texts import say
from ingest.analysis.live_classes import REACH, ShownClass, current_classes
from sensors.stations import Reach, Registry, Water

router = subject_router("reaches", "/reaches")


@dataclass(frozen=True, slots=True)
class ReachView:
    """A stretch of water; ``line`` is a polyline of [lon, lat] (WGS 84), upstream first.

    ``upstream`` are the reaches that flow into it, ``stations`` the keys of the stations on it; ``target`` is the
    GB 3838 class it is to reach, I to V; ``live`` the class it shows now, null where it was never judged.
    """

    key: str
    zh: str
    en: str
    water: Water
    line: tuple[tuple[float, float], ...]
    downstream: str | None
    upstream: list[str]
    stations: list[str]
    target: str | None
    live: LiveClassView | None
    note: str


@dataclass(frozen=True, slots=True)
class ReachPage:
    """Reaches by key."""

    items: list[ReachView]
    next_cursor: str | None


@router.get("", response_model=ReachPage, responses={200: {"content": {GEOJSON: {}}}})
def list_reaches(
    context: RequestContext,
    registries: RequestRegistries,
    accept: Accept = JSON,
    limit: MapLimit = 100,
    cursor: Cursor = None,
) -> Response:
    """The river network, by key; as GeoJSON with `Accept: application/geo+json`."""
    after = place("reaches", cursor, str)
    registry = registries.now()
    rest = sorted((r for r in registry.reaches if after is None or r.key > after), key=lambda r: r.key)
    live = _live(context)
    found, following = cut("reaches", rest, limit, lambda one: one.key)
    page = [_view(r, registry, live) for r in found]
    if preferred(accept, (JSON, GEOJSON)) == GEOJSON:
        return features([_feature(r) for r in page], next_cursor=following)
    return answer(ReachPage(page, following), headers=VARY)


@router.get("/{key}", response_model=ReachView, responses={200: {"content": {GEOJSON: {}}}})
def get_reach(context: RequestContext, registries: RequestRegistries, key: str, accept: Accept = JSON) -> Response:
    """One reach; as a GeoJSON feature with `Accept: application/geo+json`."""
    registry = registries.now()
    found = registry.reach(key)
    if found is None:
        raise NotFound(say("registry.no_reach", reach=key[:80]))
    one = _view(found, registry, _live(context))
    if preferred(accept, (JSON, GEOJSON)) == GEOJSON:
        return answer(_feature(one), headers=VARY, media_type=GEOJSON)
    return answer(one, headers=VARY)


def _live(context: Context) -> dict[str, ShownClass]:
    with context.database.read() as connection:
        return current_classes(connection, REACH)


def _view(r: Reach, registry: Registry, live: dict[str, ShownClass]) -> ReachView:
    return viewed(
        ReachView,
        r,
        upstream=sorted(other.key for other in registry.reaches if other.downstream == r.key),
        stations=sorted(s.key for s in registry.stations if s.reach == r.key),
        target=None if r.target is None else r.target.roman,
        live=view(live.get(r.key)),
    )


def _feature(r: ReachView) -> dict[str, Any]:
    geometry = {"type": "LineString", "coordinates": r.line} if len(r.line) > 1 else None
    return feature(r.key, geometry, {name: value for name, value in asdict(r).items() if name != "line"})
