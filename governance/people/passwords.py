"""Passwords: the rules, and Argon2id hashes. Knows no database.

Argon2id with 19 MiB, two passes and one lane, as OWASP's password storage cheat sheet has it: some 30 ms on a small
server. A few are computed at a time, so that many requests cannot fill the memory.
"""

import threading
import unicodedata
from collections.abc import Collection
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from infra.errors import InvalidValue
from infra.texts import say

MIN_LENGTH, MAX_LENGTH = 10, 200
_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
_HASHING_SLOTS = threading.BoundedSemaphore(4)
_TOO_FEW_LETTERS = 3
"""A password with no more different letters than this is guessed at once."""
_RUNS = ("01234567890123456789", "abcdefghijklmnopqrstuvwxyz", "qwertyuiopasdfghjklzxcvbnm", "98765432109876543210")
COMMON_PASSWORDS = frozenset(
    [
        "password123",
        "password1234",
        "password12345",
        "passw0rd123",
        "password01",
        "password!1",
        "mypassword",
        "administrator",
        "administrator1",
        "admin12345",
        "admin123456",
        "admin1234567",
        "root123456",
        "qwerty12345",
        "qwerty123456",
        "qwertyuiop1",
        "1q2w3e4r5t",
        "1q2w3e4r5t6y",
        "1qaz2wsx3edc",
        "1qaz2wsx3edc4rfv",
        "qazwsxedcr",
        "zaq12wsxcde3",
        "q1w2e3r4t5",
        "q1w2e3r4t5y6",
        "a1b2c3d4e5",
        "abc1234567",
        "abcd123456",
        "abcd1234567",
        "a123456789",
        "aa123456789",
        "a1234567890",
        "123456789a",
        "1234567890a",
        "123456789q",
        "123123123123",
        "112233445566",
        "1122334455",
        "147258369147",
        "1472583690",
        "123654789a",
        "woaini1314",
        "woaini1314520",
        "woaini520520",
        "woaini5201314",
        "5201314520",
        "1314520520",
        "1314521521",
        "iloveyou123",
        "iloveyou1234",
        "iloveyou12",
        "sunshine123",
        "welcome123",
        "welcome1234",
        "letmein1234",
        "changeme123",
        "changeme1234",
        "football123",
        "baseball123",
        "superman123",
        "dragon12345",
        "monkey12345",
        "riverchief",
        "riverchief1",
        "riverchief123",
        "hezhang123",
        "hezhang123456",
        "hezhangzhi123",
        "shuizhi12345",
        "zhihui12345",
        "taiji123456",
        "huawei12345",
        "test123456",
        "test1234567",
        "user123456",
        "guest12345",
        "demo123456",
        "default123",
        "p@ssw0rd123",
        "p@ssword123",
        "passw0rd1234",
        "secret1234",
        "qwe123456789",
        "asd123456789",
        "zxc123456789",
        "zxcvbnm123",
        "asdfghjkl1",
        "asdfghjkl123",
        "wang123456",
        "li123456789",
        "zhang123456",
    ]
)
"""Of the commonest passwords those that the other rules let pass, folded."""


def folded(text: str) -> str:
    """Text as names and passwords are compared: width and case do not count."""
    return unicodedata.normalize("NFKC", text).casefold().strip()


def check(password: str, names: Collection[str]) -> None:
    """Raises InvalidValue for a password that is too short or easily guessed; ``names`` are those of its owner."""
    if len(password) < MIN_LENGTH:
        raise InvalidValue(say("account.password_short", least=MIN_LENGTH))
    if len(password) > MAX_LENGTH:
        raise InvalidValue(say("account.password_long", most=MAX_LENGTH))
    plain = folded(password)
    letters = "".join(letter for letter in plain if letter.isalpha())
    if any(name and (name in plain or letters == name) for name in map(folded, names)):
        raise InvalidValue(say("account.password_name"))
    in_a_row = any(plain in run for run in _RUNS)
    if plain in COMMON_PASSWORDS or len(set(plain)) <= _TOO_FEW_LETTERS or in_a_row:
        raise InvalidValue(say("account.password_common"))


def hash_password(password: str) -> str:
    """The hash of a password, with its own salt and parameters."""
    with _HASHING_SLOTS:
        return _HASHER.hash(unicodedata.normalize("NFKC", password))


def matches(password: str, password_hash: str | None) -> bool:
    """Whether it is the password of a hash; where there is none it takes as long and is not."""
    with _HASHING_SLOTS:
        try:
            _HASHER.verify(password_hash or _of_nobody(), unicodedata.normalize("NFKC", password[: MAX_LENGTH + 1]))
        except (VerificationError, InvalidHashError):
            return False
    return password_hash is not None


@cache
def _of_nobody() -> str:
    return _HASHER.hash("of nobody")


_of_nobody()
