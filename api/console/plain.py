"""Plain pages of the console, without its framework: no such page, and one that could not be opened."""

from html import escape

from fastapi import Request
from starlette.responses import HTMLResponse

from api import problems
from api.console.elements import HTML_LANGUAGE
from infra.texts import Text, say

_STYLE = (
    "body{font:17px/1.6 system-ui,sans-serif;max-width:34rem;margin:15vh auto;padding:0 1rem;color:#17302f}"
    "a{color:#0b5a5e;font-weight:600}"
)


def nowhere(request: Request) -> HTMLResponse:
    """There is no such page."""
    return _page(request, 404, say("page_frame.no_page"), (), (("/", say("page_frame.to_map"), "nowhere-back"),))


def broken(request: Request, error: Exception) -> HTMLResponse:
    """A page failed or took too long: logged under a number, which is all that people are shown."""
    number = problems.fault(error).members["instance"]
    lines = say("page_frame.broken_number", number=number), say("page_frame.broken_next")
    again = str(request.url.path) + (f"?{request.url.query}" if request.url.query else "")
    links = ((again, say("page_frame.try_again"), "broken-again"), ("/", say("page_frame.to_map"), "broken-back"))
    return _page(request, 500, say("page_frame.broken"), lines, links)


def _page(
    request: Request, status: int, title: Text, lines: tuple[Text, ...], links: tuple[tuple[str, Text, str], ...]
) -> HTMLResponse:
    language = "en" if request.query_params.get("lang") == "en" else "zh"

    def of(text: Text) -> str:
        return escape(text.en if language == "en" else text.zh)

    ways = " · ".join(f'<a href="{escape(to)}" data-testid="{testid}">{of(words)}</a>' for to, words, testid in links)
    return HTMLResponse(
        f'<!doctype html><html lang="{HTML_LANGUAGE[language]}"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><title>{of(title)}</title>'
        f"<style>{_STYLE}</style></head><body><main><h1>{of(title)}</h1>"
        f"{''.join(f'<p>{of(line)}</p>' for line in lines)}<p>{ways}</p></main></body></html>",
        status,
    )
