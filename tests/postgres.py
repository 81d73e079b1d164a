"""A real PostgreSQL for the tests: one server for the whole run, in a folder of its own, and for each test a database.

The server does not sync, since it is thrown away afterwards; the fault suite has one that does. It
sorts text by language and not by bytes, as most installations do, so that an order we took for granted shows.
"""

import atexit
import functools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from infra.database import Database
from riverchief import migrations
from riverchief.brokers.local import free_port

PATIENCE_S = 60
NEVER_SYNCED = {"fsync": "off", "full_page_writes": "off"}
SMALL_LOG = {"max_wal_size": "64MB", "min_wal_size": "32MB"}
"""The write-ahead log on a disk of the fault suite."""
DIALECTS = ("sqlite", pytest.param("postgresql", marks=pytest.mark.postgres))
"""For tests that must hold on both databases; a whole module says so with the marker ``both_databases``."""


def programs() -> Path | None:
    """The folder of the newest server's programs; None when none is installed."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    folders = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
    return max(folders, key=lambda path: float(path.parent.name), default=None)


class Postgres:
    """One server on a loopback port. It refuses to run as root, so that root runs it as the user ``postgres``."""

    def __init__(self, *more: str, folder: Path | None = None) -> None:
        """``more`` are arguments of initdb. In a given ``folder`` the server syncs, as one outside of tests does."""
        found = programs()
        assert found is not None, "no PostgreSQL here (tests/servers.sh installs it)"
        self._programs = found
        self._as = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        self._synced = folder is not None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="riverchief-postgres-"))
        if self._as:
            shutil.chown(self.folder, "postgres", "postgres")
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        self._template = ""
        self._schema: list[tuple[object, ...]] = []
        options = ["--auth=trust", "--username=riverchief", "--encoding=UTF8"]
        options += [] if self._synced else ["--no-sync"]
        options += ["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=und", *more]
        self._run("initdb", "-D", str(self.folder / "data"), *options)

    def start(self, *more: str) -> None:
        """Start the server and wait until it answers; ``more`` are arguments of the server."""
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            "max_connections": "200",
            "log_min_messages": "fatal",
            **(SMALL_LOG if self._synced else NEVER_SYNCED),
        }
        options = [*more, *(part for name, value in settings.items() for part in ("-c", f"{name}={value}"))]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self.folder / "data", *options],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **self._as,  # type: ignore[call-overload]
            )
        ready = ["pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-t", "1"]
        for _ in range(PATIENCE_S * 20):
            if self._process.poll() is not None:
                break
            if subprocess.run([self._programs / ready[0], *ready[1:]], check=False).returncode == 0:
                return
            time.sleep(0.05)
        raise AssertionError(f"PostgreSQL does not come up: {(self.folder / 'server.log').read_text()[-2000:]}")

    @property
    def pids(self) -> list[int]:
        """The server's process, and those it started for its clients and itself."""
        assert self._process is not None
        first = self._process.pid
        children = Path(f"/proc/{first}/task/{first}/children").read_text(encoding="ascii")
        return [first, *map(int, children.split())]

    @property
    def runs(self) -> bool:
        """False where it ended by itself or was ended."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL to all of its processes."""
        if not self.runs:
            return
        pids = self.pids
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert self._process is not None
        self._process.wait()
        self._process = None
        while any(map(_alive, pids)):  # a server does not start over processes of the one before
            time.sleep(0.01)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT cuts every connection and shuts down in order, SIGQUIT like a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(PATIENCE_S)
            self._process = None

    def close(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def database(self, template: str = "template1") -> str:
        """The URL of a new database: an empty one, or a copy of another that nobody is connected to."""
        name = f"river_{next(self._numbers)}"
        self.ask(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def with_tables(self) -> str:
        """The URL of a new database with all tables and no rows: a copy of one that was migrated once."""
        if not self._template:
            database = Database(self.database())
            migrations.upgrade(database)
            database.close()
            self._template = str(database.url.database)
        return self.database(self._template)

    def emptied(self, url: str) -> bool:
        """Take every row out of a database of `with_tables`; False where a test left other tables than it was given.

        Costs a sixth of copying the template again.
        """
        name = str(sa.make_url(url).database)
        self.cut(f"datname = '{name}'", patience_ms=2000)
        self.ask(EMPTY, name=name)
        return self.ask(SCHEMA, name=name) == self._template_schema()

    def _template_schema(self) -> list[tuple[object, ...]]:
        if not self._schema:
            self._schema = self.ask(SCHEMA, name=self._template)
        return self._schema

    def drop(self, url: str) -> None:
        """Remove a database, whoever is still connected to it."""
        self.ask(f"DROP DATABASE IF EXISTS {sa.make_url(url).database} WITH (FORCE)")

    def url(self, name: str, user: str = "riverchief") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{name}"

    def ask(
        self,
        sql: str,
        parameters: Mapping[str, object] | None = None,
        name: str = "postgres",
        user: str = "riverchief",
    ) -> list[tuple[object, ...]]:
        """What the server answers to a statement of the administrator."""
        with psycopg.connect(self.url(name, user), autocommit=True) as connection:
            cursor = connection.execute(sql.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def cut(self, where: str = "true", patience_ms: int = 0) -> int:
        """Terminate the sessions of other clients; ``where`` chooses among the rows of ``pg_stat_activity``.

        With patience each is gone with its locks afterwards, without some may still be about to go.
        """
        chosen = f"backend_type = 'client backend' AND pid <> pg_backend_pid() AND ({where})"
        ending = f"SELECT pg_terminate_backend(pid, {patience_ms}) FROM pg_stat_activity WHERE {chosen}"
        return sum(bool(ended) for (ended,) in self.ask(ending))

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            **self._as,  # type: ignore[call-overload]
        )
        assert done.returncode == 0, f"{program}: {done.stderr or done.stdout}"


def _alive(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody has collected yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@functools.cache
def server() -> Postgres:
    """The server of this test run, started when first asked for."""
    made = Postgres()
    atexit.register(made.close)
    made.start()
    return made


EMPTY = """
DO $$ DECLARE one record; BEGIN
    SET LOCAL session_replication_role = replica;
    DROP TABLE IF EXISTS reading, reading_series;
    FOR one IN SELECT oid::regclass AS name FROM pg_class
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'
        AND pg_relation_size(oid) > 0
    LOOP EXECUTE format('DELETE FROM %s', one.name); END LOOP;
    FOR one IN SELECT sequencename AS name FROM pg_sequences WHERE last_value IS NOT NULL
    LOOP EXECUTE format('ALTER SEQUENCE %I RESTART', one.name); END LOOP;
END $$"""
"""Past the triggers that guard the audit trail. The store of readings makes its two tables itself."""
SCHEMA = """
SELECT relname::text, relkind::text, attname::text, atttypid::int, attnotnull FROM pg_class
    LEFT JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0
    WHERE relnamespace = 'public'::regnamespace
UNION ALL SELECT tgname::text, tgenabled::text, '', 0, true FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT conname::text, contype::text, '', 0, true FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT version_num::text, '', '', 0, true FROM alembic_version
ORDER BY 1, 2, 3"""

_recent: deque[str] = deque()
_free: list[str] = []
RECENT = 12
"""Databases of `fresh` that stay as a test left them: more than one test ever opens. Older ones are emptied and given
out again."""


def fresh(dialect: str, folder: Path) -> str:
    """The URL of a database for one test: a file to be made in the folder, or a new one with all tables and no rows."""
    if dialect == "sqlite":
        return f"sqlite:///{folder / 'river.db'}"
    _recent.append(_free.pop() if _free else server().with_tables())
    if len(_recent) > RECENT:
        oldest = _recent.popleft()
        if server().emptied(oldest):
            _free.append(oldest)
        else:
            server().drop(oldest)
    return _recent[-1]


def lasting(dialect: str, folder: Path) -> str:
    """As `fresh`, for the tests of a whole module."""
    return fresh(dialect, folder) if dialect == "sqlite" else server().with_tables()
