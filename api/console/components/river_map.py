"""The map of rivers and stations: one canvas on Leaflet, fed with positions once and with changes afterwards."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nicegui import ui
from nicegui.elements import leaflet  # registers the module "nicegui-leaflet" that the script imports
from nicegui.events import GenericEventArguments

from api.console.models.overview import Delta, Model, classes
from governance.incidents.finding import Colour
from infra.texts import say

STATIONS = "/api/v1/stations?limit=20000"
REACHES = "/api/v1/reaches?limit=20000"
FIELD = "/api/v1/field-points"
LEAFLET = Path(leaflet.__file__).parent / "dist"
_WORDS = (
    "map_name",
    "map_help",
    "stations",
    "list_help",
    "search",
    "nothing_found",
    "loading_map",
    "no_stations",
    "no_stations_next",
    "map_failed",
    "retry",
    "zoom_in",
    "zoom_out",
    "field_report",
    "field_hotline",
    "field_patrol",
    "field_mark_report",
    "field_mark_hotline",
    "field_mark_patrol",
)


class RiverMap(ui.element, component="river_map.js"):
    """5,000 stations and more: the browser fetches where they are, the server sends what became of them.

    ``on_station`` is called with a station's key when somebody chooses it on the map or in the list, ``on_reach`` with
    that of a river somebody clicks on. With ``field`` the map shows open reports, hotline cases and today's patrols.
    """

    def __init__(
        self,
        language: str,
        model: Callable[[], Model | None],
        on_station: Callable[[str], Any],
        on_reach: Callable[[str], Any],
        *,
        field: bool,
    ) -> None:
        super().__init__()
        self._model = model
        self.add_resource(LEAFLET)
        spoken = {name: getattr(say(f"console.{name}", since="{since}"), language) for name in _WORDS}
        self.props["words"] = spoken
        self.props["classes"] = [
            {
                "state": state.value,
                "colour": colour.value if colour else "",
                "words": _words(state.value, colour, language),
                "letter": say(f"incident.{colour}").zh if colour else "",
            }
            for state, colour in classes()
        ]
        self.props["language"] = language
        self.props["stations"], self.props["reaches"] = STATIONS, REACHES
        self.props["field"] = FIELD if field else ""
        self.on("ready", self._ready)
        self.on("station", lambda event: on_station(str(event.args)))
        self.on("reach", lambda event: on_reach(str(event.args)))

    def _ready(self, event: GenericEventArguments) -> None:
        """The browser holds so many stations now: paint them all, or have it look again when they are not ours."""
        model = self._model()
        if model is not None:
            self.run_method("paint", list(model.codes))

    def show(self, change: Delta) -> None:
        """Repaint what changed."""
        if change.others:
            self.run_method("load")
        elif change:
            self.run_method("patch", list(change.indices), list(change.codes))

    def select(self, key: str) -> None:
        """Ring a station; the view stays where the person put it."""
        self.run_method("select", key)


def _words(state: str, colour: Colour | None, language: str) -> str:
    words: Sequence[str] = [getattr(say(f"console.{state}"), language)]
    if colour is not None:
        words = [getattr(say("console.colour_incident", colour=say(f"incident.{colour}")), language), *words]
    return " · ".join(words)
