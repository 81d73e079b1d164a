"""Decode photos, in a child process of its own (`infra.limited_process`); `governance.incidents.file_content` calls it.

A photo is decoded whole: a truncated photo, a text called ``.jpg`` or a decompression bomb is refused. That takes up to
300 MB.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, ImageOps, UnidentifiedImageError

from infra.errors import Refused
from infra.texts import say

MAX_PIXELS = {"JPEG": 50_000_000, "PNG": 25_000_000, "WEBP": 16_000_000}
"""Pixels by format, read from the header before anything is decoded. Cameras of phones in use make JPEG of 12 to 48
million; the other formats hold screenshots, and each pixel of them takes 4 bytes or more while it is decoded."""
QUALITIES = (76, 66, 56, 46, 36, 26, 16)

_PHOTOS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}


def examine(data: bytes) -> tuple[str, int, int]:
    """Media type, width and height of a photo. Raises Refused, saying what is wrong, for anything else."""
    with _opened(data) as image:
        width, height = image.size
        image.draft("RGB", (1, 1))  # a JPEG is read to its end, but kept at an eighth of its width
        image.load()
    return _PHOTOS[str(image.format)], width, height


def small_copy(data: bytes, longest: int, most_bytes: int) -> bytes:
    """A small JPEG of a photo, turned as it is seen, without any metadata."""
    with _opened(data) as original:
        original.draft("RGB", (2 * longest, 2 * longest))
        seen = ImageOps.exif_transpose(original).convert("RGB")
    seen.thumbnail((longest, longest))
    bare = Image.new("RGB", seen.size)
    bare.paste(seen)
    for quality in QUALITIES:
        into = io.BytesIO()
        bare.save(into, "JPEG", quality=quality, optimize=True)
        if into.tell() <= most_bytes:
            break
    return into.getvalue()


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """A photo whose header is acceptable; errors of decoding within the block are refusals, too."""
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
        yield image
    except UnidentifiedImageError:
        raise Refused(say("attachment.no_photo")) from None
    except Image.DecompressionBombError:
        raise Refused(say("attachment.decompression_bomb", most=MAX_PIXELS["JPEG"])) from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise Refused(say("attachment.broken", error=error)) from None
