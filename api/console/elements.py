"""The plain HTML that pages are made of, and the signs that mean the same everywhere: pennant and class badge."""

import inspect
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from nicegui import ui
from nicegui.classes import Classes
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement
from nicegui.props import Props
from nicegui.style import Style

from api.console import svg as marks
from governance.incidents.finding import Colour
from infra.texts import Text, ended, from_both, say
from sensors.standards.gb3838 import WaterClass

for _part in (Classes, Style, Props):  # NiceGUI asks three times for each element how to call these: told once for all
    _part._update.__signature__ = inspect.signature(_part._update)  # type: ignore[union-attr]

HTML_LANGUAGE = {"zh": "zh-CN", "en": "en"}


def tag(name: str, classes: str = "", text: str = "", *, label: str = "", testid: str = "") -> TextElement:
    """A plain HTML element; text is text, never markup."""
    element = TextElement(tag=name, text=text)
    if classes:
        element.classes(classes)
    if label:
        element.props["aria-label"] = label
    if testid:
        element.props["data-testid"] = testid
    return element


def button(text: str, action: Callable[[], Any], classes: str, *, testid: str = "") -> TextElement:
    """A plain button, without the looks of a component library."""
    element = tag("button", classes, text, testid=testid)
    element.props["type"] = "button"
    element.on("click", lambda _: action())
    return element


def link(text: str, href: str, classes: str = "rc-link", *, testid: str = "") -> TextElement:
    """A link; what leads to a file opens beside the page."""
    element = tag("a", classes, text, testid=testid)
    element.props["href"] = href
    if href.startswith("/api/"):
        element.props["target"] = "_blank"
        element.props["rel"] = "noopener"
    return element


def pennant(colour: Colour, language: str) -> None:
    """The urgency's sign: its colour and its word, so that it is read without seeing colours."""
    tag("span", f"rc-pennant rc-{colour}", str(getattr(say(f"incident.{colour}"), language)))


def badge(water_class: WaterClass | None, size: int = 28) -> Element:
    """The class of water: letter, shape and colour."""
    return ui.html(marks.badge(water_class, size), sanitize=False).classes("rc-badge")  # drawn by us, no text of others


def picture(svg: str, classes: str = "", *, testid: str = "") -> Element:
    """A drawing of :mod:`api.console.svg`."""
    element = ui.html(svg, sanitize=False).classes(f"rc-picture {classes}")
    if testid:
        element.props["data-testid"] = testid
    return element


def pressed(element: Element, is_pressed: bool) -> None:
    """Say of a button whether it is the chosen one."""
    element.props["aria-pressed"] = json.dumps(is_pressed)
    element.update()


def one_language(text: Text, language: str) -> str:
    """What went wrong, as a sentence in the page's language."""
    return str(getattr(ended(text), language))


def stored(message: str, language: str) -> str:
    """What stands in the database in both languages, in the page's."""
    return one_language(from_both(message), language)


@lru_cache(maxsize=1)
def page_css() -> str:
    """The look of all pages."""
    return Path(__file__).with_name("console.css").read_text(encoding="utf-8")
