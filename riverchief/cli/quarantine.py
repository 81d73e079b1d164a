"""``riverchief quarantine``: list rejected messages and replay them."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra import clock
from infra.texts import line
from infra.times import beijing
from ingest import quarantine as quarantine_
from riverchief.cli.commands import Commands
from riverchief.cli.options import AsJson, DataFolder, SettingsFile, load, open_site, site_database
from riverchief.terminal import out, tabulate
from sensors.parameters import catalogue

if TYPE_CHECKING:
    from ingest.pipeline import Receipt

app = Commands("隔离区：未能使用的数据 · What could not be used.")


@app.command("list")
def listing(
    settings: SettingsFile = None,
    data: DataFolder = None,
    station: Annotated[str | None, typer.Option(help="站点 · station key")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="最多几条 · at most so many")] = 50,
    as_json: AsJson = False,
) -> None:
    """列出被隔离的数据 · List what is held."""
    with site_database(settings, data) as database, database.read() as connection:
        held = quarantine_.listing(connection, station=station, limit=limit)
    if as_json:
        rows = [dataclasses.asdict(h) | {"payload": h.payload[:2000].decode("utf-8", "replace")} for h in held]
        out.print_json(data=rows)
        return
    rows_ = ((str(h.id), beijing(h.received_at_ms), h.station, h.reason, h.detail) for h in held)
    tabulate(("number", "received", "station", "cause", "detail"), rows_, "quarantine.none")


@app.command("replay")
def replay(
    ids: Annotated[list[int] | None, typer.Argument(help="编号；不给则全部 · ids; none means all held")] = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """修正原因后重放 · Process held messages again, after their cause was fixed."""
    from ingest.pipeline import Site
    from riverchief import files
    from riverchief.single_writer import exclusive_ingest
    from riverchief.stores import open_stores

    loaded = load(settings, data)
    parameters = catalogue()
    with exclusive_ingest(loaded.database_url) as writer, open_site(loaded) as database:
        stores = open_stores(loaded, database, parameters)
        rules_ = files.read_rules(loaded.site.rules, parameters)
        site = Site(
            writer or database,
            stores.readings,
            rules_,
            parameters,
            source=loaded.site.source,
            late_s=loaded.ingest.late_after_s,
            mappings=files.read_mappings(loaded.ingest.mappings, parameters),
            spool=stores.spool,
        )
        with database.read() as connection:
            held = (
                [quarantine_.get(connection, i) for i in ids]
                if ids
                else quarantine_.listing(connection, limit=1_000_000)[::-1]
            )
        results: list[dict[str, Any]] = []
        for one in held:
            if one.status != quarantine_.HELD:
                results.append({"id": one.id, "stored": 0, "duplicate": 0, "refused": 0, "status": one.status})
                continue
            receipt = site.process([one.message()], clock.now_ms()).receipt(0)
            with database.read() as connection:
                status = quarantine_.get(connection, one.id).status  # a line stays where there is nobody to send it to
            results.append(
                {"id": one.id, "stored": receipt.stored, "duplicate": receipt.duplicate, **_refused(receipt)}
                | {"status": status}
            )
    if as_json:
        out.print_json(data=results)
        return
    for r in results:
        out.print(f"{line('quarantine.replayed', **r)} · {r['status']} {r.get('reasons', '')}", markup=False)


def _refused(receipt: "Receipt") -> dict[str, Any]:
    return {"refused": len(receipt.rejected), "reasons": ", ".join(r.detail for r in receipt.rejected)}
