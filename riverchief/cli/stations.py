"""``riverchief stations``: the registry, the logins of devices and the secrets on labels."""

import dataclasses
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from infra import clock
from infra.errors import ConfigurationError, NotFound, Refused
from infra.texts import Text, line, named, say
from infra.times import beijing, rfc3339
from ingest.devices import claims as claims_
from ingest.devices.credentials import Credentials
from ingest.storage import changes as changes_
from ingest.storage import maintenance as maintenance_store
from ingest.storage import registry as registry_store
from riverchief import files
from riverchief.cli.commands import Commands
from riverchief.cli.options import AsJson, By, DataFolder, SettingsFile, author, load, login, open_site, site_database
from riverchief.settings import Settings
from riverchief.terminal import err, out, save, tabulate
from sensors import registry_csv, registry_rows, registry_toml
from sensors.parameters import catalogue
from sensors.registry_rows import Book

app = Commands("站点 · The registry.")
claims = Commands("标签密钥 · Secrets on labels, by which a device claims its login.")
app.add_typer(claims, name="claims")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="TOML 或 CSV 文件 · a TOML or CSV file")],
    kind: Annotated[
        str | None, typer.Option(help="CSV 没有 kind 列时各行的种类 · what the rows are, without a column kind")
    ] = None,
    by: By = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
) -> None:
    """导入站点文件（TOML、CSV） · Import a registry file; changes nothing when a row is bad."""
    loaded = load(settings, data)
    parameters = catalogue()
    with open_site(loaded) as database, database.write() as connection:
        stored = Book(registry_store.load(connection, parameters), maintenance_store.load(connection))
        book = files.read_book(file, parameters, known=stored, box=loaded.box, kind=kind)
        registry_store.save(connection, book.registry, author(by))
        maintenance_store.save(connection, book.maintenance, author(by))
    counts = Counter(of for of, _ in registry_rows.rows_of(book))
    out.print(", ".join(f"{count} {of}" for of, count in counts.items()) or line("stations.nothing"), soft_wrap=True)


@app.command("export")
def export(
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
        raise ConfigurationError(say("command.format", form=form))
    with site_database(settings, data) as database, database.read() as connection:
        book = Book(registry_store.load(connection, catalogue()), maintenance_store.load(connection))
    text = registry_csv.write(book) if form == "csv" else registry_toml.write(book)
    if file is None:
        sys.stdout.write(text)
    else:
        save(file, text)
        err.print(f"[green]✓[/] {file}", highlight=False)


@app.command("add")
def add(  # noqa: PLR0913, PLR0917  (an option of the command each)
    key: Annotated[str, typer.Argument(help="站点编号 · station key, a-z 0-9 -")],
    lon: Annotated[float, typer.Option(help="经度 · longitude, degrees")],
    lat: Annotated[float, typer.Option(help="纬度 · latitude, degrees")],
    zh: Annotated[str, typer.Option(help="中文名 · Chinese name")] = "",
    en: Annotated[str, typer.Option(help="英文名 · English name")] = "",
    reach: Annotated[str, typer.Option(help="河段 · reach")] = "",
    water: Annotated[str, typer.Option(help="river、creek 或 lake（河、涌、湖） · river, creek or lake")] = "river",
    region: Annotated[str, typer.Option(help="区域编码 · code of the region")] = "",
    every: Annotated[int, typer.Option(help="上报间隔秒数 · promised seconds between readings")] = 300,
    gateway: Annotated[str, typer.Option(help="共用数采仪 · shared logger")] = "",
    datum: Annotated[str, typer.Option(help="坐标系 · WGS 84 | GCJ-02")] = "WGS 84",
    by: By = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
) -> None:
    """登记一个站点 · Register a station."""
    loaded = load(settings, data)
    row: dict[str, Any] = {"key": key, "lon": lon, "lat": lat, "water": water, "interval_s": every, "datum": datum}
    row |= {name: text for name, text in (("zh", zh), ("en", en), ("reach", reach), ("region", region)) if text}
    row |= {"gateway": gateway} if gateway else {}
    with open_site(loaded) as database, database.write() as connection:
        registry = registry_store.load(connection, catalogue())
        if key in registry:
            raise Refused(say("command.registered", key=key))
        made = registry_rows.read_row("station", row, catalogue(), known=registry, box=loaded.box)
        registry_store.save_stations(connection, [made], author(by))
    out.print(
        f"[green]✓[/] {made.key}: {named(Text(made.zh, made.en))} ({made.lon:.6f}, {made.lat:.6f})", highlight=False
    )


@app.command("hang")
def hang(  # noqa: PLR0913, PLR0917  (an option of the command each)
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
    rows = [registry_rows.Row("deployment", n, None, row | {"parameter": p}) for n, p in enumerate(parameters, 1)]
    if device:
        fields = {"serial": device, "model": model, "manufacturer": manufacturer}
        rows.insert(0, registry_rows.Row("device", 1, None, {name: text for name, text in fields.items() if text}))
    with site_database(settings, data) as database, database.write() as connection:
        registry = registry_store.load(connection, catalogue())
        taken = {(d.station, d.parameter, rfc3339(d.since_ms)) for d in registry.deployments}
        if again := [p for p in parameters if (station, p, row["since"]) in taken]:
            raise Refused(say("command.hangs", again=again[0], station=station, since=row["since"]))
        made = registry_rows.read_rows(rows, catalogue(), known=Book(registry)).registry
        serials = {d.serial for d in registry.devices}
        if not (model or manufacturer) and device in serials:
            made = dataclasses.replace(made, devices=())
        registry_store.save(connection, made, author(by))
    for one in made.deployments:
        out.print(f"[green]✓[/] {one}, {one.unit}", highlight=False)


@app.command("changes")
def changes(
    key: Annotated[str | None, typer.Argument(help="编号 · a key; a station's finds what hangs there, too")] = None,
    what: Annotated[
        str | None, typer.Option(help="种类，如 station、deployment · kind: station, deployment, calibration, visit …")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="最多几条 · at most so many")] = 50,
    settings: SettingsFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """登记变更记录：谁、何时、由何改为何 · Who changed what of the registry, newest first."""
    with site_database(settings, data) as database, database.read() as connection:
        found = changes_.listing(connection, what=what, key=key, limit=limit)
    if as_json:
        out.print_json(data=[dataclasses.asdict(one) for one in found])
        return
    rows = (
        (
            str(one.id),
            "" if one.at_ms is None else beijing(one.at_ms, "%Y-%m-%d %H:%M"),
            one.by,
            f"{one.what} {one.key}",
            _change_text(one),
        )
        for one in found
    )
    tabulate(("number", "at", "by", "subject", "change"), rows, "stations.no_change")


def _change_text(change: changes_.Change) -> str:
    """A registry change as text: the new value, or old and new."""
    if change.before is None:
        return ", ".join(f"{name}: {value}" for name, value in change.after.items() if value not in ("", None, []))
    before = change.before
    moved = {name: value for name, value in change.after.items() if before.get(name) != value}
    return ", ".join(f"{name}: {before.get(name)} → {value}" for name, value in moved.items())


@app.command("qr")
def qr(
    to: Annotated[Path, typer.Option("--out", help="目标 PDF · file to write")] = Path("labels.pdf"),
    keys: Annotated[list[str] | None, typer.Argument(help="站点，默认全部 · stations; all where none is given")] = None,
    url: Annotated[
        str | None, typer.Option(help="控制台地址，默认 grafana.console_url · address a phone can reach")
    ] = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
) -> None:
    """站点标签（A4，二维码） · Labels to stick on: a printable A4 sheet with QR codes."""
    from api.evidence import labels

    loaded = load(settings, data)
    with open_site(loaded) as database, database.read() as connection:
        registry = registry_store.load(connection, catalogue())
    if unknown := sorted(set(keys or ()) - set(registry.index)):
        raise NotFound(say("command.no_station", station=unknown[0]))
    chosen = [s for s in registry.stations if not keys or s.key in keys]
    pages = labels.write(to, chosen, url or loaded.grafana.console_url, loaded.site.name)
    out.print(
        f"[green]✓[/] {to}: {line('stations.labels', labels=len(chosen), pages=pages)}", highlight=False, soft_wrap=True
    )


@app.command("list")
def listing(settings: SettingsFile = None, data: DataFolder = None, as_json: AsJson = False) -> None:
    """列出站点 · List the stations."""
    with site_database(settings, data) as database, database.read() as connection:
        registry = registry_store.load(connection, catalogue())
    if as_json:
        out.print_json(data=[dataclasses.asdict(s) for s in registry.stations])
        return
    rows = ((s.key, named(Text(s.zh, s.en)), s.reach, f"{s.interval_s} s") for s in registry.stations)
    tabulate(("station", "name", "reach", "interval"), rows, "stations.none")


@app.command("provision")
def provision(
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
    from riverchief.brokers.users import endpoint

    loaded = load(settings, data)
    where = endpoint(loaded)
    ends = None if others_end_in is None else round(others_end_in * 3600)
    with open_site(loaded) as database:
        issued = _credentials(loaded, database).issue(station, by or login(), others_end_in_s=ends)
        with database.read() as connection:
            parameters = registry_store.load(connection, catalogue())[station].parameters
    sheet = provision.sheet(issued, where, parameters, clock.now_ms())
    text = (
        json.dumps(sheet, ensure_ascii=False, indent=2) + "\n" if as_json else provision.instructions(sheet, "ca.pem")
    )
    if to is None:
        sys.stdout.write(text)
    else:
        save(to, text, private=True)
        out.print(f"[green]✓[/] {issued.user} → {to}", highlight=False, soft_wrap=True)


@app.command("revoke")
def revoke(
    station: Annotated[str, typer.Argument(help="站点 · station key")],
    user: Annotated[str | None, typer.Argument(help="用户；不给则全部 · the user; none means all of them")] = None,
    by: By = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
) -> None:
    """收回登录，在线设备立即断开 · Take logins away; a connected device is cut off at once."""
    from ingest.devices import credentials as credentials_

    loaded = load(settings, data)
    with open_site(loaded) as database:
        with database.read() as connection:
            logins = credentials_.listing(connection, station)
        # all of them: also the one by the station's own key, which `setup device` makes and nobody has listed
        users = [user] if user else [station, *(one.user for one in logins if one.revoked_at_ms is None)]
        making = _credentials(loaded, database)
        for one in users:
            making.revoke(station, one, by or login())
            out.print(f"[green]✓[/] {one}", highlight=False)


def _credentials(loaded: Settings, database: Any) -> Credentials:
    """The manager of device logins; raises ConfigurationError where no broker is administered."""
    from riverchief.brokers.users import broker_users

    users = broker_users(loaded)
    if users is None:
        raise ConfigurationError(say("command.no_admin"))
    return Credentials(database, users, clock.now_ms)


@claims.command("make")
def claims_make(
    keys: Annotated[
        list[str] | None, typer.Argument(help="站点；不给则所有尚无的 · stations; none means all that have none")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="有效天数 · days until it ends")] = claims_.VALID_DAYS,
    by: By = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """生成标签密钥，设备凭它领取一次登录；只显示一次 · Secrets for labels; a device claims its login by it, once."""
    now_ms, by = clock.now_ms(), by or login()
    with site_database(settings, data) as database, database.write() as connection:
        have = claims_.unused_labels(connection, now_ms)
        everyone = [s.key for s in registry_store.load(connection, catalogue()).stations]
        wanted = keys or [key for key in everyone if key not in have]
        made = [claims_.make_label(connection, key, by, now_ms, days) for key in wanted]
    if as_json:
        sys.stdout.write(json.dumps([dataclasses.asdict(one) for one in made], indent=2) + "\n")
        return
    for one in made:
        out.print(f"{one.station}  {one.secret}  → {beijing(one.expires_at_ms, '%Y-%m-%d')}", highlight=False)


@claims.command("list")
def claims_list(settings: SettingsFile = None, data: DataFolder = None, as_json: AsJson = False) -> None:
    """尚可使用的标签密钥（不显示密钥） · Stations whose secret may still be used; the secrets are not shown."""
    with site_database(settings, data) as database, database.read() as connection:
        waiting = claims_.unused_labels(connection, clock.now_ms())
    if as_json:
        out.print_json(data=waiting)
        return
    for key, expires_at_ms in waiting.items():
        out.print(f"{key}  → {beijing(expires_at_ms, '%Y-%m-%d')}", highlight=False)
