"""Entity tags (RFC 9110): a change names the version it is based on; of two concurrent changes the later one gets 412.

``If-Match`` is never demanded: who leaves it out writes over what is there, as before.
"""

import hashlib
import re
from typing import Annotated, Any

import msgspec
from fastapi import Header

from governance.incidents.model import Conflict
from infra.errors import ConfigurationError
from infra.texts import say

IfMatch = Annotated[str | None, Header(description="the ETag the decision rests on")]

_TAG = re.compile(r'\s*(?:W/)?"([^"]*)"\s*')


def tag_of(content: Any) -> str:
    """A tag of content that has no version of its own: it changes whenever the answer does."""
    return hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:16]


def headers(tag: object) -> dict[str, str]:
    """The header that carries a tag."""
    return {"ETag": f'"{tag}"'}


def tags(if_match: str | None) -> frozenset[str] | None:
    """The tags of an If-Match header; None where there is none, and for ``*``, which everything there is fits.

    Raises ConfigurationError for what is no list of tags.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    found = [_TAG.fullmatch(part) for part in if_match.split(",")]
    named = frozenset(match[1] for match in found if match)
    if len(named) == 0 or not all(found):
        raise ConfigurationError(say("request.no_tags", text=if_match[:80]))
    return named


def unchanged(if_match: str | None, tag: object, name: str) -> None:
    """Raises Conflict where what is called ``name`` is no longer what the header names."""
    wanted = tags(if_match)
    if wanted is not None and str(tag) not in wanted:
        raise Conflict(say("request.changed", name=name, tag=tag))
