"""Instructions for a device's first message, as text and as data."""

import json
from typing import Any

from infra.texts import line
from infra.times import rfc3339
from ingest.devices.credentials import Endpoint, IssuedLogin
from riverchief.terminal import aligned
from sensors.wire.telemetry import topic

KINDS = ("telemetry", "status", "event", "reply", "command")


def sheet(issued: IssuedLogin, endpoint: Endpoint, parameters: tuple[str, ...], now_ms: int) -> dict[str, Any]:
    """Broker, login, topics and a message that would be taken, as data."""
    return {
        "station": issued.station,
        "broker": {"host": endpoint.host, "port": endpoint.port, "tls": endpoint.tls, "authority": endpoint.authority},
        "user": issued.user,
        "password": issued.password,
        "topics": {kind: topic(issued.station, kind) for kind in KINDS},
        "example": _example(parameters, now_ms),
    }


def instructions(sheet_: dict[str, Any], ca_file: str) -> str:
    """The same in words; ``ca_file`` is where the device keeps the authority."""
    broker, topics = sheet_["broker"], sheet_["topics"]
    scheme = "mqtts" if broker["tls"] else "mqtt"
    rows = {
        "column.station": sheet_["station"],
        "credential_sheet.broker": f"{scheme}://{broker['host']}:{broker['port']}",
        "credential_sheet.user": sheet_["user"],
        "credential_sheet.password": f"{sheet_['password']}    ({line('credential_sheet.once')})",
        "credential_sheet.publish": f"{topics['telemetry']}    (QoS 1)",
        "credential_sheet.status": f'{topics["status"]}    (retained; last will {{"online": false}})',
        "credential_sheet.subscribe": topics["command"],
    }
    lines = [
        *aligned(rows),
        "",
        f"{line('credential_sheet.try')}:",
        "",
        _line(sheet_, ca_file),
    ]
    if broker["authority"]:
        lines += ["", f"{ca_file}:", "", broker["authority"].rstrip()]
    return "\n".join(lines) + "\n"


def _line(sheet_: dict[str, Any], ca_file: str) -> str:
    broker = sheet_["broker"]
    trusted = f" --cafile {ca_file}" if broker["authority"] else " --tls-use-os-certs" if broker["tls"] else ""
    return (
        f"mosquitto_pub -h {broker['host']} -p {broker['port']}{trusted} -q 1 \\\n"
        f"    -u '{sheet_['user']}' -P '{sheet_['password']}' \\\n"
        f"    -t {sheet_['topics']['telemetry']} \\\n"
        f"    -m '{json.dumps(sheet_['example'])}'"
    )


def _example(parameters: tuple[str, ...], now_ms: int) -> dict[str, Any]:
    values = {key: _LIKELY.get(key, 1.0) for key in parameters or ("water_temp", "ph", "do")}
    return {"seq": 0, "boot": 1, "readings": [{"at": rfc3339(now_ms // 1000 * 1000), "values": values}]}


_LIKELY = {
    "water_temp": 21.4,
    "ph": 7.18,
    "do": 6.2,
    "nh3n": 0.42,
    "conductivity": 412.0,
    "turbidity": 18.0,
    "tp": 0.12,
}
