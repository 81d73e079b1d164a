"""A place chosen on the map of the rivers, or told by the phone."""

from collections.abc import Callable
from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments

from api.console.components.river_map import LEAFLET, REACHES
from infra.texts import say

_WORDS = ("help", "here", "here_done", "done", "wait", "fail", "no_map")


class PlaceInput(ui.element, component="place_input.js"):
    """``place`` is (lon, lat), WGS 84 degrees, once one was chosen; ``on_place`` is called then."""

    def __init__(self, language: str, on_place: Callable[[], Any]) -> None:
        super().__init__()
        self.place: tuple[float, float] | None = None
        self._on_place = on_place
        self.add_resource(LEAFLET)
        self.props["words"] = {
            f"place_{name}": getattr(say(f"report_page.place_{name}", m="{m}"), language) for name in _WORDS
        }
        self.props["language"], self.props["reaches"] = language, REACHES
        self.on("placed", self._placed)

    async def _placed(self, event: GenericEventArguments) -> None:
        self.place = float(event.args["lon"]), float(event.args["lat"])
        await self._on_place()
