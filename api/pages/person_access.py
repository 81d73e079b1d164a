"""What administrators see and do of somebody's access: a link to sign in, second factor, sessions, tokens.

The page of a person shows it (`parts/person_access.html`); its forms lead here, and back.
"""

from dataclasses import dataclass
from urllib.parse import quote

from fastapi import APIRouter, Response
from starlette.responses import RedirectResponse

from api.access import needed_right
from api.field import phones as field_phones
from api.pages.view import PageRoute, View, Viewing
from api.requests import Number
from api.routes import me
from governance.notify import channels
from governance.notify.contacts import Channel
from governance.organisation.roles import Right
from governance.people import accounts, sessions
from governance.people import phones as phone_store
from governance.people import store as people_store
from governance.people.accounts import Account
from governance.people.phones import Phone
from governance.people.sessions import Session
from governance.people.store import Token
from infra.texts import say

MAIL = frozenset({"mailto", "mailtos"})

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@dataclass(frozen=True, slots=True)
class PersonAccess:
    """How somebody signs in, and where they are signed in; ``sends``: a link reaches them by message."""

    name: str
    path: str
    account: Account
    needs_factor: bool
    sessions: tuple[Session, ...]
    tokens: tuple[Token, ...]
    phones: tuple[Phone, ...]
    sends: bool
    done: str = ""


def of(v: View, name: str) -> PersonAccess | None:
    """What the page of a person shows of the access; None for who may not see it. Raises NotFound."""
    if not v.actor.may(Right.PEOPLE):
        return None
    with v.context.database.read() as connection:
        one = people_store.get(connection, name)
        return PersonAccess(
            one.name,
            _path(one.name),
            accounts.get(connection, one),
            accounts.needs_factor(one),
            tuple(sessions.list_sessions(connection, one.id, v.now_ms, v.context.idle_ms)),
            tuple(people_store.tokens_of(connection, one.name, v.now_ms)),
            tuple(phone_store.of_person(connection, one)),
            bool(_private(v, one.name)),
            v.query.get("done", ""),
        )


@router.post("/people/{name}/access/link")
def make_link(v: Viewing, name: str) -> Response:
    """Make a link with which somebody sets the password; shown this once."""
    _require(v, name, needed_right("POST", "/people/-/link"))
    path, until_ms = me.make_link(v.context, name, by=v.actor.name)
    address = f"{v.request.url.scheme}://{v.request.headers.get('host', '')}{path}"
    return v.render("person_link.html", name=name, address=address, until_ms=until_ms, back=_path(name))


@router.post("/people/{name}/access/send")
def send_link(v: Viewing, name: str) -> Response:
    """Send such a link by message; where no channel takes it, it is shown instead."""
    _require(v, name, needed_right("POST", "/people/-/link"))
    ways = _private(v, name)
    path, until_ms = me.make_link(v.context, name, by=v.actor.name)
    address = f"{v.request.url.scheme}://{v.request.headers.get('host', '')}{path}"
    body = v.say("account.link_message", address=address, at=v.moment(until_ms))
    for way in ways:
        if channels.send(way, v.say("login.set_title"), body).ok:
            with v.context.database.write() as connection:
                accounts.record_event(
                    connection, "account.link_sent", name, {"channel": way.kind}, v.actor.name, v.now_ms
                )
            return _back(v, name, "sent")
    return v.render(
        "person_link.html",
        name=name,
        address=address,
        until_ms=until_ms,
        back=_path(name),
        error=say("account.link_unsent"),
    )


@router.post("/people/{name}/access/factor")
def remove_factor(v: Viewing, name: str) -> Response:
    """Take the second factor away, as after a lost telephone; all sessions end."""
    _require(v, name, needed_right("DELETE", "/people/-/factor"))
    me.remove_factor(v.context, name, by=v.actor.name)
    return _back(v, name, "factor")


@router.post("/people/{name}/access/sessions")
def end_sessions(v: Viewing, name: str) -> Response:
    """Sign somebody out everywhere."""
    _require(v, name, needed_right("DELETE", "/people/-/sessions"))
    me.end_sessions(v.context, name, by=v.actor.name)
    return _back(v, name, "sessions")


@router.post("/people/{name}/access/tokens/{number}")
def revoke_token(v: Viewing, name: str, number: Number) -> Response:
    """End one of somebody's tokens."""
    _require(v, name, needed_right("DELETE", "/people/-/tokens"))
    with v.context.database.write() as connection:
        people_store.revoke_token(connection, name, number, by=v.actor.name, now_ms=v.now_ms)
    return _back(v, name, "tokens")


def _require(v: View, name: str, right: Right) -> None:
    v.require(right)
    v.keeper.require_authority(v.actor, name)


@router.post("/people/{name}/access/phones/{number}")
def revoke_phone(v: Viewing, name: str, number: str) -> Response:
    """A phone of somebody's was lost."""
    v.require(Right.PEOPLE)
    field_phones.revoke(v.context, v.actor, number, name)
    return _back(v, name, "phones")


def _private(v: View, name: str) -> list[Channel]:
    """The channels that reach one person alone: mail and SMS. A robot of a group would show the link to all of it."""
    if v.context.notifications is None:
        return []
    contact = v.context.notifications.directory().called(name)
    return [one for one in contact.channels if one.short or one.kind in MAIL] if contact else []


def _back(v: View, name: str, done: str) -> Response:
    v.keeper.forget()
    return RedirectResponse(f"{v.to(_path(name), done=done)}#access", 303)


def _path(name: str) -> str:
    return f"/people/{quote(name, safe='')}"
