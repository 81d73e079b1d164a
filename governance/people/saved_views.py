"""Views of the inbox that somebody saved: a name for what its address says. Every function takes an open connection
and never commits.
"""

from dataclasses import dataclass

import sqlalchemy as sa

from governance.tables import saved_view as table
from infra.errors import Refused
from infra.texts import say

NAME_LIMIT = 40
QUERY_LIMIT = 1000
MAX_VIEWS = 30
"""Of one person; the oldest are not removed by themselves."""


@dataclass(frozen=True, slots=True)
class SavedView:
    """A view: its name, and the query of the address."""

    name: str
    query: str


def list_views(connection: sa.Connection, person: str) -> list[SavedView]:
    """The views of somebody, by name."""
    query = sa.select(table.c.name, table.c.query).where(table.c.person == person).order_by(table.c.name)
    return [SavedView(row.name, row.query) for row in connection.execute(query)]


def save(connection: sa.Connection, person: str, view: SavedView, now_ms: int) -> SavedView:
    """Save a view; one of the same name is replaced. Raises Refused for no name, too long a one, and too many."""
    name = view.name.strip()
    if not name:
        raise Refused(say("inbox.view_needs_name"))
    if len(name) > NAME_LIMIT or len(view.query) > QUERY_LIMIT:
        raise Refused(say("inbox.view_too_long", limit=NAME_LIMIT))
    where = table.c.person == person
    connection.execute(sa.delete(table).where(where, table.c.name == name))
    if connection.execute(sa.select(sa.func.count()).where(where)).scalar_one() >= MAX_VIEWS:
        raise Refused(say("inbox.too_many_views", limit=MAX_VIEWS))
    row = {"person": person, "name": name, "query": view.query, "saved_at_ms": now_ms}
    connection.execute(sa.insert(table).values(row))
    return SavedView(name, view.query)


def remove(connection: sa.Connection, person: str, name: str) -> None:
    """Remove a view; one that is not there stays so."""
    connection.execute(sa.delete(table).where(table.c.person == person, table.c.name == name))
