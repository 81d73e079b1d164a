"""Measure what a message costs each part of a cluster; writes tools/scale_measured.json, which tools/scale.py reads.

    python tools/scale_measure.py [MESSAGES]

All parts at full load: the messages wait in the broker first. CPU seconds and bytes, not rates: a busy machine changes
them little.
"""

import json
import platform
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil

from infra.clock import now_ms
from ingest.cluster.transport import Routed, pack
from sensors.reading import Message
from sensors.wire.telemetry import Sample
from simulator.devices.fleet import Connection, Fleet
from tests import postgres
from tests.cluster_site import ClusterSite
from tests.rig import eventually

STATIONS = 200
OUT = Path(__file__).with_name("scale_measured.json")
PARAMETERS = {"water_temp": 25.0, "ph": 7.1, "do": 5.0, "nh3n": 0.9, "tp": 0.1, "codmn": 3.0}


def cpu_s(pids: list[int], children: bool = False) -> float:
    """CPU seconds of processes, with those of their living children if asked."""
    total = 0.0
    for pid in pids:
        process = psutil.Process(pid)
        for one in [process, *(process.children(recursive=True) if children else [])]:
            times = one.cpu_times()
            total += times.user + times.system
    return total


def measure(messages: int) -> dict[str, float]:
    """Microseconds of CPU a message by part, and bytes."""
    site = ClusterSite(Path(tempfile.mkdtemp()), stations=STATIONS)
    try:
        for name in ("bridge", "w1"):
            site.start(name)
        eventually("the worker works", lambda: site.shared_by("w1"), 180)
        eventually("the bridge subscribes", lambda: "mqtt connected" in site.log("bridge"))
        names, device = [f"s{i}" for i in range(STATIONS)], site.site.broker.device
        with Fleet(
            names, Connection(site.site.broker.host, site.site.broker.port, device.user, device.password)
        ) as fleet:
            send(fleet, names, 5)
            site.stored(fleet, 180)
            before, sizes = costs(site), disk(site)
            site.kill("bridge", signal.SIGSTOP)  # the messages pile up in the broker, as after an outage
            broker_process = psutil.Process(site.site.broker.pid or 0)
            empty = broker_process.memory_info().rss
            send(fleet, names, messages // STATIONS)
            assert fleet.flush(120)
            held = broker_process.memory_info().rss - empty
            site.kill("bridge", signal.SIGCONT)
            site.stored(fleet, 600)
            after, grown = costs(site), disk(site)
        sent = messages // STATIONS * STATIONS
        found = {f"{name}_cpu_us": 1e6 * (after[name] - before[name]) / sent for name in before}
        found |= {f"{name}_bytes": (grown[name] - sizes[name]) / sent for name in sizes}
        found["broker_held_bytes"] = held / sent
        found["stream_bytes"] = stream_bytes()
        found["worker_rss_mb"] = psutil.Process(site.processes["w1"].pid).memory_info().rss / 2**20
        return {key: round(value, 1) for key, value in found.items()}
    finally:
        site.close()


def send(fleet: Fleet, names: list[str], rounds: int) -> None:
    for number in range(rounds):
        values = {key: round(value * (1 + (number % 9 - 4) / 500), 4) for key, value in PARAMETERS.items()}
        for name in names:
            fleet[name].publish([Sample(now_ms(), values)], now_ms())
        time.sleep(0.002)


def costs(site: ClusterSite) -> dict[str, float]:
    server = postgres.server()._process
    assert server is not None
    return {
        "broker": cpu_s([site.site.broker.pid or 0]),
        "bridge": cpu_s([site.processes["bridge"].pid]),
        "streams": cpu_s([one.pid for one in site.servers.processes if one is not None]),
        "worker": cpu_s([site.processes["w1"].pid]),
        "database": cpu_s([server.pid], children=True),
    }


def disk(site: ClusterSite) -> dict[str, float]:
    name = str(site.database.url.database)
    (size,) = postgres.server().ask(f"SELECT pg_database_size('{name}')")[0]
    return {"database": float(str(size))}


def stream_bytes(count: int = 500, payload: int = 205, replicas: int = 3) -> float:
    """Bytes of a message in the streams, packed as under load; what is stored already is discarded while we look."""
    messages = [Message(f"s{i}", b"x" * payload, now_ms(), topic=f"rivers/v1/s{i}/telemetry") for i in range(count)]
    return replicas * sum(map(len, pack(Routed(one.station, one) for one in messages))) / count


def main() -> None:
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    found = measure(messages)
    where = {"machine": platform.machine(), "day": datetime.now(UTC).date().isoformat(), "messages": messages}
    OUT.write_text(json.dumps({**where, **found}, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
