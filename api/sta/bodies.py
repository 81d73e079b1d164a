"""What clients write, part by part: what an entity may hold, and of which type; the rest is refused by its name."""

import re
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import msgspec

from api.requests import instant
from api.sta.answers import Words
from api.sta.model import Kind
from api.sta.refusals import invalid, needed, not_kept, unknown, wrong

NESTED = 20
"""Levels of objects and lists in a body."""
_REFERENCE = re.compile(r".*\('((?:[^']|'')+)'\)")
_TYPES: Mapping[type, str] = {str: "text", dict: "object", list: "list", float: "number", bool: "true, false"}

T = TypeVar("T")


def parsed(body: bytes) -> Any:
    """The JSON of a request."""
    try:
        content = msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        raise invalid("JSON", str(error)) from None
    if _depth(content, NESTED) > NESTED:
        raise invalid("JSON", f"depth > {NESTED}")
    return content


def _depth(content: Any, most: int) -> int:
    if not isinstance(content, dict | list) or most < 0:
        return 0
    inner = content.values() if isinstance(content, dict) else content
    return 1 + max((_depth(one, most - 1) for one in inner), default=0)


class Body:
    """An entity as a client writes it; every part is taken once."""

    def __init__(self, kind: Kind, content: Any, words: Words) -> None:
        if not isinstance(content, dict):
            raise invalid(kind.name, str(content))
        self.kind = kind
        self.words = words
        self.id = key_of(content, words)
        self._left = {n: v for n, v in content.items() if "@" not in n and n != words.id and v is not None}

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str, shape: type[T], default: T | None = None) -> T:
        """A part; raises ConfigurationError where it is of another type, or missing without a ``default``."""
        value = self._left.pop(name, default)
        if value is None:
            raise needed(self.kind.name, name)
        if shape is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value) if abs(value) < 1e300 else value
        if not isinstance(value, shape):
            raise wrong(self.kind.name, name, value, _TYPES[shape])
        return value

    def must_be(self, name: str, known: Collection[Any]) -> None:
        """Take a part that can have no other value than one of these, or be left out."""
        value = self._left.pop(name, None)
        if value is not None and value not in known:
            raise wrong(self.kind.name, name, value, ", ".join(map(str, known)))

    def drop(self, *names: str) -> None:
        """Take parts that this service says itself."""
        for name in names:
            self._left.pop(name, None)

    def raw(self, name: str) -> Any:
        """A part of whatever type; None where it is missing."""
        return self._left.pop(name, None)

    def end(self) -> None:
        """Raises ConfigurationError for what nobody took."""
        for name in self._left:
            if name in self.kind.properties or name in self.kind.links:
                raise not_kept(self.kind.name, name)
            raise unknown(self.kind.name, name, ", ".join([*self.kind.properties, *self.kind.links]))


def key_of(content: Mapping[str, Any], words: Words) -> str | None:
    """The id that an object gives, itself or as an address."""
    key = content.get(words.id)
    if key is None and isinstance(content.get("@id"), str):
        match = _REFERENCE.fullmatch(content["@id"])
        return match[1].replace("''", "'") if match else None
    if key is not None and not isinstance(key, str):
        raise wrong("", words.id, key, _TYPES[str])
    return key


def time_of(name: str, value: Any) -> int:
    """The instant that a text (1.1) or an object with ``start`` (2.0) names, in ms."""
    if isinstance(value, dict) and value.keys() <= {"start", "end"} and value.get("end") in (None, value.get("start")):
        value = value.get("start")
    if not isinstance(value, str):
        raise wrong("Observations", name, value, "RFC 3339")
    return instant(name, value)
