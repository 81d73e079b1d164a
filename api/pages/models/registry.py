"""The registry's pages: what we own and what is due, what a form says of a station, what a file would change. Pure."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from api.maintenance import MaintenanceSummary
from api.pages.models.drawing import Mark, Sheet, Sizes, draw
from api.pages.models.drawing import Water as Drawn
from api.pages.models.overview import Data, data_state
from governance.organisation.regions import Regions
from infra.errors import ConfigurationError
from infra.texts import Text, say
from infra.times import DAY_MS, rfc3339, to_ms
from sensors import network, registry_rows
from sensors.datum import Box, Datum, wgs84
from sensors.parameters import Catalogue
from sensors.registry_rows import Book
from sensors.stations import MAX_GATEWAY_CHARS, MAX_INTERVAL_S, Deployment, Reach, Registry, Station, Water
from sensors.wire.telemetry import STATION

SOON_DAYS = 7
"""A check that is due within so many days is announced."""
OFF_RIVER_KM = 0.3
"""A station farther from the line of its river is asked about: a wide river and a line drawn in its middle fit in."""
LONGEST_TEXT = 200
LONGEST_SERIAL = 64
DEEPEST_M = 500.0
LONGEST_CYCLE_S = 7 * 86_400
RESERVED = frozenset({"new", "latest"})
"""Words that stand in paths in place of a key."""
PAGE = 50
"""Stations of a page of the table."""
MAP = (1360.0, 620.0)
MOST_MARKS = 2000
DUE = ("overdue", "soon", "later", "none")


# -- the table ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Due:
    """The next check of a station's sensors; ``state`` is one of ``DUE``, ``at_ms`` 0 where none was ever made."""

    state: str
    parameter: str = ""
    at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A station as a row: ``models`` and ``serials`` of what hangs there now; ``logins`` None where nobody may know."""

    station: Station
    reach: Text | None
    region: Text | None
    serials: tuple[str, ...]
    models: tuple[str, ...]
    state: Data
    newest_at_ms: int | None
    due: Due
    logins: int | None

    @property
    def retired(self) -> bool:
        return self.state is Data.RETIRED

    @property
    def name(self) -> Text:
        return Text(self.station.zh, self.station.en)


@dataclass(frozen=True, slots=True)
class Filter:
    """What the address asks for; "" for all."""

    q: str = ""
    river: str = ""
    region: str = ""
    state: str = ""
    model: str = ""
    due: str = ""
    login: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Filter":
        return cls(**{name: query.get(name, "").strip()[:LONGEST_TEXT] for name in cls.__slots__})

    @property
    def asked(self) -> bool:
        """Whether anything is left out."""
        return self != Filter()


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of the stations that a filter chose; ``overdue`` … count all stations."""

    entries: tuple[Entry, ...]
    chosen: int
    all: int
    page: int
    pages: int
    offline: int
    overdue: int
    soon: int
    without_login: int
    retired: int


def entries(
    registry: Registry,
    cares: Iterable[MaintenanceSummary],
    logins: Mapping[str, int] | None,
    now_ms: int,
) -> list[Entry]:
    """All stations, by key. ``logins`` None: who looks may not know who has one."""
    reaches = {r.key: Text(r.zh, r.en) for r in registry.reaches}
    regions = {r.code: Text(r.zh, r.en) for r in registry.regions}
    models = {d.serial: d.model for d in registry.devices}
    serials: dict[str, list[str]] = {}
    for hung in in_force(registry.deployments, now_ms):
        if hung.device and hung.device not in serials.setdefault(hung.station, []):
            serials[hung.station].append(hung.device)
    found = []
    for care in cares:
        station = care.station
        mine = tuple(serials.get(station.key, ()))
        found.append(
            Entry(
                station=station,
                reach=reaches.get(station.reach),
                region=regions.get(station.region),
                serials=mine,
                models=tuple(dict.fromkeys(filter(None, (models.get(one, "") for one in mine)))),
                state=data_state(
                    care.newest_at_ms, station.interval_s, now_ms, retired=station.key in registry.retired
                ),
                newest_at_ms=care.newest_at_ms,
                due=due(care, now_ms),
                logins=None if logins is None else logins.get(station.key, 0),
            )
        )
    return sorted(found, key=lambda one: one.station.key)


def due(care: MaintenanceSummary, now_ms: int) -> Due:
    """The check of a station that is due first."""
    dated = [(one.due_ms, one.parameter) for one in care.due if one.due_ms is not None]
    if not dated:
        return Due("none")
    at_ms, parameter = min(dated)
    state = "overdue" if at_ms <= now_ms else "soon" if at_ms <= now_ms + SOON_DAYS * DAY_MS else "later"
    return Due(state, parameter, at_ms)


def listing(rows: Sequence[Entry], wanted: Filter, regions: Regions, page: int) -> Listing:
    """The page of the table that an address asks for; the last one for a number beyond it."""
    chosen = [one for one in rows if chooses(wanted, one, regions)]
    pages = max(1, -(-len(chosen) // PAGE))
    page = min(max(page, 1), pages)
    active = [one for one in rows if not one.retired]
    return Listing(
        entries=tuple(chosen[(page - 1) * PAGE : page * PAGE]),
        chosen=len(chosen),
        all=len(active),
        page=page,
        pages=pages,
        offline=sum(one.state is Data.OFFLINE for one in active),
        overdue=sum(one.due.state == "overdue" for one in active),
        soon=sum(one.due.state == "soon" for one in active),
        without_login=sum(one.logins == 0 for one in active),
        retired=len(rows) - len(active),
    )


def sheet(rows: Iterable[Entry], reaches: Iterable[Reach], english: bool) -> Sheet:
    """The stations drawn beside their rivers; at most ``MOST_MARKS``."""
    waters = [
        Drawn(r.key, r.en if english else r.zh, r.line, None, r.water is Water.LAKE) for r in reaches if len(r.line) > 1
    ]
    marks = []
    for one in list(rows)[:MOST_MARKS]:
        name = one.name.en if english else one.name.zh
        marks.append(Mark(one.station.key, name, (one.station.lon, one.station.lat), one.state))
    return draw(waters, marks, *MAP, Sizes(badge=0.0))


def chooses(wanted: Filter, one: Entry, regions: Regions) -> bool:
    """Whether a filter lets a station through; a region stands for all below it, and retired ones are asked for."""
    station = one.station
    return (
        (not wanted.river or station.reach == wanted.river)
        and (not wanted.region or wanted.region in regions.up(station.region))
        and one.state == (wanted.state or one.state)
        and (wanted.state == Data.RETIRED or not one.retired)
        and (not wanted.model or wanted.model in one.models)
        and (not wanted.due or one.due.state == wanted.due)
        and (not wanted.login or one.logins is None or (one.logins > 0) == (wanted.login == "with"))
        and _is_called(wanted.q.casefold(), one)
    )


def _is_called(wanted: str, one: Entry) -> bool:
    """Whether each word of what is looked for is part of a name, the key, the gateway or a serial number."""
    names = [one.station.key, one.station.zh, one.station.en, one.station.gateway or "", *one.serials]
    names += [text for name in (one.reach, one.region) if name is not None for text in (name.zh, name.en)]
    every = "\n".join(names).casefold()
    return all(word in every for word in wanted.split())


# -- what hangs there --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hanging:
    """A deployment with the model of its device; ``until_ms`` is where it ended, by itself or by the next one.

    It hangs there ``now``, hung there in the ``past``, or is planned.
    """

    deployment: Deployment
    model: str
    until_ms: int | None
    now: bool
    past: bool


def hangings(registry: Registry, key: str, now_ms: int) -> list[Hanging]:
    """What hangs at a station and hung there: what hangs now first, by parameter, newest first."""
    models = {d.serial: d.model for d in registry.devices}
    mine = [d for d in registry.deployments if d.station == key]
    found = []
    for one in mine:
        ends = [o.since_ms for o in mine if o.parameter == one.parameter and o.since_ms > one.since_ms]
        until_ms = min([*ends, *([] if one.until_ms is None else [one.until_ms])], default=None)
        now = one.since_ms <= now_ms and (until_ms is None or now_ms < until_ms)
        past = until_ms is not None and until_ms <= now_ms
        found.append(Hanging(one, models.get(one.device, ""), until_ms, now, past))
    order = registry.catalogue.index
    return sorted(found, key=lambda h: (not h.now, order[h.deployment.parameter], -h.deployment.since_ms))


def in_force(deployments: Iterable[Deployment], now_ms: int) -> list[Deployment]:
    """What hangs now: of each parameter of a station the last that began, unless it ended."""
    last: dict[tuple[str, str], Deployment] = {}
    for one in sorted(deployments, key=lambda d: d.since_ms):
        if one.since_ms <= now_ms:
            last[one.station, one.parameter] = one
    return [one for one in last.values() if one.until_ms is None or now_ms < one.until_ms]


# -- the checklist -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Item:
    """A line of the checklist of a station: its key, whether it is done, and what there is or what is missing."""

    key: str
    done: bool
    detail: Text


def off_river_km(registry: Registry, reach: str, lon: float, lat: float) -> float | None:
    """How far a place lies from the line of its river; None without one."""
    found = registry.reach(reach)
    return None if found is None else network.distance_to_line_km(found.line, lon, lat)


def checklist(
    registry: Registry, station: Station, chiefs: Sequence[str], photos: int, newest: str | None, now_ms: int
) -> list[Item]:
    """What a station needs before anybody can answer for it. ``newest`` is the time of its newest reading, in words."""
    reach = registry.reach(station.reach)
    km = off_river_km(registry, station.reach, station.lon, station.lat)
    hung = {d.parameter for d in in_force(registry.deployments, now_ms) if d.station == station.key}
    bare = [registry.catalogue[p] for p in station.parameters if p not in hung]
    target = None if reach is None else reach.target
    region = next((r for r in registry.regions if r.code == station.region), None)
    return [
        Item(
            "place",
            km is not None and km <= OFF_RIVER_KM,
            _place(km, reach),
        ),
        Item(
            "region",
            region is not None,
            say("registry_page.check_no_region") if region is None else Text(region.zh, region.en),
        ),
        Item("parameters", bool(station.parameters), say("registry_page.check_count", count=len(station.parameters))),
        Item(
            "unit",
            bool(station.parameters) and not bare,
            say("registry_page.check_unit_missing", names=_joined(Text(p.zh, p.en) for p in bare))
            if bare
            else say("registry_page.check_unit"),
        ),
        Item(
            "limit",
            target is not None,
            say("registry_page.check_no_limit")
            if target is None
            else say("registry_page.check_limit", sign=target.sign),
        ),
        Item(
            "chief",
            bool(chiefs),
            Text("、".join(chiefs), ", ".join(chiefs)) if chiefs else say("registry_page.check_no_chief"),
        ),
        Item("photo", photos > 0, say("registry_page.check_count", count=photos)),
        Item(
            "reading",
            newest is not None,
            say("registry_page.check_reading") if newest is None else Text(newest, newest),
        ),
    ]


def _place(km: float | None, reach: Reach | None) -> Text:
    if km is None or reach is None:
        return say("registry_page.check_no_river")
    if km <= OFF_RIVER_KM:
        return say("registry_page.check_place", reach=Text(reach.zh, reach.en))
    return say("registry_page.off", km=f"{km:.1f}", reach=Text(reach.zh, reach.en))


def _joined(texts: Iterable[Text]) -> Text:
    every = list(texts)
    return Text("、".join(t.zh for t in every), ", ".join(t.en for t in every))


# -- the form of a station ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StationForm:
    """What stands in the form: as somebody typed it, for showing it again with what is wrong."""

    key: str = ""
    zh: str = ""
    en: str = ""
    lon: str = ""
    lat: str = ""
    datum: str = "WGS 84"
    reach: str = ""
    water: str = "river"
    region: str = ""
    interval_s: str = "300"
    gateway: str = ""
    parameters: tuple[str, ...] = ()
    note: str = ""
    keep_place: str = ""

    @classmethod
    def of(cls, station: Station) -> "StationForm":
        texts = {name: str(getattr(station, name)) for name in ("key", "zh", "en", "reach", "region", "note")}
        return cls(
            **texts,
            lon=f"{station.lon:.6f}".rstrip("0").rstrip("."),
            lat=f"{station.lat:.6f}".rstrip("0").rstrip("."),
            water=station.water.value,
            interval_s=str(station.interval_s),
            gateway=station.gateway or "",
            parameters=station.parameters,
        )

    @classmethod
    def typed(cls, given: Mapping[str, str], parameters: Iterable[str]) -> "StationForm":
        names = [name for name in cls.__slots__ if name != "parameters"]
        return cls(**{name: given.get(name, "").strip() for name in names}, parameters=tuple(dict.fromkeys(parameters)))


@dataclass(frozen=True)
class Read:
    """What a form says: the entries of a station, and by field what is wrong with it.

    ``off_km``: the place is so far off its river that somebody has to say that it is meant.
    """

    values: Mapping[str, Any]
    wrong: Mapping[str, Text] = field(default_factory=dict)
    off_km: float | None = None


def read_station(
    form: StationForm, registry: Registry, catalogue: Catalogue, box: Box | None, before: Station | None = None
) -> Read:
    """Check what a form says of a station, field by field; ``before`` is the station that it changes."""
    wrong: dict[str, Text] = {}
    values: dict[str, Any] = {"parameters": list(form.parameters), "gateway": form.gateway or None}
    if before is None:
        values["key"] = form.key
        if not STATION.fullmatch(form.key) or form.key in RESERVED:
            wrong["key"] = say("registry_page.wrong_key")
        elif form.key in registry:
            wrong["key"] = say("registry_page.taken", key=form.key)
    _texts(form, registry, before, values, wrong)
    if unknown := [one for one in form.parameters if one not in catalogue]:
        wrong["parameters"] = say("registry_page.wrong_choice", value=unknown[0][:40])
    if re.fullmatch(r"\d{1,6}", form.interval_s) and 1 <= int(form.interval_s) <= MAX_INTERVAL_S:
        values["interval_s"] = int(form.interval_s)
    else:
        wrong["interval_s"] = say("registry_page.wrong_interval", most=MAX_INTERVAL_S)
    off_km = _where(form, registry, box, before, values, wrong)
    return Read(values, wrong, off_km)


def same(form: StationForm, station: Station) -> bool:
    """Whether a form says what is registered already."""
    there = StationForm.of(station)
    mine = replace(form, key=there.key, en=form.en or form.zh, parameters=there.parameters, keep_place="")
    return mine == there and set(form.parameters) == set(there.parameters)


def _texts(
    form: StationForm, registry: Registry, before: Station | None, values: dict[str, Any], wrong: dict[str, Text]
) -> None:
    for name in ("zh", "en", "note"):
        values[name] = getattr(form, name)
        if len(values[name]) > LONGEST_TEXT:
            wrong[name] = say("registry_page.wrong_long", most=LONGEST_TEXT)
    if not form.zh:
        wrong["zh"] = say("registry_page.wrong_empty")
    values["en"] = form.en or form.zh
    if len(form.gateway) > MAX_GATEWAY_CHARS:
        wrong["gateway"] = say("registry_page.wrong_long", most=MAX_GATEWAY_CHARS)
    known: dict[str, Collection[str]] = {
        "reach": {"", *(r.key for r in registry.reaches)},
        "region": {"", *(r.code for r in registry.regions)},
        "water": {one.value for one in Water},
    }
    for name, choices in known.items():
        values[name] = getattr(form, name)
        if values[name] not in choices and (before is None or values[name] != getattr(before, name)):
            wrong[name] = say("registry_page.wrong_choice", value=values[name][:40])


def _where(
    form: StationForm,
    registry: Registry,
    box: Box | None,
    before: Station | None,
    values: dict[str, Any],
    wrong: dict[str, Text],
) -> float | None:
    """Read the place, and how far it is off the river where that has to be asked."""
    if before is not None:
        there = StationForm.of(before)
        if (form.lon, form.lat, form.datum, form.reach) == (there.lon, there.lat, there.datum, there.reach):
            return None
    for name, most in (("lon", 180.0), ("lat", 90.0)):
        try:
            values[name] = float(form.lon if name == "lon" else form.lat)
        except ValueError:
            wrong[name] = say("registry_page.wrong_degrees")
            continue
        if not abs(values[name]) <= most:  # true for NaN, too
            wrong[name] = say("registry_page.wrong_degrees")
    if form.datum not in [one.value for one in Datum]:
        wrong["datum"] = say("registry_page.wrong_choice", value=form.datum[:40])
    if wrong.keys() & {"lon", "lat", "datum"}:
        return None
    values["datum"] = form.datum
    try:
        lon, lat = wgs84(values["lon"], values["lat"], Datum(form.datum))
        if box is not None:
            box.check(lon, lat)
    except ConfigurationError as error:
        wrong["lon"] = error.text
        return None
    km = off_river_km(registry, form.reach, lon, lat)
    return km if km is not None and km > OFF_RIVER_KM and not form.keep_place else None


# -- the form of a sensor ----------------------------------------------------------------------------------------------


def read_sensor(given: Mapping[str, str], hanging: Sequence[Hanging], catalogue: Catalogue) -> Read:
    """Check what a form says of a sensor that is hung. ``same`` is wrong of one that hangs there already."""
    wrong: dict[str, Text] = {}
    values: dict[str, Any] = {name: given[name] for name in ("parameter", "device", "model", "manufacturer")}
    values["unit"] = given["unit"] or None
    if given["parameter"] not in catalogue:
        wrong["parameter"] = say("registry_page.wrong_choice", value=given["parameter"][:40])
    for name in ("device", "model", "manufacturer"):
        if len(given[name]) > LONGEST_SERIAL:
            wrong[name] = say("registry_page.wrong_long", most=LONGEST_SERIAL)
    since_ms = _since(given["since"])
    newest = max(
        (h.deployment for h in hanging if h.deployment.parameter == given["parameter"]), key=_since_of, default=None
    )
    if since_ms is None:
        wrong["since"] = say("registry_page.wrong_since")
    elif newest is not None and (newest.since_ms, newest.device) == (since_ms, given["device"]):
        wrong["same"] = say("registry_page.hangs_already")
    elif newest is not None and since_ms <= newest.since_ms:
        wrong["since"] = say("registry_page.wrong_past")
    else:
        values["since"] = rfc3339(since_ms)
    values["depth_m"] = _depth(given["depth_m"], wrong)
    values["cycle_s"] = _cycle(given["cycle_s"], wrong)
    return Read(values, wrong)


def _depth(text: str, wrong: dict[str, Text]) -> float | None:
    try:
        depth_m = float(text) if text else None
    except ValueError:
        depth_m = -1.0
    if depth_m is not None and not 0 <= depth_m <= DEEPEST_M:  # true for NaN, too
        wrong["depth_m"] = say("registry_page.wrong_depth")
        return None
    return depth_m


def _cycle(text: str, wrong: dict[str, Text]) -> int | None:
    if not text:
        return None
    if re.fullmatch(r"\d{1,6}", text) and 1 <= int(text) <= LONGEST_CYCLE_S:
        return int(text)
    wrong["cycle_s"] = say("registry_page.wrong_interval", most=LONGEST_CYCLE_S)
    return None


def _since_of(deployment: Deployment) -> int:
    return deployment.since_ms


def _since(text: str) -> int | None:
    """The instant of a field for date and time, which is Beijing time; None for none."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d", text):
        return None
    try:
        return to_ms(datetime.fromisoformat(f"{text}+08:00"))
    except ValueError:
        return None


# -- importing a file --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a file: what it is, and what it would change: (entry, before, after); ``new`` where it adds.

    ``off_km``: a station that far from its river.
    """

    kind: str
    key: str
    name: str
    new: bool
    changes: tuple[tuple[str, str, str], ...]
    off_km: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a file would change of the registry; ``same`` counts the rows that are there already, as they are."""

    lines: tuple[Line, ...]
    same: int
    stations: frozenset[str]
    """Stations that the changes concern."""

    @property
    def counts(self) -> Mapping[tuple[str, bool], int]:
        """How many rows of a kind are new or changed."""
        found: dict[tuple[str, bool], int] = {}
        for line in self.lines:
            found[line.kind, line.new] = found.get((line.kind, line.new), 0) + 1
        return found

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset(line.kind for line in self.lines)


WHOLE_SITE: Final = frozenset({"region", "reach", "travel", "outfall"})
"""Kinds that belong to no station."""
RECORDS: Final = frozenset({"check", "visit"})


def plan(book: Book, known: Book) -> Plan:
    """What would change if the book were imported into what is known."""
    there = {(kind, registry_rows.identity(thing)): entries for kind, thing, entries in _things(known)}
    lines, stations, same = [], set(), 0
    for kind, thing, after in _things(book):
        before = there.get((kind, registry_rows.identity(thing)))
        if before == after:
            same += 1
            continue
        names = dict.fromkeys([*(before or {}), *after])
        changed = tuple(
            (name, _shown(before, name), _shown(after, name))
            for name in names
            if (before or {}).get(name) != after.get(name)
        )
        key = str(getattr(thing, "station", "") or next(iter(after.values())))
        name = str(after.get("zh") or after.get("parameter") or "")
        lines.append(Line(kind, key, name, before is None, changed, _off_km(thing, book, known)))
        if kind in {"station", "deployment", *RECORDS}:
            stations.add(key)
    return Plan(tuple(lines), same, frozenset(stations))


def _off_km(thing: object, *books: Book) -> float | None:
    """How far a station lies from its river, where that is far."""
    if not isinstance(thing, Station):
        return None
    found = (off_river_km(book.registry, thing.reach, thing.lon, thing.lat) for book in books)
    km = next((one for one in found if one is not None), None)
    return km if km is not None and km > OFF_RIVER_KM else None


def _things(book: Book) -> Iterable[tuple[str, Any, dict[str, Any]]]:
    registry, done = book.registry, book.maintenance
    things = (
        *(*registry.regions, *registry.reaches, *registry.travels, *registry.outfalls, *registry.devices),
        *(*registry.stations, *registry.deployments, *done.checks, *done.visits),
    )
    for thing, (kind, values) in zip(things, registry_rows.rows_of(book), strict=True):
        yield kind, thing, values


def _shown(row: Mapping[str, Any] | None, name: str) -> str:
    value = None if row is None else row.get(name)
    text = "" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
