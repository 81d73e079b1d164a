"""The built scripts and style sheets: which file is which, and their route.

``make setup`` builds them (``tools/build_assets.py``); their names carry a hash, so that browsers keep them for good.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Response
from starlette.responses import FileResponse, PlainTextResponse

from api.pages.icon import SVG
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


def lazy(entry: str) -> tuple[str, ...]:
    """The addresses of the scripts that an entry loads when it needs them: a page that is kept keeps them, too."""
    return tuple(f"{PATH}/{name}" for name in _manifest().get("lazy", {}).get(entry, ()))


def built(entry: str) -> bytes | None:
    """The content of a built file; None for one that was not built."""
    name = _manifest()["files"].get(entry)
    return None if name is None else (STATIC / name).read_bytes()


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


@router.get("/favicon.ico")
def icon() -> Response:
    """The sign of the product, for the browser's tab."""
    return Response(SVG, media_type=TYPES[".svg"], headers={"Cache-Control": "public, max-age=86400"})
