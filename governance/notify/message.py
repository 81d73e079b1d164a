"""Messages to people: their kinds, and what a message says of one incident. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from governance.incidents.finding import Colour
from governance.incidents.headline import Headline
from infra.texts import Text

TEST_INCIDENT = 0
"""Stands for the number of an incident in a test message."""


class NoticeKind(StrEnum):
    """Subject of a message about an incident."""

    OPENED = "opened"
    PAST = "past"
    """Found in late data: informs, never pages."""
    AGAIN = "again"
    """More urgent than before, or back after it had ended."""
    PROMOTED = "promoted"
    """Late data become a live incident."""
    REOPENED = "reopened"
    DISPATCHED = "dispatched"
    REMINDER = "reminder"
    OVERDUE = "overdue"
    SUPERVISED = "supervised"
    EMERGENCY = "emergency"
    ESCALATED = "escalated"
    """Nobody confirmed in time."""
    RECOVERED = "recovered"
    WITHDRAWN = "withdrawn"
    """What people were told of rested on readings that turned out to be wrong."""
    CLOSED = "closed"
    TEST = "test"


CALL_KINDS = frozenset({NoticeKind.OPENED, NoticeKind.AGAIN, NoticeKind.PROMOTED, NoticeKind.REOPENED})
"""Kinds that must be confirmed."""
URGENT_KINDS = CALL_KINDS | {
    NoticeKind.ESCALATED,
    NoticeKind.REMINDER,
    NoticeKind.OVERDUE,
    NoticeKind.SUPERVISED,
    NoticeKind.EMERGENCY,
}
"""Kinds that the times of a colour apply to; the others are informational."""
FOLLOW_UP_KINDS = frozenset({NoticeKind.RECOVERED, NoticeKind.WITHDRAWN, NoticeKind.CLOSED})
"""Kinds that go only to contacts who got an earlier message about the incident."""
CONFIRMABLE_KINDS = CALL_KINDS | {NoticeKind.ESCALATED, NoticeKind.EMERGENCY}
"""Kinds that the button behind the link confirms."""
HANDLER_KINDS = frozenset(
    {NoticeKind.DISPATCHED, NoticeKind.REMINDER, NoticeKind.OVERDUE, NoticeKind.SUPERVISED, NoticeKind.WITHDRAWN}
)
"""Kinds that go to the person who is responsible for the case."""


@dataclass(frozen=True, slots=True)
class Item:
    """What a message says of one incident.

    ``place`` is what messages are grouped by, ``text`` the entry behind it. ``headline`` says where, what and how much;
    ``since_ms`` since when. ``minutes`` to confirm within (of ESCALATED: waited in vain); ``due_ms`` is the deadline of
    ``step`` (a key of the catalogue's ``phase``).
    """

    incident_id: int
    kind: NoticeKind
    colour: Colour
    at_ms: int
    place: Text
    text: Text
    minutes: int | None = None
    headline: Headline | None = None
    since_ms: int | None = None
    due_ms: int | None = None
    step: str = ""

    @property
    def leading(self) -> tuple[str, str] | None:
        """Station and parameter of which it shows the present value; None where it is about the past."""
        return self.headline.leading if self.headline is not None and self.kind is not NoticeKind.PAST else None


@dataclass(frozen=True, slots=True)
class NoticeRequest:
    """Something to tell a contact: about what place (``bucket``), and from when on (ms UTC)."""

    contact: str
    bucket: str
    item: Item
    due_at_ms: int


def requires_confirmation(items: Iterable[Item]) -> bool:
    """Whether a message has to be confirmed: its link leads to the button, else to the incident."""
    return any(item.kind in CONFIRMABLE_KINDS for item in items)


def urgency_key(item: Item) -> tuple[bool, int, int]:
    """The sort key of items, most urgent first."""
    return item.kind not in URGENT_KINDS, item.colour.rank, item.at_ms
