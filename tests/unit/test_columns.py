"""Table headers, as public data sets and people write them, find their parameter and unit, or none."""

import pytest

from sensors.parameters import catalogue
from sensors.quality.table_sensors import find_sensors
from sensors.table_columns import find_column, find_columns
from sensors.units import IDENTITY, Linear

# every header of the real records this project was built with
HEADERS = {
    "water_temp_degC": ("water_temp", IDENTITY),
    "conductivity_uS_cm": ("conductivity", IDENTITY),
    "conductivity_mS_cm": ("conductivity", Linear(1000.0)),
    "pH": ("ph", IDENTITY),
    "do_mg_L": ("do", IDENTITY),
    "turbidity_NTU": ("turbidity", IDENTITY),
    "turbidity_FNU": ("turbidity", IDENTITY),
    "level_m": ("level", IDENTITY),
    "stage_cm": ("level", Linear(0.01)),
    "depth_m": ("depth", IDENTITY),
    "salinity_psu": ("salinity", IDENTITY),
    "chlorophyll_ug_L": ("chla", IDENTITY),
    "fdom_QSU": ("fdom", IDENTITY),
    "rain_mm": ("rain", IDENTITY),
    "redox_mV": ("orp", IDENTITY),
}
NOT_OURS = """
station time anomaly event event_type natural_event
anomaly_water_temp_degC anomaly_conductivity_uS_cm anomaly_salinity_psu anomaly_do_mg_L anomaly_depth_m anomaly_pH
anomaly_turbidity_NTU anomaly_turbidity_FNU anomaly_level_m
type_water_temp_degC type_conductivity_uS_cm type_salinity_psu type_do_mg_L type_depth_m type_pH type_turbidity_NTU
type_turbidity_FNU type_level_m
corrected_conductivity_mS_cm corrected_pH corrected_chloride_mg_L corrected_turbidity_NTU corrected_do_percent
chlorine_mg_L toc_ppb pressure_psi plant_pressure_psi plant_pH plant_turbidity_NTU plant_flow plant_chlorine_mg_L
chlorine_dioxide_1_mg_L chlorine_dioxide_2_mg_L flow_1_m3_h flow_2_m3_h
chloride_mg_L ammonium_N_mg_L nitrate_N_mg_L do_percent
"""


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_of_the_real_records_finds_its_parameter_and_unit_in_any_case(header):
    for spelled in (header, header.lower(), header.upper(), f" {header} "):
        found = find_column(spelled, catalogue())
        assert found is not None
        assert (found.name, found.parameter, found.convert) == (spelled, *HEADERS[header])


@pytest.mark.parametrize("header", NOT_OURS.split())
def test_labels_corrections_and_strange_quantities_are_left_alone(header):
    assert find_column(header, catalogue()) is None
    assert find_column(header.upper(), catalogue()) is None


@pytest.mark.parametrize("key", [p.key for p in catalogue().parameters])
def test_a_parameter_is_found_by_its_key_its_chinese_name_and_its_codes(key):
    parameter = catalogue()[key]
    for name in (key, key.upper(), parameter.zh, parameter.en, parameter.code, parameter.code_2005):
        if name is not None:
            found = find_column(name, catalogue())
            assert found is not None
            assert (found.parameter, found.convert) == (key, IDENTITY)


@pytest.mark.parametrize(
    ("header", "parameter", "convert"),
    [
        ("溶解氧(mg/L)", "do", IDENTITY),
        ("溶解氧（mg/L）", "do", IDENTITY),
        ("水温(℃)", "water_temp", IDENTITY),
        ("水温（°C）", "water_temp", IDENTITY),
        ("电导率(μS/cm)", "conductivity", IDENTITY),
        ("电导率(µS/cm)", "conductivity", IDENTITY),
        ("电导率 (mS/cm)", "conductivity", Linear(1000.0)),
        ("叶绿素a(μg/L)", "chla", IDENTITY),
        ("NH3-N [mg/L]", "nh3n", IDENTITY),
        ("w21003_ug_L", "nh3n", Linear(0.001)),
        ("water_temp_degF", "water_temp", Linear(5 / 9, -160 / 9)),
        ("dissolved oxygen (mg/L)", "do", IDENTITY),
        ("flow_m3_h", "flow", Linear(1 / 3600)),
        ("pH(无量纲)", "ph", IDENTITY),
        ("叶绿素α(μg/L)", "chla", IDENTITY),
        ("叶绿素α(mg/L)", "chla", Linear(1000.0)),
        ("高锰酸盐指数（CODₘₙ）（mg/L）", "codmn", IDENTITY),
        ("化学需氧量(COD)", "codcr", IDENTITY),
        ("总磷(以P计)(ug/L)", "tp", Linear(0.001)),
        ("氨氮(以N计)", "nh3n", IDENTITY),
        ("氨氮(以NH4计)", "nh3n", Linear(14.007 / 18.039)),
        ("氨氮（以NH4+计）(μg/L)", "nh3n", Linear(0.001 * (14.007 / 18.039))),
        ("总磷 (as PO4)", "tp", Linear(30.974 / 94.97)),
        ("氟化物(以F-计)", "f", IDENTITY),
        ("铬(六价)(mg/L)", "cr6", IDENTITY),
        ("粪大肠菌群(个/L)", "fcoli", IDENTITY),
        ("粪大肠菌群(MPN/L)", "fcoli", IDENTITY),
        ("溶解氧(ｍｇ/Ｌ)", "do", IDENTITY),
        ("溶解氧 ㎎/L", "do", IDENTITY),
        ("level_mm", "level", Linear(0.001)),
    ],
)
def test_headers_as_people_write_them(header, parameter, convert):
    found = find_column(header, catalogue())
    assert found is not None
    assert (found.parameter, found.convert.offset) == (parameter, convert.offset)
    assert found.convert.gain == pytest.approx(convert.gain, rel=1e-12)


@pytest.mark.parametrize("header", ["", "_", "do_", "_mg_L", "do (%)", "do_m", "ph_mg_L", "level_mg_L", "()", "mg/L"])
def test_a_header_that_is_not_certainly_ours_is_not_ours(header):
    assert find_column(header, catalogue()) is None


@pytest.mark.parametrize(
    "header",
    [
        "氨氮(以PO4计)",
        "总磷(以NH4计)(mg/L)",
        "溶解氧(pH)",
        "氨氮(ug/L)(mg/L)",
        "溶解氧饱和度(%)",
        "总铬",
        "溶解性总磷",
    ],
)
def test_a_chinese_header_of_another_quantity_is_left_alone(header):
    assert find_column(header, catalogue()) is None


AGENCIES = {
    # header of an agency's table: kind, factor and offset to its unit
    "69928_00010": ("water_temp", 1.0, 0.0),
    "X_00011_00000": ("water_temp", 5 / 9, -160 / 9),
    "02_00065": ("level", 0.3048, 0.0),
    "00060": ("flow", 0.028316846592, 0.0),
    "07_63681": ("turbidity", 1.0, 0.0),
    "32295": ("fdom", 1.0, 0.0),
    "32320": ("chla_rfu", 1.0, 0.0),
    "00301": ("do_percent", 1.0, 0.0),
    "Dissolved oxygen, water, unfiltered, milligrams per liter": ("do", 1.0, 0.0),
    "Gage height, feet": ("level", 0.3048, 0.0),
    "Specific conductance, water, unfiltered, microsiemens per centimeter at 25 degrees Celsius": (
        "conductivity", 1.0, 0.0,
    ),
    "Turbidity, water, unfiltered, formazin nephelometric units (FNU)": ("turbidity", 1.0, 0.0),
    "Electrical Conductivity @ 25C (mS/cm)": ("conductivity", 1000.0, 0.0),
    "cond_umho_cm": ("conductivity", 1.0, 0.0),
    "Turbidity (FNRU)": ("turbidity", 1.0, 0.0),
    "turbidity TU": ("turbidity", 1.0, 0.0),
    "fDOM (ppb QSE)": ("fdom", 1.0, 0.0),
    "Chlorophyll RFU": ("chla_rfu", 1.0, 0.0),
    "Dissolved Oxygen (%)": ("do_percent", 1.0, 0.0),
    "ODO % sat": ("do_percent", 1.0, 0.0),
    "do (µmol/L)": ("do", 0.031998, 0.0),
    "do (ml/L)": ("do", 1.429, 0.0),
    "nh3n (mg/L as NH4)": ("nh3n", 14.007 / 18.039, 0.0),
    "nh3n (mg{NH4}/L)": ("nh3n", 14.007 / 18.039, 0.0),
    "Ammonia mg/L": ("nh3n", 1.0, 0.0),
    "Nitrate_N (mg/L NO3)": ("nitrate_n", 14.007 / 62.004, 0.0),
    "Nitrate mg L⁻¹": ("nitrate", 1.0, 0.0),
    "tp (mg/L as PO4)": ("tp", 30.974 / 94.97, 0.0),
    "tn (µmol/L)": ("tn", 0.014007, 0.0),
    "salinity ppt": ("salinity", 1.0, 0.0),
    "Water Course Discharge (ML/d)": ("flow", 1000 / 86_400, 0.0),
    "flow (MGD)": ("flow", 0.0438126364, 0.0),
    "Rainfall (in)": ("rain", 25.4, 0.0),
    "粪大肠菌群(MPN/100mL)": ("fcoli", 10.0, 0.0),
    "浊度(度)": ("turbidity", 1.0, 0.0),
    "电导率（毫西门子/厘米）": ("conductivity", 1000.0, 0.0),
    "流量（立方米/秒）": ("flow", 1.0, 0.0),
    "溶解氧饱和度(%)": ("do_percent", 1.0, 0.0),
}  # fmt: skip
NERRS = (
    "Temp F_Temp SpCond F_SpCond Sal F_Sal DO_Pct F_DO_Pct DO_mgl F_DO_mgl Depth F_Depth pH F_pH Turb F_Turb F_Record"
)


def test_headers_of_agencies_are_assessed_as_their_parameter_in_its_unit():
    for header, wanted in AGENCIES.items():
        (found,) = find_sensors([header], catalogue()).sensors
        assert (found.kind_key, found.convert.offset) == (wanted[0], wanted[2]), header
        assert found.convert.gain == pytest.approx(wanted[1], rel=1e-9), header


def test_a_name_without_a_unit_has_the_one_of_its_agency_and_remarks_are_told_apart_from_sensors():
    found = find_sensors([*NERRS.split(), "Air Temp (°C)", "tape"], catalogue())
    assert [(c.kind_key, c.convert.gain) for c in found.sensors] == [
        ("water_temp", 1.0), ("conductivity", 1000.0), ("salinity", 1.0), ("do_percent", 1.0), ("do", 1.0),
        ("depth", 1.0), ("ph", 1.0), ("turbidity", 1.0), ("generic", 1.0),
    ]  # fmt: skip
    assert found.left == ("tape",)
    assert len(found.remarks) == 9


def test_of_two_columns_with_one_parameter_the_first_counts_and_the_second_is_told():
    mapped = find_columns(["station", "time", "level_m", "pH", "stage_cm", "do_percent", "水位"], catalogue())
    assert [(c.name, c.parameter) for c in mapped.columns] == [("level_m", "level"), ("pH", "ph")]
    assert [(c.name, c.parameter) for c in mapped.doubled] == [("stage_cm", "level"), ("水位", "level")]


def test_a_table_without_parameters_maps_to_nothing():
    assert find_columns(["station", "time"], catalogue()).columns == ()
