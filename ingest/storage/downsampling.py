"""Hours and days of readings, made by the server: InfluxQL for 1.x, Flux for 2.x. Pure.

Each round makes the hours of the last two days again and the days of the last four, so that late readings and later
verdicts are in; what comes later still is made again by ``riverchief setup influx --since``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ingest.storage import schema
from ingest.storage.influxql import identifier
from sensors.parameters import Catalogue
from sensors.reading import Flag

EVERY: Final = "1h"
"""How often hours and days are made again."""

BEIJING_HOURS: Final = 8


@dataclass(frozen=True, slots=True)
class Tier:
    """One kind of bucket of time: its names, its length, where it begins (hours after midnight UTC), what is redone."""

    measurement: str
    policy: str
    length: str
    length_ms: int
    offset_h: int
    redone: str
    redone_flux: str


HOURS: Final = Tier(schema.HOURLY, schema.HOURLY_POLICY, "1h", 3_600_000, 0, "2d", "48h")
DAYS: Final = Tier(schema.DAILY, schema.DAILY_POLICY, "1d", 86_400_000, 24 - BEIJING_HOURS, "4d", "96h")
TIERS: Final = (HOURS, DAYS)

PREFIX: Final = "riverchief_"


# -- InfluxQL, 1.x ---------------------------------------------------------------------------------------------------


def statements(tier: Tier, database: str, catalogue: Catalogue, range_: str = "") -> Iterator[tuple[str, str]]:
    """Name and ``SELECT … INTO`` of each statement that makes a tier; ``range_`` is a further condition on the time.

    A parameter has its own, since only its own flag says which of its readings are usable. The count is made apart and
    over all readings: so it becomes 0 where later verdicts left nothing usable, which takes back the mean made before.
    """
    into = ".".join(map(identifier, (database, tier.policy, tier.measurement)))
    source = f"{identifier(database)}..{identifier(schema.WATER)}"
    by = f"GROUP BY time({tier.length}, {tier.offset_h}h), {identifier(schema.STATION)}, {identifier(schema.REACH)}"
    condition, where = (f" AND {range_}", f" WHERE {range_}") if range_ else ("", "")
    for parameter in catalogue.parameters:
        key = parameter.key
        value = identifier(key)
        flag = identifier(schema.flag(key))
        usable = f"WHERE {flag} < {int(Flag.SUSPECT)}{condition}"
        statistics = (
            f"mean({value}) AS {value}, min({value}) AS {identifier(schema.lowest(key))}, "
            f"max({value}) AS {identifier(schema.highest(key))}"
        )
        # 1 for the flags 1 and 2, 0 for 3, 4 and 9, nothing where there is no value: InfluxQL has no conditional
        each = f"SELECT {value} * 0 + 1 - ((({flag} + 1) & 4) / 4) - ((({flag} + 1) & 8) / 8) AS one FROM {source}"
        number = f"sum(one) AS {identifier(schema.number(key))}"
        name = f"{PREFIX}{tier.policy}_{key}"
        yield name, f"SELECT {statistics} INTO {into} FROM {source} {usable} {by}"
        yield f"{name}_count", f"SELECT {number} INTO {into} FROM ({each}){where} {by}"
    worst = ", ".join(
        f"max({identifier(schema.flag(p.key))}) AS {identifier(schema.worst(p.key))}" for p in catalogue.parameters
    )
    yield f"{PREFIX}{tier.policy}_worst", f"SELECT {worst} INTO {into} FROM {source}{where} {by}"


def continuous(tier: Tier, database: str, catalogue: Catalogue, every: str = EVERY) -> dict[str, str]:
    """Name → ``CREATE CONTINUOUS QUERY`` of a tier."""
    return {
        name: f"CREATE CONTINUOUS QUERY {identifier(name)} ON {identifier(database)} "
        f"RESAMPLE EVERY {every} FOR {tier.redone} BEGIN {select} END"
        for name, select in statements(tier, database, catalogue)
    }


# -- Flux, 2.x -------------------------------------------------------------------------------------------------------


def task(tier: Tier, key: str, bucket: str, target: str, org: str) -> tuple[str, str]:
    """Name and Flux of the task that makes a tier of one parameter; it begins where a bucket of time begins."""
    name = f"{PREFIX}{tier.policy}_{key}"
    option = f'option task = {{name: "{name}", every: {EVERY}, offset: 5m}}'
    shift = f"{(24 - tier.offset_h) % 24}h"
    past = f"date.sub(d: {tier.redone_flux}, from: now())"
    local = f"date.truncate(t: date.add(d: {shift}, to: {past}), unit: {tier.length})"
    start = f"date.sub(d: {shift}, from: {local})"
    return name, flux(tier, key, bucket, target, org, start=start, stop="now()", option=option)


def flux(tier: Tier, key: str, bucket: str, target: str, org: str, *, start: str, stop: str, option: str = "") -> str:
    """Flux that makes a tier of one parameter over start <= time < stop (Flux expressions); start begins a bucket."""
    flag = schema.flag(key)
    return f"""import "date"
import "math"

{option}

readings =
    from(bucket: {_quoted(bucket)})
        |> range(start: {start}, stop: {stop})
        |> filter(fn: (r) => r._measurement == {_quoted(schema.WATER)})
        |> filter(fn: (r) => r._field == {_quoted(key)} or r._field == {_quoted(flag)})
        |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")
        |> filter(fn: (r) => exists r[{_quoted(key)}] and exists r[{_quoted(flag)}])
        |> map(fn: (r) => ({{r with value: r[{_quoted(key)}], flag: r[{_quoted(flag)}]}}))
        |> window(every: {tier.length}, offset: {tier.offset_h}h)
        |> reduce(
            identity: {{number: 0, total: 0.0, low: math.mInf(sign: 1), high: math.mInf(sign: -1), worst: 0}},
            fn: (r, accumulator) => ({{
                number: if r.flag < {int(Flag.SUSPECT)} then accumulator.number + 1 else accumulator.number,
                total: if r.flag < {int(Flag.SUSPECT)} then accumulator.total + r.value else accumulator.total,
                low: if r.flag < {int(Flag.SUSPECT)} and r.value < accumulator.low then r.value else accumulator.low,
                high: if r.flag < {int(Flag.SUSPECT)} and r.value > accumulator.high then r.value else accumulator.high,
                worst: if r.flag > accumulator.worst then r.flag else accumulator.worst,
            }}),
        )
        |> duplicate(column: "_start", as: "_time")
        |> map(fn: (r) => ({{r with _measurement: {_quoted(tier.measurement)}}}))

readings
    |> to(
        bucket: {_quoted(target)},
        org: {_quoted(org)},
        fieldFn: (r) => ({{{_quoted(schema.number(key))}: r.number, {_quoted(schema.worst(key))}: r.worst}}),
    )

readings
    |> filter(fn: (r) => r.number > 0)
    |> to(
        bucket: {_quoted(target)},
        org: {_quoted(org)},
        fieldFn: (r) => ({{
            {_quoted(key)}: r.total / float(v: r.number),
            {_quoted(schema.lowest(key))}: r.low,
            {_quoted(schema.highest(key))}: r.high,
        }}),
    )
"""


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${")
    return f'"{escaped}"'
