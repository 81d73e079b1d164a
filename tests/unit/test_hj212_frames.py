"""HJ 212 frames: every good one is found, whatever surrounds it and however the network cuts it; the others say why."""

import re
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sensors.wire.hj212.crc import crc16, modbus
from sensors.wire.hj212.frame import MAX_SEGMENT, Broken, Fault, Frame, FrameReader, build
from sensors.wire.hj212.packet import parse
from tests.hj212_frames import EXAMPLE, GOOD, NEW, WRONG


def read(*pieces: bytes) -> list[Frame | Broken]:
    reader = FrameReader()
    return [found for piece in pieces for found in reader.feed(piece)] + reader.close()


def segments(found: Sequence[Frame | Broken]) -> list[bytes]:
    return [one.segment for one in found if isinstance(one, Frame)]


def faults(found: Sequence[Frame | Broken]) -> list[Fault]:
    return [one.fault for one in found if isinstance(one, Broken)]


# -- the check value ---------------------------------------------------------------------------------------------------


def test_the_check_value_is_that_of_appendix_a_and_not_modbus() -> None:
    assert crc16(EXAMPLE) == 0x1C80
    assert modbus(EXAMPLE) == 0x0759
    assert crc16(b"") == 0xFFFF
    assert crc16(b"123456789") == 0x2F80
    assert modbus(b"123456789") == 0x4B37


@pytest.mark.parametrize("raw", GOOD + NEW)
def test_every_published_frame_is_read(raw: bytes) -> None:
    assert segments(read(raw + b"\r\n")) == [raw[6:-4]]


@pytest.mark.parametrize("raw", GOOD + NEW)
def test_case_of_the_check_value_does_not_matter(raw: bytes) -> None:
    assert segments(read(raw[:-4] + raw[-4:].lower())) == segments(read(raw[:-4] + raw[-4:].upper())) == [raw[6:-4]]


@pytest.mark.parametrize(("raw", "right"), WRONG)
def test_every_published_frame_with_an_edited_text_is_refused_with_the_right_value(raw: bytes, right: str) -> None:
    (found,) = read(raw + b"\r\n")
    assert isinstance(found, Broken)
    assert found.fault is Fault.CRC
    assert f"gives {right}" in found.reason
    assert found.raw.startswith(raw)


@given(st.binary(max_size=200), st.integers(0, 199), st.integers(1, 255))
def test_any_single_wrong_byte_is_noticed(data: bytes, where: int, change: int) -> None:
    if where < len(data):
        changed = bytearray(data)
        changed[where] ^= change
        assert crc16(changed) != crc16(data)


# -- what is wrong with a frame ----------------------------------------------------------------------------------------


def wrong(raw: bytes) -> Broken:
    found = [one for one in read(raw) if isinstance(one, Broken)]
    assert len(found) == 1
    return found[0]


def test_the_modbus_crc_is_told_from_any_other_mistake() -> None:
    for stated in (b"0759", b"5907"):  # either byte first
        found = wrong(b"##0101" + EXAMPLE + stated + b"\r\n")
        assert found.fault is Fault.CRC
        assert "Modbus" in found.reason
        assert "1C80" in found.reason
    assert "Modbus" not in wrong(b"##0101" + EXAMPLE + b"1C81\r\n").reason


@pytest.mark.parametrize("length", [b"0100", b"0102", b"0045", b"1024", b"0000"])
def test_a_wrong_length_is_told_with_both_numbers(length: bytes) -> None:
    found = wrong(b"##" + length + EXAMPLE + b"1C80\r\n")
    assert found.fault is Fault.LENGTH
    assert f"says {int(length)} bytes" in found.reason
    assert "has 101" in found.reason


@pytest.mark.parametrize("length", [b"01O1", b"abcd", b" 101", b"+101", b"1.01", "１０１０".encode()[:4]])
def test_a_length_that_is_no_number_is_refused(length: bytes) -> None:
    found = wrong(b"##" + length + EXAMPLE + b"1C80\r\n")
    assert found.fault is Fault.LENGTH
    assert "four digits" in found.reason


def test_a_data_segment_of_1024_bytes_is_the_longest() -> None:
    longest = EXAMPLE + b"x" * (MAX_SEGMENT - len(EXAMPLE))
    assert segments(read(build(longest))) == [longest]
    with pytest.raises(ValueError, match="1025"):
        build(longest + b"x")
    over = longest + b"x"
    found = wrong(b"##1025" + over + b"%04X\r\n" % crc16(over))
    assert found.fault is Fault.LENGTH
    assert "1025" in found.reason
    assert "1,024" in found.reason


def test_a_length_in_characters_instead_of_bytes_is_told() -> None:
    segment = "QN=20260512103000123;ST=91;CN=3020;CP=&&i11001-Info=换试剂&&".encode()
    found = wrong(b"##%04d%b%04X\r\n" % (len(segment.decode()), segment, crc16(segment)))
    assert "bytes are counted" in found.reason
    assert segments(read(build(segment))) == [segment]


@pytest.mark.parametrize("end", [7, 20, 50, 107, 110])
def test_a_frame_cut_off_does_not_keep_the_next_one_waiting(end: int) -> None:
    reader = FrameReader()
    cut, good = build(EXAMPLE)[:end], build(b"short")
    assert segments(reader.feed(cut + good)) == [b"short"]  # at once, though fewer bytes came than were announced
    assert faults(read(cut + good)) == [Fault.CUT]
    assert faults(read(cut)) == [Fault.CUT]


def test_what_a_broken_frame_was_can_be_told_to_its_sender() -> None:
    assert parse(wrong(b"##0101" + EXAMPLE + b"0759\r\n").segment).qn == "20160801085857223"


def test_garbage_before_a_frame_and_a_missing_line_end_cost_nothing() -> None:
    stream = b"\x00\xff#garbage" + build(EXAMPLE)[:-2] + build(b"second") + b"##" + build(b"third")
    assert segments(read(stream)) == [EXAMPLE, b"second", b"third"]


def test_line_ends_between_frames_are_nobodys_fault() -> None:
    assert faults(read(b"\r\n\n  " + build(EXAMPLE) + b"\r\n\r\n" + build(EXAMPLE) + b"\0\r\n")) == []


def test_a_frame_that_holds_another_one_is_a_frame_that_was_cut() -> None:
    inner = build(EXAMPLE)
    outer = build(b"QN=1;" + inner)
    assert segments(read(outer)) == segments(read(*(bytes([b]) for b in outer))) == [EXAMPLE]


# -- any stream --------------------------------------------------------------------------------------------------------

good = st.binary(max_size=60).map(build) | st.sampled_from([raw + b"\r\n" for raw in GOOD + NEW]) | st.just(build(b""))
noise = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"#", b"##", b"###", b"##0", b"##0101", b"##9999", b"##1024QN=", b"##00x1", b"\r\n", b"&&"]),
    good.flatmap(lambda raw: st.integers(0, len(raw)).map(lambda n: raw[:n])),
)
streams = st.lists(good | noise, max_size=12)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(p % (len(stream) + 1) for p in places), len(stream)]
    return [stream[a:b] for a, b in pairwise(edges)]


@settings(max_examples=200, deadline=None)
@example([build(EXAMPLE)[:50], build(EXAMPLE)], [3, 60])
@example([b"##0101##", build(b"x")], list(range(20)))
@given(streams, st.lists(st.integers(0, 10**6), max_size=30))
def test_any_split_of_any_stream_yields_the_same_frames(pieces: list[bytes], places: list[int]) -> None:
    stream = b"".join(pieces)
    whole = segments(read(stream))
    assert segments(read(*cut(stream, places))) == whole
    assert segments(read(*(stream[i : i + 1] for i in range(len(stream))))) == whole


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(GOOD + NEW), noise), max_size=8))
def test_noise_never_costs_a_good_frame(pieces: list[tuple[bytes, bytes]]) -> None:
    stream = b"".join(raw + b"\r\n" + rubbish for raw, rubbish in pieces)
    wanted = [raw[6:-4] for raw, _ in pieces]
    remaining = iter(segments(read(stream)))
    assert all(any(segment == one for one in remaining) for segment in wanted)


@settings(max_examples=100, deadline=None)
@given(streams)
def test_every_byte_is_in_a_frame_or_accounted_for(pieces: list[bytes]) -> None:
    stream = b"".join(pieces)
    kept = b"".join(one.raw for one in read(stream))
    blank = re.compile(rb"[\r\n \t\0]")
    assert blank.sub(b"", kept) == blank.sub(b"", stream)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=3000) | st.sampled_from([b"#" * 500, b"##1024" * 400, b"##0000"])))
def test_memory_is_bounded_whatever_comes(pieces: list[bytes]) -> None:
    reader = FrameReader()
    for piece in pieces:
        reader.feed(piece)
        assert reader.held <= 2 * 4096


@given(st.binary(max_size=MAX_SEGMENT))
def test_what_is_built_is_read(segment: bytes) -> None:
    if b"##" not in segment:
        (found,) = read(build(segment))
        assert isinstance(found, Frame)
        assert found.segment == segment
        assert found.raw == build(segment)
