"""People and orders that carry an incident through its life; names are made up (示例)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from governance.incidents.finding import Colour, ConditionChange, Finding, FindingKind
from governance.incidents.model import Action, Assignment, Order
from governance.organisation.roles import Actor, Department, Role
from infra.texts import Text

OPERATOR = Actor("李某（示例）", Role.OPERATOR)
OFFICE = Actor("吴某（示例）", Role.OFFICE)
CHIEF = Actor("张河长（示例）", Role.CHIEF)
WATER = Actor("陈某（示例）", Role.HANDLER, department=Department.WATER)
HOUSING = Actor("何某（示例）", Role.HANDLER, department=Department.HOUSING)
VERIFIER = Actor("周某（示例）", Role.VERIFIER)
ADMINISTRATOR = Actor("管理员（示例）", Role.ADMINISTRATOR)
EVERYBODY = (OPERATOR, OFFICE, CHIEF, WATER, HOUSING, VERIFIER, ADMINISTRATOR)

TO_WATER = Assignment(region="g1", responsible=CHIEF.name, department=Department.WATER)
DONE: Mapping[str, float] = {"nh3n": 0.8}

WAY: Sequence[tuple[Actor, Order]] = (
    (OPERATOR, Order(Action.ACCEPT)),
    (OPERATOR, Order(Action.DISPATCH, assignment=TO_WATER)),
    (WATER, Order(Action.START)),
    (WATER, Order(Action.FINISH, comment="闸门已关 / gate closed", attachments=("7",), measurement=DONE)),
    (VERIFIER, Order(Action.VERIFY, measurement=DONE)),
    (OPERATOR, Order(Action.CLOSE, comment="已恢复 / recovered")),
)
"""From the report to the closed case, each step by somebody who may."""


def a_finding(at_ms: int, **other: Any) -> Finding:
    """Ammonia at Shiwan is above its limit, seen at ``at_ms`` and since then; a test says what it needs to be other."""
    usual = Finding(
        rule="nh3n-high",
        version="1",
        kind=FindingKind.THRESHOLD,
        change=ConditionChange.FIRED,
        cause="shiwan/nh3n",
        station="shiwan",
        parameter="nh3n",
        observed_at_ms=at_ms,
        since_ms=at_ms,
        value=2.4,
        limit=2.0,
        colour=Colour.YELLOW,
        retrospective=False,
        text=Text("氨氮 2.4", "ammonia 2.4"),
    )
    return replace(usual, **other)


def in_both_languages(sentence: str) -> bool:
    """Whether a person reads it in Chinese first, and beside it in English."""
    zh, _, en = sentence.partition(" / ")
    return bool(re.search(r"[\u4e00-\u9fff]", zh)) and bool(re.search(r"[A-Za-z]{2}", en))
