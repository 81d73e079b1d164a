"""Photos of handled problems: private unless a person releases them, taken back at any time, telling nothing else."""

import io
import re
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from PIL import Image

from api.access import COOKIE
from api.context import Context
from governance.audit import trail
from governance.organisation.roles import Role
from governance.reports import public_photos
from governance.tables import public_photo
from tests.contract import test_channels
from tests.contract.test_channels import MINUTE, NORTH, SOUTH, login, rows, tell
from tests.says import shows

pytestmark = pytest.mark.both_databases
SIGN = "/r/qichachong"
clock, context, public = test_channels.clock, test_channels.context, test_channels.public


def picture(width: int = 2400, height: int = 1800, *, noise: int = 90, turn: int = 1) -> bytes:
    """A photo that is hard to compress, with a place and a device in it."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = turn, "示例厂商"
    exif.get_ifd(0x8825)[1] = "N"
    data = io.BytesIO()
    Image.effect_noise((width, height), noise).convert("RGB").save(data, "JPEG", quality=90, exif=exif)
    return data.getvalue()


class Case:
    """A problem that somebody reported with a photo, on its way through the hands of the office."""

    def __init__(self, context: Context, public: TestClient, before: bytes) -> None:
        self.public = public
        self.ticket = tell(public, "桥下有垃圾", before, station="", reach="qichachong").json()["ticket"]
        self.office = login(context, "示例办公室", Role.OFFICE)
        self.handler = login(context, "示例处置", Role.GRID_WORKER)
        (case,) = self.office.get("/api/v1/incidents").json()["items"]
        self.id = case["id"]
        (self.before,) = self.office.get(f"/api/v1/incidents/{self.id}").json()["history"][0]["attachments"]
        kept = self.handler.post("/api/v1/attachments", content=picture(), headers={"Content-Type": "image/jpeg"})
        self.after = kept.json()["id"]

    def act(self, who: TestClient, action: str, **more: Any) -> None:
        body = {"action": action, "comment": "示例"} | more
        done = who.post(f"/api/v1/incidents/{self.id}/actions", json=body)
        assert done.status_code == 200, (action, done.text)

    def handle(self) -> None:
        """From where the office has it to the closed case."""
        self.act(self.office, "dispatch", to={"responsible": "示例处置"})
        self.act(self.handler, "start")
        self.act(self.handler, "finish", attachments=[self.after])
        self.act(self.office, "verify", attachments=[self.after])
        self.act(self.office, "close")

    def put(self, who: TestClient | None = None, **wanted: Any) -> Any:
        return (who or self.office).put(f"/api/v1/incidents/{self.id}/public-photos", json=wanted)

    def release(self) -> list[str]:
        """Release both photos; their addresses."""
        done = self.put(before=[self.before], after=[self.after], looked=True)
        assert done.status_code == 200, done.text
        return [one["address"] for one in done.json()["items"]]

    def shown(self) -> tuple[list[str], list[str]]:
        """The photos on the sign, and those on the page of who reported it."""
        pages = (self.public.get(SIGN).text, self.public.get(f"/report/{self.ticket}").text)
        sign, ticket = (re.findall(r'src="(/r/photo/[^"]+)"', page) for page in pages)
        return sign, ticket


def in_a_browser(who: TestClient) -> TestClient:
    """The same person, signed in."""
    app = who.app
    session = app.state.keeper.sign_in(who.headers["Authorization"].partition(" ")[2])  # type: ignore[attr-defined]
    return TestClient(app, cookies={COOKIE: session})


@pytest.fixture
def case(context: Context, public: TestClient) -> Case:
    found = Case(context, public, picture(turn=6))
    found.act(found.office, "accept")
    return found


def test_a_handled_problem_shows_no_photo_until_a_person_has_looked_and_released_it(case: Case) -> None:
    early = case.put(before=[case.before], looked=True)
    assert (early.status_code, shows(early.text, "citizen.not_handled")) == (409, True)
    case.handle()
    assert case.shown() == ([], [])
    unseen = case.put(before=[case.before], after=[case.after])
    assert (unseen.status_code, shows(unseen.text, "public_photos.look_first")) == (409, True)
    assert case.put(case.handler, before=[case.before], looked=True).status_code == 403
    assert case.public.put(f"/api/v1/incidents/{case.id}/public-photos", json={}).status_code == 401
    foreign = case.put(before=["0" * 64], looked=True)
    assert foreign.status_code == 404, "what is not attached to the case cannot be released with it"
    assert case.shown() == ([], [])
    addresses = case.release()
    assert case.shown() == (addresses, addresses)
    sides = [re.search(r">(.+?)</figcaption>", one) for one in case.public.get(SIGN).text.split("<figure>")[1:]]
    assert [one and shows(one[1], f"citizen.{side}") for one, side in zip(sides, ("before", "after"), strict=True)]


def test_what_is_public_is_small_upright_and_tells_neither_place_nor_device_nor_number(case: Case) -> None:
    case.handle()
    for address in case.release():
        answer = case.public.get(address)
        found = Image.open(io.BytesIO(answer.content))
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
        assert len(answer.content) <= public_photos.MOST_BYTES
        assert not found.getexif()
        assert max(found.size) == public_photos.WIDEST
        assert "public" in answer.headers["cache-control"]
        assert not set(answer.headers) & {"set-cookie", "content-disposition", "last-modified"}
        assert str(case.id) not in re.sub(r"[^/]+$", "", address)
        assert case.before[:8] not in address
    turned, plain = (Image.open(io.BytesIO(case.public.get(one).content)) for one in case.shown()[0])
    assert (turned.size, plain.size) == ((360, 480), (480, 360)), "the first one was taken with the phone held upright"
    assert case.public.get("/r/photo/nothing").status_code == 404


def test_a_photo_is_taken_back_at_any_time_and_hidden_while_the_case_is_open_again(
    context: Context,
    case: Case,
    clock: list[int],
) -> None:
    case.handle()
    first, second = case.release()
    assert case.put(before=[case.before]).status_code == 200, "nothing new is released: nobody has to look again"
    assert case.public.get(first).status_code == 200, "what stays keeps its address"
    assert case.public.get(second).status_code == 404
    assert case.put().status_code == 200
    assert (case.public.get(first).status_code, case.shown()) == (404, ([], []))
    assert rows(context, public_photo) == 0
    addresses = case.release()
    clock[0] += MINUTE
    assert case.public.post(f"/report/{case.ticket}", data={"verdict": "unsolved"}).status_code == 200
    assert [case.public.get(one).status_code for one in addresses] == [404, 404]
    clock[0] += MINUTE
    case.act(case.office, "accept")
    case.handle()
    assert [case.public.get(one).status_code for one in addresses] == [404, 404], (
        "it was not handled when they were shown"
    )
    assert case.shown() == ([], [])
    assert len(set(case.release()) | set(addresses)) == 4


def test_what_is_released_and_taken_back_stands_in_the_trail_and_the_same_again_does_not(
    context: Context,
    case: Case,
) -> None:
    case.handle()
    case.release()
    case.release()
    case.put()
    with context.database.read() as connection:
        lines = trail.list_entries(connection, kind="public_photos", id=str(case.id), limit=9)
    assert [one.by for one in lines] == ["示例办公室"] * 2
    first, last = sorted(lines, key=lambda one: one.n)
    assert case.before in first.body
    assert '"after":{}' in last.body


def test_the_office_of_another_region_releases_nothing(context: Context, case: Case) -> None:
    case.handle()
    elsewhere = login(context, "别处办公室（示例）", Role.OFFICE, SOUTH.code)
    assert case.put(elsewhere, before=[case.before], looked=True).status_code == 403
    here = login(context, "本街办公室（示例）", Role.OFFICE, NORTH.code)
    assert case.put(here, before=[case.before], looked=True).status_code == 200


def test_the_form_on_the_page_of_the_case_needs_no_script_and_keeps_what_was_chosen(case: Case) -> None:
    path = f"/incidents/{case.id}"
    office, handler = in_a_browser(case.office), in_a_browser(case.handler)
    assert 'data-testid="case-release"' not in office.get(path).text
    case.handle()
    assert 'data-testid="case-release"' in office.get(path).text
    assert 'data-testid="case-release"' not in handler.get(path).text
    chosen = {case.before: "before", case.after: "after"}
    refused = office.post(f"{path}/public-photos", data=chosen)
    assert (refused.status_code, shows(refused.text, "public_photos.look_first")) == (409, True)
    assert re.search(rf'name="{case.after}" value="after" checked', refused.text)
    for _ in range(2):
        done = office.post(f"{path}/public-photos", data=chosen | {"looked": "1"}, follow_redirects=False)
        assert done.status_code == 303
    assert len(case.shown()[0]) == 2
    elsewhere = {"Origin": "https://elsewhere.example"}
    assert office.post(f"{path}/public-photos", data={}, headers=elsewhere).status_code == 403
    office.post(f"{path}/public-photos", data={case.before: "", case.after: "after"})
    assert len(case.shown()[0]) == 1


def test_what_was_merged_into_a_case_that_goes_on_is_not_shown_as_handled(
    context: Context,
    public: TestClient,
    case: Case,
) -> None:
    other = tell(public, "也有垃圾", station="", reach="qichachong").json()["ticket"]
    number = max(one["id"] for one in case.office.get("/api/v1/incidents").json()["items"])
    body = {"action": "merge", "into": case.id, "comment": "同一处"}
    assert case.office.post(f"/api/v1/incidents/{number}/actions", json=body).status_code == 200
    assert 'data-testid="report-handled"' not in public.get(SIGN).text
    case.handle()
    addresses = case.release()
    assert re.findall(r'src="(/r/photo/[^"]+)"', public.get(f"/report/{other}").text) == addresses
    with context.database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(public_photo)).scalar_one() == 2
    assert public.get(SIGN).text.count('class="photos"') == 1
