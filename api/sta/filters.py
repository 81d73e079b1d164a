"""``$filter`` and ``$orderby``: an expression is parsed, checked against the properties of a kind, and made a function.

Comparisons with a missing value or between values of different types are false, except ``ne``.
"""

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date
from typing import Any

from odata_query import ast
from odata_query.exceptions import ODataException
from odata_query.grammar import ODATA_FUNCTIONS, ODataLexer, ODataParser

from api.sta import geometry
from api.sta.geometry import Geometry
from api.sta.model import JSON, NUMBER, TEXT, TIME, Entity, Kind
from api.sta.refusals import invalid, limit, mismatch, unknown, unsupported
from infra.times import from_ms, to_ms

MOST_LETTERS = 16_000
MOST_DEPTH = 50
BOOL, DATE, CLOCK, DURATION, GEO, NULL = "boolean", "date", "time of day", "duration", "geometry", "null"

Value = Callable[[Entity], Any]
Follow = Callable[[Entity, str], Entity | None]
"""The entity at the end of a link to one."""

ODATA_FUNCTIONS |= {
    "substringof": 2,
    "st_within": 2,
    "st_intersects": 2,
    "st_disjoint": 2,
    "st_equals": 2,
    "st_contains": 2,
    "st_distance": 2,
}
_QUOTED_OR_FIXED = re.compile(r"('(?:[^']|'')*')|(@iot\.id)\b|(\bnot)(?=\()|(?<=:\d\d) (?=\d\d:\d\d)", re.I)
"""Text, the old name of an id, ``not`` without the space that the parser wants, a ``+`` that became a space."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A function of an entity, the type of its value, and whether it is the same for every entity."""

    type: str
    value: Value
    constant: bool = False


@dataclass(frozen=True, slots=True)
class Scope:
    """What the names of an expression mean: a kind, all kinds, how to follow links, and what ``now()`` is."""

    kind: Kind
    kinds: Mapping[str, Kind]
    follow: Follow
    now_ms: int


def parse(option: str, text: str) -> ast._Node:
    """The tree of an expression; raises ConfigurationError for what is none, or too large."""
    if len(text) > MOST_LETTERS:
        raise limit(f"{option} (characters)", MOST_LETTERS)
    fixed = _QUOTED_OR_FIXED.sub(_fixed, text.strip())
    if _brackets(fixed) > MOST_DEPTH:
        raise limit(f"{option} (depth)", MOST_DEPTH)
    try:
        tree: ast._Node = ODataParser().parse(ODataLexer().tokenize(fixed))
    except (ODataException, ValueError, NotImplementedError, AttributeError, TypeError):
        raise invalid(option, text) from None
    if tree is None:
        raise invalid(option, text)
    if _depth(tree) > MOST_DEPTH:
        raise limit(f"{option} (depth)", MOST_DEPTH)
    return tree


def _fixed(match: re.Match[str]) -> str:
    return match[1] or (match[2] and "id") or (match[3] and f"{match[3]} ") or "+"


def _brackets(text: str) -> int:
    most = depth = 0
    for letter in re.sub(r"'[^']*'", "", text):
        depth += (letter == "(") - (letter == ")")
        most = max(most, depth)
    return most


def _depth(tree: ast._Node) -> int:
    """How deep the tree is; a chain of the same ``and`` or ``or`` counts once."""
    most, ahead = 0, [(tree, 1)]
    while ahead:
        node, depth = ahead.pop()
        most = max(most, depth)
        for child in _children(node):
            same = isinstance(node, ast.BoolOp) and isinstance(child, ast.BoolOp) and child.op == node.op
            ahead.append((child, depth if same else depth + 1))
    return most


def _children(node: ast._Node) -> list[ast._Node]:
    if isinstance(node, ast.BoolOp | ast.BinOp | ast.Compare):
        return [node.left, node.right]
    if isinstance(node, ast.UnaryOp):
        return [node.operand]
    if isinstance(node, ast.Attribute):
        return [node.owner]
    return list(node.args) if isinstance(node, ast.Call) else list(node.val) if isinstance(node, ast.List) else []


def conjuncts(tree: ast._Node) -> list[ast._Node]:
    """The parts of an expression that must all be true."""
    return _chain(tree, ast.And())


def _chain(tree: ast._Node, op: ast._BoolOpToken) -> list[ast._Node]:
    found, ahead = [], [tree]
    while ahead:
        node = ahead.pop()
        if isinstance(node, ast.BoolOp) and node.op == op:
            ahead += [node.right, node.left]
        else:
            found.append(node)
    return found


def test_of(tree: ast._Node, scope: Scope) -> Callable[[Entity], bool]:
    """The filter that a tree is."""
    made = _truth(tree, scope)
    return lambda entity: made(entity) is True


def compiled(node: ast._Node, scope: Scope) -> Expression:
    """The function that a tree is; raises ConfigurationError for what entities of the kind do not have."""
    return _COMPILERS.get(type(node), _literal)(node, scope)


def _boolean(node: ast.BoolOp, scope: Scope) -> Expression:
    parts = [_truth(one, scope) for one in _chain(node, node.op)]
    if isinstance(node.op, ast.And):
        return Expression(BOOL, lambda e: all(part(e) is True for part in parts))
    return Expression(BOOL, lambda e: any(part(e) is True for part in parts))


def _unary(node: ast.UnaryOp, scope: Scope) -> Expression:
    if isinstance(node.op, ast.Not):
        operand = _truth(node.operand, scope)
        return Expression(BOOL, lambda e: operand(e) is not True)
    return _arithmetic(ast.BinOp(ast.Sub(), ast.Integer("0"), node.operand), scope)


def _truth(node: ast._Node, scope: Scope) -> Value:
    made = compiled(node, scope)
    if made.type not in (BOOL, JSON):
        raise mismatch(made.type, BOOL)
    return made.value


# -- names and literals ------------------------------------------------------------------------------------------------


def _names(node: ast._Node) -> list[str]:
    if isinstance(node, ast.Attribute):
        return [*_names(node.owner), str(node.attr)]
    assert isinstance(node, ast.Identifier)
    return [str(node.full_name())]


def _path(names: list[str], scope: Scope) -> Expression:
    kind, follow = scope.kind, scope.follow
    links: list[str] = []
    while names[0] in kind.links:
        name, *names = names
        link = kind.links[name]
        if link.many:
            raise unsupported(f"$filter / $orderby: {kind.name}/{name}")
        if not names:
            raise invalid("$filter", name)
        links.append(name)
        kind = scope.kinds[link.to]
    name, *rest = names
    if name not in kind.properties:
        raise unknown(kind.name, name, ", ".join([*kind.properties, *kind.links]))
    type_ = kind.properties[name]
    if rest and type_ == TIME and rest[0] in ("start", "end"):
        rest = rest[1:]
    if rest and type_ != JSON:
        raise unknown(f"{kind.name}/{name}", rest[0], "-")

    def value(entity: Entity) -> Any:
        one: Entity | None = entity
        for link_name in links:
            one = None if one is None else follow(one, link_name)
        return None if one is None else _inner(one.row.get(name), rest)

    return Expression(type_, value)


def _inner(found: Any, names: list[str]) -> Any:
    for name in names:
        if isinstance(found, list) and found:
            found = found[0]
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _constant(type_: str, value: Any) -> Expression:
    return Expression(type_, lambda _: value, constant=True)


def _literal(node: ast._Node, scope: Scope) -> Expression:
    if type(node) not in _LITERALS:
        raise unsupported(f"$filter: {type(node).__name__}")
    type_, read = _LITERALS[type(node)]
    try:
        return _constant(type_, read(node))
    except (ValueError, OverflowError):
        raise invalid("$filter", str(getattr(node, "val", node))) from None


def _instant(node: ast.DateTime) -> int:
    moment = node.py_val
    return to_ms(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


_LITERALS: Mapping[type, tuple[str, Callable[[Any], Any]]] = {
    ast.Null: (NULL, lambda node: None),
    ast.Integer: (NUMBER, lambda node: float(node.val)),
    ast.Float: (NUMBER, lambda node: float(node.val)),
    ast.Boolean: (BOOL, lambda node: node.py_val),
    ast.String: (TEXT, lambda node: node.val),
    ast.DateTime: (TIME, _instant),
    ast.Date: (DATE, lambda node: date.fromisoformat(node.val).isoformat()),
    ast.Time: (CLOCK, lambda node: node.py_val.isoformat()),
    ast.Duration: (DURATION, lambda node: round(node.py_val.total_seconds() * 1000)),
    ast.Geography: (GEO, lambda node: geometry.of_wkt(node.val)),
}


# -- operators ---------------------------------------------------------------------------------------------------------

_COMPARE: Mapping[type, Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ORDERED = (TEXT, NUMBER, TIME, DATE, CLOCK, DURATION)


def _comparison(node: ast.Compare, scope: Scope) -> Expression:
    left = compiled(node.left, scope)
    if isinstance(node.comparator, ast.In):
        assert isinstance(node.right, ast.List)
        options = [compiled(one, scope) for one in node.right.val]
        for one in options:
            _fitting(left.type, one.type)
        return Expression(BOOL, lambda e: any(_equal(left.value(e), one.value(e)) for one in options))
    right = compiled(node.right, scope)
    _fitting(left.type, right.type)
    compare = _COMPARE[type(node.comparator)]
    if compare in (operator.eq, operator.ne):
        wanted = compare is operator.eq
        return Expression(BOOL, lambda e: _equal(left.value(e), right.value(e)) is wanted)
    for one in (left, right):
        if one.type not in (*_ORDERED, JSON, NULL):
            raise mismatch(left.type, right.type)

    def ordered(entity: Entity) -> bool:
        a, b = left.value(entity), right.value(entity)
        return _sort(a) is not None and _sort(a) is _sort(b) and compare(a, b)

    return Expression(BOOL, ordered)


def _fitting(left: str, right: str) -> None:
    if left != right and not {left, right} & {JSON, NULL}:
        raise mismatch(left, right)


def _sort(value: Any) -> type | None:
    """Numbers and texts can be compared with their like."""
    if isinstance(value, bool):
        return None
    return float if isinstance(value, int | float) else str if isinstance(value, str) else None


def _equal(a: Any, b: Any) -> bool:
    return bool(isinstance(a, bool) == isinstance(b, bool) and a == b)


_ARITHMETIC: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: math.fmod,
}
_TIMES = {
    (ast.Add, TIME, DURATION): TIME,
    (ast.Sub, TIME, DURATION): TIME,
    (ast.Sub, TIME, TIME): DURATION,
    (ast.Add, DURATION, DURATION): DURATION,
    (ast.Sub, DURATION, DURATION): DURATION,
}


def _arithmetic(node: ast.BinOp, scope: Scope) -> Expression:
    left, right = compiled(node.left, scope), compiled(node.right, scope)
    type_ = _TIMES.get((type(node.op), left.type, right.type))
    if type_ is None and {left.type, right.type} <= {NUMBER, JSON, NULL}:
        type_ = NUMBER
    if type_ is None:
        raise mismatch(left.type, right.type)
    apply = _ARITHMETIC[type(node.op)]

    def value(entity: Entity) -> Any:
        a, b = left.value(entity), right.value(entity)
        if _sort(a) is not float or _sort(b) is not float:
            return None
        try:
            return apply(a, b)
        except (ArithmeticError, ValueError):
            return None

    return Expression(type_, value, left.constant and right.constant)


# -- functions ---------------------------------------------------------------------------------------------------------


def _part(form: str) -> Callable[[int], float]:
    return lambda at_ms: float(getattr(from_ms(at_ms), form))


def _substring(text: str, start: float, length: float | None = None) -> str:
    begin = max(0, int(start))
    return text[begin:] if length is None else text[begin : begin + max(0, int(length))]


_FUNCTIONS: Mapping[str, tuple[tuple[str, ...], str, Callable[..., Any]]] = {
    "contains": ((TEXT, TEXT), BOOL, lambda text, part: part in text),
    "substringof": ((TEXT, TEXT), BOOL, lambda part, text: part in text),
    "startswith": ((TEXT, TEXT), BOOL, str.startswith),
    "endswith": ((TEXT, TEXT), BOOL, str.endswith),
    "concat": ((TEXT, TEXT), TEXT, operator.add),
    "indexof": ((TEXT, TEXT), NUMBER, lambda text, part: float(text.find(part))),
    "length": ((TEXT,), NUMBER, lambda text: float(len(text))),
    "substring": ((TEXT, NUMBER, NUMBER), TEXT, _substring),
    "tolower": ((TEXT,), TEXT, str.lower),
    "toupper": ((TEXT,), TEXT, str.upper),
    "trim": ((TEXT,), TEXT, str.strip),
    **{name: ((TIME,), NUMBER, _part(name)) for name in ("year", "month", "day", "hour", "minute", "second")},
    "fractionalseconds": ((TIME,), NUMBER, lambda at_ms: at_ms % 1000 / 1000),
    "totaloffsetminutes": ((TIME,), NUMBER, lambda at_ms: 0.0),
    "date": ((TIME,), DATE, lambda at_ms: from_ms(at_ms).date().isoformat()),
    "time": ((TIME,), CLOCK, lambda at_ms: from_ms(at_ms).time().isoformat()),
    "round": ((NUMBER,), NUMBER, lambda x: math.floor(x + 0.5) if x >= 0 else math.ceil(x - 0.5)),
    "floor": ((NUMBER,), NUMBER, math.floor),
    "ceiling": ((NUMBER,), NUMBER, math.ceil),
    **dict.fromkeys(("geo.intersects", "st_intersects"), ((GEO, GEO), BOOL, geometry.intersects)),
    **dict.fromkeys(("geo.distance", "st_distance"), ((GEO, GEO), NUMBER, geometry.distance)),
    "st_within": ((GEO, GEO), BOOL, geometry.within),
    "st_contains": ((GEO, GEO), BOOL, lambda one, other: geometry.within(other, one)),
    "st_disjoint": ((GEO, GEO), BOOL, lambda one, other: not geometry.intersects(one, other)),
    "st_equals": ((GEO, GEO), BOOL, operator.eq),
}
"""Name → the types of its arguments, the type of its value, and what it does. A missing argument makes it null."""

FUNCTIONS = (*_FUNCTIONS, "now")


def _call(node: ast.Call, scope: Scope) -> Expression:
    name = str(node.func.full_name())
    if name == "now":
        return _constant(TIME, scope.now_ms)
    if name not in _FUNCTIONS:
        raise unsupported(f"$filter: {name}()")
    wanted, type_, apply = _FUNCTIONS[name]
    given = [compiled(one, scope) for one in node.args]
    for type_wanted, one in zip(wanted, given, strict=False):
        if one.type not in (type_wanted, JSON, NULL):
            raise mismatch(f"{name}({one.type})", type_wanted)

    def value(entity: Entity) -> Any:
        arguments = [_argument(one.value(entity), to) for one, to in zip(given, wanted, strict=False)]
        if any(one is None for one in arguments):
            return None
        try:
            return apply(*arguments)
        except (ValueError, ArithmeticError):
            return None

    return Expression(type_, value, all(one.constant for one in given))


def _argument(value: Any, wanted: str) -> Any:
    """The value as a function takes it; None where it is of another type."""
    if wanted == GEO:
        return value if isinstance(value, Geometry) else geometry.of_geojson(value)
    return value if _sort(value) is (str if wanted == TEXT else float) else None


_COMPILERS: Mapping[type, Callable[[Any, Scope], Expression]] = {
    ast.Identifier: lambda node, scope: _path(_names(node), scope),
    ast.Attribute: lambda node, scope: _path(_names(node), scope),
    ast.Call: _call,
    ast.BoolOp: _boolean,
    ast.UnaryOp: _unary,
    ast.Compare: _comparison,
    ast.BinOp: _arithmetic,
}
"""Sort of a node → what makes it a function; every other one is a literal."""


# -- order -------------------------------------------------------------------------------------------------------------


def sort_key(value: Any) -> tuple[int, Any]:
    """A key that orders values of any type: missing ones first, numbers, texts, others last."""
    if value is None:
        return 0, 0
    return (1, value) if isinstance(value, int | float) else (2, value) if isinstance(value, str) else (3, repr(value))
