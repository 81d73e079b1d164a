import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ingest.storage.tables  # noqa: F401  (the tables must be known before they are created)
from api.context import Context
from api.duration import duration
from api.pages.models.overview import Data, Model, build, code_of, data_state, delta
from api.pages.models.series import View, sentence, table
from api.pages.picture import Live
from api.registries import Registries
from governance.incidents.finding import Colour, FindingKind
from governance.incidents.headline import Headline, Row, title
from governance.incidents.model import Action, Condition, Incident, State
from governance.incidents.queries import Counts
from governance.organisation.regions import Place
from infra.database import Database
from infra.texts import Text, say
from infra.times import DAY_MS
from ingest.ledger import Account
from ingest.storage.port import Latest, Series
from ingest.storage.sql import SqlReadings
from sensors.parameters import catalogue
from sensors.reading import Flag, pack
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Reach, Registry, Station, Water
from tests.databases import with_tables
from tests.says import shows

NOW = 1_778_580_000_000
MINUTE = 60_000
NONE_OPEN = Counts(dict.fromkeys(State, 0), dict.fromkeys(Colour, 0), 0)


def station(key: str, gateway: str | None = None) -> Station:
    return Station(key, f"{key}站", f"{key} station", 113.1, 23.0, interval_s=300, gateway=gateway)


REGISTRY = Registry(
    (station("shiwan"), station("lanshi"), station("nandou-1", "gw"), station("nandou-2", "gw")),
    reaches=(Reach("creek", "奇槎涌", "Qicha Creek", Water.CREEK, ()),),
)


def newest(key: str, minutes_ago: float, value: float = 0.8) -> Latest:
    at = NOW - int(minutes_ago * MINUTE)
    return Latest(key, "nh3n", at, value, int(Flag.GOOD), at)


def incident(id_: int, where: str, colour: Colour, **other: object) -> Incident:
    base = Incident(
        id=id_,
        cause=f"{where}/nh3n/{id_}",
        open_cause=f"{where}/nh3n/{id_}",
        state=State.REPORTED,
        colour=colour,
        kind=FindingKind.THRESHOLD,
        retrospective=False,
        station=where,
        parameter="nh3n",
        title=Text("氨氮超标", "ammonia too high"),
        rule="nh3n-high",
        rule_version="1",
        value=8.4,
        limit=2.0,
        observed_at_ms=NOW - MINUTE,
        since_ms=NOW - 2 * MINUTE,
        last_observed_at_ms=NOW - MINUTE,
        opened_at_ms=NOW - MINUTE + id_,
        accepted_at_ms=None,
        accepted_by=None,
        recovered_at_ms=None,
        closed_at_ms=None,
        version=1,
        conditions=(Condition("nh3n-high", where, "nh3n", NOW - 2 * MINUTE, NOW - MINUTE),),
    )
    return replace(base, **other)  # type: ignore[arg-type]


def picture(*found: Incident, latest: tuple[Latest, ...] = (), accounts: tuple[Account, ...] = ()) -> Model:
    return build(REGISTRY, latest, found, NONE_OPEN, accounts, NOW)


def colour(model: Model, key: str) -> Colour | None:
    found = model.station(key)
    assert found is not None
    return found.colour


@pytest.mark.parametrize(
    ("age_ms", "state"),
    [
        (-MINUTE, Data.NORMAL),
        (450_000, Data.NORMAL),
        (450_001, Data.LATE),
        (900_000, Data.LATE),
        (900_001, Data.OFFLINE),
    ],
)
def test_a_station_of_five_minutes_is_late_after_seven_and_a_half_and_offline_after_fifteen(
    age_ms: int, state: Data
) -> None:
    assert data_state(NOW - age_ms, 300, NOW) is state


def test_a_station_that_never_reported_is_neither_late_nor_offline() -> None:
    assert data_state(None, 300, NOW) is Data.NEVER


def test_the_newest_reading_of_any_parameter_and_flag_says_how_fresh_a_station_is() -> None:
    bad_but_new = Latest("shiwan", "do", None, None, int(Flag.BAD), NOW - MINUTE)
    found = picture(latest=(newest("shiwan", 40), bad_but_new)).station("shiwan")
    assert found is not None
    assert (found.state, found.newest_at_ms) == (Data.NORMAL, NOW - MINUTE)


def test_every_code_stands_for_one_state_colour_and_class() -> None:
    every = [(state, colour, one) for state in Data for colour in (None, *Colour) for one in (None, *WaterClass)]
    assert len({code_of(*each) for each in every}) == len(every)


def test_the_worst_of_several_incidents_colours_a_station() -> None:
    model = picture(
        incident(1, "shiwan", Colour.YELLOW), incident(2, "shiwan", Colour.RED), incident(3, "shiwan", Colour.BLUE)
    )
    assert colour(model, "shiwan") is Colour.RED
    assert colour(model, "lanshi") is None


def test_what_late_data_showed_is_listed_and_never_colours_a_station() -> None:
    model = picture(incident(1, "shiwan", Colour.BLUE, retrospective=True))
    assert colour(model, "shiwan") is None
    assert [(row.id, row.retrospective) for row in model.incidents] == [(1, True)]


def test_a_closed_incident_colours_nothing() -> None:
    closed = incident(1, "shiwan", Colour.RED, state=State.CLOSED, open_cause=None, closed_at_ms=NOW)
    assert colour(picture(closed), "shiwan") is None


def test_who_sees_no_incidents_is_shown_the_same_stations_without_them() -> None:
    whole = picture(incident(1, "shiwan", Colour.RED), latest=(newest("shiwan", 1),))
    water = whole.water
    assert (colour(whole, "shiwan"), colour(water, "shiwan"), water.incidents) == (Colour.RED, None, ())
    assert dict(water.by_state) == dict(whole.by_state)
    assert not delta(water, picture(incident(2, "lanshi", Colour.RED), latest=(newest("shiwan", 1),)).water)


def test_a_silent_gateway_colours_all_its_stations() -> None:
    model = picture(incident(1, "gw", Colour.BLUE, kind=FindingKind.NO_DATA, parameter=None, conditions=()))
    assert [colour(model, s) for s in ("nandou-1", "nandou-2", "shiwan")] == [Colour.BLUE, Colour.BLUE, None]
    assert model.incidents[0].name == Text("网关 gw", "Gateway gw")


def test_the_counter_of_blue_counts_what_the_list_shows_in_blue() -> None:
    counts = Counts(dict.fromkeys(State, 0), {**dict.fromkeys(Colour, 0), Colour.RED: 1, Colour.BLUE: 1}, 3)
    model = build(REGISTRY, (), (), counts, (), NOW)
    assert (model.open_by_colour[Colour.RED], model.open_by_colour[Colour.BLUE]) == (1, 4)
    assert model.open_retrospective == 3


def test_a_row_shows_what_is_measured_now_and_a_report_its_place() -> None:
    about = Headline(Text("石湾", "Shiwan"), rows=(Row("nh3n", 8.4, limit=2.0),), station="shiwan")
    now = Latest("shiwan", "nh3n", NOW, 1.2, 1, NOW)
    (row,) = picture(incident(1, "shiwan", Colour.RED, headline=about), latest=(now,)).incidents
    assert row.sentence == title(about, 1.2)
    told = incident(
        2, "", Colour.YELLOW, kind=FindingKind.REPORT, place=Place(reach="creek"), title=Text("有垃圾", "有垃圾")
    )
    (row,) = picture(told).incidents
    assert row.sentence == Text("奇槎涌 有垃圾", "Qicha Creek: 有垃圾")


def test_the_most_urgent_live_incidents_stand_first_above_late_data_and_closed_ones() -> None:
    late = incident(4, "shiwan", Colour.BLUE, retrospective=True)
    closed = incident(5, "lanshi", Colour.RED, state=State.CLOSED, open_cause=None, closed_at_ms=NOW)
    model = picture(late, incident(1, "shiwan", Colour.RED), closed, incident(3, "lanshi", Colour.BLUE))
    assert [row.id for row in model.incidents] == [1, 3, 4, 5], "a newer blue one pushes no red one down"


def test_only_actions_the_lifecycle_accepts_are_offered() -> None:
    verified = incident(1, "shiwan", Colour.RED, state=State.VERIFIED)
    quiet = replace(verified, conditions=(replace(verified.conditions[0], resolved_at_ms=NOW),))
    assert Action.ACCEPT in picture(incident(1, "shiwan", Colour.RED)).incidents[0].actions
    assert Action.CLOSE not in picture(verified).incidents[0].actions
    assert Action.CLOSE in picture(quiet).incidents[0].actions


def test_a_delta_holds_what_changed_and_nothing_else() -> None:
    fresh = (newest("lanshi", 1), newest("shiwan", 1))
    before, after = picture(latest=fresh), picture(incident(1, "shiwan", Colour.RED), latest=fresh)
    change = delta(before, after)
    assert [after.stations[i].key for i in change.indices] == ["shiwan"]
    assert not change.others
    assert not delta(after, after)


def test_a_new_value_alone_is_no_change_of_the_map() -> None:
    before, after = picture(latest=(newest("shiwan", 1),)), picture(latest=(newest("shiwan", 1, value=0.9),))
    assert before != after
    assert not delta(before, after)


def test_a_new_station_makes_the_map_fetch_positions_again() -> None:
    more = REGISTRY.with_stations([station("new")])
    assert delta(picture(), build(more, (), (), NONE_OPEN, (), NOW)).others


def test_two_pictures_that_look_the_same_are_equal_whenever_they_were_taken() -> None:
    later = build(REGISTRY, (newest("shiwan", 1),), (), NONE_OPEN, (), NOW + 1000)
    assert picture(latest=(newest("shiwan", 1),)) == later


def account(**other: int | None) -> Account:
    row: dict[str, int | None] = {"readings": 10, "stored": 9, "duplicate": 1, "quarantined": 0, "missing": 0}
    row |= other
    return Account("shiwan", "2026-05-12", 2, 0, 0, 0, 0, **row)  # type: ignore[arg-type]


def test_the_ledger_of_today_is_open_as_soon_as_one_account_is() -> None:
    assert picture(accounts=(account(), account(missing=3))).book.closed
    assert picture(accounts=(account(), account(missing=3))).book.missing == 3
    unknown = picture(accounts=(account(), account(missing=None))).book
    assert (unknown.closed, unknown.missing, unknown.stored) == (False, None, 18)


@pytest.mark.parametrize(
    ("ms", "zh"),
    [(59_999, "59秒"), (60_000, "1分钟"), (3_599_999, "59分钟"), (3_600_000, "1小时"), (172_800_000, "2天")],
)
def test_ages_are_told_in_one_unit(ms: int, zh: str) -> None:
    assert duration(ms).zh == zh


def series(minutes: list[int], values: list[float], flags: list[Flag]) -> Series:
    at = np.array([NOW - m * MINUTE for m in minutes], np.int64)
    value = np.array(values)
    packed = pack(np.array(flags, np.uint8), np.zeros(len(flags), np.uint32))
    return Series(at, value, value, value, np.ones(len(at), np.int64), packed, None)


def view(found: Series, limit: float | None = None) -> View:
    return View(
        series=found,
        parameter=catalogue()["nh3n"],
        latest=newest("shiwan", 0.5, 0.9),
        interval_s=300,
        start_ms=NOW - DAY_MS,
        end_ms=NOW,
        limit=limit,
        language="zh",
    )


def test_doubtful_values_are_counted_in_the_sentence_and_named_in_the_table() -> None:
    good, bad, doubt = Flag.GOOD, Flag.BAD, Flag.SUSPECT
    found = view(
        series([60, 55, 20, 15, 10, 5], [0.8, 0.81, 0.9, 45.0, 0.85, -5.0], [good, good, good, doubt, good, bad])
    )
    assert shows(sentence(found), "console.left_out", count=2)
    flags = [say(f"console.flag_{flag}").zh for flag in ("bad", "good", "suspect", "good", "good", "good")]
    assert [row["flag"] for row in table(found)] == flags


def test_the_limit_is_a_part_of_the_sentence() -> None:
    found = view(series([10, 5], [0.8, 0.9], [Flag.GOOD, Flag.GOOD]), limit=2.0)
    assert sentence(found).startswith("氨氮 0.900 mg/L")
    assert shows(sentence(found), "console.limit_line", limit="2.000 mg/L")


@pytest.mark.parametrize(("newest_value", "steady"), [(0.81, True), (8.3, False)])
def test_what_has_just_jumped_is_not_called_steady(newest_value: float, steady: bool) -> None:
    minutes = [*range(700, 400, -50), *range(300, 0, -50)]
    values = [0.8] * (len(minutes) - 1) + [newest_value]
    told = sentence(view(series(minutes, values, [Flag.GOOD] * len(minutes))))
    assert shows(told, "console.trend_steady") is steady


def test_a_database_that_fails_leaves_the_last_picture_and_says_since_when(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'river.db'}")
    with_tables(database)
    clock = [NOW]
    context = Context(
        database=database,
        store=SqlReadings(database, catalogue()),
        catalogue=catalogue(),
        source="/riverchief/test",
        clock_ms=lambda: clock[0],
    )
    live = Live(context, Registries(context))
    asyncio.run(live.refresh())
    model = live.model
    with database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE incident RENAME TO incident_elsewhere")
    for clock[0] in (NOW + 1000, NOW + 2000):
        asyncio.run(live.refresh())
    assert live.trouble is not None
    assert (live.trouble.since_ms, live.read_at_ms) == (NOW + 1000, NOW)
    assert live.model is model
    with database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE incident_elsewhere RENAME TO incident")
    asyncio.run(live.refresh())
    assert live.trouble is None
    assert live.read_at_ms == NOW + 2000
    database.close()


def test_a_picture_in_which_nothing_changed_is_renewed_each_minute_for_the_times_that_are_left(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'river.db'}")
    with_tables(database)
    begin = NOW - NOW % 60_000
    clock = [begin]
    store = SqlReadings(database, catalogue())
    context = Context(
        database=database,
        store=store,
        catalogue=catalogue(),
        source="/riverchief/test",
        clock_ms=lambda: clock[0],
    )
    live = Live(context, Registries(context))
    taken = []
    for clock[0] in (begin, begin + 59_000, begin + 60_000):
        asyncio.run(live.refresh())
        assert live.model is not None
        taken.append(live.model.at_ms)
    database.close()
    assert taken == [begin, begin, begin + 60_000]
