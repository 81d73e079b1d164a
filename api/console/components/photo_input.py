"""Photos brought to a case from the browser: they go to ``POST /attachments``, under the rights of who is signed in."""

from nicegui import ui
from nicegui.events import GenericEventArguments

from infra.texts import say

ATTACHMENTS = "/api/v1/attachments"
_WORDS = ("photo_add", "photo_sending", "photo_kept", "photo_drop")


class PhotoInput(ui.element, component="photo_input.js"):
    """Choose, send and preview photos; ``ids`` are those that are kept, ``sending`` how many are under way."""

    def __init__(self, language: str) -> None:
        super().__init__()
        self.ids: tuple[str, ...] = ()
        self.sending = 0
        self.props["words"] = {name: getattr(say(f"form.{name}"), language) for name in _WORDS}
        self.props["language"] = language
        self.props["to"] = ATTACHMENTS
        self.on("brought", self._brought)

    def _brought(self, event: GenericEventArguments) -> None:
        self.ids = tuple(str(one) for one in event.args["ids"])
        self.sending = int(event.args["sending"])
