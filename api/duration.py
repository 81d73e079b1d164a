"""Spans of time in words. Pure."""

from infra.texts import Text, say


def duration(ms: int) -> Text:
    """A span of time in one unit, the largest that leaves two or more of it (or one minute, one hour)."""
    seconds = max(0, ms) // 1000
    for size, key in ((172_800, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= size:
            return say(f"console.{key}", count=seconds // (86_400 if key == "days" else size))
    return say("console.seconds", count=seconds)
