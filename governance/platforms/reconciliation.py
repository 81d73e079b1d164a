"""Reconciliation: compare an external platform's list of incidents with ours, and send again what it lacks.

`compare` is pure. `fetch` requests a platform's list page by page, signed like our deliveries; `reconcile` stores the
report. `resend` sends events again under the same ids, which the platform may know already.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import httpx
import sqlalchemy as sa
import structlog

from governance.incidents import cloudevents
from governance.incidents.model import State
from governance.notify.outbox import Status
from governance.platforms.model import ListWords, Platform, incident_number, value_at
from governance.platforms.tables import reconciliation as reports_
from governance.tables import incident as incidents_
from governance.tables import outbox
from infra import outgoing
from infra.errors import ConfigurationError, NotFound, Refused, WaterError
from infra.texts import say
from infra.times import DAY_MS

CLOSED_LISTED_MS = 7 * DAY_MS
"""A closed incident is expected in their list for this long; what they list is always compared."""
GRACE_MS = 10 * 60_000
"""A change younger than this may not have reached them, or may be newer than their list."""
MAX_PAGES = 1000
MAX_PAGE_BYTES = 4 * 1024 * 1024
MAX_ITEMS = 200_000
IDS_PER_QUERY = 500

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class PlatformUnavailable(WaterError):
    """The platform's list cannot be had now."""

    retryable = True


@dataclass(frozen=True, slots=True)
class LocalIncident:
    """An incident of ours; ``waiting``: an event of it is not delivered yet; ``dead``: one was refused."""

    id: int
    state: State
    changed_at_ms: int
    waiting: bool = False
    dead: bool = False


@dataclass(frozen=True, slots=True)
class PlatformIncident:
    """An incident as they list it: their word for its state, and when it changed by their account (not used)."""

    id: int
    state: str
    at: str | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """An incident that both sides have, in states that do not match."""

    incident: int
    ours: str
    theirs: str
    their_time: str | None


@dataclass(frozen=True, slots=True)
class Report:
    """What a comparison found; incident numbers ascending.

    ``they_lack`` are ours that they do not list, ``we_lack`` numbers they list and we never gave; ``differing`` have
    states that do not fit, ``on_the_way`` would be in one of these but are being delivered or changed just now.
    ``unreadable`` counts entries of theirs without a number or a state, or with a state the file does not know.
    """

    ours: int
    theirs: int
    same: int
    they_lack: tuple[int, ...]
    we_lack: tuple[int, ...]
    differing: tuple[Difference, ...]
    on_the_way: tuple[int, ...]
    unreadable: int

    @property
    def closed(self) -> bool:
        """Whether both sides agree, except for what is on its way."""
        return not (self.they_lack or self.we_lack or self.differing or self.unreadable)


@dataclass(frozen=True, slots=True)
class StoredReport:
    """A stored report with its number, platform, time (ms UTC), and who asked."""

    id: int
    platform: str
    at_ms: int
    by: str
    closed: bool
    report: Mapping[str, Any]


def read_items(words: ListWords, items: Iterable[Any]) -> tuple[list[PlatformIncident], int]:
    """Their entries, and how many of them could not be read."""
    found: list[PlatformIncident] = []
    unreadable = 0
    for item in items:
        number = incident_number(value_at(words.incident, item))
        state, moment = value_at(words.state, item), value_at(words.at, item)
        if number is None or not isinstance(state, str | int) or str(state) not in words.states:
            unreadable += 1
            continue
        found.append(PlatformIncident(number, str(state), None if moment is None else str(moment)[:40]))
    return found, unreadable


def compare(
    ours: Iterable[LocalIncident],
    theirs: Iterable[PlatformIncident],
    states: Mapping[str, frozenset[State]],
    now_ms: int,
    *,
    unreadable: int = 0,
) -> Report:
    """Compare both lists; ``states`` are ours by their words. Of a number listed twice the last entry counts."""
    here, there = {one.id: one for one in ours}, {one.id: one for one in theirs}
    same = 0
    lacking: list[int] = []
    differing: list[Difference] = []
    moving: list[int] = []
    for number, one in sorted(here.items()):
        listed = there.get(number)
        if listed is not None and one.state in states.get(listed.state, frozenset()):
            same += 1
        elif one.waiting or now_ms - one.changed_at_ms < GRACE_MS:
            moving.append(number)
        elif listed is None:
            lacking.append(number)
        else:
            differing.append(Difference(number, one.state.value, listed.state, listed.at))
    strange = tuple(sorted(there.keys() - here.keys()))
    return Report(len(here), len(there), same, tuple(lacking), strange, tuple(differing), tuple(moving), unreadable)


def our_incidents(connection: sa.Connection, listed: Iterable[int], now_ms: int) -> list[LocalIncident]:
    """The incidents that they should have: open ones, those closed lately, and whatever of ours they list."""
    c, o = incidents_.c, outbox.c
    recent = c.open_cause.is_not(None) | (c.closed_at_ms >= now_ms - CLOSED_LISTED_MS)
    newest = sa.select(o.incident_id, sa.func.max(o.created_at_ms).label("at")).group_by(o.incident_id).subquery()
    query = sa.select(c.id, c.state, c.opened_at_ms, newest.c.at).outerjoin(newest, newest.c.incident_id == c.id)
    found = {row.id: row for row in connection.execute(query.where(recent))}
    more = sorted(set(listed) - found.keys())
    for start in range(0, len(more), IDS_PER_QUERY):
        part = query.where(c.id.in_(more[start : start + IDS_PER_QUERY]))
        found |= {row.id: row for row in connection.execute(part)}
    unsettled = o.status.in_([Status.PENDING.value, Status.REFUSED.value])
    marks = sa.select(o.incident_id, o.status).where(unsettled).distinct()
    marked: dict[str, set[int]] = {}
    for number, status in connection.execute(marks):
        marked.setdefault(status, set()).add(number)
    waiting, dead = (marked.get(status.value, set()) for status in (Status.PENDING, Status.REFUSED))
    return [
        LocalIncident(n, State(row.state), row.at or row.opened_at_ms, n in waiting, n in dead)
        for n, row in found.items()
    ]


def reconcile(
    connection: sa.Connection, platform: Platform, items: Sequence[Any], now_ms: int, *, by: str
) -> StoredReport:
    """Compare their entries with ours and store the report; the caller commits. Raises Refused for too long a list."""
    words = _list_words(platform)
    if len(items) > MAX_ITEMS:
        raise Refused(say("platform.list_too_long", count=len(items), limit=MAX_ITEMS))
    theirs, unreadable = read_items(words, items)
    report = compare(
        our_incidents(connection, (one.id for one in theirs), now_ms),
        theirs,
        words.states,
        now_ms,
        unreadable=unreadable,
    )
    row = {
        "platform": platform.name,
        "at_ms": now_ms,
        "by": by,
        "closed": report.closed,
        "report": _report_json(report),
    }
    number = connection.execute(sa.insert(reports_).values(row).returning(reports_.c.id)).scalar_one()
    log_report = log.info if report.closed else log.warning
    log_report(
        "both sides have the same incidents" if report.closed else "the platform and we differ",
        platform=platform.name,
        same=report.same,
        they_lack=len(report.they_lack),
        we_lack=len(report.we_lack),
        differing=len(report.differing),
        on_the_way=len(report.on_the_way),
        unreadable=unreadable,
    )
    return StoredReport(number, platform.name, now_ms, by, report.closed, _report_json(report))


def list_reports(
    connection: sa.Connection, *, platform: str | None = None, limit: int, before: int | None = None
) -> list[StoredReport]:
    """The reports, newest first; the next page begins with ``before`` = the last one's number."""
    query = sa.select(reports_).order_by(reports_.c.id.desc()).limit(limit)
    if platform is not None:
        query = query.where(reports_.c.platform == platform)
    if before is not None:
        query = query.where(reports_.c.id < before)
    return [StoredReport(**row) for row in connection.execute(query).mappings()]


def report(connection: sa.Connection, number: int) -> StoredReport:
    """The report of this number; raises NotFound."""
    row = None
    if 0 < number < 2**31:
        row = connection.execute(sa.select(reports_).where(reports_.c.id == number)).mappings().first()
    if row is None:
        raise NotFound(say("platform.reconciliation_unknown", id=number))
    return StoredReport(**row)


def incidents_to_resend(report: StoredReport) -> tuple[int, ...]:
    """The incidents of a stored report whose events have to be sent again."""
    return tuple(sorted({*report.report["they_lack"], *(one["incident"] for one in report.report["differing"])}))


def entries(platform: Platform, page: Any) -> list[Any] | None:
    """The entries of one page of their list; None where it has none."""
    found = value_at(_list_words(platform).items, page)
    return found if isinstance(found, list) else None


def resend(connection: sa.Connection, incident_ids: Iterable[int], now_ms: int) -> int:
    """Make every event of these incidents pending again, in their order; returns how many. The caller commits.

    Events that still wait, or that a later one superseded, are left alone. The ids stay: a receiver that has one says
    so and nothing is doubled.
    """
    fresh = {
        "status": Status.PENDING.value,
        "attempts": 0,
        "pending_since_ms": now_ms,
        "next_attempt_at_ms": now_ms,
        "delivered_at_ms": None,
        "claimed_by": None,
        "claimed_until_ms": None,
    }
    settled = outbox.c.status.in_([Status.DELIVERED.value, Status.REFUSED.value])
    wanted, done = sorted(set(incident_ids)), 0
    for start in range(0, len(wanted), IDS_PER_QUERY):
        part = outbox.c.incident_id.in_(wanted[start : start + IDS_PER_QUERY])
        again = sa.update(outbox).where(part, settled).values(fresh)
        done += connection.execute(again).rowcount
    return done


def fetch(platform: Platform, clock: Callable[[], int], *, timeout_s: float = 30.0, for_s: float = 600.0) -> list[Any]:
    """All entries of a platform's list, by pages. Raises PlatformUnavailable; ConfigurationError without an address.

    Each request is a GET signed over an empty body. The next page must be on the same host: a list cannot send our
    signature elsewhere.
    """
    words = _list_words(platform)
    if words.url is None:
        raise ConfigurationError(say("platforms.no_list", name=platform.name))
    address = httpx.URL(words.url)
    origin, seen, items = (address.scheme, address.host, address.port), set[str](), list[Any]()
    until = time.monotonic() + for_s
    with outgoing.guarded(), httpx.Client(timeout=timeout_s, follow_redirects=False) as client:
        for _ in range(MAX_PAGES):
            page = _page(client, platform, address, clock() // 1000)
            found = entries(platform, page)
            if found is None:
                raise PlatformUnavailable(say("platforms.no_items", name=platform.name))
            items += found
            if len(items) > MAX_ITEMS or time.monotonic() > until:
                raise PlatformUnavailable(say("platforms.endless", name=platform.name, items=len(items)))
            following = value_at(words.next, page)
            if following in (None, ""):
                return items
            address = _following(platform, address, following)
            if (address.scheme, address.host, address.port) != origin:
                raise PlatformUnavailable(say("platforms.elsewhere", name=platform.name, host=address.host))
            if str(address) in seen:
                raise PlatformUnavailable(say("platforms.circle", name=platform.name))
            seen.add(str(address))
    raise PlatformUnavailable(say("platforms.pages", name=platform.name, most=MAX_PAGES))


def _following(platform: Platform, address: httpx.URL, following: Any) -> httpx.URL:
    """The next page: an address, absolute or relative to this one, or a bare cursor for the parameter ``cursor``."""
    if not isinstance(following, str | int) or isinstance(following, bool):
        raise PlatformUnavailable(say("platforms.next_kind", name=platform.name))
    text = str(following)
    try:
        if text.startswith(("http://", "https://", "/", "?")):
            return address.join(text)
        return address.copy_merge_params({"cursor": text})
    except httpx.InvalidURL:
        raise PlatformUnavailable(say("platforms.next_url", name=platform.name)) from None


def _page(client: httpx.Client, platform: Platform, address: httpx.URL, now_s: int) -> Any:
    headers = cloudevents.sign(platform.secret, f"list-{uuid.uuid4().hex}", now_s, b"")
    headers |= {"accept": "application/json", "accept-encoding": "identity"}
    where = f"platform {platform.name} ({address.host})"
    try:
        with client.stream("GET", address, headers=headers) as response:
            if response.status_code != 200:
                raise PlatformUnavailable(say("platforms.status", where=where, status_code=response.status_code))
            body = b""
            for chunk in response.iter_raw(65_536):
                body += chunk
                if len(body) > MAX_PAGE_BYTES:
                    raise PlatformUnavailable(say("platforms.page_bytes", where=where, most=MAX_PAGE_BYTES))
    except httpx.HTTPError as error:
        raise PlatformUnavailable(say("platforms.silent", where=where, error=type(error).__name__)) from error
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise PlatformUnavailable(say("platforms.no_json", where=where)) from None


def _list_words(platform: Platform) -> ListWords:
    if platform.list is None:
        raise NotFound(say("platform.no_list", name=platform.name))
    return platform.list


def _report_json(report: Report) -> dict[str, Any]:
    """The report as JSON has it."""
    found: dict[str, Any] = json.loads(json.dumps(asdict(report)))
    return found
