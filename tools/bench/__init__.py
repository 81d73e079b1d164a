"""Benchmarks: each prints machine, versions and a ratio measured in the same run.

A benchmark is the function ``run`` of the module of its name, imported when it is asked for: a load generator imports
this package as well and needs none of them.
"""

from importlib import import_module
from typing import Any

from rich.console import Console

from tools.bench.rig import Plan

BENCHES = (
    "assess",
    "console",
    "devices",
    "field",
    "growth",
    "ingest",
    "latency",
    "map",
    "peers",
    "ratios",
    "store",
)


def run(name: str, plan: Plan, console: Console) -> dict[str, Any]:
    """The figures of one of ``BENCHES``."""
    found: dict[str, Any] = import_module(f"tools.bench.{name}").run(plan, console)
    return found


__all__ = ["BENCHES", "Plan", "run"]
