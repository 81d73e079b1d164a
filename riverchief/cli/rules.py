"""``riverchief rules``: check rules, find contradictions, list all versions that were in force."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy as sa
import typer
from rich.markup import escape

from infra.texts import Text, join_on_line, line, say
from infra.times import beijing
from ingest.rules import explain
from ingest.rules.explain import RuleFault
from ingest.rules.model import Rules
from ingest.state import rule_versions
from ingest.storage import registry as registry_store
from riverchief import files
from riverchief import settings as settings_
from riverchief.cli.commands import Commands
from riverchief.cli.options import AsJson, DataFolder, SettingsFile, load, open_site
from riverchief.terminal import out
from sensors.parameters import catalogue
from sensors.stations import Registry

app = Commands("规则 · Rules.")

MAX_SHOWN_STATIONS = 3
"""Stations named where a rule goes before another."""


@app.command("check")
def check(
    file: Annotated[Path | None, typer.Argument(help="规则文件 · rules file")] = None,
    stations: Annotated[
        Path | None, typer.Option("--stations", help="对照的站点文件 · stations the rules are to fit")
    ] = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """逐条解释规则并找出矛盾 · Explain each rule in a sentence and find contradictions; exit code 1 when there are any.

    不给 --stations 时，与站点数据库中登记的站点对照 · Without --stations the rules are held against the stations
    registered at the site, where there is a database.
    """
    parameters = catalogue()
    rules = files.read_rules(file, parameters)
    registry = _registry(stations, settings, data)
    faults = explain.find_rule_faults(rules, parameters, registry)
    before = explain.overrides(rules, registry) if registry else []
    if as_json:
        out.print_json(data=_as_json(rules, faults, before, registry))
    else:
        _show(rules, faults, before)
        if registry is None:
            out.print(line("rules.no_stations"))
    if any(fault.serious for fault in faults):
        raise typer.Exit(1)


@app.command("list")
def listing(settings: SettingsFile = None, data: DataFolder = None, as_json: AsJson = False) -> None:
    """正在执行的规则 · The rules in force at the site."""
    with _reading(settings, data) as connection:
        found = rule_versions.in_force(connection)
    if as_json:
        out.print_json(data=[_version_json(one) for one in found])
        return
    for one in found:
        out.print(f"[bold]{escape(one.rule)}[/]@{one.version} {join_on_line(one.text)}", highlight=False)


@app.command("show")
def show(
    rule: Annotated[str, typer.Argument(help="编号或 编号@版本 · an id, or id@version as incidents name it")],
    settings: SettingsFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """某条规则的各版本 · A rule as it was in force, also long ago."""
    id_, _, wanted = rule.partition("@")
    with _reading(settings, data) as connection:
        found = [rule_versions.version(connection, id_, wanted)] if wanted else rule_versions.versions(connection, id_)
    if as_json:
        out.print_json(data=[_version_json(one) for one in found])
        return
    for one in found:
        until = "…" if one.until_ms is None else beijing(one.until_ms, "%Y-%m-%d %H:%M")
        since = beijing(one.since_ms, "%Y-%m-%d %H:%M")
        out.print(f"[bold]{escape(one.rule)}@{one.version}[/] {since} – {until}", highlight=False)
        out.print(f"{one.text.zh}\n{one.text.en}\n\n{one.body}", markup=False, highlight=False)


def _registry(stations: Path | None, settings: Path | None, data: Path | None) -> Registry | None:
    """The stations to hold rules against: of a file, or of the site's database where there is one."""
    parameters = catalogue()
    if stations is not None:
        return files.read_stations(stations, parameters)
    loaded = settings_.load(settings, **({} if data is None else {"data": data}))
    if loaded.database.url or not (loaded.data / "riverchief.db").exists():
        if settings is None and data is None:
            return None
        if not loaded.database.url:
            return None
    with _reading(settings, data) as connection:
        registered = registry_store.load(connection, parameters)
    return registered if registered.stations else None  # a site without stations says nothing of its rules


@contextmanager
def _reading(settings: Path | None, data: Path | None) -> Iterator[sa.Connection]:
    """The site's database, to be read."""
    with open_site(load(settings, data)) as database, database.read() as connection:
        yield connection


_COLOURS = {"red": "red", "orange": "dark_orange", "yellow": "yellow", "blue": "blue"}


def _show(rules: Rules, faults: list[RuleFault], before: list[tuple[str, str, tuple[str, ...]]]) -> None:
    parameters = catalogue()
    for rule in rules:
        text = explain.sentence(rule, parameters)
        head = f"[bold]{escape(rule.id)}[/]@{rule.version} {rule.kind} [{_COLOURS[rule.colour]}]{rule.colour}[/]"
        out.print(f"{head}\n  {escape(text.zh)}\n  {escape(text.en)}", highlight=False, soft_wrap=True)
    for one, other, stations in before:
        out.print(f"  {join_on_line(_precedence_text(one, other, stations))}", markup=False, highlight=False)
    for fault in faults:
        mark = "[red]✗[/]" if fault.serious else "[yellow]![/]"
        out.print(f"{mark} {escape(join_on_line(fault.text))}", highlight=False, soft_wrap=True)
    if not faults:
        out.print(f"[green]✓[/] {line('rules.fine', count=len(rules))}")


def _precedence_text(one: str, other: str, stations: tuple[str, ...]) -> Text:
    shown = ", ".join(stations[:MAX_SHOWN_STATIONS]) + ("…" if len(stations) > MAX_SHOWN_STATIONS else "")
    return say("rule.precedence", rule=one, other=other, stations=shown)


def _as_json(
    rules: Rules, faults: list[RuleFault], before: list[tuple[str, str, tuple[str, ...]]], registry: Registry | None
) -> dict[str, Any]:
    parameters = catalogue()
    return {
        "rules": [
            {
                "id": rule.id,
                "version": rule.version,
                "kind": rule.kind,
                "colour": rule.colour,
                "zh": (text := explain.sentence(rule, parameters)).zh,
                "en": text.en,
            }
            for rule in rules
        ],
        "held_against_stations": None if registry is None else len(registry.stations),
        "overrides": [{"rule": one, "before": other, "stations": list(s)} for one, other, s in before],
        "faults": [{"rules": list(f.rules), "serious": f.serious, "zh": f.text.zh, "en": f.text.en} for f in faults],
    }


def _version_json(one: rule_versions.Version) -> dict[str, Any]:
    found = {name: getattr(one, name) for name in one.__slots__ if name != "text"}
    return found | {"zh": one.text.zh, "en": one.text.en}
