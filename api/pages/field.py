"""The field app ``/field/``: the page that a phone keeps, its service worker, manifest and icons."""

import hashlib
import json
from functools import lru_cache

import msgspec
from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse

from api.pages import assets, icon
from api.pages.assets import TYPES
from api.pages.view import HEADERS, POLICY, TEMPLATES, PageRoute, Viewing
from infra.texts import sections

PATH = "/field/"
ENTRIES = ("dark.css", "field.css", "field.js")
WORDS = ("field", "field_queue", "field_work")
"""Sections of the catalogue that the app speaks with; both languages, as it changes them without a network."""
ICONS = {f"icon-{size}.png": size for size in icon.SIZES}
_CHECKED = {"Cache-Control": "no-cache"}
_DAY = {"Cache-Control": "public, max-age=86400"}

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/field")
def without_slash(v: Viewing) -> Response:
    """To the app, with what the address holds."""
    return RedirectResponse(v.to(PATH), 303)


@router.get(PATH)
def shell(v: Viewing) -> Response:
    """The page of the app. It shows nobody's data, so that a phone can keep it."""
    response = v.render("field.html", build=_build(), words=_words())
    response.headers["Content-Security-Policy"] = f"{POLICY}; worker-src 'self'; manifest-src 'self'"
    response.headers.update(_CHECKED)
    return response


@router.get(PATH + "worker.js")
def worker() -> Response:
    """The service worker, which is told the files of the app, each named by its content."""
    script = assets.built("field-worker.js")
    if script is None:
        raise HTTPException(404)
    kept = [*_files(), f"{PATH}app.webmanifest", *(f"{PATH}{name}" for name in (*ICONS, "icon.svg"))]
    head = f"self.FIELD = {json.dumps({'build': _build(), 'files': kept})};\n".encode()
    return Response(
        head + script, headers=HEADERS | _CHECKED | {"Service-Worker-Allowed": PATH}, media_type=TYPES[".js"]
    )


@router.get(PATH + "app.webmanifest")
def manifest(v: Viewing) -> Response:
    """What a phone shows of the app on its home screen."""
    pictures = [
        {"src": f"{PATH}{name}", "sizes": f"{size}x{size}", "type": TYPES[".png"], "purpose": purpose}
        for name, size in ICONS.items()
        for purpose in ("any", "maskable")
    ]
    pictures.append({"src": f"{PATH}icon.svg", "sizes": "any", "type": TYPES[".svg"], "purpose": "any"})
    named = {
        "id": PATH,
        "name": v.say("field_server.app"),
        "short_name": v.say("field_server.app_short"),
        "lang": v.html_language,
        "start_url": PATH,
        "scope": PATH,
        "display": "standalone",
        "background_color": "#17302f",
        "theme_color": "#17302f",
        "icons": pictures,
    }
    return Response(msgspec.json.encode(named), headers=HEADERS | _CHECKED, media_type="application/manifest+json")


@router.get(PATH + "icon.svg")
def svg_icon() -> Response:
    """The sign of the product."""
    return Response(icon.SVG, headers=HEADERS | _DAY, media_type=TYPES[".svg"])


@router.get(PATH + "icon-{size}.png")
def png_icon(size: int) -> Response:
    """The sign of the product in a size that phones ask for."""
    if size not in icon.SIZES:
        raise HTTPException(404)
    return Response(icon.png(size), headers=HEADERS | _DAY, media_type=TYPES[".png"])


@router.api_route(PATH + "ping", methods=["GET", "HEAD"])
async def ping() -> Response:
    """There is a network, and it leads here; the header ``Date`` tells this clock."""
    return Response(status_code=204, headers={"Cache-Control": "no-store"})


@lru_cache(maxsize=1)
def _words() -> str:
    found = sections(*WORDS)
    return json.dumps({key: {"zh": text.zh, "en": text.en} for key, text in found.items()}, ensure_ascii=False)


def _files() -> tuple[str, ...]:
    """The addresses of all files of the app."""
    of = [address for entry in ENTRIES for address in (assets.url(entry), *assets.shared(entry), *assets.lazy(entry))]
    return tuple(dict.fromkeys(of))


@lru_cache(maxsize=1)
def _build() -> str:
    """Changes with every file and word of the app."""
    page = (TEMPLATES.loader.get_source(TEMPLATES, "field.html")[0] if TEMPLATES.loader else "") + _words()
    script = assets.built("field-worker.js") or b""
    return hashlib.sha256("\n".join((page, *_files())).encode() + script).hexdigest()[:12]
