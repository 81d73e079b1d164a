"""What the routes and the console share of acting on an incident: what readings prove, and the one transaction."""

from api.context import Context
from governance import attachments, incidents
from governance.lifecycle import Action, Incident, Order
from governance.roles import Actor
from ingest.storage.port import good_since


def perform(
    context: Context, incident_id: int, order: Order, actor: Actor, expected_version: int | None = None
) -> Incident:
    """Do it and return the incident after it. Raises what `governance.incidents.act` raises."""
    with context.database.read() as connection:
        before = incidents.get(connection, incident_id)
        attachments.get(connection, order.attachments)
    normal = proven(context, before) if order.action is Action.CLOSE else None
    with context.database.write() as connection:
        return incidents.act(
            connection,
            incident_id,
            order,
            actor,
            now_ms=context.clock_ms(),
            source=context.source,
            expected_version=expected_version,
            policy=context.deadlines,
            normal=normal,
        )


def proven(context: Context, incident: Incident) -> dict[tuple[str, str, str], int]:
    """How many good readings followed the end of each condition, in event time: what closing rests on."""
    now_ms = context.clock_ms()
    return {
        c.key: good_since(context.store, c.station, c.parameter, c.resolved_at_ms, now_ms)
        for c in incident.conditions
        if c.resolved_at_ms is not None
    }
