"""Messages to people, the pure part: when, to whom, in which words; links nobody can guess; who is on call."""

import re
import tomllib
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.incidents.finding import Colour
from governance.incidents.headline import NO_TEXT, Headline, Row, title_parts
from governance.notify import channels, contacts, oncall
from governance.notify.contacts import Channel, Contact, ContactRole, Directory, Place
from governance.notify.links import Links, number_of
from governance.notify.message import CALL_KINDS, Item, NoticeKind, requires_confirmation, urgency_key
from governance.notify.oncall import Shift
from governance.notify.planning import kind_of
from governance.notify.policy import NoticePolicy
from governance.notify.wording import FIRST_LINE_CHARS, KINDS_WITH_DEADLINE, compose, first_line
from infra.errors import ConfigurationError, NotFound
from infra.texts import Text, say
from infra.times import BEIJING, from_ms, to_ms
from tests.says import says

SAMPLE = Path("config/contacts.sample.toml").read_text(encoding="utf-8")
PLAN = Path("config/oncall.sample.toml").read_text(encoding="utf-8")
POLICY = NoticePolicy()
LINK = "https://r.example.cn/a/1z.0123456789ab"
QICHA = Text("奇槎片区", "Qicha area")


def at(text: str) -> int:
    """Beijing time of a day in May."""
    return to_ms(datetime.fromisoformat(f"2026-05-{text}:00+08:00"))


def clock(at_ms: int) -> str:
    return from_ms(at_ms).astimezone(BEIJING).strftime("%d %H:%M")


def item(number: int, colour: Colour = Colour.RED, kind: NoticeKind = NoticeKind.OPENED, **other: object) -> Item:
    text = Text(f"奇槎涌环湖段氨氮{number}.4，连续3次高于2.0", f"Qicha Creek NH3-N {number}.4, 3 readings above 2.0")
    rows = (Row("nh3n", number + 0.4, limit=2.0),)
    headline = Headline(Text("奇槎涌环湖段", "Qicha Creek"), rows=rows, station="s", water="creek")
    values = {"minutes": 10, "place": QICHA, "text": text, "at_ms": number, "headline": headline, "since_ms": 0} | other
    return Item(number, kind, colour, **values)  # type: ignore[arg-type]


# -- when --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("colour", "on_duty", "happened", "told"),
    [
        (Colour.RED, False, "12 02:00", "12 02:00"),
        (Colour.ORANGE, True, "12 02:00", "12 02:00"),
        (Colour.ORANGE, False, "12 02:00", "12 07:30"),
        (Colour.YELLOW, True, "12 22:00", "13 07:30"),
        (Colour.YELLOW, False, "12 21:59", "12 21:59"),
        (Colour.YELLOW, False, "12 07:00", "12 07:00"),
        (Colour.BLUE, True, "12 14:00", "13 08:00"),
        (Colour.BLUE, True, "12 03:00", "12 08:00"),
    ],
)
def test_at_night_red_is_told_at_once_and_what_can_wait_waits_for_the_morning(
    colour: Colour, on_duty: bool, happened: str, told: str
) -> None:
    assert clock(POLICY.due(colour, at(happened), on_duty=on_duty)) == told


def test_a_yellow_message_of_the_night_is_to_be_confirmed_two_hours_after_the_morning_began() -> None:
    due = POLICY.unconfirmed_at(Colour.YELLOW, at("12 23:00"))
    assert due is not None
    assert clock(due) == "13 09:30"
    assert POLICY.unconfirmed_at(Colour.BLUE, at("12 23:00")) is None


@given(st.integers(at("01 00:00"), at("28 00:00")), st.sampled_from(Colour), st.booleans())
def test_nothing_is_told_before_it_happened_or_more_than_a_day_later(at_ms: int, colour: Colour, duty: bool) -> None:
    assert at_ms <= POLICY.due(colour, at_ms, on_duty=duty) <= at_ms + 86_400_000


# -- in which words ----------------------------------------------------------------------------------------------------


def test_the_first_line_carries_colour_place_value_what_to_do_and_the_link() -> None:
    line = first_line([item(8)], "zh", room=None, link=LINK)
    since = "08:00起"
    assert line == f"【红】奇槎涌环湖段 氨氮8.40（劣Ⅴ类，限值2.0），{since}。请10分钟内确认 {LINK}"
    cut = first_line([item(8)], "zh", room=FIRST_LINE_CHARS["zh"], link=LINK)
    assert cut == f"【红】奇槎涌环湖段 氨氮8.40（劣Ⅴ类）。请10分钟内确认 {LINK}", "since when and the limit go first"
    assert "[red] Qicha Creek: ammonia nitrogen 8.40" in first_line([item(8)], "en", room=160, link=LINK)


LONGEST = max(
    (Text(one["zh"], one["en"]) for one in tomllib.loads(Path("config/stations.toml").read_text("utf-8"))["station"]),
    key=lambda one: (len(one.zh), len(one.en)),
)
SHORT = Links("https://hz.cn", b"key")
MATTERS = {
    "a limit": Headline(LONGEST, NO_TEXT, (Row("codmn", 16.41, limit=15.0),), "s", "creek"),
    "an event": Headline(LONGEST, say("event.sewage"), (Row("nh3n", 3.733, 0.7, 22.2),), "s", "creek", 0.95, 16.7, 7.0),
    "a doubtful event": Headline(
        LONGEST, say("headline.doubtful", matter=say("event.oxygen_sag")), (Row("do", 1.22, 5.1),), "s", "creek", 0.5
    ),
    "silence": Headline(LONGEST, say("headline.silent")),
    "a citizen's report": Headline(QICHA, Text("环湖花园桥下有成片漂浮垃圾" * 6, "litter under the bridge " * 9)),
}


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("matter", MATTERS)
@pytest.mark.parametrize("kind", [kind for kind in NoticeKind if kind is not NoticeKind.TEST])
def test_every_message_has_place_matter_value_class_deadline_and_link_within_its_room(
    kind: NoticeKind, matter: str, language: str
) -> None:
    about = MATTERS[matter]
    one = item(12, kind=kind, headline=about, due_ms=at("13 14:30"), step="handle")
    one = replace(one, at_ms=at("12 14:00"), since_ms=at("12 12:05"))
    link = SHORT.make(1234, "duty", 1) if requires_confirmation([one]) else SHORT.page([one])
    parts = title_parts(about, language)
    short, whole = (compose([one], language, short=short, link=link) for short in (True, False))
    first = whole.splitlines()[0]
    assert len(short) <= FIRST_LINE_CHARS[language]
    for line in (short, first):
        assert line.endswith(link)
        assert parts.value in line, "the value is never cut"
        assert parts.place[:4] in line
        assert parts.matter[:4] in line
        assert not re.search(r"[{}]", line)
    for part in (parts.place, parts.matter, parts.value, parts.water_class, parts.limit):
        assert part in first, "where there is room nothing is left out"
    if kind not in (
        NoticeKind.EMERGENCY,
        NoticeKind.ESCALATED,
        NoticeKind.PROMOTED,
        NoticeKind.REOPENED,
    ):  # sent after one that named it
        assert parts.water_class.removesuffix("类") in short
    if kind in KINDS_WITH_DEADLINE:
        for line in (short, first):
            assert "14:30" in line, "by when"
    elif kind in CALL_KINDS:
        assert "10" in short, "minutes to confirm within"


def test_a_digest_names_place_matter_and_value_of_each() -> None:
    held = [item(n, Colour.BLUE, NoticeKind.PAST, headline=about) for n, about in enumerate(MATTERS.values(), 1)]
    first, *rows = compose(held, "zh", short=False, link=LINK).splitlines()
    assert first.startswith("【蓝】")
    assert LINK in first
    for row, about in zip(rows, MATTERS.values(), strict=True):
        assert title_parts(about, "zh").place in row
        assert title_parts(about, "zh").value in row


@given(
    st.lists(
        st.builds(item, st.integers(1, 10**6), st.sampled_from(Colour), st.sampled_from(NoticeKind)),
        min_size=1,
        max_size=9,
    ),
    st.sampled_from(["zh", "en"]),
    st.booleans(),
    st.text("涌氨x ", max_size=200),
)
def test_a_short_message_fits_one_sms_and_never_loses_its_link(
    items: list[Item], language: str, linked: bool, typed: str
) -> None:
    told = [replace(i, headline=None, text=Text(typed, typed)) for i in items]
    line = compose(told, language, short=True, link=LINK if linked else None)
    assert len(line) <= FIRST_LINE_CHARS[language]
    assert "\n" not in line
    if linked and min(told, key=urgency_key).kind in CALL_KINDS:
        assert line.endswith(LINK)


def test_many_incidents_are_one_message_the_most_urgent_first_and_a_count_of_the_rest() -> None:
    items = [item(n, Colour.YELLOW) for n in range(1, 30)] + [item(99, Colour.RED)]
    text = compose(items, "zh", short=False, link=LINK)
    lines = text.splitlines()
    assert lines[0].startswith("【红】奇槎片区30起，最急：奇槎涌环湖段 氨氮99.4")
    assert "99.4" in lines[1]
    assert lines[-1] == say("notice.more", count=20).zh
    assert text.count(LINK) == 1


def test_news_asks_nobody_to_confirm_and_links_to_the_incident() -> None:
    links = Links("https://r.example.cn/", b"key")
    for kind in (
        NoticeKind.RECOVERED,
        NoticeKind.WITHDRAWN,
        NoticeKind.CLOSED,
        NoticeKind.DISPATCHED,
        NoticeKind.OVERDUE,
    ):
        assert not requires_confirmation([item(7, kind=kind)])
    assert requires_confirmation([item(7, kind=NoticeKind.CLOSED), item(8)])
    assert links.page([item(7)]) == "https://r.example.cn/incidents/7"
    assert links.page([item(7), item(8)]) == "https://r.example.cn/worklist"


def event(what: str, **other: object) -> dict[str, object]:
    return {"what": what, "seq": 2, "retrospective": False, "recovered_at": None} | other


@pytest.mark.parametrize(
    ("data", "notify", "kind"),
    [
        (event("fired", seq=1), "page", NoticeKind.OPENED),
        (event("fired", seq=1, retrospective=True), "inform", NoticeKind.PAST),
        (event("fired"), "page", NoticeKind.AGAIN),
        (event("fired"), "inform", None),
        (event("resolved"), "inform", None),
        (event("resolved", recovered_at="2026-05-12T10:00:00Z"), "inform", NoticeKind.RECOVERED),
        (event("split_off", seq=1), "page", NoticeKind.OPENED),
        (event("split_off", seq=1), "inform", None),
        (event("withdrawn"), "inform", NoticeKind.WITHDRAWN),
        (event("false_alarm"), "inform", NoticeKind.CLOSED),
        (event("commented"), "inform", None),
        (event("something new"), "page", None),
    ],
)
def test_repetitions_and_remarks_tell_nobody_what_is_worse_or_over_does(
    data: dict[str, object], notify: str, kind: NoticeKind | None
) -> None:
    assert kind_of(data, notify) is kind


# -- links -------------------------------------------------------------------------------------------------------------


def test_a_link_proves_one_message_to_one_person_until_one_time_and_is_short() -> None:
    links = Links("https://r.example.cn/", b"key")
    token = links.token(71, "duty-1", 1000)
    assert links.make(71, "duty-1", 1000) == f"https://r.example.cn/a/{token}"
    assert len(token) <= 17
    assert number_of(token) == 71
    assert links.proves(token, 71, "duty-1", 1000)
    assert not links.proves(token, 72, "duty-1", 1000)
    assert not links.proves(token, 71, "duty-2", 1000)
    assert not links.proves(token, 71, "duty-1", 2000)
    assert not Links("https://r.example.cn/", b"other").proves(token, 71, "duty-1", 1000)
    assert "key" not in repr(links)


@given(st.text(max_size=40))
def test_no_text_breaks_the_reading_of_a_token(text: str) -> None:
    number = number_of(text)
    assert number is None or 0 < number < 2**31


# -- whom --------------------------------------------------------------------------------------------------------------

PLACE = Place(Text("环湖", "lake"), ("grid-7", "shiwan", "chancheng"), "qichachong", QICHA)


def who(key: str, role: ContactRole, **other: object) -> Contact:
    return Contact(key, key, roles=(role,), channels=(Channel("json://127.0.0.1"),), **other)  # type: ignore[arg-type]


DIRECTORY = Directory(
    (
        who("o1", ContactRole.OFFICE),
        who("o2", ContactRole.OFFICE),
        who("grid", ContactRole.CHIEF, regions=("grid-7",)),
        who("street", ContactRole.CHIEF, regions=("shiwan",)),
        who("district", ContactRole.CHIEF, regions=("chancheng",), least=Colour.ORANGE),
        who("reach", ContactRole.CHIEF, reaches=("qichachong",)),
        who("elsewhere", ContactRole.CHIEF, regions=("nanzhuang",)),
        who("eng", ContactRole.ENGINEER),
    )
)


def test_a_call_begins_with_who_is_on_call_and_the_nearest_chief_and_goes_up_level_by_level() -> None:
    assert DIRECTORY.steps(PLACE, Colour.RED, [["o1"], ["o2"]]) == [
        ("o1", "reach"),
        ("o2", "grid"),
        ("street",),
        ("district",),
    ]
    assert DIRECTORY.steps(PLACE, Colour.RED, [])[0] == ("o1", "o2", "reach"), "nobody on call: all of the office"
    assert DIRECTORY.steps(PLACE, Colour.YELLOW, [["o1"]]) == [("reach",), ("grid",), ("street",)]
    assert DIRECTORY.steps(PLACE, Colour.BLUE, [["o1"]]) == [("eng",)]


def test_who_is_on_call_and_no_contact_any_more_leaves_nobody_uncalled() -> None:
    assert DIRECTORY.steps(PLACE, Colour.RED, [["gone"]])[0] == ("o1", "o2", "reach")


def test_nobody_is_in_two_steps() -> None:
    double = Directory(
        (*DIRECTORY.contacts, who("both", ContactRole.CHIEF, regions=("grid-7", "shiwan"), reaches=("qichachong",)))
    )
    keys = [key for step in double.steps(PLACE, Colour.RED, [["both"]]) for key in step]
    assert len(keys) == len(set(keys))


def test_what_is_known_of_people_adds_to_the_file_and_addresses_stay_the_files() -> None:
    merged = DIRECTORY.with_people(
        [Contact("o1", "李某（示例）", roles=(ContactRole.CHIEF,), regions=("grid-7",)), Contact("x", "x")]
    )
    found = merged.named("o1")
    assert (found.name, found.roles, found.channels) == (
        "李某（示例）",
        (ContactRole.OFFICE, ContactRole.CHIEF),
        DIRECTORY.named("o1").channels,
    )
    assert merged.get("x") is None


def test_the_shipped_contacts_and_plan_can_be_read_and_name_regions_of_the_shipped_registry() -> None:
    found = contacts.read(SAMPLE, lambda file: "")
    channels.check(found)
    regions = {row["code"] for row in tomllib.loads(Path("config/stations.toml").read_text("utf-8"))["region"]}
    assert {code for one in found.contacts for code in one.regions} <= regions
    shifts, _ = oncall.read(PLAN, lambda key: found.get(key) is not None)
    assert shifts


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("wecombot://00000000-example-robot", "no-scheme-SECRET"), says("notices.no_scheme", key="duty-1")),
        (('key = "duty-2"', 'key = "duty-1"'), says("notices.twice", key="duty-1")),
        (('least = "yellow"', 'least = "pink"'), "least"),
        (('roles = ["engineer"]', 'roles = ["king"]'), "roles"),
        (("{ url =", '{ url_file = "x", url ='), "either url or url_file"),
        (("[[contact]]", "[[contact]"), says("file.no_toml")),
    ],
)
def test_a_mistake_in_the_contacts_is_named_and_no_address_shown(change: tuple[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        contacts.read(SAMPLE.replace(*change), lambda file: "")
    assert "SECRET" not in str(caught.value)


def test_a_channel_nobody_knows_is_refused_without_its_address() -> None:
    odd = Directory((Contact("a", "a", channels=(Channel("carrier-pigeon://SECRET"),)),))
    with pytest.raises(
        ConfigurationError, match=says("notices.no_address", key="a", number=1, kind="carrier-pigeon")
    ) as caught:
        channels.check(odd)
    assert "SECRET" not in str(caught.value)
    assert "SECRET" not in repr(odd)


def test_an_unknown_contact_is_named_with_those_there_are() -> None:
    with pytest.raises(
        NotFound,
        match=says(
            "notice.contact_unknown", key="nobody", known="o1, o2, grid, street, district, reach, elsewhere, eng"
        ),
    ):
        DIRECTORY.named("nobody")


# -- on call -----------------------------------------------------------------------------------------------------------


def plan(text: str) -> tuple[list[Shift], list[Text]]:
    return oncall.read(text, lambda key: key in {"a", "b", "c"})


WEEKS = """
[[rotation]]
people = ["a", "b"]
begins = 2026-09-28
until = 2026-10-19
holidays = ["c"]
"""


def test_weeks_go_in_turn_a_holiday_is_stood_in_for_and_a_single_shift_holds_over_both() -> None:
    shifts, notes = plan(
        WEEKS + '[[shift]]\nperson = "b"\nbegins = 2026-10-02T08:30:00+08:00\nuntil = 2026-10-02T20:00:00+08:00\n'
    )
    assert notes == []

    def on(text: str) -> list[list[str]]:
        return oncall.ranks(shifts, to_ms(datetime.fromisoformat(f"2026-{text}+08:00")))

    assert on("09-28T08:29") == []
    assert on("09-28T08:30") == [["a"]]
    assert on("10-01T12:00") == [["c"]], "National Day"
    assert on("10-02T12:00") == [["b"]], "a shift of its own"
    assert on("10-02T21:00") == [["c"]]
    assert on("10-09T12:00") == [["b"]]
    assert on("10-12T12:00") == [["a"]]
    assert on("10-19T08:30") == []


def test_a_second_rotation_is_called_second() -> None:
    shifts, _ = plan(WEEKS + '[[rotation]]\npeople = ["b"]\nbegins = 2026-09-28\nuntil = 2026-10-05\nrank = 2\n')
    assert oncall.ranks(shifts, to_ms(datetime.fromisoformat("2026-09-28T12:00+08:00"))) == [["a"], ["b"]]


def test_a_year_whose_holidays_nobody_knows_is_planned_like_other_days_and_said_so() -> None:
    shifts, notes = plan(WEEKS.replace("2026-09-28", "2080-01-01").replace("2026-10-19", "2080-01-15"))
    assert len(shifts) == 2
    assert "2080" in notes[0].en


def test_the_first_hour_nobody_is_on_call_is_found() -> None:
    shifts, _ = plan(WEEKS)
    begin, end = shifts[0].starts_at_ms, to_ms(datetime.fromisoformat("2026-10-19T08:30+08:00"))
    assert oncall.uncovered(shifts, begin, end) is None
    assert oncall.uncovered(shifts, begin, end + 1) == end
    assert oncall.uncovered(shifts, begin - 1, end) == begin - 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (WEEKS.replace('"b"', '"zoe"'), says("notices.no_contact", strange="zoe")),
        (WEEKS.replace("2026-10-19", "2026-09-28"), "must lie after"),
        (WEEKS.replace("2026-10-19", "2046-09-28"), "three years"),
        (WEEKS + "colour = 1", "colour"),
        ("", says("notices.no_plan")),
        ('[[shift]]\nperson = "a"\nbegins = 2026-10-02T08:30:00\nuntil = 2026-10-03T08:30:00', "begins"),
    ],
)
def test_a_mistake_in_a_plan_is_named(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        plan(text)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20), st.integers(0, 2)), max_size=8), st.integers(0, 70))
def test_the_highest_priority_holds_at_every_instant(rows: list[tuple[int, int, int]], at_ms: int) -> None:
    shifts = [Shift(str(n), begin, begin + length, 1, priority) for n, (begin, length, priority) in enumerate(rows)]
    covering = [s for s in shifts if s.starts_at_ms <= at_ms < s.ends_at_ms]
    found = oncall.ranks(shifts, at_ms)
    assert bool(found) == bool(covering)
    if covering:
        best = max(s.priority for s in covering)
        assert set(found[0]) == {s.person for s in covering if s.priority == best}


def test_a_rotation_covers_every_hour_of_its_time() -> None:
    shifts, _ = plan(WEEKS)
    moment = datetime.fromisoformat("2026-09-28T08:30+08:00")
    for hour in range(21 * 24):
        assert oncall.ranks(shifts, to_ms(moment + timedelta(hours=hour)))
