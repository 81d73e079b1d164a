"""``riverchief mutes``: planned work at a station, during which no rule fires there."""

from typing import Annotated, Any

import typer

from infra import clock
from infra.texts import named, say
from infra.times import beijing, rfc3339
from ingest.state import rule_versions
from ingest.storage import maintenance as store
from riverchief.cli.commands import Commands
from riverchief.cli.options import (
    AsJson,
    By,
    DataFolder,
    SettingsFile,
    author,
    instant,
    newest_of,
    registered,
    site_database,
)
from riverchief.terminal import out, tabulate
from sensors.maintenance import Mute, plan_mute

app = Commands("计划静默 · Planned work: rules begin nothing there.")

Station = Annotated[str, typer.Argument(help="站点 · station key")]


@app.command("add")
def add(  # noqa: PLR0913, PLR0917  (an option of the command each)
    station: Station,
    until: Annotated[str, typer.Option(help="止，RFC 3339 或日期，最多 90 天 · its end, at most 90 days after since")],
    reason: Annotated[str, typer.Option(help="理由 · why")],
    since: Annotated[str | None, typer.Option(help="起，缺省为现在 · its beginning; now if left out")] = None,
    rule: Annotated[
        list[str] | None, typer.Option(help="规则，可多次，缺省为全部 · a rule, may be repeated; all if left out")
    ] = None,
    by: By = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """登记计划静默 · Announce planned work: the rules begin nothing at the station until it ends."""
    whose = author(by)
    span = clock.now_ms() if since is None else instant("--since", since), instant("--until", until)
    with site_database(settings, data) as database, database.write() as connection:
        registered(connection, station)
        in_force = {one.rule for one in rule_versions.in_force(connection)}
        made = plan_mute(station, span, tuple(rule or ()), reason, whose.by, in_force)
        number = store.add_mute(connection, made, whose)
    _print_list([(number, made)], as_json=as_json)


@app.command("list")
def listing(
    station: Annotated[str | None, typer.Argument(help="站点，缺省为全部 · station key; all if left out")] = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """列出静默，新的在前 · Mutes, newest first."""
    _print_list(newest_of(settings, data, station, store.mutes), as_json=as_json)


@app.command("end")
def end(
    station: Station,
    number: Annotated[int, typer.Argument(help="编号 · its number")],
    until: Annotated[str | None, typer.Option(help="何时，缺省为现在 · when; now if left out")] = None,
    by: By = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """提前结束或延长静默 · End a mute earlier or later than planned."""
    whose = author(by)
    until_ms = clock.now_ms() if until is None else instant("--until", until)
    with site_database(settings, data) as database, database.write() as connection:
        after = store.end_mute(connection, station, number, until_ms, whose)
    _print_list([(number, after)], as_json=as_json)


def _print_list(found: list[tuple[int, Mute]], *, as_json: bool) -> None:
    if as_json:
        out.print_json(data=[_as_json(number, one) for number, one in found])
    else:
        rows = (_row(number, one) for number, one in found)
        tabulate(("number", "station", "since", "until", "state", "rules", "reason", "by"), rows, "mute.none")


def _row(number: int, one: Mute) -> tuple[str, ...]:
    now_ms = clock.now_ms()
    state = "over" if one.until_ms <= now_ms else "ahead" if one.since_ms > now_ms else "on"
    span = beijing(one.since_ms, "%Y-%m-%d %H:%M"), beijing(one.until_ms, "%Y-%m-%d %H:%M")
    rules = ", ".join(one.rules) or named(say("mute.all"))
    return str(number), one.station, *span, named(say(f"mute.{state}")), rules, one.reason, one.by


def _as_json(number: int, one: Mute) -> dict[str, Any]:
    times = {"since": rfc3339(one.since_ms), "until": rfc3339(one.until_ms)}
    fields = {name: getattr(one, name) for name in ("station", "reason", "by")}
    return {"number": number, **fields, "rules": list(one.rules), **times}
