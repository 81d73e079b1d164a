"""The health of the system as people read it: one sentence, and the way of the data in five steps. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from api.context import Part
from api.duration import duration
from api.health import PARTS, Probe
from api.pages.models.overview import Data, Model, StationView
from infra.texts import Text, keys, say

DELAYED_MS = 10 * 60_000
"""A delivery or message that waits for longer is late: it is tried again within minutes after a failure."""
WORST = 10
"""Stations that are named."""
STEPS: Mapping[str, tuple[str, ...]] = {
    "receive": ("mqtt", "hj212", "sl651"),
    "ingest": ("ingest", "ingest_lag", "device_rates", "quarantine", "partitions", "files"),
    "store": ("database", "influx", "downsampling", "retention", "contact_removal", "delivery_removal", "audit_seal"),
    "check": ("forecasts", "source_attribution", "chart_annotations", "reminders"),
    "deliver": (
        "outbox",
        "notices",
        "subscriptions",
        "republish",
        "sensorthings",
        "reconciliation",
        "heartbeat",
        "watchdog",
    ),
}
"""The steps that the data takes, and the parts of each; a part of no step stands with the last one."""


class State(StrEnum):
    """Of a part or step: it works; it does not and readings are taken all the same; it does not; nobody can tell."""

    WORKS = "works"
    LIMITED = "limited"
    FAILS = "fails"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PartView:
    """A part: ``text`` None where its state says all; ``detail`` for the operator, "" while it works.

    ``runbook`` is what its failure means and what to do, line by line; None while it works.
    """

    name: str
    title: Text
    state: State
    text: Text | None
    detail: str
    since_ms: int | None
    runbook: Text | None


@dataclass(frozen=True, slots=True)
class Step:
    """A step with its parts; without any, this process cannot tell."""

    key: str
    state: State
    parts: tuple[PartView, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The first sentence: its state, its key in the catalogue, the steps it names, and since when (ms UTC)."""

    state: State
    key: str
    steps: tuple[str, ...] = ()
    since_ms: int | None = None
    age_ms: int = 0
    silent: int = 0


def part_view(part: Part, since_ms: Mapping[str, int]) -> PartView:
    """A part as it is shown."""
    state = State.WORKS if part.ok else State.FAILS if part.vital else State.LIMITED
    key = f"health_part.{part.name}"
    title = say(key) if key in keys() else Text(part.name, part.name)
    if part.ok:
        return PartView(part.name, title, state, part.text, "", None, None)
    return PartView(part.name, title, state, part.text, part.detail, since_ms.get(part.name), runbook(part.name))


def runbook(name: str) -> Text | None:
    """What an alarm of this name means, and the first three steps, a line each; None where nothing is written."""
    key = f"runbook.{name}"
    return say(key) if key in keys() else None


def steps(probe: Probe) -> tuple[Step, ...]:
    """The way of the data; where the parts could not be asked, only the database is known."""
    views = [part_view(part, probe.since_ms) for part in probe.parts if part.name != PARTS]
    step_of = {name: key for key, names in STEPS.items() for name in names}
    last = list(STEPS)[-1]
    return tuple(
        Step(key, _worst(mine), mine)
        for key in STEPS
        for mine in [tuple(one for one in views if step_of.get(one.name, last) == key)]
    )


def _worst(parts: Sequence[PartView]) -> State:
    states = {part.state for part in parts}
    return next((state for state in (State.FAILS, State.LIMITED, State.WORKS) if state in states), State.UNKNOWN)


def verdict(probe: Probe, found: Sequence[Step], picture: Model | None, oldest_waiting_ms: int | None) -> Verdict:
    """The one sentence: it says that all works only where every step was asked, new data comes in from most of the
    stations that ever sent, and nothing waits for long to be delivered.
    """
    for state, word in ((State.FAILS, "fails"), (State.LIMITED, "limited")):
        bad = [step for step in found if step.state is state]
        if bad:
            since = [part.since_ms for step in bad for part in step.parts if part.state is state and part.since_ms]
            return Verdict(
                state, f"{word}_since" if since else word, tuple(s.key for s in bad), min(since, default=None)
            )
    if any(part.name == PARTS for part in probe.parts) or picture is None:
        return Verdict(State.UNKNOWN, "probe_failed")
    trouble = _data_trouble(probe.at_ms, picture)
    if trouble is not None:
        return trouble
    if oldest_waiting_ms is not None and probe.at_ms - oldest_waiting_ms > DELAYED_MS:
        return Verdict(State.LIMITED, "delayed", age_ms=probe.at_ms - oldest_waiting_ms)
    unknown = tuple(step.key for step in found if step.state is State.UNKNOWN)
    if unknown:
        return Verdict(State.UNKNOWN, "known_works", unknown)
    return Verdict(State.WORKS, "all_works")


def _data_trouble(now_ms: int, picture: Model) -> Verdict | None:
    newest_ms, online, silent = newest(picture), reporting(picture), picture.by_state.get(Data.OFFLINE, 0)
    if not picture.stations:
        return None
    if newest_ms is None:
        return Verdict(State.LIMITED, "no_data_ever")
    if not online:
        return Verdict(State.LIMITED, "no_data", age_ms=now_ms - newest_ms)
    return Verdict(State.LIMITED, "few_data", silent=silent) if silent > online else None


def sentence(one: Verdict, since: str) -> Text:
    """The verdict in words; ``since`` is its instant as the page writes it."""
    joiner = say("health.and")
    names = [say(f"health.step_{key}") for key in one.steps]
    named = Text(joiner.zh.join(n.zh for n in names), joiner.en.join(n.en.lower() for n in names))
    return say(f"health.{one.key}", steps=named, since=since, age=duration(one.age_ms), silent=one.silent)


def newest(picture: Model) -> int | None:
    """The newest reading of any station (ms UTC)."""
    return max((s.newest_at_ms for s in picture.stations if s.newest_at_ms is not None), default=None)


def reporting(picture: Model) -> int:
    """Stations whose newest reading is not overdue for good."""
    return sum(picture.by_state.get(state, 0) for state in (Data.NORMAL, Data.LATE))


def longest_silent(picture: Model) -> tuple[StationView, ...]:
    """The stations that are offline, those silent for longest first; those that never sent last."""
    off = [s for s in picture.stations if s.state in (Data.OFFLINE, Data.NEVER)]
    off.sort(key=lambda s: (s.newest_at_ms is None, s.newest_at_ms or 0, s.key))
    return tuple(off[:WORST])


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit in ("B", "KiB") else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
