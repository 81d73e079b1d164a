"""The columns of decoded frames, while they grow: what HJ 212 and SL 651 share."""

from sensors.parameters import Catalogue
from sensors.reading import Batch, Reason, Rejected
from sensors.wire.telemetry import Decoded, Header, StatusWord


class Columns:
    """Readings, refusals and events; ``message`` is the one that is being read."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.message = 0
        self.rows: list[tuple[int, int, float, int, int]] = []
        self.unknown: dict[int, str] = {}
        self.rejected: list[Rejected] = []
        self.periods: dict[int, int] = {}
        self.notices: dict[int, str] = {}
        self.status: dict[int, StatusWord] = {}

    def refuse(self, reason: Reason, detail: str, readings: tuple[tuple[int, str], ...] | None = None) -> None:
        self.rejected.append(Rejected(self.message, reason, detail[:500], readings))

    def add(self, key: str, at_ms: int, value: float, status: int) -> None:
        parameter = self.catalogue.index.get(key, -1)
        if parameter < 0:
            self.unknown[len(self.rows)] = key
        self.rows.append((parameter, at_ms, value, status, self.message))

    def decoded(self, headers: list[Header | None]) -> Decoded:
        parameter, at, value, status, message = zip(*self.rows, strict=True) if self.rows else ((),) * 5
        batch = Batch.of([-1] * len(self.rows), parameter, at, value, status, message)
        rejected = tuple(self.rejected)
        return Decoded(batch, tuple(headers), self.unknown, rejected, self.periods, self.notices, self.status)
