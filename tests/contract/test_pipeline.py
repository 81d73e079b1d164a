"""The whole journey with real messages and a real file: what comes of good, bad, late and repeated data."""

import functools
import json
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from governance.incidents import store as incident_store
from governance.incidents.finding import Colour, FindingKind
from governance.incidents.model import EntryKind
from infra.errors import StorageUnavailable
from infra.texts import same, say
from infra.times import rfc3339
from ingest import ledger, pipeline, quarantine, ticks
from ingest.pipeline import PIPELINE, Stage, Work
from ingest.state import alarm_store
from ingest.storage import device_events
from ingest.storage import maintenance as maintenance_store
from ingest.storage import registry as registry_store
from ingest.storage.changes import Author
from ingest.storage.sql import SqlReadings
from sensors.maintenance import Visit
from sensors.reading import Flag, Message, QualityTest, Reason
from sensors.stations import Deployment, Station, Water
from tests.long import LONG
from tests.says import shows
from tests.world import (
    BOTH,
    CATALOGUE,
    DAY,
    HOUR,
    MINUTE,
    QICHA,
    SHIWAN,
    STEP,
    T0,
    IncidentSummary,
    Values,
    World,
    bad,
    calm,
    differences,
    judged_at_once,
    message,
    raw,
    river,
)

# -- bad input -------------------------------------------------------------------------------------------------------

AT = rfc3339(T0)


def body(**members: Any) -> bytes:
    return json.dumps({"readings": [{"at": AT, "values": {"ph": 7.1}}], **members}).encode()


def sample(**members: Any) -> bytes:
    return json.dumps({"readings": [{"at": AT, "values": {"ph": 7.1}, **members}]}).encode()


BAD_INPUT: dict[str, tuple[bytes, list[tuple[Reason, int | None]], int]] = {
    "nothing": (b"", [(Reason.NOT_JSON, None)], 0),
    "not JSON": (b"\x00\x01 garbage", [(Reason.NOT_JSON, None)], 0),
    "half a message": (body()[:-9], [(Reason.NOT_JSON, None)], 0),
    "broken UTF-8": (b'{"readings": "\xff\xfe"}', [(Reason.NOT_JSON, None)], 0),
    "a deep nest": (b"[" * 200_000, [(Reason.NOT_JSON, None)], 0),
    "a number": (b"42", [(Reason.WRONG_SHAPE, None)], 0),
    "a list": (b"[1, 2]", [(Reason.WRONG_SHAPE, None)], 0),
    "nothing in it": (b"{}", [(Reason.WRONG_SHAPE, None)], 0),
    "readings as text": (body(readings="7.1"), [(Reason.WRONG_SHAPE, None)], 0),
    "a sample as text": (body(readings=["x"]), [(Reason.WRONG_SHAPE, 0)], 0),
    "values as a list": (sample(values=[7.1]), [(Reason.WRONG_SHAPE, 0)], 0),
    "a value as text": (sample(values={"ph": "7.1", "do": 5}), [(Reason.NOT_A_NUMBER, 1)], 1),
    "a value as truth": (sample(values={"ph": True, "do": 5}), [(Reason.NOT_A_NUMBER, 1)], 1),
    "a value as object": (sample(values={"ph": {}, "do": 5}), [(Reason.NOT_A_NUMBER, 1)], 1),
    "NaN": (sample(values={"ph": float("nan"), "do": 5}), [(Reason.NOT_A_NUMBER, 1)], 1),
    "Infinity": (sample(values={"ph": float("inf"), "do": 5}), [(Reason.NOT_A_NUMBER, 1)], 1),
    "minus Infinity": (sample(values={"ph": float("-inf")}), [(Reason.NOT_A_NUMBER, 1)], 0),
    "a number beyond all bounds": (sample().replace(b"7.1", b"1e999"), [(Reason.NOT_A_NUMBER, 1)], 0),
    "an integer beyond all bounds": (sample().replace(b"7.1", b"9" * 400), [(Reason.NOT_A_NUMBER, 1)], 0),
    "no reading": (sample(values={"ph": None, "do": 5}), [], 1),
    "a time as number": (sample(at=T0), [(Reason.BAD_TIME, 1)], 0),
    "a time without offset": (sample(at=AT.rstrip("Z")), [(Reason.BAD_TIME, 1)], 0),
    "a time that is none": (sample(at="yesterday", values={"ph": 7, "do": 5}), [(Reason.BAD_TIME, 2)], 0),
    "a 13th month": (sample(at="2026-13-01T00:00:00Z"), [(Reason.BAD_TIME, 1)], 0),
    "the future": (sample(at=rfc3339(T0 + HOUR)), [(Reason.TIME_IN_FUTURE, 1)], 0),
    "the year 9999": (sample(at="9999-12-31T23:59:59-14:00"), [(Reason.TIME_IN_FUTURE, 1)], 0),
    "1970": (sample(at="1970-01-01T00:00:00Z"), [(Reason.TIME_BEFORE_2000, 1)], 0),
    "the year 1": (sample(at="0001-01-01T00:00:00+14:00"), [(Reason.TIME_BEFORE_2000, 1)], 0),
    "an unknown parameter": (sample(values={"gold": 1, "ph": 7}), [(Reason.UNKNOWN_PARAMETER, 1)], 1),
    "a parameter of odd characters": (
        sample(values={'"; DROP TABLE reading; --': 1, "ph": 7, "": 2}),
        [(Reason.UNKNOWN_PARAMETER, 2)],
        1,
    ),
    "a parameter that is no text at all": (
        b'{"readings": [{"at": "%b", "values": {"\\ud800": 1, "\\u0000": 2, "ph": 7}}]}' % AT.encode(),
        [(Reason.UNKNOWN_PARAMETER, 2)],
        1,
    ),
    "a status that is none": (sample(status={"ph": 3}), [(Reason.BAD_STATUS, 1)], 0),
    "too many samples": (
        body(readings=[{"at": AT, "values": {}}] * 1001),
        [(Reason.TOO_MANY_SAMPLES, None)],
        0,
    ),
    "unknown members": (body(firmware="2.1", seq=None), [], 1),
}


@BOTH
@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_has_its_documented_outcome_and_the_next_message_goes_through(world: World, case: str):
    payload, expected, stored = BAD_INPUT[case]
    good = message("shiwan", {T0 + STEP: {"ph": 7.2}})
    outcome = world.take(raw(payload), good)
    assert sorted((r.reason, None if r.readings is None else len(r.readings)) for r in outcome.rejected) == expected
    assert outcome.stored.tolist() == [stored, 1]
    assert sorted((h.reason, h.payload) for h in world.held()) == [(reason.key, payload) for reason, _ in expected]
    assert all(h.detail for h in world.held())
    assert world.take(message("shiwan", {T0 + 2 * STEP: {"ph": 7.3}})).stored.tolist() == [1]
    assert world.latest("ph") == (T0 + 2 * STEP, 7.3)
    assert all(
        account.readings == account.stored + account.duplicate + account.quarantined for account in world.accounts()
    )


def test_minus_9999_is_stored_flagged_bad_never_the_latest_and_opens_no_incident(world: World):
    world.feed(river(T0, calm(10, 7.0), "ph"))
    dead = river(T0 + 10 * STEP, [-9999.0] * 6, "ph")
    world.feed(dead)
    for at in dead:
        value, packed = world.readings()["ph", at]
        assert (value, packed & 15, packed >> 4 & QualityTest.SENTINEL) == (-9999.0, Flag.BAD, QualityTest.SENTINEL)
    assert world.latest("ph")[0] == T0 + 9 * STEP
    assert world.incidents() == []


def test_readings_of_an_unknown_station_are_kept_on_the_account_of_strangers(world: World):
    outcome = world.take(message("nobody", {T0: {"ph": 7.1, "do": 5.0}}), message("shiwan", {T0: {"ph": 7.1}}))
    assert outcome.stored.tolist() == [0, 1]
    (held,) = world.held()
    assert (held.reason, held.station, held.account, len(held.refused or ())) == ("unknown_station", "nobody", "?", 2)
    assert {(a.station, a.quarantined, a.stored) for a in world.accounts()} == {("?", 2, 0), ("shiwan", 0, 1)}


def test_an_oversized_payload_is_kept_to_its_limit_with_its_true_length(world: World):
    payload = body(note="x" * 300_000)
    world.take(raw(payload))
    (held,) = world.held()
    assert (held.reason, held.payload_bytes, held.payload) == ("too_large", len(payload), payload[: 256 * 1024])
    assert world.readings() == {}


@BOTH
@pytest.mark.parametrize(
    "station", ["Shiwan", "石湾", "a b", "../etc", "shi\x00wan", "x" * 65, "-x", "", "\ud800", "+"]
)
def test_a_topic_with_odd_characters_is_quarantined_and_harms_nobody(world: World, station: str):
    odd = Message(station, body(), T0, topic=f"rivers/v1/{station}/telemetry")
    outcome = world.take(odd, message("shiwan", {T0: {"ph": 7.1}}))
    assert [r.reason for r in outcome.rejected] == [Reason.BAD_TOPIC]
    assert outcome.stored.tolist() == [0, 1]
    assert [h.reason for h in world.held()] == ["bad_topic"]


def test_two_readings_with_one_key_in_one_message_are_one_reading_the_last_counts(world: World):
    twice = json.dumps({"readings": [{"at": AT, "values": {"ph": v}} for v in (7.1, 7.2)]}).encode()
    outcome = world.take(raw(twice))
    assert (outcome.stored.tolist(), outcome.duplicate.tolist()) == ([1], [1])
    assert {key: value for key, (value, _) in world.readings().items()} == {("ph", T0): 7.2}


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "in two"])
def test_two_readings_with_one_key_in_two_messages_are_one_reading_the_last_counts(world: World, together: bool):
    first, second = message("shiwan", {T0: {"ph": 7.1}}), message("shiwan", {T0: {"ph": 7.2}})
    if together:
        world.take(first, second)
    else:
        world.take(first)
        world.take(second)
    assert {key: value for key, (value, _) in world.readings().items()} == {("ph", T0): 7.2}
    assert world.totals() | {"messages": 2} == {
        "messages": 2,
        "messages_duplicate": 0,
        "readings": 2,
        "stored": 1,
        "duplicate": 1,
        "quarantined": 0,
    }


@BOTH
@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "in two"])
def test_the_same_message_twice_is_stored_once_and_counted_as_a_duplicate(world: World, together: bool):
    one = message("shiwan", {T0: {"ph": 7.1, "do": 5.0}, T0 + STEP: {"ph": 7.2}}, seq=0, boot=1, total=3)
    if together:
        world.take(one, one)
    else:
        first = world.take(one)
        before = world.readings()
        again = world.take(one)
        assert (first.stored.tolist(), again.stored.tolist(), again.duplicate.tolist()) == ([3], [0], [3])
        assert world.readings() == before
    totals = {"messages": 2, "messages_duplicate": 1, "readings": 6, "stored": 3, "duplicate": 3, "quarantined": 0}
    assert world.totals() == totals
    assert all(account.closed for account in world.accounts())


# -- live ------------------------------------------------------------------------------------------------------------


@BOTH
def test_a_crossing_opens_one_incident_pages_once_and_is_resolved_when_the_water_is_back(world: World):
    world.feed(river(T0, calm(10) + bad(6) + calm(6)))
    (incident,) = world.told()
    assert incident == IncidentSummary(False, T0 + 10 * STEP, T0 + 18 * STEP, active=False, pages=1)


def test_one_batch_of_many_samples_leads_to_the_incident_that_single_messages_lead_to(tmp_path: Path):
    values = river(T0, calm(10) + bad(6) + calm(6))
    told = []
    for name in ("one", "many"):
        (tmp_path / name).mkdir()
        world = World(tmp_path / name)
        if name == "many":
            world.feed(values, now=max(values))
        else:
            world.take(message("shiwan", values))
        told.append((world.told(), world.readings()))
        world.database.close()
    assert told[0] == told[1]


def test_a_spike_over_the_limit_for_one_sample_opens_nothing(world: World):
    for height in (6.0, 2.6):
        world.feed(river(max((at for _, at in world.readings()), default=T0) + STEP, [*calm(10), height, *calm(10)]))
    assert world.incidents() == []


def test_a_spike_is_no_part_of_a_crossing_that_follows_it(world: World, no_series_is_new: None):
    world.feed(river(T0, [*calm(10, 1.9), 2.9, 2.05, 2.06]))
    assert world.flags()["nh3n", T0 + 10 * STEP] == Flag.SUSPECT
    assert world.incidents() == [], "two good readings over the limit are not three"


DEAD: dict[str, tuple[str, list[float], dict[str, str]]] = {
    "stuck at -9999": ("ph", [-9999.0] * 120, {}),
    "device says fault": ("ph", [3.0] * 120, {"ph": "D"}),
    "fallen to zero": ("ph", [0.0] * 60, {}),  # longer than six hours may be the water, decided in sensors.quality
    "stuck in a beyond value": ("nh3n", [310.0] * 120, {}),
    "silent": ("ph", [], {}),
}


@pytest.mark.parametrize("restart", [False, True], ids=["running on", "restarted often"])
@pytest.mark.parametrize("case", DEAD)
def test_a_dead_sensor_opens_no_pollution_incident(world: World, case: str, restart: bool):
    parameter, values, status = DEAD[case]
    level = 7.0 if parameter == "ph" else 1.0
    world.feed(river(T0, calm(20, level), parameter))
    start = T0 + 20 * STEP
    for i, (at, measured) in enumerate(river(start, values, parameter).items()):
        if restart and i % 10 == 9:
            world.start()
        world.take(message("shiwan", {at: measured}, status={at: status}))
    world.tick(start + 120 * STEP)
    assert {flag for (_, at), flag in world.flags().items() if at >= start} <= {Flag.BAD}
    assert [i.kind for i in world.incidents() if i.kind != "no_data"] == []


@pytest.mark.parametrize("restart", [False, True], ids=["running on", "restarted often"])
@pytest.mark.parametrize("case", ["stuck at -9999", "device says fault", "fallen to zero", "silent"])
def test_a_dead_sensor_resolves_no_pollution_incident(world: World, case: str, restart: bool):
    parameter, values, status = DEAD[case]
    if case == "device says fault":
        values = [7.0] * 120
    world.feed(river(T0, [*calm(10, 7.0), 6.4, *calm(8, 5.6)], "ph"))
    start = T0 + 19 * STEP
    for i, (at, measured) in enumerate(river(start, values, parameter).items()):
        if restart and i % 10 == 9:
            world.start()
        world.take(message("shiwan", {at: measured}, status={at: status}))
    world.tick(start + 120 * STEP)
    (incident,) = [i for i in world.incidents() if i.kind != "no_data"]
    assert [(c.rule, c.resolved_at_ms) for c in incident.active] == [("ph-acid", None)]
    world.feed(river(start + 130 * STEP, calm(6, 7.0), "ph"))
    (incident,) = [i for i in world.incidents() if i.kind != "no_data"]
    assert incident.active == (), "living water does"
    assert world.pages(incident.id) == 1


@BOTH
def test_a_silent_station_opens_one_incident_and_speaking_again_resolves_it_also_after_a_restart(world: World):
    world.feed(river(T0, calm(3)))
    world.feed(river(T0, calm(30)), station="qicha")
    for minutes in (24, 26, 27):
        world.tick(T0 + 2 * STEP + minutes * MINUTE)
        world.start()
    (incident,) = world.incidents()
    assert (incident.kind, incident.station, bool(incident.active)) == ("no_data", "shiwan", True)
    world.feed(river(T0 + 30 * STEP, calm(1)))
    world.tick(T0 + 30 * STEP + 2000)
    (incident,) = world.incidents()
    assert incident.active == ()


@pytest.mark.parametrize("restarted", [False, True], ids=["the same process", "after a restart"])
def test_while_most_stations_that_send_seem_hours_old_none_is_called_silent_and_one_that_stops_is_once_it_is_over(
    world: World, restarted: bool
):
    """The site's clock is six hours ahead: it says so of what it receives."""
    stations, ahead = ("shiwan", "qicha", "third"), 6 * HOUR
    with world.database.write() as connection:
        registry_store.save_stations(connection, [Station("third", "示例", "example", 113.1, 23.0)])
    world.site.follow_registry()
    for station in stations:
        world.feed(river(T0, calm(3)), station=station)
    if restarted:
        world.start()
    for i in range(3, 12):
        at = T0 + i * STEP
        for station in stations:
            world.take(message(station, river(at, calm(1)), received=at + ahead), now=at + ahead)
        world.tick(at + ahead + 1000)
    assert world.incidents() == []
    for i in range(12, 20):
        at = T0 + i * STEP
        for station in stations[1:]:
            world.take(message(station, river(at, calm(1)), received=at), now=at)
        world.tick(at + 1000)
    assert [one.station for one in world.incidents()] == ["shiwan"]


def test_the_open_alarms_of_a_station_end_when_it_is_taken_out_of_service(world: World):
    world.feed(river(T0, calm(3)))
    silent_at = T0 + 2 * STEP + 26 * MINUTE
    world.tick(silent_at)
    with world.database.write() as connection:
        maintenance_store.retire(connection, "shiwan", silent_at, "示例", Author("test", silent_at + 1))
    world.site.refresh()
    for minutes in (1, 60):
        world.tick(silent_at + minutes * MINUTE)
    (incident,) = world.incidents()
    assert incident.active == ()


# -- late data -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["one message", "message by message"])
def test_a_day_of_late_data_with_a_crossing_inside_is_one_retrospective_incident_that_pages_nobody(
    world: World, how: str
):
    before, after = (100, 168) if how == "one message" or LONG else (20, 20)
    day = river(T0, calm(before) + bad(20) + calm(after))
    newer = river(T0 + 289 * STEP, calm(20, 1.3))
    world.feed(newer)
    latest = world.latest()
    if how == "one message":
        world.take(message("shiwan", day, received=T0 + 310 * STEP))
    else:
        world.feed(day, now=T0 + 310 * STEP)
    (incident,) = world.told()
    assert (incident.retrospective, incident.since, incident.active, incident.pages) == (
        True,
        T0 + before * STEP,
        False,
        0,
    )
    assert world.latest() == latest
    assert len(world.readings()) == len(day) + len(newer)
    assert set(world.flags().values()) == {Flag.GOOD}


def test_a_day_of_old_data_as_the_first_ever_is_one_retrospective_incident_that_pages_nobody(world: World):
    day = river(T0, calm(100) + bad(20) + calm(168))
    world.take(message("shiwan", day, received=T0 + 3 * DAY))
    (incident,) = world.told()
    assert incident == IncidentSummary(True, T0 + 100 * STEP, T0 + 122 * STEP, active=False, pages=0)
    assert world.latest()[0] == max(day)


@BOTH
def test_a_late_crossing_that_was_told_is_not_told_again_by_a_redelivery_or_a_restart(world: World):
    world.feed(river(T0 + 60 * STEP, calm(20)))
    late = message("shiwan", river(T0, calm(10) + bad(10) + calm(20)), received=T0 + 90 * STEP)
    world.take(late)
    before = world.everything()
    for _ in range(3):
        world.take(late)
        world.start()
    after = world.everything()
    for name in ("incident", "incident_entry", "incident_condition", "outbox", "alarm", "reading shiwan"):
        assert after[name] == before[name], name


def test_a_live_incident_is_left_alone_by_late_data_about_an_earlier_crossing(world: World):
    world.feed(river(T0 + 100 * STEP, calm(10) + bad(6)))
    (live,) = world.incidents()
    world.take(message("shiwan", river(T0, calm(20) + bad(10) + calm(60)), received=T0 + 116 * STEP))
    before, after = world.incidents()
    assert (after.retrospective, after.since_ms, after.active) == (True, T0 + 20 * STEP, ())
    assert before == live, "neither its version nor its conditions changed"
    world.feed(river(T0 + 116 * STEP, calm(8)))
    resolved, other = world.incidents()
    assert resolved.active == ()
    assert other == after
    assert world.pages() == 1


def test_a_live_incident_is_left_alone_when_the_earlier_crossing_arrives_message_by_message(world: World):
    world.feed(river(T0 + 100 * STEP, calm(10) + bad(6)))
    (live,) = world.incidents()
    world.feed(river(T0, calm(20) + bad(10) + calm(60 if LONG else 10)), now=T0 + 117 * STEP)
    before, after = world.incidents()
    assert (after.retrospective, after.since_ms, after.active) == (True, T0 + 20 * STEP, ())
    assert before == live


def test_an_earlier_crossing_is_told_although_the_live_data_begin_with_one(world: World):
    """The device was offline, came back in the middle of a discharge, and then sent what it had kept, in order."""
    world.feed(river(T0 + 100 * STEP, bad(6)))
    (live,) = world.incidents()
    world.feed(river(T0, calm(20) + bad(10) + calm(65 if LONG else 10)), now=T0 + 107 * STEP)
    before, after = world.incidents()
    assert (after.retrospective, after.since_ms, after.active) == (True, T0 + 20 * STEP, ())
    assert before == live


def test_late_data_never_resolve_a_live_incident(world: World):
    """A silent spell hides whether the water was back; the incident is live, only live data may end it."""
    world.feed(river(T0, [*calm(10, 7.0), 6.4, *calm(8, 5.6)], "ph"))
    (live,) = world.incidents()
    assert live.active
    back = T0 + 20 * HOUR
    world.feed(river(back, calm(1, 5.6), "ph"))
    world.take(message("shiwan", river(back - HOUR, [*calm(4, 5.6), 6.4, *calm(5, 7.0)], "ph"), received=back + 1000))
    (after,) = [i for i in world.incidents() if not i.retrospective]
    assert after.active, "the alarm still fires, so the incident must still be active"
    world.feed(river(back + STEP, calm(8, 7.0), "ph"))
    (after,) = [i for i in world.incidents() if not i.retrospective]
    assert after.active == ()


@pytest.mark.parametrize("how", ["one message", "message by message", "backwards"])
def test_a_crossing_that_began_in_late_data_and_still_lasts_pages_exactly_once(world: World, how: str):
    world.feed(river(T0 + 40 * STEP, bad(1)))
    late = river(T0, calm(25) + bad(15))
    if how == "one message":
        world.take(message("shiwan", late, received=T0 + 41 * STEP))
    else:
        items = list(late.items())
        world.feed(dict(items[::-1] if how == "backwards" else items), now=T0 + 41 * STEP - 1)
    # backwards, the first three that show the crossing are minutes old: overtaken, but not too old to act on
    assert [t.pages for t in world.told()] == [1 if how == "backwards" else 0]
    for at, measured in river(T0 + 41 * STEP, bad(10)).items():
        world.feed({at: measured})
        world.start()
    (incident,) = world.told()
    assert (incident.retrospective, incident.active, incident.pages) == (False, True, 1)
    with world.database.read() as connection:
        history = incident_store.history(connection, world.incidents()[0].id)
    assert (
        [entry.what for entry in history] == [EntryKind.FIRED]
        if how == "backwards"
        else [EntryKind.FIRED, EntryKind.PROMOTED]
    )
    world.feed(river(T0 + 51 * STEP, calm(6)))
    (incident,) = world.told()
    assert (incident.active, incident.pages) == (False, 1)


def test_a_crossing_in_old_first_data_that_still_lasts_pages_exactly_once(world: World):
    world.take(message("shiwan", river(T0, calm(25) + bad(15)), received=T0 + 45 * STEP), now=T0 + 45 * STEP)
    assert world.pages() == 0
    world.feed(river(T0 + 46 * STEP, bad(10)))
    (incident,) = world.told()
    assert (incident.retrospective, incident.active, incident.pages) == (False, True, 1)


@pytest.mark.parametrize("letter", ["Z", "T", "D", "M", "S"])
def test_what_a_device_said_of_its_readings_still_holds_when_late_data_join_them(world: World, letter: str):
    over = river(T0 + 10 * STEP, calm(10, 2.5))
    world.feed(river(T0, calm(8)))
    world.take(message("shiwan", over, status={at: {"nh3n": letter} for at in over}))
    before = {at: world.readings()["nh3n", at] for at in list(over)[1:]}
    told = world.told()
    world.take(message("shiwan", {T0 + 9 * STEP: {"nh3n": 1.9}}, received=T0 + 20 * STEP))
    assert {at: world.readings()["nh3n", at] for at in list(over)[1:]} == before
    assert [t.pages for t in world.told()] == [t.pages for t in told]
    if letter in "ZDM":
        assert world.incidents() == [], "what the device itself doubts proves nothing"


@BOTH
def test_a_correction_replaces_a_stored_reading_and_is_judged_anew(world: World, no_series_is_new: None):
    world.feed(river(T0, calm(20, 7.0), "ph"))
    at = T0 + 10 * STEP
    for value, status, flag in (
        (-9999.0, {}, Flag.BAD),
        (7.03, {}, Flag.GOOD),
        (7.03, {"ph": "M"}, Flag.BAD),
        (7.03, {}, Flag.GOOD),
        (9.0, {}, Flag.SUSPECT),
        (7.02, {}, Flag.GOOD),
    ):
        world.take(message("shiwan", {at: {"ph": value}}, status={at: status}, received=T0 + 20 * STEP))
        stored, packed = world.readings()["ph", at]
        assert (stored, packed & 15) == (value, flag)
    assert len(world.readings()) == 20
    assert set(world.flags().values()) == {Flag.GOOD}
    assert world.totals()["duplicate"] == 6


def test_a_dead_sensor_stays_dead_when_one_of_its_zeros_comes_late(world: World):
    world.feed(river(T0, calm(20, 7.0), "ph"))
    zeros = river(T0 + 20 * STEP, [0.0] * 60, "ph")
    late = T0 + 50 * STEP
    world.take(message("shiwan", {at: v for at, v in zeros.items() if at != late}))
    world.take(message("shiwan", {late: zeros[late]}, received=T0 + 81 * STEP))
    assert {flag for (_, at), flag in world.flags().items() if at >= T0 + 20 * STEP} == {Flag.BAD}
    assert world.incidents() == []


def test_a_spike_at_the_edge_of_what_late_data_look_at_stays_a_spike(world: World, no_series_is_new: None):
    around = world.site.history.lookback_ms[CATALOGUE.index["ph"]]
    spike = 50 + around // STEP
    values = calm(spike + 50, 7.0)
    values[spike] = 9.0
    table = river(T0, values, "ph")
    late = T0 + 50 * STEP
    world.take(message("shiwan", {at: v for at, v in table.items() if at != late}))
    before = world.readings()
    assert before["ph", T0 + spike * STEP][1] >> 4 & QualityTest.SPIKE
    world.take(message("shiwan", {late: table[late]}, received=max(table) + 1000))
    assert world.readings() == {**before, ("ph", late): (table[late]["ph"], Flag.GOOD)}


def test_a_batch_is_stored_for_good_even_if_the_look_at_the_past_after_it_fails(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.feed(river(T0 + 20 * STEP, calm(20)))
    late = message("shiwan", river(T0, calm(10) + bad(10)), received=T0 + 41 * STEP)
    load = world.site.history.load

    def away(*_args: Any) -> None:
        raise StorageUnavailable(same("the disk is away"))

    monkeypatch.setattr(world.site.history, "load", away)
    outcome = world.take(late)
    monkeypatch.setattr(world.site.history, "load", load)
    assert int(outcome.stored.sum()) == 20
    assert world.take(late).duplicate.tolist() == [20]
    assert world.totals()["stored"] == 40
    world.feed(river(T0 + 40 * STEP, bad(3)))
    assert [(t.retrospective, t.pages) for t in world.told()] == [(True, 0), (False, 1)]


def restless(rng: random.Random, kind: str) -> list[float]:
    """Sixty values with spikes, steps, fault codes and stuck spells."""
    level = {"ph": 7.0, "nh3n": 1.2, "do": 6.0}[kind]
    odd = (level * 1.6, level * 2, -9999.0, 0.0, level + 0.05)
    values = [round(level + rng.uniform(-0.02, 0.02), 3) for _ in range(60)]
    for _ in range(rng.randrange(8)):
        values[rng.randrange(60)] = rng.choice(odd)
    if rng.random() < 0.4:
        first = rng.randrange(40)
        values[first : first + 20] = [rng.choice((level, 0.0, -9999.0))] * 20
    return values


def unlike_the_whole(
    table: Mapping[int, Values], readings: Mapping[tuple[str, int], tuple[float, int]], *, learn: bool = True
) -> dict[int, Any]:
    """Where the stored verdicts are others than those of the table judged at once: (stored, at once) by sample."""
    whole = {at: packed for (_, at), packed in judged_at_once(readings, learn=learn).items()}
    told = {at: packed for (_, at), (_, packed) in readings.items()}
    assert set(told) == set(table)
    return {i: (told[at], whole[at]) for i, at in enumerate(sorted(table)) if told[at] != whole[at]}


@pytest.mark.parametrize("step", [STEP, 4 * HOUR], ids=["every 5 minutes", "every 4 hours"])
@settings(max_examples=12 if LONG else 4, deadline=None)
@given(seed=st.integers(0, 2**32), kind=st.sampled_from(("ph", "nh3n", "do")), restarts=st.booleans())
def test_live_data_in_any_batches_get_the_flags_of_the_whole_table_judged_at_once(
    step: int, seed: int, kind: str, restarts: bool
):
    rng = random.Random(seed)
    table = river(T0, restless(rng, kind), kind, step)
    ats = list(table)
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        while ats:
            several = [ats.pop(0) for _ in range(min(len(ats), rng.choice((1, 1, 1, 2, 7))))]
            world.take(message("shiwan", {at: table[at] for at in several}))
            if restarts and rng.random() < 0.3:
                world.site.refresh()
        readings = world.readings()
        world.database.close()
    assert unlike_the_whole(table, readings) == {}


@pytest.mark.parametrize("step", [STEP, HOUR, 4 * HOUR], ids=["every 5 minutes", "every hour", "every 4 hours"])
@settings(max_examples=12 if LONG else 3, deadline=None)
@given(seed=st.integers(0, 2**32), kind=st.sampled_from(("ph", "nh3n", "do")), timely_is_bad=st.booleans())
@example(seed=7200, kind="nh3n", timely_is_bad=False)  # every hour: the window of a late reading ends with a fault code
@example(seed=6, kind="ph", timely_is_bad=True)  # every hour: the late ones would teach that standing still is usual
def test_late_data_in_any_order_get_the_flags_of_the_whole_table_judged_at_once(
    step: int, seed: int, kind: str, timely_is_bad: bool
):
    rng = random.Random(seed)
    table = river(T0, restless(rng, kind), kind, step)
    if timely_is_bad:
        table[max(table)] = {kind: -9999.0}
    now = max(table) + 1000
    order = list(table)[:-1]
    rng.shuffle(order)
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        world.take(message("shiwan", {max(table): table[max(table)]}), now=now)
        while order:
            several = [order.pop() for _ in range(min(len(order), rng.choice((1, 1, 1, 5, 20))))]
            world.take(message("shiwan", {at: table[at] for at in several}), now=now)
        readings = world.readings()
        world.database.close()
    # late readings teach nothing: they are judged by the thresholds in force, here those of the kind
    assert unlike_the_whole(table, readings, learn=False) == {}


def test_late_and_live_readings_of_one_series_in_one_message_get_the_flags_of_the_whole_table(world: World):
    table = river(T0, [*calm(9, 7.0), 9.0, 9.01, 7.0], "ph")
    late, last = T0 + 9 * STEP, T0 + 11 * STEP
    world.feed({at: v for at, v in table.items() if at not in (late, last)})
    world.take(message("shiwan", {at: table[at] for at in (late, last)}))
    assert unlike_the_whole(table, world.readings()) == {}


@functools.cache
def two_late_crossings(
    order: Callable[[list[int]], list[int]],
) -> tuple[list[IncidentSummary], dict[tuple[str, int], Any]]:
    """Two crossings, twenty samples apart, arriving one message at a time behind newer quiet water."""
    table = river(T0, calm(20) + bad(12) + calm(20) + bad(12) + calm(20))
    newer = river(T0 + 90 * STEP, calm(10))
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        world.feed(newer)
        world.feed({at: table[at] for at in order(list(table))}, now=max(newer) + 1000)
        told, readings = world.told(), world.readings()
        world.database.close()
    return told, readings


def shuffled(seed: int) -> Callable[[list[int]], list[int]]:
    return lambda ats: random.Random(seed).sample(ats, len(ats))


@pytest.mark.parametrize("seed", [*range(6), 130] if LONG else [1, 130])
def test_late_messages_in_any_order_are_one_retrospective_incident_over_all_their_crossings(seed: int):
    told, readings = two_late_crossings(shuffled(seed))
    _, in_order = two_late_crossings(list)
    assert readings == in_order
    (incident,) = told
    assert (incident.retrospective, incident.active, incident.pages) == (True, False, 0)
    assert T0 + 20 * STEP <= incident.since < T0 + 32 * STEP, "it begins inside the first crossing"
    assert incident.last >= T0 + 64 * STEP, "and reaches beyond the last"


# -- restart and failure ---------------------------------------------------------------------------------------------

LEVELS = {"nh3n": (1.6, 2.4), "ph": (6.3, 5.9), "do": (2.5, 1.8), "water_temp": (24.0, 25.0)}


def scenario(seed: int) -> list[tuple[list[Message], int]]:  # noqa: C901  (one day, in its order)
    """Batches of two stations: crossings, spikes, dead sensors, device flags, duplicates, late and broken messages."""
    rng = random.Random(seed)
    sent: list[Message] = []
    kept: list[tuple[int, Message]] = []
    batches = []
    phase = {(s, p): 0 for s in ("shiwan", "qicha") for p in LEVELS}
    total = {"shiwan": 0, "qicha": 0}
    seq = {"shiwan": 0, "qicha": 0}
    n = rng.randrange(30, 70)
    for k in range(n):
        at = T0 + k * STEP
        batch = []
        for station in ("shiwan", "qicha"):
            values: dict[str, float] = {}
            status = {}
            for p, (well, ill) in LEVELS.items():
                if rng.random() < 0.1:
                    phase[station, p] = rng.choice((0, 0, 1, 2, 3))
                now = phase[station, p]
                level = {0: well, 1: ill, 2: well, 3: 0.0 if p != "water_temp" else -9999.0}[now]
                values[p] = round(level + (rng.uniform(-0.02, 0.02) if now != 3 else 0), 3)
                if rng.random() < 0.03:
                    values[p] = round(well * 1.7, 3)
                if now == 2 and rng.random() < 0.5:
                    status[p] = rng.choice("DMT")
            total[station] += len(values)
            one = message(
                station,
                {at: values},
                seq=seq[station],
                boot=1,
                total=total[station],
                sent_at_ms=at,
                status={at: status},
            )
            seq[station] += 1
            if rng.random() < 0.15:
                kept.append((k + rng.randrange(1, 20), one))
            elif rng.random() < 0.04:
                batch.append(replace(one, payload=one.payload[:-5]))
            elif rng.random() > 0.03:
                batch.append(one)
            if sent and rng.random() < 0.1:
                batch.append(rng.choice(sent))
        batch += [m for due, m in kept if due == k]
        sent += batch
        if batch:
            batches.append((batch, at + 1000))
    rest = [m for due, m in kept if due >= n]
    if rest:
        batches.append((rest, T0 + n * STEP))
    return batches


Process = Callable[[World, list[Message], int], object]


def process(world: World, batch: list[Message], now: int) -> None:
    world.site.process(batch, now)


def run(
    batches: Sequence[tuple[list[Message], int]], process: Process = process, dialect: str = "sqlite"
) -> dict[str, Any]:
    """All that is in the database after these batches."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), dialect=dialect)
        for batch, now in batches:
            process(world, batch, now)
            world.tick(now)
        everything = world.everything()
        stored = sum(world.store.count().values())
        assert stored == sum(account.stored for account in world.accounts())
        assert all(a.readings == a.stored + a.duplicate + a.quarantined for a in world.accounts())
        world.database.close()
    return everything


@functools.cache
def undisturbed(seed: int, most: int | None = None) -> dict[str, Any]:
    """All that is in the database after a scenario, or its first batches, in which nothing restarts or fails."""
    return run(scenario(seed)[:most])


@pytest.mark.parametrize(
    ("seed", "restarts"),
    [
        *((seed, how) for seed in range(2) for how in ("every", "some", "refresh")),
        *((seed, "every") for seed in (44, 47, 62)),
    ]
    if LONG
    else [(62, "every"), (0, "some"), (0, "refresh")],
)
def test_a_restart_at_any_batch_boundary_changes_nothing(seed: int, restarts: str):
    batches = scenario(seed)
    rng = random.Random(seed + 1)

    def restarted(world: World, batch: list[Message], now: int) -> None:
        if restarts == "refresh":
            world.site.refresh()
        elif restarts == "every" or rng.random() < 0.2:
            world.start()
        world.site.process(batch, now)

    assert differences(undisturbed(seed), run(batches, restarted)) == {}


@pytest.mark.postgres
@pytest.mark.parametrize("seed", range(3 if LONG else 1))
def test_after_the_same_messages_and_some_restarts_both_databases_hold_the_same(seed: int):
    batches = scenario(seed)
    rng = random.Random(seed)

    def restarted(world: World, batch: list[Message], now: int) -> None:
        if rng.random() < 0.2:
            world.start()
        world.site.process(batch, now)

    assert differences(undisturbed(seed), run(batches, restarted, "postgresql")) == {}


FAILURES: dict[str, tuple[Any, str]] = {
    "the readings": (SqlReadings, "write"),
    "the new flags": (SqlReadings, "reflag"),
    "the ledger": (ledger.Ledger, "count"),
    "the incidents": (incident_store, "record_findings"),
    "the quarantine": (quarantine, "add"),
    "the alarms": (alarm_store, "save"),
    "a look at the past": (SqlReadings, "window"),
}


@pytest.mark.parametrize(
    ("where", "when", "dialect", "seed"),
    [
        *(
            (where, when, "sqlite", seed)
            for seed, where in enumerate(FAILURES)
            for when in (("before", "after") if LONG else ("before",))
        ),
        *(pytest.param(where, "after", "postgresql", 0, marks=pytest.mark.postgres) for where in FAILURES),
    ],
)
def test_a_failing_transaction_leaves_nothing_half_done_and_the_same_messages_succeed_later(
    where: str, when: str, dialect: str, seed: int
):
    owner, name = FAILURES[where]
    rng = random.Random(seed)
    failures = 0

    def failing(world: World, batch: list[Message], now: int) -> None:
        nonlocal failures
        original = getattr(owner, name)
        before = world.everything()
        skip = rng.choice((0, 0, 1, 2))

        def once(*args: Any, **named: Any) -> Any:
            nonlocal skip
            skip -= 1
            if skip != -1:
                return original(*args, **named)
            if when == "after":
                original(*args, **named)
            raise StorageUnavailable(same("the disk is full"))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, name, once)
            try:
                world.site.process(batch, now)
                return  # the trouble was not met, or came when all was stored already
            except StorageUnavailable:
                failures += 1
        assert differences(before, world.everything()) == {}, "something was half done"
        world.site.process(batch, now)

    batches = scenario(seed)[:15]
    assert differences(undisturbed(seed, 15), run(batches, failing, dialect)) == {}
    assert failures > 0


class Watched:
    """A stage that tells when it runs."""

    def __init__(self, stage: Stage, running: list[str]) -> None:
        self.name, self._stage, self._running = stage.name, stage, running

    def run(self, work: Work) -> None:
        self._running.append(self.name)
        self._stage.run(work)


def test_one_stage_writes_all_that_is_stored_of_a_batch(world: World, monkeypatch: pytest.MonkeyPatch):
    world.feed(river(T0, calm(10)))
    running: list[str] = []
    writing: list[str] = []
    write = world.database.write

    def watched(*args: Any, **named: Any) -> Any:
        writing.append(running[-1])
        return write(*args, **named)

    monkeypatch.setattr(world.database, "write", watched)
    now = T0 + 20 * STEP
    batch = [message("shiwan", river(T0 + 10 * STEP, bad(4))), message("shiwan", river(T0 + STEP, bad(2))), raw(b"x")]
    outcome = pipeline.process(Work(world.site, batch, now), [Watched(stage, running) for stage in PIPELINE])
    assert writing == ["store"]
    assert running == list(outcome.seconds) == [stage.name for stage in PIPELINE]
    assert outcome.findings
    assert outcome.rejected


# -- registry and devices --------------------------------------------------------------------------------------------


@BOTH
def test_a_station_registered_meanwhile_is_followed_and_those_there_go_on(world: World):
    world.feed(river(T0, calm(10) + bad(2)))
    assert not world.site.follow_registry()
    world.register(replace(SHIWAN, key="new"))
    assert world.site.follow_registry()
    assert world.take(message("new", {T0: {"ph": 7.0}})).stored.tolist() == [1]
    world.feed(river(T0 + 12 * STEP, bad(1)))
    assert len(world.incidents()) == 1, "the two readings over the limit before are remembered"
    assert not world.site.follow_registry()


@BOTH
@pytest.mark.parametrize(
    "change", [{"zh": "石弯"}, {"interval_s": 60}, {"gateway": "g1"}, {"lon": 113.08}, {"water": Water.LAKE}]
)
def test_a_changed_station_is_followed(world: World, change: dict[str, Any]):
    world.feed(river(T0, calm(10) + bad(2)))
    changed = Station(**{**{name: getattr(SHIWAN, name) for name in SHIWAN.__slots__}, **change})
    world.register(changed)
    assert world.site.follow_registry()
    assert world.site.history.registry["shiwan"] == changed
    world.feed(river(T0 + 12 * STEP, bad(1)))
    assert len(world.incidents()) == 1
    assert not world.site.follow_registry()


@BOTH
def test_a_new_and_a_corrected_deployment_are_followed(world: World):
    world.take(message("shiwan", {T0: {"nh3n": 0.9}}))
    world.register(SHIWAN, deployments=[Deployment("shiwan", "nh3n", T0 + STEP, "µg/L")])
    assert world.site.follow_registry()
    world.take(message("shiwan", {T0 + STEP: {"nh3n": 910.0}}))
    world.register(SHIWAN, deployments=[Deployment("shiwan", "nh3n", T0 + STEP, "mg/L", 2.0)])
    assert world.site.follow_registry()
    world.take(message("shiwan", {T0 + 2 * STEP: {"nh3n": 0.5}}))
    assert [value for value, _ in world.readings().values()] == pytest.approx([0.9, 0.91, 1.0])


def test_oxygen_in_percent_becomes_milligrams_by_the_temperature_beside_it(world: World):
    world.register(
        SHIWAN,
        QICHA,
        deployments=[
            Deployment("shiwan", "do", T0 + STEP, "%"),
            Deployment("shiwan", "water_temp", T0, "°F"),
            Deployment("shiwan", "do", T0 + 4 * STEP, "mg/L"),
        ],
    )
    world.site.follow_registry()
    world.take(
        message(
            "shiwan",
            {
                T0: {"do": 6.0, "water_temp": 68.0},
                T0 + STEP: {"do": 100.0, "water_temp": 68.0},
                T0 + 2 * STEP: {"do": 100.0, "water_temp": 68.0, "salinity": 10.0},
                T0 + 3 * STEP: {"do": 80.0},
                T0 + 4 * STEP: {"do": 6.5},
            },
        ),
        message("shiwan", {T0 + 3 * STEP: {"water_temp": 68.0}}),  # another message is not beside it
    )
    oxygen = [value for (key, _), (value, _) in world.readings().items() if key == "do"]
    assert oxygen == pytest.approx([6.0, 9.09, 8.57, 6.5], abs=0.005)  # 9.09 and 8.57 mg/L at 20 °C: standard tables
    (held,) = world.held()
    assert (held.reason, held.refused) == ("needs_temperature", ((T0 + 3 * STEP, "do"),))
    assert "water_temp" in held.detail


def test_a_fault_code_of_a_sensor_in_percent_stays_the_code_it_is(world: World):
    world.register(SHIWAN, QICHA, deployments=[Deployment("shiwan", "do", T0, "%")])
    world.site.follow_registry()
    world.take(message("shiwan", {T0: {"do": -9999.0, "water_temp": 20.0}}))
    assert world.readings()["do", T0][0] == -9999.0
    assert world.flags()["do", T0] == Flag.BAD


def said(event: str, received: int, station: str = "shiwan", **more: Any) -> Message:
    return raw(json.dumps({"event": event} | more).encode(), station, received, kind="event")


def test_an_open_door_is_an_incident_of_the_device_until_it_is_closed(world: World):
    outcome = world.site.handle_device_messages([said("door_open", T0), said("door_open", T0 + MINUTE)], T0 + MINUTE)
    assert (outcome.opened, len(outcome.findings)) == (1, 1), "said twice is one"
    (one,) = world.incidents()
    assert (one.kind, one.colour, one.case.source, bool(one.active)) == (
        FindingKind.DEVICE,
        Colour.YELLOW,
        "device",
        True,
    )
    world.start()
    world.site.handle_device_messages([said("power_lost", T0 + 2 * MINUTE)], T0 + 2 * MINUTE)
    assert len(world.incidents()) == 1, "one device is one cause"
    world.site.handle_device_messages(
        [said("door_closed", T0 + 3 * MINUTE), said("power_restored", T0 + 3 * MINUTE)], T0 + 3 * MINUTE
    )
    assert [bool(i.active) for i in world.incidents()] == [False]
    assert world.tick(T0 + 4 * MINUTE) == []


def test_a_clock_hours_ahead_is_an_incident_of_the_device_and_its_readings_wait_in_quarantine(world: World):
    found = []
    for i in range(15):
        now = T0 + i * 5 * MINUTE
        outcome = world.take(message("shiwan", {now + 2 * HOUR: {"ph": 7.1}}, received=now))
        found += outcome.findings
        assert {r.reason for r in outcome.rejected} == {Reason.TIME_IN_FUTURE}
    (one,) = world.incidents()
    assert (one.kind, one.cause, bool(one.active)) == (FindingKind.DEVICE, "device:shiwan", True)
    assert one.title.zh == f"石湾 {say('device.clock_short').zh}"
    (finding,) = found
    assert shows(finding.text.zh, "device.clock_ahead", off="2小时"), "how far it is off is told beside the title"
    world.start()
    later = T0 + 2 * HOUR
    world.take(message("shiwan", {later: {"ph": 7.1}}))
    assert [bool(i.active) for i in world.incidents()] == [False]


def test_a_door_opened_while_somebody_works_there_is_no_incident(world: World):
    with world.database.write() as connection:
        visit = Visit("shiwan", T0 - HOUR, None, (), "示例", "")
        maintenance_store.begin_visit(connection, visit, Author("示例", T0 - HOUR))
    world.start()
    world.site.handle_device_messages([said("door_open", T0), said("leak", T0 + 1)], T0 + 1)
    (one,) = world.incidents()
    assert say("device.leak_short").zh in one.title.zh, (
        "nothing was heard since the start, and the visit is known all the same"
    )


def test_a_door_opened_during_a_visit_that_is_told_of_long_after_it_is_no_incident(world: World):
    with world.database.write() as connection:
        visit = Visit("shiwan", T0 - 2 * HOUR, T0 - HOUR, (), "示例", "")
        maintenance_store.begin_visit(connection, visit, Author("示例", T0 - HOUR))
    world.start()
    world.site.handle_device_messages([said("door_open", T0, at=rfc3339(T0 - 90 * MINUTE))], T0)
    assert world.incidents() == []


def test_what_a_device_says_too_late_informs_and_pages_nobody_and_nonsense_is_only_kept(world: World):
    events = [said("intrusion", T0, at=rfc3339(T0 - DAY)), said("hello", T0), said("leak", T0, at=7)]
    outcome = world.site.handle_device_messages(events, T0)
    past, live = outcome.findings[0], outcome.findings[-1]
    assert (past.retrospective, live.retrospective) == (True, False)
    assert {bool(i.active) for i in world.incidents()} == {False}, "what nothing ends is over once it was told"
    assert world.pages() == 1


@BOTH
def test_what_a_device_says_of_itself_is_kept_beside_its_readings(world: World):
    said = [
        raw(b'{"online": true, "rssi": -71}', kind="status", received=T0),
        raw(b'{"event": "door_open"}', kind="event", received=T0 + 1),
        raw(b"\xff not text", kind="event", received=T0 + 2),
        raw(b'{"online": "yes"}', kind="status", received=T0 + 3),
        raw(b"", kind="status", received=T0 + 3),
        raw(b'{"online": true}', "nobody", kind="status", received=T0 + 4),
        raw(b'{"online": false}', kind="status", received=T0 + 5),
    ]
    outcome = world.site.handle_device_messages(said, T0 + 6)
    assert [(r.message, r.reason) for r in outcome.rejected] == [
        (3, Reason.WRONG_SHAPE),
        (4, Reason.WRONG_SHAPE),
        (5, Reason.UNKNOWN_STATION),
    ]
    with world.database.read() as connection:
        assert registry_store.online(connection)["shiwan"] == (False, T0 + 5)
        events = device_events.listing(connection, "shiwan")
    assert [event["received_at_ms"] for event in events] == [T0 + 2, T0 + 1]
    assert json.loads(events[1]["body"]) == {"event": "door_open"}
    assert len(world.held()) == 3
    assert world.readings() == {}
    assert all(a.messages_missing == 0 and a.readings == 0 for a in world.accounts())


@BOTH
def test_a_status_held_for_a_station_registered_later_is_heard_when_replayed(world: World):
    world.site.handle_device_messages([raw(b'{"online": true}', "new", kind="status", received=T0)], T0)
    (held,) = world.held()
    world.register(replace(SHIWAN, key="new"))
    world.site.follow_registry()
    again = held.message()
    assert again.kind == "status"
    world.site.handle_device_messages([again], T0 + 1)
    assert world.held() == []
    with world.database.read() as connection:
        assert registry_store.online(connection)["new"] == (True, T0)


def told_by_device(station: str, kind: str, payload: bytes, at_ms: int) -> Message:
    return Message(station, payload, at_ms, "mqtt", f"rivers/v1/{station}/{kind}", kind=kind)


@BOTH
def test_an_older_word_of_a_device_does_not_undo_a_newer_one(world: World):
    world.site.handle_device_messages([told_by_device("shiwan", "status", b'{"online": true}', T0 + 10)], T0 + 10)
    world.site.handle_device_messages([told_by_device("shiwan", "status", b'{"online": false}', T0)], T0 + 11)
    with world.database.read() as connection:
        assert registry_store.online(connection)["shiwan"] == (True, T0 + 10)


@BOTH
def test_an_event_that_is_replayed_twice_is_kept_once(world: World):
    world.site.handle_device_messages([told_by_device("later", "event", b'{"event": "door_open"}', T0)], T0)
    (held,) = world.held()
    with world.database.write() as connection:
        registry_store.save_stations(connection, [Station("later", "后来", "later", 113.1, 23.0)])
    world.site.follow_registry()
    for _ in range(2):
        world.site.handle_device_messages([held.message()], T0 + 1)
    with world.database.read() as connection:
        assert len(device_events.listing(connection, "later")) == 1


def test_after_a_start_the_past_of_many_stations_is_read_a_little_at_a_time(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    """Readings must not wait for it, and nobody is called silent, or excused, before all of it is known."""
    monkeypatch.setattr(ticks, "LOADED_PER_TICK", 1)
    for station in ("shiwan", "qicha"):
        world.take(message(station, river(T0, calm(3))))
    world.start()
    late = T0 + 5 * HOUR
    first = world.site.tick(T0, late)
    found = [f for _ in range(len(world.site.history.registry.stations)) for f in world.site.tick(T0, late)]
    assert first == []
    assert {f.cause for f in found} == {"silence:shiwan", "silence:qicha"}


# -- silence across restarts -------------------------------------------------------------------------------------------

SENSORS = """
[[no_data]]
id = "sensor"
sensors = true
intervals = 4
at_least_s = 1200
colour = "blue"

[[no_data]]
id = "silent"
at_least_s = 1200
colour = "blue"
"""


@pytest.mark.parametrize("restart", [False, True])
def test_sensors_of_a_station_that_speaks_again_have_their_turn_also_after_a_restart(tmp_path: Path, restart: bool):
    world = World(tmp_path, text=SENSORS)
    both = {"ph": 7.0, "water_temp": 20.0}
    world.feed({T0 + i * STEP: {k: v + i / 100 for k, v in both.items()} for i in range(5)})
    back = T0 + 40 * STEP
    world.feed({back: {"ph": 7.1}})
    if restart:
        world.start()
    assert [f.rule for f in world.tick(back + MINUTE)] == []
    world.feed({back + i * STEP: {"ph": 7.1 + i / 100} for i in range(1, 6)})
    assert [f.rule for f in world.tick(back + 5 * STEP + MINUTE)] == ["sensor"], "and then it is missing"
    world.database.close()


@pytest.mark.parametrize("restart", [False, True])
def test_a_gateway_that_comes_back_in_part_leaves_its_other_stations_their_turn_also_after_a_restart(
    tmp_path: Path, restart: bool
):
    stations = [replace(SHIWAN, gateway="g1"), replace(QICHA, gateway="g1")]
    world = World(tmp_path, stations=stations, text=SENSORS)
    for name in ("shiwan", "qicha"):
        world.feed(river(T0, calm(3)), name)
    assert [f.station for f in world.tick(T0 + HOUR)] == ["g1"]
    back = T0 + 2 * HOUR
    world.feed(river(back, [1.5]))
    (over,) = world.tick(back + 2000)
    assert (over.station, over.observed_at_ms) == ("g1", back)
    if restart:
        world.start()
    assert world.tick(back + 10 * MINUTE) == [], "the other one has its turn before it"
    world.feed(river(back + STEP, calm(6)))
    assert [f.station for f in world.tick(back + 31 * MINUTE)] == ["qicha"], "and then it is silent by itself"
    world.database.close()
