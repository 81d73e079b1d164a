"""What of the incidents of a water the public is warned of. Pure."""

from collections.abc import Sequence

from governance.incidents.finding import Colour
from governance.incidents.model import Incident

WARNING_COLOURS = (Colour.RED, Colour.ORANGE, Colour.YELLOW)
"""The colours in which the water is not as usual, and contact may harm."""


def most_urgent(going_on: Sequence[Incident]) -> tuple[Colour, int] | None:
    """The most urgent colour among the incidents that go on at a water, and since when; None where none does."""
    if not going_on:
        return None
    colour = min((one.colour for one in going_on), key=lambda one: one.rank)
    return colour, min(one.since_ms for one in going_on if one.colour is colour)


def warning(going_on: Sequence[Incident]) -> tuple[Colour, int] | None:
    """The warning of a water and since when; None where the public is warned of nothing."""
    found = most_urgent(going_on)
    return found if found is not None and found[0] in WARNING_COLOURS else None
