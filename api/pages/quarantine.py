"""The quarantine: ``/quarantine`` lists what could not be used by reason and device, ``/quarantine/{id}`` shows one
entry with its bytes, what to put right, and replays it.
"""

from collections.abc import Callable
from urllib.parse import urlencode

from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse

from api import problems
from api.access import needed_right
from api.pages.forms import Fields
from api.pages.menu import QUARANTINE
from api.pages.models import quarantine as models
from api.pages.view import PageRoute, View, Viewing
from api.requests import Replaying, whole_number
from api.routes.ledger import ignore, replay, restore
from infra.errors import NotFound, Refused, WaterError
from infra.texts import Text, from_both, say
from infra.times import DAY_MS
from ingest import quarantine, quarantine_limits
from sensors.reading import Reason

MAY_REPLAY = needed_right("POST", "/quarantine/1/replay")
STATES = (quarantine.HELD, quarantine.REPLAYED, quarantine.IGNORED)
REASONS = tuple(reason.key for reason in Reason)
ENTRIES = 50
"""Entries of one page of a list."""
GROUPS = 200
DISCARDS_SHOWN_MS = 7 * DAY_MS

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get(QUARANTINE.path)
def show(v: Viewing) -> Response:
    """All groups; of a chosen reason or device its entries."""
    v.require(QUARANTINE.right)
    status = v.query.get("status", quarantine.HELD)
    status = status if status in STATES else quarantine.HELD
    reason, station = v.query.get("reason", ""), v.query.get("station")
    why = next((one for one in Reason if one.key == reason), None)
    before = v.query.get("before", "")
    with v.context.database.read() as connection:
        groups = quarantine.groups(connection, status=status, limit=GROUPS + 1)
        discards = quarantine_limits.discarded_since(connection, v.now_ms - DISCARDS_SHOWN_MS)
        entries = (
            quarantine.listing(
                connection,
                status=status,
                station=station,
                reason=why,
                before_id=whole_number(before, 18),
                limit=ENTRIES + 1,
            )
            if why or station is not None
            else []
        )
    return v.render(
        "quarantine.html",
        groups=[(one, _address(v, status, one)) for one in groups[:GROUPS]],
        discards=discards[:GROUPS] if status == quarantine.HELD else [],
        more_groups=len(groups) > GROUPS,
        entries=entries[:ENTRIES],
        following=entries[ENTRIES - 1].id if len(entries) > ENTRIES else None,
        chosen=bool(why) or station is not None,
        state=status,
        states=STATES,
        reason=why.key if why else "",
        station=station,
        names=_names(v),
        known=REASONS,
    )


@router.get(QUARANTINE.path + "/{number}")
def show_entry(v: Viewing, number: str) -> Response:
    """One entry."""
    v.require(QUARANTINE.right)
    return _entry(v, number)


@router.post(QUARANTINE.path + "/{number}/replay")
async def send_again(v: Viewing, replaying: Replaying, number: str) -> Response:
    """Replay an entry; the answer leads to it, where its outcome stands."""
    v.require(MAY_REPLAY)
    entry = _number(number)
    try:
        await replay(v.context, replaying, entry)
    except NotFound:
        raise
    except (WaterError, problems.Problem) as error:
        problem = problems.of(error) if isinstance(error, WaterError) else error
        text = error.text if isinstance(error, WaterError) else problem.detail
        status = problem.status or problem.sort.status
        return await run_in_threadpool(_entry, v, number, status, text)
    return RedirectResponse(v.to(f"{QUARANTINE.path}/{entry}") + "#outcome", 303)


@router.post(QUARANTINE.path + "/{number}/ignore")
def set_aside(v: Viewing, number: str, given: Fields) -> Response:
    """Ignore an entry; what was refused comes back with the reason typed."""
    v.require(MAY_REPLAY)
    reason = given.get("reason", "")[:1000]
    return _done(v, number, lambda entry: ignore(v.context, v.actor, entry, reason), reason)


@router.post(QUARANTINE.path + "/{number}/restore")
def hold_again(v: Viewing, number: str) -> Response:
    """Hold an ignored entry again."""
    v.require(MAY_REPLAY)
    return _done(v, number, lambda entry: restore(v.context, v.actor, entry))


def _done(v: View, number: str, act: Callable[[int], object], reason: str = "") -> Response:
    entry = _number(number)
    try:
        act(entry)
    except Refused as error:
        return _entry(v, number, 409, ignoring=error.text, reason=reason)
    return RedirectResponse(v.to(f"{QUARANTINE.path}/{entry}"), 303)


def _entry(
    v: View,
    number: str,
    status: int = 200,
    trouble: Text | None = None,
    ignoring: Text | None = None,
    reason: str = "",
) -> Response:
    with v.context.database.read() as connection:
        entry = quarantine.get(connection, _number(number))
        again = quarantine.refused_again(connection, entry) if entry.status == quarantine.REPLAYED else None
    return v.render(
        "quarantine_entry.html",
        status=status,
        entry=entry,
        entry_detail=from_both(entry.detail),
        dump=models.dump(entry),
        again=again,
        trouble=trouble,
        ignoring=ignoring,
        reason=reason,
        held=entry.status == quarantine.HELD,
        cut=entry.payload_bytes > len(entry.payload),
        may_replay=v.actor.may(MAY_REPLAY),
        running=v.context.submit is not None,
        names=_names(v),
    )


def _number(text: str) -> int:
    """The number in an address. Raises NotFound."""
    number = whole_number(text, 19) or 0
    if not 0 < number < 2**63:
        raise NotFound(say("quarantine.unknown", entry=problems.shorten(text)))
    return number


def _address(v: View, status: str, group: quarantine.Group) -> str:
    """The list of a group's entries; a message that names no station has the station ""."""
    query = {"reason": group.reason, "station": group.station, "lang": v.language, "status": status}
    return f"{QUARANTINE.path}?{urlencode(query)}#entries"


def _names(v: View) -> dict[str, str]:
    """The names of the stations by key."""
    return {one.key: v.of(Text(one.zh, one.en)) for one in v.registries.recent().stations}
