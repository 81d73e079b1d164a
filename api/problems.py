"""Every answer that is not the thing asked for, as a problem document (RFC 9457): our errors and the framework's own.

A problem names the thing and the value, in a title of both languages; never a secret, never our internals.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from governance.incidents.model import Conflict
from governance.organisation.roles import Forbidden
from governance.reports.citizen_reports import RateLimited
from infra.errors import ConfigurationError, NotFound, Refused, WaterError
from infra.texts import Text, at, both, joined, keys, say
from infra.toml_file import fault_text

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True)
class Sort:
    """A sort of problem: its status, the last part of its type and its title."""

    status: int
    name: str
    title: Text


INVALID = Sort(400, "invalid", Text("请求有误", "The request is not valid"))
UNAUTHORIZED = Sort(401, "unauthorized", Text("需要登录码", "A token is needed"))
FORBIDDEN = Sort(403, "forbidden", Text("不允许", "Not allowed"))
NOT_FOUND = Sort(404, "not-found", Text("未找到", "Not found"))
METHOD_NOT_ALLOWED = Sort(405, "method-not-allowed", Text("不支持此方法", "Method not allowed"))
REFUSED = Sort(409, "refused", Text("当前状态不允许此操作", "Not possible in the present state"))
CHANGED = Sort(412, "changed", Text("已被他人改动", "Changed in the meantime"))
MISDIRECTED = Sort(421, "misdirected", Text("网址不是本站的", "Not an address of this site"))
TOO_LARGE = Sort(413, "too-large", Text("内容过大", "Too large"))
BROKEN = Sort(500, "broken", Text("系统内部故障", "A fault of ours"))
TOO_MANY = Sort(429, "too-many", Text("尝试过于频繁", "Too many attempts"))
NOT_IMPLEMENTED = Sort(501, "not-implemented", Text("不支持此功能", "Not implemented"))
UNAVAILABLE = Sort(503, "unavailable", Text("暂时不可用", "Not available now"))

_SORTS = {
    sort.status: sort
    for sort in (
        INVALID,
        UNAUTHORIZED,
        FORBIDDEN,
        NOT_FOUND,
        METHOD_NOT_ALLOWED,
        REFUSED,
        CHANGED,
        TOO_LARGE,
        MISDIRECTED,
        TOO_MANY,
        BROKEN,
        NOT_IMPLEMENTED,
        UNAVAILABLE,
    )
}

_OF_ERRORS: tuple[tuple[type[Exception], Sort], ...] = (
    (NotFound, NOT_FOUND),
    (Forbidden, FORBIDDEN),
    (Conflict, CHANGED),
    (RateLimited, TOO_MANY),
    (Refused, REFUSED),
    (ConfigurationError, INVALID),
)
"""Which sort an error of ours is; the first that fits, so the special before the general. What else may succeed later
without anybody changing anything is unavailable now."""

SCHEMA: dict[str, Any] = json.loads(files("api").joinpath("problem.schema.json").read_text("utf-8"))

RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "A problem document",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}
"""For routers: whatever is not described is a problem document."""


@dataclass
class Problem(Exception):
    """A problem as it is answered; raised by routes where no error of ours says the same."""

    sort: Sort
    detail: Text
    members: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int | None = None

    def response(self) -> Response:
        status = self.status or self.sort.status
        document = {
            "type": f"urn:riverchief:problem:{self.sort.name}",
            "title": f"{self.sort.title.zh} / {self.sort.title.en}",
            "status": status,
            "detail": both(self.detail),
            **self.members,
        }
        return Response(msgspec.json.encode(_clean(document)), status, dict(self.headers), MEDIA_TYPE)


def of(error: WaterError) -> Problem:
    """The problem that an error of ours is; one of no known sort is a fault of ours."""
    later = UNAVAILABLE if error.retryable else None
    sort = next((sort for kind, sort in _OF_ERRORS if isinstance(error, kind)), later)
    if sort is None:
        return fault(error)
    allowed = getattr(error, "allowed", None)
    members = {} if allowed is None else {"allowed": [str(action) for action in allowed]}
    wait_s = error.retry_s if isinstance(error, RateLimited) else RETRY_AFTER_S
    headers = {"Retry-After": str(wait_s)} if sort in (UNAVAILABLE, TOO_MANY) else {}
    return Problem(sort, error.text, members, headers)


def fault(error: BaseException) -> Problem:
    """An unforeseen error: logged in full under a number, answered with the number alone."""
    number = uuid.uuid4().urn
    log.error("a request failed", instance=number, exc_info=error)
    return Problem(BROKEN, say("request.fault", number=number), {"instance": number})


def unavailable(detail: Text) -> Problem:
    """503: the same request may succeed later."""
    return Problem(UNAVAILABLE, detail, headers={"Retry-After": str(RETRY_AFTER_S)})


def shorten(value: object, most: int = 120) -> str:
    """A value as an error message quotes it."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= most else text[: most - 1] + "…"


def install(app: FastAPI) -> None:
    """Make the app answer its errors with problems; what is not foreseen here is left to :class:`Faults`."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(WaterError, _water_error)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(NoConnectionFree, _no_connection)


class Faults:
    """ASGI: an error nobody foresaw becomes a 500 problem, and the server goes on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if started:  # too late for another answer: the connection has to break
                raise
            await fault(error).response()(scope, receive, send)


async def _problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response()


async def _water_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, WaterError)
    return of(error).response()


async def _no_connection(_request: Request, _error: Exception) -> Response:
    return unavailable(say("store.no_connection")).response()


async def _validation(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return invalid(error.errors()).response()


async def http(request: Request, error: Exception) -> Response:
    """What the framework refuses by itself: no such path, wrong method, a body it cannot read."""
    assert isinstance(error, HTTPException)
    status = error.status_code
    sort = _SORTS.get(status, INVALID if status < 500 else BROKEN)
    path = shorten(request.url.path)
    if status == 404:
        detail = say("request.nothing_there", path=path)
    elif status == 405:
        detail = say("request.no_method", path=path, method=request.method)
    else:
        detail = say("request.refused", why=error.detail)
    headers = {"Allow": _allowed(request)} if status == 405 else error.headers or {}
    return Problem(sort, detail, headers=headers, status=status).response()


def _allowed(request: Request) -> str:
    """The methods the path takes; the framework itself names those of one route only."""
    methods = ("GET", "HEAD", "POST", "PATCH", "PUT", "DELETE")
    routes = request.app.routes
    return ", ".join(
        m for m in methods if any(r.matches({**request.scope, "method": m})[0] is Match.FULL for r in routes)
    )


def invalid(faults: Any) -> Problem:
    """FastAPI's list of faults, each with the field, what is wrong and the value."""
    found = [_fault(one) for one in faults]
    detail = joined(
        (at(one.field, one.text if one.value is None else _quoting(one.text, one.value)) for one in found), "; "
    )
    errors = [
        {"field": one.field, "message": both(one.text)} | ({} if one.value is None else {"value": one.value})
        for one in found
    ]
    return Problem(INVALID, Text(shorten(detail.zh, 1000), shorten(detail.en, 1000)), {"errors": errors[:50]})


@dataclass(frozen=True, slots=True)
class _Fault:
    """A fault of a request; ``value`` is None where none was given or none counts."""

    field: str
    text: Text
    value: str | None = None


def _fault(one: Mapping[str, Any]) -> _Fault:
    where = tuple(one["loc"])
    message, context = str(one["msg"]), one.get("ctx", {})
    if one["type"] == "json_invalid":
        return _Fault("body", say("field.json_invalid", why=context.get("error", message), at=where[-1]))
    if where == ("body",):
        return _Fault("body", say("field.no_object"))
    text = fault_text(one)
    if text is None:
        key = f"field.{one['type']}"
        if isinstance(expected := context.get("expected"), str):  # 'a', 'b' or 'c'
            context = context | {"expected": Text(expected.replace("', '", "'、'").replace("' or '", "'、'"), expected)}
        text = say(key if key in keys() else "field.other", message=message, **context)
    without_value = one["type"] in {"missing", "extra_forbidden"}
    return _Fault(shorten(".".join(map(str, where))), text, None if without_value else shorten(one.get("input")))


def _quoting(text: Text, value: str) -> Text:
    return Text(f"{text.zh} ({value})", f"{text.en} ({value})")


def _clean(value: Any) -> Any:
    """Text that is not Unicode (half a surrogate pair, quoted from a request) becomes something that can be sent."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Mapping):
        return {_clean(key): _clean(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(entry) for entry in value]
    return value
