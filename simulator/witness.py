"""What was really played, written down: each sample with its true time, the time its device wrote, and its fate."""

import csv
import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO

from sensors.parameters import Catalogue, Parameter
from sensors.times import rfc3339
from simulator.transport import Fate, Settled

_SUFFIX: Final = {
    "°C": "degC",
    "mg/L": "mg_L",
    "µg/L": "ug_L",
    "µS/cm": "uS_cm",
    "NTU": "NTU",
    "mV": "mV",
    "m": "m",
    "cm": "cm",
    "mm": "mm",
    "m³/s": "m3_s",
    "psu": "psu",
    "QSU": "QSU",
}


def header(parameter: Parameter) -> str:
    """A table's column for the parameter in its canonical unit, as :mod:`sensors.columns` reads it: ``do_mg_L``."""
    if parameter.key == "ph":
        return "pH"
    suffix = _SUFFIX.get(parameter.unit)
    return parameter.key if suffix is None else f"{parameter.key}_{suffix}"


class Witness:
    """Takes every settled sample of a run; :meth:`write` makes the table of what was played.

    Columns: ``station``, ``time`` (true, UTC), the parameters, then what a truth without devices has not:
    ``sent_time`` (what the device wrote, where its clock was wrong), ``fate`` (:class:`simulator.transport.Fate`),
    ``boot`` and ``seq`` of the message that carried it. Rows by station, then time.
    """

    def __init__(self) -> None:
        self._settled: dict[str, list[Settled]] = {}

    def __call__(self, settled: Settled) -> None:
        self._settled.setdefault(settled.station, []).append(settled)

    def __len__(self) -> int:
        return sum(map(len, self._settled.values()))

    def rows(self, fate: Fate | None = None) -> Iterator[Settled]:
        """What was settled, by station and true time; of one fate or of all."""
        for station in sorted(self._settled):
            for one in sorted(self._settled[station], key=lambda s: s.sample.at_ms):
                if fate is None or one.fate is fate:
                    yield one

    def write(self, path: Path, catalogue: Catalogue) -> int:
        """The table as CSV, gzip where the name ends in .gz, the same bytes for the same run; the number of rows."""
        with path.open("wb") as file:
            if path.suffix != ".gz":
                return self._write(io.TextIOWrapper(file, "utf-8", newline=""), catalogue)
            with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
                return self._write(io.TextIOWrapper(packed, "utf-8", newline=""), catalogue)

    def _write(self, out: TextIO, catalogue: Catalogue) -> int:
        measured = {key for of in self._settled.values() for one in of for key in one.sample.values}
        keys = [p.key for p in catalogue.parameters if p.key in measured]
        table = csv.writer(out, lineterminator="\n")
        table.writerow(
            ["station", "time", *(header(catalogue[key]) for key in keys), "sent_time", "fate", "boot", "seq"]
        )
        count = 0
        for one in self.rows():
            at_ms = one.sample.at_ms
            sent = "" if one.told_ms == at_ms else rfc3339(one.told_ms)
            values = [one.sample.values.get(key, "") for key in keys]
            number = ["" if n is None else n for n in (one.boot, one.seq)]
            table.writerow([one.station, rfc3339(at_ms), *values, sent, one.fate.value, *number])
            count += 1
        out.flush()
        return count
