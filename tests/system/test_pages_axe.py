"""Every page, in both languages, on a desk and on a phone: axe-core finds nothing serious, the console shows no error,
nothing is asked of another host, nothing scrolls sideways, no text is smaller than 12 px."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page

from api.pages.menu import ENTRIES
from infra.times import beijing_day
from tests import pages_site
from tests.browser import DESK, PHONE, chromium, served, signed_in
from tools import build_assets

SIZES = {"desk": DESK, "phone": PHONE}
LOOKS = ((("zh", "desk"), ("en", "phone")), (("zh", "phone"), ("en", "desk")))
"""Each page in both languages and on both sizes: one pair for every other page."""

TODAY = beijing_day(pages_site.now_ms()).isoformat()
ONE_OF_EACH = (
    f"/stations/{pages_site.STATION}",
    f"/rivers/{pages_site.RIVER}",
    "/incidents/1",
    "/incidents/2",
    "/board?incident=2&act=comment",
    f"/registry/stations/{pages_site.STATION}",
    "/registry/stations/new",
    "/registry/import",
    f"/maintenance/{pages_site.STATION}",
    f"/review/{pages_site.STATION}/{TODAY}",
    "/reported/new",
    f"/ledger/{pages_site.GAPS}/{TODAY}",
    "/kit",
    "/nothing-here",
    *pages_site.PUBLIC_PAGES,
)
ON_DESK_ONLY = frozenset({"/wall"})
"""A screen that is read from four metres has no size for a phone."""
PATHS = tuple(dict.fromkeys((*(entry.path for entry in ENTRIES), *ONE_OF_EACH)))

SMALL = """() => {
  const found = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode()); ) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.getClientRects().length || element.closest(".badge, .heard, template")) continue;
    const style = getComputedStyle(element);
    if (style.visibility === "hidden") continue;
    const scale = element.getScreenCTM ? Math.abs(element.getScreenCTM().d) : 1;
    const size = parseFloat(style.fontSize) * scale;
    if (size < 11.95) found.add(`${node.data.trim().slice(0, 30)}: ${size} px`);
  }
  return [...found];
}"""
WIDE = """() => {
  const wide = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= wide) return [];
  return [...document.body.querySelectorAll("*")]
    .filter((one) => one.getBoundingClientRect().right > wide + 1)
    .slice(0, 5)
    .map((one) => one.outerHTML.slice(0, 120));
}"""
AXE = """async () => {
  const found = await axe.run(document, { resultTypes: ["violations"] });
  return found.violations
    .filter((one) => ["serious", "critical"].includes(one.impact))
    .flatMap(({ id, nodes }) => nodes.slice(0, 3).map((n) => `${id}: ${n.html.slice(0, 160)} ${n.any[0]?.message}`));
}"""

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def axe() -> str:
    return build_assets.axe()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("axe")
    database = pages_site.seed(folder)
    pages_site.public_past(database)
    pages_site.gauge(database)
    database.close()
    with served(folder) as url:
        yield url


@pytest.fixture(scope="module")
def context(site: str, axe: str) -> Iterator[BrowserContext]:
    with chromium() as browser:
        found = signed_in(browser.new_context(), pages_site.ADMINISTRATOR, site)
        found.add_init_script(axe)
        yield found


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    found = context.new_page()
    yield found
    found.close()


@pytest.mark.parametrize("path", PATHS)
def test_a_page_is_fit_for_everybody(site: str, page: Page, path: str) -> None:
    errors: list[str] = []
    foreign: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: None if _ours(request.url, site) else foreign.append(request.url))
    found: dict[str, Any] = {}
    for language, size in LOOKS[PATHS.index(path) % 2]:
        if path in ON_DESK_ONLY and size == "phone":
            continue
        page.set_viewport_size(SIZES[size])
        answer = page.goto(f"{site}{path}{'&' if '?' in path else '?'}lang={language}")
        assert answer is not None
        wrong_status = [] if answer.status == (404 if path == "/nothing-here" else 200) else [answer.status]
        if path == "/nothing-here":
            errors.clear()  # that the page is not there
        look = {
            "status": wrong_status,
            "errors": list(errors),
            "axe": page.evaluate(AXE),
            "small": page.evaluate(SMALL),
            "wide": page.evaluate(WIDE),
        }
        errors.clear()
        found |= {f"{language} {size} {what}": seen for what, seen in look.items() if seen}
    assert not found, "\n".join(f"{where}: {one}" for where, seen in found.items() for one in seen)
    assert not foreign


def _ours(url: str, site: str) -> bool:
    return url.startswith((f"{site}/", "data:", "blob:"))
