"""The registry file (``config/stations.toml``): reaches, stations and deployments as a site writes them down.

Pure: text in, :class:`~sensors.stations.Registry` out. Every bad row is told at once, so that a file is repaired in
one go and not a row at a time.
"""

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sensors.errors import ConfigurationError
from sensors.parameters import Catalogue
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Deployment, Reach, Registry, Station, Water, station
from sensors.times import to_ms
from sensors.units import conversion

LONGEST_KEY = 64
_KINDS = ("reach", "station", "deployment")
_REACH = frozenset(Reach.__slots__)
_DEPLOYMENT = frozenset({"station", "parameter", "since", "unit", "gain", "offset"})


def read(text: str, catalogue: Catalogue) -> Registry:
    """The registry that ``text`` (TOML with ``[[reach]]``, ``[[station]]`` and ``[[deployment]]``) describes.

    Raises ConfigurationError listing every bad row, one a line, each with its kind, its number counted from 1 and
    its key.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigurationError(f"the station file is not TOML: {exc}") from exc
    file = _File(catalogue)
    for unknown in sorted(set(document) - set(_KINDS)):
        file.faults.append(f"{unknown}: unknown entry; known are [[reach]], [[station]] and [[deployment]]")
    file.each(document, "reach", file.reach)
    file.each(document, "station", file.station)
    file.each(document, "deployment", file.deployment)
    file.network()
    if file.faults:
        raise ConfigurationError("\n".join(file.faults))
    return Registry(tuple(file.stations.values()), tuple(file.deployments), tuple(file.reaches.values()), catalogue)


@dataclass
class _File:
    """What has been read so far, and what was wrong with it.

    ``named`` holds every key a row claimed, good row or bad: one bad reach must not make faults of its stations.
    """

    catalogue: Catalogue
    reaches: dict[str, Reach] = field(default_factory=dict)
    stations: dict[str, Station] = field(default_factory=dict)
    deployments: list[Deployment] = field(default_factory=list)
    named: dict[str, set[str]] = field(default_factory=lambda: {kind: set() for kind in _KINDS})
    where: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def each(self, document: Mapping[str, Any], kind: str, take: Callable[[Mapping[str, Any], str], None]) -> None:
        rows = document.get(kind, [])
        if not isinstance(rows, list):
            self.faults.append(f"{kind}: write [[{kind}]] with two brackets, once for each {kind}")
            return
        for number, row in enumerate(rows, 1):
            if not isinstance(row, dict):
                self.faults.append(f"{kind} {number}: must be a table, this is {row!r}")
                continue
            key = row.get("station" if kind == "deployment" else "key")
            where = f"{kind} {number}" + (f" ({key})" if isinstance(key, str) else "")
            try:
                take(row, where)
            except ConfigurationError as exc:
                self.faults.append(f"{where}: {exc}")
            if isinstance(key, str):
                self.named[kind].add(key)

    def reach(self, row: Mapping[str, Any], where: str) -> None:
        key = _text(row, "key")
        if not 1 <= len(key) <= LONGEST_KEY:
            raise ConfigurationError(f"key must be text, not empty and at most {LONGEST_KEY} characters")
        if key in self.named["reach"]:
            raise ConfigurationError("this key is taken by an earlier reach")
        _known(row, _REACH)
        try:
            water = Water(row.get("water", "river"))
        except ValueError:
            raise ConfigurationError(f"water {row['water']!r} must be river, creek or lake") from None
        downstream = _text(row, "downstream") or None
        self.reaches[key] = Reach(
            key=key,
            zh=_text(row, "zh") or key,
            en=_text(row, "en") or key,
            water=water,
            line=_line(row.get("line")),
            downstream=downstream,
            note=_text(row, "note"),
            target=_target(row),
        )
        self.where[key] = where

    def station(self, row: Mapping[str, Any], where: str) -> None:
        if isinstance(row.get("key"), str) and row["key"] in self.named["station"]:
            raise ConfigurationError("this key is taken by an earlier station")
        parameters = row.get("parameters", [])
        if not isinstance(parameters, list) or not all(isinstance(p, str) for p in parameters):
            raise ConfigurationError(f"parameters {parameters!r} must be a list of parameter keys")
        if len(set(parameters)) < len(parameters):
            raise ConfigurationError("parameters names a parameter twice")
        made = station(row, self.catalogue)
        if made.reach and made.reach not in self.named["reach"]:
            raise ConfigurationError(f"reach {made.reach!r} is not in this file")
        self.stations[made.key] = made

    def deployment(self, row: Mapping[str, Any], where: str) -> None:
        _known(row, _DEPLOYMENT)
        key, parameter, unit = (_text(row, name) for name in ("station", "parameter", "unit"))
        if key not in self.named["station"]:
            raise ConfigurationError(f"station {key!r} is not in this file")
        if parameter not in self.catalogue:
            raise ConfigurationError(f"unknown parameter {parameter!r}")
        unit = unit or self.catalogue[parameter].unit
        conversion(unit, self.catalogue[parameter].unit)
        gain, offset = _number(row, "gain", 1.0), _number(row, "offset", 0.0)
        if gain == 0:
            raise ConfigurationError("gain 0 would turn every reading into the same value")
        made = Deployment(key, parameter, _since(row.get("since")), unit, gain, offset)
        if any((d.station, d.parameter, d.since_ms) == (key, parameter, made.since_ms) for d in self.deployments):
            raise ConfigurationError(f"{parameter} has another deployment since the same instant")
        self.deployments.append(made)

    def network(self) -> None:
        """Reaches flow into reaches of this file and never in a circle."""
        for reach in self.reaches.values():
            if reach.downstream and reach.downstream not in self.named["reach"]:
                self.faults.append(f"{self.where[reach.key]}: downstream {reach.downstream!r} is not in this file")
            seen, below = {reach.key}, reach.downstream
            while below in self.reaches and below not in seen:
                seen.add(below)
                below = self.reaches[below].downstream
            if below == reach.key:
                self.faults.append(f"{self.where[reach.key]}: following downstream leads back here")


def _target(row: Mapping[str, Any]) -> WaterClass | None:
    target = _text(row, "target")
    found = WaterClass.of(target) if target else None
    if found is WaterClass.WORSE:
        raise ConfigurationError(f"target {target!r} must be one of I, II, III, IV and V")
    return found


def _known(row: Mapping[str, Any], known: frozenset[str]) -> None:
    if unknown := sorted(set(row) - known):
        raise ConfigurationError(f"unknown entry {unknown[0]!r}")


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name, "")
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} {value!r} must be text")
    return value


def _number(row: Mapping[str, Any], name: str, default: float) -> float:
    value = row.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigurationError(f"{name} {value!r} must be a number")
    return float(value)


def _since(value: Any) -> int:
    """ms since the epoch from a TOML date-time or from RFC 3339 text; it must carry an offset."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ConfigurationError(f"since {value!r} is not an RFC 3339 time") from None
    if not isinstance(value, datetime):
        raise ConfigurationError(f"since {value!r} must be an RFC 3339 time such as 2026-05-12T10:30:00+08:00")
    try:
        return to_ms(value)
    except ValueError as exc:
        raise ConfigurationError(f"since {exc}") from None


def _line(value: Any) -> tuple[tuple[float, float], ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) < 2:
        raise ConfigurationError("line must be a list of at least two [lon, lat] points, upstream first")
    return tuple(_point(point, number) for number, point in enumerate(value, 1))


def _point(value: Any, number: int) -> tuple[float, float]:
    good = (
        isinstance(value, Sequence)
        and len(value) == 2
        and all(isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in value)
        and -180 <= value[0] <= 180
        and -90 <= value[1] <= 90
    )
    if not good:
        raise ConfigurationError(f"line: point {number} is {value!r}, [lon, lat] in degrees is needed")
    return float(value[0]), float(value[1])
