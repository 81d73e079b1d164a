"""The pages of the rules: what is in force, a change that is refused at its field, a backtest and what it found."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from api.app import create_app
from api.pages.models import rules as models
from governance.audit import trail as audit_trail
from governance.audit.merkle import AuditEntry
from infra.database import Database
from infra.texts import say
from ingest.analysis import backtest, backtest_requests
from ingest.rules import explain, rule_file
from ingest.rules import model as rule_model
from ingest.state import rule_publications, rule_trials, rule_versions
from ingest.storage import registry as registry_store
from ingest.storage import tables
from ingest.storage.sql import SqlReadings
from sensors.parameters import catalogue
from tests import pages_site
from tests.page_browser import browser_of
from tests.says import shows

RULE = "nh3n-worse-than-class-five"
STRICTER = {
    "rule": RULE,
    "limit": "0.63",
    "clear": "0.6",
    "samples": "2",
    "pending_s": "0",
    "keep_firing_s": "0",
    "days": "7",
}


class Site:
    """The application over the site with a past, and its database."""

    def __init__(self, folder: Path) -> None:
        self.database: Database = pages_site.seed(folder)
        self.app = create_app(pages_site.context(self.database, folder, None))

    def browser(self, name: str = "") -> TestClient:
        return browser_of(self.app, name)

    def requests(self) -> int:
        with self.database.read() as connection:
            return len(backtest_requests.listing(connection, 100))

    def run(self, number: int) -> None:
        run_backtest(self.database, number)


def run_backtest(database: Database, number: int) -> None:
    """Do what the backtester does."""
    known = catalogue()
    with database.read() as connection:
        registry = registry_store.load(connection, known)
        request = backtest_requests.get(connection, number).request
    span = request["since_ms"], request["until_ms"]
    past = backtest.load_input(registry, SqlReadings(database, known), *span)
    in_force = rule_file.read((pages_site.ROOT / "config/rules.toml").read_text(encoding="utf-8"), known)
    tried = rule_file.read(request["rules"], known)
    result = backtest.as_json(*backtest.compare_rule_sets(tried, in_force, past, known, *span), most=1000)
    with database.write() as connection:
        backtest_requests.finish(connection, number, result, pages_site.now_ms())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("rules"))
    yield site
    site.database.close()


@pytest.fixture
def reviewer(site: Site) -> TestClient:
    return site.browser(pages_site.ENGINEER)


@pytest.fixture(scope="module")
def tested(site: Site) -> str:
    """The path of a backtest that is done."""
    answer = site.browser(pages_site.ENGINEER).post("/rules/tests", data=STRICTER | {"form": "of the fixture"})
    path = answer.headers["location"]
    site.run(int(path.rsplit("/", 1)[1]))
    return path


def part(text: str, testid: str) -> str:
    """What stands in the element of this id, with its tags; "" where there is none."""
    found = re.search(rf'<(\w+)[^>]*data-testid="{re.escape(testid)}".*?</\1>', text, re.DOTALL)
    return found[0] if found else ""


def test_each_rule_in_force_has_its_sentence_version_and_counts(site: Site, reviewer: TestClient) -> None:
    known = catalogue()
    in_force = rule_file.read((pages_site.ROOT / "config/rules.toml").read_text(encoding="utf-8"), known)
    page = reviewer.get("/rules").text
    for rule in in_force:
        assert f"<code>{rule.version}</code>" in part(page, f"rules-row-{rule.id}"), rule.id
    red = part(page, "rules-row-nh3n-double-class-five")
    assert "<b>氨氮限值</b>" in red
    assert re.findall(r'class="figure"[^>]*>(\d+)<', red) == ["1", "0"]
    assert len(re.findall('data-testid="rules-row-', reviewer.get("/rules?kind=trend").text)) == len(in_force.trends)


def test_the_page_is_in_one_language(reviewer: TestClient) -> None:
    zh, en = (reviewer.get(f"/rules/{RULE}?lang={language}").text for language in ("zh", "en"))
    assert say("rules_page.change").zh in zh
    assert say("rules_page.change").en not in zh
    assert say("rules_page.change").en in en
    assert say("rules_page.change").zh not in en


@pytest.mark.parametrize(
    ("name", "page", "may_try"), [(pages_site.CHIEF, 200, False), (pages_site.ENGINEER, 200, True)]
)
def test_only_a_reviewer_gets_the_form(site: Site, name: str, page: int, may_try: bool) -> None:
    before = site.requests()
    browser = site.browser(name)
    answer = browser.get(f"/rules/{RULE}")
    assert answer.status_code == page
    assert ('data-testid="rules-numbers"' in answer.text) == may_try
    if not may_try:
        assert browser.post("/rules/tests", data=STRICTER).status_code == 403
        assert site.requests() == before


@pytest.mark.parametrize("path", ["/rules", f"/rules/{RULE}", "/rules/tests/1"])
def test_who_may_not_see_incidents_sees_no_rules(site: Site, path: str) -> None:
    assert site.browser(pages_site.PUBLIC).get(path).status_code == 403


def test_a_change_from_another_site_is_refused(site: Site, reviewer: TestClient) -> None:
    before = site.requests()
    answer = reviewer.post("/rules/tests", data=STRICTER, headers={"Origin": "https://elsewhere.example"})
    assert answer.status_code == 403
    assert site.requests() == before


@pytest.mark.parametrize(
    ("change", "field"),
    [({"limit": "much"}, "limit"), ({"samples": "0"}, "samples"), ({"clear": "0.7"}, "clear")],
)
def test_what_is_refused_comes_back_with_the_reason_at_its_field(
    site: Site, reviewer: TestClient, change: dict[str, str], field: str
) -> None:
    before = site.requests()
    answer = reviewer.post("/rules/tests", data=STRICTER | change)
    assert answer.status_code == 422
    said = dict(re.findall(r'data-wrong-of="(\w+)">([^<]*)<', answer.text))
    assert said[field]
    assert not any(text for name, text in said.items() if name != field)
    assert f'name="{field}" inputmode="decimal" autocomplete="off" value="{change[field]}"' in answer.text
    assert site.requests() == before


def test_what_is_no_change_or_no_rule_is_not_tried(site: Site, reviewer: TestClient) -> None:
    before = site.requests()
    body = re.search(r'<textarea name="toml"[^>]*>(.*?)</textarea>', reviewer.get(f"/rules/{RULE}").text, re.DOTALL)
    assert body is not None
    same = {"rule": RULE, "toml": body[1].replace("&#34;", '"'), "days": "7"}
    assert 'data-testid="rules-error"' in reviewer.post("/rules/tests", data=same).text
    assert reviewer.post("/rules/tests", data=STRICTER | {"days": "100000"}).status_code == 422
    assert reviewer.post("/rules/tests", data=STRICTER | {"rule": "nope"}).status_code == 404
    assert reviewer.get("/rules/nope").status_code == 404
    assert site.requests() == before


def test_a_change_is_checked_as_a_fragment_while_it_is_typed(reviewer: TestClient) -> None:
    def checked(query: str) -> str:
        return reviewer.get(f"/rules/{RULE}?{query}", headers={"X-Fragments": "check"}).text

    inverted = checked("limit=9.0&clear=8.0")
    assert inverted.startswith('<div data-fragment="check">')
    assert "rules-fault serious" in inverted
    assert "9.0 mg/L" in part(inverted, "rules-preview")
    assert 'data-wrong="limit"' in checked("limit=x")


def test_a_form_sent_twice_asks_for_one_backtest(site: Site, reviewer: TestClient) -> None:
    before = site.requests()
    first, second = (reviewer.post("/rules/tests", data=STRICTER | {"form": "once"}) for _ in range(2))
    assert first.status_code == 303
    assert first.headers["location"] == second.headers["location"]
    assert site.requests() == before + 1
    path = first.headers["location"]
    number = int(path.rsplit("/", 1)[1])

    waiting = reviewer.get(path).text
    assert 'data-testid="rules-progress"' in waiting
    assert 'http-equiv="refresh"' in waiting
    assert reviewer.get(f"{path}/rules.toml").status_code == 409, "nothing is given out before it was tried"

    assert f"rules-test-{number}" in reviewer.get("/rules").text


def test_a_backtest_that_is_done_compares_both_sets_of_rules(reviewer: TestClient, tested: str) -> None:
    done = reviewer.get(tested).text
    assert 'http-equiv="refresh"' not in done
    rows = re.findall(r'<td class="figure">([\d.]+)</td><td class="figure">([\d.]+)</td>', part(done, "rules-compared"))
    incidents, *by_colour = [(int(float(a)), int(float(b))) for a, b in rows[:5]]
    assert incidents[1] > incidents[0]
    assert tuple(sum(one) for one in zip(*by_colour, strict=True)) == incidents
    assert RULE in part(done, "rules-changes")
    example = re.search(r'href="(/stations/[^"]+from=[^"]+)"', part(done, "rules-new"))
    assert example is not None

    given = reviewer.get(f"{tested}/rules.toml")
    assert given.headers["content-disposition"].startswith("attachment")
    tried = rule_file.read(given.text, catalogue())
    assert getattr(tried.get(RULE), "limit", None) == 0.63


def test_the_file_is_given_to_who_may_change_the_registry_alone(site: Site, tested: str) -> None:
    chief = site.browser(pages_site.CHIEF)
    assert chief.get(tested).status_code == 200
    assert 'data-testid="rules-file"' not in chief.get(tested).text
    assert chief.get(f"{tested}/rules.toml").status_code == 403


def test_a_backtest_that_failed_says_why(site: Site, reviewer: TestClient) -> None:
    with site.database.write() as connection:
        request = {"rules": "", "since_ms": 0, "until_ms": 86_400_000, "stations": []}
        number = backtest_requests.add(connection, request, "test", pages_site.now_ms())
        connection.execute(sa.update(tables.backtest).where(tables.backtest.c.id == number).values(state="running"))
        backtest_requests.fail(connection, number, "no readings <here>", pages_site.now_ms())
    page = reviewer.get(f"/rules/tests/{number}").text
    assert "no readings &lt;here&gt;" in part(page, "rules-failed")
    assert reviewer.get("/rules/tests/99999").status_code == 404


def test_rules_are_published_by_another_person_than_who_tried_them_and_once(site: Site, reviewer: TestClient) -> None:
    answer = reviewer.post("/rules/tests", data=STRICTER | {"form": "to be published", "limit": "0.71", "clear": "0.7"})
    path = answer.headers["location"].split("?")[0]
    number = int(path.rpartition("/")[2])
    administrator = site.browser(pages_site.ADMINISTRATOR)
    refused = administrator.post(f"{path}/publish", data={"reason": "试一试"})
    assert refused.status_code == 409, "without a finished backtest nothing is published"
    site.run(number)
    page = administrator.get(path).text
    assert 'data-testid="rules-publish-go"' in page
    assert 'data-testid="rules-own"' in reviewer.get(path).text
    own = reviewer.post(f"{path}/publish", data={"reason": "我自己来"})
    assert own.status_code == 409
    without = administrator.post(f"{path}/publish", data={"reason": " "})
    assert (without.status_code, 'data-testid="rules-refused"' in without.text) == (409, True)
    assert _published(site) == []
    for _ in range(2):
        assert administrator.post(f"{path}/publish", data={"reason": "雨季加严"}).status_code == 303
    (entry,) = _published(site)
    body = json.loads(entry.body)
    assert (entry.by, entry.id, body["proposed_by"], body["backtest"]) == (
        pages_site.ADMINISTRATOR,
        RULE,
        pages_site.ENGINEER,
        number,
    )
    assert 'data-testid="rules-published"' in administrator.get(path).text
    known = catalogue()
    of_file = rule_file.read((pages_site.ROOT / "config/rules.toml").read_text(encoding="utf-8"), known)
    with site.database.read() as connection:
        published = rule_publications.latest(connection)
    found = rule_publications.rules_in_force(published, of_file, known).get(RULE)
    assert isinstance(found, rule_model.Threshold)
    assert found.limit == 0.71


def test_a_backtest_from_before_a_change_is_not_published(site: Site, reviewer: TestClient) -> None:
    paths = []
    for limit in ("0.75", "0.77"):
        asked = STRICTER | {"form": f"one of two, {limit}", "limit": limit, "clear": "0.7"}
        paths.append(reviewer.post("/rules/tests", data=asked).headers["location"].split("?")[0])
        site.run(int(paths[-1].rpartition("/")[2]))
    administrator = site.browser(pages_site.ADMINISTRATOR)
    assert administrator.post(f"{paths[1]}/publish", data={"reason": "雨季加严"}).status_code == 303
    answer = administrator.post(f"{paths[0]}/publish", data={"reason": "迟了"})
    number = int(paths[0].rpartition("/")[2])
    assert answer.status_code == 409
    assert shows(answer.text, "rules_page.changed_since", number=number)
    api = administrator.post("/api/v1/rules/publications", json={"backtest": number, "reason": "迟了"})
    assert api.status_code == 409


def test_who_may_not_publish_is_refused(site: Site, tested: str) -> None:
    assert site.browser(pages_site.CHIEF).post(f"{tested}/publish", data={"reason": "x"}).status_code == 403
    foreign = {"Origin": "https://elsewhere.example"}
    administrator = site.browser(pages_site.ADMINISTRATOR)
    assert administrator.post(f"{tested}/publish", data={"reason": "x"}, headers=foreign).status_code == 403


# -- on trial ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def on_trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with a rule on trial since three days."""
    site = Site(tmp_path_factory.mktemp("trial"))
    assert pages_site.put_on_trial(site.database) == 1
    yield site
    site.database.close()


def test_a_rule_on_trial_is_marked_in_the_list_and_shows_both_versions_side_by_side(on_trial: Site) -> None:
    browser = on_trial.browser(pages_site.CHIEF)
    assert f"rules-on-trial-{RULE}" in browser.get("/rules").text
    page = browser.get(f"/rules/{RULE}").text
    rows = re.findall(
        r'<td class="figure">([\d.]+)</td><td class="figure">([\d.]+)</td>', part(page, "rules-trial-compared")
    )
    before, after = rows[0]
    assert int(before) < int(after)
    with on_trial.database.read() as connection:
        found = rule_trials.findings(connection, rule_trials.get(connection, 1))
    assert (int(before), int(after)) == tuple(sum(f.candidate == one for f in found) for one in (False, True))
    assert re.search(r'href="/stations/dph-shiwan-2\?[^"]*from=', part(page, "rules-trial-only-candidate"))
    assert "fsc-1" in part(page, "rules-trial-both")
    assert "rules-trial-withdraw" not in page, "a chief has not the right"
    told = browser.get("/api/v1/rules/trials/1").json()
    assert (told["found"]["in_force"]["findings"], told["found"]["candidate"]["findings"]) == (int(before), int(after))
    assert told["found"]["counts"]["both"] + told["found"]["counts"]["only_candidate"] == int(after)
    assert [one["id"] for one in browser.get("/api/v1/rules/trials").json()["items"]] == [1]
    assert browser.get("/api/v1/rules/trials/99").status_code == 404


def test_a_backtest_leads_to_a_trial_that_its_author_begins_and_another_person_adopts(site: Site) -> None:
    reviewer, administrator = site.browser(pages_site.ENGINEER), site.browser(pages_site.ADMINISTRATOR)
    with site.database.write() as connection:
        rule = next(one for one in rule_versions.in_force(connection) if one.rule == "do-worse-than-class-five")
        text = models.whole(rule_versions.in_force(connection), _stricter(rule.body))
        request = {"rules": text, "since_ms": 0, "until_ms": 86_400_000, "stations": []}
        number = backtest_requests.add(connection, request, pages_site.ENGINEER, pages_site.now_ms())
    path, change = f"/rules/tests/{number}", {"reason": "试一周", "days": "7"}
    assert reviewer.post(f"{path}/trial", data=change).status_code == 409, "not tried yet"
    with site.database.write() as connection:
        backtest_requests.finish(connection, number, OUTCOME, pages_site.now_ms())
    assert 'data-testid="rules-trial-go"' in reviewer.get(path).text
    for days in ("31", "0", "x", ""):
        wrong = reviewer.post(f"{path}/trial", data={"reason": "试一周吧", "days": days})
        assert (wrong.status_code, "试一周吧" in wrong.text) == (400, True), days
    assert site.browser(pages_site.CHIEF).post(f"{path}/trial", data=change).status_code == 403
    assert reviewer.post(f"{path}/trial", data=change, headers=FOREIGN).status_code == 403
    first, second = (reviewer.post(f"{path}/trial", data=change).headers["location"] for _ in range(2))
    assert first == second
    trial = re.search(r"trial=(\d+)", first)
    assert trial is not None
    ends = f"/rules/trials/{trial[1]}"
    assert 'data-testid="rules-tried"' in reviewer.get(path).text
    page = reviewer.get(f"/rules/{rule.rule}").text
    assert "rules-trial-withdraw" in page
    assert "rules-trial-adopt" not in page
    assert "rules-trial-own" in page
    own = reviewer.post(f"{ends}/adopt", data={"reason": "自己来"})
    assert (own.status_code, shows(own.text, "rules_page.same_person", name=pages_site.ENGINEER)) == (409, True)
    assert site.browser(pages_site.CHIEF).post(f"{ends}/adopt", data={"reason": "x"}).status_code == 403
    assert administrator.post(f"{ends}/adopt", data={"reason": " "}).status_code == 409
    assert administrator.post(f"{ends}/adopt", data={"reason": "x"}, headers=FOREIGN).status_code == 403
    _take_published(site)
    assert administrator.post(f"{ends}/adopt", data={"reason": "一周够了"}).status_code == 303
    page = administrator.get(f"/rules/{rule.rule}").text
    assert "一周够了" in part(page, "rules-trial-end")
    assert "rules-trial-adopt" not in page
    with site.database.read() as connection:
        whats = [one.what for one in audit_trail.list_entries(connection) if one.what.startswith("rule.trial")][::-1]
    assert whats == ["rule.trial_begun", "rule.trial_adopted"]


def test_a_trial_is_begun_and_withdrawn_over_the_api(site: Site) -> None:
    with site.database.write() as connection:
        versions = rule_versions.in_force(connection)
        rule = next(one for one in versions if one.rule == "ph-outside-6-9-acid")
        text = models.whole(versions, _stricter(rule.body))
        request = {"rules": text, "since_ms": 0, "until_ms": 86_400_000, "stations": []}
        number = backtest_requests.add(connection, request, pages_site.ENGINEER, pages_site.now_ms())
        backtest_requests.finish(connection, number, OUTCOME, pages_site.now_ms())
    chief, reviewer = site.browser(pages_site.CHIEF), site.browser(pages_site.ENGINEER)
    new = {"backtest": number, "reason": "示例", "days": 3}
    assert chief.post("/api/v1/rules/trials", json=new).status_code == 403
    assert reviewer.post("/api/v1/rules/trials", json=new | {"days": 40}).status_code == 400
    begun = reviewer.post("/api/v1/rules/trials", json=new)
    assert (begun.status_code, begun.json()["state"], begun.json()["found"]) == (201, "running", None)
    ends = f"/api/v1/rules/trials/{begun.json()['id']}"
    assert chief.post(f"{ends}/withdraw", json={"reason": "x"}).status_code == 403
    assert reviewer.post(f"{ends}/adopt", json={"reason": "x"}).status_code == 409, "proposed by the same person"
    assert chief.post(f"{ends}/adopt", json={"reason": "x"}).status_code == 403
    gone = reviewer.post(f"{ends}/withdraw", json={"reason": "太多"}).json()
    assert (gone["state"], gone["ended_by"], gone["end_reason"]) == ("withdrawn", pages_site.ENGINEER, "太多")
    assert gone["ended"] is not None
    late = site.browser(pages_site.ADMINISTRATOR).post(f"{ends}/adopt", json={"reason": "x"})
    assert late.status_code == 409


def test_the_text_of_a_rule_stands_on_its_page_once(site: Site, reviewer: TestClient) -> None:
    for browser, shown in ((reviewer, False), (site.browser(pages_site.CHIEF), True)):
        page = browser.get("/rules/nh3n-double-class-five").text
        assert page.count("[[threshold]]") == 1
        assert bool(part(page, "rules-toml")) == shown


FOREIGN = {"Origin": "https://elsewhere.example"}
_NOTHING: dict[str, object] = {"incidents": [], "count": 0, "pages": 0, "pages_a_week": 0.0, "by_colour": {}}
OUTCOME = {
    "readings": 1,
    "tried": _NOTHING,
    "in_force": _NOTHING,
    "difference": {"new": [], "gone": [], "changed": [], "both": 0, "counts": {"new": 0, "gone": 0, "changed": 0}},
}


def _stricter(body: str) -> rule_model.Rule:
    rule = models.rule_of(body, catalogue())
    assert isinstance(rule, rule_model.Threshold)
    return rule_file.make_rule(rule_model.Threshold, explain.row(rule) | {"samples": 4}, catalogue())


def _take_published(site: Site) -> None:
    """What the ingest does with what earlier tests published."""
    with site.database.write() as connection:
        if newest := rule_publications.latest(connection):
            rule_publications.record_taken_over(connection, newest, rule_model.Rules())


def _published(site: Site) -> list[AuditEntry]:
    with site.database.read() as connection:
        return audit_trail.list_entries(connection, what="rule.published")
