"""Photos of a handled case that the public sees: which ones, before and after, and taking them back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Request, Response
from pydantic import Field

from api.access import Who
from api.context import Context
from api.requests import RequestContext, Strict
from api.responses import answer
from api.routes.attachments import one_at_a_time, photos
from api.routes.incidents import check_visible
from api.routes.router import subject_router
from governance.incidents import attachments
from governance.incidents import store as incident_store
from governance.organisation.roles import Actor
from governance.reports import public_photos as store
from governance.reports.public_photos import Side
from infra.errors import NotFound, Refused
from infra.texts import say
from infra.times import rfc3339

MOST = 4
"""Photos of a case that are public at once."""
Ids = Annotated[list[Annotated[str, Field(pattern="^[0-9a-f]{64}$")]], Field(max_length=MOST)]

router = subject_router("cases", "/incidents")


class PublicPhotos(Strict):
    """All photos of a case that are to be public, by the ids of their attachments; none: what was public is taken back.

    ``looked``: a person looked at each and saw no face, no number plate and no home.
    """

    before: Ids = Field(default_factory=list)
    after: Ids = Field(default_factory=list)
    looked: bool = False


@dataclass(frozen=True, slots=True)
class PublicPhotoView:
    """A photo that the public sees under ``address``."""

    attachment: str
    side: str
    address: str
    at: str
    by: str


@dataclass(frozen=True, slots=True)
class PublicPhotosView:
    """Those from before first."""

    items: list[PublicPhotoView]


@router.put("/{incident_id}/public-photos", response_model=PublicPhotosView)
async def put_public_photos(
    context: RequestContext, who: Who, request: Request, incident_id: int, wanted: PublicPhotos
) -> Response:
    """Say which photos of a handled and closed case are public; the whole list replaces the one before.

    The copies are small, without metadata, under random addresses. Once the case is opened again they are hidden.
    """
    sides = dict.fromkeys(wanted.before, Side.BEFORE) | dict.fromkeys(wanted.after, Side.AFTER)
    await one_at_a_time(request, lambda: release(context, who, incident_id, sides, looked=wanted.looked))
    with context.database.read() as connection:
        found = store.released(connection, [incident_id]).get(incident_id, [])
    return answer(
        PublicPhotosView(
            [
                PublicPhotoView(one.attachment_id, one.side, address(one.name), rfc3339(one.at_ms), one.by)
                for one in found
            ]
        )
    )


def address(name: str) -> str:
    """Where the public gets a photo."""
    return f"/r/photo/{name}"


def release(context: Context, who: Actor, number: int, sides: Mapping[str, Side], *, looked: bool) -> None:
    """Let these photos of a case and no others be public.

    Raises NotFound, Forbidden, and Refused for a case that is not handled, too many, and photos nobody looked at.
    """
    with context.database.read() as connection:
        case = incident_store.get(connection, number)
        check_visible(case, who)
        used = {one for entry in incident_store.history(connection, number) for one in entry.attachments}
        known = {one.id for one in attachments.find(connection, sorted(used)) if one.media_type.startswith("image/")}
        public = {one.attachment_id for one in store.released(connection, [number]).get(number, ())}
    for one in sides:
        if one not in known:
            raise NotFound(say("attachment.unknown", id=one[:80]))
    if len(sides) > MOST:
        raise Refused(say("public_photos.too_many", most=MOST))
    new = sides.keys() - public
    if new and not store.may_release(case):
        raise Refused(say("citizen.not_handled"))
    if new and not looked:
        raise Refused(say("public_photos.look_first"))
    copies = {one: store.public_copy(photos(context).path(one).read_bytes()) for one in sides}
    with context.database.write() as connection:
        case = incident_store.get(connection, number)
        store.set_released(connection, case, sides, copies, who, context.clock_ms())
