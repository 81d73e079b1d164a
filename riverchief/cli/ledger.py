"""``riverchief ledger``: messages sent against messages stored, by station and day."""

import dataclasses
from typing import Annotated, Any

import typer

from infra.texts import line, named, say
from ingest import ledger as ledger_
from riverchief.cli.commands import Commands
from riverchief.cli.options import AsJson, DataFolder, SettingsFile, day_of, load, site_database
from riverchief.settings import Settings
from riverchief.terminal import columns, err, out
from sensors.parameters import catalogue

app = Commands()


@app.command()
def ledger(
    settings: SettingsFile = None,
    data: DataFolder = None,
    day: Annotated[str | None, typer.Option(help="北京时间日期，all 为全部 · Beijing day YYYY-MM-DD, or all")] = None,
    station: Annotated[str | None, typer.Option(help="站点 · station key")] = None,
    verify: Annotated[bool, typer.Option(help="与库中读数核对 · recount the stored readings")] = False,
    as_json: AsJson = False,
) -> None:
    """账本：发送 = 入库 + 重复 + 隔离 + 缺失 · Loss account; exit code 1 where readings are missing or it is open."""
    with site_database(settings, data) as database:
        chosen = None if day == "all" else day_of(day)
        with database.read() as connection:
            accounts = ledger_.accounts(connection, day=chosen, station=station)
            everything = ledger_.accounts(connection, station=station, limit=10_000_000) if verify else []
        wrong = _recount(database, load(settings, data), everything) if verify else {}
    closed = all(a.closed for a in accounts) and not wrong
    complete = closed and all(a.complete for a in accounts)
    if as_json:
        rows = [dataclasses.asdict(a) | {"sent": a.sent, "closed": a.closed, "complete": a.complete} for a in accounts]
        result = {"day": chosen, "closed": closed, "complete": complete, "accounts": rows, "recount_differs": wrong}
        out.print_json(data=result)
    else:
        _show_ledger(accounts, chosen)
        for key, (counted, booked) in wrong.items():
            err.print(f"[red]✗[/] {line('ledger.differs', station=key, counted=counted, booked=booked)}")
    raise typer.Exit(0 if complete else 1)


def _recount(database: Any, settings: Settings, accounts: list[ledger_.Account]) -> dict[str, tuple[int, int]]:
    from riverchief.stores import open_stores

    counted = open_stores(settings, database, catalogue()).readings.count()  # what has left the database counts, too
    booked: dict[str, int] = {}
    for account in accounts:
        booked[account.station] = booked.get(account.station, 0) + account.stored
    return {
        key: (counted.get(key, 0), booked.get(key, 0))
        for key in sorted(booked.keys() | counted.keys())
        if counted.get(key, 0) != booked.get(key, 0) and key in booked
    }


def _show_ledger(accounts: list[ledger_.Account], day: str | None) -> None:
    if not accounts:
        out.print(line("ledger.none", day=day or ""))
        return
    figures = ("sent", "stored", "duplicate", "quarantined", "missing")
    listed = columns("station", "day", *figures, "", right=figures, title=f"{named(say('ledger.title'))} {day or ''}")
    for a in accounts:
        sent = named(say("ledger.unknown")) if a.sent is None else f"{a.sent:,}"
        lost = named(say("ledger.messages", count=a.messages_missing)) if a.missing is None else f"{a.missing:,}"
        mark = "[green]✓[/]" if a.complete else "[red]✗[/]"
        listed.add_row(a.station, a.day, sent, f"{a.stored:,}", f"{a.duplicate:,}", f"{a.quarantined:,}", lost, mark)
    out.print(listed)
    if any(not a.complete for a in accounts):
        readings, messages = sum(a.missing or 0 for a in accounts), sum(a.messages_missing for a in accounts)
        err.print(f"[red]✗[/] {line('ledger.missing', readings=readings, messages=messages)}")
