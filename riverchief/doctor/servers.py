"""Checks of other servers: time-series server, Grafana, external platform, the running system."""

import json
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

from dashboards import catalogue as boards
from dashboards import parts
from governance.notify import channels
from governance.notify.contacts import Directory
from infra import clock, outgoing
from infra.database import Database
from infra.errors import StorageUnavailable
from ingest.storage import downsampling
from ingest.storage.timeseries import AccessDenied, NotSetUp, ServerError
from riverchief import grafana, messages
from riverchief.doctor.broker import NETWORK_TIMEOUT_S, certificate
from riverchief.doctor.findings import Finding, failure, ok, warning
from riverchief.settings import LOOPBACK, Settings, secret
from riverchief.stores import time_series_server

CLOCK_WARNING_S, CLOCK_FAILURE_S = 5.0, 120.0
PROBE = "riverchief_doctor"
"""The measurement of the one point that shows whether we may write."""


def influx(settings: Settings) -> Iterator[Finding]:
    """Whether the time-series server answers, accepts our login, has our buckets, and stores and returns a point."""
    limited = settings.influx.model_copy(update={"timeout_s": min(settings.influx.timeout_s, NETWORK_TIMEOUT_S)})
    server = time_series_server(settings.model_copy(update={"influx": limited}))
    if server is None:
        yield ok("influx", "influx_off")
        return
    with server:
        where = {"where": server.name, "kind": settings.influx.kind}
        try:
            version = server.ping()
        except ServerError as error:
            yield failure("influx", "influx_away", **where, error=error.text)
            return
        line = b"%b,host=doctor ok=1i %d" % (PROBE.encode(), time.time_ns() // 1_000_000)
        tiers = downsampling.TIERS if server.settings.kind in downsampling.SERVERS else ()
        refused, lost = [], []
        try:
            for policy in ("", *(tier.policy for tier in tiers)):
                refused += server.send([line], policy)
                lost += [] if refused else server.verify([line], policy)
        except NotSetUp as error:
            yield failure("influx", "influx_not_set_up", **where, error=error.text)
        except AccessDenied as error:
            yield failure("influx", "influx_denied", **where, error=error.text)
        except ServerError as error:
            yield failure("influx", "influx_trouble", **where, error=error.text)
        else:
            if refused:
                yield failure("influx", "influx_trouble", **where, error=refused[0].reason)
            elif lost:
                yield failure("influx", "influx_lost", **where)
            else:
                yield ok("influx", "influx_ok", **where, version=version or "-", bucket=settings.influx.bucket)
    yield from _clock(str(settings.influx.url))


def grafana_(settings: Settings) -> Iterator[Finding]:
    """Whether Grafana answers, accepts our token, and has the dashboards of this program."""
    g = settings.grafana
    if g.url is None:
        yield ok("grafana", "grafana_off")
        return
    token = secret(g.token, g.token_file)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(base_url=g.url, timeout=NETWORK_TIMEOUT_S, headers=headers) as client:
        where = client.base_url.host
        try:
            health = client.get("/api/health")
            version = str(_json(health).get("version", ""))
            if health.status_code != 200 or not version:
                yield failure("grafana", "grafana_not", where=where, status=health.status_code)
                return
            yield ok("grafana", "grafana_ok", where=where, version=version)
            yield from _dashboards(client, settings)
        except httpx.HTTPError as error:
            yield failure("grafana", "grafana_away", where=where, error=_name(error))
            return
    yield from _clock(g.url)


def _dashboards(client: httpx.Client, settings: Settings) -> Iterator[Finding]:
    absent, old = [], []
    for board in boards.build(settings.grafana.console_url):
        plain = parts.plain(board)
        uid = str(plain["uid"])
        answer = client.get(f"/api/dashboards/uid/{uid}/versions")
        if answer.status_code in {401, 403}:
            yield failure("grafana", "grafana_denied", status=answer.status_code)
            return
        if answer.status_code == 404:
            absent.append(uid)
            continue
        found = _json(answer)
        versions = found.get("versions", []) if isinstance(found, dict) else found
        newest = max(versions, key=lambda one: int(one["version"]), default={"message": ""})
        if newest["message"] != f"riverchief {grafana.digest(plain)}":
            old.append(uid)
    if absent or old:
        yield warning("grafana", "grafana_dashboards", absent=", ".join(absent) or "-", old=", ".join(old) or "-")
    else:
        yield ok("grafana", "grafana_current")


def outbox(settings: Settings) -> Iterator[Finding]:
    """Whether the platform's address can be reached; nothing is delivered."""
    if settings.outbox.url is None:
        yield warning("outbox", "outbox_off")
        return
    url = httpx.URL(settings.outbox.url)
    port = url.port or (443 if url.scheme == "https" else 80)
    where = f"{url.host}:{port}"
    try:
        with outgoing.guarded():
            socket.create_connection((url.host, port), timeout=NETWORK_TIMEOUT_S).close()
    except OSError as error:
        reason = str(error) if isinstance(error, outgoing.AddressRefused) else error.strerror or _name(error)
        yield failure("outbox", "outbox_away", where=where, error=reason)
        return
    yield ok("outbox", "outbox_ok", where=where)
    if url.scheme == "https":
        yield from certificate("outbox", url.host, port, ssl.create_default_context())


def notices(settings: Settings) -> Iterator[Finding]:
    """Whether the contacts can be read and their channels reached; nothing is sent."""
    directory = messages.directory(settings) or Directory()
    db = Database(settings.database_url)
    with suppress(StorageUnavailable, sa.exc.SQLAlchemyError):  # what is wrong with the database is told elsewhere
        if not db.is_sqlite or Path(str(db.url.database)).exists():
            with db.read() as connection:
                directory = messages.all_contacts(settings, connection, clock.now_ms())
    db.close()
    if not directory.contacts:
        yield warning("notices", "notices_off")
        return
    ways = sum(len(one.channels) for one in directory.contacts)
    yield ok("notices", "notices_ok", contacts=len(directory.contacts), channels=ways)
    if not settings.notices.public_url:
        yield warning("notices", "notices_no_link")
    checked: set[tuple[str, int]] = set()
    for contact in directory.contacts:
        for channel in contact.channels:
            where = channels.host(channel)
            if where is None or where in checked:
                continue
            checked.add(where)
            try:
                socket.create_connection(where, timeout=NETWORK_TIMEOUT_S).close()
            except OSError as error:
                yield failure(
                    "notices",
                    "notices_away",
                    contact=contact.key,
                    kind=channel.kind,
                    error=error.strerror or _name(error),
                )


def running(settings: Settings) -> Iterator[Finding]:
    """Health of the parts of the running system."""
    if not settings.watch.heartbeat_url and not settings.watch.heartbeat_url_file:
        yield warning("running", "heartbeat_off")
    host = settings.api.host if settings.api.host in LOOPBACK else "127.0.0.1"
    address = f"http://{f'[{host}]' if ':' in host else host}:{settings.api.port}/readyz"
    try:
        answer = httpx.get(address, timeout=NETWORK_TIMEOUT_S, trust_env=False)  # we ask ourselves, no proxy
        parts = _json(answer)["parts"]
        failing = [f"{part['name']}: {part['detail']}" for part in parts if not part["ok"]]
        pace = [part["detail"] for part in parts if part["name"] == "ingest_lag" and part["ok"]]
    except httpx.HTTPError:
        yield warning("running", "running_none", address=address)
        return
    except (KeyError, TypeError):
        yield failure("running", "running_other", address=address, status=answer.status_code)
        return
    for one in failing:
        yield failure("running", "running_part", part=one)
    for one in pace:
        yield ok("running", "running_pace", pace=one)
    if not failing:
        yield ok("running", "running_ok", parts=", ".join(part["name"] for part in parts))


def _clock(url: str) -> Iterator[Finding]:
    """Compare our clock with the server's, which has whole seconds."""
    began = time.time()
    try:
        date_header = httpx.get(url, timeout=NETWORK_TIMEOUT_S).headers["date"]
        theirs: datetime = parsedate_to_datetime(date_header)
    except (httpx.HTTPError, KeyError, ValueError):
        return
    apart = abs((began + time.time()) / 2 - theirs.timestamp() - 0.5) - 0.5 - (time.time() - began) / 2
    found = {"seconds": f"{max(0.0, apart):.0f}", "where": httpx.URL(url).host}
    if apart > CLOCK_FAILURE_S:
        yield failure("clock", "clock_off", **found)
    elif apart > CLOCK_WARNING_S:
        yield warning("clock", "clock_off", **found)


def _json(answer: httpx.Response) -> Mapping[str, Any]:
    try:
        return dict(found) if isinstance(found := answer.json(), dict) else {"versions": found}
    except (json.JSONDecodeError, UnicodeDecodeError):
        return {}


def _name(error: Exception) -> str:
    return type(error).__name__
