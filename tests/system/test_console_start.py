"""The console starts beside busy threads without looking at their objects."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import gc, sys
from pathlib import Path
from fastapi.testclient import TestClient
import governance.tables
from api.app import create_app
from api.console.mount import mount
from api.context import Context
from infra.database import Database
from ingest.storage.sql import SqlReadings
from sensors.parameters import catalogue
from tests.databases import with_tables

database = with_tables(Database(f"sqlite:///{Path(sys.argv[1]) / 'river.db'}"))
context = Context(
    database=database, store=SqlReadings(database, catalogue()), catalogue=catalogue(), source="/test",
    clock_ms=lambda: 1_790_000_000_000, open=True,
)
app = create_app(context)
mount(app, context)

def looked_at():
    sys.exit("all objects of the process were looked at")

gc.get_objects = looked_at
with TestClient(app) as client:
    assert client.get("/healthz").status_code == 200
    assert client.get("/").status_code == 200
print("started")
"""


def test_the_start_of_the_console_does_not_hold_the_objects_of_other_threads(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("started")
