"""Stations: the registry, what each measured last, and its series as JSON, CSV or Arrow."""

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import IntegrityError

from api.answers import VARY, answer, feature, features, when
from api.asking import (
    ARROW,
    CSV,
    GEOJSON,
    JSON,
    Accept,
    Asked,
    Cursor,
    Known,
    MapLimit,
    Words,
    instant,
    mark,
    place,
    preferred,
)
from api.registries import find
from ingest.storage import registry as registry_store
from ingest.storage.port import Latest, Series
from ingest.storage.port import series as series_of
from sensors.errors import ConfigurationError, Refused
from sensors.parameters import Catalogue, Parameter
from sensors.reading import Flag, Ints, QualityTest, unpack
from sensors.stations import Station, station
from sensors.times import DAY_MS

router = APIRouter(prefix="/stations", tags=["stations"])

RESERVED = frozenset({"latest"})
"""Words below /stations that are no station's key."""

LATE_AFTER, OFFLINE_AFTER = 1.5, 3.0
"""Times the promised interval without any reading."""

POINTS = 20_000


class Reporting(StrEnum):
    """Whether a station reports as promised, judged by its newest reading of any flag."""

    OK = "ok"
    LATE = "late"
    OFFLINE = "offline"
    NEVER = "never"


# -- what comes in -----------------------------------------------------------------------------------------------------


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class StationChange(_Strict):
    """What is to change of a station; what is left out stays."""

    zh: Words | None = None
    en: Words | None = None
    lon: float | None = None
    lat: float | None = None
    reach: Words | None = None
    water: Literal["river", "creek", "lake"] | None = None
    region: Words | None = None
    interval_s: int | None = Field(None, ge=1, le=86_400)
    gateway: Words | None = Field(None, description="null: the station has its own connection")
    parameters: list[Words] | None = None
    note: Words | None = None


class NewStation(_Strict):
    """A station to register; the same entries as in the registry file."""

    key: Words = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    lon: float = Field(ge=-180, le=180, description="degrees, WGS 84")
    lat: float = Field(ge=-90, le=90, description="degrees, WGS 84")
    zh: Words = Field("", description="the key where not given")
    en: Words = Field("", description="the key where not given")
    reach: Words = ""
    water: Literal["river", "creek", "lake"] = "river"
    region: Words = ""
    interval_s: int = Field(300, ge=1, le=86_400, description="promised spacing of readings")
    gateway: Words | None = None
    parameters: list[Words] = Field(default_factory=list, description="what is expected of it")
    note: Words = ""


# -- what goes out -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StationPage:
    """Stations by key."""

    items: list[Station]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class LatestValue:
    """The newest usable value of one parameter, in its canonical unit.

    ``value``, ``at``, ``age_s`` and ``flag`` are null where nothing usable is stored; ``newest_at`` is the newest
    reading of any flag, null where the parameter is expected and was never sent.
    """

    parameter: str
    zh: str
    en: str
    unit: str
    decimals: int
    value: float | None
    at: str | None
    age_s: float | None
    flag: str | None
    newest_at: str | None


@dataclass(frozen=True, slots=True)
class LatestOfStation:
    """What a station measured last; ``state`` and ``age_s`` go by its newest reading of any flag."""

    station: str
    zh: str
    en: str
    state: Reporting
    newest_at: str | None
    age_s: float | None
    interval_s: int
    values: list[LatestValue]


@dataclass(frozen=True, slots=True)
class LatestOfAll:
    """All stations at one instant."""

    at: str | None
    items: list[LatestOfStation]


@dataclass(frozen=True, slots=True)
class Point:
    """One reading; ``tests`` are the quality tests that raised its flag."""

    at: str
    value: float | None
    flag: str
    tests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bucket:
    """All readings from ``at`` on for ``bucket_ms``: mean, least and greatest of the ``count`` usable ones.

    ``value``, ``min`` and ``max`` are null where none is usable; ``flag`` is the worst, ``tests`` are all.
    """

    at: str
    value: float | None
    flag: str
    tests: tuple[str, ...]
    min: float | None
    max: float | None
    count: int


@dataclass(frozen=True, slots=True)
class SeriesOfStation:
    """One parameter of one station, oldest first; ``bucket_ms`` is null unless the series was thinned."""

    station: str
    parameter: str
    zh: str
    en: str
    unit: str
    decimals: int
    start: str | None
    end: str | None
    bucket_ms: int | None
    points: list[Point] | list[Bucket]


# -- the registry ------------------------------------------------------------------------------------------------------


@router.get("", response_model=StationPage, responses={200: {"content": {GEOJSON: {}}}})
def list_stations(known: Known, accept: Accept = JSON, limit: MapLimit = 100, cursor: Cursor = None) -> Response:
    """The registered stations, by key; as GeoJSON with `Accept: application/geo+json`."""
    after = place("stations", cursor, str)
    rest = sorted((s for s in known.now().stations if after is None or s.key > after), key=lambda s: s.key)
    page = rest[:limit]
    following = mark("stations", page[-1].key) if len(rest) > limit else None
    if preferred(accept, (JSON, GEOJSON)) == GEOJSON:
        return features([_feature(s) for s in page], next_cursor=following)
    return answer(StationPage(page, following), headers=VARY)


@router.post("", status_code=201, response_model=Station)
def add_station(asked: Asked, known: Known, new: NewStation) -> Response:
    """Register a station; 409 when its key is taken."""
    if new.key in RESERVED:
        raise ConfigurationError(f"station key {new.key!r} is a word of this API, no station can be called that")
    row = new.model_dump(exclude_unset=True)
    made = _checked(row, asked.catalogue)
    taken = f"station {made.key} is registered already; PATCH changes it"
    try:
        with asked.database.write() as connection:
            if made.key in registry_store.load(connection, asked.catalogue):
                raise Refused(taken)
            registry_store.save_stations(connection, [made])
    except IntegrityError:  # another worker registered it at the same moment
        raise Refused(taken) from None
    known.changed()
    return answer(made, 201, {"Location": f"/api/v1/stations/{made.key}"})


@router.get("/latest", response_model=LatestOfAll)
def latest_of_all(asked: Asked, known: Known) -> Response:
    """The newest usable values of every station, and whether it reports as promised."""
    registry = known.recent()
    by_station: dict[str, list[Latest]] = {}
    for row in asked.store.latest():
        by_station.setdefault(row.station, []).append(row)
    now_ms = asked.clock_ms()
    items = [_latest(s, by_station.get(s.key, ()), asked.catalogue, now_ms) for s in registry.stations]
    return answer(LatestOfAll(when(now_ms), items))


@router.get("/{key}", response_model=Station, responses={200: {"content": {GEOJSON: {}}}})
def get_station(known: Known, key: str, accept: Accept = JSON) -> Response:
    """One station; as a GeoJSON feature with `Accept: application/geo+json`."""
    found = find(known.now(), key)
    if preferred(accept, (JSON, GEOJSON)) == GEOJSON:
        return answer(_feature(found), headers=VARY, media_type=GEOJSON)
    return answer(found, headers=VARY)


@router.patch("/{key}", response_model=Station)
def change_station(asked: Asked, known: Known, key: str, change: StationChange) -> Response:
    """Change what is given of a station and leave the rest; the result is checked as a new station is."""
    given = change.model_dump(exclude_unset=True)
    if absent := [name for name, value in given.items() if value is None and name != "gateway"]:
        raise ConfigurationError(f"station {key}: {absent[0]} cannot be null; leave it out to keep it")
    with asked.database.write() as connection:
        before = find(registry_store.load(connection, asked.catalogue), key)
        after = _checked(asdict(before) | given, asked.catalogue)
        registry_store.save_stations(connection, [after])
    known.changed()
    return answer(after)


# -- what they measured ------------------------------------------------------------------------------------------------


@router.get("/{key}/latest", response_model=LatestOfStation)
def latest_of_station(asked: Asked, known: Known, key: str) -> Response:
    """The newest usable value of each parameter of a station, and whether it reports as promised."""
    found = find(known.recent(), key)
    return answer(_latest(found, asked.store.latest([key]), asked.catalogue, asked.clock_ms()))


@router.get("/{key}/series", response_model=SeriesOfStation, responses={200: {"content": {CSV: {}, ARROW: {}}}})
def series_of_station(
    asked: Asked,
    known: Known,
    key: str,
    parameter: str,
    start: Annotated[str | None, Query(description="RFC 3339, included; 24 h before the end where not given")] = None,
    end: Annotated[str | None, Query(description="RFC 3339, excluded; now where not given")] = None,
    points: Annotated[int, Query(ge=1, le=POINTS, description="thinned to this many")] = 500,
    accept: Accept = JSON,
) -> Response:
    """Values and flags of one parameter; thinned with mean, least and greatest where there are more than `points`.

    As a table with `Accept: text/csv`, as an Arrow stream with `Accept: application/vnd.apache.arrow.stream`.
    """
    found = find(known.recent(), key)
    if parameter not in asked.catalogue:
        keys = ", ".join(asked.catalogue.index)
        raise ConfigurationError(f"parameter {parameter[:80]!r} is not in the catalogue; known are {keys}")
    end_ms = asked.clock_ms() if end is None else instant("end", end)
    start_ms = end_ms - DAY_MS if start is None else instant("start", start)
    if start_ms >= end_ms:
        raise ConfigurationError(f"start {when(start_ms)} is not before end {when(end_ms)}")
    series = series_of(asked.store, found.key, parameter, start_ms, end_ms, points)
    what = asked.catalogue[parameter]
    media_type = preferred(accept, (JSON, CSV, ARROW))
    if media_type == ARROW:
        return Response(_arrow(found.key, what, series), headers=VARY, media_type=ARROW)
    if media_type == CSV:
        named = {"Content-Disposition": f'attachment; filename="{found.key}-{parameter}.csv"'}
        return Response(_csv(what, series), headers=VARY | named, media_type=CSV)
    body = SeriesOfStation(
        station=found.key,
        parameter=what.key,
        zh=what.zh,
        en=what.en,
        unit=what.unit,
        decimals=what.decimals,
        start=when(start_ms),
        end=when(end_ms),
        bucket_ms=series.bucket_ms,
        points=_points(series),
    )
    return answer(body, headers=VARY)


# -- how it is done ----------------------------------------------------------------------------------------------------


def _checked(row: dict[str, Any], catalogue: Catalogue) -> Station:
    """The station a row describes, checked as a row of the registry file is."""
    parameters = row.get("parameters", ())
    if len(set(parameters)) < len(parameters):
        raise ConfigurationError(f"station {row.get('key')}: parameters names a parameter twice")
    return station(row, catalogue)


def _feature(s: Station) -> dict[str, Any]:
    properties = {name: value for name, value in asdict(s).items() if name not in {"lon", "lat"}}
    return feature(s.key, {"type": "Point", "coordinates": [s.lon, s.lat]}, properties)


def _latest(s: Station, rows: Iterable[Latest], catalogue: Catalogue, now_ms: int) -> LatestOfStation:
    found = {row.parameter: row for row in rows}
    keys = {*found, *s.parameters} & catalogue.index.keys()
    newest_ms = max((row.newest_at_ms for row in found.values()), default=None)
    return LatestOfStation(
        station=s.key,
        zh=s.zh,
        en=s.en,
        state=_state(newest_ms, s.interval_s, now_ms),
        newest_at=when(newest_ms),
        age_s=_age_s(newest_ms, now_ms),
        interval_s=s.interval_s,
        values=[_value(catalogue[k], found.get(k), now_ms) for k in sorted(keys, key=catalogue.index.__getitem__)],
    )


def _state(newest_ms: int | None, interval_s: int, now_ms: int) -> Reporting:
    if newest_ms is None:
        return Reporting.NEVER
    silent_s = (now_ms - newest_ms) / 1000
    if silent_s <= LATE_AFTER * interval_s:
        return Reporting.OK
    return Reporting.LATE if silent_s <= OFFLINE_AFTER * interval_s else Reporting.OFFLINE


def _age_s(at_ms: int | None, now_ms: int) -> float | None:
    """Seconds since then; 0 for a device whose clock runs ahead of ours."""
    return None if at_ms is None else max(0, now_ms - at_ms) / 1000


def _value(p: Parameter, row: Latest | None, now_ms: int) -> LatestValue:
    usable = row is not None and row.at_ms is not None and row.value is not None
    return LatestValue(
        parameter=p.key,
        zh=p.zh,
        en=p.en,
        unit=p.unit,
        decimals=p.decimals,
        value=row.value if row and usable else None,
        at=when(row.at_ms) if row and usable else None,
        age_s=_age_s(row.at_ms, now_ms) if row and usable else None,
        flag=_flag_name(row.packed & 15) if row and usable else None,
        newest_at=when(row.newest_at_ms) if row else None,
    )


def _flag_name(flag: int) -> str:
    return Flag(flag).name.lower()


def _verdicts(series: Series) -> list[tuple[str, tuple[str, ...]]]:
    """(n,) the name of each flag and the names of the tests that raised it."""
    different, which = np.unique(series.packed, return_inverse=True)
    flags, tests = unpack(different)
    names = [
        (_flag_name(flag), tuple(str(test.name).lower() for test in QualityTest if test & bits))
        for flag, bits in zip(flags.tolist(), tests.tolist(), strict=True)
    ]
    return [names[i] for i in which.tolist()]


def _instants(at: Ints) -> list[str]:
    """(n,) the instants as RFC 3339 text, with milliseconds only where any has them."""
    unit: Literal["ms", "s"] = "ms" if (at % 1000).any() else "s"
    return [
        str(text) for text in np.datetime_as_string(at.astype("datetime64[ms]"), unit=unit, timezone="UTC").tolist()
    ]


def _points(series: Series) -> list[Point] | list[Bucket]:
    rows = zip(_instants(series.at), series.value.tolist(), _verdicts(series), strict=True)
    if series.bucket_ms is None:
        return [Point(at, value, flag, tests) for at, value, (flag, tests) in rows]
    spread = zip(series.low.tolist(), series.high.tolist(), series.count.tolist(), strict=True)
    return [
        Bucket(at, value, flag, tests, low, high, count)
        for (at, value, (flag, tests)), (low, high, count) in zip(rows, spread, strict=True)
    ]


def _csv(what: Parameter, series: Series) -> str:
    """A table; tests are separated by spaces, and what is null in JSON is empty."""
    text = io.StringIO()
    table = csv.writer(text)
    thinned = series.bucket_ms is not None
    table.writerow(["at", "value", "unit", "flag", "tests", *(["min", "max", "count"] if thinned else [])])
    for row in _points(series):
        cells = [row.at, _cell(row.value), what.unit, row.flag, " ".join(row.tests)]
        if isinstance(row, Bucket):
            cells += [_cell(row.min), _cell(row.max), str(row.count)]
        table.writerow(cells)
    return text.getvalue()


def _cell(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(value)


def _arrow(key: str, what: Parameter, series: Series) -> bytes:
    """One record batch as an Arrow stream, its schema naming the station, the parameter and the unit."""
    import pyarrow as pa  # slow to load, and most processes never need it

    verdicts = _verdicts(series)
    columns: dict[str, Any] = {
        "at": pa.array(series.at, pa.timestamp("ms", tz="UTC")),
        "value": pa.array(series.value, pa.float64(), from_pandas=True),
        "flag": pa.array([flag for flag, _ in verdicts], pa.string()),
        "tests": pa.array([list(tests) for _, tests in verdicts], pa.list_(pa.string())),
    }
    if series.bucket_ms is not None:
        columns["min"] = pa.array(series.low, pa.float64(), from_pandas=True)
        columns["max"] = pa.array(series.high, pa.float64(), from_pandas=True)
        columns["count"] = pa.array(series.count, pa.int64())
    bucket_ms = "" if series.bucket_ms is None else str(series.bucket_ms)
    named = {"station": key, "parameter": what.key, "unit": what.unit, "bucket_ms": bucket_ms}
    batch = pa.record_batch(columns).replace_schema_metadata(named)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return bytes(sink.getvalue())
