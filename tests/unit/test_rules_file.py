"""The rules of config/rules.toml: limits as printed in the standard, faults named before anything runs, versions."""

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from governance.incidents.finding import Colour
from infra.errors import ConfigurationError
from ingest.rules.model import NoData, Rules, Side, Threshold, Trend
from ingest.rules.rule_file import read
from riverchief.files import read_rules
from sensors.parameters import catalogue
from sensors.stations import Station, Water
from tests.says import says

CATALOGUE = catalogue()
SHIPPED = (Path(__file__).parents[2] / "config" / "rules.toml").read_text(encoding="utf-8")

CLASS_V = {  # GB 3838-2002 table 1, class V (domain facts §1.1)
    "do": (Side.BELOW, 2.0),
    "codmn": (Side.ABOVE, 15.0),
    "codcr": (Side.ABOVE, 40.0),
    "bod5": (Side.ABOVE, 10.0),
    "nh3n": (Side.ABOVE, 2.0),
}
TP_CLASS_V = {Water.RIVER: 0.4, Water.CREEK: 0.4, Water.LAKE: 0.2}

ONE = """
[[threshold]]
id = "a"
parameter = "nh3n"
side = "above"
limit = 2.0
clear = 1.8
pending_s = 60
samples = 2
keep_firing_s = 600
colour = "orange"
"""
TREND = """
[[trend]]
id = "t"
parameter = "do"
side = "below"
per_hour = 0.05
window_s = 259200
colour = "yellow"
"""
SILENT = """
[[no_data]]
id = "s"
colour = "blue"
"""


def rules(text: str) -> Rules:
    return read(text, CATALOGUE)


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        rules(text)
    return str(caught.value).splitlines()


def shipped() -> Rules:
    return rules(SHIPPED)


def thresholds() -> dict[str, Threshold]:
    return {r.id: r for r in shipped().thresholds}


# -- the shipped rules -------------------------------------------------------------------------------------------------


def test_the_shipped_rules_are_read() -> None:
    assert len(shipped().thresholds) == 8
    assert [r.id for r in shipped().trends] == ["do-sinking", "nh3n-rising"]
    assert [(r.id, r.intervals, r.at_least_s, r.colour) for r in shipped().no_data] == [
        ("silent", 3.0, 60, Colour.BLUE)
    ]


@pytest.mark.parametrize("rule", shipped().thresholds, ids=lambda r: r.id)
def test_every_limit_that_claims_the_standard_is_the_printed_one(rule: Threshold) -> None:
    if rule.id.startswith("ph-"):
        assert (rule.side, rule.limit) in {(Side.BELOW, 6.0), (Side.ABOVE, 9.0)}
    elif rule.parameter == "tp":
        assert rule.side is Side.ABOVE
        assert rule.where.waters
        assert {TP_CLASS_V[w] for w in rule.where.waters} == {rule.limit}
    elif "double" in rule.id:
        side, limit = CLASS_V[rule.parameter]
        assert (rule.side, rule.limit) == (side, 2 * limit)
    else:
        assert (rule.side, rule.limit) == CLASS_V[rule.parameter]


def test_every_threshold_of_the_shipped_file_claims_the_standard() -> None:
    """A rule whose comment names GB 3838 is checked above; none may hide from that check."""
    for block in SHIPPED.split("[[threshold]]")[1:]:
        row = tomllib.loads("[[threshold]]" + block.split("[[")[0])["threshold"][0]
        comment = block.strip().splitlines()[0]
        assert "GB 3838-2002" in comment or row["parameter"] == "ph", row["id"]


def test_total_phosphorus_has_the_limit_of_its_water() -> None:
    for water, limit in TP_CLASS_V.items():
        here = Station("x", "x", "x", 113.0, 23.0, water=water)
        assert [r.limit for r in shipped().thresholds if r.parameter == "tp" and r.where.matches(here)] == [limit]


def test_a_lake_may_be_alkaline_and_not_acid() -> None:
    lake = Station("x", "x", "x", 113.0, 23.0, water=Water.LAKE)
    assert [r.limit for r in shipped().thresholds if r.parameter == "ph" and r.where.matches(lake)] == [6.0]


def test_calm_lies_on_the_good_side_of_every_limit() -> None:
    for rule in shipped().thresholds:
        assert rule.clear < rule.limit if rule.side is Side.ABOVE else rule.clear > rule.limit


def test_twice_the_limit_is_more_urgent_than_the_limit() -> None:
    assert thresholds()["nh3n-double-class-five"].colour is Colour.RED
    assert thresholds()["nh3n-worse-than-class-five"].colour is Colour.ORANGE


def test_no_rule_fires_on_a_single_reading() -> None:
    assert all(r.samples >= 2 for r in (*shipped().thresholds, *shipped().trends))


def test_the_three_days_of_a_trend_are_worth_what_the_comment_says() -> None:
    sinking, rising = shipped().trends
    assert (sinking.side, rising.side) == (Side.BELOW, Side.ABOVE)
    assert sinking.per_hour * sinking.window_s / 3600 == pytest.approx(3.6)
    assert rising.per_hour * rising.window_s / 3600 == pytest.approx(1.08)


# -- what a file may leave out -----------------------------------------------------------------------------------------


def test_what_is_left_out_has_its_default() -> None:
    bare = rules('[[threshold]]\nid="a"\nparameter="do"\nside="below"\nlimit=2.0\ncolour="red"\n' + TREND + SILENT)
    a, t, s = bare.thresholds[0], bare.trends[0], bare.no_data[0]
    assert (a.clear, a.pending_s, a.samples, a.keep_firing_s) == (2.0, 0, 3, 0)
    assert (t.clear_per_hour, t.bins, t.min_bins, t.samples) == (0.025, 12, 8, 3)
    assert (s.intervals, s.at_least_s) == (3.0, 60)


def test_an_empty_file_has_no_rules() -> None:
    assert rules("") == Rules()


def test_patterns_and_waters_are_read() -> None:
    where = (
        rules(ONE + 'stations = ["qicha-*"]\nreaches = ["dongping"]\nwaters = ["river", "lake"]').thresholds[0].where
    )
    assert (where.stations, where.reaches, where.waters) == (("qicha-*",), ("dongping",), (Water.RIVER, Water.LAKE))


def test_the_rules_look_back_as_far_as_they_need() -> None:
    both = rules(ONE + "flaps = 0\n" + TREND)
    assert both.lookback_s("nh3n") == 1200
    assert rules(ONE).lookback_s("nh3n") == 6 * 3600, "to know whether it keeps coming back"
    assert both.lookback_s("do") == 259_200 + 6 * 21_600
    assert both.lookback_s("ph") == 0


# -- faults ------------------------------------------------------------------------------------------------------------


def test_every_fault_is_listed_at_once() -> None:
    text = (
        ONE.replace('"nh3n"', '"ammonia"')
        + ONE.replace('"a"', '"b"').replace('"above"', '"over"')
        + ONE.replace('"a"', '"c"').replace('"orange"', '"purple"')
        + ONE.replace('"a"', '"d"').replace("limit = 2.0\n", "")
        + ONE.replace('"a"', '"e"').replace("limit", "limt")
        + TREND.replace("0.05", '"steep"')
        + SILENT.replace('id = "s"\n', "")
        + '[[treshold]]\nid = "z"\n'
    )
    told = faults(text)
    assert len(told) == 8
    for part in ("[[treshold]]", "rule a", "rule b", "rule c", "rule d", "rule e", "rule t", "(without id)"):
        assert sum(part in line for line in told) == 1, part
    assert any("'ammonia'" in line for line in told)
    assert any("limit is missing" in line for line in told)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (ONE.replace("clear = 1.8", "clear = 2.1"), says("rule.clear_wrong", clear=2.1, limit=2.0)),
        (ONE.replace("above", "below"), says("rule.clear_wrong", clear=1.8, limit=2.0)),
        (TREND + "min_bins = 13", says("rule.bins_wrong", min_bins=13, bins=12)),
        (TREND + "clear_per_hour = 0.06", says("rule.clear_slope", clear_per_hour=0.06)),
        (TREND + "clear_per_hour = 0.0", says("rule.clear_slope", clear_per_hour=0.0)),
        (TREND.replace("0.05", "-0.05"), says("rule.clear_slope", clear_per_hour=-0.025)),
        (SILENT + "intervals = 1.4", says("rule.intervals_low", intervals=1.4)),
        (ONE + ONE, says("rule.twice_id")),
        (ONE + SILENT.replace('"s"', '"a"'), says("rule.twice_id")),
        (ONE + "per_hour = 1", says("rule.unknown_entry", unknown="per_hour")),
        (ONE.replace("samples = 2", "samples = 0"), says("rule.no_whole", name="samples", value=0, least=1)),
        (ONE.replace("samples = 2", "samples = 2.5"), says("rule.no_whole", name="samples", value=2.5, least=1)),
        (ONE.replace("samples = 2", "samples = true"), says("rule.no_number", name="samples", value=True)),
        (ONE.replace("pending_s = 60", "pending_s = -1"), says("rule.no_whole", name="pending_s", value=-1, least=0)),
        (ONE.replace("limit = 2.0", 'limit = "2"'), says("rule.no_number", name="limit", value="2")),
        (TREND.replace("259200", "59"), says("rule.no_whole", name="window_s", value=59, least=60)),
        (TREND + "bins = 2", says("rule.no_whole", name="bins", value=2, least=3)),
        (SILENT + "at_least_s = 0", says("rule.no_whole", name="at_least_s", value=0, least=1)),
        (ONE + 'waters = ["sea"]', "sea"),
        (ONE + 'stations = "qicha"', says("rule.no_names", name="stations")),
        (ONE + "reaches = [1]", says("rule.no_names", name="reaches")),
        ("[[threshold", says("rule.not_toml", line=1, text="[[threshold", rule="?")),
    ],
)
def test_a_contradiction_is_refused_in_one_sentence(text: str, told: str) -> None:
    lines = faults(text)
    assert len(lines) == 1
    assert re.search(told, lines[0])


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    ("text", "old"),
    [(ONE, "limit = 2.0"), (ONE, "clear = 1.8"), (TREND, "per_hour = 0.05"), (SILENT, 'colour = "blue"')],
)
def test_a_limit_that_is_no_number_is_refused_and_not_a_rule_that_never_fires(text: str, old: str, number: str) -> None:
    name = old.split(" = ", maxsplit=1)[0]
    broken = text.replace(old, f"{old}\nintervals = {number}" if name == "colour" else f"{name} = {number}")
    lines = faults(broken)
    assert len(lines) == 1
    assert number.lstrip("-") in lines[0]


@pytest.mark.parametrize("kind", ["threshold", "trend", "no_data"])
@pytest.mark.parametrize("value", ['{ id = "a" }', '"a"', "5", "[1]"])
def test_a_single_table_where_a_list_belongs_is_a_fault_and_no_crash(kind: str, value: str) -> None:
    told = faults(f"{kind} = {value}")
    assert len(told) == 1
    assert kind in told[0]


@pytest.mark.parametrize("id_", ["5", '""', "true", "[]", f'"{"a" * 65}"'])
def test_an_id_is_a_name(id_: str) -> None:
    told = faults(ONE.replace('id = "a"', f"id = {id_}"))
    assert len(told) == 1
    assert "id" in told[0]


# -- versions ----------------------------------------------------------------------------------------------------------


def version(text: str) -> str:
    found = rules(text)
    return (*found.thresholds, *found.trends, *found.no_data)[0].version


@pytest.mark.parametrize(
    "same",
    [
        ONE,
        "# another comment\n" + ONE,
        ONE.replace("limit = 2.0", "limit = 2.00  # GB 3838"),
        ONE.replace("limit = 2.0", "limit = 2"),
        "\n".join(["[[threshold]]", *reversed(ONE.strip().splitlines()[1:])]),
        ONE + "stations = []",
        ONE + TREND + SILENT,
    ],
)
def test_what_does_not_change_the_rule_does_not_change_its_version(same: str) -> None:
    assert version(same) == version(ONE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"a"', '"b"'),
        ('"nh3n"', '"tp"'),
        ("limit = 2.0", "limit = 2.01"),
        ("clear = 1.8", "clear = 1.7"),
        ("pending_s = 60", "pending_s = 61"),
        ("samples = 2", "samples = 3"),
        ("keep_firing_s = 600", "keep_firing_s = 601"),
        ('"orange"', '"red"'),
        ('colour = "orange"', 'colour = "orange"\nwaters = ["lake"]'),
        ('colour = "orange"', 'colour = "orange"\nstations = ["x"]'),
        ('colour = "orange"', 'colour = "orange"\nreaches = ["x"]'),
    ],
)
def test_every_change_of_a_rule_changes_its_version(old: str, new: str) -> None:
    assert version(ONE.replace(old, new)) != version(ONE)


def test_a_default_written_out_is_the_same_rule() -> None:
    assert version(TREND + "bins = 12\nmin_bins = 8\nsamples = 3\nclear_per_hour = 0.025") == version(TREND)
    assert version(SILENT + "intervals = 3\nat_least_s = 60") == version(SILENT)


def test_every_shipped_rule_has_its_own_version() -> None:
    every: list[Threshold | Trend | NoData] = [*shipped().thresholds, *shipped().trends, *shipped().no_data]
    assert len({r.version for r in every}) == len(every)
    assert all(len(r.version) == 8 for r in every)


def test_the_version_says_nothing_about_itself() -> None:
    one = rules(ONE).thresholds[0]
    assert replace(one, version="") == replace(rules("# x\n" + ONE).thresholds[0], version="")


# -- what editors make of a file ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "line", "sign"),
    [('= "above"', "= “above”", 5, "“"), ("id = ", "id ＝ ", 3, "＝"), ('"nh3n"', '"nh3n"，', 4, "，")],
)
def test_a_full_width_sign_is_named_with_its_line_and_rule_in_both_languages(
    old: str, new: str, line: int, sign: str
) -> None:
    (told,) = faults(ONE.replace(old, new))
    rule_ = {} if line == 3 else {"rule": "a"}  # before its id is read a rule has none
    assert re.search(says("rule.not_toml_wide", line=line, sign=sign, **rule_), told)
    assert new in told


def test_a_line_that_is_no_toml_is_shown_with_its_rule() -> None:
    (told,) = faults(ONE.replace("samples = 2", "samples = two # 两次，"))
    assert "第9行不是 TOML（规则 a）：samples = two" in told


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_files_of_any_editor_that_writes_utf_8_are_read(tmp_path: Path, encoding: str, newline: str) -> None:
    file = tmp_path / "rules.toml"
    file.write_bytes(ONE.replace("\n", newline).encode(encoding))
    assert read_rules(file, CATALOGUE) == rules(ONE)


@pytest.mark.parametrize("encoding", ["gbk", "utf-16"])
def test_a_file_in_another_encoding_is_refused_in_both_languages(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "rules.toml"
    file.write_bytes(("# 规则\n" + ONE).encode(encoding))
    with pytest.raises(ConfigurationError, match=says("file.no_utf8", path=file)):
        read_rules(file, CATALOGUE)
