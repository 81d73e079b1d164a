"""``bench devices``: 50,000 devices, a message a minute each, in one process beside the broker.

Played by the simulator as ``riverchief simulate`` plays a province: ``OWN_CONNECTIONS`` devices with a connection of
their own, as far as the system allows, and a few that the others share. Reported are the CPU of devices and broker,
as a share of one core, and how late messages left.
"""

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from infra import clock
from infra.texts import line, say
from riverchief.brokers.local import Broker, running
from riverchief.simulate import STATIONS_A_TRUNK, allow_connections
from sensors.wire.telemetry import Sample
from simulator.devices.fleet import Connection, Fleet
from simulator.devices.gateways import Trunks
from simulator.play import MqttLine, Pace, Progress, play
from tools.bench.load import BASE
from tools.bench.rig import BenchFailed, Plan, cpu_s, machine

OWN_CONNECTIONS = 2000
INTERVAL_MS = 60_000


class Minutes:
    """Every device once a minute, evenly spread over it."""

    def __init__(self, keys: list[str], start_ms: int) -> None:
        self._keys, self._start_ms, self._next = keys, start_ms, 0

    def advance(self, to_ms: int) -> Iterator[tuple[str, Sample]]:
        """The samples before ``to_ms``."""
        count = len(self._keys)
        while (at_ms := self._start_ms + self._next * INTERVAL_MS // count) < to_ms:
            key = self._keys[self._next % count]
            self._next += 1
            yield key, Sample(at_ms, BASE)


def run(plan: Plan, console: Console) -> dict[str, Any]:
    """The figures and the machine; raises BenchFailed when a message is not answered in the end."""
    keys = [f"bench-{i}" for i in range(plan.stations)]
    own = allow_connections(min(OWN_CONNECTIONS, plan.stations))
    with (
        tempfile.TemporaryDirectory(prefix="riverchief-bench-") as name,
        running(Path(name), kind=plan.broker) as broker,
    ):
        return {
            "bench": "devices",
            "machine": machine(),
            "broker": broker.kind,
            "devices": plan.stations,
            "connections_of_their_own": own,
            **_figures(broker, keys, own, plan.seconds, console),
        }


def _figures(broker: Broker, keys: list[str], own: int, seconds: float, console: Console) -> dict[str, Any]:
    about = Connection(broker.host, broker.port, broker.device.user, broker.device.password)
    fleet = Fleet(keys[:own], about, boot=1) if own else None
    shared = keys[own:]
    trunks = Trunks(shared, about, connections=-(-len(shared) // STATIONS_A_TRUNK)) if shared else None
    mqtt = MqttLine(fleet, trunks)
    with console.status(line("progress.connect")):
        until = time.monotonic() + 120
        while (state := mqtt.state()).connected < state.wanted or state.under_way:
            if time.monotonic() > until:
                reason = say("bench.connections", connected=state.connected, wanted=state.wanted, refusal=state.refusal)
                raise BenchFailed(reason)
            time.sleep(0.1)
    me, other = psutil.Process(os.getpid()), psutil.Process(broker.pid)
    late_ms: list[int] = []
    used: list[tuple[float, float]] = [(cpu_s(me), cpu_s(other))]

    def progress(now: Progress) -> None:
        late_ms.append(clock.now_ms() - now.at_ms)
        used.append((cpu_s(me), cpu_s(other)))

    start_ms = clock.now_ms()
    with console.status(line("bench.devices", devices=len(keys), seconds=seconds)):
        played = play(
            Minutes(keys, start_ms),
            keys,
            dict.fromkeys(keys, mqtt),
            Pace(start_ms, start_ms),
            end_ms=start_ms + round(seconds * 1000),
            stop=threading.Event(),
            clock=clock.now_ms,
            boot=1,
            on_progress=progress,
        )
    if not played.answered or played.acked != played.messages:
        raise BenchFailed(say("bench.answers", messages=played.messages, acked=played.acked))
    return {
        "seconds": seconds,
        "messages": played.messages,
        "messages_per_s": round(played.messages / seconds, 1),
        "cpu_share_devices": round((used[-1][0] - used[0][0]) / seconds, 3),
        "cpu_share_broker": round((used[-1][1] - used[0][1]) / seconds, 3),
        "latest_ms": max(late_ms),
        "memory_mib": round(me.memory_info().rss / 2**20),
    }
