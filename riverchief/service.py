"""A service: one part of a running process, as `riverchief.serve` starts, stops and reports it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from prometheus_client.core import Metric

from api.context import Part

SILENT_AFTER_S = 30
"""A service without a sign of life for so long is not healthy."""


class HasThread(Protocol):
    """Something with a thread of its own."""

    @property
    def alive(self) -> bool: ...


def _nothing() -> None:
    pass


def no_parts(now_ms: int) -> Sequence[Part]:
    """The health of a service that reports none."""
    return ()


def no_metrics(now_ms: int) -> Iterable[Metric]:
    """The metrics of a service that has none."""
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One part of a process.

    ``start`` returns at once; ``stop`` finishes what is under way. ``health`` and ``metrics`` are asked for with the
    present time (ms UTC). ``threads`` are those that must be alive while the service runs, by name.
    """

    start: Callable[[], object] = _nothing
    stop: Callable[[], object] = _nothing
    health: Callable[[int], Sequence[Part]] = no_parts
    metrics: Callable[[int], Iterable[Metric]] = no_metrics
    threads: Callable[[], Mapping[str, HasThread]] = dict


def health(services: Iterable[Service], now_ms: int) -> list[Part]:
    """The health of all services, those that started last first."""
    return [part for service in reversed(tuple(services)) for part in service.health(now_ms)]
