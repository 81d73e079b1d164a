"""The evidence pack: one PDF that a person without this system can read, and that says what the stores say."""

import io
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pypdf
import pypdfium2
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from reportlab.pdfbase import pdfmetrics

import ingest.storage.tables  # noqa: F401 - names its tables in the metadata
from api import evidence
from api.app import create_app
from api.context import Context
from api.evidence import font, labels
from api.evidence.gather import Sources
from governance.audit import trail as audit_trail
from governance.incidents import queries as incident_queries
from governance.incidents import store as incident_store
from governance.incidents.finding import Colour, FindingKind
from governance.incidents.headline import Headline, Row
from governance.incidents.model import Action, Assignment, Order, Source
from governance.organisation.regions import Place
from governance.organisation.roles import Actor, Department, Role
from governance.verification import roots
from infra.database import Database
from infra.errors import NotFound
from infra.texts import Text, say
from infra.times import rfc3339
from ingest.pipeline import Site
from ingest.rules import rule_file
from ingest.storage import maintenance as maintenance_store
from ingest.storage import registry
from ingest.storage.changes import Author
from ingest.storage.photos import Photos
from ingest.storage.sql import SqlReadings
from riverchief import audit_sealing
from sensors.maintenance import Photo
from sensors.parameters import catalogue
from sensors.reading import Message
from sensors.stations import Reach, Registry, Station, Water
from tests.cases import a_finding
from tests.databases import with_tables
from tests.says import shows

pytestmark = pytest.mark.both_databases

T = 1_790_000_000_000
MINUTE = 60_000
CATALOGUE = catalogue()
RULES = """
[[threshold]]
id = "nh3n-high"
parameter = "nh3n"
side = "above"
limit = 2.0
samples = 3
colour = "orange"
"""
STATIONS = (
    Station("qicha", "奇槎涌（示例）", "Qicha (example)", 113.14, 23.02, reach="qichachong", water=Water.CREEK),
    Station("shiwan", "石湾（示例）", "Shiwan (example)", 113.05, 23.0, reach="dongping"),
)
REACHES = (
    Reach("dongping", "东平河", "Dongping", Water.RIVER, ((113.0, 23.0), (113.06, 23.01), (113.12, 23.0))),
    Reach("qichachong", "奇槎涌", "Qicha Creek", Water.CREEK, ((113.14, 23.03), (113.1, 23.0)), "dongping"),
)


class River:
    """A creek in which ammonia rose, with rain, a photo and what people did about it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.database = Database(url)
        with_tables(self.database)
        with self.database.write() as connection:
            registry.save(connection, Registry(STATIONS, (), REACHES, CATALOGUE), Author("周工（示例）", T))
        self.store = SqlReadings(self.database, CATALOGUE)
        site = Site(self.database, self.store, rule_file.read(RULES, CATALOGUE), CATALOGUE)
        dice = random.Random(7)
        for i in range(60):
            at = T + i * 5 * MINUTE
            value = 0.8 + 0.1 * dice.random() + (2.2 if 30 <= i < 45 else 0.0) + (30.0 if i == 20 else 0.0)
            values = {"nh3n": round(value, 3), "rain": 0.4 if i % 10 == 0 else 0.0}
            body = {"seq": i, "readings": [{"at": rfc3339(at), "values": values}]}
            site.process([Message("qicha", json.dumps(body).encode(), at + 1000)], at + 1000)
        self.now_ms = T + 8 * 60 * MINUTE
        with self.database.read() as connection:
            (self.incident,) = incident_queries.list_incidents(connection, limit=5)
        self.photos = folder / "photos"
        picture = io.BytesIO()
        Image.new("RGB", (80, 60), "#4a7").save(picture, "PNG")
        name = Photos(self.photos).add(picture.getvalue())
        taken = Photo(
            "qicha", name, "image/png", 100, self.incident.since_ms + 1000, "李工（示例）", "排口 <b>外溢</b>"
        )
        with self.database.write() as connection:
            maintenance_store.add_photo(connection, taken, Author("李工（示例）", T))

    def pack(self, language: str = "zh", *, number: int = 0, by: str = "陈主任（示例）", role: str = "office") -> bytes:
        sources = Sources(self.database, self.store, CATALOGUE, "/river/test", "示例站点", self.photos)
        number = number or self.incident.id
        return evidence.pack(sources, number, by=by, role=role, now_ms=self.now_ms, language=language)


@pytest.fixture
def river(tmp_path: Path, url: str) -> Iterator[River]:
    made = River(tmp_path, url)
    yield made
    made.database.close()


def words(pdf: bytes) -> str:
    """All text of a PDF, without line breaks, which fall where they fall."""
    pages = [page.get_textpage().get_text_bounded() for page in pypdfium2.PdfDocument(pdf)]
    return "".join(pages).replace("\r", "").replace("\n", "")


def test_the_pack_says_what_happened_by_which_rule_what_was_done_and_how_to_check_it(river: River) -> None:
    with river.database.write() as connection:
        key = audit_sealing.new_key()[0]
        (river.folder / "key.pem").write_bytes(key)
    settings = audit_sealing.Settings(data=river.folder)
    with river.database.write() as connection:
        sealed = roots.seal(connection, audit_sealing.signing_key(settings), origin="/river/test", now_ms=T)
    assert sealed is not None
    text = words(river.pack())
    assert f"第{river.incident.id}号" in text
    assert river.incident.title.zh.replace(" ", "") in text.replace(" ", "")
    assert "奇槎涌（示例） · 氨氮" in text
    assert "nh3n-high" in text
    assert shows(text, "rule.above", limit="2.000 mg/L"), "the rule as a sentence"
    assert "side =" not in text, "not as a file has it"
    assert shows(text, "evidence.rain", mm="2.4")
    assert "陈主任（示例）" in text
    assert "排口 <b>外溢</b>" in text  # as it was typed, not as markup
    with river.database.read() as connection:
        lines = audit_trail.entries_of(connection, "incident", river.incident.id)
        history = incident_store.history(connection, river.incident.id)
    assert lines
    assert all(line.hash in text for line in lines)
    assert all(entry.text.zh.replace(" ", "") in text.replace(" ", "") for entry in history)
    assert "规则（氨氮限值）" in text, "a rule is no person"
    assert sealed.root.root in text
    assert f"audit proof {lines[-1].n}" in text


def fonts(pdf: bytes) -> dict[str, bool]:
    """The fonts of a PDF by name, and whether their letters are in it."""
    found = {}
    for page in pypdf.PdfReader(io.BytesIO(pdf)).pages:
        for one in page["/Resources"]["/Font"].values():
            described = one.get_object().get("/FontDescriptor")
            found[one["/BaseFont"]] = described is not None and "/FontFile2" in described.get_object()
    return found


@pytest.mark.skipif(font.installed() is None, reason="no Chinese font here (fonts-noto-cjk)")
def test_who_has_no_chinese_font_sees_the_letters_all_the_same(river: River) -> None:
    made = river.pack()
    assert any("Embedded" in name and embedded for name, embedded in fonts(made).items())
    assert not any("STSong" in name for name in fonts(made))
    assert not shows(words(made), "evidence.no_font")
    assert len(made) < 200_000, "the letters it needs, not all there are"
    page = pypdfium2.PdfDocument(made)[0].render(scale=2).to_numpy()
    assert (page < 128).any(axis=2).mean() > 0.005, "something stands there"


@pytest.mark.skipif(font.installed() is None, reason="no Chinese font here (fonts-noto-cjk)")
def test_every_document_has_its_own_letters_and_leaves_none_behind(tmp_path: Path) -> None:
    known = pdfmetrics._fonts, pdfmetrics._dynFaceNames
    before = [set(one) for one in known]
    for number, name in enumerate(("很长的名字", "东平河石湾段上游", "奇槎涌环湖")):
        labels.write(tmp_path / f"{number}.pdf", [Station("s", name, "S", 113.1, 23.0)], "http://r", "示例")
        assert name in words((tmp_path / f"{number}.pdf").read_bytes())
    assert [set(one) for one in known] == before


def test_without_a_font_to_embed_the_reader_has_to_have_one_and_the_pack_says_so(
    river: River, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(font, "PLACES", ())
    made = river.pack()
    assert any("STSong" in name and not embedded for name, embedded in fonts(made).items())
    assert say("evidence.no_font").zh[:10] in words(made)
    assert river.incident.title.zh.replace(" ", "") in words(made).replace(" ", "")


@pytest.mark.parametrize("content", [b"", b"no font at all"])
def test_a_font_file_that_is_none_is_as_good_as_no_font(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    file = tmp_path / "NotoSansCJK-Regular.ttc"
    file.write_bytes(content)
    monkeypatch.setattr(font, "PLACES", (file,))
    with font.chinese("字") as name:
        assert name == font.READERS


def test_the_pack_without_a_root_photos_or_rain_says_so(url: str) -> None:
    database = Database(url)
    with_tables(database)
    store = SqlReadings(database, CATALOGUE)
    finding = a_finding(
        T,
        rule="gone",
        kind=FindingKind.NO_DATA,
        cause="x/y",
        station="unknown-gateway",
        parameter=None,
        value=None,
        limit=None,
        colour=Colour.BLUE,
        text=Text("网关<x>&无数据", "gateway <x>& silent"),
    )
    with database.write() as connection:
        (number,) = incident_store.record_findings(connection, [finding], T, source="/s").ids
    sources = Sources(database, store, CATALOGUE, "/s")
    text = words(evidence.pack(sources, number, by="", now_ms=T))
    for said in (
        "网关<x>&无数据",
        "没有雨量数据",
        "无照片",
        "没有可画的监测项",
        "尚未被签名的默克尔根覆盖",
        "没有当时的规则原文",
    ):
        assert said in text
    with pytest.raises(NotFound):
        evidence.pack(sources, 99, by="", now_ms=T)
    database.close()


def test_the_api_hands_out_the_pack_in_both_languages_and_the_trail_knows_of_it(river: River) -> None:
    context = Context(
        river.database, river.store, CATALOGUE, "/river/test", lambda: river.now_ms, photos=river.photos, open=True
    )
    client = TestClient(create_app(context))
    answer = client.get(f"/api/v1/incidents/{river.incident.id}/evidence", params={"lang": "en"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/pdf")
    assert "What was done" in words(answer.content)
    assert client.get("/api/v1/incidents/99/evidence").status_code == 404
    with river.database.read() as connection:
        (entry,) = audit_trail.list_entries(connection, what="export.evidence")
    assert json.loads(entry.body)["bytes"] == len(answer.content)


def test_the_pack_of_an_event_shows_what_was_measured_and_calls_the_score_a_score(river: River) -> None:
    about = Headline(
        Text("奇槎涌（示例）", "Qicha (example)"),
        say("event.sewage"),
        (Row("nh3n", 3.733, 0.705, 22.2), Row("ph", 6.9, 7.3, -4.0)),
        "qicha",
        "creek",
        confidence=0.95,
        score=16.7,
        threshold=7.0,
    )
    finding = a_finding(
        T,
        rule="event-sure",
        kind=FindingKind.EVENT,
        cause="e",
        station="qicha",
        parameter=None,
        value=None,
        headline=about,
    )
    with river.database.write() as connection:
        (number,) = incident_store.record_findings(connection, [finding], T, source="/s").ids
    text = words(river.pack(number=number))
    for said in ("0.705 mg/L", "3.73 mg/L（劣Ⅴ类）", "22.2倍", "7.30", "检测得分16.7，门限7", "规则（水质突变）"):
        assert said in text
    assert "测值" not in text
    assert "7.30 1" not in text, "pH has no unit"
    assert "由陈主任（示例） · 河长办工作人员导出 · 示例站点" in text


def test_the_pack_of_what_people_reported_has_their_place_and_no_rule(river: River) -> None:
    operator = Actor("王受理（示例）", Role.OPERATOR)
    with river.database.write() as connection:
        made = incident_store.file_report(
            connection,
            Order(Action.COMMENT, comment="桥下有垃圾"),
            operator,
            colour=Colour.YELLOW,
            origin=Source.PERSON,
            place=Place(reach="qichachong"),
            now_ms=T,
            source="/s",
        )
        to = Assignment(department=Department.ENVIRONMENT, responsible="张河长（示例）")
        for order in (Order(Action.ACCEPT), Order(Action.DISPATCH, assignment=to)):
            incident_store.apply_action(connection, made.id, order, operator, now_ms=T, source="/s")
    text = words(river.pack(number=made.id))
    assert "奇槎涌 桥下有垃圾" in text
    assert "()" not in text
    assert say("evidence.rule").zh not in text
    assert say("department.environment").zh in text, "to whom it was dispatched"
    assert "张河长（示例）" in text
    by_command = words(river.pack(number=made.id, role="", by="root"))
    assert "由服务器命令行（账号 root）导出 · 示例站点" in by_command


def test_the_pack_has_a_chart_with_the_limit_and_a_map(river: River) -> None:
    page = pypdfium2.PdfDocument(river.pack())[0].render(scale=1).to_pil().convert("RGB")
    colours = {colour for _, colour in page.getcolors(maxcolors=10**6)}
    assert any(r > 180 and g < 80 and b < 80 for r, g, b in colours)  # the limit and the event
    assert any(abs(r - 43) < 20 and abs(g - 111) < 20 and abs(b - 138) < 20 for r, g, b in colours)  # the water
