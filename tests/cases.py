"""People and orders that carry an incident through its life; names are made up (示例)."""

import re
from collections.abc import Mapping, Sequence

from governance.incident import Action, Assignment, Order
from governance.roles import Actor, Department, Role

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


def in_both_languages(sentence: str) -> bool:
    """Whether a person reads it in Chinese first, and beside it in English."""
    zh, _, en = sentence.partition(" / ")
    return bool(re.search(r"[\u4e00-\u9fff]", zh)) and bool(re.search(r"[A-Za-z]{2}", en))
