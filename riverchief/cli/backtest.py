"""``riverchief backtest``: incidents that changed rules would have raised, on stored readings or recorded tables."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.markup import escape

from infra import clock
from infra.errors import ConfigurationError
from infra.texts import Text, join_on_line, line, named, say
from infra.times import DAY_MS, beijing
from ingest.analysis import backtest
from ingest.analysis.backtest import BacktestIncident, BacktestInput, BacktestResult, Label
from ingest.rules.model import Rules
from ingest.storage import maintenance as maintenance_store
from ingest.storage import registry as registry_store
from ingest.storage.port import Window
from riverchief import backtest_report, files
from riverchief.cli.commands import Commands
from riverchief.cli.options import AsJson, DataFolder, SettingsFile, instant, load, open_site
from riverchief.settings import Settings
from riverchief.terminal import columns, out, progress_bar, save
from sensors.parameters import Catalogue, catalogue
from sensors.reading import Flag
from sensors.stations import Registry
from simulator.replay import Table, keys, replay_stations

app = Commands()

MAX_LISTED = 20


@app.command("backtest")
def run(  # noqa: PLR0913, PLR0917  (an option of the command each)
    rules: Annotated[Path, typer.Argument(help="要试的规则文件 · the rules to try")],
    tables: Annotated[
        list[Path] | None, typer.Argument(help="记录表；不给则用已存数据 · recorded tables; none: what is stored")
    ] = None,
    since: Annotated[str | None, typer.Option(help="起，RFC 3339 或日期 · from, a time or a day")] = None,
    until: Annotated[str | None, typer.Option(help="止 · to; now where not given")] = None,
    against: Annotated[
        Path | None, typer.Option(help="对照的规则；默认站点执行的规则 · compared with; the site's rules by default")
    ] = None,
    stations: Annotated[Path | None, typer.Option(help="表中站点的登记文件 · stations of the tables")] = None,
    station: Annotated[list[str] | None, typer.Option(help="只用这些站点 · only these stations")] = None,
    html: Annotated[Path | None, typer.Option(help="写出带图的网页 · write a page with a chart")] = None,
    as_json: AsJson = False,
    settings: SettingsFile = None,
    data: DataFolder = None,
) -> None:
    """在历史数据上试规则 · Try rules on the past with the live code, and compare with the rules in force.

    有 event 列（1 为水质确有变化）的表会被评分：发现、漏报、误报 · A table with a column `event` (1 = the water really
    changed) is scored: found, missed, false alarms.
    """
    parameters = catalogue()
    loaded = load(settings, data)
    tried_rules = files.read_rules(rules, parameters)
    other_rules = files.read_rules(against or loaded.site.rules, parameters)
    if tables:
        stored = from_tables(tables, stations, parameters)
        if station:
            stored = _only(stored, station)
        since_ms, until_ms = _range(stored, since, until)
    else:
        if since is None:
            raise ConfigurationError(say("backtest_input.no_past"))
        since_ms = instant("--since", since)
        until_ms = clock.now_ms() if until is None else instant("--until", until)
        stored = _stored(loaded, parameters, since_ms, until_ms, station or [])
    tried, in_force = try_both(tried_rules, other_rules, stored, parameters, since_ms, until_ms)
    if html is not None:
        save(html, backtest_report.page(tried, in_force, stored))
    if as_json:
        out.print_json(data=backtest.as_json(tried, in_force))
    else:
        _show(tried, in_force)


def try_both(
    rules: Rules, other: Rules, stored: BacktestInput, parameters: Catalogue, since_ms: int, until_ms: int
) -> tuple[BacktestResult, BacktestResult]:
    """The rules that are tried and those they are compared with, on the same past."""
    with progress_bar(line("progress.backtest")) as on_progress:
        return backtest.compare_rule_sets(rules, other, stored, parameters, since_ms, until_ms, on_progress=on_progress)


def from_tables(paths: list[Path], stations: Path | None, parameters: Catalogue) -> BacktestInput:
    """The past of recorded tables; a column ``event`` labels its stations."""
    from riverchief import recorded

    registry = files.read_stations(stations, parameters) if stations else Registry(catalogue=parameters)
    readings: dict[str, Window] = {}
    labels: list[Label] = []
    labelled: set[str] = set()
    for path in paths:
        table = recorded.read_table(path, parameters)
        key_of = keys(table)
        made = [s for s in replay_stations(table) if s.key not in registry]
        registry = registry.with_stations(replace(s, gateway=None) for s in made)
        for name, key in key_of.items():
            if key in readings:
                raise ConfigurationError(say("backtest_input.twice", path=path, key=key))
            readings[key] = _window(table, name, parameters)
        for name, spans in recorded.read_events(path).items():
            labelled.add(key_of[name])
            labels += [Label(key_of[name], start, end) for start, end in spans]
    return BacktestInput(registry, readings, labels=tuple(labels), labelled=frozenset(labelled))


def _window(table: Table, name: str, parameters: Catalogue) -> Window:
    rows = np.flatnonzero(table.station == name)
    pieces = []
    for key, values in table.columns.items():
        present = rows[np.isfinite(values[rows])]
        parameter = np.full(len(present), parameters.index[key], np.int32)
        pieces.append(Window(parameter, table.at_ms[present], values[present], np.full(len(present), int(Flag.GOOD))))
    found = pieces[0]
    for piece in pieces[1:]:
        found = found.join(piece)
    return found


def _only(stored: BacktestInput, stations: list[str]) -> BacktestInput:
    if unknown := sorted(set(stations) - set(stored.readings)):
        raise ConfigurationError(
            say("backtest_input.not_in_tables", unknown=unknown[0], known=", ".join(stored.readings))
        )
    readings = {key: window for key, window in stored.readings.items() if key in stations}
    labels = tuple(one for one in stored.labels if one.station in stations)
    return replace(stored, readings=readings, labels=labels, labelled=stored.labelled & set(stations))


def _stored(
    loaded: Settings, parameters: Catalogue, since_ms: int, until_ms: int, stations: list[str]
) -> BacktestInput:
    from riverchief.stores import open_stores

    with open_site(loaded) as database:
        stores = open_stores(loaded, database, parameters)
        with database.read() as connection:
            registry = registry_store.load(connection, parameters)
            maintenance = maintenance_store.load(connection)
        return backtest.load_input(
            registry, stores.readings, since_ms, until_ms, maintenance=maintenance, stations=stations
        )


def _range(stored: BacktestInput, since: str | None, until: str | None) -> tuple[int, int]:
    """The range given, or all of the tables."""
    at = [window.at for window in stored.readings.values() if len(window)]
    if not at:
        raise ConfigurationError(say("backtest_input.empty"))
    since_ms = min(int(one.min()) for one in at) if since is None else instant("--since", since)
    until_ms = max(int(one.max()) for one in at) + 1 if until is None else instant("--until", until)
    if until_ms <= since_ms:
        raise ConfigurationError(say("backtest_input.until_since", until=until, since=since))
    return since_ms, until_ms


def _show(tried: BacktestResult, in_force: BacktestResult) -> None:
    figures = columns("", "backtest.tried", "backtest.in_force")
    for key, values in backtest_report.figures(tried, in_force):
        figures.add_row(named(say(key)), *values)
    out.print(figures)
    days = (tried.until_ms - tried.since_ms) / DAY_MS
    out.print(line("backtest_input.length", days=days, readings=tried.readings), highlight=False)
    rules = columns("rule", "backtest.tried", "backtest.in_force")
    for rule in sorted({*tried.fired, *in_force.fired}):
        rules.add_row(escape(rule), str(tried.fired.get(rule, 0)), str(in_force.fired.get(rule, 0)))
    out.print(rules)
    if tried.score is not None and tried.score.misses:
        out.print(named(say("backtest.misses")))
        for label in tried.score.misses[:MAX_LISTED]:
            since, until = (beijing(at_ms, "%Y-%m-%d %H:%M") for at_ms in (label.start_ms, label.end_ms))
            out.print(f"  {escape(label.station)} {since} – {until}", highlight=False)
    if tried is in_force:
        _list(" ", [_incident_line(one) for one in tried.raised])
        return
    difference = backtest.compare(tried, in_force)
    _list("[red]+[/]", [_incident_line(one) for one in difference.new])
    _list("[green]-[/]", [_incident_line(one) for one in difference.gone])
    _list("[yellow]~[/]", [f"{_colour(was)} → {_incident_line(one)}" for was, one in difference.changed])


def _incident_line(one: BacktestIncident) -> str:
    return f"{_colour(one)} {beijing(one.since_ms, '%Y-%m-%d %H:%M')} {join_on_line(Text(one.zh, one.en))}"


def _colour(one: BacktestIncident) -> str:
    return named(say(f"rule.{one.colour}"))


def _list(mark: str, lines: list[str]) -> None:
    for one in lines[:MAX_LISTED]:
        out.print(f"{mark} {escape(one)}", highlight=False, soft_wrap=True)
    if len(lines) > MAX_LISTED:
        out.print(f"{mark} … {line('list.more', count=len(lines) - MAX_LISTED, how='--json, --html')}", highlight=False)
