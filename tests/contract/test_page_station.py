"""The page of a station and the data of its chart, over the site with a past."""

import asyncio
import re
from dataclasses import replace

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.app import create_app
from api.pages import live
from api.pages import station as station_page
from infra.database import Database
from infra.texts import say
from infra.times import rfc3339
from ingest.pipeline import Site
from ingest.rules import rule_file
from ingest.storage.sql import SqlReadings
from sensors.parameters import catalogue
from sensors.reading import Message
from sensors.wire.telemetry import Sample, Telemetry, encode
from tests import pages_site
from tests.page_browser import browser_of, signed_in
from tests.pages_site import HOUR, MINUTE, STATION, now_ms

GAPPED, SILENT = "fjh-1", "fjh-2"
"""A station with a gap and a fault code; one that never reported and whose message was refused."""


@pytest.fixture(scope="module")
def app(database: Database, tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """The site with its stations as above; whoever has no token is nobody."""
    known, now = catalogue(), now_ms()
    rules = rule_file.read((pages_site.ROOT / "config/rules.toml").read_text(encoding="utf-8"), known)
    site = Site(database, SqlReadings(database, known), rules, known)
    site.process(gapped(now), now)
    site.process([Message(SILENT, b"{", now, topic=f"rivers/v1/{SILENT}/telemetry")], now)
    return create_app(pages_site.context(database, tmp_path_factory.mktemp("photos"), token="a token for tests"))


def gapped(now: int) -> list[Message]:
    """Two hours of readings every 5 minutes, two hours of silence, an hour of readings with a fault code."""
    at = [*range(now - 5 * HOUR, now - 3 * HOUR, 5 * MINUTE), *range(now - HOUR, now, 5 * MINUTE)]
    samples = [Sample(one, {"nh3n": -999.0 if i == len(at) - 4 else 0.6 + 0.01 * (i % 7)}) for i, one in enumerate(at)]
    return [Message(GAPPED, encode(Telemetry(tuple(samples), seq=0, boot=1, sent_at_ms=now)), now)]


@pytest.fixture(scope="module")
def office(app: FastAPI) -> TestClient:
    return signed_in(app, pages_site.OFFICE)


@pytest.fixture(scope="module")
def public(app: FastAPI) -> TestClient:
    return signed_in(app, pages_site.PUBLIC)


def _part(html: str, testid: str) -> str:
    """From the element with a testid on, a piece long enough to look into."""
    assert f'data-testid="{testid}"' in html, testid
    return html.split(f'data-testid="{testid}"', 1)[1][:2500]


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_head_says_place_value_class_and_limit(office: TestClient, language: str) -> None:
    html = office.get(f"/stations/{STATION}?lang={language}").text
    title = _part(html, "station-title").split("</h1>")[0]
    assert "8.40" in title
    assert "2.0" in title
    assert re.search('data-testid="station-tile-nh3n" data-class="6"', html)
    assert str(getattr(say("station.devices"), language)) in html
    assert str(getattr(say("station.devices"), "en" if language == "zh" else "zh")) not in html
    assert "style=" not in html


def test_a_silent_station_says_so_and_its_class_is_greyed(office: TestClient) -> None:
    html = office.get(f"/stations/{SILENT}").text
    assert 'data-state="never"' in html
    assert 'class="station-badge stale"' in html
    assert "<series-chart" not in html
    heard = office.get(f"/stations/{STATION}", headers={"X-Fragments": "waiting"}).text
    assert "station-arrived" in heard


def test_a_silent_station_names_the_next_step_and_its_topic_only_to_who_looks_after_devices(
    app: FastAPI, office: TestClient
) -> None:
    engineer = signed_in(app, pages_site.ENGINEER)
    seen = {who: who.get(f"/stations/{SILENT}").text for who in (engineer, office)}
    assert f"rivers/v1/{SILENT}/telemetry" in _part(seen[engineer], "station-waiting")
    assert "/telemetry" not in seen[office]
    assert say("station.waiting_next").zh in _part(seen[office], "station-waiting")
    for form, testid in (("begin", "station-visits"), ("check", "station-calibrations")):
        assert f'href="/maintenance/{SILENT}?do={form}"' in _part(seen[engineer], testid)
        assert say("station.who_records").zh in _part(seen[office], testid)
    assert 'href="/reported/new"' in _part(seen[office], "station-incidents")
    assert 'href="/reported/new"' not in seen[engineer]


def test_a_new_sensor_is_named_with_the_day_from_which_it_is_compared_with_its_past(
    office: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = _part(office.get(f"/stations/{GAPPED}").text, "station-new")
    assert "氨氮" in shown
    monkeypatch.setattr(station_page, "COLD_START_MS", 2 * HOUR)
    assert 'data-testid="station-new"' not in office.get(f"/stations/{GAPPED}").text
    assert 'data-testid="station-new"' not in office.get(f"/stations/{SILENT}").text


def test_what_was_refused_last_is_told_to_who_keeps_the_accounts(office: TestClient, public: TestClient) -> None:
    assert say("station.waiting_nothing").zh not in _part(office.get(f"/stations/{SILENT}").text, "station-refused")
    assert "station-refused" not in public.get(f"/stations/{SILENT}").text


def test_the_public_sees_the_water_and_neither_incidents_nor_accounts(office: TestClient, public: TestClient) -> None:
    seen, hidden = office.get(f"/stations/{STATION}").text, public.get(f"/stations/{STATION}").text
    for testid in ("station-open", "station-account"):
        assert testid in seen
        assert testid not in hidden
    assert say("page.forbidden").zh in _part(hidden, "station-incidents")
    assert "/incidents/" not in hidden
    assert "station-tile-nh3n" in hidden


def test_deputies_are_shown_to_the_office_and_chiefs_to_everybody(office: TestClient, public: TestClient) -> None:
    ours, theirs = (_part(one.get("/stations/qcc-huanhu-2").text, "station-people") for one in (office, public))
    assert pages_site.CHIEF in ours
    assert pages_site.CHIEF in theirs
    assert "罗助理（示例）" in ours
    assert "罗助理（示例）" not in theirs


def test_what_happened_is_told_with_the_chart_and_incidents_to_who_may_see_them(
    office: TestClient, public: TestClient
) -> None:
    ours, theirs = (one.get(f"/stations/{STATION}/chart?parameter=nh3n").json()["happened"] for one in (office, public))
    assert [(one["kind"], one["colour"]) for one in ours] == [("incident", "red")]
    assert theirs == []


def test_nobody_without_a_token_is_shown_anything(app: FastAPI) -> None:
    stranger = browser_of(app)
    for path in ("", "/chart?parameter=nh3n", "/series.csv?parameter=nh3n"):
        assert stranger.get(f"/stations/{STATION}{path}").status_code in (303, 307, 401)


def test_an_unknown_station_is_not_found(office: TestClient) -> None:
    assert office.get("/stations/nowhere").status_code == 404
    assert office.get("/stations/nowhere/chart?parameter=nh3n").status_code == 404


def test_the_chart_is_sent_the_gap_the_flags_and_the_limits(office: TestClient) -> None:
    (panel,) = office.get(f"/stations/{GAPPED}/chart?parameter=nh3n").json()["panels"]
    columns = panel["columns"]
    gap = [(a, b) for a, b in columns["missing"] if a > columns["at"][0] and b <= columns["at"][-1]]
    ((before, after),) = gap
    assert after - before > 2 * HOUR
    assert columns["at"].index(after) in columns["breaks"]
    assert columns["bad"] == 1
    bad = columns["flag"].index(4)
    assert columns["value"][bad] is None
    assert panel["limits"]["classes"] == [0.15, 0.5, 1.0, 1.5, 2.0]
    assert panel["limits"]["limit"] == panel["limits"]["classes"][panel["limits"]["target"] - 1]


def test_the_table_and_the_chart_show_the_same_readings(office: TestClient) -> None:
    query = f"parameter=nh3n&from={_utc(now_ms() - 7 * HOUR)}&to={_utc(now_ms())}"
    (panel,) = office.get(f"/stations/{STATION}/chart?{query}").json()["panels"]
    html = office.get(f"/stations/{STATION}?view=table&{query}").text
    table = html.split('data-testid="station-table-nh3n"', 1)[1].split("</table>")[0]
    assert table.count("<tr>") == len(panel["columns"]["at"]) + 1
    csv = office.get(f"/stations/{STATION}/series.csv?{query}")
    assert csv.headers["content-type"].startswith("text/csv")
    assert len(csv.text.splitlines()) == len(panel["columns"]["at"]) + 1


def _utc(at_ms: int) -> str:
    return rfc3339(at_ms // 1000 * 1000).replace("+", "%2B")


def test_the_station_upstream_is_moved_by_the_travel_time_of_the_water(office: TestClient) -> None:
    (alone,) = office.get(f"/stations/{STATION}/chart?parameter=nh3n").json()["panels"]
    assert alone["compared"] is None
    (panel,) = office.get(f"/stations/{STATION}/chart?parameter=nh3n&compare=up").json()["panels"]
    other = panel["compared"]
    assert other["shift_ms"] > 0
    (upstream,) = office.get("/stations/qcc-huanhu-2/chart?parameter=nh3n").json()["panels"]
    assert other["columns"]["at"][0] == upstream["columns"]["at"][0] + other["shift_ms"]


@pytest.mark.parametrize("query", ["parameter=nonsense", "parameter=nh3n&from=yesterday"])
def test_what_the_chart_cannot_show_is_refused_in_words(office: TestClient, query: str) -> None:
    answer = office.get(f"/stations/{STATION}/chart?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_a_wrong_span_keeps_what_was_typed_and_says_why_beside_it(office: TestClient) -> None:
    answer = office.get(f"/stations/{STATION}?from=2026-12-02T09:00&to=2026-12-01T09:00")
    assert answer.status_code == 400
    assert say("station.from_after_to").zh in _part(answer.text, "station-wrong")
    assert 'name="from" value="2026-12-02T09:00"' in answer.text


def test_a_fragment_of_the_page_is_what_the_page_shows(office: TestClient) -> None:
    part = office.get(f"/stations/{STATION}", headers={"X-Fragments": "head,tiles,tools,words,incidents"}).text
    assert part.count("data-fragment=") == 5
    assert "station-tile-nh3n" in part
    assert "<html" not in part


def test_a_new_reading_changes_the_mark_of_its_station_only(app: FastAPI) -> None:
    picture: live.LivePicture = app.state.live
    model = asyncio.run(picture.now())
    assert model is not None
    marks = live.Marks(model)
    assert marks.of(f"station-{STATION}") != marks.of(f"station-{GAPPED}")
    assert marks.of("station-nowhere") == ""
    view = model.station(STATION)
    assert view is not None
    assert view.newest_at_ms is not None
    later = replace(view, newest_at_ms=view.newest_at_ms + 1000)
    changed = replace(model, stations=tuple(later if one is view else one for one in model.stations))
    after = live.Marks(changed)
    assert after.of(f"station-{STATION}") != marks.of(f"station-{STATION}")
    assert after.of(f"station-{GAPPED}") == marks.of(f"station-{GAPPED}")


def test_the_kit_shows_the_chart(office: TestClient) -> None:
    assert "<series-chart" in _part(office.get("/kit").text, "kit-chart")
    panels = office.get("/kit/chart").json()["panels"]
    assert [one["limits"] and one["limits"]["direction"] for one in panels] == ["at_most", "at_least", "within", None]
