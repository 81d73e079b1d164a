"""Views of the inbox that the caller saved."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Path, Response
from pydantic import Field

from api.access import Who
from api.context import Context
from api.requests import RequestContext, Strict, Words
from api.responses import answer, viewed
from api.routes.router import subject_router
from governance.organisation.roles import Actor
from governance.people import saved_views
from governance.people.saved_views import SavedView

router = subject_router("people", "/me/views")

Name = Annotated[Words, Path(max_length=saved_views.NAME_LIMIT)]


class NewQuery(Strict):
    """What the address of the inbox says after its question mark."""

    query: Words = Field(max_length=saved_views.QUERY_LIMIT)


@dataclass(frozen=True, slots=True)
class SavedViewView:
    """A view: its name, and the query of the address of the inbox."""

    name: str
    query: str


@dataclass(frozen=True, slots=True)
class SavedViews:
    """By name."""

    items: list[SavedViewView]


@router.get("", response_model=SavedViews)
def list_views(context: RequestContext, who: Who) -> Response:
    """The caller's views of the inbox."""
    with context.database.read() as connection:
        found = saved_views.list_views(connection, who.name)
    return answer(SavedViews([viewed(SavedViewView, one) for one in found]))


@router.put("/{name}", response_model=SavedViewView)
def save_view(context: RequestContext, who: Who, name: Name, new: NewQuery) -> Response:
    """Save a view; one of the same name is replaced."""
    return answer(viewed(SavedViewView, save(context, who, name, new.query)))


@router.delete("/{name}", status_code=204)
def remove_view(context: RequestContext, who: Who, name: Name) -> Response:
    """Remove a view. Again is no harm."""
    remove(context, who, name)
    return Response(status_code=204)


def save(context: Context, who: Actor, name: str, query: str) -> SavedView:
    """Save a view of somebody; raises Refused."""
    with context.database.write() as connection:
        return saved_views.save(connection, who.name, SavedView(name, query), context.clock_ms())


def remove(context: Context, who: Actor, name: str) -> None:
    """Remove a view of somebody."""
    with context.database.write() as connection:
        saved_views.remove(connection, who.name, name)
