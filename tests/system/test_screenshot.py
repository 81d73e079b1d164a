"""The picture of the README, of ``riverchief demo`` when a creek has turned red; ``make screenshot`` puts it there."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

from riverchief.brokers.local import free_port
from tests.browser import chromium
from tests.long import LONG
from tests.rig import eventually

pytestmark = [
    pytest.mark.broker,
    pytest.mark.browser,
    pytest.mark.skipif(not LONG, reason="test_demo looks at the same page; RIVERCHIEF_LONG=1 takes its picture"),
]


@pytest.mark.timeout(400)
def test_the_newcomer_sees_a_creek_turn_red(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "riverchief", "demo", "--no-browser", "--for", "300", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        eventually("the demo is up", lambda: b"http://127.0.0.1" in (tmp_path / "log").read_bytes())
        with chromium() as browser:
            page = browser.new_page(viewport={"width": 1440, "height": 900}, device_scale_factor=1)
            foreign: list[str] = []
            page.on("request", lambda r: foreign.append(r.url) if f"127.0.0.1:{port}" not in r.url else None)
            page.goto(f"http://127.0.0.1:{port}/")
            red = page.get_by_test_id("map-incidents").locator("li:has(.pennant.red)")
            expect(red.filter(has_text=re.compile("氨氮.*劣Ⅴ类.*限值2.0")).first).to_be_visible(timeout=200_000)
            page.wait_for_timeout(6_000)  # the map is drawn
            Path("build").mkdir(exist_ok=True)
            page.screenshot(path="build/map.png")
            assert [url for url in foreign if not url.startswith("data:")] == []
        process.send_signal(signal.SIGINT)  # the rest of its time shows nothing new
        assert process.wait(120) == 0, (tmp_path / "log").read_text()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)
