"""The map of all waters for the public ``/public``: how each is, in words and by its letter, and what is warned of.

Readable without any script: a drawing and a list. With scripts the island draws the same on a map that can be moved.
It shows neither stations nor incidents; each water leads to the page of its sign.
"""

from fastapi import APIRouter, Response
from starlette.responses import JSONResponse

from api.pages import public
from api.pages.models import drawing
from api.pages.models import public as models
from api.pages.models.public import WaterRow
from api.pages.view import PageRoute, View, Viewing
from api.requests import whole_number
from governance.incidents import queries as incident_queries
from ingest.analysis.live_classes import REACH, current_classes
from sensors.standards.gb3838 import WaterClass

PATH, DATA = "/public", "/public/data"
ROWS, MOST_ROWS = 20, 500
MOST_DRAWN = 60
"""Waters of the drawing, those with a warning and the worst first."""
SHEET = (520.0, 340.0)
SIZES = drawing.Sizes(badge=24.0, letter=13.0, margin=34.0)
FRESH = {"Cache-Control": "public, max-age=30"}

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get(PATH)
def show(v: Viewing) -> Response:
    """The waters that the address asks for, by a word and a class; the whole map beside them."""
    rows = _rows(v)
    words, wanted = v.query.get("q", "")[:80].strip(), whole_number(v.query.get("class", ""), 1)
    found = models.named_like(rows, words)
    if wanted is not None:
        found = [one for one in found if int(one.water_class or 0) == wanted]
    shown = min(MOST_ROWS, max(ROWS, whole_number(v.query.get("show", ""), 4) or 0))
    return public.page(
        v,
        "map.html",
        island=True,
        rows=found[:shown],
        count=len(found),
        more=min(MOST_ROWS, shown + ROWS) if len(found) > shown and shown < MOST_ROWS else None,
        warned=[one for one in rows if one.warns],
        mix=[(water_class, count) for water_class, count in _mix(rows) if count],
        words=words,
        wanted=wanted,
        sheet=_sheet(v, rows),
        src=v.to(DATA),
        narrowed=bool(words) or wanted is not None,
    )


@router.get(DATA)
def data(v: Viewing) -> Response:
    """What the island draws."""
    found = models.on_the_map(
        _rows(v),
        v.registries.recent(),
        lambda one: f"{v.of(one.name)} {v.say(f'citizen.warn_{one.colour}')}",
        v.language == "en",
    )
    return JSONResponse(found, headers=FRESH)


def _rows(v: View) -> list[WaterRow]:
    with v.context.database.read() as connection:
        classes = current_classes(connection, REACH)
        going_on = incident_queries.all_open_water_incidents(connection)
    return models.rows(v.registries.recent(), classes, going_on)


def _mix(rows: list[WaterRow]) -> list[tuple[WaterClass | None, int]]:
    return [(one, sum(row.water_class is one for row in rows)) for one in (*WaterClass, None)]


def _sheet(v: View, rows: list[WaterRow]) -> drawing.Sheet:
    waters = [
        drawing.Water(one.reach.key, v.of(one.name), one.reach.line, one.water_class)
        for one in rows[:MOST_DRAWN]
        if len(one.reach.line) > 1
    ]
    return drawing.draw(waters, (), *SHEET, SIZES)
