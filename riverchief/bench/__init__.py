"""The benchmarks of the design: each prints the machine, the versions and a ratio measured in the same run."""

from collections.abc import Callable
from typing import Any

from rich.console import Console

from riverchief.bench import ingest, latency
from riverchief.bench.rig import Plan

BENCHES: dict[str, Callable[[Plan, Console], dict[str, Any]]] = {"ingest": ingest.run, "latency": latency.run}

__all__ = ["BENCHES", "Plan"]
