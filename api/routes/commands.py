"""What is asked of a station: a sample now, a sample kept, the clock, intervals, data of a time range.

A station with an HJ 212 logger connected is asked through the gateway, any other through the broker.
"""

import asyncio
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field

from api.access import Who, reaches
from api.context import Context
from api.problems import unavailable
from api.registries import find
from api.requests import RequestContext, RequestRegistries, Words, instant
from api.responses import answer
from api.routes.router import subject_router
from infra.errors import ConfigurationError, NotFound, Refused
from infra.texts import say
from sensors.wire.hj212 import exchange
from sensors.wire.hj212.codes import Cn
from sensors.wire.hj212.exchange import Command

router = subject_router("commands", "/stations")
T = TypeVar("T")

WITHIN_S = 60.0
"""A logger has the standard's time to say whether it will, and to do it."""
DEVICE_WITHIN_S = 20.0
"""An MQTT device is connected or it is not; a pump takes some seconds."""
BY_MQTT = ("sample_now", "keep_sample", "set_interval")
"""Commands of the MQTT contract."""

Name = Literal["sample_now", "keep_sample", "set_time", "set_interval", "send_now", "send_history"]
_HISTORY = {"minute": Cn.MINUTE, "hour": Cn.HOUR, "day": Cn.DAY}


class NewCommand(BaseModel):
    """What is asked; the members beside ``command`` belong to the commands named with them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    command: Name
    factor: Words | None = Field(None, max_length=6, description="sample_now, keep_sample: HJ 212 code, all if absent")
    seconds: int | None = Field(None, description="set_interval: of real-time data, 30 to 3600")
    of: Literal["minute", "hour", "day"] | None = Field(None, description="send_history: which means")
    start: Annotated[str, Field(max_length=64)] | None = Field(None, description="send_history: RFC 3339")
    end: Annotated[str, Field(max_length=64)] | None = Field(None, description="send_history: RFC 3339")


@dataclass(frozen=True, slots=True)
class CommandAnswer:
    """What was made of it: by HJ 212, ``qn_rtn`` of the first answer (9011), ``exe_rtn`` of the last (9012), as the
    standard numbers them (1: will do, done), and the fields sent in between; by MQTT what the device replied."""

    station: str
    command: str
    by: Literal["hj212", "mqtt"]
    done: bool
    qn_rtn: int | None
    exe_rtn: int | None
    fields: dict[str, str]


@router.post("/{key}/commands", response_model=CommandAnswer)
async def send_command(
    context: RequestContext, registries: RequestRegistries, who: Who, key: str, new: NewCommand
) -> Response:
    """Ask something of the station's logger or device and wait for its result.

    404 when no logger of the station is connected and nothing can be asked over the broker, 503 when nobody answers.
    """
    command = _command(new)
    station = find(registries.now(), key)
    reaches(who, station)
    if context.command is None and context.mqtt_commands is None:
        raise unavailable(say("device.no_way"))
    if context.command is not None:
        try:
            result = await _within(context.command(station.key, command), WITHIN_S, station.key, new.command)
            return answer(
                CommandAnswer(
                    station.key, new.command, "hj212", result.done, result.qn_rtn, result.exe_rtn, dict(result.fields)
                )
            )
        except NotFound:
            if context.mqtt_commands is None:
                raise
    return await _send_over_mqtt(context, station.key, new)


async def _send_over_mqtt(context: Context, station: str, new: NewCommand) -> Response:
    if new.command not in BY_MQTT:
        raise Refused(say("device.mqtt_only", station=station, known=", ".join(BY_MQTT)))
    arguments: dict[str, object] = {}
    if new.factor is not None:
        parameter = context.catalogue.by_code.get(new.factor)
        if parameter is None:
            raise ConfigurationError(say("device.no_factor", factor=new.factor))
        arguments["parameter"] = parameter.key
    if new.seconds is not None:
        arguments["seconds"] = new.seconds
    assert context.mqtt_commands is not None
    sent = context.mqtt_commands.ask(station, new.command, arguments)
    try:
        reply = await _within(sent, DEVICE_WITHIN_S, station, new.command)
    finally:
        context.mqtt_commands.forget(sent)
    return answer(CommandAnswer(station, new.command, "mqtt", reply.done, None, None, dict(reply.fields)))


async def _within(future: "Future[T]", seconds: float, station: str, command: str) -> T:
    waiting = asyncio.wrap_future(future)
    done, _ = await asyncio.wait({waiting}, timeout=seconds)
    if not done:
        raise unavailable(say("device.silent", station=station, command=command, seconds=seconds))
    return waiting.result()


def _command(new: NewCommand) -> Command:
    """Raises ConfigurationError for members that are missing or belong to another command."""
    needed = {
        "set_interval": ("seconds",),
        "send_history": ("of", "start", "end"),
    }.get(new.command, ())
    allowed = {*needed, *(("factor",) if new.command in ("sample_now", "keep_sample") else ())}
    given = {name for name in ("factor", "seconds", "of", "start", "end") if getattr(new, name) is not None}
    if missing := sorted(set(needed) - given):
        raise ConfigurationError(say("device.needs", command=new.command, missing=", ".join(missing)))
    if wrong := sorted(given - allowed):
        raise ConfigurationError(say("device.takes_no", command=new.command, wrong=", ".join(wrong)))
    if new.command == "sample_now":
        return exchange.sample_now(new.factor)
    if new.command == "keep_sample":
        return exchange.keep_sample(new.factor)
    if new.command == "set_time":
        return exchange.set_time()
    if new.command == "send_now":
        return exchange.ask_now()
    if new.command == "set_interval":
        assert new.seconds is not None
        return exchange.set_realtime_interval(new.seconds)
    assert new.of is not None
    assert new.start is not None
    assert new.end is not None
    start_ms, end_ms = instant("start", new.start), instant("end", new.end)
    if start_ms >= end_ms:
        raise ConfigurationError(say("request.start_end", start=new.start, end=new.end))
    return exchange.fetch(_HISTORY[new.of], start_ms, end_ms)
