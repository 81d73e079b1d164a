"""The link for the first administrator of a new site."""

import os
import sys
from pathlib import Path

import structlog

from governance.people import one_time_codes
from governance.people import store as people_store
from governance.people.one_time_codes import Purpose
from infra import clock
from infra.database import Database

log = structlog.get_logger(__name__)

LINK_FILE = "administrator.link"


def first_link(database: Database, folder: Path, address: str) -> None:
    """Make the link with which the first administrator of a site without anybody signs in, once and within a day.

    It is written to a file for its owner alone, whose place the log says, and printed where somebody watches.
    """
    path = folder / LINK_FILE
    with database.write() as connection:
        if people_store.list_people(connection, removed=True):
            path.unlink(missing_ok=True)
            return
        code = one_time_codes.make(
            connection, Purpose.WELCOME, person_id=None, now_ms=clock.now_ms(), good_ms=one_time_codes.LINK_MS
        )
    link = f"{address}/welcome/{code}"
    folder.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(link + "\n")
    log.warning(
        "the site has nobody yet; the link in this file makes its first administrator", file=str(path.resolve())
    )
    if sys.stdout.isatty():  # elsewhere it would stand in a log
        sys.stdout.write(f"→ {link}\n")
