"""A browser of a person for the tests of pages, and the element of a page that a test asks about."""

import re

from fastapi import FastAPI
from starlette.testclient import TestClient

from api.access import AS_COOKIE, packed


def browser_of(app: FastAPI, name: str = "") -> TestClient:
    """A browser of a person on an open site, of nobody by name without one; it follows no redirect."""
    cookies = {AS_COOKIE: packed(name)} if name else {}
    return TestClient(app, headers={"Accept": "text/html"}, cookies=cookies, follow_redirects=False)


def part(page: str, testid: str) -> str:
    """The element of this test id, up to the next end of its kind."""
    found = re.search(rf'<(\w+)[^>]*data-testid="{re.escape(testid)}".*?</\1>', page, re.S)
    assert found, testid
    return found[0]
