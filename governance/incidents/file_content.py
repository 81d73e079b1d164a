"""Examine the content of an attachment, whatever its name or header claims.

Photos are decoded in a child process (`governance.incidents.photo_decoder`). A PDF is never decoded, only kept.
"""

from dataclasses import dataclass

from infra.errors import Refused
from infra.limited_process import LimitedProcess
from infra.texts import say

MAX_BYTES = 10 * 1024 * 1024
"""A phone's photo at full size; the field app sends at most 400 kB."""
PRINTED_MAX_PIXELS = 1600
"""Longer side, in pixels, of a photo in a document: 300 dots per inch on 13 cm."""

_PDF = b"%PDF-"
_decoder = LimitedProcess("governance.incidents.photo_decoder", error=Refused, memory_mib=768, seconds=60)


@dataclass(frozen=True, slots=True)
class Content:
    """Type and size of an attachment; ``width`` and ``height`` in pixels, 0 for a document."""

    media_type: str
    width: int = 0
    height: int = 0

    @property
    def is_photo(self) -> bool:
        return self.media_type.startswith("image/")


def examine(data: bytes) -> Content:
    """Type and size of a photo or PDF. Raises Refused, saying what is wrong, for anything else."""
    if not data:
        raise Refused(say("attachment.empty"))
    if len(data) > MAX_BYTES:
        raise Refused(say("attachment.too_large", size=len(data), most=MAX_BYTES))
    if data.startswith(_PDF):
        if b"%%EOF" not in data[-2048:]:
            raise Refused(say("attachment.pdf_cut"))
        return Content("application/pdf")
    return Content(*_decoder.call("examine", data))


def small_copy(data: bytes, longest: int, most_bytes: int = MAX_BYTES) -> bytes:
    """A JPEG of a photo of at most this many pixels on its longer side, turned as it is seen, without any metadata.

    Raises Refused for what is no photo. The quality is the best of some that fits into ``most_bytes``.
    """
    return bytes(_decoder.call("small_copy", data, longest=longest, most_bytes=most_bytes))
