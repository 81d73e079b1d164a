"""Phones: registered once while signed in, revoked when lost."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Query, Response
from pydantic import Field

from api.access import Who
from api.context import Context
from api.field.signed import SignedRoute
from api.requests import RequestContext, Strict, Words
from api.responses import answer, viewed, when
from api.routes.router import subject_router
from governance.organisation.roles import Actor, Right
from governance.people import phones as store
from governance.people import store as people_store

router = subject_router("field", "/field/phones", SignedRoute)


class NewPhone(Strict):
    """A phone: what it is called, and its public key as a JWK (EC, P-256)."""

    name: Words = Field("", max_length=200)
    key: dict[str, Any]


@dataclass(frozen=True, slots=True)
class NewPhoneView:
    """The phone as registered."""

    id: str
    name: str
    person: str | None
    registered_at: str | None


@dataclass(frozen=True, slots=True)
class PhoneView:
    """A phone; ``revoked_at`` is null while it counts."""

    id: str
    name: str
    registered_at: str | None
    used_at: str | None
    revoked_at: str | None


@dataclass(frozen=True, slots=True)
class PhoneList:
    """The phones of one person, those that count first."""

    items: list[PhoneView]


@router.post("", status_code=201, response_model=NewPhoneView)
def register_phone(context: RequestContext, who: Who, new: NewPhone) -> Response:
    """Register the phone of who is signed in; what it signs counts from now on, until it is revoked."""
    who.must_be_whole()
    now_ms = context.clock_ms()
    with context.database.write() as connection:
        made = store.register(connection, people_store.get(connection, who.name), new.name, new.key, now_ms)
    return answer(NewPhoneView(made.id, made.name, made.person, when(made.registered_at_ms)), 201)


@router.get("", response_model=PhoneList)
def list_phones(context: RequestContext, who: Who, person: Annotated[Words | None, Query()] = None) -> Response:
    """One's own phones; for administrators those of a person."""
    if person is not None and person != who.name:
        who.must(Right.PEOPLE)
    with context.database.read() as connection:
        found = store.of_person(connection, people_store.get(connection, person or who.name))
    return answer(PhoneList([viewed(PhoneView, one) for one in found]))


@router.delete("/{number}", status_code=204)
def revoke_phone(context: RequestContext, who: Who, number: str) -> Response:
    """Revoke a phone that was lost: one's own, for administrators anybody's. What it sent before stays."""
    revoke(context, who, number)
    return Response(status_code=204)


def revoke(context: Context, who: Actor, number: str, person: str | None = None) -> None:
    """Revoke a phone, that of ``person`` where one is given. Raises NotFound for one that is not theirs to revoke."""
    owner = person if who.may(Right.PEOPLE) else who.name
    with context.database.write() as connection:
        store.revoke(connection, store.get(connection, number, owner), by=who.name, now_ms=context.clock_ms())
