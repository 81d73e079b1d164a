"""Examine the content of an attachment, whatever its name or header claims. Pure.

A photo is decoded whole: a truncated photo, a text called ``.jpg`` or a decompression bomb is refused. That takes up to
300 MB, so that callers examine one at a time.
"""

import io
import warnings
from dataclasses import dataclass

from infra.errors import Refused
from infra.texts import say

MAX_BYTES = 10 * 1024 * 1024
"""A phone's photo at full size; the field app sends at most 400 kB."""
MAX_PIXELS = {"JPEG": 50_000_000, "PNG": 25_000_000, "WEBP": 16_000_000}
"""Pixels by format, read from the header before anything is decoded. Cameras of phones in use make JPEG of 12 to 48
million; the other formats hold screenshots, and each pixel of them takes 4 bytes or more while it is decoded."""

_PHOTOS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
_PDF = b"%PDF-"


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
    return _photo(data)


def _photo(data: bytes) -> Content:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of what is refused below
            image = Image.open(io.BytesIO(data), formats=tuple(_PHOTOS))
        width, height = image.size
        most = MAX_PIXELS[str(image.format)]
        if width * height > most:
            raise Refused(say("attachment.pixels", width=width, height=height, most=most))
        if getattr(image, "n_frames", 1) > 1:
            raise Refused(say("attachment.animation"))
        image.draft("RGB", (1, 1))  # a JPEG is read to its end, but kept at an eighth of its width
        image.load()
    except UnidentifiedImageError:
        raise Refused(say("attachment.no_photo")) from None
    except Image.DecompressionBombError:
        raise Refused(say("attachment.decompression_bomb", most=MAX_PIXELS["JPEG"])) from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise Refused(say("attachment.broken", error=error)) from None
    return Content(_PHOTOS[str(image.format)], width, height)
