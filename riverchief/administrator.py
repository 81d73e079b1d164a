"""Create the first administrator of a new site."""

from pathlib import Path

import structlog

from governance.organisation.roles import Role
from governance.people import store as people_store
from infra import clock
from infra.database import Database

log = structlog.get_logger(__name__)

FIRST = "系统管理员 administrator"
TOKEN_FILE = "administrator.token"  # noqa: S105 - the name of a file


def first(database: Database, folder: Path, good_ms: int) -> None:
    """Give a site without anybody its first administrator; the token, good for so long, is written to a file for its
    owner alone, whose place the log says."""
    with database.write() as connection:
        if people_store.list_people(connection, removed=True):
            return
        now_ms = clock.now_ms()
        people_store.add(connection, FIRST, Role.ADMINISTRATOR, by="serve", now_ms=now_ms)
        token = people_store.issue_token(connection, FIRST, by="serve", now_ms=now_ms, good_ms=good_ms)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / TOKEN_FILE
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text(token + "\n", encoding="utf-8")
    log.warning("the site has its first administrator; sign in with the token in this file", file=str(path.resolve()))
