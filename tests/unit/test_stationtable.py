"""The registry as a table: the same as the file, and every bad row named by its line."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import ConfigurationError
from sensors import registry_csv, registry_toml
from sensors.maintenance import Check, MaintenanceRecords, Visit
from sensors.network import Level, Outfall, OutfallKind, Region, Travel
from sensors.parameters import catalogue
from sensors.registry_rows import COLUMNS, Book
from sensors.standards.gb3838 import WaterClass
from sensors.standards.hj915 import CheckKind
from sensors.stations import Deployment, Device, Reach, Registry, Station, Water

KNOWN = catalogue()
SHIPPED = Path(__file__).parents[2] / "config" / "stations.toml"


def read(text: str, **other: object) -> Book:
    return registry_csv.read_book(text, KNOWN, **other)


def faults(text: str, **other: object) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read(text, **other)
    return str(caught.value).splitlines()


def test_a_plain_table_of_stations_is_read_as_a_spreadsheet_saves_it():
    text = "Key , zh,lon,lat,parameters,\r\nnew-1,新站,113.1,23.0,ph do ,\r\n\r\nnew-2,,113.2,23.1,,\r\n"
    first, second = read(text, kind="station").registry.stations
    assert (first.key, first.zh, first.lon, first.parameters) == ("new-1", "新站", 113.1, ("ph", "do"))
    assert (second.zh, second.parameters) == ("new-2", ())


def test_every_bad_row_is_told_with_its_line_also_behind_a_note_of_two_lines():
    text = (
        "kind,key,lon,lat,note,interval_s\n"
        'station,a,113.1,23.0,"two\nlines",300\n'
        "station,b,113.1,north,,300\n"
        "station,C,113.1,23.0,,300\n"
        "pump,d,113.1,23.0,,\n"
        "station,e,113.1,23.0,,300.5\n"
        "station,f,113.1,23.0,,300,more\n"
    )
    assert [told.split(":")[0] for told in faults(text)] == ["line 6", "line 8", "line 4", "line 5", "line 7"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("key,lon,lat\na,113,23\n", "no column kind"),
        ("", "no column kind"),
        ("kind,key,key\nstation,a,b\n", "column key is there twice"),
        ("kind,key,lon,lat,colour\nstation,a,113,23,blue\n", "unknown entry 'colour'"),
        ("kind,station,parameter,type,at,standard,reading,void\ncheck,a,do,five,x,8,8,maybe\n", "void 'maybe'"),
        ('kind,key,line\nreach,r,"113.1 23.0; 113.2"\n', "line: point 2"),
    ],
)
def test_a_mistake_is_named(text, fault):
    assert fault in "\n".join(faults(text))


@pytest.mark.parametrize("form", [registry_toml, registry_csv])
def test_the_shipped_example_comes_back_the_same(form):
    book = registry_toml.read_book(SHIPPED.read_text(encoding="utf-8"), KNOWN)
    assert form.read_book(form.write(book), KNOWN) == book


def test_the_columns_of_the_table_are_told_in_the_manual():
    manual = Path("docs/operations/registry.md").read_text(encoding="utf-8")
    for kind, names in COLUMNS.items():
        assert f"`{kind}`" in manual
        for name in names:
            assert f"`{name}`" in manual, name


# -- whatever a registry holds comes back ------------------------------------------------------------------------------

PROSE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\r"), max_size=12)
NAMES = PROSE.filter(bool)
LON, LAT = st.floats(112.0, 114.0), st.floats(22.0, 24.0)
FINITE = st.floats(-1e6, 1e6)
MS = st.integers(946_684_800_000, 4_000_000_000_000)


@st.composite
def books(draw: st.DrawFn) -> Book:
    regions = [
        Region("d", draw(NAMES), draw(NAMES), Level.DISTRICT, None, draw(PROSE)),
        Region("g", draw(NAMES), draw(NAMES), Level.GRID, "d"),
    ]
    reaches = [
        Reach(
            key=key,
            zh=draw(NAMES),
            en=draw(NAMES),
            water=draw(st.sampled_from(Water)),
            line=tuple(draw(st.lists(st.tuples(LON, LAT), min_size=2, max_size=4))),
            downstream=below,
            note=draw(PROSE),
            target=draw(st.none() | st.sampled_from(list(WaterClass)[:5])),
        )
        for key, below in (("upper", "lower"), ("lower", None))
    ]
    stations = [
        Station(
            key=key,
            zh=draw(NAMES),
            en=draw(NAMES),
            lon=draw(LON),
            lat=draw(LAT),
            reach=draw(st.sampled_from(["", "upper", "lower"])),
            water=draw(st.sampled_from(Water)),
            region=draw(st.sampled_from(["", "d", "g"])),
            interval_s=draw(st.integers(1, 86_400)),
            gateway=draw(st.none() | st.just("gw")),
            parameters=tuple(draw(st.lists(st.sampled_from(sorted(KNOWN.index)), unique=True, max_size=4))),
            note=draw(PROSE),
        )
        for key in ("a", "b")
    ]
    since = sorted(draw(st.lists(MS, min_size=2, max_size=2, unique=True)))
    deployments = [
        Deployment(
            station="a",
            parameter="turbidity",
            since_ms=at_ms,
            unit=draw(st.sampled_from(["NTU", "FNU"])),
            gain=draw(FINITE.filter(bool)),
            offset=draw(FINITE),
            until_ms=until_ms,
            device=draw(st.sampled_from(["", "SN 1"])),
            depth_m=draw(st.none() | st.floats(0, 100)),
            cycle_s=draw(st.none() | st.integers(1, 86_400)),
            method=draw(st.sampled_from(["", "NTU", "FNU"])),
        )
        for at_ms, until_ms in zip(since, (draw(st.none() | st.just(since[1])), None), strict=True)
    ]
    checks = [
        Check(
            station="b",
            parameter="nh3n",
            kind=draw(st.sampled_from([CheckKind.ZERO, CheckKind.SPAN])),
            at_ms=draw(MS),
            standard=draw(st.floats(0.1, 10)),
            reading=draw(FINITE),
            after=draw(st.none() | FINITE),
            limit=draw(st.none() | st.floats(0.1, 10)),
            device=draw(st.sampled_from(["", "SN 1"])),
            lot=draw(PROSE),
            by=draw(PROSE),
            note=draw(PROSE),
            void=draw(st.booleans()),
        )
    ]
    visits = [
        Visit("a", since[0], since[1], ("ph",), draw(PROSE), draw(PROSE)),
        Visit("a", since[1], None, (), draw(PROSE)),
    ]
    registry = Registry(
        tuple(stations),
        tuple(deployments),
        tuple(reaches),
        KNOWN,
        devices=(Device("SN 1", draw(PROSE), draw(PROSE), draw(PROSE)),),
        outfalls=(Outfall("o", draw(NAMES), draw(NAMES), "upper", 0.0, draw(st.sampled_from(OutfallKind))),),
        travels=(Travel("upper", "lower", 60, draw(st.integers(60, 90)), 90, draw(PROSE)),),
        regions=tuple(regions),
    )
    return Book(registry, MaintenanceRecords(tuple(checks), tuple(visits)))


@settings(max_examples=75, deadline=None)
@given(books())
def test_what_is_exported_as_a_file_or_a_table_is_imported_as_it_was(book):
    assert registry_toml.read_book(registry_toml.write(book), KNOWN) == book
    assert registry_csv.read_book(registry_csv.write(book), KNOWN) == book
