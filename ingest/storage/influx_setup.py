"""Set up a time-series server: databases or buckets, their retention, and tokens.

``riverchief setup influx`` runs this; it is idempotent and applies changed settings. 2.x is
managed through ``influxdb-client``, 1.x by InfluxQL, 3.x by its own calls. Continuous queries and tasks by which
earlier versions had the server compute hours and days are removed.
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
from influxdb_client.domain.bucket import Bucket
from influxdb_client.domain.bucket_retention_rules import BucketRetentionRules
from influxdb_client.domain.dbrp_create import DBRPCreate
from influxdb_client.domain.permission import Permission
from influxdb_client.domain.permission_resource import PermissionResource
from influxdb_client.rest import ApiException
from influxdb_client.service.dbr_ps_service import DBRPsService
from urllib3.exceptions import HTTPError

from infra.errors import ConfigurationError
from infra.texts import Text, say
from ingest.storage import downsampling, schema
from ingest.storage.downsampling import TIERS, Tier
from ingest.storage.influxql import Table, identifier
from ingest.storage.timeseries import AccessDenied, NotSetUp, ServerError, ServerKind, TimeSeriesServer

DAY_S: Final = 86_400
PREFIX: Final = "riverchief_"
"""Prefix of the continuous queries and tasks of earlier versions."""


class StepResult(StrEnum):
    """The result of one step."""

    MADE = "made"
    CHANGED = "changed"
    KEPT = "kept"
    REMOVED = "removed"
    BY_HAND = "by_hand"
    """It has to be done by hand."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what it concerns, its result, and a note."""

    what: str
    did: StepResult
    note: Text


@dataclass(frozen=True, slots=True)
class Plan:
    """Retention in days of readings, hourly and daily values; 0 keeps for ever."""

    raw_days: int
    hourly_days: int
    daily_days: int

    def days(self, tier: Tier) -> int:
        return self.hourly_days if tier is downsampling.HOURS else self.daily_days


def set_up(server: TimeSeriesServer, plan: Plan) -> Iterator[Step]:
    """Create what is missing and change what differs, yielding each step as it is done.

    Raises AccessDenied, or ServerError where the server is away or refuses.
    """
    return _BY_KIND[server.settings.kind](server, plan)


def _step(what: str, did: StepResult, **values: object) -> Step:
    return Step(what, did, say(f"influx.{did}", **values))


def _kept_for(days: int) -> Text:
    return say("influx.days", days=days) if days else say("influx.for_ever")


# -- 1.x -------------------------------------------------------------------------------------------------------------


def _influxdb1(server: TimeSeriesServer, plan: Plan) -> Iterator[Step]:
    database = server.settings.bucket
    existing = {row["name"] for row in _rows(server.influxql("SHOW DATABASES"))}
    if database not in existing:
        server.influxql(f"CREATE DATABASE {identifier(database)}")
    yield _step(database, StepResult.KEPT if database in existing else StepResult.MADE)
    policies = {
        str(row["name"]): row for row in _rows(server.influxql(f"SHOW RETENTION POLICIES ON {identifier(database)}"))
    }
    (raw,) = [name for name, row in policies.items() if row["default"]]
    yield _retention1(server, raw, plan.raw_days, policies)
    for tier in TIERS:
        yield _retention1(server, tier.policy, plan.days(tier), policies)
    yield from _continuous1(server)


def _retention1(server: TimeSeriesServer, name: str, days: int, policies: Mapping[str, Mapping[str, object]]) -> Step:
    """Ensure a retention policy with this duration; long retention uses shards of a year."""
    on = f"{identifier(name)} ON {identifier(server.settings.bucket)}"
    duration = f"DURATION {days}d" if days else "DURATION INF"
    what = f"{server.settings.bucket}.{name}"
    if name not in policies:
        shard = "52w" if days == 0 or days > 2 * 365 else f"{_shard_group_s(days)}s"
        server.influxql(f"CREATE RETENTION POLICY {on} {duration} REPLICATION 1 SHARD DURATION {shard}")
        return Step(what, StepResult.MADE, _kept_for(days))
    held = policies[name]
    if _seconds(str(held["duration"])) == days * DAY_S:
        return Step(what, StepResult.KEPT, _kept_for(days))
    shard_s = min(_seconds(str(held["shardGroupDuration"])), _shard_group_s(days))
    server.influxql(f"ALTER RETENTION POLICY {on} {duration} SHARD DURATION {shard_s}s")
    return Step(what, StepResult.CHANGED, _kept_for(days))


def _continuous1(server: TimeSeriesServer) -> Iterator[Step]:
    """Drop the continuous queries of earlier versions from our database."""
    database = server.settings.bucket
    existing = [
        str(row["name"])
        for tables in server.influxql("SHOW CONTINUOUS QUERIES")
        for table in tables
        if table.name == database
        for row in _rows_by_name(table)
        if str(row["name"]).startswith(PREFIX)
    ]
    for name in existing:
        server.influxql(f"DROP CONTINUOUS QUERY {identifier(name)} ON {identifier(database)}")
    if existing:
        yield _step(f"{database}: {PREFIX}…", StepResult.REMOVED, number=len(existing))


def _rows(answers: Sequence[Sequence[Table]]) -> list[dict[str, object]]:
    return [row for tables in answers for table in tables for row in _rows_by_name(table)]


def _shard_group_s(days: int) -> int:
    """InfluxDB's default length of a shard group, which may not exceed the retention."""
    return 3600 if 0 < days < 2 else DAY_S if 0 < days < 180 else 7 * DAY_S


def _rows_by_name(table: Table) -> list[dict[str, object]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def _seconds(duration: str) -> int:
    """Seconds of a duration as Go writes it ("17520h0m0s"); "0s" is for ever."""
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([hms])", duration))


# -- 2.x -------------------------------------------------------------------------------------------------------------


def _influxdb2(server: TimeSeriesServer, plan: Plan) -> Iterator[Step]:
    settings = server.settings
    with managed(server) as client:
        org = _organisation(client, settings.org)
        yield _step(settings.org, StepResult.KEPT)
        wanted = {settings.bucket: ("autogen", plan.raw_days)}
        wanted |= {server.bucket(tier.policy): (tier.policy, plan.days(tier)) for tier in TIERS}
        for name, (policy, days) in wanted.items():
            step, bucket_id = _bucket2(client, org, name, days)
            yield step
            yield _mapping2(client, org, settings.bucket, policy, bucket_id)
        yield from _tasks2(client, org, settings.bucket)


_UNAUTHORIZED_MESSAGE: Final = "unauthorized access"
"""The message of 2.x for an unknown token; for a missing right it names the right, also with status 401."""


@contextmanager
def managed(server: TimeSeriesServer) -> Iterator[InfluxDBClient]:
    """The management client of a 2.x server; its errors are translated, without secrets."""
    settings = server.settings
    if settings.token is None:
        raise ConfigurationError(say("time_series_server.token"))
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
        message = server.redacted(_message(error))
        if error.status == 401 and message == _UNAUTHORIZED_MESSAGE:
            raise AccessDenied(
                say("time_series_server.unknown", server=server.name, status=401, reason=message)
            ) from None
        if error.status in {401, 403}:
            right = say("time_series_server.right_manage", org=settings.org)
            denied = {"server": server.name, "status": error.status, "reason": message, "right": right}
            raise AccessDenied(say("time_series_server.denied", **denied)) from None
        raise ServerError(
            say("time_series_server.setup_refused", server=server.name, status=error.status, reason=message)
        ) from None
    except ValueError as error:  # raised by the client for an incomplete answer
        raise ServerError(
            say("time_series_server.no_version_2", server=server.name, error=server.redacted(str(error)))
        ) from None
    except HTTPError as error:
        raise ServerError(
            say("time_series_server.away", server=server.name, error=server.redacted(str(error)))
        ) from None
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
    raise NotSetUp(say("time_series_server.no_org", org=repr(name)))


def _bucket(client: InfluxDBClient, org: str, name: str) -> Bucket | None:
    """A bucket by its name; None where it does not exist (404)."""
    try:
        found = client.buckets_api().find_buckets(name=name, org_id=org).buckets or []
    except ApiException as error:
        if error.status != 404:
            raise
        return None
    return next((one for one in found if one.name == name), None)


def _bucket2(client: InfluxDBClient, org: str, name: str, days: int) -> tuple[Step, str]:
    buckets = client.buckets_api()
    rule = BucketRetentionRules(type="expire", every_seconds=days * DAY_S)
    bucket = _bucket(client, org, name)
    if bucket is None:
        made = buckets.create_bucket(bucket_name=name, org=org, retention_rules=[rule])
        return Step(name, StepResult.MADE, _kept_for(days)), str(made.id)
    held = bucket.retention_rules or []
    if sum(one.every_seconds or 0 for one in held) == days * DAY_S:
        return Step(name, StepResult.KEPT, _kept_for(days)), str(bucket.id)
    shards = [one.shard_group_duration_seconds for one in held if one.shard_group_duration_seconds]
    rule.shard_group_duration_seconds = min([*shards, _shard_group_s(days)])
    bucket.retention_rules = [rule]
    buckets.update_bucket(bucket)
    return Step(name, StepResult.CHANGED, _kept_for(days)), str(bucket.id)


def _mapping2(client: InfluxDBClient, org: str, database: str, policy: str, bucket_id: str) -> Step:
    """Ensure the mapping by which InfluxQL finds the bucket under a database and a retention policy."""
    service = DBRPsService(client.api_client)
    what = f"InfluxQL {database}.{policy}"
    for one in service.get_dbr_ps(org_id=org, db=database).content or []:
        if one.retention_policy == policy and not one.virtual:
            if one.bucket_id == bucket_id:
                return _step(what, StepResult.KEPT)
            service.delete_dbrpid(one.id, org_id=org)
    service.post_dbrp(
        DBRPCreate(
            org_id=org, bucket_id=bucket_id, database=database, retention_policy=policy, default=policy == "autogen"
        )
    )
    return _step(what, StepResult.MADE)


def _tasks2(client: InfluxDBClient, org: str, bucket: str) -> Iterator[Step]:
    """Delete the tasks of earlier versions that read our bucket; those of other buckets stay."""
    tasks = client.tasks_api()
    source = f'from(bucket: "{bucket}")'
    existing = [
        one
        for one in tasks.find_tasks_iter(org_id=org, limit=500)
        if one.name.startswith(PREFIX) and source in one.flux
    ]
    for one in existing:
        tasks.delete_task(one.id)
    if existing:
        yield _step(f"{bucket}: {PREFIX}…", StepResult.REMOVED, number=len(existing))


def ensure_token_v2(
    server: TimeSeriesServer, description: str, *, held: str | None, may_write: bool, keep: Callable[[str], None]
) -> None:
    """Ensure a 2.x token that may read our three buckets and the mappings, and write the buckets if ``may_write``.

    Parameters ---------- held : the present token, or None. It stays where it is active and has exactly these rights on
    the present buckets (a bucket that was deleted and created again is another one). Otherwise it is replaced and
    deleted. keep : called with a new token before the old one is deleted
    """
    with managed(server) as client:
        org = _organisation(client, server.settings.org)
        wanted = [("read", "dbrp", None)]
        for name in (server.bucket(), *(server.bucket(tier.policy) for tier in TIERS)):
            bucket = _bucket(client, org, name)
            if bucket is None:
                raise NotSetUp(say("time_series_server.no_bucket", bucket=repr(name)))
            wanted += [(action, "buckets", bucket.id) for action in (("read", "write") if may_write else ("read",))]
        authorizations = client.authorizations_api()
        existing = authorizations.find_authorizations(org_id=org)
        old = next((one for one in existing if held is not None and one.token == held), None)
        if old is not None and old.status == "active" and _rights(old) == set(wanted):
            return
        new = Authorization(
            org_id=org,
            permissions=[
                Permission(action=action, resource=PermissionResource(type=type_, id=id_, org_id=org))
                for action, type_, id_ in wanted
            ],
        )
        new.description = description
        keep(str(authorizations.create_authorization(authorization=new).token))
        if old is not None:
            authorizations.delete_authorization(old)


def _rights(authorization: Authorization) -> set[tuple[str, str, str | None]]:
    """What a token may do: (action, type of resource, its id)."""
    return {(one.action, one.resource.type, one.resource.id) for one in authorization.permissions}


# -- 3.x -------------------------------------------------------------------------------------------------------------


def _influxdb3(server: TimeSeriesServer, plan: Plan) -> Iterator[Step]:
    """The database; Core cannot change its retention later, and there are no hourly and daily values."""
    name = server.settings.bucket
    listed = b"".join(server.ask("GET", "/api/v3/configure/database", params={"format": "json"}))
    try:
        existing = {one["iox::database"] for one in json.loads(listed)}
    except (ValueError, TypeError, KeyError):
        raise ServerError(say("time_series_server.no_databases", server=server.name)) from None
    if name in existing:
        yield Step(name, StepResult.KEPT, say("influx.retention_stays"))
    else:
        wanted: dict[str, Any] = {"db": name}
        if plan.raw_days:
            wanted["retention_period"] = f"{plan.raw_days}d"
        for _ in server.ask("POST", "/api/v3/configure/database", json=wanted):
            pass
        yield Step(name, StepResult.MADE, _kept_for(plan.raw_days))
    yield Step(f"{schema.HOURLY}, {schema.DAILY}", StepResult.BY_HAND, say("influx.no_downsampling"))


_BY_KIND: Final[Mapping[ServerKind, Callable[[TimeSeriesServer, Plan], Iterator[Step]]]] = {
    ServerKind.INFLUXDB1: _influxdb1,
    ServerKind.INFLUXDB2: _influxdb2,
    ServerKind.INFLUXDB3: _influxdb3,
}
