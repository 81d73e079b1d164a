"""The map ``/``: which water is bad, where incidents are open, which stations cannot be seen; and the map's data."""

from collections import OrderedDict
from threading import Lock
from typing import Any

from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool

from api.pages.live import digest
from api.pages.menu import INCIDENTS, MAP
from api.pages.models import map as models
from api.pages.models.map import Seen
from api.pages.models.overview import Model
from api.pages.view import PageRoute, View, Viewing
from api.responses import answer

DATA = "/map/data"
KEPT = 64
"""Pictures that a change can be told from; who shows an older one is sent everything."""
NO_STORE = {"Cache-Control": "no-store"}

router = APIRouter(include_in_schema=False, route_class=PageRoute)


class Pictures:
    """The last pictures by their marks, so that a map is sent only what changed since the one that it shows."""

    def __init__(self) -> None:
        self._by_mark: OrderedDict[str, Seen] = OrderedDict()
        self._of: OrderedDict[tuple[object, ...], tuple[Model, str]] = OrderedDict()
        self._lock = Lock()

    def of(self, v: View, picture: Model) -> tuple[str, Seen]:
        """The picture as somebody sees it, and its mark."""
        incidents = v.actor.may(INCIDENTS.right)
        registry = v.registries.recent()
        who = (incidents, None if v.actor.regions is None or not incidents else v.actor, id(registry))
        with self._lock:
            model, mark = self._of.get(who, (None, ""))
            if model is picture and mark in self._by_mark:
                self._by_mark.move_to_end(mark)
                return mark, self._by_mark[mark]
        seen = models.seen_by(picture, registry, v.actor, incidents=incidents)
        mark = digest((who[:2], seen.marked))
        with self._lock:
            self._by_mark[mark] = seen
            self._of[who] = picture, mark
            for kept in (self._by_mark, self._of):
                while len(kept) > KEPT:
                    kept.popitem(last=False)
        return mark, seen

    def before(self, mark: str) -> Seen | None:
        """The picture of a mark; None for one that is not kept."""
        with self._lock:
            return self._by_mark.get(mark)


_pictures = Pictures()


@router.get(DATA)
async def data(v: Viewing) -> Response:
    """What a map draws: everything, or with ``since``, the mark of the picture it shows, what changed."""
    v.require(MAP.right)
    picture = await v.live.now()
    if picture is None:
        return answer({}, 503, NO_STORE)
    return await run_in_threadpool(_data, v, picture)


def _data(v: View, picture: Model) -> Response:
    mark, seen = _pictures.of(v, picture)
    english = v.language == "en"
    before = _pictures.before(v.query.get("since", ""))
    found: dict[str, Any] | None = None
    if before is not None:
        found = models.changes(before, seen, english)
    return answer({"mark": mark, **(models.whole(seen, english) if found is None else found)}, headers=NO_STORE)
