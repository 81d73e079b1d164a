"""What is asked of a station's logger: a sample now, a sample kept, the clock, intervals, data of a time range."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from api.answers import answer
from api.asking import Asked, Known, Words, instant
from api.problems import unavailable
from api.registries import find
from sensors.errors import ConfigurationError
from sensors.wire.hj212 import exchange
from sensors.wire.hj212.codes import Cn
from sensors.wire.hj212.exchange import Command

router = APIRouter(prefix="/stations", tags=["commands"])

WITHIN_S = 60.0
"""A logger has the standard's time to say whether it will, and to do it."""

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
    """What the logger made of it: ``qn_rtn`` of its first answer (9011), ``exe_rtn`` of its last (9012), both as HJ 212
    numbers them (1: will do, done), and the fields it sent in between."""

    station: str
    command: str
    done: bool
    qn_rtn: int | None
    exe_rtn: int | None
    fields: dict[str, str]


@router.post("/{key}/commands", response_model=CommandAnswer)
async def ask_logger(asked: Asked, known: Known, key: str, new: NewCommand) -> Response:
    """Ask something of the station's HJ 212 logger and wait for its result.

    404 when no logger of the station is connected, 503 when it does not answer or no gateway runs in this process.
    """
    command = _command(new)
    station = find(known.now(), key)
    if asked.command is None:
        raise unavailable("no HJ 212 gateway runs in this process (hj212.enabled)")
    waiting = asyncio.wrap_future(asked.command(station.key, command))
    done, _ = await asyncio.wait({waiting}, timeout=WITHIN_S)
    if not done:
        raise unavailable(f"the logger of station {station.key} did not finish {new.command} within {WITHIN_S:g} s")
    result = waiting.result()
    return answer(
        CommandAnswer(station.key, new.command, result.done, result.qn_rtn, result.exe_rtn, dict(result.fields))
    )


def _command(new: NewCommand) -> Command:
    """Raises ConfigurationError for members that are missing or belong to another command."""
    needed = {
        "set_interval": ("seconds",),
        "send_history": ("of", "start", "end"),
    }.get(new.command, ())
    allowed = {*needed, *(("factor",) if new.command in ("sample_now", "keep_sample") else ())}
    given = {name for name in ("factor", "seconds", "of", "start", "end") if getattr(new, name) is not None}
    if missing := sorted(set(needed) - given):
        raise ConfigurationError(f"{new.command} needs {', '.join(missing)}")
    if wrong := sorted(given - allowed):
        raise ConfigurationError(f"{new.command} takes no {', '.join(wrong)}")
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
        raise ConfigurationError(f"start {new.start} is not before end {new.end}")
    return exchange.fetch(_HISTORY[new.of], start_ms, end_ms)
