"""Files that people send or write, broken in every way: used, or refused in one sentence, and nothing else."""

import contextlib
import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from governance.incidents.file_content import examine, small_copy
from governance.incidents.photo_metadata import without_metadata
from governance.notify.contacts import Directory
from infra.errors import WaterError
from riverchief import files, recorded
from riverchief import settings as settings_
from riverchief.tables import classify
from riverchief.tables.classify import Options
from sensors import registry_csv
from sensors.parameters import catalogue
from tests.fuzz.conftest import Trial
from tests.fuzz.mutation import Mutator

CATALOGUE = catalogue()
TABLE = "time,station,pH,do_mg_L,nh3n,note\n2026-05-12T10:00:00Z,s1,7.2,8.0,0.1L,a\n2026-05-12T11:00:00Z,s1,7,,2,\n"


def photo(kind: str) -> bytes:
    into, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.effect_noise((60, 40), 80).convert("RGB").save(into, kind, exif=exif)
    return into.getvalue()


@pytest.mark.fuzz("photos and PDF", 0.1)
def test_whatever_is_uploaded_is_examined_copied_and_rid_of_metadata_or_refused(trial: Trial) -> None:
    pdf = b"%PDF-1.4\n1 0 obj\n<< /Length 9 >>\nstream\n123456789\nendstream\nendobj\ntrailer\n%%EOF\n"
    uploads = Mutator(trial.rng, [photo("JPEG"), photo("PNG"), photo("WEBP"), pdf])
    for _ in trial.inputs():
        trial.last = data = next(uploads)
        try:
            if examine(without_metadata(data)).is_photo:
                assert small_copy(data, 100, 18_000).startswith(b"\xff\xd8")
        except WaterError:
            trial.refused += 1


def tables() -> dict[str, bytes]:
    frame, parquet, sheet = pl.read_csv(TABLE.encode()), io.BytesIO(), io.BytesIO()
    frame.write_parquet(parquet)
    frame.write_excel(sheet)
    packed = gzip.compress(TABLE.encode(), mtime=0)
    return {".csv": TABLE.encode(), ".csv.gz": packed, ".parquet": parquet.getvalue(), ".xlsx": sheet.getvalue()}


def unzipped(trial: Trial, workbook: bytes) -> bytes:
    """A workbook with one of its parts broken."""
    into = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(workbook)) as parts, zipfile.ZipFile(into, "w") as made:
        broken = trial.rng.choice(parts.namelist())
        for name in parts.namelist():
            data = parts.read(name)
            made.writestr(name, next(Mutator(trial.rng, [data])) if name == broken else data)
    return into.getvalue()


@pytest.mark.fuzz("tables: xlsx, Parquet, CSV", 0.05)
def test_whatever_table_is_opened_it_is_read_or_refused(trial: Trial, tmp_path: Path) -> None:
    kinds = tables()
    mutators = {ending: Mutator(trial.rng, [data]) for ending, data in kinds.items()}
    for _ in trial.inputs():
        ending = trial.rng.choice(list(kinds))
        inside = ending == ".xlsx" and trial.rng.random() < 0.7
        trial.last = data = unzipped(trial, kinds[ending]) if inside else next(mutators[ending])
        (path := tmp_path / f"table{ending}").write_bytes(data)
        refused = 0
        for read in (
            lambda path=path: classify.classify(path, io.BytesIO(), Options(), CATALOGUE),
            lambda path=path: (recorded.read_table(path, CATALOGUE), recorded.read_events(path)),
        ):
            try:
                read()  # type: ignore[no-untyped-call]
            except WaterError:
                refused = 1
        trial.refused += refused


def _shifts(path: Path) -> object:
    return files.read_shifts(path, Directory())


def _stations() -> bytes:
    return registry_csv.write(files.read_book(files.shipped("stations.toml"), CATALOGUE)).encode()


TEXTS: dict[str, tuple[Callable[[], bytes], Callable[[Path], object], str]] = {
    "registry": (files.shipped("stations.toml").read_bytes, lambda p: files.read_book(p, CATALOGUE), ".toml"),
    "registry as a table": (_stations, lambda p: files.read_book(p, CATALOGUE), ".csv"),
    "rules": (files.shipped("rules.toml").read_bytes, lambda p: files.read_rules(p, CATALOGUE), ".toml"),
    "mappings": (files.shipped("mappings.toml").read_bytes, lambda p: files.read_mappings(p, CATALOGUE), ".toml"),
    "settings": (files.shipped("settings.sample.toml").read_bytes, settings_.load, ".toml"),
    "processes": (files.shipped("processes.toml").read_bytes, files.read_processes, ".toml"),
    "platforms": (files.shipped("platforms.toml").read_bytes, lambda p: files.read_platforms(p, "a"), ".toml"),
    "contacts": (files.shipped("contacts.sample.toml").read_bytes, files.read_contacts, ".toml"),
    "on-call plan": (files.shipped("oncall.sample.toml").read_bytes, _shifts, ".toml"),
    "assessment": (files.shipped("assessment.toml").read_bytes, files.read_formula, ".toml"),
}


def uncommented(text: bytes) -> bytes:
    """What stands in comments counts as well: samples show settings that way."""
    lines = (line.removeprefix(b"# ") if b" = " in line else line for line in text.splitlines())
    return b"\n".join(lines)


@pytest.mark.fuzz("registry, rules, mappings, settings and other files", 0.1)
def test_whatever_a_file_of_the_site_says_it_is_used_or_refused_in_a_sentence(trial: Trial, tmp_path: Path) -> None:
    mutators = {}
    for name, (seed, _, _) in TEXTS.items():
        text = seed()
        sections = [part for part in text.replace(b"\n[", b"\n\0[").split(b"\0") if part.strip()]
        mutators[name] = Mutator(
            trial.rng, [text, uncommented(text), *sections, *sections, *map(uncommented, sections)]
        )
    for _ in trial.inputs():
        name = trial.rng.choice(list(TEXTS))
        _, read, ending = TEXTS[name]
        data = next(mutators[name])
        trial.last = (name, data)
        (path := tmp_path / f"file{ending}").write_bytes(data)
        with contextlib.suppress(WaterError):
            read(path)
            continue
        trial.refused += 1
