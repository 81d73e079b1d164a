"""Preview who would be called for an incident at a place, step by step. Pure; sends nothing."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from governance.incidents.finding import Colour
from governance.notify.contacts import Contact, Directory, Place
from governance.notify.policy import NoticePolicy

Duty = Callable[[int], Sequence[Sequence[str]]]
"""Who is on call at an instant, by rank."""


@dataclass(frozen=True, slots=True)
class PreviewedMessage:
    """A message of a step of escalation, the first is 1: who would get it, and when (ms UTC)."""

    step: int
    contact: Contact
    at_ms: int


def preview(
    directory: Directory, place: Place, colour: Colour, at_ms: int, *, duty: Duty, policy: NoticePolicy
) -> Iterator[PreviewedMessage]:
    """The messages of an incident that begins at ``at_ms`` and is never confirmed."""
    told_ms: int | None = at_ms
    number = 0
    while told_ms is not None:
        on_call = duty(told_ms)
        steps = directory.steps(place, colour, on_call)
        if number >= len(steps):
            return
        on_duty = {key for keys in directory.office(on_call)[:1] for key in keys}
        for key in steps[number]:
            one = directory.named(key)
            due_ms = policy.due(colour, told_ms, on_duty=key in on_duty, own=one.quiet) if number == 0 else told_ms
            yield PreviewedMessage(number + 1, one, due_ms)
        told_ms, number = policy.unconfirmed_at(colour, told_ms), number + 1
