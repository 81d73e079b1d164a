"""Make the tables of docs/detection.md: ``riverchief assess`` over the public records, scored.

    python tools/detection_report.py DATA_FOLDER SCORER.py [--out FILE.md]

The records and the scorer are not part of this repository; both are given by path. One configuration, that of the
package, for every file.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl

from riverchief.tables.assess import assess_file
from sensors.parameters import catalogue

FAULTS = {
    # name: (file, options of the scorer, best simple method: F1 and false alarms)
    "Logan": ("logan_river_labelled", [], "0.489 / 4.6", "0.501 / 8.5"),
    "Logan without turbidity": (
        "logan_river_labelled",
        ["--parameter", "water_temp_degC", "conductivity_uS_cm", "pH", "do_mg_L"],
        "0.602",
        "0.725 / 1.7",
    ),
    "Sandy Creek": ("queensland_sandy_labelled", [], "0.222 / 0.0", "0.600 / 0.5"),
    "Herbert": ("herbert_river_labelled", [], "0.437 / 2.4", "0.513 / 0.2"),
    "Cat Point": ("nerrs_apacpwq_labelled", [], "0.708 / 13.3", "0.870 / 1.2"),
    "simulated": ("simulated_faults_and_plumes", [], "0.548 / 8.8", "0.735 / 3.5"),
}
EVENTS = {
    "GECCO 2018 train": ("gecco2018_train", (), "0.579 / 18.0", "0.814 / 5.1"),
    "simulated plumes": ("simulated_faults_and_plumes", (), "0.451 / 2.2", "0.747 / 1.7"),
    "simulated plumes + upstream": (
        "simulated_faults_and_plumes",
        (("sim_upstream", "sim_downstream"),),
        "0.451 / 2.2",
        "0.818 / 1.7",
    ),
}
QUIET = {
    "Logan": ("logan_river_labelled", (15, 30, 60, 240)),
    "Logan, raw years": ("logan_river_raw_long", (15, 30, 60, 240)),
    "Cat Point": ("nerrs_apacpwq_labelled", (15, 30, 60, 240)),
    "Pringle Creek, clean": ("neon_pringle_creek_clean", (5, 10, 15, 30, 60, 240)),
    "Herbert": ("herbert_river_labelled", (30, 60, 240)),
    "Sandy Creek": ("queensland_sandy_labelled", (60,)),
    "CANARY station B (pipe network)": ("canary_station_b_raw", (20, 60, 240)),
    "St. Louis sonde": ("sonde_drift_pair", (5, 10, 15, 30, 60)),
}
STEPS = (5, 10, 15, 20, 30, 60, 240)
LONGEST, MERGE = 24, 4
MONTH = timedelta(days=30.44)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("scorer", type=Path)
    parser.add_argument("--out", type=Path, help="default: standard output")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        text = "\n".join(report(options.data, options.scorer, Path(name)))
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    else:
        print(text)


def report(data: Path, scorer: Path, folder: Path) -> list[str]:
    lines = ["| faults | precision | recall | F1 | false alarms a station-month | delay min | storm samples flagged |"
             " simple method | prototype |", "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for name, (file, options, simple, prototype) in FAULTS.items():
        scores = score(data, scorer, folder, file, (), ["--target", "fault", *options])
        storm = scores.get("natural_event_flagged_share")
        shown = "" if storm is None else f"{100 * storm:.2f} %"
        lines.append(f"| {name} | {row(scores)} | {shown} | {simple} | {prototype} |")
    lines += ["", "| events | precision | recall | F1 | false alarms a station-month | delay min | simple method |"
              " prototype |", "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for name, (file, network, simple, prototype) in EVENTS.items():
        scores = score(data, scorer, folder, file, network, ["--target", "event"])
        lines.append(f"| {name} | {row(scores)} | {simple} | {prototype} |")
    lines += ["", "| no event labels | " + " | ".join(f"{m} min" for m in STEPS) + " |",
              "|---" * (1 + len(STEPS)) + "|"]  # fmt: skip
    for name, (file, steps) in QUIET.items():
        cells = {step: f"{alarms(data, folder, file, step):.2f}" for step in steps}
        lines.append(f"| {name} | " + " | ".join(cells.get(m, "") for m in STEPS) + " |")
    return lines


def row(scores: dict[str, float]) -> str:
    rate = scores["false_alarms_per_station_month"]
    return (
        f"{scores['precision']:.2f} | {scores['recall']:.2f} | **{scores['f1']:.3f}** | {rate:.2f} | "
        f"{scores['median_delay_min']:g}"
    )


def score(
    data: Path, scorer: Path, folder: Path, file: str, network: tuple[tuple[str, str], ...], options: list[str]
) -> dict[str, float]:
    table = data / f"{file}.csv.gz"
    flags, result = folder / f"{file}-{len(network)}.csv", folder / "result.json"
    if not flags.exists():
        assess_file(table, flags, catalogue(), network=network)
    command = [sys.executable, str(scorer), "--labels", str(table), "--predictions", str(flags)]
    subprocess.run([*command, "--json", str(result), *options], check=True, stdout=subprocess.DEVNULL)
    found: dict[str, float] = json.loads(result.read_text(encoding="utf-8"))
    return found


def alarms(data: Path, folder: Path, file: str, step: int) -> float:
    """Event alarms a station-month of the record thinned to every ``step`` minutes, counted as the scorer does."""
    frame = pl.read_csv(data / f"{file}.csv.gz", infer_schema_length=None)
    times = frame["time"].str.strip_suffix("Z").str.to_datetime("%Y-%m-%dT%H:%M:%S", time_unit="ms")
    frame = frame.with_columns(times.alias("at"))
    usual = frame["at"].sort().diff().median()
    if step > 5 and usual is not None:
        frame = frame.filter(pl.col("at").dt.epoch("ms") // 60_000 % step == 0)
    thin, flags = folder / "thin.csv", folder / "thin-flags.csv"
    frame.drop("at").write_csv(thin)
    assess_file(thin, flags, catalogue())
    events = pl.read_csv(flags, schema_overrides={"parameter": pl.String}).filter(pl.col("kind") == "event")
    count, months = 0, 0.0
    for (station,), one in frame.group_by("station"):
        own = np.sort(one["at"].dt.epoch("ms").to_numpy())
        dt = float(np.median(np.diff(own)))
        months += len(own) * dt / (MONTH.total_seconds() * 1000)
        when = events.filter(pl.col("station") == station)["time"].str.strip_suffix("Z")
        at = np.sort(when.str.to_datetime("%Y-%m-%dT%H:%M:%S", time_unit="ms").dt.epoch("ms").to_numpy())
        if len(at):
            for run in np.split(at, np.flatnonzero(np.diff(at) > MERGE * dt) + 1):
                count += 1 + int((run[-1] - run[0]) // (LONGEST * dt))
    return count / months


if __name__ == "__main__":
    main()
