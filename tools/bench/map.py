"""What the map costs a browser: its first useful picture, and frames while it is panned and stations change.

Desk, and a phone with a slow 4G network and a quarter of the processor. Needs Chromium and the ``dev`` extra.
"""

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, ViewportSize
from rich.console import Console

from riverchief.brokers.local import free_port
from tests.browser import DESK, PHONE, chromium
from tools.bench.console import answers, fill, process
from tools.bench.rig import Plan, database, machine, wait_for

CHANGED = 500
"""Stations that change each second."""
SLOW_4G = {"offline": False, "latency": 150, "downloadThroughput": 200_000, "uploadThroughput": 94_000}
SLOWER = 4
CHANGING = """changed => {
  const map = document.querySelector("river-map");
  const keys = [...map.stations.keys()];
  const any = (all) => all[Math.floor(Math.random() * all.length)];
  map.follow = () => {};
  setInterval(() => map.change({ mark: "x", stations: Array.from({ length: changed }, () => (
    { key: any(keys), state: any(["normal", "late", "offline"]), class: any([1, 2, 3, 4, 5, 6]) })) }), 1000);
  window.frames_ = [];
  const tick = (now) => { window.frames_.push(now); requestAnimationFrame(tick); };
  requestAnimationFrame(tick);
}"""


def run(plan: Plan, progress: Console) -> dict[str, Any]:
    """Serve a site and look at its map."""
    with tempfile.TemporaryDirectory(prefix="riverchief-bench-") as name, ExitStack() as stack:
        db = database(Path(name), plan.stations)
        fill(db, plan.stations)
        db.close()
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        stack.enter_context(process("serve", name, str(port)))
        wait_for("the server", lambda: answers(url), 60)
        httpx.get(f"{url}/map/data")
        browser = stack.enter_context(chromium())
        looks = {"desk": _look(browser, url, DESK, plan), "phone": _look(browser, url, PHONE, plan, slow=True)}
    return {"machine": machine(), "stations": plan.stations, "changed_per_s": CHANGED, **looks}


def _look(browser: Browser, url: str, size: ViewportSize, plan: Plan, *, slow: bool = False) -> dict[str, float]:
    context = browser.new_context(viewport=size)
    page = context.new_page()
    if slow:
        devtools = context.new_cdp_session(page)
        devtools.send("Network.enable")
        devtools.send("Network.emulateNetworkConditions", SLOW_4G)
        devtools.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
    began = time.monotonic()
    page.goto(url, wait_until="commit")
    page.wait_for_selector("river-map[data-state=shown]", timeout=120_000)
    first_ms = 1000 * (time.monotonic() - began)
    page.evaluate(CHANGING, CHANGED)
    x, y = size["width"] // 2, size["height"] // 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.evaluate("window.frames_ = []")
    until, i = time.monotonic() + plan.seconds, 0
    while time.monotonic() < until:
        i += 1
        page.mouse.move(x + (7 * i) % 150, y + (5 * i) % 100)
    page.mouse.up()
    frames = page.evaluate("window.frames_")
    page.goto(f"{url}/?view=list")
    listed = int(page.get_by_test_id("list-stations").get_attribute("data-count") or 0)
    context.close()
    return {
        "first_picture_ms": round(first_ms),
        "frames_per_s": round(1000 * (len(frames) - 1) / (frames[-1] - frames[0]), 1),
        "list_twin": listed,
    }
