"""The command line on a real database: what it says, and the exit code a script relies on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from governance import tables
from governance.incidents import store as incident_store
from governance.incidents.finding import Colour
from governance.people import one_time_codes
from governance.people.one_time_codes import Purpose
from infra import clock
from infra.database import Database
from infra.errors import ConfigurationError, NotFound
from infra.texts import Text
from ingest.storage.sql import SqlReadings
from ingest.storage.tables import ledger, sequence_gap
from riverchief.cli.app import app
from sensors.parameters import catalogue
from tests.cases import a_finding
from tests.databases import with_tables
from tests.says import says

DAY = "2026-05-12"
NOW = 1_778_581_800_000


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    database = Database(f"sqlite:///{folder / 'riverchief.db'}")
    with_tables(database)
    SqlReadings(database, catalogue())
    database.close()
    return folder


def run(data: Path, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*arguments, "--data", str(data)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def account(data: Path, **counts: int) -> None:
    names = ["messages", "messages_duplicate", "messages_unnumbered", "messages_quarantined"]
    names += ["readings", "stored", "duplicate", "quarantined"]
    database = Database(f"sqlite:///{data / 'riverchief.db'}")
    with database.write() as connection:
        row = {"station": "s1", "day": DAY} | {name: counts.get(name, 0) for name in names}
        connection.execute(ledger.insert().values(**row))
        if counts.get("hole"):
            totals = {name: counts.get(name) for name in ("total_before", "total_after")}
            connection.execute(
                sequence_gap.insert().values(station="s1", boot=1, first_seq=4, last_seq=6, day=DAY, **totals)
            )
    database.close()


def test_a_ledger_that_closes_exits_with_zero(data: Path) -> None:
    account(data, messages=2, readings=6, stored=5, duplicate=1)
    code, text = run(data, "ledger", "--day", DAY, "--json")
    told = json.loads(text)
    assert (code, told["closed"], told["accounts"][0]["sent"]) == (0, True, 6)


def test_a_ledger_with_a_hole_of_unknown_size_does_not_close(data: Path) -> None:
    account(data, messages=2, readings=6, stored=6, hole=1)
    code, text = run(data, "ledger", "--day", DAY, "--json")
    told = json.loads(text)["accounts"][0]
    assert (code, told["sent"], told["messages_missing"]) == (1, None, 3)
    code, text = run(data, "ledger", "--day", DAY)
    assert (code, "未知" in text) == (1, True)


def test_a_ledger_with_missing_readings_closes_and_exits_with_an_error(data: Path) -> None:
    account(data, messages=2, readings=6, stored=6, hole=1, total_before=6, total_after=9)
    code, text = run(data, "ledger", "--day", DAY, "--json")
    told = json.loads(text)
    assert (code, told["closed"], told["complete"], told["accounts"][0]["missing"]) == (1, True, False, 3)
    code, text = run(data, "ledger", "--day", DAY)
    assert (code, "缺失" in text) == (1, True)


def test_a_recount_finds_readings_that_are_booked_and_not_there(data: Path) -> None:
    account(data, messages=1, readings=3, stored=3)
    assert run(data, "ledger", "--day", "all")[0] == 0
    code, text = run(data, "ledger", "--day", "all", "--verify", "--json")
    assert (code, json.loads(text)["recount_differs"]) == (1, {"s1": [0, 3]})


def test_a_day_that_is_none_is_refused_by_name(data: Path) -> None:
    with pytest.raises(ConfigurationError, match=says("command.day", day="yesterday")):
        run(data, "ledger", "--day", "yesterday")


def test_the_shipped_stations_are_imported_and_a_second_time_changes_nothing(data: Path) -> None:
    for _ in range(2):
        code, text = run(data, "stations", "import", "config/stations.toml")
        assert (code, "24 station" in text) == (0, True)
    _, text = run(data, "stations", "list", "--json")
    assert len(json.loads(text)) == 24


def test_a_station_file_with_a_fault_changes_nothing(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "stations.toml"
    good = '[[station]]\nkey = "a"\nlon = 113.1\nlat = 23.0\n'
    file.write_text(good + '[[station]]\nkey = "B"\nlon = 113.1\nlat = 23.0\n')
    with pytest.raises(ConfigurationError, match=says("registry.bad_key", key="B")):
        run(data, "stations", "import", str(file))
    assert json.loads(run(data, "stations", "list", "--json")[1]) == []


def test_the_shipped_rules_are_explained() -> None:
    result = CliRunner().invoke(app, ["rules", "check"])
    assert result.exit_code == 0
    assert "silent" in result.output


def test_a_dead_letter_is_listed_and_sent_again(data: Path) -> None:
    found = a_finding(
        NOW,
        cause="water:s1",
        station="s1",
        value=6.0,
        colour=Colour.RED,
        text=Text("氨氮超限", "ammonia above the limit"),
    )
    database = Database(f"sqlite:///{data / 'riverchief.db'}")
    with database.write() as connection:
        incident_store.record_findings(connection, [found], NOW, source="/test")
        gone = {"status": "refused", "last_error": "the platform answers 410"}
        connection.execute(tables.outbox.update().values(**gone))
    database.close()
    told = json.loads(run(data, "outbox", "list", "--json")[1])
    assert [row["last_error"] for row in told["refused"]] == ["the platform answers 410"]
    assert run(data, "outbox", "replay", str(told["refused"][0]["id"]))[0] == 0
    assert json.loads(run(data, "outbox", "list", "--json")[1]) == {"pending": 1, "refused": []}


@pytest.mark.parametrize(
    ("command", "needless"),
    [
        ("classify", {"polars", "sqlalchemy", "uvicorn"}),
        ("hj212", {"polars", "sqlalchemy", "uvicorn"}),
        ("sl651", {"polars", "sqlalchemy", "uvicorn"}),
        ("ledger", {"polars", "uvicorn"}),
        ("users", {"polars", "uvicorn"}),
        ("rules", {"polars", "uvicorn"}),
    ],
)
def test_a_command_does_not_wait_for_what_it_has_no_use_for(command: str, needless: set[str]) -> None:
    program = (
        "import sys, typer\nfrom riverchief.cli.app import app\n"
        "typer.main.get_command(app).get_command(None, sys.argv[1])\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, command], capture_output=True, text=True, check=True)
    assert needless & set(done.stdout.split()) == set()


SERVER = {"fastapi", "uvicorn", "ingest.pipeline"}


@pytest.mark.parametrize(
    ("words", "not_needed"),
    [
        ("--help", SERVER - {"ingest.pipeline"} | {"polars", "psycopg"}),
        ("check", SERVER | {"sqlalchemy", "polars"}),
        ("bench --help", SERVER | {"sqlalchemy", "polars"}),
        ("assess --help", SERVER | {"sqlalchemy", "polars"}),
        ("stations list --data {data}", SERVER | {"psycopg", "polars"}),
        ("doctor --data {data}", SERVER - {"ingest.pipeline"}),
    ],
)
def test_a_command_loads_no_part_of_the_system_that_it_does_not_need(
    words: str, not_needed: set[str], data: Path
) -> None:
    code = (
        "import atexit, sys; from riverchief.cli import app; atexit.register(lambda: print(*sys.modules)); app.main()"
    )
    asked = words.format(data=data).split()
    done = subprocess.run([sys.executable, "-c", code, *asked], capture_output=True, text=True, check=False)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "riverchief.cli.app" in loaded, done.stderr
    assert loaded & not_needed == set()


def test_an_ingest_does_not_load_what_sends_to_people(tmp_path: Path) -> None:
    """The library of channels takes a fifth of a start."""
    (tmp_path / "contacts.toml").write_text(
        '[[contact]]\nkey = "a"\nname = "示例"\nroles = ["office"]\nchannels = [{ url = "json://127.0.0.1/x" }]\n'
    )
    (tmp_path / "settings.toml").write_text(
        f"data = '{tmp_path}'\n[mqtt]\nenabled = false\n[notices]\ncontacts = '{tmp_path / 'contacts.toml'}'\n"
    )
    code = (
        "import sys; from pathlib import Path; from riverchief import serve, settings\n"
        "serve.System(settings.load(Path(sys.argv[1])), serve.Role.INGEST)\nprint(*sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "settings.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert {"apprise", "reportlab", "riverchief.services.worker_services"} & set(done.stdout.split()) == set()


def test_an_invitation_is_a_link_alone_that_sets_the_password_of_somebody_registered(data: Path) -> None:
    run(data, "users", "add", "示例受理员", "--role", "operator")
    code, output = run(data, "users", "invite", "示例受理员")
    link = output.strip()
    assert (code, link.startswith("http://127.0.0.1:8080/password/"), " " in link) == (0, True, False)
    database = Database(f"sqlite:///{data / 'riverchief.db'}")
    with database.read() as connection:
        now_ms = clock.now_ms()
        found = one_time_codes.find(connection, Purpose.PASSWORD, link.rpartition("/")[2], now_ms)
    database.close()
    assert found is not None
    with pytest.raises(NotFound):
        run(data, "users", "invite", "没有的人")
