"""The page of a station: the span of time that its address names, its tiles, its devices. Pure."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from api.pages.models.overview import Data, data_state
from api.pages.models.series import RANGES
from api.requests import MINUTE_FORM, instant
from infra.errors import ConfigurationError
from infra.texts import Text, say
from infra.times import BEIJING, DAY_MS, to_ms
from ingest.analysis.live_classes import ShownClass
from ingest.storage.port import Latest
from sensors.parameters import Catalogue, Parameter
from sensors.standards import gb3838
from sensors.standards.gb3838 import Direction, Water, WaterClass
from sensors.stations import Station

MOST_PANELS = 8
SHOWN_AT_FIRST = 3
"""Panels of a page whose address names none."""
USUAL = "24h"
LONGEST_MS = 3660 * DAY_MS


@dataclass(frozen=True, slots=True)
class Span:
    """What time is looked at. ``range`` is the key of a span that ends now, "" for a free one.

    ``wrong`` says why what was asked for cannot be shown; the usual span is shown then.
    """

    start_ms: int
    end_ms: int
    range: str
    wrong: Text | None = None

    @property
    def free(self) -> bool:
        """Whether it stays where it is while time goes on."""
        return not self.range

    def moved(self, share: float) -> "Span":
        """The span before (−1) or after (1), or a part of that."""
        by_ms = round(share * (self.end_ms - self.start_ms))
        return Span(self.start_ms + by_ms, self.end_ms + by_ms, "")


def span(query: Mapping[str, str], now_ms: int) -> Span:
    """The span that an address names by ``range``, or by ``from`` and ``to``."""
    since, until = query.get("from", ""), query.get("to", "")
    if not since and not until:
        name = query.get("range", USUAL)
        name = name if name in RANGES else USUAL
        return Span(now_ms - RANGES[name], now_ms, name)
    usual = Span(now_ms - RANGES[USUAL], now_ms, USUAL)
    try:
        end_ms = moment("to", until) if until else now_ms
        start_ms = moment("from", since) if since else end_ms - RANGES[USUAL]
    except ConfigurationError as error:
        return Span(usual.start_ms, usual.end_ms, USUAL, error.text)
    if start_ms >= end_ms:
        return Span(usual.start_ms, usual.end_ms, USUAL, say("station.from_after_to"))
    if end_ms - start_ms > LONGEST_MS:
        return Span(usual.start_ms, usual.end_ms, USUAL, say("station.too_long"))
    return Span(start_ms, end_ms, "")


def moment(name: str, text: str) -> int:
    """An instant as an address has it: RFC 3339, or a minute of Beijing time. Raises ConfigurationError."""
    try:
        return to_ms(datetime.strptime(text.strip(), MINUTE_FORM).replace(tzinfo=BEIJING))
    except ValueError:
        return instant(name, text)


@dataclass(frozen=True, slots=True)
class Tile:
    """The newest usable value of a parameter with its class, the limit of ``against`` and where it is going.

    ``state`` is that of its own newest reading, by the spacing it was promised at; ``newest_at_ms`` that reading.
    """

    parameter: Parameter
    value: float | None
    at_ms: int | None
    newest_at_ms: int | None
    state: Data
    water_class: WaterClass | None
    direction: str
    limit: tuple[float, ...]
    against: WaterClass
    trend: str
    deciding: bool


def tiles(
    station: Station,
    catalogue: Catalogue,
    latest: Iterable[Latest],
    trends: Mapping[str, str],
    shown: ShownClass | None,
    target: WaterClass | None,
    now_ms: int,
    cycles_s: Mapping[str, int],
) -> tuple[Tile, ...]:
    """The tiles of a station: what decides its class first, what never reported last, else by the catalogue."""
    rows = {row.parameter: row for row in latest}
    deciding = () if shown is None else shown.deciding
    water, against = Water.of(station.water), target or WaterClass.V
    found = []
    for key in measured(station, catalogue, rows):
        row = rows.get(key)
        value = None if row is None else row.value
        newest = None if row is None else row.newest_at_ms
        direction = gb3838.direction(key) if gb3838.limits(key, water) is not None else None
        found.append(
            Tile(
                parameter=catalogue[key],
                value=value,
                at_ms=None if row is None else row.at_ms,
                newest_at_ms=newest,
                state=data_state(newest, cycles_s.get(key, station.interval_s), now_ms),
                water_class=None if value is None else gb3838.judge({key: value}, water).classes.get(key),
                direction=direction.value if direction else "",
                limit=_limit(key, water, against),
                against=against,
                trend=trends.get(key, ""),
                deciding=key in deciding,
            )
        )
    return tuple(sorted(found, key=lambda one: (not one.deciding, one.newest_at_ms is None)))


def short(tile: Tile) -> str:
    """The value of a tile as people read it; "—" for none."""
    return "—" if tile.value is None else significant(tile.value, tile.parameter)


def significant(value: float, parameter: Parameter) -> str:
    """A value in three significant digits, or in the decimals of its parameter where these are fewer."""
    places = 2 if value == 0 else 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{min(parameter.decimals, max(0, places))}f}"


def _limit(parameter: str, water: Water, against: WaterClass) -> tuple[float, ...]:
    """The number that the class asks for, both ends of pH; () for none."""
    if gb3838.direction(parameter) is Direction.WITHIN:
        return gb3838.limits(parameter, water) or ()
    limit = gb3838.limit(parameter, water, against)
    return () if limit is None else (limit,)


def measured(station: Station, catalogue: Catalogue, sent: Collection[str]) -> tuple[str, ...]:
    """The parameters of a station, promised or sent, in the order of the catalogue."""
    keys = {*station.parameters, *sent} & catalogue.index.keys()
    return tuple(sorted(keys, key=catalogue.index.__getitem__))


def panels(asked: str, rows: Sequence[Tile]) -> tuple[str, ...]:
    """The parameters to draw: those asked for that the station has, else those that decide, then those with a class."""
    has = [one.parameter.key for one in rows]
    wanted = [key for key in dict.fromkeys(asked.split(",")) if key in has]
    if wanted:
        return tuple(wanted[:MOST_PANELS])
    sent = [one for one in rows if one.newest_at_ms is not None]
    best = sorted(sent, key=lambda one: (not one.deciding, one.water_class is None, -(one.water_class or 0)))
    return tuple(one.parameter.key for one in best[:SHOWN_AT_FIRST])
