"""Draw simulated beside recorded water: ``python -m tools.simulation_plots RECORDS FOLDER [--seed N]``.

Needs matplotlib, which only developers install. The records are tables as the tests use them; the river of Texas and
the bay of Florida are not the Pearl River, so shapes are compared, not levels.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer

from infra.errors import ConfigurationError
from infra.texts import line, say
from riverchief import files, logs
from riverchief.cli.app import run_command_line
from riverchief.cli.commands import Commands
from riverchief.cli.options import SettingsFile, load
from riverchief.settings import Settings
from riverchief.simulate_table import read
from riverchief.terminal import out, progress_bar
from sensors.parameters import catalogue
from sensors.reading import Floats
from simulator.truth import COLUMNS, table

DAYS, STEP_MIN = 28, 15
BAY, CREEK = "nerrs_apacpwq_labelled.csv.gz", "neon_pringle_creek_clean.csv.gz"
SCENARIO = "calm-week"
_SHOWN = ("water_temp", "ph", "do", "conductivity", "turbidity")
_LABELS = {
    "water_temp": "water temperature °C",
    "ph": "pH",
    "do": "DO mg/L",
    "conductivity": "EC µS/cm",
    "turbidity": "turbidity NTU",
    "level": "level m",
    "tp": "TP",
    "nh3n": "NH3-N",
}
_KNOWN = ("water_temp", "ph", "do", "conductivity", "turbidity", "codmn", "nh3n", "tp", "tn")
PINGZHOU = (
    (-0.66,),
    (-0.58, 0.92),
    (0.74, -0.81, -0.74),
    (-0.31, 0.08, 0.20, -0.22),
    (0.34, -0.62, -0.40, 0.49, 0.61),
    (0.11, -0.52, -0.52, 0.01, -0.08, 0.21),
    (0.02, -0.45, -0.30, 0.20, 0.81, 0.87, 0.33),
    (0.44, -0.77, -0.61, 0.71, 0.47, 0.91, 0.20, 0.82),
)
"""Correlations at 平洲 (Foshan, tidal) from 1 to 5 April 2021, below the diagonal in the order of ``_KNOWN``: computed
from the 21 four-hourly rows of the national publication."""
_WINDOW = 30  # four-hourly values of five days, as long as 平洲 is known
_OTHER_NAMES = {"turbidity_FNU": "turbidity", "depth_m": "level"}
_COLOURS = {True: "#c0392b", False: "#2c5f8a"}


@dataclass(frozen=True, slots=True)
class Series:
    """A station's parameters every quarter of an hour: (n,) each, NaN where missing; ``hour`` by the sun."""

    name: str
    simulated: bool
    hour: Floats
    values: Mapping[str, Floats]


def draw(
    settings: Settings, records: Path, folder: Path, *, seed: int, on_progress: Callable[[float], object]
) -> list[Path]:
    """Draw all pictures into ``folder``; raises ConfigurationError when matplotlib or the records are missing."""
    try:
        plt: Any = import_module("matplotlib.pyplot")
    except ImportError as error:
        raise ConfigurationError(say("simulate.matplotlib")) from error
    for name in (BAY, CREEK):
        if not (records / name).is_file():
            raise ConfigurationError(say("simulate.no_record", records=records, name=name))
    plt.switch_backend("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    recorded = [
        _recorded(records / BAY, "apalachicola_cat_point", "Apalachicola Bay (recorded)", -5.7, 2012, 5),
        _recorded(records / CREEK, "pringle_creek_downstream", "Pringle Creek (recorded)", -6.5, 2019, 7),
    ]
    simulated = _simulated(settings, seed, on_progress)
    river, creek, lake = (simulated[key] for key in ("dph-shiwan-3", "qcc-huanhu-2", "shiwan-lake-1"))
    pictures: dict[str, Callable[[], Any]] = {
        "curves": lambda: _curves(plt, recorded[0], river, recorded[1], creek),
        "day": lambda: _day(plt, (recorded[1], creek, lake)),
        "spectrum": lambda: _spectrum(plt, (recorded[0], river)),
        "changes": lambda: _changes(plt, (*recorded, river, creek)),
        "correlations": lambda: _correlations(plt, recorded[0], river),
    }
    made = []
    for name, picture in pictures.items():
        figure, path = picture(), folder / f"simulator-{name}.png"
        figure.savefig(path, dpi=56, metadata={"Software": None})
        plt.close(figure)
        made.append(path)
    return made


def _simulated(settings: Settings, seed: int, on_progress: Callable[[float], object]) -> dict[str, Series]:
    site = files.read_stations(settings.site.stations, catalogue())
    stations = tuple(site[key] for key in ("dph-shiwan-3", "qcc-huanhu-2", "shiwan-lake-1") if key in site)
    if len(stations) < 3:
        raise ConfigurationError(say("simulate.plots_stations"))
    stations = tuple(replace(s, parameters=(*_KNOWN, "level")) for s in stations)
    weeks = replace(read(SCENARIO, site), days=float(DAYS), step_s=60 * STEP_MIN)
    found = {}
    pieces = table(
        replace(site, stations=stations), weeks, seed=seed, known=catalogue(), on_progress=lambda _, s: on_progress(s)
    )
    for frame, _ in pieces:
        key = frame["station"][0]
        there_are = [p for p in COLUMNS if COLUMNS[p] in frame.columns]
        values = {p: frame[COLUMNS[p]].cast(pl.Float64).fill_null(math.nan).to_numpy() for p in there_are}
        times = frame["time"].str.to_datetime("%Y-%m-%dT%H:%M:%SZ")
        found[key] = Series(f"{key} (simulated)", True, _solar(times, 7.55), values)
    return found


def _recorded(path: Path, station: str, name: str, solar_h: float, year: int, month: int) -> Series:
    """Four weeks of a record; what its keeper marked as bad is left out."""
    frame = pl.read_csv(path, infer_schema_length=20_000).filter(pl.col("station") == station)
    times = pl.col("time").str.to_datetime("%Y-%m-%dT%H:%M:%SZ")
    frame = frame.with_columns(times.alias("at")).filter(pl.col("at") >= pl.datetime(year, month, 1, time_zone=None))
    minutes = frame["at"].dt.minute().to_numpy()
    frame = frame.filter(pl.Series(minutes % STEP_MIN == 0)).head(DAYS * 24 * 60 // STEP_MIN)
    values = {}
    for column in frame.columns:
        key = _OTHER_NAMES.get(column) or next((k for k, c in COLUMNS.items() if c == column), None)
        if key is None or not frame[column].dtype.is_numeric():
            continue
        series = frame[column].cast(pl.Float64).fill_null(math.nan).to_numpy().copy()
        if f"anomaly_{column}" in frame.columns:
            series[(frame[f"anomaly_{column}"].fill_null(0) == 1).to_numpy()] = math.nan
        values[key] = series
    return Series(name, False, _solar(frame["at"], solar_h), values)


def _solar(times: pl.Series, offset_h: float) -> Floats:
    hours = times.dt.hour().to_numpy() + times.dt.minute().to_numpy() / 60
    return np.asarray((hours + offset_h) % 24)


def _curves(plt: Any, *shown: Series) -> Any:
    """Ten days of every parameter, a recorded column beside a simulated one."""
    figure, axes = plt.subplots(len(_SHOWN), len(shown), figsize=(15, 8.5), sharex=True, constrained_layout=True)
    for column, series in enumerate(shown):
        for row, key in enumerate(_SHOWN):
            axis, values = axes[row][column], series.values[key][: 10 * 24 * 60 // STEP_MIN]
            axis.plot(np.arange(len(values)) * STEP_MIN / 1440, values, lw=0.7, color=_COLOURS[series.simulated])
            axis.set_ylabel(_LABELS[key], fontsize=8)
            axis.tick_params(labelsize=7)
        axes[0][column].set_title(series.name, fontsize=10)
        axes[-1][column].set_xlabel("days", fontsize=8)
    return figure


def _day(plt: Any, shown: Sequence[Series]) -> Any:
    """Mean of each hour by the sun, and the middle half of the days, as the difference from the daily mean."""
    keys = ("do", "ph", "water_temp")
    figure, axes = plt.subplots(
        len(keys), len(shown), figsize=(11, 6.5), sharex=True, sharey="row", constrained_layout=True
    )
    for column, series in enumerate(shown):
        for row, key in enumerate(keys):
            values, axis = series.values[key], axes[row][column]
            days = len(values) // (1440 // STEP_MIN)
            by_day = values[: days * (1440 // STEP_MIN)].reshape(days, -1)
            off = (by_day - np.nanmean(by_day, axis=1, keepdims=True)).ravel()
            hour = series.hour[: len(off)].astype(int)
            groups = [off[(hour == h) & ~np.isnan(off)] for h in range(24)]
            low, middle, high = (np.array([np.percentile(g, q) for g in groups]) for q in (25, 50, 75))
            axis.fill_between(range(24), low, high, alpha=0.25, color=_COLOURS[series.simulated])
            axis.plot(range(24), middle, color=_COLOURS[series.simulated])
            axis.set_ylabel(f"{_LABELS[key]} − daily mean", fontsize=8)
        axes[0][column].set_title(series.name, fontsize=10)
        axes[-1][column].set_xlabel("hour by the sun", fontsize=8)
    return figure


def _spectrum(plt: Any, shown: Sequence[Series]) -> Any:
    """Power by period; the tide and the day stand out of a red background."""
    keys = ("level", "conductivity", "do", "turbidity")
    figure, axes = plt.subplots(1, len(keys), figsize=(15, 4), constrained_layout=True)
    for axis, key in zip(axes, keys, strict=True):
        for series in shown:
            values = series.values[key]
            there = ~np.isnan(values)
            filled = np.interp(np.arange(len(values)), np.flatnonzero(there), values[there])
            power = np.abs(np.fft.rfft((filled - filled.mean()) * np.hanning(len(filled)))) ** 2
            period_h = 1 / np.fft.rfftfreq(len(filled), STEP_MIN / 60)[1:]
            smooth = np.convolve(power[1:], np.ones(3) / 3, "same")
            axis.loglog(period_h, smooth / smooth.sum(), lw=0.8, color=_COLOURS[series.simulated], label=series.name)
        for hours in (12.42, 24.0):
            axis.axvline(hours, color="grey", lw=0.5, ls=":")
        axis.set_title(_LABELS[key], fontsize=10)
        axis.set_xlabel("period h", fontsize=8)
    axes[0].legend(fontsize=7)
    return figure


def _changes(plt: Any, shown: Sequence[Series]) -> Any:
    """How much a parameter changes within an hour, as the share of changes larger than that."""
    figure, axes = plt.subplots(1, len(_SHOWN), figsize=(15, 4), constrained_layout=True, sharey=True)
    for axis, key in zip(axes, _SHOWN, strict=True):
        for series, style in zip(shown, ("-", "--") * 2, strict=False):
            values = series.values[key]
            change = np.abs(values[4:] - values[:-4])
            change = np.sort(change[~np.isnan(change)])
            share = 1 - np.arange(len(change)) / len(change)
            axis.loglog(
                np.maximum(change, 1e-3), share, style, lw=1, color=_COLOURS[series.simulated], label=series.name
            )
        axis.set_title(_LABELS[key], fontsize=10)
        axis.set_xlabel("change within an hour, at least", fontsize=8)
        axis.set_ylim(1e-3, 1.1)
    axes[0].set_ylabel("share of hours", fontsize=8)
    axes[0].legend(fontsize=6)
    return figure


def _correlations(plt: Any, bay: Series, river: Series) -> Any:
    """Correlations of the recorded bay, of 平洲, and of a simulated river as it would be known from as few values."""
    keys = [k for k in (*_SHOWN, "level") if k in bay.values]
    of_bay = np.array([[_r(bay.values[a], bay.values[b]) for b in keys] for a in keys])
    pingzhou = np.eye(len(_KNOWN))
    for i, row in enumerate(PINGZHOU, 1):
        pingzhou[i, :i] = pingzhou[:i, i] = row
    rows = np.flatnonzero(~np.isnan(river.values["nh3n"]))
    values = np.array([river.values[key][rows] for key in _KNOWN])
    windows = [values[:, i : i + _WINDOW] for i in range(0, len(rows) - _WINDOW + 1, _WINDOW)]
    simulated = np.median([[[_r(a, b) for b in window] for a in window] for window in windows], axis=0)
    shown = (
        (bay.name, keys, of_bay),
        ("Pingzhou, April 2021 (published)", _KNOWN, pingzhou),
        (f"{river.name}, middle of {len(windows)} times 5 days", _KNOWN, simulated),
    )
    figure, axes = plt.subplots(1, len(shown), figsize=(16, 5), constrained_layout=True)
    for axis, (name, names, matrix) in zip(axes, shown, strict=True):
        axis.imshow(matrix, vmin=-1, vmax=1, cmap="RdBu_r")
        axis.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
        axis.set_yticks(range(len(names)), names, fontsize=8)
        for i in range(len(names)):
            for j in range(len(names)):
                axis.text(j, i, f"{matrix[i, j]:.2f}", ha="center", va="center", fontsize=7)
        axis.set_title(name, fontsize=10)
    return figure


def _r(a: Floats, b: Floats) -> float:
    both = ~np.isnan(a) & ~np.isnan(b)
    return float(np.corrcoef(a[both], b[both])[0, 1]) if both.sum() > 10 else math.nan


app = Commands()


@app.command()
def plots(
    records: Annotated[Path, typer.Argument(help="实测表的目录 · folder of the recorded tables")],
    folder: Annotated[Path, typer.Argument(help="图片目录 · folder of the pictures")],
    settings: SettingsFile = None,
    seed: Annotated[int, typer.Option(help="模拟种子 · seed of the simulated water")] = 1,
) -> None:
    """画图：模拟与实测对照 · Pictures of simulated beside recorded water."""
    loaded = load(settings, None)
    logs.configure(loaded.log)
    with progress_bar(line("progress.draw")) as on_progress:
        made = draw(loaded, records, folder, seed=seed, told=on_progress)
    for path in made:
        out.print(f"[green]✓[/] {path}", highlight=False)


if __name__ == "__main__":
    run_command_line(app)
