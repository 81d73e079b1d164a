"""The command line: one function a command, each a thin skin over a part."""

import dataclasses
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from governance import outbox as outbox_
from governance.database import Database
from ingest import claims as claims_
from ingest import ledger as ledger_
from ingest import quarantine as quarantine_
from ingest.credentials import Credentials
from ingest.pipeline import Receipt, Site
from ingest.storage import changes as changes_
from ingest.storage import registry as registry_store
from ingest.storage import upkeep as upkeep_store
from ingest.storage.changes import Author
from riverchief import (
    assessment_cli,
    audit_cli,
    backtest_cli,
    clock,
    evidence_cli,
    files,
    foresight_cli,
    logs,
    messages,
    notices_cli,
    processes_cli,
    reconcile_cli,
    rules_cli,
    serve,
    simulate_cli,
    users_cli,
)
from riverchief import settings as settings_
from riverchief.alone import alone
from riverchief.broker_admin import Address
from riverchief.options import AsJson, By, DataFolder, SettingsFile, load, opened, who
from riverchief.settings import Settings
from riverchief.terminal import err, out, progress_bar
from sensors import stationbook, stationfile, stationtable
from sensors.errors import ConfigurationError, NotFound, Refused, WaterError
from sensors.parameters import catalogue
from sensors.standards.gb3838 import Oxygen, Water
from sensors.stationbook import Book
from sensors.times import DAY_MS, beijing, beijing_day, rfc3339, to_ms
from sensors.wire.telemetry import STATION

app = typer.Typer(
    help="河长智慧平台 · From a sensor in the river to a closed case.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
quarantine = typer.Typer(help="隔离区：未能使用的数据 · What could not be used.", no_args_is_help=True)
stations = typer.Typer(help="站点 · The registry.", no_args_is_help=True)
app.add_typer(quarantine, name="quarantine")
app.add_typer(rules_cli.app, name="rules")
app.add_typer(stations, name="stations")
claims = typer.Typer(help="标签密钥 · Secrets on labels, by which a device claims its login.", no_args_is_help=True)
stations.add_typer(claims, name="claims")
outbox = typer.Typer(help="外发箱：死信 · Deliveries that were given up.", no_args_is_help=True)
app.add_typer(outbox, name="outbox")
dashboards = typer.Typer(help="Grafana 仪表盘 · Dashboards.", no_args_is_help=True)
app.add_typer(dashboards, name="dashboards")
setup = typer.Typer(help="首次设置，可重复运行 · First set-up; each may be run again.", no_args_is_help=True)
app.add_typer(setup, name="setup")
hj212 = typer.Typer(help="HJ 212 报文和数采仪 · HJ 212 frames and loggers.", no_args_is_help=True)
app.add_typer(hj212, name="hj212")
app.add_typer(users_cli.users, name="users")
app.add_typer(processes_cli.processes, name="processes")
hj212_devices = typer.Typer(help="数采仪登记 · Loggers that may connect.", no_args_is_help=True)
hj212.add_typer(hj212_devices, name="devices")
app.add_typer(audit_cli.app, name="audit")
app.command("evidence")(evidence_cli.evidence)
app.command("assessment")(assessment_cli.assessment)
app.add_typer(foresight_cli.app)

app.command("reconcile")(reconcile_cli.reconcile)
app.command("backtest")(backtest_cli.run)
app.add_typer(notices_cli.notify, name="notify")
app.add_typer(notices_cli.shifts, name="oncall")


def main() -> None:
    """The entry point: what we refuse is one sentence and exit code 2, never a traceback."""
    try:
        app()
    except WaterError as error:
        err.print(f"[red]✗[/] {error}", highlight=False, markup=True, soft_wrap=True)
        sys.exit(2 if isinstance(error, ConfigurationError) else 1)


def _load(settings: Path | None, data: Path | None = None, port: int | None = None) -> Settings:
    return load(settings, data) if port is None else load(settings, data, api={"port": port})


# -- running ---------------------------------------------------------------------------------------------------------


@app.command()
def demo(
    for_: Annotated[
        float | None, typer.Option("--for", min=1, max=86_400, help="秒数后自行停止 · stop after seconds")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="结果写入 JSON · write the result as JSON")] = None,
    browser: Annotated[bool, typer.Option(help="打开浏览器 · open the browser")] = True,
    replay: Annotated[list[Path] | None, typer.Option(help="回放记录表 · play recorded tables as devices")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="控制台端口 · port of the console")] = None,
    seed: Annotated[int, typer.Option(help="模拟种子 · seed of the simulated water")] = 1,
    data: DataFolder = None,
    broker: Annotated[str | None, typer.Option(help="mosquitto | nats")] = None,
) -> None:
    """一分钟看到河流：代理、接入、事件、控制台和模拟的禅城 · A river on screen in a minute."""
    from riverchief import demo as demo_

    logs.configure(settings_.LogSection(level="warning"))
    demo_.run(
        seconds=for_,
        report=report,
        browser=browser,
        replay=replay or [],
        port=port,
        seed=seed,
        console=err,
        data=data,
        broker_kind=broker,
    )


@app.command("serve")
def serve_command(
    settings: SettingsFile = None,
    data: DataFolder = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="端口 · port")] = None,
) -> None:
    """全部部件在一个进程里运行 · Everything in one process."""
    serve.run(_load(settings, data, port))


@app.command("ingest")
def ingest_command(settings: SettingsFile = None, data: DataFolder = None) -> None:
    """只运行接入 · Ingest alone."""
    serve.run(_load(settings, data), serve.Role.INGEST)


@app.command("api")
def api_command(
    settings: SettingsFile = None,
    data: DataFolder = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="端口 · port")] = None,
) -> None:
    """只运行接口和控制台 · API and console alone."""
    serve.run(_load(settings, data, port), serve.Role.API)


@app.command("worker")
def worker_command(settings: SettingsFile = None, data: DataFolder = None) -> None:
    """只运行投递 · Deliveries alone."""
    serve.run(_load(settings, data), serve.Role.WORKER)


app.command()(simulate_cli.simulate)


# -- looking after ---------------------------------------------------------------------------------------------------


@app.command()
def ledger(
    settings: SettingsFile = None,
    data: DataFolder = None,
    day: Annotated[str | None, typer.Option(help="北京时间日期，all 为全部 · Beijing day YYYY-MM-DD, or all")] = None,
    station: Annotated[str | None, typer.Option(help="站点 · station key")] = None,
    verify: Annotated[bool, typer.Option(help="与库中读数核对 · recount the stored readings")] = False,
    as_json: AsJson = False,
) -> None:
    """账本：发送 = 入库 + 重复 + 隔离 + 缺失 · The loss account; exit code 1 when it does not close."""
    with _database(settings, data) as database:
        chosen = None if day == "all" else _day(day)
        with database.read() as connection:
            accounts = ledger_.accounts(connection, day=chosen, station=station)
            everything = ledger_.accounts(connection, station=station, limit=10_000_000) if verify else []
        wrong = _recount(database, _load(settings, data), everything) if verify else {}
    closed = all(a.closed for a in accounts) and not wrong
    if as_json:
        rows = [dataclasses.asdict(a) | {"sent": a.sent, "closed": a.closed} for a in accounts]
        out.print_json(data={"day": chosen, "closed": closed, "accounts": rows, "recount_differs": wrong})
    else:
        _show_ledger(accounts, chosen)
        for key, (counted, booked) in wrong.items():
            err.print(
                f"[red]✗[/] {key}: 库中 {counted} 条，账上 {booked} 条 · {counted} stored, {booked} in the account"
            )
    raise typer.Exit(0 if closed else 1)


def _day(day: str | None) -> str:
    if day is None:
        return beijing_day(clock.now_ms()).isoformat()
    try:
        return date.fromisoformat(day).isoformat()
    except ValueError:
        raise ConfigurationError(f"day {day!r} must be YYYY-MM-DD, or all") from None


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
        out.print(f"{day or ''} 没有账目 · no entries")
        return
    table = Table(title=f"账本 ledger {day or ''}".strip())
    for name in (
        "站点 station",
        "日 day",
        "发送 sent",
        "入库 stored",
        "重复 duplicate",
        "隔离 quarantined",
        "缺失 missing",
        "",
    ):
        table.add_column(name, justify="left" if name in ("站点 station", "日 day", "") else "right")
    for a in accounts:
        sent = "未知 unknown" if a.sent is None else f"{a.sent:,}"
        missing = f"≥ {a.messages_missing} 条消息 messages" if a.missing is None else f"{a.missing:,}"
        mark = "[green]✓[/]" if a.closed else "[red]✗[/]"
        table.add_row(a.station, a.day, sent, f"{a.stored:,}", f"{a.duplicate:,}", f"{a.quarantined:,}", missing, mark)
    out.print(table)


@quarantine.command("list")
def quarantine_list(
    settings: SettingsFile = None,
    data: DataFolder = None,
    station: Annotated[str | None, typer.Option(help="站点 · station key")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    as_json: AsJson = False,
) -> None:
    """列出被隔离的数据 · List what is held."""
    with _database(settings, data) as database, database.read() as connection:
        held = quarantine_.listing(connection, station=station, limit=limit)
    if as_json:
        rows = [dataclasses.asdict(h) | {"payload": h.payload[:2000].decode("utf-8", "replace")} for h in held]
        out.print_json(data=rows)
        return
    if not held:
        out.print("没有被拒数据 · nothing is held")
        return
    table = Table()
    for name in ("编号 id", "时间 received", "站点 station", "原因 reason", "说明 detail"):
        table.add_column(name, overflow="fold")
    for h in held:
        table.add_row(str(h.id), beijing(h.received_at_ms), h.station, h.reason, h.detail)
    out.print(table)


@quarantine.command("replay")
def quarantine_replay(
    ids: Annotated[list[int] | None, typer.Argument(help="编号；不给则全部 · ids; none means all held")] = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """修正原因后重放 · Process held messages again, after their cause was fixed."""
    from riverchief.stores import open_stores

    loaded = _load(settings, data)
    known = catalogue()
    with alone(loaded.database_url) as writer, _database(settings, data) as database:
        stores = open_stores(loaded, database, known)
        rules_ = files.read_rules(loaded.site.rules, known)
        site = Site(
            writer or database,
            stores.readings,
            rules_,
            known,
            source=loaded.site.source,
            late_s=loaded.ingest.late_after_s,
            mappings=files.read_mappings(loaded.ingest.mappings, known),
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
        out.print(
            f"{r['id']}: 入库 {r['stored']} · 重复 {r['duplicate']} · 再次被拒 {r['refused']}"
            f" / stored, duplicate, refused again · {r['status']} {r.get('reasons', '')}"
        )


def _refused(receipt: Receipt) -> dict[str, Any]:
    return {
        "refused": len(receipt.rejected),
        "reasons": ", ".join(r.detail for r in receipt.rejected),
    }


@outbox.command("list")
def outbox_list(settings: SettingsFile = None, data: DataFolder = None, as_json: AsJson = False) -> None:
    """列出死信 · List the dead letters, and how many deliveries still wait."""
    with _database(settings, data) as database, database.read() as connection:
        dead, counts = outbox_.refused(connection), outbox_.pending_counts(connection)
    if as_json:
        rows = [dataclasses.asdict(d) | {"body": json.loads(d.body)} for d in dead]
        out.print_json(data={"pending": counts.pending, "refused": rows})
        return
    out.print(f"待投递 pending {counts.pending} · 死信 refused {counts.refused}")
    for d in dead:
        out.print(f"{d.id}: 事件 incident {d.incident_id}, {d.attempts} 次 attempts, {d.last_error or d.last_status}")


@outbox.command("replay")
def outbox_replay(ids: list[int], settings: SettingsFile = None, data: DataFolder = None) -> None:
    """重新投递死信 · Send dead letters again, after their cause was mended."""
    with _database(settings, data) as database, database.write() as connection:
        for one in ids:
            outbox_.replay(connection, one, clock.now_ms())
    out.print(f"{len(ids)} 条将重新投递 will be sent again")


@stations.command("import")
def stations_import(
    file: Annotated[Path, typer.Argument(help="TOML 或 CSV 文件 · a TOML or CSV file")],
    kind: Annotated[
        str | None, typer.Option(help="CSV 没有 kind 列时各行的种类 · what the rows are, without a column kind")
    ] = None,
    by: By = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
) -> None:
    """导入站点文件（TOML、CSV）· Import a registry file; changes nothing when a row is bad."""
    loaded = _load(settings, data)
    known = catalogue()
    with _database(settings, data) as database, database.write() as connection:
        there = Book(registry_store.load(connection, known), upkeep_store.load(connection))
        book = files.read_book(file, known, known=there, box=loaded.box, kind=kind)
        registry_store.save(connection, book.registry, _author(by))
        upkeep_store.save(connection, book.upkeep, _author(by))
    counts = Counter(of for of, _ in stationbook.rows_of(book))
    out.print(", ".join(f"{count} {of}" for of, count in counts.items()) or "没有内容 · nothing", soft_wrap=True)


@stations.command("export")
def stations_export(
    file: Annotated[Path | None, typer.Argument(help="目标文件，默认标准输出 · default: stdout")] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="toml | csv，默认按文件名 · default: by the file's name")
    ] = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
) -> None:
    """导出站点及其部署、校准、作业 · Export the registry; importing it again changes nothing."""
    form = format_ or ("csv" if file is not None and file.suffix.lower() == ".csv" else "toml")
    if form not in ("toml", "csv"):
        raise ConfigurationError(f"--format {form!r} must be toml or csv")
    with _database(settings, data) as database, database.read() as connection:
        book = Book(registry_store.load(connection, catalogue()), upkeep_store.load(connection))
    text = stationtable.write(book) if form == "csv" else stationfile.write(book)
    if file is None:
        sys.stdout.write(text)
    else:
        file.write_text(text, encoding="utf-8")
        err.print(f"[green]✓[/] {file}", highlight=False)


@stations.command("add")
def stations_add(
    key: Annotated[str, typer.Argument(help="站点编号 · station key, a-z 0-9 -")],
    lon: Annotated[float, typer.Option(help="经度 · longitude, degrees")],
    lat: Annotated[float, typer.Option(help="纬度 · latitude, degrees")],
    zh: Annotated[str, typer.Option(help="中文名 · Chinese name")] = "",
    en: Annotated[str, typer.Option(help="英文名 · English name")] = "",
    reach: Annotated[str, typer.Option(help="河段 · reach")] = "",
    water: Annotated[str, typer.Option(help="river | creek | lake")] = "river",
    region: Annotated[str, typer.Option(help="区域编码 · code of the region")] = "",
    every: Annotated[int, typer.Option(help="上报间隔秒数 · promised seconds between readings")] = 300,
    gateway: Annotated[str, typer.Option(help="共用数采仪 · shared logger")] = "",
    datum: Annotated[str, typer.Option(help="坐标系 · WGS 84 | GCJ-02")] = "WGS 84",
    by: By = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
) -> None:
    """登记一个站点 · Register a station."""
    loaded = _load(settings, data)
    row: dict[str, Any] = {"key": key, "lon": lon, "lat": lat, "water": water, "interval_s": every, "datum": datum}
    row |= {name: text for name, text in (("zh", zh), ("en", en), ("reach", reach), ("region", region)) if text}
    row |= {"gateway": gateway} if gateway else {}
    with _database(settings, data) as database, database.write() as connection:
        registry = registry_store.load(connection, catalogue())
        if key in registry:
            raise Refused(f"station {key} is registered already")
        made = stationbook.one("station", row, catalogue(), known=registry, box=loaded.box)
        registry_store.save_stations(connection, [made], _author(by))
    out.print(f"[green]✓[/] {made.key}: {made.zh} / {made.en} ({made.lon:.6f}, {made.lat:.6f})", highlight=False)


@stations.command("hang")
def stations_hang(
    station: Annotated[str, typer.Argument(help="站点 · station key")],
    parameters: Annotated[list[str], typer.Argument(help="监测因子 · parameters it measures")],
    device: Annotated[str, typer.Option(help="序列号 · serial number")] = "",
    model: Annotated[str, typer.Option(help="型号 · model")] = "",
    manufacturer: Annotated[str, typer.Option(help="厂家 · manufacturer")] = "",
    unit: Annotated[str, typer.Option(help="上报单位，默认标准单位 · unit it reports in")] = "",
    since: Annotated[str | None, typer.Option(help="自何时起（RFC 3339），默认现在 · default: now")] = None,
    depth_m: Annotated[float | None, typer.Option("--depth-m", help="水深 · metres below the surface")] = None,
    cycle_s: Annotated[int | None, typer.Option("--cycle-s", help="分析周期秒数 · an analyser's cycle")] = None,
    by: By = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
) -> None:
    """安装传感器，同一因子的旧传感器随之结束 · Hang a sensor; it takes over from the one before."""
    row: dict[str, Any] = {"station": station, "since": since or rfc3339(clock.now_ms())}
    row |= {name: text for name, text in (("device", device), ("unit", unit)) if text}
    row |= {name: value for name, value in (("depth_m", depth_m), ("cycle_s", cycle_s)) if value is not None}
    rows = [stationbook.Row("deployment", n, None, row | {"parameter": p}) for n, p in enumerate(parameters, 1)]
    if device:
        told = {"serial": device, "model": model, "manufacturer": manufacturer}
        rows.insert(0, stationbook.Row("device", 1, None, {name: text for name, text in told.items() if text}))
    with _database(settings, data) as database, database.write() as connection:
        registry = registry_store.load(connection, catalogue())
        taken = {(d.station, d.parameter, rfc3339(d.since_ms)) for d in registry.deployments}
        if again := [p for p in parameters if (station, p, row["since"]) in taken]:
            raise Refused(f"{again[0]} at {station} has a deployment since {row['since']} already")
        made = stationbook.made(rows, catalogue(), known=Book(registry)).registry
        known = {d.serial for d in registry.devices}
        if not (model or manufacturer) and device in known:
            made = dataclasses.replace(made, devices=())
        registry_store.save(connection, made, _author(by))
    for one in made.deployments:
        out.print(f"[green]✓[/] {one}, {one.unit}", highlight=False)


@stations.command("changes")
def stations_changes(
    key: Annotated[str | None, typer.Argument(help="编号 · a key; a station's finds what hangs there, too")] = None,
    what: Annotated[str | None, typer.Option(help="种类 · station, deployment, calibration, visit …")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    settings: SettingsFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """登记变更记录：谁、何时、由何改为何 · Who changed what of the registry, newest first."""
    with _database(settings, data) as database, database.read() as connection:
        found = changes_.listing(connection, what=what, key=key, limit=limit)
    if as_json:
        out.print_json(data=[dataclasses.asdict(one) for one in found])
        return
    table = Table()
    for name in ("编号 no.", "时间 when", "谁 by", "对象 what", "由 → 为 old → new"):
        table.add_column(name, overflow="fold")
    for one in found:
        when = "" if one.at_ms is None else beijing(one.at_ms, "%Y-%m-%d %H:%M")
        table.add_row(str(one.id), when, escape(one.by), escape(f"{one.what} {one.key}"), escape(_told(one)))
    out.print(table)


def _told(change: changes_.Change) -> str:
    """What is new, or what became of what."""
    if change.before is None:
        return ", ".join(f"{name}: {value}" for name, value in change.after.items() if value not in ("", None, []))
    before = change.before
    moved = {name: value for name, value in change.after.items() if before.get(name) != value}
    return ", ".join(f"{name}: {before.get(name)} → {value}" for name, value in moved.items())


@stations.command("qr")
def stations_qr(
    to: Annotated[Path, typer.Option("--out", help="目标 PDF · file to write")] = Path("labels.pdf"),
    keys: Annotated[list[str] | None, typer.Argument(help="站点，默认全部 · stations; all where none is given")] = None,
    url: Annotated[
        str | None, typer.Option(help="控制台地址，默认 grafana.console_url · address a phone can reach")
    ] = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
) -> None:
    """站点标签（A4，二维码）· Labels to stick on: a printable A4 sheet with QR codes."""
    from riverchief import labels

    loaded = _load(settings, data)
    with _database(settings, data) as database, database.read() as connection:
        registry = registry_store.load(connection, catalogue())
    if unknown := sorted(set(keys or ()) - set(registry.index)):
        raise NotFound(f"station {unknown[0]!r} is not registered")
    chosen = [s for s in registry.stations if not keys or s.key in keys]
    pages = labels.write(to, chosen, url or loaded.grafana.console_url, loaded.site.name)
    out.print(f"[green]✓[/] {to}: {len(chosen)} 张 labels, {pages} 页 pages", highlight=False)


@stations.command("list")
def stations_list(settings: SettingsFile = None, data: DataFolder = None, as_json: AsJson = False) -> None:
    """列出站点 · List the stations."""
    with _database(settings, data) as database, database.read() as connection:
        registry = registry_store.load(connection, catalogue())
    if as_json:
        out.print_json(data=[dataclasses.asdict(s) for s in registry.stations])
        return
    table = Table()
    for name in ("站点 key", "名称 name", "河段 reach", "间隔 interval"):
        table.add_column(name)
    for s in registry.stations:
        table.add_row(s.key, f"{s.zh} / {s.en}", s.reach, f"{s.interval_s} s")
    out.print(table)


@stations.command("provision")
def stations_provision(
    station: Annotated[str, typer.Argument(help="站点 · station key")],
    to: Annotated[Path | None, typer.Option("--out", help="写入文件（仅本人可读） · into a file only you read")] = None,
    others_end_in: Annotated[
        float | None,
        typer.Option(min=0, max=720, help="其余登录几小时后失效，0 立即 · hours until the other logins end, 0 at once"),
    ] = None,
    by: By = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """为设备开通登录，并列出所需的一切；密码只显示一次 · A login for a device, and all it needs; shown once."""
    from riverchief import provision
    from riverchief.broker_users import endpoint

    loaded = _load(settings, data)
    where = endpoint(loaded)
    ends = None if others_end_in is None else round(others_end_in * 3600)
    with _database(settings, data) as database:
        issued = _credentials(loaded, database).issue(station, _author(by).by, others_end_in_s=ends)
        with database.read() as connection:
            parameters = registry_store.load(connection, catalogue())[station].parameters
    sheet = provision.sheet(issued, where, parameters, clock.now_ms())
    text = json.dumps(sheet, ensure_ascii=False, indent=2) + "\n" if as_json else provision.told(sheet, "ca.pem")
    if to is None:
        sys.stdout.write(text)
    else:
        provision.write(to, text)
        out.print(f"[green]✓[/] {issued.user} → {to}", highlight=False, soft_wrap=True)


@stations.command("revoke")
def stations_revoke(
    station: Annotated[str, typer.Argument(help="站点 · station key")],
    user: Annotated[str | None, typer.Argument(help="用户；不给则全部 · the user; none means all of them")] = None,
    by: By = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
) -> None:
    """收回登录，在线设备立即断开 · Take logins away; a connected device is cut off at once."""
    from ingest import credentials as credentials_

    loaded = _load(settings, data)
    with _database(settings, data) as database:
        with database.read() as connection:
            known = credentials_.listing(connection, station)
        # all of them: also the one by the station's own key, which `setup device` makes and nobody has listed
        users = [user] if user else [station, *(one.user for one in known if one.revoked_at_ms is None)]
        making = _credentials(loaded, database)
        for one in users:
            making.revoke(station, one, _author(by).by)
            out.print(f"[green]✓[/] {one}", highlight=False)


@claims.command("make")
def claims_make(
    keys: Annotated[
        list[str] | None, typer.Argument(help="站点；不给则所有尚无的 · stations; none means all that have none")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="有效天数 · days until it ends")] = claims_.DAYS,
    by: By = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """生成标签密钥，设备凭它领取一次登录；只显示一次 · Secrets for labels; a device claims its login by it, once."""
    now_ms, author = clock.now_ms(), _author(by)
    with _database(settings, data) as database, database.write() as connection:
        have = claims_.waiting(connection, now_ms)
        everyone = [s.key for s in registry_store.load(connection, catalogue()).stations]
        wanted = keys or [key for key in everyone if key not in have]
        made = [claims_.make(connection, key, author.by, now_ms, days) for key in wanted]
    if as_json:
        sys.stdout.write(json.dumps([dataclasses.asdict(one) for one in made], indent=2) + "\n")
        return
    for one in made:
        out.print(f"{one.station}  {one.secret}  → {beijing(one.expires_at_ms, '%Y-%m-%d')}", highlight=False)


@claims.command("list")
def claims_list(settings: SettingsFile = None, data: DataFolder = None, as_json: AsJson = False) -> None:
    """尚可使用的标签密钥（不显示密钥） · Stations whose secret may still be used; the secrets are not shown."""
    with _database(settings, data) as database, database.read() as connection:
        waiting = claims_.waiting(connection, clock.now_ms())
    if as_json:
        out.print_json(data=waiting)
        return
    for key, expires_at_ms in waiting.items():
        out.print(f"{key}  → {beijing(expires_at_ms, '%Y-%m-%d')}", highlight=False)


@dashboards.command("build")
def dashboards_build(
    folder: Annotated[Path, typer.Argument(help="目标目录 · folder to write to")] = Path("dashboards/generated"),
    settings: SettingsFile = None,
) -> None:
    """由代码生成仪表盘 JSON · Write the dashboards as Grafana reads them."""
    from dashboards import catalogue as boards
    from dashboards import parts

    folder.mkdir(parents=True, exist_ok=True)
    for board in boards.build(_load(settings).grafana.console_url):
        file = folder / f"{board.uid}.json"
        file.write_text(parts.text(board), encoding="utf-8")
        out.print(str(file), highlight=False, soft_wrap=True)


@dashboards.command("publish")
def dashboards_publish(
    settings: SettingsFile = None,
    force: Annotated[
        bool, typer.Option("--force", help="覆盖在 Grafana 中改过的 · overwrite what was edited in Grafana")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """发布仪表盘到 Grafana；再次发布不改变任何东西 · Put the dashboards into Grafana; twice changes nothing."""
    from dashboards import catalogue as boards
    from dashboards import parts
    from riverchief import grafana

    chosen = _load(settings).grafana
    if chosen.url is None:
        raise ConfigurationError("grafana.url is not set: there is no Grafana to publish to")
    published = grafana.publish(
        [parts.plain(board) for board in boards.build(chosen.console_url)],
        url=chosen.url,
        token=settings_.secret(chosen.token, chosen.token_file),
        force=force,
    )
    if as_json:
        out.print_json(data=[dataclasses.asdict(one) for one in published])
        return
    for one in published:
        out.print(f"{one.uid:14} {one.done:10} {one.url}", highlight=False, soft_wrap=True)


@app.command()
def classify(
    file: Annotated[Path, typer.Argument(help="表格 · a table: .csv, .csv.gz, .xlsx, .parquet")],
    water_body: Annotated[Water, typer.Option("--water-body", help="河流或湖库 · whose limits count")] = Water.RIVER,
    to: Annotated[Path | None, typer.Option("--out", help="输出文件，默认标准输出 · default: CSV to stdout")] = None,
    items: Annotated[
        str, typer.Option(help="评价项目 · table | national (21) | real-time (5) | keys, with commas")
    ] = "table",
    saturation: Annotated[
        bool, typer.Option("--saturation", help="饱和率90%即Ⅰ类 · 90 % saturation is class I too (needs temperature)")
    ] = False,
    rounded: Annotated[bool, typer.Option("--rounded", help="先按标准修约 · round half to even first")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="无法识读即报错 · an unreadable cell is an error")] = False,
    as_json: AsJson = False,
) -> None:
    """按 GB 3838-2002 判定水质类别 · Add the class of water and what decides it to every row of a table."""
    from riverchief import classify as classify_

    options = classify_.Options(
        water_body, classify_.items(items), Oxygen.SATURATION if saturation else Oxygen.MG_L, rounded, strict
    )
    with progress_bar(file.name) as progress:
        summary = classify_.classify(file, to or sys.stdout.buffer, options, catalogue(), progress)
    if as_json:
        (out if to else err).print_json(data=dataclasses.asdict(summary))
    else:
        for line in classify_.told(summary):
            err.print(line, highlight=False, markup=False, soft_wrap=True)


@app.command()
def assess(
    file: Annotated[Path, typer.Argument(help="表格 · a table: .csv, .csv.gz, .xlsx, .parquet")],
    to: Annotated[Path, typer.Option("--out", help="可疑读数与事件 · where the flags go")],
    network: Annotated[
        list[str] | None,
        typer.Option("--network", help="上游>下游，或其文件 · a>b>c, or a file with such lines"),
    ] = None,
    offset: Annotated[
        str | None, typer.Option("--offset", help="未注明时区的时间，如 +08:00 · of times that say none; default UTC")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """检验一张表：哪些读数不可信，何时水质突变 · Which readings of a table are doubtful, and when the water changed."""
    from riverchief import assess as assess_

    edges, shift = assess_.network(network or ()), assess_.offset(offset)
    with progress_bar(file.name) as progress:
        summary = assess_.assess_file(file, to, catalogue(), network=edges, offset=shift, progress=progress)
    if as_json:
        out.print_json(data=dataclasses.asdict(summary))
    else:
        for line in assess_.told(summary):
            err.print(line, highlight=False, markup=False, soft_wrap=True)


@app.command()
def backup(
    target: Annotated[Path | None, typer.Argument(help="目标目录 · default: backups in the data folder")] = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
    keep: Annotated[int | None, typer.Option(min=1, help="只留最新几份 · keep the newest only")] = None,
    archive: Annotated[bool, typer.Option(help="连同归档月份 · with the archived months")] = True,
    as_json: AsJson = False,
) -> None:
    """备份，不停机并经核对 · Back up while everything runs; verified before it gets its name."""
    from riverchief import backup as backup_

    loaded = _load(settings, data)
    with progress_bar("备份 backup") as progress:
        made = backup_.take(loaded, target or loaded.data / "backups", keep=keep, archive=archive, progress=progress)
    if as_json:
        out.print_json(data=made.as_json())
        return
    rows = sum(made.manifest.rows.values())
    out.print(f"[green]✓[/] {made.folder}: {rows:,} 行 rows, {made.bytes / 2**20:,.1f} MiB", soft_wrap=True)
    for name, how in made.manifest.left_out.items():
        out.print(f"  未含 not included: {escape(f'{name}: {how}')}", highlight=False, soft_wrap=True)


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(help="备份目录 · a folder that `riverchief backup` made")],
    settings: SettingsFile = None,
    data: DataFolder = None,
    replace: Annotated[bool, typer.Option("--replace", help="现有数据改名留存 · put aside what is there")] = False,
    as_json: AsJson = False,
) -> None:
    """恢复备份，先停止其他进程 · Restore a backup; nothing else may run meanwhile."""
    from riverchief import restore as restore_

    loaded = _load(settings, data)
    with progress_bar("恢复 restore") as progress:
        done = restore_.restore(loaded, source, replace=replace, progress=progress)
    if as_json:
        out.print_json(data=done.as_json())
        return
    rows = sum(done.manifest.rows.values())
    out.print(f"[green]✓[/] {escape(done.database)}: {rows:,} 行 rows, {done.manifest.taken_at}", soft_wrap=True)
    for place in done.aside:
        out.print(f"  原有数据 what was there: {escape(place)}", highlight=False, soft_wrap=True)
    for name, how in done.manifest.left_out.items():
        out.print(f"  另行恢复 to be restored apart: {escape(f'{name}: {how}')}", highlight=False, soft_wrap=True)
    out.print(
        "接下来 next: riverchief ledger --day all --verify，再启动 then start；"
        f"设置见 the settings are in {escape(str(source / 'settings'))}",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def archive(
    before: Annotated[str | None, typer.Option(help="此月之前，默认按 keep_days · months before YYYY-MM")] = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """整月读数移出数据库，核对后删除 · Move whole months out of the database, compared before they are deleted."""
    from ingest.storage import retention
    from ingest.storage.archive import bounds
    from riverchief.stores import open_stores

    loaded = _load(settings, data)
    known = catalogue()
    keep_days = loaded.readings.keep_days
    if before is None and not keep_days:
        raise ConfigurationError("say --before YYYY-MM, or set readings.keep_days: so far everything is kept")
    now_ms = clock.now_ms()
    edge_ms = bounds(before)[0] if before else retention.due(keep_days, now_ms)
    rules_ = files.read_rules(loaded.site.rules, known)
    kept_days = max(0, (now_ms - edge_ms) // DAY_MS) if before else keep_days
    retention.check(kept_days, max(rules_.lookback_s(p.key) for p in known.parameters))
    with _database(settings, data) as database, progress_bar("归档 archive") as progress:
        keeper = open_stores(loaded, database, known).keeper
        if keeper is None:
            raise ConfigurationError("readings.archive (or influx.url) must say where older readings go")
        moved = retention.move_out(database, known, keeper, edge_ms, progress=progress)
    if as_json:
        out.print_json(data=dataclasses.asdict(moved))
    else:
        out.print(f"[green]✓[/] {moved.readings:,} 条读数移出 readings moved: {', '.join(moved.months) or '无 none'}")
        for key, month in moved.refused[:10]:
            err.print(f"[yellow]![/] {key} {month}: 长期库不全，留在数据库 · not all held elsewhere, stays")
    raise typer.Exit(1 if moved.refused else 0)


@app.command()
def check(settings: SettingsFile = None, data: DataFolder = None) -> None:
    """检查设置、规则、站点和报文映射，不启动 · Check settings, rules, stations and mappings; start nothing."""
    loaded = _load(settings, data)
    known = catalogue()
    serve.mqtt_settings(loaded)
    found = files.read_rules(loaded.site.rules, known)
    files.read_mappings(loaded.ingest.mappings, known)
    usual_secret = settings_.secret(loaded.outbox.secret, loaded.outbox.secret_file)
    files.read_platforms(loaded.platforms.file, usual_secret)
    messages.directory(loaded)
    if loaded.site.stations is not None:
        files.read_stations(loaded.site.stations, known)
    out.print(f"[green]✓[/] 设置有效 settings are valid; {len(found)} 条规则 rules")


@app.command()
def doctor(settings: SettingsFile = None, data: DataFolder = None, as_json: AsJson = False) -> None:
    """逐项检查各连接并说明如何处理 · Try every connection and say what to do; exit code 1 when something fails."""
    from riverchief.doctor import Level, examine, unreadable

    marks = {Level.OK: "[green]✓[/]", Level.WARNING: "[yellow]![/]", Level.FAILURE: "[red]✗[/]"}
    try:
        loaded = _load(settings, data)
    except ConfigurationError as error:
        found = [unreadable(error)]
    else:
        with err.status("检查中 examining …"):
            found = examine(loaded)
    failed = any(one.level is Level.FAILURE for one in found)
    if as_json:
        out.print_json(data={"ok": not failed, "findings": [dataclasses.asdict(one) for one in found]})
    else:
        for one in found:
            out.print(f"{marks[one.level]} {escape(one.text.zh)}", highlight=False, soft_wrap=True)
            out.print(f"  [dim]{escape(one.text.en)}[/]", highlight=False, soft_wrap=True)
            if one.advice is not None:
                out.print(f"  → {escape(one.advice.zh)}", highlight=False, soft_wrap=True)
                out.print(f"  [dim]→ {escape(one.advice.en)}[/]", highlight=False, soft_wrap=True)
    raise typer.Exit(1 if failed else 0)


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="assess | devices | ingest | latency | store")],
    json_: Annotated[Path | None, typer.Option("--json", help="结果写入 JSON · write the result as JSON")] = None,
    seconds: Annotated[float, typer.Option(min=2, max=600, help="测量时长 · how long to measure")] = 15.0,
    stations: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="站点数 · stations; default 500, devices: 50,000")
    ] = None,
    broker: Annotated[str | None, typer.Option(help="mosquitto | nats")] = None,
    rate: Annotated[
        float | None, typer.Option(help="latency: 消息/秒，默认峰值一半 · messages/s, default half the top")
    ] = None,
    readings: Annotated[
        int, typer.Option(min=100_000, max=200_000_000, help="store: 写入读数 · readings to write")
    ] = 5_000_000,
) -> None:
    """基准测试 · Benchmarks: the machine, the versions, and a ratio measured in the same run."""
    from riverchief.bench import BENCHES, Plan

    if name not in BENCHES:
        raise ConfigurationError(f"no benchmark {name!r}; there are {', '.join(sorted(BENCHES))}")
    logs.configure(settings_.LogSection(level="warning"))
    result = BENCHES[name](
        Plan(seconds, stations or (50_000 if name == "devices" else 500), broker, rate, readings), err
    )
    out.print_json(data=result)
    if json_ is not None:
        json_.write_text(json.dumps(result, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


# -- HJ 212 ----------------------------------------------------------------------------------------------------------


@hj212.command("decode")
def hj212_decode() -> None:
    """从标准输入读报文，每帧输出一行 JSON · Frames on stdin; one JSON object a frame, a summary on stderr."""
    from riverchief import hj212_cli

    hj212_cli.run()


@hj212_devices.command("add")
def hj212_devices_add(
    mn: Annotated[str, typer.Argument(help="设备唯一标识 · MN")],
    station: Annotated[str, typer.Argument(help="站点 · station key")],
    password: Annotated[str | None, typer.Option(help="访问密码 PW；不给则从标准输入读 · read from stdin")] = None,
    any_password: Annotated[bool, typer.Option("--any-password", help="不核对密码 · do not check PW")] = False,
    st: Annotated[str, typer.Option(help="系统编码，21 地表水 · system code, 21 is surface water")] = "21",
    edition: Annotated[int, typer.Option(help="2005 | 2017 | 2025")] = 2017,
    by: By = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
) -> None:
    """登记或更改数采仪 · Register a logger, or change what is known of it."""
    from ingest.storage import loggers
    from sensors.wire.hj212.readings import Logger

    if password is None and not any_password:
        password = typer.prompt("PW", hide_input=sys.stdin.isatty())
    with _database(settings, data) as database, database.write() as connection:
        logger = Logger(mn, station, None if any_password else password, st, edition)
        loggers.save(connection, logger, _author(by))
    out.print(f"[green]✓[/] {mn} → {station}", highlight=False)


@hj212_devices.command("list")
def hj212_devices_list(settings: SettingsFile = None, data: DataFolder = None, as_json: AsJson = False) -> None:
    """列出数采仪，不显示密码 · List the loggers; passwords are not shown."""
    from ingest.storage import loggers

    with _database(settings, data) as database, database.read() as connection:
        known = loggers.load(connection).values()
    if as_json:
        names = ("mn", "station", "st", "edition", "last_at_ms")
        rows = [{n: getattr(one, n) for n in names} | {"password": one.password is not None} for one in known]
        out.print_json(data=rows)
        return
    table = Table()
    for name in ("MN", "站点 station", "ST", "版本 edition", "密码 password", "最新数据 newest data"):
        table.add_column(name, overflow="fold", no_wrap=name == "MN")
    for one in known:
        checked = "不核对 any" if one.password is None else "核对 checked"
        newest = "" if one.last_at_ms is None else beijing(one.last_at_ms, "%Y-%m-%d %H:%M")
        table.add_row(one.mn, one.station, one.st, str(one.edition), checked, newest)
    out.print(table)


@hj212_devices.command("remove")
def hj212_devices_remove(mn: str, by: By = None, settings: SettingsFile = None, data: DataFolder = None) -> None:
    """注销数采仪，读数保留 · Forget a logger; its readings stay."""
    from ingest.storage import loggers

    with _database(settings, data) as database, database.write() as connection:
        loggers.remove(connection, mn, _author(by))
    out.print(f"[green]✓[/] {mn}", highlight=False)


@app.command("migrate")
def migrate_command(
    source: Annotated[str, typer.Option("--from", help="原库地址 · URL of the database to copy")],
    target: Annotated[str, typer.Option("--to", help="新的空库地址 · URL of a new, empty database")],
    as_json: AsJson = False,
) -> None:
    """换库：SQLite 与 PostgreSQL 互迁，逐行核对 · Copy a site into another database; every row is compared."""
    from riverchief import migrate

    with progress_bar("迁移 migrate") as progress:
        moved = migrate.move(source, target, catalogue(), progress)
    if as_json:
        out.print_json(data=dataclasses.asdict(moved))
        return
    for name, rows in moved.rows.items():
        out.print(f"  {name}: {rows:,}", highlight=False)
    if moved.mended:
        out.print(f"  {moved.mended:,} 处空字符改写为 \\x00 · NUL characters are written as \\x00", highlight=False)
    rows = sum(moved.rows.values())
    out.print(
        f"[green]✓[/] {rows:,} 行 rows, {moved.readings:,} 条读数 readings, {moved.seconds:.1f} s；"
        "逐行一致，现在可将 database.url 指向新库 every row is the same; database.url may now name the new one",
        soft_wrap=True,
        highlight=False,
    )


# -- first set-up ----------------------------------------------------------------------------------------------------

SecretsFolder = Annotated[Path, typer.Argument(help="密钥目录 · folder of the secrets")]


@setup.command("secrets")
def setup_secrets(
    folder: SecretsFolder,
    names: Annotated[
        list[str],
        typer.Option("--name", help="代理的主机名或地址，可用逗号 · names or addresses of the broker; commas allowed"),
    ],
) -> None:
    """生成密钥、证书和代理的首个用户 · Random secrets, certificate and first users; what is there stays."""
    from riverchief import setup as setup_

    wanted = sorted({name.strip() for given in names for name in given.split(",")} - {""})
    made = setup_.prepare(folder, wanted, datetime.now(UTC))
    out.print(f"{folder}: {', '.join(made) or '已齐备，未作更改 · complete, nothing changed'}", soft_wrap=True)


@setup.command("tls")
def setup_tls(
    folder: SecretsFolder,
    certificate: Annotated[Path, typer.Option(help="证书链 PEM · certificate with its chain")],
    key: Annotated[Path, typer.Option(help="私钥 PEM · its private key")],
    authority: Annotated[Path | None, typer.Option(help="设备应信任的机构 · authority that devices trust")] = None,
) -> None:
    """代理改用自备证书 · Give the broker a certificate of your own; restart it afterwards."""
    from riverchief import setup as setup_

    setup_.install_certificate(folder, certificate, key, authority)
    out.print("证书已安装，请重启代理 · installed; restart the broker")


@setup.command("broker")
def setup_broker(
    admin_password_file: Annotated[Path, typer.Option(help="代理管理员密码 · password of the broker's administrator")],
    simulator: Annotated[
        bool, typer.Option("--simulator", help="用户是模拟器 · the user is the simulator, not the ingest")
    ] = False,
    settings: SettingsFile = None,
) -> None:
    """为接入建立用户和权限 · Give the ingest its user and rights (dynamic-security plugin)."""
    from riverchief import setup as setup_
    from riverchief.broker_admin import ingest_role, simulator_role

    loaded = _load(settings)
    password = settings_.secret(loaded.mqtt.password, loaded.mqtt.password_file)
    if loaded.mqtt.user is None or password is None:
        raise ConfigurationError("mqtt.user and its password are needed: they are what is signed in with")
    stations = files.read_stations(loaded.site.stations, catalogue()).stations if simulator else ()
    mapped = files.read_mappings(loaded.ingest.mappings, catalogue()).topics
    role = simulator_role([s.key for s in stations]) if simulator else ingest_role(mapped)
    setup_.broker(_broker_address(loaded), _admin_password(admin_password_file), loaded.mqtt.user, password, role)
    out.print(f"[green]✓[/] 用户 user {loaded.mqtt.user}")


@setup.command("device")
def setup_device(
    station: Annotated[str, typer.Argument(help="站点 · station key")],
    admin_password_file: Annotated[Path, typer.Option(help="代理管理员密码 · password of the broker's administrator")],
    certificate: Annotated[
        Path | None, typer.Option(help="改发证书，写入此目录 · a certificate instead, written into this folder")
    ] = None,
    secrets: Annotated[
        Path | None, typer.Option(help="密钥目录，签发证书用 · folder of the secrets, to sign the certificate")
    ] = None,
    settings: SettingsFile = None,
) -> None:
    """设备登录：用户名为站点，密码只显示一次 · A device's login; the password is shown once."""
    from riverchief import setup as setup_

    if not STATION.fullmatch(station):
        raise ConfigurationError(f"{station!r} is not the key of a station: 1 to 64 of a-z, 0-9 and -")
    address = _broker_address(_load(settings))
    if certificate is not None:
        if secrets is None:
            raise ConfigurationError("--certificate needs --secrets: the authority that signs lies there")
        password = _admin_password(admin_password_file)
        for file in setup_.device_certificate(secrets, address, password, station, certificate, datetime.now(UTC)):
            out.print(f"[green]✓[/] {file}", highlight=False, soft_wrap=True)
        return
    password = setup_.device(address, _admin_password(admin_password_file), station)
    out.print(f"用户 user: {station}\n密码 password: {password}", highlight=False, markup=False)


def _admin_password(file: Path) -> str:
    return settings_.secret(None, file) or ""


def _credentials(loaded: Settings, database: Any) -> Credentials:
    """Who makes the logins of devices; raises ConfigurationError where no broker is administered."""
    from riverchief.broker_users import broker_users

    users = broker_users(loaded)
    if users is None:
        raise ConfigurationError(
            "no broker is administered from here: set [broker_admin] in the settings, or make the login on the broker "
            "itself (riverchief setup device)"
        )
    return Credentials(database, users, clock.now_ms)


def _broker_address(loaded: Settings) -> Address:
    if loaded.mqtt.tls and loaded.mqtt.ca_file is None:
        raise ConfigurationError("mqtt.tls needs mqtt.ca_file here: the broker's administrator trusts no one else")
    return Address(loaded.mqtt.host, loaded.mqtt.port, loaded.mqtt.ca_file)


@setup.command("database")
def setup_database(
    settings: SettingsFile = None,
    data: DataFolder = None,
    reader: Annotated[str | None, typer.Option(help="仪表盘的只读用户 · the dashboards' own user")] = None,
) -> None:
    """建立或升级库表 · Make or upgrade the tables; let the dashboards read theirs."""
    from riverchief import setup as setup_

    with _database(settings, data) as database:
        if reader is not None:
            setup_.grant_reading(database, reader)
        out.print(f"[green]✓[/] {database.url.render_as_string(hide_password=True)}", highlight=False)


@setup.command("influx")
def setup_influx(
    settings: SettingsFile = None,
    secrets: Annotated[
        Path | None, typer.Option(help="密钥目录：以管理员设置并发放令牌 · be the administrator, hand out tokens")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="自北京时间此日起重算小时与日值 · make hours and days again since YYYY-MM-DD")
    ] = None,
    refill: Annotated[
        bool, typer.Option("--refill", help="服务器丢失数据后全部重发 · send everything again to a server that lost it")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """时序库：建库、保留期、小时与日汇总 · Databases, retention, hours and days on the time-series server."""
    from ingest.storage import influx_setup
    from ingest.storage.timeseries import TimeSeriesServer
    from riverchief import setup as setup_
    from riverchief import stores

    loaded = _load(settings)
    server = stores.time_series_server(loaded)
    if server is None:
        raise ConfigurationError("influx.url is empty: there is no time-series server to set up")
    if secrets is not None:
        signed_in = dataclasses.replace(server.settings, token=setup_.influx_admin_token(secrets))
        server = TimeSeriesServer(signed_in)
    influx = loaded.influx
    plan = influx_setup.Plan(influx.raw_days, influx.hourly_days, influx.daily_days, catalogue())
    marks = {influx_setup.Did.KEPT: "·", influx_setup.Did.BY_HAND: "[yellow]![/]"}
    steps = []
    with server:
        for step in influx_setup.set_up(server, plan):
            steps.append({"what": step.what, "did": step.did.value, "zh": step.note.zh, "en": step.note.en})
            if not as_json:
                mark = marks.get(step.did, "[green]✓[/]")
                out.print(f"{mark} {step.what}: {step.note.zh} · {step.note.en}", highlight=False, soft_wrap=True)
        written = [] if secrets is None else setup_.influx_tokens(secrets, server)
        if since is not None:
            first = to_ms(datetime.fromisoformat(f"{_day(since)}T00:00:00+08:00"))
            with progress_bar("小时与日值 hours and days") as told:
                now = clock.now_ms()
                for done in influx_setup.make_again(server, catalogue(), first, now):
                    told((done - first) / max(now - first, 1))
    again = _refill(loaded) if refill else None
    if as_json:
        out.print_json(data={"steps": steps, "written": written, "refilled": again})
    else:
        for file in written:
            out.print(f"[green]✓[/] {file}", highlight=False)
        if again is not None:
            out.print(f"[green]✓[/] {again:,} 条读数排队重发 · readings wait in the spool to be sent again")


def _refill(loaded: Settings) -> int:
    """Put everything into the spool again; the number of readings."""
    from ingest.refill import Refill
    from riverchief.stores import open_stores

    total = 0
    database = serve.open_database(loaded)
    try:
        stores = open_stores(loaded, database, catalogue())
        if stores.spool is None:
            raise ConfigurationError("influx.url is empty: there is no time-series server to fill again")
        with progress_bar("重发 refill") as told:
            work = Refill(database, stores.recent, stores.spool, archive=stores.archive, wait=time.sleep)
            for share, readings in work.run():
                told(share)
                total = readings
    finally:
        database.close()
    return total


# -- helpers ---------------------------------------------------------------------------------------------------------


def _author(by: str | None) -> Author:
    """Whoever is named, or whoever is logged in."""
    return Author(by or who(), clock.now_ms())


@contextmanager
def _database(settings: Path | None, data: Path | None) -> Iterator[Database]:
    with opened(load(settings, data)) as database:
        yield database
