"""How far the ingest is behind what was sent, and when it has caught up. Pure.

What a broker holds cannot be asked of every broker. It is estimated from times: the ingest stores what was sent
``age`` ago, and the messages of one second of sending are those that it stored while that age moved by a second.
"""

from dataclasses import dataclass

WINDOW_MS = 60_000
"""Rates are means of a minute: our choice, long against a batch and short against a backlog."""
MIN_SPAN_MS = 2_000
"""A rate over less is none: our choice, two looks of the intake."""
MIN_SPEED = 0.01
"""Seconds of sending stored in a second, at least: a bound for the estimate while hardly anything is stored."""

GAINING_SPEED = 1.05
"""Seconds of sending stored in a second from which on an ingest catches up: our choice, above a minute's unrest."""


@dataclass(frozen=True, slots=True)
class Look:
    """At ``at_ms`` so many messages were ``done`` since the start; the last batch was sent at ``sent_ms``, if known."""

    at_ms: int
    done: int
    sent_ms: int | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """``messages`` were sent and are not done.

    ``seconds`` until they are, if devices send at their registered intervals; None while less is done than comes.
    ``catching_up``: what is stored was sent less long ago than a minute before.
    """

    messages: int
    seconds: float | None
    catching_up: bool = False


def add(looks: tuple[Look, ...], look: Look) -> tuple[Look, ...]:
    """The looks of the last ``WINDOW_MS``; a clock that was set back begins anew."""
    if looks and look.at_ms < looks[-1].at_ms:
        return (look,)
    return (*(one for one in looks if look.at_ms - one.at_ms <= WINDOW_MS), look)


def estimate(looks: tuple[Look, ...], now: Look, held: int, expected_per_s: float) -> Estimate:
    """What is to be done, at least what is ``held`` here, and the time that takes.

    Parameters
    ----------
    now : the present look; after a standstill the last one of ``looks`` is older
    expected_per_s : messages a second at the registered intervals
    """
    first = next((one for one in looks if now.at_ms - one.at_ms <= WINDOW_MS), now)
    span_ms = now.at_ms - first.at_ms
    if span_ms < MIN_SPAN_MS:
        return Estimate(held, None)
    rate = (now.done - first.done) * 1000 / span_ms
    messages, catching_up = held, rate > expected_per_s
    if now.sent_ms is not None and first.sent_ms is not None:
        speed = max((now.sent_ms - first.sent_ms) / span_ms, MIN_SPEED)
        catching_up = rate > 0 and speed >= GAINING_SPEED
        messages = max(held, round(max(0, now.at_ms - now.sent_ms) / 1000 * rate / speed))
    seconds = messages / (rate - expected_per_s) if rate > expected_per_s else None
    return Estimate(messages, seconds, catching_up)
