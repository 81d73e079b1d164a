"""Addresses of earlier versions lead to today's pages, with the choices they carry."""

from fastapi import APIRouter, Request, Response
from starlette.responses import RedirectResponse

MOVED = {"/worklist": "/incidents", "/reaches": "/rivers", "/care": "/maintenance", "/audit": "/trail"}

router = APIRouter(include_in_schema=False)


@router.get("/worklist")
@router.get("/audit")
@router.get("/reaches")
@router.get("/reaches/{key}")
@router.get("/care")
@router.get("/care/{key}")
def moved(request: Request, key: str = "") -> Response:
    """The page's address of today."""
    path = request.url.path
    old = path.removesuffix(f"/{key}") if key else path
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"{MOVED[old]}{path.removeprefix(old)}{query}", 308)
