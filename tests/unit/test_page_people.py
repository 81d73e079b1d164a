"""People, the on-call calendar and messages, from literals."""

from dataclasses import replace
from datetime import date, time

import pytest

from api.pages.models import channel_form, messages, oncall, people
from api.pages.models.channel_form import FieldWrong
from api.pages.models.oncall import Duty, Given
from governance.incidents.finding import Colour
from governance.notify import channels
from governance.notify.contacts import Channel, Contact, ContactRole, Directory, Place
from governance.notify.oncall import ROTATION, SINGLE, Shift, gaps
from governance.notify.policy import NoticePolicy
from governance.notify.preview import preview
from governance.notify.store import StateCounts
from governance.organisation.roles import Actor, Role, administrator
from governance.organisation.terms import Appointment
from governance.people.store import Person
from infra.errors import ConfigurationError
from infra.texts import Text, say
from sensors.network import Level, Region
from sensors.stations import Reach, Registry, Station, Water

DAY, HOUR = 86_400_000, 3_600_000
T = 1_790_000_000_000
ADMINISTRATOR = administrator("管理员（示例）")


def registry() -> Registry:
    return Registry(
        (
            Station("a", "甲", "A", 113.0, 23.0, reach="r", region="s"),
            Station("b", "乙", "B", 113.0, 23.0, reach="q", region="t"),
        ),
        reaches=(Reach("q", "无主涌", "Q", Water.CREEK, ()), Reach("r", "河", "R", Water.CREEK, ())),
        regions=(
            Region("d", "区", "D", Level.DISTRICT),
            Region("t", "乙街", "T", Level.STREET, "d"),
            Region("s", "甲街", "S", Level.STREET, "d"),
        ),
    )


CHIEF = Person(1, "河长（示例）", Role.CHIEF, "", None, T, None)
GRID = Person(2, "网格员（示例）", Role.GRID_WORKER, "s", None, T, None)
OVER = Person(3, "前河长（示例）", Role.CHIEF, "", None, T, None)
TERMS = [
    Appointment(1, CHIEF.name, Role.CHIEF, "s", "r", "", T - DAY, T + DAY),
    Appointment(2, OVER.name, Role.CHIEF, "t", "", "", T - 9 * DAY, T - DAY),
]


def test_people_stand_in_the_region_of_their_term_and_a_reach_without_a_chief_comes_first() -> None:
    found = people.listing([CHIEF, GRID, OVER], TERMS, registry(), T, ADMINISTRATOR)
    assert [(b.code, [p.person.name for p in b.people]) for b in found.branches] == [
        ("s", [CHIEF.name, GRID.name]),
        ("", [OVER.name]),
    ]
    rivers = [(a.key, a.chiefs, a.until_ms) for a in found.reaches]
    assert rivers == [("q", (), None), ("r", (CHIEF.name,), T + DAY)]
    assert (found.tallies.vacant, found.tallies.soon, found.all) == (1, 1, 3)
    bounded = people.listing([CHIEF], TERMS, registry(), T, Actor("示例", Role.CHIEF, frozenset({"s"})))
    assert [a.key for a in bounded.reaches] == ["r"]


def test_a_choice_narrows_the_list_and_a_long_one_is_cut() -> None:
    everybody = [CHIEF, OVER, *(replace(GRID, id=9 + i, name=f"网格员{i:03d}") for i in range(50))]
    reach = {CHIEF.name: "failed", OVER.name: "none"}

    def names(query: dict[str, str]) -> list[str]:
        chosen = people.choice(query)
        found = people.listing(everybody, TERMS, registry(), T, ADMINISTRATOR, chosen, reach)
        return [row.person.name for branch in found.branches for row in branch.people]

    assert names({"term": "soon"}) == [CHIEF.name]
    assert names({"term": "over"}) == [OVER.name]
    assert names({"channel": "unreached"}) == [CHIEF.name, OVER.name]
    assert names({"q": "河", "role": "chief"}) == [CHIEF.name, OVER.name]
    assert names({"q": "无主涌"}) == []
    assert len(names({})) == 30
    assert len(names({"rows": "60"})) == 52


@pytest.mark.parametrize(
    ("kind", "given", "url"),
    [
        ("wecom", {"robot": "693a91f6-7aaa-4bc4-97a0-0ec2sifa5aaa"}, "wecombot://693a91f6-7aaa-4bc4-97a0-0ec2sifa5aaa"),
        (
            "wecom",
            {"robot": "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=693a91f6-7aaa-4bc4"},
            "wecombot://693a91f6-7aaa-4bc4",
        ),
        (
            "feishu",
            {"robot": "https://open.feishu.cn/open-apis/bot/v2/hook/0a1b2c3d-aaaa-bbbb"},
            "feishu://0a1b2c3d-aaaa-bbbb",
        ),
        ("dingtalk", {"robot": "abcdef0123456789", "sign": "SECabc"}, "dingtalk://SECabc@abcdef0123456789"),
        (
            "sms",
            {"number": "13800000001", "gateway": "https://sms.example.cn/send?app=1"},
            "jsons://sms.example.cn/send?-app=1&:to=13800000001",
        ),
        (
            "mail",
            {"to": "a@example.cn", "host": "smtp.example.cn:465", "user": "alarm@example.cn", "password": "p/w:@"},
            "mailtos://alarm%40example.cn:p%2Fw%3A%40@smtp.example.cn:465?from=alarm@example.cn&to=a@example.cn",
        ),
        ("gateway", {"address": "http://127.0.0.1:9/x"}, "json://127.0.0.1:9/x"),
    ],
)
def test_a_form_makes_an_address_that_can_be_used(kind: str, given: dict[str, str], url: str) -> None:
    made = channel_form.channel(kind, given)
    assert made == Channel(url, short=kind == "sms")
    channels.check(Directory((Contact("x", "x", channels=(made,)),)))


def test_the_sender_of_others_is_shared_where_the_form_names_none() -> None:
    known = [
        Channel("wecombot://12345678"),
        Channel("mailtos://u:p@smtp.example.cn?from=u@example.cn&to=a@example.cn"),
        Channel("jsons://sms.example.cn/send?+X-Key=k&:to=13800000001", short=True),
    ]
    mail = channel_form.channel("mail", {"to": "b@example.cn"}, known)
    assert mail.url == "mailtos://u:p@smtp.example.cn?from=u@example.cn&to=b@example.cn"
    sms = channel_form.channel("sms", {"number": "13900000002"}, known)
    assert sms == Channel("jsons://sms.example.cn/send?+X-Key=k&:to=13900000002", short=True)
    assert (mail.ending, sms.ending) == ("e.cn", "0002")
    with pytest.raises(FieldWrong) as wrong:
        channel_form.channel("mail", {"to": "b@example.cn", "user": "u"}, known)
    assert wrong.value.name == "host"


@pytest.mark.parametrize(
    ("kind", "given", "field"),
    [
        ("pigeon", {}, "kind"),
        ("wecom", {"robot": "short"}, "robot"),
        ("sms", {"number": "geheim", "gateway": "https://x.example"}, "number"),
        ("sms", {"number": "13800000001"}, "gateway"),
        ("sms", {"number": "13800000001", "gateway": "ftp://x"}, "gateway"),
        ("mail", {"to": "nobody", "host": "h", "user": "u", "password": "p"}, "to"),
        ("other", {"url": "no address"}, "url"),
        ("gateway", {}, "address"),
    ],
)
def test_what_a_channel_lacks_is_named_by_its_field(kind: str, given: dict[str, str], field: str) -> None:
    with pytest.raises(FieldWrong) as wrong:
        channel_form.channel(kind, given)
    assert wrong.value.name == field
    assert "geheim" not in wrong.value.text.zh


def test_a_short_address_shows_nothing_of_itself() -> None:
    assert Channel("json://abcdefghij").ending == ""
    assert Channel("json://a").ending == ""
    assert Channel("json://sms.example.cn/hook").ending == "hook"


def test_the_calendar_shows_who_takes_over_when_and_marks_a_change_and_a_gap() -> None:
    day = date(2026, 10, 1)
    start = messages.midnight(day)
    shifts = {
        1: Shift("a", start - DAY, start + 8 * HOUR, 1, ROTATION),
        2: Shift("b", start + 8 * HOUR, start + 20 * HOUR, 1, ROTATION),
        3: Shift("c", start + 10 * HOUR, start + 12 * HOUR, 1, SINGLE),
    }
    assert oncall.duties(shifts, day, str.upper) == (
        Duty("", (("A",),), (1,), False),
        Duty("08:00", (("B",),), (2,), False),
        Duty("10:00", (("C",),), (3,), True),
        Duty("12:00", (("B",),), (2,), False),
        Duty("20:00", (), (), False),
    )
    weeks = oncall.calendar(shifts, date(2026, 9, 28), start, str)
    assert [len(week) for week in weeks] == [7] * 4
    assert (weeks[0][0].day, weeks[0][3].sort, weeks[0][2].sort) == (date(2026, 9, 28), "today", "past")
    assert (weeks[0][3].gap, weeks[0][2].gap) == (True, False)
    assert gaps(list(shifts.values()), start, start + DAY) == [(start + 20 * HOUR, start + DAY)]
    assert oncall.until_ms(shifts, "b", start + 9 * HOUR) == start + 20 * HOUR


def test_a_shift_of_a_form_is_in_beijing_time_and_must_end_after_it_begins() -> None:
    morning, evening, later = "2026-10-01T08:30", "2026-10-01T20:30", "2026-10-02T08:30"
    begins = messages.midnight(date(2026, 10, 1)) + 17 * 1_800_000
    assert oncall.shift("a", morning, evening, "") == Shift("a", begins, begins + DAY // 2)
    for wrong in (
        ("", morning, later, "1"),
        ("a", "", "", "1"),
        ("a", later, morning, "1"),
        ("a", morning, later, "0"),
    ):
        with pytest.raises(ConfigurationError):
            oncall.shift(*wrong)


def test_a_pattern_of_weekdays_joins_days_of_one_person_and_leaves_the_others_free() -> None:
    given = Given(
        kind="week", first="2026-10-05", weeks="2", handover="09:00", weekdays=("a", "a", "", "b", "", "", "a")
    )
    made, begin_ms, end_ms = oncall.rotation(given, date(2026, 10, 5))
    with pytest.raises(ConfigurationError):
        oncall.rotation(given, date(2026, 10, 6))
    monday = messages.midnight(date(2026, 10, 5)) + 9 * HOUR
    assert (begin_ms, end_ms) == (monday, monday + 14 * DAY)
    assert [(s.person, (s.starts_at_ms - monday) / DAY, (s.ends_at_ms - monday) / DAY) for s in made] == [
        ("a", 0, 2),
        ("b", 3, 4),
        ("a", 6, 9),
        ("b", 10, 11),
        ("a", 13, 14),
    ]


def test_a_preview_holds_what_can_wait_and_asks_who_is_on_call_at_each_step() -> None:
    way = (Channel("wecombot://12345678"),)
    directory = Directory(
        (
            Contact("day", "日班", roles=(ContactRole.OFFICE,), channels=way),
            Contact("night", "夜班", roles=(ContactRole.OFFICE,), channels=way),
            Contact("chief", "河长", roles=(ContactRole.CHIEF,), reaches=("r",), channels=way),
        )
    )
    place = Place(Text("甲", "A"), ("s",), "r")
    night_ms = messages.midnight(date(2026, 10, 1)) + 2 * HOUR

    def duty(at_ms: int) -> list[list[str]]:
        return [["night" if at_ms < night_ms + 6 * HOUR else "day"]]

    rows = oncall.previews(directory, place, night_ms - 4 * HOUR, duty, NoticePolicy())
    first = {row.colour: [(m.contact.key, (m.at_ms - night_ms) / HOUR) for m in row.night] for row in rows[::-1]}
    assert first[Colour.RED] == [("night", 0), ("chief", 0)]
    assert first[Colour.ORANGE] == [("night", 0), ("chief", 5.5)]
    assert first[Colour.YELLOW] == [("chief", 5.5)]


def test_a_contacts_own_quiet_hours_hold_instead_of_those_of_the_site() -> None:
    policy = NoticePolicy()
    evening = messages.midnight(date(2026, 10, 1)) + 20 * HOUR
    own = (time(19), time(9))
    assert policy.due(Colour.YELLOW, evening, on_duty=False) == evening
    assert policy.due(Colour.YELLOW, evening, on_duty=False, own=own) == evening + 13 * HOUR
    assert policy.due(Colour.RED, evening, on_duty=False, own=own) == evening
    one = Contact("x", "x", roles=(ContactRole.CHIEF,), channels=(Channel("json://x"),), quiet=own)
    place = Place(Text("甲", "A"))
    (told,) = preview(Directory((one,)), place, Colour.YELLOW, evening, duty=lambda _: (), policy=policy)
    assert told.at_ms == evening + 13 * HOUR


@pytest.mark.parametrize(
    ("counts", "refused", "reachable", "sort", "key"),
    [
        (StateCounts(1, 5, 2, 2, T - HOUR, 1), 1, True, "bad", "failed"),
        (StateCounts(1, 5, 2, 0, T - HOUR, 1), 1, True, "bad", "late"),
        (StateCounts(1, 5, 2, 0, T + HOUR, 1), 1, True, "bad", "unconfirmed"),
        (StateCounts(1, 5, 2, 0, T + HOUR, 0), 1, True, "bad", "refused"),
        (StateCounts(1, 5, 2, 0, T + HOUR, 0), 0, True, "good", "waiting"),
        (StateCounts(0, 5, 2, 0, None, 0), 0, True, "good", "good"),
        (StateCounts(0, 0, 0, 0, None, 0), 0, True, "good", "none"),
        (StateCounts(0, 0, 0, 0, None, 0), 0, False, "bad", "nobody"),
    ],
)
def test_the_first_sentence_tells_what_is_stuck(
    counts: StateCounts, refused: int, reachable: bool, sort: str, key: str
) -> None:
    found, text = messages.sentence(counts, refused, reachable, T)
    assert found == sort
    assert text.zh.strip("0123456789") != ""
    wanted = say(
        f"messages_page.verdict_{key}",
        count={"failed": 2, "unconfirmed": 1}.get(key, 1),
        time=Text("1小时", "1 h"),
    )
    assert text.zh == wanted.zh
