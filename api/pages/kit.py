"""The kit ``/kit``: every shared component in each of its states, in the page's language and theme."""

from dataclasses import dataclass

from fastapi import APIRouter, Response

from api.console.models.overview import Data
from api.pages.view import PageRoute, Viewing
from governance.incidents.finding import Colour
from sensors.standards.gb3838 import WaterClass

PATH = "/kit"

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@dataclass(frozen=True, slots=True)
class Age:
    """An example of an age label."""

    state: str
    at_ms: int | None
    ago_s: int


AGES = (Age(Data.NORMAL, 0, 120), Age(Data.LATE, 0, 840), Age(Data.OFFLINE, 0, 32_400), Age(Data.NEVER, None, 0))
DEVICES = ("offline", "maintenance", "suspect", "late")


@router.get(PATH)
def show(v: Viewing) -> Response:
    """All components."""
    return v.render("kit.html", classes=(*WaterClass, None), colours=tuple(Colour), ages=AGES, devices=DEVICES)
