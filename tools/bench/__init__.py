"""Benchmarks: each prints machine, versions and a ratio measured in the same run."""

from collections.abc import Callable
from typing import Any

from rich.console import Console

from tools.bench import assess, console, devices, field, growth, ingest, latency, map, peers, store
from tools.bench.rig import Plan

BENCHES: dict[str, Callable[[Plan, Console], dict[str, Any]]] = {
    "devices": devices.run,
    "assess": assess.run,
    "console": console.run,
    "field": field.run,
    "growth": growth.run,
    "ingest": ingest.run,
    "latency": latency.run,
    "map": map.run,
    "peers": peers.run,
    "store": store.run,
}

__all__ = ["BENCHES", "Plan"]
