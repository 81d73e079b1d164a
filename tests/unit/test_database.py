"""What the tests switch off for themselves is on everywhere else."""

import importlib.util
import subprocess
import sys
from pathlib import Path

from infra import database


def test_a_commit_is_synced_to_disk_wherever_no_test_says_otherwise(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("as_shipped", database.__file__)
    assert spec is not None
    assert spec.loader is not None
    shipped = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(shipped)
    river = shipped.Database(f"sqlite:///{tmp_path / 'river.db'}")
    with river.read() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2, "FULL"
    river.close()


def test_another_process_does_not_remove_the_log_that_this_one_writes(tmp_path: Path) -> None:
    """It does where an extra handle of the file was closed here: that ends the locks SQLite holds on it."""
    file = tmp_path / "d.db"
    mine = database.Database(f"sqlite:///{file}")
    other = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM t').fetchall(); c.close()"
    with mine.write() as connection:
        connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
    with mine.read(), mine.read():  # the pool opens a second connection
        pass
    subprocess.run([sys.executable, "-c", other, str(file)], check=True)
    with mine.write() as connection:
        connection.exec_driver_sql("INSERT INTO t VALUES (1)")
    count = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM t').fetchone()[0])"
    seen = subprocess.run([sys.executable, "-c", count, str(file)], check=True, capture_output=True, text=True)
    assert seen.stdout.strip() == "1"
    mine.close()
