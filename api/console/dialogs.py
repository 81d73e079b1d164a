"""A dialog with named fields: what it cannot do is said in it, and nothing typed is lost."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from nicegui import ui

from api.console.elements import HTML_LANGUAGE, button, one_language, tag
from api.console.frame import Framed
from infra.errors import WaterError

Field = TypeVar("Field", ui.input, ui.textarea, ui.select, ui.number)


class Dialog:
    """Fields under a title; ``submit`` does the work and may raise WaterError, which is shown here."""

    def __init__(self, page: Framed, title: str, note: str = "") -> None:
        self.page, self.fields = page, 0
        with ui.context.client.layout:
            self.dialog = ui.dialog()
        with self.dialog, tag("form", "rc-dialog", testid="start-dialog") as self.form:
            self.form.props["lang"] = HTML_LANGUAGE[page.language]
            tag("h2", text=title)
            if note:
                tag("p", "rc-quiet", note)
        self.dialog.on("hide", self.dialog.delete)

    def text(self, name: str, words: str, value: str = "", *, long: bool = False, hint: str = "") -> Any:
        """A line, or several."""
        with self.form:
            made = ui.textarea(value=value).props("autogrow maxlength=4000") if long else ui.input(value=value)
            if not long:
                made.props("maxlength=200")
            return self._named(name, words, made, hint)

    def choice(
        self, name: str, words: str, options: Mapping[Any, str], value: Any = None, *, several: bool = False
    ) -> Any:
        """One of some, or several of them; with many one types to find."""
        with self.form:
            made = ui.select(dict(options), value=value, multiple=several, with_input=len(options) > 12)
            made.props("clearable options-dense behavior=menu" + (" use-chips" if several else ""))
            return self._named(name, words, made)

    def moment(self, name: str, words: str, *, day: bool = False) -> Any:
        """An instant, or a day, in Beijing time: ``2026-10-01T08:30``."""
        with self.form:
            return self._named(name, words, ui.input().props(f"type={'date' if day else 'datetime-local'}"))

    def check(self, name: str, words: str) -> ui.checkbox:
        """Yes or no."""
        with self.form:
            made = ui.checkbox(words)
        made.props["data-testid"] = f"start-dialog-{name}"
        return made

    def several(self, name: str, words: str, options: Mapping[int, str]) -> "Several":
        """Some of a list, each ticked by itself."""
        with self.form, tag("fieldset", "rc-several", testid=f"start-dialog-{name}"):
            tag("legend", text=words)
            boxes = {key: ui.checkbox(text) for key, text in options.items()}
        self.fields += 1
        for key, box in boxes.items():
            box.props["data-testid"] = f"start-dialog-{name}-{key}"
        return Several(boxes)

    def preview(self, words: Callable[[], str], *fields: "Several | ui.select") -> None:
        """What would come of it, said anew whenever one of ``fields`` changes."""
        with self.form:
            told = tag("p", "rc-preview", words(), testid="start-dialog-preview")
        told.props["role"] = "status"
        for field in fields:
            field.on_value_change(lambda _: told.set_text(words()))

    def number(
        self, name: str, words: str, least: float | None = None, most: float | None = None, *, whole: bool = False
    ) -> Any:
        """A number."""
        with self.form:
            return self._named(name, words, ui.number(min=least, max=most, precision=0 if whole else None))

    def _named(self, name: str, words: str, field: Field, hint: str = "") -> Field:
        """A field under its name: Quasar's own floating labels are too small to read."""
        with tag("label", "rc-field") as label:
            tag("span", text=words)
        field.props("outlined dense" if self.fields else "outlined dense autofocus").move(label)
        self.fields += 1
        field.props["data-testid"] = f"start-dialog-{name}"
        field.props["aria-label"] = words
        if hint:
            with label:
                tag("small", text=hint)
        return field

    def open(self, go: str, submit: Callable[[], Awaitable[None]]) -> None:
        """Show it; ``submit`` runs at Enter and at the button, and the dialog closes when it raised nothing."""
        with self.form:
            problem = tag("p", "rc-problem", testid="start-dialog-error")
            problem.props["role"] = "alert"
            with tag("div", "rc-dialog-foot"):
                button(self.page.say("console.cancel"), self.dialog.close, "rc-button", testid="start-dialog-cancel")
                confirm = tag("button", "rc-button rc-main-button", go, testid="start-dialog-confirm")
                confirm.props["type"] = "submit"

        async def submitted() -> None:
            problem.set_text("")
            confirm.props["disabled"] = True
            try:
                await submit()
            except WaterError as error:
                problem.set_text(one_language(error.text, self.page.language))
                return
            finally:
                confirm.props.pop("disabled", None)
                confirm.update()
            self.dialog.close()

        self.form.on("submit.prevent", submitted)
        self.dialog.open()


class Several:
    """Boxes to tick; ``value`` holds the keys of those that are."""

    def __init__(self, boxes: Mapping[int, ui.checkbox]) -> None:
        self._boxes = boxes

    @property
    def value(self) -> list[int]:
        """What is ticked, in the order of the list."""
        return [key for key, box in self._boxes.items() if box.value]

    def on_value_change(self, tell: Callable[[Any], Any]) -> None:
        """Tell whenever a box changes."""
        for box in self._boxes.values():
            box.on_value_change(tell)
