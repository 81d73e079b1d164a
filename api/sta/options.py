"""What a query asks for: ``$filter``, ``$expand`` with its own options, ``$select``, ``$orderby`` and the page."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from odata_query import ast

from api.requests import whole_number
from api.sta import filters
from api.sta.model import Kind
from api.sta.refusals import invalid, limit, unknown, unsupported

DEFAULT_TOP = 100
MOST_TOP = 1000
MOST_SKIP = 100_000
MOST_EXPANDED = 4
MOST_LINKS = 40
"""Links that a query may expand in all."""
_KNOWN = frozenset({"$filter", "$expand", "$select", "$orderby", "$top", "$skip", "$count", "$skiptoken", "$format"})
_FORMATS = frozenset({"$resultFormat", "resultFormat"})
_PIECE = re.compile(r"'(?:[^']|'')*'|.", re.S)

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Order:
    """One term of ``$orderby``."""

    tree: ast._Node
    text: str
    descending: bool


@dataclass(frozen=True, slots=True)
class Options:
    """A query; ``given`` is its text, from which the address of the next page is made."""

    given: tuple[Pair, ...] = ()
    filter: ast._Node | None = None
    expand: tuple[tuple[str, "Options"], ...] = ()
    select: tuple[str, ...] | None = None
    order: tuple[Order, ...] = ()
    top: int = DEFAULT_TOP
    skip: int = 0
    count: bool = False
    token: str | None = None
    data_array: bool = False


def read(pairs: Iterable[Pair], kind: Kind, kinds: dict[str, Kind], depth: int = 0) -> Options:
    """The options of a query; raises ConfigurationError for what is no option or cannot be read."""
    given = tuple((name, text) for name, text in pairs if name.startswith("$") or name in _FORMATS)
    names = [name for name, _ in given]
    for name in names:
        if name not in _KNOWN | _FORMATS:
            raise unknown("?", name, ", ".join(sorted(_KNOWN)))
        if names.count(name) > 1:
            raise invalid(name, "2 ×")
    texts = dict(given)
    if texts.get("$format", "json") not in ("json", "application/json"):
        raise unsupported(f"$format={texts['$format']}")
    form = texts.get("$resultFormat", texts.get("resultFormat"))
    if form is not None and (form != "dataArray" or kind.name != "Observations" or depth):
        raise unsupported(f"$resultFormat={form}: {kind.name}")
    expand = _expanded(texts["$expand"], kind, kinds, depth) if "$expand" in texts else ()
    if not depth and _links(expand) > MOST_LINKS:
        raise limit("$expand", MOST_LINKS)
    if texts.get("$count", "false") not in ("true", "false"):
        raise invalid("$count", texts["$count"])
    return Options(
        given,
        filters.parse("$filter", texts["$filter"]) if "$filter" in texts else None,
        expand,
        _selected(texts["$select"], kind) if "$select" in texts else None,
        tuple(_order(one) for one in split(texts["$orderby"], ",")) if "$orderby" in texts else (),
        min(_number("$top", texts.get("$top", str(DEFAULT_TOP))), MOST_TOP),
        _number("$skip", texts.get("$skip", "0"), MOST_SKIP),
        texts.get("$count") == "true",
        texts.get("$skiptoken"),
        form is not None,
    )


def split(text: str, separator: str) -> list[str]:
    """The parts between separators that stand in no brackets and no quotes."""
    parts, depth = [""], 0
    for piece in _PIECE.findall(text):
        depth += (piece == "(") - (piece == ")")
        if piece == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += piece
    return [part.strip() for part in parts]


def _expanded(text: str, kind: Kind, kinds: dict[str, Kind], depth: int) -> tuple[tuple[str, Options], ...]:
    if depth >= MOST_EXPANDED:
        raise limit("$expand (depth)", MOST_EXPANDED)
    if len(text) > filters.MOST_LETTERS:
        raise limit("$expand (characters)", filters.MOST_LETTERS)
    found: dict[str, Options] = {}
    for term in split(text, ","):
        match = re.fullmatch(r"(\w+)(?:/(.+)|\((.*)\))?", term, re.S)
        if match is None:
            raise invalid("$expand", term)
        name, deeper, inner = match.groups()
        if name not in kind.links:
            raise unknown(kind.name, name, ", ".join(kind.links))
        if deeper:
            pairs = [("$expand", deeper)]
        else:
            pairs = [_pair(one) for one in split(inner, ";") if one] if inner else []
        options = read(pairs, kinds[kind.links[name].to], kinds, depth + 1)
        if name in found:  # Datastreams/Sensor,Datastreams/Observations
            before = found[name]
            options = replace(options, expand=tuple((dict(before.expand) | dict(options.expand)).items()))
        found[name] = options
    return tuple(found.items())


def _links(expand: tuple[tuple[str, Options], ...]) -> int:
    return sum(1 + _links(inner.expand) for _, inner in expand)


def _pair(text: str) -> Pair:
    name, sign, value = text.partition("=")
    if not sign:
        raise invalid("$expand", text)
    return name.strip(), value.strip()


def _selected(text: str, kind: Kind) -> tuple[str, ...]:
    names = tuple("id" if one in ("@iot.id", "@id") else one for one in split(text, ","))
    for name in names:
        if name not in kind.properties and name not in kind.links:
            raise unknown(kind.name, name, ", ".join([*kind.properties, *kind.links]))
    return names


def _order(text: str) -> Order:
    match = re.fullmatch(r"(.+?)(?:\s+(asc|desc))?", text, re.S)
    if match is None:
        raise invalid("$orderby", text)
    return Order(filters.parse("$orderby", match[1]), match[1], match[2] == "desc")


def _number(name: str, text: str, most: int | None = None) -> int:
    number = whole_number(text)
    if number is None:
        raise invalid(name, text)
    if most is not None and number > most:
        raise limit(name, most)
    return number
