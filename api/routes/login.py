"""Signing in with a browser: a token opens a session, whose id is a cookie that no script can read.

Plain pages, no script of their own.
"""

from functools import partial
from html import escape
from urllib.parse import parse_qs

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from starlette.responses import HTMLResponse, RedirectResponse

from api.access import ANYBODY, AS_COOKIE, COOKIE, Keeping, foreign, packed
from api.requests import RequestContext
from governance.organisation.roles import Role, role_name
from governance.people import store as people_store
from infra.texts import Text, join_on_line, say

router = APIRouter(include_in_schema=False)

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
_STYLE = """
body{font:16px/1.6 system-ui,"Noto Sans CJK SC",sans-serif;max-width:34rem;margin:10vh auto;padding:0 1rem;
color:#17302f}
input,button{font:inherit;padding:.5rem .75rem;border:1px solid #57706f;border-radius:.4rem}
input{width:100%;box-sizing:border-box}button{background:#0b5a5e;color:#fff;cursor:pointer;margin:.4rem 0}
li{list-style:none;display:grid;grid-template-columns:minmax(0,1fr) minmax(0,1fr);gap:1rem;align-items:center;
padding:.35rem 0;border-bottom:1px solid #dfe7e6;line-height:1.4}li button{margin:0;width:100%;background:#fff;
color:#0b5a5e;border-color:#0b5a5e;font-weight:600}ul{padding:0}
:focus-visible{outline:3px solid #2f7f7c;outline-offset:2px}
.wrong{color:#a11}.quiet{color:#57706f}
"""


@router.get("/login")
def show(context: RequestContext, keeper: Keeping, next: str = "/") -> Response:
    """The page to sign in; on an open site the list of people whose part one may play."""
    return _page(context, keeper, _inside(next))


@router.post("/login")
async def sign_in(request: Request, context: RequestContext, keeper: Keeping) -> Response:
    """Sign in with the token of a form; on an open site as a person of the list."""
    if (refused := foreign(request.headers)) is not None:
        return refused.response()
    body = await request.body()
    fields = {name: values[0] for name, values in parse_qs(body[:8192].decode("utf-8", "replace")).items()}
    after = _inside(fields.get("next", "/"))
    response = RedirectResponse(after, 303)
    secure = request.url.scheme == "https"
    if keeper.open and "as" in fields:
        response.set_cookie(AS_COOKIE, packed(fields["as"]), httponly=True, samesite="strict", secure=secure)
        return response
    token = fields.get("token", "").strip()
    session = await to_thread.run_sync(keeper.sign_in, token) if token else None
    if session is None:
        return await to_thread.run_sync(partial(_page, context, keeper, after, wrong=True))
    age_s = context.session_ms // 1000
    response.set_cookie(COOKIE, session, max_age=age_s, httponly=True, samesite="strict", secure=secure)
    return response


@router.post("/logout")
def sign_out(request: Request, keeper: Keeping) -> Response:
    """End the session of this browser."""
    if (refused := foreign(request.headers)) is not None:
        return refused.response()
    keeper.sign_out(request.cookies)
    response = RedirectResponse("/login", 303)
    for name in (COOKIE, AS_COOKIE):
        response.delete_cookie(name)
    return response


def _inside(path: str) -> str:
    """A path of ours, nothing that leads elsewhere."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) else "/"


def _page(context: RequestContext, keeper: Keeping, after: str, *, wrong: bool = False) -> Response:
    rows = ""
    if keeper.open:
        with context.database.read() as connection:
            everybody = people_store.list_people(connection)
        regions, order = keeper.regions(), list(Role)
        choices = [(ANYBODY, _both(say("login.everything")))]
        for one in sorted(everybody, key=lambda p: (order.index(p.role), p.name)):
            place = ""
            if one.region in regions:
                where = regions[one.region]
                place = f"<br>{_both(Text(where.zh, where.en))}"
            choices.append((one.name, _both(role_name(one.role)) + place))
        rows = "".join(
            f'<li><button name="as" value="{escape(name)}">{escape(name)}</button>'
            f'<span class="quiet">{what}</span></li>'
            for name, what in choices
        )
        rows = f"<p>{_both(say('login.open'))}</p><ul>{rows}</ul>"
    problem = f'<p class="wrong" role="alert">{_both(say("login.wrong"))}</p>' if wrong else ""
    page = f"""<!doctype html><html lang="zh-CN"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1"><title>{say("login.title").zh}</title>
<style>{_STYLE}</style></head><body><main><h1>{_both(say("login.title"))}</h1>{problem}
<form method="post" action="/login"><input type="hidden" name="next" value="{escape(after)}">
<label>{_both(say("login.token"))}<input name="token" type="password" autocomplete="current-password"
 data-testid="login-token" autofocus></label>
<button data-testid="login-go">{_both(say("login.go"))}</button>{rows}</form>
<p class="quiet">{_both(say("login.help"))}</p></main></body></html>"""
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"}
    return HTMLResponse(page, 401 if wrong else 200, headers)


def _both(text: Text) -> str:
    return escape(join_on_line(text))
