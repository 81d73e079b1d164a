"""``riverchief classify``: tables as people have them in, classes out; nothing else in the table is touched."""

import csv
import gzip
import io
import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from infra.errors import ConfigurationError
from riverchief.cli.app import app
from riverchief.tables import classify, formats, workbook
from riverchief.tables.classify import Options
from sensors.parameters import catalogue
from sensors.standards import gb3838
from sensors.standards.gb3838 import REAL_TIME, Oxygen, Water
from tests.says import says

TABLE = """\
station,time,pH,do_mg_L,codmn,nh3n,tp,note
007,2026-05-12T10:00:00Z,7.2,8.0,1.5,0.1,0.02,"a, ""b\"""
007,2026-05-12T11:00:00Z,7.2,4.2,4.0,0.1,0.25,
007,2026-05-12T12:00:00Z,,,,,,silent
007,2026-05-12T13:00:00Z,7.2,8.0,1.5,0.025L,0.0200001,
007,2026-05-12T14:00:00Z,9.2,8.0,1.5,0.1,0.02,acid?
"""
CLASSES = ["I", "IV", "", "II", ">V"]
DECIDING = ["ph,do,codmn,nh3n,tp", "do,tp", "", "tp", "ph"]


def run(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["classify", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def judged(path: Path, **options: object) -> tuple[list[dict[str, str]], classify.Summary]:
    out = io.BytesIO()
    summary = classify.classify(path, out, Options(**options), catalogue())  # type: ignore[arg-type]
    return rows(out.getvalue().decode("utf-8-sig")), summary


@pytest.fixture
def table(tmp_path: Path) -> Path:
    file = tmp_path / "table.csv"
    file.write_text(TABLE, encoding="utf-8")
    return file


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def test_every_row_gets_its_class_and_what_decides_and_keeps_the_rest(table: Path):
    code, text = run(table)
    found = rows(text)
    assert code == 0
    assert [row["class"] for row in found] == CLASSES
    assert [row["deciding"] for row in found] == DECIDING
    assert [{k: v for k, v in row.items() if k not in ("class", "deciding")} for row in found] == rows(TABLE)


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet", ".xlsx"])
@pytest.mark.parametrize("to", [".csv", ".csv.gz", ".parquet", ".xlsx"])
def test_every_kind_of_table_becomes_every_kind(table: Path, tmp_path: Path, ending: str, to: str):
    source, out = tmp_path / f"in{ending}", tmp_path / f"out{to}"
    frame = pl.read_csv(table, schema_overrides={"station": pl.String, "nh3n": pl.String})
    if ending == ".parquet":
        frame.write_parquet(source)
    elif ending == ".xlsx":
        frame.write_excel(source)
    else:
        packed = gzip.compress(TABLE.encode()) if ending.endswith(".gz") else TABLE.encode()
        source.write_bytes(packed)
    assert run(source, "--out", out)[0] == 0
    match to:
        case ".parquet":
            found = pl.read_parquet(out)
        case ".xlsx":
            found = pl.read_excel(out)
        case _:
            found = pl.read_csv(out, schema_overrides={"station": pl.String})
    assert found.columns == [*frame.columns, "class", "deciding"]
    assert found["class"].fill_null("").to_list() == CLASSES
    assert found["deciding"].fill_null("").to_list() == DECIDING
    assert found["station"].to_list() == ["007"] * 5


def test_types_of_a_parquet_table_are_kept(tmp_path: Path):
    source, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    frame = pl.DataFrame(
        {"at": [datetime(2026, 5, 12, tzinfo=UTC)], "DO": [4.2], "n": [3], "class_of_2025": ["II"], "ok": [True]}
    )
    frame.write_parquet(source)
    run(source, "--out", out)
    found = pl.read_parquet(out)
    assert found.select(frame.columns).equals(frame)
    assert found["class"].to_list() == ["IV"]


def test_chinese_headers_with_units_in_gbk_as_offices_export_them(tmp_path: Path):
    header = "站点,溶解氧（mg/L）,氨氮(NH3-N)(mg/L),总磷(以P计)(μg/L),铬(六价)(mg/L),电导率"
    text = f"{header}\r\n石湾,6.5,0.3,100,0.004L,380\r\n"
    found, summary = judged(write(tmp_path / "t.csv", text, "gb18030"))
    assert [(row["class"], row["deciding"], row["站点"]) for row in found] == [("II", "do,nh3n,tp", "石湾")]
    assert summary.judged_columns["铬(六价)(mg/L)"] == "cr6"
    assert summary.not_judged_columns == {"电导率": "conductivity"}


def test_a_spreadsheets_mark_at_the_beginning_is_understood_and_given_back(tmp_path: Path):
    source, out = write(tmp_path / "t.csv", "溶解氧;pH\n6.5;7\n", "utf-8-sig"), tmp_path / "o.csv"
    run(source, "--out", out)
    assert out.read_bytes() == "溶解氧,pH,class,deciding\n6.5,7,II,do\n".encode("utf-8-sig")


@pytest.mark.parametrize("key", ["hg", "cd", "cr6", "as", "pb", "se"])
def test_metals_in_micrograms_on_the_limit_stay_on_it(tmp_path: Path, key: str):
    lines = gb3838.limits(key, Water.RIVER)
    assert lines is not None
    micrograms = [f"{line * 1000:.6g}" for line in lines]
    found, _ = judged(write(tmp_path / "t.csv", f"{key}_ug_L,x\n" + "".join(f"{m},\n" for m in micrograms)))
    plain, _ = judged(write(tmp_path / "p.csv", f"{key},x\n" + "".join(f"{line!r},\n" for line in lines)))
    assert [row["class"] for row in found] == [row["class"] for row in plain]
    assert found[4]["class"] != ">V"


def test_a_detection_limit_is_no_value(tmp_path: Path):
    text = "nh3n_ug_L,x\n25L,\n<25,\n800L,\n"
    assert [row["class"] for row in judged(write(tmp_path / "t.csv", text))[0]] == ["I", "I", ""]


def test_rivers_and_lakes_are_judged_by_their_own_limits(tmp_path: Path):
    file = write(tmp_path / "t.csv", "do,tp,tn\n8,0.1,1.8\n")
    assert [row["class"] for row in rows(run(file, "--water-body", "river")[1])] == ["II"]
    lake = rows(run(file, "--water-body", "lake")[1])
    assert [(row["class"], row["deciding"]) for row in lake] == [("V", "tn")]
    assert [row["class"] for row in rows(run(file, "--water-body", "lake", "--items", "national")[1])] == ["IV"]


def test_options_reach_the_standard(tmp_path: Path):
    file = write(tmp_path / "t.csv", "water_temp,do,tp,codcr\n30,6.9,0.0204,40\n")
    assert judged(file, items=REAL_TIME)[0][0]["class"] == "II"
    assert judged(file, items=("tp",), rounded=True)[0][0]["class"] == "I"
    assert judged(file, items=("do",), oxygen_by=Oxygen.SATURATION)[0][0]["class"] == "I"
    assert judged(file, items=("codcr",))[0][0]["class"] == "V"
    assert classify.items("real-time") == REAL_TIME
    with pytest.raises(ConfigurationError, match=says("table.no_class", strange="colour")):
        classify.items("do,colour")


def test_an_unreadable_cell_is_not_judged_and_is_told_with_its_line(tmp_path: Path):
    file = write(tmp_path / "t.csv", 'note,do,tp\n"two\nlines",8,0.02\n,fault,0.2\n,--,未检出\n')
    found, summary = judged(file)
    assert [(row["class"], row["do"]) for row in found] == [("I", "8"), ("III", "fault"), ("", "--")]
    assert (summary.unreadable, summary.unreadable_first) == (1, [classify.Unreadable(4, "do", "fault")])
    with pytest.raises(
        ConfigurationError, match=says("table.cell", source=tmp_path / "t.csv", line=4, column="do", text="fault")
    ):
        judged(file, strict=True)


def test_the_same_parameter_twice_is_judged_once_and_told(tmp_path: Path):
    found, summary = judged(write(tmp_path / "t.csv", "do,溶解氧\n8,1\n"))
    assert (found[0]["class"], summary.second_columns) == ("I", {"溶解氧": "do"})


def test_equal_headers_go_through_csv(tmp_path: Path):
    out = io.BytesIO()
    classify.classify(write(tmp_path / "t.csv", "x,do,x\n1,8,2\n"), out, Options(), catalogue())
    assert out.getvalue() == b"x,do,x,class,deciding\n1,8,2,I,do\n"
    with pytest.raises(ConfigurationError, match=says("table.columns_twice", path=tmp_path / "o.parquet", name="x")):
        run(tmp_path / "t.csv", "--out", tmp_path / "o.parquet")


def test_a_table_classified_again_is_the_same_table(table: Path):
    run(table, "--out", table)
    once = table.read_bytes()
    run(table, "--out", table)
    assert table.read_bytes() == once


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", says("table.empty")),
        ("station,time\na,b\n", says("table.no_parameter", found="station, time")),
        ("do,tp\n1,2\n1,2,3\n", says("table.long_row", line=3, cells=3, columns=2)),
        ("do,class\n8,II\n", says("table.column_taken", ours="class")),
    ],
)
def test_a_table_that_cannot_be_judged_is_refused_by_name(tmp_path: Path, text: str, said: str):
    with pytest.raises(ConfigurationError, match=said) as told:
        judged(write(tmp_path / "t.csv", text))
    assert "t.csv" in str(told.value)


def test_files_that_are_not_there_or_no_tables_are_refused_in_one_sentence(tmp_path: Path):
    for name, content in (("a.parquet", b"PAR"), ("b.xlsx", b"PK"), ("c.csv.gz", gzip.compress(b"do\n1\n")[:-9])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigurationError, match=name):
            judged(tmp_path / name)
    with pytest.raises(ConfigurationError, match=says("file.missing", path=tmp_path / "none.csv")):
        judged(tmp_path / "none.csv")
    with pytest.raises(ConfigurationError, match=says("table.folder")):
        judged(tmp_path)
    with pytest.raises(ConfigurationError, match=says("table.utf16", path=tmp_path / "u.csv")):
        judged(write(tmp_path / "u.csv", "do\n8\n", "utf-16"))


def workbook_of(path: Path, sheet: str, texts: str = "", part: str = "xl/worksheets/sheet1.xml") -> Path:
    """A workbook with such rows and shared texts, as small as one can be."""
    kind, main = "application/vnd.openxmlformats-officedocument.spreadsheetml", "spreadsheetml/2006/main"
    office, package = (
        "http://schemas.openxmlformats.org/officeDocument/2006",
        "http://schemas.openxmlformats.org/package",
    )
    spreadsheet = f'xmlns="http://schemas.openxmlformats.org/{main}"'
    relation = '<Relationship Id="{0}" Type="' + office + '/relationships/{1}" Target="{2}"/>'
    relations = f'<Relationships xmlns="{package}/2006/relationships">{{}}</Relationships>'
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/2006/content-types">'
        f'<Override PartName="/xl/workbook.xml" ContentType="{kind}.sheet.main+xml"/></Types>',
        "_rels/.rels": relations.format(relation.format("r1", "officeDocument", "xl/workbook.xml")),
        "xl/workbook.xml": f'<workbook {spreadsheet} xmlns:r="{office}/relationships"><sheets>'
        '<sheet name="s" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": relations.format(
            relation.format("r1", "worksheet", part.removeprefix("xl/"))
            + relation.format("r2", "sharedStrings", "sharedStrings.xml")
        ),
        "xl/sharedStrings.xml": f"<sst {spreadsheet}>{texts}</sst>",
        part: f"<worksheet {spreadsheet}><sheetData>{sheet}</sheetData></worksheet>",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, text in parts.items():
            made.writestr(name, text)
    return path


HEAD = '<row r="1"><c r="A1" t="s"><v>0</v></c></row>'
FAR = '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
DO = "<si><t>do</t></si>"
LONG = f"<si><t>{'x' * 32_000}</t></si>"


@pytest.mark.parametrize(
    ("sheet", "texts", "part"),
    [
        (HEAD + FAR, DO, "xl/worksheets/sheet1.xml"),
        (HEAD + FAR, DO, "xl/elsewhere.dat"),
        (HEAD + '<row r="1048576">' + "<c><v>1</v></c>" * 20 + "</row>", DO, "xl/worksheets/sheet1.xml"),
        (HEAD + "<row><c t='s'><v>1</v></c></row>" * 40_000, DO + LONG, "xl/worksheets/sheet1.xml"),
        (HEAD + " " * (1 << 20) * 40, DO, "xl/worksheets/sheet1.xml"),
    ],
    ids=["far-corner", "another-part", "without-places", "one-text-in-every-cell", "blanks"],
)
def test_a_small_workbook_that_unpacks_to_gigabytes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sheet: str, texts: str, part: str
):
    monkeypatch.setattr(workbook, "MAX_UNPACKED_BYTES", 32 << 20)
    file = workbook_of(tmp_path / "t.xlsx", sheet, texts, part)
    assert file.stat().st_size < 300_000
    with pytest.raises(ConfigurationError, match=says("table.workbook", cells=10_500_000)):
        judged(file)


def test_a_workbook_that_lies_about_its_length_or_is_broken_is_refused(tmp_path: Path):
    file = workbook_of(tmp_path / "t.xlsx", HEAD + '<row r="2"><c r="A2"><v>8</v></c></row>', DO)
    assert [row["class"] for row in judged(file)[0]] == ["I"]
    with zipfile.ZipFile(file) as parts:
        length = parts.getinfo("xl/worksheets/sheet1.xml").file_size
    file.write_bytes(file.read_bytes().replace(length.to_bytes(4, "little"), (8).to_bytes(4, "little")))
    assert [row["class"] for row in judged(file)[0]] == ["I"], "it is read to its end"
    with pytest.raises(ConfigurationError, match=says("file.no_table", path=tmp_path / "t.xlsx")):
        judged(workbook_of(tmp_path / "t.xlsx", "<row>", DO))


def test_a_failure_leaves_the_file_that_was_there(tmp_path: Path):
    out = write(tmp_path / "o.csv", "old\n")
    with pytest.raises(ConfigurationError):
        run(write(tmp_path / "t.csv", "do\n8\nx,1\n"), "--out", out)
    assert out.read_text() == "old\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.csv", "t.csv"]
    with pytest.raises(ConfigurationError, match=says("file.unwritable", file=tmp_path / "none/o.csv")):
        run(write(tmp_path / "t.csv", "do\n8\n"), "--out", tmp_path / "none" / "o.csv")
    with pytest.raises(ConfigurationError, match=says("table.ending", path=tmp_path / "o.doc")):
        run(tmp_path / "t.csv", "--out", tmp_path / "o.doc")


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_full_disk_is_named_and_leaves_nothing_behind(tmp_path: Path, ending: str):
    (tmp_path / f".o{ending}.part").symlink_to("/dev/full")
    with pytest.raises(ConfigurationError, match="No space left"):
        run(write(tmp_path / "t.csv", "do\n8\n"), "--out", tmp_path / f"o{ending}")
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_a_parquet_table_of_several_pieces_keeps_its_rows_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(formats, "PIECE_ROWS", 7)
    source, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    frame = pl.DataFrame({"n": range(100), "do": [8.0 if i % 3 else 1.0 for i in range(100)]})
    frame.write_parquet(source)
    run(source, "--out", out)
    found = pl.read_parquet(out)
    assert found.select("n", "do").equals(frame)
    assert found["class"].to_list() == ["I" if i % 3 else ">V" for i in range(100)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", "out.parquet"]


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".xlsx"])
def test_a_table_without_rows_stays_one(tmp_path: Path, ending: str):
    source, out = write(tmp_path / "t.csv", "do,x\n"), tmp_path / f"o{ending}"
    run(source, "--out", out)
    read = {".csv": pl.read_csv, ".parquet": pl.read_parquet, ".xlsx": lambda p: pl.read_excel(p, raise_if_empty=False)}
    assert len(read[ending](out)) == 0
    assert "deciding" in (out.read_text() if ending == ".csv" else "deciding")


def test_records_are_not_torn_between_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(formats, "PIECE_BYTES", 64)
    lines = [f'"line {i}\nof, ""two""",{8 if i % 3 else 1},{i}' for i in range(200)]
    file = write(tmp_path / "t.csv", "note,do,n\r\n" + "\r\n".join(lines) + "\r\n\r\n\r\n")
    whole = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"), newline="")))
    found, summary = judged(file)
    assert summary.rows == 200
    assert [(row["note"], row["n"]) for row in found] == [(row["note"], row["n"]) for row in whole[:200]]
    assert [row["class"] for row in found] == ["I" if i % 3 else ">V" for i in range(200)]


def test_a_line_is_counted_across_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(formats, "PIECE_BYTES", 32)
    file = write(tmp_path / "t.csv", "note,do\n" + '"a\nb",8\n' * 20 + "x,bad\n")
    _, summary = judged(file)
    assert summary.unreadable_first[0].line == 42


def test_an_open_quote_ends_with_its_line_and_not_with_all_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(formats, "PIECE_BYTES", 64)
    monkeypatch.setattr(formats, "RECORD_BYTES", 512)
    file = write(tmp_path / "t.csv", "note,do\n" + "a,8\n" * 40 + '"open,8\n' + "a,8\n" * 400)
    with pytest.raises(ConfigurationError, match=says("table.quote", path=tmp_path / "t.csv", line=42)):
        judged(file)


def test_the_result_for_machines(table: Path, tmp_path: Path):
    _, text = run(table, "--out", tmp_path / "o.csv", "--json")
    told = json.loads(text)
    assert (told["rows"], told["classes"][">V"], told["classes"][""], told["water_body"]) == (5, 1, 1, "river")
    assert told["judged_columns"]["do_mg_L"] == "do"


def test_the_result_for_people_stands_beside_the_table_and_not_in_it(tmp_path: Path):
    file = write(tmp_path / "t.csv", "do,溶解氧\n8,7\nbad,7\n")
    result = CliRunner().invoke(app, ["classify", str(file)])
    assert result.stdout == "do,溶解氧,class,deciding\n8,7,I,do\nbad,7,,\n"
    assert "第 3 行、列 do：'bad' 不是数字" in result.stderr
    assert "line 3, column do: 'bad' is no number" in result.stderr
    assert "2行：I 1, 无法判定 1；依据 do\n2 rows: I 1, none 1; by do\n" in result.stderr
    assert "1 unreadable cells" in result.stderr
