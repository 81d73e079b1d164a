"""What happens to the water: pollution laid over the ordinary day. Pure; the events are the truth of a run."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from sensors.errors import ConfigurationError
from sensors.parameters import Catalogue, catalogue
from sensors.reading import Floats, Ints
from sensors.stations import Reach, Registry, Station
from sensors.times import DAY_MS
from simulator.water import rounded

QICHACHONG = "奇槎涌"

_ADDED = {"nh3n": 6.8, "do": -2.8, "codmn": 6.0, "tp": 0.7, "tn": 8.0, "orp": -150.0, "ph": -0.15}
_SHARE = {"conductivity": 0.30, "turbidity": 1.0}
_LOWEST = {"do": 0.3, "ph": 6.5, "orp": -300.0}
"""Full-strength sewage in canonical units (domain facts §7.4, dry-weather sewage): added, or a share of the level."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where a discharge comes by later: after ``delay_s``, with ``share`` (0…1) of its strength."""

    station: str
    delay_s: float
    share: float


@dataclass(frozen=True, slots=True)
class Discharge:
    """Sewage let into the water at ``station``: rises over ``ramp_s``, stays for ``hold_s``, fades with ``decay_s``.

    ``size`` 1 brings a creek's ammonia nitrogen to about 8 mg/L. ``decay_s`` is the time constant of the exponential
    fading.
    """

    station: str
    start_ms: int
    ramp_s: float
    hold_s: float
    decay_s: float
    size: float = 1.0
    downstream: tuple[Arrival, ...] = ()

    def strength(self, station: str, at_ms: Ints) -> Floats:
        """(n,) strength at ``station`` at the instants ``at_ms``; 0 where it never comes.

        Downstream it arrives later, weaker and more gradual: mixing stretches the rise by a quarter of the travel time.
        """
        if station == self.station:
            return self.size * self._shape(at_ms, 0.0)
        total = np.zeros(len(at_ms))
        for arrival in self.downstream:
            if arrival.station == station:
                total += self.size * arrival.share * self._shape(at_ms, arrival.delay_s)
        return total

    def _shape(self, at_ms: Ints, delay_s: float) -> Floats:
        ramp_s = max(self.ramp_s + delay_s / 4, 1e-3)
        since_s = (at_ms - self.start_ms) / 1000 - delay_s
        fading_s = np.maximum(since_s - ramp_s - self.hold_s, 0.0)
        shape: Floats = np.clip(since_s / ramp_s, 0.0, 1.0) * np.exp(-fading_s / max(self.decay_s, 1e-3))
        return shape


def apply(
    values: Mapping[str, Floats],
    station: str,
    at_ms: Ints,
    discharges: Iterable[Discharge],
    known: Catalogue | None = None,
) -> dict[str, Floats]:
    """The values of ``station`` with the discharges in the water; canonical units, catalogue decimals.

    ``values`` maps parameter keys to (n,) arrays at ``at_ms``; what sewage does not change stays as it is.
    """
    at_ms = np.asarray(at_ms, np.int64)
    strength = np.sum([np.zeros(len(at_ms)), *(d.strength(station, at_ms) for d in discharges)], axis=0)
    if not strength.any():
        return dict(values)
    changed = dict(values)
    for key in values.keys() & _ADDED.keys():
        floor = np.minimum(values[key], _LOWEST.get(key, -np.inf))
        changed[key] = np.maximum(values[key] + _ADDED[key] * strength, floor)
    for key in values.keys() & _SHARE.keys():
        changed[key] = values[key] * (1 + _SHARE[key] * strength)
    return rounded(changed, known or catalogue())


def demo_scenario(registry: Registry, now_ms: int, seed: int, *, live_ms: int | None = None) -> tuple[Discharge, ...]:
    """What the demo shows: one discharge in the history and one that starts ten seconds after the live part.

    The place is the uppermost station of 奇槎涌, or the first station where there is none. The past one is about five
    days before ``now_ms`` and lasts two hours; ``live_ms`` is the start of the live part (``now_ms`` if not given).
    In the live one travel times are shortened to a minute a station, so that it is seen to move within the demo.
    """
    if not registry.stations:
        raise ConfigurationError("the registry has no station to let anything happen at")
    path = _qichachong(registry) or registry.stations[:1]
    source, below = path[0].key, [s.key for s in path[1:4]]
    jitter = hashlib.blake2b(f"{seed}/past".encode(), digest_size=2).digest()
    past_ms = now_ms - 5 * DAY_MS + round((int.from_bytes(jitter, "big") / 2**16 - 0.5) * 6 * 3_600_000)
    past = Discharge(
        source, past_ms, ramp_s=1200, hold_s=6000, decay_s=1500, size=0.85, downstream=_arrivals(below, 2400.0)
    )
    start_ms = (now_ms if live_ms is None else live_ms) + 10_000
    live = Discharge(source, start_ms, ramp_s=8, hold_s=420, decay_s=240, downstream=_arrivals(below, 60.0))
    return past, live


def _arrivals(stations: Iterable[str], delay_s: float) -> tuple[Arrival, ...]:
    """Each station ``delay_s`` after the one above it, with 60 % of its strength."""
    return tuple(Arrival(key, delay_s * i, 0.6**i) for i, key in enumerate(stations, 1))


def _qichachong(registry: Registry) -> tuple[Station, ...]:
    """The stations of 奇槎涌 from its upper end down; empty when the registry has none."""
    reaches = {r.key: r for r in registry.reaches}

    def there(station: Station) -> bool:
        reach = reaches.get(station.reach)
        return QICHACHONG in station.zh or (reach is not None and QICHACHONG in reach.zh)

    found = [s for s in registry.stations if there(s)]
    if not found:
        return ()
    same = [s for s in found if s.reach == found[0].reach]
    reach = reaches.get(found[0].reach)
    return tuple(same if reach is None else sorted(same, key=lambda s: along(reach, s.lon, s.lat)))


def along(reach: Reach, lon: float, lat: float) -> float:
    """How far down ``reach`` the point of its line nearest to (lon, lat) lies, in degrees of latitude."""
    shrink = np.cos(np.radians(lat))
    line = np.array(reach.line) * (shrink, 1.0)
    start, step = line[:-1], np.diff(line, axis=0)
    length = np.hypot(*step.T)
    squared = np.where(length > 0, length**2, 1.0)
    share = np.clip(((np.array([lon * shrink, lat]) - start) * step).sum(axis=1) / squared, 0.0, 1.0)
    away = np.hypot(*(start + share[:, None] * step - (lon * shrink, lat)).T)
    nearest = int(np.argmin(away))
    return float(length[:nearest].sum() + share[nearest] * length[nearest])
