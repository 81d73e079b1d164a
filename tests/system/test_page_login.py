"""Signing in with a browser: the way of the first sign-in, and a session that ends while a page is open."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from governance.people import accounts
from governance.people import store as people_store
from infra.database import Database
from tests import pages_site
from tests.browser import new_page, served
from tests.rig import eventually
from tests.sign_in import PASSWORD, code_of

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("login")
    database = pages_site.seed(found)
    with database.write() as connection:
        for name in (pages_site.WORKER, pages_site.ADMINISTRATOR):
            one = people_store.get(connection, name)
            accounts.set_password(connection, one, PASSWORD, by="test", now_ms=pages_site.now_ms())
    database.close()
    return found


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[str]:
    with served(folder, "for-machines") as url:
        yield url


@pytest.fixture
def page() -> Iterator[Page]:
    with new_page() as found:
        yield found


def sign_in(page: Page, name: str) -> None:
    page.get_by_test_id("login-name").fill(name)
    page.get_by_test_id("login-password").fill(PASSWORD)
    page.get_by_test_id("login-go").click()


def test_an_administrator_signs_in_for_the_first_time_and_is_where_they_wanted(site: str, page: Page) -> None:
    page.goto(f"{site}/health")
    sign_in(page, pages_site.ADMINISTRATOR)
    page.get_by_test_id("login-code").fill(code_of(page.content()))
    page.get_by_test_id("login-go").click()
    expect(page.get_by_test_id("recovery-code")).to_have_count(accounts.RECOVERY_CODE_COUNT)
    page.get_by_test_id("recovery-kept").click()
    expect(page).to_have_url(f"{site}/health")
    expect(page.get_by_test_id("frame-person")).to_have_text(pages_site.ADMINISTRATOR)


def test_a_session_that_ends_while_a_page_is_open_leads_to_the_sign_in_page_and_back(
    site: str, page: Page, folder: Path
) -> None:
    page.goto(f"{site}/board?lang=zh")
    sign_in(page, pages_site.WORKER)
    expect(page).to_have_url(f"{site}/board?lang=zh")
    database = Database(f"sqlite:///{folder / 'river.db'}")
    with database.write() as connection:
        one = people_store.get(connection, pages_site.WORKER)
        accounts.set_password(connection, one, PASSWORD, by="test", now_ms=pages_site.now_ms())
    database.close()
    eventually("the server knows", lambda: page.request.get(f"{site}/api/v1/me").status == 401)
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")  # opens the channel anew
    expect(page).to_have_url(f"{site}/login?next=%2Fboard%3Flang%3Dzh&lang=zh")
    sign_in(page, pages_site.WORKER)
    expect(page).to_have_url(f"{site}/board?lang=zh")
