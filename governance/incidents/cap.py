"""An incident as warnings in the Common Alerting Protocol: CAP 1.2 (OASIS, 2010). Pure.

Each step that a recipient has to know is one message, made of the trail's entry alone, so that it has the same bytes
however often it is made. Later messages refer to all earlier ones of their incident.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import cos, hypot, radians
from typing import Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from governance.incidents.finding import Colour, FindingKind
from governance.incidents.model import Incident, State
from infra.texts import Text, say
from infra.times import from_ms
from sensors.network import KM_PER_DEGREE

NAMESPACE: Final = "urn:oasis:names:tc:emergency:cap:1.2"
CONTENT_TYPE: Final = "application/cap+xml; charset=utf-8"
SEVERITY: Final[Mapping[Colour, str]] = {
    Colour.RED: "Extreme",
    Colour.ORANGE: "Severe",
    Colour.YELLOW: "Moderate",
    Colour.BLUE: "Minor",
}
"""Severity of a colour: the four steps of both scales in order. Our choice; no published text maps them for water."""
WARNED_KINDS: Final = frozenset(FindingKind) - {FindingKind.DEVICE, FindingKind.NO_DATA, FindingKind.REPORT}
"""Kinds that warnings are sent for: those measured in the water, neither faults of devices nor reports."""
CANCELLING_STATES: Final = frozenset({State.FALSE_ALARM, State.REJECTED})
REACH_MARGIN_KM: Final = 0.05
"""A reach as an area is its line and so much on both sides: the banks of a creek. Our choice."""
PLACE_RADIUS_KM: Final = 0.5
"""A place without a reach is a circle of this radius. Our choice."""
VALID_MS: Final = 24 * 3_600_000
"""Validity of a message without a successor; the feed renews it while the incident lasts."""
LANGUAGES: Final = {"zh-CN": "zh", "en-US": "en"}


@dataclass(frozen=True, slots=True)
class CapSettings:
    """Who sends, and to whom. ``sender`` identifies the office, ``status`` Actual or Exercise; ``restriction`` says who
    may know, and is empty where the public may. ``web`` is our address."""

    sender: str = "riverchief"
    sender_name: str = ""
    status: str = "Actual"
    restriction: str = ""
    web: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """An incident after one entry of its history, and where it is: name and line or place (lon, lat)."""

    incident: Incident
    seq: int
    at_ms: int
    area: Text = field(default_factory=lambda: Text("", ""))
    line: Sequence[tuple[float, float]] = ()
    place: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class CapMessage:
    """A message as it is sent; ``kind`` is Alert, Update or Cancel."""

    identifier: str
    kind: str
    at_ms: int
    headline: Text
    body: bytes


def messages(steps: Iterable[Step], settings: CapSettings) -> Iterator[CapMessage]:
    """The messages of one incident, oldest first: opened, changed, closed, cancelled. Only of `WARNED_KINDS`."""
    sent: list[str] = []
    last: tuple[object, ...] = ()
    for step in steps:
        one = step.incident
        shown = (one.colour, one.is_open, one.state in CANCELLING_STATES)
        if one.kind not in WARNED_KINDS or shown == last or (not sent and not one.is_open):
            continue
        kind = "Alert" if not sent else "Cancel" if one.state in CANCELLING_STATES else "Update"
        identifier = f"riverchief-{one.id}-{step.seq}-{step.at_ms:x}"
        body = _alert(step, kind, identifier, tuple(sent), settings)
        yield CapMessage(identifier, kind, step.at_ms, one.titled(), body)
        sent.append(f"{settings.sender},{identifier},{_time(step.at_ms)}")
        last = shown


def _alert(step: Step, kind: str, identifier: str, earlier: Sequence[str], settings: CapSettings) -> bytes:
    root = Element("alert", xmlns=NAMESPACE)
    _add(root, "identifier", identifier)
    _add(root, "sender", settings.sender)
    _add(root, "sent", _time(step.at_ms))
    _add(root, "status", settings.status)
    _add(root, "msgType", kind)
    _add(root, "scope", "Restricted" if settings.restriction else "Public")
    _add(root, "restriction", settings.restriction)
    _add(root, "references", " ".join(earlier))
    _add(root, "incidents", str(step.incident.id))
    for language, short in LANGUAGES.items():
        _info(root, step, language, short, settings)
    indent(root)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode").encode() + b"\n"


def _info(root: Element, step: Step, language: str, short: str, settings: CapSettings) -> None:
    one = step.incident
    over = not one.is_open

    def of(text: Text) -> str:
        return text.en if short == "en" else text.zh

    info = SubElement(root, "info")
    _add(info, "language", language)
    _add(info, "category", "Env")
    _add(info, "event", of(say("cap.event")))
    _add(info, "responseType", "AllClear" if over else "Monitor" if one.colour is Colour.BLUE else "Avoid")
    _add(info, "urgency", _urgency(one))
    _add(info, "severity", "Minor" if over else SEVERITY[one.colour])
    _add(info, "certainty", _certainty(one))
    _add(info, "effective", _time(step.at_ms))
    _add(info, "onset", _time(one.since_ms))
    _add(info, "expires", _time(step.at_ms + VALID_MS))
    _add(info, "senderName", settings.sender_name)
    _add(info, "headline", of(one.titled()))
    state = say("cap.recalled" if one.state in CANCELLING_STATES else "cap.over" if over else "cap.open")
    _add(info, "description", of(state))
    _add(info, "instruction", "" if over else of(say("cap.do")))
    _add(info, "web", f"{settings.web}/incidents/{one.id}" if settings.web else "")
    for name, value in (("colour", one.colour.value), ("parameter", one.parameter or ""), ("station", one.station)):
        if value:
            given = SubElement(info, "parameter")
            _add(given, "valueName", name)
            _add(given, "value", value)
    area = SubElement(info, "area")
    _add(area, "areaDesc", of(step.area) or of(say("cap.somewhere")))
    for polygon in _polygons(step.line):
        _add(area, "polygon", polygon)
    if len(step.line) < 2 and step.place is not None:
        _add(area, "circle", f"{step.place[1]:.5f},{step.place[0]:.5f} {PLACE_RADIUS_KM}")


def _urgency(one: Incident) -> str:
    if not one.is_open or one.retrospective:
        return "Past"
    if one.kind is FindingKind.FORECAST:
        return "Future"
    return "Immediate" if one.colour in (Colour.RED, Colour.ORANGE) else "Expected"


def _certainty(one: Incident) -> str:
    """Observed: a limit was crossed by good readings; likely: the detector of events says so; possible: forecast."""
    if one.state in CANCELLING_STATES:
        return "Unlikely"
    if one.kind is FindingKind.FORECAST:
        return "Possible"
    return "Likely" if one.kind is FindingKind.EVENT else "Observed"


def _polygons(line: Sequence[tuple[float, float]]) -> Iterator[str]:
    """A rectangle around each part of a line: simple polygons, which one around the whole would not be at each bend."""
    for (lon_a, lat_a), (lon_b, lat_b) in pairwise(line):
        squeeze = cos(radians((lat_a + lat_b) / 2))
        east, north = (lon_b - lon_a) * squeeze, lat_b - lat_a
        long = hypot(east, north)
        if not long:
            continue
        aside = REACH_MARGIN_KM / KM_PER_DEGREE / long
        right = (north * aside / squeeze, -east * aside)
        corners = [
            (lon_a + right[0], lat_a + right[1]),
            (lon_b + right[0], lat_b + right[1]),
            (lon_b - right[0], lat_b - right[1]),
            (lon_a - right[0], lat_a - right[1]),
        ]
        yield " ".join(f"{lat:.5f},{lon:.5f}" for lon, lat in [*corners, corners[0]])


def _time(at_ms: int) -> str:
    """An instant as CAP writes UTC: with the offset -00:00, never with a Z."""
    return from_ms(at_ms).strftime("%Y-%m-%dT%H:%M:%S-00:00")


def plain(text: str) -> str:
    """A text without the characters that XML does not allow."""
    return "".join(c for c in text if c >= " " or c in "\t\n")


def _add(parent: Element, name: str, text: str) -> None:
    """An element, where there is something to say."""
    if text:
        SubElement(parent, name).text = plain(text)
