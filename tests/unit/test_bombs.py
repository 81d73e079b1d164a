"""A small file that unfolds to gigabytes ends the process that decodes it, and nothing else."""

import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest
from PIL import Image

from governance.incidents import file_content
from infra.errors import ConfigurationError, Refused
from infra.limited_process import LimitedProcess
from riverchief import recorded, table_files
from riverchief.tables import formats
from sensors.parameters import catalogue
from tests.says import says


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[ModuleType, int], None]]:
    """Gives a module a decoder that may take less memory than in service, so that small bombs suffice."""
    made: list[LimitedProcess] = []

    def limit(module: ModuleType, mib: int) -> None:
        real = module._decoder
        made.append(LimitedProcess(real._module, error=real._error, memory_mib=mib, seconds=30))
        monkeypatch.setattr(module, "_decoder", made[-1])

    yield limit
    for one in made:
        if one._child is not None:
            one._end(one._child)


def photo(size: tuple[int, int], kind: str = "PNG") -> bytes:
    into = io.BytesIO()
    Image.new("RGB", size).save(into, kind)
    return into.getvalue()


def table(folder: Path, name: str) -> Path:
    path, rows = folder / name, 20_000_000
    match path.suffix:
        case ".parquet":
            pl.select(time=pl.repeat(7, rows, dtype=pl.Int64)).write_parquet(path)
        case ".gz":
            zeros = zlib.compressobj(wbits=31)
            path.write_bytes(b"".join([*(zeros.compress(bytes(2**20)) for _ in range(200)), zeros.flush()]))
        case _:
            _workbook(path)
    assert path.stat().st_size < 1_000_000
    return path


def _workbook(path: Path) -> None:
    """One cell in the first row and one in the last, which its reader lays out as a full rectangle."""
    plain = io.BytesIO()
    pl.DataFrame({"time": [1]}).write_excel(plain)
    far = b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData>'
    with zipfile.ZipFile(plain) as parts, zipfile.ZipFile(path, "w") as made:
        for part in parts.namelist():
            made.writestr(part, parts.read(part).replace(b"</sheetData>", far))


def test_a_photo_that_unfolds_ends_its_decoder_and_the_next_photo_is_examined(limited: Callable[..., None]) -> None:
    limited(file_content, 100)
    for work in (file_content.examine, lambda data: file_content.small_copy(data, 100)):
        with pytest.raises(Refused, match=says("attachment.limits", memory=100)):
            work(photo((4990, 4990)))
        assert file_content.examine(photo((60, 40))).width == 60


def test_a_pdf_is_kept_and_never_unfolded(limited: Callable[..., None]) -> None:
    limited(file_content, 100)
    stream = zlib.compress(bytes(100 * 2**20))
    assert file_content.examine(b"%PDF-1.7\n" + stream + b"\n%%EOF\n").media_type == "application/pdf"
    assert file_content._decoder._child is None


@pytest.mark.parametrize(("name", "mib"), [("bomb.parquet", 1000), ("bomb.csv.gz", 1000), ("bomb.xlsx", 2500)])
def test_a_table_that_unfolds_ends_its_decoder_and_the_next_table_is_read(
    limited: Callable[..., None], name: str, mib: int, tmp_path: Path
) -> None:
    limited(table_files, mib)
    bomb = table(tmp_path, name)
    ended_or_refused_memory = "|".join((says("attachment.limits", memory=mib), says("file.no_table", path=bomb)))
    with pytest.raises(ConfigurationError, match=ended_or_refused_memory):
        recorded.read_table(bomb, catalogue())
    if bomb.suffix == ".parquet":  # piece by piece the same file is read whatever it unfolds to
        with formats.reading(bomb) as source:
            assert len(next(iter(source.pieces())).frame) == formats.PIECE_ROWS
    (good := tmp_path / "good.csv").write_text("time,ph\n2026-05-12T10:00:00Z,7\n")
    assert recorded.read_table(good, catalogue()).source == "good.csv"


@pytest.mark.parametrize("hostile", ["import time; time.sleep(60)", "import os; os.kill(os.getpid(), 11)"])
def test_a_decoder_that_hangs_or_crashes_is_an_error_in_words(hostile: str, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "hostile.py").write_text(f"def decode(data):\n    {hostile}\n")
    monkeypatch.syspath_prepend(tmp_path)
    call: Callable[..., object] = LimitedProcess("hostile", error=Refused, memory_mib=500, seconds=1).call
    with pytest.raises(Refused, match=says("attachment.limits", seconds=1)):
        call("decode", b"x")
