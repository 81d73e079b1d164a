"""HJ 212 data segments: what they say and lack, what is asked and answered, how split ones come together."""

import io
import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import ConfigurationError
from infra.times import BEIJING, to_ms
from riverchief.cli.hj212 import decode
from sensors.wire.hj212 import exchange, frame, packet
from sensors.wire.hj212.assembly import MAX_PARTS, Assembler, Bundle, join
from sensors.wire.hj212.codes import ExeRtn, QnRtn
from sensors.wire.hj212.frame import Frame, FrameReader
from sensors.wire.hj212.packet import Edition, Packet, build, flag_of, parse, qn_time, read_time, segment, write_qn
from tests.hj212_frames import ANSWER, EXAMPLE, FAULT, GOOD, HOUR_1, HOUR_2, MN, NEW, REALTIME, WRONG

AT = to_ms(datetime(2026, 5, 12, 10, 30, tzinfo=BEIJING))


def of(raw: bytes) -> Packet:
    return parse(raw[6:-4])


# -- reading -----------------------------------------------------------------------------------------------------------


def test_the_fields_of_a_real_time_packet() -> None:
    got = of(REALTIME)
    assert (got.qn, got.st, got.cn, got.pw, got.mn, got.flag) == (
        "20260512103000123",
        "21",
        "2011",
        "123456",
        MN,
        5,
    )
    assert got.wants_answer
    assert got.edition is Edition.E2017
    assert not got.is_part
    assert got.missing == ()
    assert got.problems == ()
    assert got.fields == {"DataTime": "20260512103000"}
    assert got.items["w01009"] == {"Rtd": "3.6", "Flag": "N"}
    assert list(got.items) == ["w01010", "w01001", "w01009", "w01014", "w01003"]


def test_the_password_is_never_shown() -> None:
    assert "123456" not in repr(of(REALTIME))


def test_what_is_missing_is_recorded() -> None:
    got = of(GOOD[2])
    assert got.missing == ("QN", "Flag")
    assert not got.wants_answer
    assert got.edition is None
    assert parse(b"hello").missing == (*packet.HEADER, "CP")


@pytest.mark.parametrize(
    ("flag", "edition", "answer", "split"),
    [
        (0, 2005, False, False),
        (1, 2005, True, False),
        (4, 2017, False, False),
        (5, 2017, True, False),
        (6, 2017, False, True),
        (7, 2017, True, True),
        (8, 2025, False, False),
        (9, 2025, True, False),
        (11, 2025, True, True),
    ],
)
def test_the_bits_of_flag(flag: int, edition: int, answer: bool, split: bool) -> None:
    got = parse(b"CN=2011;Flag=%d;CP=&&&&" % flag)
    assert got.edition == edition
    assert got.wants_answer is answer
    assert flag_of(Edition(edition), answer=answer, split=split) == flag


def test_the_slips_of_the_printed_examples_are_read() -> None:
    got = parse(b"QN=20160801085857223,ST=32; CN=2011;Flag=5;CP=&&DataTime=20160801085857; w01018-Rtd=1.5 ;&&")
    assert (got.qn, got.st, got.cn, got.items["w01018"]["Rtd"]) == ("20160801085857223", "32", "2011", "1.5")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"CN=2011;Flag=x;CP=&&&&", "Flag 'x'"),
        (b"CN=2011;Flag=256;CP=&&&&", "Flag '256'"),
        (b"CN=2011;QN=2026;CP=&&&&", "QN 2026"),
        (b"CN=2011;CP=&&DataTime=1", "does not end"),
        (b"CN=2011;CP=DataTime=1&&", "does not begin"),
        (b"CN=2011;CN=2051;CP=&&&&", "CN is given twice"),
        (b"CN=2011;CP=&&w01001-Rtd=7;w01001-Rtd=8&&", "w01001-Rtd is given twice: 7 and 8"),
        (b"CN=2011;CP=&&loose&&", "'loose'"),
        (b"CN=2011;PNUM=99999;CP=&&&&", "PNUM"),
        (b"CN=2011;CP=&&a=\xff\xfe\x00&&", "neither UTF-8 nor GBK"),
    ],
)
def test_what_is_odd_is_recorded(text: bytes, told: str) -> None:
    got = parse(text)
    assert got.cn == "2011"
    assert any(told in problem for problem in got.problems), got.problems


def test_the_same_value_twice_is_no_contradiction() -> None:
    assert parse(b"CN=2011;CP=&&a05002-Rtd=1,a05002-Flag=N;a05002-Cou=0,a05002-Flag=N&&").problems == ()


def test_text_may_be_utf8_or_gbk() -> None:
    for encoding in ("utf-8", "gbk"):
        got = parse("CN=3020;CP=&&i11001-Info=更换试剂&&".encode(encoding))
        assert got.items["i11001"]["Info"] == "更换试剂"


def test_encrypted_parts_of_2025_are_told_from_clear_ones() -> None:
    cipher = b"CN=2011;MN=1;Flag=9;CP=&&9F3A5C7E1B2D4F60&&"
    assert parse(cipher).encrypted
    assert parse(cipher).cp == ()
    assert not parse(b"CN=2011;MN=1;Flag=9;CP=&&w01001-Rtd=7&&").encrypted
    assert not parse(b"CN=2011;MN=1;Flag=9;CP=&&&&").encrypted
    assert not parse(cipher.replace(b"Flag=9", b"Flag=5")).encrypted


words = st.text(alphabet="abcdefgw0123456789", min_size=1, max_size=8)
values = st.text(alphabet="0123456789.NT换试剂", max_size=8)
codes = st.dictionaries(words, st.dictionaries(st.sampled_from(["Rtd", "Avg", "Flag"]), values, min_size=1), max_size=5)


@given(
    codes,
    st.dictionaries(words, values, max_size=3),
    st.sampled_from(sorted(Edition)),
    st.booleans(),
    st.none() | st.tuples(st.integers(2, 50), st.integers(1, 50)),
)
def test_what_is_built_is_read_again(
    items: dict[str, dict[str, str]],
    fields: dict[str, str],
    edition: Edition,
    answer: bool,
    part: tuple[int, int] | None,
) -> None:
    cp = tuple(fields.items()) + tuple((f"{code}-{k}", v) for code, keys in items.items() for k, v in keys.items())
    flag = flag_of(edition, answer=answer, split=part is not None)
    pnum, pno = part or (None, None)
    sent = Packet("2011", write_qn(AT), "21", "123456", MN, flag, pnum, pno, cp)
    (found,) = FrameReader().feed(build(sent))
    assert isinstance(found, Frame)
    assert parse(found.segment) == sent


@pytest.mark.parametrize("raw", NEW)
def test_our_frames_are_built_as_they_were_read(raw: bytes) -> None:
    assert segment(of(raw)) == raw[6:-4]
    assert build(of(raw)) == raw + b"\r\n"


# -- times -------------------------------------------------------------------------------------------------------------


def test_times_are_beijing_times() -> None:
    assert read_time("20260512103000") == AT
    assert packet.write_time(AT + 999) == "20260512103000"
    assert write_qn(AT + 7) == "20260512103000007"
    assert qn_time("20260512103000007") == AT + 7


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("20160824003817000", "17 digits"),
        ("2016082400381", "13 digits"),
        ("20160230000000", "no moment of the calendar"),
        ("20160824250000", "no moment of the calendar"),
        ("", "not 14 digits"),
        ("2016-08-24 00:38", "not 14 digits"),
        ("２０１６０８２４００３８１７", "not 14 digits"),
        ("00000824003817", "no moment of the calendar"),
    ],
)
def test_a_wrong_time_says_what_is_wrong_with_it(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_time(text)


# -- requests and answers ----------------------------------------------------------------------------------------------


def test_data_are_answered_as_the_standard_prints_it() -> None:
    assert build(exchange.data_answer(of(REALTIME))) == ANSWER + b"\r\n"


def test_an_answer_repeats_who_was_meant_and_asks_for_none() -> None:
    for raw, flag in ((REALTIME, 4), (HOUR_2, 4)):
        for answer, cn, cp in (
            (exchange.notice_answer(of(raw)), "9013", ()),
            (exchange.request_answer(of(raw), QnRtn.PASSWORD), "9011", (("QnRtn", "3"),)),
            (exchange.execution_result(of(raw), ExeRtn.NO_DATA), "9012", (("ExeRtn", "100"),)),
        ):
            assert (answer.cn, answer.st, answer.flag, answer.cp) == (cn, "91", flag, cp)
            assert (answer.qn, answer.mn, answer.pw) == (of(raw).qn, MN, "123456")
    assert exchange.data_answer(parse(b"QN=1;CN=2011;Flag=1;CP=&&&&")).flag == 0
    assert exchange.data_answer(parse(b"QN=1;CN=2011;Flag=9;CP=&&&&")).flag == 8


def test_the_request_of_appendix_a() -> None:
    about = Packet(None, st="32", pw="100000", mn=MN, flag=4)
    asked = exchange.set_realtime_interval(30).packet(about, "20160801085857223", AT)
    assert build(asked) == b"##0101" + EXAMPLE + b"1C80\r\n"


def test_requests_carry_what_they_need() -> None:
    def cp(command: exchange.Command) -> dict[str, str]:
        return dict(command.packet(of(REALTIME), "20260512103000000", AT).cp)

    assert cp(exchange.set_time()) == {"SystemTime": "20260512103000"}
    hole = exchange.fetch("2051", AT, AT + 3_600_000)
    assert cp(hole) == {"BeginTime": "20260512103000", "EndTime": "20260512113000"}
    assert cp(exchange.sample_now("w21003")) == {"PolId": "w21003"}
    assert cp(exchange.keep_sample()) == cp(exchange.ask_time()) == cp(exchange.ask_now()) == {}
    assert hole.packet(of(REALTIME), "1", AT).flag == 5


@pytest.mark.parametrize(
    "ask",
    [
        lambda: exchange.set_realtime_interval(29),
        lambda: exchange.fetch("2011", 0, 1),
        lambda: exchange.sample_now("w21003;CN=1072"),
    ],
)
def test_what_the_standard_does_not_allow_cannot_be_asked(ask: Any) -> None:
    with pytest.raises(ConfigurationError):
        ask()


# -- split packets -----------------------------------------------------------------------------------------------------


def part(pno: int, pnum: int, cp: str, cn: str = "2051", mn: str = MN) -> Packet:
    return parse(f"QN={write_qn(AT + pno)};CN={cn};MN={mn};Flag=7;PNUM={pnum};PNO={pno};CP=&&{cp}&&".encode())


class Bench:
    """An assembler, and what came out of it."""

    def __init__(self, **bounds: int) -> None:
        self.assembler: Assembler[str] = Assembler(**bounds)
        self.at = AT

    def add(self, packet: Packet) -> list[Bundle[str]]:
        return self.assembler.add(packet, build(packet), str(packet.pno), self.at)


def numbers(bundles: list[Bundle[str]]) -> list[tuple[list[int | None], list[str]]]:
    return [([p.packet.pno for p in b.parts], [p.owner for p in b.waiting]) for b in bundles]


def test_parts_that_repeat_the_time_do_not_wait_for_each_other() -> None:
    bench = Bench()
    assert numbers(bench.add(of(HOUR_1))) == [([1], ["1"])]
    assert numbers(bench.add(of(HOUR_2))) == [([2], ["2"])]
    assert bench.assembler._bytes == 0


def test_parts_without_the_time_wait_for_the_one_that_has_it() -> None:
    bench = Bench()
    first, second, third = (
        part(1, 3, "DataTime=20260512103000;w01001-Avg=7"),
        part(2, 3, "w01009-Avg=3"),
        part(3, 3, "w21003-Avg=1"),
    )
    assert numbers(bench.add(third)) == []
    assert numbers(bench.add(first)) == [([1], ["1"])]
    (whole,) = bench.add(second)
    assert numbers([whole]) == [([1, 2, 3], ["2", "3"])]
    (joined,) = join([p.packet for p in whole.parts])
    assert joined.fields["DataTime"] == "20260512103000"
    assert list(joined.items) == ["w01001", "w01009", "w21003"]
    assert whole.raw == build(first) + build(second) + build(third)


def test_parts_whose_rest_never_comes_are_handed_on_after_a_while() -> None:
    bench = Bench()
    bench.add(part(2, 3, "w01009-Avg=3"))
    bench.add(part(3, 3, "w21003-Avg=1"))
    assert bench.assembler.expire(AT + 60_000) == []
    (given_up,) = bench.assembler.expire(AT + 60_001)
    assert numbers([given_up]) == [([2, 3], ["2", "3"])]
    with pytest.raises(ValueError, match="2 of 3"):
        join([p.packet for p in given_up.parts])
    assert bench.assembler._bytes == 0


def test_sets_of_different_loggers_and_commands_are_kept_apart() -> None:
    bench = Bench()
    bench.add(part(2, 2, "w01009-Avg=3", mn="A"))
    bench.add(part(2, 2, "w01009-Avg=4", mn="B"))
    bench.add(part(2, 2, "w01009-Avg=5", mn="A", cn="2061"))
    found = bench.add(part(1, 2, "DataTime=20260512103000;w01001-Avg=7", mn="A"))
    assert [[p.packet.items for p in b.parts] for b in found[1:]] == [
        [{"w01001": {"Avg": "7"}}, {"w01009": {"Avg": "3"}}]
    ]


def test_a_part_sent_again_is_the_same_part_and_another_one_begins_anew() -> None:
    bench = Bench()
    bench.add(part(2, 3, "w01009-Avg=3"))
    assert bench.add(part(2, 3, "w01009-Avg=3")) == []
    (given_up,) = bench.add(part(2, 3, "w01009-Avg=9"))
    assert given_up.parts[0].packet.items == {"w01009": {"Avg": "3"}}


def test_what_is_held_is_bounded() -> None:
    bench = Bench(most_sets=10)
    given_up = [b for i in range(100) for b in bench.add(part(2, 3, "w01009-Avg=3", mn=f"M{i}"))]
    assert len(given_up) == 90
    small = Bench(most_bytes=1000)
    for i in range(100):
        small.add(part(2, 3, "w01009-Avg=3", mn=f"M{i}"))
        assert small.assembler._bytes <= 1000
    assert numbers(Bench().add(part(1, MAX_PARTS + 1, "w01009-Avg=3"))) == [([1], ["1"])]
    assert numbers(Bench().add(part(5, 3, "w01009-Avg=3"))) == [([5], ["5"])]


# -- riverchief hj212 decode -------------------------------------------------------------------------------------------


def decoded(stream: bytes) -> list[dict[str, Any]]:
    out = io.StringIO()
    decode(io.BytesIO(stream), out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_frame_is_one_object_in_the_shape_of_the_design() -> None:
    assert decoded(FAULT + b"\r\n") == [
        {
            "ok": True,
            "qn": "20260512103500000",
            "st": "21",
            "cn": "2011",
            "mn": MN,
            "flag": 5,
            "time": "2026-05-12T10:35:00+08:00",
            "items": {"w01009": {"Rtd": 0.0, "Flag": "D"}, "w21003": {"Rtd": 8.4, "Flag": "N"}},
        }
    ]


def test_every_published_frame_is_decoded_and_every_edited_one_refused() -> None:
    stream = b"".join(raw + b"\r\n" for raw in (*GOOD, *NEW, *(raw for raw, _ in WRONG)))
    assert [one["ok"] for one in decoded(stream)] == [True] * (len(GOOD) + len(NEW)) + [False] * len(WRONG)
    assert all(set(one) == {"ok", "reason"} for one in decoded(stream) if not one["ok"])
    assert "123456" not in json.dumps(decoded(REALTIME))


def test_garbage_is_no_frame_and_is_counted_in_the_summary() -> None:
    out = io.StringIO()
    tally = decode(io.BytesIO(b"garbage" + REALTIME + b"\r\n##0101" + EXAMPLE + b"0759\r\n"), out)
    assert len(out.getvalue().splitlines()) == 2
    assert "1 帧有效" in tally.sentence()
    assert "1 帧错误" in tally.sentence()
    assert "7 字节" in tally.sentence()


def test_what_a_frame_has_beyond_the_shape_is_added_beside_it() -> None:
    (request,) = decoded(b"##0101" + EXAMPLE + b"1C80")
    assert request["fields"] == {"RtdInterval": "30"}
    (hour,) = decoded(HOUR_2)
    assert (hour["pnum"], hour["pno"]) == (2, 2)
    (late,) = decoded(GOOD[6])
    assert late["time"] is None
    assert "17 digits" in late["problems"][0]
    assert late["missing"] == ["QN", "Flag"]


def test_the_encrypted_parts_of_2025_are_refused_with_a_clear_answer() -> None:
    (got,) = decoded(frame.build(b"CN=2011;MN=1;Flag=9;CP=&&9F3A5C7E1B2D4F60&&"))
    assert not got["ok"]
    assert "SM4" in got["reason"]
