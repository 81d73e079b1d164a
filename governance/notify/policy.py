"""Times of messages: quiet hours, digests, and the time to confirm. Pure.

The times are defaults for a site to confirm in its settings; they follow no published rule. Whom a message reaches is
decided in `governance.notify.planning`, its words are in `governance.notify.wording`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta

from governance.incidents.finding import Colour
from infra.times import BEIJING, from_ms, to_ms

STALE_MS = 24 * 3_600_000
"""Nothing older calls anybody out."""


@dataclass(frozen=True, slots=True)
class NoticePolicy:
    """Times of messages. Times of day are Beijing time; ``confirm`` in minutes, a colour without it asks nothing.

    ``quiet``: from when until when nobody but those on call is disturbed, and that for red and orange alone.
    ``morning``: when held messages are sent; ``digest``: when blue ones are. ``window_s``: what comes within it and
    belongs together is one message; red waits a quarter of it. ``most``: messages to one contact within a window,
    beyond which all regions are one. ``per_minute``: messages through one channel.
    """

    confirm: Mapping[Colour, int] = field(
        default_factory=lambda: {Colour.RED: 10, Colour.ORANGE: 30, Colour.YELLOW: 120}
    )
    quiet: tuple[time, time] = (time(22), time(7))
    morning: time = time(7, 30)
    digest: time = time(8)
    window_s: float = 60.0
    most: int = 5
    per_minute: int = 15
    link_hours: float = 24.0
    give_up_hours: float = 24.0

    def is_quiet(self, at_ms: int, own: tuple[time, time] | None = None) -> bool:
        """Whether an instant lies in the quiet hours; ``own`` are those of a contact that has others."""
        now, (begin, end) = _local(at_ms).time(), own or self.quiet
        return begin <= now < end if begin <= end else now >= begin or now < end

    def next_active_time(self, at_ms: int, own: tuple[time, time] | None = None) -> int:
        """This instant, or the morning after the quiet hours it lies in; a contact's own hours end when they say."""
        if not self.is_quiet(at_ms, own):
            return at_ms
        return _next_time_of_day(at_ms, self.morning if own is None else own[1])

    def due(self, colour: Colour, at_ms: int, *, on_duty: bool, own: tuple[time, time] | None = None) -> int:
        """When a message about something that happened at ``at_ms`` may be sent to a contact who is (not) on call."""
        if colour is Colour.RED:
            return at_ms
        if colour is Colour.BLUE:
            return _next_time_of_day(at_ms, self.digest)
        if colour is Colour.ORANGE and on_duty:
            return at_ms
        return self.next_active_time(at_ms, own)

    def gather_ms(self, colour: Colour) -> int:
        """For how long what belongs together is waited for after a message."""
        return round(self.window_s * (250 if colour is Colour.RED else 1000))

    def unconfirmed_at(self, colour: Colour, at_ms: int) -> int | None:
        """When a call sent at ``at_ms`` goes to the next step; None where no confirmation is required."""
        minutes = self.confirm.get(colour)
        if minutes is None:
            return None
        start_ms = at_ms if colour in {Colour.RED, Colour.ORANGE} else self.next_active_time(at_ms)
        return start_ms + minutes * 60_000


def _local(at_ms: int) -> datetime:
    return from_ms(at_ms).astimezone(BEIJING)


def _next_time_of_day(at_ms: int, clock: time) -> int:
    """The next instant at which it is this time of day in Beijing."""
    now = _local(at_ms)
    then = datetime.combine(now.date(), clock, BEIJING)
    return to_ms(then if then > now else then + timedelta(days=1))
