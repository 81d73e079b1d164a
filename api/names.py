"""Who did something, as people read it: persons by name and role, the system and its rules by what they are. Pure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from governance.incidents.finding import FindingKind
from governance.incidents.model import Entry, EntryKind
from governance.organisation.roles import Role, person_name
from infra.texts import Text, say
from sensors.parameters import catalogue

NO_DETAILS: Mapping[str, Any] = MappingProxyType({})
OURS = frozenset({"deadline", "riverchief", "root"})
"""Who is no person: the deadline, the system, and who works on the server itself."""
FOUND = (EntryKind.FIRED, EntryKind.RESOLVED, EntryKind.WITHDRAWN, EntryKind.PROMOTED)
"""What rules say; ``by`` is the rule."""


def by_whom(entry: Entry) -> Text:
    """Who or what an entry of an incident comes from."""
    return who(entry.by, "rule" if entry.what in FOUND else entry.role, entry.details)


def who(by: str, role: str, details: Mapping[str, Any] = NO_DETAILS) -> Text:
    """Who did it, and as what: people by name and role, the system and the rules by what they are.

    ``details`` are those of an incident's entry: they say of which kind a rule is, and of which parameter.
    """
    if role == "rule":
        return rule_name(by, str(details.get("kind", "")), str(details.get("parameter", "")))
    name = say(f"audit_entry.by_{by}") if by in OURS else person_name(by)
    as_what = say(f"person.{role}") if role in {*Role} else None
    if as_what is None or as_what == name:
        return name
    return Text(f"{name.zh} · {as_what.zh}", f"{name.en} · {as_what.en}")


def rule_title(kind: str, parameter: str = "") -> Text:
    """What a rule watches: 氨氮限值."""
    known, what = catalogue(), say(f"rule_kind.{kind}")
    if parameter not in known:
        return what
    name = known[parameter]
    return say("rule_kind.of_parameter", kind=what, parameter=Text(name.zh, name.en))


def rule_name(rule: str, kind: str, parameter: str = "") -> Text:
    """A rule as people know it: 规则（氨氮限值）; by its id where its kind was not kept."""
    if kind not in {*FindingKind}:
        return say("rule_kind.by_id", rule=rule)
    known = catalogue()
    if parameter not in known:
        return say("rule_kind.without_parameter", kind=say(f"rule_kind.{kind}"))
    name = known[parameter]
    return say("rule_kind.with_parameter", kind=say(f"rule_kind.{kind}"), parameter=Text(name.zh, name.en))


CHANNELS = {
    kind: say(f"people_page.kind_{name}")
    for kind, name in (
        ("wecombot", "wecom"),
        ("webpush", "browser"),
        ("dingtalk", "dingtalk"),
        ("feishu", "feishu"),
        ("mailto", "mail"),
        ("mailtos", "mail"),
        ("json", "gateway"),
        ("jsons", "gateway"),
        ("form", "gateway"),
        ("forms", "gateway"),
    )
}
"""Kinds of channels by the scheme of their addresses."""


def channel_name(kind: str) -> Text:
    """What a kind of channel is called; its own name where we have none."""
    return CHANNELS.get(kind) or Text(kind, kind)
