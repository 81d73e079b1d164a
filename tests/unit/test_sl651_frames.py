"""SL 651 frames of real stations and of published rules: each gives what an independent reader of the text found."""

import itertools
import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.times import BEIJING, to_ms
from sensors.wire.sl651 import answers
from sensors.wire.sl651 import body as bodies
from sensors.wire.sl651.body import Element
from sensors.wire.sl651.crc import crc16
from sensors.wire.sl651.frame import Broken, End, Fault, Frame, FrameReader, Received, build

DATA = Path(__file__).parents[1] / "data" / "sl651"


def recorded() -> list[tuple[dict[str, Any], bytes]]:
    found = []
    for name in ("fujian", "others"):
        lines = (DATA / f"{name}.txt").read_text(encoding="utf-8").splitlines()
        frames = [bytes.fromhex(line) for line in lines if line and not line.startswith("#")]
        found += zip(json.loads((DATA / f"{name}.json").read_text(encoding="utf-8")), frames, strict=True)
    return found


RECORDED = recorded()
NAMES = [f"{expected.get('origin', 'fujian')}-{expected['n']}" for expected, _ in RECORDED]


def ms(moment: str | None) -> int | None:
    return None if moment is None else to_ms(datetime.fromisoformat(moment).replace(tzinfo=BEIJING))


def frames_of(*pieces: bytes) -> list[Frame]:
    reader = FrameReader()
    found = [one for piece in pieces for one in reader.feed(piece)] + reader.close()
    return [one.frame for one in found if isinstance(one, Received)]


def numbers(values: list[str | None]) -> tuple[Decimal | None, ...]:
    return tuple(None if one is None else Decimal(one) for one in values)


def test_all_frames_are_there() -> None:
    assert len(RECORDED) == 32


@pytest.mark.parametrize(("expected", "raw"), RECORDED, ids=NAMES)
def test_a_recorded_frame_has_the_head_that_was_found_in_it(expected: dict[str, Any], raw: bytes) -> None:
    (frame,) = frames_of(raw)
    assert (frame.station, frame.centre, frame.password) == (
        expected["station"],
        expected["centre"],
        expected["password"],
    )
    assert (f"{frame.function:02X}", frame.end.name) == (expected["function"], expected["end"])
    assert frame.downlink is (expected["direction"] == "down")
    assert (frame.packets, frame.packet) == (expected.get("packets", 1), expected.get("packet", 1))
    assert build(frame) == raw.removesuffix(bytes.fromhex(expected.get("trailing", "")))
    assert f"{crc16(b'123456789'):04X}" == "4B37"


@pytest.mark.parametrize(("expected", "raw"), RECORDED, ids=NAMES)
def test_a_recorded_frame_has_the_body_that_was_found_in_it(expected: dict[str, Any], raw: bytes) -> None:
    (frame,) = frames_of(raw)
    body = bodies.of_frame(frame)
    assert (body.serial, body.sent_at_ms) == (expected["serial"], ms(expected["sent"]))
    if "block_station" in expected:
        (block,) = body.blocks
        assert (block.station, block.sort) == (expected["block_station"], expected.get("type", ""))
    found = [element for block in body.blocks for element in block.elements]
    assert len(found) == len(expected.get("elements", ()))
    for element, told in zip(found, expected.get("elements", ()), strict=True):
        matches(element, told, expected.get("time"))
    told_parameters = [(one["id"], one["raw"], one["decimals"]) for one in expected.get("parameters", ())]
    assert [(one.id, one.raw.hex().upper(), one.decimals) for one in body.parameters] == told_parameters
    assert body.text.decode() == expected.get("software", expected.get("text", ""))
    counters = {f"ERC{i}": count for i, count in enumerate(body.counters, 1) if count}
    assert counters == expected.get("events", {})


def matches(element: Element, told: dict[str, Any], time: str | None) -> None:
    """An element is what was found: identifier, time, digits, our parameter."""
    assert element.fault == ""
    if "id" in told:
        assert element.id == told["id"]
    if "code" in told:
        assert element.meaning is not None
        assert element.meaning.code == told["code"]
    assert element.at_ms == ms(told.get("time", time))
    if "values" in told:
        assert element.values == numbers(told["values"])
    if "value" in told:
        assert element.values == numbers([told["value"]])
    if "bytes" in told and "step" not in told:
        assert len(element.raw) == told["bytes"]
    if "bits" in told:
        assert list(element.bits) == told["bits"]
    if "key" in told:
        assert element.meaning is not None
        assert element.meaning.key == told["key"]


STREAM = b"".join(raw for _, raw in RECORDED)
WHOLE = frames_of(STREAM)


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_a_stream_cut_anywhere_gives_the_same_frames(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    assert frames_of(*(STREAM[a:b] for a, b in itertools.pairwise(places))) == WHOLE
    assert len(WHOLE) == 32


frames = st.builds(
    Frame,
    station=st.binary(min_size=5, max_size=5).map(lambda b: b.hex().upper()),
    centre=st.integers(0, 255),
    password=st.binary(min_size=2, max_size=2).map(lambda b: b.hex().upper()),
    function=st.integers(0, 255),
    body=st.binary(max_size=300),
    end=st.sampled_from(End),
    downlink=st.booleans(),
    packets=st.integers(1, 3),
    packet=st.just(1),
    ascii=st.booleans(),
)


@given(frame=frames, noise=st.binary(max_size=40))
def test_a_frame_is_read_as_it_was_built_behind_any_noise(frame: Frame, noise: bytes) -> None:
    assert frame in frames_of(noise, build(frame))


@given(data=st.binary(max_size=400))
def test_any_bytes_are_taken_whole_and_hold_little(data: bytes) -> None:
    reader = FrameReader()
    found = reader.feed(data)
    assert reader.held <= len(data)
    found += reader.close()
    assert reader.held == 0
    assert sum(len(one.raw) for one in found) <= len(data)


@pytest.mark.parametrize(("expected", "raw"), RECORDED[:8], ids=NAMES[:8])
def test_a_frame_with_a_changed_byte_is_refused(expected: dict[str, Any], raw: bytes) -> None:
    raw = raw.removesuffix(bytes.fromhex(expected["trailing"]))
    for at in range(2, len(raw)):
        changed = raw[:at] + bytes([raw[at] ^ 0x20]) + raw[at + 1 :]
        assert frames_of(changed) == []


def test_a_frame_cut_off_by_the_next_one_costs_that_frame_alone() -> None:
    first, second = RECORDED[3][1], RECORDED[4][1]
    found = FrameReader().feed(first[:40] + second)
    assert [type(one) for one in found] == [Broken, Received]
    assert isinstance(found[0], Broken)
    assert found[0].fault is Fault.CUT


def test_a_wrong_check_value_is_named_with_the_right_one() -> None:
    raw = bytearray(RECORDED[2][1])
    raw[-1] ^= 1
    reader = FrameReader()
    (broken,) = [*reader.feed(bytes(raw)), *reader.close()]
    assert isinstance(broken, Broken)
    assert broken.fault is Fault.CRC
    assert RECORDED[2][0]["crc"] in broken.reason


@pytest.mark.parametrize(
    ("digits", "decimals", "value"),
    [("00028960", 3, "28.960"), ("FF001234", 3, "-1.234"), ("FFFFFFFF", 3, None), ("0064", 0, "64")],
)
def test_digits_are_a_value_a_negative_one_or_a_missing_one(digits: str, decimals: int, value: str | None) -> None:
    found = bodies.number(digits, decimals)
    assert (None if found is None else f"{found:f}") == value


@pytest.mark.parametrize("digits", ["00A12345", "", "12FF"])
def test_letters_are_no_number(digits: str) -> None:
    with pytest.raises(ValueError, match="no number"):
        bodies.number(digits, 0)


@pytest.mark.parametrize(
    ("expected", "raw"),
    [(expected, raw) for expected, raw in RECORDED if "reply" in expected],
    ids=[name for name, (expected, _) in zip(NAMES, RECORDED, strict=True) if "reply" in expected],
)
def test_a_message_is_confirmed_as_the_standard_says(expected: dict[str, Any], raw: bytes) -> None:
    (frame,) = frames_of(raw)
    now_ms = ms(expected["reply"]["sent"])
    assert now_ms is not None
    serial = expected["serial"].to_bytes(2, "big")
    made = {
        "EOT": answers.confirmation(frame, serial, now_ms),
        "ESC": answers.confirmation(frame, serial, now_ms, stay=True),
        "NAK_packet_2": answers.repeat(frame, serial, now_ms, 2),
    }
    assert answers.wants_answer(frame)
    for name, reply in made.items():
        if name in expected["reply"]:
            assert build(reply).hex().upper() == expected["reply"][name]


def test_keeping_the_link_is_never_answered() -> None:
    kept = [frame for frame in WHOLE if frame.function == bodies.LINK_KEPT]
    assert len(kept) == 3
    assert not any(answers.wants_answer(frame) for frame in kept)
