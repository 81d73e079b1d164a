"""The registry's pages: what is owned and due, forms that refuse with the reason, sensors, logins, files."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.app import create_app
from api.context import Context, Devices
from governance.organisation.regions import Regions
from governance.organisation.roles import Role
from governance.people import store as people_store
from infra import times
from infra.database import Database
from ingest.analysis import live_classes
from ingest.devices import credentials as credentials_store
from ingest.devices.claims import Claims
from ingest.devices.credentials import Credentials, Endpoint
from ingest.storage import changes
from ingest.storage import maintenance as maintenance_store
from ingest.storage import registry as registry_store
from ingest.storage.sql import SqlReadings
from sensors.parameters import catalogue
from sensors.stations import Deployment, Registry, Station
from tests import pages_site
from tests.databases import with_tables
from tests.page_browser import browser_of

STATION = "qcc-huanhu-1"
GOOD = {
    "key": "qcc-new-1",
    "zh": "新站（示例）",
    "lon": "113.148",
    "lat": "23.018",
    "datum": "WGS 84",
    "reach": "",
    "water": "creek",
    "region": "chancheng/shiwan",
    "interval_s": "600",
    "parameters": ["nh3n", "do"],
}


class Users:
    """A broker's users, in memory."""

    def __init__(self) -> None:
        self.passwords: dict[str, str] = {}

    def create_user(self, user: str, password: str, station: str) -> None:
        self.passwords[user] = password

    def delete_user(self, user: str) -> None:
        self.passwords.pop(user, None)

    def has_minimal_rights(self) -> bool:
        return True


class Site:
    """The application over the site with a past, its database and the users of its broker."""

    def __init__(self, folder: Path) -> None:
        self.database = pages_site.seed(folder)
        self.users = Users()
        logins = Credentials(self.database, self.users, pages_site.now_ms)
        endpoint = Endpoint("broker.example", 8883, True, "PEM")
        devices = Devices(logins, Claims(self.database, logins, pages_site.now_ms), endpoint)
        self.app: FastAPI = create_app(replace(pages_site.context(self.database, folder, None), devices=devices))

    def as_(self, name: str = "") -> TestClient:
        """A browser of this person; of nobody by name, who may do everything on an open site."""
        return browser_of(self.app, name)

    def registry(self) -> Registry:
        with self.database.read() as connection:
            return registry_store.load(connection, catalogue())

    def hanging(self, station: str, parameter: str) -> list[Deployment]:
        return [d for d in self.registry().deployments if (d.station, d.parameter) == (station, parameter)]

    def changes(self, key: str) -> int:
        with self.database.read() as connection:
            return len(changes.listing(connection, key=key))

    def logins(self, key: str) -> list[str]:
        with self.database.read() as connection:
            return [c.user for c in credentials_store.listing(connection, key) if c.revoked_at_ms is None]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("registry"))
    yield made
    made.database.close()


def rows(page: str) -> list[str]:
    return re.findall(r'data-testid="registry-row" data-station="([^"]+)"', page)


def filled(page: str, testid: str = "registry-form") -> dict[str, str]:
    """The fields of a form as a browser would send them again, without check boxes."""
    form = page[page.index(f'data-testid="{testid}"') :].split("</form>", maxsplit=1)[0]
    given = dict(re.findall(r'<input (?:type="hidden" )?name="(\w+)" value="([^"]*)"', form))
    for name, options in re.findall(r'<select name="(\w+)".*?>(.*?)</select>', form, re.DOTALL):
        chosen = re.findall(r'<option value="([^"]*)" selected', options)
        given[name] = chosen[-1] if chosen else ""
    return given


def checked(page: str) -> list[str]:
    return re.findall(r'name="parameters" value="(\w+)" checked', page)


# -- the table ---------------------------------------------------------------------------------------------------------


def test_the_table_is_what_the_address_says(site: Site) -> None:
    browser = site.as_()
    every = rows(browser.get("/registry").text)
    assert len(every) == len(site.registry().stations)
    on_river = rows(browser.get(f"/registry?river={pages_site.RIVER}").text)
    assert set(on_river) == {s.key for s in site.registry().stations if s.reach == pages_site.RIVER}
    assert rows(browser.get("/registry?q=EX-S5-0003").text) == ["fsc-1"]
    assert rows(browser.get("/registry?q=奇槎涌 环湖 上游").text) == ["qcc-huanhu-1"]
    below = rows(browser.get("/registry?region=chancheng").text)
    assert set(below) == {s.key for s in site.registry().stations if s.region.startswith("chancheng")}
    overdue = browser.get("/registry?due=overdue").text
    assert rows(overdue)
    assert overdue.count('data-due="overdue"') == len(rows(overdue))
    assert 'data-testid="state-empty"' in browser.get("/registry?q=nowhere-at-all").text


def test_the_map_has_the_stations_of_the_table(site: Site) -> None:
    for query in ("", "&q=奇槎涌", "&due=overdue"):
        drawn = re.findall(r'data-station="([^"]+)"><title>', site.as_().get(f"/registry?view=map{query}").text)
        assert sorted(drawn) == sorted(rows(site.as_().get(f"/registry?{query}").text))


def test_a_page_beyond_the_last_is_the_last_and_a_bad_number_is_the_first(site: Site) -> None:
    for page in ("99", "x", "-1", "9" * 30):
        assert rows(site.as_().get(f"/registry?page={page}").text)


def test_the_pages_are_in_one_language(site: Site) -> None:
    for path in ("/registry", f"/registry/stations/{STATION}", "/registry/stations/new", "/registry/import"):
        english = site.as_().get(path, params={"lang": "en"})
        assert english.status_code == 200
        assert 'lang="en"' in english.text
        assert "站点登记" not in english.text


def test_labels_are_printed_of_the_stations_that_are_shown(site: Site) -> None:
    sheet = site.as_().get("/registry/labels.pdf", params={"station": STATION})
    assert sheet.status_code == 200
    assert sheet.content.startswith(b"%PDF")
    assert len(site.as_().get("/registry/labels.pdf").content) > len(sheet.content)


def test_the_signs_of_all_rivers_or_of_one_are_a_sheet_to_print(site: Site) -> None:
    one = site.as_().get("/registry/signs.pdf", params={"reach": pages_site.RIVER})
    assert one.content.startswith(b"%PDF")
    assert len(site.as_().get("/registry/signs.pdf").content) > len(one.content)


def test_a_site_without_stations_shows_three_ways_in(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    with_tables(database)
    known = catalogue()
    context = Context(database, SqlReadings(database, known), known, "/t", pages_site.now_ms, open=True)
    page = TestClient(create_app(context), headers={"Accept": "text/html"}).get("/registry").text
    for way in ("new", "file"):
        assert f'data-testid="registry-way-{way}"' in page
    database.close()


# -- who may -----------------------------------------------------------------------------------------------------------


def test_who_only_sees_the_water_changes_nothing_and_sees_neither_logins_nor_history(site: Site) -> None:
    browser = site.as_(pages_site.PUBLIC)
    page = browser.get(f"/registry/stations/{STATION}").text
    assert 'data-testid="registry-facts"' in page
    for hidden in ("form", "swap", "issue", "history"):
        assert f'data-testid="registry-{hidden}"' not in page
    before = site.changes(STATION)
    for do in ("save", "hang", "end", "issue", "revoke", "", "x"):
        assert browser.post(f"/registry/stations/{STATION}", data={"do": do, **GOOD}).status_code == 403
    assert browser.get("/registry/stations/new").status_code == 403
    assert browser.post("/registry/stations/new", data=GOOD).status_code == 403
    assert browser.get("/registry/import").status_code == 403
    assert browser.get("/registry/export.toml").status_code == 403
    assert site.changes(STATION) == before
    assert "qcc-new-1" not in site.registry()
    assert 'data-testid="registry-history"' in site.as_(pages_site.AUDITOR).get(f"/registry/stations/{STATION}").text


def test_who_is_bound_to_a_region_changes_only_what_lies_in_it(site: Site) -> None:
    name, region = "南庄审核（示例）", "chancheng/nanzhuang"
    registry = site.registry()
    with site.database.write() as connection:
        regions = Regions(registry.regions, registry.stations)
        at_ms = pages_site.now_ms()
        people_store.add(connection, name, Role.REVIEWER, region=region, by="test", now_ms=at_ms, regions=regions)
    browser = site.as_(name)
    elsewhere = browser.get(f"/registry/stations/{STATION}").text
    assert 'data-testid="registry-elsewhere"' in elsewhere
    assert 'data-testid="registry-form"' not in elsewhere
    for do in ("save", "hang", "issue"):
        data = GOOD | {"do": do, "parameter": "do", "since": pages_site.from_now(0), "newest": ""}
        assert browser.post(f"/registry/stations/{STATION}", data=data).status_code == 403
    assert site.logins(STATION) == []
    assert browser.post("/registry/stations/new", data=GOOD).status_code == 403
    table = TABLE.replace("imp-1", "imp-9")
    assert browser.post("/registry/import", data={"kind": "station"}, files=_file(table)).status_code == 403
    whole = '[[region]]\ncode = "x"\nzh = "x"\nlevel = "district"\n'
    assert browser.post("/registry/import", files=_file(whole, "x.toml")).status_code == 403
    here = browser.get("/registry/stations/dph-shiwan-1").text
    data = filled(here) | {"do": "save", "parameters": checked(here), "note": "本辖区"}
    assert browser.post("/registry/stations/dph-shiwan-1", data=data).status_code == 303
    page = browser.get("/registry/stations/dph-shiwan-1").text
    away = filled(page) | {"do": "save", "parameters": checked(page), "region": "chancheng/zumiao"}
    assert browser.post("/registry/stations/dph-shiwan-1", data=away).status_code == 403
    assert site.registry()["dph-shiwan-1"].region == region


# -- stations ----------------------------------------------------------------------------------------------------------


def test_what_is_wrong_is_said_at_its_field_and_the_input_stays(site: Site) -> None:
    bad = GOOD | {"key": "Not A Key", "lon": "abc", "interval_s": "0", "zh": "", "region": "nowhere"}
    answer = site.as_().post("/registry/stations/new", data=bad)
    assert answer.status_code == 422
    for name in ("key", "lon", "interval_s", "zh", "region"):
        assert f'data-testid="registry-wrong-{name}"' in answer.text
    again = filled(answer.text)
    assert (again["key"], again["lon"], again["interval_s"]) == ("Not A Key", "abc", "0")
    assert checked(answer.text) == ["do", "nh3n"]
    taken = site.as_().post("/registry/stations/new", data=GOOD | {"key": STATION})
    assert 'data-testid="registry-wrong-key"' in taken.text


def test_a_station_off_its_river_is_asked_about_before_it_is_registered(site: Site) -> None:
    off = GOOD | {"key": "qcc-off-1", "reach": pages_site.RIVER, "lon": "113.20", "lat": "23.10"}
    asked = site.as_().post("/registry/stations/new", data=off)
    assert asked.status_code == 422
    assert 'data-testid="registry-off"' in asked.text
    assert "qcc-off-1" not in site.registry()
    kept = site.as_().post("/registry/stations/new", data=off | {"keep_place": "1"})
    assert kept.status_code == 303
    assert site.registry()["qcc-off-1"].lon == 113.20
    page = site.as_().get("/registry/stations/qcc-off-1").text
    assert 'data-check="place" data-done="0"' in page
    assert 'data-check="reading" data-done="0"' in page


def test_a_new_station_sent_twice_is_registered_once(site: Site) -> None:
    data = GOOD | {"key": "qcc-twice-1"}
    for _ in range(2):
        answer = site.as_().post("/registry/stations/new", data=data)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/registry/stations/qcc-twice-1")
    made = site.registry()["qcc-twice-1"]
    assert (made.interval_s, set(made.parameters), made.region) == (600, {"nh3n", "do"}, "chancheng/shiwan")
    assert site.changes("qcc-twice-1") == 1


def test_a_change_is_recorded_and_one_based_on_an_old_page_is_held_up_with_its_input(site: Site) -> None:
    browser, path = site.as_(), f"/registry/stations/{STATION}"
    page = browser.get(path).text
    first = filled(page) | {"do": "save", "parameters": checked(page), "note": "桥下游侧"}
    before = site.changes(STATION)
    for _ in range(2):  # sent twice
        assert browser.post(path, data=first).status_code == 303
    assert site.registry()[STATION].note == "桥下游侧"
    assert site.changes(STATION) == before + 1
    late = browser.post(path, data=first | {"zh": "别名"})
    assert late.status_code == 409
    assert filled(late.text)["zh"] == "别名"
    assert site.registry()[STATION].zh != "别名"
    again = filled(late.text) | {"do": "save", "parameters": checked(late.text)}
    assert browser.post(path, data=again).status_code == 303
    assert site.registry()[STATION].zh == "别名"
    assert "桥下游侧" in browser.get(path).text


def test_an_unknown_station_is_not_found(site: Site) -> None:
    assert site.as_().get("/registry/stations/nowhere").status_code == 404
    assert site.as_().post("/registry/stations/nowhere", data={"do": "save"}).status_code == 404


# -- sensors -----------------------------------------------------------------------------------------------------------


def test_a_swap_is_a_new_dated_record_and_the_past_is_not_edited(site: Site) -> None:
    browser, path = site.as_(), "/registry/stations/dph-shiwan-1"
    (old,) = site.hanging("dph-shiwan-1", "nh3n")
    swap = {"do": "hang", "parameter": "nh3n", "unit": "", "device": "EX-NH-9", "model": "N9", "manufacturer": ""}
    swap |= {"since": pages_site.from_now(-pages_site.HOUR), "depth_m": "0.8", "cycle_s": ""}
    for _ in range(2):  # sent twice
        assert browser.post(path, data=swap).status_code == 303
    now = site.hanging("dph-shiwan-1", "nh3n")
    assert len(now) == 2
    assert now[0] == old
    assert (now[1].device, now[1].depth_m, now[1].unit) == ("EX-NH-9", 0.8, "mg/L")
    page = browser.get(path).text
    assert 'data-parameter="nh3n" data-now="1"' in page
    assert 'data-parameter="nh3n" data-now="0"' in page
    earlier = browser.post(path, data=swap | {"since": pages_site.from_now(-300 * 24 * pages_site.HOUR)})
    assert earlier.status_code == 422
    assert 'data-testid="registry-wrong-since"' in earlier.text
    assert 'value="EX-NH-9"' in earlier.text
    wrong = browser.post(path, data=swap | {"since": pages_site.from_now(0), "unit": "furlong", "device": "EX-NH-8"})
    assert wrong.status_code == 400
    assert 'value="furlong"' in wrong.text
    assert len(site.hanging("dph-shiwan-1", "nh3n")) == 2


def test_a_sensor_that_is_taken_down_ends_once(site: Site) -> None:
    browser, path = site.as_(), "/registry/stations/dph-shiwan-1"
    (old,) = site.hanging("dph-shiwan-1", "tp")
    down = {"do": "end", "parameter": "tp", "since": str(old.since_ms)}
    for _ in range(2):
        assert browser.post(path, data=down).status_code == 303
    (ended,) = site.hanging("dph-shiwan-1", "tp")
    assert ended.until_ms is not None


# -- logins ------------------------------------------------------------------------------------------------------------


def test_a_password_is_shown_once_and_the_form_sent_again_makes_no_second_login(site: Site) -> None:
    browser, path = site.as_(), f"/registry/stations/{STATION}"
    made = browser.post(path, data={"do": "issue", "newest": ""})
    assert made.status_code == 200
    assert made.headers["cache-control"] == "no-store"
    (user,) = site.logins(STATION)
    password = site.users.passwords[user]
    assert password in made.text
    again = browser.post(path, data={"do": "issue", "newest": ""})
    assert again.status_code == 409
    assert site.logins(STATION) == [user]
    for page in (again.text, browser.get(path).text, browser.get("/registry").text):
        assert password not in page
    rotated = browser.post(path, data={"do": "issue", "newest": user, "others": "now"})
    assert rotated.status_code == 200
    (left,) = site.logins(STATION)
    assert left != user
    assert browser.post(path, data={"do": "revoke", "user": left}).status_code == 303
    assert site.logins(STATION) == []
    assert site.users.passwords == {}


# -- files -------------------------------------------------------------------------------------------------------------

TABLE = "key,zh,lon,lat,region,parameters\nimp-1,导入一（示例）,113.15,23.02,chancheng/shiwan,nh3n do\n"


def _file(text: str | bytes, name: str = "stations.csv") -> dict[str, tuple[str, bytes]]:
    return {"file": (name, text.encode() if isinstance(text, str) else text)}


def _confirmation(page: str) -> dict[str, str]:
    text = page.split("<textarea", 1)[1].split(">", 1)[1].split("</textarea>", maxsplit=1)[0].removeprefix("\n")
    return {n: re.findall(rf'name="{n}" value="([^"]*)"', page)[0] for n in ("name", "kind", "plan")} | {"text": text}


def test_a_file_changes_nothing_before_it_is_confirmed_and_once_when_it_is_sent_twice(site: Site) -> None:
    browser = site.as_()
    preview = browser.post("/registry/import", data={"kind": "station"}, files=_file(TABLE.encode("gb18030")))
    assert preview.status_code == 200
    assert preview.text.count('data-kind="station" data-new="1"') == 1
    assert "imp-1" not in site.registry()
    for _ in range(2):
        assert browser.post("/registry/import", data=_confirmation(preview.text)).status_code == 303
    assert site.registry()["imp-1"].zh == "导入一（示例）"
    assert site.changes("imp-1") == 1
    far = TABLE.replace("imp-1", "imp-8").replace("region,", "reach,").replace("chancheng/shiwan", pages_site.RIVER)
    far = far.replace("23.02", "23.20")
    assert 'data-testid="registry-line-off"' in browser.post("/registry/import", files=_file(far)).text
    same = browser.post("/registry/import", data={"kind": "station"}, files=_file(TABLE)).text
    assert 'data-testid="registry-confirm"' not in same


def test_every_bad_row_of_a_file_is_named_and_none_is_written(site: Site) -> None:
    bad = TABLE.replace("imp-1", "imp-2") + "imp-3,x,abc,23.0,,\nimp-4,y,113.1,23.0,,unknown\n"
    answer = site.as_().post("/registry/import", data={"kind": "station"}, files=_file(bad))
    assert answer.status_code == 400
    faults = answer.text.split('data-testid="registry-faults"')[1].split("</ol>")[0]
    assert "imp-3" in faults
    assert "imp-4" in faults
    assert faults.count("<li") > 1, "a line each"
    assert "imp-2" not in site.registry()
    for nothing in ("", "  \n", b"\x00\xff\xfe\x80"):
        assert site.as_().post("/registry/import", data={}, files=_file(nothing)).status_code == 400
    for too_much in (2 * 1024 * 1024 + 1, 3 * 1024 * 1024):
        large = site.as_().post("/registry/import", data={}, files=_file(b"x" * too_much))
        assert large.status_code in {400, 413}


def test_what_changed_since_the_preview_is_shown_again_before_it_is_written(site: Site) -> None:
    browser, table = site.as_(), TABLE.replace("imp-1", "imp-5")
    preview = browser.post("/registry/import", data={"kind": "station"}, files=_file(table)).text
    other = Station("imp-5", "另一人（示例）", "x", 113.15, 23.02, region="chancheng/shiwan")
    with site.database.write() as connection:
        registry_store.save_stations(connection, [other])
    answer = browser.post("/registry/import", data=_confirmation(preview))
    assert answer.status_code == 200
    assert 'data-testid="registry-moved"' in answer.text
    assert 'data-kind="station" data-new="0"' in answer.text
    assert site.registry()["imp-5"].zh == "另一人（示例）"


def test_the_exported_registry_is_what_is_there(site: Site) -> None:
    text = site.as_().get("/registry/export.toml").text
    answer = site.as_().post("/registry/import", files=_file(text, "stations.toml")).text
    assert 'data-testid="registry-preview"' in answer
    assert 'data-testid="registry-confirm"' not in answer


def test_a_retired_station_is_kept_out_of_the_list_and_can_serve_again(site: Site) -> None:
    station, path = "pynd-3", "/registry/stations/pynd-3"
    browser = site.as_(pages_site.ENGINEER)
    ahead = times.beijing(pages_site.now_ms() + 2 * times.DAY_MS, "%Y-%m-%d")
    yesterday = times.beijing(pages_site.now_ms() - times.DAY_MS, "%Y-%m-%d")
    refused = browser.post(path, data={"do": "retire", "day": ahead, "reason": "河道改线"})
    assert refused.status_code == 400
    assert 'value="河道改线"' in refused.text, "what was typed stays"
    assert browser.post(path, data={"do": "retire", "day": yesterday, "reason": ""}).status_code == 400
    assert station in rows(browser.get("/registry?q=pynd").text)
    for _ in range(2):
        answer = browser.post(path, data={"do": "retire", "day": yesterday, "reason": "河道改线"})
        assert answer.status_code == 303
    with site.database.read() as connection:
        mute = maintenance_store.retirements(connection)[station]
    assert (mute.by, times.beijing(mute.since_ms, "%Y-%m-%d %H:%M")) == (pages_site.ENGINEER, f"{yesterday} 00:00")
    assert station not in rows(browser.get("/registry?q=pynd").text)
    assert rows(browser.get("/registry?state=retired").text) == [station]
    assert "河道改线" in browser.get(path).text.split('data-testid="registry-retired"')[1]
    assert any(one.key == station for one in site.registry().stations), "never deleted"
    assert browser.post(f"/api/v1/stations/{station}/retire", json={"reason": "again"}).status_code == 409
    assert site.as_(pages_site.CHIEF).post(path, data={"do": "reinstate"}).status_code == 403
    assert browser.post(path, data={"do": "reinstate"}).status_code == 303
    assert station in rows(browser.get("/registry?q=pynd").text)
    assert browser.post(f"/api/v1/stations/{station}/reinstate", json={}).status_code == 409


def test_a_retired_station_counts_nowhere_as_silent(site: Site) -> None:
    station = _a_silent_station(site)
    before, reach = _silence(site), site.registry()[station].reach
    assert site.as_().post(f"/api/v1/stations/{station}/retire", json={"reason": "河道改线"}).status_code == 200
    after = _silence(site)
    store = SqlReadings(site.database, catalogue())
    live_classes.update_classes(site.database, store, catalogue(), pages_site.now_ms())
    with site.database.read() as connection:
        (shown,) = live_classes.current_classes(connection, live_classes.REACH, [reach]).values()
    on = [one for one in site.registry().in_service if one.reach == reach]
    assert shown.stations == len(on)
    assert after == {name: count - 1 for name, count in before.items()}
    page = site.as_().get(f"/stations/{station}").text
    assert 'data-testid="station-state" data-state="retired"' in page
    assert f"/stations/{station}" not in site.as_().get("/health").text
    assert f"/maintenance/{station}" not in site.as_().get("/maintenance?all=1").text
    told = site.as_().get(f"/api/v1/stations/{station}/latest", headers={"Accept": "application/json"}).json()
    assert told["state"] == "retired"
    assert site.as_().post(f"/api/v1/stations/{station}/reinstate", json={}).status_code == 200
    assert _silence(site) == before


def _a_silent_station(site: Site) -> str:
    page = _fresh(site, "/?view=list&state=never")
    return re.findall(r'data-testid="list-station-([^"]*)"', page)[0]


def _fresh(site: Site, path: str) -> str:
    site.app.state.picture.read_at_ms = 0
    return site.as_().get(path).text


def _silence(site: Site) -> dict[str, int]:
    """How many stations the pages count that are not on time, and how many there are."""
    page = _fresh(site, "/?view=list")
    states = dict(re.findall(r'data-testid="list-state-(\w+)">[^<]*<b>(\d+)</b>', page))
    found = {
        "map": sum(int(count) for state, count in states.items() if state != "normal"),
        "all": sum(map(int, states.values())),
        "wall": int(re.findall(r'data-testid="wall-abnormal"><b>(\d+)', _fresh(site, "/wall"))[0]),
        "rivers": 0,
    }
    for chip in re.findall(r'rivers-stations">.*?chip device">.*?</svg>([^<]*)<', _fresh(site, "/rivers")):
        found["rivers"] += int(re.findall(r"\d+", chip)[0])
    return found
