"""The command line: one function a command, each a thin skin over a part."""

import dataclasses
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from governance import outbox as outbox_
from ingest import ledger as ledger_
from ingest import quarantine as quarantine_
from ingest.pipeline import Receipt, Site
from ingest.storage import registry as registry_store
from ingest.storage.sqlite import SqliteReadings
from riverchief import clock, files, logs, serve
from riverchief import settings as settings_
from riverchief.settings import Settings
from sensors.errors import ConfigurationError, WaterError
from sensors.parameters import catalogue
from sensors.times import beijing, beijing_day

app = typer.Typer(
    help="河长智慧平台 · From a sensor in the river to a closed case.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
quarantine = typer.Typer(help="隔离区：未能使用的数据 · What could not be used.", no_args_is_help=True)
rules = typer.Typer(help="规则 · Rules.", no_args_is_help=True)
stations = typer.Typer(help="站点 · The registry.", no_args_is_help=True)
app.add_typer(quarantine, name="quarantine")
app.add_typer(rules, name="rules")
app.add_typer(stations, name="stations")
outbox = typer.Typer(help="外发箱：死信 · Deliveries that were given up.", no_args_is_help=True)
app.add_typer(outbox, name="outbox")
dashboards = typer.Typer(help="Grafana 仪表盘 · Dashboards.", no_args_is_help=True)
app.add_typer(dashboards, name="dashboards")

out = Console()
err = Console(stderr=True)

SettingsFile = Annotated[
    Path | None,
    typer.Option("--settings", "-c", help="设置文件 · settings file (config/settings.sample.toml explains)"),
]
DataFolder = Annotated[Path | None, typer.Option("--data", help="数据目录 · folder of the embedded store")]
AsJson = Annotated[bool, typer.Option("--json", help="机器可读 · machine-readable")]


def main() -> None:
    """The entry point: what we refuse is one sentence and exit code 2, never a traceback."""
    try:
        app()
    except WaterError as error:
        err.print(f"[red]✗[/] {error}", highlight=False, markup=True, soft_wrap=True)
        sys.exit(2 if isinstance(error, ConfigurationError) else 1)


def _load(settings: Path | None, data: Path | None = None, port: int | None = None) -> Settings:
    overrides: dict[str, Any] = {}
    if data is not None:
        overrides["data"] = data
    if port is not None:
        overrides["api"] = {"port": port}
    loaded = settings_.load(settings, **overrides)
    logs.configure(loaded.log)
    return loaded


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
        wrong = _recount(database, everything) if verify else {}
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


def _recount(database: Any, accounts: list[ledger_.Account]) -> dict[str, tuple[int, int]]:
    counted = SqliteReadings(database, catalogue()).count()
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
    loaded = _load(settings, data)
    known = catalogue()
    with serve.alone(loaded), _database(settings, data) as database:
        store = SqliteReadings(database, known)
        site = Site(database, store, files.read_rules(loaded.site.rules, known), known, source=loaded.site.source)
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
            results.append(
                {"id": one.id, "stored": receipt.stored, "duplicate": receipt.duplicate, **_refused(receipt)}
            )
    if as_json:
        out.print_json(data=results)
        return
    for r in results:
        out.print(
            f"{r['id']}: 入库 {r['stored']} · 重复 {r['duplicate']} · 再次被拒 {r['refused']}"
            f" / stored, duplicate, refused again {r.get('reasons', '')}"
        )


def _refused(receipt: Receipt) -> dict[str, Any]:
    return {
        "refused": len(receipt.rejected),
        "reasons": ", ".join(r.detail for r in receipt.rejected),
        "status": "replayed",
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


@rules.command("check")
def rules_check(file: Annotated[Path | None, typer.Argument(help="规则文件 · rules file")] = None) -> None:
    """检查规则文件 · Read a rules file and say what it says."""
    found = files.read_rules(file, catalogue())
    table = Table()
    for name in ("编号 id", "版本 version", "种类 kind", "紧急 colour", "内容 content"):
        table.add_column(name, overflow="fold")
    for t in found.thresholds:
        sign = ">" if t.side.sign > 0 else "<"
        text = f"{t.parameter} {sign} {t.limit:g}, {t.samples} x, {t.pending_s} s"
        text += f"; 恢复 clear {t.clear:g}, {t.keep_firing_s} s"
        table.add_row(t.id, t.version, "threshold", t.colour, text)
    for r in found.trends:
        sign = "+" if r.side.sign > 0 else "-"
        table.add_row(
            r.id, r.version, "trend", r.colour, f"{r.parameter} {sign}{r.per_hour:g}/h, {r.window_s // 3600} h"
        )
    for n in found.no_data:
        table.add_row(n.id, n.version, "no_data", n.colour, f"{n.intervals:g} x, ≥ {n.at_least_s} s")
    out.print(table)


@stations.command("import")
def stations_import(file: Path, settings: SettingsFile = None, data: DataFolder = None) -> None:
    """导入站点文件（TOML）· Import a registry file; changes nothing when a row is bad."""
    registry = files.read_stations(file, catalogue())
    with _database(settings, data) as database, database.write() as connection:
        registry_store.save(connection, registry)
    out.print(f"{len(registry.stations)} 个站点 stations, {len(registry.reaches)} 个河段 reaches")


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


@dashboards.command("build")
def dashboards_build(
    folder: Annotated[Path, typer.Argument(help="目标目录 · folder to write to")] = Path("dashboards/generated"),
) -> None:
    """由代码生成仪表盘 JSON · Write the dashboards as Grafana reads them."""
    from dashboards import platform

    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{platform.UID}.json"
    file.write_text(platform.build(), encoding="utf-8")
    out.print(str(file))


@app.command()
def check(settings: SettingsFile = None, data: DataFolder = None) -> None:
    """检查设置、规则和站点文件，不启动 · Check settings, rules and stations without starting anything."""
    loaded = _load(settings, data)
    known = catalogue()
    serve.mqtt_settings(loaded)
    found = files.read_rules(loaded.site.rules, known)
    if loaded.site.stations is not None:
        files.read_stations(loaded.site.stations, known)
    count = len(found.thresholds) + len(found.trends) + len(found.no_data)
    out.print(f"[green]✓[/] 设置有效 settings are valid; {count} 条规则 rules")


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="ingest | latency")],
    json_: Annotated[Path | None, typer.Option("--json", help="结果写入 JSON · write the result as JSON")] = None,
    seconds: Annotated[float, typer.Option(min=2, max=600, help="测量时长 · how long to measure")] = 15.0,
    stations: Annotated[int, typer.Option(min=1, max=20_000, help="站点数 · stations")] = 500,
    broker: Annotated[str | None, typer.Option(help="mosquitto | nats")] = None,
    rate: Annotated[
        float | None, typer.Option(help="latency: 消息/秒，默认峰值一半 · messages/s, default half the top")
    ] = None,
) -> None:
    """基准测试 · Benchmarks: the machine, the versions, and a ratio measured in the same run."""
    from riverchief.bench import BENCHES, Plan

    if name not in BENCHES:
        raise ConfigurationError(f"no benchmark {name!r}; there are {', '.join(sorted(BENCHES))}")
    logs.configure(settings_.LogSection(level="warning"))
    result = BENCHES[name](Plan(seconds, stations, broker, rate), err)
    out.print_json(data=result)
    if json_ is not None:
        json_.write_text(json.dumps(result, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


# -- helpers ---------------------------------------------------------------------------------------------------------


@contextmanager
def _database(settings: Path | None, data: Path | None) -> Iterator[Any]:
    database = serve.open_database(_load(settings, data))
    try:
        yield database
    finally:
        database.close()
