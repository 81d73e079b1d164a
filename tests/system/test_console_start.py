"""The server starts beside busy threads without looking at their objects, and without what few requests need."""

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
from riverchief import http_server, serve
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
print("of these", *{"fontTools", "polars", "pyarrow", "reportlab", "xlsxwriter"} & set(sys.modules))
print("started")
"""


def test_the_start_holds_no_objects_of_other_threads_and_loads_no_library_of_tables_or_pages(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["of these", "started"]
