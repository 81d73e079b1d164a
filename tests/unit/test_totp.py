"""Time-based one-time passwords against the vectors of RFC 6238, and what is taken as a password."""

import base64
import re

import pytest
import zxingcpp
from PIL import Image

from api import qr_code
from governance.people import passwords, totp
from infra.errors import InvalidValue

SECRET = base64.b32encode(b"12345678901234567890").decode()
VECTORS = {
    59: "94287082",
    1111111109: "07081804",
    1111111111: "14050471",
    1234567890: "89005924",
    2000000000: "69279037",
    20000000000: "65353130",
}
"""RFC 6238, appendix B, SHA-1: seconds since the epoch, and the code of eight digits."""


@pytest.mark.parametrize(("at_s", "expected"), VECTORS.items())
def test_the_codes_are_those_of_the_rfc(at_s: int, expected: str) -> None:
    assert totp.code(SECRET, at_s // 30, digits=8) == expected
    assert totp.step_of(SECRET, expected[2:], at_s * 1000) == at_s // 30


def test_a_code_is_good_one_step_off_and_not_before_the_last_one_used() -> None:
    now_ms = 1_790_000_000_000
    here = now_ms // totp.STEP_MS
    codes = {off: totp.code(SECRET, here + off) for off in range(-2, 3)}
    assert [totp.step_of(SECRET, codes[off], now_ms) is not None for off in codes] == [False, True, True, True, False]
    assert totp.step_of(SECRET, codes[0], now_ms, after=here) is None
    assert totp.step_of(SECRET, f" {codes[1][:3]} {codes[1][3:]}", now_ms, after=here) == here + 1
    for typed in ("", "12345", "1234567", "abcdef", "１２３４５６", "-12345"):
        assert totp.step_of(SECRET, typed, now_ms) is None


def test_the_address_for_the_app_names_site_and_person() -> None:
    address = totp.address(SECRET, "王某（示例）", "示例站点")
    assert address.startswith("otpauth://totp/%E7%8E%8B")
    assert f"secret={SECRET}" in address
    assert "issuer=%E7%A4%BA" in address


def test_the_qr_code_reads_as_what_it_was_made_of() -> None:
    address = totp.address(SECRET, "王某（示例）", "示例站点")
    drawn = qr_code.svg(address)
    side = int(re.search(r'viewBox="0 0 (\d+)', drawn)[1])  # type: ignore[index]
    picture = Image.new("L", (side, side), 255)
    for x, y in re.findall(r"M(\d+) (\d+)h1", drawn):
        picture.putpixel((int(x), int(y)), 0)
    (found,) = zxingcpp.read_barcodes(picture.resize((side * 4, side * 4), Image.Resampling.NEAREST))
    assert found.text == address


@pytest.mark.parametrize(
    ("password", "names"),
    [
        ("123456789", ()),
        ("1234567890", ()),
        ("PassWord123", ()),
        ("ｐａｓｓｗｏｒｄ１２３", ()),
        ("zhangsan2026", ("zhangsan",)),
        ("王小明王小明王小明2", ("王小明",)),
        ("abababababab", ()),
        ("asdfghjklzxc", ()),
    ],
)
def test_a_password_that_is_guessed_first_is_refused(password: str, names: tuple[str, ...]) -> None:
    with pytest.raises(InvalidValue):
        passwords.check(password, names)


@pytest.mark.parametrize("password", ["每天看一次河水 really", "correct horse battery", "x7#kQ2!vLp"])
def test_a_sentence_or_chance_is_a_password(password: str) -> None:
    passwords.check(password, ("王小明", "wangxm"))
    kept = passwords.hash_password(password)
    assert kept.startswith("$argon2id$")
    assert passwords.matches(password, kept)
    assert not passwords.matches(password + "x", kept)
    assert not passwords.matches(password, None)
