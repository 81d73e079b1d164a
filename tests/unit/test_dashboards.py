"""The dashboards as written: Grafana's own schema, the rules they keep, and the words Grafana replaces in queries."""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import catalogue as boards
from dashboards import parts
from ingest.storage import schema
from sensors.parameters import catalogue
from sensors.standards import gb3838
from sensors.standards.gb3838 import Direction, Water, WaterClass
from tests.grafana import Window, expand, formatted, interpolate

BOARDS = {board["uid"]: board for board in map(parts.plain, boards.build())}
PANELS = [(uid, panel) for uid, board in BOARDS.items() for panel in board["panels"]]
UIDS = ("rc-overview", "rc-river", "rc-station", "rc-incidents", "rc-quality", "rc-fleet", "rc-platform")
TITLES = ("全域概览", "河流", "站点", "事件", "数据质量", "设备", "平台")
SOURCES = {"${datasource}", "riverchief-postgres", "riverchief-prometheus", "-- Mixed --"}
each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
each_panel = pytest.mark.parametrize(("uid", "panel"), PANELS, ids=lambda v: v if isinstance(v, str) else str(v["id"]))


def test_uids_and_titles_are_the_ones_links_and_documents_know() -> None:
    assert tuple(BOARDS) == UIDS
    for board, title in zip(BOARDS.values(), TITLES, strict=True):
        assert board["title"].startswith(f"{title} · ")


@each_board
def test_the_json_is_what_grafanas_schema_reads_and_writes(board: dict[str, Any]) -> None:
    """The SDK's models are generated from Grafana's schema: what they do not know would be lost on the way through."""
    register_default_plugins()
    read = Dashboard.from_json(json.loads(json.dumps(board)))
    again = json.loads(json.dumps(read, cls=JSONEncoder))
    for one in board.get("annotations", {}).get("list", []):  # the schema leaves these to the data source's plugin
        for member in ("query", "textColumn", "tagsColumn", "timeEndColumn", "titleColumn", "fromAnnotations"):
            del one[member]
    assert again == board


@each_board
def test_every_dashboard_keeps_the_conventions(board: dict[str, Any]) -> None:
    assert board["timezone"] == "Asia/Shanghai"
    assert board["refresh"] == "1m"
    assert board["time"] == {"from": "now-24h", "to": "now"}
    assert board["graphTooltip"] == 1, "one crosshair for all"
    assert parts.TAG in board["tags"]
    assert re.search(r"[\u4e00-\u9fff]", board["description"])
    assert re.search(r"[a-z]{3}", board["description"])
    (others,) = [link for link in board["links"] if link["type"] == "dashboards"]
    assert others["keepTime"]
    assert others["includeVars"]
    assert others["tags"] == [parts.TAG]


@each_board
def test_panels_have_places_of_their_own(board: dict[str, Any]) -> None:
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert place["h"] >= 3
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or apart, (one, other)


@each_board
def test_at_most_twelve_panels_share_a_screen(board: dict[str, Any]) -> None:
    """A screen of 1080 pixels shows about 24 rows of the grid."""
    for top in range(max(panel["gridPos"]["y"] for panel in board["panels"]) + 1):
        seen = [
            p for p in board["panels"] if top <= p["gridPos"]["y"] and p["gridPos"]["y"] + p["gridPos"]["h"] <= top + 24
        ]
        assert len(seen) <= 12, top


@each_panel
def test_every_panel_says_what_it_shows_in_which_unit_and_what_when_there_is_nothing(
    uid: str, panel: Mapping[str, Any]
) -> None:
    assert panel["title"]
    chinese, _, english = panel["description"].partition("\n\n")
    assert re.search(r"[\u4e00-\u9fff]{4}", chinese), uid
    assert re.search(r"[A-Za-z]{3}.*\.$", english), uid
    assert not re.search(r"[\u4e00-\u9fff]", english), "the languages are not mixed"
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"]
    assert defaults["noValue"]
    assert panel["targets"]


@each_panel
def test_every_query_has_a_letter_and_a_source_that_exists(uid: str, panel: Mapping[str, Any]) -> None:
    letters = [target["refId"] for target in panel["targets"]]
    assert len(set(letters)) == len(letters)
    assert {panel["datasource"]["uid"], *(t["datasource"]["uid"] for t in panel["targets"])} <= SOURCES
    if panel["datasource"]["uid"] != "-- Mixed --":
        assert {t["datasource"]["uid"] for t in panel["targets"]} == {panel["datasource"]["uid"]}


@each_board
def test_every_variable_a_query_names_is_one_of_the_dashboard(board: dict[str, Any]) -> None:
    known = {variable["name"] for variable in board["templating"]["list"]}
    built_in = re.compile(r"__\w+|timeFilter|tag_\w+|col|m|measurement")
    asked = json.dumps([board["panels"], board.get("annotations", {})], ensure_ascii=False)
    for found in re.finditer(r"\$\{?(\w+)", asked):
        assert found[1] in known or built_in.fullmatch(found[1]), found[0]
    names = [variable["name"] for variable in board["templating"]["list"]]
    for i, variable in enumerate(board["templating"]["list"]):  # a variable sees only those above it
        if variable["type"] == "query":
            for found in re.finditer(r"\$\{(\w+)", variable["query"]):
                assert found[1] in names[:i], (variable["name"], found[0])


@each_board
def test_a_link_cannot_set_what_nobody_sees(board: dict[str, Any]) -> None:
    """The river page shows all stations of its reach, whichever station the reader came from."""
    for variable in board["templating"]["list"]:
        if variable.get("hide") == 2:
            assert variable["skipUrlSync"] is True, variable["name"]


def colours(node: Any) -> Iterator[str]:
    """Every colour anywhere in a structure."""
    for found in re.finditer(r"#[0-9a-f]{6}", json.dumps(node)):
        yield found[0]


@each_panel
def test_no_panel_mixes_the_colours_of_classes_with_those_of_urgency(uid: str, panel: Mapping[str, Any]) -> None:
    used = set(colours(panel))
    classes = {one.colour for one in WaterClass}
    urgency = {colour for _, colour in parts.URGENCY.values()}
    assert not classes & urgency, "else nobody could tell"
    assert not (used & classes and used & urgency), uid


def test_device_states_and_verdicts_use_neither_language() -> None:
    neutral = {colour for _, colour in parts.FLAGS.values()} | {colour for _, colour in parts.CONNECTION.values()}
    assert not neutral & {one.colour for one in WaterClass}
    assert not neutral & {colour for _, colour in parts.URGENCY.values()}
    for uid in ("rc-fleet", "rc-platform"):
        assert not set(colours(BOARDS[uid])) & {one.colour for one in WaterClass}, uid


def test_what_is_not_there_is_never_a_class() -> None:
    named, absent = (mapping.to_json() for mapping in parts.class_words())
    looks = json.loads(json.dumps(named, cls=JSONEncoder))["options"]
    assert {value: look["text"] for value, look in looks.items()} == {
        "1": "Ⅰ", "2": "Ⅱ", "3": "Ⅲ", "4": "Ⅳ", "5": "Ⅴ", "6": "劣Ⅴ",
    }  # fmt: skip
    nothing = json.loads(json.dumps(absent, cls=JSONEncoder))["options"]
    assert nothing["match"] == "null+nan"
    assert nothing["result"]["text"] == "—"


@pytest.mark.parametrize("water", Water)
@pytest.mark.parametrize("parameter", gb3838.PARAMETERS)
def test_the_bands_of_a_chart_are_the_classes_of_the_standard(parameter: str, water: Water) -> None:
    """A value inside a band is judged to be of the class whose colour the band has."""
    bands = parts.class_bands(parameter, water)
    limits = gb3838.limits(parameter, water)
    if limits is None:
        assert bands == []
        return
    edges = [edge for edge, _ in bands[1:]]
    assert edges == sorted(set(edges))
    assert set(edges) == set(limits)
    below = edges[0] / 2
    inside = [below, *((low + high) / 2 for low, high in pairwise(edges)), edges[-1] * 1.01]
    for value, (_, colour) in zip(inside, bands, strict=True):
        judged = gb3838.judge({parameter: value}, water, items=[parameter]).water_class
        assert judged is not None
        assert judged.colour == colour, (value, judged)


def test_oxygen_is_good_above_and_ph_between() -> None:
    assert parts.class_bands("do", Water.RIVER)[0][1] == WaterClass.WORSE.colour
    assert parts.class_bands("do", Water.RIVER)[-1] == (7.5, WaterClass.I.colour)
    worse, best = WaterClass.WORSE.colour, WaterClass.I.colour
    assert parts.class_bands("ph", Water.LAKE) == [(None, worse), (6.0, best), (9.0, worse)]


@pytest.mark.parametrize("water", Water)
def test_the_axis_of_a_parameter_holds_its_limits(water: Water) -> None:
    for parameter in catalogue().parameters:
        low, high = parts.axis(parameter, water)
        assert low < high
        for limit in gb3838.limits(parameter.key, water) or ():
            assert low <= limit < high, parameter.key


def test_every_parameter_has_its_unit_decimals_and_limits_on_the_repeated_panels() -> None:
    (curves,) = [
        p for p in BOARDS["rc-station"]["panels"] if p.get("repeat") == "parameter" and p["type"] == "timeseries"
    ]
    rules = {o["matcher"]["options"]: o["properties"] for o in curves["fieldConfig"]["overrides"]}
    for parameter in catalogue().parameters:
        shown = {one["id"]: one["value"] for one in rules[f"/^{parameter.key} /"]}
        assert shown == {"unit": parts.unit(parameter), "decimals": parameter.decimals}
    steps = {one["id"]: one["value"] for one in rules["/^tp lake /"]}["thresholds"]["steps"]
    assert [step["value"] for step in steps] == [None, *gb3838.limits("tp", Water.LAKE)]  # type: ignore[misc]
    assert gb3838.direction("do") is Direction.AT_LEAST
    assert not any(
        name.startswith("/^conductivity river") and "thresholds" in json.dumps(rule) for name, rule in rules.items()
    )


def test_the_names_of_fields_are_those_of_the_storage() -> None:
    everything = json.dumps(list(BOARDS.values()), ensure_ascii=False)
    for field in (schema.CLASS, schema.DECIDING, schema.JUDGED, schema.EXPECTED, schema.TARGET):
        assert f'\\"{field}\\"' in everything, field
    assert schema.flag("${parameter:raw}") in everything


def test_the_generated_files_are_what_the_code_makes() -> None:
    folder = Path("dashboards/generated")
    assert {file.name for file in folder.iterdir()} == {f"{uid}.json" for uid in UIDS}
    for board in boards.build():
        assert (folder / f"{board.uid}.json").read_text(encoding="utf-8") == parts.text(board), (
            "riverchief dashboards build"
        )


def test_links_lead_to_dashboards_that_exist_and_keep_the_window() -> None:
    for uid, panel in PANELS:
        for target in re.findall(r'"(/d/[^"]+|\$\{console\}[^"]*)"', json.dumps(panel)):
            assert "from=${__from}&to=${__to}" in target, (uid, target)
            if target.startswith("/d/"):
                found = re.match(r"/d/(rc-\w+)\?var-(\w+)=", target)
                assert found is not None
                assert found[2] in {v["name"] for v in BOARDS[found[1]]["templating"]["list"]}, target


def test_the_console_is_where_the_site_says() -> None:
    for board in boards.build("https://console.example/"):
        text = parts.text(board)
        assert "https://console.example" in text
        assert "127.0.0.1" not in text


# -- the words Grafana replaces ----------------------------------------------------------------------------------------


def test_variables_are_replaced_in_all_spellings_and_unknown_ones_stay() -> None:
    known = {"station": "a-1", "several": ["a-1", "b.2"]}
    assert interpolate("$station ${station} [[station]] [[station:raw]] $tag_reach ${nobody}", known) == (
        "a-1 a-1 a-1 a-1 $tag_reach ${nobody}"
    )
    assert interpolate("${several:raw}", known) == "a-1,b.2"
    assert interpolate("/^${several:regex}$/ /^${station:regex}$/", known) == r"/^(a-1|b\.2)$/ /^a-1$/"
    assert interpolate("${several:sqlstring}", known) == "'a-1','b.2'"
    assert formatted(["o'clock"], "sqlstring") == "'o''clock'"
    assert formatted([], "sqlstring") == ""
    assert formatted(["a.b:1", "c"], None, "prometheus") == r"(a\\.b:1|c)"
    assert formatted(".*", None, "prometheus") == ".*", "what stands for all is not escaped"


def test_macros_of_postgresql_are_expanded_and_others_refused() -> None:
    window = Window(1_790_000_000_000, 1_790_000_600_000)
    assert expand("$__unixEpochTo() - $__unixEpochFrom()", window) == "1790000600 - 1790000000"
    assert expand("$__timeFilter(at)", window) == (
        "at BETWEEN '2026-09-21T14:13:20+00:00' AND '2026-09-21T14:23:20+00:00'"
    )
    assert expand("$__unixEpochFilter(t)", window) == "t >= 1790000000 AND t <= 1790000600"
    with pytest.raises(AssertionError, match="no macro"):
        expand("$__timeBucket(at)", window)


def test_the_interval_is_round_and_never_below_the_panels_minimum() -> None:
    day = Window(0, 86_400_000)
    assert day.interval_s(None) == 120
    assert day.interval_s("10m") == 600
    assert Window(0, 86_400_000 * 730).interval_s("2m") == 86_400
