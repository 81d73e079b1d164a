"""People: who is shown to whom, terms and succession, and how somebody is reached, by plain forms."""

import re
from base64 import urlsafe_b64encode
from dataclasses import replace
from urllib.parse import quote, unquote

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi import FastAPI
from starlette.testclient import TestClient

from governance.audit import trail as audit_trail
from governance.incidents import store as incident_store
from governance.incidents.finding import Colour
from governance.incidents.model import Action, Assignment, Order
from governance.notify import store as notice_store
from governance.notify.contacts import ContactRole
from governance.notify.tables import notice
from governance.notify.web_push import WebPush
from governance.organisation.regions import Place
from governance.organisation.roles import Actor, Role
from governance.people import store as people_store
from governance.tables import person_contact
from infra.database import Database
from infra.texts import say
from infra.times import DAY_MS
from tests import pages_site
from tests.databases import cases_are_in_the_trail
from tests.page_browser import browser_of, part
from tests.pages_site import act_on_case, file_case

STREET = "chancheng/shiwan"
VILLAGE_CHIEF = "梁村级河长（示例）"
GENERAL = "何总河长（示例）"
SECRET = "geheim-0815-robot-key"


@pytest.fixture
def browser(app: FastAPI) -> TestClient:
    return browser_of(app, pages_site.ADMINISTRATOR)


def _path(name: str) -> str:
    return "/people/" + quote(name, safe="")


def _do(browser: TestClient, name: str, do: str, **fields: object):  # type: ignore[no-untyped-def]
    return browser.post(_path(name), data={"do": do, **fields})


def _new(browser: TestClient, name: str, role: str = "chief", **fields: str) -> None:
    answer = browser.post("/people", data={"do": "add", "name": name, "role": role, **fields})
    assert answer.status_code == 303, answer.text


def _people(page: str) -> list[str]:
    return re.findall(r'data-person="([^"]+)"', page)


def test_everybody_stands_in_their_region_with_role_term_and_whether_messages_reach_them(browser: TestClient) -> None:
    page = browser.get("/people").text
    regions = dict(re.findall(r'data-region="([^"]*)">(.*?)</tbody>', page, re.S))
    street = regions[STREET]
    assert _people(street) == [pages_site.CHIEF, "罗助理（示例）"]
    assert 'data-reach="failed"' in street  # the newest message to the chief was given up
    assert 'data-reach="none"' in regions["chancheng"]
    assert pages_site.ADMINISTRATOR in regions[""]
    assert say("people_page.helps", name=pages_site.CHIEF).zh in street


def test_the_address_narrows_the_list(browser: TestClient) -> None:
    assert _people(browser.get("/people?role=grid_worker").text) == [pages_site.WORKER]
    assert _people(browser.get(f"/people?q={quote('梁村')}").text) == [VILLAGE_CHIEF]
    assert _people(browser.get("/people?channel=failed").text) == [pages_site.CHIEF]
    assert pages_site.OFFICE not in _people(browser.get(f"/people?region={STREET}").text)
    assert VILLAGE_CHIEF in _people(browser.get(f"/people?region={STREET}").text)
    unreached = browser.get("/people?channel=unreached").text
    count = re.search(r"<b>(\d+)</b>", part(unreached, "people-tally-unreached"))
    assert count is not None
    assert int(count[1]) == len(_people(unreached))
    assert "state-empty" in browser.get("/people?q=zzzz").text
    assert len(_people(browser.get("/people?role=emperor&term=x&rows=-4&region=%00").text)) >= 0


def test_a_long_list_shows_thirty_and_more_by_address(browser: TestClient, database: Database) -> None:
    regions = pages_site.GRID
    with database.write() as connection:
        for i in range(40):
            people_store.add(
                connection,
                f"示例网格员{i:02d}",
                Role.GRID_WORKER,
                region=regions,
                by="test",
                now_ms=pages_site.now_ms(),
            )
    page = browser.get("/people").text
    assert len(_people(page)) == 30
    more = re.search(r'href="([^"]+)" data-testid="people-more"', page)
    assert more is not None
    assert len(_people(browser.get(more[1].replace("&amp;", "&")).text)) > 30


def test_a_river_without_a_chief_comes_first(browser: TestClient) -> None:
    rivers = re.findall(r'data-river="([^"]+)" data-vacant="(\d)"', browser.get("/people").text)
    assert {vacant for _, vacant in rivers} == {"0"}
    _new(browser, "短任河长（示例）", "general_chief")
    # the general chief of the district resigns: only the waters with chiefs of their own keep one
    with_term = re.search(r'name="term" value="(\d+)"', browser.get(_path(GENERAL)).text)
    assert with_term is not None
    assert _do(browser, GENERAL, "end", term=with_term[1]).status_code == 303
    assert _do(browser, GENERAL, "end", term=with_term[1]).status_code == 303  # sent twice
    rivers = re.findall(r'data-river="([^"]+)" data-vacant="(\d)"', browser.get("/people").text)
    vacant = [value for _, value in rivers]
    assert vacant == sorted(vacant, reverse=True)
    assert vacant[0] == "1"
    assert dict(rivers)[pages_site.RIVER] == "0"
    assert re.search(r"<b>[1-9]", part(browser.get("/people").text, "people-vacant"))


def test_who_leads_a_street_sees_its_people_and_may_change_nobody(app: FastAPI, database: Database) -> None:
    chief = browser_of(app, pages_site.CHIEF)
    page = chief.get("/people").text
    assert pages_site.CHIEF in _people(page)
    assert pages_site.OFFICE not in _people(page)
    assert "people-add" not in page
    assert chief.get("/people?add=1").status_code == 403
    assert chief.get(_path(pages_site.OFFICE)).status_code == 403
    own = chief.get(_path(pages_site.CHIEF)).text
    assert "person-contact" in own
    assert 'name="role_office"' not in own
    assert "person-access" not in own
    assert "person-contact" not in chief.get(_path("罗助理（示例）")).text
    for do in ("change", "appoint", "end", "remove"):
        assert _do(chief, pages_site.CHIEF, do).status_code == 403
    for do in ("change", "appoint", "end", "settings", "channel", "drop", "test", "remove"):
        assert _do(chief, "罗助理（示例）", do, kind="feishu", robot=SECRET, least="blue").status_code == 403, do
    assert browser_of(app, pages_site.WORKER).get("/people").status_code == 403
    with database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(person_contact)).scalar_one() == 0


def test_somebody_is_added_once_and_what_is_missing_is_said_beside_the_field(browser: TestClient) -> None:
    refused = browser.post("/people", data={"do": "add", "name": "新人（示例）<b>"})
    assert refused.status_code == 400
    assert "people-wrong-role" in refused.text
    assert "新人（示例）&lt;b&gt;" in refused.text
    handler = {"do": "add", "name": "处置员（示例）", "role": "handler"}
    assert "people-wrong-department" in browser.post("/people", data=handler).text
    for _ in range(2):
        answer = browser.post("/people", data={**handler, "department": "water", "region": STREET})
        assert answer.status_code == 303
        assert unquote(answer.headers["location"]) == "/people/处置员（示例）?done=added"
    assert "people-error" in browser.post("/people", data={**handler, "department": "housing"}).text
    assert browser.post("/people", data=handler, headers={"Origin": "https://example.org"}).status_code == 403


def test_a_successor_is_previewed_and_takes_over_the_open_cases(browser: TestClient, database: Database) -> None:
    old, new = "前任河长（示例）", "继任河长（示例）"
    region = "chancheng/zumiao"
    for name in (old, new):
        _new(browser, name)
    Actor(pages_site.OFFICE, Role.OFFICE)
    asked = {"region": region, "reach": "fenjiang-chancheng"}
    _appoint(browser, old, asked)
    made = file_case(database, Place(region, "fenjiang-chancheng"), "漂浮垃圾", minutes_ago=0)
    for order in (Order(Action.ACCEPT), Order(Action.DISPATCH, assignment=Assignment(region, old))):
        act_on_case(database, made.id, order)
    refused = _do(browser, old, "remove")
    assert refused.status_code == 409
    assert f"#{made.id}" in refused.text
    ahead = browser.get(_path(new), params={"do": "appoint", **asked}).text
    assert old in part(ahead, "person-plan")
    assert say("people_page.goes_over", count=1).zh in part(ahead, "person-plan-count")
    assert _do(browser, new, "appoint", seen="another", **asked).status_code == 412
    answer = _appoint(browser, new, asked)
    assert answer.headers["location"].endswith("?done=appointed&moved=1")
    seen = re.search(r'name="seen" value="([^"]*)"', ahead)
    assert seen is not None
    assert _do(browser, new, "appoint", seen=seen[1], **asked).status_code == 303  # sent twice
    with database.read() as connection:
        assert incident_store.get(connection, made.id).case.responsible == new
        held = [t for t in people_store.appointments(connection, new) if t.in_force(pages_site.now_ms())]
    assert len(held) == 1
    assert f"#{made.id}" in part(browser.get(_path(new)).text, "person-cases")
    assert _do(browser, old, "remove").headers["location"] == "/people?done=removed"
    cases_are_in_the_trail(database)


def _appoint(browser: TestClient, name: str, asked: dict[str, str]):  # type: ignore[no-untyped-def]
    page = browser.get(_path(name), params={"do": "appoint", **asked}).text
    seen = re.search(r'name="seen" value="([^"]*)"', page)
    assert seen is not None
    answer = _do(browser, name, "appoint", seen=seen[1], **asked)
    assert answer.status_code == 303
    return answer


@pytest.mark.parametrize(
    "asked",
    [
        {"region": "no/such"},
        {"region": STREET, "reach": "no-such-river"},
        {"region": STREET, "since": "2026-10-05", "until": "2026-10-01"},
        {"region": STREET, "since": "gestern"},
    ],
)
def test_an_appointment_that_cannot_be_is_refused_in_words(browser: TestClient, asked: dict[str, str]) -> None:
    page = browser.get(_path(VILLAGE_CHIEF), params={"do": "appoint", **asked})
    assert page.status_code == 400
    assert "person-plan-wrong" in page.text
    assert _do(browser, VILLAGE_CHIEF, "appoint", **asked).status_code == 400


def test_role_and_region_change_and_a_new_role_ends_the_terms(browser: TestClient, database: Database) -> None:
    name = "转岗人员（示例）"
    _new(browser, name)
    _appoint(browser, name, {"region": "chancheng/nanzhuang"})
    assert _do(browser, name, "change", role="grid_worker", region=pages_site.GRID).status_code == 303
    with database.read() as connection:
        one = people_store.get(connection, name)
        terms = people_store.appointments(connection, name)
    assert (one.role, one.region) == (Role.GRID_WORKER, pages_site.GRID)
    assert not any(t.in_force(pages_site.now_ms() + DAY_MS) for t in terms)
    assert _do(browser, name, "change", role="emperor").status_code == 400
    only = _do(browser, pages_site.ADMINISTRATOR, "change", role="auditor")
    assert only.status_code == 409
    assert "person-error" in only.text
    cases_are_in_the_trail(database)


def test_a_term_is_ended_with_a_successor_who_holds_the_office_then(browser: TestClient, database: Database) -> None:
    old, new, region = "离任河长（示例）", "接任河长（示例）", "chancheng/nanzhuang"
    for name in (old, new):
        _new(browser, name)
    _appoint(browser, old, {"region": region})
    with database.read() as connection:
        (term,) = people_store.appointments(connection, old)
    assert new in part(browser.get(_path(old)).text, "person-successor")
    for _ in range(2):  # sent twice
        assert _do(browser, old, "end", term=str(term.id), successor=new).status_code == 303
    with database.read() as connection:
        (held,) = people_store.appointments(connection, new)
        (over,) = people_store.appointments(connection, old)
    assert (held.region, held.since_ms, held.until_ms) == (region, over.until_ms, None)


def test_how_somebody_is_reached_is_added_and_the_address_is_never_shown_again(
    app: FastAPI, browser: TestClient, database: Database
) -> None:
    page = browser.get(_path(VILLAGE_CHIEF)).text
    assert "person-no-channel" in page
    for _ in range(2):  # the second time it was sent twice
        added = _do(browser, VILLAGE_CHIEF, "channel", kind="wecom", robot=SECRET)
        assert added.status_code == 303
    page = browser.get(added.headers["location"]).text
    assert re.findall(r'data-testid="person-channel" data-kind="(\w+)"', page) == ["wecombot"]
    assert SECRET[-4:] in part(page, "person-channel")
    assert "geheim" not in page
    with database.read() as connection:
        (row,) = connection.execute(sa.select(person_contact)).mappings()
        lines = audit_trail.list_entries(connection, what="person.contact_changed", limit=9)
    assert "geheim" not in str(dict(row)) + "".join(line.body for line in lines)
    directory = app.state.context.notifications.directory()
    assert directory.called(VILLAGE_CHIEF).channels[0].url == f"wecombot://{SECRET}"
    assert f'data-person="{VILLAGE_CHIEF}" data-reach="ok"' in browser.get(f"/people?q={quote('梁村')}").text


def test_what_a_channel_lacks_is_said_beside_the_field(browser: TestClient) -> None:
    wrong = _do(browser, VILLAGE_CHIEF, "channel", kind="sms", number="138 0000", gateway="https://sms.example.cn/s")
    assert wrong.status_code == 400
    assert "person-wrong-number" in wrong.text
    assert 'value="https://sms.example.cn/s"' in wrong.text
    assert "person-wrong-robot" in _do(browser, VILLAGE_CHIEF, "channel", kind="wecom", robot="x").text
    unknown = _do(browser, VILLAGE_CHIEF, "channel", kind="other", url="nosuch://geheim")
    assert unknown.status_code == 400
    assert "geheim" not in unknown.text
    assert _do(browser, VILLAGE_CHIEF, "channel", kind="pigeon").status_code == 400


def test_a_test_message_goes_through_the_worker_and_the_page_says_what_came_of_it(
    browser: TestClient, database: Database
) -> None:
    _do(browser, VILLAGE_CHIEF, "channel", kind="wecom", robot=SECRET)
    newest = re.search(r'name="newest" value="(\d*)"', browser.get(_path(VILLAGE_CHIEF)).text)
    assert newest is not None
    for _ in range(2):  # sent twice
        sent = _do(browser, VILLAGE_CHIEF, "test", newest=newest[1])
        assert sent.status_code == 303
    with database.read() as connection:
        queued = notice_store.list_notices(connection, contact=VILLAGE_CHIEF, limit=9)
    assert len(queued) == 1
    page = browser.get(sent.headers["location"]).text
    assert 'data-state="waiting"' in part(page, "person-tested")
    assert 'http-equiv="refresh"' in page
    gone = {"status": "dead", "last_error": "渠道没有接收。 / the channel did not take it."}
    with database.write() as connection:
        connection.execute(sa.update(notice).where(notice.c.id == queued[0].id).values(gone))
    page = browser.get(sent.headers["location"]).text
    assert 'data-state="failed"' in part(page, "person-tested")
    assert "渠道没有接收" in page
    assert 'http-equiv="refresh"' not in page
    assert _do(browser, pages_site.OFFICE, "test").status_code == 409


def test_settings_say_why_and_when_messages_come(app: FastAPI, browser: TestClient) -> None:
    name = pages_site.ENGINEER
    fields = {"language": "en", "least": "orange", "phone": "0757-0000 0001", "reasons": "own", "role_office": "1"}
    half = _do(browser, name, "settings", quiet_from="20:00", **fields)
    assert half.status_code == 400
    assert "person-wrong-quiet_from" in half.text
    assert 'value="0757-0000 0001"' in half.text
    assert _do(browser, name, "settings", phone="call me", least="red").status_code == 400
    answer = _do(browser, name, "settings", quiet_from="20:00", quiet_until="09:00", **fields)
    assert answer.status_code == 303
    assert _do(browser, name, "channel", kind="mail", to="a@example.cn", host="smtp.example.cn", user="u",
               password="geheimnis").status_code == 303  # fmt: skip
    contact = app.state.context.notifications.directory().called(name)
    assert (contact.roles, contact.phone, contact.language) == ((ContactRole.OFFICE,), "0757-0000 0001", "en")
    assert contact.quiet is not None
    page = browser.get(_path(name)).text
    assert 'value="20:00"' in page
    assert "geheimnis" not in page


def test_a_contact_of_the_file_is_shown_and_taken_over_into_the_record(
    app: FastAPI, browser: TestClient, database: Database
) -> None:
    outside = part(browser.get("/people").text, "people-file")
    assert "值班甲（示例）" in outside
    assert "127.0.0.1" not in outside
    page = browser.get(_path(pages_site.CHIEF)).text
    assert say("people_page.from_file").zh in page
    assert 'name="channel" value' not in page  # what the file says is not removed here
    assert "people-file" not in browser_of(app, pages_site.OFFICE).get("/people").text
    for _ in range(2):
        answer = browser.post("/people", data={"do": "import", "key": "duty-1", "role": "office"})
        assert answer.status_code == 303
    page = browser.get(answer.headers["location"]).text
    assert say("people_page.from_here").zh in page
    assert browser.post("/people", data={"do": "import", "key": "nobody", "role": "office"}).status_code == 404
    with database.read() as connection:
        assert people_store.get(connection, "值班甲（示例）").role is Role.OFFICE
    assert "值班甲（示例）" not in part(browser.get("/people").text, "people-file")


def test_a_channel_is_removed(browser: TestClient, app: FastAPI) -> None:
    name = "罗助理（示例）"
    for robot in ("first-robot-key-1111", "second-robot-key-2222"):
        _do(browser, name, "channel", kind="wecom", robot=robot)
    marks = re.findall(r'name="channel" value="([^"]+)"', browser.get(_path(name)).text)
    assert len(marks) == 2
    for _ in range(2):
        assert _do(browser, name, "drop", channel=marks[0]).status_code == 303
    left = app.state.context.notifications.directory().called(name).channels
    assert [one.ending for one in left] == ["2222"]
    assert _do(browser, name, "drop", channel=marks[1]).status_code == 303
    assert "person-no-channel" in browser.get(_path(name)).text


def test_nobody_of_this_name_is_not_found_and_pages_are_in_one_language(browser: TestClient) -> None:
    assert browser.get("/people/nobody").status_code == 404
    assert _do(browser, "nobody", "remove").status_code == 404
    assert _do(browser, VILLAGE_CHIEF, "dance").status_code == 409
    for path in ("/people", "/people?add=1", _path(VILLAGE_CHIEF) + "?do=appoint"):
        zh = browser.get(path).text
        en = browser.get(path + ("&" if "?" in path else "?") + "lang=en").text
        assert say("people_page.role").zh in zh
        assert say("people_page.role").en in en
        assert say("people_page.region").zh not in en


# -- one's own messages ------------------------------------------------------------------------------------------------


def test_people_choose_how_they_are_reached_within_what_their_duty_asks(app: FastAPI, browser: TestClient) -> None:
    name = "周村级河长（示例）"
    _new(browser, name)
    assert _do(browser, name, "settings", least="blue", reasons="own", role_office="1").status_code == 303
    own = browser_of(app, name)
    assert _do(own, name, "channel", kind="feishu", robot=SECRET).status_code == 303
    page = own.get(_path(name)).text
    assert "person-arrivals" in page
    assert "person-settings" in page
    refused = _do(own, name, "settings", least="red", language="zh")
    assert refused.status_code == 400
    assert say("notice.duty_least", least=say("incident.orange")).zh in refused.text
    quiet = {"quiet_from": "21:00", "quiet_until": "07:00"}
    assert _do(own, name, "settings", least="orange", language="en", **quiet).status_code == 303
    contact = app.state.context.notifications.directory().called(name)
    assert (contact.least, contact.language, contact.roles) == (Colour.ORANGE, "en", (ContactRole.OFFICE,))
    only = re.search(r'name="channel" value="([^"]+)"', own.get(_path(name)).text)
    assert only is not None
    assert _do(own, name, "drop", channel=only[1]).status_code == 400
    assert _do(own, name, "channel", kind="other", url="json://10.0.0.1/x").status_code == 400
    assert _do(own, name, "channel", kind="mail", to="a@example.cn", host="10.0.0.1", user="u").status_code == 400
    assert (
        _do(own, name, "settings", least="orange", language="zh", reasons="own", role_engineer="1").status_code == 303
    )
    assert app.state.context.notifications.directory().called(name).roles == (ContactRole.OFFICE,), (
        "not theirs to choose"
    )
    stranger = browser_of(app, pages_site.WORKER)
    for do in ("settings", "channel", "drop", "push", "test"):
        assert _do(stranger, name, do, least="blue", kind="feishu", robot=SECRET).status_code in (403, 409), do


def test_a_browser_becomes_a_channel_of_its_owner_alone(app: FastAPI) -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    given = {
        "endpoint": "https://web.push.apple.com/abc",
        "p256dh": urlsafe_b64encode(point).decode().rstrip("="),
        "auth": urlsafe_b64encode(bytes(16)).decode().rstrip("="),
    }
    name = pages_site.WORKER
    own = browser_of(app, name)
    settings = app.state.context.notifications
    app.state.context = replace(app.state.context, notifications=replace(settings, push=None))
    assert _do(own, name, "push", **given).status_code == 409
    assert "data-push" not in own.get(_path(name)).text
    push = WebPush(b"secret", "https://river.example")
    app.state.context = replace(app.state.context, notifications=replace(settings, push=push))
    try:
        assert f'data-push="{push.public_key}"' in own.get(_path(name)).text
        assert _do(own, name, "push", **given).status_code == 303
        assert _do(own, name, "push", **given).status_code == 303
        channels = app.state.context.notifications.directory().called(name).channels
        assert [one.kind for one in channels].count("webpush") == 1
        assert _do(own, name, "push", **{**given, "endpoint": "https://10.0.0.1/x"}).status_code == 400
        assert _do(browser_of(app, pages_site.ADMINISTRATOR), name, "push", **given).status_code == 409
        page = own.get(_path(name)).text
        assert given["auth"] not in page
        assert given["endpoint"] not in page
    finally:
        app.state.context = replace(app.state.context, notifications=settings)


def test_the_worker_for_messages_has_an_address_that_stays(app: FastAPI) -> None:
    answer = TestClient(app).get("/push/worker.js")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "showNotification" in answer.text
