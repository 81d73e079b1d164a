"""Signing in as a person does, for tests: the first administrator by the link that a new site writes."""

import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from governance.people import totp

PASSWORD = "每天看一次河水 really"
ADMINISTRATOR = "首任管理员（示例）"


def code_of(page: str, now_ms: int | None = None, ahead: int = 0) -> str:
    """The code that an app shows for the secret on a page."""
    found = re.search(r'data-testid="factor-secret">([A-Z2-7 ]+)<', page)
    assert found is not None, page
    at_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    return totp.code(found[1].replace(" ", ""), at_ms // totp.STEP_MS + ahead)


def first_administrator(folder: Path, address: str) -> str:
    """Become the first administrator of a site that has just begun; a token for programs."""
    path = urlsplit((folder / "administrator.link").read_text("utf-8").strip()).path
    with httpx.Client(base_url=address, timeout=60) as client:
        given = {"name": ADMINISTRATOR, "password": PASSWORD, "again": PASSWORD}
        asked = client.post(path, data=given, follow_redirects=True)
        kept = client.post("/login/enrol", data={"code": code_of(asked.text)})
        assert "recovery-code" in kept.text, kept.text
        return new_token(client)


def new_token(client: Any) -> str:
    """A token of who is signed in."""
    made = client.post("/api/v1/me/tokens", json={"label": "test"})
    assert made.status_code == 201, made.text
    return str(made.json()["token"])
