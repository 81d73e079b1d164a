"""What the demo's closing line counts as the time from publish to delivery."""

from typing import Any

import pytest

from infra.times import rfc3339
from riverchief.demo import delays_ms

LIVE_MS = 1_790_000_000_000


def event(observed_ms: int, **more: Any) -> dict[str, Any]:
    told = {"what": "fired", "notify": "page", "kind": "threshold", "observed_at": rfc3339(observed_ms)}
    return {"type": "river.incident.opened", "data": told | more}


def test_a_page_that_a_live_reading_brought_about_counts() -> None:
    assert delays_ms([(LIVE_MS + 1090, event(LIVE_MS + 1000))], LIVE_MS) == [90]


@pytest.mark.parametrize(
    "other",
    [
        event(LIVE_MS + 1000, what="overdue"),
        event(LIVE_MS + 1000, what="fired", notify="inform"),
        event(LIVE_MS + 1000, kind="no_data"),
        event(LIVE_MS - 500_000),
    ],
    ids=["a deadline has passed", "nobody is paged", "silence", "history"],
)
def test_what_no_live_reading_brought_about_does_not_count(other: dict[str, Any]) -> None:
    assert delays_ms([(LIVE_MS + 577_000, other)], LIVE_MS) == []
    assert delays_ms([(LIVE_MS + 577_000, other)], None) == []
