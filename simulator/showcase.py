"""The scenario of the demo: ordinary days with one discharge, and another right after the live part begins."""

from collections.abc import Iterable
from dataclasses import replace

from infra.errors import ConfigurationError
from infra.texts import say
from infra.times import DAY_MS, HOUR_MS
from sensors.stations import Reach, Registry, Station
from simulator.devices.sensor_faults import ANALYSED
from simulator.physics.noise import key_of
from simulator.scenario import Cycle, Event, EventKind, Scenario, along_km

QICHACHONG = "奇槎涌"
STEP_S = 600
"""Of the history's water: the newcomer waits for it."""
LIVE_STEP_S = 5
FIRST_MS = 5_000
_HOLD_MS, _FADE_MS, _TRAVEL_MS, _LEFT = 420_000, 600_000, 60_000, 0.7


def history(registry: Registry, start_ms: int, days: float, seed: int) -> Scenario:
    """The days before ``start_ms`` (ms, UTC): a discharge of two hours about five days ago, probes that answer at once.

    Its place is the uppermost station of 奇槎涌, or the first station that lies on a reach.
    """
    events: tuple[Event, ...] = ()
    if days >= 6:
        first = _path(registry)[0]
        reach = _reach(registry, first)
        past_ms = start_ms - 5 * DAY_MS + round((key_of(seed, "past") / 2**64 - 0.5) * 6 * HOUR_MS)
        km = max(along_km(reach, first.lon, first.lat) - 0.1, 0.0)
        events = (Event("past", EventKind.SEWAGE, past_ms, past_ms + 2 * HOUR_MS, 3.0, reach.key, km),)
    every = tuple(s.key for s in registry.stations)
    return Scenario(
        "demo",
        "演示",
        "Demo",
        "",
        "",
        start_ms - round(days * DAY_MS),
        days,
        spin_up_days=3.0,
        events=events,
        cycles=(Cycle(every, tuple(sorted(ANALYSED)), 0),),
    )


def live(registry: Registry, live_ms: int) -> tuple[Event, ...]:
    """Sewage five seconds after ``live_ms``, in full strength at once; a minute later, weaker, at each station below.

    Water is not so fast: the travel is shortened so that it is seen within the demo. It fades within twenty minutes.
    """
    events = []
    for i, station in enumerate(_path(registry)[:4]):
        reach = _reach(registry, station)
        start_ms = live_ms + FIRST_MS + i * _TRAVEL_MS
        events.append(
            Event(
                f"live-{i + 1}",
                EventKind.SEWAGE,
                start_ms,
                start_ms + _HOLD_MS + _FADE_MS,
                _LEFT**i,
                reach.key,
                along_km(reach, station.lon, station.lat),
                sudden=True,
            )
        )
    return tuple(events)


def shortened(registry: Registry) -> Registry:
    """The registry with the travel time that the live discharge keeps: what comes down the creek is one cause, and an
    operator's registry says how long that takes."""
    reach = _reach(registry, _path(registry)[0])
    travels = tuple(
        replace(one, least_s=_TRAVEL_MS // 1000) if (one.upper, one.lower) == (reach.key, reach.downstream) else one
        for one in registry.travels
    )
    return replace(registry, travels=travels)


def _path(registry: Registry) -> tuple[Station, ...]:
    """The stations of 奇槎涌 from its upper end down; the first station on a reach where the registry has none."""
    reaches = {r.key: r for r in registry.reaches}
    placed = [s for s in registry.stations if s.reach in reaches]
    if not placed:
        raise ConfigurationError(say("simulate.nowhere"))

    def there(stations: Iterable[Station]) -> list[Station]:
        return [s for s in stations if QICHACHONG in s.zh or QICHACHONG in reaches[s.reach].zh]

    found = there(placed)
    if not found:
        return tuple(placed[:1])
    reach = reaches[found[0].reach]
    return tuple(sorted((s for s in found if s.reach == reach.key), key=lambda s: along_km(reach, s.lon, s.lat)))


def _reach(registry: Registry, station: Station) -> Reach:
    return next(r for r in registry.reaches if r.key == station.reach)
