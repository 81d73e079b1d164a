"""The registry from the command line: in bulk, one sensor in a minute, labels to stick on."""

import io
import json
from pathlib import Path
from typing import Any

import pypdfium2
import pytest
import zxingcpp
from pypdf import PdfReader
from typer.testing import CliRunner

from infra.errors import ConfigurationError, NotFound, Refused
from infra.texts import say
from riverchief.cli.app import app
from tests.says import says

EXAMPLE = "config/stations.toml"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "site"


def run(data: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["stations", *arguments, "--data", str(data)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def changes(data: Path, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(data, "changes", "--json", *arguments))
    return found


@pytest.mark.parametrize("form", ["toml", "csv"])
def test_what_is_exported_and_imported_elsewhere_is_exported_the_same(data: Path, tmp_path: Path, form: str) -> None:
    assert "24 station" in run(data, "import", EXAMPLE)
    file, again = tmp_path / f"a.{form}", tmp_path / f"b.{form}"
    run(data, "export", str(file))
    other = tmp_path / "other"
    run(other, "import", str(file))
    run(other, "export", str(again))
    assert again.read_text(encoding="utf-8") == file.read_text(encoding="utf-8")
    assert run(data, "export", "--format", form) == file.read_text(encoding="utf-8")
    before = changes(data)[0]["id"]
    run(data, "import", str(file))
    assert changes(data)[0]["id"] == before, "importing what is there changes nothing and is no change"


def test_a_table_with_one_bad_row_changes_nothing_and_names_every_bad_row_by_its_line(
    data: Path, tmp_path: Path
) -> None:
    run(data, "import", EXAMPLE)
    before = run(data, "export")
    file = tmp_path / "more.csv"
    file.write_text(
        "kind,key,station,parameter,since,lon,lat,unit,reach\n"
        "station,good,,,,113.1,23.0,,fengshouchong\n"
        "station,far,,,,116.4,39.9,,\n"
        "deployment,,fsc-1,ph,2026-04-01T00:00:00Z,,,furlong,\n"
        "station,lost,,,,113.1,23.0,,nowhere\n"
    )
    settings = tmp_path / "settings.toml"
    settings.write_text(f"data = '{data}'\n[site]\nbox = [112.0, 21.5, 114.8, 24.0]\n")
    with pytest.raises(ConfigurationError) as caught:
        run(data, "import", str(file), "--settings", str(settings))
    told = str(caught.value).removeprefix(f"{file}: ").splitlines()
    assert [line.split(":")[0] for line in told] == ["line 3", "line 5", "line 4"]
    assert "outside the site's box" in told[0]
    assert "furlong" in told[2]
    assert run(data, "export") == before


def test_a_table_as_chinese_spreadsheets_save_it_is_read(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "stations.csv"
    file.write_bytes("key,zh,lon,lat\nnew-1,新站,113.1,23.0\n".encode("gb18030"))
    run(data, "import", str(file), "--kind", "station")
    assert 'zh = "新站"' in run(data, "export")
    with pytest.raises(ConfigurationError, match=says("file.kind", kind="pump")):
        run(data, "import", str(file), "--kind", "pump")


def test_a_station_and_its_sensor_are_registered_by_two_commands_and_it_is_known_by_whom(data: Path) -> None:
    run(data, "import", EXAMPLE)
    place = ("--lon", "113.12", "--lat", "23.01", "--reach", "fengshouchong", "--water", "creek", "--zh", "新站")
    run(data, "add", "new-1", *place, "--by", "示例李工")
    hung = ("--device", "EX-9", "--model", "S5", "--by", "示例李工")
    run(data, "hang", "new-1", "ph", "do", "--since", "2026-05-12T10:30:00+08:00", *hung)
    run(data, "hang", "new-1", "ph", "--since", "2026-06-12T10:30:00+08:00", "--device", "EX-10", "--by", "示例李工")
    told = changes(data, "new-1")
    assert [(c["what"], c["by"]) for c in told] == [("deployment", "示例李工")] * 3 + [("station", "示例李工")]
    exported = run(data, "export")
    assert 'serial = "EX-9"\nmodel = "S5"' in exported
    assert exported.count('station = "new-1"') == 3
    with pytest.raises(Refused, match=says("command.registered", key="new-1")):
        run(data, "add", "new-1", *place)
    with pytest.raises(Refused, match=says("command.hangs", again="ph", station="new-1")):
        run(data, "hang", "new-1", "ph", "--since", "2026-06-12T02:30:00Z")
    with pytest.raises(ConfigurationError, match=says("maintenance.clashes", why=say("maintenance.hangs_elsewhere"))):
        run(data, "hang", "fsc-1", "ph", "--since", "2026-07-12T02:30:00Z", "--device", "EX-10")


def test_a_change_is_shown_from_what_to_what(data: Path) -> None:
    run(data, "add", "new-1", "--lon", "113.1", "--lat", "23.0", "--by", "示例李工")
    assert "示例李工" in run(data, "changes", "new-1")


# -- labels ------------------------------------------------------------------------------------------------------------


def test_a_logger_is_changed_and_removed_with_who_old_and_new_and_without_its_password(data: Path) -> None:
    run(data, "add", "fsc-1", "--lon", "113.1", "--lat", "23.0")

    def devices(*arguments: str) -> None:
        done = CliRunner().invoke(app, ["hj212", "devices", *arguments, "--by", "示例", "--data", str(data)])
        assert done.exit_code == 0, done.output

    devices("add", "88888880000001", "fsc-1", "--password", "123456")
    devices("add", "88888880000001", "fsc-1", "--password", "654321", "--edition", "2005")
    devices("remove", "88888880000001")
    removed, changed, new = changes(data, "88888880000001")
    assert {one["by"] for one in (removed, changed, new)} == {"示例"}
    assert all(one["at_ms"] for one in (removed, changed, new))
    assert (new["before"], new["after"]["edition"]) == (None, 2017)
    assert (changed["before"]["edition"], changed["after"]["edition"]) == (2017, 2005)
    assert (removed["before"]["station"], removed["after"]) == ("fsc-1", {"removed": True})
    assert "123456" not in str((removed, changed, new))
    assert "654321" not in str((removed, changed, new))


def words(file: Path) -> str:
    """All text of a PDF."""
    return "\n".join(page.get_textpage().get_text_bounded() for page in pypdfium2.PdfDocument(file))


def test_the_labels_name_every_station_in_both_languages_and_their_codes_lead_to_it(data: Path, tmp_path: Path) -> None:
    run(data, "import", EXAMPLE)
    file = tmp_path / "labels.pdf"
    run(data, "qr", "--out", str(file), "--url", "https://river.example/")
    reader = PdfReader(io.BytesIO(file.read_bytes()))
    width, height = (float(side) * 25.4 / 72 for side in reader.pages[0].mediabox[2:])
    assert (width, height) == pytest.approx((210, 297), abs=0.1)
    text = words(file)
    stations = json.loads(run(data, "list", "--json"))
    codes = []
    for page in pypdfium2.PdfDocument(file):
        codes += [code.text for code in zxingcpp.read_barcodes(page.render(scale=3).to_pil())]
    assert len(reader.pages) == 3
    assert sorted(codes) == sorted(f"https://river.example/field/#/s/{s['key']}" for s in stations)
    for station in stations:
        assert station["zh"] in text
        assert station["key"] in text
        assert station["en"] in text


def test_a_name_too_long_for_a_label_is_cut_and_does_not_run_into_the_next_one(data: Path, tmp_path: Path) -> None:
    long = "很长的名字" * 20
    run(data, "add", "long", "--lon", "113.1", "--lat", "23.0", "--zh", long)
    file = tmp_path / "labels.pdf"
    run(data, "qr", "--out", str(file))
    text = words(file)
    assert "很长的名字很长的名字" in text
    assert "…" in text
    assert long not in text


def test_labels_of_single_stations_and_of_none(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "labels.pdf"
    with pytest.raises(ConfigurationError, match=says("command.no_stations")):
        run(data, "qr", "--out", str(file))
    run(data, "import", EXAMPLE)
    assert "2 张" in run(data, "qr", "fsc-1", "mdc-1", "--out", str(file))
    with pytest.raises(NotFound, match=says("command.no_station", station="nowhere")):
        run(data, "qr", "nowhere", "--out", str(file))
    with pytest.raises(ConfigurationError, match=says("file.unwritable", file=tmp_path / "missing/labels.pdf")):
        run(data, "qr", "--out", str(tmp_path / "missing" / "labels.pdf"))
