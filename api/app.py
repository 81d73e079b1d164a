"""The REST API as one ASGI application, and the order in which a request passes its gates."""

from typing import Any

from anyio import CapacityLimiter
from fastapi import APIRouter, FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute

from api import access, problems
from api.access import FIELD_IMPORT, Guard, Keeper
from api.context import Context
from api.exports import Exports
from api.field import bundle, phones, records
from api.health import Health
from api.limits import AllowedHosts, BodyLimit, SecurityHeaders
from api.pages import field_import, public
from api.pages import maintenance as maintenance_page
from api.pages import registry as registry_page
from api.pages import routes as pages
from api.pages.live import LivePicture
from api.pages.menu import MAINTENANCE, REPORT
from api.pages.picture import Live
from api.pages.view import failed
from api.problems import Faults
from api.registries import Registries
from api.requests import RequestContext
from api.responses import answer
from api.routes import (
    assessments,
    attachments,
    audit,
    backtests,
    commands,
    credentials,
    deliveries,
    evidence,
    field_points,
    incidents,
    ledger,
    me,
    notices,
    patrols,
    people,
    platforms,
    public_photos,
    reaches,
    readings,
    registry,
    reports,
    river_files,
    rule_trials,
    rules,
    saved_views,
    stations,
)
from api.routes import maintenance as maintenance_routes
from api.routes.router import PREFIX
from api.sta import routes as sta
from governance.incidents import file_content
from infra.errors import ConfigurationError
from infra.texts import say
from infra.throttle import Throttle
from sensors.wire.telemetry import MAX_BYTES

OPEN = frozenset(
    {
        f"{PREFIX}{credentials.CLAIMS}",
        f"{PREFIX}{platforms.CALLBACKS}/",
        f"{PREFIX}{reports.REPORTS}",
        f"{PREFIX}{reports.REPORTS}/",
    }
)
"""What needs no token: a new device shows the secret on its label, a platform's callback is signed, a citizen reports
and follows by a ticket."""
MOST_BYTES = 1024 * 1024
READINGS_MOST_BYTES = MAX_BYTES + 4096
"""A telemetry message and what names its station; a larger message than allowed still leaves a trace in quarantine."""
LARGER = {
    f"{PREFIX}/readings": READINGS_MOST_BYTES,
    f"{PREFIX}/attachments": file_content.MAX_BYTES,
    f"{PREFIX}{reports.REPORTS}": reports.MOST_BYTES,
    public.PATH: reports.MOST_BYTES,
    REPORT.path: reports.MOST_BYTES,
    registry_page.IMPORT: registry_page.MOST_BYTES,
    f"{PREFIX}{patrols.PATROLS}": patrols.MOST_BYTES,
}
"""Where a body may be larger than elsewhere."""
PHOTO_FORM_BYTES = 64 * 1024 * 1024
"""A form of an incident with its photos: more than one may hold, so that too large a photo is refused in the form."""

SUBSCRIBING = 6
"""Mails about a river that one network may ask for in an hour."""
PACKED = 4
"""How hard answers are compressed: a twentieth larger than the hardest (9), at less than half the time."""
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def create_app(context: Context) -> FastAPI:
    """The application. Raises ConfigurationError for a token nobody could show."""
    if context.token is not None and not context.token.strip():
        raise ConfigurationError(say("settings.empty_token"))
    app = _Application(
        title="Riverchief",
        version="1",
        description="River water quality: stations, readings, incidents, and the account of every reading.",
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # the framework's pages load their scripts from a CDN
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.context = context
    app.state.registries = Registries(context)
    app.state.keeper = Keeper(context, app.state.registries)
    app.state.picture = Live(context, app.state.registries)
    app.state.live = LivePicture(app.state.picture, context.clock_ms, context.database)
    app.state.health = Health(context)
    app.state.sta = sta.Sites()
    app.state.replaying = set()
    app.state.examining = CapacityLimiter(1)
    app.state.exports = Exports()
    app.state.attempts = reports.attempts(context.reports_an_hour)
    app.state.subscribing = Throttle(SUBSCRIBING, 3600 / SUBSCRIBING)
    app.router.routes.extend(_routes())
    problems.install(app)
    app.add_exception_handler(HTTPException, _page_or_problem)
    # the last one added is the first one passed
    app.add_middleware(GZipMiddleware, compresslevel=PACKED)
    app.add_middleware(BodyLimit, limit=_most_bytes)
    app.add_middleware(Guard, keeper=app.state.keeper, prefixes=("/api/", f"{sta.PREFIX}/"), open_to_all=OPEN)
    app.add_middleware(Faults)
    app.add_middleware(AllowedHosts, hosts=context.hosts)
    app.add_middleware(SecurityHeaders, strict=("/api/", f"{sta.PREFIX}/", "/healthz", "/readyz", "/metrics"))
    return app


def _routes() -> list[BaseRoute]:
    """All routes; they hold nothing of an application, so that each is made once in a process."""
    subjects = (
        assessments,
        attachments,
        audit,
        backtests,
        commands,
        stations,
        readings,
        reaches,
        river_files,
        incidents,
        evidence,
        field_points,
        ledger,
        patrols,
        people,
        me,
        public_photos,
        reports,
        rule_trials,
        rules,
        saved_views,
    )
    routers = (
        reports.filing,
        *(subject.router for subject in subjects),
        incidents.tasks,
        maintenance_routes.router,
        maintenance_routes.files,
        registry.router,
        credentials.router,
        rules.at_stations,
        reports.cases,
        reports.me,
        deliveries.router,
        deliveries.schemas,
        platforms.router,
        notices.router,
        bundle.router,
        phones.router,
        records.router,
        sta.router,
        _root,
        *pages.ROUTERS,
    )
    return [route for router in routers for route in router.routes]


class _Application(FastAPI):
    def openapi(self) -> dict[str, Any]:
        if not self.openapi_schema:
            schema = super().openapi()
            schema["components"]["schemas"]["Problem"] = problems.SCHEMA
            access.describe(schema, OPEN)
        return super().openapi()


async def _page_or_problem(request: Request, error: Exception) -> Response:
    """What the framework refuses by itself: people get a page, programs a problem document."""
    assert isinstance(error, HTTPException)
    browser = "text/html" in request.headers.get("accept", "") and "actor" in request.scope
    if error.status_code == 404 and browser and not request.url.path.startswith(("/api/", f"{sta.PREFIX}/")):
        return failed(request, 404, say("page_frame.no_page"), "")
    return await problems.http(request, error)


def _most_bytes(path: str) -> int:
    if path.startswith(f"{PREFIX}/field/records/"):
        return records.MOST_PHOTO_BYTES if "/photos/" in path else records.MOST_BYTES
    if path == FIELD_IMPORT:
        return field_import.MOST_BYTES
    if path.startswith(f"{MAINTENANCE.path}/"):
        return maintenance_page.MOST_BYTES
    if path.startswith("/incidents/"):
        return PHOTO_FORM_BYTES
    return LARGER.get(path, MOST_BYTES)


_root = APIRouter(include_in_schema=False)


@_root.api_route("/healthz", methods=["GET", "HEAD"])
async def healthz() -> Response:
    """The process is alive."""
    return PlainTextResponse("ok\n")


@_root.api_route("/readyz", methods=["GET", "HEAD"])
def readyz(request: Request) -> Response:
    """200 when the database answers and every vital part works, else 503; either way the parts and what they say."""
    probe = request.app.state.health.probe()
    parts = [{"name": p.name, "ok": p.ok, "detail": p.detail, "vital": p.vital} for p in probe.parts]
    return answer({"ready": probe.ready, "parts": parts}, 200 if probe.ready else 503)


@_root.get("/metrics")
def metrics(context: RequestContext) -> Response:
    """Figures for Prometheus."""
    return Response(context.metrics(), headers={"Content-Type": METRICS_TYPE})
