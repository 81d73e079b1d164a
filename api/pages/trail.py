"""The trail ``/trail``: who changed what when, proof that nothing was altered, and an incident as it stood then.

``/trail/{n}`` shows one entry with what it changed. Verifying runs in a thread of its own: the page says how far it is.
"""

import threading
import time
from dataclasses import dataclass, replace

import sqlalchemy as sa
from fastapi import APIRouter, Response
from starlette.responses import RedirectResponse

from api.names import by_whom
from api.pages import list_export
from api.pages.list_export import MOST_ROWS, Table
from api.pages.menu import TRAIL
from api.pages.models import trail as models
from api.pages.models.trail import AsOf
from api.pages.view import PageRoute, View, Viewing
from api.requests import whole_number
from api.routes.audit import verify_trail
from governance.audit import trail as audit_trail
from governance.audit.merkle import AuditEntry
from governance.audit.trail import Verified
from governance.incidents import store as incident_store
from governance.verification import roots
from infra.errors import ConfigurationError, NotFound, WaterError
from infra.texts import Text, say
from infra.times import rfc3339

SHOWN = 30
REACHES = "reaches"
"""The id of entries about all reaches at once."""
FAULTS = 20
PAUSE_S = 0.005
"""The walk rests so long every thousand entries, so that requests are answered meanwhile."""

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@dataclass(slots=True)
class Walk:
    """A verification: how far it is, and what it found or why it failed."""

    entries: int
    share: float = 0.0
    ended_ms: int | None = None
    found: Verified | None = None
    error: Text | None = None

    @property
    def running(self) -> bool:
        return self.ended_ms is None

    @property
    def n(self) -> int:
        """The entry that was reached."""
        return round(self.share * self.entries)


@router.get(TRAIL.path)
def show(v: Viewing) -> Response:
    """The entries that fit the filter of the address, the last verification, and an incident as it stood."""
    v.require(TRAIL.right)
    wrong: Text | None = None
    try:
        wanted = models.filter_of(v.query)
    except ConfigurationError as error:
        wanted, wrong = models.filter_of({}), error.text
    with v.context.database.read() as connection:
        found = _found(connection, wanted, SHOWN + 1)
        hidden = not found and not wanted.by_rules and bool(_found(connection, replace(wanted, by_rules=True), 1))
        entries, _ = audit_trail.head(connection)
        last = roots.newest(connection)
        then, problem = _then(v, connection)
    signed = 0 if last is None else last.size
    walk: Walk | None = getattr(v.request.app.state, "trail_walk", None)
    return v.render(
        "trail.html",
        wanted=wanted,
        wrong=wrong,
        fields=models.FIELDS,
        rows=[models.row(line, signed) for line in found[:SHOWN]],
        more=found[SHOWN - 1].n if len(found) > SHOWN else None,
        hidden=hidden,
        filter_words=_filter_words(v),
        entries=entries,
        signed=signed,
        walk=walk,
        verdict=models.verdict(walk.found) if walk and walk.found else "",
        faults=walk.found.faults[:FAULTS] if walk and walk.found else (),
        has_keys=bool(v.context.audit_keys),
        then=then,
        problem=problem,
        action_name=audit_trail.action_name,
        object_name=audit_trail.object_name,
        place_name=lambda id_: _place_name(v, id_),
        actions=audit_trail.action_codes(),
        kinds=audit_trail.kinds(),
        by_whom=by_whom,
    )


def _place_name(v: View, id_: str) -> str:
    """The station or river that the id of an object begins with; "" for any other."""
    if id_ == REACHES:
        return v.say("audit_page.all_reaches")
    registry, key = v.registries.recent(), id_.partition("/")[0]
    place = registry[key] if key in registry else registry.reach(key)
    return v.of(Text(place.zh, place.en)) if place else ""


@router.post(TRAIL.path + "/verify")
def verify(v: Viewing) -> Response:
    """Begin to walk the chain, unless a walk is under way; the answer leads to how far it is."""
    v.require(TRAIL.right)
    state = v.request.app.state
    walk: Walk | None = getattr(state, "trail_walk", None)
    if walk is None or not walk.running:
        with v.context.database.read() as connection:
            entries, _ = audit_trail.head(connection)
        state.trail_walk = Walk(entries)
        threading.Thread(target=_verify, args=(v, state.trail_walk), name="verify the trail", daemon=True).start()
    return RedirectResponse(v.to(TRAIL.path) + "#verdict", 303)


@router.post(TRAIL.path + "/export")
def export(v: Viewing) -> Response:
    """The entries of the filter as CSV, whose cells hold bodies of any length; an entry itself."""
    v.require(TRAIL.right)
    wanted = models.filter_of(v.query)
    with v.context.database.read() as connection:
        found = _found(connection, wanted, MOST_ROWS)
    head = ("n", "at", "by", "role", "what", "kind", "id", "body", "prev", "hash")
    rows = [
        (one.n, rfc3339(one.at_ms), one.by, one.role, one.what, one.kind, one.id, one.body, one.prev, one.hash)
        for one in found
    ]
    return list_export.answer(v, {}, Table("trail", head, rows))


@router.get(TRAIL.path + "/{number}")
def show_entry(v: Viewing, number: int) -> Response:
    """One entry: what it changed, what it says, and its proof."""
    v.require(TRAIL.right)
    with v.context.database.read() as connection:
        line = audit_trail.get(connection, number)
        earlier = audit_trail.entry_before(connection, line)
        last = roots.newest(connection)
    return v.render(
        "trail_entry.html",
        row=models.row(line, 0 if last is None else last.size),
        prev=line.prev,
        is_first=earlier is None,
        changes=models.changes(line, earlier),
        sentence=models.sentence(line),
        field_name=lambda name: models.field_name(line.kind, name),
        field_value=lambda name, value: _field_value(v, line.kind, name, value),
        place_name=lambda id_: _place_name(v, id_),
        action_name=audit_trail.action_name,
        object_name=audit_trail.object_name,
    )


def _field_value(v: View, kind: str, name: str, value: str) -> str:
    """A field of an incident as people read it; any other as it was recorded."""
    if kind != "incident":
        return value
    if name == "region":
        return v.of(v.keeper.regions().name(value))
    if name == "reach":
        return _place_name(v, value) or value
    return v.of(models.field_value(name, value))


def _filter_words(v: View) -> str:
    """What the address asks for, in words."""
    words = {"what": audit_trail.action_name, "kind": audit_trail.object_name}
    asked = [(name, v.query.get(name, "").strip()) for name in models.FIELDS]
    parts = [(v.say(f"audit_page.filter_{name}"), words.get(name), value) for name, value in asked if value]
    return " · ".join(f"{label} {v.of(word(value)) if word else value}" for label, word, value in parts)


def _then(v: View, connection: sa.Connection) -> tuple[AsOf | None, Text | None]:
    """The incident of the address as it stood at its instant, or why there is none."""
    number, at = v.query.get("incident", "").strip(), v.query.get("at", "").strip()
    if not number and not at:
        return None, None
    try:
        if (incident_id := whole_number(number)) is None:
            raise ConfigurationError(say("audit_page.give_incident"))
        at_ms = models.moment(at) if at else v.now_ms
        incident, history = incident_store.as_of(connection, incident_id, at_ms)
    except (NotFound, ConfigurationError) as error:
        return None, error.text
    return AsOf(at_ms, incident, tuple(history)), None


def _verify(v: View, walk: Walk) -> None:
    def progress(share: float) -> None:
        walk.share = share
        time.sleep(PAUSE_S)

    try:
        walk.found = verify_trail(v.context, v.context.outside_roots(), progress)
    except WaterError as error:
        walk.error = error.text
    except Exception:
        walk.error = say("page_frame.broken")
        raise
    finally:
        walk.ended_ms = v.context.clock_ms()


def _found(connection: sa.Connection, wanted: models.Filter, limit: int) -> list[AuditEntry]:
    return audit_trail.list_entries(
        connection,
        what=wanted.what,
        kind=wanted.kind,
        id=wanted.id,
        by=wanted.by,
        since_ms=wanted.since_ms,
        until_ms=wanted.until_ms,
        before_n=wanted.before_n,
        by_rules=wanted.by_rules,
        limit=limit,
    )
