"""The worker that shows messages in a browser; it needs an address of its own that stays the same."""

from fastapi import APIRouter, Response
from starlette.responses import FileResponse

from api.pages import assets

router = APIRouter(include_in_schema=False)


@router.get("/push/worker.js")
def worker() -> Response:
    """The worker; browsers ask anew each time."""
    path = assets.STATIC / assets.url("push-worker.js").rpartition("/")[2]
    return FileResponse(path, media_type="text/javascript", headers={"Cache-Control": "no-cache"})
