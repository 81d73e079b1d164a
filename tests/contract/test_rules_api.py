"""Rules, reviews, mutes and backtests over HTTP, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from api.app import create_app
from api.context import Context
from infra.texts import say
from infra.times import rfc3339
from riverchief.cli.app import app
from tests.cases import in_both_languages
from tests.says import shows
from tests.world import CATALOGUE, DAY, HOUR, RULES, STEP, T0, World, bad, calm, river

pytestmark = pytest.mark.both_databases

NOW = T0 + DAY
SAID = {"reason": "示例：电极气泡", "by": "示例李工"}
WORK = {"reason": "示例：清淤", "by": "示例王工"}


@pytest.fixture
def world(world: World) -> World:
    world.feed(river(T0, [*calm(5), *bad(6)]))
    return world


@pytest.fixture
def client(world: World) -> TestClient:
    context = Context(world.database, world.store, CATALOGUE, "/test", clock_ms=lambda: NOW, open=True)
    return TestClient(create_app(context), base_url="http://test/api/v1")


def span(since: int, until: int) -> dict[str, str]:
    return {"since": rfc3339(since), "until": rfc3339(until)}


def test_the_rules_in_force_and_the_version_an_incident_names(client: TestClient, world: World) -> None:
    found = client.get("/rules").json()["items"]
    assert {one["id"] for one in found} == {"nh3n-high", "ph-acid", "do-low", "temp-rising", "silent"}
    (incident,) = world.incidents()
    (shown,) = client.get(f"/rules/{incident.rule}@{incident.rule_version}").json()["items"]
    assert "limit = 2.0" in shown["body"]
    assert shown["until"] is None
    assert "above 2.0 mg/L" in shown["en"]
    for unknown in ("nobody", "nh3n-high@00000000"):
        answer = client.get(f"/rules/{unknown}")
        assert answer.status_code == 404
        assert unknown.partition("@")[2] or unknown in answer.json()["detail"]


def test_a_review_withdraws_an_incident_and_can_be_taken_back(client: TestClient, world: World) -> None:
    body = span(T0 + 5 * STEP, T0 + 11 * STEP) | SAID | {"parameter": "nh3n", "verdict": "bad"}
    made = client.post("/stations/shiwan/reviews", json=body)
    assert made.status_code == 201, made.text
    assert made.json()["pending"], "it takes readings out of an exceedance"
    world.site.follow_registry()
    world.tick(T0 + 11 * STEP)
    assert world.incidents()[0].active, "nobody invalidates an exceedance alone"
    confirm = f"/stations/shiwan/reviews/{made.json()['number']}/confirm"
    assert client.post(confirm, json={"by": made.json()["by"]}).status_code == 409
    agreed = client.post(confirm, json={"by": "示例复审人"}).json()
    assert (agreed["pending"], agreed["second"]) == (False, "示例复审人")
    assert client.post(confirm, json={"by": "示例复审人"}).status_code == 409
    world.site.follow_registry()
    world.tick(T0 + 11 * STEP)
    assert not world.incidents()[0].active
    again = client.post("/stations/shiwan/reviews", json=body | {"verdict": "good"})
    assert again.status_code == 409
    number = made.json()["number"]
    assert client.post(f"/stations/shiwan/reviews/{number}/void", json={"by": "示例"}).json()["void"] is True
    world.site.follow_registry()
    world.tick(T0 + 12 * STEP)
    assert any(i.active for i in world.incidents())
    assert [r["void"] for r in client.get("/stations/shiwan/reviews").json()["items"]] == [True]
    assert client.post(f"/stations/shiwan/reviews/{number}/void", json={"by": "示例"}).status_code == 409


def test_the_command_reviews_lists_and_takes_back_like_the_api(
    client: TestClient, world: World, tmp_path: Path
) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text(f'[database]\nurl = "{world.database.engine.url}"\n', encoding="utf-8")
    site = ["--settings", str(settings), "--json"]
    times = ["--since", rfc3339(T0), "--until", rfc3339(T0 + HOUR), "--by", "示例李工"]

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["review", *arguments])

    made = run("add", "shiwan", "bad", "--parameter", "nh3n", *times, "--reason", "示例：电极气泡", *site)
    assert made.exit_code == 0, made.output
    (kept,) = client.get("/stations/shiwan/reviews").json()["items"]
    assert (kept["verdict"], kept["by"], kept["since"]) == ("bad", "示例李工", rfc3339(T0))
    assert json.loads(made.output)[0]["number"] == kept["number"]
    assert run("add", "shiwan", "good", *times, "--reason", "示例", *site).exit_code == 1, "judged already"
    assert run("void", "shiwan", str(kept["number"]), *site).exit_code == 0
    (listed,) = json.loads(run("list", *site).output)
    assert (listed["void"], listed["station"]) == (True, "shiwan")
    for wrong, why in ((["nobody", "bad"], "nobody"), (["shiwan", "bad", "--parameter", "gold"], "gold")):
        refused = run("add", *wrong, *times, "--reason", "示例", *site)
        assert why in str(refused.exception)
        assert in_both_languages(str(refused.exception))


def test_planned_work_is_announced_extended_and_ended(client: TestClient) -> None:
    made = client.post("/stations/shiwan/mutes", json=span(NOW, NOW + DAY) | WORK | {"rules": ["nh3n-high"]})
    assert made.status_code == 201, made.text
    number = made.json()["number"]
    ended = client.post(f"/stations/shiwan/mutes/{number}/end", json={"until": rfc3339(NOW + HOUR), "by": "示例"})
    assert ended.json()["until"] == rfc3339(NOW + HOUR)
    assert len(client.get("/stations/shiwan/mutes").json()["items"]) == 1


def test_the_command_announces_lists_and_ends_planned_work_like_the_api(
    client: TestClient, world: World, tmp_path: Path
) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text(f'[database]\nurl = "{world.database.engine.url}"\n', encoding="utf-8")

    def run(*arguments: str, plain: bool = False) -> Result:
        form = [] if plain else ["--json"]
        return CliRunner().invoke(app, ["mutes", *arguments, "--settings", str(settings), *form])

    words = ["--reason", "示例：清淤", "--by", "示例王工"]
    times = ["--since", rfc3339(T0), "--until", rfc3339(T0 + DAY)]
    made = run("add", "shiwan", *times, "--rule", "nh3n-high", *words)
    assert made.exit_code == 0, made.output
    (kept,) = client.get("/stations/shiwan/mutes").json()["items"]
    assert (kept["since"], kept["until"], kept["rules"], kept["by"]) == (times[1], times[3], ["nh3n-high"], "示例王工")
    number = str(kept["number"])
    assert run("end", "shiwan", number, "--until", rfc3339(T0 + HOUR), "--by", "示例").exit_code == 0
    (listed,) = json.loads(run("list", "shiwan").output)
    assert (listed["number"], listed["until"]) == (kept["number"], rfc3339(T0 + HOUR))
    assert say("mute.over").zh in run("list", plain=True).output
    for wrong, why in (
        (["add", "nobody", *times, *words], "nobody"),
        (["add", "shiwan", *times, "--rule", "no-such-rule", *words], "no-such-rule"),
        (["add", "shiwan", "--since", rfc3339(T0), "--until", rfc3339(T0 + 91 * DAY), *words], "90 days"),
        (["add", "shiwan", *times, "--reason", " "], "reason"),
        (["end", "shiwan", number, "--until", "2999-01-01"], "90 days"),
        (["end", "shiwan", "77"], "77"),
    ):
        refused = run(*wrong)
        assert why in str(refused.exception), wrong
        assert in_both_languages(str(refused.exception))


REVIEW = span(T0, T0 + HOUR) | SAID | {"verdict": "bad"}
MUTE = span(NOW, NOW + HOUR) | WORK
BACKTEST = {"rules": RULES, "since": rfc3339(T0)}
NAN = '[[threshold]]\nid = "a"\nparameter = "do"\nside = "below"\nlimit = nan\ncolour = "red"\n'


@pytest.mark.parametrize(
    ("path", "body", "status", "named"),
    [
        ("/stations/nobody/reviews", REVIEW, 404, "nobody"),
        ("/stations/shiwan/reviews", REVIEW | {"verdict": "so-so"}, 422, "so-so"),
        ("/stations/shiwan/reviews", REVIEW | {"reason": ""}, 422, "reason"),
        ("/stations/shiwan/reviews", REVIEW | {"parameter": "gold"}, 422, "gold"),
        ("/stations/shiwan/reviews", REVIEW | span(T0 + HOUR, T0), 422, "not after"),
        ("/stations/shiwan/reviews", REVIEW | span(NOW + HOUR, NOW + DAY), 422, "future"),
        ("/stations/shiwan/reviews", REVIEW | {"since": "yesterday"}, 422, "yesterday"),
        ("/stations/shiwan/mutes", MUTE | span(NOW, NOW - 1000), 422, "until"),
        ("/stations/shiwan/mutes", MUTE | span(NOW, NOW + 91 * DAY), 422, "90 days"),
        ("/stations/shiwan/mutes", MUTE | {"rules": ["no-such-rule"]}, 422, "no-such-rule"),
        ("/stations/shiwan/mutes", {"by": "x", "reason": "y"}, 422, "until"),
        ("/backtests", BACKTEST | {"rules": "[[threshold"}, 422, "rules"),
        ("/backtests", BACKTEST | {"rules": NAN}, 422, "nan"),
        ("/backtests", BACKTEST | {"rules": RULES + "[[surprise]]\nid = 'x'\n"}, 422, "surprise"),
        ("/backtests", BACKTEST | {"since": rfc3339(NOW + HOUR)}, 422, "since"),
        ("/backtests", BACKTEST | {"stations": ["nobody"]}, 404, "nobody"),
    ],
)
def test_what_cannot_be_is_refused_naming_the_value(
    client: TestClient, path: str, body: dict[str, Any], status: int, named: str
) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code in {status, 400 if status == 422 else status}, answer.text
    assert named in answer.text


def test_a_backtest_is_asked_for_and_waits_for_the_worker(client: TestClient) -> None:
    asked = client.post("/backtests", json=BACKTEST | {"by": "示例"})
    assert asked.status_code == 202, asked.text
    number = asked.json()["id"]
    assert asked.headers["location"] == f"/api/v1/backtests/{number}"
    got = client.get(f"/backtests/{number}").json()
    assert (got["state"], got["until"], got["result"]) == ("waiting", rfc3339(NOW), None)
    assert [one["id"] for one in client.get("/backtests").json()["items"]] == [number]
    assert client.get("/backtests/999").status_code == 404


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    def run(text: str, *more: str) -> tuple[int, str]:
        file = tmp_path / "rules.toml"
        file.write_text(text, encoding="utf-8")
        result = CliRunner().invoke(app, ["rules", "check", str(file), *more])
        return result.exit_code, result.output + str(result.exception or "")

    return run


def test_rules_check_explains_in_both_languages_and_fails_on_contradictions(check: Callable[..., Any]) -> None:
    code, said = check(RULES)
    assert code == 0
    assert shows(said, "rule.threshold", samples=3)
    assert "3 readings in a row" in said
    looser = '[[threshold]]\nid = "red"\nparameter = "nh3n"\nside = "above"\nlimit = 1.0\ncolour = "red"\n'
    inverted = RULES + looser
    code, said = check(inverted)
    assert code == 1
    assert shows(said, "rule.inverted", urgent="red", mild="nh3n-high")
    code, said = check(RULES.replace("limit = 2.0", "limit = nan", 1))
    assert code != 0
    for part in ("rules.toml", "nh3n-high", "nan"):
        assert part in said


def test_rules_are_held_against_stations(check: Callable[..., Any]) -> None:
    stations = str(Path(__file__).parents[2] / "config" / "stations.toml")
    code, said = check(
        RULES.replace('colour = "red"', 'colour = "red"\nstations = ["atlantis"]', 1), "--stations", stations
    )
    assert code == 1
    assert "atlantis" in said


def test_the_examples_of_the_shipped_file_are_rules(check: Callable[..., Any]) -> None:
    shipped = (Path(__file__).parents[2] / "config" / "rules.toml").read_text(encoding="utf-8")
    examples = shipped[shipped.index("# What a site switches on") :].splitlines()[1:]
    code, said = check("\n".join(line.removeprefix("#").removeprefix(" ") for line in examples))
    assert code == 0, said
    assert "do-pattern-lost" in said
