"""Readings over HTTP: the telemetry message of design §4.1 plus ``station``, answered once it is durable."""

import asyncio
import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import msgspec
from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool

from api.access import MACHINE, Who, reaches
from api.context import Context
from api.problems import shorten, unavailable
from api.registries import find
from api.requests import RequestContext, RequestRegistries
from api.responses import answer, when
from api.routes.router import subject_router
from infra.errors import ConfigurationError
from infra.texts import say
from ingest.pipeline import Receipt
from sensors.reading import Message, Reason, Rejected
from sensors.wire.telemetry import whole

router = subject_router("readings", "/readings")

DURABLE_WITHIN_S = 30.0

_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": json.loads(files("api").joinpath("reading_message.schema.json").read_text("utf-8"))
        }
    },
}


@dataclass(frozen=True, slots=True)
class RefusedReading:
    """``at`` is null where the message did not say it readably; the detail then names the sample."""

    at: str | None
    parameter: str


@dataclass(frozen=True, slots=True)
class Quarantined:
    """What was kept aside, and why; ``readings`` is null where the message was refused as a whole."""

    reason: str
    detail: str
    readings: list[RefusedReading] | None


@dataclass(frozen=True, slots=True)
class Received:
    """What became of a message: readings that are new, readings that were there already, and what was kept aside."""

    stored: int
    duplicate: int
    quarantined: list[Quarantined]


@router.post("", status_code=202, response_model=Received, openapi_extra={"requestBody": _BODY})
async def receive(context: RequestContext, registries: RequestRegistries, request: Request, actor: Who) -> Response:
    """Take a telemetry message; answered once its readings are durable, so that whoever is not answered sends again.

    The same message twice is one. What cannot be used is quarantined with the reason and can be replayed; only a body
    that names no station is refused, for nobody could be asked about it.
    """
    body = await request.body()
    by = "" if actor.name == MACHINE else actor.name
    station = _station(body)
    if actor.regions is not None:
        reaches(actor, find(await run_in_threadpool(registries.recent), station))
    message = Message(station, body, context.clock_ms(), source="http", by=by)
    return answer(received(await durable(hand_over(context, message), message.station)), 202)


def hand_over(context: Context, message: Message) -> "asyncio.Future[Receipt]":
    """Hand a message to the ingest; raises a Problem (503) where none runs in this process."""
    if context.submit is None:
        raise unavailable(say("store.no_ingest"))
    return asyncio.wrap_future(context.submit(message))


async def durable(handed_over: "asyncio.Future[Receipt]", station: str) -> Receipt:
    """Wait until a message is durable; raises a Problem (503) where that takes too long."""
    done, _ = await asyncio.wait({handed_over}, timeout=DURABLE_WITHIN_S)  # never cancels: the ingest still owns it
    if not done:
        raise unavailable(say("store.not_durable", station=shorten(station), seconds=DURABLE_WITHIN_S))
    return handed_over.result()


def received(receipt: Receipt) -> Received:
    """The receipt as it is answered."""
    return Received(receipt.stored, receipt.duplicate, [_quarantined(r) for r in receipt.rejected])


def refused_readings(reason: str, readings: tuple[tuple[int, str], ...] | None) -> list[RefusedReading] | None:
    """The refused readings as they are answered."""
    if readings is None:
        return None
    timed = reason != Reason.BAD_TIME.key  # else the number stands for the sample's place in the message
    return [RefusedReading(when(at_ms) if timed else None, writable(key)) for at_ms, key in readings]


def writable(text: str) -> str:
    """Text from a message that may hold half a surrogate pair, as text that can be sent."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _quarantined(r: Rejected) -> Quarantined:
    return Quarantined(r.reason.key, writable(r.detail), refused_readings(r.reason.key, r.readings))


class _Addressed(msgspec.Struct):
    station: str


_decoder = msgspec.json.Decoder(_Addressed)


def _station(body: bytes) -> str:
    """The station a body names; read as forgivingly as the pipeline reads, so that a NaN is the pipeline's to judge."""
    try:
        station: Any = _decoder.decode(body).station
    except (ValueError, RecursionError):
        station = _leniently(body)
    if not isinstance(station, str):
        raise ConfigurationError(say("request.no_key", station=shorten(station)))
    if writable(station) != station:
        raise ConfigurationError(say("request.half_letter", station=ascii(station)[:80]))
    return station


def _leniently(body: bytes) -> Any:
    try:
        content = json.loads(body, parse_int=whole)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(say("request.not_json", error=shorten(str(error)))) from None
    if not isinstance(content, dict):
        raise ConfigurationError(say("request.no_object", content=shorten(content)))
    if "station" not in content:
        raise ConfigurationError(say("request.station_missing"))
    return content["station"]
