"""``riverchief reconcile``: compare a platform's list of incidents with ours, and send again what it lacks."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from governance.platforms import reconciliation
from governance.platforms.model import Platform
from governance.platforms.reconciliation import StoredReport
from infra import clock
from infra.errors import ConfigurationError
from infra.texts import line, say
from infra.times import beijing
from riverchief import files
from riverchief.cli.commands import Commands
from riverchief.cli.options import AsJson, DataFolder, SettingsFile, load, login, open_site
from riverchief.services import reconciler
from riverchief.settings import secret
from riverchief.terminal import out

app = Commands()

MAX_SHOWN = 20


@app.command()
def reconcile(
    platform: Annotated[str | None, typer.Argument(help="平台，不给则全部 · platform; none means all")] = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="对方清单 JSON，代替抓取 · their list as JSON instead of fetching it")
    ] = None,
    resend: Annotated[bool, typer.Option("--resend", help="重发对方缺少或不同的 · send again what they lack")] = False,
    as_json: AsJson = False,
) -> None:
    """与外部平台对账 · Compare a platform's incidents with ours; exit code 1 when they differ."""
    loaded = load(settings, data)
    usual = secret(loaded.outbox.secret, loaded.outbox.secret_file)
    platforms = files.read_platforms(loaded.platforms.file, usual)
    chosen = [platforms.named(platform)] if platform else [one for one in platforms.known if one.list is not None]
    if not chosen:
        raise ConfigurationError(say("command.no_platform"))
    if file is not None and len(chosen) > 1:
        raise ConfigurationError(say("command.whose_list"))
    found: list[tuple[StoredReport, int]] = []
    with open_site(loaded) as database:
        for one in chosen:
            report = (
                _compared(database, one, file) if file else reconciler.compare(database, one, clock.now_ms, by=login())
            )
            again = 0
            if resend:
                with database.write() as connection:
                    lost = reconciliation.incidents_to_resend(report)
                    again = reconciliation.resend(connection, lost, clock.now_ms())
            found.append((report, again))
    if as_json:
        out.print_json(data=[dataclasses.asdict(report) | {"events_sent_again": again} for report, again in found])
    else:
        for report, again in found:
            _show(report, again)
    raise typer.Exit(0 if all(report.closed for report, _ in found) else 1)


def _compared(database: Any, platform: Platform, file: Path) -> StoredReport:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(say("command.no_json", file=file, error=error)) from error
    items = content if isinstance(content, list) else reconciliation.entries(platform, content)
    if items is None:
        raise ConfigurationError(say("command.no_list", file=file))
    with database.write() as connection:
        return reconciliation.reconcile(connection, platform, items, clock.now_ms(), by=login())


def _show(stored: StoredReport, again: int) -> None:
    report = stored.report
    values = {
        "platform": stored.platform,
        "at": beijing(stored.at_ms),
        "ours": report["ours"],
        "theirs": report["theirs"],
        "same": report["same"],
        "on_the_way": len(report["on_the_way"]),
    }
    _print("reconciled", **values)
    for name in ("they_lack", "we_lack"):
        if report[name]:
            numbers = ", ".join(map(str, report[name][:MAX_SHOWN])) + (" …" if len(report[name]) > MAX_SHOWN else "")
            _print(name, count=len(report[name]), numbers=numbers)
    for one in report["differing"][:MAX_SHOWN]:
        _print("differs", incident=one["incident"], ours=one["ours"], theirs=one["theirs"])
    if len(report["differing"]) > MAX_SHOWN:
        _print("differ", count=len(report["differing"]))
    if report["unreadable"]:
        _print("unreadable", count=report["unreadable"])
    if again:
        _print("sent_again", count=again)


def _print(key: str, **values: object) -> None:
    out.print(line(f"platform.{key}", **values), highlight=False, markup=False, soft_wrap=True)
