"""A time-series server over HTTP: InfluxDB 1.x, 2.x and 3.x.

Points go out as line protocol and are the server's when :meth:`TimeSeriesServer.send` returns; queries go out as
InfluxQL. Plain ``httpx`` does it for all three (decision 0026); ``influxdb-client`` manages the buckets and tokens of
2.x in :mod:`ingest.storage.influx_setup`.
"""

import gzip
import json
import re
import ssl
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx

from governance.notify.outbox import retry_after
from infra.errors import ConfigurationError, StorageUnavailable
from infra.texts import Text, at, same, say
from ingest.storage import influxql, readback
from ingest.storage.influxql import Table
from ingest.storage.readback import Found, Span

MAX_BODY_BYTES: Final = 4 * 2**20
"""Largest request body before compression; 3.x takes 10 MB by default, 1.x 25 MB."""

MAX_ERROR_BYTES: Final = 256 * 1024
"""The most that is read of an error answer; a partial write may name many lines."""

MAX_ANSWER_BYTES: Final = 512 * 2**20
"""Largest answer to a query."""

REASON_CHARACTERS: Final = 300
KEEP_ALIVE_S: Final = 20.0

SPANS_PER_QUERY: Final = 200
"""Spans that are verified in one request."""

_NOT_SET_UP: Final = re.compile("(database|retention policy) not found")
"""The message of InfluxQL and 1.x where the setup was not run."""

Form = Mapping[str, str | list[str]]


class ServerKind(StrEnum):
    """The version of the server; values of the setting ``influx.kind``."""

    INFLUXDB1 = "influxdb1"
    INFLUXDB2 = "influxdb2"
    INFLUXDB3 = "influxdb3"


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Address and login; ``bucket`` is the database on 1.x and 3.x."""

    url: str
    kind: ServerKind = ServerKind.INFLUXDB2
    org: str = ""
    bucket: str = "water"
    token: str | None = field(default=None, repr=False)
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    timeout_s: float = 10.0


class ServerError(StorageUnavailable):
    """The server did not carry out a request; ``retry_after_s`` is the delay that it asked for."""

    needs_intervention = False
    """Whether a retry is useless until the server or its settings are changed."""

    def __init__(self, text: Text, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class AccessDenied(ServerError):
    """The server refuses our login, or the login lacks a right."""

    needs_intervention = True


class NotSetUp(ServerError):
    """The bucket, database or organisation does not exist."""

    needs_intervention = True


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """A line that the server will never accept, and its reason."""

    line: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    retry_after_s: float | None
    body: bytes

    @property
    def reason(self) -> str | None:
        """The error message; None where the body is not the server's (a proxy's page)."""
        try:
            document = json.loads(self.body)
        except ValueError:
            return None
        if not isinstance(document, dict):
            return None
        text = document.get("error") or document.get("message")
        return text if isinstance(text, str) else None

    @property
    def faults(self) -> dict[int, str]:
        """Line number from 0 → reason, where the answer numbers the lines (3.x)."""
        try:
            document = json.loads(self.body)
        except ValueError:
            return {}
        listed = document.get("data") if isinstance(document, dict) else None
        found = {}
        for one in listed if isinstance(listed, list) else []:
            if isinstance(one, dict) and isinstance(one.get("line_number"), int):
                found[one["line_number"] - 1] = str(one.get("error_message", ""))
        return found


class TimeSeriesServer:
    """Client of one server; thread-safe.

    Raises ConfigurationError where the address or the CA file cannot be used.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self._secrets = [secret for secret in (settings.token, settings.password) if secret]
        self._client = httpx.Client(
            base_url=_address(settings.url),
            headers=_authorization(settings),
            verify=_trust(settings.ca_file),
            timeout=settings.timeout_s,
            follow_redirects=False,
            limits=httpx.Limits(keepalive_expiry=KEEP_ALIVE_S),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    @property
    def name(self) -> str:
        """Host and port, for messages."""
        url = self._client.base_url
        return url.host if url.port is None else f"{url.host}:{url.port}"

    # -- writing -----------------------------------------------------------------------------------------------------

    def bucket(self, policy: str = "") -> str:
        """The 2.x bucket of a retention policy; "" is that of the readings."""
        return f"{self.settings.bucket}_{policy}" if policy else self.settings.bucket

    def send(self, lines: Sequence[bytes], policy: str = "") -> list[RefusedLine]:
        """Write points; returns once the server has accepted all but the returned lines.

        ``policy`` is their retention policy (1.x, 2.x), "" that of the readings. A point sent twice is one point, so
        that an unclear part is sent again: where a request was accepted in part and the server does not name the
        refused lines, it is halved until they are isolated.

        Raises
        ------
        AccessDenied, NotSetUp
            Somebody has to change something.
        ServerError
            Busy, unreachable, or an unreadable answer; some of the lines may have been stored.
        """
        refused: list[RefusedLine] = []
        waiting = list(_bodies(lines))[::-1]
        while waiting:
            part = waiting.pop()
            answer = self._post(part, policy)
            if answer.status in {HTTPStatus.NO_CONTENT, HTTPStatus.OK}:
                continue
            reason = self._reason_to_refuse(answer, policy)
            split = _split(part, answer, reason)
            refused += split.refused
            waiting += reversed(split.again)
        return refused

    def verify(self, lines: Sequence[bytes], policy: str = "") -> list[bytes]:
        """Read back what was sent; the lines that are missing or have another value. Raises like :meth:`send`."""
        return readback.lost_lines(lines, lambda spans: self._find(spans, policy))

    def _post(self, lines: Sequence[bytes], policy: str) -> _Answer:
        settings = self.settings
        if settings.kind is ServerKind.INFLUXDB1:
            path, query = "/write", {"db": settings.bucket, "precision": "ms"} | ({"rp": policy} if policy else {})
        else:
            path, query = "/api/v2/write", {"org": settings.org, "bucket": self.bucket(policy), "precision": "ms"}
        body = gzip.compress(b"\n".join(lines), compresslevel=1)
        headers = {"Content-Encoding": "gzip", "Content-Type": "text/plain; charset=utf-8"}
        with self._stream("POST", path, params=query, content=body, headers=headers) as response:
            return self._answer(response)

    def _reason_to_refuse(self, answer: _Answer, policy: str) -> str:
        """The reason why a line of this request is refused; raises where the fault is not a line's."""
        if answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return "larger than the server takes"
        if answer.status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY} and answer.reason:
            return self.redacted(answer.reason)
        raise self._trouble(
            answer, say("time_series_server.right_write", bucket=self.bucket(policy)), self.bucket(policy)
        )

    # -- asking ------------------------------------------------------------------------------------------------------

    def influxql(self, *statements: str) -> list[list[Table]]:
        """The tables that answer each statement, times in ms. Raises ServerError."""
        form = {"db": self.settings.bucket, "epoch": "ms", "chunked": "true", "q": "; ".join(statements)}
        org = {"org": self.settings.org} if self.settings.kind is ServerKind.INFLUXDB2 else None
        try:
            answers = influxql.tables(self.ask("POST", "/query", params=org, form=form))
        except influxql.QueryRefused as error:
            message = self.redacted(str(error))
            if _NOT_SET_UP.search(message):
                raise NotSetUp(
                    say(
                        "time_series_server.no_database",
                        server=self.name,
                        reason=message,
                        database=self.settings.bucket,
                    )
                ) from None
            raise ServerError(say("time_series_server.query_refused", server=self.name, reason=message)) from None
        except ValueError as error:
            raise ServerError(at(self.name, same(error))) from error
        return answers + [[] for _ in range(len(statements) - len(answers))]

    def _find(self, spans: Sequence[Span], policy: str) -> list[Found]:
        found: list[Found] = []
        for begin in range(0, len(spans), SPANS_PER_QUERY):
            part = spans[begin : begin + SPANS_PER_QUERY]
            for span, tables in zip(part, self.influxql(*(_select(span, policy) for span in part)), strict=True):
                exact = [table for table in tables if _tags_of(table) == span.tags]
                found.append(
                    {
                        (int(row[0]), column): cell
                        for table in exact
                        for row in table.rows
                        for column, cell in zip(table.columns[1:], row[1:], strict=True)
                        if isinstance(row[0], float)
                    }
                )
        return found

    def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        form: Form | None = None,
        json: Mapping[str, object] | None = None,
    ) -> Iterator[bytes]:
        """The answer to a request, line by line. Raises ServerError."""
        size = 0
        rest = b""
        with self._stream(method, path, params=params, data=form, json=json) as response:
            if not response.is_success:
                raise self._trouble(
                    self._answer(response), say("time_series_server.right_read", bucket=self.settings.bucket)
                )
            for chunk in response.iter_bytes():
                size += len(chunk)
                if size > MAX_ANSWER_BYTES:
                    raise ServerError(
                        say("time_series_server.answer_large", server=self.name, most=MAX_ANSWER_BYTES >> 20)
                    )
                *whole, rest = (rest + chunk).split(b"\n")
                yield from whole
        if rest:
            yield rest

    def ping(self) -> str:
        """The version of the server, "" where it does not state one. Raises ServerError."""
        with self._stream("GET", "/ping") as response:
            if not response.is_success:
                raise self._trouble(self._answer(response), say("time_series_server.right_any"))
            return str(response.headers.get("X-Influxdb-Version", ""))

    @contextmanager
    def _stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
        data: Form | None = None,
        json: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[httpx.Response]:
        """A streamed answer; network errors become ServerError."""
        request = self._client.build_request(
            method, path, params=params, content=content, data=data, json=json, headers=headers
        )
        try:
            response = self._client.send(request, stream=True)
            try:
                yield response
            finally:
                response.close()
        except httpx.TimeoutException:
            raise ServerError(
                say("time_series_server.no_answer", server=self.name, seconds=f"{self.settings.timeout_s:g}")
            ) from None
        except httpx.HTTPError as error:
            raise ServerError(
                say("time_series_server.away", server=self.name, error=self.redacted(str(error)))
            ) from error

    def _answer(self, response: httpx.Response) -> _Answer:
        """Read an answer, bounded in size and time."""
        until = time.monotonic() + self.settings.timeout_s
        body = b""
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > MAX_ERROR_BYTES:
                break
            if time.monotonic() > until:
                raise ServerError(
                    say("time_series_server.answer_slow", server=self.name, seconds=f"{self.settings.timeout_s:g}")
                )
        wait_s = retry_after(response.headers.get("Retry-After"), time.time_ns() // 1_000_000)
        return _Answer(response.status_code, wait_s, body)

    def _trouble(self, answer: _Answer, right: Text, bucket: str = "") -> ServerError:
        """The error for an answer; ``right`` is what the request needs and the token may lack."""
        message = self.redacted(answer.reason) if answer.reason else "no reason given"
        settings = self.settings
        if answer.status == HTTPStatus.UNAUTHORIZED:
            return AccessDenied(
                say("time_series_server.unknown", server=self.name, status=answer.status, reason=message)
            )
        if answer.status == HTTPStatus.FORBIDDEN:
            return AccessDenied(
                say("time_series_server.denied", server=self.name, status=answer.status, reason=message, right=right)
            )
        if answer.status == HTTPStatus.NOT_FOUND or _NOT_SET_UP.search(message):
            name = bucket or settings.bucket
            where = f"{settings.org}/{name}" if settings.org else name
            return NotSetUp(
                say("time_series_server.not_there", server=self.name, where=where, status=answer.status, reason=message)
            )
        if 300 <= answer.status < 400:
            return NotSetUp(say("time_series_server.redirected", server=self.name, status=answer.status))
        text = say("time_series_server.answered", server=self.name, status=answer.status, reason=message)
        return ServerError(text, answer.retry_after_s)

    def redacted(self, text: str) -> str:
        """A server message for a log: one line, shortened, without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "…")
        text = " ".join(text.split())
        return text if len(text) <= REASON_CHARACTERS else f"{text[:REASON_CHARACTERS]}…"


# -- a request that was not taken whole ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Split:
    """The result of a refused request: refused lines, and parts to send again."""

    refused: list[RefusedLine]
    again: list[Sequence[bytes]]


_DROPPED: Final = re.compile(r"\bdropped=(\d+)\b")


def _split(lines: Sequence[bytes], answer: _Answer, reason: str) -> _Split:
    """Refuse the lines that the answer names, or all if it says so; otherwise send both halves again."""
    if len(lines) == 1:
        return _Split([RefusedLine(lines[0], reason)], [])
    if answer.status != HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        if faults := {row: text for row, text in answer.faults.items() if 0 <= row < len(lines)}:
            rest = [line for row, line in enumerate(lines) if row not in faults]
            return _Split([RefusedLine(lines[row], text) for row, text in faults.items()], [rest] if rest else [])
        dropped = _DROPPED.search(answer.reason or "")
        if dropped and int(dropped[1]) == len(lines):
            return _Split([RefusedLine(line, reason) for line in lines], [])
    middle = len(lines) // 2
    return _Split([], [lines[:middle], lines[middle:]])


def _bodies(lines: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Split lines into request bodies."""
    begin = size = 0
    for row, line in enumerate(lines):
        size += len(line) + 1
        if size > MAX_BODY_BYTES and row > begin:
            yield lines[begin:row]
            begin, size = row, len(line) + 1
    if begin < len(lines):
        yield lines[begin:]


# -- servers and their ways ------------------------------------------------------------------------------------------


def _select(span: Span, policy: str) -> str:
    """The query of a span, grouped by all tags, so that a series with further tags is separate."""
    fields = ", ".join(map(influxql.identifier, span.fields))
    tags = "".join(f"{influxql.identifier(key)} = {influxql.text(value)} AND " for key, value in span.tags.items())
    where = tags + influxql.between(span.first_ms, span.last_ms)
    source = ".".join(influxql.identifier(name) for name in (policy, span.measurement) if name)
    return f"SELECT {fields} FROM {source} WHERE {where} GROUP BY *"


def _tags_of(table: Table) -> dict[str, str]:
    return {key: value for key, value in table.tags.items() if value}


# -- connecting ------------------------------------------------------------------------------------------------------


def _address(url: str) -> httpx.URL:
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL:
        raise ConfigurationError(say("time_series_server.no_url")) from None
    if address.scheme not in {"http", "https"} or not address.host:
        raise ConfigurationError(say("time_series_server.scheme"))
    if address.userinfo:
        raise ConfigurationError(say("time_series_server.password"))
    return address


def _authorization(settings: ServerSettings) -> dict[str, str]:
    if settings.token is not None:
        scheme = "Token" if settings.kind in {ServerKind.INFLUXDB1, ServerKind.INFLUXDB2} else "Bearer"
        return {"Authorization": f"{scheme} {settings.token}"}
    if settings.user is not None:
        pair = f"{settings.user}:{settings.password or ''}".encode()
        return {"Authorization": f"Basic {b64encode(pair).decode()}"}
    return {}


def _trust(ca_file: Path | None) -> ssl.SSLContext | bool:
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(say("time_series_server.ca", ca_file=ca_file, error=error)) from error
