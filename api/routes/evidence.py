"""The evidence pack of an incident as a PDF."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from api import evidence
from api.asking import Asked

router = APIRouter(prefix="/incidents", tags=["incidents"])

PDF = "application/pdf"


@router.get("/{incident_id}/evidence", response_class=Response, responses={200: {"content": {PDF: {}}}})
def get_evidence(
    asked: Asked,
    incident_id: int,
    lang: Annotated[Literal["zh", "en"], Query(description="zh or en")] = "zh",
) -> Response:
    """One PDF: charts with flags, map, rain, rule, everything done, photos, and the proof that nothing was changed."""
    made = evidence.pack(
        asked.database,
        asked.store,
        asked.catalogue,
        incident_id,
        by="api",
        origin=asked.source,
        photos=asked.photos,
        now_ms=asked.clock_ms(),
        language=lang,
    )
    named = {"Content-Disposition": f'inline; filename="incident-{incident_id}.pdf"'}
    return Response(made, media_type=PDF, headers=named)
