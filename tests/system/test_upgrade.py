"""The next version beside this one, on data that is there: nothing is lost on the way, and this one says why it stops.

No second version is released. The next one is this program with one more step of the schema, which adds a column and a
table, as `test_migrations.py` demands of every step.
"""

import shutil
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from infra.clock import now_ms
from infra.database import Database
from infra.errors import ConfigurationError
from ingest.storage.sql import SqlReadings
from riverchief import migrations
from riverchief import settings as settings_
from riverchief.backup import backup, restore
from sensors.parameters import catalogue
from sensors.stations import Station
from sensors.wire.telemetry import Sample
from simulator.devices.fleet import Connection, Fleet
from tests import preloaded
from tests.rig import Running, eventually
from tests.says import says

STEP = """
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = "0002", "0001", None, None
def upgrade():
    op.add_column("station", sa.Column("colour_of_next_year", sa.String, nullable=True))
    op.create_table("of_next_year", sa.Column("id", sa.Integer, primary_key=True))
"""
NEXT = "from riverchief import migrations as m; from pathlib import Path; m.FOLDER = Path({!r})\n"
MAIN = "from riverchief.cli.app import main; main()"


@pytest.fixture
def next_version(tmp_path: Path) -> Path:
    """The migrations of the next version."""
    folder = tmp_path / "migrations"
    shutil.copytree(Path(migrations.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "0002_adds.py").write_text(STEP)
    return folder


@pytest.mark.broker
@pytest.mark.both_databases
def test_this_version_goes_on_beside_the_next_which_takes_over_and_every_reading_is_stored_once(
    running: Callable[..., Running], next_version: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    site = running("mosquitto", url)
    site.register(*(Station(name, name, name, 113.1, 23.0, interval_s=60) for name in ("s1", "probe")))
    device = Connection(site.broker.host, site.broker.port, site.broker.device.user, site.broker.device.password)
    sent, began_ms = 0, now_ms() - 60_000

    def publish(many: int) -> None:
        nonlocal sent
        for _ in range(many):
            sent += 1
            fleet["s1"].publish([Sample(began_ms + sent, {"ph": 7.1})], began_ms + sent)

    def all_stored() -> bool:
        return SqlReadings(site.database, catalogue()).count().get("s1", 0) == sent

    def subscribed() -> int:
        fleet["probe"].publish([Sample(now_ms(), {"ph": 7.1})], now_ms())
        return site.booked()

    with Fleet(["s1", "probe"], device, boot=1) as fleet:
        site.start()
        eventually("this version stores", subscribed)
        monkeypatch.setattr(migrations, "FOLDER", next_version)
        migrations.upgrade(site.database)
        monkeypatch.undo()
        publish(50)
        eventually("it goes on when the next one has changed the tables", all_stored)
        publish(50)
        assert site.stop() == 0, site.log()
        publish(50)
        refused = preloaded.run(
            [sys.executable, "-m", "riverchief", "ingest", "--settings", str(site.settings)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert refused.returncode != 0
        assert len(refused.stderr.strip().splitlines()) <= 2, "a sentence"
        assert "0002" in refused.stderr
        program = NEXT.format(str(next_version)) + MAIN
        with (site.folder / "riverchief.log").open("ab") as log:
            command = [sys.executable, "-c", program, "ingest", "--settings", str(site.settings)]
            site.process = preloaded.Popen(command, stdout=log, stderr=log)
        assert fleet.flush(60)
        eventually("the next version stores what waited", all_stored)
    assert site.stop() == 0, site.log()


def test_the_next_version_restores_a_backup_of_this_one_and_this_one_none_of_the_next(
    tmp_path: Path, next_version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = settings_.load(None, data=tmp_path / "site")
    site.data.mkdir()
    with closing(Database(site.database_url)) as database:
        migrations.upgrade(database)
        with database.write() as connection:
            connection.exec_driver_sql("INSERT INTO registry_change (what, key, body) VALUES ('station', 's', '{}')")
    old = backup.back_up(site, tmp_path / "backups")
    monkeypatch.setattr(migrations, "FOLDER", next_version)
    elsewhere = site.model_copy(update={"data": tmp_path / "elsewhere"})
    restore.restore(elsewhere, old.folder)
    with closing(Database(elsewhere.database_url)) as database, database.read() as connection:
        assert connection.execute(sa.select(migrations.VERSION.c.version_num)).scalar() == "0002"
        assert connection.exec_driver_sql("SELECT key FROM registry_change").scalars().all() == ["s"]
        assert connection.exec_driver_sql("SELECT count(colour_of_next_year) FROM station").scalar() == 0
    new = backup.back_up(elsewhere, tmp_path / "backups")
    monkeypatch.undo()
    with pytest.raises(ConfigurationError, match=says("backup.newer", schema="0002")):
        restore.restore(site.model_copy(update={"data": tmp_path / "third"}), new.folder)
