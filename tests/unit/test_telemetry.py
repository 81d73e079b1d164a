"""The telemetry message of design §4.1: what is written is read, and what is wrong with it costs only itself."""

import json
import string
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from infra.times import to_ms
from sensors.parameters import catalogue
from sensors.reading import Message, Reason
from sensors.wire.telemetry import (
    MAX_BYTES,
    MAX_SAMPLES,
    STATION,
    Decoded,
    Header,
    Sample,
    Telemetry,
    decode,
    encode,
    parse,
    topic,
)

CATALOGUE = catalogue()
KEYS = [p.key for p in CATALOGUE.parameters]
YEAR_2000, YEAR_2100 = 946_684_800_000, 4_102_444_800_000
AT = "2026-05-12T10:30:00Z"
AT_MS = 1_778_581_800_000

finite = st.floats(allow_nan=False, allow_infinity=False)
letters = st.sampled_from("NFMSDCTBOL?")


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    values = draw(st.dictionaries(st.sampled_from(KEYS), finite, max_size=8))
    flagged = draw(st.lists(st.sampled_from(sorted(values)), unique=True)) if values else []
    status = {key: draw(letters) for key in flagged}
    return Sample(draw(st.integers(YEAR_2000, YEAR_2100)), values, status)


counts = st.none() | st.integers(0, 2**53)
messages = st.builds(
    Telemetry,
    samples=st.lists(samples(), max_size=20).map(tuple),
    seq=counts,
    boot=counts,
    total=counts,
    sent_at_ms=st.none() | st.integers(YEAR_2000, YEAR_2100),
)


def read(*payloads: bytes | str) -> Decoded:
    raw = [p.encode() if isinstance(p, str) else p for p in payloads]
    return decode([Message("shiwan", p, AT_MS) for p in raw], CATALOGUE)


def message(values: str, *, at: str = f'"{AT}"', status: str | None = None, extra: str = "") -> str:
    """One sample, its parts written by hand."""
    tail = "" if status is None else f',"status":{status}'
    return f'{{{extra}"readings":[{{"at":{at},"values":{values}{tail}}}]}}'


def rows(decoded: Decoded) -> list[tuple[str, int, float, str]]:
    batch = decoded.batch
    names = [
        decoded.unknown[i] if p < 0 else CATALOGUE.parameters[p].key for i, p in enumerate(batch.parameter.tolist())
    ]
    letters_ = [chr(s) for s in batch.status.tolist()]
    return list(zip(names, batch.at.tolist(), batch.value.tolist(), letters_, strict=True))


def reasons(decoded: Decoded) -> list[tuple[Reason, tuple[tuple[int, str], ...] | None]]:
    return [(r.reason, r.readings) for r in decoded.rejected]


# -- what is written is read -------------------------------------------------------------------------------------------


@given(messages)
def test_what_a_device_writes_is_what_is_read(sent: Telemetry) -> None:
    assert parse(encode(sent)) == sent


@given(st.lists(messages, min_size=1, max_size=4))
def test_ingest_reads_every_reading_of_every_message_in_order(sent: list[Telemetry]) -> None:
    decoded = read(*map(encode, sent))
    expected = [
        (key, sample.at_ms, value, sample.status.get(key, "N"))
        for one in sent
        for sample in one.samples
        for key, value in sample.values.items()
    ]
    assert rows(decoded) == expected
    which = [i for i, one in enumerate(sent) for sample in one.samples for _ in sample.values]
    assert decoded.batch.message.tolist() == which
    assert decoded.headers == tuple(Header(m.seq, m.boot, m.total, m.sent_at_ms) for m in sent)
    assert not decoded.rejected
    assert not decoded.unknown


def test_the_example_of_the_contract_is_read() -> None:
    decoded = read(
        '{"seq": 1842, "sent_at": "2026-05-12T10:30:05Z", "readings": [{"at": "2026-05-12T10:30:00Z", '
        '"values": {"ph": 7.18, "do": 3.6, "nh3n": 0.87}, "status": {"nh3n": "M"}}]}'
    )
    assert rows(decoded) == [("ph", AT_MS, 7.18, "N"), ("do", AT_MS, 3.6, "N"), ("nh3n", AT_MS, 0.87, "M")]
    assert decoded.headers == (Header(1842, None, None, AT_MS + 5000),)


def test_a_message_of_1000_samples_is_written_and_read() -> None:
    sent = Telemetry(tuple(Sample(AT_MS + i, {"do": float(i)}) for i in range(1000)))
    assert parse(encode(sent)) == sent
    assert len(read(encode(sent)).batch) == 1000


def test_milliseconds_survive_and_smaller_parts_are_cut_off() -> None:
    assert parse(encode(Telemetry((Sample(AT_MS + 7, {"ph": 7.0}),)))).samples[0].at_ms == AT_MS + 7
    assert rows(read(message('{"do":3}', at='"2026-05-12T10:30:00.123999Z"'))) == [("do", AT_MS + 123, 3.0, "N")]


@pytest.mark.parametrize(
    "at",
    ["2026-05-12T18:30:00+08:00", "2026-05-12T10:30:00.000Z", "2026-05-12T10:30:00+00:00", "2026-05-12T06:00:00-04:30"],
)
def test_a_time_with_any_offset_is_the_same_instant(at: str) -> None:
    assert rows(read(message('{"do":3}', at=f'"{at}"'))) == [("do", AT_MS, 3.0, "N")]


def test_whole_numbers_are_numbers() -> None:
    assert rows(read(message('{"do":3,"ph":7}'))) == [("do", AT_MS, 3.0, "N"), ("ph", AT_MS, 7.0, "N")]


def test_the_topic_names_the_station() -> None:
    assert topic("qicha-01") == "rivers/v1/qicha-01/telemetry"
    assert topic("qicha-01", "status") == "rivers/v1/qicha-01/status"


@pytest.mark.parametrize("good", ["a", "0", "shiwan-park-lake", "a" * 64, "a-"])
def test_a_station_key_of_the_contract_is_accepted(good: str) -> None:
    assert STATION.fullmatch(good)


@pytest.mark.parametrize("bad", ["", "-a", "A", "石湾", "a_b", "a/b", "a" * 65, "a\n", "+", "#"])
def test_a_station_key_against_the_contract_is_refused(bad: str) -> None:
    assert not STATION.fullmatch(bad)


# -- the writer keeps the contract -------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_device_cannot_write_a_value_that_is_no_number(value: float) -> None:
    with pytest.raises(ValueError, match="2026-05-12T10:30:00Z"):
        encode(Telemetry((Sample(AT_MS, {"do": value}),)))


def test_a_device_cannot_write_1001_samples() -> None:
    with pytest.raises(ValueError, match="1001"):
        encode(Telemetry(tuple(Sample(AT_MS + i, {}) for i in range(1001))))


def test_a_device_cannot_write_more_than_256_kib() -> None:
    values = dict.fromkeys(KEYS, 0.1234567890123)
    with pytest.raises(ValueError, match=str(256 * 1024)):
        encode(Telemetry(tuple(Sample(AT_MS + i, values) for i in range(1000))))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b'{"readings":[{"at":"2026-05-12T10:30:00","values":{}}]}',
        b'{"readings":[{"at":"2026-05-12T10:30:00Z","values":{"do":"3"}}]}',
        b'{"readings":[{"at":"2026-05-12T10:30:00Z","values":{"do":NaN}}]}',
        b'{"readings":[],"seq":-1}',
        b'{"readings":[],"seq":1.5}',
        b'{"readings":[],"sent_at":"2026-05-12T10:30:00"}',
    ],
)
def test_the_strict_reader_raises_what_breaks_the_contract(payload: bytes) -> None:
    with pytest.raises(ValueError):
        parse(payload)


# -- limits ------------------------------------------------------------------------------------------------------------


def test_limits_are_those_of_the_contract() -> None:
    assert MAX_SAMPLES == 1000
    assert MAX_BYTES == 262_144


@pytest.mark.parametrize("spoilt", [False, True])
def test_a_thousand_samples_pass_and_one_more_is_refused_as_a_whole(spoilt: bool) -> None:
    """With and without a value that sends the message to the lenient reader."""

    def payload(n: int) -> str:
        first = "NaN" if spoilt else "1"
        entries = [f'{{"at":"{AT}","values":{{"do":{first if i == 0 else 1}}}}}' for i in range(n)]
        return '{"seq":5,"readings":[' + ",".join(entries) + "]}"

    assert len(read(payload(1000)).batch) == (999 if spoilt else 1000)
    refused = read(payload(1001))
    assert reasons(refused) == [(Reason.TOO_MANY_SAMPLES, None)]
    assert "1001" in refused.rejected[0].detail
    assert len(refused.batch) == 0
    assert refused.headers == (Header(seq=5),)


def test_256_kib_pass_and_one_byte_more_is_refused_unread() -> None:
    text = message('{"do":3}', extra='"pad":"",')
    exact = text.replace('"pad":""', f'"pad":"{"x" * (262_144 - len(text))}"').encode()
    assert len(exact) == 262_144
    assert rows(read(exact)) == [("do", AT_MS, 3.0, "N")]
    refused = read(exact + b" ")
    assert reasons(refused) == [(Reason.TOO_LARGE, None)]
    assert refused.headers == (None,)
    assert "262145" in refused.rejected[0].detail


# -- every bad input has its reason, and its good neighbours survive ---------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b" ",
        b"\x00",
        b"do=3.6",
        b'{"readings":[',
        b"\xff\xfe\xfd",
        b'{"readings":[{"at":"2026-05-12T10:30:00Z","values":{"do":3}\xff}]}',
        b"[" * 200_000,
        b'{"readings":[' + b"[" * 100_000 + b"]" * 100_000 + b"]}",
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b',"readings":[]}',
        b'{"x":' + b'{"x":' * 20_000 + b"1" + b"}" * 20_000 + b',"readings":[]}',
    ],
    ids=[
        "empty",
        "blank",
        "zero byte",
        "text",
        "cut off",
        "no UTF-8",
        "no UTF-8 in JSON",
        "open lists",
        "deep readings",
        "deep unknown list",
        "deep unknown object",
    ],
)
def test_what_is_no_json_is_refused_as_a_whole(payload: bytes) -> None:
    decoded = read(payload, message('{"do":3}'))
    assert reasons(decoded) == [(Reason.NOT_JSON, None)]
    assert decoded.rejected[0].message == 0
    assert decoded.headers[0] is None
    assert rows(decoded) == [("do", AT_MS, 3.0, "N")]  # the message beside it


@pytest.mark.parametrize("payload", ["null", "[]", '"do"', "5", "true", "{}", '{"readings":{}}', '{"readings":null}'])
def test_what_has_no_list_of_readings_is_of_the_wrong_shape(payload: str) -> None:
    assert reasons(read(payload)) == [(Reason.WRONG_SHAPE, None)]


def test_the_header_of_a_message_without_readings_is_still_known_to_the_ledger() -> None:
    assert read('{"seq":7,"boot":2,"total":42,"readings":5}').headers == (Header(7, 2, 42, None),)


@pytest.mark.parametrize("sample", ["1", "null", '"x"', "[]", "{}", '{"at":"x"}', '{"at":"x","values":[1]}'])
def test_a_sample_of_the_wrong_shape_costs_only_itself(sample: str) -> None:
    decoded = read(f'{{"readings":[{sample},{{"at":"{AT}","values":{{"do":3}}}}]}}')
    assert reasons(decoded) == [(Reason.WRONG_SHAPE, ())]
    assert "readings[0]" in decoded.rejected[0].detail
    assert rows(decoded) == [("do", AT_MS, 3.0, "N")]


@pytest.mark.parametrize(
    "value",
    [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "-1e999",
        "9" * 400,
        "-" + "9" * 4300,
        "9" * 5000,
        "9" * 100_000,
        '"7.1"',
        '""',
        "true",
        "false",
        "[]",
        "[7.1]",
        "{}",
        '"' + "x" * 5000 + '"',
    ],
    ids=lambda v: v[:12] + (f"… {len(v)}" if len(v) > 12 else ""),
)
def test_a_value_that_is_no_number_costs_one_reading_and_not_three(value: str) -> None:
    decoded = read(message(f'{{"ph":7.2,"do":{value},"nh3n":0.4}}', status='{"nh3n":"M"}'))
    assert reasons(decoded) == [(Reason.NOT_A_NUMBER, ((AT_MS, "do"),))]
    assert len(decoded.rejected[0].detail) < 200
    assert rows(decoded) == [("ph", AT_MS, 7.2, "N"), ("nh3n", AT_MS, 0.4, "M")]


def test_null_says_no_reading_which_is_not_a_reading_and_no_fault() -> None:
    decoded = read(message('{"ph":null,"do":3,"strange":null}', status='{"do":"M","ph":"D"}'))
    assert rows(decoded) == [("do", AT_MS, 3.0, "M")]
    assert not decoded.rejected
    assert not decoded.unknown


@pytest.mark.parametrize("spoiler", ['"nh3n":NaN', '"nh3n":"x"'])
def test_null_is_no_reading_for_the_lenient_reader_too(spoiler: str) -> None:
    decoded = read(message(f'{{"ph":null,"do":3,{spoiler}}}', status='{"do":"M","ph":"D"}'))
    assert rows(decoded) == [("do", AT_MS, 3.0, "M")]
    assert reasons(decoded) == [(Reason.NOT_A_NUMBER, ((AT_MS, "nh3n"),))]


def test_a_null_with_a_status_that_is_none_is_no_reading_and_not_counted_as_refused() -> None:
    decoded = read(message('{"ph":null,"do":3}', status='{"ph":5}'))
    assert rows(decoded) == [("do", AT_MS, 3.0, "N")]
    assert not decoded.rejected


def test_a_null_at_an_unknown_time_is_not_counted_as_refused() -> None:
    decoded = read(message('{"ph":null,"do":3}', at='"noon"'))
    assert reasons(decoded) == [(Reason.BAD_TIME, ((-1, "do"),))]


@pytest.mark.parametrize(
    "at",
    [
        "null",
        '"2026-05-12T10:30:00"',
        '"2026-05-12"',
        '"10:30"',
        '""',
        '"noon"',
        '"2026-13-12T10:30:00Z"',
        '"2026-05-12T25:30:00Z"',
        "1778581800",
        "1778581800000",
        "true",
        "[]",
        "{}",
        '"2026-05-12T10:30:00+99:00"',
        '"' + "9" * 5000 + '"',
        "[" * 600 + "]" * 600,
    ],
    ids=lambda v: v[:32],
)
def test_a_time_without_offset_or_sense_costs_one_sample(at: str) -> None:
    good = f'{{"at":"{AT}","values":{{"ph":7}}}}'
    decoded = read(f'{{"readings":[{good},{{"at":{at},"values":{{"do":3,"nh3n":1}}}},{good}]}}')
    assert reasons(decoded) == [(Reason.BAD_TIME, ((-2, "do"), (-2, "nh3n")))]
    assert "readings[1]" in decoded.rejected[0].detail
    assert len(decoded.rejected[0].detail) < 250
    assert rows(decoded) == [("ph", AT_MS, 7.0, "N")] * 2


def test_a_sample_without_time_is_a_bad_time() -> None:
    assert reasons(read('{"readings":[{"values":{"do":3}}]}')) == [(Reason.BAD_TIME, ((-1, "do"),))]


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_the_ends_of_the_calendar_are_times_and_left_to_the_next_stage(at: str) -> None:
    assert len(read(message('{"do":3}', at=f'"{at}"')).batch) == 1


def test_unknown_members_anywhere_are_ignored() -> None:
    decoded = read(
        f'{{"firmware":"2.1","seq":3,"gps":[1,2,{{"a":null}}],"readings":[{{"at":"{AT}","quality":{{}},'
        '"values":{"do":3}}],"future":{"x":[]}}'
    )
    assert rows(decoded) == [("do", AT_MS, 3.0, "N")]
    assert decoded.headers == (Header(seq=3),)
    assert not decoded.rejected


@pytest.mark.parametrize("spoilt", [False, True])
def test_an_unknown_parameter_is_kept_with_its_name_for_the_next_stage(spoilt: bool) -> None:
    spoiler = ',"ph":NaN' if spoilt else ',"ph":null'
    decoded = read(message('{"x":1}'), message(f'{{"do":3,"毒":2{spoiler},"DO":4,"":5}}'))
    assert decoded.batch.parameter.tolist() == [-1, CATALOGUE.index["do"], -1, -1, -1]
    assert decoded.unknown == {0: "x", 2: "毒", 3: "DO", 4: ""}
    assert decoded.batch.value.tolist() == [1.0, 3.0, 2.0, 4.0, 5.0]


def test_unknown_names_point_at_the_right_rows_after_nulls_are_left_out() -> None:
    decoded = read(message('{"ph":null,"odd":1,"do":null,"nh3n":2,"odder":3}', status='{"nh3n":"D","ph":"M"}'))
    assert rows(decoded) == [("odd", AT_MS, 1.0, "N"), ("nh3n", AT_MS, 2.0, "D"), ("odder", AT_MS, 3.0, "N")]


@pytest.mark.parametrize("letter", list("NFMSDCTBOLn?1 "))
@pytest.mark.parametrize("spoiler", ["", ',"ph":NaN'])
def test_a_status_letter_is_kept_as_it_was_sent(letter: str, spoiler: str) -> None:
    decoded = read(message(f'{{"do":3{spoiler}}}', status=json.dumps({"do": letter, "absent": "D"})))
    assert rows(decoded) == [("do", AT_MS, 3.0, letter)]


@pytest.mark.parametrize("letter", ["", "错", "é", "\ud800"])
@pytest.mark.parametrize("spoiler", ["", ',"ph":NaN'])
def test_a_status_that_is_no_letter_is_kept_as_a_question(letter: str, spoiler: str) -> None:
    decoded = read(message(f'{{"do":3{spoiler}}}', status=json.dumps({"do": letter})))
    assert rows(decoded) == [("do", AT_MS, 3.0, "?")]


@pytest.mark.parametrize("status", ['{"do":5}', '{"do":null}', '{"do":["N"]}', '{"do":true}'])
def test_a_status_that_is_no_text_costs_its_reading_only(status: str) -> None:
    decoded = read(message('{"ph":7,"do":3}', status=status))
    assert reasons(decoded) == [(Reason.BAD_STATUS, ((AT_MS, "do"),))]
    assert rows(decoded) == [("ph", AT_MS, 7.0, "N")]


@pytest.mark.parametrize("status", ['"M"', "[1]", "5"])
def test_statuses_that_are_no_object_cost_the_sample(status: str) -> None:
    good = f'{{"at":"{AT}","values":{{"nh3n":1}}}}'
    decoded = read(f'{{"readings":[{good},{{"at":"{AT}","values":{{"ph":7,"do":3}},"status":{status}}}]}}')
    assert reasons(decoded) == [
        (Reason.BAD_STATUS, ((AT_MS, "ph"),)),
        (Reason.BAD_STATUS, ((AT_MS, "do"),)),
    ]
    assert rows(decoded) == [("nh3n", AT_MS, 1.0, "N")]


def test_a_count_or_clock_that_makes_no_sense_is_unknown_and_costs_no_reading() -> None:
    decoded = read(message('{"do":3}', extra='"seq":-1,"boot":true,"total":"12","sent_at":"noon",'))
    assert decoded.headers == (Header(),)
    assert rows(decoded) == [("do", AT_MS, 3.0, "N")]
    assert not decoded.rejected


@pytest.mark.parametrize("seq", ["9007199254740993", "1.5", "null", "{}", "9" * 5000])
def test_an_impossible_sequence_number_is_unknown(seq: str) -> None:
    decoded = read(message('{"do":3}', extra=f'"boot":4,"seq":{seq},'))
    assert decoded.headers == (Header(None, 4),)
    assert len(decoded.batch) == 1


def test_empty_readings_and_empty_values_are_answers() -> None:
    decoded = read('{"seq":1,"readings":[]}', message("{}"))
    assert len(decoded.batch) == 0
    assert not decoded.rejected
    assert decoded.headers == (Header(seq=1), Header())


def test_no_messages_are_no_readings() -> None:
    decoded = read()
    assert len(decoded.batch) == 0
    assert decoded.headers == ()


def test_a_name_of_broken_unicode_can_be_written_down() -> None:
    """A lone surrogate is legal JSON and cannot be stored anywhere: names and details must be storable."""
    decoded = read(message('{"\\ud800":1,"do":3,"\\udfff":"x"}'))
    assert len(decoded.batch) == 2
    for text in [*decoded.unknown.values(), *(r.detail for r in decoded.rejected)]:
        text.encode("utf-8")
    for rejected in decoded.rejected:
        for _, key in rejected.readings or ():
            key.encode("utf-8")


def test_columns_have_the_documented_types() -> None:
    for payload in ('{"readings":[]}', message('{"do":3,"ph":null}'), message('{"do":3,"ph":NaN}')):
        batch = read(payload).batch
        assert batch.station.tolist() == [-1] * len(batch)
        assert (batch.parameter.dtype, batch.at.dtype) == (np.int32, np.int64)
        assert (batch.value.dtype, batch.status.dtype) == (np.float64, np.uint8)


# -- nothing raises, nothing disappears --------------------------------------------------------------------------------


def held(payload: bytes) -> int | None:
    """How many readings a message holds, counted the plain way; None where they cannot be told apart."""
    body = json.loads(payload)
    if not isinstance(body, dict) or not isinstance(body.get("readings"), list):
        return None
    return sum(
        sum(value is not None for value in sample["values"].values())
        for sample in body["readings"]
        if isinstance(sample, dict) and isinstance(sample.get("values"), dict)
    )


def assert_closed(payload: bytes, expected: int | None) -> None:
    decoded = read(payload)
    whole = [r for r in decoded.rejected if r.readings is None]
    assert len(decoded.headers) == 1
    assert np.isfinite(decoded.batch.value).all()
    assert set(decoded.unknown) == set(np.flatnonzero(decoded.batch.parameter < 0).tolist())
    if whole:
        assert len(decoded.rejected) == 1
        assert len(decoded.batch) == 0
        return
    assert expected is not None
    named = [reading for r in decoded.rejected for reading in r.readings or ()]
    assert len(decoded.batch) + len(named) == expected
    empty = {r.reason for r in decoded.rejected if not r.readings}
    assert empty <= {Reason.WRONG_SHAPE, Reason.BAD_TIME}  # a sample without readings leaves its trace too


odd_numbers = st.sampled_from([float("nan"), float("inf"), -float("inf"), 10**400, -(10**309), 2**63, 1e308, -0.0])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | odd_numbers | st.text(max_size=5)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
names = st.sampled_from([*KEYS[:6], "", "x", "毒"]) | st.text(string.printable, max_size=3)
times = (
    st.sampled_from([AT, "2026-05-12T10:30:00", "0001-01-01T00:00:00+08:00", "9999-12-31T23:59:59.999-08:00", "noon"])
    | st.datetimes().map(lambda d: d.isoformat() + "Z")
    | anything
)
measured = st.dictionaries(names, st.floats(-100, 100) | st.none() | anything, max_size=5)
flags = st.none() | st.dictionaries(names, st.sampled_from("NDMT") | anything, max_size=3) | anything
odd_samples = st.fixed_dictionaries({"at": times, "values": measured | anything}, optional={"status": flags}) | anything
odd_messages = st.fixed_dictionaries(
    {"readings": st.lists(odd_samples, max_size=6) | anything},
    optional={"seq": anything, "boot": anything, "total": anything, "sent_at": times, "x": anything},
)


@given(odd_messages | anything)
@example({"readings": [{"at": AT, "values": {"do": None}, "status": {"do": 5}}]})
@example({"readings": [{"at": None, "values": {"do": None, "ph": 7.0}}]})
@example({"readings": [{"at": AT, "values": {"ph": 1.0}, "status": [0]}, {"at": AT, "values": {"ph": 1.0}}]})
def test_random_json_never_raises_and_every_reading_is_decoded_or_refused(body: Any) -> None:
    payload = json.dumps(body).encode()
    assert_closed(payload, held(payload))


@given(messages, st.data())
def test_a_good_message_cut_or_overwritten_anywhere_never_raises(sent: Telemetry, data: st.DataObject) -> None:
    payload = bytearray(encode(sent))
    place = data.draw(st.integers(0, len(payload) - 1))
    if data.draw(st.booleans()):
        payload = payload[:place]
    else:
        payload[place] = data.draw(st.integers(0, 255))
    decoded = read(bytes(payload))
    if reasons(decoded) == [(Reason.NOT_JSON, None)]:
        with pytest.raises(ValueError):
            json.loads(bytes(payload))
        return
    # broken letters in the name of a member that nobody reads are nobody's business
    assert_closed(bytes(payload), held(payload.decode("utf-8", "replace").encode()))


@given(st.lists(odd_messages, max_size=4))
def test_messages_of_a_batch_do_not_touch_each_other(bodies: list[Any]) -> None:
    payloads = [json.dumps(body).encode() for body in bodies]
    together = read(*payloads)
    alone = [read(p) for p in payloads]
    assert rows(together) == [row for one in alone for row in rows(one)]
    assert together.headers == tuple(h for one in alone for h in one.headers)
    assert [(r.message, r.reason, r.readings) for r in together.rejected] == [
        (i, r.reason, r.readings) for i, one in enumerate(alone) for r in one.rejected
    ]


@given(st.datetimes().filter(lambda d: d.year > 1))
def test_the_time_read_is_the_time_sent(moment: Any) -> None:
    text = moment.isoformat(timespec="milliseconds") + "+08:00"
    assert rows(read(message('{"do":3}', at=f'"{text}"')))[0][1] == to_ms(datetime.fromisoformat(text))


@given(st.datetimes(timezones=st.just(UTC)))
def test_an_instant_is_the_whole_ms_before_it_also_before_1970(moment: datetime):
    assert to_ms(moment) == (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
