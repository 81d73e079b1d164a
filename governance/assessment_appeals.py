"""Appeals (申诉) against a figure of a final assessment, and how somebody above decided them.

The figure as it was frozen stays. An appeal that is accepted puts a correction with a new version beside it; one that
is rejected has the reason. Every function takes an open connection and never commits.
"""

from dataclasses import asdict, dataclass
from enum import StrEnum
from urllib.parse import urlsplit

import sqlalchemy as sa

from governance.audit import trail as audit_trail
from governance.organisation.roles import Actor, Forbidden
from governance.tables import assessment_appeal as table
from infra.errors import ConfigurationError, NotFound, Refused
from infra.records import from_row
from infra.texts import say

TEXT_LIMIT = 1000
LINK_LIMIT = 500
SCORE = "score"
"""The figure that is no indicator."""


class AppealState(StrEnum):
    """What became of an appeal."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure as it was frozen: of which month, row and indicator (or ``SCORE``), and the trail it was read from."""

    month: str
    group_by: str
    key: str
    figure: str
    good: int
    of: int
    value: float | None
    last_n: int
    head: str


@dataclass(frozen=True, slots=True)
class Grounds:
    """Why somebody appeals, with the evidence: a link, an attachment's id, or both."""

    reason: str
    link: str = ""
    attachment: str = ""


@dataclass(frozen=True, slots=True)
class Appeal:
    """An appeal; ``version`` is that of the figure after it: 1 as frozen, one more for each correction."""

    id: int
    month: str
    group_by: str
    key: str
    figure: str
    good: int
    of: int
    value: float | None
    last_n: int
    head: str
    reason: str
    link: str
    attachment: str
    by: str
    level: int
    at_ms: int
    state: AppealState
    decided_by: str
    decided_at_ms: int | None
    remark: str
    version: int


def file(
    connection: sa.Connection, figure: Figure, grounds: Grounds, actor: Actor, *, until_ms: int, now_ms: int
) -> Appeal:
    """File an appeal. The caller knows that ``actor`` answers for the row and that the month is final.

    Raises Refused after ``until_ms`` and while another appeal against the figure waits, ConfigurationError for no
    reason or evidence.
    """
    if now_ms > until_ms:
        raise Refused(say("assessment.appeal_late"))
    grounds = _checked(grounds)
    same = sa.and_(*(table.c[name] == getattr(figure, name) for name in ("month", "group_by", "key", "figure")))
    earlier = list(connection.execute(sa.select(table.c.state, table.c.version).where(same)))
    if any(row.state == AppealState.PENDING for row in earlier):
        raise Refused(say("assessment.appeal_pending"))
    values = asdict(figure) | asdict(grounds) | {
        "by": actor.name,
        "level": actor.level,
        "at_ms": now_ms,
        "state": AppealState.PENDING.value,
        "pending": "/".join((figure.month, figure.group_by, figure.key, figure.figure)),
        "version": max((row.version for row in earlier), default=1)
    }  # fmt: skip
    try:
        number = connection.execute(sa.insert(table).values(**values).returning(table.c.id)).scalar_one()
    except sa.exc.IntegrityError:
        raise Refused(say("assessment.appeal_pending")) from None
    body = asdict(figure) | asdict(grounds)
    audit_trail.append(
        connection, "appeal.filed", kind="appeal", id=str(number), body=body, by=actor.name, role=actor.role,
        at_ms=now_ms,
    )  # fmt: skip
    return get(connection, number)


def _checked(given: Grounds) -> Grounds:
    reason, link = given.reason.strip(), given.link.strip()
    if not 0 < len(reason) <= TEXT_LIMIT:
        raise ConfigurationError(say("assessment.needs_reason", most=TEXT_LIMIT))
    if not link and not given.attachment:
        raise ConfigurationError(say("assessment.needs_evidence"))
    if link and (len(link) > LINK_LIMIT or urlsplit(link).scheme not in ("http", "https") or not urlsplit(link).netloc):
        raise ConfigurationError(say("assessment.no_link", most=LINK_LIMIT))
    return Grounds(reason, link, given.attachment)


def may_decide(appeal: Appeal, actor: Actor) -> bool:
    """Whether somebody stands above who appeals; the caller knows that the row is within their regions."""
    return appeal.state is AppealState.PENDING and actor.name != appeal.by and actor.level < appeal.level


def decide(connection: sa.Connection, number: int, actor: Actor, *, accepted: bool, remark: str, now_ms: int) -> Appeal:
    """Accept an appeal with the correction, or reject it with the reason, in ``remark``.

    Raises NotFound, Refused for one that is decided, Forbidden for who does not stand above who appeals.
    """
    found = get(connection, number, lock=True)
    if found.state is not AppealState.PENDING:
        raise Refused(say("assessment.appeal_decided", name=found.decided_by))
    if not may_decide(found, actor):
        raise Forbidden(say("assessment.not_above", name=found.by), tuple(sorted(actor.rights)))
    if not 0 < len(remark.strip()) <= TEXT_LIMIT:
        raise ConfigurationError(say("assessment.needs_reason", most=TEXT_LIMIT))
    values = {
        "state": (AppealState.ACCEPTED if accepted else AppealState.REJECTED).value,
        "decided_by": actor.name,
        "decided_at_ms": now_ms,
        "remark": remark.strip(),
        "version": found.version + int(accepted),
    }
    connection.execute(sa.update(table).where(table.c.id == number).values(pending=None, **values))
    audit_trail.append(
        connection, "appeal.decided", kind="appeal", id=str(number), body=values, by=actor.name, role=actor.role,
        at_ms=now_ms,
    )  # fmt: skip
    return get(connection, number)


def get(connection: sa.Connection, number: int, *, lock: bool = False) -> Appeal:
    """One appeal; with ``lock`` it is locked until the transaction ends. Raises NotFound."""
    query = sa.select(table).where(table.c.id == number)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFound(say("assessment.no_appeal", number=number))
    return from_row(Appeal, row, state=AppealState(row.state))


def of_month(connection: sa.Connection, month: str) -> list[Appeal]:
    """The appeals of a month, oldest first."""
    rows = connection.execute(sa.select(table).where(table.c.month == month).order_by(table.c.id))
    return [from_row(Appeal, row, state=AppealState(row.state)) for row in rows]
