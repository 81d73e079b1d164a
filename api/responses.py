"""How an answer is written: plain structures, serialised by msgspec, times as RFC 3339 in UTC, NaN as null."""

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from starlette.responses import Response

from api.requests import GEOJSON, JSON
from infra.times import rfc3339

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

V = TypeVar("V", bound="DataclassInstance")

_encoder = msgspec.json.Encoder()


def answer(
    content: Any, status: int = 200, headers: Mapping[str, str] | None = None, media_type: str = JSON
) -> Response:
    """``content`` (dataclasses, mappings, lists) as JSON."""
    return Response(_encoder.encode(content), status, None if headers is None else dict(headers), media_type)


def viewed(shape: type[V], *of: Any, **given: Any) -> V:
    """A view: the given fields; every other field is the attribute of that name of the first of ``of`` that has it."""
    for name, place in _taken(shape, *map(type, of)):
        if name not in given:
            given[name] = getattr(of[place], name)
    return shape(**given)


@cache
def _taken(shape: "type[DataclassInstance]", *kinds: type) -> tuple[tuple[str, int], ...]:
    """Each name of a view, and which of these has it; the last where none has, and must be told then."""
    last = len(kinds) - 1
    names = (field.name for field in fields(shape))
    return tuple((name, next((i for i, kind in enumerate(kinds) if hasattr(kind, name)), last)) for name in names)


def when(at_ms: int | None) -> str | None:
    """The instant as text; None for none, and for what no calendar holds."""
    if at_ms is None:
        return None
    try:
        return rfc3339(at_ms)
    except OverflowError:
        return None


def feature(key: str, geometry: Mapping[str, Any] | None, properties: Mapping[str, Any]) -> dict[str, Any]:
    """A GeoJSON feature (RFC 7946)."""
    return {"type": "Feature", "id": key, "geometry": geometry, "properties": properties}


def features(found: list[dict[str, Any]], **members: Any) -> Response:
    """A GeoJSON feature collection; ``members`` stand beside the features."""
    return answer({"type": "FeatureCollection", "features": found, **members}, headers=VARY, media_type=GEOJSON)


VARY = {"Vary": "Accept"}
