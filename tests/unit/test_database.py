"""What the tests switch off for themselves is on everywhere else."""

import importlib.util
from pathlib import Path

from governance import database


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
