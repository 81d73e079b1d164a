"""Base class of what is remembered of many stations, as columns: grow, take, apply, write down and read. Pure."""

import zlib
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import DTypeLike

from sensors.reading import Codes


class Column:
    """Factory of a column of :class:`StateColumns`: one cell of ``shape`` a station, ``blank`` where nothing is
    known."""

    def __init__(self, blank: float, kind: DTypeLike, *shape: int) -> None:
        self.blank, self._kind, self._shape = blank, kind, shape

    def __call__(self, size: int = 0) -> Any:
        """A column of ``size`` stations of which nothing is known."""
        return np.full((size, *self._shape), self.blank, self._kind)


@dataclass
class StateColumns:
    """Columns by station, all of the same length; every field of a subclass is made by a :class:`Column`."""

    FORM: ClassVar[int] = 1
    """Version of the written form; grows when the columns change."""

    @classmethod
    @cache
    def names(cls) -> tuple[str, ...]:
        """The columns; cached, because looking through the fields takes as long as taking a station's cells."""
        return tuple(one.name for one in fields(cls))

    def __len__(self) -> int:
        return len(getattr(self, self.names()[0]))

    def grow(self, size: int) -> None:
        """Make room for ``size`` stations; nothing is known of new ones."""
        more = size - len(self)
        if more > 0:
            for one in fields(self):
                old = getattr(self, one.name)
                blank: Any = one.default_factory
                setattr(self, one.name, np.concatenate([old, blank(more)]))

    def taken(self, stations: Codes) -> Self:
        """These stations alone, in this order, as a copy."""
        return type(self)(*(getattr(self, name)[stations] for name in self.names()))

    def apply(self, stations: Codes, new: Self) -> None:
        """Replace the cells of these stations by those of ``new``, row by row."""
        for name in self.names():
            getattr(self, name)[stations] = getattr(new, name)

    def frozen(self, row: int) -> bytes:
        """The cells of a station in written form, beginning with the version."""
        parts = [getattr(self, name)[row].tobytes() for name in self.names()]  # in C order, whatever the column's
        return zlib.compress(bytes([self.FORM]) + b"".join(parts), 1)

    def restore(self, row: int, body: bytes) -> bool:
        """Read the cells of a station from written form; false where the form is unknown or damaged."""
        try:
            plain = zlib.decompress(body)
        except zlib.error:
            return False
        cells = [getattr(self, name)[row : row + 1] for name in self.names()]
        if plain[:1] != bytes([self.FORM]) or len(plain) != 1 + sum(cell.nbytes for cell in cells):
            return False
        place = 1
        for cell in cells:
            cell[...] = np.frombuffer(plain[place : place + cell.nbytes], cell.dtype).reshape(cell.shape)
            place += cell.nbytes
        return True
