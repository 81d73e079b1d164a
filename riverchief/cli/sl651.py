"""``riverchief sl651``: decode frames from standard input; manage the registered stations."""

import re
import sys
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any, BinaryIO, TextIO

import typer

from riverchief.cli.commands import Commands
from riverchief.cli.device_frames import READ_BYTES, Tally, beijing_time, print_devices, write_frames
from riverchief.cli.options import AsJson, By, DataFolder, SettingsFile, author, site_database
from riverchief.terminal import out
from sensors.wire.sl651 import body as bodies
from sensors.wire.sl651.body import Block, Element, Malformed, Parameter
from sensors.wire.sl651.frame import Broken, Frame, FrameReader, Received

app = Commands("SL 651 报文和遥测站 · SL 651 frames and stations.")
devices = Commands("遥测站登记 · Stations that may connect.")
app.add_typer(devices, name="devices")

_WITHHELD = "03"
"""The parameter of Annex D that is the password."""
_HEX_LINE = re.compile(rb"[0-9A-Fa-f\s]+")


def decode(source: BinaryIO, out: TextIO) -> Tally:
    """Read frames to the end of ``source``, bytes or lines in hexadecimal; one JSON object a line for each."""
    return write_frames(_frames(source), Received, lambda received: described(received.frame), out)


def _frames(source: BinaryIO) -> Iterator[Received | Broken]:
    reader = FrameReader()
    read = getattr(source, "read1", source.read)  # what is there now: a pipe from a live station never ends
    data = read(READ_BYTES)
    if data and (data[:1] == b"#" or _HEX_LINE.fullmatch(data.partition(b"\n")[0])):
        for line in (data + source.read()).splitlines():
            if line and _HEX_LINE.fullmatch(line) and len(digits := b"".join(line.split())) % 2 == 0:
                yield from reader.feed(bytes.fromhex(digits.decode("ascii")))
                yield from reader.close()
        return
    while data:
        yield from reader.feed(data)
        data = read(READ_BYTES)
    yield from reader.close()


def described(frame: Frame) -> dict[str, Any]:
    """A frame as JSON; optional members are added only where they are present. The password is left out."""
    fields: dict[str, Any] = {
        "ok": True,
        "station": frame.station,
        "centre": frame.centre,
        "function": f"{frame.function:02X}",
        "end": frame.end.name,
    }
    if frame.ascii:
        fields["mode"] = "ascii"
    if frame.split:
        return fields | {"packets": frame.packets, "packet": frame.packet, "bytes": len(frame.body)}
    if frame.downlink:
        return fields | {"downlink": True, "body": frame.body.hex().upper()}
    try:
        body = bodies.of_frame(frame)
    except Malformed as error:
        return fields | {"ok": False, "reason": str(error)}
    fields |= {"serial": body.serial, "sent": beijing_time(body.sent_at_ms)}
    beside: dict[str, Any] = {
        "blocks": [_block(block) for block in body.blocks if block.elements],
        "parameters": [_parameter(one) for one in body.parameters],
        "text": body.text.decode("gb18030", "replace"),
        "counters": list(body.counters),
    }
    return fields | {name: value for name, value in beside.items() if value}


def _parameter(one: Parameter) -> dict[str, Any]:
    if one.id == _WITHHELD:
        return {"id": one.id}
    return {"id": one.id, "raw": one.raw.hex().upper(), "decimals": one.decimals}


def _block(block: Block) -> dict[str, Any]:
    return {"station": block.station, "type": block.sort, "elements": [_element(one) for one in block.elements]}


def _element(element: Element) -> dict[str, Any]:
    meaning = element.meaning
    fields: dict[str, Any] = {"id": element.id}
    if meaning is not None:
        fields |= {"code": meaning.code, "zh": meaning.zh, "key": meaning.key}
    if element.at_ms is not None:
        fields["time"] = beijing_time(element.at_ms)
    if element.step_ms:
        fields["step_min"] = element.step_ms // 60_000
    if element.id == "45":
        fields["bits"] = list(element.bits)
    elif element.fault or not element.values:
        fields |= {"bytes": len(element.raw), "problem": element.fault}
    elif len(element.values) == 1:
        fields["value"] = _number(element.values[0])
    else:
        fields["values"] = [_number(value) for value in element.values]
    return {name: value for name, value in fields.items() if value != ""}


def _number(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


@app.command("decode")
def decode_command() -> None:
    """从标准输入读报文（字节或十六进制行），每帧一行 JSON · Frames on stdin, bytes or hex lines; a JSON object each."""
    tally = decode(sys.stdin.buffer, sys.stdout)
    sys.stderr.write(tally.sentence() + "\n")


@devices.command("add")
def devices_add(
    address: Annotated[str, typer.Argument(help="遥测站地址，10位十六进制 · address, ten hexadecimal characters")],
    station: Annotated[str, typer.Argument(help="站点 · station key")],
    password: Annotated[
        str | None,
        typer.Option(help="密码，4位十六进制；不给则不核对 · four hexadecimal characters; not checked without"),
    ] = None,
    base: Annotated[float | None, typer.Option(help="水位基值，米 · level base of relative levels, m")] = None,
    array_order: Annotated[
        str,
        typer.Option(help="5分钟数组的时间：first 首值，last 末值 · time of arrays: of the first or the last value"),
    ] = "first",
    by: By = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
) -> None:
    """登记或更改遥测站 · Register a station, or change what is known of it."""
    from ingest.storage import sl651_stations
    from sensors.wire.sl651.readings import Gauge

    gauge = Gauge(address.upper(), station, password.upper() if password else None, base, array_order)
    with site_database(settings, data) as database, database.write() as connection:
        sl651_stations.save(connection, gauge, author(by))
    out.print(f"[green]✓[/] {gauge.address} → {station}", highlight=False)


@devices.command("list")
def devices_listing(settings: SettingsFile = None, data: DataFolder = None, as_json: AsJson = False) -> None:
    """列出遥测站，不显示密码 · List the stations; passwords are not shown."""
    from ingest.storage import sl651_stations

    with site_database(settings, data) as database, database.read() as connection:
        registered = sl651_stations.load(connection).values()
    print_devices(registered, ("address", "station", "base_m", "array_order"), as_json, "sl651_frames.no_gauge")


@devices.command("remove")
def devices_remove(
    address: Annotated[str, typer.Argument(help="遥测站地址 · address")],
    by: By = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
) -> None:
    """注销遥测站，读数保留 · Forget a station's address; its readings stay."""
    from ingest.storage import sl651_stations

    with site_database(settings, data) as database, database.write() as connection:
        sl651_stations.remove(connection, address.upper(), author(by))
    out.print(f"[green]✓[/] {address.upper()}", highlight=False)
