"""``riverchief simulate --list`` and ``--out``: describe scenarios, write one as a table with its truth."""

import gzip
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from infra.errors import ConfigurationError
from infra.texts import say
from riverchief import files
from riverchief.settings import Settings
from sensors.parameters import catalogue
from sensors.stations import Registry
from simulator import scenario as scenarios
from simulator.scenario import Scenario
from simulator.truth import Passage, csv, packed, table


@dataclass(frozen=True, slots=True)
class ScenarioSummary:
    """A shipped scenario: its title and what a user should see, in Chinese and English."""

    key: str
    zh: str
    en: str
    see_zh: str
    see_en: str


@dataclass(frozen=True, slots=True)
class TableSummary:
    """Summary of a written table: rows, stations, passages of events, and its size."""

    rows: int
    stations: int
    passages: tuple[Passage, ...]
    bytes: int


def list_scenarios() -> tuple[ScenarioSummary, ...]:
    """The shipped scenarios, in alphabetical order."""
    return tuple(ScenarioSummary(key, *scenarios.headline(scenarios.text_of(key))) for key in scenarios.shipped())


def read(name: str, site: Registry, *, start_ms: int | None = None) -> Scenario:
    """A shipped scenario, or the one in a .toml file; raises ConfigurationError with file, line and reason."""
    if name.endswith(".toml"):
        path = Path(name)
        return scenarios.parse(files.read_text(path, "utf-8"), site, key=path.stem, source=str(path), start_ms=start_ms)
    return scenarios.parse(scenarios.text_of(name), site, key=name, source=f"{name}.toml", start_ms=start_ms)


def write(
    name: str, out: Path, settings: Settings, *, seed: int, on_progress: Callable[[float], object] = lambda share: None
) -> TableSummary:
    """Write the table of a scenario to ``out`` (.csv or .csv.gz): the same seed gives the same bytes.

    The water takes most of the time, so that it is the first nine tenths of the progress.
    """
    check_target(out)
    parameters = catalogue()
    site = files.read_stations(settings.site.stations, parameters)
    scenario = read(name, site)
    registry = scenario.registry(site)
    passages: list[Passage] = []

    def on_phase(phase: str, share: float) -> None:
        on_progress(0.9 * share if phase == "water" else 0.9 + 0.1 * share)

    def pieces() -> Iterator[pl.DataFrame]:
        for frame, its_passages in table(registry, scenario, seed=seed, known=parameters, on_progress=on_phase):
            passages.extend(its_passages)
            yield frame

    rows = save(out, pieces())
    return TableSummary(rows, len(registry.stations), tuple(passages), out.stat().st_size)


def save(out: Path, frames: Iterable[pl.DataFrame]) -> int:
    """Write frames of the same columns below each other to ``out`` (.csv or .csv.gz), whole or not at all; the rows."""
    rows = 0
    part = out.with_name(f".{out.name}.part")
    try:
        with part.open("wb") as raw:
            target: gzip.GzipFile | io.BufferedWriter = packed(raw) if out.suffix == ".gz" else raw
            for frame in frames:
                target.write(csv(frame, header=rows == 0))
                rows += len(frame)
            if target is not raw:
                target.close()
        part.replace(out)
    except OSError as error:
        raise ConfigurationError(say("file.unwritable", file=out, error=error)) from error
    finally:
        part.unlink(missing_ok=True)
    return rows


def check_target(out: Path) -> None:
    """Refuse a place where no table can be written before the work for it begins."""
    if not out.name.endswith((".csv", ".csv.gz")):
        raise ConfigurationError(say("simulate.out_ending", out=out))
    if not out.parent.is_dir():
        raise ConfigurationError(say("simulate.out_folder", out=out, parent=out.parent))
