"""What a station-day of the ledger shows, and the rates; never all where the number sent is unknown."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from api.pages.models import ledger as models
from api.pages.models.ledger import State
from ingest.ledger import UNREGISTERED, Account, Gap
from ingest.storage.port import Window
from sensors.reading import Flag
from sensors.stations import Registry

TODAY = "2026-11-30"
DAY = "2026-11-20"
CLOSED = Account(
    station="a",
    day=DAY,
    messages=10,
    messages_duplicate=0,
    messages_unnumbered=0,
    messages_quarantined=0,
    messages_missing=0,
    readings=40,
    stored=40,
    duplicate=0,
    quarantined=0,
    missing=0,
)


@pytest.mark.parametrize(
    ("account", "state"),
    [
        (CLOSED, State.COMPLETE),
        (replace(CLOSED, day=TODAY), State.PROGRESS),
        (replace(CLOSED, missing=4, messages_missing=1), State.MISSING),
        (replace(CLOSED, missing=None, messages_missing=1), State.UNKNOWN),
        (replace(CLOSED, stored=39, quarantined=1, messages_quarantined=1), State.QUARANTINED),
        (replace(CLOSED, stored=39), State.UNBALANCED),
        (replace(CLOSED, messages_unnumbered=10), State.UNKNOWN),
        (replace(CLOSED, messages_unnumbered=1), State.UNKNOWN),
        (replace(CLOSED, messages_unnumbered=1, messages_quarantined=1), State.QUARANTINED),
        (replace(CLOSED, messages_unnumbered=10, messages_quarantined=10), State.UNKNOWN),
        (replace(CLOSED, station=UNREGISTERED), State.UNKNOWN),
    ],
)
def test_what_a_station_day_shows(account: Account, state: State) -> None:
    assert models.state_of(account, TODAY) is state


def test_days_whose_number_sent_is_unknown_count_for_no_rate() -> None:
    unnumbered = replace(CLOSED, messages_unnumbered=10)
    assert models.rate([unnumbered], TODAY) == models.Rate(None, 0, 1)
    half = replace(CLOSED, stored=20, duplicate=10, readings=30, missing=20)
    assert models.rate([half, unnumbered, replace(CLOSED, day=TODAY)], TODAY) == models.Rate(0.5, 1, 1)


def test_a_month_has_all_its_days_and_no_future_neighbour() -> None:
    registry = Registry()
    month = models.month("2024-02", [replace(CLOSED, day="2024-02-29")], registry, "zh", date(2024, 3, 1))
    assert len(month.days) == 29
    assert (month.before, month.after) == ("2024-01", "2024-03")
    assert [row.station for row in month.rows] == ["a"]
    assert month.rows[0].cells[-1].state is State.COMPLETE
    assert models.month("2024-03", [], registry, "zh", date(2024, 3, 1)).after is None


def test_the_first_numbers_after_a_new_start_point_to_a_restart() -> None:
    found = models.missing([Gap(2, 0, 3, 4), Gap(2, 9, 9, None)])
    assert [one.cause for one in found] == ["restart", "link"]


def test_stretches_without_readings_are_found_at_the_edges_of_the_day_too() -> None:
    at = np.array([1000, 1300, 2000]) * 1000
    flags = np.array([Flag.GOOD, Flag.SUSPECT, Flag.BAD], np.int64)
    window = Window(np.zeros(3, np.int32), at, np.zeros(3), flags)
    found = models.quality(window, 0, 2_100_000, 200)
    assert found.holes == ((0, 1_000_000), (1_300_000, 2_000_000))
    assert (found.usable, found.suspect, found.bad) == (1, 1, 1)
    assert models.valid_share(models.Rate(0.9, 1, 0), found) == pytest.approx(0.6)
    assert models.valid_share(models.Rate(None, 0, 1), found) is None
