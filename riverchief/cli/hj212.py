"""``riverchief hj212``: decode frames from standard input; manage the registered loggers."""

import sys
from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO, TextIO

import typer

from riverchief.cli.commands import Commands
from riverchief.cli.device_frames import READ_BYTES, Tally, beijing_time, print_devices, write_frames
from riverchief.cli.options import AsJson, By, DataFolder, SettingsFile, author, site_database
from riverchief.terminal import out
from sensors.wire.hj212.frame import Broken, Frame, FrameReader
from sensors.wire.hj212.packet import Packet, parse, plain, read_time

app = Commands("HJ 212 报文和数采仪 · HJ 212 frames and loggers.")
devices = Commands("数采仪登记 · Loggers that may connect.")
app.add_typer(devices, name="devices")


def decode(source: BinaryIO, out: TextIO) -> Tally:
    """Read frames to the end of ``source``; one JSON object a line for each, as soon as it is whole."""
    return write_frames(_frames(source), Frame, lambda frame: described(parse(frame.segment)), out)


def _frames(source: BinaryIO) -> Iterator[Frame | Broken]:
    reader = FrameReader()
    read = getattr(source, "read1", source.read)  # what is there now: a pipe from a live logger never ends
    while data := read(READ_BYTES):
        yield from reader.feed(data)
    yield from reader.close()


def described(packet: Packet) -> dict[str, Any]:
    """A packet as JSON; optional members are added only where they are present. PW is left out."""
    if packet.encrypted:
        return {"ok": False, "reason": f"CP of command {packet.cn} is encrypted (HJ 212-2025, SM4): not supported"}
    if packet.cn is None:
        return {"ok": False, "reason": "the data segment has no CN"}
    problems = list(packet.problems)
    at = packet.fields.get("DataTime")
    body: dict[str, Any] = {
        "ok": True,
        "qn": packet.qn,
        "st": packet.st,
        "cn": packet.cn,
        "mn": packet.mn,
        "flag": packet.flag,
        "time": None if at is None else _time(at, problems),
        "items": {code: {k: plain(k, v) for k, v in keys.items()} for code, keys in packet.items.items()},
    }
    others = {name: value for name, value in packet.fields.items() if name != "DataTime"}
    beside: dict[str, Any] = {"pnum": packet.pnum, "pno": packet.pno, "fields": others}
    beside |= {"missing": list(packet.missing), "problems": problems}
    return body | {name: value for name, value in beside.items() if value not in (None, {}, [])}


def _time(text: str, problems: list[str]) -> str | None:
    try:
        return beijing_time(read_time(text))
    except ValueError as error:
        problems.append(f"DataTime: {error}")
        return None


@app.command("decode")
def decode_command() -> None:
    """从标准输入读报文，每帧输出一行 JSON · Frames on stdin; one JSON object a frame, a summary on stderr."""
    tally = decode(sys.stdin.buffer, sys.stdout)
    sys.stderr.write(tally.sentence() + "\n")


@devices.command("add")
def devices_add(  # noqa: PLR0913, PLR0917  (an option of the command each)
    mn: Annotated[str, typer.Argument(help="设备唯一标识 · MN")],
    station: Annotated[str, typer.Argument(help="站点 · station key")],
    password: Annotated[str | None, typer.Option(help="访问密码 PW；不给则从标准输入读 · read from stdin")] = None,
    any_password: Annotated[bool, typer.Option("--any-password", help="不核对密码 · do not check PW")] = False,
    st: Annotated[str, typer.Option(help="系统编码，21 地表水 · system code, 21 is surface water")] = "21",
    edition: Annotated[
        int, typer.Option(help="标准版本 2005、2017 或 2025 · edition of the standard: 2005, 2017 or 2025")
    ] = 2017,
    by: By = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
) -> None:
    """登记或更改数采仪 · Register a logger, or change what is known of it."""
    from ingest.storage import loggers
    from sensors.wire.hj212.readings import Logger

    if password is None and not any_password:
        password = typer.prompt("PW", hide_input=sys.stdin.isatty())
    with site_database(settings, data) as database, database.write() as connection:
        logger = Logger(mn, station, None if any_password else password, st, edition)
        loggers.save(connection, logger, author(by))
    out.print(f"[green]✓[/] {mn} → {station}", highlight=False)


@devices.command("list")
def devices_listing(settings: SettingsFile = None, data: DataFolder = None, as_json: AsJson = False) -> None:
    """列出数采仪，不显示密码 · List the loggers; passwords are not shown."""
    from ingest.storage import loggers

    with site_database(settings, data) as database, database.read() as connection:
        registered = loggers.load(connection).values()
    print_devices(registered, ("mn", "station", "st", "edition"), as_json, "hj212_frames.no_logger")


@devices.command("remove")
def devices_remove(
    mn: Annotated[str, typer.Argument(help="设备唯一标识 · MN")],
    by: By = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
) -> None:
    """注销数采仪，读数保留 · Forget a logger; its readings stay."""
    from ingest.storage import loggers

    with site_database(settings, data) as database, database.write() as connection:
        loggers.remove(connection, mn, author(by))
    out.print(f"[green]✓[/] {mn}", highlight=False)
