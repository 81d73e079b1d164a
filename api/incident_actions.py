"""What the routes and the console share of acting on an incident: suggestion, proof, change."""

from collections.abc import Callable
from dataclasses import replace

from api.context import Context
from governance.incidents import attachments, dispatch
from governance.incidents import store as incident_store
from governance.incidents.dispatch import Suggestion
from governance.incidents.model import Action, Incident, Order
from governance.organisation.regions import Regions
from governance.organisation.roles import Actor, may_be_responsible, role_name
from governance.people import store as people_store
from infra.errors import ConfigurationError, NotFound, Refused
from infra.texts import say
from ingest.storage.port import good_since


def perform(
    context: Context,
    incident_id: int,
    order: Order,
    actor: Actor,
    regions: Callable[[], Regions],
    expected_version: int | None = None,
) -> Incident:
    """Do it and return the incident after it: one click is enough, a dispatch to nobody takes the suggestion.

    Raises what `governance.incidents.store.apply_action` raises, Refused for a chief nobody knows or who cannot answer
    for the case, ConfigurationError for an unknown region or process.
    """
    with context.database.read() as connection:
        before = incident_store.get(connection, incident_id)
        attachments.get(connection, order.attachments, actor)
    if order.action is Action.DISPATCH and not order.assignment:
        as_ordered = replace(before, case=replace(before.case, matter=order.matter or before.case.matter))
        found = suggestion(context, as_ordered, regions())
        order = replace(order, assignment=found.assignment or None, matter=order.matter or found.matter)
    elif order.assignment:
        _known(context, order, before, regions())
    known_matter(context, order.matter)
    _measurable(context, order)
    process = context.processes.of(before)
    with context.database.write() as connection:
        return incident_store.apply_action(
            connection,
            incident_id,
            order,
            actor,
            now_ms=context.clock_ms(),
            source=context.source,
            expected_version=expected_version,
            policy=context.processes.policy,
            normal=proven(context, before) if order.action is Action.CLOSE else None,
            needs=process.needs if process and order.action is Action.FINISH else None,
            region_name=lambda code: regions().name(code),
        )


def known_matter(context: Context, matter: str) -> None:
    """Raises ConfigurationError, naming those there are, for what is no process."""
    if matter and context.processes.known and context.processes.named(matter) is None:
        known = ", ".join(p.key for p in context.processes.known)
        raise ConfigurationError(say("request.no_matter", matter=matter, known=known))


def _measurable(context: Context, order: Order) -> None:
    """Raises ConfigurationError for a measurement of nothing we know, or that no instrument could have shown."""
    for key, value in order.measurement.items():
        if key not in context.catalogue:
            raise ConfigurationError(say("incident.not_measured", parameter=key[:64]))
        parameter = context.catalogue[key]
        least, most = parameter.instrument
        if not least <= value <= most:
            raise ConfigurationError(
                say("incident.not_measurable", parameter=key, value=value, least=least, most=most, unit=parameter.unit)
            )


def suggestion(context: Context, incident: Incident, regions: Regions) -> Suggestion:
    """To whom the incident could be dispatched."""
    with context.database.read() as connection:
        terms = people_store.appointments(connection)
    return dispatch.suggest(incident, context.processes, terms, regions, context.clock_ms())


def proven(context: Context, incident: Incident) -> dict[tuple[str, str, str], int]:
    """How many good readings followed the end of each condition, in event time: what closing rests on."""
    now_ms = context.clock_ms()
    return {
        c.key: good_since(context.store, c.station, c.parameter, c.resolved_at_ms, now_ms)
        for c in incident.conditions
        if c.resolved_at_ms is not None
    }


def _known(context: Context, order: Order, before: Incident, regions: Regions) -> None:
    """Raises ConfigurationError for an unknown region, Refused for who cannot answer for a case there."""
    to = order.assignment
    if to is None:
        return
    if to.region and to.region not in regions:
        raise ConfigurationError(say("registry.no_region", region=to.region))
    if to.responsible:
        with context.database.read() as connection:
            try:
                one = people_store.get(connection, to.responsible)
            except NotFound:
                raise Refused(say("person.no_person", name=to.responsible[:80])) from None
            person = people_store.actor_of(connection, one, regions, context.clock_ms())
        if not may_be_responsible(person.role):
            raise Refused(say("person.handles_nothing", name=person.name, role=role_name(person.role)))
        region = to.region or before.place.region
        in_office = person.regions is None or bool(person.regions or person.waters)
        if not (person.covers(region, before.place.reach) if region else in_office):
            raise Refused(say("person.not_there", name=person.name, region=regions.name(region or "—")))
