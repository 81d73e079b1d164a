"""A result of a check: its level, a sentence, and advice."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from infra.texts import Text, say
from riverchief.settings import Settings


class Level(StrEnum):
    """Severity, best first."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of ``check``; ``advice`` is what to do next, None for nothing."""

    check: str
    level: Level
    text: Text
    advice: Text | None = None

    @property
    def runbook(self) -> str:
        """Where the documentation says what this means and what to do first."""
        return f"docs/operations/runbooks.md#{self.check}"


Check = Callable[[Settings], Iterator[Finding]]
"""Asks one neighbour. May hang or raise: ``examine`` holds it to a deadline and turns an error into a finding."""


def ok(check: str, key: str, **values: object) -> Finding:
    """All is well: the sentence ``doctor.{key}``."""
    return Finding(check, Level.OK, say(f"doctor.{key}", **values))


def warning(check: str, key: str, **values: object) -> Finding:
    """It works, but not for long or not as it should: ``doctor.{key}``, and ``doctor.{key}_do`` for what to do."""
    return Finding(check, Level.WARNING, say(f"doctor.{key}", **values), say(f"doctor.{key}_do", **values))


def failure(check: str, key: str, **values: object) -> Finding:
    """It does not work: ``doctor.{key}``, and ``doctor.{key}_do`` for what to do."""
    return Finding(check, Level.FAILURE, say(f"doctor.{key}", **values), say(f"doctor.{key}_do", **values))
