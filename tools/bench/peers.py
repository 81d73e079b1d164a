"""``bench peers``: the same messages through the usual ways from MQTT into InfluxDB, and through Riverchief.

Each is a process as a site runs it, with a broker and a database of its own; they take turns, so that a ratio is one of
the same minutes. Processor time is that of the process and its database, without broker and load. In one more run each
is killed in the middle and started again: an acknowledged message that is not in the database is lost.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import sqlalchemy as sa
from rich.console import Console

from infra.database import Database
from infra.texts import line, say
from ingest.storage.tables import ledger
from riverchief.brokers.local import Broker, free_port, running
from riverchief.guard import child_process
from tools.bench import page, paired
from tools.bench.load import BASE
from tools.bench.rig import (
    BUCKET,
    BenchFailed,
    Influx,
    Load,
    Plan,
    cpu_s,
    database,
    influxdb1,
    machine,
    riverchief_command,
    wait_for,
)

MESSAGES = 30_000
"""Of the fast ones: some seconds for each of them."""
SLOW_SHARE = 0.1
"""Of the messages, for those that write point by point: they would take minutes."""
ROUNDS = 3
NODE_RED = ("node-red@4", "node-red-contrib-influxdb@0.7")
BASELINE = "Riverchief"
THROUGH = "Riverchief → InfluxDB 1.6"
CHECKED = "format, duplicates, quality, rules, events, ledger"
OUTSIDE = (
    ("Telegraf 1.39 → InfluxDB 2.7", "22,700–26,200", 44, 59),
    ("Riverchief", "15,900–17,300", "56–60", 385),
    ("Riverchief → InfluxDB 2.7", "11,800–12,900", "72 + 16", 500),
)
"""Measured outside in 2026-11 on two quiet cores with 200,000 messages of six values (three interleaved rounds):
neither Telegraf nor InfluxDB 2.7 can be installed here. Name, messages a second, CPU µs a message, MB."""


@dataclass(frozen=True, slots=True)
class Site:
    """What one run has: its folder, broker, database, and how many messages come from how many stations."""

    folder: Path
    broker: Broker
    influx: Influx
    stations: int
    messages: int


@dataclass(frozen=True, slots=True)
class Peer:
    """One way: the command of its process, its share of the messages, what it checks."""

    command: Callable[[Site], list[str]]
    checks: str = "nothing"
    share: float = 1.0
    embedded: bool = False
    from_broker: bool = True


@dataclass(frozen=True, slots=True)
class Run:
    """The figures of one run."""

    messages_per_s: float
    cpu_us: float
    memory_mib: float


def run(plan: Plan, console: Console) -> dict[str, Any]:
    """The figures and the machine; raises BenchFailed when a message is missing at the end of an undisturbed run."""
    if shutil.which("influxd") is None:
        raise BenchFailed(say("bench.no_influxd"))
    with tempfile.TemporaryDirectory(prefix="riverchief-bench-") as name:
        folder = Path(name)
        known = peers(_node_red(folder / "npm", console))
        runs = paired.alternate(
            {one: partial(_timed, one, peer, plan, folder, console) for one, peer in known.items()}, ROUNDS
        )
        lost = {one: _lost(known[one], plan, folder, console) for one in known if known[one].from_broker}
    found = {
        "bench": "peers",
        "machine": machine(),
        "stations": plan.stations,
        "messages": MESSAGES,
        "rounds": ROUNDS,
        "peers": {one: _figures(known[one], runs[one], runs[BASELINE], lost.get(one)) for one in known},
    }
    if plan.write:
        page.write("peers", table(found))
    return found


def peers(red: Path | None) -> dict[str, Peer]:
    """All ways; ``red``: where Node-RED is installed."""
    found = {
        "script of paho and influxdb-client, a point a request": Peer(_script("points"), share=SLOW_SHARE),
        "the same with batches": Peer(_script("batches")),
        "InfluxDB 1.6 alone, lines of 5,000 made before": Peer(_script("direct"), from_broker=False),
        BASELINE: Peer(lambda site: riverchief_command(site.folder, site.broker, "ingest"), CHECKED, embedded=True),
        THROUGH: Peer(_through, CHECKED),
    }
    if red is not None:
        found["Node-RED 4, MQTT and InfluxDB nodes"] = Peer(lambda site: _red_command(site, red), share=SLOW_SHARE)
    return found


def _script(kind: str) -> Callable[[Site], list[str]]:
    def command(site: Site) -> list[str]:
        login = {"user": site.broker.ingest.user, "password": site.broker.ingest.password}
        where = {"host": site.broker.host, "port": site.broker.port, "influx": site.influx.url}
        orders = json.dumps({**where, **login, "stations": site.stations, "messages": site.messages})
        return [sys.executable, "-P", str(Path(__file__).with_name("peer_script.py")), kind, orders]

    return command


def _through(site: Site) -> list[str]:
    more = f"[influx]\nurl = '{site.influx.url}'\nkind = 'influxdb1'\nbucket = '{BUCKET}'\n"
    return riverchief_command(site.folder, site.broker, "serve", f"[api]\nport = {free_port()}\n{more}")


def _node_red(folder: Path, console: Console) -> Path | None:
    """Install Node-RED and its InfluxDB nodes with npm; None where there is no npm or it cannot install them."""
    npm = shutil.which("npm")
    if npm is None:
        return None
    folder.mkdir()
    options = ["--no-audit", "--no-fund", "--omit=optional", "--silent", "--prefix", str(folder)]
    with console.status(line("bench.npm")):
        done = subprocess.run([npm, "install", *options, *NODE_RED], capture_output=True, timeout=600, check=False)
    return folder if done.returncode == 0 else None


def _red_command(site: Site, red: Path) -> list[str]:
    """Node-RED with the flow that its users draw: MQTT in, a function that names fields and tags, InfluxDB out."""
    function = (
        'const station = msg.topic.split("/")[2];\nmsg.payload = msg.payload.readings.map(r => '
        "[{...r.values, time: new Date(r.at)}, {station}])"
        ";\nreturn msg;"
    )
    host, port = site.influx.url.removeprefix("http://").split(":")
    flow = [
        {"id": "tab", "type": "tab", "label": "bench"},
        {
            "id": "broker",
            "type": "mqtt-broker",
            "broker": site.broker.host,
            "port": str(site.broker.port),
            "clientid": "peer",
            "autoConnect": True,
            "protocolVersion": "4",
            "keepalive": "60",
            "cleansession": False,
        },
        {
            "id": "influx",
            "type": "influxdb",
            "hostname": host,
            "port": port,
            "database": BUCKET,
            "influxdbVersion": "1.x",
        },
        {
            "id": "in",
            "type": "mqtt in",
            "z": "tab",
            "topic": "rivers/v1/+/telemetry",
            "qos": "1",
            "datatype": "json",
            "broker": "broker",
            "inputs": 0,
            "wires": [["name"]],
        },
        {"id": "name", "type": "function", "z": "tab", "func": function, "outputs": 1, "wires": [["out"]]},
        {
            "id": "out",
            "type": "influxdb out",
            "z": "tab",
            "influxdb": "influx",
            "measurement": "water",
            "precision": "ms",
        },
    ]
    login = {"user": site.broker.ingest.user, "password": site.broker.ingest.password}
    folder = site.folder / "node-red"
    folder.mkdir(exist_ok=True)
    (folder / "flows.json").write_text(json.dumps(flow), "utf-8")
    (folder / "flows_cred.json").write_text(json.dumps({"broker": login, "influx": {}}), "utf-8")
    settings = {
        "flowFile": "flows.json",
        "credentialSecret": False,
        "uiPort": 0,
        "uiHost": "127.0.0.1",
        "logging": {"console": {"level": "error"}},
        "editorTheme": {"tours": False},
        "telemetry": {"enabled": False, "updateNotification": False},
    }
    (folder / "settings.js").write_text(f"module.exports = {json.dumps(settings)};\n", "utf-8")
    program = red / "node_modules" / "node-red" / "red.js"
    return ["node", str(program), "--userDir", str(folder), "--settings", str(folder / "settings.js")]


class _Stage:
    """One run's broker, databases and load, and how much of it has arrived."""

    def __init__(self, stack: ExitStack, peer: Peer, plan: Plan, folder: Path) -> None:
        rounds = max(2, round(MESSAGES * peer.share / plan.stations))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        broker = stack.enter_context(running(folder / "broker", kind=plan.broker))
        influx = stack.enter_context(influxdb1(folder / "influx"))
        assert influx is not None
        self.peer = peer
        self.site = Site(folder, broker, influx, plan.stations, rounds * plan.stations)
        self._database: Database | None = None
        if peer.checks == CHECKED:
            self._database = database(folder, plan.stations)
            stack.callback(self._database.close)
        self.command = peer.command(self.site)
        self.load = Load(broker, kind="flood", stations=plan.stations, rounds=rounds)
        stack.callback(self.load.close)

    def start(self, stack: ExitStack) -> "subprocess.Popen[bytes]":
        """Start the process; returns once it is connected."""
        direct = not self.peer.from_broker
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE} if direct else {"stdout": subprocess.DEVNULL}
        process = stack.enter_context(child_process(self.command, **pipes))
        if direct:
            assert process.stdout is not None
            process.stdout.readline()
            return process
        port, inner = self.site.broker.port, psutil.Process(process.pid)
        wait_for("no connection to the broker", lambda: _connected(inner, port), 60)
        wait_for("it does not come to rest after its start", lambda: _rests(inner), 60)
        return process

    def arrived(self) -> int:
        """Messages stored so far, cheap to ask."""
        return self.stored() if self.peer.embedded else self.site.influx.points_taken()

    def stored(self) -> int:
        """Messages that the database holds."""
        if self.peer.embedded:
            assert self._database is not None
            with self._database.read() as connection:
                total = connection.execute(sa.select(sa.func.coalesce(sa.func.sum(ledger.c.stored), 0))).scalar_one()
            return int(total) // len(BASE)
        return self.site.influx.count("nh3n")

    def used(self, process: psutil.Process) -> list[psutil.Process]:
        own = [process, *process.children(recursive=True)]
        return own if self.peer.embedded else [*own, self.site.influx.process]


def _rests(process: psutil.Process) -> bool:
    """Whether a process has started all of its parts: it uses less than a tenth of a processor for a second."""
    parts = [process, *process.children(recursive=True)]
    before = sum(map(cpu_s, parts))
    time.sleep(1.0)
    return sum(map(cpu_s, parts)) - before < 0.1


def _connected(process: psutil.Process, port: int) -> bool:
    try:
        all_of_it = [process, *process.children(recursive=True)]
        return any(c.raddr and c.raddr.port == port for one in all_of_it for c in one.net_connections())
    except psutil.NoSuchProcess:  # a child that has ended meanwhile
        return False


def _timed(name: str, peer: Peer, plan: Plan, folder: Path, console: Console) -> Run:
    """One undisturbed run."""
    with ExitStack() as stack, console.status(line("bench.peer", name=name)):
        stage = _Stage(stack, peer, plan, folder)
        process = stage.start(stack)
        parts = stage.used(psutil.Process(process.pid))
        before, began, messages = sum(map(cpu_s, parts)), time.time(), stage.site.messages
        if peer.from_broker:
            stage.load.go()
        else:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
        wait_for(f"{name}: {messages} messages are not stored", lambda: stage.arrived() >= messages, 300)
        seconds = time.time() - began
        found = Run(
            messages / seconds,
            1e6 * (sum(map(cpu_s, parts)) - before) / messages,
            sum(one.memory_info().rss for one in parts) / 2**20,
        )
        if (stored := stage.stored()) != messages:
            raise BenchFailed(say("bench.readings", wrong=stored - messages))
        return found


def _lost(peer: Peer, plan: Plan, folder: Path, console: Console) -> tuple[int, int]:
    """Messages lost, and sent, when the process is killed with a third stored, and started again."""
    with ExitStack() as stack, console.status(line("bench.kill")):
        stage = _Stage(stack, peer, plan, folder)
        messages = stage.site.messages
        with ExitStack() as first:
            process = stage.start(first)
            stage.load.go()
            wait_for("a third is not stored", lambda: stage.arrived() >= messages / 3, 300)
            process.kill()
            process.wait()
        stage.start(stack)
        _settled(stage.stored, messages)
        return messages - stage.stored(), messages


def _settled(count: Callable[[], int], enough: int, quiet_s: float = 30.0) -> None:
    """Wait until there is enough, or no more comes."""
    last, since = -1, time.monotonic()
    while (now := count()) < enough and time.monotonic() - since < quiet_s:
        if now != last:
            last, since = now, time.monotonic()
        time.sleep(0.2)


def _figures(peer: Peer, runs: list[Run], baseline: list[Run], lost: tuple[int, int] | None) -> dict[str, Any]:
    rate = paired.ratio([one.messages_per_s for one in runs], [one.messages_per_s for one in baseline])
    cpu = paired.ratio([one.cpu_us for one in runs], [one.cpu_us for one in baseline])
    return {
        "messages_per_s": round(median(one.messages_per_s for one in runs)),
        "rate_ratio": str(rate),
        "cpu_us_per_message": round(median(one.cpu_us for one in runs), 1),
        "cpu_ratio": str(cpu),
        "memory_mib": round(median(one.memory_mib for one in runs)),
        "checks": peer.checks,
        "lost_when_killed": None if lost is None else lost[0],
        "sent_when_killed": None if lost is None else lost[1],
    }


def table(found: Mapping[str, Any]) -> str:
    """The section of the page."""
    lines = [
        page.measured_on(found["machine"]),
        f"{found['messages']:,} messages of six values from {found['stations']:,} stations over Mosquitto, QoS 1",
        f"(those that write a request a message: {found['messages'] * SLOW_SHARE:,.0f}); median of {found['rounds']}",
        "rounds in turns, ratio to Riverchief (interval of 95 %). CPU: the process and its database, µs a message.",
        "Lost: acknowledged messages that are not stored after one `kill -9` and a restart.",
        "",
        "| way | messages/s | ratio | CPU | CPU ratio | MB | lost | checks |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, one in found["peers"].items():
        killed = "–" if one["lost_when_killed"] is None else f"{one['lost_when_killed']:,}"
        lines.append(
            f"| {name} | {one['messages_per_s']:,} | {one['rate_ratio']} | {one['cpu_us_per_message']:.0f}"
            f" | {one['cpu_ratio']} | {one['memory_mib']} | {killed} | {one['checks']} |"
        )
    if not any("Node-RED" in name for name in found["peers"]):
        lines += ["", "Node-RED is left out: npm could not install it."]
    lines += [
        "",
        "Measured outside in 2026-11, not in this run, on two quiet cores (200,000 messages, three rounds in turns):",
        "",
        "| way | messages/s | CPU | MB |",
        "|---|---|---|---|",
        *(f"| {name} | {rate} | {cpu} | {memory} |" for name, rate, cpu, memory in OUTSIDE),
    ]
    return "\n".join(lines)
