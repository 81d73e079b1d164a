"""Roles of the river-chief system, their rights, and the acting person. Pure.

What a role may do stands in one table (`RIGHTS`); where it may do it follows
from the person's region and appointments (`governance.people.store`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from infra.errors import Refused
from infra.texts import Text, say


class Role(StrEnum):
    """Role of a person or program."""

    GENERAL_CHIEF = "general_chief"
    CHIEF = "chief"
    DEPUTY = "deputy"
    OFFICE = "office"
    OPERATOR = "operator"
    HANDLER = "handler"
    GRID_WORKER = "grid_worker"
    VERIFIER = "verifier"
    REVIEWER = "reviewer"
    AUDITOR = "auditor"
    ADMINISTRATOR = "administrator"
    PUBLIC = "public"
    PLATFORM = "platform"
    """An external platform that calls back; not assignable to people."""
    SYSTEM = "system"
    """This system, where it acts by itself; not assignable to people."""
    MACHINE = "machine"
    """A program with the API token of the site: unrestricted, and recorded as a program."""


CITIZEN_NAME = "市民 citizen"
"""The recorded name of a citizen, who needs no account."""
LOCAL_NAME = "本机 local"
"""The recorded name of anybody on a site that asks nobody to sign in."""


def person_name(name: str) -> Text:
    """A recorded name as people read it."""
    if name == CITIZEN_NAME:
        return say("person.citizen")
    return say("person.local") if name == LOCAL_NAME else Text(name, name)


class Department(StrEnum):
    """Department of a handler."""

    WATER = "water"
    ENVIRONMENT = "environment"
    URBAN_MANAGEMENT = "urban_management"
    HOUSING = "housing"
    INDUSTRY = "industry"


class Right(StrEnum):
    """A right. The first group concerns incidents, the second this platform."""

    INCIDENTS = "incidents"
    """See incidents."""
    REPORT = "report"
    COMMENT = "comment"
    ACCEPT = "accept"
    """Accept and reject, merge and split, call a false alarm, declare an emergency."""
    DISPATCH = "dispatch"
    HANDLE = "handle"
    VERIFY = "verify"
    CLOSE = "close"
    REOPEN = "reopen"
    SUPERVISE = "supervise"
    EVALUATE = "evaluate"

    VIEW = "view"
    """See the water: stations, readings, reaches, regions, live classes."""
    ACCOUNT = "account"
    """See the ledger, the quarantine and who changed the registry."""
    REVIEW = "review"
    """Judge data: calibrations, visits, replay of the quarantine."""
    REGISTRY = "registry"
    """Change stations and what hangs there."""
    SEND = "send"
    """Send readings over HTTP."""
    DEVICES = "devices"
    """Logins of devices and commands to them."""
    STAFF = "staff"
    """See who is who within reach: names, roles, terms."""
    ASSESS = "assess"
    """See the assessment of what lies within reach."""
    PEOPLE = "people"
    """Change people, appointments and tokens."""
    AUDIT = "audit"


_SEE = {Right.VIEW, Right.INCIDENTS}
_FIELD = _SEE | {Right.REPORT, Right.COMMENT, Right.HANDLE}
_LEAD = {Right.STAFF, Right.ASSESS}
_CENTRE = _SEE | {
    Right.REPORT,
    Right.COMMENT,
    Right.ACCEPT,
    Right.DISPATCH,
    Right.VERIFY,
    Right.CLOSE,
    Right.REOPEN,
    Right.ACCOUNT,
}

RIGHTS: Mapping[Role, frozenset[Right]] = {
    Role.GENERAL_CHIEF: frozenset(
        _SEE | _LEAD | {Right.REPORT, Right.COMMENT, Right.DISPATCH, Right.SUPERVISE, Right.REOPEN, Right.ACCOUNT}
    ),
    Role.CHIEF: frozenset(_FIELD | _LEAD | {Right.DISPATCH, Right.VERIFY, Right.SUPERVISE, Right.REOPEN}),
    Role.DEPUTY: frozenset(_FIELD | _LEAD),
    Role.OFFICE: frozenset(_CENTRE | _LEAD | {Right.SUPERVISE, Right.EVALUATE}),
    Role.OPERATOR: frozenset(_CENTRE | {Right.STAFF}),
    Role.HANDLER: frozenset(_FIELD),
    Role.GRID_WORKER: frozenset(_FIELD),
    Role.VERIFIER: frozenset(_SEE | {Right.COMMENT, Right.VERIFY}),
    Role.REVIEWER: frozenset(
        _SEE | {Right.COMMENT, Right.ACCOUNT, Right.REVIEW, Right.REGISTRY, Right.SEND, Right.DEVICES}
    ),
    Role.AUDITOR: frozenset(_SEE | _LEAD | {Right.ACCOUNT, Right.AUDIT}),
    Role.ADMINISTRATOR: frozenset(Right),
    Role.PUBLIC: frozenset({Right.VIEW}),
    Role.MACHINE: frozenset(Right),
    Role.SYSTEM: frozenset({Right.INCIDENTS, Right.COMMENT}),
    Role.PLATFORM: frozenset((_CENTRE | _FIELD | {Right.SUPERVISE}) - {Right.VIEW, Right.ACCOUNT}),
}
"""The rights of each role. What is not in this table is forbidden.

A platform acts for a centre and its departments elsewhere: it may do with incidents what these may do here, and nothing
else. The file of the platforms restricts it further, to the words agreed on.
"""

PERSON_ROLES = tuple(role for role in Role if role not in (Role.PLATFORM, Role.SYSTEM, Role.MACHINE))
"""Roles that people can have."""

ROLES_WITH_TERMS = frozenset({Role.GENERAL_CHIEF, Role.CHIEF, Role.DEPUTY})
"""Roles whose reach comes from appointments with a term, and ends with it."""


MOST_NAMED = 4
"""Roles that a refusal names: a longer list tells nobody whom to ask."""

_LEADS = frozenset({Role.GENERAL_CHIEF, Role.OFFICE, Role.ADMINISTRATOR, Role.PLATFORM})


def level(depth: int, *, leads: bool = False) -> int:
    """The place in the hierarchy of who stands in a region with ``depth`` regions above it; 0 is the highest."""
    return 2 * depth + (0 if leads else 1)


class Forbidden(Refused):
    """The role or the region does not allow it; ``allowed`` is what would be."""

    def __init__(self, text: Text, allowed: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.allowed = allowed


@dataclass(frozen=True, slots=True)
class Actor:
    """The acting person or program: the name for the record, the role, and where it counts.

    ``regions`` are the codes of all regions within reach; None reaches everything, also what has no region. ``waters``
    are single reaches (reach, region), as of a term for one reach; region "" is anywhere. ``depth`` counts the regions
    above the highest one of the actor, 0 at the top. ``helps`` are the names of the chiefs whose deputy (河长助理)
    somebody is. ``scopes`` are the rights to which a token limits its owner; None: to none.
    """

    name: str
    role: Role
    regions: frozenset[str] | None = None
    department: Department | None = None
    helps: frozenset[str] = frozenset()
    waters: frozenset[tuple[str, str]] = frozenset()
    depth: int = 0
    scopes: frozenset[Right] | None = None

    @property
    def level(self) -> int:
        """The place in the hierarchy, 0 the highest; in one region the general chief and the office stand above."""
        return level(self.depth, leads=self.role in _LEADS)

    @property
    def rights(self) -> frozenset[Right]:
        """What the role may, as far as a token does not limit it."""
        return RIGHTS[self.role] if self.scopes is None else RIGHTS[self.role] & self.scopes

    def may(self, right: Right) -> bool:
        return right in self.rights

    def must_be_whole(self) -> None:
        """Raises Forbidden for a token that is limited: it makes nothing that could do more than itself."""
        if self.scopes is not None:
            raise Forbidden(say("account.token_limited"), tuple(sorted(self.rights)))

    def covers(self, region: str, reach: str = "") -> bool:
        """Whether the region with this code ("" : unknown), or the water of ``reach`` in it, is within reach."""
        if self.regions is None or region in self.regions:
            return True
        return bool(reach) and bool({(reach, region), (reach, "")} & self.waters)

    def answers_for(self, responsible: str) -> bool:
        """Whether a case of this chief is theirs: their own, or that of a chief they help."""
        return bool(responsible) and (responsible == self.name or responsible in self.helps)

    def must(self, right: Right, work: Text | None = None) -> None:
        """Raises Forbidden unless the role has the right; ``work`` is what the right is needed for, in its own words.

        It names the roles that may where they are few, and else who changes a role.
        """
        if right in RIGHTS[self.role] and not self.may(right):
            text = say("account.scope_missing", right=say(f"right.{right}"))
            raise Forbidden(text, tuple(sorted(self.rights)))
        if not self.may(right):
            may = [role for role in PERSON_ROLES if right in RIGHTS[role]]
            key = "person.forbidden" if len(may) <= MOST_NAMED else "person.forbidden_ask"
            what = work or say(f"right.{right}")
            text = say(key, role=role_name(self.role), right=what, roles=roles_with(right))
            raise Forbidden(text, tuple(sorted(RIGHTS[self.role])))


def may_be_responsible(role: Role) -> bool:
    """Whether a case can be somebody's who has this role."""
    return Right.HANDLE in RIGHTS[role] or role in ROLES_WITH_TERMS


def administrator(name: str) -> Actor:
    """Somebody who may do everything everywhere: also anybody on an open site."""
    return Actor(name, Role.ADMINISTRATOR)


def role_name(role: Role) -> Text:
    """The role's name as people read it."""
    return say(f"person.{role}")


def roles_with(right: Right) -> Text:
    """The roles of people that have a right, as people read them."""
    names = [role_name(role) for role in PERSON_ROLES if right in RIGHTS[role]]
    return Text("、".join(n.zh for n in names), ", ".join(n.en for n in names))
