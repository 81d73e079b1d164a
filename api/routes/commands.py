"""What is asked of a station: a sample now, a sample kept, the clock, intervals, data of a time range, its state.

A station with an HJ 212 logger or an SL 651 station on the line is asked through its gateway, any other through the
broker.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeVar

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
from sensors.wire.sl651 import queries
from sensors.wire.sl651.queries import Query

router = subject_router("commands", "/stations")
T = TypeVar("T")

WITHIN_S = 60.0
"""A logger has the standard's time to say whether it will, and to do it."""
DEVICE_WITHIN_S = 20.0
"""An MQTT device is connected or it is not; a pump takes some seconds."""
BY_MQTT = ("sample_now", "keep_sample", "set_interval")
"""Commands of the MQTT contract."""
BY_HJ212 = ("sample_now", "keep_sample", "set_time", "get_time", "set_interval", "send_now", "send_history")
MOST_SETTINGS = 40

Name = Literal[
    "sample_now", "keep_sample", "set_time", "get_time", "set_interval", "send_now", "send_history",
    "get_status", "get_version", "get_counters", "get_settings", "send_text",
]  # fmt: skip
_HISTORY = {"minute": Cn.MINUTE, "hour": Cn.HOUR, "day": Cn.DAY}
_STEP_MIN = {"minute": 5, "hour": 60, "day": 1440}
_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "set_interval": ("seconds",),
    "send_history": ("of", "start", "end"),
    "get_settings": ("of", "settings"),
}
_OPTIONAL: Final = dict.fromkeys(("sample_now", "keep_sample", "send_now", "send_history"), ("factor",))
_MEMBERS: Final = ("factor", "seconds", "of", "start", "end", "settings")
_OF: Final = {"send_history": ("minute", "hour", "day"), "get_settings": ("basic", "running")}


class NewCommand(BaseModel):
    """What is asked; the members beside ``command`` belong to the commands named with them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    command: Name
    factor: Words | None = Field(
        None,
        max_length=6,
        description="sample_now, keep_sample, by SL 651 send_now: HJ 212 code, all if absent; by SL 651 send_history",
    )
    seconds: int | None = Field(None, description="set_interval: of real-time data, 30 to 3600")
    of: Literal["minute", "hour", "day", "basic", "running"] | None = Field(
        None, description="send_history: minute (by SL 651 every 5 minutes), hour, day; get_settings: basic, running"
    )
    start: Annotated[str, Field(max_length=64)] | None = Field(None, description="send_history: RFC 3339")
    end: Annotated[str, Field(max_length=64)] | None = Field(None, description="send_history: RFC 3339")
    settings: Annotated[list[str], Field(min_length=1, max_length=MOST_SETTINGS)] | None = Field(
        None, description="get_settings: guide byte and format byte of each parameter, such as 2008"
    )


@dataclass(frozen=True, slots=True)
class CommandAnswer:
    """What was made of it: by HJ 212, ``qn_rtn`` of the first answer (9011), ``exe_rtn`` of the last (9012), as the
    standard numbers them (1: will do, done), and the fields sent in between; by SL 651 what the station answered, by
    MQTT what the device replied."""

    station: str
    command: str
    by: Literal["hj212", "sl651", "mqtt"]
    done: bool
    qn_rtn: int | None
    exe_rtn: int | None
    fields: dict[str, str]


@router.post("/{key}/commands", response_model=CommandAnswer)
async def send_command(
    context: RequestContext, registries: RequestRegistries, who: Who, key: str, new: NewCommand
) -> Response:
    """Ask something of the station's logger or device and wait for its result.

    404 when no device of the station is connected and nothing can be asked over the broker, 503 when nobody answers.
    """
    _check(new)
    station = find(registries.now(), key)
    reaches(who, station)
    if context.command is None and context.sl651_query is None and context.mqtt_commands is None:
        raise unavailable(say("device.no_way"))
    absent: NotFound | None = None
    for ask in (_over_hj212, _over_sl651, _over_mqtt):
        try:
            result = await ask(context, station.key, new)
        except NotFound as error:
            absent = absent or error
        else:
            if result is not None:
                return answer(result)
    known = ", ".join(_askable(context))
    raise absent or Refused(say("device.not_asked", station=station.key, command=new.command, known=known))


def _askable(context: Context) -> list[str]:
    """The commands that there is a way for here."""
    ways = (
        (context.command, BY_HJ212),
        (context.sl651_query, ("send_now", "send_history", "get_settings", *_FUNCTIONS)),
        (context.mqtt_commands, BY_MQTT),
    )
    return sorted({command for way, commands in ways if way is not None for command in commands})


async def _over_hj212(context: Context, station: str, new: NewCommand) -> CommandAnswer | None:
    """Ask the logger; None where that cannot be asked. Raises NotFound where none is connected."""
    if context.command is None or new.command not in BY_HJ212:
        return None
    result = await _within(context.command(station, _command(new)), WITHIN_S, station, new.command)
    return CommandAnswer(station, new.command, "hj212", result.done, result.qn_rtn, result.exe_rtn, dict(result.fields))


async def _over_sl651(context: Context, station: str, new: NewCommand) -> CommandAnswer | None:
    """Ask the SL 651 station; None where that cannot be asked. Raises NotFound where none is connected."""
    query = _query(context, new)
    if context.sl651_query is None or query is None:
        return None
    fields = await _within(context.sl651_query(station, query), WITHIN_S, station, new.command)
    return CommandAnswer(station, new.command, "sl651", True, None, None, dict(fields))


async def _over_mqtt(context: Context, station: str, new: NewCommand) -> CommandAnswer | None:
    """Ask the device over the broker; None where that cannot be asked."""
    if context.mqtt_commands is None or new.command not in BY_MQTT:
        return None
    arguments: dict[str, object] = {}
    if new.factor is not None:
        arguments["parameter"] = _parameter(context, new.factor)
    if new.seconds is not None:
        arguments["seconds"] = new.seconds
    sent = context.mqtt_commands.ask(station, new.command, arguments)
    try:
        reply = await _within(sent, DEVICE_WITHIN_S, station, new.command)
    finally:
        context.mqtt_commands.forget(sent)
    return CommandAnswer(station, new.command, "mqtt", reply.done, None, None, dict(reply.fields))


def _parameter(context: Context, factor: str) -> str:
    """The key of the parameter with an HJ 212 code; raises ConfigurationError."""
    parameter = context.catalogue.by_code.get(factor)
    if parameter is None:
        raise ConfigurationError(say("device.no_factor", factor=factor))
    return parameter.key


async def _within(future: "Future[T]", seconds: float, station: str, command: str) -> T:
    waiting = asyncio.wrap_future(future)
    done, _ = await asyncio.wait({waiting}, timeout=seconds)
    if not done:
        raise unavailable(say("device.silent", station=station, command=command, seconds=seconds))
    return waiting.result()


def _check(new: NewCommand) -> None:
    """Raises ConfigurationError for members that are missing, wrong, or belong to another command."""
    needed = _NEEDED.get(new.command, ())
    allowed = {*needed, *_OPTIONAL.get(new.command, ())}
    given = {name for name in _MEMBERS if getattr(new, name) is not None}
    if missing := sorted(set(needed) - given):
        raise ConfigurationError(say("device.needs", command=new.command, missing=", ".join(missing)))
    if wrong := sorted(given - allowed):
        raise ConfigurationError(say("device.takes_no", command=new.command, wrong=", ".join(wrong)))
    if new.of is not None and new.of not in _OF[new.command]:
        raise ConfigurationError(say("request.one_of", name="of", text=new.of, known=", ".join(_OF[new.command])))
    for one in new.settings or ():
        if not queries.IDENTIFIER.fullmatch(one) or one.startswith(queries.WITHHELD):
            raise ConfigurationError(say("device.no_setting", setting=one[:20]))


def _span(new: NewCommand) -> tuple[int, int]:
    assert new.start is not None
    assert new.end is not None
    start_ms, end_ms = instant("start", new.start), instant("end", new.end)
    if start_ms >= end_ms:
        raise ConfigurationError(say("request.start_end", start=new.start, end=new.end))
    return start_ms, end_ms


def _command(new: NewCommand) -> Command:
    """A command as HJ 212 has it."""
    if new.factor is not None and new.command in ("send_now", "send_history"):
        raise ConfigurationError(say("device.takes_no", command=f"{new.command} (HJ 212)", wrong="factor"))
    if new.command == "set_interval":
        assert new.seconds is not None
        return exchange.set_realtime_interval(new.seconds)
    if new.command == "send_history":
        assert new.of is not None
        return exchange.fetch(_HISTORY[new.of], *_span(new))
    if new.command in ("sample_now", "keep_sample"):
        return (exchange.sample_now if new.command == "sample_now" else exchange.keep_sample)(new.factor)
    return {"set_time": exchange.set_time, "get_time": exchange.ask_time, "send_now": exchange.ask_now}[new.command]()


def _query(context: Context, new: NewCommand) -> Query | None:
    """A command as SL 651 has it; None where it has none."""
    if new.command == "send_now":
        return queries.current_values(None if new.factor is None else _parameter(context, new.factor))
    if new.command == "send_history":
        if new.factor is None:
            return None
        assert new.of is not None
        start_ms, end_ms = _span(new)
        return queries.past_values(_parameter(context, new.factor), start_ms, end_ms, _STEP_MIN[new.of])
    if new.command == "get_settings":
        return queries.settings(queries.BASIC if new.of == "basic" else queries.RUNNING, new.settings or ())
    function = _FUNCTIONS.get(new.command)
    return None if function is None else Query(function)


_FUNCTIONS: Final[Mapping[str, int]] = {
    "set_time": queries.SET_CLOCK,
    "get_time": queries.CLOCK,
    "get_status": queries.STATUS,
    "get_version": queries.VERSION,
    "get_counters": queries.COUNTERS,
    "send_text": queries.TEXT,
}
