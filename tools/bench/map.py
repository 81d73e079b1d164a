"""How fast the map of thousands of stations is there, and how smoothly it moves while readings come in.

A browser (Chromium by Playwright) opens the map of a large site: as on a desk, and as on a phone with slow 4G and a
quarter of the processor. Then the state of 500 stations changes each second while the map is dragged.
"""

import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from infra.texts import join_on_line, say
from riverchief.brokers.local import free_port
from riverchief.guard import child_process
from tools.bench.console import answers
from tools.bench.rig import Plan, machine, wait_for

CHANGED_MARKERS = 500
OPENED_PAGES = 5
"""Times that the page is opened; the median counts."""
SLOW_4G = {"offline": False, "latency": 150, "downloadThroughput": 1.6e6 / 8, "uploadThroughput": 0.75e6 / 8}
"""Slow 4G as Lighthouse has it: 150 ms, 1.6 Mbit/s down."""
PHONE_CPU = 4
_CHANGE = """([keys, n]) => {
  const map = document.querySelector("river-map");
  map.follow = () => {};
  window.costs = [];
  const states = ["normal", "late", "offline"];
  setInterval(() => {
    const began = performance.now();
    const stations = Array.from({ length: n }, () => ({
      key: keys[Math.floor(Math.random() * keys.length)],
      state: states[Math.floor(Math.random() * 3)],
      class: 1 + Math.floor(Math.random() * 6),
    }));
    map.change({ mark: "bench", stations });
    window.costs.push(performance.now() - began);
  }, 1000);
  window.frames = [];
  const tick = (now) => { window.frames.push(now); requestAnimationFrame(tick); };
  requestAnimationFrame(tick);
}"""
_FRAMES = """() => {
  const steps = window.frames.slice(1).map((at, i) => at - window.frames[i]).sort((a, b) => a - b);
  const seconds = (window.frames.at(-1) - window.frames[0]) / 1000;
  const p95_ms = steps[Math.floor(steps.length * 0.95)];
  return { frames_s: steps.length / seconds, p95_ms, change_ms: Math.max(...window.costs) };
}"""


def run(plan: Plan, progress: Console) -> dict[str, Any]:
    """Open the map as on a desk and on a phone, then drag it while stations change."""
    from playwright.sync_api import sync_playwright

    from tests import browser, large_site

    with tempfile.TemporaryDirectory(prefix="riverchief-bench-") as name, ExitStack() as stack:
        progress.print(join_on_line(say("bench.filling", count=large_site.STATIONS)))
        large_site.seed(Path(name))
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        words = [sys.executable, "-m", "tests.large_site", name, str(port)]
        stack.enter_context(child_process(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        wait_for("the server", lambda: answers(url), 120)
        play = stack.enter_context(sync_playwright())
        chromium = play.chromium.launch(executable_path=browser.CHROMIUM, args=browser.ARGUMENTS)
        stack.callback(chromium.close)
        desk = chromium.new_page(viewport=browser.DESK)
        found: dict[str, Any] = {"desk": _opened(desk, url)}
        phone = chromium.new_page(viewport=browser.PHONE)
        session = phone.context.new_cdp_session(phone)
        session.send("Network.enable")
        session.send("Network.emulateNetworkConditions", SLOW_4G)
        session.send("Emulation.setCPUThrottlingRate", {"rate": PHONE_CPU})
        found["phone_slow_4g_quarter_cpu"] = _opened(phone, url)
        phone.close()
        keys = desk.evaluate("[...document.querySelector('river-map').stations.keys()]")
        desk.evaluate(_CHANGE, [keys, CHANGED_MARKERS])
        for what, zoom in (("dragged", None), ("dragged_near", 14)):
            if zoom is not None:
                desk.evaluate("(z) => document.querySelector('river-map').map.setZoom(z, { animate: false })", zoom)
            found[what] = _dragged(desk, plan.seconds)
        listed = httpx.get(url + "/", params={"view": "list"}).text
    return {"machine": machine(), "stations": len(keys), "list_bytes": len(listed.encode()), **found}


def _opened(page: Any, url: str) -> dict[str, Any]:
    """Until the page's frame and until the picture, ms, cold first and then with what the browser kept."""
    times = []
    for _ in range(OPENED_PAGES):
        page.goto("about:blank")
        began = time.monotonic()
        page.goto(url, wait_until="commit")
        frame = time.monotonic() - began
        page.wait_for_selector("river-map[data-state=shown]", timeout=120_000)
        times.append((round(frame * 1000), round((time.monotonic() - began) * 1000)))
    kept = sorted(times[1:], key=lambda one: one[1])[len(times[1:]) // 2]
    return {"first_ms": times[0][1], "again_ms": kept[1], "frame_ms": kept[0]}


def _dragged(page: Any, seconds: float) -> dict[str, Any]:
    page.evaluate("() => { window.frames = []; window.costs = [0]; }")
    page.mouse.move(800, 450)
    page.mouse.down()
    began, step = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        step += 1
        page.mouse.move(800 + step * 7 % 300, 450 + step * 5 % 200)
    page.mouse.up()
    return {name: round(value, 1) for name, value in page.evaluate(_FRAMES).items()}
