"""The inbox: what it shows to whom, by address; accepting and merging many; saved views."""

import html
import re

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from governance.incidents import store as incident_store
from governance.incidents.finding import Colour, ConditionChange, Finding, FindingKind
from governance.incidents.model import Action, Assignment, EntryKind, Incident, Order, State
from governance.organisation.regions import Place
from governance.organisation.roles import Actor, Role
from infra.database import Database
from infra.texts import Text, say
from tests import pages_site
from tests.page_browser import browser_of, current
from tests.pages_site import act_on_case, file_case, read_case
from tests.says import shows

OFFICE = Actor(pages_site.OFFICE, Role.OFFICE)
STREET = "chancheng/shiwan"


@pytest.fixture
def office(app: FastAPI) -> TestClient:
    return browser_of(app, pages_site.OFFICE)


def _case(database: Database, region: str = pages_site.GRID, text: str = "岸边杂物", minutes: int = 1) -> Incident:
    """A new report in a region."""
    return file_case(database, Place(region, pages_site.RIVER), text, minutes_ago=minutes)


def _storm(database: Database, cause: str, kind: FindingKind = FindingKind.EVENT) -> list[int]:
    """Four incidents of one kind on one river within minutes."""
    now_ms = pages_site.now_ms()
    stations = ("dph-shiwan-1", "dph-shiwan-2", "dph-shiwan-3", "dph-shiwan-4")
    findings = [
        Finding(
            rule="storm", version="1", kind=kind, change=ConditionChange.FIRED, cause=f"{cause}:{station}",
            station=station, parameter="turbidity", observed_at_ms=now_ms - i, since_ms=now_ms - i * 60_000,
            colour=Colour.ORANGE, text=Text("浊度", "turbidity"), value=200.0 + i,
        )
        for i, station in enumerate(stations)
    ]  # fmt: skip
    with database.write() as connection:
        place = Place(STREET, "dongpinghe-shiwan")
        return list(
            incident_store.record_findings(
                connection, findings, now_ms, source=pages_site.SOURCE, place=lambda _: place
            ).ids
        )


def _rows(page: str) -> list[int]:
    return [int(number) for number in re.findall(r'data-testid="inbox-row-(\d+)"', page)]


def _row(page: str, number: int) -> str:
    found = re.search(rf'<tr[^>]*data-testid="inbox-row-{number}".*?</tr>', page, re.S)
    assert found, number
    return found[0]


def _ref(one: Incident) -> str:
    return f"{one.id}:{one.version}"


def _post(browser: TestClient, path: str = "/incidents", **fields: object):  # type: ignore[no-untyped-def]
    return browser.post(path, data=fields)


def test_a_row_says_what_where_until_when_in_whose_hands_and_how_it_looks(office: TestClient) -> None:
    page = current(office, "/incidents?view=open")
    red = _row(page, 1)
    assert 'class="pennant red"' in red
    assert 'class="limit left"' in red or 'class="limit soon"' in red
    assert "氨氮" in red
    assert say("inbox.sign_pollution").zh in red
    assert 'href="/incidents/1"' in red
    assert 'name="accept" value="1:' in red
    assert "data-step" in red
    litter = _row(page, 2)
    assert pages_site.WORKER in litter
    assert say("inbox.sign_seen").zh in litter
    assert "inbox-accept-2" not in litter


def test_the_most_urgent_stands_first_and_the_rest_is_one_address_further(app: FastAPI, database: Database) -> None:
    late = _case(database, minutes=10 * 24 * 60)
    for i in range(31):
        _case(database, text=f"示例：第{i}处漂浮垃圾")
    browser = browser_of(app, pages_site.OFFICE)
    first = current(browser, "/incidents")
    assert _rows(first)[0] == late.id
    assert len(_rows(first)) == 30
    assert 'class="limit over"' in _row(first, late.id)
    following = html.unescape(re.search(r'href="([^"]+)" data-testid="inbox-more"', first)[1])  # type: ignore[index]
    second = current(browser, following)
    assert _rows(second)
    assert not set(_rows(first)) & set(_rows(second))
    assert _rows(current(browser, "/incidents?page=99999")) == _rows(second)


def test_all_overdue_of_a_street_are_two_links_away_and_the_address_says_so(
    office: TestClient, database: Database
) -> None:
    here = _case(database, minutes=9 * 24 * 60)
    elsewhere = _case(database, pages_site.NEXT_STREET, minutes=9 * 24 * 60)
    page = current(office, "/incidents")
    overdue = html.unescape(re.search(r'href="([^"]+)"[^>]*data-testid="inbox-view-overdue"', page)[1])  # type: ignore[index]
    page = current(office, overdue)
    street = html.unescape(re.search(rf'href="([^"]+)"[^>]*data-testid="inbox-street-{STREET}"', page)[1])  # type: ignore[index]
    page = current(office, street)
    assert here.id in _rows(page)
    assert elsewhere.id not in _rows(page)
    assert "view=overdue" in street
    assert "inbox-chip-region" in page


def test_each_filter_narrows_and_says_so(office: TestClient, database: Database) -> None:
    one = _case(database, pages_site.NEXT_STREET, text="桥墩旁油污样本")
    act_on_case(database, one.id, Order(Action.ACCEPT))
    act_on_case(
        database, one.id, Order(Action.DISPATCH, assignment=Assignment(pages_site.NEXT_STREET, "何总河长（示例）"))
    )
    for query in (
        "handler=何总河长（示例）",
        "q=油污样本",
        f"q=%23{one.id}",
        "state=dispatched&kind=report",
        "q=祖庙&state=dispatched",
    ):
        assert one.id in _rows(current(office, f"/incidents?view=open&{query}")), query
    for query in ("q=没有这样的话", "colour=blue", "kind=forecast", "river=fengshouchong"):
        assert one.id not in _rows(current(office, f"/incidents?view=open&{query}")), query
    odd = current(office, "/incidents?view=open&colour=pink&region=x&river=y&state=z&kind=w&q=油污样本")
    assert _rows(odd) == [one.id]


def test_a_filter_that_contradicts_itself_says_so(office: TestClient) -> None:
    page = current(office, "/incidents?view=overdue&state=closed")
    assert "inbox-contradiction" in page
    assert shows(page, "inbox.contradiction")
    assert not _rows(page)
    assert "inbox-contradiction" not in current(office, "/incidents?view=closed&state=closed")


def test_who_is_bound_to_a_region_is_told_that_another_is_not_theirs(app: FastAPI, database: Database) -> None:
    elsewhere = _case(database, pages_site.NEXT_STREET, text="只给祖庙看的内容")
    worker = browser_of(app, pages_site.WORKER)
    page = current(worker, f"/incidents?view=all&region={pages_site.NEXT_STREET}")
    assert shows(page, "inbox.not_your_region")
    for query in ("view=all", "view=all&q=只给祖庙看的内容", f"view=all&q={elsewhere.id}"):
        page = current(worker, f"/incidents?{query}")
        assert elsewhere.id not in _rows(page)
    answer = _post(worker, accept=_ref(elsewhere))
    assert answer.status_code == 409
    assert "只给祖庙看的内容" not in answer.text
    assert read_case(database, elsewhere.id)[0].state is State.REPORTED


def test_who_has_nothing_to_do_is_told_what_others_have_in_hand(app: FastAPI) -> None:
    page = current(browser_of(app, pages_site.AUDITOR), "/incidents")
    nothing = re.search(r'data-testid="inbox-nothing".*?inbox-see-open', page, re.S)
    assert nothing
    assert shows(nothing[0], "inbox.with_others")
    rows = current(browser_of(app, pages_site.AUDITOR), "/incidents?view=open")
    assert _rows(rows)
    assert "inbox-accept-" not in rows
    assert "inbox-bulk" not in rows


def test_the_inbox_is_for_who_sees_incidents(app: FastAPI, database: Database) -> None:
    one = _case(database)
    public = browser_of(app, pages_site.PUBLIC)
    assert public.get("/incidents").status_code == 403
    assert _post(public, accept=_ref(one)).status_code == 403
    assert _post(public, action="save", name="x").status_code == 403
    answer = _post(browser_of(app, pages_site.AUDITOR), accept=_ref(one))
    assert answer.status_code == 409
    assert read_case(database, one.id)[0].state is State.REPORTED


def test_a_storm_is_one_row_that_opens(office: TestClient, database: Database) -> None:
    ids = _storm(database, "rain")
    page = current(office, "/incidents?view=open&kind=event")
    (shown,) = _rows(page)
    assert shown in ids
    row = _row(page, shown)
    assert f"{say('incident.orange').zh}4" in row
    assert all(f"{number}:" in row for number in ids)
    opened = html.unescape(re.search(r'href="([^"]+)#', row)[1])  # type: ignore[index]
    page = current(office, opened)
    members = re.findall(r'data-testid="inbox-row-(\d+)-member"', page)
    assert sorted(map(int, members)) == sorted(ids)
    answer = _post(office, "/incidents?view=open", action="accept", row=[",".join(f"{n}:1" for n in ids)])
    assert answer.status_code == 303
    assert all(read_case(database, number)[0].state is State.ACCEPTED for number in ids)


def test_accepting_many_that_is_sent_twice_accepts_each_once(office: TestClient, database: Database) -> None:
    some = [_case(database) for _ in range(3)]
    for _ in range(2):
        answer = _post(office, "/incidents?view=unaccepted&lang=en", action="accept", row=[_ref(one) for one in some])
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/incidents?view=unaccepted&lang=en&done=accept&ids=")
    for one in some:
        assert [entry.what for entry in read_case(database, one.id)[1]] == [EntryKind.REPORTED, EntryKind.ACCEPTED]
    page = current(office, answer.headers["location"])
    assert "inbox-toast" in page
    assert shows(page, "inbox.done_accept", count=3)
    single = _post(office, accept=_ref(_case(database)))
    assert "inbox-toast-link" in current(office, single.headers["location"])


def test_what_failed_is_told_row_by_row_with_who_came_first(office: TestClient, database: Database) -> None:
    fine, taken = _case(database), _case(database)
    other = Actor("何操作员（示例）", Role.OPERATOR)
    act_on_case(database, taken.id, Order(Action.REJECT, comment="重复"), other)
    answer = _post(office, action="accept", row=[_ref(fine), _ref(taken), "99999:1"])
    assert answer.status_code == 200
    for number, key in ((fine.id, "inbox.result_ok"), (taken.id, "action_bar.meanwhile"), (99999, "incident.unknown")):
        told = re.search(rf'data-testid="inbox-result-{number}".*?</tr>', answer.text, re.S)
        assert told
        assert shows(told[0], key), number
    assert read_case(database, fine.id)[0].state is State.ACCEPTED
    assert read_case(database, taken.id)[0].state is State.REJECTED
    nothing = _post(office, action="accept")
    assert nothing.status_code == 409
    assert shows(nothing.text, "inbox.none_ticked")


def test_many_become_one_and_sent_twice_stay_so(office: TestClient, database: Database) -> None:
    first, second, third = _case(database, minutes=30), _case(database), _case(database)
    ticked = [_ref(one) for one in (third, first, second)]
    for _ in range(2):
        answer = _post(office, action="merge", row=ticked)
        assert answer.status_code == 303, answer.text
    for one in (second, third):
        incident, history = read_case(database, one.id)
        assert incident.case.merged_into == first.id
        assert [entry.what for entry in history] == [EntryKind.REPORTED, EntryKind.MERGED]
    absorbed = [entry.what for entry in read_case(database, first.id)[1]]
    assert absorbed == [EntryKind.REPORTED, EntryKind.ABSORBED, EntryKind.ABSORBED]
    target, one = _case(database), _case(database, minutes=60)
    assert _post(office, action="merge", row=[_ref(one)], into=f"#{target.id}").status_code == 303
    assert read_case(database, one.id)[0].case.merged_into == target.id
    assert _post(office, action="merge", row=[_ref(target)]).status_code == 409
    assert _post(office, action="merge", row=[_ref(target)], into="99999").status_code == 409


def test_a_form_of_another_site_is_refused(office: TestClient, database: Database) -> None:
    one = _case(database)
    answer = office.post("/incidents", data={"accept": _ref(one)}, headers={"Origin": "https://example.org"})
    assert answer.status_code == 403
    assert read_case(database, one.id)[0].state is State.REPORTED


def test_a_view_is_saved_for_one_person_by_page_and_api_alike(app: FastAPI, office: TestClient) -> None:
    path = f"/incidents?view=overdue&region={STREET}"
    assert _post(office, path, action="save", name=" 石湾逾期 ").status_code == 303
    api = office.get("/api/v1/me/views").json()
    assert api == {"items": [{"name": "石湾逾期", "query": "view=overdue&region=chancheng%2Fshiwan"}]}
    page = current(office, "/incidents")
    assert "/incidents?view=overdue&amp;region=chancheng%2Fshiwan" in page
    assert "石湾逾期" not in current(browser_of(app, pages_site.ADMINISTRATOR), "/incidents")
    assert office.put("/api/v1/me/views/mine", json={"query": "view=mine"}).status_code == 200
    assert office.delete("/api/v1/me/views/mine").status_code == 204
    refused = _post(office, path, action="save", name="长" * 41)
    assert refused.status_code == 409
    assert "长" * 41 in refused.text
    assert shows(refused.text, "inbox.view_too_long")
    assert _post(office, path, action="forget", name="石湾逾期").status_code == 303
    assert office.get("/api/v1/me/views").json() == {"items": []}
    assert browser_of(app, pages_site.PUBLIC).get("/api/v1/me/views").status_code == 403


def test_what_is_new_is_announced_and_the_list_holds_still(office: TestClient, database: Database) -> None:
    page = current(office, "/incidents?view=unaccepted")
    before = re.findall(r'data-rows="([^"]*)"', page)
    assert before[0] == before[1]
    assert 'data-live-wait="news"' in page
    assert not re.search(r'id="list"[^>]*data-live=', page)
    made = _case(database)
    office.app.state.picture.read_at_ms = 0  # type: ignore[attr-defined]
    part = office.get("/incidents?view=unaccepted", headers={"X-Fragments": "news"}).text
    assert part.count("data-fragment=") == 1
    assert f"{made.id}:reported:yellow" in part
    assert f"{made.id}:reported:yellow" not in page


def test_closed_ones_are_paged_by_address_newest_first(office: TestClient, database: Database) -> None:
    for _ in range(32):
        act_on_case(database, _case(database).id, Order(Action.REJECT, comment="重复"))
    first = current(office, "/incidents?view=closed")
    rows = _rows(first)
    assert rows == sorted(rows, reverse=True)
    assert len(rows) == 30
    following = html.unescape(re.search(r'href="([^"]+)" data-testid="inbox-more"', first)[1])  # type: ignore[index]
    assert max(_rows(current(office, following))) < min(rows)
    assert "inbox-bulk" not in first


def test_the_inbox_is_in_one_language_and_the_old_addresses_lead_here(office: TestClient) -> None:
    zh, en = current(office, "/incidents"), current(office, "/incidents?lang=en")
    assert say("inbox.view_overdue").zh in zh
    assert say("inbox.column_left").en not in zh
    assert say("inbox.column_left").en in en
    assert say("inbox.column_left").zh not in en
    moved = office.get("/worklist")
    assert (moved.status_code, moved.headers["location"]) == (308, "/incidents")
    assert say("inbox.view_closed").zh in current(office, "/incidents?show=over")
