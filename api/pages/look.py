"""How the pages look in one browser: language and theme, remembered in cookies. Plain forms of the top bar."""

from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi import APIRouter, Request, Response
from starlette.responses import RedirectResponse

from api.pages.forms import Fields
from api.pages.view import LANGUAGE_COOKIE, LANGUAGES, THEME_COOKIE, THEMES, PageRoute
from infra.times import DAY_MS

PATH = "/look"
KEPT_S = 365 * DAY_MS // 1000
_CHOICES = (("lang", LANGUAGE_COOKIE, LANGUAGES), ("theme", THEME_COOKIE, THEMES))

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.post(PATH)
def choose(request: Request, given: Fields) -> Response:
    """Remember what was chosen and show the page again."""
    secure = request.url.scheme == "https"
    response = RedirectResponse(_again(given.get("to", "/"), given), 303)
    for name, cookie, known in _CHOICES:
        if (value := given.get(name, "")) in known:
            response.set_cookie(cookie, value, max_age=KEPT_S, httponly=True, samesite="lax", secure=secure)
    return response


def _again(address: str, given: dict[str, str]) -> str:
    """The page it was chosen on, with all its state but what was chosen; the front page for another's address."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc or not parts.path.startswith("/") or parts.path.startswith(("//", "/\\")):
        return "/"
    query = [(name, value) for name, value in parse_qsl(parts.query) if name not in given]
    return f"{parts.path}?{urlencode(query)}" if query else parts.path
