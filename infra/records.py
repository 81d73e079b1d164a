"""Dataclasses with slots from rows of a table and back: a field is the column of the same name."""

from typing import Any, TypeVar

T = TypeVar("T")


def from_row(shape: type[T], row: Any, /, **given: Any) -> T:
    """A dataclass from a row or its mapping; ``given`` are fields that no column holds as they are."""
    columns = getattr(row, "_mapping", row)
    names: tuple[str, ...] = shape.__slots__  # type: ignore[attr-defined]
    return shape(**{name: columns[name] for name in names if name not in given}, **given)


def to_row(thing: Any, /, **given: Any) -> dict[str, Any]:
    """The columns of a dataclass; ``given`` replaces fields that a column cannot hold."""
    return {name: getattr(thing, name) for name in thing.__slots__} | given
