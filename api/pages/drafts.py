"""Drafts of forms on the server ``/drafts``: what the script of the pages keeps and finds again."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from api.access import MACHINE
from api.context import Context
from api.responses import answer
from governance.people import drafts
from governance.people.drafts import Draft

PATH = "/drafts"
FORM, TYPED = "x-form", "x-typed"
"""Headers of a form that the script sends: the key of its draft, and when it was typed."""

router = APIRouter(include_in_schema=False)


class Given(msgspec.Struct, forbid_unknown_fields=True):
    """A draft as the script sends it: the fields, when they were typed, and the version that they were made from."""

    fields: list[tuple[str, str]]
    at: Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
    version: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] = 0


@router.get(PATH)
def read(request: Request, page: str = "") -> Response:
    """The drafts of one page that who asks has."""
    context: Context = request.app.state.context
    person = request.scope["actor"].name
    if person == MACHINE:  # a token that many hold: nobody's own
        return answer({"drafts": {}})
    with context.database.read() as connection:
        found = drafts.below(connection, person, f"{page}:", now_ms=context.clock_ms())
    return answer({"drafts": {key: _shown(one) for key, one in found.items()}})


@router.put(PATH + "/{key:path}")
async def keep(request: Request, key: str) -> Response:
    """Keep a draft; answers whether it was kept and what is kept now."""
    body = await request.body()
    if len(body) > drafts.MAX_BYTES or len(key) > drafts.MAX_KEY_LENGTH:
        return answer({"kept": False, "large": True})
    try:
        given = msgspec.json.decode(body, type=Given)
    except (ValueError, RecursionError):  # DecodeError and UnicodeDecodeError are ValueErrors
        return answer({"kept": False}, 400)
    context: Context = request.app.state.context
    person = request.scope["actor"].name
    if person == MACHINE:
        return answer({"kept": True, "version": 0})
    return await run_in_threadpool(_keep, context, person, key, given)


def _keep(context: Context, person: str, key: str, given: Given) -> Response:
    text = msgspec.json.encode(given.fields).decode()
    now_ms = context.clock_ms()
    with context.database.write() as connection:
        kept, now = drafts.put(connection, person, key, Draft(text, given.at, given.version), now_ms=now_ms)
    return answer({"kept": True, "version": now.version} if kept else {"kept": False, "draft": _shown(now)})


def _shown(draft: Draft) -> dict[str, object]:
    fields = None if draft.body is None else msgspec.json.decode(draft.body)
    return {"fields": fields, "at": draft.typed_at_ms, "version": draft.version}


async def accepted(request: Request, response: Response) -> Response:
    """The answer to the script when a form was accepted: where to go on. Its draft is deleted first."""
    key, typed = request.headers[FORM], request.headers.get(TYPED, "")
    context: Context = request.app.state.context
    if key and len(key) <= drafts.MAX_KEY_LENGTH and typed.isdecimal():
        await run_in_threadpool(_accept, context, request.scope["actor"].name, key, int(typed[:16]))
    response.headers["X-To"] = response.headers["location"]
    del response.headers["location"]
    response.status_code = 204
    return response


def _accept(context: Context, person: str, key: str, typed_at_ms: int) -> None:
    if person == MACHINE:
        return
    with context.database.write() as connection:
        drafts.accept(connection, person, key, typed_at_ms, now_ms=context.clock_ms())
