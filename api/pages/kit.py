"""The kit ``/kit``: every shared component in each of its states, in the page's language and theme."""

from dataclasses import dataclass

from fastapi import APIRouter, Response

from api.console.models.overview import Data
from api.pages.models import action_bar as models
from api.pages.models.action_bar import ActionBar, Candidate, Given, To
from api.pages.view import PageRoute, Viewing
from governance.incidents import lifecycle
from governance.incidents.finding import Colour
from governance.incidents.model import Action, Order, Source
from governance.organisation.regions import Place
from governance.organisation.roles import Actor, Role
from infra.texts import Text
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
    return v.render(
        "kit.html",
        classes=(*WaterClass, None),
        colours=tuple(Colour),
        ages=AGES,
        devices=DEVICES,
        bar=_action_bar(v.now_ms),
    )


def _action_bar(now_ms: int) -> ActionBar:
    """An example of the action bar: to be dispatched by an operator, to one of two chiefs."""
    operator = Actor("示例", Role.OPERATOR)
    report = Order(Action.ACCEPT, comment="示例")
    place = Place("-", "")
    incident, _ = lifecycle.open_reported(
        report, operator, now_ms, cause="kit", colour=Colour.ORANGE, source=Source.HOTLINE, place=place
    )
    incident, _ = lifecycle.apply_action(incident, Order(Action.ACCEPT), operator, now_ms)
    region = Text("示例街道", "Example Street")
    to = To(
        candidates=(
            Candidate("甲河长（示例）", Role.CHIEF, region, 2, "ok", suggested=True),
            Candidate("乙河长（示例）", Role.CHIEF, region, 0, "none", suggested=False),
        ),
        regions=(("-", region, 0),),
    )
    suggested = Given(region="-", responsible="甲河长（示例）", department="water")
    offers, closed = models.offers(incident, operator), models.closed(incident, operator)
    return ActionBar(incident, offers, closed, to, Given(), suggested, opened="dispatch")
