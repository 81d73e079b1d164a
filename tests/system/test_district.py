"""A district at work: what the sensors found and a citizen reported, through every role over the API, and the proof."""

import io
import json
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as paho
import pypdf
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from PIL import Image

from riverchief.brokers.local import free_port
from sensors.wire.telemetry import Sample, Telemetry, encode, topic
from tests import preloaded
from tests.rig import Running, eventually
from tests.says import shows
from tests.sign_in import first_administrator

pytestmark = pytest.mark.broker

STATION, STREET, ELSEWHERE = "qcc-huanhu-1", "chancheng/shiwan", "chancheng/zumiao"
GRID = f"{STREET}/qicha/1/a"  # its outline holds the station
STATIONS = Path(__file__).parents[2] / "config" / "stations.toml"
SECOND, MINUTE = 1000, 60_000
PEOPLE: tuple[dict[str, str], ...] = (
    {"name": "示例河长", "role": "chief", "region": STREET},
    {"name": "示例办公室", "role": "office"},
    {"name": "示例处置", "role": "handler", "department": "environment"},
    {"name": "示例城管", "role": "handler", "department": "urban_management"},
    {"name": "示例网格员", "role": "grid_worker", "region": STREET},
    {"name": "示例邻区网格员", "role": "grid_worker", "region": ELSEWHERE},
    {"name": "示例核查员", "role": "verifier"},
    {"name": "示例审计员", "role": "auditor"},
)


class District:
    """A site with Chancheng's stations and somebody of each role, asked over the network."""

    def __init__(self, site: Running) -> None:
        self.site = site
        port = free_port()
        site.open = False
        site.more = f"[api]\nport = {port}\n[site]\nstations = '{STATIONS}'\n"
        self.address = f"http://127.0.0.1:{port}"
        self.public = httpx.Client(base_url=self.address, timeout=30)
        self.start()
        self.administrator = self.login(first_administrator(site.folder, self.address))
        self.people: dict[str, httpx.Client] = {}
        for one in PEOPLE:
            made = self.administrator.post("/api/v1/people", json=one)
            assert made.status_code == 201, made.text
            token = self.administrator.post(f"/api/v1/people/{one['name']}/tokens").json()["token"]
            self.people[one["name"]] = self.login(token)
        added = self.riverchief("users", "add", "示例受理员", "--role", "operator", "--print-token")
        self.people["示例受理员"] = self.login(added.strip().splitlines()[-1].split()[-1])
        self._device = paho.Client(CallbackAPIVersion.VERSION2, client_id="device")
        self._device.username_pw_set(site.broker.device.user, site.broker.device.password)
        self._device.connect(site.broker.host, site.broker.port)
        self._device.loop_start()

    def start(self) -> None:
        self.site.start("serve")
        eventually("the site is ready", self._ready)

    def _ready(self) -> bool:
        try:
            return self.public.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def login(self, token: str) -> httpx.Client:
        return httpx.Client(base_url=self.address, timeout=30, headers={"Authorization": f"Bearer {token}"})

    def riverchief(self, *words: str) -> str:
        command = [sys.executable, "-m", "riverchief", *words, "--settings", str(self.site.settings)]
        done = preloaded.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def measure(self, samples: dict[int, float]) -> None:
        """Publish NH3-N, mg/L, by time of observation (ms)."""
        message = Telemetry(tuple(Sample(at, {"nh3n": value}) for at, value in samples.items()))
        self._device.publish(topic(STATION), encode(message), qos=1).wait_for_publish(10)

    def act(self, who: str, number: int, action: str, status: int = 200, tag: str = "", **body: Any) -> dict[str, Any]:
        headers = {"If-Match": tag} if tag else {}
        path = f"/api/v1/incidents/{number}/actions"
        answer = self.people[who].post(path, json={"action": action} | body, headers=headers)
        assert answer.status_code == status, (who, action, answer.text)
        found: dict[str, Any] = answer.json()
        return found

    def case(self, number: int) -> dict[str, Any]:
        found: dict[str, Any] = self.people["示例受理员"].get(f"/api/v1/incidents/{number}").json()
        return found

    def waiting(self, who: str) -> dict[int, list[str]]:
        """What the work list shows: incidents and the actions that carry them on."""
        items = self.people[who].get("/api/v1/worklist").json()["items"]
        return {one["incident"]["id"]: one["actions"] for one in items}

    def trail(self, number: int) -> list[dict[str, Any]]:
        """The entries of the trail about an incident, oldest first."""
        query = {"kind": "incident", "id": str(number), "limit": 1000}
        items: list[dict[str, Any]] = self.people["示例审计员"].get("/api/v1/audit", params=query).json()["items"]
        return sorted(items, key=lambda one: one["n"])

    def close(self) -> None:
        self._device.disconnect()
        self._device.loop_stop()
        for client in (self.public, self.administrator, *self.people.values()):
            client.close()


@pytest.fixture(scope="module")
def district(tmp_path_factory: pytest.TempPathFactory) -> Iterator[District]:
    site = Running(tmp_path_factory.mktemp("district") / "site", "mosquitto")
    try:
        one = District(site)
        yield one
        one.close()
    finally:
        site.close()


def photo() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (64, 48), (90, 120, 160)).save(data, "JPEG")
    return data.getvalue()


def found(district: District, source: str) -> int:
    """The open incident of this source, once it is there."""

    def look() -> int | None:
        items = district.people["示例受理员"].get("/api/v1/incidents", params={"open": "true"}).json()["items"]
        return next((one["id"] for one in items if one["source"] == source), None)

    return int(eventually(f"an incident from {source}", look))


@pytest.mark.timeout(240)
def test_a_case_goes_through_all_roles_and_the_trail_proves_each_step(district: District) -> None:  # noqa: PLR0915  (one story from beginning to end)
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    start_ms = now_ms - 13 * MINUTE
    district.measure({start_ms + k * SECOND: 5.0 + k / 10 for k in range(3)})
    number = found(district, "rule")
    case = district.case(number)["incident"]
    assert (case["colour"], case["state"], case["region"]) == ("red", "reported", GRID)

    told = district.public.post(
        "/api/v1/reports",
        data={"text": "桥下有污水流出", "station": STATION, "contact": "示例 000-0000"},
        files=[("photos", ("a.jpg", photo(), "image/jpeg"))],
    )
    assert (told.status_code, told.json()["nearby"]) == (201, 1)
    ticket = told.json()["ticket"]
    reported = found(district, "citizen")

    # who may see it, and who waits for it
    assert district.people["示例邻区网格员"].get(f"/api/v1/incidents/{number}").status_code == 403
    assert district.public.get(f"/api/v1/incidents/{number}").status_code == 401
    assert district.waiting("示例受理员") == {number: ["accept"], reported: ["accept"]}
    assert list(district.waiting("示例受理员")) == [number, reported], "red before yellow"
    assert district.waiting("示例处置") == district.waiting("示例网格员") == {}
    for who in ("示例办公室", "示例网格员", "示例审计员"):
        behind = district.people[who].get(f"/api/v1/incidents/{reported}/origins").json()["reports"]
        assert [one["has_contact"] for one in behind] == [True], who
        assert "000-0000" not in str(behind)

    # accepted by one of two who look at it; the report is the same matter
    tag = district.people["示例受理员"].get(f"/api/v1/incidents/{number}").headers["etag"]
    district.act("示例审计员", number, "accept", 403)
    district.act("示例受理员", number, "accept", tag=tag)
    district.act("示例办公室", number, "reject", 412, tag=tag, comment="示例")
    district.act("示例受理员", reported, "merge", into=number, comment="同一处")
    assert district.public.get(f"/api/v1/reports/{ticket}").json()["state"] == "accepted"

    # one click: the standard process knows whose it is; given back once, then handled by two departments
    dispatched = district.act("示例受理员", number, "dispatch")["incident"]
    assert (dispatched["responsible"], dispatched["department"]) == ("示例河长", "environment")
    assert number in district.waiting("示例处置")
    assert number in district.waiting("示例河长")
    refused = district.act("示例城管", number, "start", 403)
    assert refused["allowed"] == ["comment"]
    district.act("示例处置", number, "return", 409)
    district.act("示例处置", number, "return", comment="需要城管协办")
    to = {"department": "environment", "joint": ["urban_management"], "responsible": "示例河长"}
    district.act("示例受理员", number, "dispatch", to=to)
    district.act("示例处置", number, "start")
    district.act("示例处置", number, "pause", comment="等城管", reason="other_department")
    district.act("示例处置", number, "resume")
    shown = district.people["示例处置"].post("/api/v1/attachments", content=photo()).json()["id"]
    proof = {"comment": "已截流", "attachments": [shown], "measurement": {"nh3n": 0.6}}
    district.act("示例处置", number, "finish", 409, **proof)  # the others have not done theirs
    district.act("示例城管", number, "contribute", **proof)
    district.act("示例处置", number, "finish", 409, comment="已截流")
    district.act("示例处置", number, "finish", 400, **proof | {"measurement": {"nh3": 0.6}})
    district.act("示例处置", number, "finish", **proof)
    district.act("示例河长", number, "supervise", comment="请尽快")

    # verified by another, and closed once the water is well again
    district.act("示例处置", number, "verify", 403, comment="示例")
    district.act("示例核查员", number, "rework", comment="排口仍有渗漏")
    district.act("示例处置", number, "start")
    district.act("示例处置", number, "finish", **proof)
    assert district.waiting("示例核查员") == {number: ["verify"]}
    district.act("示例核查员", number, "verify", comment="属实")
    active = district.act("示例受理员", number, "close", 409, comment="示例")
    assert shows(active["detail"], "incident.still_active", id=number)
    assert "ammonia nitrogen at Qicha Creek, Huanhu Garden 1 (upstream)" in active["detail"]
    district.measure({start_ms + k * MINUTE // 2: 0.5 + k % 5 / 50 for k in range(2, 23)})
    eventually("the water is well again", lambda: district.case(number)["incident"]["active"] == 0)
    eventually("good readings follow", lambda: _closed(district, number, start_ms))
    closed = district.case(number)
    assert closed["incident"]["state"] == "closed"
    assert district.public.get(f"/api/v1/reports/{ticket}").json()["state"] == "closed"
    district.act("示例办公室", number, "evaluate", score=90)
    assert district.waiting("示例受理员") == {}

    # every change is in the trail, in order, and the trail holds
    auditor = district.people["示例审计员"]
    for one in (number, reported):
        history = district.case(one)["history"]
        trail = district.trail(one)
        assert [entry["body"]["entry"]["seq"] for entry in trail] == [entry["seq"] for entry in history]
        assert [entry["by"] for entry in trail] == [entry["by"] for entry in history]
        assert [entry["seq"] for entry in history] == list(range(1, len(history) + 1))
    assert auditor.get("/api/v1/audit/verify").json()["ok"] is True
    assert json.loads(district.riverchief("audit", "verify", "--json"))["ok"] is True
    before = next(entry for entry in closed["history"] if entry["what"] == "verified")["at"]
    then = auditor.get(f"/api/v1/incidents/{number}", params={"as_of": before}).json()["incident"]
    assert (then["state"], then["verifier"]) == ("verified", "示例核查员")
    pack = auditor.get(f"/api/v1/incidents/{number}/evidence")
    assert (pack.status_code, pack.content[:5]) == (200, b"%PDF-")
    words = "".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pack.content)).pages)
    assert "氨氮 0.600 mg/L" in words
    assert b"/Subtype /Image" in pack.content, "the handler's photo is in it"


def _closed(district: District, number: int, start_ms: int) -> bool:
    """Close it, where the good readings are there; else send one more."""
    body = {"action": "close", "comment": "复测合格"}
    last = district.case(number)["incident"]["version"]
    answer = district.people["示例受理员"].post(f"/api/v1/incidents/{number}/actions", json=body)
    if answer.status_code == 200:
        return True
    assert answer.status_code == 409, answer.text
    assert "good readings" in answer.text, answer.text
    assert last == district.case(number)["incident"]["version"], "a refusal changes nothing"
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    district.measure({now_ms: 0.5 + now_ms % 7 / 50})
    return False


@pytest.mark.timeout(240)
def test_killed_in_the_middle_of_actions_nothing_is_doubled_and_the_trail_holds(district: District) -> None:
    office = district.people["示例办公室"]
    new = [{"text": f"示例{i}", "source": "hotline", "region": STREET} for i in range(3)]
    numbers = [office.post("/api/v1/incidents", json=one).json()["incident"]["id"] for one in new]
    answered: dict[int, list[str]] = {number: [] for number in numbers}
    sent: dict[int, list[str]] = {number: [] for number in numbers}

    def comment(number: int) -> None:
        with httpx.Client(base_url=district.address, headers=office.headers, timeout=30) as client:
            for k in range(10_000):
                text = f"{number}/{k}"
                sent[number].append(text)
                try:
                    body = {"action": "comment", "comment": text}
                    answer = client.post(f"/api/v1/incidents/{number}/actions", json=body)
                except httpx.HTTPError:
                    return
                if answer.status_code == 200:
                    answered[number].append(text)

    threads = [threading.Thread(target=comment, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    eventually("actions are under way", lambda: all(len(texts) >= 5 for texts in answered.values()))
    district.site.kill()
    for thread in threads:
        thread.join()
    district.start()
    for number in numbers:
        history = district.case(number)["history"]
        kept = [entry["comment"] for entry in history if entry["what"] == "commented"]
        # what was answered is kept; of what was not, at most the one under way
        assert kept[: len(answered[number])] == answered[number]
        assert kept in (answered[number], sent[number])
        assert [one["body"]["entry"]["seq"] for one in district.trail(number)] == [one["seq"] for one in history]
        district.act("示例办公室", number, "reject", comment="示例")
    assert district.people["示例审计员"].get("/api/v1/audit/verify").json()["ok"] is True
