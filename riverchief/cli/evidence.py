"""``riverchief evidence``: the evidence pack of an incident as a file."""

from pathlib import Path
from typing import Annotated

import typer

from infra import clock
from riverchief.cli.commands import Commands
from riverchief.cli.options import DataFolder, SettingsFile, load, login, open_site
from riverchief.terminal import out, save
from sensors.parameters import catalogue

app = Commands()


@app.command()
def evidence(
    incident: Annotated[int, typer.Argument(help="事件编号 · number of the incident")],
    file: Annotated[Path, typer.Option("--out", help="写入的 PDF · the PDF to write")],
    english: Annotated[bool, typer.Option("--english", help="英文版 · in English")] = False,
    settings: SettingsFile = None,
    data: DataFolder = None,
) -> None:
    """事件证据包（PDF） · The evidence pack of an incident."""
    from api.evidence import pack
    from riverchief import audit_sealing
    from riverchief.stores import open_stores

    loaded = load(settings, data)
    with open_site(loaded) as database:
        stores = open_stores(loaded, database, catalogue())
        made = pack(
            database,
            stores.readings,
            catalogue(),
            incident,
            by=login(),
            origin=loaded.site.source,
            site=loaded.site.name,
            photos=loaded.photos,
            now_ms=clock.now_ms(),
            keys=audit_sealing.public_keys(loaded),
            outside=audit_sealing.outside_roots(loaded),
            language="en" if english else "zh",
        )
    save(file, made)
    out.print(f"[green]✓[/] {file} · {len(made):,} bytes", highlight=False, soft_wrap=True)
