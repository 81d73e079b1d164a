"""The trail: who changed what when, and the proof that nothing of it was changed since."""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Query, Response
from sqlalchemy import Connection

from api.context import Context
from api.requests import Cursor, Limit, RequestContext, cut, instant, place_by_number
from api.responses import answer, viewed
from api.routes.router import subject_router
from governance.audit import merkle
from governance.audit import trail as audit_trail
from governance.audit.merkle import AuditEntry as Line
from governance.audit.merkle import Root
from governance.audit.trail import Verified
from governance.verification import roots
from infra.errors import Refused
from infra.texts import say

router = subject_router("audit", "/audit")

_verifying = threading.Lock()
"""A verification reads everything: one at a time."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """An entry: what happened to which thing by whom; `hash` is SHA-256 over `prev` and the record."""

    n: int
    at: str | None
    by: str
    role: str
    what: str
    kind: str
    id: str
    body: Mapping[str, Any]
    prev: str
    hash: str


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Entries, newest first."""

    items: list[AuditEntry]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class FaultView:
    """What is wrong with entries `n` to `until`."""

    n: int
    until: int
    wrong: audit_trail.FaultKind
    detail: str


@dataclass(frozen=True, slots=True)
class VerifiedView:
    """Entries walked, the last one's hash, signed roots that fit, and entries under no root yet; faults by number.

    `outside` counts the roots of the file outside the database that the trail was compared with.
    `signatures` is false where this process knows no public key, so that the roots were compared unchecked.
    """

    ok: bool
    entries: int
    head: str
    roots: int
    unsigned: int
    signatures: bool
    outside: int
    faults: list[FaultView]


@dataclass(frozen=True, slots=True)
class RootView:
    """A signed root over the first `size` entries."""

    size: int
    at: str | None
    at_ms: int
    root: str
    head: str
    origin: str
    key: str
    signature: str


@dataclass(frozen=True, slots=True)
class Roots:
    """All roots, oldest first, and the public keys (raw, hexadecimal) by the name that the roots call them."""

    items: list[RootView]
    keys: dict[str, str]


@router.get("", response_model=AuditPage)
def list_entries(  # noqa: PLR0913, PLR0917  (a parameter of the request each)
    context: RequestContext,
    what: Annotated[
        str | None, Query(description="incident.closed; registry finds all that begin with registry.")
    ] = None,
    kind: Annotated[str | None, Query(description="of things of this kind: incident, station, plan …")] = None,
    id: Annotated[str | None, Query(description="of the thing called so")] = None,
    by: Annotated[str | None, Query(description="done by this person, rule or program")] = None,
    since: Annotated[str | None, Query(description="from this instant, RFC 3339")] = None,
    until: Annotated[str | None, Query(description="before this instant, RFC 3339")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """The trail, newest first."""
    with context.database.read() as connection:
        found = audit_trail.list_entries(
            connection,
            what=what,
            kind=kind,
            id=id,
            by=by,
            since_ms=None if since is None else instant("since", since),
            until_ms=None if until is None else instant("until", until),
            before_n=place_by_number("audit", cursor),
            limit=limit + 1,
        )
    page, following = cut("audit", found, limit, lambda line: line.n)
    return answer(AuditPage([_entry(line) for line in page], following))


@router.get("/verify", response_model=VerifiedView)
def verify(context: RequestContext) -> Response:
    """Walk the whole trail; compare it with its signed roots, those of the file outside, and the cases and people.

    One at a time. With roots of another machine: `riverchief audit verify --roots FILE`.
    """
    outside = context.outside_roots()
    found = verify_trail(context, outside)
    faults = [FaultView(fault.n, fault.until, fault.wrong, fault.detail) for fault in found.faults]
    signatures = bool(context.audit_keys)
    return answer(
        VerifiedView(found.ok, found.entries, found.head, found.roots, found.unsigned, signatures, len(outside), faults)
    )


def verify_trail(
    context: Context, outside: Sequence[Root], progress: Callable[[float], None] = lambda share: None
) -> Verified:
    """What walking the trail finds; ``progress`` is told the share done. Raises Refused while another walk runs."""
    if not _verifying.acquire(blocking=False):
        raise Refused(say("audit_page.verifying"))
    try:
        with context.database.read() as connection:
            _take_the_time(connection)
            return roots.verify(connection, context.audit_keys, outside, progress)
    finally:
        _verifying.release()


@router.get("/roots", response_model=Roots)
def list_roots(context: RequestContext) -> Response:
    """The signed roots: what to keep outside."""
    with context.database.read() as connection:
        found = roots.list_roots(connection)
    keys = {merkle.key_id(key): key.public_bytes_raw().hex() for key in context.audit_keys}
    return answer(Roots([_root(root) for root in found], keys))


@router.get("/{n}", response_model=AuditEntry)
def get_entry(context: RequestContext, n: int) -> Response:
    """One entry."""
    with context.database.read() as connection:
        return answer(_entry(audit_trail.get(connection, n)))


@router.get("/{n}/proof")
def get_proof(
    context: RequestContext,
    n: int,
    since: Annotated[int | None, Query(description="size of an earlier root you hold")] = None,
) -> Response:
    """That the entry is in the trail under the newest root, and that this root continues an earlier one.

    A document to hand on: `riverchief audit check PROOF.json --key PUBLIC.pem` checks it without this server. 409 while
    no root covers the entry.
    """
    with context.database.read() as connection:
        return answer(roots.proof(connection, n, since=since).as_json())


def _take_the_time(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")


def _entry(line: Line) -> AuditEntry:
    try:
        body = json.loads(line.body)
    except ValueError:
        body = None  # changed afterwards: verification reports it
    if not isinstance(body, dict):
        body = {"unreadable": line.body}
    return viewed(AuditEntry, line, body=body)


def _root(root: Root) -> RootView:
    return viewed(RootView, root)
