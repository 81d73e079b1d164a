"""The page of an incident: what it says and how sure, evidence of every kind of finding, acting with photos."""

import io
import json
import re
from dataclasses import replace

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from governance import tables
from governance.audit import trail as audit_trail
from governance.incidents import store as incident_store
from governance.incidents.finding import Colour, ConditionChange, Finding, FindingKind
from governance.incidents.headline import Headline, Row
from governance.incidents.model import Action, Assignment, Incident, Order, Source, State
from governance.organisation.regions import Place
from governance.organisation.roles import CITIZEN_NAME, Actor, Department, Role
from infra.database import Database
from infra.texts import Text, say
from tests import pages_site
from tests.page_browser import browser_of, part
from tests.pages_site import act_on_case, file_case, read_case

STATION = "qcc-huanhu-1"
NAME = Text("奇槎涌环湖花园段上游", "Qicha Creek, Huanhu Garden 1")
OFFICE = Actor(pages_site.OFFICE, Role.OFFICE)
ADMINISTRATOR = Actor(pages_site.ADMINISTRATOR, Role.ADMINISTRATOR)
WORKER = Actor(pages_site.WORKER, Role.GRID_WORKER, frozenset({pages_site.GRID}))
SEWAGE = Headline(
    NAME,
    say("event.sewage"),
    (
        Row("nh3n", 3.73, 0.7, 22.2),
        Row("codmn", 11.6, 4.95, 16.1),
        Row("do", 3.4, 5.9, -4.0),
        Row("tp", 0.91, 0.1, 12.0),
    ),
    STATION,
    "creek",
    confidence=0.95,
    score=16.7,
    threshold=7.0,
)


def finding(kind: FindingKind, at_ms: int, **other: object) -> Finding:
    """A finding of a kind at the station upstream."""
    headline = Headline(NAME, Text("突升", "sudden rise"), (Row("nh3n", 0.68, limit=0.5),), STATION, "creek")
    usual = Finding(
        rule=f"some-{kind}-rule",
        version="1",
        kind=kind,
        change=ConditionChange.FIRED,
        cause=f"{kind}/{STATION}",
        station=STATION,
        parameter="nh3n",
        observed_at_ms=at_ms,
        since_ms=at_ms - 10 * pages_site.MINUTE,
        value=0.68,
        limit=0.5,
        colour=Colour.ORANGE,
        text=Text("上游氨氮 0.68", "ammonia 0.68 upstream"),
        headline=headline,
    )
    return replace(usual, **other)  # type: ignore[arg-type]


def kinds(at_ms: int) -> dict[FindingKind, Finding]:
    """A finding of each kind that rules make."""
    bare = {"parameter": None, "value": None, "limit": None}
    silent = Headline(NAME, say("headline.silent"))
    stuck = Headline(NAME, Text("氨氮传感器疑似故障", "ammonia sensor: suspected fault"))
    return {
        kind: finding(kind, at_ms, **other)
        for kind, other in (
            (FindingKind.THRESHOLD, {}),
            (FindingKind.RATE, {}),
            (FindingKind.TREND, {}),
            (FindingKind.EVENT, {**bare, "headline": SEWAGE}),
            (FindingKind.NO_DATA, {**bare, "headline": silent}),
            (FindingKind.DEVICE, {"headline": stuck, "limit": None}),
            (FindingKind.FORECAST, {}),
        )
    }


def record(database: Database, *findings: Finding) -> dict[FindingKind, int]:
    """The numbers of the incidents of findings, by kind."""
    now_ms = pages_site.now_ms()
    found = {}
    with database.write() as connection:
        for one in findings:
            made = incident_store.record_findings(
                connection,
                [one],
                now_ms,
                source=pages_site.SOURCE,
                place=lambda _: Place(pages_site.GRID, pages_site.RIVER),
            )
            found[one.kind] = made.ids[0]
    return found


def report(
    database: Database, text: str = "桥下有油污", region: str = pages_site.GRID, origin: Source = Source.CITIZEN
) -> Incident:
    """A new report."""
    return file_case(database, Place(region, pages_site.RIVER, 113.1478, 23.0205), text, origin=origin)


@pytest.fixture(scope="module")
def numbers(database: Database) -> dict[FindingKind, int]:
    return record(database, *kinds(pages_site.now_ms() - 2 * pages_site.HOUR).values())


@pytest.fixture
def browser(app: FastAPI) -> TestClient:
    return browser_of(app, pages_site.OFFICE)


def _send(browser: TestClient, one: Incident, action: str, photos: object = None, **fields: object):  # type: ignore[no-untyped-def]
    data = {"action": action, "version": one.version, **fields}
    return browser.post(f"/incidents/{one.id}", data=data, files=photos)


def _handled(database: Database) -> Incident:
    """A case that is being handled by the grid worker."""
    one = report(database, origin=Source.PATROL)
    act_on_case(database, one.id, Order(Action.ACCEPT))
    act_on_case(database, one.id, Order(Action.DISPATCH, assignment=Assignment(pages_site.GRID)))
    return act_on_case(database, one.id, Order(Action.START), WORKER)


# -- what it says ------------------------------------------------------------------------------------------------------


def test_an_operator_sees_title_deadline_source_and_messages(browser: TestClient) -> None:
    page = browser.get("/incidents/1").text
    title = re.search(r'data-testid="case-title">([^<]*)<', page)
    assert title is not None
    assert len(title[1]) <= 40
    assert "8.40" in title[1]
    assert 'class="limit left"' in page or 'class="limit soon"' in page or 'class="limit over"' in page
    assert 'class="now" aria-current="step" data-state="reported"' in page
    assert pages_site.CHIEF in part(page, "timeline")
    assert 'class="told dead"' in page
    assert 'class="told read"' in page
    assert "case-map" in page
    assert 'class="rank">1<' in page
    assert '<ol class="case-sources">' in page


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        (FindingKind.EVENT, "pollution"),
        (FindingKind.NO_DATA, "fault"),
        (FindingKind.DEVICE, "fault"),
        (FindingKind.FORECAST, "expected"),
        (FindingKind.THRESHOLD, ""),
        (FindingKind.RATE, ""),
        (FindingKind.TREND, ""),
    ],
)
def test_every_kind_of_finding_has_a_verdict_facts_and_a_chart(
    browser: TestClient, numbers: dict[FindingKind, int], kind: FindingKind, verdict: str
) -> None:
    number = numbers[kind]
    for language in ("zh", "en"):
        page = browser.get(f"/incidents/{number}?lang={language}").text
        found = re.search(r'data-verdict="(\w*)"', page)
        assert found is not None
        assert found[1] == verdict if verdict else found[1] in ("pollution", "fault", "undecided")
        assert 1 <= part(page, "case-facts").count("data-points=") <= 9
        assert "<series-chart" in page
        assert f'base="/incidents/{number}/chart"' in page
    assert "some-" not in part(page, "case-title")


def test_an_event_shows_its_parameters_as_tabs_and_rings_what_decided(
    browser: TestClient, numbers: dict[FindingKind, int]
) -> None:
    number = numbers[FindingKind.EVENT]
    page = browser.get(f"/incidents/{number}").text
    tabs = part(page, "case-tabs")
    assert re.findall(r'data-parameter="(\w+)"', tabs) == ["nh3n", "codmn", "do", "tp"]
    assert 'parameters="nh3n"' in page
    assert 'parameters="nh3n,codmn,do,tp"' in browser.get(f"/incidents/{number}?parameter=all").text
    data = browser.get(f"/incidents/{number}/chart?parameter=codmn").json()
    (panel,) = data["panels"]
    assert [value for _, value in panel["ringed"]] == [11.6]
    assert panel["columns"]["at"]
    assert data["start"] < data["since"] <= data["end"]
    other = browser.get(f"/incidents/{number}/chart/{pages_site.STATION}?parameter=nh3n").json()
    assert other["panels"][0]["ringed"] == []
    assert other["start"] == data["start"]
    assert browser.get(f"/incidents/{number}/chart?parameter=nothing").status_code == 400
    assert "case-table-nh3n" in browser.get(f"/incidents/{number}?view=table").text


def test_the_readings_since_it_began_are_ringed(browser: TestClient) -> None:
    (panel,) = browser.get("/incidents/1/chart?parameter=nh3n").json()["panels"]
    assert len(panel["ringed"]) == 3
    assert all(value > 4.0 for _, value in panel["ringed"])


def test_a_report_without_readings_shows_words_photo_and_map(browser: TestClient, database: Database) -> None:
    one = report(database, "桥下有油污<script>")
    page = browser.get(f"/incidents/{one.id}").text
    assert "case-no-chart" in page
    assert "<series-chart" not in page
    assert "<svg" in part(page, "case-map")
    assert "桥下有油污&lt;script&gt;" in page
    assert 'data-verdict="reported"' in page


def test_branches_stand_below_the_way(browser: TestClient, database: Database) -> None:
    one = _handled(database)
    act_on_case(database, one.id, Order(Action.RETURN, comment="不属本网格"), WORKER)
    page = browser.get(f"/incidents/{one.id}").text
    assert 'class="now" aria-current="step" data-state="accepted"' in page
    assert 'class="now" aria-current="step" data-state="returned"' in part(page, "case-branches")
    act_on_case(database, one.id, Order(Action.FALSE_ALARM, comment="误报", reason="natural"))
    page = browser.get(f"/incidents/{one.id}").text
    assert 'data-state="false_alarm"' in part(page, "case-branches")
    assert 'class="left-out" data-state="closed"' in page


def test_findings_fold_and_what_people_wrote_never_does(browser: TestClient, database: Database) -> None:
    start_ms = pages_site.now_ms() - 3 * pages_site.HOUR
    number = 0
    for i in range(80):
        change = ConditionChange.FIRED if i % 2 == 0 else ConditionChange.RESOLVED
        at_ms = start_ms + i * pages_site.MINUTE
        one = finding(FindingKind.THRESHOLD, at_ms, change=change, cause="flaps", since_ms=at_ms, rule=f"flap-{i // 2}")
        number = record(database, one)[FindingKind.THRESHOLD]
        if i == 3:
            act_on_case(database, number, Order(Action.COMMENT, comment="我在现场看过了"))
    page = browser.get(f"/incidents/{number}").text
    assert "我在现场看过了" in page
    assert 'class="folded"' in page
    assert page.count('data-testid="timeline-line"') < 20


# -- who may -----------------------------------------------------------------------------------------------------------


def test_who_may_not_see_a_case_is_told_why_and_shown_what_they_reported(app: FastAPI, database: Database) -> None:
    elsewhere = report(database, "只给祖庙看的内容", region=pages_site.NEXT_STREET)
    worker = browser_of(app, pages_site.WORKER)
    answer = worker.get(f"/incidents/{elsewhere.id}")
    assert answer.status_code == 403
    assert "只给祖庙看的内容" not in answer.text
    assert 'href="/reported"' in part(answer.text, "refused-reported")
    sent = _send(worker, elsewhere, "comment", comment="x")
    assert sent.status_code == 403
    assert "只给祖庙看的内容" not in sent.text
    assert len(read_case(database, elsewhere.id)[1]) == 1
    assert worker.get(f"/incidents/{elsewhere.id}/chart?parameter=nh3n").status_code == 403
    public = browser_of(app, pages_site.PUBLIC)
    assert public.get("/incidents/1").status_code == 403
    assert public.get("/incidents/1/chart?parameter=nh3n").status_code == 403
    assert _send(public, elsewhere, "accept").status_code == 403


def test_an_auditor_reads_and_finds_the_trail_but_no_action(app: FastAPI) -> None:
    page = browser_of(app, pages_site.AUDITOR).get("/incidents/2").text
    assert "case-action-" not in page
    assert 'href="/trail?kind=incident&amp;id=2"' in part(page, "case-trail")
    assert "evidence?lang=zh" in part(page, "case-pdf")


@pytest.mark.parametrize("number", ["99999", "2147483648", "99999999999999999999"])
def test_an_unknown_number_is_a_page(browser: TestClient, number: str) -> None:
    assert browser.get(f"/incidents/{number}").status_code == 404
    assert browser.post(f"/incidents/{number}", data={"action": "accept"}).status_code == 404
    assert browser.get(f"/incidents/{number}/chart?parameter=nh3n").status_code == 404


def test_a_form_of_another_site_is_refused(browser: TestClient, database: Database) -> None:
    one = report(database)
    data = {"action": "accept", "version": one.version}
    answer = browser.post(f"/incidents/{one.id}", data=data, headers={"Origin": "https://example.org"})
    assert answer.status_code == 403
    assert read_case(database, one.id)[0].state is State.REPORTED


# -- acting ------------------------------------------------------------------------------------------------------------


def test_a_case_is_accepted_by_name_and_once(app: FastAPI, database: Database) -> None:
    one = report(database)
    open_site = browser_of(app)
    assert 'name="name"' in open_site.get(f"/incidents/{one.id}").text
    for _ in range(2):
        answer = _send(open_site, one, "accept", name="示例人")
        assert answer.status_code == 303
        assert answer.headers["location"] == f"/incidents/{one.id}?done=accept#actions"
    after, history = read_case(database, one.id)
    assert (after.accepted_by, len(history)) == ("示例人", 2)
    page = open_site.get(answer.headers["location"]).text
    assert 'role="status"' in part(page, "case-toast")


def test_a_false_alarm_can_be_taken_back_with_a_key(browser: TestClient, database: Database) -> None:
    one = report(database)
    _send(browser, one, "accept")
    seen = read_case(database, one.id)[0]
    answer = _send(browser, seen, "false_alarm", comment="是落叶", reason="natural")
    assert answer.status_code == 303
    page = browser.get(answer.headers["location"]).text
    assert 'data-key="u"' in part(page, "case-toast")
    assert "act=reopen" in part(page, "case-undo")


def test_every_action_of_the_lifecycle_has_its_form(browser: TestClient, app: FastAPI, database: Database) -> None:
    page = browser.get("/incidents/1").text
    for action in ("accept", "reject", "false_alarm", "comment", "merge", "split", "emergency"):
        assert f'data-testid="case-form-{action}"' in page, action
    assert 'data-key="a"' in page
    assert 'data-key="c"' in page
    one = _handled(database)
    worker = browser_of(app, pages_site.WORKER).get(f"/incidents/{one.id}").text
    for action in ("return", "transfer", "finish", "pause"):
        assert f'data-testid="case-form-{action}"' in worker, action
    assert "photo-input" in part(worker, "case-form-finish")
    chief = browser_of(app, "何总河长（示例）").get(f"/incidents/{one.id}").text
    assert 'data-testid="case-form-supervise"' in chief


def test_grey_actions_say_in_words_what_is_missing(browser: TestClient, database: Database) -> None:
    page = browser.get("/incidents/1").text
    assert "须先" in part(page, "case-closed-dispatch")
    one = record(database, finding(FindingKind.THRESHOLD, pages_site.now_ms() - pages_site.HOUR, cause="grey"))
    number = one[FindingKind.THRESHOLD]
    act_on_case(database, number, Order(Action.ACCEPT))
    act_on_case(database, number, Order(Action.DISPATCH, assignment=Assignment(pages_site.GRID)))
    act_on_case(database, number, Order(Action.START), WORKER)
    act_on_case(database, number, Order(Action.FINISH, comment="完成", measurement={"nh3n": 0.3}), WORKER)
    act_on_case(database, number, Order(Action.VERIFY, comment="核查"), ADMINISTRATOR)
    closed = part(browser.get(f"/incidents/{number}").text, "case-closed-close")
    assert "some-threshold-rule" not in closed
    assert NAME.zh in closed


def test_the_dispatch_form_offers_who_can_answer_for_a_case_and_the_timeline_names_region_and_person(
    browser: TestClient, database: Database
) -> None:
    made = file_case(database, Place(pages_site.GRID, pages_site.RIVER, 113.1478, 23.0205))
    act_on_case(database, made.id, Order(Action.ACCEPT))
    form = part(browser.get(f"/incidents/{made.id}?act=dispatch").text, "case-actions")
    assert f"<option>{pages_site.CHIEF}" in form or f'value="{pages_site.CHIEF}"' in form
    for name in (pages_site.PUBLIC, pages_site.AUDITOR, pages_site.ENGINEER):
        assert name not in form, name
    to = {"region": pages_site.GRID, "responsible": pages_site.WORKER, "department": Department.WATER}
    sent = browser.post(f"/api/v1/incidents/{made.id}/actions", json={"action": "dispatch", "to": to})
    assert sent.status_code == 200, sent.text
    told = part(browser.get(f"/incidents/{made.id}").text, "case-timeline")
    region = say("incident.assigned_region", region=Text("示例网格甲", "Example grid A"))
    assert say("incident.assigned_person", name=pages_site.WORKER).zh in told
    assert region.zh in told
    assert pages_site.GRID not in told
    _, history = read_case(database, made.id)
    texts = {"the record": history[-1].text.zh}
    with database.read() as connection:
        (entry, *_) = audit_trail.list_entries(connection, kind="incident", id=str(made.id), limit=1)
        texts["the trail"] = json.loads(entry.body)["entry"]["text_zh"]
        sent_on = sa.select(tables.outbox.c.body).where(tables.outbox.c.incident_id == made.id)
        event = connection.scalars(sent_on.order_by(tables.outbox.c.id.desc())).first()
        texts["a platform"] = json.loads(event)["data"]["text"]["zh"]
    for whom, text in texts.items():
        assert region.zh in text, whom
        assert pages_site.GRID not in text, whom


def test_who_reported_without_an_account_is_named_in_one_language(browser: TestClient, database: Database) -> None:
    before = file_case(database, Place(pages_site.GRID, pages_site.RIVER, 113.1478, 23.0205)).id
    assert browser.post("/report", data={"kind": "litter", "text": "示例"}).status_code == 303
    way = part(browser.get(f"/incidents/{before + 1}").text, "case-way")
    assert say("person.citizen").zh in way
    assert CITIZEN_NAME not in way


def test_who_handled_a_case_does_not_verify_it(browser: TestClient, database: Database) -> None:
    one = _handled(database)
    act_on_case(database, one.id, Order(Action.FINISH, comment="完成", measurement={"nh3n": 0.3}), WORKER)
    page = browser.get(f"/incidents/{one.id}").text
    assert "case-form-verify" in page
    both = _handled(database)
    act_on_case(database, both.id, Order(Action.FINISH, comment="完成", measurement={"nh3n": 0.3}), ADMINISTRATOR)
    own = browser_of(browser.app, pages_site.ADMINISTRATOR)  # type: ignore[arg-type]
    assert "case-closed-verify" in own.get(f"/incidents/{both.id}").text
    assert _send(own, read_case(database, both.id)[0], "verify", comment="我自己").status_code == 403


def test_what_is_missing_is_said_beside_the_field_and_the_rest_stays(app: FastAPI, database: Database) -> None:
    one = _handled(database)
    worker = browser_of(app, pages_site.WORKER)
    answer = _send(worker, one, "finish", comment="已清理<完毕>", value="")
    assert answer.status_code == 409
    form = part(answer.text, "case-form-finish")
    assert "wrong-photo" in form
    assert "已清理&lt;完毕&gt;" in form
    answer = _send(worker, one, "finish", comment="已清理", value="很多", parameter="nh3n")
    assert "wrong-value" in part(answer.text, "case-form-finish")
    assert read_case(database, one.id)[0].state is State.HANDLING


def test_a_photo_is_kept_and_what_is_none_is_refused_beside_the_field(app: FastAPI, database: Database) -> None:
    one = _handled(database)
    worker = browser_of(app, pages_site.WORKER)
    files = [
        ("photo", ("假.jpg", b"no photo at all", "image/jpeg")),
        ("photo", ("清理后.png", pages_site.PHOTO, "image/png")),
    ]
    answer = _send(worker, one, "finish", files, comment="已清理")
    assert answer.status_code == 409
    form = part(answer.text, "case-form-finish")
    assert "假.jpg" in part(form, "wrong-photo")
    kept = re.findall(r'name="attachment" value="(\w+)" checked', form)
    assert len(kept) == 1
    assert "已清理" in form
    assert read_case(database, one.id)[0].state is State.HANDLING
    done = _send(worker, one, "finish", comment="已清理", attachment=kept)
    assert done.status_code == 303
    after, history = read_case(database, one.id)
    assert after.state is State.HANDLED
    assert list(history[-1].attachments) == kept
    page = worker.get(f"/incidents/{one.id}").text
    assert f'src="/api/v1/attachments/{kept[0]}"' in part(page, "case-files")
    assert "已清理" in part(page, "timeline")


def test_a_photo_of_40_mb_is_refused_in_words_and_a_turned_one_stays_turned(app: FastAPI, database: Database) -> None:
    one = _handled(database)
    worker = browser_of(app, pages_site.WORKER)
    large = [("photo", ("大.jpg", b"\xff\xd8" + bytes(40_000_000), "image/jpeg"))]
    answer = _send(worker, one, "comment", large, comment="现场照片")
    assert answer.status_code == 409
    form = part(answer.text, "case-form-comment")
    assert "大.jpg" in part(form, "wrong-photo")
    assert "现场照片" in form
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a maker"
    Image.new("RGB", (60, 40)).save(out, "JPEG", exif=exif)
    turned = [("photo", ("转.jpg", out.getvalue(), "image/jpeg"))]
    assert _send(worker, one, "comment", turned, comment="现场照片").status_code == 303
    (kept,) = read_case(database, one.id)[1][-1].attachments
    stored = Image.open(io.BytesIO(worker.get(f"/api/v1/attachments/{kept}").content))
    assert dict(stored.getexif()) == {0x0112: 6}


def test_a_merge_says_what_comes_of_it_before_it_is_done(browser: TestClient, database: Database) -> None:
    one, into = report(database, "一处油污"), report(database, "同一处油污")
    page = browser.get(f"/incidents/{one.id}").text
    assert f'name="into" value="{into.id}"' in part(page, "case-form-merge")
    shown = _send(browser, one, "merge", into=into.id)
    assert shown.status_code == 200
    assert f"#{one.id} 结案，由 #{into.id} 继续办理" in part(shown.text, "case-preview")
    assert read_case(database, one.id)[0].is_open
    form = part(shown.text, "case-form-merge")
    assert f'name="previewed" value="{into.id}"' in form
    assert _send(browser, one, "merge", into=into.id, previewed=into.id).status_code == 303
    assert read_case(database, one.id)[0].case.merged_into == into.id
    other = report(database, "又一处")
    unknown = _send(browser, other, "merge", into_other="99999")
    assert unknown.status_code == 200
    assert "99999" in part(unknown.text, "case-preview")


def test_a_split_says_what_comes_of_it_before_it_is_done(browser: TestClient, database: Database) -> None:
    at_ms = pages_site.now_ms() - pages_site.HOUR
    cause = "two at once"
    number = record(
        database,
        finding(FindingKind.THRESHOLD, at_ms, cause=cause),
        finding(FindingKind.RATE, at_ms, cause=cause, rule="another", parameter="do", limit=None),
    )[FindingKind.RATE]
    one = read_case(database, number)[0]
    form = part(browser.get(f"/incidents/{number}").text, "case-form-split")
    assert "some-threshold-rule" not in form
    assert form.count('name="condition"') == 2
    shown = _send(browser, one, "split", condition=["1"], comment="两个原因")
    assert shown.status_code == 200
    told = part(shown.text, "case-form-split")
    assert "新事件有1项异常" in told
    assert "两个原因" in told
    assert len(read_case(database, number)[0].conditions) == 2
    done = _send(browser, one, "split", condition=["1"], previewed="1", comment="两个原因")
    assert done.status_code == 303
    assert len(read_case(database, number)[0].conditions) == 1
    whole = _send(browser, read_case(database, number)[0], "split", condition=["0"], previewed="0", comment="x")
    assert whole.status_code == 409


def test_what_somebody_else_did_meanwhile_is_named_and_the_input_stays(browser: TestClient, database: Database) -> None:
    one = report(database)
    act_on_case(database, one.id, Order(Action.ACCEPT), ADMINISTRATOR)
    answer = _send(browser, one, "reject", comment="不属我们")
    assert answer.status_code == 412
    assert ADMINISTRATOR.name in part(answer.text, "action-meanwhile")
    assert "不属我们" in part(answer.text, "case-form-reject")


def test_the_page_can_be_fetched_in_parts_and_is_in_one_language(browser: TestClient) -> None:
    blocks = "head,verdict,timeline,people,files,sources,tabs,meanwhile,actions"
    part = browser.get("/incidents/1", headers={"X-Fragments": blocks}).text
    assert part.count("data-fragment=") == 9
    zh, en = browser.get("/incidents/1").text, browser.get("/incidents/1?lang=en").text
    assert say("timeline.title").zh in zh
    assert say("timeline.title").en in en
    assert say("timeline.title").zh not in en
    assert say("verdict.title").zh not in en


def test_a_case_that_a_missed_deadline_supervises_says_so_in_words(browser: TestClient, database: Database) -> None:
    made = file_case(database, Place(pages_site.GRID, pages_site.RIVER, 113.1478, 23.0205))
    with database.write() as connection:
        change = {"supervised_at_ms": pages_site.now_ms(), "supervised_by": "deadline"}
        connection.execute(sa.update(tables.incident).where(tables.incident.c.id == made.id).values(change))
    chip = part(browser.get(f"/incidents/{made.id}").text, "case-supervised")
    assert say("audit_entry.by_deadline").zh in chip
    assert "deadline" not in chip


def test_what_settled_a_doubt_is_said_in_one_short_line(browser: TestClient, database: Database) -> None:
    at_ms = pages_site.now_ms() - pages_site.HOUR
    doubtful = replace(SEWAGE, doubtful=True)
    bare = {"parameter": None, "value": None, "limit": None, "cause": "doubt/1"}
    first = finding(FindingKind.EVENT, at_ms, headline=doubtful, **bare)
    sure = finding(
        FindingKind.THRESHOLD, at_ms + pages_site.MINUTE, cause="doubt/1", value=8.2, limit=4.0, colour=Colour.RED
    )
    number = next(iter(record(database, first, sure).values()))
    page = browser.get(f"/incidents/{number}").text
    said = say("verdict.settled_by", parameter=Text("氨氮", ""), value="8.20 mg/L", limit="4.0", at="").zh
    assert said.removesuffix("（）") in part(page, "case-verdict")
    assert part(page, "case-verdict").count(sure.text.zh) == 1, "the whole sentence stands under the basis alone"
