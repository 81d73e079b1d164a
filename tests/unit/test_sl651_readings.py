"""From SL 651 frames to readings: which value, at what time, in which unit; and what is refused."""

import json
from datetime import datetime
from typing import Any

import pytest

from infra.times import BEIJING, to_ms
from sensors.parameters import catalogue
from sensors.reading import Message, Reason
from sensors.wire.decode import decode
from sensors.wire.sl651.frame import End, Frame, build
from sensors.wire.sl651.readings import Gauge, addressed, topic
from sensors.wire.telemetry import Decoded
from tests.unit.test_sl651_frames import RECORDED

CATALOGUE = catalogue()
A = "0012345678"
MINUTE = 60_000


def at(text: str) -> int:
    return to_ms(datetime.fromisoformat(text).replace(tzinfo=BEIJING))


def gauge(address: str = A, **other: Any) -> Gauge:
    return Gauge(address, "shiwan", **({"interval_s": 300} | other))


def read(payload: bytes, known: Gauge | None, address: str = A) -> Decoded:
    gauges = {} if known is None else {known.address: known}
    messages = addressed([Message("", payload, 0, "sl651", topic(address))], gauges)
    return decode(messages, CATALOGUE, {}, gauges=gauges)


def rows(decoded: Decoded) -> list[tuple[str, int, float]]:
    b = decoded.batch
    keys = [decoded.unknown.get(i) or CATALOGUE.parameters[p].key for i, p in enumerate(b.parameter)]
    return list(zip(keys, b.at.tolist(), b.value.tolist(), strict=True))


def refused(decoded: Decoded) -> list[tuple[Reason, tuple[tuple[int, str], ...] | None]]:
    return [(r.reason, r.readings) for r in decoded.rejected]


def message(
    elements: str, function: int = 0x34, sent: str = "260512103000", observed: str = "2605121030", **other: Any
) -> bytes:
    body = bytes.fromhex(f"0001{sent}F1F1{A}48F0F0{observed}{elements}")
    return build(Frame(A, 1, other.pop("password", "1234"), function, body, End.ETX, **other))


@pytest.mark.parametrize(
    ("expected", "raw"),
    [(e, r) for e, r in RECORDED if e.get("elements") and e["direction"] == "up" and "packets" not in e],
    ids=lambda one: str(one.get("n")) if isinstance(one, dict) else "",
)
def test_a_recorded_frame_gives_the_single_values_that_were_found_in_it(expected: dict[str, Any], raw: bytes) -> None:
    address = expected["block_station"]
    got = read(raw, gauge(address), address)
    singles = [e for e in expected["elements"] if e.get("key") and e.get("value") is not None]
    wanted = {(e["key"], at(e["time"]), float(e["value"])) for e in singles if e["key"] != "rain"}
    if expected["function"] == "30":
        assert rows(got) == []
    else:
        assert wanted <= {(k, t, v / 1000 if k == "chla" else v) for k, t, v in rows(got)}
    assert all(reason in {Reason.UNKNOWN_PARAMETER, Reason.NOT_A_NUMBER} for reason, _ in refused(got))
    assert got.headers[0] is not None
    assert got.headers[0].sent_at_ms == at(expected["sent"])


def test_a_sum_of_rain_is_a_reading_where_the_interval_is_its_period() -> None:
    raw = message("22190000052419000012")
    assert rows(read(raw, gauge())) == [("rain", at("2026-05-12T10:30"), 0.5)]
    assert rows(read(raw, gauge(interval_s=1800))) == [("rain", at("2026-05-12T10:30"), 1.2)]
    assert rows(read(raw, gauge(interval_s=3600))) == []


def test_sums_of_the_day_and_the_year_are_no_readings_and_no_fault() -> None:
    got = read(message("1F19000123201900012326190012341B19000001"), gauge())
    assert (rows(got), refused(got)) == ([], [])


RAIN_BY_HOUR = "F460" + "0102030405060708FF0A0B0C"


def test_an_array_begins_at_its_observation_time_by_the_standard() -> None:
    raw = message(RAIN_BY_HOUR, sent="260512112500")
    got = {(t - at("2026-05-12T10:30")) // MINUTE: v for _, t, v in rows(read(raw, gauge()))}
    assert got == {0: 0.1, 5: 0.2, 10: 0.3, 15: 0.4, 20: 0.5, 25: 0.6, 30: 0.7, 35: 0.8, 45: 1.0, 50: 1.1, 55: 1.2}


def test_an_array_that_ends_with_its_hour_drops_the_zeros_of_time_not_reached() -> None:
    raw = message("F460" + "010203000005" + "000000000000", sent="260512103500")
    got = {(t - at("2026-05-12T10:00")) // MINUTE: v for _, t, v in rows(read(raw, gauge(array_order="last")))}
    assert got == {5: 0.1, 10: 0.2, 15: 0.3, 20: 0.0, 25: 0.0, 30: 0.5}
    whole = message(RAIN_BY_HOUR, observed="2605121100", sent="260512110005")
    times = [t for _, t, _ in rows(read(whole, gauge(array_order="last")))]
    assert (times[0], times[-1]) == (at("2026-05-12T10:05"), at("2026-05-12T11:00"))


def test_values_later_than_the_sending_are_dropped() -> None:
    raw = message(RAIN_BY_HOUR, sent="260512103600")
    assert [t for _, t, _ in rows(read(raw, gauge()))] == [at("2026-05-12T10:30"), at("2026-05-12T10:35")]


def test_relative_levels_are_a_level_only_with_a_base_and_never_beside_a_level_of_the_same_time() -> None:
    raw = message("F5C0" + "0AEC0AED" + "FFFF" * 10 + "392300028960", sent="260512113000")
    assert rows(read(raw, gauge())) == [("level", at("2026-05-12T10:30"), 28.96)]
    assert rows(read(raw, gauge(base_m=1.0))) == [
        ("level", at("2026-05-12T10:30"), 28.96),
        ("level", at("2026-05-12T10:35"), 28.97),
    ]


def test_missing_values_and_values_below_zero() -> None:
    assert rows(read(message("3923FFFFFFFF"), gauge())) == []
    assert rows(read(message("3923FF001250"), gauge())) == [("level", at("2026-05-12T10:30"), -1.25)]


def test_chlorophyll_is_sent_in_milligrams() -> None:
    assert rows(read(message("57120123"), gauge())) == [("chla", at("2026-05-12T10:30"), 1230.0)]


def test_an_unknown_element_and_digits_that_are_none_cost_only_themselves() -> None:
    got = read(message("FF02120123392300A28960471100" + "65"), gauge())
    when = at("2026-05-12T10:30")
    assert rows(got) == [("do", when, 6.5)]
    assert refused(got) == [(Reason.UNKNOWN_PARAMETER, ((when, "FF02"),)), (Reason.NOT_A_NUMBER, ((when, "level"),))]
    assert "FF02: 0123" in got.rejected[0].detail


def test_a_test_and_link_keeping_are_no_readings() -> None:
    assert rows(read(message("392300028960", function=0x30), gauge())) == []
    kept = read(build(Frame(A, 1, "1234", 0x2F, bytes.fromhex("0001260512103000"), End.ETX)), gauge())
    assert (rows(kept), refused(kept)) == ([], [])


def test_text_pictures_and_status_are_no_readings() -> None:
    for raw in (_text("河水上涨"), _text("河水上涨", ascii_mode=True)):
        assert json.loads(read(raw, gauge()).notices[0])["text"] == "河水上涨"
    picture = read(message("F3F3" + "FFD8FFD9", function=0x36), gauge())
    assert json.loads(picture.notices[0]) == {
        "event": "picture",
        "source": "sl651",
        "address": A,
        "at": "2026-05-12T02:30:00Z",
        "serial": 1,
        "bytes": 4,
    }
    status = read(message("452000000081"), gauge())
    assert (status.status[0].bits, status.status[0].at_ms) == (0x81, at("2026-05-12T10:30"))


def _text(text: str, *, ascii_mode: bool = False) -> bytes:
    head = b"0001260512103000" if ascii_mode else bytes.fromhex("0001260512103000F2F2")
    return build(Frame(A, 1, "1234", 0x35, head + text.encode("gb18030"), End.ETX, ascii=ascii_mode))


def test_a_stranger_and_a_wrong_password_are_refused_whole() -> None:
    raw = message("392300028960")
    assert refused(read(raw, None)) == [(Reason.UNKNOWN_STATION, None)]
    assert refused(read(raw, gauge(password="4321"))) == [(Reason.WRONG_PASSWORD, None)]
    assert len(rows(read(raw, gauge(password="1234")))) == 1


def test_only_the_blocks_of_the_station_are_read() -> None:
    other = "00ABCDEF01"
    raw = message(f"392300028960F1F1{other}48F0F02605121030392300001000")
    assert [v for _, _, v in rows(read(raw, gauge()))] == [28.96]
    assert [v for _, _, v in rows(read(raw, gauge(other), other))] == [1.0]


def test_a_message_in_packets_is_joined_and_one_with_a_gap_refused() -> None:
    whole = bytes.fromhex(f"0001260512103000F1F1{A}48F0F02605121030392300028960")
    pieces = [whole[:13], whole[13:20], whole[20:]]
    frames = [
        build(Frame(A, 1, "1234", 0x34, p, End.ETX if n == 3 else End.ETB, packets=3, packet=n))
        for n, p in enumerate(pieces, 1)
    ]
    assert rows(read(b"".join(frames), gauge())) == [("level", at("2026-05-12T10:30"), 28.96)]
    assert rows(read(frames[2] + frames[0] + frames[1], gauge())) == [("level", at("2026-05-12T10:30"), 28.96)]
    assert refused(read(frames[0] + frames[2], gauge())) == [(Reason.INCOMPLETE, None)]


def test_bytes_that_are_no_frame_or_no_body() -> None:
    raw = bytearray(message("392300028960"))
    raw[20] ^= 1
    assert refused(read(bytes(raw), gauge())) == [(Reason.BAD_FRAME, None)]
    assert refused(read(message("3923", function=0x34), gauge())) == [(Reason.WRONG_SHAPE, None)]
    assert refused(read(message("", function=0xE1), gauge())) == [(Reason.WRONG_SHAPE, ())]


def test_ascii_mode() -> None:
    body = f"0001260512103000ST {A} H TT 2605121030 Z 28.960 VT 12.1 ".encode()
    raw = build(Frame(A, 1, "1234", 0x34, body, End.ETX, ascii=True))
    assert rows(read(raw, gauge())) == [("level", at("2026-05-12T10:30"), 28.96)]
