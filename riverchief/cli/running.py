"""``riverchief demo``, ``serve``, ``ingest``, ``api``, ``worker``, ``check``, ``doctor`` and ``bench``."""

import dataclasses
import json
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from infra.errors import ConfigurationError
from infra.texts import line, say
from riverchief import logs
from riverchief import settings as settings_
from riverchief.cli.commands import Commands
from riverchief.cli.options import AsJson, DataFolder, SettingsFile, load
from riverchief.settings import Settings
from riverchief.terminal import err, out, save
from sensors.parameters import catalogue

app = Commands()


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
    broker: Annotated[str | None, typer.Option(help="代理程序 mosquitto 或 nats · broker: mosquitto or nats")] = None,
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
    _run(_on_port(settings, data, port))


def _run(settings: Settings, role: str | None = None) -> None:
    """Run one role or all; what is needed for it takes seconds to load, wrong settings are refused before."""
    from riverchief import serve

    serve.run(settings, serve.Role[role] if role else serve.ALL_ROLES)


def _on_port(settings: Path | None, data: Path | None, port: int | None) -> Settings:
    return load(settings, data) if port is None else load(settings, data, api={"port": port})


@app.command("ingest")
def ingest_command(settings: SettingsFile = None, data: DataFolder = None) -> None:
    """只运行接入 · Ingest alone."""
    _run(load(settings, data), "INGEST")


@app.command("api")
def api_command(
    settings: SettingsFile = None,
    data: DataFolder = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="端口 · port")] = None,
) -> None:
    """只运行接口和控制台 · API and console alone."""
    _run(_on_port(settings, data, port), "API")


@app.command("worker")
def worker_command(settings: SettingsFile = None, data: DataFolder = None) -> None:
    """只运行投递 · Deliveries alone."""
    _run(load(settings, data), "WORKER")


@app.command()
def check(settings: SettingsFile = None, data: DataFolder = None) -> None:
    """检查设置、规则、站点和报文映射，不启动 · Check settings, rules, stations and mappings; start nothing."""
    from riverchief import files

    loaded = load(settings, data)
    parameters = catalogue()
    settings_.secret(loaded.mqtt.password, loaded.mqtt.password_file)
    found = files.read_rules(loaded.site.rules, parameters)
    files.read_mappings(loaded.ingest.mappings, parameters)
    usual_secret = settings_.secret(loaded.outbox.secret, loaded.outbox.secret_file)
    files.read_platforms(loaded.platforms.file, usual_secret)
    if loaded.notices.contacts is not None:
        files.read_contacts(loaded.notices.contacts)
    if loaded.site.stations is not None:
        files.read_stations(loaded.site.stations, parameters)
    out.print(f"[green]✓[/] {line('settings.valid', rules=len(found))}")


@app.command()
def doctor(settings: SettingsFile = None, data: DataFolder = None, as_json: AsJson = False) -> None:
    """逐项检查各连接并说明如何处理 · Try every connection and say what to do; exit code 1 when something fails."""
    from riverchief.doctor import Level, examine, settings_unreadable

    marks = {Level.OK: "[green]✓[/]", Level.WARNING: "[yellow]![/]", Level.FAILURE: "[red]✗[/]"}
    try:
        loaded = load(settings, data)
    except ConfigurationError as error:
        found = [settings_unreadable(error)]
    else:
        with err.status(line("progress.examine")):
            found = examine(loaded)
    failed = any(one.level is Level.FAILURE for one in found)
    if as_json:
        findings = [dataclasses.asdict(one) | {"runbook": one.runbook} for one in found]
        out.print_json(data={"ok": not failed, "findings": findings})
    else:
        for one in found:
            out.print(f"{marks[one.level]} {escape(one.text.zh)}", highlight=False, soft_wrap=True)
            out.print(f"  [dim]{escape(one.text.en)}[/]", highlight=False, soft_wrap=True)
            if one.advice is not None:
                out.print(f"  → {escape(one.advice.zh)}", highlight=False, soft_wrap=True)
                out.print(f"  [dim]→ {escape(one.advice.en)}[/]", highlight=False, soft_wrap=True)
                out.print(f"  [dim]→ {one.runbook}[/]", highlight=False, soft_wrap=True)
    raise typer.Exit(1 if failed else 0)


@app.command()
def bench(
    name: Annotated[
        str,
        typer.Argument(
            help="测试项 · which: assess, console, devices, field, growth, ingest, latency, map, peers, ratios, store"
        ),
    ],
    json_: Annotated[Path | None, typer.Option("--json", help="结果写入 JSON · write the result as JSON")] = None,
    seconds: Annotated[float, typer.Option(min=2, max=600, help="测量时长 · how long to measure")] = 15.0,
    stations: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="站点数 · stations; default 500, map 5,000, devices 50,000")
    ] = None,
    broker: Annotated[str | None, typer.Option(help="代理程序 mosquitto 或 nats · broker: mosquitto or nats")] = None,
    rate: Annotated[
        float | None, typer.Option(help="latency: 消息/秒，默认峰值一半 · messages/s, default half the top")
    ] = None,
    readings: Annotated[
        int | None,
        typer.Option(min=100_000, max=200_000_000, help="store、growth: 写入读数 · readings; default 5 or 10 million"),
    ] = None,
    write: Annotated[bool, typer.Option(help="peers、growth: 写入 docs/performance.md · write the page")] = False,
) -> None:
    """基准测试 · Benchmarks: the machine, the versions, and a ratio measured in the same run."""
    benches = _benches()
    if name not in benches.BENCHES:
        raise ConfigurationError(say("command.no_bench", name=name, known=", ".join(benches.BENCHES)))
    logs.configure(settings_.LogSection(level="warning"))
    if stations is None:
        stations = {"devices": 50_000, "map": 5_000}.get(name, 500)
    if readings is None:
        readings = 10_000_000 if name == "growth" else 5_000_000
    result = benches.run(name, benches.Plan(seconds, stations, broker, rate, readings, write), err)
    out.print_json(data=result)
    if json_ is not None:
        save(json_, json.dumps(result, ensure_ascii=False, indent=2) + "\n")


def _benches() -> Any:
    """The benchmarks, which stand in ``tools/`` and are not installed."""
    try:
        return import_module("tools.bench")
    except ModuleNotFoundError as error:
        if error.name not in {"tools", "tools.bench"}:
            raise
        raise ConfigurationError(say("command.bench_checkout")) from error
