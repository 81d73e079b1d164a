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
    from api.evidence.gather import Sources
    from riverchief import audit_sealing
    from riverchief.stores import open_stores

    loaded = load(settings, data)
    with open_site(loaded) as database:
        stores = open_stores(loaded, database, catalogue())
        sources = Sources(
            database,
            stores.readings,
            catalogue(),
            loaded.site.source,
            loaded.site.name,
            loaded.photos,
            audit_sealing.public_keys(loaded),
            audit_sealing.outside_roots(loaded),
        )
        made = pack(sources, incident, by=login(), now_ms=clock.now_ms(), language="en" if english else "zh")
    save(file, made)
    out.print(f"[green]✓[/] {file} · {len(made):,} bytes", highlight=False, soft_wrap=True)
