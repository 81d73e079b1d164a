"""Record the outcome of every sample of a run, and add it to the table of the scenario."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

import polars as pl

from sensors.reading import Ints
from simulator.devices.transport import Fate, SampleOutcome

COLUMNS: Final = ("sent_time", "fate", "boot", "seq")


class RunRecord:
    """Takes every settled sample of a run; :meth:`columns` lays them beside the truth of the water.

    A table of what was played has four columns more than one without devices: ``sent_time``, what the device wrote as
    the time where its clock was wrong (``time`` is the true one); ``fate`` (:class:`simulator.devices.transport.Fate`;
    empty where nothing was measured); ``boot`` and ``seq`` of the message that carried the sample.
    """

    def __init__(self) -> None:
        self._settled: dict[str, dict[int, SampleOutcome]] = {}

    def __call__(self, settled: SampleOutcome) -> None:
        self._settled.setdefault(settled.station, {})[settled.sample.at_ms] = settled

    def __len__(self) -> int:
        return sum(map(len, self._settled.values()))

    @property
    def fates(self) -> Counter[Fate]:
        """Number of samples by fate."""
        return Counter(one.fate for one in self)

    def __iter__(self) -> Iterator[SampleOutcome]:
        """By station, then true time."""
        for station in sorted(self._settled):
            yield from (one for _, one in sorted(self._settled[station].items()))

    def columns(self, station: str, at_ms: Ints) -> list[pl.Series]:
        """:data:`COLUMNS` for the rows of ``station`` at ``at_ms`` (n,)."""
        of = self._settled.get(station, {})
        rows = [of.get(at) for at in at_ms.tolist()]
        wrong = [None if one is None or one.reported_ms == one.sample.at_ms else one.reported_ms for one in rows]
        return [
            times_or_none(wrong).alias("sent_time"),
            pl.Series("fate", [None if one is None else one.fate.value for one in rows], dtype=pl.String),
            pl.Series("boot", [None if one is None else one.boot for one in rows], dtype=pl.Int64),
            pl.Series("seq", [None if one is None else one.seq for one in rows], dtype=pl.Int64),
        ]


def times_or_none(at_ms: list[int | None]) -> pl.Series:
    """Instants as ISO 8601 with a Z, to the millisecond where a clock is off by parts of a second."""
    moments = pl.Series(at_ms, dtype=pl.Int64).cast(pl.Datetime("ms"))
    return moments.dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").str.replace(".000Z", "Z", literal=True)
