"""For the tests of pages: a browser of a person, a page as it stands now, and the element that a test asks about."""

import re

from fastapi import FastAPI
from starlette.testclient import TestClient

from api.access import AS_COOKIE, packed
from governance.people import store as people_store


def browser_of(app: FastAPI, name: str = "") -> TestClient:
    """A browser of a person on an open site, of nobody by name without one; it follows no redirect."""
    cookies = {AS_COOKIE: packed(name)} if name else {}
    return TestClient(app, headers={"Accept": "text/html"}, cookies=cookies, follow_redirects=False)


def signed_in(app: FastAPI, name: str) -> TestClient:
    """A browser of a person who signed in, on a site that is not open."""
    context, browser = app.state.context, browser_of(app)
    with context.database.write() as connection:
        token = people_store.issue_token(connection, name, by="test", now_ms=context.clock_ms())
    assert browser.post("/login", data={"token": token}).status_code == 303
    return browser


def current(browser: TestClient, path: str, **headers: str) -> str:
    """A page over what is stored at this moment."""
    browser.app.state.picture.read_at_ms = 0  # type: ignore[attr-defined]
    answer = browser.get(path, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.text


def part(page: str, testid: str) -> str:
    """The element of this test id, up to the next end of its kind."""
    found = re.search(rf'<(\w+)[^>]*data-testid="{re.escape(testid)}".*?</\1>', page, re.S)
    assert found, testid
    return found[0]
