"""The loss account: what became of every reading, what is held in quarantine, and its replay."""

import base64
import codecs
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from fastapi import Query, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from api.access import Who
from api.context import Context
from api.problems import shorten
from api.requests import Cursor, Limit, Replaying, RequestContext, Strict, Words, cut, day, place, place_by_number
from api.responses import answer, viewed
from api.routes.readings import (
    Received,
    RefusedReading,
    durable,
    hand_over,
    received,
    refused_readings,
    writable,
)
from api.routes.router import subject_router
from governance.organisation.roles import Actor
from infra.errors import ConfigurationError, NotFound, Refused
from infra.texts import say
from ingest import ledger, quarantine
from ingest.ledger import Account
from ingest.pipeline import Receipt
from ingest.quarantine import QuarantineEntry, ReplayOutcome
from ingest.storage.changes import Author
from sensors.reading import Reason

router = subject_router("ledger")

PREVIEW_BYTES = 4096


@dataclass(frozen=True, slots=True)
class AccountView:
    """One station and Beijing day: sent = stored + duplicate + quarantined + missing.

    ``sent`` and ``missing`` are null where messages are missing whose readings nobody counted; ``closed`` tells that
    every reading is accounted for. Messages of stations nobody registered are entered under ``?``;
    ``messages_dropped`` are those of unproven senders that were beyond what is kept of them a day; ``discarded`` of the
    ``quarantined`` readings were beyond the limits of the quarantine, which counts them and keeps no content.
    """

    station: str
    day: str
    closed: bool
    sent: int | None
    readings: int
    stored: int
    duplicate: int
    quarantined: int
    missing: int | None
    messages: int
    messages_duplicate: int
    messages_unnumbered: int
    messages_quarantined: int
    messages_missing: int
    messages_dropped: int
    discarded: int


@dataclass(frozen=True, slots=True)
class AccountPage:
    """Accounts, newest day first, then by station."""

    items: list[AccountView]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class HeldView:
    """What is kept of a message that could not be used.

    ``payload`` is base64; ``text`` shows the beginning of it where it is UTF-8, else null. ``payload_bytes`` is the
    length it had: of a larger one only the beginning was kept. ``readings`` is null where the message was refused as a
    whole.
    """

    id: int
    status: str
    reason: str
    detail: str
    source: str
    station: str
    topic: str
    received_at: str | None
    account: str
    day: str
    readings: list[RefusedReading] | None
    payload: str
    payload_bytes: int
    text: str | None


@dataclass(frozen=True, slots=True)
class HeldPage:
    """Quarantine entries, newest first."""

    items: list[HeldView]
    next_cursor: str | None


class Status(StrEnum):
    """Which quarantine entries are asked for."""

    HELD = quarantine.HELD
    REPLAYED = quarantine.REPLAYED
    IGNORED = quarantine.IGNORED
    ALL = "all"


@router.get("/ledger", response_model=AccountPage)
def list_accounts(
    context: RequestContext,
    day_: Annotated[str | None, Query(alias="day", description="Beijing day, YYYY-MM-DD")] = None,
    station: str | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """The accounts of a day or a station, newest day first, then by station."""
    wanted = None if day_ is None else day(day_)
    where = place("ledger", cursor, tuple[int, str, str])
    passed, last = (0, None) if where is None else (min(max(where[0], 0), 10**9), where[1:])
    asking = passed + limit + 1
    with context.database.read() as connection:
        while True:
            found = ledger.accounts(connection, day=wanted, station=station, limit=asking)
            rest = [a for a in found if last is None or _comes_after(a, last)]
            if len(rest) > limit or len(found) < asking:
                break
            asking *= 2  # accounts were opened meanwhile that stand before the cursor's place
    page, following = cut("ledger", rest, limit, lambda one: [passed + limit, one.day, one.station])
    return answer(AccountPage([_account(a) for a in page], following))


@router.get("/quarantine", response_model=HeldPage)
def list_quarantine(
    context: RequestContext,
    status: Status = Status.HELD,
    station: str | None = None,
    reason: Annotated[str | None, Query(examples=[r.key for r in Reason])] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Cursor = None,
) -> Response:
    """What could not be used, newest first."""
    why = {r.key: r for r in Reason}
    if reason is not None and reason not in why:
        raise ConfigurationError(say("request.one_of_known", reason=reason[:80], known=", ".join(why)))
    before = place_by_number("quarantine", cursor)
    with context.database.read() as connection:
        found = quarantine.listing(
            connection,
            status=None if status is Status.ALL else status.value,
            station=station,
            reason=None if reason is None else why[reason],
            before_id=before,
            limit=limit + 1,
        )
    page, following = cut("quarantine", found, limit, lambda one: one.id)
    return answer(HeldPage([_held(h) for h in page], following))


@router.post("/quarantine/{entry}/replay", response_model=Received)
async def replay_quarantined(context: RequestContext, replaying: Replaying, entry: int) -> Response:
    """Hand what is held to the ingest again, after its cause was put right; what is refused again has a new entry."""
    return answer(received(await replay(context, replaying, entry)))


class NewIgnore(Strict):
    """Why nobody can use it."""

    reason: Words = Field(min_length=1, max_length=1000)


@router.post("/quarantine/{entry}/ignore", response_model=HeldView)
def ignore_quarantined(context: RequestContext, who: Who, entry: int, new: NewIgnore) -> Response:
    """Set an entry aside with a reason: it is kept, and can be restored. 409 where it is not held."""
    return answer(_held(ignore(context, who, entry, new.reason)))


@router.post("/quarantine/{entry}/restore", response_model=HeldView)
def restore_quarantined(context: RequestContext, who: Who, entry: int) -> Response:
    """Hold an ignored entry again. 409 where it is not ignored, or the same arrived since and is held."""
    return answer(_held(restore(context, who, entry)))


def ignore(context: Context, who: Actor, entry: int, reason: str) -> QuarantineEntry:
    """Ignore an entry. Raises NotFound and Refused."""
    with context.database.write() as connection:
        return quarantine.ignore(connection, entry, reason, Author(who.name, context.clock_ms(), who.role))


def restore(context: Context, who: Actor, entry: int) -> QuarantineEntry:
    """Hold an ignored entry again. Raises NotFound and Refused."""
    with context.database.write() as connection:
        return quarantine.restore(connection, entry, Author(who.name, context.clock_ms(), who.role))


async def replay(context: Context, replaying: set[int], entry: int) -> Receipt:
    """Replay an entry and wait until it is durable; raises Refused where it was replayed or is being replayed."""
    if entry in replaying:
        raise Refused(say("quarantine.busy", entry=entry))
    replaying.add(entry)
    try:
        held = await run_in_threadpool(_replayable, context, entry)
        handed_over = hand_over(context, held.message())
    except BaseException:
        replaying.discard(entry)
        raise
    handed_over.add_done_callback(lambda _: replaying.discard(entry))  # not before: a second one would count it twice
    receipt = await durable(handed_over, held.station)
    await run_in_threadpool(_record, context, entry, receipt)
    return receipt


def _record(context: Context, entry: int, receipt: Receipt) -> None:
    outcome = ReplayOutcome(receipt.stored, receipt.duplicate, len(receipt.rejected))
    with context.database.write() as connection:
        quarantine.record_outcome(connection, entry, outcome)


def _replayable(context: Context, entry: int) -> QuarantineEntry:
    if not 0 < entry < 2**63:
        raise NotFound(say("quarantine.unknown", entry=shorten(entry)))
    with context.database.read() as connection:
        held = quarantine.get(connection, entry)
    if held.status != quarantine.HELD:
        raise Refused(say("quarantine.done", entry=entry, status=held.status))
    if held.payload_bytes > len(held.payload):
        raise Refused(say("quarantine.cut", entry=entry, bytes=held.payload_bytes, kept=len(held.payload)))
    return held


def _comes_after(a: Account, last: tuple[str, str]) -> bool:
    day_, station = last
    return a.day < day_ or (a.day == day_ and a.station > station)


def _account(a: Account) -> AccountView:
    return viewed(AccountView, a)


def _held(h: QuarantineEntry) -> HeldView:
    return viewed(
        HeldView,
        h,
        detail=writable(h.detail),
        readings=refused_readings(h.reason, h.refused),
        payload=base64.b64encode(h.payload).decode(),
        text=_preview(h.payload),
    )


def _preview(payload: bytes) -> str | None:
    """The beginning of the payload as text; None where it is no UTF-8."""
    shown = payload[:PREVIEW_BYTES]
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(shown, final=shown == payload)
    except UnicodeDecodeError:
        return None
