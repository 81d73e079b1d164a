"""Photos and files for cases: looked into, kept under their hash, shown to whoever may see cases."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

from anyio import to_thread
from fastapi import Body, Query, Request, Response
from fastapi.responses import FileResponse

from api.access import Who
from api.context import Context
from api.requests import RequestContext, Words
from api.responses import answer, viewed
from api.routes.router import subject_router
from governance.incidents import attachments as store
from governance.incidents.attachments import Attachment
from governance.incidents.file_content import MAX_BYTES, Content, examine
from governance.incidents.photo_metadata import without_metadata
from infra.errors import NotFound
from infra.texts import say
from ingest.storage.photos import Photos

router = subject_router("cases", "/attachments")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AttachmentView:
    """``id`` goes into the `attachments` of an action or a report; ``width`` and ``height`` are 0 for a document."""

    id: str
    media_type: str
    bytes: int
    width: int
    height: int
    name: str
    by: str
    at: str


@router.post("", status_code=201, response_model=AttachmentView)
async def add_attachment(
    context: RequestContext,
    who: Who,
    request: Request,
    data: Annotated[
        bytes, Body(media_type="image/jpeg", description=f"JPEG, PNG, WebP or PDF itself, up to {MAX_BYTES} bytes")
    ],
    name: Annotated[Words, Query(max_length=200, description="what people call it")] = "",
) -> Response:
    """Keep a photo or a PDF; the body is the file itself. The same file twice is one.

    Photos are kept without their metadata (place, device, time); how they are turned stays.
    """
    made = await one_at_a_time(request, lambda: keep(context, data, examine(data), name, who.name))
    return answer(view(made), 201)


@router.get("/{name}", responses={200: {"content": {"image/jpeg": {}}}})
def get_attachment(context: RequestContext, who: Who, name: str) -> Response:
    """The bytes of an attachment, for whoever uploaded it or may see an incident that it is attached to."""
    with context.database.read() as connection:
        (found,) = store.get(connection, [name], who)
    return file_of(context, found)


def file_of(context: Context, found: Attachment) -> Response:
    """The bytes of an attachment."""
    headers = {"Cache-Control": "private, no-store"}
    if found.media_type == "application/pdf":  # never inside a page of ours
        headers["Content-Disposition"] = f'attachment; filename="{found.id[:12]}.pdf"'
    return FileResponse(photos(context).path(found.id), media_type=found.media_type, headers=headers)


async def one_at_a_time(request: Request, work: Callable[[], T]) -> T:
    """Do in a thread what examines attachments, after whatever else does so: the memory is that of one photo."""
    return await to_thread.run_sync(work, limiter=request.app.state.examining)


def keep(context: Context, data: bytes, content: Content, name: str, by: str) -> Attachment:
    """The file on the disk first, a photo without its metadata, then its row."""
    if content.is_photo:
        data = without_metadata(data)
    made = Attachment(
        id=photos(context).add(data),
        media_type=content.media_type,
        bytes=len(data),
        width=content.width,
        height=content.height,
        name=name,
        by=by,
        at_ms=context.clock_ms(),
    )
    with context.database.write() as connection:
        return store.add(connection, made)


def photos(context: Context) -> Photos:
    """The folder; raises NotFound where this process has none."""
    if context.photos is None:
        raise NotFound(say("store.no_photos"))
    return Photos(context.photos)


def view(one: Attachment) -> AttachmentView:
    """How an attachment is answered."""
    return viewed(AttachmentView, one)
