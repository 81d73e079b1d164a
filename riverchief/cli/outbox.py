"""``riverchief outbox``: refused deliveries, and sending them again."""

import dataclasses
import json
from typing import Annotated

import typer

from governance.notify import outbox as outbox_
from infra import clock
from infra.texts import line
from riverchief.cli.commands import Commands
from riverchief.cli.options import AsJson, DataFolder, SettingsFile, site_database
from riverchief.terminal import out

app = Commands("外发箱：死信 · Deliveries that were given up.")


@app.command("list")
def listing(settings: SettingsFile = None, data: DataFolder = None, as_json: AsJson = False) -> None:
    """列出死信 · List the dead letters, and how many deliveries still wait."""
    with site_database(settings, data) as database, database.read() as connection:
        dead, counts = outbox_.dead_letters(connection), outbox_.pending_counts(connection)
    if as_json:
        rows = [dataclasses.asdict(d) | {"body": json.loads(d.body)} for d in dead]
        out.print_json(data={"pending": counts.pending, "refused": rows})
        return
    out.print(line("outbox.counts", pending=counts.pending, refused=counts.refused))
    for d in dead:
        fields = {"error": d.last_error or d.last_status, "incident": d.incident_id, "attempts": d.attempts}
        out.print(f"{d.id}: {line('outbox.dead', **fields)}", markup=False)


@app.command("replay")
def replay(
    ids: Annotated[list[int], typer.Argument(help="死信编号 · numbers of dead letters")],
    settings: SettingsFile = None,
    data: DataFolder = None,
) -> None:
    """重新投递死信 · Send dead letters again, after their cause was mended."""
    with site_database(settings, data) as database, database.write() as connection:
        for one in ids:
            outbox_.replay(connection, one, clock.now_ms())
    out.print(line("outbox.again", count=len(ids)))
