"""``riverchief backup``, ``restore``, ``archive`` and ``migrate``."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from infra import clock
from infra.errors import ConfigurationError
from infra.texts import from_both, line, say
from infra.times import DAY_MS
from riverchief import files
from riverchief.cli.commands import Commands
from riverchief.cli.options import AsJson, DataFolder, SettingsFile, load, open_site
from riverchief.terminal import err, out, progress_bar
from sensors.parameters import catalogue

app = Commands()


@app.command()
def backup(
    target: Annotated[
        Path | None,
        typer.Argument(help="目标目录，默认数据目录中的 backups · where to; default: backups in the data folder"),
    ] = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
    keep: Annotated[int | None, typer.Option(min=1, help="只留最新几份 · keep the newest only")] = None,
    archive: Annotated[bool, typer.Option(help="连同归档月份 · with the archived months")] = True,
    photos: Annotated[bool, typer.Option(help="连同照片附件 · with photos and attachments")] = True,
    as_json: AsJson = False,
) -> None:
    """备份，不停机并经核对 · Back up while everything runs; verified before it gets its name."""
    from riverchief.backup import backup as backup_

    loaded = load(settings, data)
    with progress_bar(line("progress.backup")) as progress:
        made = backup_.back_up(
            loaded, target or loaded.data / "backups", keep=keep, archive=archive, photos=photos, progress=progress
        )
    if as_json:
        out.print_json(data=made.as_json())
        return
    rows = sum(made.manifest.rows.values())
    summary = line("backup.made", rows=rows, mib=made.bytes / 2**20)
    out.print(f"[green]✓[/] {made.folder}: {summary}", soft_wrap=True)
    for advice in made.manifest.left_out.values():
        out.print(f"  {escape(line('backup.left_out', how=from_both(advice)))}", highlight=False, soft_wrap=True)


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(help="备份目录 · a folder that `riverchief backup` made")],
    settings: SettingsFile = None,
    data: DataFolder = None,
    replace: Annotated[bool, typer.Option("--replace", help="现有数据改名留存 · put aside what is there")] = False,
    as_json: AsJson = False,
) -> None:
    """恢复备份，先停止其他进程 · Restore a backup; nothing else may run meanwhile."""
    from riverchief.backup import restore as restore_

    loaded = load(settings, data)
    with progress_bar(line("progress.restore")) as progress:
        done = restore_.restore(loaded, source, replace=replace, progress=progress)
    if as_json:
        out.print_json(data=done.as_json())
        return
    rows = sum(done.manifest.rows.values())
    out.print(
        f"[green]✓[/] {escape(done.database)}: {line('backup.restored', rows=rows, at=done.manifest.taken_at)}",
        soft_wrap=True,
    )
    for place in done.aside:
        out.print(f"  {escape(line('backup.aside', place=place))}", highlight=False, soft_wrap=True)
    for advice in done.manifest.left_out.values():
        out.print(f"  {escape(line('backup.apart', how=from_both(advice)))}", highlight=False, soft_wrap=True)
    out.print(line("backup.next", settings=source / "settings"), highlight=False, markup=False, soft_wrap=True)


@app.command()
def archive(
    before: Annotated[str | None, typer.Option(help="此月之前，默认按 keep_days · months before YYYY-MM")] = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """整月读数移出数据库，核对后删除 · Move whole months out of the database, compared before they are deleted."""
    from ingest.storage import retention
    from ingest.storage.archive import month_bounds_ms
    from riverchief.stores import open_stores

    loaded = load(settings, data)
    parameters = catalogue()
    keep_days = loaded.readings.keep_days
    if before is None and not keep_days:
        raise ConfigurationError(say("command.before"))
    now_ms = clock.now_ms()
    boundary_ms = month_bounds_ms(before)[0] if before else retention.edge_for_days(keep_days, now_ms)
    rules_ = files.read_rules(loaded.site.rules, parameters)
    kept_days = max(0, (now_ms - boundary_ms) // DAY_MS) if before else keep_days
    retention.check_keep_days(kept_days, max(rules_.lookback_s(p.key) for p in parameters.parameters))
    with open_site(loaded) as database, progress_bar(line("progress.archive")) as progress:
        keeper = open_stores(loaded, database, parameters).keeper
        if keeper is None:
            raise ConfigurationError(say("command.no_archive"))
        moved = retention.move_out(database, parameters, keeper, boundary_ms, progress=progress)
    if as_json:
        out.print_json(data=dataclasses.asdict(moved))
    else:
        months = ", ".join(moved.months) or say("archive.no_month")
        out.print(f"[green]✓[/] {line('archive.moved', readings=moved.readings, months=months)}")
        for key, month in moved.refused[:10]:
            err.print(f"[yellow]![/] {line('archive.stays', parameter=key, month=month)}")
    raise typer.Exit(1 if moved.refused else 0)


@app.command("migrate")
def migrate_command(
    source: Annotated[str, typer.Option("--from", help="原库地址 · URL of the database to copy")],
    target: Annotated[str, typer.Option("--to", help="新的空库地址 · URL of a new, empty database")],
    as_json: AsJson = False,
) -> None:
    """换库：SQLite 与 PostgreSQL 互迁，逐行核对 · Copy a site into another database; every row is compared."""
    from riverchief.backup import migrate_database

    with progress_bar(line("progress.migrate")) as progress:
        moved = migrate_database.migrate(source, target, catalogue(), progress)
    if as_json:
        out.print_json(data=dataclasses.asdict(moved))
        return
    for name, rows in moved.rows.items():
        out.print(f"  {name}: {rows:,}", highlight=False)
    if moved.mended:
        out.print(f"  {line('migrate.mended', places=moved.mended)}", highlight=False)
    rows = sum(moved.rows.values())
    summary = line("migrate.moved", rows=rows, readings=moved.readings, seconds=moved.seconds)
    out.print(f"[green]✓[/] {summary}", soft_wrap=True, highlight=False)
