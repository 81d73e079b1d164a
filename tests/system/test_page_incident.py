"""The page of an incident in a browser: a phone shows what matters on its first screen and folds the rest."""

from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser import DESK, PHONE, new_page, seeded

pytestmark = pytest.mark.browser


def test_a_phone_folds_all_but_the_finding_and_its_action_and_keeps_what_was_opened(tmp_path: Path) -> None:
    with seeded(tmp_path) as site, new_page(PHONE) as page:
        page.goto(f"{site}/incidents/1")
        for name in ("case-title", "case-deadline", "case-sentence", "case-action-accept"):
            expect(page.get_by_test_id(name)).to_be_in_viewport(ratio=1)
        timeline, newest = page.get_by_test_id("case-timeline"), page.get_by_test_id("timeline-line").first
        expect(page.get_by_test_id("case-facts")).to_be_hidden()
        expect(newest).to_be_hidden()
        assert page.evaluate("document.documentElement.scrollHeight") < 2 * PHONE["height"]

        timeline.locator("summary").first.click()
        expect(newest).to_be_visible()
        remark = {"action": "comment", "comment": "船已到"}
        assert httpx.post(f"{site}/api/v1/incidents/1/actions", json=remark).status_code == 200
        expect(timeline.locator(".fold-line")).to_contain_text("备注")  # the live channel has renewed it
        expect(newest).to_contain_text("船已到")
        expect(newest).to_be_visible()

        page.set_viewport_size(DESK)
        expect(page.get_by_test_id("case-facts")).to_be_visible()
