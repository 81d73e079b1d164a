"""The two addresses of the SensorThings API."""

import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from api.access import Who
from api.context import Context
from api.registries import Registries
from api.requests import JSON, RequestContext, RequestRegistries
from api.responses import answer
from api.sta import filters, paths
from api.sta.bodies import parsed
from api.sta.model import Site, kinds
from api.sta.refusals import limit, unsupported, wrong
from api.sta.writing import BATCH, Batch, Service
from governance.organisation.roles import Actor
from infra.errors import WaterError
from ingest.storage.port import ReadingStore
from sensors.stations import Registry

PREFIX = "/sta"
RECENT_S = 30.0
"""A series whose first reading came just now shows that much later."""
_CONFORMANCE = {
    "1.1": [
        "http://www.opengis.net/spec/iot_sensing/1.1/req/datamodel",
        "http://www.opengis.net/spec/iot_sensing/1.1/req/resource-path/resource-path-to-entities",
        "http://www.opengis.net/spec/iot_sensing/1.1/req/request-data",
        "http://www.opengis.net/spec/iot_sensing/1.1/req/data-array/data-array",
    ],
    "2.0": [
        "http://www.opengis.net/spec/sensorthings/2.0/req-class/datamodel/core",
        "http://www.opengis.net/spec/sensorthings/2.0/req-class/api/read",
        "http://www.opengis.net/spec/sensorthings/2.0/req-class/binding/http",
    ],
}


class CountedRoute(APIRoute):
    """A route that counts what was answered and what was refused."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def counted(request: Request) -> Response:
            context: Context = request.app.state.context
            try:
                found = await handle(request)
            except WaterError:
                context.sensorthings("refused")
                raise
            context.sensorthings("answered")
            return found

        return counted


router = APIRouter(prefix=PREFIX, include_in_schema=False, route_class=CountedRoute)


class Sites:
    """The entities of the registry as it stood a moment ago."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[float, Registry, ReadingStore, Site] | None = None

    def of(self, registry: Registry, store: ReadingStore) -> Site:
        with self._lock:
            kept = self._kept
            fresh = kept is not None and kept[1] is registry and kept[2] is store
            if kept is None or not fresh or time.monotonic() - kept[0] > RECENT_S:
                self._kept = kept = time.monotonic(), registry, store, Site(registry, store.latest())
            return kept[3]


@router.api_route("/{version}", methods=["GET", "HEAD"])
@router.api_route("/{version}/{path:path}", methods=["GET", "HEAD"])
def read(
    request: Request, context: RequestContext, registries: RequestRegistries, who: Who, version: str, path: str = ""
) -> Response:
    """An entity, a property of it, or entities of a set."""
    service = _service(request, context, registries, who, version)
    path = path.rstrip("/")
    if not path:
        return answer(_root(service.version, service.base))
    if path == "$metadata":
        raise unsupported(path)
    if request.url.query.count("&") > paths.MOST_FIELDS:
        raise limit("query", paths.MOST_FIELDS)
    return paths.read(service.answers(), path, parse_qsl(request.url.query, keep_blank_values=True))


@router.api_route("/{version}/{path:path}", methods=["POST", "PUT", "PATCH", "DELETE"])
async def write(
    request: Request, context: RequestContext, registries: RequestRegistries, who: Who, version: str, path: str
) -> Response:
    """Make, change or remove an entity; ``$batch`` holds many requests, ``CreateObservations`` many readings."""
    service = _service(request, context, registries, who, version)
    kind = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if kind != JSON:
        raise wrong("body", "Content-Type", kind, JSON)
    body = await request.body()
    content = parsed(body) if body else None
    if path == BATCH:
        return await Batch(service).answer(content)
    return await service.write(request.method, path.rstrip("/"), content)


def _service(request: Request, context: Context, registries: Registries, who: Actor, version: str) -> Service:
    if version not in ("v1.1", "v2.0"):
        raise paths.none(version)
    sites: Sites = request.app.state.sta
    prefix = f"{PREFIX}/{version}"
    base = f"{str(request.base_url).rstrip('/')}{prefix}"
    return Service(context, registries, partial(_site, sites, context.store), who, version[1:], base, prefix)


def _site(sites: Sites, store: ReadingStore, registries: Registries) -> Site:
    return sites.of(registries.recent(), store)


def _root(version: str, base: str) -> dict[str, Any]:
    sets = [{"name": name, "url": f"{base}/{name}"} for name in kinds(version)]
    settings: dict[str, Any] = {"conformance": _CONFORMANCE[version]}
    if version == "2.0":
        settings["functions"] = list(filters.FUNCTIONS)
    return {"value": sets, "serverSettings": settings}
