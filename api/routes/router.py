"""The router of a subject: its paths begin with the prefix of the API, and it answers errors with problems."""

from fastapi import APIRouter
from fastapi.routing import APIRoute

from api import problems

PREFIX = "/api/v1"


def subject_router(tag: str, path: str = "", route_class: type[APIRoute] = APIRoute) -> APIRouter:
    """A router whose routes are complete: the application takes them as they are.

    Including one router in another makes each route again, which is half of the time until the server answers.
    """
    return APIRouter(prefix=PREFIX + path, tags=[tag], responses=problems.RESPONSES, route_class=route_class)
