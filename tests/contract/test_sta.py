"""SensorThings: clients read the registry and the readings; what is asked too much or wrongly is refused."""

import re
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import frost_sta_client as fsc
import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.requests import mark
from api.sta import observations
from api.sta.answers import Answers
from api.sta.model import Site
from api.sta.options import read
from infra.errors import ConfigurationError
from ingest.storage.port import Series
from sensors.parameters import catalogue
from sensors.reading import Flag, QualityTest, pack
from sensors.stations import Deployment, Device, Reach, Registry, Station, Water
from tests.browser import seeded, served

NH3N = "Datastreams('qcc-huanhu-1.nh3n')"
VERSIONS = ("v1.1", "v2.0")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with seeded(tmp_path_factory.mktemp("sta")) as url:
        yield f"{url}/sta"


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=60) as made:
        yield made


def ask(client: httpx.Client, url: str, **options: Any) -> Any:
    answer = client.get(url, params={f"${name}": value for name, value in options.items()} or None)
    assert answer.status_code == 200, answer.text
    return answer.json()


def everything(client: httpx.Client, url: str, **options: Any) -> list[dict[str, Any]]:
    """All entities, page by page."""
    found, body = [], ask(client, url, **options)
    while True:
        found += body["value"]
        following = body.get("@iot.nextLink") or body.get("@nextLink")
        if following is None:
            return found
        body = ask(client, following)


# -- clients -----------------------------------------------------------------------------------------------------------


def test_the_frost_client_lists_and_filters_what_there_is(site: str) -> None:
    service = fsc.SensorThingsService(f"{site}/v1.1")
    things = {one.id: one for one in service.things().query().top(5).expand("Locations,Datastreams").list()}
    assert len(things) == service.things().query().count().list().count > 20
    thing = things["qcc-huanhu-1"]
    assert next(iter(thing.locations)).location["type"] == "Point"
    streams = {one.id: one for one in thing.get_datastreams().query().list()}
    stream = streams["qcc-huanhu-1.nh3n"]
    assert stream.unit_of_measurement.symbol == "mg/L"
    assert stream.observed_property is None
    assert service.observed_properties().find("nh3n").name == "氨氮"

    all_of_it = list(stream.get_observations().query().top(10).list())
    assert len(all_of_it) == 71
    assert [one.phenomenon_time for one in all_of_it] == sorted(one.phenomenon_time for one in all_of_it)
    high = list(stream.get_observations().query().filter("result gt 0.62").orderby("phenomenonTime", "desc").list())
    assert [one.id for one in high] == [one.id for one in reversed(all_of_it) if one.result > 0.62] != []
    newest = service.datastreams().query().expand("Observations($orderby=phenomenonTime desc;$top=1)").list()
    inner = next(one for one in newest if one.id == stream.id).observations
    assert [one.id for one in inner] == [one.id for one in reversed(all_of_it)]  # the client follows the pages inside


@pytest.mark.parametrize("version", VERSIONS)
def test_qgis_finds_the_stations_of_its_view_with_what_hangs_on_them(
    site: str, client: httpx.Client, version: str
) -> None:
    old = version == "v1.1"
    names = {one["name"] for one in ask(client, f"{site}/{version}")["value"]}
    assert {"Things", "Locations", "Datastreams", "Observations"} < names
    locations = f"{site}/{version}/Locations"
    points = "location/type eq 'Point' or location/geometry/type eq 'Point'"
    counted = ask(client, locations, top=0, count="true", filter=points)
    whole = ask(client, locations, top=200, count="false", filter=points)["value"]
    assert counted == {"@iot.count" if old else "@count": len(whole), "value": []}
    lon, lat = whole[0]["location"]["coordinates"]
    box = [(lon - 1e-4, lat - 1e-4), (lon + 1e-4, lat - 1e-4), (lon + 1e-4, lat + 1e-4), (lon - 1e-4, lat + 1e-4)]
    ring = ", ".join(f"{x} {y}" for x, y in (*box, box[0]))
    area = f"geo.intersects(location, geography'Polygon (({ring}))')"
    inner = (
        "Things($orderby=id;$top=100;$expand=Datastreams($top=100;$expand=Observations($top=2;$filter=result gt 0)))"
    )
    here = ask(client, locations, top=200, count="false", filter=f"({points}) and ({area})", expand=inner)["value"]
    assert [one["name"] for one in here] == [whole[0]["name"]]
    streams = here[0]["Things"][0]["Datastreams"]
    assert streams
    assert all(len(one["Observations"]) <= 2 for one in streams)
    assert ask(client, locations, filter=f"not({area})", count="true", top=0)["@iot.count" if old else "@count"] == (
        len(whole) - 1
    )
    near = f"geo.distance(location, geography'POINT ({lon} {lat})') lt 0.00001"
    assert [one["name"] for one in ask(client, locations, filter=near)["value"]] == [whole[0]["name"]]
    assert ask(client, locations, filter=area.replace("geo.intersects", "st_within"))["value"]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_address_in_an_answer_leads_somewhere(site: str, client: httpx.Client, version: str) -> None:
    ahead, seen, shapes = [f"{site}/{version}"], set(), {}
    while ahead:
        url = ahead.pop()
        body = ask(client, url)
        for found in re.findall(r'"(http://127[^"]+)"', httpx.Response(200, json=body).text):
            shape = re.sub(r"'[^']*'", "''", found.split("?")[0])
            shapes[shape] = shapes.get(shape, 0) + 1
            if found not in seen and shapes[shape] <= 4 and shape.count("(") <= 2:
                seen.add(found)
                ahead.append(found)
    assert len(shapes) > 20


def test_flag_tests_and_reason_travel_with_each_observation() -> None:
    for version, name in (("1.1", "resultQuality"), ("2.0", "properties")):
        answers = made(version, packed=int(pack(np.array([Flag.SUSPECT]), np.array([QualityTest.SPIKE]))[0]))
        kind = answers.kinds["Observations"]
        quality = "resultQuality" if version == "1.1" else "properties/quality"
        wanted = read([("$top", "1"), ("$filter", f"{quality}/flag eq 'suspect'")], kind, answers.kinds)
        found = answers.collection(kind, None, "", wanted)["value"][0][name]
        one = found[0] if version == "1.1" else found["quality"]
        assert (one["flag"], one["tests"]) == ("suspect", ["spike"])
        assert "spike" in one["reason"]


@pytest.mark.parametrize("version", VERSIONS)
def test_data_arrays_hold_the_same_observations(site: str, client: httpx.Client, version: str) -> None:
    url = f"{site}/{version}/{NH3N}/Observations"
    whole = ask(client, url)["value"]
    (arrays,) = ask(client, url, resultFormat="dataArray", select="id,result")["value"]
    assert arrays["components"] == ["@iot.id" if version == "v1.1" else "id", "result"]
    assert [row[1] for row in arrays["dataArray"]] == [one["result"] for one in whole]


def test_addresses_of_single_properties(site: str, client: httpx.Client) -> None:
    thing = f"{site}/v1.1/Things('qcc-huanhu-1')"
    name = ask(client, f"{thing}/name")["name"]
    assert client.get(f"{thing}/name/$value").text == name
    stream = f"{thing}/Datastreams('qcc-huanhu-1.nh3n')"
    assert ask(client, f"{stream}/Thing")["name"] == name
    assert {"@iot.selfLink": f"{site}/v1.1/{NH3N}"} in ask(client, f"{thing}/Datastreams/$ref")["value"]
    assert client.get(f"{thing}/Datastreams('qcc-huanhu-2.nh3n')").status_code == 404


def test_only_who_may_view_the_stations_sees_anything(tmp_path_factory: pytest.TempPathFactory, site: str) -> None:
    folder = tmp_path_factory.getbasetemp() / next(
        one.name for one in tmp_path_factory.getbasetemp().iterdir() if one.name.startswith("sta")
    )
    with served(folder, "a token") as url, httpx.Client(base_url=url) as client:
        assert client.get("/sta/v1.1/Things").status_code == 401
        token = {"Authorization": "Bearer a token"}
        assert client.get("/sta/v1.1/Things", headers=token).status_code == 200
        assert client.post("/sta/v1.1/Observations").status_code == 401


# -- filters -----------------------------------------------------------------------------------------------------------

Filter = tuple[str, Callable[[Mapping[str, Any]], bool]]


def _text(name: str) -> st.SearchStrategy[Filter]:
    words = st.sampled_from(["河", "涌", "a", "qcc", "Shiwan", "dph-shiwan-1", "", "it's"])
    get = (lambda e: e["@iot.id"]) if name == "id" else (lambda e: e[name])

    def made(word: str, form: str) -> Filter:
        quoted = "'" + word.replace("'", "''") + "'"
        tests: dict[str, Callable[[str], bool]] = {
            f"contains({name},{quoted})": lambda v: word in v,
            f"substringof({quoted},{name})": lambda v: word in v,
            f"startswith({name},{quoted})": lambda v: v.startswith(word),
            f"endswith(tolower({name}),tolower({quoted}))": lambda v: v.lower().endswith(word.lower()),
            f"{name} eq {quoted}": lambda v: v == word,
            f"{name} ne {quoted}": lambda v: v != word,
            f"{name} lt {quoted}": lambda v: v < word,
            f"length({name}) ge {len(word)} add 3": lambda v: len(v) >= len(word) + 3,
            f"{name} in ({quoted},'qcc-huanhu-1')": lambda v: v in (word, "qcc-huanhu-1"),
        }
        text = list(tests)[int(form) % len(tests)]
        return text, lambda e: tests[text](get(e))

    return st.builds(made, words, st.integers(0, 8).map(str))


def _number() -> st.SearchStrategy[Filter]:
    def made(word: str, limit: int, factor: int) -> Filter:
        text = f"properties/interval_s mul {factor} {word} {limit}"
        tests = {"gt": int.__gt__, "ge": int.__ge__, "lt": int.__lt__, "le": int.__le__, "eq": int.__eq__}
        return text, lambda e: bool(tests[word](e["properties"]["interval_s"] * factor, limit))

    return st.builds(
        made, st.sampled_from(["gt", "ge", "lt", "le", "eq"]), st.sampled_from([-1, 0, 300, 600]), st.integers(-2, 2)
    )


def _both(one: Filter, other: Filter, word: str) -> Filter:
    if word == "and":
        return f"({one[0]}) and ({other[0]})", lambda e: one[1](e) and other[1](e)
    return f"({one[0]}) or {other[0]}", lambda e: one[1](e) or other[1](e)


FILTERS = st.recursive(
    st.one_of(_text("name"), _text("id"), _text("description"), _number()),
    lambda inner: st.one_of(
        st.builds(_both, inner, inner, st.sampled_from(["and", "or"])).map(lambda f: (f"({f[0]})", f[1])),
        inner.map(lambda f: (f"not ({f[0]})", lambda e: not f[1](e))),
    ),
    max_leaves=6,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILTERS)
def test_a_filter_finds_what_the_same_words_in_python_find(site: str, client: httpx.Client, wanted: Filter) -> None:
    url = f"{site}/v1.1/Things"
    found = {one["@iot.id"] for one in everything(client, url, filter=wanted[0], top=7)}
    assert found == {one["@iot.id"] for one in everything(client, url) if wanted[1](one)}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 70),
    st.integers(0, 70),
    st.sampled_from(["ge", "gt", "le", "lt", "eq"]),
    st.floats(0.6, 0.7),
    st.sampled_from(["asc", "desc"]),
    st.integers(1, 30),
)
def test_observations_are_those_of_the_filter_in_every_order_and_page_size(
    site: str, client: httpx.Client, first: int, last: int, word: str, limit: float, order: str, top: int
) -> None:
    url = f"{site}/v1.1/{NH3N}/Observations"
    whole = everything(client, url, top=1000)
    start, end = whole[first]["phenomenonTime"], whole[last]["phenomenonTime"]
    span = f"phenomenonTime ge {start} and phenomenonTime lt {end}"
    text = f"{span} and (result {word} {limit:.4f} or hour(resultTime) eq 3)"
    found = everything(client, url, filter=text, orderby=f"phenomenonTime {order}", top=top)
    compare = {"ge": float.__ge__, "gt": float.__gt__, "le": float.__le__, "lt": float.__lt__, "eq": float.__eq__}[word]
    kept = [
        one
        for one in whole[first:last]
        if compare(one["result"], float(f"{limit:.4f}")) or one["resultTime"][11:13] == "03"
    ]
    assert found == (kept if order == "asc" else kept[::-1])


@pytest.mark.parametrize("order", ["phenomenonTime asc", "phenomenonTime desc", ""])
def test_observations_of_many_series_come_once_each(site: str, client: httpx.Client, order: str) -> None:
    url = f"{site}/v1.1/Observations"
    options = {"orderby": order} if order else {}
    found = everything(client, url, top=97, filter="result ge 0", **options)
    assert len({one["@iot.id"] for one in found}) == len(found) == ask(client, url, top=0, count="true")["@iot.count"]
    times = [one["phenomenonTime"] for one in found]
    assert not order or times == sorted(times, reverse=order.endswith("desc"))
    assert ask(client, url, top=5, skip=100, **options)["value"] == found[100:105]


EXPAND = "Datastreams($expand=Observations($expand=Datastream($expand=Thing($expand=Locations))))"
BAD = [
    ("Things?$filter=" + "(" * 1000 + "1 eq 1" + ")" * 1000, 400),
    ("Things?$filter=" + "not " * 1000 + "true", 400),
    ("Things?$filter=" + "1 add " * 1000 + "1 eq 1", 400),
    ("Things?$filter=" + " or ".join(["name eq 'a'"] * 500), 200),
    ("Things?$filter=", 400),
    ("Things?$filter=name", 400),
    ("Things?$filter=name eq", 400),
    ("Things?$filter=nothing eq 1", 400),
    ("Things?$filter=name eq 3", 400),
    ("Things?$filter=contains(name,3)", 400),
    ("Things?$filter=contains(name)", 400),
    ("Things?$filter=nothing(name)", 400),
    ("Things?$filter=geo.length(name) eq 1", 501),
    ("Things?$filter=Datastreams/any(d:d/id eq 'x')", 501),
    ("Things?$filter=properties/nothing/there eq 3", 200),
    ("Things?$filter=properties/interval_s div 0 eq 1", 200),
    ("Things?$filter=1e400 mod 2 eq 1 or round(1e400) eq 1", 200),
    ("Things?$filter=" + "9" * 5000 + " eq 1", 200),
    ("Observations?$filter=result eq 'text'", 400),
    ("Observations?$filter=phenomenonTime gt 'text'", 400),
    ("Observations?$filter=phenomenonTime gt 2026-02-31T00:00:00Z", 400),
    ("Observations?$filter=phenomenonTime gt 2026-01-01T00:00:00%2B08:00&$top=1", 200),
    ("Observations?$filter=phenomenonTime gt now() sub duration'PT6H'&$top=1", 200),
    ("Observations?$filter=phenomenonTime gt now() sub duration'P999999999999D'&$top=1", 400),
    ("Observations?$orderby=result", 501),
    ("Observations?$skiptoken=abc", 400),
    ("Locations?$filter=geo.intersects(location, geography'POLYGON ((1 2')", 400),
    ("Locations?$filter=geo.intersects(location, geography'POINT (x y)')", 400),
    ("Locations?$filter=geo.intersects(name, geography'POINT (1 2)')", 400),
    ("Things?$expand=*", 400),
    ("Things?$expand=Nothing", 400),
    ("Things?$expand=" + EXPAND, 400),
    ("Things?$top=1000&$expand=Datastreams($top=1000;$expand=Observations($top=1000;$expand=Datastream))", 200),
    ("Things?$expand=" + "Datastreams($expand=" * 1000, 400),
    ("Things?$select=nothing", 400),
    ("Things?$orderby=nothing", 400),
    ("Things?$orderby=", 400),
    ("Things?$top=-1", 400),
    ("Things?$top=ten", 400),
    ("Things?$top=99999999999999999999", 400),
    ("Things?$top=5000", 200),
    ("Things?$skip=1.5", 400),
    ("Things?$count=maybe", 400),
    ("Things?$nothing=1", 400),
    ("Things?$top=1&$top=2", 400),
    ("Things?$format=xml", 501),
    ("Things?$resultFormat=dataArray", 501),
    ("Things?" + "a=1&" * 1000, 400),
    ("Things(1)", 404),
    ("Things('x", 404),
    ("Things('it''s')", 404),
    ("Nothing", 404),
    ("Things('qcc-huanhu-1')/nothing", 404),
    ("Observations('qcc-huanhu-1.nh3n.yesterday')", 404),
    ("Observations('qcc-huanhu-1.nh3n.0001-01-01T00:00:00Z')", 404),
    ("Things" + "/Things" * 1000, 400),
    ("$metadata", 501),
]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("path", "status"), BAD, ids=[path[:60] for path, _ in BAD])
def test_bad_requests_have_an_answer_each(
    site: str, client: httpx.Client, version: str, path: str, status: int
) -> None:
    answer = client.get(f"{site}/{version}/{path}")
    assert answer.status_code == status, answer.text[:300]
    assert status == 200 or answer.json()["detail"]


# -- writing -----------------------------------------------------------------------------------------------------------

AT = "2026-05-12T10:30:00Z"
POINT = {"type": "Point", "coordinates": [113.1, 23.0]}
SUBMERGED = {"name": "示例站", "description": "example", "Locations": [{"name": "x", "location": POINT}]}


def stream(version: str, unit: str = "mg/L", parameter: str = "nh3n", **more: Any) -> dict[str, Any]:
    """A Datastream as the version writes it, of a sensor that nobody registered."""
    key = "@iot.id" if version == "v1.1" else "id"
    observed, sensor = {key: parameter}, {"Sensor": {key: "unspecified"}}
    if version == "v1.1":
        return {"unitOfMeasurement": {"symbol": unit}, "ObservedProperty": observed} | sensor | more
    kind = {"type": "Quantity", "uom": {"code": unit}}
    return {"resultType": kind, "ObservedProperties": [observed]} | sensor | more


def thing(version: str, key: str, **more: Any) -> dict[str, Any]:
    return SUBMERGED | {"@iot.id" if version == "v1.1" else "id": key} | more


def test_the_frost_client_makes_a_station_with_its_sensors_and_sends_readings(site: str) -> None:
    service = fsc.SensorThingsService(f"{site}/v1.1")
    place = fsc.Location("place", "where", location=fsc.utils.process_area(POINT), encoding_type="application/geo+json")
    made = fsc.Thing("Dock 7", "a jetty", properties={"water": "creek", "interval_s": 600}, locations=[place])
    service.create(made)
    assert made.id == "dock-7"
    sensor = fsc.Sensor("EXO2 17A", "sonde", encoding_type="application/pdf", metadata="https://maker/exo2.pdf")
    service.create(sensor)
    unit = fsc.UnitOfMeasurement("milligram per litre", "mg/L", "ucum:mg/L")
    kind = "http://www.opengis.net/def/observationType/OGC-OM/2.0/OM_Measurement"
    observed = fsc.ObservedProperty("溶解氧", "urn:x", "oxygen")
    hangs = fsc.Datastream("x", "y", kind, unit, thing=made, sensor=sensor, observed_property=observed)
    service.create(hangs)
    assert hangs.id == "dock-7.do"
    for _ in range(2):  # the same once more is harmless
        reading = fsc.Observation(phenomenon_time="2026-05-12T18:30:00+08:00", result=7.25, datastream=hangs)
        service.create(reading)
        assert reading.id == f"dock-7.do.{AT}"
    assert [(one.id, one.result) for one in hangs.get_observations().query().list()] == [(reading.id, 7.25)]
    found = service.things().find("dock-7")
    assert (found.name, found.properties["water"], found.properties["interval_s"]) == ("Dock 7", "creek", 600)
    kept = service.sensors().find("device-EXO2 17A")
    assert (kept.description, kept.encoding_type, kept.metadata) == (
        "sonde",
        "application/pdf",
        "https://maker/exo2.pdf",
    )
    found.name = "Dock seven"
    service.update(found)  # PUT of all that was read
    assert service.things().find("dock-7").name == "Dock seven"
    service.delete(found)
    assert service.things().find("dock-7").properties["retired"] is True


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_written_is_a_change_of_the_registry_with_its_trail(
    site: str, client: httpx.Client, version: str
) -> None:
    root, key = f"{site}/{version}", f"written-{version[1]}"
    made = client.post(f"{root}/Things", json=thing(version, key, Datastreams=[stream(version)]))
    assert (made.status_code, made.headers["location"]) == (201, f"{root}/Things('{key}')")
    assert ask(client, f"{made.headers['location']}/Datastreams")["value"][0]["name"] == "示例站 氨氮"
    moved = {"location": {"type": "Point", "coordinates": [113.3, 23.2]}}
    assert client.patch(f"{root}/Locations('{key}')", json=moved).json()["location"] == moved["location"]
    patch = client.patch(
        made.headers["location"], content=b"[]", headers={"Content-Type": "application/json-patch+json"}
    )
    assert (patch.status_code, "application/json" in patch.json()["detail"]) == (400, True)
    own = {"name": "新名", "properties": {"note": "桥下", "reach": ""}}
    changed = client.patch(f"{root}/Things('{key}')", json=own).json()
    assert (changed["name"], changed["properties"]["note"]) == ("新名", "桥下")
    assert client.put(f"{root}/Things('{key}')", json=changed).json() == changed
    hung = f"{root}/Datastreams('{key}.nh3n')"
    assert client.delete(hung).json()["properties"]["until"] is not None
    assert client.delete(hung).status_code == 409
    trail = client.get(site.removesuffix("/sta") + f"/api/v1/registry/changes?key={key}").json()["items"]
    assert [(one["what"], one["before"] is None) for one in trail[::-1]] == [
        ("station", True),
        ("deployment", True),
        ("station", False),
        ("station", False),
        ("deployment", False),
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_deep_insert_that_fails_in_the_middle_leaves_nothing(site: str, client: httpx.Client, version: str) -> None:
    root, word = f"{site}/{version}", "@iot.id" if version == "v1.1" else "id"
    bad = stream(version, parameter="no such", Sensor={"name": "never", "description": ""})
    inner = [stream(version, Sensor={"name": "halfway", "description": ""}), bad]
    refused = client.post(f"{root}/Things", json=thing(version, "halfway", Datastreams=inner))
    assert (refused.status_code, "no such" in refused.json()["detail"]) == (400, True)
    group = {"method": "post", "atomicityGroup": "g"}
    again = {"url": "Things", "body": thing(version, "halfway")}
    parts = [group | again | {"id": "1"}, group | again | {"id": "2"}]
    answers_ = client.post(f"{root}/$batch", json={"requests": parts}).json()["responses"]
    assert [one["status"] for one in answers_] == [409, 409]
    things = ask(client, f"{root}/Things", filter="startswith(id,'halfway')")["value"]
    assert things == ask(client, f"{root}/Sensors", filter="contains(name,'halfway')")["value"] == []
    assert word in ask(client, f"{root}/Things")["value"][0]


@pytest.mark.parametrize("version", VERSIONS)
def test_many_observations_come_in_one_request(site: str, client: httpx.Client, version: str) -> None:
    root, key = f"{site}/{version}", f"many-{version[1]}"
    word = "@iot.id" if version == "v1.1" else "id"
    link = {word: f"{key}.nh3n"}
    reading = {"phenomenonTime": AT if version == "v1.1" else {"start": AT}, "result": 0.5}
    parts = [
        {"id": "a", "method": "post", "url": "Things", "body": thing(version, key)},
        {"id": "b", "method": "post", "url": "$a/Datastreams", "body": stream(version)},
        {"id": "c", "method": "post", "url": f"{root}/Observations", "body": reading | {"Datastream": {word: "$b"}}},
        {"id": "d", "method": "post", "url": "Observations", "body": {}},
        {"id": "e", "method": "get", "url": "$b/Observations?$count=true", "dependsOn": ["d"]},
        {"id": "f", "method": "get", "url": "$b/Observations?$count=true", "dependsOn": ["c"]},
    ]
    found = client.post(f"{root}/$batch", json={"requests": parts}).json()["responses"]
    assert [one["status"] for one in found] == [201, 201, 201, 400, 424, 200]
    assert found[5]["body"]["@iot.count" if version == "v1.1" else "@count"] == 1
    rows = [[f"2026-05-12T1{n}:00:00Z", n / 10] for n in range(3)] + [["yesterday", 1.0], [AT, "high"], [AT]]
    arrays = {"Datastream": link, "components": ["phenomenonTime", "result"], "dataArray": rows}
    for _ in range(2):
        lines = client.post(f"{root}/CreateObservations", json=[arrays])
        assert lines.status_code == 201, lines.text
        assert [line.startswith(f"{root}/Observations('{key}.nh3n.2026") for line in lines.json()] == [True] * 3 + [
            False
        ] * 3
    kept = ask(client, f"{root}/Datastreams('{key}.nh3n')/Observations")["value"]
    assert [one["result"] for one in kept] == [0.0, 0.5, 0.1, 0.2]


SENT = {"phenomenonTime": AT, "result": 1.0}
DEEP: Any = 1
for _ in range(100):
    DEEP = [DEEP]
NH3N_LINK = {"ObservedProperty": {"@iot.id": "nh3n"}, "Sensor": {"@iot.id": "unspecified"}}
BAD_WRITES: list[tuple[str, str, Any, int, str]] = [
    ("POST", f"{NH3N}/Observations", SENT | {"result": "high"}, 400, "result"),
    ("POST", f"{NH3N}/Observations", SENT | {"result": True}, 400, "result"),
    ("POST", f"{NH3N}/Observations", {"phenomenonTime": AT}, 400, "result"),
    ("POST", f"{NH3N}/Observations", SENT | {"phenomenonTime": "2026-05-12T10:30:00"}, 400, "phenomenonTime"),
    ("POST", f"{NH3N}/Observations", SENT | {"phenomenonTime": f"{AT}/{AT}"}, 400, "phenomenonTime"),
    ("POST", f"{NH3N}/Observations", SENT | {"phenomenonTime": "1999-01-01T00:00:00Z"}, 400, "time_before_2000"),
    ("POST", f"{NH3N}/Observations", SENT | {"resultTime": "2026-05-12T11:30:00Z"}, 400, "resultTime"),
    ("POST", f"{NH3N}/Observations", SENT | {"resultQuality": "good"}, 400, "resultQuality"),
    ("POST", f"{NH3N}/Observations", SENT | {"weather": "fair"}, 400, "weather"),
    ("POST", f"{NH3N}/Observations", [], 400, "Observations"),
    ("POST", "Observations", SENT, 400, "Datastream"),
    ("POST", "Observations", SENT | {"Datastream": {"@iot.id": "nothing"}}, 404, "nothing"),
    ("POST", "Observations", SENT | {"Datastream": {"@iot.id": 5}}, 400, "5"),
    ("PATCH", f"Observations('qcc-huanhu-1.nh3n.{AT}')", SENT, 404, AT),
    ("POST", "Things", {"name": "x"}, 400, "Locations"),
    ("POST", "Things", SUBMERGED | {"colour": "red"}, 400, "colour"),
    ("POST", "Things", SUBMERGED | {"properties": {"colour": "red"}}, 400, "colour"),
    ("POST", "Things", SUBMERGED | {"properties": {"interval_s": "often"}}, 400, "interval_s"),
    ("POST", "Things", SUBMERGED | {"properties": DEEP}, 400, "JSON"),
    ("POST", "Things", SUBMERGED | {"@iot.id": "No Key"}, 400, "No Key"),
    ("POST", "Things", SUBMERGED | {"@iot.id": "qcc-huanhu-1"}, 409, "qcc-huanhu-1"),
    (
        "POST",
        "Things",
        SUBMERGED | {"Locations": [{"location": {"type": "Point", "coordinates": [999]}}]},
        400,
        "Point",
    ),
    ("POST", "Things('qcc-huanhu-1')/Datastreams", stream("v1.1", "ug/L"), 400, "ug/L"),
    ("POST", "Things('nothing')/Datastreams", stream("v1.1"), 404, "nothing"),
    ("POST", "Things('qcc-huanhu-1')/Datastreams", stream("v1.1", Observations=[SENT]), 400, "Observations"),
    ("PATCH", NH3N, {"unitOfMeasurement": {"symbol": "ug/L"}}, 400, "unitOfMeasurement"),
    ("PATCH", "Things('qcc-huanhu-1')", {"properties": {"interval_s": -1}}, 400, "interval_s"),
    ("POST", "ObservedProperties", {"name": "taste"}, 405, "catalogue"),
    ("DELETE", "Locations('qcc-huanhu-1')", None, 405, "Locations"),
    ("PATCH", "Things", {}, 405, "PATCH"),
    ("POST", "Things('qcc-huanhu-1')", {}, 405, "POST"),
    ("POST", "Nothing", {}, 404, "Nothing"),
    (
        "POST",
        "CreateObservations",
        [{"Datastream": {"@iot.id": "nothing"}, "components": [], "dataArray": []}],
        404,
        "n",
    ),
    ("POST", "CreateObservations", {"dataArray": 5}, 400, "dataArray"),
    (
        "POST",
        "$batch",
        {"requests": [{"id": str(n), "method": "get", "url": "Things"} for n in range(101)]},
        400,
        "100",
    ),
    ("POST", "$batch", {"requests": 5}, 400, "batch"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "named"), BAD_WRITES)
def test_bad_writes_are_refused_with_a_sentence_and_leave_nothing(
    site: str, client: httpx.Client, method: str, path: str, body: Any, status: int, named: str
) -> None:
    number = client.get(site.removesuffix("/sta") + "/api/v1/registry/changes?limit=1").json()["items"]
    answer = client.request(method, f"{site}/v1.1/{path}", json=body)
    assert answer.status_code == status, answer.text[:300]
    assert named in answer.json()["detail"]
    assert client.get(site.removesuffix("/sta") + "/api/v1/registry/changes?limit=1").json()["items"] == number


# -- sizes -------------------------------------------------------------------------------------------------------------

T0 = 1_746_057_600_000
ROWS = 50_000


class Minutes:
    """A store with a reading each minute in every series."""

    def __init__(self, packed: int = 1, rows: int = ROWS, only: tuple[str, ...] = ()) -> None:
        self.packed, self.rows, self.only = packed, rows, only
        self.held = self.most_held = 0

    def _freed(self, rows: int) -> None:
        self.held -= rows

    def latest(self) -> list[Any]:
        return []

    def raw(self, station: str, parameter: str, start_ms: int, end_ms: int, limit: int) -> Series:
        first = max(0, -(-(start_ms - T0) // 60_000))
        rows = 0 if self.only and station not in self.only else self.rows
        last = min(rows, first + limit, -(-(end_ms - T0) // 60_000))
        at = T0 + np.arange(first, max(first, last), dtype=np.int64) * 60_000
        value = at % 1000 / 1.0
        self.held += len(at)
        self.most_held = max(self.held, self.most_held)
        weakref.finalize(at, self._freed, len(at))
        return Series(at, value, value, value, np.ones_like(at), np.full_like(at, self.packed), None)


def made(
    version: str, packed: int = 1, rows: int = ROWS, registry: Registry | None = None, only: tuple[str, ...] = ()
) -> Answers:
    station = Station("s1", "站一", "station one", 113.1, 23.0, parameters=("do",))
    store: Any = Minutes(packed, rows, only)
    return Answers(Site(registry or Registry((station,), catalogue=catalogue()), []), store, version, "http://x", T0)


def test_of_a_million_readings_only_those_of_a_chunk_are_held() -> None:
    answers = made("1.1", rows=10**6)
    store: Any = answers._store
    kind = answers.kinds["Observations"]

    def held(*pairs: tuple[str, str]) -> tuple[int, dict[str, Any]]:
        """The most rows of the store held at once while a page is made, and the page."""
        store.most_held = store.held
        body = answers.collection(kind, None, "", read(pairs, kind, answers.kinds))
        return store.most_held, body

    first, body = held(("$top", "1000"))
    ids: list[str] = []
    for at_ms in (T0, T0 + 500_000 * 60_000, T0 + 998_999 * 60_000):
        rows, body = held(("$top", "1000"), ("$skiptoken", mark("observations", ["s1.do", at_ms])))
        assert (len(body["value"]), first - rows in (0, 1)) == (1000, True)
        ids += [one["@iot.id"] for one in body["value"]]
    assert len(set(ids)) == 3000
    assert first <= 2002
    assert "@iot.nextLink" not in body
    assert held(("$top", "0"), ("$count", "true"))[1]["@iot.count"] == 10**6
    assert store.most_held <= 2 * 10_000
    assert held(("$filter", "result lt 0"))[0] <= 2 * observations.CHUNK


def test_an_answer_holds_no_more_entities_than_allowed() -> None:
    stations = tuple(Station(f"s{n}", "站", "station", 113.1, 23.0, parameters=("do",)) for n in range(60))
    answers = made("1.1", registry=Registry(stations, catalogue=catalogue()))
    kind = answers.kinds["Datastreams"]
    with pytest.raises(ConfigurationError, match="50000"):
        answers.collection(kind, None, "", read([("$expand", "Observations($top=1000)")], kind, answers.kinds))


def test_a_filter_that_finds_nothing_ends_its_page_and_names_the_next() -> None:
    answers = made("1.1", rows=1_000_000)
    kind = answers.kinds["Observations"]
    body = answers.collection(kind, None, "", read([("$filter", "result lt 0")], kind, answers.kinds))
    assert body["value"] == []
    assert "$skiptoken=" in body["@iot.nextLink"]


def test_behind_thousands_of_silent_series_the_next_page_still_finds_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observations, "MOST_EXAMINED", 100)
    stations = tuple(Station(f"s{n}", "站", "station", 113.1, 23.0, parameters=("do",)) for n in range(9))
    registry = Registry(stations, catalogue=catalogue())
    found, token = [], None
    for _ in range(9):
        answers = made("1.1", rows=5, registry=registry, only=("s8",))
        kind = answers.kinds["Observations"]
        pairs = [("$skiptoken", token)] if token else []
        body = answers.collection(kind, None, "", read(pairs, kind, answers.kinds))
        found += body["value"]
        if "@iot.nextLink" not in body:
            break
        token = body["@iot.nextLink"].split("$skiptoken=")[1]
    assert len(found) == 5


def test_a_swapped_instrument_begins_a_datastream_of_its_own() -> None:
    swap = T0 + 60_000 * 500
    station = Station("s1", "站一", "station one", 113.1, 23.0, reach="r1", parameters=("do",))
    registry = Registry(
        (station,),
        (
            Deployment("s1", "do", T0 + 60_000, "mg/L", device="A/1"),
            Deployment("s1", "do", swap, "mg/L", device="it's"),
        ),
        (Reach("r1", "河段", "reach", Water.RIVER, ((113.0, 23.0), (113.2, 23.0))),),
        catalogue(),
        (Device("A/1", "M"), Device("it's", "M")),
    )
    answers = made("1.1", rows=1000, registry=registry)
    kind = answers.kinds["Datastreams"]
    wanted = read([("$expand", "Sensor,Observations($count=true;$top=1)")], kind, answers.kinds)
    one, other = answers.collection(kind, None, "", wanted)["value"]
    assert (one["@iot.id"], other["@iot.id"]) == ("s1.do", "s1.do.2025-05-01T08:20:00Z")
    assert (one["Sensor"]["@iot.id"], other["Sensor"]["@iot.id"]) == ("device-A/1", "device-it's")
    assert [d["Observations@iot.count"] for d in (one, other)] == [500, 500]
    assert other["Sensor"]["@iot.selfLink"] == "http://x/Sensors('device-it''s')"
