"""Warnings in the Common Alerting Protocol: a feed (Atom) of the newest ``/cap/feed``, each at an address of its own.

Without leave to publish (settings ``cap.public``) they are for who sees incidents, each within their regions.
"""

from collections.abc import Iterator
from xml.etree.ElementTree import Element, SubElement, tostring

import sqlalchemy as sa
from fastapi import APIRouter, Response

from api.pages.view import PageRoute, View, Viewing
from governance.incidents import cap
from governance.incidents import queries as incident_queries
from governance.incidents import store as incident_store
from governance.incidents.cap import CapMessage, CapSettings, Step
from governance.incidents.lifecycle import in_jurisdiction
from governance.incidents.model import Entry, Incident
from governance.organisation.roles import Right
from infra.errors import NotFound
from infra.texts import Text, say
from infra.times import DAY_MS, rfc3339
from sensors.stations import Registry

ATOM = "http://www.w3.org/2005/Atom"
DAYS = 7
"""How far back the feed goes."""
MOST = 100
"""Incidents of which it has messages, those that changed last."""
HEADERS = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/cap/feed")
def feed(v: Viewing) -> Response:
    """The newest messages, newest first."""
    settings = _settings(v)
    base = (settings.web or str(v.request.base_url)).rstrip("/")
    found: list[CapMessage] = []
    with v.context.database.read() as connection:
        for number in incident_queries.newest_changed(connection, v.now_ms - DAYS * DAY_MS, MOST):
            found += _messages(v, connection, number, settings)
    found.sort(key=lambda one: one.at_ms, reverse=True)
    root = Element("feed", xmlns=ATOM)
    SubElement(root, "id").text = f"{base}/cap/feed"
    SubElement(root, "title").text = f"{settings.sender_name} · {v.say('cap.feed')}"
    SubElement(root, "updated").text = rfc3339(found[0].at_ms if found else v.now_ms)
    author = SubElement(root, "author")
    SubElement(author, "name").text = settings.sender_name or settings.sender
    SubElement(root, "link", rel="self", href=f"{base}/cap/feed")
    for one in found:
        entry, address = SubElement(root, "entry"), f"{base}/cap/{one.identifier}.xml"
        SubElement(entry, "id").text = address
        SubElement(entry, "title").text = cap.plain(v.of(one.headline))
        SubElement(entry, "updated").text = rfc3339(one.at_ms)
        SubElement(entry, "category", term=one.kind)
        SubElement(entry, "link", rel="alternate", type="application/cap+xml", href=address)
    body = b'<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode").encode()
    return Response(body, media_type="application/atom+xml; charset=utf-8", headers=HEADERS)


@router.get("/cap/{identifier}.xml")
def message(v: Viewing, identifier: str) -> Response:
    """One message, the same bytes each time."""
    settings = _settings(v)
    number = identifier.split("-")[1] if identifier.count("-") == 3 else ""
    with v.context.database.read() as connection:
        known = _messages(v, connection, int(number), settings) if number.isdecimal() and len(number) < 10 else ()
        found = next((one for one in known if one.identifier == identifier), None)
    if found is None:
        raise NotFound(say("cap.unknown", identifier=identifier[:80]))
    return Response(found.body, media_type=cap.CONTENT_TYPE, headers=HEADERS)


def _settings(v: View) -> CapSettings:
    """Who sends; raises NotFound where nobody does, and Forbidden for who may not read."""
    if v.context.cap is None:
        raise NotFound(say("cap.off"))
    if v.context.cap.restriction:
        v.require(Right.INCIDENTS)
    return v.context.cap


def _messages(v: View, connection: sa.Connection, number: int, settings: CapSettings) -> list[CapMessage]:
    registry = v.registries.recent()
    found = list(incident_store.versions(connection, number))
    if not found or (settings.restriction and not in_jurisdiction(found[-1][0], v.actor)):
        return []
    return list(cap.messages(_steps(found, registry), settings))


def _steps(found: list[tuple[Incident, Entry]], registry: Registry) -> Iterator[Step]:
    reaches = {one.key: one for one in registry.reaches}
    stations = {one.key: one for one in registry.stations}
    for incident, entry in found:
        station = stations.get(incident.station)
        reach = reaches.get(incident.place.reach or (station.reach if station else ""))
        near = station or reach
        lon, lat = incident.place.lon, incident.place.lat
        place = (lon, lat) if lon is not None and lat is not None else (station.lon, station.lat) if station else None
        area = Text(near.zh, near.en) if near else Text("", "")
        yield Step(incident, entry.seq, entry.at_ms, area, reach.line if reach else (), place)
