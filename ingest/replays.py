"""Quarantined messages that are handed in again."""

from collections.abc import Sequence
from dataclasses import replace

import sqlalchemy as sa

from ingest import quarantine
from ingest.site_state import SiteState
from sensors.reading import Message, Reason


def take_replays(
    site: SiteState, messages: Sequence[Message]
) -> tuple[Sequence[Message], list[quarantine.QuarantineEntry]]:
    """The messages, and the quarantine entries they replay; an entry that was replayed before yields no readings."""
    if all(m.replay_of is None for m in messages):
        return messages, []
    entries: dict[int, quarantine.QuarantineEntry] = {}
    taken: list[Message] = []
    with site.database.read() as connection:
        for message in messages:
            if message.replay_of is None:
                taken.append(message)
                continue
            held = quarantine.get(connection, message.replay_of)
            first = held.status == quarantine.HELD and held.id not in entries
            # of a refused line the reading is stored already: only the line goes to the time-series server again
            refused_line = held.reason == Reason.STORE_REFUSED.key
            taken.append(message if first and not refused_line else replace(message, only=frozenset()))
            if first and not (refused_line and site.spool is None):
                entries[held.id] = held
    return taken, list(entries.values())


def settle_replays(
    connection: sa.Connection, site: SiteState, replayed: Sequence[quarantine.QuarantineEntry], now_ms: int
) -> None:
    """Release these entries; what of them is refused again gets a new entry."""
    for held in replayed:
        if held.refused:
            site.ledger.undo(connection, held.account, held.day, len(held.refused))
        if held.reason == Reason.STORE_REFUSED.key and site.spool is not None:
            site.spool.add_lines(connection, [held.payload])
    quarantine.settle(connection, [held.id for held in replayed], quarantine.REPLAYED, now_ms)
