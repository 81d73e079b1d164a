r"""Line protocol, held against the published corpus (influxdata/line-protocol, its grammar, test data and tests).

Restated here as our own cases are its rules for: escapes of comma, equals sign and space in measurement, keys and tag
values; backslashes that stand for themselves, runs of them, and the ones at an end that cannot be written; quotes,
backslashes, line breaks and the escapes ``\n \r \t`` in text; the four ways to write a number, their ranges and their
malformed neighbours; all spellings of booleans; white space around and between sections; times, missing ones too; names
that are empty, not UTF-8 or hold control characters; comments; and that what is encoded decodes to the same point.
Not restated, as a line is all we read: how a reader goes on after a broken line.
"""

import contextlib
import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.storage.lineprotocol import FIRST_MS, LAST_MS, encode, encode_reflag, parse, point
from sensors.parameters import catalogue
from sensors.reading import PLAIN, Batch, Flag, QualityTest

CATALOGUE = catalogue()
T0 = 1_790_000_000_000
SUSPECT = int(Flag.SUSPECT) | int(QualityTest.SPIKE) << 4
UNKNOWN = int(Flag.UNKNOWN)


# -- readings --------------------------------------------------------------------------------------------------------


def batch(*readings: tuple[int, str, int, float]) -> Batch:
    station, key, at, value = zip(*readings, strict=True)
    return Batch.of(station, [CATALOGUE.index[k] for k in key], at, value)


def packed(*marks: int) -> np.ndarray:
    return np.array(marks, np.int64)


def test_readings_of_one_instant_are_one_line_and_lines_go_by_station_and_time():
    readings = batch((1, "ph", T0, 7.0), (0, "do", T0 + 1, 3.5), (0, "ph", T0, 7.25), (1, "do", T0, 5.0))
    lines = encode(["shiwan", "qicha-1"], ["dongping", "qichayong"], readings, packed(*[PLAIN] * 4), CATALOGUE)
    assert lines == [
        b"water,reach=dongping,station=shiwan ph=7.25,ph_flag=1i %d" % T0,
        b"water,reach=dongping,station=shiwan do=3.5,do_flag=1i %d" % (T0 + 1),
        b"water,reach=qichayong,station=qicha-1 ph=7.0,ph_flag=1i,do=5.0,do_flag=1i %d" % T0,
    ]


def test_tests_stand_beside_every_flag_but_good():
    readings = batch((0, "ph", T0, 7.0), (0, "do", T0, 5.0), (0, "nh3n", T0, 0.5))
    (line,) = encode(["shiwan"], [""], readings, packed(PLAIN, UNKNOWN, SUSPECT), CATALOGUE)
    assert parse(line).fields == {
        "ph": 7.0, "ph_flag": 1, "do": 5.0, "do_flag": 2, "do_tests": 0, "nh3n": 0.5, "nh3n_flag": 3, "nh3n_tests": 8,
    }  # fmt: skip


def test_a_station_without_a_reach_has_no_such_tag():
    (line,) = encode(["shiwan"], [""], batch((0, "ph", T0, 7.0)), packed(PLAIN), CATALOGUE)
    assert parse(line).tags == {"station": "shiwan"}


def test_a_new_verdict_carries_no_value():
    lines = encode_reflag(["shiwan"], ["dongping"], batch((0, "ph", T0, math.nan)), packed(SUSPECT), CATALOGUE)
    assert lines == [b"water,reach=dongping,station=shiwan ph_flag=3i,ph_tests=8i %d" % T0]


def test_what_is_not_finite_is_left_out_and_its_neighbours_are_not():
    readings = batch((0, "ph", T0, math.nan), (0, "do", T0, 5.0), (0, "ph", T0 + 1, math.inf))
    lines = encode(["shiwan"], [""], readings, packed(PLAIN, PLAIN, PLAIN), CATALOGUE)
    assert lines == [b"water,station=shiwan do=5.0,do_flag=1i %d" % T0]


def test_an_empty_batch_is_no_line():
    assert encode(["shiwan"], [""], Batch.empty(), packed(), CATALOGUE) == []
    assert encode_reflag(["shiwan"], [""], Batch.empty(), packed(), CATALOGUE) == []


def test_a_station_or_reach_with_odd_names_stays_itself():
    station, reach = "站 1,=\\x", "东平河 🌊"
    (line,) = encode([station], [reach], batch((0, "ph", T0, 7.0)), packed(PLAIN), CATALOGUE)
    assert parse(line).tags == {"station": station, "reach": reach}


KEYS = st.sampled_from([p.key for p in CATALOGUE.parameters])
MARKS = st.sampled_from([PLAIN, UNKNOWN, SUSPECT, int(Flag.MISSING) | int(sum(QualityTest)) << 4])
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
READINGS = st.dictionaries(
    st.tuples(st.integers(0, 2), KEYS, st.integers(T0, T0 + 3)), st.tuples(FLOATS, MARKS), min_size=1
)


@given(READINGS)
def test_every_reading_is_found_again_bit_for_bit(readings: dict[tuple[int, str, int], tuple[float, int]]):
    rows = [(s, k, t, value) for (s, k, t), (value, _) in readings.items()]
    lines = encode(["a", "b", "c"], ["", "r", ""], batch(*rows), packed(*(m for _, m in readings.values())), CATALOGUE)
    found = {}
    for line in lines:
        one = parse(line)
        for key in [name for name in one.fields if name in CATALOGUE]:
            mark = one.fields[f"{key}_flag"] | one.fields.get(f"{key}_tests", 0) << 4
            found["abc".index(one.tags["station"]), key, one.at] = (bits(one.fields[key]), mark)
    assert found == {key: (bits(value), mark) for key, (value, mark) in readings.items()}
    assert len(lines) == len({(s, t) for s, _, t in readings})


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


# -- any point: what is written --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measurement", "tags", "fields", "line"),
    [
        ("m", {}, {"f": 1.0}, "m f=1.0 5"),
        ("m,x y=z", {}, {"f": True}, r"m\,x\ y=z f=true 5"),
        ("m", {"b": "1", "a": "2"}, {"f": False}, "m,a=2,b=1 f=false 5"),
        ("m", {"k,e y=": "v,a l="}, {"f": 1}, r"m,k\,e\ y\==v\,a\ l\= f=1i 5"),
        ("m", {"t": ""}, {"f": 1}, "m f=1i 5"),
        ("m", {"t": 'a"b'}, {"f": 1}, 'm,t=a"b f=1i 5'),
        ("m", {"t": r"a\b"}, {"f": 1}, r"m,t=a\b f=1i 5"),
        ("m", {"t": r"a\,b"}, {"f": 1}, r"m,t=a\\,b f=1i 5"),
        ("m", {}, {"f,=  x": 1}, r"m f\,\=\ \ x=1i 5"),
        ("m", {}, {"s": 'say "河"\\'}, r'm s="say \"河\"\\" 5'),
        ("m", {}, {"s": "two\nlines, a=b"}, 'm s="two\nlines, a=b" 5'),
        ("m", {}, {"s": ""}, 'm s="" 5'),
        ("m", {}, {"i": 2**63 - 1, "j": -(2**63)}, "m i=9223372036854775807i,j=-9223372036854775808i 5"),
        ("m", {}, {"f": 1e300, "g": 5e-324, "h": -0.0}, "m f=1e+300,g=5e-324,h=-0.0 5"),
        ("m", {}, {"f": math.nan, "g": 2.0, "h": math.inf}, "m g=2.0 5"),
        ("水", {"标签": "值"}, {"字段": "🌊"}, '水,标签=值 字段="🌊" 5'),
    ],
)
def test_a_point_is_written_as_the_protocol_says(measurement: str, tags: dict, fields: dict, line: str):
    assert point(measurement, tags, fields, 5) == line.encode()


@pytest.mark.parametrize("name", ["", "x\\", "a\nb", "\x00", "\x7f", "tab\t"])
def test_a_name_that_cannot_be_written_is_refused(name: str):
    for measurement, tags, fields in ((name, {}, {"f": 1}), ("m", {name: "v"}, {"f": 1}), ("m", {}, {name: 1})):
        with pytest.raises(ValueError, match="cannot be a name"):
            point(measurement, tags, fields, 0)


@pytest.mark.parametrize(("value", "written"), [("x\\", "x_"), ("a\nb", "a_b"), ("\x00", "_"), ("\\\\", "\\_")])
def test_a_tag_may_be_anybodys_text_and_what_cannot_be_written_of_it_is_an_underscore(value: str, written: str):
    assert parse(point("m", {"t": value}, {"f": 1}, 0)).tags == {"t": written}


def test_a_measurement_that_would_be_a_comment_is_refused():
    with pytest.raises(ValueError, match="#"):
        point("#m", {}, {"f": 1}, 0)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
def test_an_integer_beyond_64_bits_is_refused(value: int):
    with pytest.raises(ValueError, match="64-bit"):
        point("m", {}, {"f": value}, 0)


@pytest.mark.parametrize("fields", [{}, {"f": math.nan}, {"f": -math.inf, "g": math.inf}])
def test_a_point_without_a_finite_field_is_refused(fields: dict[str, float]):
    with pytest.raises(ValueError, match="at least one field"):
        point("m", {}, fields, 0)


def test_a_time_the_server_cannot_hold_is_refused():
    for at_ms in (FIRST_MS - 1, LAST_MS + 1):
        with pytest.raises(ValueError, match="1677"):
            point("m", {}, {"f": 1}, at_ms)
    assert parse(point("m", {}, {"f": 1}, FIRST_MS)).at == FIRST_MS


# -- any point: what is read -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "measurement", "tags", "fields", "at"),
    [
        ("m f=1", "m", {}, {"f": 1.0}, None),
        (" m f=1  7 ", "m", {}, {"f": 1.0}, 7),
        ("m  f=1   -7", "m", {}, {"f": 1.0}, -7),
        ("m f=1\n", "m", {}, {"f": 1.0}, None),
        ("m f=1 7\r\n", "m", {}, {"f": 1.0}, 7),
        ("9 f=-7 ", "9", {}, {"f": -7.0}, None),
        (r"m\,1,equals\==e\,x,two=val2 f\=x=1", "m,1", {"equals=": "e,x", "two": "val2"}, {"f=x": 1.0}, None),
        (r"m\ a,t=v f=1", "m a", {"t": "v"}, {"f": 1.0}, None),
        (r"m,s=\t\r\n\v x=1", "m", {"s": r"\t\r\n\v"}, {"x": 1.0}, None),
        (r"m,s=a\\\\b x=1", "m", {"s": r"a\\\\b"}, {"x": 1.0}, None),
        (r"m\=x f=1", r"m\=x", {}, {"f": 1.0}, None),
        ("m=x f=1", "m=x", {}, {"f": 1.0}, None),
        ('m s="\\t\\r\\n\\v"', "m", {}, {"s": "\t\r\n\\v"}, None),
        ('m s="a\\"b\\\\",t="x y,z=1"', "m", {}, {"s": 'a"b\\', "t": "x y,z=1"}, None),
        ('m s="line\nbreak" 3', "m", {}, {"s": "line\nbreak"}, 3),
        ("m a=1.,b=.5,c=-.5", "m", {}, {"a": 1.0, "b": 0.5, "c": -0.5}, None),
        ("m d=1e3,e=1E-3,f=1.5e+2", "m", {}, {"d": 1e3, "e": 1e-3, "f": 150.0}, None),
        ("m a=-0i,b=9223372036854775807i", "m", {}, {"a": 0, "b": 2**63 - 1}, None),
        ("m c=18446744073709551615u", "m", {}, {"c": 2**64 - 1}, None),
        ("m a=t,b=T,c=true,d=True,e=TRUE", "m", {}, dict.fromkeys("abcde", True), None),
        ("m a=f,b=F,c=false,d=False,e=FALSE", "m", {}, dict.fromkeys("abcde", False), None),
        ('m,é=ü f="ñ"', "m", {"é": "ü"}, {"f": "ñ"}, None),
    ],
)  # fmt: skip
def test_a_line_is_read_as_the_grammar_says(line: str, measurement: str, tags: dict, fields: dict, at: int | None):
    found = parse(line.encode())
    assert (found.measurement, dict(found.tags), dict(found.fields), found.at) == (measurement, tags, fields, at)
    assert [type(value) for value in found.fields.values()] == [type(value) for value in fields.values()]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "measurement"),
        ("# comment", "measurement"),
        ("#m f=1", "measurement"),
        ("m", "space before the fields"),
        ("m,", "tag key"),
        ("m, f=1", "tag key"),
        ("m,t f=1", "after tag key"),
        ("m,t= f=1", "value of tag"),
        ("m,=v f=1", "tag key"),
        ("m,t=v,t=w f=1", "twice"),
        ("m,t=a=b f=1", "space before the fields"),
        ("m ", "field key"),
        ("m f", "after field key"),
        ("m f=", "value of field"),
        ("m =1", "field key"),
        ("m f=1,", "field key"),
        ("m f=1, g=2", "field key"),
        ("m f=1 x", "time is missing"),
        ("m f=1 7 8", "follows"),
        ("m f=1 7i", "follows"),
        ("m f=Happy", "neither"),
        ("m f=truE", "neither"),
        ("m f=1a", "neither"),
        ("m f=+1", "neither"),
        ("m f=--1", "neither"),
        ("m f=.", "neither"),
        ("m f=1e", "neither"),
        ("m f=e5", "neither"),
        ("m f=0x10", "neither"),
        ("m f=NaN", "neither"),
        ("m f=Inf", "neither"),
        ("m f=1.5i", "neither"),
        ("m f=-1u", "neither"),
        ("m f=i", "neither"),
        ("m f=1e9999999999999", "too large"),
        ("m f=9223372036854775808i", "64 bits"),
        ("m f=18446744073709551616u", "64 bits"),
        ("m f=1 9223372036854775808", "64-bit"),
        ('m f="open', "neither"),
        ('m f="a"b', "follows"),
        ("m\x01 f=1", "space before the fields"),
        ("m,t\x03=v f=1", "after tag key"),
        ("m,t=v\x02 f=1", "space before the fields"),
        ("m \x01=1", "field key"),
        ("m f\x7f=1", "after field key"),
        ("m,t=v\\ f=1", "space before the fields"),
    ],
)
def test_a_broken_line_says_what_is_wrong(line: str, why: str):
    with pytest.raises(ValueError, match=why):
        parse(line.encode())


def test_a_line_that_is_not_utf_8_says_where():
    with pytest.raises(ValueError, match="byte 2"):
        parse(b"m \xff=1")


def test_a_number_of_a_million_digits_is_refused_at_once():
    with pytest.raises(ValueError, match="64 bits"):
        parse(b"m f=" + b"9" * 1_000_000 + b"i")
    with pytest.raises(ValueError, match="64-bit"):
        parse(b"m f=1 " + b"9" * 1_000_000)


NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8).filter(
    lambda name: not name.endswith("\\") and not name.startswith("#")
)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
VALUES = st.one_of(FLOATS, st.integers(-(2**63), 2**63 - 1), st.booleans(), TEXTS)


@given(
    NAMES,
    st.dictionaries(NAMES, NAMES, max_size=3),
    st.dictionaries(NAMES, VALUES, min_size=1, max_size=4),
    st.integers(FIRST_MS, LAST_MS),
)
def test_whatever_is_written_is_read_back_the_same(measurement: str, tags: dict, fields: dict, at_ms: int):
    found = parse(point(measurement, tags, fields, at_ms))
    assert (found.measurement, dict(found.tags), dict(found.fields), found.at) == (measurement, tags, fields, at_ms)
    for key, value in fields.items():
        assert type(found.fields[key]) is type(value)
        if isinstance(value, float):
            assert bits(found.fields[key]) == bits(value)


@given(st.binary(max_size=60))
def test_no_bytes_make_the_reader_fail_otherwise_than_by_saying_so(line: bytes):
    with contextlib.suppress(ValueError):
        parse(line)
