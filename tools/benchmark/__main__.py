"""Build the benchmark, or score an answer to it; docs/benchmark.md states the task and the rules.

    python -m tools.benchmark build DATA_FOLDER OUT_FOLDER [--seed N]
    python -m tools.benchmark score OUT_FOLDER ANSWER_FOLDER

``build`` writes for each table ``NAME.csv.gz``, which a method is given, and ``NAME-truth.csv``, what was put into it.
``score`` reads answers ``NAME.csv`` with the columns ``station,time,parameter,kind`` of ``riverchief assess``.
"""

import argparse
import csv
import gzip
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from infra.times import rfc3339
from riverchief.tables.assess import SensorTable, Summary, read
from sensors.parameters import catalogue
from sensors.reading import Ints
from tools.benchmark import inject
from tools.benchmark.inject import Injected
from tools.benchmark.records import MONTH_MS, Record, load
from tools.benchmark.scorer import Tally, match
from tools.score.matching import Span, step_of

TABLES: Final = {
    "logan-faults": ("Logan", inject.with_faults),
    "sandy-faults": ("Sandy Creek", inject.with_faults),
    "herbert-faults": ("Herbert", inject.with_faults),
    "cat-point-faults": ("Cat Point", inject.with_faults),
    "pringle-faults": ("Pringle", inject.with_faults),
    "logan-plumes": ("Logan", inject.with_plumes),
    "cat-point-plumes": ("Cat Point", inject.with_plumes),
    "pringle-plumes": ("Pringle", inject.with_plumes),
}
TRUTH: Final = ("station", "parameter", "kind", "what", "size", "begin", "end")


def build(data: Path, out: Path, seed: int) -> None:
    """Write the tables and what was put into them; the seed stands beside them and gives the answer away."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "seed.txt").write_text(f"{seed}\n", encoding="utf-8")
    for name, (source, put) in TABLES.items():
        record, made = put(load(data, source).clean(), seed)
        write(out / name, record, made)


def write(path: Path, record: Record, made: list[Injected]) -> None:
    """Write one table, its columns in the catalogue's units, and what was put into it."""
    table = record.table
    columns = {
        "station": [table.names[i] for i in table.station.tolist()],
        "time": [rfc3339(at) for at in table.at.tolist()],
        **{name: table.values[:, i] for i, name in enumerate(_headers(table))},
    }
    plain = pl.DataFrame(columns).fill_nan(None).write_csv()
    Path(f"{path}.csv.gz").write_bytes(gzip.compress(plain.encode()))
    with Path(f"{path}-truth.csv").open("w", encoding="utf-8", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(TRUTH)
        for one in made:
            what = (_headers(table)[one.sensor], "fault") if one.sensor >= 0 else ("", "event")
            span = rfc3339(one.start), rfc3339(one.end)
            writer.writerow((table.names[one.station], *what, one.kind, one.size, *span))


def _headers(table: SensorTable) -> list[str]:
    """The name of each column, or its key where its values were converted to the unit of the catalogue."""
    one = np.ones(1)
    return [it.name if it.canonical(one)[0] == 1.0 else it.kind_key for it in table.found.sensors]


def score(folder: Path, answers: Path) -> Iterator[str]:
    """One line a table."""
    yield "table, things, precision, recall, F1, false alarms a station-month, median delay (min)"
    for path in sorted(folder.glob("*.csv.gz")):
        name = path.name.removesuffix(".csv.gz")
        table = read(path, catalogue(), Summary(path.name))
        truth, answer = (pl.read_csv(one, infer_schema=False).fill_null("") for one in
                         (folder / f"{name}-truth.csv", answers / f"{name}.csv"))  # fmt: skip
        found = tallied(table, truth, answer)
        yield ", ".join([name, str(found.there), *(cell.strip("*") for cell in found.row())])


def tallied(table: SensorTable, truth: pl.DataFrame, answer: pl.DataFrame) -> Tally:
    """Faults sensor by sensor, events station by station; readings of the other kind are not looked at."""
    kind, total = truth["kind"][0], Tally()
    series = [one.name for one in table.found.sensors] if kind == "fault" else [""]
    for station, name in enumerate(table.names):
        rows, months = np.flatnonzero(table.station == station), 0.0
        for column, parameter in enumerate(series):
            some = rows if kind == "event" else rows[~np.isnan(table.values[rows, column])]
            mine = (pl.col("station") == name) & (pl.col("parameter") == parameter)
            things, said = truth.filter(mine), answer.filter(mine & (pl.col("kind") == kind))
            if len(some) < 2 or (kind == "fault" and table.found.sensors[column].kind_key not in inject.SIZES):
                continue
            at = table.at[some]
            spans = [
                Span(*span) for span in zip(*(_times(things[one]).tolist() for one in ("begin", "end")), strict=True)
            ]
            delays, false = match(at, np.isin(at, _times(said["time"])), spans)
            hits = [delay for delay in delays if delay is not None]
            total.add(Tally(len(spans), len(hits), len(false), 0.0, hits))
            months = max(months, len(at) * step_of(at) / MONTH_MS)
        total.months += months
    return total


def _times(texts: pl.Series) -> Ints:
    return texts.str.strip_suffix("Z").str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="ms").dt.epoch("ms").to_numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("build", "score"))
    parser.add_argument("source", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="default: drawn anew")
    options = parser.parse_args()
    if options.what == "build":
        build(options.source, options.other, options.seed)
    else:
        for text in score(options.source, options.other):
            print(text, flush=True)


if __name__ == "__main__":
    main()
