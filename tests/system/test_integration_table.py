"""The table of docs/integration.md, row by row: each message is sent as it is written, and refused as it is written."""

import json
import re
import shlex
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from typer.testing import CliRunner

from ingest import quarantine
from riverchief.brokers.local import free_port
from riverchief.cli.app import app
from sensors.stations import Station
from tests.rig import Running, eventually

pytestmark = pytest.mark.broker

STATION = Station("dph-shiwan-1", "石湾", "Shiwan", 113.05, 23.0, parameters=("ph", "level", "nh3n"), interval_s=300)
CODE = re.compile(r"`([^`]+)`")
PORTS = {"8000": free_port(), "9212": free_port(), "9651": free_port()}
"""The port of the document, and that of the test."""


LATER = {"station": STATION.key, "readings": [{"at": "2026-05-12T10:50:00Z", "values": {"ph": 7.3}}]}
"""What comes while somebody listens."""


@dataclass(frozen=True)
class Row:
    """A row of the table: settings, mapping or command; the message; what becomes of it; what is refused."""

    speaks: str
    connect: tuple[str, ...]
    message: str
    becomes: tuple[str, ...]
    refused: tuple[str, ...]

    @property
    def reading(self) -> tuple[str, float, str] | None:
        """Parameter, value and time of what is stored."""
        if " = " not in self.becomes[0]:
            return None
        parameter, number = self.becomes[0].split(" = ")
        return parameter, float(number), self.becomes[1]

    @property
    def wrong(self) -> str:
        """The message with the changes of the last column."""
        text = self.message
        for old, new in zip(self.refused[:-1:2], self.refused[1:-1:2], strict=True):
            assert old in text, (self.speaks, old)
            text = text.replace(old, new, 1)
        return text


def rows() -> list[Row]:
    text = Path("docs/integration.md").read_text(encoding="utf-8")
    table = text.partition("## Who speaks what")[2].partition("\n## ")[0]
    found = []
    for line in [line for line in table.splitlines() if line.startswith("| ")][1:]:
        speaks, *cells = line.strip("| ").split(" | ")
        connect, (message,), becomes, refused = (tuple(CODE.findall(cell)) for cell in cells)
        found.append(Row(speaks, connect, message, becomes, refused))
    return found


ROWS = rows()


class Site(Running):
    """``riverchief serve`` with everything that the table's second column says."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "mosquitto", uplinks="#")
        self.register(STATION)
        said = [part for row in ROWS for part in row.connect]
        tables: dict[str, list[str]] = {"outbox": ["secret = 'c2VjcmV0'"], "api": [f"port = {PORTS['8000']}"]}
        for head, line in (one.split("] ", 1) for one in said if one.startswith("[")):
            tables.setdefault(head[1:], []).append(line)
        for name, port in (("hj212", PORTS["9212"]), ("sl651", PORTS["9651"])):
            tables[name] += ["host = '127.0.0.1'", f"port = {port}"]
        file = folder / "mappings.toml"
        entries = [[part for part in row.connect if " = " in part and part[0] != "["] for row in ROWS]
        file.write_text(
            "".join("[[mapping]]\n" + "\n".join(one) + "\n" for one in entries if one and "include" in one[0])
        )
        tables["ingest"] = [f"mappings = '{file}'"]
        self.first = "\n".join(tables.pop("mqtt")) + "\n"
        self.more = self.first + "".join(f"[{head}]\n" + "\n".join(lines) + "\n" for head, lines in tables.items())
        for command in (one for one in said if one.startswith("riverchief ")):
            done = CliRunner().invoke(app, [*shlex.split(command)[1:], "--settings", str(self.settings)])
            assert done.exit_code == 0, done.output
        self.start("serve")
        self.api = httpx.Client(base_url=f"http://127.0.0.1:{PORTS['8000']}", timeout=60)
        eventually("it is ready", self._ready)
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id="row")
        self.client.username_pw_set(self.broker.device.user, self.broker.device.password)
        self.client.connect(self.broker.host, self.broker.port)
        self.client.loop_start()

    def _ready(self) -> bool:
        try:
            return self.api.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def close(self) -> None:
        self.client.loop_stop()
        self.api.close()
        super().close()

    def send(self, command: str) -> Any:
        """Do what a line of the shell would do; the answer."""
        program, *words = shlex.split(re.sub(r"< <\(xxd -r -p <<< (\w+)\)", r"<<< \1", command))
        if program == "mosquitto_pub":
            return self.client.publish(_after(words, "-t"), _after(words, "-m"), qos=1).wait_for_publish(20)
        if program == "mosquitto_sub":
            return self._subscribed(_after(words, "-t"))
        if program == "nc":
            return _spoken(words)
        assert program == "curl", command
        address = re.sub(r"http://HOST:\d+", "", words[-1])
        if "--json" in words:
            return self.api.post(address, json=json.loads(_after(words, "--json")))
        if "-F" in words:
            return self.api.post(
                address, data=dict(w.split("=", 1) for at, w in enumerate(words) if words[at - 1] == "-F")
            )
        return self.api.get(address)

    def _subscribed(self, topic: str) -> str:
        heard: list[str] = []
        listener = paho.Client(CallbackAPIVersion.VERSION2, client_id="listener")
        listener.username_pw_set(self.broker.ingest.user, self.broker.ingest.password)
        listener.on_message = lambda _c, _u, message: heard.append(message.payload.decode())
        listener.connect(self.broker.host, self.broker.port)
        listener.on_subscribe = lambda *_: self.api.post("/api/v1/readings", json=LATER)
        listener.subscribe(topic, 1)
        listener.loop_start()
        try:
            return str(eventually(f"a message on {topic}", lambda: heard, 30)[0])
        finally:
            listener.disconnect()
            listener.loop_stop()

    def held(self) -> dict[str, int]:
        """Messages in quarantine by reason."""
        with self.database.read() as connection:
            return quarantine.counts(connection)


def _after(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


def _spoken(words: list[str]) -> bytes:
    """Bytes over TCP or UDP; the answer, empty where there is none within a second."""
    text = words[-1]
    data = bytes.fromhex(text) if re.fullmatch(r"[0-9A-F]+", text) else text.encode() + b"\r\n"
    port = PORTS[next(one for one in words if one.isdecimal() and len(one) == 4)]
    kind = socket.SOCK_DGRAM if "-u" in words else socket.SOCK_STREAM
    with socket.socket(type=kind) as line:
        line.connect(("127.0.0.1", port))
        line.settimeout(1)
        line.sendall(data)
        try:
            return line.recv(4096)
        except TimeoutError:
            return b""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("table") / "site")
    yield made
    made.close()


def test_the_table_names_every_preset_and_every_gateway() -> None:
    text = json.dumps([one.connect for one in ROWS])
    presets = {one.stem for one in Path("config/mappings").glob("*.toml")}
    assert [one for one in (*presets, "hj212", "sl651", "cap") if one not in text] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda one: one.speaks)
def test_the_message_of_a_row_arrives_and_the_wrong_one_is_refused_for_its_reason(site: Site, row: Row) -> None:
    stored, before = site.booked(), site.held()
    answered = site.send(row.message)
    if row.reading is not None:
        parameter, value, at = row.reading
        stored += 1
        eventually("it is in the ledger", lambda: site.booked() == stored, 20)
        series = f"/api/v1/stations/{STATION.key}/series?parameter={parameter}&start={at}&end={at[:-1]}.001Z"
        assert [one["value"] for one in site.api.get(series).json()["points"]] == [value]
    elif len(row.becomes) == 2:
        path, word = row.becomes
        eventually("it is there", lambda: word in site.api.get(path).text, 20)
    else:
        assert row.becomes[0] in (answered if isinstance(answered, str) else answered.text)
        stored = site.booked()
    if row.refused:
        answered, reason = site.send(row.wrong), row.refused[-1]
        if reason.isdecimal():
            assert answered.status_code == int(reason), answered.text
        else:
            held = before | {reason: before.get(reason, 0) + 1}
            eventually("it is in quarantine", lambda: site.held() == held, 20)
    assert site.booked() == stored
    for one in site.api.get("/api/v1/ledger").json()["items"]:
        assert one["readings"] == one["stored"] + one["duplicate"] + one["quarantined"]


def test_refused_requests_of_sensorthings_clients_are_counted(site: Site) -> None:
    counted = re.compile(r'^riverchief_sensorthings_requests_total\{outcome="refused"\} (\d+)', re.M)
    (before,) = counted.findall(site.api.get("/metrics").text)
    nested = "(" * 1000 + "1 eq 1" + ")" * 1000
    assert site.api.get("/sta/v1.1/Things", params={"$filter": nested}).status_code == 400
    assert counted.findall(site.api.get("/metrics").text) == [str(int(before) + 1)]
    assert site.api.get("/sta/v1.1/Things").status_code == 200
