"""``bench ingest``: durable readings a second over a real broker, QoS 1, all checks on, 6 values a message.

Measured from the first publish to the commit of the last reading, publisher and broker on the same machine. Beside it,
in the same run, the broker's own top speed: the same messages into a bare subscriber that acknowledges at once.
"""

import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import sqlalchemy as sa
from paho.mqtt.enums import CallbackAPIVersion
from rich.console import Console

from infra.database import Database
from infra.texts import line, say
from ingest.storage.tables import ledger
from riverchief.brokers.local import running
from tools.bench.load import BASE
from tools.bench.rig import BenchFailed, Load, Plan, cpu_s, database, machine, serving, wait_for

ASSUMED_RATE = 12_000
"""Messages a second the length of the run is planned with; the run ends when all are stored, whatever the rate."""


def run(plan: Plan, console: Console) -> dict[str, Any]:
    """The figures, machine and versions; raises BenchFailed when a reading is missing at the end."""
    rounds = max(2, int(plan.seconds * ASSUMED_RATE / plan.stations))
    messages = rounds * plan.stations
    with tempfile.TemporaryDirectory(prefix="riverchief-bench-") as name:
        folder = Path(name)
        with console.status(line("bench.top")):
            top, kind = _broker_alone(folder / "top", plan, rounds)
        with console.status(line("bench.ingest", messages=messages)):
            figures = flooded(folder / "run", plan, rounds)
    return {
        "bench": "ingest",
        "machine": machine(),
        "broker": kind,
        "stations": plan.stations,
        "messages": messages,
        "readings": messages * len(BASE),
        **figures,
        "broker_messages_per_s": round(top),
        "share_of_broker": round(figures["messages_per_s"] / top, 3),
    }


def _broker_alone(folder: Path, plan: Plan, rounds: int) -> tuple[float, str]:
    """Messages a second from the publisher to a bare paho subscriber."""
    expected = rounds * plan.stations
    done, subscribed = threading.Event(), threading.Event()
    count, ended = 0, 0.0

    def received(_client: paho.Client, _userdata: Any, _message: paho.MQTTMessage) -> None:
        nonlocal count, ended
        count += 1
        if count == expected:
            ended = time.time()
            done.set()

    with running(folder, kind=plan.broker) as broker:
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id="bench-bare", clean_session=False)
        client.username_pw_set(broker.ingest.user, broker.ingest.password)
        client.on_message = received
        client.on_subscribe = lambda *_: subscribed.set()
        client.on_connect = lambda c, *_: c.subscribe("rivers/v1/+/telemetry", 1)
        client.connect(broker.host, broker.port)
        client.loop_start()
        load = Load(broker, kind="flood", stations=plan.stations, rounds=rounds)
        try:
            if not subscribed.wait(10):
                raise BenchFailed(say("bench.not_let_in"))
            load.go()
            answer = load.answer()
            if not done.wait(120):
                raise BenchFailed(say("bench.bare", count=count, expected=expected))
            return expected / (ended - answer["began"]), broker.kind
        finally:
            load.close()
            client.disconnect()
            client.loop_stop()


def flooded(folder: Path, plan: Plan, rounds: int, top: str = "") -> dict[str, Any]:
    """The figures of an ingest with ``top`` in its settings, on so many rounds of messages."""
    folder.mkdir()
    with running(folder / "broker", kind=plan.broker) as broker:
        db = database(folder, plan.stations)
        messages = rounds * plan.stations
        load = Load(broker, kind="flood", stations=plan.stations, rounds=rounds)
        try:
            with serving(folder, broker, "ingest", top=top) as process:
                wait_for("the ingest did not subscribe", lambda: len(process.net_connections()) > 0, 30)
                time.sleep(1.0)
                load.go()
                halves = []
                for share in (0.25, 0.5, 0.75, 1.0):
                    target = int(messages * len(BASE) * share)
                    wait_for(f"{target} readings are not stored", lambda t=target: _stored(db) >= t, 300)
                    halves.append((time.time(), process.memory_info().rss / 2**20, cpu_s(process)))
                began = load.answer()["began"]
                used = halves[-1][2]
            wrong = _stored(db) - messages * len(BASE)
            if wrong:
                raise BenchFailed(say("bench.readings", wrong=wrong))
            ended = halves[-1][0]
            size = (folder / "riverchief.db").stat().st_size
        finally:
            load.close()
            db.close()
    rate = messages / (ended - began)
    return {
        "seconds": round(ended - began, 2),
        "messages_per_s": round(rate),
        "readings_per_s": round(rate * len(BASE)),
        "ingest_cpu_us_per_message": round(used / messages * 1e6, 1),
        "steady_cpu_us_per_message": round((used - halves[1][2]) / messages * 2e6, 1),
        "half_s": {"first": round(halves[1][0] - began, 2), "second": round(halves[3][0] - halves[1][0], 2)},
        "memory_mib": {"quarter": round(halves[0][1]), "half": round(halves[1][1]), "end": round(halves[3][1])},
        "bytes_per_reading": round(size / messages / len(BASE), 1),
    }


def _stored(db: Database) -> int:
    with db.read() as connection:
        return int(connection.execute(sa.select(sa.func.coalesce(sa.func.sum(ledger.c.stored), 0))).scalar_one())
