"""``riverchief assess``: tables as people have them, good and bad."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from infra.errors import ConfigurationError
from infra.times import rfc3339
from riverchief.cli.app import app
from riverchief.tables import assess as assess_
from riverchief.tables.assess import Summary, assess_file, judge, read
from sensors.parameters import catalogue
from sensors.reading import Flag
from tests import rivers
from tests.says import says

CATALOGUE = catalogue()


def table(days: int = 12, seed: int = 1) -> pl.DataFrame:
    """A quiet river, every quarter of an hour, with a spike on the eleventh day."""
    rng = np.random.default_rng(seed)
    n = days * 96
    at = pl.datetime_range(
        pl.datetime(2026, 5, 1), pl.datetime(2026, 5, 1) + timedelta(minutes=15 * (n - 1)), "15m", eager=True
    )
    do = (7 + np.sin(np.arange(n) / 15) + rng.normal(0, 0.05, n)).round(2)
    do[10 * 96] = 15.0
    return pl.DataFrame(
        {
            "time": at.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "DO (mg/L)": do,
            "conductivity_mS_cm": (0.4 + rng.normal(0, 0.002, n)).round(4),
            "plant_pH": (7.3 + rng.normal(0, 0.02, n)).round(2),
            "remark": ["fine"] * n,
        }
    )


def flags(frame: pl.DataFrame, folder: Path, **options: object) -> tuple[pl.DataFrame, Summary]:
    frame.write_csv(folder / "in.csv")
    summary = assess_file(folder / "in.csv", folder / "out.csv", CATALOGUE, **options)  # type: ignore[arg-type]
    told = pl.read_csv(folder / "out.csv", schema_overrides={"parameter": pl.String, "time": pl.String})
    return told, summary


def test_the_doubtful_readings_of_a_table_are_written_with_their_own_column_and_a_reason(tmp_path: Path) -> None:
    told, summary = flags(table(), tmp_path)
    assert told.columns == ["station", "time", "parameter", "kind", "flag", "reason"]
    spike = told.filter(pl.col("time") == "2026-05-11T00:00:00Z")
    assert spike.rows()[0][:5] == ("in", "2026-05-11T00:00:00Z", "DO (mg/L)", "fault", 3)
    assert "spike" in spike["reason"][0]
    assert len(told) < 5
    assert summary.columns == {"DO (mg/L)": "do", "conductivity_mS_cm": "conductivity", "plant_pH": "ph"}
    assert (summary.left_alone, summary.remarks) == ([], ["remark"])
    assert any("no station column" in note for note in summary.notes)


def test_a_contradiction_within_a_row_of_a_table_is_told(tmp_path: Path) -> None:
    frame = table().with_columns(
        pl.lit(28.0).alias("water_temp_degC"),
        pl.when(pl.int_range(pl.len()) == 100).then(17.0).otherwise(pl.col("DO (mg/L)")).alias("DO (mg/L)"),
    )
    told, summary = flags(frame, tmp_path)
    assert summary.by_test["cross_check"] == 1
    (one,) = told.filter(pl.col("reason").str.contains("contradicts another parameter")).rows()
    assert one[1:5] == (frame["time"][100], "DO (mg/L)", "fault", 3)


def test_a_table_in_any_order_and_with_rows_twice_gets_the_same_flags_and_says_so(tmp_path: Path) -> None:
    told, _ = flags(table(), tmp_path)
    mixed = pl.concat([table(), table().head(50)]).sample(fraction=1.0, shuffle=True, seed=1)
    again, summary = flags(mixed, tmp_path)
    assert again.equals(told)
    assert any("sorted" in note for note in summary.notes)
    assert any("50 rows have the time of another" in note for note in summary.notes)


def test_times_without_an_offset_are_utc_unless_told_and_that_is_said(tmp_path: Path) -> None:
    told, _ = flags(table(), tmp_path)
    naive = table().with_columns(pl.col("time").str.strip_suffix("Z").str.replace("T", " "))
    again, summary = flags(naive, tmp_path)
    assert again.equals(told)
    assert any("taken as UTC" in note for note in summary.notes)
    beijing, summary = flags(naive, tmp_path, offset=timedelta(hours=8))
    assert "2026-05-10T16:00:00Z" in beijing["time"].to_list()
    assert not any("taken as UTC" in note for note in summary.notes)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (
            pl.DataFrame({"time": ["2026-05-01T00:00:00Z"], "remark": ["x"]}),
            says("table.no_parameter", found="time, remark"),
        ),
        (pl.DataFrame({"when": ["2026-05-01T00:00:00Z"], "ph": [7.0]}), says("table.no_time", found="when, ph")),
        (
            pl.DataFrame({"time": ["yesterday", "today"], "ph": [7.0, 7.1]}),
            says("table.bad_time", name="time", first="yesterday"),
        ),
        (
            pl.DataFrame({"time": ["2026-05-01T00:00:00Z"] * 2, "ph": ["good", "bad"]}),
            says("table.no_numbers", found="ph 'good'"),
        ),
        (
            pl.DataFrame({"time": ["2026-05-01T00:00:00Z"], "ph": ["7,1"], "do": ["8,2"]}),
            says("table.no_numbers", found="ph '7,1', do '8,2'"),
        ),
        (pl.DataFrame({"time": ["2026-05-01T00:00:00Z"], "ph": [None]}), says("table.no_numbers", found="ph")),
        (pl.DataFrame({"time": [], "ph": []}, schema={"time": pl.String, "ph": pl.Float64}), says("table.no_rows")),
    ],
)
def test_what_cannot_be_assessed_is_refused_with_the_column_and_the_reason(
    frame: pl.DataFrame, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        flags(frame, tmp_path)


def test_a_logger_that_lost_its_clock_and_cells_that_are_no_numbers_are_told(tmp_path: Path) -> None:
    cells = pl.col("DO (mg/L)").cast(pl.String)
    frame = (
        table()
        .with_columns(
            time=pl.when(pl.int_range(pl.len()) < 4)
            .then(pl.lit("1980-01-06T00:0") + pl.int_range(pl.len()).cast(pl.String) + ":00Z")
            .otherwise(pl.col("time")),
        )
        .with_columns(pl.when(pl.int_range(pl.len()) == 9).then(pl.lit("<0.5")).otherwise(cells).alias("DO (mg/L)"))
    )
    _, summary = flags(frame, tmp_path)
    notes = " ".join(summary.notes)
    assert "leap from 1980-01-06T00:03:00Z to 2026-05-" in notes
    assert "DO (mg/L): cells that are no numbers, 1, the first '<0.5'" in notes


@pytest.mark.parametrize("rows", [1, 2, 9])
def test_a_short_table_a_constant_column_and_one_without_values_are_assessed(rows: int, tmp_path: Path) -> None:
    frame = table().head(rows).with_columns(ph=pl.lit(7.0), turbidity=pl.lit(None, pl.Float64))
    told, summary = flags(frame, tmp_path)
    assert told.is_empty()
    assert summary.rows == rows
    assert any("turbidity: " in note for note in summary.notes)


def test_what_is_left_unassessed_is_said_with_its_number_of_values(tmp_path: Path) -> None:
    frame = table()[:192].with_columns(tape=pl.lit(3.5), note_2=pl.lit("x"), ph=pl.lit("seven"), f_ph=pl.lit(1))
    _, summary = flags(frame, tmp_path)
    assert (summary.left_alone, summary.unassessed) == (["tape", "ph"], len(frame))
    assert "left unassessed: 192 values (tape, ph)" in list(assess_.summary_lines(summary))[-1]


def test_a_unit_that_changes_in_the_middle_is_said_once_with_its_instant(tmp_path: Path) -> None:
    frame = table().with_columns(pl.lit(np.linspace(18, 22, 12 * 96)).alias("Temp"))
    later = pl.int_range(pl.len()) >= 500
    changed = frame.with_columns(
        pl.when(later).then(pl.col("Temp") * 1.8 + 32).otherwise(pl.col("Temp")).alias("Temp"),
        pl.when(later).then(pl.col("conductivity_mS_cm") * 1000).otherwise(pl.col("conductivity_mS_cm")).alias("EC"),
    )
    quiet, changes = (
        [note for note in flags(one, tmp_path)[1].notes if "the unit had changed" in note] for one in (frame, changed)
    )
    assert quiet == []
    assert [note.split("：")[0] for note in changes] == ["in Temp", "in EC"]
    assert all(frame["time"][500] in note for note in changes)


def test_local_times_at_the_end_of_summer_time_are_said(tmp_path: Path) -> None:
    at = pl.datetime_range(
        pl.datetime(2025, 10, 25, 22), pl.datetime(2025, 10, 26, 4), "15m", time_zone="UTC", eager=True
    )
    local = at.dt.convert_time_zone("Europe/London").dt.strftime("%d/%m/%Y %H:%M")
    _, summary = flags(pl.DataFrame({"time": local, "ph": np.linspace(7, 7.2, len(local))}), tmp_path)
    notes = " ".join(summary.notes)
    assert "the hour from 2025-10-26T01:00:00Z occurs twice" in notes
    assert "4 rows have the time of another" in notes


def test_tables_as_agencies_give_them_out_are_read(tmp_path: Path) -> None:
    usgs = "# a comment, with commas\n#\n# more\nagency_cd\tsite_no\tdatetime\ttz_cd\t02_00065\t02_00065_cd\n"
    usgs += "5s\t15s\t20d\t6s\t14n\t10s\nUSGS\t034\t2013-06-06 00:00\tEDT\t1.0\tP\n"
    nerrs = "StationCode,isSWMP,DateTimeStamp,F_Record,SpCond,F_SpCond,Notes\n"
    nerrs += '"apacpwq   ","P",01/01/2012 0:00,"",45.97,<0> ,\n"apacpwq   ","P",01/13/2012 0:15,"",46.0,<0> ,\n'
    sonde = "Date (MM/DD/YYYY),Time (HH:mm:ss),ODO mg/L\n6/30/2021,12:00:00,7.1\n6/30/2021,12:15:00,7.2\n"
    found = []
    for name, text in (("usgs.txt", usgs), ("nerrs.csv", nerrs), ("sonde.csv", sonde)):
        (tmp_path / name).write_text(text, encoding="utf-8")
        table = read(tmp_path / name, CATALOGUE, summary := Summary(name))
        found.append((table.names, rfc3339(int(table.at[-1])), round(float(table.values[-1, 0]), 3)))
        assert summary.left_alone == []
    assert found == [
        (["034"], "2013-06-06T00:00:00Z", 0.305),
        (["apacpwq"], "2012-01-13T00:15:00Z", 46000.0),
        (["sonde"], "2021-06-30T12:15:00Z", 7.2),
    ]


@st.composite
def bad_tables(draw: st.DrawFn) -> pl.DataFrame:
    """A table with anything a logger, a spreadsheet or a person may put into it."""
    rows = draw(st.integers(1, 60))

    def column(one: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
        return st.lists(one, min_size=rows, max_size=rows)

    steps = draw(column(st.sampled_from([0, 60, 900, 900, 900, -3600, 86_400, 3 * 365 * 86_400])))
    at = np.clip(1_700_000_000 + np.cumsum(steps), 0, 4_000_000_000)
    frame = {"time": pl.Series(at * 1000).cast(pl.Datetime("ms")).dt.strftime("%Y-%m-%d %H:%M:%S")}
    number = st.one_of(
        st.floats(allow_infinity=True, allow_nan=True, width=32),
        st.sampled_from([0.0, 7.0, 7.1, -9999.0, 1e30, 7000.0]),
    )
    headers = st.sampled_from(["ph", "DO %", "temp_F", "level_ft", "turb", "x", "EC", "RFU"])
    for name in draw(st.lists(headers, min_size=1, max_size=4, unique=True)):
        numbers = column(number).map(lambda cells: [repr(one) for one in cells])
        constant = number.map(lambda one: [repr(one)] * rows)
        cells = draw(st.one_of(numbers, constant, column(st.sampled_from(["7.2", "", "<0.5", "故障", "NaN", "1,5"]))))
        frame[name] = pl.Series(cells, dtype=pl.String)
    return pl.DataFrame(frame)


@pytest.mark.filterwarnings("error")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frame=bad_tables())
def test_any_table_is_assessed_or_refused_in_words_and_nothing_warns(frame: pl.DataFrame, tmp_path: Path) -> None:
    try:
        told, summary = flags(frame, tmp_path)
    except ConfigurationError:
        return
    assert summary.rows == len(frame)
    assert len(told) <= summary.values + summary.rows
    assert all(list(assess_.summary_lines(summary)))


def test_steps_that_change_and_pauses_are_assessed(tmp_path: Path) -> None:
    frame = table(30)
    uneven = pl.concat([frame[:500], frame[500:1500:4], frame[2000:]])
    told, _ = flags(uneven, tmp_path)
    assert len(told.filter(pl.col("kind") == "event")) == 0
    assert len(told) < 12


def test_a_table_in_pieces_of_any_size_gets_the_same_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stations = ("qcc-huanhu-2", "pynd-2", "fjh-2")  # sewage comes by at one, sensors of the others are at fault
    rivers.table("three-days").filter(pl.col("station").is_in(stations)).write_csv(tmp_path / "in.csv")
    held = read(tmp_path / "in.csv", CATALOGUE, Summary("in"))
    whole = judge(held)
    assert int((whole.packed & 15 >= Flag.SUSPECT).sum()) > 20, "there is something to tell"
    for size in (7, 300, 1000):
        monkeypatch.setattr(assess_, "VALUES_PER_PASS", size)
        cut = judge(held)
        assert np.array_equal(cut.packed, whole.packed)
        assert np.array_equal(cut.alarms.at, whole.alarms.at)


def test_a_network_names_stations_of_the_table_and_is_never_guessed(tmp_path: Path) -> None:
    frame = pl.concat([table().with_columns(station=pl.lit(s)) for s in ("upstream", "downstream")])
    told, _ = flags(frame, tmp_path, network=[("upstream", "downstream")])
    assert set(told["station"]) == {"upstream", "downstream"}
    with pytest.raises(
        ConfigurationError,
        match=says("table.network_unknown", missing="above", name="in.csv", known="upstream, downstream"),
    ):
        flags(frame, tmp_path, network=[("above", "downstream")])
    assert assess_.network(["a > b>c"]) == [("a", "b"), ("b", "c")]


def test_the_command_answers_in_json_and_refuses_in_a_sentence(tmp_path: Path) -> None:
    table().write_csv(tmp_path / "in.csv")
    done = CliRunner().invoke(app, ["assess", str(tmp_path / "in.csv"), "--out", str(tmp_path / "o.csv"), "--json"])
    assert done.exit_code == 0
    assert '"suspect"' in done.stdout


def test_stations_whose_day_shifts_alike_are_told_in_one_sentence_and_no_reading_is_flagged(tmp_path: Path) -> None:
    n = 80 * 24
    hour = np.arange(n)
    late = np.where(hour >= 35 * 24, 8, 0)
    whole = []
    for station, wrong in (("示例甲", late), ("示例乙", late), ("示例丙", 0 * late)):
        rng = np.random.default_rng(len(whole))
        sun = np.sin(2 * np.pi * (hour - wrong) / 24)
        whole.append(
            pl.DataFrame(
                {
                    "station": station,
                    "time": [f"{t}Z" for t in np.datetime64("2026-05-01T00:00:00") + hour.astype("timedelta64[h]")],
                    "water_temp_degC": (20 + 1.5 * sun + rng.normal(0, 0.1, n)).round(2),
                    "pH": (7.5 + 0.3 * sun + rng.normal(0, 0.03, n)).round(2),
                }
            )
        )
    told, summary = flags(pl.concat(whole), tmp_path)
    (note,) = [one for one in summary.notes if "summer time" in one]
    assert note.startswith("示例甲, 示例乙：约自2026-06-05")
    assert "8.0 h later" in note
    assert told.filter((pl.col("time") > "2026-06-06") & (pl.col("kind") == "fault")).height == 0


def test_a_lens_that_is_overgrown_is_a_message_with_its_column_and_no_flag(tmp_path: Path) -> None:
    rng, hour = np.random.default_rng(1), np.arange(60 * 24)
    sun = np.sin(2 * np.pi * hour / 24)
    at = pl.datetime_range(
        pl.datetime(2026, 3, 1), pl.datetime(2026, 3, 1) + timedelta(hours=len(hour) - 1), "1h", eager=True
    )
    frame = pl.DataFrame(
        {
            "time": at.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "turbidity_NTU": 8 + sun + 0.3 * rng.normal(0, 1, len(hour)) + 1.2 * np.clip(hour / 24 - 46, 0, 12),
            "pH": 7.6 + 0.2 * sun + 0.02 * rng.normal(0, 1, len(hour)),
            "water_temp_degC": 20 + sun + 0.1 * rng.normal(0, 1, len(hour)),
        }
    )
    told, summary = flags(frame, tmp_path)
    (note,) = [one for one in summary.notes if "overgrown" in one]
    assert "turbidity_NTU" in note
    assert "2026-04-2" in note
    assert "creeps" not in note
    assert "turbidity_NTU" not in told["parameter"].to_list()


def test_a_sensor_that_reads_below_zero_is_one_message_with_the_offset(tmp_path: Path) -> None:
    rng, n = np.random.default_rng(1), 40 * 24
    at = pl.datetime_range(pl.datetime(2026, 3, 1), pl.datetime(2026, 3, 1) + timedelta(hours=n - 1), "1h", eager=True)
    turbidity = 8 + 0.3 * rng.normal(0, 1, n) - 15.0 * (np.arange(n) >= 20 * 24)
    frame = pl.DataFrame({"time": at.dt.strftime("%Y-%m-%dT%H:%M:%SZ"), "turbidity_NTU": turbidity.round(2)})
    told, summary = flags(frame, tmp_path)
    (note,) = [one for one in summary.notes if "below zero" in one]
    assert "turbidity_NTU reads 7.0 NTU below zero in the median since 2026-03-24" in note
    assert told.filter(pl.col("time") > "2026-03-29").height == 0
