"""``bench growth``: what a reading, a question and a start cost as a site grows.

Processor time throughout, which a busy machine changes little; the least of some runs for a question. Each curve varies
one thing: stations, stored readings, rules, closed cases, open incidents.
"""

import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa
from rich.console import Console

from governance.incidents import queries as incident_queries
from governance.incidents import store as incidents
from governance.incidents.finding import Colour, ConditionChange, Finding, FindingKind
from governance.incidents.model import Action, Order
from governance.organisation.roles import Actor, Role
from infra.clock import now_ms
from infra.database import Database
from infra.texts import line, same
from infra.times import DAY_MS
from ingest.storage.port import series
from ingest.storage.sql import SqlReadings
from riverchief.brokers.local import running
from tools.bench import ingest, page
from tools.bench.load import BASE
from tools.bench.rig import Plan, cpu_s, database, machine, serving, wait_for
from tools.bench.store import CATALOGUE, MONTH_MS, POINTS, ROWS, write_batches, write_month

STATIONS = (10, 1_000, 20_000)
RULES = (10, 100, 1_000)
CLOSED = (1_000, 10_000, 100_000)
OPEN = (100, 1_000, 10_000)
FEW_OPEN = 20
"""Open incidents beside many closed cases, all of them older: the worst order for a list of what is open."""
SITE = 5_000
"""Stations whose stored readings grow."""
MESSAGES = 40_000
"""Of each number of stations and of rules; four of each station at least."""
FIRST_READINGS = 1_000_000
REPETITIONS = 5
OFFICE = Actor("示例", Role.OFFICE)
COLOURS = ("#c0392b", "#2c5f8a", "#7f8c8d", "#b9770e", "#1e8449", "#6c3483")

Row = dict[str, float]


def run(plan: Plan, console: Console) -> dict[str, Any]:
    """The curves and the machine."""
    curves: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory(prefix="riverchief-bench-") as name:
        folder = Path(name)
        for curve, measure in (
            ("stored readings", _by_readings),
            ("closed cases", _by_closed),
            ("open incidents", _by_open),
            ("rules", _by_rules),
            ("stations", _by_stations),
        ):
            with console.status(line("bench.growth", curve=curve)):
                curves[curve] = measure(folder, plan)
    found = {"bench": "growth", "machine": machine(), "curves": curves}
    if plan.write:
        page.write("growth", table(found))
        draw(curves, page.IMAGES / "growth.png")
    return found


# -- the curves ------------------------------------------------------------------------------------------------------


def _by_stations(folder: Path, plan: Plan) -> list[Row]:
    """A message at the end of a flood, and memory."""
    found = []
    for number in STATIONS:
        rounds = max(4, MESSAGES // number)
        figures = ingest.flooded(folder / f"stations-{number}", replace(plan, stations=number), rounds)
        memory = figures["memory_mib"]["end"]
        found.append({"size": number, "message, µs": figures["steady_cpu_us_per_message"], "memory, MB": memory})
    return found


def _by_rules(folder: Path, plan: Plan) -> list[Row]:
    """A message at the end of a flood, each rule for one parameter of one station."""
    found = []
    for number in RULES:
        rules = folder / f"rules-{number}.toml"
        rules.write_text("\n".join(_rule(i) for i in range(number)), encoding="utf-8")
        site = replace(plan, stations=500)
        figures = ingest.flooded(folder / f"rules-{number}", site, MESSAGES // 500, f"[site]\nrules = '{rules}'\n")
        found.append({"size": number, "message, µs": figures["steady_cpu_us_per_message"]})
    return found


def _rule(i: int) -> str:
    parameter = list(BASE)[i // 500 % len(BASE)]
    return (
        f"[[threshold]]\nid = 'bench-{i}'\nparameter = '{parameter}'\nstations = ['bench-{i % 500}']\nside = 'above'\n"
        f"limit = {BASE[parameter] * 3}\nclear = {BASE[parameter] * 2}\npending_s = 0\nsamples = 1\n"
        "keep_firing_s = 60\ncolour = 'yellow'\n"
    )


def _by_readings(folder: Path, plan: Plan) -> list[Row]:
    """A reading written, questions of the API, and the start of an ingest on what is stored."""
    folder = folder / "readings"
    folder.mkdir()
    db = database(folder, SITE)
    store = SqlReadings(db, CATALOGUE)
    end_ms = write_month(db, store, SITE)
    at_once = ROWS * len(BASE)
    start_ms = now_ms() // 60_000 * 60_000 - 60_000 * (plan.readings // (SITE * len(BASE)) + 2)
    steps = [0, *(one // at_once for one in decades(FIRST_READINGS, plan.readings))]
    found = []
    for first, last in pairwise(steps):
        seconds = write_batches(db, store, SITE, range(first, last), start_ms, time.process_time)
        fresh = SqlReadings(db, CATALOGUE)
        found.append(
            {
                "size": last * at_once,
                "reading written, µs": 1e6 * seconds / ((last - first) * at_once),
                "latest, ms": cpu_ms(fresh.latest),
                "month thinned, ms": cpu_ms(partial(series, fresh, "bench-0", "do", end_ms - MONTH_MS, end_ms, POINTS)),
                "day of a station, ms": cpu_ms(
                    partial(fresh.window, "bench-1", start_ms, start_ms + DAY_MS), most_s=2.0
                ),
                "start, s": _start_s(folder, plan),
            }
        )
    db.close()
    return found


def _start_s(folder: Path, plan: Plan) -> float:
    """CPU seconds of an ingest until it is ready to receive."""
    with (
        running(folder / "broker", kind=plan.broker) as broker,
        serving(folder, broker, "ingest") as process,
    ):
        wait_for("the ingest did not connect", lambda: _connected(process, broker.port), 120)
        return cpu_s(process)


def _connected(process: psutil.Process, port: int) -> bool:
    return any(c.raddr and c.raddr.port == port for c in process.net_connections())


def _by_closed(folder: Path, plan: Plan) -> list[Row]:
    """Lists and counts beside closed cases, a few open incidents being the oldest."""
    del plan
    return [{"size": number, **_questions(folder / f"closed-{number}", FEW_OPEN, number)} for number in CLOSED]


def _by_open(folder: Path, plan: Plan) -> list[Row]:
    """The same beside open incidents."""
    del plan
    return [{"size": number, **_questions(folder / f"open-{number}", number, 100)} for number in OPEN]


def _questions(folder: Path, are_open: int, closed: int) -> Row:
    folder.mkdir()
    db = database(folder, 500)
    copy_incidents(db, are_open=are_open, closed=closed)

    def asked(ask: Callable[[sa.Connection], object]) -> float:
        with db.read() as connection:
            return cpu_ms(lambda: ask(connection))

    def new(connection: sa.Connection) -> object:
        return incidents.record_findings(connection, [_finding("new", "bench-499")], now_ms(), source="/bench")

    with db.write() as connection:
        record = cpu_ms(lambda: new(connection), tries=1)
    found = {
        "incident opened, ms": record,
        "newest 100, ms": asked(lambda c: incident_queries.list_incidents(c, limit=100)),
        "100 open, ms": asked(lambda c: incident_queries.list_incidents(c, open_only=True, limit=100)),
        "100 closed, from the middle, ms": asked(
            lambda c: incident_queries.list_incidents(
                c, open_only=False, limit=100, before_id=(are_open + closed) // 2 + 100
            )
        ),
        "100 of a station, ms": asked(lambda c: incident_queries.list_incidents(c, station="bench-7", limit=100)),
        "counts, ms": asked(incident_queries.counts),
        "worklist, ms": asked(lambda c: incident_queries.worklist(c, OFFICE, now_ms(), limit=100)),
    }
    db.close()
    return found


def copy_incidents(db: Database, *, are_open: int, closed: int) -> None:
    """Fill the database with incidents: first the open ones, then the closed ones, copies of two that came about."""
    at_ms = now_ms() - DAY_MS
    with db.write() as connection:
        pair = [_finding("open", "bench-0"), _finding("closed", "bench-1")]
        (one, other) = incidents.record_findings(connection, pair, at_ms, source="/bench").ids
        for order in (Order(Action.ACCEPT), Order(Action.FALSE_ALARM, comment="示例", reason="sensor_fault")):
            incidents.apply_action(connection, other, order, OFFICE, now_ms=at_ms + 1, source="/bench")
        total = are_open + closed
        numbers = f"WITH RECURSIVE n(i) AS (SELECT {other + 1} UNION ALL SELECT i + 1 FROM n WHERE i < {total})"
        original = f"CASE WHEN n.i <= {are_open} THEN {one} ELSE {other} END"
        station = "'bench-' || (n.i % 500)"
        cause = {"cause": "'c' || n.i", "open_cause": f"CASE WHEN n.i <= {are_open} THEN 'c' || n.i END"}
        _copy(connection, "incident", {"id": "n.i", "station": station, **cause}, f"{numbers} {{}} p.id = {original}")
        of = f"{numbers} {{}} p.incident_id = {original}"
        _copy(connection, "incident_condition", {"incident_id": "n.i", "station": station}, of)
        _copy(connection, "incident_entry", {"id": "NULL", "incident_id": "n.i", "finding_id": "NULL"}, of)


def _copy(connection: sa.Connection, table: str, special: Mapping[str, str], query: str) -> None:
    names = [one["name"] for one in sa.inspect(connection).get_columns(table)]
    chosen = ", ".join(special.get(name, f'p."{name}"') for name in names)
    into = ", ".join(f'"{name}"' for name in names)
    rows = query.format(f"SELECT {chosen} FROM n JOIN {table} p ON")
    connection.exec_driver_sql(f"INSERT INTO {table} ({into}) {rows}")


def _finding(cause: str, station: str) -> Finding:
    at_ms = now_ms() - DAY_MS
    return Finding(
        rule="bench",
        version="1",
        kind=FindingKind.THRESHOLD,
        change=ConditionChange.FIRED,
        cause=cause,
        station=station,
        parameter="nh3n",
        observed_at_ms=at_ms,
        since_ms=at_ms,
        value=2.4,
        limit=2.0,
        colour=Colour.YELLOW,
        retrospective=False,
        text=same("NH3-N 2.4"),
    )


def decades(first: int, last: int) -> list[int]:
    """1, 3, 10 … times ``first``, up to ``last``, which is the end."""
    found = [first * factor * 10**power for power in range(9) for factor in (1, 3) if first * factor * 10**power < last]
    return [*found, last]


def cpu_ms(ask: Callable[[], object], tries: int = REPETITIONS, most_s: float = 5.0) -> float:
    """The least processor time of some runs, ms; fewer runs where they take longer than ``most_s``."""
    best, until = math.inf, time.monotonic() + most_s
    for _ in range(tries):
        began = time.process_time()
        ask()
        best = min(best, time.process_time() - began)
        if time.monotonic() > until:
            break
    return round(best * 1000, 3)


# -- what they say ---------------------------------------------------------------------------------------------------


def exponent(rows: Sequence[Row], name: str) -> float:
    """The slope in log-log from the first size to the last: 0 is constant, 1 in proportion to the size."""
    first, last = rows[0], rows[-1]
    if min(first[name], last[name]) <= 0:
        return 0.0
    return math.log(last[name] / first[name]) / math.log(last["size"] / first["size"])


def table(found: Mapping[str, Any]) -> str:
    """The section of the page."""
    lines = [
        page.measured_on(found["machine"]),
        "Processor time. The last column is the slope in log-log from the first",
        "size to the last: 0 does not grow, 1 grows in proportion.",
        "",
        "![Cost by size](images/growth.png)",
    ]
    for curve, rows in found["curves"].items():
        sizes = " | ".join(f"{row['size']:,.0f}" for row in rows)
        lines += [
            "",
            f"| {curve} | {sizes} | slope |",
            f"|---|{'---|' * len(rows)}---|",
        ]
        for name in rows[0]:
            if name != "size":
                figures = " | ".join(_short(row[name]) for row in rows)
                lines.append(f"| {name} | {figures} | {exponent(rows, name):.2f} |")
    return "\n".join(lines)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def draw(curves: Mapping[str, Sequence[Row]], file: Path) -> None:
    """One panel a curve, both axes logarithmic; nothing is drawn without matplotlib."""
    try:
        plt: Any = import_module("matplotlib.pyplot")
    except ImportError:
        return
    figure, axes = plt.subplots(1, len(curves), figsize=(3.2 * len(curves), 3.4))
    for axis, (curve, rows) in zip(axes, curves.items(), strict=True):
        for name, colour in zip([one for one in rows[0] if one != "size"], COLOURS * 2, strict=False):
            axis.plot([r["size"] for r in rows], [r[name] for r in rows], marker="o", label=name, color=colour, lw=1.2)
        axis.set(xscale="log", yscale="log")
        axis.set_title(curve, loc="left", fontsize=9)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(file, dpi=90)
    plt.close(figure)
