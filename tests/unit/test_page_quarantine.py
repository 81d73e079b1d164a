"""Where the bad place of a refused message is, and how its bytes are shown."""

import pytest

from api.pages.models.quarantine import LINES, Piece, bad_places, dump
from ingest.quarantine import HELD, QuarantineEntry
from sensors.reading import Reason


def _entry(
    payload: bytes, reason: Reason, detail: str = "", refused: tuple[tuple[int, str], ...] | None = None
) -> QuarantineEntry:
    return QuarantineEntry(
        1, HELD, reason.key, detail, "http", "s", "", 0, "s", "2026-01-01", refused, payload, len(payload)
    )


def _marked(entry: QuarantineEntry) -> list[bytes]:
    return [entry.payload[a:z] for a, z in bad_places(entry)]


@pytest.mark.parametrize(
    ("payload", "reason", "detail", "refused", "bad"),
    [
        (b'{"a": 1', Reason.NOT_JSON, "Expecting ',' delimiter: line 1 column 8 (char 7)", None, [b"1"]),
        ('{"水": x}'.encode(), Reason.NOT_JSON, "Expecting value: line 1 column 7 (char 6)", None, [b"x"]),
        ('["水'.encode(), Reason.NOT_JSON, "Unterminated string (char 99)", None, ["水".encode()]),
        (b'{"a": "\xff\xd8"}', Reason.NOT_JSON, "invalid", None, [b"\xff"]),
        (b'{"station": "x9", "a": 1}', Reason.UNKNOWN_STATION, "", None, [b'"station": "x9"']),
        (b'{"do": 6, "do": "bad"}', Reason.NOT_A_NUMBER, "", ((1, "do"),), [b'"do": "bad"']),
        (b'{"do": 1e999}', Reason.NOT_A_NUMBER, "", ((1, "do"),), [b'"do": 1e999']),
        (b'{"do": 6, "x": 1}', Reason.UNKNOWN_PARAMETER, "", ((1, "x"),), [b'"x": 1']),
        (
            b'[{"at": "1999-01-01T00:00:00Z"}, {"at": "2026-01-01T00:00:00Z"}]',
            Reason.TIME_BEFORE_2000,
            "",
            ((915148800000, "do"),),
            [b'"1999-01-01T00:00:00Z"'],
        ),
        (
            b'[{"at": "2026-01-01 08:00"}, {"at": "2026-01-01T00:00:00Z"}]',
            Reason.BAD_TIME,
            "",
            (),
            [b'"2026-01-01 08:00"'],
        ),
        (b"", Reason.NOT_JSON, "Expecting value: line 1 column 1 (char 0)", None, []),
        (b"{}", Reason.OUR_FAULT, "", None, []),
    ],
)
def test_the_bad_place_is_what_could_not_be_used(
    payload: bytes, reason: Reason, detail: str, refused: tuple[tuple[int, str], ...] | None, bad: list[bytes]
) -> None:
    assert _marked(_entry(payload, reason, detail, refused)) == bad


def test_a_dump_shows_every_byte_once_as_hex_and_as_text() -> None:
    payload = b'{"do": 6, "do": "bad"} and some more bytes'
    shown = dump(_entry(payload, Reason.NOT_A_NUMBER, refused=((1, "do"),)))
    assert bytes.fromhex(" ".join(piece.shown for line in shown.lines for piece in line.hex)) == payload
    assert shown.text is not None
    assert "".join(piece.shown for piece in shown.text).encode() == payload
    assert [piece for piece in shown.text if piece.bad] == [Piece('"do": "bad"', True)]


def test_of_a_long_message_the_part_around_the_bad_place_is_shown() -> None:
    payload = b"1" * 100_000 + b"\xff" + b"1" * 100_000
    shown = dump(_entry(payload, Reason.NOT_JSON))
    assert len(shown.lines) == LINES
    assert shown.first < 100_000 < shown.last
    assert shown.text is None
    assert any(piece == Piece("ff", True) for line in shown.lines for piece in line.hex)
