"""The time of the newest reading of each registered device: it only ever advances."""

from collections.abc import Mapping

import sqlalchemy as sa


def advance(connection: sa.Connection, name: sa.Column[str], newest: Mapping[str, int]) -> None:
    """Store the times (ms) by device in ``last_at_ms`` of the table whose column ``name`` names them; never earlier."""
    if newest:
        table = name.table
        assert isinstance(table, sa.Table)
        later = table.c.last_at_ms.is_(None) | (table.c.last_at_ms < sa.bindparam("at"))
        update = sa.update(table).where((name == sa.bindparam("of")) & later).values(last_at_ms=sa.bindparam("at"))
        connection.execute(update, [{"of": one, "at": at} for one, at in sorted(newest.items())])
