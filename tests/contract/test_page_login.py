"""Signing in: passwords, second factors, links, sessions and tokens, and what an attacker meets there."""

import html
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
import sqlalchemy as sa
from anyio import to_thread
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.testclient import TestClient
from starlette.routing import Route

from api.access import AS_COOKIE, packed, while_signed_in
from api.app import create_app
from api.context import Context, NotificationSettings
from api.pages import person_access
from api.pages.view import PageRoute, Viewing
from governance.audit import trail as audit_trail
from governance.notify import channels
from governance.notify.channels import Outcome
from governance.notify.contacts import Channel, Contact, ContactRole, Directory
from governance.notify.policy import NoticePolicy
from governance.organisation.roles import RIGHTS, Right, Role
from governance.people import accounts, attempts, one_time_codes, totp
from governance.people import store as people_store
from governance.people.one_time_codes import Purpose
from governance.people.store import Person, TokenWish
from governance.tables import login_attempt, login_session, one_time_code, person_account, recovery_code
from infra.database import Database
from infra.texts import say
from ingest.storage.sql import SqlReadings
from riverchief import administrator
from sensors.parameters import catalogue
from tests.databases import with_tables
from tests.says import shows
from tests.sign_in import PASSWORD, code_of, new_token

pytestmark = pytest.mark.both_databases

NOW = 1_790_000_000_000
MINUTE = 60_000
WORKER, BOSS = "黄网格员（示例）", "管理员（示例）"
OTHER = "另一句好记的话 2026"


class Site:
    """A site whose clock the test turns, with as many processes as it asks for."""

    def __init__(self, database: Database) -> None:
        self.now_ms = NOW
        known = catalogue()
        self.context = Context(database, SqlReadings(database, known), known, "/test", lambda: self.now_ms)
        self.database = database
        self.app = create_app(self.context)

    def add(self, name: str, role: Role = Role.GRID_WORKER, password: str | None = PASSWORD) -> Person:
        with self.database.write() as connection:
            one = people_store.add(connection, name, role, by="test", now_ms=self.now_ms)
            if password is not None:
                accounts.set_password(connection, one, password, by="test", now_ms=self.now_ms)
        return one

    def link(self, name: str) -> str:
        with self.database.write() as connection:
            one = people_store.get(connection, name)
            return f"/password/{accounts.make_link(connection, one, by='test', now_ms=self.now_ms)}"

    def browser(self, address: str = "192.0.2.1", app: FastAPI | None = None, **headers: str) -> TestClient:
        return TestClient(
            app or self.app,
            base_url="https://river.example",
            headers={"Accept": "text/html", **headers},
            follow_redirects=False,
            client=(address, 50_000),
        )

    def another_process(self) -> FastAPI:
        return create_app(self.context)

    def trail(self) -> list[tuple[str, str, str]]:
        with self.database.read() as connection:
            lines = audit_trail.list_entries(connection, limit=1000)
        return [(line.what, line.id, line.body) for line in lines]

    def events(self) -> list[str]:
        return [what for what, _, _ in reversed(self.trail()) if what.startswith(("login.", "account."))]


@pytest.fixture
def site(url: str) -> Iterator[Site]:
    database = Database(url)
    with_tables(database)
    yield Site(database)
    database.close()


def sign_in(client: TestClient, name: str = WORKER, password: str = PASSWORD, **more: str) -> Any:
    return client.post("/login", data={"name": name, "password": password, **more})


def me(client: TestClient) -> int:
    return int(client.get("/api/v1/me").status_code)


def signed_in(site: Site, name: str = WORKER, address: str = "192.0.2.1") -> TestClient:
    client = site.browser(address)
    assert sign_in(client, name).status_code == 303
    assert me(client) == 200
    return client


# -- passwords ---------------------------------------------------------------------------------------------------------


def test_a_person_signs_in_with_name_and_password_and_finds_the_page_they_wanted(site: Site) -> None:
    site.add(WORKER)
    client = site.browser()
    shown = client.get("/account")
    assert (shown.status_code, shown.headers["location"]) == (303, "/login?next=%2Faccount")
    answer = sign_in(client, next="/account")
    assert (answer.status_code, answer.headers["location"]) == (303, "/account")
    page = client.get("/account")
    assert (page.status_code, WORKER in page.text) == (200, True)
    (cookie,) = client.cookies.jar
    assert (cookie.name, cookie.secure, cookie.path) == ("__Host-rc-session", True, "/")
    assert (cookie.has_nonstandard_attr("HttpOnly"), cookie.get_nonstandard_attr("SameSite")) == (True, "strict")
    assert site.events()[-1] == "login.begun"


def test_the_language_of_the_sign_in_is_that_of_the_page_after_it(site: Site) -> None:
    site.add(WORKER)
    client = site.browser()
    way = client.get("/account?lang=en").headers["location"]
    page = client.get(way).text
    assert say("login.title").en in page
    (action,) = set(re.findall(r'action="(/login[^"]*)"', page))
    (after,) = set(re.findall(r'name="next" value="([^"]*)"', page))
    wrong = client.post(html.unescape(action), data={"name": WORKER, "password": "x", "next": html.unescape(after)})
    assert say("login.title").en in wrong.text
    assert 'value="/login?next=%2Faccount%3Flang%3Den&amp;lang=en"' in wrong.text  # of the choice of another language
    answer = client.post(html.unescape(action), data={"name": WORKER, "password": PASSWORD, "next": "/account?x=1"})
    assert answer.headers["location"] == "/account?x=1&lang=en"
    client.cookies.clear()
    client.post("/look", data={"lang": "en", "to": "/login"}, headers={"Origin": "https://river.example"})
    assert sign_in(client, next="/account?lang=zh").headers["location"] == "/account"
    assert say("account.title").en in client.get("/account").text


def test_a_login_name_stands_for_the_name_and_is_nobody_elses(site: Site) -> None:
    site.add(WORKER)
    site.add("钱网格员（示例）")
    client = signed_in(site)
    assert client.post("/account/login-name", data={"login_name": "Huang12"}).status_code == 303
    assert sign_in(site.browser(), "ＨUANG12").status_code == 303
    other = signed_in(site, "钱网格员（示例）")
    for taken in ("huang12", WORKER):
        refused = other.post("/account/login-name", data={"login_name": taken})
        assert (refused.status_code, shows(refused.text, "account.login_name_taken")) == (400, True)
    assert other.post("/account/login-name", data={"login_name": "with space"}).status_code == 400


def test_an_unknown_name_and_a_wrong_password_are_answered_alike(site: Site) -> None:
    site.add(WORKER)
    site.add("无密码（示例）", password=None)

    def answer(name: str) -> tuple[int, str]:
        found = sign_in(site.browser(), name, "not the password")
        return found.status_code, found.text.replace(name, "")

    assert answer(WORKER) == answer("没有的人") == answer("无密码（示例）")
    assert answer(WORKER)[0] == 401
    assert {what for what in site.events() if what.startswith("login.")} == {"login.failed"}
    assert "没有的人" not in str(site.trail()), "what was typed may be a password in the wrong field"


@pytest.mark.parametrize(
    "password", ["short", "1234567890", "黄网格员黄网格员12", "qwertyuiop", "aaaaaaaaaaaa", "x" * 201]
)
def test_a_password_that_is_short_common_or_ones_name_is_refused_and_the_link_stays_good(
    site: Site, password: str
) -> None:
    site.add(WORKER, password=None)
    link, client = site.link(WORKER), site.browser()
    refused = client.post(link, data={"password": password, "again": password})
    assert (refused.status_code, 'role="alert"' in refused.text, password in refused.text) == (400, True, False)
    assert client.post(link, data={"password": OTHER, "again": "another"}).status_code == 400
    assert client.post(link, data={"password": OTHER, "again": OTHER}).status_code == 303
    assert me(client) == 200


def test_a_link_sets_a_password_once_within_a_day_and_opening_it_changes_nothing(site: Site) -> None:
    site.add(WORKER, password=None)
    link = site.link(WORKER)
    assert {site.browser().get(link).status_code for _ in range(3)} == {200}
    newer = site.link(WORKER)
    assert site.browser().get(link).status_code == 410, "a newer one takes its place"
    given = {"password": PASSWORD, "again": PASSWORD}
    assert site.browser().post(newer, data=given).status_code == 303
    again = site.browser().post(newer, data={"password": OTHER, "again": OTHER})
    assert (again.status_code, shows(again.text, "login.link_over")) == (410, True)
    assert sign_in(site.browser()).status_code == 303
    late = site.link(WORKER)
    site.now_ms += one_time_codes.LINK_MS
    assert site.browser().post(late, data={"password": OTHER, "again": OTHER}).status_code == 410


def test_changing_the_password_asks_for_the_old_one_and_ends_all_other_sessions(site: Site) -> None:
    site.add(WORKER)
    here, there = signed_in(site), signed_in(site)
    waiting = site.link(WORKER)
    new = {"password": OTHER, "again": OTHER}
    refused = here.post("/account/password", data={"old": "guessed", **new})
    assert (refused.status_code, shows(refused.text, "account.password_wrong")) == (400, True)
    assert (me(here), me(there)) == (200, 200), "signing in ends nothing, nor does a refusal"
    assert here.post("/account/password", data={"old": PASSWORD, **new}).status_code == 303
    assert (me(here), me(there)) == (200, 401)
    assert site.browser().get(waiting).status_code == 410
    assert [sign_in(site.browser(), password=one).status_code for one in (PASSWORD, OTHER)] == [401, 303]


# -- attempts ----------------------------------------------------------------------------------------------------------


def test_guessing_one_account_is_bounded_across_processes_and_names_the_wait(site: Site) -> None:
    site.add(WORKER)
    apps = (site.app, site.another_process())
    tried = [sign_in(site.browser(f"192.0.2.{i}", apps[i % 2]), password=f"guess number {i}") for i in range(2, 8)]
    assert {one.status_code for one in tried} == {401}
    assert shows(tried[-1].text, "login.wait", minutes=1)
    held = sign_in(site.browser("192.0.2.99"))
    assert (held.status_code, shows(held.text, "login.wait", minutes=1)) == (401, True), "the right one waits, too"
    assert site.events()[-5:] == ["login.failed"] * 4 + ["login.closed"]
    waits = []
    for _ in range(8):
        site.now_ms += (waits[-1] if waits else 1) * MINUTE
        found = sign_in(site.browser("192.0.2.77"), password="guessed again and again")
        waits.append(int(re.search(r"请(\d+)分钟后再试", found.text)[1]))  # type: ignore[index]
    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]
    site.now_ms += 60 * MINUTE
    assert sign_in(site.browser("192.0.2.99")).status_code == 303
    assert sign_in(site.browser("192.0.2.99"), password="one slip is free").status_code == 401
    assert sign_in(site.browser("192.0.2.99")).status_code == 303


def test_a_link_from_the_administrator_ends_the_wait_of_an_account(site: Site) -> None:
    site.add(WORKER)
    for i in range(6):
        sign_in(site.browser(f"192.0.2.{i}"), password="guessed wrongly")
    assert sign_in(site.browser("192.0.2.99")).status_code == 401
    site.link(WORKER)
    assert sign_in(site.browser("192.0.2.99")).status_code == 303


def test_one_sender_who_tries_many_names_is_held_with_the_network_of_its_provider(site: Site) -> None:
    site.add(WORKER)
    for i in range(attempts.FREE_OF_NETWORK):
        sign_in(site.browser(f"2001:db8:1:2::{i:x}"), f"name {i}", "the same password")
    assert sign_in(site.browser("2001:db8:1:2:ffff::1")).status_code == 401
    assert sign_in(site.browser("2001:db8:1:3::1")).status_code == 303
    with site.database.read() as connection:
        kept = str(connection.execute(sa.select(login_attempt)).all())
    assert "name 3" not in kept


def test_attempts_that_are_made_at_once_do_not_outrun_the_count(site: Site) -> None:
    one = attempts.Subjects("a", "n")
    with site.database.write() as connection:
        taken = [attempts.count_attempt(connection, one, NOW) for _ in range(9)]
    assert [wait == 0 for wait in taken] == [True] * 5 + [False] * 4
    with site.database.write() as connection:
        attempts.undo_attempt(connection, one)
        assert attempts.count_attempt(connection, one, NOW) == 0
        attempts.reset(connection, "a")
        assert attempts.count_attempt(connection, one, NOW + attempts.FORGET_AFTER_MS) == 0


# -- second factor -----------------------------------------------------------------------------------------------------


def enrolled(site: Site, name: str = BOSS, role: Role = Role.ADMINISTRATOR) -> tuple[TestClient, str, list[str]]:
    """An administrator who signed in for the first time; also the app's secret, and the recovery codes."""
    site.add(name, role)
    client = site.browser()
    asked = sign_in(client, name)
    assert asked.headers["location"] == "/login/enrol?next=%2F"
    assert me(client) == 401, "not before the second factor"
    page = client.get(asked.headers["location"])
    assert 'data-testid="qr"' in page.text
    wrong = client.post("/login/enrol", data={"code": "000000"})
    assert (wrong.status_code, shows(wrong.text, "account.code_wrong")) == (400, True)
    kept = client.post("/login/enrol", data={"code": code_of(page.text, site.now_ms)})
    secret = re.search(r'factor-secret">([A-Z2-7 ]+)<', page.text)[1].replace(" ", "")  # type: ignore[index]
    codes = re.findall(r'recovery-code">([^<]+)<', kept.text)
    assert (kept.status_code, len(codes), me(client)) == (200, accounts.RECOVERY_CODE_COUNT, 200)
    return client, secret, codes


def second(site: Site, code: str, address: str = "192.0.2.9", name: str = BOSS) -> TestClient:
    """A browser after a second factor was given."""
    client = site.browser(address)
    assert sign_in(client, name).headers["location"].startswith("/login/code")
    client.post("/login/code", data={"code": code})
    return client


def test_a_powerful_role_sets_a_second_factor_up_after_the_password_and_needs_it_from_then_on(site: Site) -> None:
    _, secret, _ = enrolled(site)
    site.now_ms += 2 * totp.STEP_MS
    step = site.now_ms // totp.STEP_MS
    assert me(second(site, totp.code(secret, step - 3))) == 401
    assert me(second(site, totp.code(secret, step - 1))) == 200, "a telephone may be a step behind"
    assert me(second(site, totp.code(secret, step))) == 200
    assert me(second(site, totp.code(secret, step))) == 401, "a code works once"
    assert me(second(site, totp.code(secret, step - 1))) == 401, "nor does one of before"
    with site.database.read() as connection:
        kept = str(connection.execute(sa.select(person_account)).all())
        kept += str(connection.execute(sa.select(one_time_code)).all())
    assert (secret in kept, PASSWORD in kept) == (False, False)


def test_a_recovery_code_works_once_in_any_spelling(site: Site) -> None:
    _, _, codes = enrolled(site)
    assert me(second(site, codes[3].replace("-", " ").upper())) == 200
    assert me(second(site, codes[3])) == 401
    assert me(second(site, codes[4])) == 200
    with site.database.read() as connection:
        assert codes[5] not in str(connection.execute(sa.select(recovery_code)).all())


def test_guessing_codes_with_a_stolen_password_is_bounded(site: Site) -> None:
    _, secret, _ = enrolled(site)
    for i in range(5):
        second(site, f"{i:06}", f"192.0.2.{i}")
    site.now_ms += totp.STEP_MS
    held = sign_in(site.browser("192.0.2.200"), BOSS)
    assert (held.status_code, shows(held.text, "login.wait")) == (401, True), "the password does not reset the count"
    site.now_ms += MINUTE
    assert me(second(site, totp.code(secret, site.now_ms // totp.STEP_MS), "192.0.2.200")) == 200


def test_who_may_go_without_a_second_factor_adds_and_removes_one_with_the_password(site: Site) -> None:
    site.add(WORKER)
    client = signed_in(site)
    assert client.post("/account/factor", data={"password": "guessed"}).status_code == 400
    assert client.post("/account/factor", data={"password": PASSWORD}).headers["location"] == "/account/factor"
    page = client.get("/account/factor")
    kept = client.post("/account/factor/confirm", data={"code": code_of(page.text, site.now_ms)})
    assert kept.text.count('data-testid="recovery-code"') == accounts.RECOVERY_CODE_COUNT
    assert sign_in(site.browser()).headers["location"].startswith("/login/code")
    assert client.post("/account/factor/remove", data={"password": PASSWORD}).status_code == 303
    assert sign_in(site.browser()).headers["location"] == "/"
    assert {"account.factor_added", "account.factor_removed"} <= set(site.events())


def test_a_powerful_role_replaces_its_second_factor_and_does_not_remove_it(site: Site) -> None:
    client, _, _ = enrolled(site)
    refused = client.post("/account/factor/remove", data={"password": PASSWORD})
    assert (refused.status_code, shows(refused.text, "account.factor_needed")) == (400, True)
    codes = client.post("/account/factor/codes", data={"password": PASSWORD})
    assert codes.text.count('data-testid="recovery-code"') == accounts.RECOVERY_CODE_COUNT


def test_nobody_enrols_with_the_step_of_another(site: Site) -> None:
    site.add(WORKER)
    site.add("钱网格员（示例）")
    client, other = signed_in(site), signed_in(site, "钱网格员（示例）")
    client.post("/account/factor", data={"password": PASSWORD})
    step = client.cookies["__Host-rc-step"]
    page = client.get("/account/factor")
    other.cookies.set("__Host-rc-step", step)
    assert "factor-secret" not in other.get("/account/factor").text
    stolen = other.post("/account/factor/confirm", data={"code": code_of(page.text, site.now_ms)})
    assert stolen.status_code == 400


# -- sessions ----------------------------------------------------------------------------------------------------------


def test_the_session_id_changes_at_sign_in_and_a_planted_one_is_nothing(site: Site) -> None:
    site.add(WORKER)
    client = site.browser()
    client.cookies.set("__Host-rc-session", "planted")
    client.cookies.set("rc-session", "planted")
    assert sign_in(client).status_code == 303
    first = next(one.value for one in client.cookies.jar if one.domain and one.name == "__Host-rc-session")
    assert first != "planted"
    held = site.browser()
    held.cookies.set("__Host-rc-session", first)
    assert sign_in(client).status_code == 303
    assert me(held) == 401, "the id of before ended with the new sign-in of the same browser"


def test_signing_out_ends_a_stolen_cookie_and_everywhere_means_in_all_processes(site: Site) -> None:
    site.add(WORKER)
    here, there = signed_in(site), signed_in(site)
    stolen = site.browser(app=site.another_process())
    stolen.cookies.set("__Host-rc-session", here.cookies["__Host-rc-session"])
    assert here.post("/logout").status_code == 303
    assert (me(stolen), me(there)) == (401, 200)
    again = signed_in(site)
    assert again.post("/account/sessions/end").status_code == 303
    assert (me(there), me(again)) == (401, 200)
    elsewhere = site.browser(app=site.another_process())
    elsewhere.cookies.set("__Host-rc-session", there.cookies["__Host-rc-session"])
    assert me(elsewhere) == 401


def test_sessions_are_listed_with_device_and_network_and_ended_one_by_one(site: Site) -> None:
    site.add(WORKER)
    here = signed_in(site)
    phone = site.browser(
        "2001:db8:1:2::5", **{"User-Agent": "Mozilla/5.0 (Linux; Android 14) Chrome/126 MicroMessenger/8"}
    )
    assert sign_in(phone).status_code == 303
    page = here.get("/account").text
    assert page.count('data-testid="account-session"') == 2
    for told in ("WeChat · Android", "2001:db8:1:2::/64", "192.0.2.1"):
        assert told in page
    items = here.get("/api/v1/me/sessions").json()["items"]
    (number,) = [one["id"] for one in items if one["device"].startswith("WeChat")]
    other = site.add("钱网格员（示例）")
    assert signed_in(site, other.name).post(f"/account/sessions/{number}/end").status_code == 404, "not one's own"
    assert me(phone) == 200
    assert here.post(f"/account/sessions/{number}/end").status_code == 303
    assert (me(phone), me(here)) == (401, 200)


def test_a_session_ends_after_idling_and_after_its_whole_time(site: Site) -> None:
    site.context = replace(site.context, session_ms=100 * MINUTE, idle_ms=30 * MINUTE)
    site.add(WORKER)

    def later(ms: int, client: TestClient) -> int:
        """As another process sees it, which remembers nothing."""
        site.now_ms += ms
        fresh = site.browser(app=site.another_process())
        fresh.cookies = client.cookies
        return me(fresh)

    site.app = site.another_process()
    used = signed_in(site)
    assert [later(25 * MINUTE, used) for _ in range(4)] == [200, 200, 200, 401], "100 minutes are the most"
    idle = signed_in(site)
    assert (later(30 * MINUTE - 1, idle), later(30 * MINUTE, idle)) == (200, 401)


def test_a_removed_person_is_signed_out_and_their_links_end(site: Site) -> None:
    site.add(WORKER)
    client, link = signed_in(site), site.link(WORKER)
    with site.database.write() as connection:
        people_store.remove(connection, WORKER, by="test", now_ms=site.now_ms)
    fresh = site.browser(app=site.another_process())
    fresh.cookies = client.cookies
    assert (me(fresh), fresh.get(link).status_code, sign_in(site.browser()).status_code) == (401, 410, 401)


# -- tokens ------------------------------------------------------------------------------------------------------------


def with_token(site: Site, token: str) -> TestClient:
    return TestClient(site.app, headers={"Authorization": f"Bearer {token}"})


def limited(site: Site, name: str, *scopes: Right) -> TestClient:
    with site.database.write() as connection:
        wish = TokenWish("limited", frozenset(scopes))
        return with_token(site, people_store.issue_token(connection, name, by="test", now_ms=site.now_ms, wish=wish))


def test_a_token_is_made_shown_once_listed_with_its_last_use_and_revoked(site: Site) -> None:
    site.add(WORKER)
    client = signed_in(site)
    for wrong in ({"label": "", "scope": "view"}, {"label": "抄表程序"}):
        assert client.post("/account/tokens", data=wrong).status_code == 400
    made = client.post("/account/tokens", data={"label": "抄表程序", "days": "30", "scope": ["view", "report"]})
    token = re.search(r'account-token">([^<]+)<', made.text)[1]  # type: ignore[index]
    program = with_token(site, token)
    assert set(program.get("/api/v1/me").json()["rights"]) == {"view", "report"}
    page = client.get("/account").text
    assert ("抄表程序" in page, token in page) == (True, False)
    (listed,) = client.get("/api/v1/me/tokens").json()["items"]
    assert (listed["scopes"], listed["used_at"] is not None) == (["report", "view"], True)
    assert client.post(f"/account/tokens/{listed['id']}/revoke").status_code == 303
    assert me(program) == 401
    assert [what for what, _, _ in site.trail()][:2] == ["token.revoked", "token.issued"]
    assert token not in str(site.trail())


def test_a_limited_token_does_what_its_scope_says_and_makes_nothing_wider(site: Site) -> None:
    site.add(BOSS, Role.ADMINISTRATOR)
    site.add(WORKER)
    people = limited(site, BOSS, Right.PEOPLE, Right.VIEW)
    assert people.get("/api/v1/stations").status_code == 200
    assert people.get("/api/v1/incidents").status_code == 403
    for method, path in (
        ("POST", "/me/tokens"),
        ("POST", f"/people/{BOSS}/tokens"),
        ("POST", f"/people/{WORKER}/tokens"),
        ("POST", f"/people/{BOSS}/link"),
        ("DELETE", f"/people/{BOSS}/factor"),
    ):
        refused = people.request(method, f"/api/v1{path}", json={} if path == "/me/tokens" else None)
        assert (refused.status_code, shows(refused.text, "account.token_limited")) == (403, True), path
    token = people.headers["Authorization"].removeprefix("Bearer ")
    page = site.browser().post("/login", data={"token": token})
    assert (page.status_code, shows(page.text, "account.token_for_programs")) == (401, True)


def test_a_token_never_gives_more_than_its_owner_has(site: Site) -> None:
    site.add(WORKER)
    client = signed_in(site)
    beyond = client.post("/api/v1/me/tokens", json={"scopes": ["view", "people"]})
    assert beyond.status_code == 409
    assert client.post("/account/tokens", data={"label": "x", "scope": ["people"]}).status_code == 400
    whole = with_token(site, new_token(client))
    assert set(whole.get("/api/v1/me").json()["rights"]) == {right.value for right in RIGHTS[Role.GRID_WORKER]}
    assert whole.get(f"/api/v1/people/{WORKER}/tokens").status_code == 403


# -- first administrator -----------------------------------------------------------------------------------------------


def test_the_link_of_a_new_site_makes_one_administrator_and_is_over(site: Site, tmp_path: Path) -> None:
    administrator.first_link(site.database, tmp_path, "http://river.example")
    file = tmp_path / administrator.LINK_FILE
    assert file.stat().st_mode & 0o77 == 0
    path = file.read_text("utf-8").strip().removeprefix("http://river.example")
    given = {"name": BOSS, "password": PASSWORD, "again": PASSWORD}
    client = site.browser()
    assert client.get(path).status_code == 200
    assert client.get("/welcome/guessed").status_code == 410
    refused = client.post(path, data=given | {"password": "short", "again": "short"})
    assert (refused.status_code, BOSS in refused.text) == (400, True), "what was typed stays, except the password"
    assert client.post(path, data=given).headers["location"].startswith("/login/enrol")
    for one in (client.get(path), site.browser().post(path, data=given | {"name": "另一个（示例）"})):
        assert one.status_code == 410
    page = client.get("/login/enrol")
    client.post("/login/enrol", data={"code": code_of(page.text, site.now_ms)})
    assert client.get("/api/v1/me").json()["role"] == "administrator"
    administrator.first_link(site.database, tmp_path, "http://river.example")
    assert not file.exists()


# -- what administrators do --------------------------------------------------------------------------------------------


def test_an_administrator_makes_links_resets_factors_ends_sessions_and_revokes_tokens(site: Site) -> None:
    boss, _, _ = enrolled(site)
    site.add(WORKER)
    worker = signed_in(site)
    token = new_token(worker)
    assert worker.post(f"/people/{BOSS}/access/link").status_code == 403
    made = boss.post(f"/people/{WORKER}/access/link")
    path = re.search(r'person-link">https://river\.example([^<]+)<', made.text)[1]  # type: ignore[index]
    assert (site.browser().get(path).status_code, me(worker)) == (200, 200)
    (listed,) = boss.get(f"/api/v1/people/{WORKER}/tokens").json()["items"]
    assert boss.post(f"/people/{WORKER}/access/tokens/{listed['id']}").status_code == 303
    assert me(with_token(site, token)) == 401
    assert boss.post(f"/people/{WORKER}/access/sessions").status_code == 303
    assert me(worker) == 401
    assert boss.post(f"/people/{BOSS}/access/factor").status_code == 303
    assert sign_in(site.browser(), BOSS).headers["location"].startswith("/login/enrol")
    kept = str(site.trail())
    assert (path.rpartition("/")[2] in kept, PASSWORD in kept) == (False, False)


# -- other attacks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "javascript:x",
    ],
)
def test_next_leads_nowhere_but_here(site: Site, elsewhere: str) -> None:
    site.add(WORKER)
    assert sign_in(site.browser(), next=elsewhere).headers["location"] == "/"
    page = site.browser().get("/login", params={"next": elsewhere}).text
    assert set(re.findall(r'name="next" value="([^"]*)"', page)) == {"/"}


def test_no_form_of_any_page_is_taken_from_another_origin(site: Site) -> None:
    site.add(BOSS, Role.ADMINISTRATOR, None)
    with site.database.write() as connection:
        token = people_store.issue_token(connection, BOSS, by="test", now_ms=site.now_ms)
    client = site.browser()
    assert client.post("/login", data={"token": token}).status_code == 303
    posts = {
        re.sub(r"\{[^}]+\}", "1", route.path)
        for route in site.app.routes
        if isinstance(route, Route) and {"POST", "PUT", "PATCH", "DELETE"} & (route.methods or set())
    }
    assert {"/login", "/logout", "/account/password", "/report", "/api/v1/me/tokens"} <= posts
    before = site.trail()
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "https://other.river.example"},
    ):
        found = {path: client.post(path, headers=headers).status_code for path in posts}
        wrong = {path: status for path, status in found.items() if status not in (403, 405)}
        assert wrong == {}, headers
    assert site.trail() == before
    ours = {"Origin": "https://river.example", "Sec-Fetch-Site": "same-origin"}
    assert client.post("/logout", headers=ours).status_code == 303


def test_a_form_that_is_sent_without_a_session_keeps_what_was_typed_and_never_a_password(site: Site) -> None:
    client = site.browser()
    sent = client.post("/incidents/7/actions?lang=zh", data={"action": "comment", "comment": "桥下有漂浮垃圾 <b>"})
    assert sent.status_code == 401
    assert 'action="/incidents/7/actions?lang=zh"' in sent.text
    assert 'name="comment" value="桥下有漂浮垃圾 &lt;b&gt;"' in sent.text
    secret = client.post("/account/password", data={"old": PASSWORD})
    assert (secret.status_code, PASSWORD in secret.text) == (303, False)
    assert client.post("/incidents/7/actions", json={}, headers={"Accept": "*/*"}).status_code == 401
    assert client.post("/login/resume", data={"a": "b"}).status_code == 303


@pytest.mark.parametrize("path", ["/login", "/login?lang=en", "/password/x", "/welcome/x", "/account"])
def test_the_pages_run_no_script_and_no_style_that_stands_in_them(site: Site, path: str) -> None:
    site.add(WORKER)
    client = signed_in(site) if path == "/account" else site.browser()
    page = client.get(path)
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"
    assert not re.search(r"<style|style=|<script(?![^>]* src=)|\son\w+=", page.text)


def test_an_open_site_asks_whose_part_to_play(site: Site) -> None:
    site.add(WORKER)
    app = create_app(replace(site.context, open=True))
    client = TestClient(app, headers={"Accept": "text/html"}, follow_redirects=False)
    page = client.get("/login")
    assert page.text.count('data-testid="login-part"') == 2
    assert client.post("/login", data={"as": WORKER, "next": "/account"}).headers["location"] == "/account"
    assert client.get("/api/v1/me").json()["name"] == WORKER
    assert WORKER in client.get("/account").text
    assert client.post("/logout").status_code == 303


def test_a_code_for_one_purpose_is_none_for_another(site: Site) -> None:
    one = site.add(WORKER)
    with site.database.write() as connection:
        code = one_time_codes.make(connection, Purpose.FACTOR, person_id=one.id, now_ms=NOW, data="password")
        assert one_time_codes.find(connection, Purpose.PASSWORD, code, NOW) is None
        assert one_time_codes.use(connection, Purpose.FACTOR, code, NOW)
        assert not one_time_codes.use(connection, Purpose.FACTOR, code, NOW)
    assert site.browser().get(f"/password/{code}").status_code == 410


def test_what_is_kept_of_a_session_opens_none(site: Site) -> None:
    site.add(WORKER)
    client = signed_in(site)
    with site.database.read() as connection:
        kept = str(connection.execute(sa.select(login_session)).all())
    assert client.cookies["__Host-rc-session"] not in kept


def test_the_access_of_a_person_is_for_administrators_and_shows_no_secret(site: Site) -> None:
    site.add(WORKER)
    signed_in(site)
    with site.database.write() as connection:
        wish = TokenWish("抄表程序", frozenset({Right.VIEW}))
        token = people_store.issue_token(connection, WORKER, by="test", now_ms=site.now_ms, wish=wish)
    router = APIRouter(route_class=PageRoute)

    @router.get("/access/{name}")
    def shown(v: Viewing, name: str) -> Response:
        access = person_access.of(v, name)
        return v.render("parts/person_access.html", person_access=access)

    app = create_app(replace(site.context, open=True))
    app.include_router(router)
    boss, worker = TestClient(app), TestClient(app, cookies={AS_COOKIE: packed(WORKER)})
    page = boss.get(f"/access/{WORKER}").text
    for testid in ("person-access-link", "person-access-sessions", "account-session", "account-token-row"):
        assert page.count(f'data-testid="{testid}"') == 1
    assert ("抄表程序" in page, token in page, "person-access-factor" in page) == (True, False, False)
    assert worker.get(f"/access/{WORKER}").text.strip() == ""
    assert boss.get("/access/没有的人").status_code == 404


def test_a_link_is_sent_to_the_person_alone_and_shown_where_it_cannot_be(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = (Channel("wecombot://group"), Channel("mailto://user:x@mail.example"))
    contact = Contact("w", WORKER, roles=(ContactRole.CHIEF,), channels=ways)
    known = NotificationSettings(lambda: Directory((contact,)), NoticePolicy(), None, "示例")
    site.context = replace(site.context, notifications=known, open=True)
    client = site.browser(app=site.another_process())
    site.add(WORKER, password=None)
    site.add("无联系方式（示例）", password=None)
    sent: list[tuple[str, str]] = []

    def send(channel: Channel, _title: str, body: str) -> Outcome:
        sent.append((channel.kind, body))
        return Outcome(len(sent) == 1)

    monkeypatch.setattr(channels, "send", send)
    assert client.post(f"/people/{WORKER}/access/send").status_code == 303
    ((kind, body),) = sent
    path = re.search(r"https://river\.example(/password/\S+)", body)[1]  # type: ignore[index]
    assert (kind, client.get(path).status_code, site.events()[-1]) == ("mailto", 200, "account.link_sent")
    refused = client.post(f"/people/{WORKER}/access/send")
    assert (refused.status_code, "person-link" in refused.text) == (200, True)
    assert shows(refused.text, "account.link_unsent")
    assert client.get(path).status_code == 410, "the newer link took its place"


def test_an_open_channel_ends_with_its_session(site: Site) -> None:
    site.add(WORKER)
    client = signed_in(site)
    cookie = f"__Host-rc-session={client.cookies['__Host-rc-session']}"
    scope = {"type": "http", "scheme": "https", "app": site.app, "headers": [(b"cookie", cookie.encode())]}
    closed = []

    async def beats() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"beat"
        finally:
            closed.append(True)

    async def listen() -> int:
        heard = 0
        async for _ in while_signed_in(Request(scope), beats()):
            heard += 1
            if heard == 3:
                await to_thread.run_sync(client.post, "/logout")
        return heard

    assert (anyio.run(listen), closed) == (3, [True])
