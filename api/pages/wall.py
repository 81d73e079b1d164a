"""The large screen ``/wall``: read from four metres, without a mouse, for days."""

from fastapi import APIRouter, Response

from api.pages.menu import WALL
from api.pages.models import wall as models
from api.pages.view import PageRoute, View, Viewing

TOPICS = ("stations", "counts", "incidents", "classes")

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get(WALL.path)
async def show(v: Viewing) -> Response:
    """The screen, or the blocks of it that changed."""
    v.require(WALL.right)
    picture = await v.live.now()
    if picture is None:
        return v.render("wall_waiting.html")
    registry = v.registries.recent()
    wall = v.live.once(
        picture,
        ("wall", id(registry), v.alike, v.language),
        lambda: models.build(picture, registry, v.actor, v.language),
    )
    return v.render("wall.html", key=picture.at_ms, picture=picture, topics=TOPICS, wall=wall, title=_title(v))


def _title(v: View) -> str:
    return v.say("wall.title", site=v.site) if v.site else v.say("wall.title_plain")
