"""``riverchief privacy``: what is kept of one person, given out or erased."""

import json
from typing import Annotated

import typer

from governance.reports import personal_data
from infra import clock
from infra.errors import NotFound
from infra.times import rfc3339
from riverchief import contact_key
from riverchief.cli.commands import Commands
from riverchief.cli.options import By, DataFolder, SettingsFile, load, login, open_site
from riverchief.terminal import out

app = Commands("个人信息：导出、删除 · Personal data of one person.")

Whose = Annotated[
    str,
    typer.Argument(
        help="编号、联系方式或邮箱，或工作人员姓名 · ticket, contact or mail address, or a name of the staff"
    ),
]


@app.command("export")
def export(whose: Whose, by: By = None, settings: SettingsFile = None, data: DataFolder = None) -> None:
    """导出一人的全部信息 · Everything that is kept of one person, as JSON; goes into the audit trail."""
    loaded = load(settings, data)
    vault, now_ms = contact_key.vault(loaded, make=False), clock.now_ms()
    with open_site(loaded) as database, database.write() as connection:
        try:
            found, kind = personal_data.of_citizen(connection, vault, whose), "report"
            subject = found["reports"][0]["ticket"] if found["reports"] else ""
        except NotFound:
            found, kind, subject = personal_data.of_staff(connection, vault, whose, now_ms), "person", whose
        personal_data.record_export(connection, kind, subject, by or login() or "command line", now_ms)
    typer.echo(json.dumps({"as_of": rfc3339(now_ms), **found}, ensure_ascii=False, indent=2))


@app.command("erase")
def erase(
    whose: Whose,
    reason: Annotated[str, typer.Option(help="理由，记入审计 · what for; goes into the audit trail")],
    by: By = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
) -> None:
    """删除群众的联系方式、网络标识和邮件订阅 · Erase how a citizen can be reached; words stay with the case."""
    loaded = load(settings, data)
    vault, author = contact_key.vault(loaded, make=False), by or login() or "command line"
    with open_site(loaded) as database, database.write() as connection:
        tickets = personal_data.erase_citizen(connection, vault, whose, reason, author, clock.now_ms())
    out.print("✓ " + (", ".join(tickets) or "—"), highlight=False)
