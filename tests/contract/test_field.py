"""The field: what phones sign and send, days late, again and again, in any order; each record takes effect once."""

import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from PIL import Image

from api.app import create_app
from api.context import Context
from api.field import kinds
from governance.incidents import store as incident_store
from governance.organisation.roles import Role
from governance.people import store as people_store
from governance.tables import attachment_incident, field_photo, field_record, incident, incident_entry
from infra.database import Database
from infra.times import DAY_MS, rfc3339
from ingest.storage import registry as registry_store
from ingest.storage.changes import Author
from ingest.storage.sql import SqlReadings
from sensors.network import Level, Region
from sensors.parameters import catalogue
from sensors.stations import Deployment, Device, Reach, Registry, Station, Water
from tests.databases import with_tables
from tests.field_phone import FieldPhone, record

pytestmark = pytest.mark.both_databases

NOW = 1_790_000_000_000
MINUTE, HOUR, DAY = 60_000, 3_600_000, DAY_MS
NORTH, SOUTH = Region("440604001", "北街", "North", Level.STREET), Region("440604002", "南街", "South", Level.STREET)
REACH = Reach("qichachong", "奇槎涌", "Qicha", Water.CREEK, ((113.10, 23.00), (113.14, 23.02)))
QICHA = Station("qicha", "奇槎", "Qicha", 113.1200, 23.0100, reach="qichachong", region=NORTH.code)
FAR = Station("far", "远", "far", 113.2000, 23.0900, region=SOUTH.code)
HUNG = Deployment("qicha", "ph", NOW - 30 * DAY, "1", device="SN-1")
WORKER, OTHER, ENGINEER, OFFICE = "示例网格员", "示例网格员乙", "示例工程师", "示例办公室"


@pytest.fixture
def clock() -> list[int]:
    return [NOW]


@pytest.fixture
def context(tmp_path: Path, url: str, clock: list[int]) -> Iterator[Context]:
    database = Database(url)
    with_tables(database)
    with database.write() as connection:
        known = Registry(
            (QICHA, FAR),
            reaches=(REACH,),
            regions=(NORTH, SOUTH),
            devices=(Device("SN-1"),),
            deployments=(HUNG,),
            catalogue=catalogue(),
        )
        registry_store.save(connection, known)
        registry_store.save_deployments(connection, [HUNG], Author("test", NOW))
    yield Context(
        database,
        SqlReadings(database, catalogue()),
        catalogue(),
        "/test",
        lambda: clock[0],
        token="示例-token",
        photos=tmp_path / "photos",
    )
    database.close()


@pytest.fixture
def app(context: Context) -> Any:
    return create_app(context)


def login(app: Any, context: Context, name: str, role: Role, region: str = "") -> TestClient:
    with context.database.write() as connection:
        people_store.add(connection, name, role, region=region, by="test", now_ms=NOW)
        token = people_store.issue_token(connection, name, by="test", now_ms=NOW)
    return TestClient(app, headers={"Authorization": f"Bearer {token}"})


@pytest.fixture
def worker(app: Any, context: Context) -> FieldPhone:
    return FieldPhone(login(app, context, WORKER, Role.GRID_WORKER, NORTH.code))


@pytest.fixture
def engineer(app: Any, context: Context) -> FieldPhone:
    return FieldPhone(login(app, context, ENGINEER, Role.REVIEWER))


def rows(context: Context, table: sa.Table) -> int:
    with context.database.read() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def picture(colour: int = 90, turned: int = 0) -> bytes:
    data = io.BytesIO()
    exif = Image.Exif()
    if turned:
        exif[0x0112] = turned
        exif[0x010F] = "a phone that tells its maker"
    Image.new("RGB", (64, 48), (colour, 120, 160)).save(data, "JPEG", exif=exif)
    return data.getvalue()


def seen(text: str = "桥下有污水流出", **more: Any) -> dict[str, Any]:
    return record("report", {"text": text, "matter": "", "colour": "yellow", "place": None, "reach": None}, NOW, **more)


def hanging(serial: str = "SN-2", **more: Any) -> dict[str, Any]:
    new = {"parameter": "ph", "serial": serial, "since": rfc3339(NOW - HOUR), "depth_m": 0.5, "place": None}
    return record("hang", new, NOW - HOUR, object={"station": "qicha", "parameter": "ph"}, **more)


def calibrated(**more: Any) -> dict[str, Any]:
    new = {"at": rfc3339(NOW - HOUR), "began_at": rfc3339(NOW - 2 * HOUR), "parameter": "ph", "standard": 6.86}
    new |= {"before": 6.90, "after": 6.86, "lot": "B-1", "note": ""} | more.pop("new", {})
    return record("calibrate", new, NOW - HOUR, object={"station": "qicha", "parameter": "ph"}, **more)


def receipt(answer: Any, *statuses: int) -> dict[str, Any]:
    assert answer.status_code in (statuses or (200, 201)), answer.text
    found: dict[str, Any] = answer.json()
    return found


MARK = kinds.mark(HUNG)


# -- once --------------------------------------------------------------------------------------------------------------


def test_a_record_sent_five_times_takes_effect_once_and_gets_the_same_receipt(
    context: Context, worker: FieldPhone, clock: list[int]
) -> None:
    one = seen()
    first = receipt(worker.send(one), 201)
    assert (first["outcome"], first["missing_photos"]) == ("applied", [])
    for _ in range(4):
        clock[0] += HOUR
        again = one | {"sent_at": rfc3339(clock[0]), "offset_ms": 120, "app": "newer"}
        assert receipt(worker.send(again), 200) == first
    assert (rows(context, incident), rows(context, field_record)) == (1, 1)


def test_two_reports_with_the_same_words_are_two(context: Context, worker: FieldPhone) -> None:
    for _ in range(2):
        receipt(worker.send(seen()), 201)
    assert rows(context, incident) == 2


def test_texts_and_photos_in_any_order_with_lost_answers_lose_and_double_nothing(
    context: Context, worker: FieldPhone
) -> None:
    chance = random.Random(20)
    cycles = 200
    reports = [seen(f"示例{i}", photos=[picture(i % 250)]) for i in range(cycles)]
    steps = [(i, what) for i in range(cycles) for what in ("text", "photo") for _ in range(chance.randint(1, 3))]
    chance.shuffle(steps)
    received: set[int] = set()
    shown: set[int] = set()

    def step(i: int, what: str) -> None:
        if what == "text":
            receipt(worker.send(reports[i]))
            received.add(i)
        else:
            answer = worker.photo(reports[i], picture(i % 250))
            assert answer.status_code == (200 if i in received else 404), answer.text
            shown.update({i} & received)

    for i, what in steps:
        step(i, what)
    for i in set(range(cycles)) - shown:
        step(i, "photo")
    assert (len(received), len(shown)) == (cycles, cycles)
    assert (rows(context, incident), rows(context, field_record)) == (cycles, cycles)
    assert (rows(context, field_photo), rows(context, attachment_incident)) == (cycles, cycles)
    with context.database.read() as connection:
        left = sa.select(sa.func.count()).select_from(field_photo).where(~field_photo.c.used)
        assert connection.execute(left).scalar_one() == 0


def test_a_record_whose_effect_fails_leaves_no_row_and_is_sent_again(
    context: Context, app: Any, worker: FieldPhone, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = incident_store.file_report

    def killed(*given: Any, **named: Any) -> Any:
        real(*given, **named)
        raise RuntimeError("the power went out")

    monkeypatch.setattr(incident_store, "file_report", killed)
    one = seen()
    assert worker.send(one).status_code == 500
    assert (rows(context, field_record), rows(context, incident), rows(context, incident_entry)) == (0, 0, 0)
    monkeypatch.undo()
    receipt(worker.send(one), 201)
    assert (rows(context, field_record), rows(context, incident)) == (1, 1)
