"""What must be on a time-series server before readings come: databases, retention, and what makes hours and days.

``riverchief setup influx`` runs this; run again it changes nothing, after a changed setting it changes that. 2.x is
managed through ``influxdb-client``, 1.x by InfluxQL, 3.x by its own calls; VictoriaMetrics has everything on its
command line, which is read and judged.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.domain.authorization import Authorization
from influxdb_client.domain.bucket_retention_rules import BucketRetentionRules
from influxdb_client.domain.dbrp_create import DBRPCreate
from influxdb_client.domain.permission import Permission
from influxdb_client.domain.permission_resource import PermissionResource
from influxdb_client.domain.task_create_request import TaskCreateRequest
from influxdb_client.domain.task_update_request import TaskUpdateRequest
from influxdb_client.rest import ApiException
from influxdb_client.service.dbr_ps_service import DBRPsService
from urllib3.exceptions import HTTPError

from ingest.storage import downsampling, schema
from ingest.storage.downsampling import EVERY, PREFIX, TIERS, Tier
from ingest.storage.influxql import LATEST_MS, Table, identifier
from ingest.storage.timeseries import AccessDenied, Kind, NotSetUp, ServerTrouble, TimeSeriesServer
from sensors.errors import ConfigurationError
from sensors.parameters import Catalogue
from sensors.texts import Text, say, sentence

DAY_S: Final = 86_400
SLICE_MS: Final = 7 * DAY_S * 1000
"""Hours and days made again for a long past are made a week at a time."""


class Did(StrEnum):
    """What became of one thing."""

    MADE = "made"
    CHANGED = "changed"
    KEPT = "kept"
    REMOVED = "removed"
    BY_HAND = "by_hand"
    """We cannot do it; somebody has to."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was looked at: its name, and what became of it, in words."""

    what: str
    did: Did
    note: Text


@dataclass(frozen=True, slots=True)
class Plan:
    """What there shall be; days of 0 keep for ever. ``every`` is how often hours and days are made again on 1.x."""

    raw_days: int
    hourly_days: int
    daily_days: int
    catalogue: Catalogue
    every: str = EVERY

    def days(self, tier: Tier) -> int:
        return self.hourly_days if tier is downsampling.HOURS else self.daily_days


def set_up(server: TimeSeriesServer, plan: Plan) -> Iterator[Step]:
    """Make what is missing and change what differs, telling each step as it is done.

    Raises AccessDenied where we may not, ServerTrouble where the server is away or refuses.
    """
    return _BY_KIND[server.settings.kind](server, plan)


def _step(what: str, did: Did, **values: object) -> Step:
    return Step(what, did, say(f"influx.{did}", **values))


def _kept_for(days: int) -> Text:
    return say("influx.days", days=days) if days else say("influx.for_ever")


# -- 1.x -------------------------------------------------------------------------------------------------------------


def _influxdb1(server: TimeSeriesServer, plan: Plan) -> Iterator[Step]:
    database = server.settings.bucket
    there = {row["name"] for row in _rows(server.influxql("SHOW DATABASES"))}
    if database not in there:
        server.influxql(f"CREATE DATABASE {identifier(database)}")
    yield _step(database, Did.KEPT if database in there else Did.MADE)
    policies = {
        str(row["name"]): row for row in _rows(server.influxql(f"SHOW RETENTION POLICIES ON {identifier(database)}"))
    }
    (raw,) = [name for name, row in policies.items() if row["default"]]
    yield _retention1(server, raw, plan.raw_days, policies)
    for tier in TIERS:
        yield _retention1(server, tier.policy, plan.days(tier), policies)
    yield from _continuous1(server, plan)


def _retention1(server: TimeSeriesServer, name: str, days: int, policies: Mapping[str, Mapping[str, object]]) -> Step:
    """A retention policy with this duration; hours and days go into shards of a year, of which there are few."""
    on = f"{identifier(name)} ON {identifier(server.settings.bucket)}"
    duration = f"DURATION {days}d" if days else "DURATION INF"
    what = f"{server.settings.bucket}.{name}"
    if name not in policies:
        shard = "52w" if days == 0 or days > 2 * 365 else "4w"
        server.influxql(f"CREATE RETENTION POLICY {on} {duration} REPLICATION 1 SHARD DURATION {shard}")
        return Step(what, Did.MADE, _kept_for(days))
    if _seconds(str(policies[name]["duration"])) == days * DAY_S:
        return Step(what, Did.KEPT, _kept_for(days))
    server.influxql(f"ALTER RETENTION POLICY {on} {duration}")
    return Step(what, Did.CHANGED, _kept_for(days))


def _continuous1(server: TimeSeriesServer, plan: Plan) -> Iterator[Step]:
    database = server.settings.bucket
    found = server.influxql("SHOW CONTINUOUS QUERIES")
    there = {
        str(row["name"])
        for table in (table for tables in found for table in tables)
        if table.name == database
        for row in _named(table)
        if str(row["name"]).startswith(PREFIX)
    }
    for tier in TIERS:
        wanted = downsampling.continuous(tier, database, plan.catalogue, plan.every)
        done = {Did.MADE: 0, Did.CHANGED: 0, Did.KEPT: 0}
        for name, create in wanted.items():
            if name not in there:
                did = Did.MADE
                server.influxql(create)
            else:
                did = _same_or_replaced1(server, name, create)
            there.discard(name)
            done[did] += 1
        yield _counted(tier.measurement, done)
    for name in sorted(there):
        server.influxql(f"DROP CONTINUOUS QUERY {identifier(name)} ON {identifier(database)}")
        yield _step(name, Did.REMOVED)


def _same_or_replaced1(server: TimeSeriesServer, name: str, create: str) -> Did:
    """The server takes the same query again without a word, and tells when another one has the name."""
    try:
        server.influxql(create)
    except ServerTrouble as error:
        if "already exists" not in str(error):
            raise
        server.influxql(f"DROP CONTINUOUS QUERY {identifier(name)} ON {identifier(server.settings.bucket)}")
        server.influxql(create)
        return Did.CHANGED
    return Did.KEPT


def _counted(what: str, done: Mapping[Did, int]) -> Step:
    """Many small things told as one."""
    did = next((did for did in (Did.MADE, Did.CHANGED) if done[did]), Did.KEPT)
    return Step(what, did, say("influx.queries", made=done[Did.MADE], changed=done[Did.CHANGED], kept=done[Did.KEPT]))


def _rows(answers: Sequence[Sequence[Table]]) -> list[dict[str, object]]:
    return [row for tables in answers for table in tables for row in _named(table)]


def _named(table: Table) -> list[dict[str, object]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def _seconds(duration: str) -> int:
    """Go's way of writing a duration, "17520h0m0s"; "0s" is for ever."""
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([hms])", duration))


# -- 2.x -------------------------------------------------------------------------------------------------------------


def _influxdb2(server: TimeSeriesServer, plan: Plan) -> Iterator[Step]:
    settings = server.settings
    with managed(server) as client:
        org = _organisation(client, settings.org)
        yield _step(settings.org, Did.KEPT)
        wanted = {settings.bucket: ("autogen", plan.raw_days)}
        wanted |= {f"{settings.bucket}_{tier.policy}": (tier.policy, plan.days(tier)) for tier in TIERS}
        for name, (policy, days) in wanted.items():
            step, bucket_id = _bucket2(client, org, name, days)
            yield step
            yield _mapping2(client, org, settings.bucket, policy, bucket_id)
        yield from _tasks2(client, org, settings.bucket, settings.org, plan.catalogue)


@contextmanager
def managed(server: TimeSeriesServer) -> Iterator[InfluxDBClient]:
    """The management client of a 2.x server; what it raises becomes ours, without what is secret."""
    settings = server.settings
    if settings.token is None:
        raise ConfigurationError(sentence("series.token"))
    client = InfluxDBClient(
        url=settings.url,
        token=settings.token,
        org=settings.org,
        timeout=int(settings.timeout_s * 1000),
        ssl_ca_cert=None if settings.ca_file is None else str(settings.ca_file),
    )
    try:
        yield client
    except ApiException as error:
        said = server.told(_message(error))
        if error.status in {401, 403}:
            raise AccessDenied(f"{server.name} refuses the set-up (HTTP {error.status}: {said})") from None
        raise ServerTrouble(f"{server.name} refuses the set-up (HTTP {error.status}: {said})") from None
    except ValueError as error:  # the client's own, of an answer without what the contract promises
        raise ServerTrouble(f"{server.name} does not answer as a 2.x server: {server.told(str(error))}") from None
    except HTTPError as error:
        raise ServerTrouble(f"{server.name} cannot be reached: {server.told(str(error))}") from None
    finally:
        client.close()


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, TypeError, KeyError):
        return str(error.reason)


def _organisation(client: InfluxDBClient, name: str) -> str:
    try:
        found = client.organizations_api().find_organizations(org=name)
    except ApiException as error:
        if error.status != 404:
            raise
        found = []
    for one in found:
        if one.name == name:
            return str(one.id)
    raise NotSetUp(f"no organisation {name!r} is there, or the server is not a 2.x; check influx.org and influx.kind")


def _bucket2(client: InfluxDBClient, org: str, name: str, days: int) -> tuple[Step, str]:
    buckets = client.buckets_api()
    rule = [BucketRetentionRules(type="expire", every_seconds=days * DAY_S)]
    found = client.buckets_api().find_buckets(name=name, org_id=org).buckets or []
    bucket = next((one for one in found if one.name == name), None)
    if bucket is None:
        made = buckets.create_bucket(bucket_name=name, org=org, retention_rules=rule)
        return Step(name, Did.MADE, _kept_for(days)), str(made.id)
    kept = sum(one.every_seconds or 0 for one in bucket.retention_rules or [])
    if kept == days * DAY_S:
        return Step(name, Did.KEPT, _kept_for(days)), str(bucket.id)
    bucket.retention_rules = rule
    buckets.update_bucket(bucket)
    return Step(name, Did.CHANGED, _kept_for(days)), str(bucket.id)


def _mapping2(client: InfluxDBClient, org: str, database: str, policy: str, bucket_id: str) -> Step:
    """What lets InfluxQL find the bucket under a database and a retention policy."""
    service = DBRPsService(client.api_client)
    what = f"InfluxQL {database}.{policy}"
    for one in service.get_dbr_ps(org_id=org, db=database).content or []:
        if one.retention_policy == policy and not one.virtual:
            if one.bucket_id == bucket_id:
                return _step(what, Did.KEPT)
            service.delete_dbrpid(one.id, org_id=org)
    service.post_dbrp(
        DBRPCreate(
            org_id=org, bucket_id=bucket_id, database=database, retention_policy=policy, default=policy == "autogen"
        )
    )
    return _step(what, Did.MADE)


def _tasks2(client: InfluxDBClient, org: str, bucket: str, org_name: str, catalogue: Catalogue) -> Iterator[Step]:
    tasks = client.tasks_api()
    there = {one.name: one for one in tasks.find_tasks_iter(org_id=org, limit=500) if one.name.startswith(PREFIX)}
    for tier in TIERS:
        done = {Did.MADE: 0, Did.CHANGED: 0, Did.KEPT: 0}
        for parameter in catalogue.parameters:
            name, flux = downsampling.task(tier, parameter.key, bucket, f"{bucket}_{tier.policy}", org_name)
            known = there.pop(name, None)
            if known is None:
                did = Did.MADE
                tasks.create_task(task_create_request=TaskCreateRequest(org_id=org, flux=flux, status="active"))
            elif known.flux != flux:
                did = Did.CHANGED
                tasks.update_task_request(known.id, TaskUpdateRequest(flux=flux))
            else:
                did = Did.KEPT
            done[did] += 1
        yield _counted(f"{bucket}_{tier.policy}", done)
    for name, one in sorted(there.items()):
        tasks.delete_task(one.id)
        yield _step(name, Did.REMOVED)


def token2(server: TimeSeriesServer, description: str, *, may_write: bool) -> str:
    """A new token of 2.x that may read the three buckets, and write readings if it is to."""
    settings = server.settings
    with managed(server) as client:
        org = _organisation(client, settings.org)
        permissions = []
        for name in (settings.bucket, *(f"{settings.bucket}_{tier.policy}" for tier in TIERS)):
            found = client.buckets_api().find_buckets(name=name, org_id=org).buckets or []
            if not found:
                raise NotSetUp(f"the bucket {name!r} is not there")
            for action in ("read", "write") if may_write and name == settings.bucket else ("read",):
                resource = PermissionResource(type="buckets", id=found[0].id, org_id=org)
                permissions.append(Permission(action=action, resource=resource))
        permissions.append(Permission(action="read", resource=PermissionResource(type="dbrp", org_id=org)))
        wanted = Authorization(org_id=org, permissions=permissions)
        wanted.description = description
        return str(client.authorizations_api().create_authorization(authorization=wanted).token)


# -- 3.x -------------------------------------------------------------------------------------------------------------


def _influxdb3(server: TimeSeriesServer, plan: Plan) -> Iterator[Step]:
    """The database; its retention cannot be changed later (Core), and hours and days are not made."""
    name = server.settings.bucket
    listed = b"".join(server.ask("GET", "/api/v3/configure/database", params={"format": "json"}))
    try:
        there = {one["iox::database"] for one in json.loads(listed)}
    except (ValueError, TypeError, KeyError):
        raise ServerTrouble(f"{server.name}: the list of databases cannot be read") from None
    if name in there:
        yield Step(name, Did.KEPT, say("influx.retention_stays"))
    else:
        wanted: dict[str, Any] = {"db": name}
        if plan.raw_days:
            wanted["retention_period"] = f"{plan.raw_days}d"
        for _ in server.ask("POST", "/api/v3/configure/database", json=wanted):
            pass
        yield Step(name, Did.MADE, _kept_for(plan.raw_days))
    yield Step(f"{schema.HOURLY}, {schema.DAILY}", Did.BY_HAND, say("influx.no_downsampling"))


# -- VictoriaMetrics -------------------------------------------------------------------------------------------------


def _victoria(server: TimeSeriesServer, plan: Plan) -> Iterator[Step]:
    """Nothing can be set from outside; the command line is read and what it lacks is told."""
    flags = dict(_flags(server.ask("GET", "/flags")))
    dedup = flags.get("dedup.minScrapeInterval", "0s")
    wanted = "-dedup.minScrapeInterval=1ms"
    if dedup == "1ms":
        yield _step(wanted, Did.KEPT)
    else:
        yield Step(wanted, Did.BY_HAND, say("influx.dedup", value=dedup))
    months = _months(flags.get("retentionPeriod", "1"))
    retention = f"-retentionPeriod={plan.raw_days}d" if plan.raw_days else "-retentionPeriod=100y"
    needed = (plan.raw_days or 100 * 365) / 31
    if months >= needed:
        yield _step(retention, Did.KEPT)
    else:
        yield Step(retention, Did.BY_HAND, say("influx.retention", value=flags.get("retentionPeriod", "1")))
    yield Step(f"{schema.HOURLY}, {schema.DAILY}", Did.BY_HAND, say("influx.no_downsampling"))


def _flags(lines: Iterator[bytes]) -> Iterator[tuple[str, str]]:
    for line in lines:
        if found := re.fullmatch(r'-([\w.]+)="(.*)"', line.decode("utf-8", "replace").strip()):
            yield found[1], found[2]


def _months(retention: str) -> float:
    """A retention period in months of 31 days; a bare number is months."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([hdwy]?)", retention)
    if found is None:
        return 0.0
    days = {"": 31.0, "h": 1 / 24, "d": 1.0, "w": 7.0, "y": 365.0}
    return float(found[1]) * days[found[2]] / 31


_BY_KIND: Final[Mapping[Kind, Callable[[TimeSeriesServer, Plan], Iterator[Step]]]] = {
    Kind.INFLUXDB1: _influxdb1,
    Kind.INFLUXDB2: _influxdb2,
    Kind.INFLUXDB3: _influxdb3,
    Kind.VICTORIAMETRICS: _victoria,
}


# -- a longer past ---------------------------------------------------------------------------------------------------


def make_again(server: TimeSeriesServer, catalogue: Catalogue, first_ms: int, last_ms: int) -> Iterator[int]:
    """Make the hours and days of a past range again, telling the time (ms) up to which they are done.

    Raises ConfigurationError where the server does not make them at all.
    """
    kind = server.settings.kind
    if kind not in {Kind.INFLUXDB1, Kind.INFLUXDB2}:
        raise ConfigurationError(sentence("series.no_hours", kind=kind))
    begin = min(_begin(tier, first_ms) for tier in TIERS)
    while begin <= last_ms:
        end = min(begin + SLICE_MS, max(_begin(tier, last_ms) + tier.length_ms for tier in TIERS))
        for tier in TIERS:
            first, stop = _begin(tier, begin), min(_begin(tier, end - 1) + tier.length_ms, LATEST_MS)
            if kind is Kind.INFLUXDB1:
                _again1(server, tier, catalogue, first, stop)
            else:
                _again2(server, tier, catalogue, first, stop)
        yield end
        begin = end


def _begin(tier: Tier, at_ms: int) -> int:
    offset = tier.offset_h * 3_600_000
    return (at_ms - offset) // tier.length_ms * tier.length_ms + offset


def _again1(server: TimeSeriesServer, tier: Tier, catalogue: Catalogue, first_ms: int, stop_ms: int) -> None:
    range_ = f"time >= {first_ms}ms AND time < {stop_ms}ms"
    for _, statement in downsampling.statements(tier, server.settings.bucket, catalogue, range_):
        server.influxql(statement)


def _again2(server: TimeSeriesServer, tier: Tier, catalogue: Catalogue, first_ms: int, stop_ms: int) -> None:
    settings = server.settings
    start, stop = (f"time(v: {ms * 1_000_000})" for ms in (first_ms, stop_ms))
    with managed(server) as client:
        for parameter in catalogue.parameters:
            target = f"{settings.bucket}_{tier.policy}"
            script = downsampling.flux(
                tier, parameter.key, settings.bucket, target, settings.org, start=start, stop=stop
            )
            client.query_api().query_raw(script)
