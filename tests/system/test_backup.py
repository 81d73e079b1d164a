"""A backup taken while everything runs is a whole site: restored on an empty machine it gives the same answers."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from governance.audit import trail as audit_trail
from governance.audit.merkle import Root
from infra.clock import now_ms
from infra.database import Database
from infra.errors import ConfigurationError, Refused, StorageUnavailable
from infra.times import rfc3339
from ingest.storage.archive import month_bounds_ms
from ingest.storage.photos import Photos
from riverchief import audit_sealing, migrations
from riverchief import settings as settings_
from riverchief.backup import backup, pg_dump, restore
from riverchief.backup.backup import MANIFEST, PARTIAL
from riverchief.brokers.local import free_port
from riverchief.cli.app import app as cli
from riverchief.settings import Settings
from sensors.stations import Station
from sensors.wire.telemetry import Sample
from simulator.devices.fleet import Connection, Fleet
from tests import postgres, preloaded
from tests.databases import unguarded, with_tables
from tests.rig import Running, eventually
from tests.says import says

STATIONS = 8
SECRET = "a-secret-nobody-may-read"


def rows(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table."""
    with database.read() as connection:
        return {
            table: sorted(
                (tuple(map(str, row)) for row in connection.exec_driver_sql(f'SELECT * FROM "{table}"')), key=str
            )
            for table in sorted(sa.inspect(connection).get_table_names())
        }


def riverchief(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "riverchief", *map(str, arguments)]
    return preloaded.run(command, capture_output=True, text=True, check=False, timeout=120)


def station(key: str) -> Station:
    return Station(key, key, key, 113.1, 23.0, interval_s=3600)


class Small:
    """A database with a little of everything in it, and its settings."""

    def __init__(self, folder: Path, url: str = "") -> None:
        folder.mkdir()
        self.folder = folder
        self.settings = settings_.load(None, data=folder, database={"url": url})
        self.database = Database(self.settings.database_url)

    def fill(self, readings: int = 3) -> None:
        with_tables(self.database)
        with self.database.write() as connection:
            connection.execute(
                sa.text("INSERT INTO registry_change (what, key, body) VALUES ('station', :key, '{}')"),
                [{"key": f"s{i}"} for i in range(readings)],
            )

    def empty(self, name: str) -> Settings:
        """The same site's settings on another machine."""
        update: dict[str, Any] = {"data": self.folder.with_name(name)}
        if not self.database.is_sqlite:
            update["database"] = self.settings.database.model_copy(update={"url": postgres.server().database()})
        return self.settings.model_copy(update=update)

    def close(self) -> None:
        self.database.close()


@pytest.fixture
def address(dialect: str) -> Callable[[], str]:
    """Gives the address of another database each time; '' for the file in the site's folder."""
    return (lambda: "") if dialect == "sqlite" else (lambda: postgres.server().database())


@pytest.fixture
def small(tmp_path: Path, address: Callable[[], str]) -> Iterator[Small]:
    small = Small(tmp_path / "site", address())
    small.fill()
    yield small
    small.close()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "backups"


# -- the whole site ----------------------------------------------------------------------------------------------------


def fleet_for(site: Running) -> Fleet:
    names = [f"s{i}" for i in range(STATIONS)]
    site.register(*map(station, names))
    connection = Connection(site.broker.host, site.broker.port, site.broker.device.user, site.broker.device.password)
    return Fleet(names, connection, boot=1)


def serving(site: Running) -> str:
    port = free_port()
    site.more = f"[api]\nport = {port}\n[readings]\narchive = '{site.folder / 'archive'}'\n"
    site.start("serve")
    address = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        try:
            return httpx.get(f"{address}/readyz", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    eventually("it is ready", ready)
    return address


@pytest.mark.broker
def test_a_backup_taken_under_load_restores_to_books_that_close(
    running: Callable[[str], Running], tmp_path: Path, target: Path
) -> None:
    site = running("mosquitto")
    rng = random.Random(5)
    with fleet_for(site) as fleet:
        serving(site)
        number = 0

        def publish() -> bool:
            nonlocal number
            for i in range(STATIONS):
                values = {"ph": round(rng.gauss(7, 0.1), 3), "do": round(rng.gauss(6, 0.1), 3)}
                fleet[f"s{i}"].publish([Sample(now_ms() + number % 2, values)], now_ms())
            number += 1
            return site.booked() > 0

        eventually("readings are stored", publish)
        for n in range(2):
            taking = preloaded.Popen(
                [sys.executable, "-m", "riverchief", "backup", str(target), "--settings", str(site.settings)]
            )
            eventually("the backup is taken", lambda taking=taking: publish() and taking.poll() is not None)
            assert taking.returncode == 0
            assert len(backup.finished(target)) == n + 1
        assert fleet.flush(60)
        for n, source in enumerate(backup.finished(target)):
            data = tmp_path / f"restored-{n}"
            assert CliRunner().invoke(cli, ["restore", str(source), "--data", str(data)]).exit_code == 0
            told = CliRunner().invoke(cli, ["ledger", "--day", "all", "--verify", "--json", "--data", str(data)])
            books = json.loads(told.stdout)
            assert told.exit_code == 0, told.stdout
            assert books["closed"]
            assert sum(account["stored"] for account in books["accounts"]) > 0
            assert backup.read_manifest(source).rows["reading"] > 0
        eventually("nothing was held up", lambda: site.booked() >= fleet.readings_sent)
        assert site.stop() == 0, site.log()


ARCHIVED = "stations/s1/series?parameter=ph&start=2026-03-01T00:00:00Z&end=2026-03-20T00:00:00Z&points=10"
QUESTIONS = (
    "stations?limit=100",
    "stations/latest",
    "stations/s0/series?parameter=nh3n&start=2026-01-01T00:00:00Z&end=2027-12-01T00:00:00Z&points=500",
    ARCHIVED,
    "incidents?limit=100",
    "incidents/1",
    "ledger",
    "quarantine",
)


def answers(address: str) -> dict[str, Any]:
    """What the API says; left out is what depends on the time of asking: ages, and the class judged once a minute."""
    found = {}
    for question in QUESTIONS:
        answer = httpx.get(f"{address}/api/v1/{question}", timeout=60)
        assert answer.status_code == 200, (question, answer.text)
        found[question] = without_clock(answer.json())
    del found["stations/latest"]["at"]  # when it was asked
    return found


def without_clock(body: Any) -> Any:
    if isinstance(body, dict):
        return {k: without_clock(v) for k, v in body.items() if k not in ("age_s", "state", "live")}
    return [without_clock(part) for part in body] if isinstance(body, list) else body


@pytest.mark.broker
def test_an_empty_machine_gives_the_same_answers_after_a_restore(
    running: Callable[[str], Running], tmp_path: Path, target: Path
) -> None:
    site = running("mosquitto")
    with fleet_for(site) as fleet:
        address = serving(site)
        march = month_bounds_ms("2026-03")[0]
        for i in range(3):  # a record of months ago, polluted water now, and what cannot be used
            old = [
                {"at": rfc3339(march + n * 3_600_000), "values": {"ph": 7 + n / 1000, "nh3n": 0.5}} for n in range(480)
            ]
            body = {"station": f"s{i}", "readings": old}
            assert httpx.post(f"{address}/api/v1/readings", json=body, timeout=60).status_code == 202
        for n in range(40):
            for i in range(STATIONS):
                at = now_ms() - (40 - n) * 60_000
                fleet[f"s{i}"].publish([Sample(at, {"nh3n": 6.0 + n / 1000, "ph": 7.1})], now_ms())
        nonsense = {"station": "s0", "readings": [{"at": rfc3339(now_ms()), "values": {"no_such": 1.0}}]}
        httpx.post(f"{address}/api/v1/readings", json=nonsense, timeout=60)
        assert fleet.flush(60)
        eventually("all is stored", lambda: site.booked() >= fleet.readings_sent + 3 * 960)
        assert site.stop() == 0, site.log()
    assert riverchief("archive", "--before", "2026-05", "--settings", site.settings).returncode == 0
    address = serving(site)
    before = answers(address)
    assert before["incidents?limit=100"]["items"]
    assert before["quarantine"]["items"]
    assert before[ARCHIVED]["points"], "what has left the database is asked for, too"
    assert site.stop() == 0, site.log()
    held = rows(site.database)  # a running site makes forecasts at each half hour
    assert riverchief("backup", target, "--settings", site.settings).returncode == 0
    (source,) = backup.finished(target)
    site.database.close()
    shutil.rmtree(site.folder / "archive")
    for left in site.folder.glob("riverchief.db*"):
        left.unlink()
    done = riverchief("restore", source, "--settings", site.settings)
    assert done.returncode == 0, done.stderr
    assert rows(site.database) == held
    address = serving(site)
    after = answers(address)
    for question, answer in before.items():
        assert after[question] == answer, question
    assert site.stop() == 0, site.log()
    told = riverchief("ledger", "--day", "all", "--verify", "--settings", site.settings)
    assert told.returncode == 0, told.stdout + told.stderr


# -- what is never restored --------------------------------------------------------------------------------------------


def test_a_backup_killed_on_its_way_is_recognised_and_cleared_away_by_the_next(small: Small, target: Path) -> None:
    dies = (
        "import os, signal, sys; from pathlib import Path\n"
        "from riverchief import settings; from riverchief.backup import backup\n"
        "backup.hashed = lambda path: os.kill(os.getpid(), signal.SIGKILL)\n"
        "backup.back_up(settings.load(None, data=Path(sys.argv[1])), Path(sys.argv[2]))"
    )
    done = subprocess.run([sys.executable, "-c", dies, small.folder, target], check=False)
    assert done.returncode == -signal.SIGKILL
    (part,) = target.glob("riverchief-*")
    assert part.name.endswith(PARTIAL)
    assert backup.finished(target) == []
    with pytest.raises(Refused, match=says("backup.unfinished")):
        restore.restore(small.empty("new"), part)
    with pytest.raises(Refused, match=says("backup.no_manifest", manifest="manifest.json")):
        restore.restore(small.empty("new"), part.rename(part.with_suffix("")))
    part.with_suffix("").rename(part)
    made = backup.back_up(small.settings, target)
    assert list(target.glob("riverchief-*")) == [made.folder]


@pytest.mark.both_databases
@pytest.mark.parametrize("harm", ["cut", "bit", "gone", "manifest"])
def test_a_damaged_backup_is_refused_before_anything_is_touched(small: Small, target: Path, harm: str) -> None:
    made = backup.back_up(small.settings, target)
    file = made.folder / (backup.DATABASE[made.manifest.dialect] if harm != "manifest" else MANIFEST)
    content = bytearray(file.read_bytes())
    if harm == "gone":
        file.unlink()
    else:
        content[len(content) // 2] ^= 1 if harm == "bit" else 0
        file.write_bytes(content if harm == "bit" else content[:-7])
    place = small.empty("new")
    with pytest.raises(Refused, match=file.name):
        restore.restore(place, made.folder)
    assert not place.data.exists()


def test_a_database_that_has_something_in_it_is_never_overwritten(small: Small, target: Path, tmp_path: Path) -> None:
    made = backup.back_up(small.settings, target)
    other = Small(tmp_path / "other")
    other.fill(readings=7)
    held = rows(other.database)
    with pytest.raises(Refused, match=says("backup.in_use")):
        restore.restore(other.settings, made.folder, replace=True)
    other.close()
    with pytest.raises(Refused, match=says("backup.not_empty")):
        restore.restore(other.settings, made.folder)
    assert rows(other.database) == held
    other.close()
    done = restore.restore(other.settings, made.folder, replace=True)
    assert rows(other.database) == rows(small.database)
    (aside,) = done.aside
    kept = Database(f"sqlite:///{aside}")
    assert rows(kept) == held
    kept.close()
    other.close()


@pytest.mark.both_databases
def test_a_site_that_was_only_started_is_empty_enough(
    small: Small, address: Callable[[], str], target: Path, tmp_path: Path
) -> None:
    made = backup.back_up(small.settings, target)
    started = Small(tmp_path / "started", address())
    with_tables(started.database)
    started.close()
    restore.restore(started.settings, made.folder)
    assert rows(started.database) == rows(small.database)
    started.close()


def test_a_backup_of_a_newer_version_is_refused(small: Small, target: Path) -> None:
    made = backup.back_up(small.settings, target)
    manifest = json.loads((made.folder / MANIFEST).read_text())
    (made.folder / MANIFEST).write_text(json.dumps({**manifest, "schema": "9999"}))
    with pytest.raises(ConfigurationError, match=says("backup.newer", schema="9999")):
        restore.restore(small.empty("new"), made.folder)


@pytest.mark.both_databases
def test_a_restored_database_with_other_rows_than_the_manifest_does_not_appear(small: Small, target: Path) -> None:
    made = backup.back_up(small.settings, target)
    wrong = replace(made.manifest, rows={**made.manifest.rows, "registry_change": 4})
    place = small.empty("new")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(restore, "read_manifest", lambda source: wrong)
        with pytest.raises(
            StorageUnavailable, match=says("backup.rows_differ", table="registry_change", rows=3, expected=4)
        ):
            restore.restore(place, made.folder)
    assert not list(place.data.glob("riverchief.db*"))


# -- what is in it, and what is not ------------------------------------------------------------------------------------


def test_no_secret_is_in_a_backup_and_the_rest_of_the_settings_is(small: Small, target: Path, tmp_path: Path) -> None:
    url = f"postgresql://river:{SECRET}@db.example/river?sslmode=require&password={SECRET}"
    told = settings_.load(
        None,
        data=small.folder,
        mqtt={"host": "broker.example", "user": "ingest", "password": SECRET},
        outbox={"url": f"https://platform:{SECRET}@platform.example/events?key={SECRET}#{SECRET}", "secret": SECRET},
        audit={"roots_url": f"https://{SECRET}@archive.example/roots?token={SECRET}"},
        influx={"url": "http://127.0.0.1:8086/", "token": SECRET},
        api={"token": SECRET, "port": 8081, "hosts": ["river.example"]},
        site={"box": [112.0, 21.5, 114.8, 24.0]},
        watch={"heartbeat_url": f"https://watch.example/{SECRET}"},
        readings={"archive": tmp_path / "no archive yet"},
    )
    made = backup.back_up(told, target)
    for path in made.folder.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path
    assert "mqtt.password" in made.manifest.left_out["secrets"]
    again = settings_.load(made.folder / "settings" / "settings.toml", outbox={"secret": "another"})
    assert again.mqtt == told.mqtt.model_copy(update={"password": None})
    assert again.outbox.url == "https://platform.example/events"
    assert again.audit.roots_url == "https://archive.example/roots"
    assert again.influx.url == "http://127.0.0.1:8086/"
    assert (again.api.port, again.readings) == (8081, told.readings)
    assert (again.api.hosts, again.site.box) == (["river.example"], (112.0, 21.5, 114.8, 24.0))
    told = backup.without_secrets(settings_.load(None, database={"url": url}))
    assert (SECRET in told, "postgresql://river@db.example/river?sslmode=require" in told) == (False, True)
    told = backup.without_secrets(settings_.load(None, grafana={"url": f"http://a:b?{SECRET}@grafana.example"}))
    assert SECRET not in told


def test_the_database_and_its_backups_are_the_owners_alone(small: Small, target: Path) -> None:
    small.settings.data.joinpath("riverchief.db").chmod(0o644)  # as an older version made it
    with Database(small.settings.database_url).write() as connection:
        connection.exec_driver_sql("DELETE FROM registry_change")
    made = backup.back_up(small.settings, target)
    files = [*small.settings.data.glob("riverchief.db*"), made.folder / "database.sqlite"]
    assert {file.name for file in files} >= {"riverchief.db", "riverchief.db-wal", "riverchief.db-shm"}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_what_must_be_saved_apart_is_named(small: Small, target: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    told = settings_.load(
        None,
        data=small.folder,
        influx={"url": "http://127.0.0.1:8086", "kind": "influxdb1"},
        readings={"archive": archive},
    )
    left = backup.back_up(told, target, archive=False).manifest.left_out
    assert "influxd backup -portable -database water" in left["time-series server"]
    assert str(archive) in left["archive"]


def test_photos_are_in_the_backup_once_and_a_damaged_one_is_named(small: Small, target: Path) -> None:
    photos = Photos(small.settings.photos)
    first = photos.add(b"\xff\xd8\xff first")
    backup.back_up(small.settings, target)
    second = photos.add(b"\xff\xd8\xff second")
    (photos.path(first).parent / "tmp1234").write_bytes(b"half a photo")
    newer = backup.back_up(small.settings, target)
    older, kept = (Photos(folder / backup.PHOTOS) for folder in backup.finished(target))
    assert (older.names(), kept.names()) == ([first], sorted([first, second]))
    assert kept.path(first).stat().st_ino == older.path(first).stat().st_ino, "written once"
    again = small.empty("again")
    restore.restore(again, newer.folder)
    assert Photos(again.photos).path(second).read_bytes() == b"\xff\xd8\xff second"
    restore.restore(again, newer.folder, replace=True)
    assert Photos(again.photos).names() == kept.names(), "photos that are here are no trouble"
    new = photos.add(b"\xff\xd8\xff new")
    photos.path(new).write_bytes(b"rotten")
    photos.path(second).write_bytes(b"rotten")
    kept.path(first).write_bytes(b"rotten")
    third = backup.back_up(small.settings, target)
    whole = Photos(third.folder / backup.PHOTOS)
    assert whole.names() == sorted([first, second]), "each from where it is whole: from here, or from the backup before"
    assert {name: backup.hashed(whole.path(name)).sha256 for name in whole.names()} == {n: n for n in whole.names()}
    assert new in third.manifest.left_out["damaged photos"]
    assert "photos" in backup.back_up(small.settings, target, photos=False).manifest.left_out


# -- the trail ---------------------------------------------------------------------------------------------------------


def verified(settings: Settings, *arguments: object) -> tuple[int, dict[str, Any]]:
    """What ``riverchief audit verify`` says of a site: its exit code and answer."""
    command = ["audit", "verify", "--json", "--data", str(settings.data), *map(str, arguments)]
    result = CliRunner().invoke(cli, command, env={"RIVERCHIEF_DATABASE__URL": settings.database_url})
    return result.exit_code, json.loads(result.stdout)


def entries(small: Small, count: int) -> Root:
    """Add entries to the trail and seal it."""
    with small.database.write() as connection:
        for n in range(count):
            audit_trail.append(connection, "test.done", kind="test", id=n, body={"n": n}, by="示例", at_ms=now_ms())
    job = audit_sealing.sealing(small.settings, small.database, now_ms)
    root = job.seal()
    assert root is not None
    assert job.send() == ""
    return root


@pytest.mark.both_databases
def test_a_restored_trail_is_proved_by_its_roots_and_an_old_backup_is_told_by_newer_ones(
    small: Small, target: Path, tmp_path: Path
) -> None:
    root = entries(small, 5)
    outside = tmp_path / "outside.jsonl"
    taken = backup.back_up(small.settings, target)
    shutil.copyfile(audit_sealing.roots_file(small.settings), outside)
    again = small.empty("again")
    restore.restore(again, taken.folder)
    code, told = verified(again, "--roots", outside)
    assert (code, told["ok"], told["entries"], told["outside"], told["signatures"]) == (0, True, 5, 1, True)
    assert told["head"] == root.head

    entries(small, 3)
    code, told = verified(again, "--roots", audit_sealing.roots_file(small.settings))
    assert (code, [fault["wrong"] for fault in told["faults"]]) == (1, ["cut_off"])
    assert verified(again)[0] == 0, "without roots from outside nobody sees it"

    url = "" if small.database.is_sqlite else again.database_url
    elsewhere = Small(tmp_path / "elsewhere", url)
    shutil.rmtree(elsewhere.folder)
    shutil.copytree(again.data, elsewhere.folder)
    entries(elsewhere, 2)
    assert verified(elsewhere.settings, "--roots", outside)[0] == 0, "a new key goes beside those before it"
    assert len(audit_sealing.public_keys(elsewhere.settings)) == 2
    elsewhere.close()


def test_a_backup_whose_trail_was_cut_and_its_manifest_mended_is_told_by_the_roots_outside(
    small: Small, target: Path, tmp_path: Path
) -> None:
    entries(small, 5)
    taken = backup.back_up(small.settings, target).folder
    copy = Database(f"sqlite:///{taken / 'database.sqlite'}")
    unguarded(copy, "DELETE FROM audit WHERE n > 3", "DELETE FROM audit_root")
    copy.close()
    manifest = json.loads((taken / MANIFEST).read_text())
    manifest["rows"] |= {"audit": 3, "audit_root": 0}
    manifest["files"]["database.sqlite"] = asdict(backup.hashed(taken / "database.sqlite"))
    (taken / MANIFEST).write_text(json.dumps(manifest))
    again = small.empty("again")
    restore.restore(again, taken)
    assert verified(again)[0] == 0
    code, told = verified(again, "--roots", audit_sealing.roots_file(small.settings))
    assert (code, [fault["wrong"] for fault in told["faults"]]) == (1, ["cut_off"])


@pytest.mark.both_databases
def test_only_the_newest_are_kept_and_nothing_else_there_is_touched(small: Small, target: Path) -> None:
    target.mkdir()
    (target / "riverchief-notes").mkdir()
    made = [backup.back_up(small.settings, target).folder for _ in range(3)]
    last = backup.back_up(small.settings, target, keep=2)
    assert list(last.removed) == made[:2]
    assert backup.finished(target) == [made[2], last.folder]
    assert (target / "riverchief-notes").is_dir()


def test_there_must_be_something_to_back_up(tmp_path: Path, target: Path) -> None:
    with pytest.raises(ConfigurationError, match=says("backup.no_database", database=tmp_path / "none/riverchief.db")):
        backup.back_up(settings_.load(None, data=tmp_path / "none"), target)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "riverchief.db").touch()
    with pytest.raises(ConfigurationError, match=says("backup.not_ours", database=tmp_path / "foreign/riverchief.db")):
        backup.back_up(settings_.load(None, data=foreign), target)
    assert list(target.glob("riverchief-*")) == []


def test_a_damaged_database_makes_no_backup(small: Small, target: Path) -> None:
    small.fill(readings=20_000)
    with small.database.write() as connection:
        connection.exec_driver_sql("CREATE INDEX more ON registry_change (key)")
    small.close()
    file = small.folder / "riverchief.db"
    content = bytearray(file.read_bytes())
    content[-3000:-2000] = bytes(1000)
    file.write_bytes(content)
    with pytest.raises(StorageUnavailable, match=says("backup.damaged") + "|malformed"):
        backup.back_up(small.settings, target)
    assert list(target.glob("riverchief-*")) == []


# -- full disk ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    place = tmp_path / "tiny"
    place.mkdir()
    mounted = preloaded.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("noticed", ["before", "while writing"])
def test_a_full_disk_is_one_clear_sentence_and_leaves_nothing_that_looks_whole(
    small: Small, tiny: Path, noticed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.fill(readings=100_000)
    if noticed != "before":
        monkeypatch.setattr(backup, "_require_space", lambda *_: None)
    with pytest.raises(
        StorageUnavailable, match=f"{tiny}.*" + ("MiB free" if noticed == "before" else "full|No space")
    ):
        backup.back_up(small.settings, tiny)
    assert [path.name for path in tiny.iterdir()] == [".lock"]


# -- PostgreSQL --------------------------------------------------------------------------------------------------------


@pytest.mark.postgres
def test_a_postgresql_backup_taken_while_rows_arrive_restores_what_one_snapshot_saw(
    tmp_path: Path, target: Path
) -> None:
    site = Small(tmp_path / "site", postgres.server().database())
    site.fill(readings=5000)
    adds = """
import itertools, sys
from infra.database import Database
database = Database(sys.argv[1])
print(flush=True)
for i in itertools.count():
    with database.write() as c:
        for what in "ab":
            c.exec_driver_sql("INSERT INTO registry_change (what, key, body) VALUES (%s, %s, '{}')", (what, str(i)))
"""
    writer = subprocess.Popen([sys.executable, "-c", adds, site.settings.database_url], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    writer.stdout.readline()
    try:
        made = backup.back_up(site.settings, target)
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()
    place = Small(tmp_path / "new", postgres.server().database())
    restore.restore(place.settings, made.folder)
    there, now = rows(place.database)["registry_change"], rows(site.database)["registry_change"]
    assert set(there) <= set(now)
    assert [r[1] for r in there].count("a") == [r[1] for r in there].count("b"), "half a transaction"
    assert made.manifest.rows["registry_change"] == len(there)
    with place.database.write() as connection:  # numbers go on where they were
        connection.exec_driver_sql("INSERT INTO registry_change (what, key, body) VALUES ('station', 'new', '{}')")
    place.close()
    site.close()


@pytest.mark.postgres
def test_a_postgresql_database_is_put_aside_and_never_emptied(tmp_path: Path, target: Path) -> None:
    site = Small(tmp_path / "site", postgres.server().database())
    site.fill(readings=10)
    made = backup.back_up(site.settings, target)
    other = Small(tmp_path / "other", postgres.server().database())
    other.fill(readings=7)
    with other.database.read(), pytest.raises(Refused, match=says("backup.connections")):
        restore.restore(other.settings, made.folder, replace=True)
    other.close()
    with pytest.raises(Refused, match=says("backup.not_empty")):
        restore.restore(other.settings, made.folder)
    done = restore.restore(other.settings, made.folder, replace=True)
    assert rows(other.database) == rows(site.database)
    schema = done.aside[0].rpartition(" ")[2]
    with other.database.read() as connection:
        assert connection.exec_driver_sql(f'SELECT count(*) FROM "{schema}".registry_change').scalar_one() == 7
    migrations.upgrade(other.database)
    other.close()
    site.close()


@pytest.mark.postgres
def test_the_password_of_the_database_is_on_no_command_line(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.server().database().replace("riverchief@", f"riverchief:{SECRET}@")
    site = Small(tmp_path / "site", url)
    site.fill()
    programs = tmp_path / "bin"
    programs.mkdir()
    seen = tmp_path / "seen"
    for name in ("pg_dump", "pg_restore"):
        real = pg_dump.program(name)
        script = f'#!/bin/sh\necho "$0 $@" >> {seen}\ncat "$PGPASSFILE" >> {seen}.pass 2>/dev/null\nexec {real} "$@"\n'
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    made = backup.back_up(site.settings, target)
    place = Small(tmp_path / "new", postgres.server().database().replace("riverchief@", f"riverchief:{SECRET}@"))
    restore.restore(place.settings, made.folder)
    assert "pg_dump" in seen.read_text()
    assert "pg_restore" in seen.read_text()
    assert SECRET not in seen.read_text()
    assert (tmp_path / "seen.pass").read_text().count(f":{SECRET}\n") >= 2
    assert SECRET not in (made.folder / MANIFEST).read_text()
    place.close()
    site.close()


@pytest.mark.postgres
def test_a_postgresql_server_that_does_not_answer_is_one_sentence_without_a_password(
    tmp_path: Path, target: Path
) -> None:
    url = f"postgresql://river:{SECRET}@127.0.0.1:{free_port()}/river"
    with pytest.raises(StorageUnavailable) as refused:
        backup.back_up(settings_.load(None, data=tmp_path, database={"url": url}), target)
    assert SECRET not in str(refused.value)
    assert list(target.glob("riverchief-*")) == []


@pytest.mark.postgres
def test_a_backup_of_one_kind_of_database_is_not_restored_to_the_other(
    small: Small, target: Path, tmp_path: Path
) -> None:
    made = backup.back_up(small.settings, target)
    other = Small(tmp_path / "other", postgres.server().database())
    with pytest.raises(ConfigurationError, match=says("backup.other_kind", theirs="sqlite", ours="postgresql")):
        restore.restore(other.settings, made.folder)
    other.close()
