"""Titles of incidents as people read them: with what is measured now, and where somebody reported it from."""

from collections.abc import Iterable, Mapping

from api.context import Context
from governance.incidents.model import Incident
from infra.texts import Text
from ingest.analysis.present_values import present_values
from sensors.stations import Registry


def titles(context: Context, found: Iterable[Incident], registry: Registry | None = None) -> dict[int, Text]:
    """Titles by the incidents' numbers; the store of readings is asked once. Without a registry no place is added."""
    incidents = list(found)
    values = present_values(context.store.recent_store, {one.leading for one in incidents if one.leading})
    return {one.id: titled(one, values, registry) for one in incidents}


def titled(incident: Incident, values: Mapping[tuple[str, str], float], registry: Registry | None) -> Text:
    """The title of one incident; ``values`` are the newest usable ones by station and parameter."""
    value = values.get(incident.leading) if incident.leading else None
    return incident.titled(value, place(incident, registry) if registry is not None else None)


def place(incident: Incident, registry: Registry) -> Text | None:
    """The water an incident lies at, else its region; None where neither is known."""
    reach = registry.reach(incident.place.reach)
    region = next((one for one in registry.regions if one.code == incident.place.region), None)
    known = reach or region
    return None if known is None else Text(known.zh, known.en)
