"""How fast the field app opens and keeps a record, how a bad line empties its queue, and how fast a sign is read.

A phone-sized Chromium and a server of its own; the line is a proxy that holds each request back and cuts some of them.
"""

import random
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from infra.texts import join_on_line, say
from riverchief.brokers.local import free_port
from riverchief.guard import child_process
from tools.bench.console import answers
from tools.bench.rig import Plan, machine, wait_for

OPENED, SAVED = 10, 50
RECORDS, PHOTOS = 200, 100
LOSS, ROUND_TRIP_S = 0.2, 0.3
GIVEN_UP_S = 900
SLOW_3G = {"offline": False, "latency": 400, "downloadThroughput": 50_000, "uploadThroughput": 50_000}
"""Slow 3G as Chromium's tools have it: 400 ms, 400 kbit/s."""
_SAVE = """async ([count, photos]) => {
  const took = [];
  const canvas = new OffscreenCanvas(256, 256);
  const noise = new ImageData(256, 256);
  const place = { lon: 113.1478, lat: 23.0205, accuracy_m: 6 };
  for (let i = 0; i < count; i++) {
    crypto.getRandomValues(noise.data.subarray(0, 65536));
    canvas.getContext("2d").putImageData(noise, 0, 0);
    const blobs = i < photos ? [await canvas.convertToBlob({ type: "image/png" })] : [];
    const began = performance.now();
    await field.save("report", { new: { text: `示例${i}`, matter: "litter", colour: null, place } }, blobs);
    took.push(performance.now() - began);
  }
  return took;
}"""
_SENT = "async () => (await field.list()).every((one) => field.stateOf(one) === 'sent')"
_PAINTED = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def run(plan: Plan, progress: Console) -> dict[str, Any]:
    """Open, save and send on a phone; read a sign on slow 3G."""
    from playwright.sync_api import expect, sync_playwright

    from tests import browser, field_browser, pages_site

    with tempfile.TemporaryDirectory(prefix="riverchief-bench-") as name, ExitStack() as stack:
        pages_site.seed(Path(name)).close()
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        words = [sys.executable, "-m", "tests.pages_site", name, str(port)]
        stack.enter_context(child_process(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        wait_for("the server", lambda: answers(url), 120)
        line = stack.enter_context(_bad_line(url))
        play = stack.enter_context(sync_playwright())
        expect.set_options(timeout=60_000)
        sign = _sign(play, f"{url}/r/{pages_site.RIVER}", browser)
        phone = field_browser.Phone(play, Path(name, "phone"), line.url, pages_site.WORKER).open().register()
        stack.callback(phone.close)
        phone.context.set_offline(True)
        opened = sorted(_opened(phone) for _ in range(OPENED))
        saved = sorted(phone.page.evaluate(_SAVE, [SAVED, 0]))
        phone.context.set_offline(False)
        phone.until(_SENT, GIVEN_UP_S)
        progress.print(join_on_line(say("bench.sending", count=RECORDS, photos=PHOTOS)))
        sent = _sent(phone, line)
    return {
        "machine": machine(),
        "opens_offline_ms": {"median": round(median(opened)), "slowest": round(opened[-1])},
        "saved_ms": {"median": round(median(saved), 1), "p95": round(saved[int(0.95 * SAVED)], 1)},
        "sign_slow_3g": sign,
        "bad_line": sent,
    }


def _bad_line(url: str) -> Any:
    """A proxy that holds each request back for a round trip; faults are what its ``script`` says."""
    from tests.proxy import Behaviour, Proxy, Seen

    class Line(Proxy):
        wait_s = 0.0

        def _next(self, seen: Seen) -> Behaviour:
            time.sleep(self.wait_s)
            return super()._next(seen)

    return Line(url)


def _opened(phone: Any) -> float:
    phone.page.goto("about:blank")
    began = time.monotonic()
    phone.page.goto(f"{phone.url}/field/", wait_until="commit")
    phone.page.wait_for_selector("[data-testid=field-go-scan]")
    return (time.monotonic() - began) * 1000


def _sign(play: Any, url: str, browser: Any) -> dict[str, Any]:
    """Until a sign is painted and can be reported at, and what comes over the line, each time without a cache."""
    chromium = play.chromium.launch(executable_path=browser.CHROMIUM, args=browser.ARGUMENTS)
    painted, there, received = [], [], 0
    for _ in range(OPENED // 2):
        page = chromium.new_page(viewport=browser.PHONE)
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.send("Network.emulateNetworkConditions", SLOW_3G)
        came: list[float] = []
        session.on("Network.loadingFinished", lambda event, came=came: came.append(event["encodedDataLength"]))
        began = time.monotonic()
        page.goto(url, wait_until="commit")
        page.wait_for_selector("[data-testid=sign-report]")
        there.append((time.monotonic() - began) * 1000)
        page.wait_for_function(_PAINTED)
        painted.append(page.evaluate(_PAINTED))
        page.wait_for_load_state("networkidle")
        received = round(sum(came))
        page.close()
    chromium.close()
    return {"painted_ms": round(median(painted)), "usable_ms": round(median(there)), "bytes": received}


def _sent(phone: Any, line: Any) -> dict[str, Any]:
    """What is saved without a network and then sent over the bad line by nobody's help."""
    from tests.proxy import CutAnswer, CutRequest, Forward, HangUp, Status

    chance = random.Random(17)
    faults = (HangUp, CutAnswer, CutRequest, lambda: Status(503))
    before = {one["id"] for one in phone.ask("/field/records?limit=500")["items"]}
    phone.context.set_offline(True)
    saved = sorted(phone.page.evaluate(_SAVE, [RECORDS, PHOTOS]))
    line.seen.clear()
    line.wait_s = ROUND_TRIP_S
    line.script = lambda seen: chance.choice(faults)() if chance.random() < LOSS else Forward()
    began = time.monotonic()
    phone.context.set_offline(False)
    phone.until(_SENT, GIVEN_UP_S)
    seconds = time.monotonic() - began
    line.script, line.wait_s = [], 0.0
    received = [one for one in phone.ask("/field/records?limit=500")["items"] if one["id"] not in before]
    return {
        "saved_p95_ms": round(saved[int(0.95 * RECORDS)], 1),
        "seconds": round(seconds),
        "requests": len(line.seen),
        "records": len(received),
        "incidents": len({one["made"].get("incident") for one in received}),
        "photos_missing": sum(len(one["missing_photos"]) for one in received),
    }
