"""An attachment is what its bytes are, whatever it is called."""

import io
import struct
import zlib

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from governance.incidents.file_content import MAX_BYTES, examine
from governance.incidents.photo_metadata import without_metadata
from infra.errors import Refused
from tests.says import says


def photo(kind: str = "JPEG", size: tuple[int, int] = (64, 48)) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, (40, 120, 160)).save(data, kind)
    return data.getvalue()


def bomb() -> bytes:
    """A PNG of a few kilobytes that says it is 60,000 x 60,000 pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("kind", "media_type"), [("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "image/webp")])
def test_photos_are_taken_with_their_size(kind: str, media_type: str) -> None:
    found = examine(photo(kind))
    assert (found.media_type, found.width, found.height, found.is_photo) == (media_type, 64, 48, True)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_metadata_is_taken_out_and_the_picture_stays(kind: str) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8825)[1] = "N"
    image, data = Image.radial_gradient("L").convert("RGB"), io.BytesIO()
    told = PngInfo()
    told.add_text("Comment", "Maker")
    image.save(data, kind, exif=exif, quality=90, **({"pnginfo": told} if kind == "PNG" else {}))
    before = data.getvalue()
    after = without_metadata(before + b"Maker")  # phones put films behind the picture
    assert (b"Maker" in before, b"Maker" in after) == (True, False)
    found = Image.open(io.BytesIO(after))
    assert (dict(found.getexif()), found.info.get("Comment")) == ({}, None)
    assert found.tobytes() == Image.open(io.BytesIO(before)).tobytes()
    assert without_metadata(after) == after


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_photo_stays_turned(turn: int) -> None:
    exif, data = Image.Exif(), io.BytesIO()
    exif[0x0112], exif[0x010F] = turn, "Maker"
    Image.new("RGB", (64, 48)).save(data, "JPEG", exif=exif, progressive=True)
    kept = dict(Image.open(io.BytesIO(without_metadata(data.getvalue()))).getexif())
    assert kept == ({} if turn == 1 else {0x0112: turn})


@pytest.mark.parametrize("cut", [2, 3, 11, 21, 40, 200])
def test_what_is_cut_short_is_no_error(cut: int) -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        without_metadata(photo(kind)[:cut])


def test_a_pdf_is_taken_and_is_no_photo() -> None:
    found = examine(b"%PDF-1.4\n1 0 obj\nendobj\ntrailer\n%%EOF\n")
    assert (found.media_type, found.is_photo) == ("application/pdf", False)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", says("attachment.empty")),
        (b"<script>alert(1)</script>", says("attachment.no_photo")),
        (b"GIF89a" + bytes(100), says("attachment.no_photo")),
        (b"PK\x03\x04" + bytes(1000), says("attachment.no_photo")),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", says("attachment.no_photo")),
        (b"\xff\xd8\xff" + bytes(500), says("attachment.no_photo")),
        (b"%PDF-1.7 and then nothing", says("attachment.pdf_cut")),
        (bytes(MAX_BYTES + 1), says("attachment.too_large", size=10_485_761, most=10_485_760)),
    ],
    ids=["nothing", "script", "animation", "archive", "drawing", "begins-like-a-photo", "half-a-pdf", "too-large"],
)
def test_what_is_no_photo_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(Refused, match=why):
        examine(data)


def test_half_a_photo_is_refused() -> None:
    whole = photo(size=(640, 480))
    with pytest.raises(Refused, match=says("attachment.broken")):
        examine(whole[: len(whole) // 2])


def test_a_picture_that_unfolds_to_gigabytes_is_refused_before_it_unfolds() -> None:
    data = bomb()
    assert len(data) < 2000
    with pytest.raises(Refused, match=says("attachment.decompression_bomb", most=50_000_000)):
        examine(data)


def test_an_animation_in_a_format_of_photos_is_refused() -> None:
    data = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), (i, 0, 0)) for i in (0, 200)]
    frames[0].save(data, "WEBP", save_all=True, append_images=frames[1:])
    with pytest.raises(Refused, match=says("attachment.animation")):
        examine(data.getvalue())
