"""Signing in with an identity provider: a real one on loopback, right and in every way wrong."""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi.testclient import TestClient
from joserfc.jwk import RSAKey

from api import oidc
from api.app import create_app
from api.context import Context
from api.oidc import Oidc, OidcSettings
from governance.audit import trail as audit_trail
from governance.organisation.roles import Role
from governance.people import accounts
from governance.people import store as people_store
from infra.database import Database
from ingest.storage.sql import SqlReadings
from riverchief.brokers.local import free_port
from sensors.parameters import catalogue
from tests import identity_provider
from tests.databases import with_tables
from tests.identity_provider import CLIENT, SECRET, Provider
from tests.says import shows

WORKER, BOSS = "黄网格员（示例）", "管理员（示例）"


@pytest.fixture(scope="module")
def served() -> Iterator[Provider]:
    with identity_provider.running() as provider:
        yield provider


@pytest.fixture
def provider(served: Provider) -> Provider:
    served.person, served.wrong, served.down, served.signs_with = WORKER, {}, False, None
    return served


@pytest.fixture
def context(provider: Provider, tmp_path: Path) -> Iterator[Context]:
    database = Database(f"sqlite:///{tmp_path / 'river.db'}")
    with_tables(database)
    with database.write() as connection:
        for name, role in ((WORKER, Role.GRID_WORKER), (BOSS, Role.ADMINISTRATOR)):
            people_store.add(connection, name, role, by="test", now_ms=_now_ms())
    known, found = catalogue(), Oidc(OidcSettings(provider.issuer, CLIENT, SECRET))
    yield Context(database, SqlReadings(database, known), known, "/test", _now_ms, oidc=found)
    database.close()


@pytest.fixture
def browse(context: Context) -> Callable[..., TestClient]:
    def made(**changes: Any) -> TestClient:
        app = create_app(replace(context, **changes))
        return TestClient(
            app, base_url="https://river.example", headers={"Accept": "text/html"}, follow_redirects=False
        )

    return made


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def go(client: TestClient, after: str = "/account") -> str:
    """Over to the provider and back; the address with which the browser comes back."""
    sent = client.get("/login/oidc", params={"next": after})
    assert sent.status_code == 303
    back = urlsplit(httpx.get(sent.headers["location"]).headers["location"])
    assert (back.netloc, back.path) == ("river.example", "/login/oidc/back")
    return f"{back.path}?{back.query}"


def me(client: TestClient) -> int:
    return int(client.get("/api/v1/me").status_code)


def test_who_is_registered_here_signs_in_and_goes_on_by_a_page_of_ours(
    browse: Callable[..., TestClient], context: Context
) -> None:
    client = browse()
    assert 'data-testid="login-oidc"' in client.get("/login").text
    page = client.get(go(client))
    assert (page.status_code, 'content="0;url=/account"' in page.text, me(client)) == (200, True, 200)
    cookies = page.headers.get_list("set-cookie")
    session = next(one for one in cookies if "rc-session=" in one and "Max-Age=0" not in one)
    assert "SameSite=strict" in session
    assert client.get("/api/v1/me/sessions").json()["items"][0]["method"] == "oidc"
    with context.database.read() as connection:
        (line,) = audit_trail.list_entries(connection, what="login.begun", limit=9)
    assert ("oidc" in line.body, "code-" in line.body) == (True, False)


def test_the_step_cookie_alone_comes_along_from_another_site(browse: Callable[..., TestClient]) -> None:
    sent = browse().get("/login/oidc")
    (cookie,) = sent.headers.get_list("set-cookie")
    assert ("SameSite=lax" in cookie, "HttpOnly" in cookie, "Secure" in cookie) == (True, True, True)
    asked = parse_qs(urlsplit(sent.headers["location"]).query)
    assert (asked["code_challenge_method"], asked["response_type"]) == (["S256"], ["code"])


def test_coming_back_twice_or_with_the_state_of_another_signs_nobody_in(browse: Callable[..., TestClient]) -> None:
    client, other = browse(), browse()
    back = go(client)
    assert client.get(back).status_code == 200
    client.post("/logout")
    assert (client.get(back).status_code, me(client)) == (401, 401), "used"
    stranger = go(other)
    victim = browse()
    go(victim)
    assert (victim.get(stranger).status_code, me(victim)) == (401, 401), "the state of another browser"
    assert browse().get(go(browse())).status_code == 401, "no cookie"


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"nonce": "another"}, "login.oidc_refused"),
        ({"nonce": None}, "login.oidc_refused"),
        ({"aud": "another"}, "login.oidc_refused"),
        ({"aud": [CLIENT, "another"]}, "login.oidc_refused"),
        ({"iss": "https://another.example"}, "login.oidc_refused"),
        ({"exp": 1_600_000_000}, "login.oidc_refused"),
        ({"exp": None}, "login.oidc_refused"),
        ({"iat": 4_000_000_000}, "login.oidc_refused"),
        ({"preferred_username": None}, "login.oidc_no_claim"),
        ({"preferred_username": "不在这里"}, "login.oidc_unknown"),
    ],
)
def test_a_token_that_does_not_hold_or_names_nobody_here_signs_nobody_in(
    browse: Callable[..., TestClient], provider: Provider, wrong: dict[str, Any], key: str
) -> None:
    provider.wrong = wrong
    client = browse()
    page = client.get(go(client))
    assert (page.status_code, shows(page.text, key), me(client)) == (401, True, 401)


def test_a_token_signed_with_another_key_signs_nobody_in(browse: Callable[..., TestClient], provider: Provider) -> None:
    provider.signs_with = RSAKey.generate_key(2048, {"kid": provider.key.kid})
    client = browse()
    assert (client.get(go(client)).status_code, me(client)) == (401, 401)


def test_new_keys_of_the_provider_are_fetched_when_a_token_names_one(
    browse: Callable[..., TestClient], provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "KEYS_AGAIN_S", 0.0)
    client = browse()
    client.get(go(client))
    provider.rotate()
    again = browse()
    assert (again.get(go(again)).status_code, me(again)) == (200, 200)
    before = provider.asked.count("discovery")
    third = browse()
    third.get(go(third))
    assert provider.asked.count("discovery") == before, "once an hour"


def test_a_provider_that_is_down_is_said_so_and_the_password_still_works(
    browse: Callable[..., TestClient], context: Context, provider: Provider
) -> None:
    away = Oidc(OidcSettings(f"http://127.0.0.1:{free_port()}", CLIENT, SECRET))
    page = browse(oidc=away).get("/login/oidc")
    assert (page.status_code, shows(page.text, "login.oidc_unavailable")) == (401, True)
    provider.down = True
    assert shows(browse().get("/login/oidc").text, "login.oidc_unavailable")
    assert 'data-testid="login-password"' in page.text


def test_an_answer_without_an_end_is_read_no_further_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    def endless() -> Iterator[bytes]:
        while len(taken) < 100:
            taken.append(1)
            yield b" " * (oidc.MOST_BYTES // 4)

    answers = httpx.MockTransport(lambda _: httpx.Response(200, content=endless()))
    monkeypatch.setattr(oidc.httpx, "Client", partial(httpx.Client, transport=answers))
    with pytest.raises(oidc.ProviderUnavailable):
        Oidc(OidcSettings("https://provider.example", CLIENT, SECRET)).begin("https://river.example/back")
    assert len(taken) == 5


def test_the_second_factor_of_this_site_is_asked_for_unless_the_provider_checks_one(
    browse: Callable[..., TestClient], provider: Provider
) -> None:
    provider.person = BOSS
    client = browse()
    page = client.get(go(client, "/people"))
    assert re.search(r'content="0;url=/login/enrol\?next=%2Fpeople"', page.text)
    assert me(client) == 401
    checks = Oidc(OidcSettings(provider.issuer, CLIENT, SECRET, checks_factor=True))
    trusted = browse(oidc=checks)
    trusted.get(go(trusted))
    assert me(trusted) == 200


def test_a_login_name_is_known_to_the_provider_as_well(
    browse: Callable[..., TestClient], context: Context, provider: Provider
) -> None:
    with context.database.write() as connection:
        one = people_store.get(connection, WORKER)
        accounts.set_login_name(connection, one, "huang", by="test", now_ms=_now_ms())
    provider.person = "Huang"
    client = browse()
    client.get(go(client))
    assert client.get("/api/v1/me").json()["name"] == WORKER
    assert browse(oidc=None).get("/login/oidc").status_code == 401
