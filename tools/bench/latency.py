"""``bench latency``: from publishing the deciding reading to the delivered incident, p50 and p99.

At half the top rate of ``bench ingest`` (or the rate given), every station goes over the limit once; the receiving
platform notes when each page arrived. The clock is one machine's: nothing is corrected.
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from infra.texts import line, say
from riverchief.brokers.local import free_port, running
from riverchief.demo import platform
from tools.bench import ingest
from tools.bench.load import BASE
from tools.bench.rig import BenchFailed, Load, Plan, database, machine, serving, wait_for

TOP_SECONDS = 8.0
SECRET = "whsec_YmVuY2ggb25seSwgYmVuY2ggb25seQ=="  # noqa: S105  (both ends are this benchmark)


def run(plan: Plan, console: Console) -> dict[str, Any]:
    """The figures, machine and versions; raises BenchFailed when an incident is not delivered."""
    top: dict[str, Any] = {}
    rate = plan.rate
    if rate is None:
        top = ingest.run(replace(plan, seconds=TOP_SECONDS), console)
        rate = top["messages_per_s"] / 2
    with (
        tempfile.TemporaryDirectory(prefix="riverchief-bench-") as name,
        console.status(line("bench.latency", rate=rate)),
    ):
        delays, sent, kind = _measure(Path(name), plan, rate)
    return {
        "bench": "latency",
        "machine": machine(),
        "broker": kind,
        "stations": plan.stations,
        "rate_messages_per_s": round(rate),
        "rate_readings_per_s": round(rate * len(BASE)),
        "messages": sent,
        "incidents": len(delays),
        "ms": {
            "p50": round(float(np.percentile(delays, 50)), 1),
            "p99": round(float(np.percentile(delays, 99)), 1),
            "max": round(float(np.max(delays)), 1),
        },
        "top_messages_per_s": top.get("messages_per_s"),
        "share_of_top": round(rate / top["messages_per_s"], 2) if top else None,
    }


def _measure(folder: Path, plan: Plan, rate: float) -> tuple[list[float], int, str]:
    with running(folder / "broker", kind=plan.broker) as broker:
        db = database(folder, plan.stations)
        try:
            with platform(SECRET) as (inbox, address):
                port = free_port()
                more = f"[outbox]\nurl = '{address}events'\nsecret = '{SECRET}'\n[api]\nport = {port}\n"
                with serving(folder, broker, "serve", more) as process:
                    wait_for("the service does not listen", lambda: _listens(process, port), 60)
                    load = Load(broker, kind="pace", stations=plan.stations, rate=rate, seconds=plan.seconds)
                    try:
                        load.go()
                        sent = int(load.answer()["sent"])
                    finally:
                        load.close()
                    wait_for(
                        f"not all of {plan.stations} incidents were delivered",
                        lambda: len(_delays(inbox)) >= plan.stations,
                        30,
                    )
                delays = _delays(inbox)
        finally:
            db.close()
    if len(delays) > plan.stations:
        raise BenchFailed(say("bench.causes", delays=len(delays), stations=plan.stations))
    return delays, sent, broker.kind


def _listens(process: Any, port: int) -> bool:
    return any(c.laddr and c.laddr.port == port and c.status == "LISTEN" for c in process.net_connections())


def _delays(inbox: Any) -> list[float]:
    """ms from the deciding reading to the arrival of the event that opened the incident."""
    delays = []
    for received in list(inbox.events.values()):
        event = received.event
        if event["type"] == "river.incident.opened" and event["data"]["kind"] == "threshold":
            observed = np.datetime64(event["data"]["observed_at"].rstrip("Z"), "ms").astype(np.int64)
            delays.append(float(received.received_at_ms - int(observed)))
    return delays
