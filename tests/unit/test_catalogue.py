"""What we know: parameters, their codes and units, conversions, deployments, times, and the sentences we say."""

import ast
import functools
import math
import re
from datetime import UTC, date, datetime
from pathlib import Path
from string import Formatter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.requests import day, instant
from infra.errors import ConfigurationError
from infra.texts import Text, at, both, from_both, joined, keys, same, say, template
from infra.times import beijing, beijing_day, from_ms, rfc3339, to_ms
from sensors.parameters import Catalogue, Parameter, catalogue
from sensors.reading import Batch
from sensors.stations import Deployment, Registry, Station, Water, read_station
from sensors.units import IDENTITY, conversion
from tests.says import says

CATALOGUE = catalogue()
ROOT = Path(__file__).parents[2]
START = 1_778_581_800_000

UNITS = {  # design §4.2; the other rows of GB 3838-2002 table 1 are in mg/L there
    "water_temp": "°C",
    "ph": "1",
    "do": "mg/L",
    "conductivity": "µS/cm",
    "turbidity": "NTU",
    "codmn": "mg/L",
    "codcr": "mg/L",
    "bod5": "mg/L",
    "nh3n": "mg/L",
    "tp": "mg/L",
    "tn": "mg/L",
    "orp": "mV",
    "transparency": "cm",
    "chla": "µg/L",
    "algae": "10⁴ cells/L",
    "level": "m",
    "flow": "m³/s",
    "rain": "mm",
    "salinity": "psu",
    "fdom": "QSU",
    "cu": "mg/L",
    "zn": "mg/L",
    "f": "mg/L",
    "se": "mg/L",
    "as": "mg/L",
    "hg": "mg/L",
    "cd": "mg/L",
    "cr6": "mg/L",
    "pb": "mg/L",
    "cn": "mg/L",
    "phenol": "mg/L",
    "oil": "mg/L",
    "las": "mg/L",
    "sulfide": "mg/L",
    "fcoli": "count/L",
}
CODES = {  # domain facts §1.1 and §4.4
    "water_temp": "w01010",
    "ph": "w01001",
    "do": "w01009",
    "codmn": "w01019",
    "codcr": "w01018",
    "bod5": "w01017",
    "nh3n": "w21003",
    "tp": "w21011",
    "tn": "w21001",
    "cu": "w20122",
    "zn": "w20123",
    "f": "w21017",
    "se": "w20128",
    "as": "w20119",
    "hg": "w20111",
    "cd": "w20115",
    "cr6": "w20117",
    "pb": "w20120",
    "cn": "w21016",
    "phenol": "w23002",
    "oil": "w22001",
    "las": "w19002",
    "sulfide": "w21019",
    "fcoli": "w02003",
    "conductivity": "w01014",
    "turbidity": "w01003",
    "chla": "w01016",
    "flow": "w00000",
}
CODES_2005 = {
    "ph": "001",
    "bod5": "010",
    "codcr": "011",
    "nh3n": "060",
    "tn": "065",
    "tp": "101",
    "oil": "080",
    "phenol": "110",
    "flow": "B01",
}
DECIMALS = {  # domain facts §1.2, hourly values
    "water_temp": 1,
    "ph": 2,
    "do": 2,
    "conductivity": 1,
    "turbidity": 1,
    "codmn": 2,
    "nh3n": 3,
    "tp": 3,
    "tn": 2,
}


# -- the catalogue -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "unit"), UNITS.items())
def test_every_parameter_of_the_design_is_there_in_its_canonical_unit(key: str, unit: str) -> None:
    assert CATALOGUE[key].unit == unit


@pytest.mark.parametrize("other", ["temp", "tp_river", "tp_lake", "tn_lake", "pH", ""])
def test_the_names_of_the_standard_that_mean_another_key_are_no_second_parameter(other: str) -> None:
    assert other not in CATALOGUE


@pytest.mark.parametrize(("key", "code"), CODES.items())
def test_codes_of_2017_are_those_of_the_standard(key: str, code: str) -> None:
    assert CATALOGUE[key].code == code
    assert CATALOGUE.by_code[code].key == key


@pytest.mark.parametrize(("key", "code"), CODES_2005.items())
def test_codes_of_2005_are_those_of_the_standard(key: str, code: str) -> None:
    assert CATALOGUE[key].code_2005 == code
    assert CATALOGUE.by_code[code].key == key


def test_no_other_parameter_claims_a_code() -> None:
    assert {p.key for p in CATALOGUE.parameters if p.code} == set(CODES)
    assert {p.key for p in CATALOGUE.parameters if p.code_2005} == set(CODES_2005)
    assert len(CATALOGUE.by_code) == len(CODES) + len(CODES_2005)


@pytest.mark.parametrize(("key", "decimals"), DECIMALS.items())
def test_values_are_shown_with_the_decimals_of_the_national_stations(key: str, decimals: int) -> None:
    assert CATALOGUE[key].decimals == decimals


@pytest.mark.parametrize("p", CATALOGUE.parameters, ids=lambda p: p.key)
def test_a_parameter_makes_sense(p: Parameter) -> None:
    assert p.instrument[0] <= p.plausible[0] < p.plausible[1] <= p.instrument[1]
    assert p.step > 0
    assert p.decimals >= 0
    assert p.zh
    assert p.en
    assert p.zh != p.en
    assert re.fullmatch(r"[a-z][a-z0-9_]*", p.key)


def test_names_are_told_apart() -> None:
    for name in ("key", "zh", "en"):
        assert len({getattr(p, name) for p in CATALOGUE.parameters}) == len(CATALOGUE)


LOWEST_LIMITS = {"hg": 0.00005, "cd": 0.001, "cn": 0.005, "phenol": 0.002, "as": 0.05, "pb": 0.01, "cr6": 0.01}


@pytest.mark.parametrize(("key", "limit"), LOWEST_LIMITS.items())
def test_the_strictest_limit_of_a_poison_can_be_shown(key: str, limit: float) -> None:
    assert float(f"{limit:.{CATALOGUE[key].decimals}f}") == limit


def test_values_are_shown_with_their_unit_and_ph_without() -> None:
    assert CATALOGUE["do"].show(3.6) == "3.60 mg/L"
    assert CATALOGUE["ph"].show(7.184) == "7.18"
    assert CATALOGUE["fcoli"].show(20000.0) == "20000 count/L"


def test_the_columns_are_the_rows() -> None:
    for i, p in enumerate(CATALOGUE.parameters):
        assert CATALOGUE.index[p.key] == i
        assert tuple(CATALOGUE.instrument[i]) == p.instrument
        assert tuple(CATALOGUE.plausible[i]) == p.plausible
        assert CATALOGUE.step[i] == p.step
        assert (bool(CATALOGUE.zero_is_dead[i]), bool(CATALOGUE.flat[i])) == (p.zero_is_dead, p.flat)


def test_an_unknown_entry_in_the_catalogue_is_refused() -> None:
    row = {
        "zh": "x",
        "en": "x",
        "unit": "1",
        "decimals": 0,
        "instrument": [0, 1],
        "step": 1,
        "flat": True,
    }
    assert Catalogue({"x": row})["x"].plausible == (0.0, 1.0)
    with pytest.raises(ConfigurationError, match=says("file.parameters", key="x", unknown="colour")):
        Catalogue({"x": row | {"colour": "red"}})


# -- units -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "unit", "canonical", "expected"),
    [
        (32.0, "°F", "°C", 0.0),
        (212.0, "°F", "°C", 100.0),
        (-40.0, "degF", "°C", -40.0),
        (273.15, "K", "°C", 0.0),
        (0.4125, "mS/cm", "µS/cm", 412.5),
        (1.0, "S/m", "µS/cm", 10_000.0),
        (870.0, "µg/L", "mg/L", 0.87),
        (0.05, "µg/L", "mg/L", 0.00005),
        (870.0, "mg/m³", "mg/L", 0.87),
        (870.0, "mg/m3", "mg/L", 0.87),
        (3.6, "g/m³", "mg/L", 3.6),
        (12.0, "mg/m³", "µg/L", 12.0),
        (0.012, "mg/L", "µg/L", 12.0),
        (0.25, "V", "mV", 250.0),
        (1.2, "m", "cm", 120.0),
        (213.0, "cm", "m", 2.13),
        (2130.0, "mm", "m", 2.13),
        (500.0, "L/s", "m³/s", 0.5),
        (3600.0, "m³/h", "m³/s", 1.0),
        (3600.0, "m3/h", "m³/s", 1.0),
        (2.0, "cm", "mm", 20.0),
        (5.0, "FNU", "NTU", 5.0),
    ],
)
def test_a_value_becomes_the_canonical_unit(value: float, unit: str, canonical: str, expected: float) -> None:
    rule = conversion(unit, canonical)
    assert value * rule.gain + rule.offset == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("unit", "canonical"),
    [
        ("µS/cm", "µS/cm"),  # micro sign
        ("μS/cm", "µS/cm"),  # Greek letter
        ("uS/cm", "µS/cm"),
        ("μg/L", "µg/L"),
        ("ug/L", "µg/L"),
        ("degC", "°C"),
        ("℃", "°C"),
        ("m3/s", "m³/s"),
        ("1", "1"),
    ],
)
def test_letters_that_look_alike_are_alike(unit: str, canonical: str) -> None:
    assert conversion(unit, canonical) == IDENTITY


def test_a_greek_letter_does_not_hide_a_conversion() -> None:
    assert conversion("\u03bcg/L", "mg/L").gain == 0.001
    assert conversion("\u00b5g/L", "mg/L").gain == 0.001


@pytest.mark.parametrize("p", CATALOGUE.parameters, ids=lambda p: p.key)
def test_the_canonical_unit_needs_no_conversion(p: Parameter) -> None:
    assert conversion(p.unit, p.unit) == IDENTITY


@pytest.mark.parametrize(
    ("parameter", "unit", "value", "expected"),
    [
        ("nh3n", "mg/L NH4", 1.2878, 1.0),  # 18.039 / 14.007
        ("nh3n", "mg/L NH4+", 1.2878, 1.0),
        ("nh3n", "µg/L NH3", 1215.9, 1.0),  # 17.031 / 14.007
        ("tp", "mg/L PO4", 3.0662, 1.0),  # 94.970 / 30.974
        ("tp", "mg/L P2O5", 2.2914, 1.0),  # 141.943 / 61.948
        ("tp", "mg/L P", 0.4, 0.4),
        ("nh3n", "mg/L N", 0.4, 0.4),
    ],
)
def test_what_is_counted_as_another_species_holds_less_of_the_element(
    parameter: str, unit: str, value: float, expected: float
) -> None:
    assert value * conversion(unit, "mg/L", parameter).gain == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("parameter", "unit"), [("tp", "mg/L NH4"), ("do", "mg/L N"), ("", "mg/L NH4")])
def test_a_species_means_something_only_for_its_own_parameter(parameter: str, unit: str) -> None:
    with pytest.raises(
        ConfigurationError,
        match=says("registry.no_conversion_of" if parameter else "registry.no_conversion", unit=unit),
    ):
        conversion(unit, "mg/L", parameter)


@pytest.mark.parametrize(("unit", "canonical"), [("mg/L", "NTU"), ("%", "mg/L"), ("", "mg/L"), ("psu", "µS/cm")])
def test_a_conversion_nobody_knows_is_refused_by_name(unit: str, canonical: str) -> None:
    with pytest.raises(ConfigurationError, match=says("registry.no_conversion", unit=unit, canonical=canonical)):
        conversion(unit, canonical)


# -- deployments -------------------------------------------------------------------------------------------------------

SHIWAN = Station("shiwan", "石湾", "Shiwan", 113.06, 23.0)
OTHER = Station("other", "另一", "other", 113.07, 23.0)


def registry(*deployments: Deployment) -> Registry:
    return Registry((SHIWAN, OTHER), deployments, catalogue=CATALOGUE)


def canonical(book: Registry, *rows: tuple[str, str, int, float]) -> list[float]:
    batch = Batch.of(
        [book.index[s] for s, *_ in rows],
        [CATALOGUE.index[p] for _, p, *_ in rows],
        [START + at for *_, at, _ in rows],
        [x for *_, x in rows],
    )
    before = batch.value.copy()
    got = book.canonical(batch).tolist()
    assert batch.value.tolist() == before.tolist()  # raw stays raw
    return got


def test_a_reading_is_converted_by_the_deployment_of_its_own_time() -> None:
    book = registry(
        Deployment("shiwan", "conductivity", START + 1000, "mS/cm"),
        Deployment("shiwan", "conductivity", START + 2000, "µS/cm", gain=1.02, offset=-3.0),
    )
    got = canonical(
        book,
        ("shiwan", "conductivity", 2000, 500.0),  # in any order
        ("shiwan", "conductivity", 999, 412.0),  # before the first: canonical already
        ("shiwan", "conductivity", 1000, 0.412),
        ("shiwan", "conductivity", 1999, 0.5),
        ("shiwan", "conductivity", 9_999_999, 500.0),
        ("other", "conductivity", 1500, 0.5),
        ("shiwan", "do", 1500, 7.5),
    )
    assert got == pytest.approx([507.0, 412.0, 412.0, 500.0, 507.0, 0.5, 7.5])


def test_the_unit_comes_first_and_gain_and_offset_after_it() -> None:
    book = registry(Deployment("shiwan", "water_temp", START, "°F", gain=1.1, offset=0.5))
    assert canonical(book, ("shiwan", "water_temp", 0, 77.0)) == pytest.approx([25.0 * 1.1 + 0.5])


def test_the_order_in_which_deployments_are_written_down_does_not_matter() -> None:
    one = Deployment("shiwan", "chla", START + 1000, "mg/L")
    two = Deployment("shiwan", "chla", START + 2000, "µg/L")
    rows = [("shiwan", "chla", 1500, 0.012), ("shiwan", "chla", 2500, 12.0)]
    assert canonical(registry(one, two), *rows) == canonical(registry(two, one), *rows) == pytest.approx([12.0, 12.0])


def test_the_deployment_of_one_station_leaves_the_other_alone() -> None:
    book = registry(Deployment("other", "nh3n", START, "µg/L"))
    assert canonical(book, ("shiwan", "nh3n", 1, 0.87), ("other", "nh3n", 1, 870.0)) == pytest.approx([0.87, 0.87])


def test_a_deployment_of_an_unknown_station_or_unit_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=says("registry.deployment_lost", station="nowhere")):
        canonical(registry(Deployment("nowhere", "do", START, "mg/L")), ("shiwan", "do", 0, 1.0))
    with pytest.raises(
        ConfigurationError, match=says("registry.no_conversion_of", unit="furlong", canonical="m", parameter="level")
    ):
        canonical(registry(Deployment("shiwan", "level", START, "furlong")), ("shiwan", "level", 0, 1.0))


def test_a_replaced_station_keeps_its_place_and_a_new_one_comes_last() -> None:
    new = Station("new", "新", "new", 113.0, 23.0)
    book = registry().with_stations([Station("shiwan", "石湾二", "Shiwan 2", 113.0, 23.0), new])
    assert [s.key for s in book.stations] == ["shiwan", "other", "new"]
    assert book["shiwan"].en == "Shiwan 2"
    assert "new" in book
    assert "new" not in registry()


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"key": "A"}, says("registry.bad_key", key="A")),
        (
            {"key": "a", "lon": 23.0, "lat": 113.0},
            says("registry.not_on_earth", key="a", lon=23.0, lat=113.0, hint=say("registry.swapped")),
        ),
        (
            {"key": "a", "lon": 113.0, "lat": 23.0, "interval_s": 0},
            says("registry.bad_interval", key="a", interval_s=0),
        ),
        (
            {"key": "a", "lon": 113.0, "lat": 23.0, "interval_s": True},
            says("registry.bad_interval", key="a", interval_s=True),
        ),
        ({"key": "a", "lon": 113.0, "lat": 23.0, "water": "sea"}, says("registry.bad_water", key="a", water="sea")),
        (
            {"key": "a", "lon": 113.0, "lat": 23.0, "parameters": ["tp_lake"]},
            says("registry.bad_parameter", key="a", parameter="tp_lake"),
        ),
        (
            {"key": "a", "lon": 113.0, "lat": 23.0, "parameters": ["do", "do"]},
            says("registry.bad_twice", key="a", parameters="do, do"),
        ),
        ({"key": "a", "lon": math.nan, "lat": 23.0}, says("registry.bad_degrees", key="a", name="lon", value=math.nan)),
        (
            {"key": "a", "lon": 113.0, "lat": 23.0, "colour": "red"},
            says("registry.station_entry", key="a", unknown="colour"),
        ),
    ],
)
def test_a_station_that_makes_no_sense_is_refused_by_name(row: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        read_station(row, CATALOGUE)


def test_a_station_is_read_with_its_defaults() -> None:
    got = read_station({"key": "a", "lon": 113, "lat": 23, "gateway": "gw"}, CATALOGUE)
    assert got == Station("a", "a", "a", 113.0, 23.0, water=Water.RIVER, interval_s=300, gateway="gw")


# -- times -------------------------------------------------------------------------------------------------------------


def test_instants_are_ms_since_the_epoch() -> None:
    assert to_ms(datetime(2026, 5, 12, 10, 30, tzinfo=UTC)) == START
    assert rfc3339(START) == "2026-05-12T10:30:00Z"
    assert rfc3339(START + 7) == "2026-05-12T10:30:00.007Z"
    with pytest.raises(ValueError, match="offset"):
        to_ms(datetime(2026, 5, 12, 10, 30))  # noqa: DTZ001


@pytest.mark.parametrize("text", ["yesterday", "2026-05-12T10:30:00", "\ud800", "9" * 5000])
def test_what_is_no_instant_is_refused_with_its_name(text: str) -> None:
    with pytest.raises(ConfigurationError, match="since"):
        instant("since", text)


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"])
def test_an_instant_at_the_end_of_the_calendar_can_be_shown_in_beijing(text: str) -> None:
    assert beijing(instant("as_of", text))


@pytest.mark.parametrize("text", ["0001-01-01", "9999-12-31"])
def test_a_day_without_a_day_before_or_after_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        day(text)


def test_the_day_of_the_ledger_begins_at_midnight_in_beijing() -> None:
    midnight = to_ms(datetime(2026, 5, 12, 16, 0, tzinfo=UTC))
    assert beijing_day(midnight - 1) == date(2026, 5, 12)
    assert beijing_day(midnight) == date(2026, 5, 13)
    assert beijing(midnight) == "05-13 00:00"


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_an_instant_survives_being_a_datetime(at_ms: int) -> None:
    assert to_ms(from_ms(at_ms)) == at_ms


# -- sentences ---------------------------------------------------------------------------------------------------------


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def test_both_languages_use_the_same_values() -> None:
    texts = {key: template(key) for key in keys()}
    assert [key for key, text in texts.items() if placeholders(text.zh) != placeholders(text.en)] == []
    assert [key for key, text in texts.items() if not (text.zh and text.en)] == []


def test_a_text_inside_a_sentence_speaks_its_own_language() -> None:
    got = say("finding.reporting", station=Text("石湾", "Shiwan"), at="05-12 08:00")
    assert "石湾" in got.zh
    assert "Shiwan" in got.en
    assert "Shiwan" not in got.zh


def test_several_faults_stand_a_line_each_with_their_place_once_and_are_read_back_from_a_store() -> None:
    missing = say("mapping.no_topic")
    told = joined([at("f.toml: line 3", missing), at("f.toml: line 4", same("boom"))])
    assert both(told) == f"f.toml: line 3: {missing.zh}。 / {missing.en}.\nf.toml: line 4: boom"
    assert from_both(both(missing)) == missing


@functools.cache
def spoken() -> list[tuple[str, str, set[str] | None]]:
    """Every say("…") and line("…") of the code, and the headings of tables: file and line, the key with
    * for a filled-in part, the values given, None when they are not told apart."""
    found = []
    for package in (
        "sensors",
        "governance",
        "ingest",
        "api",
        "dashboards",
        "simulator",
        "riverchief",
        "infra",
        "tools",
    ):
        for path in (ROOT / package).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            imported = {
                alias.asname or alias.name
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and node.module in {"infra.texts", "riverchief.terminal"}
                for alias in node.names
            }
            for node in ast.walk(tree):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or not node.args:
                    continue
                where = f"{path.relative_to(ROOT)}:{node.lineno}"
                if node.func.id in imported & {"columns", "tabulate"}:
                    heads = node.args if node.func.id == "columns" else getattr(node.args[0], "elts", ())
                    names = [one.value for one in heads if isinstance(one, ast.Constant) and one.value]
                    found += [(where, name if "." in name else f"column.{name}", set()) for name in names]
                if node.func.id not in imported & {"say", "line"}:
                    continue
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    key = first.value
                elif isinstance(first, ast.JoinedStr):
                    key = "".join(str(p.value) if isinstance(p, ast.Constant) else "*" for p in first.values)
                else:
                    continue
                given_ = None if any(k.arg is None for k in node.keywords) else {str(k.arg) for k in node.keywords}
                found.append((where, key, given_))
    return found


def test_no_sentence_the_code_says_is_missing() -> None:
    assert len(spoken()) > 10
    for where, key, _ in spoken():
        pattern = re.compile(".+".join(map(re.escape, key.split("*"))))
        assert any(pattern.fullmatch(known) for known in keys()), f"{where}: {key}"


def test_every_sentence_is_given_the_values_it_names() -> None:
    for where, key, given_ in spoken():
        if given_ is not None and "*" not in key:
            assert placeholders(template(key).zh) <= given_, f"{where}: {key}"


def test_words_that_the_field_does_not_use_are_in_no_sentence() -> None:
    """Each has a term of the field that stands there instead (docs/glossary.md)."""
    wrong = (
        "已平|未平|把握|树根|返工|受理调度员|藻华|高盐水|短时突起|水质渐变|决定项目|取最差|未被改动|没有此项|可做的事"
    )
    for file in sorted((ROOT / "infra").glob("*texts.toml")):
        lines = file.read_text(encoding="utf-8").splitlines()
        found = [line for line in lines if re.search(f"(?:{wrong})(?!缓)", line)]
        assert found == [], file.name
