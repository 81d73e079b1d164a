"""The built scripts and style sheets: which file is which, and their route.

``make setup`` builds them (``tools/build_assets.py``); their names carry a hash, so that browsers keep them for good.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Response
from starlette.responses import FileResponse, PlainTextResponse

from infra.errors import ConfigurationError
from infra.texts import say

PATH = "/assets"
STATIC = Path(__file__).parent / "static"
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png"}
_FOREVER = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}

router = APIRouter(include_in_schema=False)


@lru_cache(maxsize=1)
def _manifest() -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((STATIC / "manifest.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(say("page.assets_missing", folder=STATIC)) from None
    return found


def url(entry: str) -> str:
    """The address of a built file by the name of its entry (``page.js``). Raises ConfigurationError when not built."""
    return f"{PATH}/{_manifest()['files'][entry]}"


def shared(entry: str) -> tuple[str, ...]:
    """The addresses of the scripts that an entry imports, so that a browser loads them at once and not in turn."""
    return tuple(f"{PATH}/{name}" for name in _manifest()["shared"].get(entry, ()))


@router.get(PATH + "/{name}")
def send(name: str) -> Response:
    """A built file."""
    path = STATIC / name
    media_type = TYPES.get(path.suffix)
    if media_type is None or path.parent != STATIC or not path.is_file():
        return PlainTextResponse("not found\n", 404)
    return FileResponse(path, media_type=media_type, headers=_FOREVER)


ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">
<rect width="32" height="32" rx="7" fill="#17302f"/>
<path d="M4 21c4-4 8-4 12 0s8 4 12 0M4 27c4-4 8-4 12 0s8 4 12 0" fill="none" stroke="#a9c7c6" stroke-width="2.6"/>
<path d="M13 16V4l11 4-11 4" fill="#f2f6f5" stroke="#f2f6f5" stroke-width="1.5" stroke-linejoin="round"/></svg>"""


@router.get("/favicon.ico")
def icon() -> Response:
    """The sign of the product, for the browser's tab."""
    return Response(ICON, media_type=TYPES[".svg"], headers={"Cache-Control": "public, max-age=86400"})
