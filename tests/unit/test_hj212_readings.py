"""From HJ 212 frames to readings: which value, at what time, in which unit, with which flag; and what is refused."""

import json
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.times import BEIJING, to_ms
from sensors.parameters import catalogue
from sensors.reading import Message, Reason
from sensors.wire.decode import decode
from sensors.wire.hj212 import frame
from sensors.wire.hj212.codes import CHECK_FLAGS
from sensors.wire.hj212.readings import Logger, addressed, topic
from sensors.wire.telemetry import Decoded, Sample, Telemetry, encode
from tests.hj212_frames import EXAMPLE, FAULT, HOUR_1, HOUR_2, MN, REALTIME

CATALOGUE = catalogue()
AT = to_ms(datetime(2026, 5, 12, 10, 30, tzinfo=BEIJING))
LOGGERS = {MN: Logger(MN, "shiwan", "123456")}


def frame_of(cp: str, cn: str = "2011", **other: str) -> bytes:
    head = {"QN": "20260512103000123", "ST": "21", "CN": cn, "PW": "123456", "MN": MN, "Flag": "5"} | other
    text = "".join(f"{name}={value};" for name, value in head.items()) + f"CP=&&{cp}&&"
    return frame.build(text.encode())


def read(*payloads: bytes, loggers: dict[str, Logger] = LOGGERS) -> Decoded:
    messages = [Message("shiwan", payload, AT, "hj212", topic(MN)) for payload in payloads]
    return decode(addressed(messages, loggers, CATALOGUE), CATALOGUE, loggers)


def rows(decoded: Decoded) -> list[tuple[str, int, float, str]]:
    b = decoded.batch
    keys = [decoded.unknown.get(i) or CATALOGUE.parameters[p].key for i, p in enumerate(b.parameter)]
    return list(zip(keys, b.at.tolist(), b.value.tolist(), map(chr, b.status), strict=True))


def refused(decoded: Decoded) -> list[tuple[Reason, tuple[tuple[int, str], ...] | None]]:
    return [(r.reason, r.readings) for r in decoded.rejected]


def test_real_time_data_are_readings_of_their_instant() -> None:
    got = read(REALTIME)
    assert rows(got) == [
        ("water_temp", AT, 26.4, "N"),
        ("ph", AT, 7.18, "N"),
        ("do", AT, 3.6, "N"),
        ("conductivity", AT, 412.5, "N"),
        ("turbidity", AT, 48.2, "N"),
    ]
    assert got.rejected == ()
    assert got.periods == {}
    assert got.headers[0] is not None
    assert got.headers[0].sent_at_ms == AT + 123


def test_data_flags_are_kept() -> None:
    assert [(key, status) for key, _, _, status in rows(read(FAULT))] == [("do", "D"), ("nh3n", "N")]
    letters = [rows(read(frame_of(f"DataTime=20260512103000;w01009-Rtd=1,w01009-Flag={f}")))[0][3] for f in "FMSCTBL"]
    assert letters == list("FMSCTBL")
    assert rows(read(frame_of("DataTime=20260512103000;w01009-Rtd=1,w01009-Flag=lr")))[0][3] == "D"
    assert rows(read(frame_of("DataTime=20260512103000;w01009-Rtd=1")))[0][3] == "N"


@pytest.mark.parametrize("flag", ["sc", "cz", "cs", "ra", "pt"])
@pytest.mark.parametrize("cn", ["2051", "2061"])
def test_a_check_of_the_analyser_inside_period_data_is_an_event_and_not_river_water(flag: str, cn: str) -> None:
    got = read(frame_of(f"DataTime=20260512080000;w21003-Avg=8,w21003-Flag={flag};w21011-Avg=0.2,w21011-Flag=N", cn))
    assert [(key, value) for key, _, value, _ in rows(got)] == [("tp", 0.2)]
    body = json.loads(got.notices[0])
    assert (body["event"], body["items"]) == (CHECK_FLAGS[flag], {"w21003": {"Avg": 8.0, "Flag": flag}})


@pytest.mark.parametrize(
    ("cn", "cp", "event"),
    [
        ("3020", "PolId=w00000,i21001-Info=//泵已启动;压力1,2//", "device_log"),
        ("3020", "PolId=w21003,i12001-Info=2", "device_state"),
        ("3040", "RunMode=1;SystemAlarm=00", "station_state"),
        ("3041", "Temp=25.1;Volt=12.4", "station_surroundings"),
    ],
)
def test_a_station_tells_its_state_and_log(cn: str, cp: str, event: str) -> None:
    got = read(frame_of(f"DataTime=20260512103000;{cp}", cn, Flag="9"))
    body = json.loads(got.notices[0])
    assert (body["event"], got.rejected) == (event, ())
    if event == "device_log":
        assert (body["fields"]["PolId"], body["items"]["i21001"]["Info"]) == ("w00000", "泵已启动;压力1,2")


def test_flag_9_of_surface_water_is_no_encryption_and_of_others_it_is() -> None:
    assert refused(read(frame_of("9F3A", Flag="9"))) == [(Reason.BAD_TIME, None)]
    assert refused(read(frame_of("9F3A", Flag="9", ST="32"))) == [(Reason.ENCRYPTED, None)]
    assert rows(read(frame_of("DataTime=20260512103000;w01009-Rtd=3", Flag="9"))) == [("do", AT, 3.0, "N")]


def test_hour_data_are_means_from_the_start_of_the_hour_in_either_packet() -> None:
    eight = AT - 9_000_000
    got = read(HOUR_1, HOUR_2)
    assert rows(got) == [
        ("codmn", eight, 4.4, "N"),
        ("nh3n", eight, 1.87, "N"),
        ("tp", eight, 0.22, "N"),
        ("tn", eight, 5.21, "T"),
    ]
    assert got.periods == {0: 3_600_000, 1: 3_600_000}


@pytest.mark.parametrize(("cn", "period"), [("2051", 60_000), ("2061", 3_600_000), ("2031", 86_400_000)])
def test_each_mean_has_its_period(cn: str, period: int) -> None:
    got = read(frame_of("DataTime=20260512103000;w01001-Min=6,w01001-Avg=7,w01001-Max=8,w01001-Cou=9", cn))
    assert rows(got) == [("ph", AT, 7.0, "N")]
    assert got.periods == {0: period}


def test_metals_in_micrograms_and_sewage_in_litres_become_canonical() -> None:
    got = read(
        frame_of("DataTime=20260512103000;w20111-Rtd=0.05;w20115-Rtd=5;w20120-Rtd=-9999;w20122-Rtd=0.5;w00000-Rtd=120")
    )
    assert [(key, pytest.approx(value)) for key, _, value, _ in rows(got)] == [
        ("hg", 0.00005),
        ("cd", 0.005),
        ("pb", -9999.0),  # a fault code is no measurement
        ("cu", 0.5),
        ("flow", 0.12),
    ]


def test_codes_of_2005_are_known() -> None:
    got = read(frame_of("DataTime=20260512103000;001-Rtd=7;011-Rtd=20;060-Rtd=1;065-Rtd=2;101-Rtd=0.2;B01-Rtd=36.91"))
    assert [key for key, *_ in rows(got)] == ["ph", "codcr", "nh3n", "tn", "tp", "flow"]


def test_a_code_nobody_knows_is_refused_by_name_and_its_neighbours_are_not() -> None:
    got = read(frame_of("DataTime=20260512103000;w01001-Rtd=7;w01008-Rtd=3"))
    assert rows(got) == [("ph", AT, 7.0, "N"), ("w01008", AT, 3.0, "N")]
    assert got.unknown == {1: "w01008"}


def test_a_replay_knows_the_reading_by_the_name_its_code_has_now() -> None:
    held = Message("shiwan", REALTIME, AT, "hj212", topic(MN), only=frozenset({(AT, "w01009"), (AT, "w09999")}))
    (again,) = addressed([held], LOGGERS, CATALOGUE)
    assert again.only == {(AT, "do"), (AT, "w09999")}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"##0101" + EXAMPLE + b"0759\r\n", Reason.BAD_FRAME),
        (b"garbage", Reason.BAD_FRAME),
        (REALTIME[:100], Reason.BAD_FRAME),
        (frame_of("w01001-Rtd=7", PW="654321"), Reason.WRONG_PASSWORD),
        (frame_of("w01001-Rtd=7", PW=""), Reason.WRONG_PASSWORD),
        (frame_of("w01001-Rtd=7", MN="A" * 24), Reason.UNKNOWN_STATION),
        (frame_of("9F3A5C7E", Flag="9", ST="32"), Reason.ENCRYPTED),
        (frame_of("w01001-Rtd=7", CN=""), Reason.WRONG_SHAPE),
        (frame_of("w01001-Rtd=7", PNUM="3", PNO="2", Flag="7"), Reason.INCOMPLETE),
    ],
)
def test_what_cannot_be_used_is_refused_as_a_whole(payload: bytes, reason: Reason) -> None:
    got = read(payload)
    assert refused(got) == [(reason, None)]
    assert len(got.batch) == 0
    assert "654321" not in got.rejected[0].detail
    assert "123456" not in got.rejected[0].detail


def test_any_password_will_do_where_none_is_registered() -> None:
    assert len(read(REALTIME, loggers={MN: Logger(MN, "shiwan", None)}).batch) == 5


@pytest.mark.parametrize("time", ["20160824003817000", "20260230000000", "", "x"])
def test_a_wrong_time_costs_the_readings_and_is_told(time: str) -> None:
    got = read(frame_of(f"DataTime={time};w01001-Rtd=7;w01009-Rtd=3"))
    assert refused(got) == [(Reason.BAD_TIME, ((-1, "ph"), (-1, "do")))]
    assert time in got.rejected[0].detail


def test_a_value_that_is_no_number_costs_itself() -> None:
    got = read(frame_of("DataTime=20260512103000;w01001-Rtd=7;w01009-Rtd=--;w21003-Rtd=0.05L;w01010-Rtd=1e999"))
    assert rows(got) == [("ph", AT, 7.0, "N")]
    assert refused(got) == [(Reason.NOT_A_NUMBER, ((AT, key),)) for key in ("do", "nh3n", "water_temp")]


def test_a_value_given_twice_is_refused_when_the_two_differ() -> None:
    got = read(frame_of("DataTime=20260512103000;w01001-Rtd=7;w01009-Rtd=3;w01009-Rtd=8;w01001-Rtd=7"))
    assert rows(got) == [("ph", AT, 7.0, "N")]
    assert refused(got) == [(Reason.WRONG_SHAPE, ((AT, "do"),))]


@pytest.mark.parametrize("cn", ["2021", "2041", "2081", "3019", "3020", "2065", "2066", "2071"])
def test_what_a_logger_says_of_itself_becomes_an_event(cn: str) -> None:
    got = read(frame_of("DataTime=20260512103000;RestartTime=20260512100000;SB1-RS=1", cn))
    body = json.loads(got.notices[0])
    assert (body["cn"], body["mn"], body["at"]) == (cn, MN, "2026-05-12T02:30:00Z")
    assert body["items"] == {"SB1": {"RS": 1.0}}
    assert body["event"]
    assert len(got.batch) == 0
    assert got.rejected == ()


def test_a_command_no_logger_sends_by_itself_is_refused() -> None:
    assert refused(read(frame_of("", "3011"))) == [(Reason.WRONG_SHAPE, ())]
    assert refused(read(frame_of("", "1013"))) == []


def test_frames_and_json_of_one_batch_are_told_apart() -> None:
    telemetry = Message("qicha", encode(Telemetry((Sample(AT, {"ph": 6.5}),))), AT)
    strange = Message("qicha", b"{", AT)
    frames = [Message("shiwan", payload, AT, "hj212", topic(MN)) for payload in (b"x", REALTIME)]
    got = decode([frames[0], telemetry, frames[1], strange], CATALOGUE, LOGGERS)
    assert sorted(set(got.batch.message.tolist())) == [1, 2]
    assert [(key, value) for key, _, value, _ in rows(got) if key == "ph"] == [("ph", 6.5), ("ph", 7.18)]
    assert {(r.message, r.reason) for r in got.rejected} == {(0, Reason.BAD_FRAME), (3, Reason.NOT_JSON)}
    assert [h is None for h in got.headers] == [True, False, False, True]


@given(st.binary(max_size=400), st.binary(max_size=200))
def test_reading_never_raises(payload: bytes, segment: bytes) -> None:
    read(payload, frame.build(segment), frame.build(REALTIME[6:-4] + segment))
