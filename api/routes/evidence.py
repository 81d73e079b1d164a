"""The evidence pack of an incident as a PDF."""

from typing import Annotated, Literal

from fastapi import Query, Response

from api import evidence
from api.access import Who
from api.evidence.gather import Sources
from api.exports import RequestExports
from api.requests import RequestContext
from api.routes.incidents import check_visible
from api.routes.router import subject_router
from governance.incidents import store as incident_store

router = subject_router("incidents", "/incidents")

PDF = "application/pdf"


@router.get("/{incident_id}/evidence", response_class=Response, responses={200: {"content": {PDF: {}}}})
def get_evidence(
    context: RequestContext,
    exports: RequestExports,
    who: Who,
    incident_id: int,
    lang: Annotated[Literal["zh", "en"], Query(description="zh or en")] = "zh",
) -> Response:
    """One PDF: charts with flags, map, rain, rule, everything done, photos, and the proof that nothing was changed."""
    with context.database.read() as connection:
        check_visible(incident_store.get(connection, incident_id), who)
    sources = Sources(
        context.database,
        context.store,
        context.catalogue,
        context.source,
        context.site,
        context.photos,
        context.audit_keys,
        context.outside_roots(),
    )
    with exports.place():
        made = evidence.pack(sources, incident_id, by=who.name, role=who.role, now_ms=context.clock_ms(), language=lang)
    named = {"Content-Disposition": f'inline; filename="incident-{incident_id}.pdf"'}
    return Response(made, media_type=PDF, headers=named)
