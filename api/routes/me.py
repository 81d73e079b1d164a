"""One's own sessions and tokens, and for administrators those of others, with the link that sets a password."""

from dataclasses import dataclass

from fastapi import Response
from pydantic import Field

from api.access import OVER, Keeping, Who
from api.context import Context
from api.requests import Number, RequestContext, Strict, Words, one_of
from api.responses import answer, when
from api.routes.router import subject_router
from governance.organisation.roles import Right
from governance.people import accounts, sessions
from governance.people import store as people_store
from governance.people.one_time_codes import LINK_MS
from governance.people.store import TokenWish
from infra.errors import NotFound
from infra.texts import say
from infra.times import DAY_MS, rfc3339

router = subject_router("people")


class NewToken(Strict):
    """A token of one's own: what it is called, the rights it is limited to (null: all), and for how long."""

    label: Words = Field("", max_length=people_store.NAME_LIMIT)
    scopes: list[Words] | None = Field(None, max_length=len(Right), examples=[[Right.VIEW, Right.REPORT]])
    days: int | None = Field(None, ge=1, le=3650, description="the setting access.token_days when left out")


@dataclass(frozen=True, slots=True)
class SessionView:
    """A browser that is signed in: how (`password`, `link`, `oidc`, `token`), with what, from where, and since when."""

    id: int
    method: str
    device: str
    network: str
    begun_at: str | None
    used_at: str | None
    expires_at: str | None


@dataclass(frozen=True, slots=True)
class Sessions:
    """Sessions, the one used last at the front."""

    items: list[SessionView]


@dataclass(frozen=True, slots=True)
class OwnTokenView:
    """A valid token without its secret; `scopes` is null for all rights of its owner."""

    id: int
    label: str
    scopes: list[str] | None
    issued_at: str | None
    expires_at: str | None
    used_at: str | None


@dataclass(frozen=True, slots=True)
class OwnTokens:
    """Tokens, the newest at the front."""

    items: list[OwnTokenView]


@dataclass(frozen=True, slots=True)
class NewTokenView:
    """A new token, shown this once."""

    token: str
    expires_at: str


@dataclass(frozen=True, slots=True)
class LinkView:
    """A path below the site's address where somebody sets the password; shown this once."""

    path: str
    expires_at: str


@router.get("/me/sessions", response_model=Sessions)
def my_sessions(context: RequestContext, who: Who) -> Response:
    """The browsers in which the caller is signed in."""
    return answer(_sessions(context, who.name))


@router.delete("/me/sessions", status_code=204)
def end_my_sessions(context: RequestContext, who: Who, keeper: Keeping) -> Response:
    """Sign the caller out in every browser, also in this one."""
    end_sessions(context, who.name, by=who.name)
    keeper.forget()
    return Response(status_code=204)


@router.delete("/me/sessions/{number}", status_code=204)
def end_my_session(context: RequestContext, who: Who, keeper: Keeping, number: Number) -> Response:
    """Sign the caller out in one browser."""
    end_session(context, who.name, number)
    keeper.forget()
    return Response(status_code=204)


@router.get("/me/tokens", response_model=OwnTokens)
def my_tokens(context: RequestContext, who: Who) -> Response:
    """The caller's valid tokens."""
    return answer(_tokens(context, who.name))


@router.post("/me/tokens", status_code=201, response_model=NewTokenView)
def new_token(context: RequestContext, who: Who, new: NewToken) -> Response:
    """A token of the caller's, shown this once; a limited token makes none."""
    who.must_be_whole()
    scopes = None if new.scopes is None else frozenset(one_of(Right, "scopes", one) for one in new.scopes)
    good_ms = context.token_ms if new.days is None else new.days * DAY_MS
    now_ms = context.clock_ms()
    with context.database.write() as connection:
        made = people_store.issue_token(
            connection, who.name, by=who.name, now_ms=now_ms, good_ms=good_ms, wish=TokenWish(new.label, scopes)
        )
    return answer(NewTokenView(made, rfc3339(now_ms + good_ms)), 201, {"Cache-Control": "no-store"})


@router.delete("/me/tokens/{number}", status_code=204)
def revoke_my_token(context: RequestContext, who: Who, keeper: Keeping, number: Number) -> Response:
    """End one of the caller's tokens."""
    with context.database.write() as connection:
        people_store.revoke_token(connection, who.name, number, by=who.name, now_ms=context.clock_ms())
    keeper.forget()
    return Response(status_code=204)


@router.get("/people/{name}/sessions", response_model=Sessions, dependencies=[OVER])
def sessions_of(context: RequestContext, name: str) -> Response:
    """The browsers in which somebody is signed in."""
    return answer(_sessions(context, name))


@router.delete("/people/{name}/sessions", status_code=204, dependencies=[OVER])
def end_sessions_of(context: RequestContext, who: Who, keeper: Keeping, name: str) -> Response:
    """Sign somebody out in every browser."""
    end_sessions(context, name, by=who.name)
    keeper.forget()
    return Response(status_code=204)


@router.get("/people/{name}/tokens", response_model=OwnTokens, dependencies=[OVER])
def tokens_of(context: RequestContext, name: str) -> Response:
    """Somebody's valid tokens."""
    return answer(_tokens(context, name))


@router.post("/people/{name}/link", status_code=201, response_model=LinkView, dependencies=[OVER])
def new_link(context: RequestContext, who: Who, name: str) -> Response:
    """A link with which somebody sets the password, once and within a day."""
    who.must_be_whole()
    path, until_ms = make_link(context, name, by=who.name)
    return answer(LinkView(path, rfc3339(until_ms)), 201, {"Cache-Control": "no-store"})


@router.delete("/people/{name}/factor", status_code=204, dependencies=[OVER])
def remove_factor_of(context: RequestContext, who: Who, keeper: Keeping, name: str) -> Response:
    """Take somebody's second factor away, as after a lost telephone; all their sessions end."""
    who.must_be_whole()
    remove_factor(context, name, by=who.name)
    keeper.forget()
    return Response(status_code=204)


# -- what the pages do as well -----------------------------------------------------------------------------------------


def make_link(context: Context, name: str, *, by: str) -> tuple[str, int]:
    """The path of a link with which somebody sets the password, and until when it is good. Raises NotFound."""
    now_ms = context.clock_ms()
    with context.database.write() as connection:
        code = accounts.make_link(connection, people_store.get(connection, name), by=by, now_ms=now_ms)
    return f"/password/{code}", now_ms + LINK_MS


def end_sessions(context: Context, name: str, *, by: str, but: str | None = None) -> int:
    """Close somebody's sessions, except that of the cookie ``but``. Raises NotFound."""
    with context.database.write() as connection:
        one = people_store.get(connection, name)
        ended = sessions.end_all(connection, one.id, but)
        accounts.record_event(connection, "login.ended", one.name, {"count": ended}, by, context.clock_ms())
    return ended


def end_session(context: Context, name: str, number: int) -> None:
    """Close one of somebody's own sessions. Raises NotFound."""
    with context.database.write() as connection:
        one = people_store.get(connection, name)
        if not sessions.end_one(connection, one.id, number):
            raise NotFound(say("account.no_session"))
        accounts.record_event(connection, "login.ended", one.name, {"count": 1}, one.name, context.clock_ms())


def remove_factor(context: Context, name: str, *, by: str) -> None:
    """Take somebody's second factor away; all their sessions end. Raises NotFound."""
    with context.database.write() as connection:
        one, now_ms = people_store.get(connection, name), context.clock_ms()
        accounts.remove_factor(connection, one, by=by, now_ms=now_ms)
        sessions.end_all(connection, one.id)


def _sessions(context: Context, name: str) -> Sessions:
    now_ms = context.clock_ms()
    with context.database.read() as connection:
        one = people_store.get(connection, name)
        found = sessions.list_sessions(connection, one.id, now_ms, context.idle_ms)
    return Sessions(
        [
            SessionView(
                s.id, s.method, s.agent, s.network, when(s.begun_at_ms), when(s.used_at_ms), when(s.expires_at_ms)
            )
            for s in found
        ]
    )


def _tokens(context: Context, name: str) -> OwnTokens:
    now_ms = context.clock_ms()
    with context.database.read() as connection:
        people_store.get(connection, name)
        found = people_store.tokens_of(connection, name, now_ms)
    return OwnTokens(
        [
            OwnTokenView(
                t.id,
                t.label,
                None if t.scopes is None else sorted(t.scopes),
                when(t.created_at_ms),
                when(t.expires_at_ms),
                when(t.used_at_ms),
            )
            for t in found
        ]
    )
