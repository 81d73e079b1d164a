"""The evidence pack of an incident as a PDF."""

from typing import Annotated, Literal

from fastapi import Query, Response

from api import evidence
from api.access import Who
from api.requests import Asked
from api.routes.incidents import within_reach
from api.routes.router import subject_router
from governance.incidents import store as incident_store

router = subject_router("incidents", "/incidents")

PDF = "application/pdf"


@router.get("/{incident_id}/evidence", response_class=Response, responses={200: {"content": {PDF: {}}}})
def get_evidence(
    asked: Asked,
    who: Who,
    incident_id: int,
    lang: Annotated[Literal["zh", "en"], Query(description="zh or en")] = "zh",
) -> Response:
    """One PDF: charts with flags, map, rain, rule, everything done, photos, and the proof that nothing was changed."""
    with asked.database.read() as connection:
        within_reach(incident_store.get(connection, incident_id), who)
    made = evidence.pack(
        asked.database,
        asked.store,
        asked.catalogue,
        incident_id,
        by=who.name,
        role=who.role,
        origin=asked.source,
        site=asked.site,
        photos=asked.photos,
        now_ms=asked.clock_ms(),
        keys=asked.audit_keys,
        outside=asked.outside_roots(),
        language=lang,
    )
    named = {"Content-Disposition": f'inline; filename="incident-{incident_id}.pdf"'}
    return Response(made, media_type=PDF, headers=named)
