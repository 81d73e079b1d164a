"""``riverchief setup``: first set-up of a site; every step may be repeated."""

import dataclasses
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from infra import clock
from infra.errors import ConfigurationError
from infra.texts import join_on_line, line, named, say
from infra.times import to_ms
from riverchief import files
from riverchief import settings as settings_
from riverchief.brokers.mosquitto_admin import ADMIN, HEALTH, Address
from riverchief.cli.commands import Commands
from riverchief.cli.options import AsJson, DataFolder, SettingsFile, day_of, load, open_site, site_database
from riverchief.settings import Settings
from riverchief.terminal import out, progress_bar
from sensors.parameters import catalogue
from sensors.wire.telemetry import STATION

app = Commands("首次设置，可重复运行 · First set-up; each may be run again.")

SecretsFolder = Annotated[Path, typer.Argument(help="密钥目录 · folder of the secrets")]


@app.command("secrets")
def secrets(
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
    out.print(f"{folder}: {', '.join(made) or line('setup.complete')}", soft_wrap=True)


@app.command("tls")
def tls(
    folder: SecretsFolder,
    certificate: Annotated[Path, typer.Option(help="证书链 PEM · certificate with its chain")],
    key: Annotated[Path, typer.Option(help="私钥 PEM · its private key")],
    authority: Annotated[Path | None, typer.Option(help="设备应信任的机构 · authority that devices trust")] = None,
) -> None:
    """代理改用自备证书 · Give the broker a certificate of your own; restart it afterwards."""
    from riverchief import setup as setup_

    setup_.install_certificate(folder, certificate, key, authority)
    out.print(line("setup.installed"))


@app.command("broker")
def broker(
    admin_password_file: Annotated[Path, typer.Option(help="代理管理员密码 · password of the broker's administrator")],
    simulator: Annotated[
        bool, typer.Option("--simulator", help="用户是模拟器 · the user is the simulator, not the ingest")
    ] = False,
    settings: SettingsFile = None,
) -> None:
    """为接入建立用户和权限 · Give the ingest its user and rights (dynamic-security plugin)."""
    from riverchief import setup as setup_
    from riverchief.brokers.mosquitto_admin import ingest_role, simulator_role

    loaded = load(settings)
    password = settings_.secret(loaded.mqtt.password, loaded.mqtt.password_file)
    if loaded.mqtt.user is None or password is None:
        raise ConfigurationError(say("command.mqtt_user"))
    stations = files.read_stations(loaded.site.stations, catalogue()).stations if simulator else ()
    mapped = files.read_mappings(loaded.ingest.mappings, catalogue()).topics
    role = simulator_role([s.key for s in stations]) if simulator else ingest_role(mapped)
    setup_.broker(_broker_address(loaded), _admin_password(admin_password_file), loaded.mqtt.user, password, role)
    out.print(f"[green]✓[/] {named(say('credential_sheet.user'))} {loaded.mqtt.user}")


@app.command("device")
def device(
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
        raise ConfigurationError(say("command.no_key", station=station))
    loaded = load(settings)
    if _is_reserved(station, loaded):
        raise ConfigurationError(say("command.reserved_login", station=station))
    address = _broker_address(loaded)
    if certificate is not None:
        if secrets is None:
            raise ConfigurationError(say("command.certificate_secrets"))
        password = _admin_password(admin_password_file)
        for file in setup_.device_certificate(secrets, address, password, station, certificate, datetime.now(UTC)):
            out.print(f"[green]✓[/] {file}", highlight=False, soft_wrap=True)
        return
    password = setup_.device(address, _admin_password(admin_password_file), station)
    out.print(
        f"{named(say('credential_sheet.user'))}: {station}\n{named(say('credential_sheet.password'))}: {password}",
        highlight=False,
        markup=False,
    )


def _is_reserved(name: str, loaded: Settings) -> bool:
    """Whether a device of this name would take a login of the platform, or on Mosquitto a session of the ingest."""
    logins = (loaded.mqtt.user, loaded.broker_admin.user, ADMIN, HEALTH)
    return name in logins or name.startswith(loaded.mqtt.client_id)


def _admin_password(file: Path) -> str:
    return settings_.secret(None, file) or ""


def _broker_address(loaded: Settings) -> Address:
    if loaded.mqtt.tls and loaded.mqtt.ca_file is None:
        raise ConfigurationError(say("broker.needs_ca"))
    return Address(loaded.mqtt.host, loaded.mqtt.port, loaded.mqtt.ca_file)


@app.command("database")
def setupsite_database(
    settings: SettingsFile = None,
    data: DataFolder = None,
    reader: Annotated[str | None, typer.Option(help="仪表盘的只读用户 · the dashboards' own user")] = None,
) -> None:
    """建立或升级库表 · Make or upgrade the tables; let the dashboards read theirs."""
    from riverchief import setup as setup_

    with site_database(settings, data) as database:
        if reader is not None:
            setup_.grant_reading(database, reader)
        out.print(f"[green]✓[/] {database.url.render_as_string(hide_password=True)}", highlight=False)


@app.command("influx")
def influx(
    settings: SettingsFile = None,
    secrets: Annotated[
        Path | None, typer.Option(help="密钥目录：以管理员设置并发放登录码 · be the administrator, hand out tokens")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="自北京时间此日起重算小时与日值 · compute hours and days again since YYYY-MM-DD")
    ] = None,
    refill: Annotated[
        bool, typer.Option("--refill", help="服务器丢失数据后全部重发 · send everything again to a server that lost it")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """时序库：建库、保留期、令牌 · Databases, retention and tokens on the time-series server."""
    from ingest.storage import influx_setup
    from ingest.storage.timeseries import TimeSeriesServer
    from riverchief import setup as setup_
    from riverchief import stores

    loaded = load(settings)
    server = stores.time_series_server(loaded)
    if server is None:
        raise ConfigurationError(say("command.no_influx"))
    if secrets is not None:
        signed_in = dataclasses.replace(server.settings, token=setup_.influx_admin_token(secrets))
        server = TimeSeriesServer(signed_in)
    influx = loaded.influx
    plan = influx_setup.Plan(influx.raw_days, influx.hourly_days, influx.daily_days)
    marks = {influx_setup.StepResult.KEPT: "·", influx_setup.StepResult.BY_HAND: "[yellow]![/]"}
    steps = []
    with server:
        for step in influx_setup.set_up(server, plan):
            steps.append({"what": step.what, "did": step.did.value, "zh": step.note.zh, "en": step.note.en})
            if not as_json:
                mark = marks.get(step.did, "[green]✓[/]")
                out.print(f"{mark} {step.what}: {join_on_line(step.note)}", highlight=False, soft_wrap=True)
        written = [] if secrets is None else setup_.influx_tokens(secrets, server)
    days = None if since is None else _compute_again(loaded, day_of(since))
    again = _refill(loaded) if refill else None
    if as_json:
        out.print_json(data={"steps": steps, "written": written, "days": days, "refilled": again})
    else:
        for file in written:
            out.print(f"[green]✓[/] {file}", highlight=False)
        if days is not None:
            out.print(f"[green]✓[/] {line('setup.computed_again', days=days)}")
        if again is not None:
            out.print(f"[green]✓[/] {line('setup.refilled', readings=again)}")


def _compute_again(loaded: Settings, since: str) -> int:
    """Have hours and days computed again from a Beijing day on; the number of station-days."""
    from ingest.storage import downsampling, registry

    if loaded.influx.kind not in downsampling.SERVERS:
        raise ConfigurationError(say("time_series_server.no_hours", kind=loaded.influx.kind))
    first = to_ms(datetime.fromisoformat(f"{since}T00:00:00+08:00"))
    with open_site(loaded) as database, database.write() as connection:
        stations = [station.key for station in registry.load(connection, catalogue()).stations]
        return downsampling.schedule_since(connection, stations, first, clock.now_ms())


def _refill(loaded: Settings) -> int:
    """Put everything into the spool again; the number of readings."""
    from ingest.refill import Refill
    from ingest.storage import downsampling
    from riverchief.stores import open_stores

    total = 0
    with open_site(loaded) as database:
        stores = open_stores(loaded, database, catalogue())
        if stores.spool is None:
            raise ConfigurationError(say("command.no_influx_fill"))
        with progress_bar(line("progress.refill")) as on_progress:
            work = Refill(
                database,
                stores.recent,
                stores.spool,
                archive=stores.archive,
                wait=time.sleep,
                clock_ms=clock.now_ms,
                keep_days=loaded.influx.raw_days,
                downsampled=loaded.influx.kind in downsampling.SERVERS,
            )
            for share, readings in work.run():
                on_progress(share)
                total = readings
    return total
