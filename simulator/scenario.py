"""Read a scenario (TOML): events in the water, faults of sensors, troubles of devices.

Pure. Everything is checked when a file is read: a place that does not exist, an unknown key, gates that contradict
each other are refused with file, line and reason, before anything starts. docs/simulator.md describes the format.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from difflib import get_close_matches
from enum import StrEnum
from fnmatch import fnmatchcase
from importlib.resources import files
from itertools import combinations
from typing import Any, TypeVar

import numpy as np

from infra import toml_text
from infra.errors import ConfigurationError
from infra.texts import Text, at, joined, say
from infra.times import BEIJING, BEIJING_OFFSET_MS, DAY_MS, to_ms
from sensors.network import KM_PER_DEGREE, length_km
from sensors.reading import Floats
from sensors.stations import Reach, Registry, Station, Water

_E = TypeVar("_E", bound=StrEnum)
_T = TypeVar("_T")


class EventKind(StrEnum):
    """Events in the water."""

    RAIN = "rain"
    """Rain and its runoff; where sewers are combined and it is strong, an overflow follows by itself."""
    OVERFLOW = "overflow"
    """Never written in a file: what a rain does at combined outfalls."""
    SEWAGE = "sewage"
    ACID = "acid"
    ALKALI = "alkali"
    BRINE = "brine"
    BLOOM = "bloom"
    LOW_OXYGEN = "low_oxygen"
    DREDGING = "dredging"
    GATE = "gate"
    SALT_TIDE = "salt_tide"


NATURAL = frozenset({EventKind.RAIN, EventKind.GATE, EventKind.SALT_TIDE})
"""Changes of the water that nobody pollutes by: marked ``natural_event``, an alarm of a broken sensor is a mistake."""

DISCHARGES = frozenset({EventKind.SEWAGE, EventKind.ACID, EventKind.ALKALI, EventKind.BRINE})


class FaultKind(StrEnum):
    """Faults of a sensor; the water is unaffected."""

    SPIKE = "spike"
    SPIKE_CLUSTER = "spike_cluster"
    FLAT_LINE = "flat_line"
    DRIFT = "drift"
    FOULING = "fouling"
    OUT_OF_WATER = "out_of_water"
    BURSTS = "bursts"
    """Wiper or bubbles."""
    CLIPPING = "clipping"
    SUPPLY = "supply"
    """No power: nothing comes. The logger's battery carries its sensors for ``BATTERY_MS``; what it kept comes in one
    burst when the power is back, and the rest is a gap."""
    CLOCK = "clock"
    """The logger's clock is ahead by two hours times the size: its readings carry the wrong times."""
    UNIT = "unit"
    """Values in a unit a thousand times smaller."""
    OFFSET = "offset"
    NOISE = "noise"
    SENTINEL = "sentinel"


WHOLE_STATION = frozenset({FaultKind.OUT_OF_WATER, FaultKind.SUPPLY, FaultKind.CLOCK})
"""Faults of everything that hangs there; others name a parameter."""


BATTERY_MS = 4 * 3_600_000
"""How long the battery in a logger measures on without power; its modem needs more than that and is off at once
(engineering choice, not verified)."""


class TroubleKind(StrEnum):
    """Troubles of a device and its messages; only in live runs, not in tables."""

    LOST = "lost"
    DUPLICATED = "duplicated"
    REORDERED = "reordered"
    DELAYED = "delayed"
    OUTAGE = "outage"
    """No network: the device buffers and sends all of it in one burst when it is back."""
    REBOOT = "reboot"
    CLOCK_ERROR = "clock_error"
    CLOCK_DRIFT = "clock_drift"
    BATTERY = "battery"
    DOOR = "door"


@dataclass(frozen=True, slots=True)
class Event:
    """An event in the water. ``start_ms`` and ``end_ms``: while its cause lasts, UTC.

    ``reach`` and ``km`` (down the reach, None for the whole of it) say where; ``size`` 1 is a usual event, but
    for rain it is the depth in mm and for a salt tide the conductivity at the mouth in µS/cm. ``closed`` is a
    gate's. ``line`` is where the file says so.
    """

    name: str
    kind: EventKind
    start_ms: int
    end_ms: int
    size: float = 1.0
    reach: str = ""
    km: float | None = None
    outfall: str = ""
    closed: bool = False
    line: int = 0
    sudden: bool = False
    """There and gone within seconds, as no water does: for a demo that lasts a minute. No file can say it."""

    @property
    def natural(self) -> bool:
        return self.kind in NATURAL


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that happens to a sensor from ``start_ms`` until ``end_ms``, UTC.

    ``parameter`` is "" for what befalls the whole station. ``size`` 1 is usual for the kind and parameter. ``visit_ms``
    is when somebody came, cleaned or calibrated and set the value back; None where it went away by itself.
    """

    name: str
    kind: FaultKind
    station: str
    parameter: str
    start_ms: int
    end_ms: int
    size: float = 1.0
    visit_ms: int | None = None
    line: int = 0

    @property
    def ahead_ms(self) -> int:
        """Of a clock: by how much."""
        return round(DAY_MS / 12 * self.size)


@dataclass(frozen=True, slots=True)
class Visit:
    """Maintenance of a station: its sensors are cleaned and recalibrated."""

    station: str
    at_ms: int
    parameters: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that happens to the devices of ``stations`` from ``start_ms`` until ``end_ms``, UTC.

    ``share`` (0…1) of the messages is lost, duplicated, reordered or delayed, for ``delay_s`` in the mean. A clock is
    ``clock_s`` ahead (clock_error) or gains ``drift_s_per_day`` (clock_drift). A battery goes from ``volts`` to nothing
    at the end. A reboot and a door happen at ``start_ms``; an outage ends with the burst.
    """

    name: str
    kind: TroubleKind
    stations: tuple[str, ...]
    start_ms: int
    end_ms: int
    share: float = 1.0
    delay_s: float = 60.0
    clock_s: float = 0.0
    drift_s_per_day: float = 0.0
    volts: float = 12.6
    line: int = 0


@dataclass(frozen=True, slots=True)
class Cycle:
    """Results of ``parameters`` come every ``cycle_s`` at ``stations``; 0 with every reading."""

    stations: tuple[str, ...]
    parameters: tuple[str, ...]
    cycle_s: int


@dataclass(frozen=True, slots=True)
class Weather:
    """``cloud`` 0…1 is the mean cover, ``flow`` scales the fresh water, ``heat`` in °C is added to the season."""

    cloud: float = 0.35
    flow: float = 1.0
    heat: float = 0.0


@dataclass(frozen=True, slots=True)
class Generated:
    """Stations that are in no registry, ``count`` of them, for a run of the light model."""

    count: int
    prefix: str
    box: tuple[float, float, float, float]
    interval_s: int = 300


@dataclass(frozen=True, slots=True)
class Scenario:
    """A run: ``days`` from ``start_ms``, a row every ``step_s`` (None: each station's own interval)."""

    key: str
    zh: str
    en: str
    see_zh: str
    see_en: str
    start_ms: int
    days: float
    step_s: int | None = None
    spin_up_days: float = 6.0
    weather: Weather = Weather()
    stations: tuple[str, ...] = ()
    generated: Generated | None = None
    events: tuple[Event, ...] = ()
    faults: tuple[Fault, ...] = ()
    visits: tuple[Visit, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    cycles: tuple[Cycle, ...] = ()

    @property
    def end_ms(self) -> int:
        return self.start_ms + round(self.days * DAY_MS)

    @property
    def on_the_way(self) -> tuple[Trouble, ...]:
        """Troubles of a live run, with clock faults of loggers among them."""
        clocks = (f for f in self.faults if f.kind is FaultKind.CLOCK)
        return (
            *self.troubles,
            *(
                Trouble(f.name, TroubleKind.CLOCK_ERROR, (f.station,), f.start_ms, f.end_ms, clock_s=f.ahead_ms / 1000)
                for f in clocks
            ),
        )

    def registry(self, site: Registry) -> Registry:
        """The stations that take part: those of ``site``, or some of them, or the generated ones."""
        if self.generated is not None:
            return replace(site, stations=tuple(_generate(self.generated)), deployments=(), outfalls=(), travels=())
        if self.stations:
            there = set(self.stations)
            deployments = tuple(d for d in site.deployments if d.station in there)
            return replace(site, stations=tuple(site[key] for key in self.stations), deployments=deployments)
        return site


# -- finding scenarios -----------------------------------------------------------------------------------------------


def shipped() -> tuple[str, ...]:
    """The keys of the scenarios that come with the simulator, in alphabetical order."""
    folder = files("simulator") / "scenarios"
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")))


def text_of(key: str) -> str:
    """The file of a shipped scenario; raises ConfigurationError naming those there are."""
    if key not in shipped():
        raise ConfigurationError(say("scenario.none", key=key, meant=_meant(key, shipped())))
    return (files("simulator") / "scenarios" / f"{key}.toml").read_text(encoding="utf-8")


MAX_NAMED = 30
"""Of names that would have been right, so many are listed at most."""


def _meant(name: str, known: Iterable[str]) -> Text:
    """A suggestion for an unknown name; begins with a semicolon."""
    there = sorted(known)
    if close := get_close_matches(name, there, 3):
        return say("scenario.meant", names=" / ".join(close))
    more = ", …" if len(there) > MAX_NAMED else ""
    return say("scenario.known", names=f"{', '.join(there[:MAX_NAMED])}{more}") if there else Text("", "")


def _unknown(what: str, key: str, known: Iterable[str]) -> Text:
    return say("scenario.not_registered", what=say(f"scenario.{what}"), key=key, meant=_meant(key, known))


def _at(where: str, reason: Text) -> ConfigurationError:
    """A fault at a place of a file."""
    return ConfigurationError(at(where, reason))


def headline(text: str) -> tuple[str, str, str, str]:
    """Title and what a user should see, each in Chinese and English, without reading the rest."""
    head = toml_text.loads(text).get("scenario", {})
    zh, en, see_zh, see_en = (str(head.get(name, "")).strip() for name in ("zh", "en", "see_zh", "see_en"))
    return zh, en, see_zh, see_en


# -- reading a file --------------------------------------------------------------------------------------------------

_HEAD = frozenset({"zh", "en", "see_zh", "see_en", "start", "days", "step", "spin_up", "stations"})
_WHEN = frozenset({"at", "day", "clock", "for", "every", "times"})
_KEYS: Mapping[str, frozenset[str]] = {
    "event": _WHEN | {"kind", "outfall", "reach", "station", "km", "size", "mm", "us_cm", "state"},
    "fault": _WHEN | {"kind", "station", "parameter", "size", "visit"},
    "visit": frozenset({"station", "at", "day", "clock", "parameters", "note", "every", "times"}),
    "trouble": _WHEN | {"kind", "stations", "station", "gateway", "share", "delay", "ahead", "per_day", "volts"},
    "cycle": frozenset({"stations", "water", "parameters", "cycle"}),
    "weather": frozenset({"cloud", "flow", "heat"}),
    "generate": frozenset({"count", "prefix", "box", "interval"}),
    "scenario": _HEAD,
}
_LISTS = ("event", "fault", "visit", "trouble", "cycle")
_UNITS_S = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(-?\d+(?:\.\d+)?)\s*(ms|s|min|h|d)")
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_SHARED = frozenset({TroubleKind.LOST, TroubleKind.DUPLICATED, TroubleKind.REORDERED, TroubleKind.DELAYED})
_MOMENTS = frozenset({TroubleKind.REBOOT, TroubleKind.DOOR})


@dataclass(frozen=True, slots=True)
class _Row:
    """One table of the file, with its line for error messages."""

    name: str
    number: int
    values: Mapping[str, Any]
    lines: Mapping[tuple[str, int, str], int] = field(repr=False)
    source: str = ""

    def line(self, key: str = "") -> int:
        return self.lines.get((self.name, self.number, key), self.lines.get((self.name, self.number, ""), 1))

    def wrong(self, reason: Text, key: str = "") -> ConfigurationError:
        title = f"{self.name} {self.number + 1}" if self.name in _LISTS else self.name
        return _at(f"{self.source}:{self.line(key)}: {title}", reason)

    def check(self) -> None:
        for key in self.values:
            if key not in _KEYS[self.name]:
                raise self.wrong(say("scenario.unknown_key", key=key, meant=_meant(key, _KEYS[self.name])), key)

    def text(self, key: str, default: str = "") -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise self.wrong(say("scenario.no_text", key=key, value=value), key)
        return value

    def number_of(self, key: str, default: float, least: float = -1e12, most: float = 1e12) -> float:
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise self.wrong(say("scenario.no_number", key=key, value=value, least=least, most=most), key)
        return float(value)

    def seconds(self, key: str, default: float | None = None, *, least: float = 0.0) -> float:
        value = self.values.get(key)
        if value is None:
            if default is None:
                raise self.wrong(say("scenario.missing", key=key))
            return default
        found = _DURATION.findall(value) if isinstance(value, str) else []
        if not found or _DURATION.sub("", value).strip():
            raise self.wrong(say("scenario.no_duration", key=key, value=value), key)
        total = sum(float(n) * _UNITS_S[unit] for n, unit in found)
        if any(n.startswith("-") for n, _ in found):
            raise self.wrong(say("scenario.negative", key=key, value=value), key)
        if total < least:
            raise self.wrong(say("scenario.short", key=key, value=value, least=least), key)
        return total

    def several(self, key: str) -> tuple[str, ...]:
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise self.wrong(say("scenario.no_list", key=key, value=value), key)
        return tuple(value)

    def one_of(self, key: str, kinds: type[_E]) -> _E:
        value = self.text(key)
        try:
            return kinds(value)
        except ValueError:
            if not value:
                raise self.wrong(say("scenario.kind_missing", key=key, meant=_meant("", kinds)), key) from None
            raise self.wrong(say("scenario.unknown", key=key, value=value, meant=_meant(value, kinds)), key) from None


def load(key: str, site: Registry) -> Scenario:
    """A shipped scenario by its key; raises ConfigurationError when there is none."""
    return parse(text_of(key), site, key=key, source=f"{key}.toml")


def parse(text: str, site: Registry, *, key: str, source: str, start_ms: int | None = None) -> Scenario:
    """Parse a scenario (TOML) for the stations, reaches and outfalls of ``site``.

    ``start_ms`` replaces the start the file names: a live run begins now. Raises ConfigurationError with ``source``,
    line and reason for anything that cannot be meant.
    """
    try:
        data = toml_text.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        raise _at(f"{source}:{found[1] if found else 1}", say("file.no_toml", error=error)) from error
    return _Reader(data, line_numbers(text), site, key, source, start_ms).scenario()


def line_numbers(text: str) -> dict[tuple[str, int, str], int]:
    """(table, its number from 0, key or "") → line from 1. Knows the plain layout of these files only."""
    found: dict[tuple[str, int, str], int] = {}
    counts: dict[str, int] = {}
    table, number = "", 0
    for line, content in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*(\[\[?)\s*([\w.-]+)\s*\]", content):
            table, number = header[2], counts.get(header[2], 0) if header[1] == "[[" else 0
            counts[table] = number + 1
            found.setdefault((table, number, ""), line)
        elif entry := re.match(r"\s*([\w-]+)\s*=", content):
            found.setdefault((table, number, entry[1]), line)
    return found


def _cut(faults: Iterable[Fault]) -> Iterator[Trouble]:
    """Without power the line is cut, too: what the logger measures meanwhile waits in its memory."""
    for fault in faults:
        if fault.kind is FaultKind.SUPPLY:
            back_ms = fault.end_ms if fault.visit_ms is None else fault.visit_ms
            yield Trouble(fault.name, TroubleKind.OUTAGE, (fault.station,), fault.start_ms, back_ms, line=fault.line)


class _Reader:
    """Reads one file. Every method raises ConfigurationError with the place; ``scenario`` collects all faults."""

    def __init__(
        self,
        data: Mapping[str, Any],
        lines: Mapping[tuple[str, int, str], int],
        site: Registry,
        key: str,
        source: str,
        start_ms: int | None,
    ) -> None:
        self.data, self.lines, self.key, self.source = data, lines, key, source
        self.wrong: list[Text] = []
        self.head = self._single("scenario")
        for name, value in data.items():
            if name not in _KEYS:
                line = lines.get((name, 0, ""), lines.get(("", 0, name), 1))
                raise _at(f"{source}:{line}", say("scenario.unknown_table", name=name, meant=_meant(name, _KEYS)))
            if name in _LISTS and not (isinstance(value, list) and all(isinstance(v, dict) for v in value)):
                raise _at(f"{source}:{lines.get((name, 0, ''), 1)}", say("scenario.many", name=name))
        self.start_ms = self._start() if start_ms is None else start_ms
        self.days = self.head.seconds("days", least=600.0) / 86_400
        self.end_ms = self.start_ms + round(self.days * DAY_MS)
        self.generated = self._generated()
        chosen = self.head.several("stations")
        for station in chosen:
            if station not in site:
                raise self.head.wrong(_unknown("station", station, (s.key for s in site.stations)), "stations")
        self.site = site
        self.registry = self._shell(chosen).registry(site)
        self.reaches = {r.key: r for r in site.reaches}
        self.outfalls = {o.key: o for o in site.outfalls}

    def _shell(self, chosen: tuple[str, ...]) -> Scenario:
        zh, en, see_zh, see_en = (self.head.text(name).strip() for name in ("zh", "en", "see_zh", "see_en"))
        step_s = self.head.seconds("step", 0.0)
        spin_up = self.head.seconds("spin_up", 6 * 86_400) / 86_400
        return Scenario(
            self.key,
            zh,
            en,
            see_zh,
            see_en,
            start_ms=self.start_ms,
            days=self.days,
            step_s=round(step_s) or None,
            spin_up_days=spin_up,
            stations=chosen,
            generated=self.generated,
        )

    def scenario(self) -> Scenario:
        weather = self._weather()
        events = self._each("event", self._events)
        faults = self._each("fault", self._faults)
        visits = self._each("visit", self._visits)
        troubles = self._each("trouble", self._troubles)
        cycles = self._each("cycle", self._cycles)
        self.wrong.extend(self._contradictions(events))
        if self.wrong:
            raise ConfigurationError(joined(self.wrong))
        return replace(
            self._shell(self.head.several("stations")),
            weather=weather,
            events=tuple(sorted(events, key=lambda e: e.start_ms)),
            faults=tuple(sorted(faults, key=lambda f: f.start_ms)),
            visits=tuple(visits),
            troubles=(*troubles, *_cut(faults)),
            cycles=tuple(cycles),
        )

    def _each(self, name: str, read: Callable[[_Row], list[_T]]) -> list[_T]:
        """Read the tables of a name; faults are collected."""
        rows: list[_T] = []
        for number, values in enumerate(self.data.get(name, [])):
            row = _Row(name, number, values, self.lines, self.source)
            try:
                row.check()
                rows.extend(read(row))
            except ConfigurationError as error:
                self.wrong.append(error.text)
        return rows

    def _weather(self) -> Weather:
        row, usual = self._single("weather"), Weather()
        return Weather(
            row.number_of("cloud", usual.cloud, 0, 1),
            row.number_of("flow", usual.flow, 0.05, 20),
            row.number_of("heat", usual.heat, -15, 15),
        )

    def _single(self, name: str) -> _Row:
        values = self.data.get(name, {})
        if not isinstance(values, dict):
            raise _at(f"{self.source}:{self.lines.get((name, 0, ''), 1)}", say("scenario.single", name=name))
        row = _Row(name, 0, values, self.lines, self.source)
        row.check()
        return row

    def _start(self) -> int:
        value = self.head.values.get("start")
        if value is None:
            raise self.head.wrong(say("scenario.no_start"))
        if isinstance(value, date) and not isinstance(value, datetime):
            return to_ms(datetime(value.year, value.month, value.day, tzinfo=BEIJING))
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise self.head.wrong(say("scenario.bad_start", value=value), "start")
        return to_ms(value)

    def _generated(self) -> Generated | None:
        if "generate" not in self.data:
            return None
        row = self._single("generate")
        count = row.number_of("count", 0, 1, 100_000)
        box = row.values.get("box", [113.0, 22.9, 113.3, 23.15])
        if not isinstance(box, list) or len(box) != 4 or not box[0] < box[2] or not box[1] < box[3]:
            raise row.wrong(say("scenario.box", box=box), "box")
        prefix = row.text("prefix", self.key)
        return Generated(int(count), prefix, tuple(box), round(row.seconds("interval", 300.0, least=1.0)))

    # -- when

    def _moments(self, row: _Row) -> list[int]:
        """When a row begins: ``at`` after the start, or on ``day`` (from 1) at the ``clock`` in Beijing; ``every``."""
        if "at" in row.values:
            if "clock" in row.values or "day" in row.values:
                raise row.wrong(say("scenario.at_or_clock"), "at")
            first_ms = self.start_ms + round(row.seconds("at") * 1000)
        else:
            clock = _CLOCK.fullmatch(row.text("clock"))
            if clock is None:
                raise row.wrong(say("scenario.when"), "clock")
            day = row.number_of("day", 1, 1, 4000)
            midnight_ms = (self.start_ms + BEIJING_OFFSET_MS) // DAY_MS * DAY_MS - BEIJING_OFFSET_MS
            first_ms = midnight_ms + round((day - 1) * DAY_MS) + (int(clock[1]) * 60 + int(clock[2])) * 60_000
            if "day" not in row.values and first_ms < self.start_ms:
                first_ms += DAY_MS
        every_ms = round(row.seconds("every", 0.0) * 1000)
        times = row.number_of("times", 1_000_000 if every_ms else 1, 1, 1_000_000)
        if times > 1 and not every_ms:
            raise row.wrong(say("scenario.times"), "times")
        last_ms = self.end_ms if every_ms else first_ms + 1
        starts = list(range(first_ms, max(last_ms, first_ms + 1), every_ms or 1))[: int(times)]
        if first_ms >= self.end_ms:
            raise row.wrong(say("scenario.after_end", days=self.days), "at" if "at" in row.values else "clock")
        return starts

    # -- what

    def _events(self, row: _Row) -> list[Event]:
        kind = row.one_of("kind", EventKind)
        if kind is EventKind.OVERFLOW:
            raise row.wrong(say("scenario.overflow"), "kind")
        lasts_ms = round(row.seconds("for", least=1.0) * 1000)
        closed = False
        if kind is EventKind.GATE:
            state = row.text("state", "closed")
            if state not in ("open", "closed"):
                raise row.wrong(say("scenario.gate_state", state=state), "state")
            closed = state == "closed"
        elif "state" in row.values:
            raise row.wrong(say("scenario.state"), "state")
        if self.generated is not None and kind not in (*DISCHARGES, EventKind.RAIN, EventKind.SALT_TIDE):
            raise row.wrong(say("scenario.made_up", kind=kind), "kind")
        reach, km, outfall = self._place(row, kind)
        if kind is EventKind.GATE and self.reaches[reach].water is Water.RIVER:
            raise row.wrong(say("scenario.no_gate", reach=reach), "reach")
        if kind is EventKind.RAIN:
            size = row.number_of("mm", 20.0, 0.1, 500)
        elif kind is EventKind.SALT_TIDE:
            size = row.number_of("us_cm", 6000.0, 500, 45_000)
        else:
            size = row.number_of("size", 1.0, 1e-6, 100)
        name = f"{kind}-{row.number + 1}"
        starts = self._moments(row)
        return [
            Event(
                name if len(starts) == 1 else f"{name}.{i}",
                kind,
                start,
                start + lasts_ms,
                size,
                reach,
                km,
                outfall,
                closed,
                row.line(),
            )
            for i, start in enumerate(starts, 1)
        ]

    def _place(self, row: _Row, kind: EventKind) -> tuple[str, float | None, str]:
        """Place of an event: reach (or generated station), km down the reach, outfall; empty or None for none."""
        named = [key for key in ("outfall", "reach", "station") if key in row.values]
        if kind in (EventKind.RAIN, EventKind.SALT_TIDE):
            if named:
                raise row.wrong(say("scenario.everywhere", kind=kind, named=named[0]), named[0])
            return "", None, ""
        if len(named) != 1:
            raise row.wrong(say("scenario.one_place", named=len(named)))
        if named[0] == "outfall":
            return self._at_outfall(row)
        if named[0] == "station":
            return self._at_station(row)
        return self._on_reach(row, kind)

    def _at_outfall(self, row: _Row) -> tuple[str, float, str]:
        key = row.text("outfall")
        outfall = self.outfalls.get(key)
        if outfall is None:
            raise row.wrong(_unknown("outfall", key, self.outfalls), "outfall")
        if outfall.reach not in self.reaches:
            raise row.wrong(say("scenario.outfall_reach", key=key, reach=outfall.reach), "outfall")
        length = length_km(self.reaches[outfall.reach].line)
        if not 0 <= outfall.km <= length:
            raise row.wrong(say("scenario.outfall_beyond", key=key, km=outfall.km, length=length), "outfall")
        return outfall.reach, outfall.km, key

    def _at_station(self, row: _Row) -> tuple[str, float | None, str]:
        station = self._station(row, "station")
        if self.generated is not None:
            return station.key, None, ""
        reach = self.reaches.get(station.reach)
        if reach is None:
            raise row.wrong(say("scenario.no_reach", key=station.key), "station")
        return station.reach, along_km(reach, station.lon, station.lat), ""

    def _on_reach(self, row: _Row, kind: EventKind) -> tuple[str, float | None, str]:
        key = row.text("reach")
        if key not in self.reaches:
            raise row.wrong(_unknown("reach", key, self.reaches), "reach")
        if "km" not in row.values:
            if kind in DISCHARGES:
                raise row.wrong(say("scenario.no_km", kind=kind), "reach")
            return key, None, ""
        return key, row.number_of("km", 0.0, 0.0, length_km(self.reaches[key].line)), ""

    def _station(self, row: _Row, key: str) -> Station:
        name = row.text(key)
        if name not in self.registry:
            raise row.wrong(_unknown("station", name, (s.key for s in self.registry.stations)), key)
        return self.registry[name]

    def _contradictions(self, events: Iterable[Event]) -> Iterator[Text]:
        gates = [e for e in events if e.kind is EventKind.GATE]
        for one, other in combinations(gates, 2):
            together = one.start_ms < other.end_ms and other.start_ms < one.end_ms
            if one.reach == other.reach and one.closed != other.closed and together:
                was, now = (say("scenario.closed" if e.closed else "scenario.open") for e in (one, other))
                text = say("scenario.contradiction", reach=one.reach, now=now, other=one.name, line=one.line, was=was)
                yield at(f"{self.source}:{other.line}: {other.name}", text)

    def _faults(self, row: _Row) -> list[Fault]:
        kind = row.one_of("kind", FaultKind)
        station, parameter = self._station(row, "station"), row.text("parameter")
        if kind in WHOLE_STATION:
            if parameter:
                raise row.wrong(say("scenario.whole_station", kind=kind, parameter=parameter), "parameter")
        elif parameter not in (station.parameters or (parameter,)) or parameter not in self.site.catalogue:
            raise row.wrong(say("scenario.not_measured", key=station.key, parameter=parameter), "parameter")
        lasts_ms = round(row.seconds("for", 1.0 if kind is FaultKind.SPIKE else None) * 1000)
        visit_ms = round(row.seconds("visit") * 1000) if "visit" in row.values else None
        size = row.number_of("size", 1.0, -100, 100)
        name = f"{kind}-{row.number + 1}"
        starts = self._moments(row)
        return [
            Fault(
                name if len(starts) == 1 else f"{name}.{i}",
                kind,
                station.key,
                parameter,
                start,
                start + max(lasts_ms, 1),
                size,
                None if visit_ms is None else start + visit_ms,
                row.line(),
            )
            for i, start in enumerate(starts, 1)
        ]

    def _visits(self, row: _Row) -> list[Visit]:
        station, parameters = self._station(row, "station"), row.several("parameters")
        for parameter in parameters:
            if parameter not in self.site.catalogue:
                raise row.wrong(say("scenario.no_parameter", parameter=parameter), "parameters")
        return [Visit(station.key, at, parameters, row.text("note")) for at in self._moments(row)]

    def _troubles(self, row: _Row) -> list[Trouble]:
        kind = row.one_of("kind", TroubleKind)
        stations = self._of_trouble(row)
        lasts_ms = round(row.seconds("for", 0.0 if kind in _MOMENTS else None) * 1000)
        for key, kinds in (
            ("share", _SHARED),
            ("delay", {TroubleKind.DELAYED, TroubleKind.REORDERED}),
            ("ahead", {TroubleKind.CLOCK_ERROR}),
            ("per_day", {TroubleKind.CLOCK_DRIFT}),
            ("volts", {TroubleKind.BATTERY}),
        ):
            if key in row.values and kind not in kinds:
                raise row.wrong(say("scenario.no_effect", key=key, kind=kind), key)
        ahead = row.values.get("ahead", "0s")
        behind = isinstance(ahead, str) and ahead.startswith("-")
        clock_s = replace(row, values={"ahead": str(ahead).lstrip("-")}).seconds("ahead")
        starts = self._moments(row)
        name = f"{kind}-{row.number + 1}"
        return [
            Trouble(
                name if len(starts) == 1 else f"{name}.{i}",
                kind,
                stations,
                start,
                start + lasts_ms,
                share=row.number_of("share", 0.1 if kind in _SHARED else 1.0, 0, 1),
                delay_s=row.seconds("delay", 60.0),
                clock_s=-clock_s if behind else clock_s,
                drift_s_per_day=row.number_of("per_day", 0.0, -86_400, 86_400),
                volts=row.number_of("volts", 12.6, 0, 60),
                line=row.line(),
            )
            for i, start in enumerate(starts, 1)
        ]

    def _of_trouble(self, row: _Row) -> tuple[str, ...]:
        """``station``, ``gateway`` or ``stations`` with patterns such as ``qcc-*``; all of them when none is named."""
        named = [key for key in ("station", "stations", "gateway") if key in row.values]
        if len(named) > 1:
            raise row.wrong(say("scenario.either", names=" / ".join(named)), named[1])
        if not named:
            return tuple(s.key for s in self.registry.stations)
        if named[0] == "station":
            return (self._station(row, "station").key,)
        if named[0] == "gateway":
            found = tuple(s.key for s in self.registry.stations if s.gateway == row.text("gateway"))
        else:
            found = self._matching(row)
        if not found:
            raise row.wrong(say("scenario.none_of", named=named[0], values=row.values[named[0]]), named[0])
        return found

    def _matching(self, row: _Row) -> tuple[str, ...]:
        patterns = row.several("stations")
        for pattern in patterns:
            if not any(fnmatchcase(s.key, pattern) for s in self.registry.stations):
                raise row.wrong(say("scenario.station_pattern", pattern=pattern), "stations")
        return tuple(s.key for s in self.registry.stations if any(fnmatchcase(s.key, p) for p in patterns))

    def _cycles(self, row: _Row) -> list[Cycle]:
        if "water" in row.values and "stations" in row.values:
            raise row.wrong(say("scenario.water_or_stations"), "water")
        if "water" in row.values:
            water = row.one_of("water", Water)
            stations = tuple(s.key for s in self.registry.stations if s.water is water)
        elif "stations" in row.values:
            stations = self._matching(row)
        else:
            stations = tuple(s.key for s in self.registry.stations)
        parameters = row.several("parameters")
        for parameter in parameters:
            if parameter not in self.site.catalogue:
                raise row.wrong(say("scenario.no_parameter", parameter=parameter), "parameters")
        return [Cycle(stations, parameters, round(row.seconds("cycle")))]


# -- places ----------------------------------------------------------------------------------------------------------


def along_km(reach: Reach, lon: float, lat: float) -> float:
    """Distance down ``reach`` of the point of its line nearest to (lon, lat), in km."""
    shrink = np.cos(np.radians(lat))
    line: Floats = np.array(reach.line) * (shrink, 1.0)
    start, step = line[:-1], np.diff(line, axis=0)
    length = np.hypot(*step.T)
    squared = np.where(length > 0, length**2, 1.0)
    share = np.clip(((np.array([lon * shrink, lat]) - start) * step).sum(axis=1) / squared, 0.0, 1.0)
    away = np.hypot(*(start + share[:, None] * step - (lon * shrink, lat)).T)
    nearest = int(np.argmin(away))
    return float(length[:nearest].sum() + share[nearest] * length[nearest]) * KM_PER_DEGREE


_KINDS = (Water.RIVER, Water.CREEK, Water.CREEK, Water.CREEK, Water.CREEK, Water.LAKE)
_PROBES = ("water_temp", "ph", "do", "conductivity", "turbidity", "nh3n")


def _generate(plan: Generated) -> Sequence[Station]:
    """Stations on a grid over the box, kinds in turn; drawn, not surveyed."""
    west, south, east, north = plan.box
    columns = int(np.ceil(np.sqrt(plan.count)))
    width = len(str(plan.count))
    return [
        Station(
            f"{plan.prefix}-{i + 1:0{width}d}",
            f"示例站 {i + 1}",
            f"Example station {i + 1}",
            round(west + (east - west) * (i % columns + 0.5) / columns, 5),
            round(south + (north - south) * (i // columns + 0.5) / columns, 5),
            water=_KINDS[i % len(_KINDS)],
            interval_s=plan.interval_s,
            parameters=(*_PROBES, "chla") if _KINDS[i % len(_KINDS)] is Water.LAKE else _PROBES,
            note="示例 made up",
        )
        for i in range(plan.count)
    ]
