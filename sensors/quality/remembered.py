"""What is remembered of many stations, as columns: to be grown, taken apart, put back, written down and read. Pure."""

import zlib
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sensors.reading import Codes


class Column:
    """Makes a column of a :class:`Remembered`: one cell of ``shape`` a station, ``blank`` where nothing is known."""

    def __init__(self, blank: float, kind: DTypeLike, *shape: int) -> None:
        self.blank, self._kind, self._shape = blank, kind, shape

    def __call__(self, size: int = 0) -> Any:
        """So many stations of which nothing is known."""
        return np.full((size, *self._shape), self.blank, self._kind)


@dataclass
class Remembered:
    """Columns by station, all of the same length; every field of a subclass is made by a :class:`Column`."""

    FORM: ClassVar[int] = 1
    """Number of the written form; grows when what is remembered changes."""

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    def grow(self, size: int) -> None:
        """Make room for ``size`` stations; new ones remember nothing."""
        more = size - len(self)
        if more > 0:
            for one in fields(self):
                old = getattr(self, one.name)
                blank: Any = one.default_factory
                setattr(self, one.name, np.concatenate([old, blank(more)]))

    def taken(self, stations: Codes) -> Self:
        """These stations alone, in this order, as a copy."""
        return type(self)(*(getattr(self, one.name)[stations] for one in fields(self)))

    def apply(self, stations: Codes, new: Self) -> None:
        """Remember of these stations what ``new`` has, row by row."""
        for one in fields(self):
            getattr(self, one.name)[stations] = getattr(new, one.name)

    def frozen(self, row: int) -> bytes:
        """All that is remembered of a station, to be written down, beginning with the number of its form."""
        parts = [np.ascontiguousarray(getattr(self, one.name)[row]).tobytes() for one in fields(self)]
        return zlib.compress(bytes([self.FORM]) + b"".join(parts), 1)

    def thaw(self, row: int, body: bytes) -> bool:
        """What was written down is remembered again; false where its form cannot be read."""
        try:
            plain = zlib.decompress(body)
        except zlib.error:
            return False
        cells = self._cells(row, plain[0] if plain else 0)
        if not cells or len(plain) != 1 + sum(cell.nbytes for cell in cells):
            return False
        place = 1
        for cell in cells:
            cell[...] = np.frombuffer(plain[place : place + cell.nbytes], cell.dtype).reshape(cell.shape)
            place += cell.nbytes
        return True

    def _cells(self, row: int, form: int) -> list[NDArray[Any]]:
        """The cells of a station that this form holds, in its order; none where it cannot be read."""
        return [getattr(self, one.name)[row : row + 1] for one in fields(self)] if form == self.FORM else []
