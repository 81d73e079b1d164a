"""Simulated rivers for the tests: scenarios that ship, and small ones of the tests' own, made once in a process."""

import functools
from pathlib import Path

import polars as pl

from sensors.parameters import catalogue
from sensors.registry_toml import read
from sensors.stations import Registry
from simulator import scenario, truth
from simulator.scenario import Scenario

ROOT = Path(__file__).parent
SITE = read((ROOT.parent / "config" / "stations.toml").read_text(encoding="utf-8"), catalogue())
"""The stations that ship."""


def scenario_of(key: str, site: Registry = SITE) -> Scenario:
    """A scenario of ``tests/scenarios``, else a shipped one."""
    own = ROOT / "scenarios" / f"{key}.toml"
    if not own.exists():
        return scenario.load(key, site)
    return scenario.parse(own.read_text(encoding="utf-8"), site, key=key, source=own.name)


@functools.cache
def table(key: str, seed: int = 1) -> pl.DataFrame:
    """What ``riverchief simulate KEY --out`` writes: the readings of all stations with their truth."""
    found = scenario_of(key)
    frames = truth.table(found.registry(SITE), found, seed=seed, known=catalogue())
    return pl.concat([frame for frame, _ in frames])
