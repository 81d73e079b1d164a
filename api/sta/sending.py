"""Observations that clients send: readings like all others, through the ingest, answered once they are durable."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from api.access import MACHINE, reaches
from api.context import Context
from api.routes.readings import durable, hand_over, writable
from api.sta.answers import Answers
from api.sta.bodies import Body, key_of, time_of
from api.sta.model import Site, Stream
from api.sta.paths import none
from api.sta.refusals import invalid, limit, needed, wrong
from governance.organisation.roles import Actor
from infra.errors import ConfigurationError, Refused
from infra.texts import Text, say
from infra.times import rfc3339
from sensors.reading import Message
from sensors.stations import deployment_conversion
from sensors.units import IDENTITY, needs_temperature
from sensors.wire.telemetry import MAX_SAMPLES, Sample, Telemetry, encode

MOST_ROWS = 20_000
"""Observations of one request."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A reading that a client sends, in the unit of its Datastream."""

    stream: Stream
    at_ms: int
    value: float

    @property
    def id(self) -> str:
        return f"{self.stream.station.key}.{self.stream.parameter.key}.{rfc3339(self.at_ms)}"


def observation(answers: Answers, site: Site, who: Actor, content: Any, now_ms: int) -> Sent:
    """The reading that an Observation is; without a time it is of now."""
    body = Body(answers.kinds["Observations"], content, answers.words)
    stream = stream_of(answers, site, who, body.take("Datastream", dict))
    at = body.raw("phenomenonTime")
    at_ms = now_ms if at is None else time_of("phenomenonTime", at)
    result = body.take("result", object)
    if isinstance(result, bool) or not isinstance(result, int | float) or abs(result) > 1e300:
        raise wrong("Observations", "result", result, "number")
    shown = body.raw("resultTime")
    if shown is not None and time_of("resultTime", shown) != at_ms:
        raise wrong("Observations", "resultTime", shown, rfc3339(at_ms))
    link = "FeatureOfInterest" if "FeatureOfInterest" in answers.kinds["Observations"].links else _PROXIMATE
    feature = body.take(link, dict, {})
    (known,) = site.linked("Datastreams", stream.id, stream, link)
    if feature and key_of(feature, answers.words) != known:
        raise wrong("Observations", link, feature, known)
    body.end()
    if not stream.start_ms <= max(at_ms, 0) < stream.end_ms:
        raise ConfigurationError(say("sta.other_stream", key=stream.id, at=rfc3339(at_ms)))
    sent = Sent(stream, at_ms, float(result))
    if body.id not in (None, sent.id):
        raise wrong("Observations", answers.words.id, body.id, sent.id)
    return sent


_PROXIMATE = "ProximateFeatureOfInterest"


def stream_of(answers: Answers, site: Site, who: Actor, link: dict[str, Any]) -> Stream:
    """The Datastream that a link names, where somebody may send to it."""
    key = key_of(link, answers.words)
    if key is None:
        raise needed("Observations", f"Datastream/{answers.words.id}")
    stream: Stream | None = site.subject("Datastreams", key)
    if stream is None:
        raise none(f"Datastreams('{key}')")
    if who.regions is not None:
        reaches(who, stream.station)
    d = stream.deployment
    if d is not None:
        percent = needs_temperature(d.unit, d.parameter)
        if percent or deployment_conversion(d, site.registry.catalogue) != IDENTITY:
            raise Refused(say("sta.converts", key=key, unit=d.unit, canonical=stream.parameter.unit))
    return stream


def rows(answers: Answers, site: Site, who: Actor, content: Any, now_ms: int) -> list[Sent | Text]:
    """The readings of data arrays, or why a row is none."""
    found: list[Sent | Text] = []
    for part in content if isinstance(content, list) else [content]:
        if not isinstance(part, dict) or not isinstance(part.get("dataArray"), list):
            raise invalid("dataArray", str(part))
        names = part.get("components")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise invalid("components", str(names))
        link = part.get("Datastream")
        stream_of(answers, site, who, link if isinstance(link, dict) else {})
        if len(found) + len(part["dataArray"]) > MOST_ROWS:
            raise limit("dataArray", MOST_ROWS)
        for row in part["dataArray"]:
            if not isinstance(row, list) or len(row) != len(names):
                found.append(say("sta.wrong", kind="dataArray", name="", text=str(row)[:80], expected=", ".join(names)))
                continue
            one: dict[str, Any] = {"Datastream": link}
            for name, value in zip(names, row, strict=True):
                of, _, inner = name.partition("/")
                one[of] = {answers.words.id: value} if inner in ("id", answers.words.id) else value
            try:
                found.append(observation(answers, site, who, one, now_ms))
            except ConfigurationError as error:
                found.append(error.text)
    return found


async def send(context: Context, who: Actor, sent: Sequence[Sent]) -> list[Text | None]:
    """Hand readings to the ingest and wait until they are durable: for each why it was refused, None where it is kept.

    One that is there already is kept.
    """
    by = "" if who.name == MACHINE else who.name
    stations: dict[str, list[int]] = {}
    for i, one in enumerate(sent):
        stations.setdefault(one.stream.station.key, []).append(i)
    handed = []
    for station, mine in stations.items():
        for first in range(0, len(mine), MAX_SAMPLES):
            part = mine[first : first + MAX_SAMPLES]
            samples = tuple(Sample(sent[i].at_ms, {sent[i].stream.parameter.key: sent[i].value}) for i in part)
            message = Message(station, encode(Telemetry(samples)), context.clock_ms(), source="http", by=by)
            handed.append((station, part, hand_over(context, message)))
    refused: list[Text | None] = [None] * len(sent)
    for station, part, future in handed:
        for rejected in (await durable(future, station)).rejected:
            text = say("sta.quarantined", reason=rejected.reason.key, detail=writable(rejected.detail))
            for i in part:
                if rejected.readings is None or (sent[i].at_ms, sent[i].stream.parameter.key) in rejected.readings:
                    refused[i] = text
    return refused
