"""Stations: the registry, what each measured last, and its series as JSON, CSV or Arrow."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Annotated, Any, Literal

from fastapi import Query, Response
from pydantic import Field
from sqlalchemy.exc import IntegrityError

from api import entity_tags
from api.access import Who, author, reaches
from api.classes import LiveClassView, view
from api.context import Context
from api.entity_tags import IfMatch
from api.exports import Export
from api.registries import Registries, find
from api.requests import (
    ARROW,
    CSV,
    GEOJSON,
    JSON,
    Accept,
    By,
    Cursor,
    MapLimit,
    RequestContext,
    RequestRegistries,
    Strict,
    Words,
    cut,
    day,
    instant,
    place,
    preferred,
)
from api.responses import VARY, answer, feature, features, viewed, when
from api.routes.router import subject_router
from api.series import Bucket, Point, arrow_of, csv_of, flag_name, pieces, points
from governance.organisation.roles import Actor
from infra.errors import ConfigurationError, Refused
from infra.texts import Text, say
from infra.times import DAY_MS, HOUR_MS, beijing_day_span
from ingest.analysis.forecasts import StoredForecast, stored_forecasts
from ingest.analysis.live_classes import STATION, ShownClass, current_classes
from ingest.storage import changes
from ingest.storage import maintenance as maintenance_store
from ingest.storage import registry as registry_store
from ingest.storage.port import Latest
from ingest.storage.port import series as series_of
from sensors.datum import Datum, wgs84
from sensors.forecast import Verdict
from sensors.maintenance import RETIRED_UNTIL_MS, Mute
from sensors.parameters import Catalogue, Parameter
from sensors.reporting import Reporting, reporting
from sensors.stations import Station, read_station

router = subject_router("stations", "/stations")

RESERVED = frozenset({"latest"})
"""Words below /stations that are no station's key."""

THINNED, POINTS = 500, 20_000
"""Points of a JSON answer that does not say how many, and the most that may be asked for."""


# -- what comes in -----------------------------------------------------------------------------------------------------


class StationChange(Strict):
    """What is to change of a station; what is left out stays."""

    zh: Words | None = None
    en: Words | None = None
    lon: float | None = None
    lat: float | None = None
    datum: Literal["WGS 84", "GCJ-02"] | None = Field(None, description="of lon and lat, given together")
    reach: Words | None = None
    water: Literal["river", "creek", "lake"] | None = None
    region: Words | None = None
    interval_s: int | None = Field(None, ge=1, le=86_400)
    gateway: Words | None = Field(None, description="null: the station has its own connection")
    parameters: list[Words] | None = None
    note: Words | None = None
    by: By = None


class StationRetirement(Strict):
    """Why a station is taken out of service, and from which Beijing day on."""

    reason: Words = Field(max_length=500)
    day: Annotated[str, Field(description="YYYY-MM-DD; today, from now on, where not given")] = ""
    by: By = None


class Reinstatement(Strict):
    """The station measures again."""

    by: By = None


@dataclass(frozen=True, slots=True)
class RetirementView:
    """A station out of service: since when, until when (null: still), by whom and why."""

    station: str
    since: str | None
    until: str | None
    by: str
    reason: str


class NewStation(Strict):
    """A station to register; the same entries as in the registry file."""

    key: Words = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    lon: float = Field(ge=-180, le=180, description="degrees, WGS 84 unless `datum` says otherwise")
    lat: float = Field(ge=-90, le=90, description="degrees, WGS 84 unless `datum` says otherwise")
    datum: Literal["WGS 84", "GCJ-02"] = Field("WGS 84", description="of lon and lat; they are kept as WGS 84")
    zh: Words = Field("", description="the key where not given")
    en: Words = Field("", description="the key where not given")
    reach: Words = ""
    water: Literal["river", "creek", "lake"] = "river"
    region: Words = ""
    interval_s: int = Field(300, ge=1, le=86_400, description="promised spacing of readings")
    gateway: Words | None = None
    parameters: list[Words] = Field(default_factory=list, description="what is expected of it")
    note: Words = ""
    by: By = None


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
    """What a station measured last; ``state`` and ``age_s`` go by its newest reading of any flag.

    ``live`` is the class it shows, null where it was never judged.
    """

    station: str
    zh: str
    en: str
    state: Reporting
    newest_at: str | None
    age_s: float | None
    interval_s: int
    live: LiveClassView | None
    values: list[LatestValue]


@dataclass(frozen=True, slots=True)
class LatestOfAll:
    """All stations at one instant."""

    at: str | None
    items: list[LatestOfStation]


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


@dataclass(frozen=True, slots=True)
class ForecastPoint:
    """The median at an instant and the ends of the interval that is to hold four truths of five."""

    at: str | None
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class CrossingView:
    """When a limit will be passed; null where not within three days. ``rule`` null: the limit of the target class."""

    rule: str | None
    limit: float
    above: bool
    expected_at: str | None
    earliest_at: str | None
    latest_at: str | None


@dataclass(frozen=True, slots=True)
class ForecastOfSeries:
    """What one series will be like; without ``points`` where it is not shown, and ``text`` says why.

    ``ratio`` is the mean absolute error to that of saying no change, over the ``days`` before; ``coverage`` the share
    of the truths of these days that the interval held.
    """

    station: str
    parameter: str
    unit: str
    issued_at: str | None
    shown: bool
    verdict: str
    text: Text
    last_at: str | None
    last: float | None
    step_h: int
    ratio: float | None
    ratio_daily: float | None
    coverage: float | None
    days: int
    points: list[ForecastPoint]
    crossings: list[CrossingView]


@dataclass(frozen=True, slots=True)
class Forecasts:
    """The newest forecasts of a station."""

    items: list[ForecastOfSeries]


# -- the registry ------------------------------------------------------------------------------------------------------


@router.get("", response_model=StationPage, responses={200: {"content": {GEOJSON: {}}}})
def list_stations(
    registries: RequestRegistries, accept: Accept = JSON, limit: MapLimit = 100, cursor: Cursor = None
) -> Response:
    """The registered stations, by key; as GeoJSON with `Accept: application/geo+json`."""
    after = place("stations", cursor, str)
    rest = sorted((s for s in registries.now().stations if after is None or s.key > after), key=lambda s: s.key)
    page, following = cut("stations", rest, limit, lambda one: one.key)
    if preferred(accept, (JSON, GEOJSON)) == GEOJSON:
        return features([_feature(s) for s in page], next_cursor=following)
    return answer(StationPage(page, following), headers=VARY)


@router.post("", status_code=201, response_model=Station)
def add_station(context: RequestContext, registries: RequestRegistries, who: Who, new: NewStation) -> Response:
    """Register a station; 409 when its key is taken."""
    made = register(context, registries, who, new)
    return answer(
        made, 201, {"Location": f"/api/v1/stations/{made.key}", **entity_tags.headers(entity_tags.tag_of(made))}
    )


def register(context: Context, registries: Registries, who: Actor, new: NewStation) -> Station:
    """Register a station; raises ConfigurationError, Forbidden, and Refused where its key is taken."""
    if new.key in RESERVED:
        raise ConfigurationError(say("registry.reserved", key=new.key))
    made = _checked(new.model_dump(exclude_unset=True, exclude={"by"}), context)
    by = author(who, new.by, context.clock_ms(), made)
    taken = say("registry.station_taken", key=made.key)
    try:
        with context.database.write() as connection:
            if made.key in registry_store.load(connection, context.catalogue):
                raise Refused(taken)
            registry_store.save_stations(connection, [made], by)
    except IntegrityError:  # another worker registered it at the same moment
        raise Refused(taken) from None
    registries.changed()
    return made


@router.get("/latest", response_model=LatestOfAll)
def latest_of_all(context: RequestContext, registries: RequestRegistries) -> Response:
    """The newest usable values of every station, and whether it reports as promised."""
    registry = registries.recent()
    by_station: dict[str, list[Latest]] = {}
    for row in context.store.latest():
        by_station.setdefault(row.station, []).append(row)
    now_ms = context.clock_ms()
    live = _live(context)
    items = [
        _latest(s, by_station.get(s.key, ()), live, context.catalogue, now_ms, retired=s.key in registry.retired)
        for s in registry.stations
    ]
    return answer(LatestOfAll(when(now_ms), items))


@router.get("/{key}", response_model=Station, responses={200: {"content": {GEOJSON: {}}}})
def get_station(registries: RequestRegistries, key: str, accept: Accept = JSON) -> Response:
    """One station; as a GeoJSON feature with `Accept: application/geo+json`. The ETag is for a change's `If-Match`."""
    found = find(registries.now(), key)
    if preferred(accept, (JSON, GEOJSON)) == GEOJSON:
        return answer(_feature(found), headers=VARY, media_type=GEOJSON)
    return answer(found, headers=VARY | entity_tags.headers(entity_tags.tag_of(found)))


@router.post("/{key}/retire", response_model=RetirementView)
def retire_station(
    context: RequestContext, registries: RequestRegistries, who: Who, key: str, new: StationRetirement
) -> Response:
    """Take a station out of service: no rule begins anything there, silence is expected; its readings stay."""
    return answer(_retirement(retire(context, registries, who, key, new)))


@router.post("/{key}/reinstate", response_model=RetirementView)
def reinstate_station(
    context: RequestContext, registries: RequestRegistries, who: Who, key: str, new: Reinstatement
) -> Response:
    """Put a retired station into service again. 409 where it is not retired."""
    return answer(_retirement(reinstate(context, registries, who, key, new.by)))


def _retirement(one: Mute) -> RetirementView:
    until = None if one.until_ms == RETIRED_UNTIL_MS else when(one.until_ms)
    return RetirementView(one.station, when(one.since_ms), until, one.by, one.reason)


@router.patch("/{key}", response_model=Station)
def change_station(
    context: RequestContext,
    registries: RequestRegistries,
    who: Who,
    key: str,
    change: StationChange,
    if_match: IfMatch = None,
) -> Response:
    """Change what is given of a station and leave the rest; the result is checked as a new station is.

    412 when the station is no longer the one that `If-Match` names; 403 where it stands, or would, out of reach.
    """
    after = update(context, registries, who, key, change, if_match)
    return answer(after, headers=entity_tags.headers(entity_tags.tag_of(after)))


def retire(context: Context, registries: Registries, who: Actor, key: str, new: StationRetirement) -> Mute:
    """Take a station out of service; raises NotFound, ConfigurationError, Forbidden, Refused."""
    now_ms = context.clock_ms()
    by = author(who, new.by, now_ms, find(registries.recent(), key))
    since_ms = now_ms if not new.day else beijing_day_span(date.fromisoformat(day(new.day)))[0]
    with context.database.write() as connection:
        made = maintenance_store.retire(connection, key, since_ms, new.reason, by)
    registries.changed()
    return made


def reinstate(context: Context, registries: Registries, who: Actor, key: str, by: str | None = None) -> Mute:
    """Put a retired station into service again; raises NotFound, Forbidden, Refused."""
    whose = author(who, by, context.clock_ms(), find(registries.recent(), key))
    with context.database.write() as connection:
        after = maintenance_store.reinstate(connection, key, whose)
    registries.changed()
    return after


def update(
    context: Context, registries: Registries, who: Actor, key: str, change: StationChange, if_match: str | None
) -> Station:
    """Change a station; raises NotFound, ConfigurationError, Forbidden, Conflict."""
    given = change.model_dump(exclude_unset=True, exclude={"by"})
    if absent := [name for name, value in given.items() if value is None and name != "gateway"]:
        raise ConfigurationError(say("registry.not_null", key=key, name=absent[0]))
    with context.database.write() as connection:
        changes.lock_registry(connection)
        before = find(registry_store.load(connection, context.catalogue), key)
        reaches(who, before)
        entity_tags.unchanged(if_match, entity_tags.tag_of(before), key)
        if "datum" in given and not {"lon", "lat"} <= given.keys():
            raise ConfigurationError(say("registry.datum_alone", key=key))
        after = _checked(asdict(before) | given, context)
        by = author(who, change.by, context.clock_ms(), before, after)
        registry_store.save_stations(connection, [after], by)
    registries.changed()
    return after


# -- what they measured ------------------------------------------------------------------------------------------------


@router.get("/{key}/latest", response_model=LatestOfStation)
def latest_of_station(context: RequestContext, registries: RequestRegistries, key: str) -> Response:
    """The newest usable value of each parameter of a station, and whether it reports as promised."""
    registry = registries.recent()
    found, rows, retired = find(registry, key), context.store.latest([key]), key in registry.retired
    return answer(_latest(found, rows, _live(context), context.catalogue, context.clock_ms(), retired=retired))


@router.get("/{key}/series", response_model=SeriesOfStation, responses={200: {"content": {CSV: {}, ARROW: {}}}})
def series_of_station(
    context: RequestContext,
    registries: RequestRegistries,
    key: str,
    parameter: str,
    start: Annotated[str | None, Query(description="RFC 3339, included; 24 h before the end where not given")] = None,
    end: Annotated[str | None, Query(description="RFC 3339, excluded; now where not given")] = None,
    points_: Annotated[
        int | None,
        Query(
            alias="points",
            ge=1,
            le=POINTS,
            description=f"thinned to this many; left out: {THINNED} in JSON, every reading in CSV and Arrow",
        ),
    ] = None,
    accept: Accept = JSON,
) -> Response:
    """Values and flags of one parameter; thinned with mean, least and greatest where there are more than `points`.

    As a table with `Accept: text/csv`, as an Arrow stream with `Accept: application/vnd.apache.arrow.stream`; without
    `points` these two hold every reading of the range, however many, and are sent while they are read; 503 while
    others are being sent to as many clients as there may be.
    """
    found = find(registries.recent(), key)
    if parameter not in context.catalogue:
        keys = ", ".join(context.catalogue.index)
        raise ConfigurationError(say("registry.not_in_catalogue", parameter=parameter[:80], known=keys))
    end_ms = context.clock_ms() if end is None else instant("end", end)
    start_ms = end_ms - DAY_MS if start is None else instant("start", start)
    if start_ms >= end_ms:
        raise ConfigurationError(say("request.start_end", start=when(start_ms), end=when(end_ms)))
    what = context.catalogue[parameter]
    media_type = preferred(accept, (JSON, CSV, ARROW))
    if media_type != JSON:
        if points_ is None:
            rows = pieces(context.store, found.key, parameter, start_ms, end_ms)
        else:
            rows = iter([series_of(context.store, found.key, parameter, start_ms, end_ms, points_)])
        if media_type == ARROW:
            return Export(arrow_of(found.key, what, rows), VARY, ARROW)
        named = {"Content-Disposition": f'attachment; filename="{found.key}-{parameter}.csv"'}
        return Export(csv_of(what, rows), VARY | named, CSV)
    series = series_of(context.store, found.key, parameter, start_ms, end_ms, points_ or THINNED)
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
        points=points(series),
    )
    return answer(body, headers=VARY)


@router.get("/{key}/forecast", response_model=Forecasts)
def forecast_of_station(
    context: RequestContext,
    registries: RequestRegistries,
    key: str,
    parameter: Annotated[str | None, Query(description="one parameter; all where not given")] = None,
) -> Response:
    """What the next three days will be like, and when a limit will be passed; made once an hour.

    Shown only where forecasts of the past were better than saying no change.
    """
    found = find(registries.recent(), key)
    if parameter is not None and parameter not in context.catalogue:
        keys = ", ".join(context.catalogue.index)
        raise ConfigurationError(say("registry.not_in_catalogue", parameter=parameter[:80], known=keys))
    with context.database.read() as connection:
        made = stored_forecasts(connection, found.key, parameter)
    return answer(Forecasts([_forecast(one, context.catalogue) for one in made if one.parameter in context.catalogue]))


# -- how it is done ----------------------------------------------------------------------------------------------------


def _checked(row: dict[str, Any], context: Context) -> Station:
    """The station a row describes, checked as a row of the registry file is, in WGS 84."""
    parameters = row.get("parameters", ())
    if len(set(parameters)) < len(parameters):
        raise ConfigurationError(say("registry.parameter_twice", station=row.get("key")))
    datum = Datum.of(row.pop("datum", Datum.WGS84))
    made = read_station(row, context.catalogue)
    lon, lat = wgs84(made.lon, made.lat, datum)
    if context.box is not None:
        context.box.check(lon, lat)
    return replace(made, lon=lon, lat=lat)


def _feature(s: Station) -> dict[str, Any]:
    properties = {name: value for name, value in asdict(s).items() if name not in {"lon", "lat"}}
    return feature(s.key, {"type": "Point", "coordinates": [s.lon, s.lat]}, properties)


def _forecast(one: StoredForecast, catalogue: Catalogue) -> ForecastOfSeries:
    def at(hours: float | None) -> str | None:
        return None if hours is None else when(round(one.issued_ms + hours * HOUR_MS))

    return viewed(
        ForecastOfSeries,
        one,
        unit=catalogue[one.parameter].unit,
        shown=one.verdict is Verdict.SHOWN,
        points=[ForecastPoint(when(at_ms), value, low, high) for at_ms, value, low, high in one.points],
        crossings=[
            CrossingView(c["rule"], c["limit"], c["above"], at(c["expected_h"]), at(c["earliest_h"]), at(c["latest_h"]))
            for c in one.crossings
        ],
    )


def _live(context: Context) -> dict[str, ShownClass]:
    with context.database.read() as connection:
        return current_classes(connection, STATION)


def _latest(
    s: Station,
    rows: Iterable[Latest],
    live: Mapping[str, ShownClass],
    catalogue: Catalogue,
    now_ms: int,
    *,
    retired: bool,
) -> LatestOfStation:
    found = {row.parameter: row for row in rows}
    keys = {*found, *s.parameters} & catalogue.index.keys()
    newest_ms = max((row.newest_at_ms for row in found.values()), default=None)
    return LatestOfStation(
        station=s.key,
        zh=s.zh,
        en=s.en,
        state=reporting(newest_ms, s.interval_s, now_ms, retired=retired),
        newest_at=when(newest_ms),
        age_s=_age_s(newest_ms, now_ms),
        interval_s=s.interval_s,
        live=view(live.get(s.key)),
        values=[_value(catalogue[k], found.get(k), now_ms) for k in sorted(keys, key=catalogue.index.__getitem__)],
    )


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
        flag=flag_name(row.packed & 15) if row and usable else None,
        newest_at=when(row.newest_at_ms) if row else None,
    )
